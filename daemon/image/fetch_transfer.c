// SPDX-License-Identifier: Apache-2.0
/*
 * Requests for parts of blobs: which flights go into one, what comes along, and where the bytes go
 * as they arrive. Owns the transfers. Loop thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "image/fetch_impl.h"

#include "base/banned.h"

/* --- life ---------------------------------------------------------------------------------------
 */

struct transfer *transfer_new(struct fetcher *f, uint32_t layer, uint32_t ref, uint32_t flights_cap,
			      struct err *err)
{
	struct layer *l = layers_get(f->layers, layer);
	struct transfer *t;

	if (!l || ref >= l->refs_n) {
		err_set(err, -ENOENT, "layer %u is not known any more", layer);
		return NULL;
	}
	t = calloc(1, sizeof(*t));
	if (t) {
		t->flights = calloc(flights_cap, sizeof(struct flight *));
		t->ref = strdup(l->refs[ref]);
	}
	if (!t || !t->flights || !t->ref) {
		if (t) {
			free(t->flights);
			free(t->ref);
		}
		free(t);
		err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	t->f = f;
	t->scope = &f->scope;
	t->class = FETCH_DEMAND;
	t->layer = layer;
	t->blob = l->blob;
	t->codec = l->info.codec;
	t->flights_cap = flights_cap;
	list_init(&t->link);
	list_init(&t->ready);
	waitq_init(&t->idle);
	return t;
}

void transfer_add(struct transfer *t, struct flight *fl)
{
	require(t->flights_n < t->flights_cap && !fl->in);
	list_del(&fl->link);
	fl->in = t;
	fl->slot = t->flights_n;
	t->flights[t->flights_n++] = fl;
}

/* Why the flights that are left have not ended. */
static struct flight_failure failure_of(const struct transfer *t, const struct flight *fl, int code)
{
	struct flight_failure why = {
		.code = code, .host = t->answer.host, .hosts_n = t->answer.hosts_n};

