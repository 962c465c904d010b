// SPDX-License-Identifier: Apache-2.0
/* Docker's credentials. Owns nothing. */
#include "image/creds.h"

#include <strings.h>

#include "base/base64.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"

#include "base/banned.h"

#define HUB_KEY "https://index.docker.io/v1/"

static const char *key_of(const char *host)
{
	static const char *const hub[] = {"docker.io", "index.docker.io", "registry-1.docker.io"};

	for (size_t i = 0; i < array_size(hub); i++) {
		if (strcmp(host, hub[i]) == 0)
			return HUB_KEY;
	}
	return host;
}

/* The host part of a key of auths. */
static struct str host_part(struct str key)
{
	static const struct str schemes[] = {{"https://", 8}, {"http://", 7}};
	const char *slash;

	for (size_t i = 0; i < array_size(schemes); i++) {
		if (str_starts(key, schemes[i]))
			key = (struct str){key.p + schemes[i].len, key.len - schemes[i].len};
	}
	slash = key.len ? memchr(key.p, '/', key.len) : NULL;
	if (slash)
		key.len = (size_t)(slash - key.p);
	return key;
}

static const struct json *find_entry(const struct json *auths, const char *key, const char *host)
{
	const struct json *exact = json_get(auths, key), *e;

	if (exact)
		return exact;
	if (!auths || auths->type != JSON_MAP)
		return NULL;
	for (e = auths->first; e; e = e->next) {
		struct str h = host_part(e->key);

		if (str_eq(h, str_of(host)) || str_eq(h, host_part(str_of(key))))
			return e;
	}
	return NULL;
}

static int split_auth(struct str auth, struct arena *a, struct creds *c, struct err *err)
{
	auto_buf struct buf b = BUF_INIT;
	const char *colon;
	int r = base64_decode(auth, &b);

	if (r == -ENOMEM)
		return err_set(err, r, "out of memory");
	colon = b.len ? memchr(b.data, ':', b.len) : NULL;
	if (r < 0 || !colon || colon == (char *)b.data)
		return err_set(err, -EINVAL, "an auth entry is not base64 of user:password");
	while (b.len && b.data[b.len - 1] == 0)
		b.len--;
	c->user.len = (size_t)(colon - (char *)b.data);
	c->user.p = arena_strndup(a, (char *)b.data, c->user.len);
	c->secret.len = b.len - c->user.len - 1;
	c->secret.p = arena_strndup(a, colon + 1, c->secret.len);
	explicit_bzero(b.data, b.len);
	return c->user.p && c->secret.p ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int read_entry(const struct json *e, struct arena *a, struct creds *ret, struct err *err)
{
	struct creds c = {.user = json_text(e, "username"),
			  .secret = json_text(e, "password"),
			  .identity = json_text(e, "identitytoken"),
			  .token = json_text(e, "registrytoken")};
	struct str auth = json_text(e, "auth");
	int r = auth.len ? split_auth(auth, a, &c, err) : 0;

	if (r == 0)
		*ret = c;
	return r;
}

int creds_parse(struct str document, const char *host, struct arena *a, struct creds *ret,
		struct str *ret_helper, struct err *err)
{
	const char *key = key_of(host);
	const struct json *e, *helpers;
	struct creds c = {0};
	struct json *root;
	struct str helper;
	int r;

	*ret = c;
	*ret_helper = (struct str){"", 0};
	while (document.len && strchr(" \t\r\n", document.p[0]) && document.p[0])
		document.p++, document.len--;
	if (document.len == 0)
		return 0;
	r = json_tree(document, a, &root, err);
	if (r < 0)
		return r;
	helpers = json_get(root, "credHelpers");
	e = json_get(helpers, host);
	if (!e)
		e = json_get(helpers, key);
	helper = e ? json_text(helpers, e->key.p) : json_text(root, "credsStore");
	r = read_entry(find_entry(json_get(root, "auths"), key, host), a, &c, err);
	if (r < 0 && helper.len == 0)
		return r;
	*ret = c;
	*ret_helper = helper;
	return 0;
}

int creds_helper_answer(struct str document, struct arena *a, struct creds *ret, struct err *err)
{
	struct creds c = {0};
	struct json *root;
	int r = json_tree(document, a, &root, NULL);

	if (r == -ENOMEM)
		return err_set(err, r, "out of memory");
	if (r < 0) /* the parser's text may hold a part of the secret */
		return err_set(err, -EIO, "the helper's answer is no JSON");
	c.user = json_text(root, "Username");
	c.secret = json_text(root, "Secret");
	if (str_eq(c.user, STR("<token>"))) {
		c.identity = c.secret;
		c.user = c.secret = (struct str){"", 0};
	}
	*ret = c;
	return 0;
}

static bool is_empty(const struct creds *c)
{
	return !c->user.len && !c->secret.len && !c->identity.len && !c->token.len;
}

static const char *config_path(const char *file, struct arena *a)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");

	if (file)
		return file;
	if (dir && *dir)
		return arena_printf(a, "%s/config.json", dir);
	return home && *home ? arena_printf(a, "%s/.docker/config.json", home) : NULL;
}

int creds_find(const char *file, const char *host, struct arena *a, struct creds *ret,
	       struct err *err)
{
	auto_buf struct buf text = BUF_INIT;
	const char *env = getenv("DOCKER_AUTH_CONFIG"), *path;
	struct creds c = {0};
	struct str helper = {"", 0};
	int r;

	if (!file && env && *env && creds_parse(str_of(env), host, a, ret, &helper, NULL) == 0 &&
	    !is_empty(ret))
		return 0;
	*ret = c;
	path = config_path(file, a);
	if (!path)
		return 0;
	r = file_read_all(path, DOCKER_CONFIG_MAX, &text, err);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r == 0)
		r = creds_parse((struct str){(char *)text.data, text.len}, host, a, &c, &helper,
				err);
	if (r < 0)
		return err_wrap(err, r, "%s", path);
	if (helper.len)
		r = creds_run_helper(helper, key_of(host), CREDENTIAL_HELPER_TIMEOUT_MS, a, &c,
				     err);
	if (r == 0)
		*ret = c;
	return r;
}
