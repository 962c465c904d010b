/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetches chunks: demand before prediction before background, each chunk once for all who wait,
 * neighbours in one request. Fetched bytes are decompressed and verified on threads, then given to
 * the object store; nothing else writes contents. Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_FETCH_H
#define FIRSTLIGHT_IMAGE_FETCH_H

#include "image/layer.h"
#include "image/registry.h"
#include "store/objects.h"

struct fetcher;

int fetcher_new(struct loop *loop, struct registry *registry, struct layers *layers,
		struct objects *objects, struct work *threads, struct fetcher **ret,
		struct err *err) must_check;
/* Ends all transfers. No fetch_need() may be running. */
may_suspend void fetcher_free(struct fetcher *f);

/*
 * Until the bytes [off, off + len) of obj are here; the caller holds a reference. Where the disk
 * does not take them they are in memory for a while: fetch_copy() reads both. 0; -ECANCELED;
 * -EIO after FETCH_READ_TIMEOUT_MS, at once for a chunk that was waited for in vain up to
 * FETCH_FAILED_MS before, or when no source can give the right bytes: err says why, one log line
 * also image, layer, path and chunk.
 */
may_suspend int fetch_need(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len,
			   struct err *err);
/* The same for bytes that will be read: nothing else comes along with them, reads go first, and
 * that they do not come is no failure yet. */
may_suspend int fetch_foreseen(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len,
			       struct err *err);
/* Reads them, inside of obj. -EAGAIN: they are not here, or not any more; what the disk fails
 * with. */
may_suspend int fetch_copy(struct fetcher *f, struct object *obj, uint64_t off, void *buf,
			   size_t len);
/* Are they on the disk already? Does not suspend. */
bool fetch_present(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len);

/* What lies before the layer's landmark is foreseen, from now on, in the order of the blob. */
void fetch_first(struct fetcher *f, uint32_t layer);

/* A part of a blob that will be wanted, as it was before, of a layer whose table of contents is not
 * here yet: its compressed bytes are held in memory until chunks that lie in it are fetched, or
 * FETCH_EARLY_IDLE_MS. In the order of asking; FETCH_EARLY_MAX of it until such fetches come.
 * -EAGAIN: FETCH_EARLY_QUEUE_MAX; -ENOMEM. Does not suspend. */
struct early_range {
	struct str ref; /* the image */
	struct digest blob;
	uint64_t off, len;
	uint64_t wanted; /* bytes of it that are chunks; the rest lies between them */
};
int fetch_early(struct fetcher *f, const struct early_range *r);

/* Somebody is about to read there: what such a reader has wanted next until now is asked for. Does
 * not suspend. */
void fetch_follow(struct fetcher *f, struct object *obj, uint64_t off);

/* Fetches the rest of the layer in the background, in the order of the blob. Calling it again does
 * nothing. When all is here, done(arg, layer id) is called on the loop. */
int fetch_fill(struct fetcher *f, uint32_t layer, void (*done)(void *arg, uint32_t layer),
	       void *arg, struct err *err);
/* Stops it; transfers of it are cancelled. */
may_suspend void fetch_fill_stop(struct fetcher *f, uint32_t layer);

/* Between the two, fetch_foreseen() is about to be called more often: for a moment all of it is
 * waited for, so that neighbours come in one request. */
void fetch_gather(struct fetcher *f, bool on);

/* While somebody holds it, the background starts nothing. Each hold is given up again. */
void fetch_hold(struct fetcher *f, bool held);

/* While somebody knows, by fetch_foreseen(), what will be read of these layers, other reads of them
 * bring little else. */
void fetch_know(struct fetcher *f, const uint32_t *layers, size_t n, bool known);

/* fn is called after each read from the start of a content that had to wait for it; it must not
 * suspend. NULL = nobody. */
void fetch_watch(struct fetcher *f, void (*fn)(void *arg, struct object *obj), void *arg);

/* Fetched; bytes from blobs, and after decompression. */
struct fetch_amount {
	uint64_t chunks, bytes_blob, bytes_content;
};

struct fetch_stats {
	uint64_t chunks, bytes_blob, bytes_content; /* of all classes */
	struct fetch_amount of[FETCH_CLASSES];      /* of the requests that brought them */
	uint64_t bad_chunks, failed_reads;
	uint64_t unwritten;                /* chunks that the disk did not take */
	uint64_t bytes_memory;             /* that reads have got of them */
	size_t memory;                     /* bytes of those that are held */
	size_t early_memory;               /* bytes held by fetch_early() */
	uint64_t early_bytes, early_taken; /* by fetch_early(): that came; that fetches have got */
	unsigned waiting;                  /* reads */
};
void fetch_stats(const struct fetcher *f, struct fetch_stats *ret);

#endif