	if (fl->bad) {
		why.fault = FAULT_BYTES;
		why.code = -EBADMSG;
	} else if (code == -ECANCELED) {
		why.fault = FAULT_NONE;
	} else {
		why.fault = FAULT_REGISTRY;
		why.code = code < 0 ? code : -ENOMEM; /* its bytes came and had no room */
	}
	return why;
}

static void flight_text(struct transfer *t, const struct flight *fl,
			const struct flight_failure *why, struct err *err, struct err *ret)
{
	char blob[DIGEST_TEXT_SIZE];

	if (why->fault != FAULT_BYTES) {
		err_set(ret, -EIO, "%.450s", err_text(err, why->code));
		return;
	}
	if (!t->answer.hosts_n)
		snprintf(t->answer.host_name, sizeof(t->answer.host_name), "a host");
	err_set(ret, -EIO, "wrong bytes from %.255s", t->answer.host_name);
	digest_text(&t->blob, blob);
	t->f->stats.bad_chunks++;
	if (fetch_may_log(t->f, ~(uint64_t)t->layer))
		log_warn("wrong bytes layer=%s chunk=%u host=%.255s ref=%.255s", blob, fl->index,
			 t->answer.host_name, t->ref);
}

void transfer_end(struct transfer *t, int code, struct err *err)
{
	struct fetcher *f = t->f;
	struct err text = ERR_INIT;

	list_del(&t->link);
	f->awaited -= t->awaited;
	f->predictions -= t->predicted;
	for (uint32_t i = 0; i < t->flights_n; i++) {
		struct flight *fl = t->flights[i];
		struct flight_failure why;

		if (!fl)
			continue;
		why = failure_of(t, fl, code);
		flight_text(t, fl, &why, err, &text);
		if (t->fill)
			fill_failed(t->fill, fl->index, &why);
		flight_failed(f, fl, &why, &text);
	}
	for (uint32_t i = 0; i < t->pieces_n; i++)
		free(t->pieces[i].data);
	if (t->reserved)
		room_give(f, t->reserved);
	if (t->follow)
		object_unref(f->objects, t->follow);
	early_leave(t);
	free(t->pieces);
	free(t->flights);
	free(t->ref);
	free(t);
}

/* --- bytes --------------------------------------------------------------------------------------
 */

void piece_drop(struct transfer *t, struct piece *p)
{
	size_t n = p->len < t->reserved ? p->len : t->reserved;

	p->state = PIECE_DONE;
	list_del(&p->link);
	free(take_ptr(p->data));
	t->reserved -= n;
	if (n)
		room_give(t->f, n);
}

static bool piece_demanded(const struct transfer *t, const struct piece *p)
{
	for (uint32_t i = p->first; i < p->first + p->n; i++) {
		if (t->flights[i] && t->flights[i]->waiters)
			return true;
	}
	return false;
}

static bool piece_empty(const struct transfer *t, const struct piece *p)
{
	for (uint32_t i = p->first; i < p->first + p->n; i++) {
		if (t->flights[i])
			return false;
	}
	return true;
}

static void take_out(struct flight *fl)
{
	struct transfer *t = fl->in;
	struct piece *p = t->pieces ? &t->pieces[fl->piece] : NULL;

	t->flights[fl->slot] = NULL;
	fl->in = NULL;
	if (p && piece_empty(t, p))
		piece_drop(t, p);
}

bool transfer_overtake(struct flight *fl)
{
	struct transfer *t = fl->in;
	struct piece *p = t->pieces ? &t->pieces[fl->piece] : NULL;

	if (p && p->state != PIECE_COMING)
		return false;
	if (t->class == FETCH_DEMAND && (!p || p->off <= t->pos + FETCH_NEAR))
		return false;
	if (t->class == FETCH_PREDICTED && p)
		return false;
	/* The background may stand still while there is demand: what has come near is made to run,
	 * else it is not waited for. */
	if (t->class == FETCH_BACKGROUND && p && t->pos > t->off &&
	    p->off + p->len <= t->pos + FETCH_URGENT) {
		if (!t->urgent)
			t->moved_ns = loop_now_ns(t->f->loop);
		t->urgent = true;
		registry_urgent(t->f->registry);
		return false;
	}
	take_out(fl);
	return true;
}

/* --- what stands still ------------------------------------------------------------------------
 * A lost packet at the end of an answer, or of a connection's beginning, costs a retransmission
 * time-out, many round trips; what was held back for long may need as many to go on. The same bytes
 * come sooner by another connection. Once; and where a part is here already only if the link has
 * nothing else to bring.
 */

uint64_t fetch_patience(const struct fetcher *f, bool begun)
{
	uint64_t least = (begun ? FETCH_STALL_MS : FETCH_STALL_FIRST_MS) * NS_PER_MS,
		 trips = 3 * f->link.trip_ns;

	return trips > least ? trips : least;
}

static bool stands_still(const struct transfer *t, uint64_t now)
{
	uint64_t most = fetch_patience(t->f, t->first_ns);

	if ((t->class == FETCH_BACKGROUND && !t->urgent) || t->fed || !t->pieces || !t->moved_ns ||
	    now - t->moved_ns <= most)
		return false;
	return !t->first_ns || (list_empty(&t->f->wanted) && list_empty(&t->f->foreseen));
}

static void ask_again(struct transfer *t)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < t->flights_n; i++) {
		struct flight *fl = t->flights[i];

		if (!fl || !fl->waiters || fl->again || t->pieces[fl->piece].state != PIECE_COMING)
			continue;
		take_out(fl);
		fl->again = true;
		flight_want(t->f, fl);
		n++;
	}
	if (n)
		log_debug("asked for again layer=%u off=%llu len=%llu here=%llu chunks=%u",
			  t->layer, (unsigned long long)t->off,
			  (unsigned long long)(t->end - t->off),
			  (unsigned long long)(t->pos - t->off), n);
}

void transfers_look(struct timer *timer)
{
	struct fetcher *f = container_of(timer, struct fetcher, stalls);
	uint64_t now = loop_now_ns(f->loop);
	bool late = now - f->looked_ns > 2 * FETCH_STALL_LOOK_MS * NS_PER_MS; /* it was us */

	f->looked_ns = now;
	for (struct list *l = f->running.next; l != &f->running && !late; l = l->next) {
		struct transfer *t = container_of(l, struct transfer, link);

		if (stands_still(t, now))
			ask_again(t);
	}
	if (!list_empty(&f->running))
		timer_set(f->loop, &f->stalls, now + FETCH_STALL_LOOK_MS * NS_PER_MS);
}

