// SPDX-License-Identifier: Apache-2.0
/* Makes hosts of hosts.toml, certificate directories and defaults. Owns the arena of a result. */
#include "image/hosts.h"

#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "image/hosts_toml.h"
#include "net/url.h"

#include "base/banned.h"

#define HUB     "docker.io"
#define HUB_API "registry-1.docker.io"

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

static bool same_host(const char *authority, const char *ns)
{
	return strcmp(authority, ns) == 0 ||
	       (strcmp(ns, HUB) == 0 && strcmp(authority, HUB_API) == 0);
}

static int hosts_new(const char *ns, struct hosts **ret, struct err *err)
{
	struct hosts *h = calloc(1, sizeof(*h));

	if (!h)
		return no_memory(err);
	arena_init(&h->arena, HOSTS_MEMORY_MAX);
	h->list = arena_alloc(&h->arena, REGISTRY_HOSTS_MAX * sizeof(h->list[0]));
	h->ns = arena_strndup(&h->arena, ns, strlen(ns));
	if (!h->list || !h->ns) {
		hosts_free(h);
		return no_memory(err);
	}
	*ret = h;
	return 0;
}

void hosts_free(struct hosts *h)
{
	if (!h)
		return;
	arena_fini(&h->arena);
	free(h);
}

/* The path of a host's address, as containerd makes it. */
static const char *api_path(struct hosts *hs, const struct url *u, bool override)
{
	size_t n = 0;
	const char *r;

	while (n < u->target.len && u->target.p[n] != '?')
		n++;
	while (n > 0 && u->target.p[n - 1] == '/')
		n--;
	if (override)
		return arena_strndup(&hs->arena, n ? u->target.p : "", n);
	r = arena_printf(&hs->arena, "%.*s%s", (int)n, u->target.p,
			 n >= 3 && memcmp(u->target.p + n - 3, "/v2", 3) == 0 ? "" : "/v2");
	return r;
}

static int set_url(struct hosts *hs, struct host *h, const struct host_entry *e, struct err *err)
{
	const char *text = e->url;
	struct url u;

	if (strncasecmp(text, "http", 4) != 0 || url_parse(str_of(text), &u) < 0)
		text = arena_printf(&hs->arena, "https://%s", text);
	if (!text)
		return no_memory(err);
	if (url_parse(str_of(text), &u) < 0)
		return err_set(err, -EINVAL, "not the address of a host: %.200s", e->url);
	h->authority = arena_strndup(&hs->arena, u.authority.p, u.authority.len);
	h->path = api_path(hs, &u, e->override_path);
	h->https = u.https;
	h->no_port = u.port == 0;
	if (!u.https && e->tls && u.port && u.port != 80)
		h->https = h->fallback = true;
	if (!h->authority || !h->path)
		return no_memory(err);
	return 0;
}

/* The namespace itself. */
static int set_default(struct hosts *hs, struct host *h, struct err *err)
{
	struct url u;

	if (url_parse_authority(str_of(hs->ns), &u) < 0)
		return err_set(err, -EINVAL, "not a host: %.200s", hs->ns);
	h->authority = strcmp(hs->ns, HUB) == 0 ? HUB_API : hs->ns;
	h->path = "/v2";
	h->can = HOST_ALL;
	h->https = true;
	h->no_port = u.port == 0;
	if (!url_is_loopback(&u))
		return 0;
	h->https = u.port != 80;
	h->fallback = u.port && u.port != 443 && u.port != 80;
	if (h->https)
		h->tls.skip_verify = true;
	return 0;
}

static const char *in_dir(struct hosts *hs, const char *dir, const char *file)
{
	return file[0] == '/' ? file : arena_printf(&hs->arena, "%s/%s", dir, file);
}

static int read_pem(struct hosts *hs, const char *dir, const char *file, struct buf *b,
		    struct err *err)
{
	const char *path = in_dir(hs, dir, file);
	int r;

	if (!path)
		return no_memory(err);
	r = file_read_all(path, HOSTS_FILE_MAX, b, err);
	if (r == 0 && buf_append(b, "\n", 1) < 0)
		r = no_memory(err);
	return r < 0 ? err_wrap(err, r, "%s", path) : 0;
}

