/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of containerd's services (include/proto/containerd.proto). One connection, dialled when
 * it is needed and again when it broke; every call has a deadline (CONTAINERD_TIMEOUT_MS unless
 * told). Errors are those of gRPC's codes as grpc_code_errno() gives them: -ENOENT, -EEXIST, …;
 * -ENOTCONN: containerd is not there, err says where. What containerd answers is bounded by the
 * arena that the caller gives. Loop thread.
 */
#ifndef FIRSTLIGHT_OPERATOR_CONTAINERD_H
#define FIRSTLIGHT_OPERATOR_CONTAINERD_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/task.h"
#include "net/grpc.h"
#include "proto/containerd.pb-c.h"

struct containerd;
struct loop;

/* address: of its socket; stays the caller's. */
int containerd_new(struct loop *loop, const char *address, struct containerd **ret,
		   struct err *err) must_check;
/* No call may be running. */
may_suspend void containerd_free(struct containerd *c);

/* Where a call belongs. */
struct containerd_at {
	const char *ns;
	const char *lease; /* NULL = none */
};

/* One message there, one back, which lives in a. service: "images.v1.Images", method: "Get". */
may_suspend int containerd_call(struct containerd *c, const struct containerd_at *at,
				const char *service, const char *method,
				const ProtobufCMessage *request,
				const ProtobufCMessageDescriptor *answer, unsigned timeout_ms,
				struct arena *a, void *ret_answer, struct err *err);

/* A stream of answers: each is given to fn, which must not suspend; negative ends the call. The
 * message lives until fn returns, its strings in the arena until the next. */
may_suspend int containerd_stream(struct containerd *c, const struct containerd_at *at,
				  const char *service, const char *method,
				  const ProtobufCMessage *request,
				  const ProtobufCMessageDescriptor *answer,
				  int (*fn)(void *arg, const ProtobufCMessage *answer), void *arg,
				  struct err *err);

/*
 * After r of a call that led back to us: containerd has lost us (we were restarted) and looks for
 * us again after a while. true: it is worth another try now. Waits; waited_ms starts at 0, and
 * CONTAINERD_RECONNECT_MS is the end.
 */
may_suspend bool containerd_finds_us(int r, const struct err *err, unsigned *waited_ms);

/* The whole of a small content, verified against its digest. -EFBIG (max), -EBADMSG, -ENOENT. */
may_suspend int containerd_content_read(struct containerd *c, const struct containerd_at *at,
					const struct digest *digest, size_t max, struct buf *ret,
					struct err *err);

/* --- writing content -------------------------------------------------------------------------- */

/*
 * An ingest. Opened with the name that containerd's own client would use for it, so that a pull by
 * that client waits for it, and takes up what an earlier one left.
 */
struct containerd_writer {
	struct grpc_call *call; /* NULL = closed */
	struct containerd *c;
	struct containerd_link *link;
	const char *ref;
	uint64_t offset, total;
	struct buf bytes;
};

/* -EEXIST: it is there already, nothing is open. Waits for others that write the same. offset is
 * what an earlier try has left. ref and digest stay the caller's. Also after an error
 * containerd_writer_end() is allowed. */
may_suspend int containerd_writer_open(struct containerd *c, const struct containerd_at *at,
				       const char *ref, const struct digest *digest, uint64_t size,
				       struct containerd_writer *ret, struct err *err);
/* Appends, at most CONTAINERD_WRITE_MAX bytes. */
may_suspend int containerd_writer_put(struct containerd_writer *w, const void *data, size_t n,
				      struct err *err);
/* All is there: verified by containerd, which answers once it is durable. Labels are put on it. */
may_suspend int containerd_writer_commit(struct containerd_writer *w, const struct digest *digest,
					 Fl__Label **labels, size_t labels_n, struct err *err);
/* Closes; what is not committed stays for the next try. */
may_suspend void containerd_writer_end(struct containerd_writer *w);

/* All at once; labels are set also when it is there already. */
may_suspend int containerd_content_put(struct containerd *c, const struct containerd_at *at,
				       const char *ref, const struct digest *digest,
				       struct str data, Fl__Label **labels, size_t labels_n,
				       struct err *err);
/* Sets labels of a content; the others stay. */
may_suspend int containerd_content_label(struct containerd *c, const struct containerd_at *at,
					 const struct digest *digest, Fl__Label **labels,
					 size_t labels_n, struct err *err);

#endif