static void piece_full(struct transfer *t, struct piece *p)
{
	p->state = PIECE_FULL;
	if (piece_demanded(t, p))
		list_push_front(&t->ready, &p->link);
	else
		list_push(&t->ready, &p->link);
	/* If none can be had, the transfer's own task decodes at its end. */
	if (t->decoders < FETCH_DECODERS && scope_spawn(t->scope, transfer_decoder, t, NULL) == 0)
		t->decoders++;
}

static void piece_feed(struct transfer *t, struct piece *p, uint64_t off, const uint8_t *data,
		       size_t n)
{
	uint64_t skip = p->off + p->have - off; /* what is before it in data */
	size_t take = n - skip < p->len - p->have ? n - skip : p->len - p->have;

	if (!p->data && !p->nomem) {
		p->data = malloc(p->len);
		p->nomem = !p->data;
	}
	if (p->data)
		memcpy(p->data + p->have, data + skip, take);
	p->have += take;
	if (p->have < p->len)
		return;
	if (p->nomem)
		piece_drop(t, p);
	else
		piece_full(t, p);
}

/* The link is to have something to bring all the time. */
static void came(struct transfer *t)
{
	struct fetcher *f = t->f;
	uint64_t n;

	n = t->end - t->pos < t->awaited ? t->awaited - (t->end - t->pos) : 0;
	t->awaited -= n;
	f->awaited -= n;
	if (n && !list_empty(&f->foreseen))
		loop_defer(f->loop, &f->dispatch);
}

int transfer_data(void *arg, uint64_t off, const void *data, size_t n)
{
	struct transfer *t = arg;

	if (off != t->pos || n > t->end - t->pos)
		return -EPROTO;
	t->f->stats.of[t->class].bytes_blob += n;
	t->moved_ns = loop_now_ns(t->f->loop);
	if (!t->first_ns)
		t->first_ns = t->moved_ns;
	for (uint32_t i = t->at; i < t->pieces_n && t->pieces[i].off < off + n; i++) {
		struct piece *p = &t->pieces[i];

		if (p->state == PIECE_COMING && p->off + p->have < off + n)
			piece_feed(t, p, off, data, n);
	}
	t->pos += n;
	came(t);
	while (t->at < t->pieces_n && t->pieces[t->at].state != PIECE_COMING)
		t->at++;
	return t->at == t->pieces_n && t->pos < t->end ? -ECANCELED : 0; /* all was overtaken */
}

/* --- the request --------------------------------------------------------------------------------
 */

static int by_place(const void *pa, const void *pb)
{
	const struct flight *a = *(struct flight *const *)pa, *b = *(struct flight *const *)pb;

	if (a->c.blob_off != b->c.blob_off)
		return a->c.blob_off < b->c.blob_off ? -1 : 1;
	if (a->c.inner_off != b->c.inner_off)
		return a->c.inner_off < b->c.inner_off ? -1 : 1;
	return 0;
}

static void transfer_sort(struct transfer *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->flights_n; i++) {
		if (t->flights[i]) /* else it was overtaken already */
			t->flights[n++] = t->flights[i];
	}
	t->flights_n = n;
	if (n)
		qsort(t->flights, n, sizeof(struct flight *), by_place);
	for (uint32_t i = 0; i < n; i++)
		t->flights[i]->slot = i;
}

/* Sets its pieces; answers the bytes that it may hold. */
static int transfer_plan(struct transfer *t, size_t *ret_bytes)
{
	size_t bytes = 0;

	t->pieces = calloc(t->flights_n, sizeof(*t->pieces));
	if (!t->pieces)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->flights_n;) {
		struct piece *p = &t->pieces[t->pieces_n];
		uint64_t len = 0;

		*p = (struct piece){.off = t->flights[i]->c.blob_off, .first = i};
		list_init(&p->link);
		for (; i < t->flights_n && t->flights[i]->c.blob_off == p->off; i++, p->n++) {
			len = plan_of(&t->flights[i]->c, 0).len;
			p->len = len > p->len ? len : p->len;
			t->flights[i]->piece = t->pieces_n;
		}
		bytes += p->len;
		t->end = p->off + p->len > t->end ? p->off + p->len : t->end;
		t->pieces_n++;
	}
	t->off = t->pos = t->pieces[0].off;
	*ret_bytes = bytes;
	return 0;
}

