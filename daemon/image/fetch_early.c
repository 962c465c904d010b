// SPDX-License-Identifier: Apache-2.0
/*
 * Parts of blobs that are asked for before the tables of contents of their layers are here: who was
 * there before knows where they are. Nothing can be verified or decoded yet, so the compressed
 * bytes are held until flights want chunks that lie in them; then a transfer gets its bytes from
 * here, and all that is true of other transfers is true of it. Owns the bytes. Loop thread.
 */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "image/fetch_impl.h"

#include "base/banned.h"

enum part_state { PART_WAITS, PART_COMES, PART_HERE, PART_FAILED };

/* What is long comes in several requests at once. */
struct part {
	struct early *early;
	uint64_t off, end, pos; /* in the blob; pos: the next byte to come */
	enum part_state state;
	unsigned requests;                     /* for it, that run */
	bool again;                            /* it was asked for twice */
	uint64_t asked_ns, first_ns, moved_ns; /* 0: not yet */
	uint64_t awaited;                      /* its part of fetcher.awaited */
};

struct early {
	struct list link; /* in fetcher.early, in the order of asking */
	struct fetcher *f;
	char *ref;
	struct digest blob;
	uint64_t off, len;
	uint64_t wanted, taken; /* bytes of its chunks; of them those that were given */
	uint64_t used_ns;       /* something came, or was taken */
	uint8_t *data;          /* NULL: nothing was asked for yet */
	bool called;            /* a flight has come for it */
	bool hurry;             /* and a read waits for that */
	unsigned users, running;
	struct waitq changed;
	struct transfer *forming;
	uint32_t parts_n;
	struct part parts[];
};

static void early_free(struct early *e)
{
	e->f->early_n--;
	e->f->early_bytes -= e->len;
	e->f->early_held -= e->data ? e->len : 0;
	list_del(&e->link);
	free(e->data);
	free(e->ref);
	free(e);
}

static bool is_idle(const struct early *e, uint64_t now)
{
	return now - e->used_ns >= FETCH_EARLY_IDLE_MS * NS_PER_MS;
}

/* Goes when all of it was taken, or nobody has come for it. */
static void early_settle(struct early *e)
{
	uint64_t now = loop_now_ns(e->f->loop);

	if (!e->users && !e->running && (e->taken >= e->wanted || is_idle(e, now)))
		early_free(e);
}

void early_forget_old(struct timer *t)
{
	struct fetcher *f = container_of(t, struct fetcher, early_timer);
	struct list *l, *tmp;

	list_for_each_safe (l, tmp, &f->early)
		early_settle(container_of(l, struct early, link));
	if (!list_empty(&f->early))
		timer_set(f->loop, t, loop_now_ns(f->loop) + FETCH_EARLY_LOOK_MS * NS_PER_MS);
}

void early_fini(struct fetcher *f)
{
	timer_stop(f->loop, &f->early_timer);
	while (!list_empty(&f->early))
		early_free(container_of(f->early.next, struct early, link));
}

/* --- requests ---------------------------------------------------------------------------------
 */

static void awaited(struct part *p, uint64_t n)
{
	struct fetcher *f = p->early->f;

	n = n < p->awaited ? n : p->awaited;
	p->awaited -= n;
	f->awaited -= n;
	if (n && f->awaited < FETCH_AHEAD_MAX) /* more parts, or what is foreseen */
		loop_defer(f->loop, &f->dispatch);
}

/* Two requests may bring it: what one has brought is passed over. */
static int part_data(void *arg, uint64_t off, const void *data, size_t n)
{
	struct part *p = arg;
	struct early *e = p->early;
	size_t had;

	if (off > p->pos || n > p->end - off)
		return -EPROTO;
	had = p->pos - off < n ? (size_t)(p->pos - off) : n;
	n -= had;
	memcpy(e->data + (p->pos - e->off), (const char *)data + had, n);
	p->pos += n;
	p->moved_ns = e->used_ns = loop_now_ns(e->f->loop);
	if (!p->first_ns)
		p->first_ns = p->moved_ns;
	e->f->stats.early_bytes += n;
	awaited(p, n);
	if (n)
		waitq_wake_all(&e->changed);
	return p->pos == p->end && p->again ? -ECANCELED : 0;
}

static void parts_start(struct fetcher *f);

static void part_ended(struct part *p, int result)
{
	struct fetcher *f = p->early->f;

	p->requests--;
	if (p->pos == p->end)
		p->state = PART_HERE;
	else if (!p->requests)
		p->state = PART_FAILED;
	if (p->state != PART_COMES)
		awaited(p, p->awaited);
	log_debug("early off=%llu len=%llu here=%llu ms=%llu result=%d", (unsigned long long)p->off,
		  (unsigned long long)(p->end - p->off), (unsigned long long)(p->pos - p->off),
		  (unsigned long long)((loop_now_ns(f->loop) - p->asked_ns) / NS_PER_MS), result);
}

