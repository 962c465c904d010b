/* SPDX-License-Identifier: Apache-2.0 */
/* A peer made of bare HTTP/2 frames, for tests of what a real library never sends. */
#ifndef FIRSTLIGHT_TESTS_RAW_H2_H
#define FIRSTLIGHT_TESTS_RAW_H2_H

#include <nghttp2/nghttp2.h>

#include "grpc_fixture.h"

enum {
	DATA = 0,
	HEADERS = 1,
	RST = 3,
	SETTINGS = 4,
	PING = 6,
	GOAWAY = 7,
	WINDOW = 8,
	CLOSED = -1,
};
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

struct raw {
	int fd;
	struct buf out;
	nghttp2_hd_inflater *inflater;
	/* the last frame */
	int type;
	uint8_t flags;
	uint32_t stream;
	struct buf payload;
	/* the last header block */
	char status[8], grpc_status[8], grpc_message[256], path[64];
	unsigned pings; /* seen */
};

static inline void raw_init(struct raw *r, int fd)
{
	*r = (struct raw){.fd = fd};
	check(nghttp2_hd_inflate_new(&r->inflater) == 0);
}

static inline void raw_close(struct raw *r)
{
	if (r->fd >= 0)
		close(r->fd);
	nghttp2_hd_inflate_del(r->inflater);
	buf_fini(&r->out);
	buf_fini(&r->payload);
}

static inline void raw_bytes(struct raw *r, const void *data, size_t len)
{
	check(buf_append(&r->out, data, len) == 0);
}

static inline void raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t stream,
			     const void *data, size_t len)
{
	uint8_t head[9] = {(uint8_t)(len >> 16),
			   (uint8_t)(len >> 8),
			   (uint8_t)len,
			   type,
			   flags,
			   (uint8_t)(stream >> 24),
			   (uint8_t)(stream >> 16),
			   (uint8_t)(stream >> 8),
			   (uint8_t)stream};

	raw_bytes(r, head, sizeof(head));
	raw_bytes(r, data, len);
}

static inline void raw_preface(struct raw *r)
{
	raw_bytes(r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	raw_frame(r, SETTINGS, 0, 0, "", 0);
}

/* Field lines as HPACK literals; NULL-terminated pairs. */
static inline void raw_headers(struct raw *r, uint32_t stream, uint8_t flags, const char **pairs)
{
	auto_buf struct buf b = BUF_INIT;

	for (size_t i = 0; pairs[i]; i++) {
		uint8_t head[2] = {0, (uint8_t)strlen(pairs[i])};

		check(strlen(pairs[i]) < 127);
		check(buf_append(&b, head + i % 2, 2 - i % 2) == 0);
		check(buf_append(&b, pairs[i], strlen(pairs[i])) == 0);
	}
	raw_frame(r, HEADERS, END_HEADERS | flags, stream, b.data, b.len);
}

static inline void raw_request(struct raw *r, uint32_t stream, uint8_t flags, const char *path)
{
	const char *pairs[] = {
		":method", "POST",       ":scheme",   "http",         ":path",
		path,      ":authority", "localhost", "content-type", "application/grpc",
		"te",      "trailers",   NULL};

	raw_headers(r, stream, flags, pairs);
}

static inline void raw_message(struct raw *r, uint32_t stream, uint8_t flags, const void *msg,
			       size_t len)
{
	uint8_t data[256] = {0, 0, 0, (uint8_t)(len >> 8), (uint8_t)len};

	check(len <= sizeof(data) - 5);
	memcpy(data + 5, msg, len);
	raw_frame(r, DATA, flags, stream, data, len + 5);
}

/* Sends what is gathered. */
static inline may_suspend void raw_flush(struct raw *r)
{
	size_t off = 0;
	ssize_t n;

	while (off < r->out.len) {
		n = io_send(r->fd, r->out.data + off, r->out.len - off, 0);
		if (n <= 0)
			break; /* the other side does not want to hear it */
		off += (size_t)n;
	}
	r->out.len = 0;
}

static inline may_suspend bool raw_fill(struct raw *r, uint8_t *p, size_t len, unsigned timeout_ms)
{
	ssize_t n;

	while (len) {
		n = io_recv(r->fd, p, len, timeout_ms);
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static inline void raw_copy(char *to, size_t size, const uint8_t *value, size_t len)
{
	check(len < size);
	memcpy(to, value, len);
	to[len] = '\0';
}

static inline void raw_inflate(struct raw *r)
{
	const uint8_t *p = r->payload.data;
	size_t left = r->payload.len;
	int flags = 0;
	nghttp2_nv nv;
	ssize_t n;

	r->status[0] = r->grpc_status[0] = r->grpc_message[0] = '\0';
	while (!(flags & NGHTTP2_HD_INFLATE_FINAL)) {
		n = nghttp2_hd_inflate_hd2(r->inflater, &nv, &flags, p, left, 1);
		check(n >= 0);
		p += n;
		left -= (size_t)n;
		if (!(flags & NGHTTP2_HD_INFLATE_EMIT))
			continue;
		if (strcmp((char *)nv.name, ":status") == 0)
			raw_copy(r->status, sizeof(r->status), nv.value, nv.valuelen);
		else if (strcmp((char *)nv.name, "grpc-status") == 0)
			raw_copy(r->grpc_status, sizeof(r->grpc_status), nv.value, nv.valuelen);
		else if (strcmp((char *)nv.name, "grpc-message") == 0)
			raw_copy(r->grpc_message, sizeof(r->grpc_message), nv.value, nv.valuelen);
		else if (strcmp((char *)nv.name, ":path") == 0)
			raw_copy(r->path, sizeof(r->path), nv.value, nv.valuelen);
	}
	nghttp2_hd_inflate_end_headers(r->inflater);
}

/* The next frame's type; CLOSED at the end, or when timeout_ms passes in silence. */
static inline may_suspend int raw_next(struct raw *r, unsigned timeout_ms)
{
	uint8_t h[9];
	size_t len;

	r->type = CLOSED;
	if (!raw_fill(r, h, sizeof(h), timeout_ms))
		return CLOSED;
	len = (size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2];
	r->payload.len = 0;
	check(buf_reserve(&r->payload, len + 1) == 0);
	if (!raw_fill(r, r->payload.data, len, timeout_ms))
		return CLOSED;
	r->payload.len = len;
	r->type = h[3];
	r->flags = h[4];
	r->stream = (uint32_t)h[5] << 24 | (uint32_t)h[6] << 16 | (uint32_t)h[7] << 8 | h[8];
	if (r->type == HEADERS)
		raw_inflate(r);
	if (r->type == PING && !(r->flags & ACK))
		r->pings++;
	return r->type;
}

/* Skips frames until one of this type; CLOSED is always the end. */
static inline may_suspend int raw_until(struct raw *r, int type, unsigned timeout_ms)
{
	while (raw_next(r, timeout_ms) != type && r->type != CLOSED)
		;
	return r->type;
}

/* The stream's last frame: the status stands in r then. */
static inline may_suspend bool raw_end(struct raw *r, uint32_t stream)
{
	while (raw_next(r, 5000) != CLOSED) {
		if (r->stream == stream && r->type == HEADERS && r->flags & END_STREAM)
			return true;
	}
	return false;
}

#endif
