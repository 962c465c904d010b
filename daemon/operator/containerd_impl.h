/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of containerd.h: the connection and calls in containerd.c, content in
 * containerd_content.c. Loop thread. */
#ifndef FIRSTLIGHT_OPERATOR_CONTAINERD_IMPL_H
#define FIRSTLIGHT_OPERATOR_CONTAINERD_IMPL_H

#include "loop/sync.h"
#include "operator/containerd.h"

/* A connection lives until its last call has ended. */
struct containerd_link {
	struct grpc_client *client;
	unsigned users;
};

struct containerd {
	struct loop *loop;
	const char *address;
	struct containerd_link *link; /* NULL = none yet */
	struct mutex dialling;
};

/* The caller's use of it; -ENOTCONN. */
may_suspend int containerd_link_get(struct containerd *c, struct containerd_link **ret,
				    struct err *err);
may_suspend void containerd_link_put(struct containerd_link *l);

/* How many. */
size_t containerd_metadata(const struct containerd_at *at, struct grpc_metadata md[2]);
/* Replaces what ret holds. -ENOMEM. */
int containerd_pack(const ProtobufCMessage *m, struct buf *ret);
/* NULL: not valid, or the arena is full. */
ProtobufCMessage *containerd_unpack(const ProtobufCMessageDescriptor *type, const struct buf *bytes,
				    struct arena *a);

#endif
