/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mounts that a snapshot answers, as containerd's overlayfs snapshotter makes them (facts:
 * containerd plugins/snapshots/overlay). Pure strings; whoever asked does the mounting.
 */
#ifndef FIRSTLIGHT_FS_OVERLAY_H
#define FIRSTLIGHT_FS_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

struct overlay_spec {
	const char *snapshots; /* absolute path of ROOT/snapshots */
	uint64_t id;
	bool active;             /* else a view */
	const uint64_t *parents; /* nearest first */
	size_t parents_n;
	const char *root; /* with runs: ROOT */
	const bool *
		runs; /* which parents are runs of lazy layers, mounted at ROOT/m/ID; NULL = none */
	bool data;    /* file contents of the runs are wanted, not only their metadata */
	bool index_off, userxattr, volatile_upper; /* options to give */
	struct str uidmap, gidmap;                 /* empty = none */
};

struct mount_answer {
	char *type, *source;
	char *options[10];
	size_t options_n;
};

/* Strings live in a. -ENOMEM; -E2BIG: more layers than a page of mount options holds. */
int overlay_mount(const struct overlay_spec *s, struct arena *a, struct mount_answer *ret,
		  struct err *err) must_check;

#endif
