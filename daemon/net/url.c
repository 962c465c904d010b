// SPDX-License-Identifier: Apache-2.0
/* Addresses. Owns nothing. */
#include "net/url.h"

#include <errno.h>
#include <strings.h>

#include "base/banned.h"

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool host_valid(struct str h)
{
	bool ip6 = h.len > 2 && h.p[0] == '[' && h.p[h.len - 1] == ']';

	if (h.len == 0 || h.len > 255)
		return false;
	for (size_t i = ip6; i < h.len - ip6; i++) {
		if (!is_alnum(h.p[i]) && !strchr(ip6 ? ":." : ".-_", h.p[i]))
			return false;
	}
	return true;
}

int url_parse_authority(struct str text, struct url *ret)
{
	struct url u = {.authority = text, .host = text};
	uint64_t port = 0;

	for (size_t i = text.len; i > 0 && text.p[i - 1] != ']'; i--) {
		if (text.p[i - 1] != ':')
			continue;
		u.host.len = i - 1;
		if (str_u64((struct str){text.p + i, text.len - i}, &port) < 0 || port == 0 ||
		    port > 65535)
			return -EINVAL;
		break;
	}
	u.port = (unsigned)port;
	if (memchr(text.p ? text.p : "", 0, text.len) || !host_valid(u.host))
		return -EINVAL;
	*ret = u;
	return 0;
}

int url_parse(struct str text, struct url *ret)
{
	bool https = text.len > 8 && strncasecmp(text.p, "https://", 8) == 0;
	bool http = text.len > 7 && strncasecmp(text.p, "http://", 7) == 0;
	struct url u = {0};
	size_t start = https ? 8 : 7, end, len = text.len;

	if (!https && !http)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text.p[i] <= ' ' || text.p[i] == 0x7f || text.p[i] == '\\')
			return -EINVAL;
		if (text.p[i] == '#')
			len = i;
	}
	for (end = start; end < len && text.p[end] != '/' && text.p[end] != '?'; end++)
		;
	if (url_parse_authority((struct str){text.p + start, end - start}, &u) < 0)
		return -EINVAL;
	u.https = https;
	u.target = (struct str){text.p + end, len - end};
	*ret = u;
	return 0;
}

static unsigned port_of(const struct url *u)
{
	return u->port ? u->port : u->https ? 443 : 80;
}

bool url_same_origin(const struct url *a, const struct url *b)
{
	return a->https == b->https && a->host.len == b->host.len &&
	       strncasecmp(a->host.p, b->host.p, a->host.len) == 0 && port_of(a) == port_of(b);
}

bool url_is_loopback(const struct url *u)
{
	static const char *const names[] = {"localhost", "[::1]"};

	for (size_t i = 0; i < array_size(names); i++) {
		if (u->host.len == strlen(names[i]) &&
		    strncasecmp(u->host.p, names[i], u->host.len) == 0)
			return true;
	}
	if (!str_starts(u->host, STR("127.")))
		return false;
	for (size_t i = 0; i < u->host.len; i++) {
		if (u->host.p[i] != '.' && (u->host.p[i] < '0' || u->host.p[i] > '9'))
			return false;
	}
	return true;
}

static bool has_scheme(struct str s)
{
	for (size_t i = 0; i < s.len && !strchr("/?", s.p[i]); i++) {
		if (s.p[i] == ':')
			return true;
	}
	return false;
}

const char *url_resolve(const char *base, struct str location, struct arena *a)
{
	struct url b, u;
	const char *r;
	size_t dir = 0;

	for (size_t i = 0; i < location.len; i++) {
		if (location.p[i] == '#')
			location.len = i;
	}
	if (location.len == 0 || url_parse(str_of(base), &b) < 0)
		return NULL;
	if (url_parse(location, &u) == 0)
		return arena_strndup(a, location.p, location.len);
	for (size_t i = 0; i < b.target.len && b.target.p[i] != '?'; i++) {
		if (b.target.p[i] == '/')
			dir = i + 1;
	}
	if (str_starts(location, STR("//")))
		r = arena_printf(a, "%s:" STR_FMT, b.https ? "https" : "http", STR_ARG(location));
	else if (location.p[0] == '/')
		r = arena_printf(a, "%s://" STR_FMT STR_FMT, b.https ? "https" : "http",
				 STR_ARG(b.authority), STR_ARG(location));
	else if (has_scheme(location))
		return NULL; /* mailto: and the like */
	else
		r = arena_printf(a, "%s://" STR_FMT STR_FMT "%s" STR_FMT,
				 b.https ? "https" : "http", STR_ARG(b.authority), (int)dir,
				 b.target.p, dir ? "" : "/", STR_ARG(location));
	return r && url_parse(str_of(r), &u) == 0 ? r : NULL;
}

int url_escape(struct buf *b, struct str s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (is_alnum((char)c) || (c && strchr("-._~", c)))
			r = buf_append(b, &c, 1);
		else
			r = buf_printf(b, "%%%02X", c);
	}
	return r;
}
