/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all services share: a call's memory, its message, its answer. Every request is decoded into
 * an arena with a cap, so that no message can cost more than that. Loop thread.
 */
#ifndef FIRSTLIGHT_API_REQUEST_H
#define FIRSTLIGHT_API_REQUEST_H

#include "fs/mount.h"
#include "net/grpc.h"
#include "proto/snapshots.pb-c.h"
#include "snap/snap.h"

struct fetcher;
struct fill;
struct layers;
struct objects;
struct operator;
struct profiles;
struct registry;
struct starts;

/* What the handlers serve; all stay main's. */
struct services {
	struct loop *loop;
	struct snaps *snaps;
	struct layers *layers;
	struct objects *objects;
	struct registry *registry; /* this and the next two: NULL without lazy layers */
	struct fetcher *fetcher;
	struct fill *fill;
	struct starts *starts; /* NULL without lazy layers */
	struct profiles *profiles;
	struct operator* operator;
	struct work *threads;
	const struct mount_features *features;
	uint64_t store_max;
	const char *root, *state, *address, *containerd_address;
	const char *lazy_off; /* why no layer is lazy; NULL = they are */
	bool passthrough;
	uint64_t start_ns; /* of this worker */
	pid_t keeper;
};

/* One call: its memory and the answer. */
struct request {
	struct grpc_call *call;
	struct services *svc;
	struct arena arena;
	ProtobufCAllocator allocator;
	struct buf bytes;
	struct err *err;
};
#define auto_request cleanup(request_fini)

/* arg: the services. */
void request_init(struct request *q, struct grpc_call *call, void *arg, struct err *err);
void request_fini(struct request *q);

/* gRPC's code for 0 or a negative errno. */
enum grpc_code request_code(int r);

/* The call's one message as type; strings live in the arena. -EINVAL, -ENOMEM, as grpc_recv(). */
may_suspend int request_read(struct request *q, const ProtobufCMessageDescriptor *type,
			     void *ret_message);
/* Sends a message; more than one in a stream. */
may_suspend int request_answer(struct request *q, const ProtobufCMessage *message);
may_suspend int request_answer_empty(struct request *q);

/* In the arena; NULL = no memory. */
Fl__Timestamp *request_time(struct request *q, int64_t ns);
char *request_text(struct request *q, struct str s);
Fl__Info *request_info(struct request *q, const struct snap_info *in);
/* Points into m. */
void request_mount(const struct mount_answer *m, Fl__Mount *ret);

#endif