/* What of the batch may go with the flights that are there. Answers how many are in ret. */
static size_t plan_batch(struct fetcher *f, const struct transfer *t, const struct batch *b,
			 struct plan_chunk *ret)
{
	size_t n = 0;
	uint32_t own = 0;

	for (uint32_t i = 0; i < b->n; i++) {
		while (own < t->flights_n && t->flights[own]->index < b->first + i)
			own++;
		ret[n] = plan_of(&b->chunks[i], i);
		ret[n].want = own < t->flights_n && t->flights[own]->index == b->first + i;
		if (ret[n].want ||
		    (!b->chunks[i].zeros && batch_missing(f, b, i) &&
		     !flight_get(f, &b->objects[b->owner[i]].o.key, batch_chunk_number(b, i))))
			n++;
	}
	return n;
}

/* Takes the neighbours that the window allows. */
static void add_neighbours(struct transfer *t, const struct batch *b, struct plan_chunk *plan,
			   struct readahead *ra, uint64_t window)
{
	const struct plan_limits limits = {
		.ahead = window, .max = FETCH_REQUEST_MAX, .gap = FETCH_GAP_MAX};
	size_t n = plan_batch(t->f, t, b, plan), seed = 0;
	uint64_t from = t->flights[t->flights_n - 1]->c.blob_off + 1, to = 0;

	plan_sort(plan, n);
	while (seed < n && !plan[seed].want)
		seed++;
	if (seed == n)
		return;
	plan_request(plan, n, seed, &limits);
	for (size_t i = 0; i < n && t->flights_n < t->flights_cap; i++) {
		struct flight *fl;

		if (!plan[i].take || plan[i].want)
			continue;
		fl = batch_flight(t->f, b, plan[i].ref);
		if (!fl)
			continue;
		transfer_add(t, fl);
		to = plan[i].off + plan[i].len;
	}
	readahead_brought(ra, from, to);
}

/* One round trip costs as much as many neighbours: those not here come along. */
may_suspend static void take_along(struct transfer *t)
{
	struct fetcher *f = t->f;
	uint32_t first = t->flights[0]->index, last = t->flights[t->flights_n - 1]->index;
	uint64_t window = readahead_miss(fetch_ahead(f, t->layer), t->flights[0]->c.blob_off,
					 link_trip(&f->link));
	struct plan_chunk *plan;
	struct batch b;
	uint32_t n;

	if (f->knows[t->layer % FETCH_SLOTS] && window > FETCH_KNOWN_ALONG)
		window = FETCH_KNOWN_ALONG;
	if (last < first || last - first >= FETCH_PARTS_MAX - FETCH_NEIGHBOURS_MAX)
		return;
	n = last - first + 1 + FETCH_NEIGHBOURS_MAX;
	plan = calloc(n, sizeof(*plan));
	if (plan && batch_read(f, t->layer, first, n, &b, NULL) == 0) {
		add_neighbours(t, &b, plan, fetch_ahead(f, t->layer), window);
		batch_free(f, &b);
	}
	free(plan);
}

/* What was overtaken while it waited needs no room. */
static void transfer_reserved(struct transfer *t, size_t bytes)
{
	t->reserved = bytes;
	for (uint32_t i = 0; i < t->pieces_n; i++) {
		if (t->pieces[i].state == PIECE_DONE)
			piece_drop(t, &t->pieces[i]);
	}
	while (t->at < t->pieces_n && t->pieces[t->at].state == PIECE_DONE)
		t->at++;
}