may_suspend static int part_task(void *arg)
{
	struct part *p = arg;
	struct early *e = p->early;
	struct fetcher *f = e->f;
	struct blob_request q = {.ref = str_of(e->ref),
				 .digest = e->blob,
				 .off = p->pos,
				 .len = p->end - p->pos,
				 .class = FETCH_PREDICTED,
				 .on_data = part_data,
				 .arg = p};
	struct blob_answer answer = {0};
	int r = q.len ? registry_blob(f->registry, &q, &answer, NULL) : 0;

	if (r == 0 && !p->again && p->first_ns)
		link_saw(&f->link, p->first_ns - p->asked_ns, q.len,
			 loop_now_ns(f->loop) - p->first_ns);
	part_ended(p, r);
	e->running--;
	f->early_running--;
	waitq_wake_all(&e->changed);
	early_settle(e);
	parts_start(f);
	return 0;
}

static void part_start(struct part *p)
{
	struct early *e = p->early;
	struct fetcher *f = e->f;

	if (!e->data) {
		e->data = malloc(e->len);
		f->early_held += e->data ? e->len : 0;
	}
	if (!e->data || scope_spawn(&f->scope, part_task, p, NULL) < 0) {
		if (p->state == PART_WAITS)
			p->state = PART_FAILED;
		waitq_wake_all(&e->changed);
		return;
	}
	if (p->state == PART_WAITS) {
		p->awaited = p->end - p->off;
		f->awaited += p->awaited;
	}
	p->state = PART_COMES;
	p->asked_ns = loop_now_ns(f->loop);
	p->requests++;
	f->early_running++;
	e->running++;
}

/* What nobody has called for yet is bounded; and all together, so that an image that is pulled and
 * not started is in nobody's way. */
static bool has_room(const struct early *e)
{
	uint64_t held = e->f->early_held + e->len;

	return e->data || held <= (e->called ? FETCH_EARLY_CALLED_MAX : FETCH_EARLY_MAX);
}

/* The first that waits; of those that a read waits for, if hurry. */
static struct part *part_next(const struct fetcher *f, bool hurry)
{
	for (struct list *l = f->early.next; l != &f->early; l = l->next) {
		struct early *e = container_of(l, struct early, link);

		if ((hurry && !e->hurry) || !has_room(e))
			continue;
		for (uint32_t i = 0; i < e->parts_n; i++) {
			if (e->parts[i].state == PART_WAITS)
				return &e->parts[i];
		}
	}
	return NULL;
}

/* A few at once warm connections up; then there is always enough on the way for the link, also
 * while requests travel. */
static bool may_start(const struct fetcher *f)
{
	return f->early_running < FETCH_EARLY_REQUESTS ||
	       (f->early_running < REGISTRY_PREDICTED_MAX && f->awaited < FETCH_AHEAD_MAX);
}

static void parts_start(struct fetcher *f)
{
	struct part *p = part_next(f, true);

	if (f->scope.cancelled)
		return;
	for (; p && f->early_running < FETCH_EARLY_REQUESTS + FETCH_EARLY_HURRY;
	     p = part_next(f, true))
		part_start(p);
	while (may_start(f) && (p = part_next(f, false)))
		part_start(p);
}

int fetch_early(struct fetcher *f, const struct early_range *r)
{
	uint32_t n = (uint32_t)((r->len + FETCH_EARLY_PART - 1) / FETCH_EARLY_PART);
	struct early *e;

	if (!r->len || r->len > FETCH_EARLY_QUEUE_MAX - f->early_bytes ||
	    f->early_n >= FETCH_EARLY_RANGES_MAX)
		return -EAGAIN;
	e = calloc(1, sizeof(*e) + n * sizeof(e->parts[0]));
	if (e)
		e->ref = strndup(r->ref.p, r->ref.len);
	if (!e || !e->ref) {
		free(e);
		return -ENOMEM;
	}
	e->f = f;
	e->blob = r->blob;
	e->off = r->off;
	e->len = r->len;
	e->wanted = r->wanted;
	e->used_ns = loop_now_ns(f->loop);
	e->parts_n = n;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t off = r->off + r->len * i / n;

		e->parts[i] = (struct part){
			.early = e, .off = off, .pos = off, .end = r->off + r->len * (i + 1) / n};
	}
	waitq_init(&e->changed);
	if (list_empty(&f->early))
		timer_set(f->loop, &f->early_timer, e->used_ns + FETCH_EARLY_LOOK_MS * NS_PER_MS);
	list_push(&f->early, &e->link);
	f->early_n++;
	f->early_turn++;
	f->early_bytes += e->len;
	parts_start(f);
	return 0;
}