static int keep(struct hosts *hs, const struct buf *b, struct str *ret, struct err *err)
{
	ret->p = arena_strndup(&hs->arena, b->len ? (char *)b->data : "", b->len);
	ret->len = b->len;
	return ret->p ? 0 : no_memory(err);
}

static int read_one(struct hosts *hs, const char *dir, const char *file, struct str *ret,
		    struct err *err)
{
	auto_buf struct buf b = BUF_INIT;
	int r = read_pem(hs, dir, file, &b, err);

	if (r == 0)
		r = keep(hs, &b, ret, err);
	if (b.len)
		explicit_bzero(b.data, b.len);
	return r;
}

static int read_tls(struct hosts *hs, struct host *h, const struct host_entry *e, const char *dir,
		    struct err *err)
{
	auto_buf struct buf ca = BUF_INIT;
	int r = 0;

	for (size_t i = 0; r == 0 && i < e->ca_n; i++)
		r = read_pem(hs, dir, e->ca[i], &ca, err);
	if (r == 0 && ca.len)
		r = keep(hs, &ca, &h->tls.ca, err);
	if (r == 0 && e->cert)
		r = read_one(hs, dir, e->cert, &h->tls.cert, err);
	if (r == 0 && e->key)
		r = read_one(hs, dir, e->key, &h->tls.key, err);
	return r;
}

/* dir NULL: without its files. */
static int add_host(struct hosts *hs, const struct host_entry *e, const char *dir, struct err *err)
{
	struct host h = {.authority = "",
			 .path = "",
			 .can = e->can ? e->can : HOST_ALL,
			 .dial_timeout_ms = e->dial_timeout_ms};
	const char **headers;
	int r;

	if (hs->n == REGISTRY_HOSTS_MAX)
		return err_set(err, -EINVAL, "more than %d hosts", REGISTRY_HOSTS_MAX);
	r = e->url ? set_url(hs, &h, e, err) : set_default(hs, &h, err);
	if (r < 0)
		return r;
	h.ns = !same_host(h.authority, hs->ns);
	h.tls.skip_verify = h.tls.skip_verify || e->skip_verify;
	headers = arena_alloc(&hs->arena, e->headers_n * sizeof(headers[0]) + 1);
	if (!headers)
		return no_memory(err);
	for (size_t i = 0; i < e->headers_n; i++)
		headers[i] = e->headers[i];
	h.headers = headers;
	h.headers_n = e->headers_n;
	r = dir ? read_tls(hs, &h, e, dir, err) : 0;
	if (r == 0)
		hs->list[hs->n++] = h;
	return r;
}

static int add_all(struct hosts *hs, const struct hosts_toml *t, const char *dir, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < t->hosts_n; i++)
		r = add_host(hs, t->hosts[i], dir, err);
	return r < 0 ? r : add_host(hs, &t->root, dir, err);
}

/* --- docker's certificate directories -------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && strcmp(s + n - m, end) == 0;
}

static int docker_file(struct hosts *hs, struct host_entry *e, const char *dir, const char *name,
		       struct err *err)
{
	const char *file = arena_strndup(&hs->arena, name, strlen(name)), *path;
	struct stat st;
	char *key;

	if (!file)
		return no_memory(err);
	if (ends_with(name, ".crt") && e->ca_n < HOST_FILES_MAX)
		e->ca[e->ca_n++] = file;
	if (!ends_with(name, ".cert") || (e->cert && strcmp(e->cert, file) < 0))
		return 0;
	key = arena_printf(&hs->arena, "%.*s.key", (int)strlen(name) - 5, name);
	path = key ? in_dir(hs, dir, key) : NULL;
	if (!path)
		return no_memory(err);
	e->cert = file;
	e->key = stat(path, &st) == 0 ? key : NULL;
	return 0;
}

static int docker_dir(struct hosts *hs, const char *dir, struct err *err)
{
	auto_closedir DIR *d = opendir(dir);
	struct host_entry e = {0};
	struct dirent *f;
	int r = 0;

	while (r == 0 && d && (f = readdir(d)))
		r = docker_file(hs, &e, dir, f->d_name, err);
	return r < 0 ? r : add_host(hs, &e, dir, err);
}

/* --- directories ----------------------------------------------------------------------------- */

