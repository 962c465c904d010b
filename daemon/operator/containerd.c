// SPDX-License-Identifier: Apache-2.0
/* The connection to containerd and its calls. Owns the connection. Loop thread. */
#include "operator/containerd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "loop/loop.h"
#include "loop/sync.h"
#include "operator/containerd_impl.h"

#include "base/banned.h"

#define METHOD_MAX 128

int containerd_new(struct loop *loop, const char *address, struct containerd **ret, struct err *err)
{
	struct containerd *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->loop = loop;
	c->address = address;
	mutex_init(&c->dialling);
	*ret = c;
	return 0;
}

may_suspend static void link_put(struct containerd_link *l)
{
	if (--l->users)
		return;
	grpc_client_close(l->client);
	free(l);
}

may_suspend void containerd_free(struct containerd *c)
{
	if (!c)
		return;
	if (c->link)
		link_put(c->link);
	free(c);
}

may_suspend void containerd_link_put(struct containerd_link *l)
{
	link_put(l);
}

may_suspend static int dial(struct containerd *c, struct err *err)
{
	struct containerd_link *l, *old;
	int r;

	if (c->link && grpc_client_usable(c->link->client))
		return 0;
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	r = grpc_dial(c->loop, c->address, CONTAINERD_DIAL_MS, &l->client, err);
	if (r < 0) {
		free(l);
		return err_wrap(err, r == -ECANCELED ? r : -ENOTCONN, "containerd");
	}
	l->users = 1;
	old = c->link;
	c->link = l;
	if (old)
		link_put(old);
	return 0;
}

may_suspend int containerd_link_get(struct containerd *c, struct containerd_link **ret,
				    struct err *err)
{
	int r = 0;

	if (!c->link || !grpc_client_usable(c->link->client)) {
		r = mutex_lock(&c->dialling);
		if (r < 0)
			return err_set(err, r, "cancelled");
		r = dial(c, err);
		mutex_unlock(&c->dialling);
	}
	if (r < 0)
		return r;
	c->link->users++;
	*ret = c->link;
	return 0;
}

size_t containerd_metadata(const struct containerd_at *at, struct grpc_metadata md[2])
{
	size_t n = 0;

	if (at && at->ns)
		md[n++] = (struct grpc_metadata){"containerd-namespace", at->ns};
	if (at && at->lease)
		md[n++] = (struct grpc_metadata){"containerd-lease", at->lease};
	return n;
}

int containerd_pack(const ProtobufCMessage *m, struct buf *ret)
{
	size_t n = protobuf_c_message_get_packed_size(m);

	ret->len = 0;
	if (buf_reserve(ret, n + 1) < 0)
		return -ENOMEM;
	ret->len = protobuf_c_message_pack(m, ret->data);
	return 0;
}

static void *in_arena(void *arg, size_t n)
{
	return arena_alloc(arg, n);
}

static void no_free(void *arg, void *p)
{
	(void)arg, (void)p;
}

ProtobufCMessage *containerd_unpack(const ProtobufCMessageDescriptor *type, const struct buf *bytes,
				    struct arena *a)
{
	ProtobufCAllocator allocator = {in_arena, no_free, a};

	return protobuf_c_message_unpack(type, &allocator, bytes->len, bytes->data);
}

/* The connection may have died since its last call: then the call did not reach containerd. */
may_suspend static int unary(struct containerd *c, const struct containerd_at *at, const char *path,
			     const struct buf *request, unsigned timeout_ms, struct buf *answer,
			     struct err *err)
{
	struct grpc_metadata md[2];
	size_t n = containerd_metadata(at, md);
	struct containerd_link *l;
	enum grpc_code code;
	int r;

	for (int i = 0; i < 2; i++) {
		r = containerd_link_get(c, &l, err);
		if (r < 0)
			return r;
		code = grpc_unary(l->client, path, md, n, timeout_ms, request->data, request->len,
				  answer, err);
		bool broken = !grpc_client_usable(l->client);
		link_put(l);
		if (code != GRPC_UNAVAILABLE || !broken)
			break;
	}
	return grpc_code_errno(code);
}