/* --- who takes them --------------------------------------------------------------------------
 */

/* NULL: none, and it is not looked for again until there are others. */
static struct early *early_of(struct fetcher *f, struct flight *fl)
{
	const struct layer *layer;
	uint64_t off = fl->c.blob_off, end = off + plan_of(&fl->c, 0).len;

	if (fl->looked == f->early_turn || fl->tries || fl->again)
		return NULL;
	fl->looked = f->early_turn;
	layer = layers_get(f->layers, fl->layer);
	for (struct list *l = f->early.next; layer && l != &f->early; l = l->next) {
		struct early *e = container_of(l, struct early, link);

		if (off < e->off || end > e->off + e->len || !digest_eq(&e->blob, &layer->blob))
			continue;
		e->called = true;
		return has_room(e) ? e : NULL;
	}
	return NULL;
}

static void hurry(struct early *e)
{
	if (e->hurry)
		return;
	e->hurry = true;
	parts_start(e->f);
}

/* Puts fl into the transfer that is being made from e. */
static void form(struct early *e, struct flight *fl, struct list *formed)
{
	struct transfer *t = e->forming;

	if (!t) {
		t = transfer_new(e->f, fl->layer, fl->ref, FETCH_PARTS_MAX, NULL);
		if (!t)
			return; /* it goes the ordinary way */
		t->early = e;
		t->fed = true;
		t->alone = true;
		t->class = FETCH_PREDICTED;
		e->users++;
		e->forming = t;
		list_push(formed, &t->link);
	}
	if (t->flights_n == t->flights_cap || t->layer != fl->layer)
		return;
	if (!fl->ahead) {
		t->class = FETCH_DEMAND;
		hurry(e);
	}
	transfer_add(t, fl);
}

void early_dispatch(struct fetcher *f)
{
	struct list *lists[] = {&f->wanted, &f->foreseen}, *l, *tmp, formed;
	struct err err = ERR_INIT;

	if (list_empty(&f->early))
		return;
	parts_start(f);
	list_init(&formed);
	for (size_t i = 0; i < 2; i++) {
		list_for_each_safe (l, tmp, lists[i]) {
			struct flight *fl = container_of(l, struct flight, link);
			struct early *e = early_of(f, fl);

			if (e)
				form(e, fl, &formed);
		}
	}
	while ((l = list_pop(&formed))) {
		struct transfer *t = container_of(l, struct transfer, link);
		int r;

		t->early->forming = NULL;
		r = transfer_start(t);
		if (r < 0)
			transfer_end(t, err_errno(&err, r, "start a transfer"), &err);
	}
}

void early_hurry(struct transfer *t)
{
	if (t->early)
		hurry(t->early);
}

/* A packet was lost: the same bytes come sooner by another request. In the middle only where
 * nothing else is to be asked for. */
static bool stands_still(const struct part *p)
{
	const struct fetcher *f = p->early->f;
	uint64_t since = p->first_ns ? p->moved_ns : p->asked_ns;

	return p->state == PART_COMES && !p->again &&
	       loop_now_ns(f->loop) - since > fetch_patience(f, p->first_ns) &&
	       (!p->first_ns || !part_next(f, false));
}

static struct part *part_at(struct early *e, uint64_t off)
{
	uint32_t i = 0;

	while (off >= e->parts[i].end)
		i++;
	return &e->parts[i];
}

may_suspend int early_feed(struct transfer *t)
{
	struct early *e = t->early;
	int r = 0;

	while (t->pos < t->end && r == 0) {
		struct part *p = part_at(e, t->pos);
		uint64_t end = p->pos < t->end ? p->pos : t->end;

		if (t->pos < end) {
			r = transfer_data(t, t->pos, e->data + (t->pos - e->off),
					  (size_t)(end - t->pos));
			continue;
		}
		if (p->state == PART_FAILED || !has_room(e))
			return -EAGAIN;
		if (stands_still(p)) {
			p->again = true;
			part_start(p);
		}
		r = waitq_wait_ms(&e->changed, FETCH_STALL_LOOK_MS);
		if (r == -ETIMEDOUT)
			r = 0;
	}
	return r;
}

void early_leave(struct transfer *t)
{
	struct early *e = t->early;

	if (!e)
		return;
	for (uint32_t i = 0; i < t->pieces_n; i++)
		e->taken += t->pieces[i].off + t->pieces[i].len <= t->pos ? t->pieces[i].len : 0;
	e->f->stats.early_taken += t->pos > t->off ? t->pos - t->off : 0;
	e->used_ns = loop_now_ns(e->f->loop);
	e->users--;
	t->early = NULL;
	early_settle(e);
}
