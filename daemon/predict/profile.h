/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program of an image reads when it starts: in order, with times, learnt from one start
 * after the other. By path, not by content, so that it serves the image's next version too. Pure;
 * any thread. Memory is the caller's arena; strings stay where they were given.
 *
 * Merging. Each unit of PROFILE_UNIT bytes has a weight, about the part of the starts that read it.
 * A start counts as 1/k, k = starts so far + 1, but PROFILE_MERGE_STARTS at most: so the first few
 * are a mean, and then each start that lacks a unit takes a quarter of its weight. Hence
 *   - equal starts change nothing, and all weights become and stay PROFILE_WEIGHT_ONE;
 *   - what a new version of the program does not read any more is gone after 8 starts (3/4 to the
 *     8th < 1/8 = PROFILE_WEIGHT_MIN), and not predicted any more after 5 (PREDICT_WEIGHT_MIN);
 *   - of two behaviours in turn each stays between 3/7 and 4/7, and both are kept;
 *   - what was read once (1/4) is gone after 3 more starts.
 * A start that was not seen whole (events lost; only what came through FUSE) lowers no weight. One
 * without any use changes nothing.
 *
 * Times. Starts are slow or fast as a whole: a cold one may take ten times as long. So a start's
 * times are first stretched to where the units that both have lie (by the sum of their times),
 * blended by 1/k, and then all times are stretched by 1/k of the way to the start's own length. The
 * order of what lies between two common units stays between them, and equal starts converge to
 * their own times.
 */
#ifndef FIRSTLIGHT_PREDICT_PROFILE_H
#define FIRSTLIGHT_PREDICT_PROFILE_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"

#define PROFILE_WEIGHT_ONE 65536u
#define PROFILE_WEIGHT_MIN (PROFILE_WEIGHT_ONE / 8)
#define PROFILE_UNIT_END   ((uint32_t)(OBJECT_SIZE_MAX / PROFILE_UNIT))

struct profile_use {
	uint32_t path;        /* in profile.paths */
	uint32_t unit, units; /* first, and how many; units > 0 */
	uint32_t at_us;       /* since the start */
	uint32_t weight;      /* 1 to PROFILE_WEIGHT_ONE */
};

struct profile {
	struct str repository;   /* of the image, without tag and digest */
	struct str executable;   /* as it is in the image; empty = not known */
	uint32_t starts, whole;  /* that went into it; of them those that were seen whole */
	int64_t last_ns;         /* of the last one, since 1970 UTC; not negative */
	uint32_t span_us;        /* how long starts were watched, mean */
	const struct str *paths; /* ordered by bytes, none twice, each has a use */
	size_t paths_n;
	const struct profile_use *uses; /* ordered by time, path, unit; no unit of a path twice */
	size_t uses_n;
};

/* Absolute, no "//", no "." or ".." in it, no '/' at the end, no NUL, PROFILE_PATH_MAX at most? */
bool profile_path_ok(struct str path);
/* Printable ASCII without spaces, REF_MAX at most, no digest and no tag? */
bool profile_repository_ok(struct str repository);
/* The part of an image's reference before tag and digest; of the same memory. */
struct str profile_repository_of(struct str reference);

/* All that is said above about p's members. -EINVAL and which is wrong; -ENOMEM. */
int profile_check(const struct profile *p, struct err *err) must_check;

/* The order of a profile's uses, for qsort(). */
int profile_use_order(const void *a, const void *b);

/* --- from starts ------------------------------------------------------------------------------ */

struct profile_event {
	struct str path;
	uint32_t unit, units;
	uint64_t at_us; /* since the start */
};

struct profile_start {
	struct str repository, executable;
	int64_t when_ns;
	uint64_t span_us;                   /* how long it was watched */
	bool whole;                         /* no event lost, and what was local was seen too */
	const struct profile_event *events; /* in the order of time */
	size_t events_n;
};

/* A profile of one start. The first use of a unit counts; neighbours that are used within
 * PROFILE_JOIN_US become one use. Events that no file can have are left out, and of too many the
 * last. -EINVAL: repository or executable; -ENOMEM. */
int profile_build(const struct profile_start *s, struct arena *a, struct profile *ret,
		  struct err *err) must_check;

/* old with one more start, new (of profile_build()); the key is old's. What is too much for the
 * bounds goes: the least weight first, of those the latest. Takes milliseconds, as profile_build()
 * of many events does: on a thread. -ENOMEM. */
int profile_merge(const struct profile *old, const struct profile *new, struct arena *a,
		  struct profile *ret, struct err *err) must_check;

/* --- as bytes (include/format.h) -------------------------------------------------------------- */

/* Append. p must be one that profile_check() takes. -ENOMEM. */
int profile_key_encode(const struct profile *p, struct buf *key) must_check;
int profile_encode(const struct profile *p, struct buf *value) must_check;

/* How many bytes profile_encode() makes. */
size_t profile_size(const struct profile *p);

/* Strings point into key and value. -EBADMSG: no profile; -ENOTSUP: of a newer version; -ENOMEM. */
int profile_decode(struct str key, struct str value, struct arena *a, struct profile *ret,
		   struct err *err) must_check;

/* --- as JSON -----------------------------------------------------------------------------------
 *
 *   {"version": 1,
 *    "repository": "docker.io/library/redis", "executable": "/usr/local/bin/redis-server",
 *    "starts": 12, "whole": 12, "last_ns": 1700000000000000000, "span_us": 5000000,
 *    "uses": [{"path": "/lib/libc.so.6", "unit": 0, "units": 2, "at_us": 120,
 *              "weight": 65536}, …]}
 *
 * The members are those of struct profile; uses may be in any order.
 */

#define PROFILE_JSON_VERSION 1

/* Appends one document, with a new line behind it. JSON cannot say a path that is no UTF-8: its
 * uses are left out. -EINVAL: the same of the executable; -ENOMEM. */
int profile_json(const struct profile *p, struct buf *b, struct err *err) must_check;

/* Such a document, from anywhere; members that are not known are passed over. All lives in a.
 * -EINVAL and why; -ENOTSUP: of a newer version; -ENOMEM. */
int profile_from_json(struct str document, struct arena *a, struct profile *ret,
		      struct err *err) must_check;

#endif
