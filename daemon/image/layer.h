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
	struct map_node node;      /* key = blob and trust */
	struct list link;          /* in the order of ids */
	struct digest blob, trust; /* of the blob; of its table of contents, as the manifest says */
	uint32_t id;               /* > 0, never given twice */
	struct index_info info;
	char *refs[LAYER_REFS_MAX]; /* images that had it, newest first: where to fetch from */
	uint32_t refs_n;
	uint32_t users; /* snapshots, and who is just making one */
	bool complete;  /* all of it was local once: the background need not look again */
	bool lost;      /* its index was gone or damaged at the start */
	bool dying;
	int fd; /* of the index file, -1 = not open: layer_fd() */
	struct list fd_link;
};

/* Loads all records. What the crash of an add left is removed by layers_start(). meta, objects,
 * threads and root_fd stay the caller's. */
may_suspend int layers_new(struct loop *loop, struct meta *meta, struct objects *objects,
			   struct work *threads, int root_fd, struct layers **ret, struct err *err);

/* Once all users are counted: layers without any go, in the background, as they do from now on when
 * their last user leaves. on_remove(arg, id) is called before a layer's files go; it may suspend.
 */
int layers_start(struct layers *ls, may_suspend void (*on_remove)(void *arg, uint32_t id),
		 void *arg, struct err *err);
/* No more removals; comes before layers_free(). */
may_suspend void layers_stop(struct layers *ls);
may_suspend void layers_free(struct layers *ls);

/* By id; NULL. Valid until the next suspend unless the caller holds a user of it. */
struct layer *layers_get(struct layers *ls, uint32_t id);
/* By what it is; NULL. */
struct layer *layers_find(struct layers *ls, const struct digest *blob, const struct digest *trust);
/* One with that blob, whatever proves it; NULL. Looks at all. */
struct layer *layers_find_blob(struct layers *ls, const struct digest *blob);

/* A file for an index that is being made: an unnamed one in ROOT/layers. Threads too. -EIO,
 * -ENOSPC. */
int layers_tmpfile(const struct layers *ls, struct err *err);

/*
 * Makes a layer of the index in index_fd (from layers_tmpfile(), synced here), durable with all its
 * objects when 0 is returned. The caller is its first user. Nobody else may be adding the same.
 */
may_suspend int layers_add(struct layers *ls, const struct digest *blob, const struct digest *trust,
			   struct str ref, int index_fd, struct layer **ret, struct err *err);

void layer_use(struct layer *l);
void layer_unuse(struct layers *ls, struct layer *l);

/* The layer is in that image too: another place to fetch it from. */
may_suspend int layers_note_ref(struct layers *ls, struct layer *l, struct str ref,
				struct err *err);
/* All of it has been local: the background need not look again. */
may_suspend int layers_set_complete(struct layers *ls, struct layer *l, struct err *err);

/* The next id above `after` that has a layer; 0 = none. */
uint32_t layers_next(const struct layers *ls, uint32_t after);
/* How many there are, and of these how many are complete. */
uint64_t layers_tally(const struct layers *ls, uint64_t *ret_complete);

/* The index file, opened when needed (at most LAYER_FDS_MAX stay open). Valid until the next
 * suspend. -EIO, -ENOENT. */
int layer_fd(struct layers *ls, struct layer *l, struct err *err);

#endif
