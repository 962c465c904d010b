/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a start will read, before it does: from the command in the image's config the programs,
 * their interpreters and the libraries that they need, each found in the image's own tree. A guess;
 * it is bounded (PREFETCH_*), and a wrong one costs some bytes. Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_PREFETCH_H
#define FIRSTLIGHT_IMAGE_PREFETCH_H

#include "image/fetch.h"
#include "image/resolve.h"

struct prefetcher;

/* All given stay the caller's. threads: for looking into trees. */
int prefetcher_new(struct loop *loop, struct resolver *resolver, struct objects *objects,
		   struct fetcher *fetcher, struct work *threads, struct prefetcher **ret,
		   struct err *err) must_check;
/* Ends all that is under way; nothing begins any more. */
may_suspend void prefetcher_stop(struct prefetcher *p);
void prefetcher_free(struct prefetcher *p);

/* An image whose tree, with all of its layers, is mounted at root. */
struct prefetch_tree {
	struct str ref;
	struct digest manifest;
	const char *root;
	const uint32_t *layers;
	size_t layers_n;
};
/* Begins; the background waits for what is foreseen, PREFETCH_TIMEOUT_MS at most. For
 * PREFETCH_FOLLOW_MS more, what a library or program that is read needs is fetched with it. All is
 * copied. */
void prefetch_start(struct prefetcher *p, const struct prefetch_tree *t);

#endif
