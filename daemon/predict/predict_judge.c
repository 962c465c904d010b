// SPDX-License-Identifier: Apache-2.0
/* Uses and arrivals: the position, what was right and what was wrong, and the link's speed. */
#include "predict/predictor_impl.h"

#include "base/banned.h"

#define NS_PER_MS 1000000ull
#define JUDGE_NS  (PREDICT_JUDGE_MS * NS_PER_MS)

void judge_release(struct predictor *p, struct unit *u)
{
	if (!u->counted)
		return;
	u->counted = false;
	if (u->state == UNIT_HERE)
		p->unused -= unit_len(p, u);
	else
		p->paged_unused -= unit_len(p, u);
}

bool judge_stopped(const struct predictor *p)
{
	uint64_t judged = p->stats.right.bytes + p->stats.wrong.bytes;

	return judged >= PREDICT_JUDGE_BYTES &&
	       p->stats.right.bytes * 100 < judged * PREDICT_PRECISION_MIN;
}

/* --- wrong ------------------------------------------------------------------------------------ */

static void set_wrong(struct predictor *p, struct unit *u)
{
	uint64_t len = unit_len(p, u);

	u->wrong = true;
	list_del(&u->unjudged);
	judge_release(p, u);
	uncount(&p->stats.unused, len);
	count(&p->stats.wrong, len);
}

static void judge_place(struct predictor *p)
{
	for (; p->judged + PREDICT_BEHIND_UNITS < p->position; p->judged++) {
		struct unit *u = p->order[p->judged];

		if (u->order == p->judged && u->state == UNIT_HERE && !u->used && !u->wrong)
			set_wrong(p, u);
	}
}

static bool is_overdue(const struct predictor *p, const struct unit *u, uint64_t now_ns)
{
	return u->order == NOWHERE || u->order < p->position ||
	       now_ns - p->begun_ns > 2000ull * u->at_us + JUDGE_NS;
}

void judge_time(struct predictor *p, uint64_t now_ns)
{
	while (p->begun && !list_empty(&p->unjudged)) {
		struct unit *u = container_of(p->unjudged.next, struct unit, unjudged);
		uint64_t since = u->here_ns > p->begun_ns ? u->here_ns : p->begun_ns;

		if (now_ns - since < JUDGE_NS)
			break;
		if (is_overdue(p, u, now_ns)) {
			set_wrong(p, u);
			continue;
		}
		list_del(&u->unjudged); /* looked at again later */
		u->here_ns = now_ns;
		list_push(&p->unjudged, &u->unjudged);
	}
}

/* --- uses ------------------------------------------------------------------------------------- */

void judge_begin(struct predictor *p, uint64_t now_ns)
{
	if (p->begun)
		return;
	p->begun = true;
	p->begun_ns = now_ns;
}

static void move_to(struct predictor *p, uint32_t position)
{
	for (; p->position < position; p->position++) {
		struct unit *u = p->order[p->position];

		if (u->order == p->position)
			judge_release(p, u);
	}
	judge_place(p);
}

static void follow(struct predictor *p, uint32_t order)
{
	if (order < p->position)
		return;
	if (order <= p->position + PREDICT_NEAR_UNITS) {
		p->far = 0;
		move_to(p, order + 1);
		return;
	}
	if (p->far == 0 || order < p->far_first)
		p->far_first = order;
	if (++p->far == PREDICT_JUMP_ACCESSES) {
		p->far = 0;
		move_to(p, p->far_first + 1);
	}
}

static void right(struct predictor *p, struct unit *u, uint64_t len)
{
	judge_release(p, u);
	list_del(&u->unjudged);
	uncount(u->wrong ? &p->stats.wrong : &p->stats.unused, len);
	u->wrong = false;
	count(&p->stats.right, len);
}

static void use(struct predictor *p, struct unit *u)
{
	uint64_t len = unit_len(p, u);

	if (u->used)
		return;
	u->used = true;
	if (u->state == UNIT_HERE) {
		right(p, u, len);
		count(&p->stats.hits, len);
	} else if (u->state == UNIT_ASKED) {
		count(&p->stats.late, len);
	} else if (u->order == NOWHERE) {
		count(&p->stats.unforeseen, len);
	} else if (u->state == UNIT_COLD || u->state == UNIT_LOCAL) {
		judge_release(p, u);
		count(&p->stats.local, len);
	} else {
		count(&p->stats.missed, len);
	}
	if (u->order != NOWHERE)
		follow(p, u->order);
}

