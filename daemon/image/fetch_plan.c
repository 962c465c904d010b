// SPDX-License-Identifier: Apache-2.0
/* Plans of requests. Owns nothing, never suspends, any thread. */
#include "image/fetch_plan.h"

#include <stdlib.h>

#include "base/limits.h"

#include "base/banned.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

uint64_t plan_stream_len(uint64_t blob_len, uint64_t output)
{
	/* Stored blocks cost less than 1/64; headers may carry a name, a comment, skippable frames.
	 */
	return min_u64(blob_len, output + output / 64 + FETCH_GAP_MAX);
}

static int by_place(const void *pa, const void *pb)
{
	const struct plan_chunk *a = pa, *b = pb;

	if (a->off != b->off)
		return a->off < b->off ? -1 : 1;
	if (a->inner != b->inner)
		return a->inner < b->inner ? -1 : 1;
	return a->want == b->want ? 0 : (a->want ? -1 : 1);
}

void plan_sort(struct plan_chunk *c, size_t n)
{
	if (n)
		qsort(c, n, sizeof(*c), by_place);
}

/* What is taken so far. */
struct span {
	uint64_t lo, hi;
	uint64_t max, gap;
	uint64_t bytes;    /* of all streams: more than hi - lo when they overlap */
	uint64_t want_end; /* of the last wanted chunk */
	size_t first, last, n;
};

static uint64_t chunk_end(const struct plan_chunk *c)
{
	return c->off + c->len;
}

/* May b, the later one of the two, be decoded in the same pass as a? */
static bool apart(const struct plan_chunk *a, const struct plan_chunk *b)
{
	return a->off != b->off || b->inner - a->inner >= a->size;
}

/* Bytes that c adds when it stands beside c2, which is taken. */
static uint64_t adds(const struct plan_chunk *c, const struct plan_chunk *c2)
{
	if (c->off != c2->off)
		return c->len;
	return c->len > c2->len ? c->len - c2->len : 0;
}

static bool span_fits(const struct span *s, const struct plan_chunk *c, uint64_t more)
{
	uint64_t lo = min_u64(s->lo, c->off), hi = max_u64(s->hi, chunk_end(c));

	return s->n < FETCH_PARTS_MAX && hi - lo <= s->max && s->bytes + more <= s->max;
}

static void span_take(struct span *s, struct plan_chunk *c, uint64_t more)
{
	s->lo = min_u64(s->lo, c->off);
	s->hi = max_u64(s->hi, chunk_end(c));
	s->bytes += more;
	s->n++;
	c->take = true;
}

static void go_left(struct span *s, struct plan_chunk *c)
{
	for (size_t i = s->first; i-- > 0;) {
		uint64_t more = adds(&c[i], &c[s->first]);

		if (chunk_end(&c[i]) < s->lo && s->lo - chunk_end(&c[i]) > s->gap)
			return;
		if (!c[i].want || !apart(&c[i], &c[s->first]))
			continue;
		if (!span_fits(s, &c[i], more))
			return;
		span_take(s, &c[i], more);
		s->first = i;
	}
}

static void go_right(struct span *s, struct plan_chunk *c, size_t n, uint64_t ahead)
{
	for (size_t i = s->last + 1; i < n; i++) {
		uint64_t more = adds(&c[i], &c[s->last]);

		if (c[i].off > s->hi && c[i].off - s->hi > s->gap)
			return;
		if (!apart(&c[s->last], &c[i]))
			continue;
		if (!c[i].want && chunk_end(&c[i]) > s->want_end + ahead)
			continue;
		if (!span_fits(s, &c[i], more))
			return;
		span_take(s, &c[i], more);
		s->last = i;
		if (c[i].want)
			s->want_end = max_u64(s->want_end, chunk_end(&c[i]));
	}
}

void plan_request(struct plan_chunk *c, size_t n, size_t seed, const struct plan_limits *limits)
{
	struct span s = {.lo = c[seed].off,
			 .hi = chunk_end(&c[seed]),
			 .want_end = chunk_end(&c[seed]),
			 .max = limits->max,
			 .gap = limits->gap,
			 .first = seed,
			 .last = seed};

	for (size_t i = 0; i < n; i++)
		c[i].take = false;
	span_take(&s, &c[seed], c[seed].len);
	go_left(&s, c);
	go_right(&s, c, n, limits->ahead);
}

/* --- the link --------------------------------------------------------------------------------- */

/* The best that was seen, forgotten slowly: other requests share the link. */
void link_saw(struct link_seen *l, uint64_t trip_ns, uint64_t bytes, uint64_t ns)
{
	uint64_t rate;

	if (!l->trip_ns || trip_ns < l->trip_ns)
		l->trip_ns = trip_ns;
	else
		l->trip_ns += (trip_ns - l->trip_ns) / 16;
	if (bytes < FETCH_RATE_BYTES_MIN || bytes > UINT64_MAX / 1000000000 || ns == 0)
		return;
	rate = bytes * 1000000000 / ns;
	l->bytes_sec = max_u64(rate, l->bytes_sec - l->bytes_sec / 16);
}

uint64_t link_trip(const struct link_seen *l)
{
	uint64_t us = l->trip_ns / 1000, bytes;

	if (!l->bytes_sec || !us)
		return FETCH_TRIP_START;
	if (l->bytes_sec > UINT64_MAX / us)
		return FETCH_TRIP_MAX;
	bytes = l->bytes_sec * us / 1000000;
	return max_u64(FETCH_TRIP_MIN, min_u64(bytes, FETCH_TRIP_MAX));
}

uint64_t link_gap(const struct link_seen *l)
{
	uint64_t n = l->bytes_sec / 1000 * FETCH_REQUEST_COST_MS;

	return max_u64(FETCH_GAP_MIN, min_u64(n, FETCH_GAP_MAX));
}

/* --- reading ahead ---------------------------------------------------------------------------- */

void readahead_init(struct readahead *ra, uint32_t layer)
{
	*ra = (struct readahead){.layer = layer, .trip = FETCH_TRIP_START, .halves = 2};
}

static uint64_t window(const struct readahead *ra)
{
	return min_u64(ra->trip / 2 * ra->halves, FETCH_REQUEST_MAX);
}

static void grow(struct readahead *ra)
{
	if (window(ra) < FETCH_REQUEST_MAX)
		ra->halves *= 2;
}

void readahead_touch(struct readahead *ra, uint64_t off)
{
	for (size_t i = 0; i < READAHEAD_RANGES; i++) {
		struct readahead_range *r = &ra->ranges[i];

		if (off >= r->from && off < r->to)
			r->used = true;
	}
}

uint64_t readahead_miss(struct readahead *ra, uint64_t off, uint64_t trip)
{
	ra->trip = trip;
	for (size_t i = 0; i < READAHEAD_RANGES; i++) {
		struct readahead_range *r = &ra->ranges[i];

		if (r->from == r->to || off < r->to || off - r->to > window(ra))
			continue;
		/* The reader has come to the end of it. */
		*r = (struct readahead_range){0};
		grow(ra);
		break;
	}
	return window(ra);
}

void readahead_brought(struct readahead *ra, uint64_t from, uint64_t to)
{
	struct readahead_range *r = &ra->ranges[ra->next];

	if (from >= to)
		return;
	if (r->from != r->to) {
		if (r->used)
			grow(ra);
		else
			ra->halves = ra->halves > 1 ? ra->halves / 2 : 1;
	}
	*r = (struct readahead_range){.from = from, .to = to};
	ra->next = (ra->next + 1) % READAHEAD_RANGES;
}