static int toml_hosts(struct hosts *hs, struct str text, const char *dir, struct err *err)
{
	struct hosts_toml *t = arena_alloc(&hs->arena, sizeof(*t));
	int r;

	if (!t)
		return no_memory(err);
	*t = (struct hosts_toml){.arena = &hs->arena};
	r = hosts_toml_parse(t, text, err);
	return r < 0 ? r : add_all(hs, t, dir, err);
}

static int read_dir(struct hosts *hs, const char *dir, struct err *err)
{
	const char *path = in_dir(hs, dir, "hosts.toml");
	auto_buf struct buf text = BUF_INIT;
	struct hosts_toml *t = arena_alloc(&hs->arena, sizeof(*t));
	struct err bad = ERR_INIT;
	int r;

	if (!path || !t)
		return no_memory(err);
	r = file_read_all(path, HOSTS_FILE_MAX, &text, &bad);
	if (r == -ENOENT || (r == 0 && text.len == 0))
		return docker_dir(hs, dir, err);
	*t = (struct hosts_toml){.arena = &hs->arena};
	if (r == 0)
		r = hosts_toml_parse(t, (struct str){(char *)text.data, text.len}, &bad);
	if (r < 0) {
		log_warn("hosts.toml is not used path=%s error=\"%s\"", path, err_text(&bad, r));
		return docker_dir(hs, dir, err);
	}
	return add_all(hs, t, dir, err);
}

/* The directory for the namespace under one root; NULL = none, or no memory. */
static const char *find_dir(struct hosts *hs, struct str root)
{
	const char *colon = strrchr(hs->ns, ':'), *names[3];
	struct stat st;

	if (colon && strchr(colon, ']'))
		colon = NULL;
	names[0] = colon ? arena_printf(&hs->arena, STR_FMT "/%.*s_%s_", STR_ARG(root),
					(int)(colon - hs->ns), hs->ns, colon + 1)
			 : NULL;
	names[1] = arena_printf(&hs->arena, STR_FMT "/%s", STR_ARG(root), hs->ns);
	names[2] = arena_printf(&hs->arena, STR_FMT "/_default", STR_ARG(root));
	for (size_t i = 0; i < array_size(names); i++) {
		if (names[i] && stat(names[i], &st) == 0 && S_ISDIR(st.st_mode))
			return names[i];
	}
	return NULL;
}

static int fill(struct hosts *hs, const char *dirs, struct err *err)
{
	const char *p = dirs ? dirs : "", *dir;

	while (*p) {
		size_t n = strcspn(p, ":");

		dir = n ? find_dir(hs, (struct str){p, n}) : NULL;
		if (dir)
			return read_dir(hs, dir, err);
		p += n + (p[n] == ':');
	}
	return add_host(hs, &(struct host_entry){0}, NULL, err);
}

int hosts_load(const char *dirs, const char *ns, struct hosts **ret, struct err *err)
{
	struct hosts *hs;
	int r = hosts_new(ns, &hs, err);

	if (r < 0)
		return r;
	r = fill(hs, dirs, err);
	if (r < 0) {
		hosts_free(hs);
		return err_wrap(err, r, "hosts of %s", ns);
	}
	*ret = hs;
	return 0;
}

int hosts_parse(struct str text, const char *ns, struct hosts **ret, struct err *err)
{
	struct hosts *hs;
	int r = hosts_new(ns, &hs, err);

	if (r < 0)
		return r;
	r = toml_hosts(hs, text, NULL, err);
	if (r < 0) {
		hosts_free(hs);
		return r;
	}
	*ret = hs;
	return 0;
}

void hosts_make_plain(struct hosts *h)
{
	for (size_t i = 0; i < h->n; i++) {
		if (!h->list[i].ns)
			h->list[i].https = h->list[i].fallback = false;
	}
}
