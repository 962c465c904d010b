// SPDX-License-Identifier: Apache-2.0
/* The bound of compressed bytes in memory, over all transfers. Loop thread. */
#include "base/limits.h"
#include "image/fetch_impl.h"

#include "base/banned.h"

struct room_waiter {
	struct list link;
	size_t n;
	bool granted;
	struct waitq wake;
};

/* The background leaves half to demand. What is larger than all of it goes alone. */
static bool fits(const struct fetcher *f, size_t n, size_t queue)
{
	size_t max = queue == 0 ? FETCH_BUFFERED_MAX : FETCH_BUFFERED_MAX / 2;

	return f->buffered == 0 || (n <= max && f->buffered <= max - n);
}

static void grant(struct fetcher *f)
{
	for (size_t q = 0; q < 2; q++) {
		while (!list_empty(&f->room[q])) {
			struct room_waiter *w =
				container_of(f->room[q].next, struct room_waiter, link);

			if (!fits(f, w->n, q))
				return; /* nobody overtakes it */
			list_del(&w->link);
			f->buffered += w->n;
			w->granted = true;
			waitq_wake_all(&w->wake);
		}
	}
}

may_suspend int room_take(struct fetcher *f, size_t n, enum fetch_class class)
{
	struct room_waiter w = {.n = n};
	int r = 0;

	waitq_init(&w.wake);
	list_push(&f->room[class == FETCH_DEMAND ? 0 : 1], &w.link);
	grant(f);
	while (!w.granted && r == 0)
		r = waitq_wait(&w.wake);
	if (w.granted)
		return 0;
	list_del(&w.link);
	grant(f); /* who stood behind */
	return r;
}

void room_give(struct fetcher *f, size_t n)
{
	require(f->buffered >= n);
	f->buffered -= n;
	grant(f);
}
