/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many requests run at once on this node, and who goes first. Background requests stand still
 * while a large request of demand or prediction is under way; a small one waits for its round trip
 * and not for the link, which the background keeps busy meanwhile. Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_BUDGET_H
#define FIRSTLIGHT_IMAGE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "image/registry.h"
#include "loop/sync.h"

struct budget {
	struct loop *loop;
	struct http *http;
	unsigned running[FETCH_CLASSES], waiting[FETCH_CLASSES];
	unsigned large; /* that run, not of the background */
	struct waitq queue[FETCH_CLASSES];
	uint64_t paused_ns, paused_since_ns; /* all pauses together; the present one */
};

void budget_init(struct budget *b, struct loop *loop, struct http *http);

/* Until there is room; -ECANCELED. */
may_suspend int budget_enter(struct budget *b, enum fetch_class class);
void budget_leave(struct budget *b, enum fetch_class class);

/* Who is in it begins and ends to be a large one. */
void budget_large(struct budget *b, bool begins);

/* How long background requests have stood still so far. */
uint64_t budget_paused_ns(const struct budget *b);

#endif
