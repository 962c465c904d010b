// SPDX-License-Identifier: Apache-2.0
/*
 * What the author of an image has recorded: the part of a layer's blob before its landmark is what
 * the image's command reads, in that order. Where the node has not seen a start itself, that is
 * what is foreseen. Loop thread.
 */
#include <stdlib.h>

#include "base/limits.h"
#include "image/fetch_impl.h"

#include "base/banned.h"

struct first {
	struct fetcher *f;
	uint32_t layer;
};

/* Asks for those of the batch that are missing. False: the landmark was reached. */
static bool ask(struct fetcher *f, const struct batch *b, uint64_t end, uint64_t *bytes)
{
	for (uint32_t i = 0; i < b->n; i++) {
		const struct index_chunk *c = &b->chunks[i];
		struct flight *fl;

		if (c->blob_off >= end || *bytes > FETCH_FIRST_MAX)
			return false;
		if (c->zeros || b->objects[b->owner[i]].o.size > FETCH_FIRST_WHOLE_MAX ||
		    !batch_missing(f, b, i))
			continue;
		fl = batch_flight(f, b, i); /* NULL: it is under way */
		if (!fl)
			continue;
		*bytes += c->blob_len;
		fl->ahead = fl->exact = true;
		flight_want(f, fl);
	}
	return true;
}

/* Until all that is foreseen has been asked for: a start that is known goes first. */
may_suspend static int queue_empty(struct fetcher *f)
{
	int r = 0;

	while (r == 0 && !list_empty(&f->foreseen))
		r = task_sleep_ms(FETCH_FIRST_LOOK_MS);
	return r;
}

may_suspend static int first_run(const struct first *x)
{
	struct fetcher *f = x->f;
	uint64_t bytes = 0;
	uint32_t at = 0;
	bool more = true;
	int r = 0;

	while (r == 0 && more) {
		const struct layer *l = layers_get(f->layers, x->layer);
		struct batch b;

		if (!l || at >= l->info.chunks_n)
			return 0;
		r = batch_read(f, x->layer, at, FETCH_NEIGHBOURS_MAX, &b, NULL);
		if (r < 0)
			return r;
		l = layers_get(f->layers, x->layer);
		more = l && ask(f, &b, l->info.prefetch_end, &bytes);
		at += b.n;
		batch_free(f, &b);
		r = queue_empty(f);
	}
	return r;
}

may_suspend static int first_task(void *arg)
{
	struct first *x = arg;

	first_run(x);
	x->f->firsts--;
	free(x);
	return 0;
}

void fetch_first(struct fetcher *f, uint32_t layer)
{
	const struct layer *l = layers_get(f->layers, layer);
	struct first *x;

	if (!l || l->complete || !l->info.prefetch_end || f->firsts >= FETCH_FIRSTS_MAX)
		return;
	x = malloc(sizeof(*x));
	if (!x)
		return;
	*x = (struct first){f, layer};
	if (scope_spawn(&f->scope, first_task, x, NULL) < 0)
		free(x);
	else
		f->firsts++;
}
