// SPDX-License-Identifier: Apache-2.0
/*
 * What is known of a start when its image is pulled. Blobs that were here before are asked for at
 * once: the round trips of the tables of contents, and those of new connections, are not waited
 * for. Where no start was seen, the image's author may have recorded one. Loop thread, but for what
 * plans.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "image/fetch.h"
#include "image/fetch_plan.h"
#include "loop/work.h"
#include "start/impl.h"

#include "base/banned.h"

struct expected {
	struct starts *s;
	char *ref;
	size_t blobs_n;
	struct digest blobs[];
};

struct plan_job {
	const struct expected *x;
	const struct extents *all; /* of each program */
	size_t all_n;
	struct arena *arena;
	struct early_range *ranges; /* what to ask for, in order */
	size_t n;
};

static bool is_expected(const struct expected *x, const struct digest *blob)
{
	for (size_t i = 0; i < x->blobs_n; i++) {
		if (digest_eq(&x->blobs[i], blob))
			return true;
	}
	return false;
}

/* Another image may have brought it. */
static bool is_here(const struct starts *s, const struct digest *key)
{
	char path[OBJECT_PATH_SIZE];

	object_path(key, path);
	return faccessat(s->objects_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Chunks of one blob, ordered by place; ref: their place in the order of use. */
struct blob_plan {
	struct plan_chunk *chunks;
	size_t n;
};

static int plan_blobs(const struct plan_job *j, const struct extents *e, struct blob_plan *blobs)
{
	bool *here = arena_alloc(j->arena, e->contents_n + 1);
	struct plan_chunk *chunks = arena_alloc(j->arena, (e->n + 1) * sizeof(*chunks));
	size_t from = 0;

	if (!here || !chunks)
		return -ENOMEM;
	for (size_t i = 0; i < e->contents_n; i++)
		here[i] = is_here(j->x->s, &e->contents[i]);
	for (uint32_t b = 0; b < e->blobs_n; b++) {
		blobs[b] = (struct blob_plan){.chunks = chunks + from};
		if (!is_expected(j->x, &e->blobs[b]))
			continue;
		for (uint32_t i = 0; i < e->n; i++) {
			const struct extent *x = &e->list[i];

			if (x->blob == b && !here[x->content])
				blobs[b].chunks[blobs[b].n++] = (struct plan_chunk){
					x->off, x->len, 0, x->len, true, false, i};
		}
		plan_sort(blobs[b].chunks, blobs[b].n);
		from += blobs[b].n;
	}
	return 0;
}

/* What goes into one request with the chunk at seed. */
static struct early_range one_range(const struct plan_job *j, const struct digest *blob,
				    struct blob_plan *p, size_t seed)
{
	const struct plan_limits limits = {.max = FETCH_AHEAD_REQUEST_MAX, .gap = FETCH_GAP_MIN};
	struct early_range r = {.ref = str_of(j->x->ref), .blob = *blob, .off = UINT64_MAX};
	uint64_t end = 0;

	plan_request(p->chunks, p->n, seed, &limits);
	for (size_t i = 0; i < p->n; i++) {
		struct plan_chunk *c = &p->chunks[i];

		if (!c->take || !c->want)
			continue;
		c->want = false;
		r.wanted += c->len;
		r.off = c->off < r.off ? c->off : r.off;
		end = c->off + c->len > end ? c->off + c->len : end;
	}
	r.len = end - r.off;
	return r;
}

static size_t seed_of(const struct blob_plan *p, size_t use)
{
	size_t i = 0;

	while (i < p->n && (p->chunks[i].ref != use || !p->chunks[i].want))
		i++;
	return i;
}

static int plan_job(void *arg)
{
	struct plan_job *j = arg;
	struct blob_plan *blobs;
	struct extents e;
	int r = extents_common(j->all, j->all_n, j->arena, &e);

	if (r < 0)
		return r;
	blobs = arena_alloc(j->arena, (e.blobs_n + 1) * sizeof(*blobs));
	j->ranges = arena_alloc(j->arena, (e.n + 1) * sizeof(*j->ranges));
	if (!blobs || !j->ranges)
		return -ENOMEM;
	r = plan_blobs(j, &e, blobs);
	for (size_t i = 0; r == 0 && i < e.n; i++) {
		struct blob_plan *p = &blobs[e.list[i].blob];
		size_t seed = seed_of(p, i);

		if (seed < p->n)
			j->ranges[j->n++] = one_range(j, &e.blobs[e.list[i].blob], p, seed);
	}
	return r;
}

may_suspend static int ask(const struct expected *x)
{
	struct starts *s = x->s;
	struct extents all[PREDICT_PROFILES_MAX];
	auto_arena struct arena a;
	struct plan_job j = {.x = x, .all = all, .arena = &a};
	uint64_t bytes = 0;
	int n, r;

	arena_init(&a, START_PROFILES_MEMORY);
	n = profiles_extents(s->o.profiles, profile_repository_of(str_of(x->ref)), &a, all,
			     PREDICT_PROFILES_MAX);
	if (n <= 0)
		return n;
	j.all_n = (size_t)n;
	r = work_run(s->o.threads, plan_job, &j);
	for (size_t i = 0; r == 0 && i < j.n; i++) {
		r = fetch_early(s->o.fetcher, &j.ranges[i]);
		bytes += r == 0 ? j.ranges[i].len : 0;
	}
	if (bytes)
		log_info("asked for early image=%s programs=%d bytes=%llu", x->ref, n,
			 (unsigned long long)bytes);
	return r;
}

static void expected_free(struct expected *x)
{
	free(x->ref);
	free(x);
}

may_suspend static int expect_task(void *arg)
{
	struct expected *x = arg;

	ask(x);
	x->s->expecting--;
	expected_free(x);
	return 0;
}

void starts_layer(struct starts *s, struct str ref, uint32_t layer)
{
	if (!profiles_any(s->o.profiles, profile_repository_of(ref)))
		fetch_first(s->o.fetcher, layer);
}

void starts_expect(struct starts *s, struct str ref, const struct digest *blobs, size_t n)
{
	struct expected *x;

	if (!n || s->expecting >= STARTS_EXPECTED_MAX)
		return;
	x = calloc(1, sizeof(*x) + n * sizeof(x->blobs[0]));
	if (x)
		x->ref = strndup(ref.p, ref.len);
	if (!x || !x->ref) {
		free(x);
		return;
	}
	x->s = s;
	x->blobs_n = n;
	memcpy(x->blobs, blobs, n * sizeof(*blobs));
	if (scope_spawn(&s->scope, expect_task, x, NULL) < 0) {
		expected_free(x);
		return;
	}
	s->expecting++;
}
