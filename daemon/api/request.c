// SPDX-License-Identifier: Apache-2.0
/* What all services share: reading a call's message, answering it. Loop thread. */
#include "api/request.h"

#include "base/limits.h"

#include "base/banned.h"

#define REQUEST_MEMORY_MAX (4 * GRPC_MESSAGE_IN_MAX)

enum grpc_code request_code(int r)
{
	switch (r) {
	case 0:
		return GRPC_OK;
	case -EINVAL:
	case -E2BIG:
		return GRPC_INVALID_ARGUMENT;
	case -ENOENT:
		return GRPC_NOT_FOUND;
	case -EEXIST:
		return GRPC_ALREADY_EXISTS;
	case -EBUSY:
	case -EOPNOTSUPP:
		return GRPC_FAILED_PRECONDITION;
	case -EPERM:
	case -EACCES:
		return GRPC_PERMISSION_DENIED;
	case -ENOSPC:
	case -EDQUOT:
	case -ENOMEM:
	case -EAGAIN:
	case -EMFILE:
	case -ENFILE:
	case -EMSGSIZE:
	case -EFBIG:
		return GRPC_RESOURCE_EXHAUSTED;
	case -EBADMSG:
		return GRPC_DATA_LOSS;
	case -ECANCELED:
		return GRPC_CANCELLED;
	case -ETIMEDOUT:
		return GRPC_DEADLINE_EXCEEDED;
	case -EIO:
	case -ECONNRESET:
	case -ECONNREFUSED:
	case -ENOTCONN:
	case -EHOSTUNREACH:
	case -EHOSTDOWN:
	case -EKEYREJECTED:
	case -EPROTO:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_INTERNAL;
	}
}

static void *request_alloc(void *arg, size_t n)
{
	return arena_alloc(arg, n);
}

static void request_free(void *arg, void *p)
{
	(void)arg, (void)p; /* all at once, with the arena */
}

void request_init(struct request *q, struct grpc_call *call, void *arg, struct err *err)
{
	*q = (struct request){.call = call, .svc = arg, .err = err};
	arena_init(&q->arena, REQUEST_MEMORY_MAX);
	q->allocator = (ProtobufCAllocator){request_alloc, request_free, &q->arena};
}

void request_fini(struct request *q)
{
	buf_fini(&q->bytes);
	arena_fini(&q->arena);
}

/* The call's one message as type; strings live in the arena. */
may_suspend int request_read(struct request *q, const ProtobufCMessageDescriptor *type,
			     void *ret_message)
{
	int r = grpc_recv(q->call, &q->bytes);

	if (r == 0)
		return err_set(q->err, -EINVAL, "the call has no message");
	if (r < 0)
		return err_errno(q->err, r, "receive the request");
	*(void **)ret_message =
		protobuf_c_message_unpack(type, &q->allocator, q->bytes.len, q->bytes.data);
	if (!*(void **)ret_message)
		return err_set(q->err, q->arena.used > q->arena.max / 2 ? -ENOMEM : -EINVAL,
			       "the request is not a valid %s", type->short_name);
	return 0;
}

may_suspend int request_answer(struct request *q, const ProtobufCMessage *message)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = arena_alloc(&q->arena, len + 1);
	int r;

	if (!bytes)
		return err_set(q->err, -ENOMEM, "out of memory");
	protobuf_c_message_pack(message, bytes);
	r = grpc_send(q->call, bytes, len);
	return r < 0 ? err_errno(q->err, r, "send the answer") : 0;
}

may_suspend int request_answer_empty(struct request *q)
{
	int r = grpc_send(q->call, "", 0);

	return r < 0 ? err_errno(q->err, r, "send the answer") : 0;
}

Fl__Timestamp *request_time(struct request *q, int64_t ns)
{
	Fl__Timestamp *t = arena_alloc(&q->arena, sizeof(*t));

	if (!t)
		return NULL;
	fl__timestamp__init(t);
	t->seconds = ns / 1000000000;
	t->nanos = (int32_t)(ns % 1000000000);
	if (t->nanos < 0) {
		t->nanos += 1000000000;
		t->seconds--;
	}
	return t;
}

char *request_text(struct request *q, struct str s)
{
	return arena_strndup(&q->arena, s.p, s.len);
}

Fl__Info *request_info(struct request *q, const struct snap_info *in)
{
	Fl__Info *o = arena_alloc(&q->arena, sizeof(*o));
	Fl__Label *labels = arena_alloc(&q->arena, (in->record.labels_n + 1) * sizeof(*labels));
	Fl__Label **refs = arena_alloc(&q->arena, (in->record.labels_n + 1) * sizeof(*refs));

	if (!o || !labels || !refs)
		return NULL;
	fl__info__init(o);
	o->name = request_text(q, in->name);
	o->parent = request_text(q, in->record.parent);
	o->kind = (Fl__Kind)in->record.kind;
	o->created_at = request_time(q, in->record.created_ns);
	o->updated_at = request_time(q, in->record.updated_ns);
	if (!o->name || !o->parent || !o->created_at || !o->updated_at)
		return NULL;
	for (size_t i = 0; i < in->record.labels_n; i++) {
		fl__label__init(&labels[i]);
		labels[i].key = request_text(q, in->record.labels[i].key);
		labels[i].value = request_text(q, in->record.labels[i].value);
		if (!labels[i].key || !labels[i].value)
			return NULL;
		refs[i] = &labels[i];
	}
	o->labels = refs;
	o->n_labels = in->record.labels_n;
	return o;
}

void request_mount(const struct mount_answer *m, Fl__Mount *ret)
{
	fl__mount__init(ret);
	ret->type = m->type;
	ret->source = m->source;
	ret->options = (char **)m->options;
	ret->n_options = m->options_n;
}
