/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a pull: who waits in operator.c, its steps in pull.c, its layers in pull_layer.c,
 * bytes of layers in pull_blob.c. Loop thread. */
#ifndef FIRSTLIGHT_OPERATOR_PULL_H
#define FIRSTLIGHT_OPERATOR_PULL_H

#include "base/arena.h"
#include "base/list.h"
#include "loop/scope.h"
#include "loop/sync.h"
#include "operator/containerd.h"
#include "operator/manifest.h"
#include "operator/operator.h"

struct operator
{
	struct loop *loop;
	struct operator_options options;
	struct containerd *containerd;
	struct scope scope; /* of pulls */
	struct list pulls;  /* pull.link */
	size_t pulls_n;
	struct mutex scanning;
};

struct pull {
	struct list link;
	struct operator* op;
	struct arena arena; /* all that it knows */
	unsigned waiters;
	struct task *task;
	struct waitq changed;
	bool ended, left; /* left: nobody waits for it */
	int result;
	struct err err;
	uint64_t start_ns;

	const char *name;       /* "docker.io/library/redis:7" */
	const char *host;       /* "docker.io" */
	const char *repository; /* "library/redis" */
	struct platform platform;
	struct containerd_at at;
	struct registry *registry;
	bool offline;     /* nothing may be fetched */
	const char *away; /* pull_view */

	enum pull_phase phase;
	struct descriptor target, manifest_at;
	struct buf index_body, manifest_body, config_body;
	struct index_list index; /* n 0 = there is none */
	struct manifest manifest;
	struct pull_layer *layers;
	size_t layers_n;
	size_t ordinary;      /* from this layer on they are unpacked; layers_n = none */
	struct scope blobs;   /* their downloads */
	size_t blobs_running; /* at most PULL_BLOBS_MAX */
	int blob_result;
	struct err blob_err;
};

/* Tells those who wait. */
void pull_changed(struct pull *p);
/* The task: all up to READY. */
may_suspend int pull_task(void *arg);
/* What is written meanwhile stays until it is given up, or PULL_LEASE_S. */
may_suspend int pull_lease_take(struct pull *p, struct err *err);
may_suspend void pull_lease_give(struct pull *p);
/* Stored layers hang on the manifest from now on, the snapshots on the config. */
may_suspend int pull_references(struct pull *p, struct err *err);
/* Registers the layers, bottom to top. */
may_suspend int pull_layers(struct pull *p, struct err *err);

/* Has containerd the top layer still? Somebody may have repaired what was lost at the same time. */
may_suspend bool pull_is_whole(struct pull *p);

/* --- pull_blob.c ------------------------------------------------------------------------------ */

/* Downloads layers[from ..] into containerd's store, several at once. */
int pull_blobs_start(struct pull *p, size_t from, struct err *err);
/* Until layer i's bytes are there. */
may_suspend int pull_blob_wait(struct pull *p, size_t i, struct err *err);

/* A label for messages, in the pull's arena; NULL = no memory. */
Fl__Label *pull_label(struct pull *p, const char *key, const char *value);
/* "containerd.io/distribution.source.<host>": the repository. */
Fl__Label *pull_source_label(struct pull *p);

#endif
