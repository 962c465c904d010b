// SPDX-License-Identifier: Apache-2.0
/* What containerd's settings have to say, by version; what its file and its imports say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <time.h>

#include "fs/tree.h"

// NOLINTBEGIN: the tools are no library
#include "../../tools/firstlight/config_edit.c"
#include "../../tools/firstlight/config_spans.c"
#include "../../tools/firstlight/containerd_imports.c"
#include "../../tools/firstlight/containerd_settings.c"
#include "../../tools/firstlight/try.c"
// NOLINTEND

static char dir[] = "/tmp/firstlight-settings.XXXXXX";

static struct containerd_settings s;

static void make(unsigned major, unsigned minor, bool cri, const char *text)
{
	struct err err = ERR_INIT;

	s = (struct containerd_settings){.version = {major, minor},
					 .cri = cri,
					 .address = "/run/f.sock",
					 .root = "/var/lib/f"};
	if (text)
		assert_int_equal(containerd_settings_for(&s, str_of(text), &err), 0);
	assert_int_equal(containerd_settings_make(&s), 0);
}

/* Its value, if table ends so; NULL. */
static const char *value(const char *table, const char *key)
{
	for (size_t i = 0; i < s.n; i++) {
		if (strstr(s.want[i].table, table) && strcmp(s.want[i].key, key) == 0)
			return s.want[i].value;
	}
	return NULL;
}

static void test_versions(void **state)
{
	static const char *const bad[] = {"", "x", "2.y", "1", "0.9", "v", "100.1", "1.-"};
	struct containerd_version v;

	(void)state;
	assert_int_equal(containerd_version_parse("v2.1.4", &v), 0);
	assert_true(v.major == 2 && v.minor == 1);
	assert_int_equal(containerd_version_parse("1.6.20~ds1", &v), 0);
	assert_true(v.major == 1 && v.minor == 6);
	assert_int_equal(containerd_version_parse("2.x", &v), 0);
	assert_true(containerd_at_least(&v, 2, 1) && !containerd_at_least(&v, 2, 2));
	for (size_t i = 0; i < array_size(bad); i++)
		assert_int_equal(containerd_version_parse(bad[i], &v), -EINVAL);
}

static void test_settings(void **state)
{
	(void)state;
	make(1, 6, false, NULL);
	assert_int_equal(s.format, 2);
	assert_int_equal(s.unpack_n, 0);
	assert_string_equal(value("proxy_plugins.firstlight", "address"), "\"/run/f.sock\"");
	assert_string_equal(value("firstlight.exports", "root"), "\"/var/lib/f\"");
	assert_null(value("exports", "enable_remote_snapshot_annotations"));
	assert_null(value("cri", "snapshotter"));
	make(1, 7, true, NULL);
	assert_non_null(value("grpc.v1.cri", "snapshotter"));
	assert_string_equal(value("grpc.v1.cri", "disable_snapshot_annotations"), "false");
	make(2, 0, true, NULL);
	assert_int_equal(s.format, 3);
	assert_string_equal(value("cri.v1.images", "disable_snapshot_annotations"), "false");
	assert_null(value("grpc.v1.cri", "snapshotter"));
	make(2, 1, true, NULL);
	assert_string_equal(value("exports", "enable_remote_snapshot_annotations"), "\"true\"");
	assert_null(value("cri.v1.images", "disable_snapshot_annotations"));
	assert_int_equal(s.unpack_n, 3);
}

static void test_files(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	make(2, 1, true,
	     "version = 3\n[plugins.'io.containerd.cri.v1.images']\nuse_local_image_pull = "
	     "true\n");
	assert_string_equal(value("cri.v1.images", "disable_snapshot_annotations"), "false");
	make(2, 1, true, "version = 2\n");
	assert_non_null(value("cri.v1.images", "snapshotter"));
	assert_null(value("grpc.v1.cri", "snapshotter"));
	make(2, 1, true,
	     "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n");
	assert_non_null(value("cri.v1.images", "snapshotter"));
	assert_non_null(value("grpc.v1.cri", "snapshotter"));
	make(2, 1, true, "root = '/x'\n");
	assert_int_equal(s.format, 3);
	make(1, 6, false, "root = '/x'\n");
	s.cri = true;
	assert_int_equal(containerd_settings_for(&s, STR("root = '/x'\n"), &err), -ENOTSUP);
	assert_int_equal(containerd_settings_for(&s, STR("version = 3\n"), &err), -ENOTSUP);
	assert_int_equal(containerd_settings_for(&s, STR("version = 9\n"), &err), -ENOTSUP);
	assert_int_equal(containerd_settings_for(&s, STR("version = \n"), &err), -EINVAL);
}

