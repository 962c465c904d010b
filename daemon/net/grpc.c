// SPDX-License-Identifier: Apache-2.0
/* Messages of a call, and its deadline; the same on both sides. Owns their buffers. Loop thread
 * only. */
#include "net/grpc.h"

#include <string.h>

#include "net/grpc_call.h"

#include "base/banned.h"

#define CREDIT_STEP KiB(32) /* credit for messages that were read is given in such steps */
#define IN_KEEP     KiB(64) /* memory that an empty input buffer keeps */

void grpc_call_init(struct grpc_call *call, struct loop *loop)
{
	*call = (struct grpc_call){.loop = loop, .gone = -ECANCELED, .deadline_ns = UINT64_MAX};
	h2_stream_init(&call->s);
	waitq_init(&call->wait);
}

void grpc_call_fini(struct grpc_call *call)
{
	grpc_call_drop_input(call);
	timer_stop(call->loop, &call->deadline);
	h2_stream_fini(&call->s);
	buf_fini(&call->text);
	free(call->path);
}

uint64_t grpc_call_deadline_ns(const struct grpc_call *call)
{
	return call->deadline_ns;
}

static void deadline_passed(struct timer *t)
{
	struct grpc_call *call = container_of(t, struct grpc_call, deadline);

	call->gone = -ETIMEDOUT;
	call->side->fail(call, GRPC_DEADLINE_EXCEEDED, "deadline exceeded");
}

void grpc_call_deadline(struct grpc_call *call, uint64_t due_ns)
{
	call->deadline_ns = due_ns;
	call->deadline.fn = deadline_passed;
	timer_set(call->loop, &call->deadline, due_ns);
}

/* --- input ----------------------------------------------------------------------------------- */

static size_t message_len(const uint8_t *head)
{
	return (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
}

static void pay(struct grpc_call *call, size_t n)
{
	call->owed -= n;
	h2_credit(&call->s, n);
}

void grpc_call_drop_input(struct grpc_call *call)
{
	if (call->buffered)
		*call->buffered -= call->in.len - call->in_off;
	buf_fini(&call->in);
	call->in_off = call->in_parsed = call->ready = 0;
	pay(call, call->owed);
}

bool grpc_call_truncated(const struct grpc_call *call)
{
	return call->in.len > call->in_parsed;
}

static void fail(struct grpc_call *call, int gone, enum grpc_code code, const char *text)
{
	call->gone = gone;
	call->side->fail(call, code, text);
}

/* Finds the messages that have become complete. False: the call has failed. */
static bool parse(struct grpc_call *call)
{
	const uint8_t *head;
	size_t len;

	while (call->in.len - call->in_parsed >= GRPC_HEAD_BYTES) {
		head = call->in.data + call->in_parsed;
		len = message_len(head);
		if (head[0]) {
			call->encoding_hint = true;
			fail(call, -EBADMSG, GRPC_UNIMPLEMENTED,
			     "compressed messages are not supported");
			return false;
		}
		if (len > call->message_max) {
			fail(call, -EMSGSIZE, GRPC_RESOURCE_EXHAUSTED,
			     "message is larger than the receiver's limit");
			return false;
		}
		if (call->in.len - call->in_parsed - GRPC_HEAD_BYTES < len)
			break;
		call->in_parsed += GRPC_HEAD_BYTES + len;
		call->ready++;
	}
	return true;
}

void grpc_call_data(struct grpc_call *call, const uint8_t *data, size_t len)
{
	if (call->ended || call->discard) {
		h2_credit(&call->s, len);
		return;
	}
	call->owed += len;
	if (*call->buffered + len > GRPC_BUFFERED_MAX) {
		fail(call, -ENOBUFS, GRPC_RESOURCE_EXHAUSTED, "too many bytes of messages wait");
		return;
	}
	if (buf_append(&call->in, data, len) < 0) {
		fail(call, -ENOMEM, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	*call->buffered += len;
	if (!parse(call))
		return;
	if (call->ready)
		waitq_wake_one(&call->wait);
	else
		pay(call, call->owed); /* a message may be larger than the window */
}

/* Bytes before in_off are given back when they are the larger part. */
static void compact(struct grpc_call *call)
{
	if (call->in_off < call->in.len - call->in_off)
		return;
	buf_consume(&call->in, call->in_off);
	call->in_parsed -= call->in_off;
	call->in_off = 0;
	if (call->in.len == 0 && call->in.cap > IN_KEEP)
		buf_fini(&call->in);
}

static int take(struct grpc_call *call, struct buf *msg)
{
	const uint8_t *head = call->in.data + call->in_off;
	size_t len = message_len(head);

	require(call->in_off + GRPC_HEAD_BYTES + len <= call->in.len);
	msg->len = 0;
	if (buf_append(msg, head + GRPC_HEAD_BYTES, len) < 0)
		return -ENOMEM;
	call->in_off += GRPC_HEAD_BYTES + len;
	*call->buffered -= GRPC_HEAD_BYTES + len;
	call->ready--;
	compact(call);
	if (!call->ready)
		pay(call, call->owed);
	else if (call->owed > call->in.len - call->in_off + CREDIT_STEP)
		pay(call, call->owed - (call->in.len - call->in_off));
	return 1;
}

may_suspend int grpc_recv(struct grpc_call *call, struct buf *msg)
{
	int r;

	for (;;) {
		if (call->ready)
			return take(call, msg);
		if (call->ended && call->gone)
			return call->gone;
		if (call->s.in_end)
			return grpc_call_truncated(call) ? -EBADMSG : 0;
		if (!call->s.h2)
			return -ECONNRESET;
		r = waitq_wait(&call->wait);
		if (r < 0)
			return r;
	}
}

/* --- output ---------------------------------------------------------------------------------- */

static int sendable(const struct grpc_call *call)
{
	if (call->ended)
		return call->gone ? call->gone : -ECONNRESET;
	return call->s.h2 && !call->s.out_end ? 0 : -ECONNRESET;
}

may_suspend int grpc_send(struct grpc_call *call, const void *msg, size_t len)
{
	uint8_t head[GRPC_HEAD_BYTES] = {0, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
					 (uint8_t)(len >> 8), (uint8_t)len};
	int r = len > UINT32_MAX ? -EMSGSIZE : sendable(call);

	while (r == 0 && h2_pending(&call->s) >= GRPC_STREAM_OUT_MAX) {
		r = waitq_wait(&call->s.writable);
		if (r == 0)
			r = sendable(call);
	}
	if (r == 0 && !call->s.started)
		r = call->side->open(call);
	return r < 0 ? r : h2_write(&call->s, head, sizeof(head), msg, len);
}