may_suspend static int transfer_request(struct transfer *t, struct err *err)
{
	int r = t->early ? early_feed(t) : -EAGAIN;
	struct blob_request q = {.ref = str_of(t->ref),
				 .digest = t->blob,
				 .off = t->pos,
				 .len = t->end - t->pos,
				 .class = t->class,
				 .skip_hosts = t->skip_hosts,
				 .on_data = transfer_data,
				 .arg = t,
				 .urgent = &t->urgent};

	uint64_t start, end;

	if (r != -EAGAIN)
		return r;
	if (t->early) {
		r = room_take(t->f, q.len, t->class);
		if (r < 0)
			return r;
		t->reserved = q.len;
		t->first_ns = 0;
		t->fed = false;
	}
	start = t->moved_ns = loop_now_ns(t->f->loop);
	r = registry_blob(t->f->registry, &q, &t->answer, err);
	end = loop_now_ns(t->f->loop);
	if (r == 0 && !t->early && t->first_ns && t->class != FETCH_BACKGROUND)
		link_saw(&t->f->link, t->first_ns - start, q.len, end - t->first_ns);

	log_debug("transfer class=%d layer=%u off=%llu len=%llu chunks=%u ms=%llu", t->class,
		  t->layer, (unsigned long long)q.off, (unsigned long long)q.len, t->flights_n,
		  (unsigned long long)(end - start) / NS_PER_MS);
	return r;
}

may_suspend static int transfer_fetch(struct transfer *t, struct err *err)
{
	size_t bytes = 0;
	int r;

	transfer_sort(t);
	if (!t->flights_n)
		return 0;
	r = transfer_plan(t, &bytes);
	if (r < 0)
		return err_set(err, r, "out of memory");
	if (!t->early) { /* what comes early has its own bound */
		r = room_take(t->f, bytes, t->class);
		if (r < 0)
			return r;
		transfer_reserved(t, bytes);
	}
	if (t->at == t->pieces_n)
		return 0;
	r = transfer_request(t, err);
	while (t->decoders)
		waitq_wait_always(&t->idle);
	if (!list_empty(&t->ready) && !task_cancelled()) {
		t->decoders++;
		transfer_decoder(t);
	}
	return r;
}

/* In f->demands or f->backgrounds: it asks the registry for something. */
static bool is_counted(const struct transfer *t)
{
	return t->class != FETCH_PREDICTED && !t->early;
}

may_suspend static int transfer_main(void *arg)
{
	struct transfer *t = arg;
	struct fetcher *f = t->f;
	struct object *follow = take_ptr(t->follow);
	enum fetch_class class = t->class;
	bool counted = is_counted(t);
	struct err err = ERR_INIT;
	int r;

	if (!t->fill && !t->alone)
		take_along(t);
	r = task_cancelled() ? -ECANCELED : transfer_fetch(t, &err);
	transfer_end(t, r, &err);
	if (counted)
		--*(class == FETCH_DEMAND ? &f->demands : &f->backgrounds);
	if (follow)
		follow_ended(f, follow, r);
	if (!list_empty(&f->wanted) || !list_empty(&f->foreseen))
		loop_defer(f->loop, &f->dispatch);
	if (!fetch_busy(f))
		waitq_wake_all(&f->quiet);
	return 0;
}

int transfer_start(struct transfer *t)
{
	int r = scope_spawn(t->scope, transfer_main, t, NULL);

	if (r < 0)
		return r;
	if (list_empty(&t->f->running))
		timer_set(t->f->loop, &t->f->stalls,
			  loop_now_ns(t->f->loop) + FETCH_STALL_LOOK_MS * NS_PER_MS);
	list_push(&t->f->running, &t->link);
	if (is_counted(t))
		++*(t->class == FETCH_DEMAND ? &t->f->demands : &t->f->backgrounds);
	return 0;
}

/* --- what is wanted, and what is foreseen ------------------------------------------------------
 */

struct group {
	struct plan_chunk plan[FETCH_PARTS_MAX];
	struct flight *flights[FETCH_PARTS_MAX];
	size_t n;
};

static bool same_try(const struct flight *a, const struct flight *b)
{
	return a->layer == b->layer && a->ref == b->ref && a->skip_hosts == b->skip_hosts &&
	       !a->tries == !b->tries;
}

