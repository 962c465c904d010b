// SPDX-License-Identifier: Apache-2.0
/* The order of what is predicted, and what of it comes next. */
#include "predict/predictor_impl.h"

#include "base/banned.h"

/* --- heaps ------------------------------------------------------------------------------------ */

static uint64_t key_of(const struct unit *u)
{
	return (uint64_t)u->behind << 32 | u->order;
}

static void heap_push(struct heap *h, struct unit *u)
{
	const struct heap_entry e = {key_of(u), u};
	size_t i = h->n++;

	for (; i > 0 && h->entries[(i - 1) / 2].key > e.key; i = (i - 1) / 2)
		h->entries[i] = h->entries[(i - 1) / 2];
	h->entries[i] = e;
}

static void heap_pop(struct heap *h)
{
	const struct heap_entry e = h->entries[--h->n];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < h->n) {
		child += child + 1 < h->n && h->entries[child + 1].key < h->entries[child].key;
		if (h->entries[child].key >= e.key)
			break;
		h->entries[i] = h->entries[child];
		i = child;
	}
	h->entries[i] = e;
}

/* The first that is still in that state; what the position has passed goes behind. */
static struct unit *heap_first(struct predictor *p, struct heap *h, enum unit_state state)
{
	while (h->n) {
		struct unit *u = h->entries[0].unit;
		bool holds = u->state == state && !u->used && u->order != NOWHERE &&
			     h->entries[0].key == key_of(u);

		if (holds && (u->behind || u->order >= p->position))
			return u;
		heap_pop(h);
		if (holds) {
			u->behind = true;
			heap_push(h, u);
		}
	}
	return NULL;
}

void order_ready(struct predictor *p, struct unit *u)
{
	if (u->order == NOWHERE || u->used)
		return;
	if (u->state == UNIT_OPEN && p->files[u->file]->known)
		heap_push(&p->fetch, u);
	else if (u->state == UNIT_COLD)
		heap_push(&p->page, u);
}

/* --- the order -------------------------------------------------------------------------------- */

static void put(struct predictor *p, const struct step *s)
{
	struct unit *u = s->unit->same ? s->unit->same : s->unit;

	if (u->order != NOWHERE || u->state == UNIT_GONE)
		return;
	u->order = p->places;
	u->at_us = s->at_us;
	p->order[p->places++] = u;
}

/* Those with that chance at least, which these profiles have. */
static void put_some(struct predictor *p, const struct candidate *c, unsigned profiles,
		     uint32_t chance)
{
	for (size_t i = 0; i < c->steps_n; i++) {
		const struct unit *u = c->steps[i].unit;

		if (u->chance >= chance && (u->profiles & profiles) == profiles)
			put(p, &c->steps[i]);
	}
}

static void put_program(struct predictor *p, const struct candidate *c)
{
	for (size_t i = 0; i < c->steps_n; i++) {
		if (c->steps[i].weight >= PREDICT_WEIGHT_MIN)
			put(p, &c->steps[i]);
	}
}

/* Most starts first. */
static void put_all(struct predictor *p, bool common)
{
	unsigned ranks[PREDICT_PROFILES_MAX], all = (1u << p->candidates_n) - 1, k;

	for (unsigned i = 0; i < p->candidates_n; i++) {
		for (k = i; k > 0 && p->candidates[ranks[k - 1]].starts < p->candidates[i].starts;
		     k--)
			ranks[k] = ranks[k - 1];
		ranks[k] = i;
	}
	if (p->candidates_n)
		put_some(p, &p->candidates[ranks[0]], all, PREDICT_WEIGHT_MIN);
	for (unsigned i = 0; i < p->candidates_n && !common; i++)
		put_some(p, &p->candidates[ranks[i]], 0, PREDICT_UNSURE_MIN);
}

static void forget(struct predictor *p)
{
	for (unsigned i = 0; i < p->candidates_n; i++) {
		const struct candidate *c = &p->candidates[i];

		for (size_t k = 0; k < c->steps_n; k++) {
			struct unit *u = c->steps[k].unit;

			judge_release(p, u);
			u->order = NOWHERE;
			u->behind = false;
		}
	}
	p->places = p->position = p->judged = p->far = 0;
	p->fetch.n = p->page.n = 0;
}

void order_make(struct predictor *p, int candidate)
{
	forget(p);
	if (candidate >= 0)
		put_program(p, &p->candidates[candidate]);
	else if (candidate != ORDER_NONE)
		put_all(p, candidate == ORDER_COMMON);
	while (p->position < p->places && p->order[p->position]->used)
		p->position++;
	for (uint32_t i = p->position; i < p->places; i++) {
		struct unit *u = p->order[i];

		order_ready(p, u);
		if (u->state == UNIT_HERE && !u->used && !u->wrong) {
			u->counted = true;
			p->unused += unit_len(p, u);
		}
	}
}

struct unit *order_find(struct predictor *p, uint64_t object, uint32_t unit)
{
	const struct unit wanted = {.place = {object, unit}};
	struct map_node *node = map_get(
		&p->by_object, (struct str){(const char *)&wanted.place, sizeof(wanted.place)});

