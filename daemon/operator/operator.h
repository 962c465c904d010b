/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd's side: what firstlight asks of containerd, as its client. Pulls of images (their
 * layers are registered as snapshots through containerd), so that containerd knows, keeps and
 * collects all of it. The calls come back to us as snapshot requests: nothing is locked meanwhile.
 * Loop thread.
 */
#ifndef FIRSTLIGHT_OPERATOR_OPERATOR_H
#define FIRSTLIGHT_OPERATOR_OPERATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/err.h"
#include "loop/task.h"

struct containerd;
struct fetcher;
struct layers;
struct loop;
struct objects;
struct operator;
struct registry;
struct resolver;
struct snaps;
struct work;

/* All stay the caller's. */
struct operator_options {
	const char *address;     /* containerd's socket */
	const char *snapshotter; /* our name there */
	struct snaps *snaps;
	struct layers *layers;
	struct objects *objects;
	struct registry *registry; /* this and the next: NULL without lazy layers */
	struct resolver *resolver;
	struct work *threads;
};

int operator_new(struct loop *loop, const struct operator_options *options, struct operator** ret,
		 struct err *err) must_check;
/* Ends what is under way. No operator_… may be running. */
may_suspend void operator_free(struct operator* op);

struct containerd *operator_containerd(struct operator* op);
const char *operator_snapshotter(const struct operator* op);

/* A reference as containerd names the image ("docker.io/library/redis:7"); NULL: it is none. */
const char *operator_full_name(struct str ref, struct arena *a);

/* Lets containerd collect its garbage, and waits for it. -ENOTCONN, … */
may_suspend int operator_collect(struct operator* op, struct err *err);

/* --- pulls ------------------------------------------------------------------------------------ */

enum pull_phase { PULL_RESOLVING, PULL_LAYERS, PULL_READY, PULL_COMPLETE };
enum pull_state { PULL_WAITING, PULL_FETCHING, PULL_UNPACKING, PULL_LAZY, PULL_UNPACKED };

struct pull_layer {
	struct digest digest, diff_id, chain;
	const char *media_type;
	uint64_t size, bytes; /* of the blob; fetched of it */
	enum pull_state state;
	bool existed;
	bool stored;   /* its bytes are in containerd's store */
	char why[160]; /* not lazy */
};

/* For reading, until the next suspend. */
struct pull_view {
	enum pull_phase phase;
	const char *name; /* of the image */
	const char
		*away; /* why the registry gave no answer: the image is as it was; NULL = it did */
	bool has_digest;
	struct digest digest; /* of the manifest */
	const struct pull_layer *layers;
	size_t layers_n;
	uint64_t bytes, bytes_total, elapsed_ms;
};

struct pull_request {
	const char *ref, *ns, *platform; /* platform "": the host's */
	bool plain_http;
	const char *user, *secret; /* "" = the node's own */
	bool wait;                 /* until all is local */
};

/*
 * Pulls an image: its manifest, config and layers' indexes in as few round trips as there can be;
 * layers that cannot be lazy are fetched and unpacked. 0: a container can start (wait: and all is
 * local). Done again it goes on where it was, or finds all here. Whoever pulls the same meanwhile
 * joins; when nobody waits any more, it ends. report is called with each change,
 * CONTROL_PROGRESS_MS apart; negative ends the waiting. -ENOTCONN (containerd), -ENOENT, -EACCES,
 * -ENOSPC, -EBADMSG, …
 */
may_suspend int operator_pull(struct operator* op, const struct pull_request *q,
			      int (*report)(void *arg, const struct pull_view *v), void *arg,
			      struct err *err);
/* How many are under way. */
size_t operator_pulls(const struct operator* op);

#endif
