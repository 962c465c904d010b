/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of containers touch, as the kernel's page cache sees it: which object or small
 * file, which units of it, and what they execute. An object that is complete is a plain file, and
 * reads of it never reach this daemon; a BPF program sees them (bpf/access.bpf.c, on raw
 * tracepoints). Loop thread.
 *
 * What is told, once for each mount namespace and unit:
 * - contents: files named AB/KEY below ROOT/objects or below the fill mount. Nothing has to be
 * known of an image beforehand. An object with several keys is told by the name that the kernel
 * finds first. Reads through overlayfs and FUSE passthrough are those of the file below.
 * - small files of the devices that access_device() names, by device and inode number.
 * - executions of files on an overlay, the first ACCESS_EXECS_MAX of each namespace.
 * A touch is what was asked for: a read's range, up to the end of the file; of a memory map the
 * page that was missing, or the up to 64 KiB around it that were in the cache, which may lie in two
 * units. Not a touch: what the kernel reads ahead, posix_fadvise(2), O_DIRECT, and a second look at
 * a page that is mapped already. Kernels before 6.12 have only a tracepoint of pages that come into
 * the cache: there, readahead is told too, and what is in the cache already is not.
 *
 * Not told: processes in the daemon's own mount namespace and in PID 1's, and in those given to
 * access_ignore(). A namespace's number is its own for ever (mnt_ns); the one in /proc/PID/ns/mnt
 * (inum) is given away again.
 *
 * The kernel's memory of what was told is bounded (ACCESS_TOUCHED_MAX); what falls out of it may be
 * told again. What finds the ring full is lost, and counted.
 *
 * The programs are loaded once, and attached while somebody watches; else they cost nothing. Each
 * of them is optional, and all are: without BPF, its type information, the capability, or a
 * tracepoint, there is a reason in the log and in access_stats(), and the rest goes on.
 */
#ifndef FIRSTLIGHT_TRACE_ACCESS_H
#define FIRSTLIGHT_TRACE_ACCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"
#include "loop/work.h"
#include "trace/access_bpf.h"

enum access_kind {
	ACCESS_OBJECT, /* key, dev, unit, units */
	ACCESS_FILE,   /* dev, ino, unit, units */
	ACCESS_EXEC,   /* path, args, dev, cgroup */
};

struct access_event {
	enum access_kind kind;
	uint64_t time_ns; /* CLOCK_MONOTONIC, as loop_now_ns() */
	uint64_t mnt_ns;  /* of the process; never used again for another */
	uint32_t inum;    /* the same in /proc/PID/ns/mnt */
	pid_t pid;        /* of the process, which may have ended; 0: it is not seen from here */
	dev_t dev;        /* of the file; of an exec: of the overlay */
	struct digest key;
	uint64_t ino;
	uint64_t unit; /* the first of ACCESS_UNIT bytes each */
	uint64_t units;
	uint64_t cgroup; /* its number in the v2 hierarchy: the inode of its directory */
	/* As execve(2) got it: a relative one is relative; cut after ACCESS_PATH_MAX - 1 bytes. */
	const char *path;
	/* A NUL behind each, also the last, as in /proc/PID/cmdline when it began (a script: behind
	 * its interpreter); cut after ACCESS_ARGS_MAX bytes. Empty: not known. */
	struct str args;
};

struct access_options {
	const char *objects; /* the directory ROOT/objects; NULL: none */
	const char *fill;    /* where the FUSE mount is, once it is served; NULL: none */
	size_t ring_bytes;   /* a power of two; 0: ACCESS_RING_BYTES */
	/* Must not suspend; e is only valid in the call. May still come a little after the last
	 * access_unwatch(). */
	void (*event)(void *arg, const struct access_event *e);
	void *arg;
	/* For tests. */
	const char *tracepoints[ACCESS_PROGRAMS]; /* instead of the kernel's names */
	bool refused[ACCESS_PROGRAMS];            /* as if the verifier did */
	bool own_too;                             /* the own mount namespace counts */
};

struct access;

/* Loads the programs, on a thread: some 100 ms. -ENOMEM, -EAGAIN; that nothing can be loaded is no
 * error. work stays the caller's. */
may_suspend int access_new(struct loop *loop, struct work *work, const struct access_options *o,
			   struct access **ret, struct err *err) must_check;
/* Nobody may be in a call. NULL is allowed. */
may_suspend void access_free(struct access *a);

/* Counted: with the first the programs are attached, behind the last detached, on a thread. After
 * access_watch() they are. Not cancellable. */
may_suspend void access_watch(struct access *a);
may_suspend void access_unwatch(struct access *a);

/* What this namespace (an event's mnt_ns) does is not told any more, for ever. Events that are in
 * the ring still come; where too many are ignored (ACCESS_IGNORED_MAX), the longest unused one is
 * told again. */
void access_ignore(struct access *a, uint64_t mnt_ns);

/* Files of this device are told by their numbers, or no longer. -E2BIG: ACCESS_DEVICES_MAX. */
int access_device(struct access *a, dev_t dev, bool on);

struct access_stats {
	uint64_t told;   /* records in the ring, since access_new() */
	uint64_t lost;   /* records that found it full: 1 is up to ACCESS_WORD_UNITS units */
	uint64_t read;   /* records taken out of it */
	uint64_t events; /* calls of event() */
	unsigned watches;
	struct {
		const char *tracepoint;
		const char *reason; /* why it does not run, or would not; NULL: no reason */
		bool attached;
	} programs[ACCESS_PROGRAMS];
};
/* Texts live until the next call that may suspend. */
void access_stats(struct access *a, struct access_stats *ret);

#endif