void predictor_seen(struct predictor *p, uint64_t object, uint32_t unit, uint32_t units,
		    uint64_t now_ns)
{
	struct unit *u;

	if (unit >= PROFILE_UNIT_END)
		return;
	if (units > PROFILE_UNIT_END - unit)
		units = PROFILE_UNIT_END - unit;
	predictor_settle(p);
	if (!p->begun && (u = order_find(p, object, unit)))
		predictor_first_read(p, u);
	judge_begin(p, now_ns);
	judge_time(p, now_ns);
	for (uint32_t i = 0; i < units && i < PROFILE_UNITS_MAX; i++) {
		u = order_find(p, object, unit + i);
		if (u)
			use(p, u);
		else
			count(&p->stats.unforeseen, PROFILE_UNIT);
	}
}

/* --- arrivals --------------------------------------------------------------------------------- */

void judge_asked(struct predictor *p, uint64_t now_ns)
{
	if (!p->stats.flight.units)
		p->busy_since = now_ns + p->o.rtt_ns;
}

static void measure(struct predictor *p, uint64_t bytes, uint64_t now_ns)
{
	uint64_t sample;

	p->rate_bytes += bytes;
	if (now_ns > p->busy_since)
		p->busy_ns += now_ns - p->busy_since;
	p->busy_since = now_ns;
	if (p->rate_bytes < PREDICT_RATE_BYTES || !p->busy_ns)
		return;
	sample = (uint64_t)((double)p->rate_bytes * 1e9 / (double)p->busy_ns);
	if (p->rate_seen)
		sample = p->rate - p->rate / 4 + sample / 4;
	p->rate_seen = true;
	p->rate = sample;
	p->rate_bytes = p->busy_ns = 0;
}

static void here(struct predictor *p, struct unit *u, uint64_t now_ns)
{
	uint64_t len = unit_len(p, u);

	u->state = UNIT_HERE;
	u->here_ns = now_ns;
	uncount(&p->stats.flight, len);
	if (u->used) {
		count(&p->stats.right, len);
		return;
	}
	count(&p->stats.unused, len);
	list_push(&p->unjudged, &u->unjudged);
	if (u->order != NOWHERE && u->order >= p->position) {
		u->counted = true;
		p->unused += len;
	}
}

/* Calls fn for the units that lie in the range as a whole and are on their way. Answers their
 * bytes.
 */
static uint64_t each_asked(struct predictor *p, uint64_t object, uint64_t off, uint64_t len,
			   void (*fn)(struct predictor *p, struct unit *u, uint64_t now_ns),
			   uint64_t now_ns)
{
	uint64_t first = (off + PROFILE_UNIT - 1) / PROFILE_UNIT, bytes = 0;

	for (uint64_t i = first; i * PROFILE_UNIT < off + len && i < PROFILE_UNIT_END; i++) {
		struct unit *u = order_find(p, object, (uint32_t)i);

		if (!u || u->state != UNIT_ASKED || unit_off(u) + unit_len(p, u) > off + len)
			continue;
		bytes += unit_len(p, u);
		fn(p, u, now_ns);
	}
	return bytes;
}

void predictor_arrived(struct predictor *p, uint64_t object, uint64_t off, uint64_t len,
		       uint64_t now_ns)
{
	uint64_t bytes = each_asked(p, object, off, len, here, now_ns);

	if (bytes)
		measure(p, bytes, now_ns);
}

static void lost(struct predictor *p, struct unit *u, uint64_t now_ns)
{
	uint64_t len = unit_len(p, u);

	(void)now_ns;
	u->state = UNIT_FAILED;
	uncount(&p->stats.flight, len);
	count(&p->stats.failed, len);
}

void predictor_failed(struct predictor *p, uint64_t object, uint64_t off, uint64_t len)
{
	each_asked(p, object, off, len, lost, 0);
}
