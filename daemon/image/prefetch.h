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

/* Begins for an image whose tree, with all of its layers, is mounted at root. The background waits
 * until it has ended, PREFETCH_TIMEOUT_MS at most. Strings are copied. */
void prefetch_start(struct prefetcher *p, struct str ref, const struct digest *manifest,
		    const char *root);

#endif
