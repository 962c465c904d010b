/* SPDX-License-Identifier: Apache-2.0 */
/* Where registries have sent us for blobs: saves a round trip for each request. Loop thread. */
#ifndef FIRSTLIGHT_IMAGE_LOCATION_H
#define FIRSTLIGHT_IMAGE_LOCATION_H

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"

struct locations {
	struct map map;
	struct list recent; /* the longest unused first */
};

int locations_init(struct locations *ls) must_check; /* -ENOMEM */
void locations_fini(struct locations *ls);

/* key: the address at the registry. A copy in a; NULL = not known, or no memory. */
const char *location_get(struct locations *ls, const char *key, struct arena *a);
/* Best effort. */
void location_put(struct locations *ls, const char *key, const char *url);
void location_drop(struct locations *ls, const char *key);

#endif
