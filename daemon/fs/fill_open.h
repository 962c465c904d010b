/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which nodes are open, and how: passthrough or cached, never both at once. Holds a reference to
 * each open object that this worker has met. Loop thread.
 *
 * Nodes of the mount: 1 the root, then its 256 directories, then objects by their number.
 */
#ifndef FIRSTLIGHT_FS_FILL_OPEN_H
#define FIRSTLIGHT_FS_FILL_OPEN_H

#include <sys/stat.h>

#include "base/str.h"
#include "fs/fill_state.h"
#include "store/objects.h"

#define FILL_NODE_ROOT   1u
#define FILL_NODE_DIR    2u    /* 00 */
#define FILL_NODE_OBJECT 1024u /* number 0, which no object has */

static inline bool fill_is_dir(uint64_t node)
{
	return node >= FILL_NODE_ROOT && node < FILL_NODE_DIR + 256;
}

static inline bool fill_is_object(uint64_t node)
{
	return node > FILL_NODE_OBJECT;
}

/* The node of a directory by its two hex digits; 0: there is none. */
uint64_t fill_dir_node(struct str name);
struct stat fill_dir_stat(uint64_t node);
struct stat fill_object_stat(uint64_t number, uint64_t size);

struct fill_opens {
	struct objects *objects;
	struct fill_state *state;
	struct object **by_slot; /* NULL: not met by this worker */
	int fuse_fd;
	bool passthrough;
};

/* Takes the state. -ENOMEM. */
int fill_opens_init(struct fill_opens *o, struct objects *objects, struct fill_state *state,
		    struct err *err) must_check;
/* The references and the state go; what the kernel has open stays open. */
void fill_opens_fini(struct fill_opens *o);

/* The object of a node if it needs no wait, or NULL. The caller's reference. */
struct object *fill_opens_peek(struct fill_opens *o, uint64_t node);
/* What an open node had before its record went, to read on; NULL. The caller's reference. */
struct object *fill_opens_old(struct fill_opens *o, uint64_t node);
/* This one belongs to that node. */
void fill_opens_met(struct fill_opens *o, uint64_t node, struct object *obj);

/* Counts an open, before its answer; unique may be of one that is asked again. Answers the backing
 * id, or 0: cached. */
uint32_t fill_opens_add(struct fill_opens *o, uint64_t unique, uint64_t node, struct object *obj);
/* The kernel did not take the answer. */
void fill_opens_undo(struct fill_opens *o, uint64_t node);
/* Counts a release, once. */
void fill_opens_release(struct fill_opens *o, uint64_t unique, uint64_t node);

#endif
