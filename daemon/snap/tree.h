/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What snap/ shares inside: the tree in memory. It holds what the rules need (names, parents,
 * states); labels and times are only in the store. A name that is being made, changed or removed is
 * in the map too, with its state, until the store has answered.
 */
#ifndef FIRSTLIGHT_SNAP_TREE_H
#define FIRSTLIGHT_SNAP_TREE_H

#include <inttypes.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/map.h"
#include "fs/syncfs.h"
#include "loop/scope.h"
#include "loop/work.h"
#include "snap/snap.h"
#include "store/meta.h"

enum snap_state {
	SNAP_STABLE,
	SNAP_CREATING, /* not in the store yet */
	SNAP_CHANGING, /* a label update, a commit of it, or its removal is on the way */
};

/* The mounted metadata image of lazy layers that follow each other; run.c. */
struct run {
	enum { RUN_UNKNOWN, RUN_WORKING, RUN_MOUNTED } state;
	unsigned users; /* snapshots whose mounts name it */
	bool idle;      /* a task waits to unmount it */
	bool filling;   /* its full image is being made */
};

/* Snapshots that carry the same containerd.io/snapshot.ref. */
struct snap_ref {
	struct map_node node; /* key behind this struct */
	struct list snaps;    /* snap.ref_link */
};

struct snap {
	struct map_node node; /* key = name, behind this struct */
	struct snap *parent;
	uint64_t id, boot;
	uint32_t layer;  /* the lazy layer that it is; 0 = none */
	struct run *run; /* of a lazy one that is the top of a run in use, or may be */
	struct snap_ref *ref;
	struct list ref_link;
	int64_t size, inodes;
	uint32_t depth; /* number of parents */
	uint32_t children;
	uint8_t kind, state;
	bool idmapped; /* its labels hold id mappings */
	bool lower; /* it may have been a lower directory: it has had children, or is from before */
	bool owner_known;
	uid_t uid; /* of its fs directory */
	gid_t gid;
	bool broken;    /* its directory or parent is gone: no mounts */
	bool unpacking; /* made for a layer to be unpacked into */
	bool holds_runs;
};

/*
 * Ids of snapshots that are gone and whose directories, still in ROOT/snapshots, serve again: first
 * it only seems that nobody has used them, the reaper then looks. Rings, oldest first.
 */
struct id_ring {
	size_t first, n;
	struct {
		uint64_t id;
		uint64_t mark; /* of syncfs: usable once it is covered */
	} ids[DIR_POOL_MAX];
};

struct pool {
	struct id_ring unused; /* to be looked at */
	struct id_ring ready;
	uid_t uid; /* whose a new directory is */
	gid_t gid;
	bool has_flags;
	uint32_t xflags, projid; /* of a new directory */
	bool drop;               /* all of it is to be trash */
	struct waitq filled;
};

struct snaps {
	struct loop *loop;
	struct meta *meta;
	struct work *fs, *reapers;
	struct map map;
	struct waitq settled; /* some snapshot has become stable or gone */
	uint64_t next_id, boot;
	char *dir; /* ROOT/snapshots */
	int dir_fd, trash_fd;
	struct snaps_options options;
	struct scope scope; /* the reaper */
	struct waitq trash_filled;
	bool trash_kicked;
	struct syncfs sync;
	struct pool pool;
	struct map refs;   /* snap_ref.node */
	int meta_fd, m_fd; /* ROOT/meta, ROOT/m; -1 without lazy layers */
	struct waitq runs_changed;
	struct mutex full;         /* one full image at a time */
	uint64_t kinds[4], lazy_n; /* in the map; by enum snapshot_kind */
	uint64_t runs_n;           /* mounted */
	bool draining;             /* no layer becomes lazy */
};

/* --- tree.c --- */

/* A new element, not in the map; NULL = no memory. */
struct snap *snap_new(struct str name, enum snapshot_kind kind, uint64_t id);
void snap_link(struct snaps *s, struct snap *sn, struct snap *parent);
void snap_count(struct snaps *s, const struct snap *sn, int n); /* in the map: +1, -1 */
/* Out of memory only. */
void snap_free(struct snaps *s, struct snap *sn);
/* Out of the map, away from its parent, freed. */
void snap_drop(struct snaps *s, struct snap *sn);
struct snap *snap_find(struct snaps *s, struct str name);
static inline struct str snap_name(const struct snap *sn)
{
	return sn->node.key;
}

/* A view of something shows its parents only. */
static inline bool snap_has_dir(const struct snap *sn)
{
	return !sn->layer && (sn->kind != SNAPSHOT_VIEW || !sn->parent);
}

/* What was under way with sn has ended. */
void snap_settle(struct snaps *s, struct snap *sn);
/* The snapshot of that name once nothing is under way with it; *ret NULL = there is none.
 * -ECANCELED. */
may_suspend int snap_settled(struct snaps *s, struct str name, struct snap **ret, struct err *err);
/* Two names settled at the same moment. */
may_suspend int snap_settled2(struct snaps *s, struct str a, struct snap **ret_a, struct str b,
			      struct snap **ret_b, struct err *err);

