// SPDX-License-Identifier: Apache-2.0
/*
 * Where in the blobs of the image's layers what its program reads lies: paths of the profile to
 * contents by the mounted tree, contents to chunks by the layers' indexes. On a thread.
 */
#include <stdlib.h>
#include <string.h>

#include "image/fetch_plan.h"
#include "image/index.h"
#include "image/lookup.h"
#include "start/impl.h"

#include "base/banned.h"

/* A path of the profile. */
struct located {
	struct digest key; /* all zero: no content, or a small one in the tree itself */
	bool found;        /* in the layer that is looked at, as: */
	bool done;         /* in one of those before */
	struct index_object o;
};

struct place {
	uint32_t use, nth; /* the order */
	struct extent x;   /* content: of the path */
};

struct locating {
	const struct locate *in;
	struct located *paths;
	uint32_t *by_key; /* paths, ordered */
	size_t keys_n;
	struct place *places;
	size_t places_n;
};

static int key_cmp(const void *pa, const void *pb, void *arg)
{
	const struct locating *l = arg;

	return memcmp(&l->paths[*(const uint32_t *)pa].key, &l->paths[*(const uint32_t *)pb].key,
		      DIGEST_SIZE);
}

static void look_up(struct locating *l)
{
	const struct profile *p = l->in->profile;
	struct lookup_file file;

	for (uint32_t i = 0; i < p->paths_n; i++) {
		char path[PROFILE_PATH_MAX + 1];

		memcpy(path, p->paths[i].p, p->paths[i].len);
		path[p->paths[i].len] = '\0';
		if (lookup_file(l->in->root_fd, path, &file) < 0 || file.embedded)
			continue;
		l->paths[i].key = file.key;
		l->by_key[l->keys_n++] = i;
	}
	if (l->keys_n)
		qsort_r(l->by_key, l->keys_n, sizeof(*l->by_key), key_cmp, l);
}

/* All paths that have that content. */
static void find(struct locating *l, const struct index_object *o)
{
	size_t lo = 0, hi = l->keys_n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (memcmp(&l->paths[l->by_key[mid]].key, &o->key, DIGEST_SIZE) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < l->keys_n && digest_eq(&l->paths[l->by_key[lo]].key, &o->key); lo++) {
		struct located *at = &l->paths[l->by_key[lo]];

		at->found = !at->done;
		at->o = *o;
	}
}

/* The first of its chunks that ends behind off. */
static uint32_t chunk_behind(const struct index *ix, const struct index_object *o, uint64_t off)
{
	uint32_t lo = 0, hi = o->chunks_n;
	struct index_chunk c;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		index_chunk(ix, o->chunk + mid, &c);
		if (c.file_off + c.size <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void add_use(struct locating *l, const struct index *ix, uint32_t blob, uint32_t use)
{
	const struct profile_use *u = &l->in->profile->uses[use];
	const struct located *at = &l->paths[u->path];
	uint64_t off = (uint64_t)u->unit * PROFILE_UNIT,
		 end = off + (uint64_t)u->units * PROFILE_UNIT;
	struct index_chunk c;

	for (uint32_t i = chunk_behind(ix, &at->o, off);
	     i < at->o.chunks_n && l->places_n < EXTENTS_MAX; i++) {
		index_chunk(ix, at->o.chunk + i, &c);
		if (c.file_off >= end)
			return;
		if (!c.zeros)
			l->places[l->places_n++] =
				(struct place){use,
					       i,
					       {blob, u->path, c.blob_off,
						plan_stream_len(c.blob_len, c.inner_off + c.size)}};
	}
}

static int look_in_layer(struct locating *l, uint32_t blob)
{
	const struct profile *p = l->in->profile;
	auto_index struct index *ix = NULL;
	int r = index_load(l->in->fds[blob], &ix, NULL);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < index_info(ix)->objects_n; i++) {
		struct index_object o;

		index_object(ix, i, &o);
		find(l, &o);
	}
	for (uint32_t i = 0; i < p->uses_n; i++) {
		if (p->uses[i].weight >= PREDICT_UNSURE_MIN && l->paths[p->uses[i].path].found)
			add_use(l, ix, blob, i);
	}
	for (size_t i = 0; i < p->paths_n; i++) {
		l->paths[i].done = l->paths[i].done || l->paths[i].found;
		l->paths[i].found = false;
	}
	return 0;
}

static int by_order(const void *pa, const void *pb)
{
	const struct place *a = pa, *b = pb;

	if (a->use != b->use)
		return a->use < b->use ? -1 : 1;
	return a->nth < b->nth ? -1 : a->nth > b->nth;
}

/* Several chunks may be in one stream: as much of it as the last of them needs. */
static bool is_there(struct extent *list, size_t n, const struct extent *x, uint64_t *bytes)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i].blob != x->blob || list[i].off != x->off)
			continue;
		if (x->len > list[i].len && *bytes + x->len - list[i].len <= EXTENTS_BYTES_MAX) {
			*bytes += x->len - list[i].len;
			list[i].len = x->len;
		}
		return true;
	}
	return false;
}

/* In the order of use, each once, as many as EXTENTS_BYTES_MAX are. */
static int finish(struct locating *l)
{
	const struct locate *in = l->in;
	size_t paths_n = in->profile->paths_n;
	struct extent *list = arena_alloc(in->arena, (l->places_n + 1) * sizeof(*list));
	struct digest *contents = arena_alloc(in->arena, (paths_n + 1) * sizeof(*contents));
	uint32_t *nth = arena_alloc(in->arena, (paths_n + 1) * sizeof(*nth));
	struct extents *e = in->ret;
	uint64_t bytes = 0;

	if (!list || !contents || !nth)
		return -ENOMEM;
	memset(nth, 0xff, paths_n * sizeof(*nth));
	*e = (struct extents){.blobs = in->blobs, .blobs_n = in->n};
	if (l->places_n)
		qsort(l->places, l->places_n, sizeof(*l->places), by_order);
	for (size_t i = 0; i < l->places_n; i++) {
		struct extent x = l->places[i].x;
		uint32_t path = x.content;

		if (is_there(list, e->n, &x, &bytes))
			continue;
		if (bytes + x.len > EXTENTS_BYTES_MAX)
			break;
		bytes += x.len;
		if (nth[path] == UINT32_MAX) {
			nth[path] = (uint32_t)e->contents_n;
			contents[e->contents_n++] = l->paths[path].key;
		}
		x.content = nth[path];
		list[e->n++] = x;
	}
	e->list = list;
	e->contents = contents;
	return 0;
}

int locate(const struct locate *in)
{
	auto_free struct located *paths = calloc(in->profile->paths_n + 1, sizeof(*paths));
	auto_free uint32_t *by_key = calloc(in->profile->paths_n + 1, sizeof(*by_key));
	auto_free struct place *places = calloc(EXTENTS_MAX, sizeof(*places));
	struct locating l = {.in = in, .paths = paths, .by_key = by_key, .places = places};
	int r = 0;

	if (!paths || !by_key || !places)
		return -ENOMEM;
	look_up(&l);
	for (uint32_t i = 0; r == 0 && i < in->n; i++)
		r = look_in_layer(&l, i);
	return r < 0 ? r : finish(&l);
}
