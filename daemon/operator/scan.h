/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd's snapshots of our name against ours. containerd answers a list only if we have all
 * that it has records of, so a record that we lack (a lost disk, a root that was put back) stands
 * in the way of its own collection too. Of these, layers are taken out of containerd, top first:
 * their images can be pulled again. Snapshots of containers are only told: who uses them has to
 * decide. What we have and no namespace knows is left to containerd's collection. Loop thread.
 */
#ifndef FIRSTLIGHT_OPERATOR_SCAN_H
#define FIRSTLIGHT_OPERATOR_SCAN_H

#include "base/arena.h"
#include "operator/operator.h"

struct scan_report {
	uint64_t snapshots, namespaces; /* that containerd has */
	uint64_t missing, repaired;     /* records that we lack; that were taken out */
	uint64_t unknown;               /* ours that no namespace knows */
	char **lines;                   /* what differs, in the arena; SCAN_LINES_MAX at most */
	size_t lines_n;
};

/* Each line goes to the log as well. -ENOTCONN, … */
may_suspend int operator_scan(struct operator* op, struct arena *a, struct scan_report *ret,
			      struct err *err);

/* Once, in the background, as soon as containerd answers. */
int operator_scan_start(struct operator* op, struct err *err);

#endif
