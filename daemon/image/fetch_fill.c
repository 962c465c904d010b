// SPDX-License-Identifier: Apache-2.0
/*
 * The background: layers are fetched in the order of their blobs, that which is read just now
 * first. Passes go on, with growing pauses after failures, until a pass finds everything here. Owns
 * the fills. Loop thread.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "image/fetch_impl.h"

#include "base/banned.h"

struct fill {
	struct list link;
	struct fetcher *f;
	uint32_t layer;
	void (*done)(void *arg, uint32_t layer);
	void *arg;
	struct scope scope; /* its transfers */
	struct task *task;
	bool active; /* not in a pause */
	/* Of this pass. */
	bool failed, stop;
	uint32_t lacking; /* first chunk of what was not complete; UINT32_MAX = none */
	unsigned started; /* transfers */
	/* Where it is fetched from. */
	uint32_t ref, skip_hosts, hosts_n;
	uint64_t pause_ms;
};

void fill_failed(struct fill *fl, uint32_t index, const struct flight_failure *why)
{
	(void)index;
	if (why->fault == FAULT_NONE && why->code == -ECANCELED)
		return;
	fl->failed = true;
	fl->hosts_n = why->hosts_n;
	if (why->fault != FAULT_BYTES)
		fl->stop = true; /* the next request would fare no better */
	else if (why->host < 32)
		fl->skip_hosts |= 1u << why->host;
}

static struct fill *fill_find(struct fetcher *f, uint32_t layer)
{
	for (struct list *l = f->fills.next; l != &f->fills; l = l->next) {
		struct fill *fl = container_of(l, struct fill, link);

		if (fl->layer == layer)
			return fl;
	}
	return NULL;
}

/* Is another layer to be filled first? */
static bool other_first(const struct fill *fl)
{
	const struct fill *hot = fl->f->hot == fl->layer ? NULL : fill_find(fl->f, fl->f->hot);

	return hot && hot->active;
}

void fetch_hold(struct fetcher *f, bool held)
{
	f->holds += held ? 1 : -1u;
	if (!f->holds)
		waitq_wake_all(&f->quiet);
}

/* While reads wait now and then the background would be in their way. Nanoseconds until they do
 * not, or until that has lasted too long. */
static uint64_t busy_ns(const struct fill *fl)
{
	const struct fetcher *f = fl->f;
	uint64_t now = loop_now_ns(f->loop), quiet = f->demand_ns + FETCH_QUIET_MS * NS_PER_MS,
		 most = f->busy_ns + FETCH_BUSY_MAX_MS * NS_PER_MS;

	if (!f->demand_ns)
		return 0;
	if (quiet > most)
		quiet = most;
	return now < quiet ? quiet - now : 0;
}

/* Until a request of the background may start; ret_waited: it did not come at once. */
may_suspend static int fill_gate(struct fill *fl, bool *ret_waited)
{
	struct fetcher *f = fl->f;
	uint64_t busy;
	int r;

	*ret_waited = false;
	while (busy = busy_ns(fl),
	       busy || f->holds || f->backgrounds >= REGISTRY_BACKGROUND_MAX || other_first(fl)) {
		*ret_waited = true;
		if (busy)
			r = waitq_wait_ms(&f->quiet, (unsigned)(busy / NS_PER_MS) + 1);
		else
			r = waitq_wait(&f->quiet);
		if (r < 0 && r != -ETIMEDOUT)
			return r;
	}
	return task_cancelled() ? -ECANCELED : 0;
}

/* Another reference when all hosts of this one have given wrong bytes. */
static int fill_source(struct fill *fl)
{
	struct layer *l = layers_get(fl->f->layers, fl->layer);
	uint32_t all = fl->hosts_n >= 32 ? UINT32_MAX : (1u << fl->hosts_n) - 1;

	if (!l || l->refs_n == 0)
		return -ENOENT;
	if (fl->skip_hosts && !(~fl->skip_hosts & all)) {
		fl->ref++;
		fl->skip_hosts = 0;
	}
	fl->ref %= l->refs_n;
	return 0;
}

/* --- one request
 * --------------------------------------------------------------------------------
 */

