/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lazy layers that this host knows: their records, their index files (ROOT/layers/ID), where their
 * blobs can be fetched from. Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_LAYER_H
#define FIRSTLIGHT_IMAGE_LAYER_H

#include "base/digest.h"
#include "base/map.h"
#include "base/str.h"
#include "image/index.h"
#include "loop/sync.h"
#include "store/meta.h"
#include "store/objects.h"

#define LAYER_REFS_MAX 4

struct layers;

struct layer {
	struct map_node node;      /* blob digest ‖ trust digest */
	uint32_t id;               /* > 0, never given twice */
	struct digest blob, trust; /* of the blob; of its table of contents as the manifest says */
	struct index_info info;
	struct str
		refs[LAYER_REFS_MAX]; /* references that had it, newest first; for the registry */
	uint32_t refs_n;
	uint32_t users; /* snapshots */
	bool complete;  /* all objects were local once, and nothing was evicted since */
	int fd;         /* of the index file, -1 = not open: layer_fd() */
	struct list fd_link;
};

/* By id; NULL. Valid until the next suspend unless the caller holds a user of it. */
struct layer *layers_get(struct layers *ls, uint32_t id);

/* The index file, opened when needed (at most LAYER_FDS_MAX stay open). -EIO, -ENOENT. */
int layer_fd(struct layers *ls, struct layer *l, struct err *err);

#endif
