// SPDX-License-Identifier: Apache-2.0
/* The budget. Owns nothing: who waits is in its own frame. */
#include "image/budget.h"

#include "base/err.h"
#include "base/limits.h"
#include "loop/loop.h"

#include "base/banned.h"

void budget_init(struct budget *b, struct loop *loop, struct http *http)
{
	*b = (struct budget){.loop = loop, .http = http};
	for (int i = 0; i < FETCH_CLASSES; i++)
		waitq_init(&b->queue[i]);
}

static bool has_room(const struct budget *b, enum fetch_class class)
{
	const unsigned *r = b->running;

	if (r[FETCH_DEMAND] + r[FETCH_PREDICTED] + r[FETCH_BACKGROUND] >= REGISTRY_REQUESTS_MAX)
		return false;
	if (class == FETCH_PREDICTED)
		return r[FETCH_PREDICTED] < REGISTRY_PREDICTED_MAX;
	if (class == FETCH_BACKGROUND)
		return r[FETCH_BACKGROUND] < REGISTRY_BACKGROUND_MAX && !b->large;
	return true;
}

static void take(struct budget *b, enum fetch_class class)
{
	b->running[class]++;
}

/* Room that is free goes to those who wait, by their classes. */
static void hand_on(struct budget *b)
{
	for (int c = 0; c < FETCH_CLASSES; c++) {
		while (!list_empty(&b->queue[c].waiters) && has_room(b, (enum fetch_class)c)) {
			take(b, (enum fetch_class)c);
			waitq_wake_one(&b->queue[c]);
		}
		if (!list_empty(&b->queue[c].waiters))
			return;
	}
}

may_suspend int budget_enter(struct budget *b, enum fetch_class class)
{
	bool before = false;
	int r;

	for (int c = 0; c <= (int)class; c++)
		before = before || !list_empty(&b->queue[c].waiters);
	if (!before && has_room(b, class)) {
		take(b, class);
		return 0;
	}
	b->waiting[class]++;
	r = waitq_wait(&b->queue[class]); /* woken with its place taken */
	b->waiting[class]--;
	if (r < 0)
		hand_on(b); /* others may have waited behind it */
	return r;
}

void budget_leave(struct budget *b, enum fetch_class class)
{
	require(b->running[class] > 0);
	b->running[class]--;
	hand_on(b);
}

void budget_large(struct budget *b, bool begins)
{
	if (begins && b->large++ == 0) {
		b->paused_since_ns = loop_now_ns(b->loop);
		http_pause(b->http, true);
	} else if (!begins && --b->large == 0) {
		b->paused_ns += loop_now_ns(b->loop) - b->paused_since_ns;
		http_pause(b->http, false);
		hand_on(b);
	}
}

uint64_t budget_paused_ns(const struct budget *b)
{
	return b->paused_ns + (b->large ? loop_now_ns(b->loop) - b->paused_since_ns : 0);
}
