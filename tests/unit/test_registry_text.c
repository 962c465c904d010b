// SPDX-License-Identifier: Apache-2.0
/* What registries and their settings say: references, challenges, ranges, hosts.toml, docker's
 * credentials. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/limits.h"
#include "image/answer.h"
#include "image/creds.h"
#include "image/hosts.h"
#include "image/hosts_toml.h"
#include "image/ref.h"
#include "image/token.h"

static struct arena arena;
static char dir[64];

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_references(void **state)
{
	static const struct {
		const char *text, *is;
	} cases[] = {
		{"ubuntu", "docker.io/library/ubuntu:latest"},
		{"ubuntu:22.04", "docker.io/library/ubuntu:22.04"},
		{"a/b", "docker.io/a/b:latest"},
		{"docker.io/ubuntu", "docker.io/library/ubuntu:latest"},
		{"index.docker.io/a/b:t", "docker.io/a/b:t"},
		{"localhost/x", "localhost/x:latest"},
		{"localhost:5000/x:t", "localhost:5000/x:t"},
		{"localhost:5000", "docker.io/library/localhost:5000"},
		{"ghcr.io/o/r:t@sha256:" HEX64, "ghcr.io/o/r:t@sha256:" HEX64},
		{"h:5000/a/b@sha256:" HEX64, "h:5000/a/b:@sha256:" HEX64},
		{"[::1]:5000/x", "[::1]:5000/x:latest"},
		{"Foo/bar", "Foo/bar:latest"},
		{"a.b/c__d/e-_f", NULL},
		{"a.b/c__d/e---f.g", "a.b/c__d/e---f.g:latest"},
		{"foo/Bar", NULL},
		{"", NULL},
		{"/a", NULL},
		{"a/", NULL},
		{"a//b", NULL},
		{"a:", NULL},
		{"a:.t", NULL},
		{"a b", NULL},
		{"a@sha256:12", NULL},
		{"a@sha256:" HEX64 "0", NULL},
		{"https://a/b", NULL},
		{"-a.b/c", NULL},
		{"a.b:0/c", NULL},
		{"a.b:99999/c", NULL},
		{"x.y/../z", NULL},
		{HEX64, NULL},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct err err = ERR_INIT;
		struct ref r;
		char is[256];
		int e = ref_parse(str_of(cases[i].text), &arena, &r, &err);

		if (!cases[i].is) {
			if (e != -EINVAL)
				fail_msg("taken: %s", cases[i].text);
			continue;
		}
		if (e < 0)
			fail_msg("%s", err.text);
		snprintf(is, sizeof(is), "%s/%s:%s%s%s", r.host, r.repository, r.tag.p,
			 r.digest.len ? "@" : "", r.digest.p);
		assert_string_equal(is, cases[i].is);
	}
}

/* "library/" counts for the length of the path. */
static void test_long_references(void **state)
{
	char text[REF_PATH_MAX + 2];
	struct ref r;

	(void)state;
	memset(text, 'a', sizeof(text));
	text[REF_PATH_MAX - 8] = 0;
	assert_int_equal(ref_parse(str_of(text), &arena, &r, NULL), 0);
	assert_int_equal(strlen(r.repository), REF_PATH_MAX);
	text[REF_PATH_MAX - 8] = 'a';
	text[REF_PATH_MAX - 7] = 0;
	assert_int_equal(ref_parse(str_of(text), &arena, &r, NULL), -EINVAL);
}

static const char *challenges(const char *text)
{
	static const char *const names[] = {"other", "basic", "bearer"};
	static char out[512];
	struct challenge c[4];
	size_t n = challenges_parse(str_of(text), &arena, c, array_size(c)), at = 0;

	out[0] = 0;
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(out + at, sizeof(out) - at, "%s|%s|%s|%s;",
				       names[c[i].scheme], c[i].realm.p ? c[i].realm.p : "-",
				       c[i].service.p ? c[i].service.p : "-",
				       c[i].scope.p ? c[i].scope.p : "-");
	return out;
}

