/* SPDX-License-Identifier: Apache-2.0 */
/* Documents that are changed in places: trees of base/json.h, written again. Pure. */
#ifndef FIRSTLIGHT_TOOLS_CONVERT_JSON_H
#define FIRSTLIGHT_TOOLS_CONVERT_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/json.h"

/* Compact, members in their order. -ENOMEM. */
int json_put(struct buf *b, const struct json *j);

/* Sets a member of a map, at its place or as the last one. The tree's nodes live in a. -ENOMEM. */
int json_set_text(struct json *map, struct arena *a, const char *key, const char *value);
int json_set_int(struct json *map, struct arena *a, const char *key, uint64_t value);
int json_set_digest(struct json *map, struct arena *a, const char *key, const struct digest *d);
/* The map of that name, made if it is not there; NULL. */
struct json *json_map_in(struct json *map, struct arena *a, const char *key);

#endif