static void test_words(void **state)
{
	static const char *const bad[] = {"/a\"", "/a\\", "/a\n", "/\x7f", "/\xff"};

	(void)state;
	for (size_t i = 0; i < array_size(bad); i++) {
		s = (struct containerd_settings){
			.version = {1, 6}, .address = bad[i], .root = "/r"};
		assert_int_equal(containerd_settings_make(&s), -EINVAL);
	}
}

/* --- imports ---------------------------------------------------------------------------------- */

static void put(const char *name, const char *text)
{
	char path[128];
	auto_close int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* What a main file of this text is told; all settings there: 1. */
static int look(const char *text, struct err *err)
{
	struct containerd_found found;
	char path[128];
	int r;

	*err = ERR_INIT;
	make(1, 6, false, NULL);
	snprintf(path, sizeof(path), "%s/main.toml", dir);
	r = containerd_settings_look(&s, path, str_of(text), &found, err);
	for (size_t i = 0; i < s.n && r == 0; i++) {
		if (found.states[i] != SETTING_THERE)
			return 0;
	}
	return r < 0 ? r : 1;
}

static void told(const char *text, int code, const char *words)
{
	struct err err;

	assert_int_equal(look(text, &err), code);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" is told \"%s\", not \"%s\"", text, err.text, words);
}

#define PLUGIN_TEXT                                                                                \
	"[proxy_plugins.firstlight]\ntype = 'snapshot'\naddress = '/run/f.sock'\n"                 \
	"[proxy_plugins.firstlight.exports]\nroot = '/var/lib/f'\n"

static void test_imports(void **state)
{
	struct err err;

	(void)state;
	put("good.toml", PLUGIN_TEXT);
	put("other.toml", "\n[proxy_plugins.firstlight]\naddress = '/other'\n");
	put("bad.toml", "x = [\n");
	put("chain.toml", "imports = ['good.toml']\n");
	put("loop.toml", "imports = ['loop.toml']\n");
	assert_int_equal(look(PLUGIN_TEXT, &err), 1);
	assert_int_equal(look("version = 2\n", &err), 0);
	assert_int_equal(look("imports = []\n", &err), 0);
	assert_int_equal(look("imports = ['go*.toml', 'none*']\n", &err), 1);
	assert_int_equal(look("imports = [\n  'chain.toml', # ours\n]\n", &err), 1);
	told("a = 1\nimports = ['good.toml', 'other.toml']\n", -EEXIST, "other.toml:3: ");
	told("imports = ['other.toml']\n" PLUGIN_TEXT, -EEXIST, "line 1: imports: ");
	told("imports = ['bad.toml']\n", -EINVAL, "bad.toml");
	told("imports = ['loop.toml']\n", -EINVAL, "imports in more than");
	told("imports = ['none.toml']\n", -ENOENT, "none.toml");
	told("imports = 'good.toml'\n", -EINVAL, "no list");
	told("imports = [3]\n", -EINVAL, "no list");
	told("imports = ['']\n", -EINVAL, "not understood");
	told("imports = [\"a\\u0000b\"]\n", -EINVAL, "not understood");
}

/* --- trying ----------------------------------------------------------------------------------- */

static void hang(void *shared)
{
	*(int *)shared = 7;
	for (;;)
		pause();
}

static void answer(void *shared)
{
	*(int *)shared = 42;
}

static void die(void *shared)
{
	(void)shared;
	abort();
}

static void test_try(void **state)
{
	static const char *const yes[] = {"echo", "yes", NULL}, *const none[] = {"/none", NULL},
				 *const slow[] = {"sleep", "100", NULL},
				 *const no[] = {"false", NULL};
	auto_buf struct buf out = BUF_INIT;
	int v = 0;

	(void)state;
	assert_int_equal(try_run(answer, &v, sizeof(v), 5000), 0);
	assert_int_equal(v, 42);
	assert_int_equal(try_run(hang, &v, sizeof(v), 50), -ETIMEDOUT);
	assert_int_equal(v, 7);
	assert_int_equal(try_run(die, &v, sizeof(v), 5000), -EIO);
	assert_int_equal(try_program(yes, 5000, 100, &out), 0);
	assert_int_equal(out.len, 4);
	assert_int_equal(try_program(none, 5000, 100, &out), -ENOENT);
	assert_int_equal(try_program(no, 5000, 100, &out), -EIO);
	assert_int_equal(try_program(slow, 50, 100, &out), -ETIMEDOUT);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* none is left */
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return tree_remove(AT_FDCWD, dir, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_versions), cmocka_unit_test(test_settings),
		cmocka_unit_test(test_files),    cmocka_unit_test(test_words),
		cmocka_unit_test(test_imports),  cmocka_unit_test(test_try),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
