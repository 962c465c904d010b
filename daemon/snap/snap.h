/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot tree: the rules of containerd's Snapshotter interface
 * (core/snapshots/snapshotter.go), durable. Names are any bytes up to SNAPSHOT_NAME_MAX, one key
 * space for all kinds. Loop thread.
 *
 * Errors of all verbs: -ENOENT (no such snapshot), -EEXIST, -EINVAL (bad argument), -EBUSY (not in
 * the state that the verb needs), -EBADMSG (a stored record or directory is damaged), -ECANCELED,
 * -ENOSPC, -EAGAIN, -ENOMEM (resources), -EIO (the store failed; the outcome of a change is then
 * not known).
 */
#ifndef FIRSTLIGHT_SNAP_SNAP_H
#define FIRSTLIGHT_SNAP_SNAP_H

#include "fs/mount.h"
#include "fs/overlay.h"
#include "fs/tree.h"
#include "loop/task.h"
#include "snap/filter.h"
#include "store/meta.h"
#include "store/record.h"

/* What -ENOENT says behind "snapshot NAME": containerd, when it has no record, says it otherwise.
 */
#define SNAP_NOT_HERE " does not exist in firstlight"

struct loop;
struct snaps;

struct layers;
struct resolver;
struct fetcher;
struct starts;

/* What lazy layers need; all stay the caller's. */
struct snaps_lazy {
	struct layers *layers; /* NULL: every layer is unpacked the ordinary way */
	struct resolver *resolver;
	struct fetcher *fetcher;
	struct starts *starts; /* NULL: nobody is told of them */
	bool serve;            /* there is a fill mount: new layers may be lazy */
	bool erofs_file;       /* metadata images may be mounted without a loop device */
};

struct snaps_options {
	const char *root;
	uint64_t boot; /* a hash of this boot's id */
	struct mount_features features;
	bool volatile_upper; /* overlay's volatile for active snapshots */
	bool sync;           /* syncfs before a commit is acknowledged */
	bool upperdir_label; /* Stat tells the upper directory */
	struct snaps_lazy lazy;
};

/* Loads all records, moves directories without one to the trash, makes again what a power
 * cut took of directories whose record is there. meta, options and its strings stay the caller's.
 */
may_suspend int snaps_new(struct loop *loop, const struct snaps_options *options, struct meta *meta,
			  struct snaps **ret_snaps, struct err *err) must_check;

/* No verb may be running. */
may_suspend void snaps_free(struct snaps *s);

/* A snapshot as Stat and List show it. Strings live in the caller's arena. */
struct snap_info {
	struct str name;
	struct record record;
};

/* kind: SNAPSHOT_ACTIVE or SNAPSHOT_VIEW. parent empty = none. labels as record.h wants them. */
may_suspend int snaps_prepare(struct snaps *s, enum snapshot_kind kind, struct str key,
			      struct str parent, const struct label *labels, size_t labels_n,
			      struct arena *a, struct mount_answer *ret, struct err *err);
may_suspend int snaps_mounts(struct snaps *s, struct str key, struct arena *a,
			     struct mount_answer *ret, struct err *err);
/* parent: empty, or the parent that the snapshot is given now (containerd 2.2). */
may_suspend int snaps_commit(struct snaps *s, struct str name, struct str key, struct str parent,
			     const struct label *labels, size_t labels_n, struct err *err);
may_suspend int snaps_remove(struct snaps *s, struct str key, struct err *err);
may_suspend int snaps_stat(struct snaps *s, struct str key, struct arena *a, struct snap_info *ret,
			   struct err *err);
/* paths: an update mask, empty = all labels. */
may_suspend int snaps_update(struct snaps *s, struct str key, const struct label *labels,
			     size_t labels_n, const struct str *paths, size_t paths_n,
			     struct arena *a, struct snap_info *ret, struct err *err);
may_suspend int snaps_usage(struct snaps *s, struct str key, struct tree_usage *ret,
			    struct err *err);
/* Asks for the trash and the pool of unused directories to be emptied now; does not wait for it. */
void snaps_cleanup(struct snaps *s);

/* --- what is told of all (status.c) ----------------------------------------------------------- */

struct snaps_stats {
	uint64_t kinds[4]; /* by enum snapshot_kind */
	uint64_t lazy;     /* of the committed ones */
	uint64_t runs;     /* mounted metadata images */
};
void snaps_stats(const struct snaps *s, struct snaps_stats *ret);

/* A mounted metadata image. */
struct snaps_run {
	struct str top;   /* snapshot */
	uint64_t id;      /* of the mount, ROOT/m/ID */
	unsigned users;   /* snapshots whose mounts name it */
	uint32_t *layers; /* top first */
	size_t layers_n;
};
/* At most max; all in a. How many, -ENOMEM. */
int snaps_runs(const struct snaps *s, struct arena *a, struct snaps_run *ret, size_t max);

/* One snapshot of a chain, by name. */
struct snaps_link {
	struct str name; /* in the caller's arena */
	uint64_t id;
	uint32_t layer; /* the lazy layer that it is; 0 = it has files in ROOT/snapshots/ID/fs */
	bool has_dir;
	bool mounted; /* top of a run that is mounted, at ROOT/m/ID */
};
/* From name downwards, at most max. How many; -ENOENT, -ENOMEM. */
int snaps_chain(struct snaps *s, struct str name, struct arena *a, struct snaps_link *ret,
		size_t max, struct err *err);
/* A committed snapshot with that containerd.io/snapshot.ref above parent (empty: none); the name
 * lives in a. -ENOENT, -ENOMEM. */
int snaps_find_ref(struct snaps *s, struct str ref, struct str parent, struct arena *a,
		   struct str *ret);

/* While draining no layer becomes lazy. */
void snaps_drain(struct snaps *s, bool on);
bool snaps_draining(const struct snaps *s);

/* Until the trash is empty: 0, or -ETIMEDOUT, -ECANCELED; ret_left: entries that are left. */
may_suspend int snaps_empty_trash(struct snaps *s, unsigned timeout_ms, uint64_t *ret_left);

/* Has the store failed in a way that a restart would heal? */
bool snaps_want_restart(const struct snaps *s);
size_t snaps_count(const struct snaps *s);

/* A walk over all, in name order, as of its start. f may be NULL. Blocks of up to LIST_BLOCK; the
 * infos live in a until the caller empties it. Answers how many, 0 = the end. */
struct snaps_walk;
may_suspend int snaps_walk_new(struct snaps *s, const struct filter *f,
			       struct snaps_walk **ret_walk, struct err *err);
may_suspend int snaps_walk_next(struct snaps *s, struct snaps_walk *w, struct arena *a,
				struct snap_info *ret_infos, struct err *err);
may_suspend void snaps_walk_free(struct snaps_walk *w);

#endif