static inline int snap_not_found(struct str name, struct err *err)
{
	return err_set(err, -ENOENT, "snapshot " STR_FMT SNAP_NOT_HERE, STR_ARG(name));
}

int snap_name_check(struct str name, const char *what, struct err *err);
int labels_check(const struct label *labels, size_t n, struct err *err);

#define LABEL_UIDMAP STR("containerd.io/snapshot/uidmapping")
#define LABEL_GIDMAP STR("containerd.io/snapshot/gidmapping")
bool has_idmap(const struct label *labels, size_t n);

void change_put(struct meta_change *c, struct str name, const struct buf *value);
void change_del(struct meta_change *c, struct str name);

/* load.c: before anything else runs. */
may_suspend int snaps_load(struct snaps *s, struct err *err);

/* dirs.c: what runs on the fs threads. */
struct dirs_make {
	struct snaps *s;
	uint64_t id, parent_id; /* parent_id 0 = none */
	bool active;
	bool reused; /* it is there: from pool_take() */
	bool owned;  /* uid, gid are given */
	uid_t uid;
	gid_t gid;
	struct err *err;
};
/* Makes snapshots/ID; what a failure leaves goes to the trash. */
int dirs_make_job(void *arg);
/* Makes what of snapshots/ID is missing, and takes nothing away. */
int dirs_repair(const struct dirs_make *m);
may_suspend int dirs_trash(struct snaps *s, uint64_t id, struct err *err);
int dirs_trash_now(struct snaps *s, uint64_t id, struct err *err);
/* Removes the mark that a volatile mount leaves in the work directory. */
may_suspend int dirs_clear_volatile(struct snaps *s, uint64_t id, struct err *err);

/* pool.c: directories that nobody has used serve again. */

/* An id whose directory is ready, 0 = none. The directory is then the caller's. */
uint64_t pool_take(struct snaps *s);
/* A snapshot that is gone and that, as it seems, nobody has used: the reaper looks. false: no room.
 */
bool pool_offer(struct snaps *s, uint64_t id);
/* All that waits becomes trash, soon. */
void pool_drop(struct snaps *s);
/* For the reaper: the next one to look at, or to drop; 0 = none. */
uint64_t pool_next(struct snaps *s);
/* On a thread: is snapshots/ID as it was made? */
bool pool_fit(const struct snaps *s, uint64_t id);
void pool_put(struct snaps *s, uint64_t id);
/* Starts the task that makes directories usable when no commit does it. */
int pool_start(struct snaps *s, struct err *err);

/* run.c: metadata images of lazy layers, made, mounted and counted. */

int runs_init(struct snaps *s, struct err *err);
/* Mounts what sn's parents need and counts sn as a user; nothing to do without lazy layers. sn's
 * chain does not change meanwhile (it has a child or is unstable). */
may_suspend int runs_acquire(struct snaps *s, struct snap *sn, struct err *err);
void runs_release(struct snaps *s, struct snap *sn);
/* Is all of the run of top here, and the layer in it? 0: any layer. */
bool run_complete(const struct snaps *s, const struct snap *top, uint32_t layer);
/* All of the layer is here: runs that are complete now get a full image. */
void runs_complete(struct snaps *s, uint32_t layer);
/* The run of top is complete: unless it has its full image, that is made. */
void run_fill(struct snaps *s, struct snap *top);
/* At the start, before the first acquire: sn was there before. */
void runs_recount(struct snaps *s, struct snap *sn);
/* A lazy snapshot goes: so do its image and mount. */
void runs_forget(struct snaps *s, struct snap *sn);
/* Is sn the first of a run, seen from what is above it? */
static inline bool run_top(const struct snap *above, const struct snap *sn)
{
	return sn->layer && (!above || !above->layer || above->kind != SNAPSHOT_COMMITTED);
}
/* At the start, on a thread: mounts and images that no snapshot has. */
void runs_clean(struct snaps *s);

/* ref.c: snapshots by their reference. */
#define LABEL_REF STR("containerd.io/snapshot.ref")
int ref_set(struct snaps *s, struct snap *sn, const struct label *labels, size_t n);
void ref_clear(struct snaps *s, struct snap *sn);
/* The lazy one of that reference above p; NULL. */
struct snap *ref_find(struct snaps *s, struct str ref, const struct snap *p);
/* Any committed one. */
struct snap *ref_find_any(struct snaps *s, struct str ref, const struct snap *p);

/* lazy.c */
/* Labels of a layer that may be lazy? Commits it and answers -EEXIST; anything else (cause in err)
 * is for the ordinary path, but -ECANCELED. */
may_suspend int lazy_prepare(struct snaps *s, struct str parent, const struct label *labels,
			     size_t labels_n, struct err *err);
/* What is not complete is fetched. */
int lazy_start(struct snaps *s, struct err *err);
/* The container of sn, whose runs are mounted, is going to start. */
void lazy_starting(struct snaps *s, const struct snap *sn);
void lazy_unuse(struct snaps *s, uint32_t layer);

/* trash.c */
int trash_start(struct snaps *s, struct err *err);
void trash_kick(struct snaps *s);

#endif