may_suspend int containerd_call(struct containerd *c, const struct containerd_at *at,
				const char *service, const char *method,
				const ProtobufCMessage *request,
				const ProtobufCMessageDescriptor *answer, unsigned timeout_ms,
				struct arena *a, void *ret_answer, struct err *err)
{
	auto_buf struct buf in = BUF_INIT, out = BUF_INIT;
	char path[METHOD_MAX];
	int r;

	snprintf(path, sizeof(path), "/containerd.services.%s/%s", service, method);
	if (containerd_pack(request, &in) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = unary(c, at, path, &in, timeout_ms ? timeout_ms : CONTAINERD_TIMEOUT_MS, &out, err);
	if (r < 0)
		return err_wrap(err, r, "containerd: %s", strrchr(service, '.') + 1);
	if (!answer)
		return 0;
	*(void **)ret_answer = containerd_unpack(answer, &out, a);
	if (!*(void **)ret_answer)
		return err_set(err, -EBADMSG,
			       "containerd: %s: the answer of %zu bytes is not valid", method,
			       out.len);
	return 0;
}

may_suspend bool containerd_finds_us(int r, const struct err *err, unsigned *waited_ms)
{
	/* Of a list the code is lost on the way (Unknown); the words are not. */
	bool away = r == -ECONNREFUSED || (r == -EIO && err && strstr(err->text, ": unavailable"));

	if (!away || *waited_ms >= CONTAINERD_RECONNECT_MS ||
	    task_sleep_ms(CONTROL_PROGRESS_MS) < 0)
		return false;
	*waited_ms += CONTROL_PROGRESS_MS;
	return true;
}

/* --- streams ---------------------------------------------------------------------------------- */

may_suspend static int stream_take(struct grpc_call *call, const ProtobufCMessageDescriptor *answer,
				   int (*fn)(void *arg, const ProtobufCMessage *answer), void *arg,
				   struct err *err)
{
	auto_buf struct buf bytes = BUF_INIT;
	auto_arena struct arena a;
	int r;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	while ((r = grpc_recv(call, &bytes)) > 0) {
		ProtobufCMessage *m;

		arena_reset(&a);
		m = containerd_unpack(answer, &bytes, &a);
		if (!m)
			return err_set(err, -EBADMSG, "an answer of %zu bytes is not valid",
				       bytes.len);
		r = fn(arg, m);
		if (r < 0)
			return err_set(err, r, "the answer is not taken: %s", strerror(-r));
	}
	return r;
}

may_suspend int containerd_stream(struct containerd *c, const struct containerd_at *at,
				  const char *service, const char *method,
				  const ProtobufCMessage *request,
				  const ProtobufCMessageDescriptor *answer,
				  int (*fn)(void *arg, const ProtobufCMessage *answer), void *arg,
				  struct err *err)
{
	struct grpc_metadata md[2];
	auto_buf struct buf in = BUF_INIT;
	size_t n = containerd_metadata(at, md);
	struct containerd_link *l;
	struct err why = ERR_INIT;
	struct grpc_call *call;
	char path[METHOD_MAX];
	enum grpc_code code;
	int r;

	snprintf(path, sizeof(path), "/containerd.services.%s/%s", service, method);
	if (containerd_pack(request, &in) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = containerd_link_get(c, &l, err);
	if (r < 0)
		return r;
	r = grpc_call_start(l->client, path, md, n, CONTAINERD_TIMEOUT_MS, &call, err);
	if (r == 0) {
		r = grpc_send(call, in.data, in.len);
		if (r == 0)
			r = grpc_close_send(call);
		if (r == 0)
			r = stream_take(call, answer, fn, arg, err);
		if (r < 0)
			grpc_cancel(call);
		code = grpc_finish(call, &why);
		if (r == 0 || code != GRPC_CANCELLED) {
			r = grpc_code_errno(code);
			if (r < 0)
				err_set(err, r, "%s", err_text(&why, r));
		}
	}
	link_put(l);
	return r < 0 ? err_wrap(err, r, "containerd: %s", method) : 0;
}
