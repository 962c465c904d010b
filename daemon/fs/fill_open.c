// SPDX-License-Identifier: Apache-2.0
/* Nodes and their opens. Owns the state and a reference to each open object. Loop thread. */
#include "fs/fill_open.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/fill_wire.h"

#include "base/banned.h"

#define INO_DIR (1ull << 62) /* + node: numbers of objects are inode numbers */

/* --- nodes ------------------------------------------------------------------------------------ */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

uint64_t fill_dir_node(struct str name)
{
	int high, low;

	if (name.len != 2)
		return 0;
	high = hex_value(name.p[0]);
	low = hex_value(name.p[1]);
	return high < 0 || low < 0 ? 0 : FILL_NODE_DIR + (uint64_t)(high * 16 + low);
}

struct stat fill_dir_stat(uint64_t node)
{
	return (struct stat){.st_ino = INO_DIR + node,
			     .st_mode = S_IFDIR | 0555,
			     .st_nlink = node == FILL_NODE_ROOT ? 2 + 256 : 2,
			     .st_blksize = 4096};
}

struct stat fill_object_stat(uint64_t number, uint64_t size)
{
	return (struct stat){.st_ino = number,
			     .st_mode = S_IFREG | 0444,
			     .st_nlink = 1,
			     .st_size = (off_t)size,
			     .st_blocks = (blkcnt_t)((size + 511) / 512),
			     .st_blksize = 4096};
}

/* --- life ------------------------------------------------------------------------------------- */

int fill_opens_init(struct fill_opens *o, struct objects *objects, struct fill_state *state,
		    struct err *err)
{
	*o = (struct fill_opens){.objects = objects, .state = state, .fuse_fd = -1};
	o->by_slot = calloc(fill_state_slots(state), sizeof(struct object *));
	return o->by_slot ? 0 : err_errno(err, -ENOMEM, "open objects");
}

void fill_opens_fini(struct fill_opens *o)
{
	for (size_t i = 0; o->by_slot && i < fill_state_slots(o->state); i++) {
		if (o->by_slot[i])
			object_unref(o->objects, o->by_slot[i]);
	}
	free(o->by_slot);
	fill_state_close(o->state);
}

void fill_opens_met(struct fill_opens *o, uint64_t node, struct object *obj)
{
	size_t slot = fill_state_find(o->state, node);

	if (slot == FILL_NO_SLOT || (o->by_slot[slot] && !o->by_slot[slot]->gone))
		return;
	if (o->by_slot[slot])
		object_unref(o->objects, o->by_slot[slot]);
	o->by_slot[slot] = object_ref(obj);
}

struct object *fill_opens_old(struct fill_opens *o, uint64_t node)
{
	size_t slot = fill_state_find(o->state, node);
	struct object *obj = slot != FILL_NO_SLOT ? o->by_slot[slot] : NULL;

	return obj ? object_ref(obj) : NULL;
}

struct object *fill_opens_peek(struct fill_opens *o, uint64_t node)
{
	size_t slot = fill_state_find(o->state, node);
	struct object *obj = slot != FILL_NO_SLOT ? o->by_slot[slot] : NULL;

	if (obj && !obj->gone)
		return object_ref(obj);
	obj = objects_peek(o->objects, node - FILL_NODE_OBJECT);
	if (obj)
		fill_opens_met(o, node, obj);
	return obj;
}

/* --- counting --------------------------------------------------------------------------------- */

/* All opens of a node are of one mode until the last has gone; who is first decides. */
static enum fill_mode mode_choose(struct fill_opens *o, const struct object *obj,
				  uint32_t *ret_backing)
{
	int id;

	*ret_backing = 0;
	if (!o->passthrough || !obj->complete || obj->damaged || !fill_state_complete(o->state))
		return FILL_CACHED;
	id = wire_backing_open(o->fuse_fd, obj->fd);
	if (id < 0) {
		log_warn("no passthrough object=%llu error=\"%s\"", (unsigned long long)obj->number,
			 strerror(-id));
		o->passthrough = id == -ENOMEM; /* the others stay */
		return FILL_CACHED;
	}
	*ret_backing = (uint32_t)id;
	return FILL_PASSTHROUGH;
}

static size_t slot_first(struct fill_opens *o, uint64_t node, const struct object *obj)
{
	uint32_t backing;
	enum fill_mode mode = mode_choose(o, obj, &backing);
	size_t slot = fill_state_first(o->state, node, mode, backing);

	if (slot != FILL_NO_SLOT)
		return slot;
	if (fill_state_complete(o->state))
		log_warn("too many open objects: no passthrough for new ones");
	if (backing)
		wire_backing_close(o->fuse_fd, backing);
	fill_state_untracked(o->state);
	return FILL_NO_SLOT;
}

static void slot_less(struct fill_opens *o, size_t slot)
{
	uint32_t backing = fill_state_backing(o->state, slot);
	bool passthrough = fill_state_mode(o->state, slot) == FILL_PASSTHROUGH;
	struct object *obj;

	if (!fill_state_less(o->state, slot))
		return;
	obj = take_ptr(o->by_slot[slot]);
	if (obj)
		object_unref(o->objects, obj);
	if (passthrough)
		wire_backing_close(o->fuse_fd, backing);
}

uint32_t fill_opens_add(struct fill_opens *o, uint64_t unique, uint64_t node, struct object *obj)
{
	uint64_t id = unique & ~WIRE_RESEND_BIT;
	size_t slot = fill_state_find(o->state, node);

	if (slot == FILL_NO_SLOT)
		slot = slot_first(o, node, obj);
	else if (id == unique || !fill_state_was_opened(o->state, id))
		fill_state_again(o->state, slot);
	fill_state_opened(o->state, id);
	fill_opens_met(o, node, obj);
	if (slot == FILL_NO_SLOT || fill_state_mode(o->state, slot) != FILL_PASSTHROUGH)
		return 0;
	return fill_state_backing(o->state, slot);
}

void fill_opens_undo(struct fill_opens *o, uint64_t node)
{
	size_t slot = fill_state_find(o->state, node);

	if (slot != FILL_NO_SLOT)
		slot_less(o, slot);
}

void fill_opens_release(struct fill_opens *o, uint64_t unique, uint64_t node)
{
	uint64_t id = unique & ~WIRE_RESEND_BIT;
	size_t slot = fill_state_find(o->state, node);

	if (slot == FILL_NO_SLOT || (id != unique && fill_state_was_releasing(o->state, id)))
		return;
	fill_state_releasing(o->state, id);
	slot_less(o, slot);
}
