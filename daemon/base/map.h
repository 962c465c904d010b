/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hash map from strings to elements that hold their own link and own the key's bytes. Grows with
 * its contents; keyed hash (SipHash-2-4), so that names from outside cannot collide on
 * purpose. One thread.
 */
#ifndef FIRSTLIGHT_BASE_MAP_H
#define FIRSTLIGHT_BASE_MAP_H

#include <stdint.h>

#include "base/clean.h"
#include "base/str.h"

struct map_node {
	struct map_node *next;
	uint64_t hash;
	struct str key; /* memory of the element */
};

struct map {
	struct map_node **slots;
	size_t count, size;
	uint64_t seed[2];
};

/* -ENOMEM. */
int map_init(struct map *m) must_check;
/* The map must be empty, or its elements are left to their owner. */
void map_fini(struct map *m);

struct map_node *map_get(struct map *m, struct str key);

/* n->key is set by the caller and not in the map. Never fails: it gets slower if it cannot grow. */
void map_put(struct map *m, struct map_node *n);
void map_del(struct map *m, struct map_node *n);

#endif
