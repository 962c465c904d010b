/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One recorded start: which parts of which files of an image were read, and when. As JSON, one
 * document:
 *
 *   {"version": 1,
 *    "image": "docker.io/library/redis:7",         reference
 *    "executable": "/usr/local/bin/redis-server",  as it is in the image; "" = not known
 *    "when_ns": 1700000000000000000,               of the start, since 1970 UTC
 *    "span_us": 5000000,                           how long it was watched
 *    "ready_us": 812000,                           when it was ready; null or missing = not known
 *    "lost": 0,                                    events that were lost
 *    "fuse_only": false,                           of files that were local nothing was seen
 *    "files": [{"path": "/lib/libc.so.6", "size": 1900000}, …],
 *    "events": [{"t_us": 120, "path": "/lib/libc.so.6", "unit": 0, "units": 2,
 *                "kind": "read"}, …]}
 *
 * Times are since the start; events are in their order. unit: of PROFILE_UNIT bytes, the first that
 * was touched; its file is in "files", once. kind: what saw it (enum recording_kind). Members that
 * are not known are passed over. Pure; any thread. Memory is the caller's arena.
 */
#ifndef FIRSTLIGHT_PREDICT_RECORDING_H
#define FIRSTLIGHT_PREDICT_RECORDING_H

#include "predict/profile.h"

#define RECORDING_VERSION 1

enum recording_kind {
	RECORDING_READ,  /* "read": through the page cache */
	RECORDING_FAULT, /* "fault": of a mapping */
	RECORDING_FUSE,  /* "fuse": a request that came to the daemon */
	RECORDING_EXEC,  /* "exec": the file is executed; moves no bytes by itself */
};

struct recording_file {
	struct str path; /* profile_path_ok() */
	uint64_t size;   /* OBJECT_SIZE_MAX at most */
};

struct recording_event {
	uint64_t t_us;
	uint32_t file;        /* in recording.files */
	uint32_t unit, units; /* begins inside of the file; units > 0, or 0 of an exec */
	enum recording_kind kind;
};

struct recording {
	struct str image, executable;
	int64_t when_ns;
	uint64_t span_us, ready_us; /* ready_us 0 = not known */
	uint64_t lost;
	bool fuse_only;
	const struct recording_file *files;
	size_t files_n;
	const struct recording_event *events; /* in the order of time */
	size_t events_n;
};

/* From anywhere; all lives in a. -EINVAL and why; -ENOTSUP: of a newer version; -ENOMEM. */
int recording_parse(struct str document, struct arena *a, struct recording *ret,
		    struct err *err) must_check;

/* Appends the document. Files whose path is no UTF-8 are left out with their events. -ENOMEM. */
int recording_write(const struct recording *r, struct buf *b) must_check;

/* The profile of that one start. -EINVAL: the image's name; -ENOMEM. */
int recording_profile(const struct recording *r, struct arena *a, struct profile *ret,
		      struct err *err) must_check;

#endif