	return node ? container_of(node, struct unit, node) : NULL;
}

/* --- what comes next -------------------------------------------------------------------------- */

uint64_t order_window(const struct predictor *p)
{
	uint64_t n = p->begun ? p->rate / 1000 * PREDICT_AHEAD_MS : UINT64_MAX;

	n = n < p->o.ahead_min ? p->o.ahead_min : n;
	return n > p->o.ahead_max ? p->o.ahead_max : n;
}

static uint64_t ahead(const struct predictor *p)
{
	return p->stats.flight.bytes + (p->begun ? p->unused : 0);
}

/* One unit fits in any window that is empty. */
static bool has_room(const struct predictor *p, enum predict_level level, uint64_t len)
{
	if (level == PREDICT_PAGE)
		return !p->paged_unused || p->paged_unused + len <= p->o.page_ahead;
	return p->stats.asked.bytes + len <= PREDICT_BYTES_MAX &&
	       (!ahead(p) || ahead(p) + len <= order_window(p));
}

/* Is it on the disk already? Then it is only read from there. */
static bool is_local(struct predictor *p, struct unit *u)
{
	if (!p->o.here || !p->o.here(p->o.arg, u->place.of, unit_off(u), unit_len(p, u)))
		return false;
	u->state = p->o.page_ahead ? UNIT_COLD : UNIT_LOCAL;
	order_ready(p, u);
	return true;
}

static void take(struct predictor *p, struct unit *u, enum predict_level level, uint64_t now_ns)
{
	uint64_t len = unit_len(p, u);

	if (level == PREDICT_FETCH) {
		judge_asked(p, now_ns);
		u->state = UNIT_ASKED;
		count(&p->stats.asked, len);
		count(&p->stats.flight, len);
		return;
	}
	u->state = UNIT_LOCAL;
	count(&p->stats.paged, len);
	if (u->order >= p->position) {
		u->counted = true;
		p->paged_unused += len;
	}
}

/* May the unit beside those of a range, which begins with first, come along? */
static struct unit *neighbour(struct predictor *p, const struct unit *first, uint32_t unit,
			      enum predict_level level)
{
	struct unit *u = order_find(p, first->place.of, unit);

	if (!u || u->used || u->state != first->state || u->order == NOWHERE ||
	    u->order > first->order + PREDICT_JOIN_UNITS || !has_room(p, level, unit_len(p, u)))
		return NULL;
	return level == PREDICT_FETCH && is_local(p, u) ? NULL : u;
}

/* A range around first. */
static struct predict_range grow(struct predictor *p, struct unit *first, enum predict_level level,
				 uint64_t now_ns)
{
	struct predict_range r = {first->place.of, unit_off(first), unit_len(p, first), level};
	const struct unit start = *first; /* its state before */
	struct unit *u;

	take(p, first, level, now_ns);
	for (uint32_t i = start.place.unit + 1; r.len + PROFILE_UNIT <= PREDICT_RANGE_MAX; i++) {
		u = neighbour(p, &start, i, level);
		if (!u)
			break;
		take(p, u, level, now_ns);
		r.len += unit_len(p, u);
	}
	for (uint32_t i = start.place.unit; i > 0 && r.len + PROFILE_UNIT <= PREDICT_RANGE_MAX;
	     i--) {
		u = neighbour(p, &start, i - 1, level);
		if (!u)
			break;
		take(p, u, level, now_ns);
		r.len += unit_len(p, u);
		r.off -= unit_len(p, u);
	}
	return r;
}

static size_t next_fetches(struct predictor *p, uint64_t now_ns, struct predict_range *out,
			   size_t max)
{
	uint64_t window = order_window(p);
	struct unit *u;
	size_t n = 0;

	/* Not by drops: requests are to be worth their round trip. */
	if (ahead(p) && ahead(p) > window - window / 4)
		return 0;
	while (n < max && (u = heap_first(p, &p->fetch, UNIT_OPEN))) {
		if (is_local(p, u))
			continue;
		if (!has_room(p, PREDICT_FETCH, unit_len(p, u)))
			break;
		out[n++] = grow(p, u, PREDICT_FETCH, now_ns);
		p->stats.requests++;
	}
	return n;
}

static size_t next_pages(struct predictor *p, uint64_t now_ns, struct predict_range *out,
			 size_t max)
{
	struct unit *u;
	size_t n = 0;

	while (n < max && (u = heap_first(p, &p->page, UNIT_COLD)) &&
	       has_room(p, PREDICT_PAGE, unit_len(p, u)))
		out[n++] = grow(p, u, PREDICT_PAGE, now_ns);
	return n;
}

size_t predictor_next(struct predictor *p, uint64_t now_ns, struct predict_range *out, size_t max)
{
	size_t n;

	predictor_settle(p);
	judge_time(p, now_ns);
	if (judge_stopped(p))
		return 0;
	n = next_fetches(p, now_ns, out, max);
	return n + next_pages(p, now_ns, out + n, max - n);
}
