// SPDX-License-Identifier: Apache-2.0
/* Parses references. Owns nothing. */
#include "image/ref.h"

#include <stdio.h>

#include "base/limits.h"
#include "net/url.h"

#include "base/banned.h"

static bool is_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z');
}

static struct str part(const char *p, const char *end)
{
	return (struct str){p, (size_t)(end - p)};
}

/* "." "_" "__" or dashes, between two letters or digits. Bytes used; 0 = none. */
static size_t separator(struct str s)
{
	size_t n = 0;

	if (s.len == 0)
		return 0;
	if (s.p[0] == '.')
		n = 1;
	else if (s.p[0] == '_')
		n = s.len > 1 && s.p[1] == '_' ? 2 : 1;
	else
		while (n < s.len && s.p[n] == '-')
			n++;
	return n && n < s.len && is_lower(s.p[n]) ? n : 0;
}

static bool path_valid(struct str s)
{
	size_t i = 0;

	if (s.len == 0 || !is_lower(s.p[0]))
		return false;
	while (i < s.len) {
		struct str rest = {s.p + i, s.len - i};
		size_t n = is_lower(s.p[i]) ? 1 : separator(rest);

		if (n == 0 && s.p[i] == '/' && rest.len > 1 && is_lower(s.p[i + 1]))
			n = 1;
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

static bool host_valid(struct str s)
{
	struct url u;
	bool start = true;

	if (url_parse_authority(s, &u) < 0)
		return false;
	if (u.host.p[0] == '[')
		return memchr(u.host.p, '.', u.host.len) == NULL;
	for (size_t i = 0; i < u.host.len; i++) {
		char c = u.host.p[i];
		bool last = i + 1 == u.host.len || u.host.p[i + 1] == '.';

		if (!is_alnum(c) && (start || last || c != '-') && (c != '.' || start || last))
			return false;
		start = c == '.';
	}
	return true;
}

static bool tag_valid(struct str s)
{
	if (s.len == 0 || s.len > 128 || s.p[0] == '.' || s.p[0] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (!is_alnum(s.p[i]) && (s.p[i] == 0 || !strchr("_.-", s.p[i])))
			return false;
	}
	return true;
}

static bool is_hex(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!(s.p[i] >= '0' && s.p[i] <= '9') && !(s.p[i] >= 'a' && s.p[i] <= 'f'))
			return false;
	}
	return true;
}

static bool digest_valid(struct str s)
{
	const char *colon = s.len ? memchr(s.p, ':', s.len) : NULL;
	struct str hex;

	if (!colon || colon == s.p)
		return false;
	for (const char *p = s.p; p < colon; p++) {
		bool start = p == s.p || !is_alnum(p[-1]);

		if (!is_lower(*p) && (start || p + 1 == colon || *p == 0 || !strchr("-_+.", *p)))
			return false;
	}
	hex = part(colon + 1, s.p + s.len);
	return is_hex(hex) && hex.len >= 32 && hex.len <= 256 &&
	       (!str_starts(s, STR("sha256:")) || hex.len == 64) &&
	       (!str_starts(s, STR("sha512:")) || hex.len == 128);
}

/* Cuts the digest and the tag off. */
static bool cut(struct str *s, struct ref *ret)
{
	const char *at = memchr(s->p, '@', s->len), *p;

	if (at) {
		ret->digest = part(at + 1, s->p + s->len);
		s->len = (size_t)(at - s->p);
		if (!digest_valid(ret->digest))
			return false;
	}
	for (p = s->p + s->len; p > s->p && p[-1] != '/' && p[-1] != ':'; p--)
		;
	if (p > s->p && p[-1] == ':' && !memchr(p, ']', (size_t)(s->p + s->len - p))) {
		ret->tag = part(p, s->p + s->len);
		s->len = (size_t)(p - 1 - s->p);
		return tag_valid(ret->tag);
	}
	return true;
}

static bool is_domain(struct str s)
{
	if (str_eq(s, STR("localhost")))
		return true;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '.' || s.p[i] == ':' || (s.p[i] >= 'A' && s.p[i] <= 'Z'))
			return true;
	}
	return false;
}

int ref_parse(struct str text, struct arena *a, struct ref *ret, struct err *err)
{
	struct str name = text, host = STR("docker.io"), path;
	const char *slash;
	struct ref ref = {0};
	bool hub;

	if (text.len == 0 || text.len > REF_MAX || memchr(text.p, 0, text.len) || !cut(&name, &ref))
		goto bad;
	path = name;
	slash = memchr(name.p, '/', name.len);
	if (slash && is_domain(part(name.p, slash))) {
		host = part(name.p, slash);
		path = part(slash + 1, name.p + name.len);
	}
	if (str_eq(host, STR("index.docker.io")))
		host = STR("docker.io");
	hub = str_eq(host, STR("docker.io")) && !memchr(path.p, '/', path.len);
	if (!host_valid(host) || !path_valid(path) ||
	    path.len + (hub ? sizeof("library/") - 1 : 0) > REF_PATH_MAX)
		goto bad;
	if (!slash && path.len == 64 && is_hex(path))
		goto bad; /* the id of an image */
	ref.host = arena_strndup(a, host.p, host.len);
	ref.repository = arena_printf(a, "%s" STR_FMT, hub ? "library/" : "", STR_ARG(path));
	if (ref.tag.len == 0 && ref.digest.len == 0)
		ref.tag = STR("latest");
	ref.tag.p = arena_strndup(a, ref.tag.len ? ref.tag.p : "", ref.tag.len);
	ref.digest.p = arena_strndup(a, ref.digest.len ? ref.digest.p : "", ref.digest.len);
	if (!ref.host || !ref.repository || !ref.tag.p || !ref.digest.p)
		return err_set(err, -ENOMEM, "out of memory");
	*ret = ref;
	return 0;
bad:
	return err_set(err, -EINVAL, "not a reference to an image: %.*s",
		       (int)(text.len > 200 ? 200 : text.len), text.p);
}
