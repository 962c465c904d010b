/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts of containers. Each container of a lazy image is watched from its Prepare on: what it
 * touches comes from trace/access.h (or from the FUSE mount, where BPF is not to be had), becomes a
 * profile of its program (predict/), and the next start of that program has it fetched ahead.
 *
 * Whose an event is: of the mount namespace, whose root is an overlay with an upper directory of
 * ours; /proc/PID/mountinfo of one of its processes tells, once for each namespace. Until then its
 * events wait. Namespaces that are none of our business are not told any more.
 *
 * Entry: what a profile is of. The first program that the container executes; if a regular file of
 * the image is among its first arguments, that file instead (a script, a jar, a configuration):
 * so two scripts of one interpreter have a profile each.
 *
 * A watch ends when nothing new was touched for a while, after a time in any case, and with the
 * snapshot. Loop thread.
 */
#ifndef FIRSTLIGHT_START_STARTS_H
#define FIRSTLIGHT_START_STARTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "image/prefetch.h"
#include "predict/profiles.h"
#include "trace/access.h"

struct starts;

/* All stay the caller's. */
struct starts_options {
	struct loop *loop;
	struct work *threads;
	struct layers *layers;
	struct objects *objects;
	struct fetcher *fetcher;
	struct prefetcher *prefetcher; /* for programs without a profile */
	struct profiles *profiles;
	const char *root; /* ROOT, as the kernel shows it */
	bool bpf;         /* false: only what comes through the FUSE mount is seen */
	unsigned watch_ms, quiet_ms;
};

/* The programs of BPF are loaded in the background; the FUSE mount is served already. */
int starts_new(const struct starts_options *o, struct starts **ret, struct err *err) must_check;
/* Ends all that is under way; nothing begins any more. */
may_suspend void starts_stop(struct starts *s);
void starts_free(struct starts *s);

/* A container that is going to start. */
struct start_of {
	uint64_t snapshot; /* its own directory is ROOT/snapshots/ID */
	struct str ref;
	struct digest manifest; /* all zero without has_manifest */
	bool has_manifest;
	const char *root; /* where the tree of its topmost lazy layers is mounted */
	const uint32_t *layers;
	size_t layers_n;
	bool complete; /* all of them is local */
};
/* All is copied. Of more than STARTS_MAX at once the last are not watched. */
void starts_begin(struct starts *s, const struct start_of *of);
/* The snapshot goes. */
void starts_end(struct starts *s, uint64_t snapshot);

/* A request of the FUSE mount; counts where BPF sees nothing. */
void starts_fuse_read(struct starts *s, uint64_t object, uint64_t off, uint64_t len, pid_t pid);

/* Layers of an image are looked for, with these blobs: what the starts of its programs have in
 * common is asked for before their tables of contents are here. */
void starts_expect(struct starts *s, struct str ref, const struct digest *blobs, size_t n);

/* A layer of the image has become known: where no start was seen, its landmark tells what is read.
 */
void starts_layer(struct starts *s, struct str ref, uint32_t layer);

/*
 * The next start of the image `ref` (any tag and digest of its repository), as a document of
 * predict/recording.h, appended to ret once it has been watched. -ETIMEDOUT: none began within
 * timeout_ms; -EBUSY: RECORDERS_MAX; -ECANCELED, -ENOMEM.
 */
may_suspend int starts_record(struct starts *s, struct str ref, unsigned timeout_ms,
			      struct buf *ret, struct err *err);

struct starts_stats {
	unsigned watched;                 /* now */
	uint64_t begun, learnt, foreseen; /* with a profile */
	uint64_t touches, lost,
		unmatched; /* lost in the ring; of contents that have no path here */
	/* of starts that have ended, bytes */
	uint64_t hit_bytes, late_bytes, missed_bytes, unforeseen_bytes, wasted_bytes, asked_bytes;
	uint64_t stopped; /* starts whose prediction was wrong too often */
};
void starts_stats(const struct starts *s, struct starts_stats *ret);
/* NULL while the programs are being loaded, and without BPF. */
struct access *starts_access(const struct starts *s);

#endif