static void test_challenges(void **state)
{
	(void)state;
	assert_string_equal(challenges("Bearer realm=\"https://a/token\",service=\"s\","
				       "scope=\"repository:library/x:pull,push\""),
			    "bearer|https://a/token|s|repository:library/x:pull,push;");
	assert_string_equal(challenges("BASIC Realm=x"), "basic|x|-|-;");
	assert_string_equal(challenges("Basic realm=\"a\\\"b\", Bearer  realm = c , service=\"\""),
			    "basic|a\"b|-|-;bearer|c||-;");
	assert_string_equal(challenges("Negotiate, Negotiate YWI==, Basic"),
			    "other|-|-|-;other|-|-|-;basic|-|-|-;");
	assert_string_equal(challenges("Bearer realm=\"no end"), "bearer|-|-|-;");
	assert_string_equal(challenges("Bearer realm=a, realm=b"), "bearer|b|-|-;");
	assert_string_equal(challenges(""), "");
	assert_string_equal(challenges("=x"), "");
	assert_string_equal(challenges("a=b"), "");
}

static void test_ranges(void **state)
{
	static const struct {
		const char *text;
		struct content_range is;
	} good[] = {
		{"bytes 0-0/1", {false, 0, 0, 1}},
		{"Bytes 5-9/*", {false, 5, 9, 0}},
		{"bytes */100", {true, 0, 0, 100}},
		{"bytes  10-19/20", {false, 10, 19, 20}},
	};
	static const char *const bad[] = {"",
					  "bytes",
					  "bytes 0-0",
					  "bytes 1-0/5",
					  "bytes 0-5/5",
					  "bytes a-b/5",
					  "bytes -5/10",
					  "octets 0-1/2",
					  "bytes 0-1/x",
					  "bytes=0-1/2",
					  "bytes 0-18446744073709551615/*"};
	struct content_range c;

	(void)state;
	for (size_t i = 0; i < array_size(good); i++) {
		assert_int_equal(content_range_parse(str_of(good[i].text), &c), 0);
		assert_int_equal(c.unsatisfied, good[i].is.unsatisfied);
		assert_int_equal(c.first, good[i].is.first);
		assert_int_equal(c.last, good[i].is.last);
		assert_int_equal(c.total, good[i].is.total);
	}
	for (size_t i = 0; i < array_size(bad); i++) {
		if (content_range_parse(str_of(bad[i]), &c) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
	}
}

static void test_retry_after(void **state)
{
	(void)state;
	assert_int_equal(retry_after_ms(STR("2"), 0), 2000);
	assert_int_equal(retry_after_ms(STR("999999999999"), 0), REGISTRY_RETRY_AFTER_MAX_MS);
	assert_int_equal(retry_after_ms(STR("soon"), 0), 0);
	assert_int_equal(retry_after_ms(STR("Sun, 06 Nov 1994 08:49:37 GMT"), 784111770), 7000);
	assert_int_equal(retry_after_ms(STR("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777), 0);
}

static void test_messages(void **state)
{
	(void)state;
	assert_string_equal(error_message(STR("{\"errors\":[{\"code\":\"DENIED\",\"message\":"
					      "\"no\\nway\",\"detail\":[1]}]}"),
					  &arena),
			    "DENIED: no way");
	assert_string_equal(error_message(STR(" limit reached\nmore"), &arena), "limit reached");
	assert_string_equal(error_message(STR("<html>"), &arena), "");
	assert_string_equal(error_message(STR("{\"errors\":null}"), &arena), "{\"errors\":null}");
}

static void test_base64(void **state)
{
	static const struct {
		const char *plain, *text;
	} cases[] = {
		{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct buf b = BUF_INIT, c = BUF_INIT;

		assert_int_equal(base64_encode(str_of(cases[i].plain), &b), 0);
		assert_true(str_eq((struct str){(char *)b.data, b.len}, str_of(cases[i].text)));
		assert_int_equal(base64_decode(str_of(cases[i].text), &c), 0);
		assert_true(str_eq((struct str){(char *)c.data, c.len}, str_of(cases[i].plain)));
		assert_int_equal(base64_decode(STR("a"), &c), -EINVAL);
		assert_int_equal(base64_decode(STR("ab*="), &c), -EINVAL);
		buf_fini(&b);
		buf_fini(&c);
	}
}

/* --- hosts.toml ------------------------------------------------------------------------------ */

static void show(const struct hosts *hs, char *out, size_t size)
{
	size_t at = 0;

	out[0] = 0;
	for (size_t i = 0; i < hs->n; i++) {
		const struct host *h = &hs->list[i];

		at += (size_t)snprintf(out + at, size - at, "%s%s://%s%s%s%s/%u/%u;",
				       h->https ? "https" : "http", h->fallback ? "?" : "",
				       h->authority, h->path, h->ns ? "+ns" : "",
				       h->tls.skip_verify ? "!" : "", h->can, h->dial_timeout_ms);
		for (size_t k = 0; k < h->headers_n; k++)
			at += (size_t)snprintf(out + at, size - at, "%s;", h->headers[k]);
	}
}

static void parsed(const char *ns, const char *text, const char *is)
{
	struct err err = ERR_INIT;
	struct hosts *hs;
	char out[1024];

	if (hosts_parse(str_of(text), ns, &hs, &err) < 0)
		fail_msg("%s", err.text);
	show(hs, out, sizeof(out));
	assert_string_equal(out, is);
	hosts_free(hs);
}

static void refused(const char *text)
{
	struct err err = ERR_INIT;
	struct hosts *hs;

	if (hosts_parse(str_of(text), "h", &hs, &err) != -EINVAL)
		fail_msg("taken: %s", text);
	assert_true(err.text[0]);
}

static void test_hosts_toml(void **state)
{
	(void)state;
	parsed("docker.io", "", "https://registry-1.docker.io/v2/15/0;");
	parsed("docker.io",
	       "server = \"https://registry-1.docker.io\"\n"
	       "[host.\"https://mirror.example\"]\n  capabilities = [\"pull\", \"Resolve\"]\n"
	       "  dial_timeout = \"1m1.5s\"\n"
	       "  [host.\"https://mirror.example\".header]\n    x-token = [\"abc\", \"d\"]\n"
	       "[host.\"http://b:5000/\"]\n",
	       "https://mirror.example/v2+ns/3/61500;x-token: abc;x-token: d;"
	       "http://b:5000/v2+ns/15/0;https://registry-1.docker.io/v2/15/0;");
	parsed("h:5000", "[host.\"m/us\"]\n[host.\"https://x/v2/ns\"]\noverride_path = true\n",
	       "https://m/us/v2+ns/15/0;https://x/v2/ns+ns/15/0;https://h:5000/v2/15/0;");
	parsed("h", "server = \"http://h:81\"\nskip_verify = false\n", "https?://h:81/v2+ns/15/0;");
	parsed("h", "server = \"http://h\"\nskip_verify = true\n", "http://h/v2!/15/0;");
	parsed("h", "capabilities = [\"push\"]\n[host]\nx = { skip_verify = true }\n",
	       "https://x/v2+ns!/15/0;https://h/v2/15/0;");
	parsed("h", "[host.\"https://m\".header]\na=\"b\"\n[header]\nc=\"d\"\n",
	       "https://m/v2+ns/15/0;a: b;https://h/v2/15/0;c: d;");
	parsed("localhost:5000", "", "https?://localhost:5000/v2!/15/0;");
	parsed("localhost", "", "https://localhost/v2!/15/0;");
	parsed("127.0.0.1:80", "", "http://127.0.0.1:80/v2/15/0;");
	refused("capabilities = [\"fly\"]");
	refused("capabilities = \"pull\"");
	refused("dial_timeout = \"soon\"");
	refused("ca = 1");
	refused("client = [[\"a\", \"b\", \"c\"]]");
	refused("[host.\"https://a b\"]");
	refused("[host.\"\"]");
	refused("[header]\n\"x y\" = \"a\"");
	refused("[header]\nx = \"a\\r\\nb: c\"");
	refused("server = 5");
	refused("server = ");
}

static void put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void make(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

static void loaded(const char *ns, const char *roots, const char *is)
{
	struct err err = ERR_INIT;
	struct hosts *hs;
	char out[1024], list[256];

	snprintf(list, sizeof(list), "%s/none:%s/%s:%s/two", dir, dir, roots, dir);
	if (hosts_load(list, ns, &hs, &err) < 0)
		fail_msg("%s", err.text);
	show(hs, out, sizeof(out));
	assert_string_equal(out, is);
	hosts_free(hs);
}

static void test_hosts_dirs(void **state)
{
	struct hosts *hs;
	struct err err = ERR_INIT;
	char root[128];

	(void)state;
	make("one");
	make("two");
	make("one/a_5000_");
	put("one/a_5000_/hosts.toml", "server = \"http://under\"");
	make("one/a:5000");
	put("one/a:5000/hosts.toml", "server = \"http://colon\"");
	make("one/c");
	put("one/c/hosts.toml", "not toml");
	put("one/c/my.crt", "CA");
	put("one/c/z.cert", "Z");
	put("one/c/b.cert", "CERT");
	put("one/c/b.key", "KEY");
	make("two/b");
	put("two/b/hosts.toml", "server = \"http://b2\"");
	loaded("a:5000", "one", "http://under/v2+ns/15/0;");
	loaded("b", "one", "http://b2/v2+ns/15/0;");
	loaded("d", "one", "https://d/v2/15/0;");
	make("one/_default");
	loaded("b", "one", "https://b/v2/15/0;"); /* its directory is empty, and comes first */
	put("one/_default/hosts.toml", "[host.\"https://proxy\"]\nca = \"no.pem\"");
	snprintf(root, sizeof(root), "%s/one", dir);
	assert_int_equal(hosts_load(root, "x", &hs, &err), -ENOENT);
	assert_non_null(strstr(err.text, "no.pem"));
	put("one/_default/no.pem", "PEM");
	assert_int_equal(hosts_load(root, "x", &hs, &err), 0);
	assert_true(hs->n == 2 && str_eq(hs->list[0].tls.ca, STR("PEM\n")) && hs->list[0].ns);
	hosts_free(hs);
	assert_int_equal(hosts_load(root, "c", &hs, &err), 0);
	assert_true(hs->n == 1 && str_eq(hs->list[0].tls.ca, STR("CA\n")));
	assert_true(str_eq(hs->list[0].tls.cert, STR("CERT\n")));
	assert_true(str_eq(hs->list[0].tls.key, STR("KEY\n")));
	hosts_free(hs);
}

static void test_durations(void **state)
{
	unsigned ms;

	(void)state;
	assert_true(duration_parse(STR("30s"), &ms) == 0 && ms == 30000);
	assert_true(duration_parse(STR("1m30s"), &ms) == 0 && ms == 90000);
	assert_true(duration_parse(STR("1.5s"), &ms) == 0 && ms == 1500);
	assert_true(duration_parse(STR("500ms"), &ms) == 0 && ms == 500);
	assert_true(duration_parse(STR("0"), &ms) == 0 && ms == 0);
	assert_int_equal(duration_parse(STR(""), &ms), -EINVAL);
	assert_int_equal(duration_parse(STR("5"), &ms), -EINVAL);
	assert_int_equal(duration_parse(STR("-5s"), &ms), -EINVAL);
	assert_int_equal(duration_parse(STR("5x"), &ms), -EINVAL);
	assert_int_equal(duration_parse(STR("99999h"), &ms), -EINVAL);
}

/* --- credentials ----------------------------------------------------------------------------- */

static void creds_are(const char *json, const char *host, const char *is)
{
	struct creds c;
	struct str helper;
	struct err err = ERR_INIT;
	char out[256];

	if (creds_parse(str_of(json), host, &arena, &c, &helper, &err) < 0)
		fail_msg("%s", err.text);
	snprintf(out, sizeof(out), STR_FMT "|" STR_FMT "|" STR_FMT "|" STR_FMT "|" STR_FMT,
		 STR_ARG(c.user), STR_ARG(c.secret), STR_ARG(c.identity), STR_ARG(c.token),
		 STR_ARG(helper));
	assert_string_equal(out, is);
}

static void test_docker_config(void **state)
{
	static const char auths[] =
		"{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpwOnc=\"},"
		"\"h:5000\":{\"username\":\"a\",\"password\":\"b\",\"email\":null},"
		"\"https://k/v1/\":{\"identitytoken\":\"id\"},"
		"\"t\":{\"registrytoken\":\"tok\",\"auth\":\"\"},\"bad\":{\"auth\":\"eA==\"}},"
		"\"HttpHeaders\":{}}";
	struct creds c;
	struct str helper;

	(void)state;
	creds_are("", "h", "||||");
	creds_are(" \n", "h", "||||");
	creds_are("{}", "h", "||||");
	creds_are(auths, "docker.io", "u|p:w|||");
	creds_are(auths, "registry-1.docker.io", "u|p:w|||");
	creds_are(auths, "h:5000", "a|b|||");
	creds_are(auths, "h", "||||");
	creds_are(auths, "k", "||id||");
	creds_are(auths, "t", "|||tok|");
	assert_int_equal(creds_parse(str_of(auths), "bad", &arena, &c, &helper, NULL), -EINVAL);
	assert_int_equal(creds_parse(STR("{"), "bad", &arena, &c, &helper, NULL), -EINVAL);
	creds_are("{\"credsStore\":\"all\",\"credHelpers\":{\"x\":\"one\",\"y\":\"\"}}", "x",
		  "||||one");
	creds_are("{\"credsStore\":\"all\",\"credHelpers\":{\"x\":\"one\",\"y\":\"\"}}", "y",
		  "||||");
	creds_are("{\"credsStore\":\"all\",\"credHelpers\":{\"x\":\"one\",\"y\":\"\"}}", "z",
		  "||||all");
}

static void helper(const char *name, const char *script)
{
	char file[64], path[128];

	snprintf(file, sizeof(file), "docker-credential-%s", name);
	put(file, script);
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	assert_int_equal(chmod(path, 0755), 0);
}

static int ask(const char *name, struct creds *c, struct err *err)
{
	return creds_run_helper(str_of(name), "host:1", 700, &arena, c, err);
}

static void test_helpers(void **state)
{
	struct err err = ERR_INIT;
	char path[4096], config[128];
	struct creds c;

	(void)state;
	snprintf(path, sizeof(path), "%s:%s", dir, getenv("PATH"));
	setenv("PATH", path, 1);
	helper("good", "#!/bin/sh\nread h\n[ \"$1\" = get ] || exit 2\n"
		       "echo \"{\\\"Username\\\":\\\"u\\\",\\\"Secret\\\":\\\"$h\\\"}\"\n");
	assert_int_equal(ask("good", &c, &err), 0);
	assert_true(str_eq(c.user, STR("u")) && str_eq(c.secret, STR("host:1")));
	helper("token", "#!/bin/sh\necho '{\"Username\":\"<token>\",\"Secret\":\"s\"}'\n");
	assert_int_equal(ask("token", &c, &err), 0);
	assert_true(str_eq(c.identity, STR("s")) && c.user.len == 0 && c.secret.len == 0);
	helper("none", "#!/bin/sh\necho credentials not found in native keychain\nexit 1\n");
	assert_int_equal(ask("none", &c, &err), 0);
	assert_true(c.user.len == 0 && c.secret.len == 0);
	helper("bad", "#!/bin/sh\necho no way\nexit 1\n");
	assert_int_equal(ask("bad", &c, &err), -EIO);
	assert_non_null(strstr(err.text, "no way"));
	helper("hangs", "#!/bin/sh\nsleep 60 &\nsleep 60\n");
	assert_int_equal(ask("hangs", &c, &err), -ETIMEDOUT);
	helper("closes", "#!/bin/sh\nexec >&-\nexec sleep 60\n");
	assert_int_equal(ask("closes", &c, &err), -ETIMEDOUT);
	helper("floods", "#!/bin/sh\nexec cat /dev/zero\n");
	assert_int_equal(ask("floods", &c, &err), -EIO);
	assert_int_equal(ask("missing", &c, &err), -EIO);
	assert_int_equal(ask("../good", &c, &err), -EINVAL);
	put("config.json", "{\"credsStore\":\"good\"}");
	snprintf(config, sizeof(config), "%s/config.json", dir);
	assert_int_equal(creds_find(config, "docker.io", &arena, &c, &err), 0);
	assert_true(str_eq(c.secret, STR("https://index.docker.io/v1/")));
	assert_int_equal(creds_find("/nonexistent/x", "h", &arena, &c, &err), 0);
	assert_int_equal(c.user.len, 0);
}

static void test_token_answers(void **state)
{
	struct token_answer t;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(token_parse(STR("{\"token\":\"a\",\"expires_in\":5}"), &arena, &t, &err),
			 0);
	assert_true(str_eq(t.value, STR("a")) && t.expires_s == 55);
	assert_int_equal(
		token_parse(STR("{\"token\":\"a\",\"access_token\":\"b\",\"expires_in\":300}"),
			    &arena, &t, &err),
		0);
	assert_true(str_eq(t.value, STR("b")) && t.expires_s == 295);
	assert_int_equal(token_parse(STR("{\"token\":\"a\\r\\nX: y\"}"), &arena, &t, &err),
			 -EBADMSG);
	assert_int_equal(token_parse(STR("{}"), &arena, &t, &err), -EBADMSG);
	assert_int_equal(token_parse(STR("<html>"), &arena, &t, &err), -EBADMSG);
}

static int set_up(void **state)
{
	(void)state;
	arena_init(&arena, MiB(64));
	snprintf(dir, sizeof(dir), "/tmp/test_registry.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	arena_fini(&arena);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_references),    cmocka_unit_test(test_long_references),
		cmocka_unit_test(test_challenges),    cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_retry_after),   cmocka_unit_test(test_messages),
		cmocka_unit_test(test_base64),        cmocka_unit_test(test_hosts_toml),
		cmocka_unit_test(test_hosts_dirs),    cmocka_unit_test(test_durations),
		cmocka_unit_test(test_docker_config), cmocka_unit_test(test_helpers),
		cmocka_unit_test(test_token_answers),
	};

	return cmocka_run_group_tests_name("registry_text", tests, set_up, tear_down);
}