/* Those that could go with the first one of the list. */
static void group_collect(struct list *from, struct group *g)
{
	struct flight *seed = container_of(from->next, struct flight, link);
	struct list *l, *tmp;

	g->n = 0;
	list_for_each_safe (l, tmp, from) {
		struct flight *fl = container_of(l, struct flight, link);

		if (g->n == FETCH_PARTS_MAX)
			break;
		if (!same_try(seed, fl))
			continue;
		g->plan[g->n] = plan_of(&fl->c, (uint32_t)g->n);
		g->plan[g->n].want = true;
		g->flights[g->n++] = fl;
	}
	plan_sort(g->plan, g->n);
}

static struct transfer *group_transfer(struct fetcher *f, struct group *g, struct err *err)
{
	struct plan_limits limits = {.max = FETCH_REQUEST_MAX, .gap = FETCH_GAP_MAX};
	struct flight *fl = g->flights[0];
	struct transfer *t;
	size_t seed = 0;

	while (g->plan[seed].ref != 0)
		seed++;
	if (fl->ahead) {
		limits.max = FETCH_AHEAD_REQUEST_MAX;
		limits.gap = link_gap(&f->link);
	}
	plan_request(g->plan, g->n, seed, &limits);
	t = transfer_new(f, fl->layer, fl->ref, FETCH_PARTS_MAX + FETCH_NEIGHBOURS_MAX, err);
	if (!t)
		return NULL;
	t->skip_hosts = fl->skip_hosts;
	t->alone = true;
	if (fl->ahead) {
		t->class = FETCH_PREDICTED;
		t->predicted = true;
		f->predictions++;
	}
	for (size_t i = 0; i < g->n; i++) {
		if (!g->plan[i].take)
			continue;
		t->awaited += t->predicted ? g->plan[i].len : 0;
		t->alone = t->alone && (fl->tries || g->flights[g->plan[i].ref]->exact);
		transfer_add(t, g->flights[g->plan[i].ref]);
	}
	if (t->awaited > FETCH_AHEAD_EACH)
		t->awaited = FETCH_AHEAD_EACH;
	f->awaited += t->awaited;
	return t;
}

static void dispatch_one(struct fetcher *f, struct list *from, struct group *g)
{
	struct err err = ERR_INIT;
	struct transfer *t;
	int r;

	group_collect(from, g);
	t = group_transfer(f, g, &err);
	if (!t) {
		flight_end(f, g->flights[0], -EIO, &err);
		return;
	}
	r = transfer_start(t);
	if (r == 0)
		return;
	err_errno(&err, r, "start a transfer");
	for (uint32_t i = 0; i < t->flights_n; i++)
		flight_end(f, t->flights[i], -EIO, &err);
	transfer_end(t, r, &err);
}

/* Enough for the link is on the way; more would only make who comes next wait. */
static bool may_predict(const struct fetcher *f)
{
	return !list_empty(&f->foreseen) &&
	       f->predictions + f->follows + f->early_running < REGISTRY_PREDICTED_MAX &&
	       f->awaited < FETCH_AHEAD_MAX &&
	       (!f->gathers || loop_now_ns(f->loop) >= f->gather_ns);
}

/* Whose turn it is; NULL: nobody's. */
static struct list *dispatch_from(struct fetcher *f)
{
	if (!list_empty(&f->wanted) && f->demands < REGISTRY_REQUESTS_MAX)
		return &f->wanted;
	return may_predict(f) ? &f->foreseen : NULL;
}

void transfers_dispatch(struct defer *d)
{
	struct fetcher *f = container_of(d, struct fetcher, dispatch);
	struct list *from;
	auto_free struct group *g = NULL;

	early_dispatch(f);
	from = dispatch_from(f);
	g = from ? malloc(sizeof(*g)) : NULL;
	for (; from; from = dispatch_from(f)) {
		struct flight *fl = container_of(from->next, struct flight, link);
		struct err err = ERR_INIT;

		if (g) {
			dispatch_one(f, from, g);
		} else {
			err_set(&err, -EIO, "out of memory");
			flight_end(f, fl, -EIO, &err);
		}
	}
}
