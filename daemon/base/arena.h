/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is given back all at once, with a cap. For what one request decodes and answers: a
 * hostile message can ask for many times its own size. One owner; no thread safety.
 */
#ifndef FIRSTLIGHT_BASE_ARENA_H
#define FIRSTLIGHT_BASE_ARENA_H

#include "base/clean.h"

struct arena_block;

struct arena {
	struct arena_block *blocks;
	size_t used, max; /* bytes handed out, and how many may be */
};

#define auto_arena cleanup(arena_fini)

void arena_init(struct arena *a, size_t max);

/* Aligned for any type; NULL when memory or the cap is out. */
void *arena_alloc(struct arena *a, size_t n);

/* A copy with a NUL behind it; NULL as above. */
char *arena_strndup(struct arena *a, const char *s, size_t n);

char *arena_printf(struct arena *a, const char *fmt, ...) printf_like(2, 3);

/* Takes everything back and keeps a block for the next use. */
void arena_reset(struct arena *a);

void arena_fini(struct arena *a);

#endif