/* Starts what plan has marked. */
static int span_start(struct fill *fl, const struct batch *b, const struct plan_chunk *plan,
		      size_t n, struct err *err)
{
	struct transfer *t;
	int r;

	r = fill_source(fl);
	if (r < 0)
		return err_set(err, r, "layer %u is not known any more", fl->layer);
	t = transfer_new(fl->f, fl->layer, fl->ref, FETCH_PARTS_MAX, err);
	if (!t)
		return err ? err->code : -ENOMEM;
	t->class = FETCH_BACKGROUND;
	t->scope = &fl->scope;
	t->fill = fl;
	t->skip_hosts = fl->skip_hosts;
	for (size_t i = 0; i < n; i++) {
		struct flight *x;

		if (!plan[i].take || !batch_missing(fl->f, b, plan[i].ref))
			continue;
		x = batch_flight(fl->f, b, plan[i].ref); /* NULL: somebody else fetches it */
		if (x)
			transfer_add(t, x);
	}
	r = t->flights_n ? transfer_start(t) : -ECANCELED;
	if (r == 0)
		fl->started++;
	else
		transfer_end(t, r, err);
	return r == -ECANCELED ? 0 : r;
}

static size_t drop_taken(struct plan_chunk *plan, size_t n)
{
	size_t left = 0;

	for (size_t i = 0; i < n; i++) {
		if (!plan[i].take)
			plan[left++] = plan[i];
	}
	return left;
}

/* A read that comes is not to wait long for what the background has asked for. */
static uint64_t request_max(const struct fetcher *f)
{
	bool quiet = loop_now_ns(f->loop) - f->demand_ns > FETCH_QUIET_MS * NS_PER_MS;

	return quiet ? FETCH_REQUEST_MAX : FETCH_BUSY_REQUEST_MAX;
}

may_suspend static int fill_spans(struct fill *fl, struct batch *b, struct plan_chunk *plan,
				  size_t n, struct err *err)
{
	int r = 0;

	plan_sort(plan, n);
	while (n && r == 0 && !fl->stop) {
		bool waited = true;

		const struct plan_limits limits = {.max = request_max(fl->f), .gap = FETCH_GAP_MAX};
		plan_request(plan, n, 0, &limits);
		while (r == 0 && waited) {
			r = fill_gate(fl, &waited);
			if (r == 0 && waited)
				r = batch_states(fl->f, b, err);
		}
		if (r == 0)
			r = span_start(fl, b, plan, n, err);
		n = drop_taken(plan, n);
	}
	return r;
}

/* --- one pass
 * -----------------------------------------------------------------------------------
 */

may_suspend static int fill_zeros(struct fill *fl, struct batch *b, uint32_t i, struct err *err)
{
	struct object *obj = b->objects[b->owner[i]].obj;

	if (!obj || flight_get(fl->f, &obj->key, batch_chunk_number(b, i)))
		return 0;
	return objects_put_chunk(fl->f->objects, obj, batch_chunk_number(b, i), err);
}

static bool is_complete(const struct batch *b, uint32_t i)
{
	const struct batch_object *o = &b->objects[b->owner[i]];

	return o->state == OBJECT_COMPLETE || (o->obj && o->obj->complete);
}

may_suspend static int fill_batch(struct fill *fl, struct batch *b, struct err *err)
{
	auto_free struct plan_chunk *plan = calloc(b->n, sizeof(*plan));
	size_t n = 0;
	int r = 0;

	if (!plan)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < b->n && r == 0; i++) {
		if (is_complete(b, i))
			continue;
		if (fl->lacking > b->first + i)
			fl->lacking = b->first + i;
		if (!batch_missing(fl->f, b, i))
			continue;
		if (b->chunks[i].zeros) {
			r = fill_zeros(fl, b, i, err);
			continue;
		}
		plan[n] = plan_of(&b->chunks[i], i);
		plan[n++].want = true;
	}
	return r < 0 ? r : fill_spans(fl, b, plan, n, err);
}

/* What comes next in the blob. */
may_suspend static int fill_next(struct fill *fl, uint32_t *at, struct err *err)
{
	struct batch b;
	int r = batch_read(fl->f, fl->layer, *at, FETCH_NEIGHBOURS_MAX, &b, err);

	if (r < 0)
		return r;
	r = fill_batch(fl, &b, err);
	*at += b.n;
	batch_free(fl->f, &b);
	return r;
}

may_suspend static int fill_pass(struct fill *fl, uint32_t from, struct err *err)
{
	uint32_t at = from;
	bool waited;
	int r = 0;

	while (r == 0 && !fl->stop) {
		struct layer *l;

		r = fill_gate(fl, &waited);
		l = layers_get(fl->f->layers, fl->layer);
		if (!l || at >= l->info.chunks_n)
			return l ? r : -ENOENT;
		if (r == 0)
			r = fill_next(fl, &at, err);
	}
	if (fl->lacking > at) /* what lies behind was not looked at */
		fl->lacking = at;
	return r;
}

