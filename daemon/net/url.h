/* SPDX-License-Identifier: Apache-2.0 */
/* Absolute http and https addresses (RFC 3986), as far as registries need them. Pure. */
#ifndef FIRSTLIGHT_NET_URL_H
#define FIRSTLIGHT_NET_URL_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"

/* Points into the text that was parsed. */
struct url {
	bool https;
	struct str authority; /* host[:port] */
	struct str host;      /* with [] around IPv6 */
	unsigned port;        /* 0 = none given */
	struct str target;    /* path and query; no fragment; may be empty */
};

/* -EINVAL: not http(s), user information, blanks or control characters. */
int url_parse(struct str text, struct url *ret);

/* host or host:port; -EINVAL. */
int url_parse_authority(struct str text, struct url *ret);

/* Same scheme, host and port? */
bool url_same_origin(const struct url *a, const struct url *b);

/* localhost, 127.0.0.0/8, ::1 */
bool url_is_loopback(const struct url *u);

/* What a Location header means, seen from base; in a. NULL: no address, or no memory. */
const char *url_resolve(const char *base, struct str location, struct arena *a);

/* Appends with percent-encoding of all but unreserved characters; -ENOMEM. */
int url_escape(struct buf *b, struct str s) must_check;

#endif