/* --- one layer
 * ----------------------------------------------------------------------------------
 */

/* Whatever the pass has started has ended. */
may_suspend static int fill_settle(struct fill *fl)
{
	int r = 0;

	while (fl->scope.count && r == 0)
		r = waitq_wait(&fl->scope.empty);
	return r;
}

may_suspend static int fill_pause(struct fill *fl)
{
	if (!fl->failed && fl->started) {
		fl->pause_ms = 0;
		return 0; /* to see whether all is here */
	}
	fl->pause_ms = fl->pause_ms ? fl->pause_ms * 2 : FETCH_PAUSE_MS;
	if (fl->pause_ms > FETCH_FILL_PAUSE_MAX_MS)
		fl->pause_ms = FETCH_FILL_PAUSE_MAX_MS;
	if (fl->stop)
		fl->ref++;
	return task_sleep_ms((unsigned)fl->pause_ms);
}

may_suspend static int fill_run(struct fill *fl)
{
	uint32_t from = 0;
	int r, passed;

	for (;;) {
		struct err err = ERR_INIT;

		fl->failed = fl->stop = false;
		fl->started = 0;
		fl->lacking = UINT32_MAX;
		fl->active = true;
		passed = fill_pass(fl, from, &err);
		fl->active = false;
		waitq_wake_all(&fl->f->quiet);
		r = fill_settle(fl);
		if (r < 0 || passed == -ECANCELED)
			return -ECANCELED;
		if (passed == -ENOENT && !layers_get(fl->f->layers, fl->layer))
			return passed;
		if (passed < 0) {
			fl->failed = true;
			if (fetch_may_log(fl->f, ~(uint64_t)fl->layer))
				log_warn("background stopped for a while layer=%u "
					 "error=\"%s\"",
					 fl->layer, err_text(&err, passed));
		} else if (!fl->failed && fl->lacking == UINT32_MAX) {
			return 0;
		}
		if (fl->lacking != UINT32_MAX)
			from = fl->lacking;
		r = fill_pause(fl);
		if (r < 0)
			return r;
	}
}

may_suspend static int fill_slot(struct fill *fl)
{
	struct fetcher *f = fl->f;
	int r = 0;

	while (f->fills_running >= FETCH_FILLS_MAX && r == 0)
		r = waitq_wait(&f->fills_changed);
	return r;
}

may_suspend static int fill_main(void *arg)
{
	struct fill *fl = arg;
	struct fetcher *f = fl->f;
	void (*done)(void *, uint32_t) = fl->done;
	void *done_arg = fl->arg;
	uint32_t layer = fl->layer;
	int r = task_sleep_ms(FETCH_FILL_DELAY_MS);

	if (r == 0)
		r = fill_slot(fl);
	if (r == 0) {
		f->fills_running++;
		r = fill_run(fl);
		f->fills_running--;
	}
	scope_cancel(&fl->scope);
	scope_wait(&fl->scope);
	scope_fini(&fl->scope);
	list_del(&fl->link);
	free(fl);
	waitq_wake_all(&f->fills_changed);
	if (r == 0 && done)
		done(done_arg, layer);
	return 0;
}

int fetch_fill(struct fetcher *f, uint32_t layer, void (*done)(void *arg, uint32_t layer),
	       void *arg, struct err *err)
{
	struct fill *fl;
	int r;

	if (fill_find(f, layer))
		return 0;
	if (!layers_get(f->layers, layer))
		return err_set(err, -ENOENT, "layer %u is not known", layer);
	fl = calloc(1, sizeof(*fl));
	if (!fl)
		return err_set(err, -ENOMEM, "out of memory");
	fl->f = f;
	fl->layer = layer;
	fl->done = done;
	fl->arg = arg;
	scope_init(&fl->scope, f->loop);
	r = scope_spawn(&f->scope, fill_main, fl, &fl->task);
	if (r < 0) {
		free(fl);
		return err_errno(err, r, "fill layer %u", layer);
	}
	list_push(&f->fills, &fl->link);
	return 0;
}

may_suspend void fetch_fill_stop(struct fetcher *f, uint32_t layer)
{
	struct fill *fl = fill_find(f, layer);

	if (!fl)
		return;
	task_cancel(fl->task);
	while (fill_find(f, layer))
		waitq_wait_always(&f->fills_changed);
}

may_suspend void fills_stop(struct fetcher *f)
{
	for (struct list *l = f->fills.next; l != &f->fills; l = l->next)
		task_cancel(container_of(l, struct fill, link)->task);
	while (!list_empty(&f->fills))
		waitq_wait_always(&f->fills_changed);
}
