// SPDX-License-Identifier: Apache-2.0
/* Profiles from starts. Owns nothing; works on single units, which become uses again at the end. */
#include "predict/profile.h"

#include "base/banned.h"

#define STRETCH_MAX 16.0 /* of one start's times */

/* One unit of one path. */
struct unit {
	uint32_t path, unit, at_us, weight;
};

static int order(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int by_place(const void *a, const void *b)
{
	const struct unit *x = a, *y = b;
	int r = order(x->path, y->path);

	r = r ? r : order(x->unit, y->unit);
	return r ? r : order(x->at_us, y->at_us);
}

int profile_use_order(const void *a, const void *b)
{
	const struct profile_use *x = a, *y = b;
	int r = order(x->at_us, y->at_us);

	r = r ? r : order(x->path, y->path);
	return r ? r : order(x->unit, y->unit);
}

static int by_worth(const void *a, const void *b)
{
	const struct profile_use *x = a, *y = b;
	int r = order(y->weight, x->weight);

	return r ? r : profile_use_order(a, b);
}

static uint32_t least_u32(uint64_t a, uint64_t b)
{
	return (uint32_t)(a < b ? a : b);
}

/* --- what is allowed -------------------------------------------------------------------------- */

bool profile_path_ok(struct str path)
{
	size_t from = 1;

	if (path.len < 2 || path.len > PROFILE_PATH_MAX || path.p[0] != '/' ||
	    memchr(path.p, '\0', path.len))
		return false;
	for (size_t i = 1; i <= path.len; i++) {
		struct str part = {path.p + from, i - from};

		if (i < path.len && path.p[i] != '/')
			continue;
		if (part.len == 0 || str_eq(part, STR(".")) || str_eq(part, STR("..")))
			return false;
		from = i + 1;
	}
	return true;
}

struct str profile_repository_of(struct str reference)
{
	const char *at, *colon;

	if (reference.len == 0)
		return reference;
	at = memchr(reference.p, '@', reference.len);
	if (at)
		reference.len = (size_t)(at - reference.p);
	colon = memrchr(reference.p, ':', reference.len);
	if (colon && !memchr(colon, '/', (size_t)(reference.p + reference.len - colon)))
		reference.len = (size_t)(colon - reference.p);
	return reference;
}

bool profile_repository_ok(struct str repository)
{
	if (repository.len == 0 || repository.len > REF_MAX)
		return false;
	for (size_t i = 0; i < repository.len; i++) {
		if (repository.p[i] < '!' || repository.p[i] > '~')
			return false;
	}
	return profile_repository_of(repository).len == repository.len;
}

static bool use_ok(const struct profile *p, const struct profile_use *u)
{
	return u->path < p->paths_n && u->units > 0 && u->units <= PROFILE_UNITS_MAX &&
	       u->unit < PROFILE_UNIT_END && u->units <= PROFILE_UNIT_END - u->unit &&
	       u->at_us <= PROFILE_SPAN_MAX_US && u->weight > 0 && u->weight <= PROFILE_WEIGHT_ONE;
}

/* Of the uses in the order of their places: no unit twice, and all paths are there. */
static int check_places(const struct profile *p, struct err *err)
{
	auto_free struct unit *units = reallocarray(NULL, p->uses_n + 1, sizeof(*units));
	uint32_t path = 0, end = 0;

	if (!units)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < p->uses_n; i++)
		units[i] = (struct unit){p->uses[i].path, p->uses[i].unit, p->uses[i].units, 0};
	qsort(units, p->uses_n, sizeof(*units), by_place);
	for (size_t i = 0; i < p->uses_n; i++) {
		if (i > 0 ? units[i].path - path > 1 : units[i].path > 0)
			return err_set(err, -EINVAL, "a path without a use");
		if (i > 0 && units[i].path == path && units[i].unit < end)
			return err_set(err, -EINVAL, "a unit of a path is there twice");
		path = units[i].path;
		end = units[i].unit + units[i].at_us;
	}
	if (p->paths_n != (p->uses_n ? path + 1 : 0))
		return err_set(err, -EINVAL, "a path without a use");
	return 0;
}

static int check_head(const struct profile *p, struct err *err)
{
	if (!profile_repository_ok(p->repository))
		return err_set(err, -EINVAL, "not the name of a repository");
	if (p->executable.len && !profile_path_ok(p->executable))
		return err_set(err, -EINVAL, "not the path of an executable");
	if (p->starts == 0 || p->whole > p->starts)
		return err_set(err, -EINVAL, "%u starts, %u of them whole", p->starts, p->whole);
	if (p->span_us > PROFILE_SPAN_MAX_US || p->last_ns < 0)
		return err_set(err, -EINVAL, "a start of %u us at %lld ns", p->span_us,
			       (long long)p->last_ns);
	if (p->uses_n > PROFILE_USES_MAX || p->paths_n > p->uses_n)
		return err_set(err, -EINVAL, "%zu uses of %zu paths", p->uses_n, p->paths_n);
	return 0;
}

int profile_check(const struct profile *p, struct err *err)
{
	uint64_t units = 0;
	int r = check_head(p, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < p->paths_n; i++) {
		if (!profile_path_ok(p->paths[i]))
			return err_set(err, -EINVAL, "path %zu is not clean and absolute", i);
		if (i > 0 && str_cmp(p->paths[i - 1], p->paths[i]) >= 0)
			return err_set(err, -EINVAL, "path %zu is out of order", i);
	}
	for (size_t i = 0; i < p->uses_n; i++) {
		if (!use_ok(p, &p->uses[i]))
			return err_set(err, -EINVAL, "use %zu is out of bounds", i);
		if (i > 0 && profile_use_order(&p->uses[i - 1], &p->uses[i]) >= 0)
			return err_set(err, -EINVAL, "use %zu is out of order", i);
		units += p->uses[i].units;
	}
	if (units > PROFILE_UNITS_MAX || profile_size(p) > PROFILE_BYTES_MAX)
		return err_set(err, -EINVAL, "larger than a profile may be");
	return check_places(p, err);
}

/* --- units to uses ---------------------------------------------------------------------------- */

/* Neighbours of one weight and about one time become one use; units are in the order of places. */
static size_t join(const struct unit *units, size_t n, struct profile_use *uses)
{
	uint32_t first = 0, last = 0; /* times of the open use */
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		const struct unit *u = &units[i];
		struct profile_use *open = out ? &uses[out - 1] : NULL;
		uint32_t lo = u->at_us < first ? u->at_us : first;
		uint32_t hi = u->at_us > last ? u->at_us : last;

		if (open && open->path == u->path && open->unit + open->units == u->unit &&
		    open->weight == u->weight && hi - lo <= PROFILE_JOIN_US) {
			open->units++;
			open->at_us = first = lo;
			last = hi;
			continue;
		}
		uses[out++] = (struct profile_use){u->path, u->unit, 1, u->at_us, u->weight};
		first = last = u->at_us;
	}
	return out;
}

/* Keeps the worthiest that the bounds take. taken: one byte a path, zeroed. */
static size_t bound(const struct str *paths, struct profile_use *uses, size_t n, uint8_t *taken)
{
	struct profile none = {0};
	size_t bytes = profile_size(&none), out = 0;
	uint32_t room = PROFILE_UNITS_MAX;

	qsort(uses, n, sizeof(*uses), by_worth);
	for (size_t i = 0; i < n && out < PROFILE_USES_MAX && room > 0; i++) {
		struct profile_use u = uses[i];
		size_t more = sizeof(u);

		if (!taken[u.path])
			more += sizeof(uint32_t) + paths[u.path].len;
		if (bytes + more > PROFILE_BYTES_MAX)
			continue;
		bytes += more;
		taken[u.path] = 1;
		u.units = least_u32(u.units, room);
		room -= u.units;
		uses[out++] = u;
	}
	return out;
}

/* Puts the paths that are still used, and the uses, into ret. */
static int settle(const struct str *paths, size_t paths_n, struct profile_use *uses, size_t n,
		  const uint8_t *taken, struct arena *a, struct profile *ret)
{
	auto_free uint32_t *place = reallocarray(NULL, paths_n + 1, sizeof(*place));
	struct str *out = arena_alloc(a, (paths_n + 1) * sizeof(*out));
	struct profile_use *kept = arena_alloc(a, (n + 1) * sizeof(*kept));
	uint32_t m = 0;

	if (!place || !out || !kept)
		return -ENOMEM;
	for (size_t i = 0; i < paths_n; i++) {
		place[i] = m;
		if (taken[i])
			out[m++] = paths[i];
	}
	for (size_t i = 0; i < n; i++) {
		kept[i] = uses[i];
		kept[i].path = place[kept[i].path];
	}
	qsort(kept, n, sizeof(*kept), profile_use_order);
	ret->paths = out;
	ret->paths_n = m;
	ret->uses = kept;
	ret->uses_n = n;
	return 0;
}

/* paths: ordered, none twice; units: in the order of places, none twice. */
static int finish(const struct str *paths, size_t paths_n, const struct unit *units, size_t n,
		  struct arena *a, struct profile *ret)
{
	auto_free struct profile_use *uses = reallocarray(NULL, n + 1, sizeof(*uses));
	auto_free uint8_t *taken = calloc(1, paths_n + 1);

	if (!uses || !taken)
		return -ENOMEM;
	n = join(units, n, uses);
	n = bound(paths, uses, n, taken);
	return settle(paths, paths_n, uses, n, taken, a, ret);
}

/* --- from one start --------------------------------------------------------------------------- */

struct gathering {
	const struct profile_start *s;
	struct str *paths; /* ordered, none twice */
	size_t paths_n;
	struct unit *units;
	size_t n, looked;
};
#define GATHER_MAX (2 * (size_t)PROFILE_UNITS_MAX)
#define LOOKS_MAX  (16 * (size_t)PROFILE_UNITS_MAX) /* units that events name, repeats too */

static int compare_paths(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static bool event_ok(const struct profile_event *e)
{
	return profile_path_ok(e->path) && e->units > 0 && e->unit < PROFILE_UNIT_END &&
	       e->units <= PROFILE_UNIT_END - e->unit;
}

static void gather_paths(struct gathering *g)
{
	size_t n = 0, out = 0;

	for (size_t i = 0; i < g->s->events_n; i++) {
		if (event_ok(&g->s->events[i]))
			g->paths[n++] = g->s->events[i].path;
	}
	qsort(g->paths, n, sizeof(*g->paths), compare_paths);
	for (size_t i = 0; i < n; i++) {
		if (out == 0 || !str_eq(g->paths[out - 1], g->paths[i]))
			g->paths[out++] = g->paths[i];
	}
	g->paths_n = out;
}

/* Of each unit the first use is left. */
static void gather_once(struct gathering *g)
{
	size_t out = 0;

	qsort(g->units, g->n, sizeof(*g->units), by_place);
	for (size_t i = 0; i < g->n; i++) {
		if (out > 0 && g->units[out - 1].path == g->units[i].path &&
		    g->units[out - 1].unit == g->units[i].unit)
			continue;
		g->units[out++] = g->units[i];
	}
	g->n = out;
}

/* Half of it, after the repeats are gone, or this is the end. */
static bool room(struct gathering *g)
{
	if (g->looked++ == LOOKS_MAX)
		return false;
	if (g->n < GATHER_MAX)
		return true;
	gather_once(g);
	return g->n <= PROFILE_UNITS_MAX;
}

static void gather_units(struct gathering *g)
{
	for (size_t i = 0; i < g->s->events_n; i++) {
		const struct profile_event *e = &g->s->events[i];
		const struct str *path;

		if (!event_ok(e))
			continue;
		path = bsearch(&e->path, g->paths, g->paths_n, sizeof(*path), compare_paths);
		require(path);
		for (uint32_t u = 0; u < e->units; u++) {
			if (!room(g))
				return;
			g->units[g->n++] = (struct unit){(uint32_t)(path - g->paths), e->unit + u,
							 least_u32(e->at_us, PROFILE_SPAN_MAX_US),
							 PROFILE_WEIGHT_ONE};
		}
	}
}

int profile_build(const struct profile_start *s, struct arena *a, struct profile *ret,
		  struct err *err)
{
	auto_free struct str *paths = reallocarray(NULL, s->events_n + 1, sizeof(*paths));
	auto_free struct unit *units = reallocarray(NULL, GATHER_MAX, sizeof(*units));
	struct gathering g = {.s = s, .paths = paths, .units = units};
	struct profile out = {
		.repository = s->repository,
		.executable = s->executable,
		.starts = 1,
		.whole = s->whole,
		.last_ns = s->when_ns,
		.span_us = least_u32(s->span_us, PROFILE_SPAN_MAX_US),
	};
	int r = check_head(&out, err);

	if (r < 0)
		return r;
	if (!paths || !units)
		return err_set(err, -ENOMEM, "out of memory");
	gather_paths(&g);
	gather_units(&g);
	gather_once(&g);
	r = finish(g.paths, g.paths_n, g.units, g.n, a, &out);
	if (r < 0)
		return err_set(err, r, "no memory for a profile");
	*ret = out;
	return 0;
}

/* --- merging ---------------------------------------------------------------------------------- */

struct merging {
	const struct profile *old, *new;
	uint32_t k;         /* the new start is 1/k */
	double align, grow; /* what new's times are stretched by; what all times are then */
	struct str *paths;  /* of both */
	size_t paths_n;
	uint32_t *old_at, *new_at; /* where their paths are in paths */
};

static void merge_paths(struct merging *m)
{
	const struct profile *o = m->old, *n = m->new;
	size_t i = 0, j = 0;
	int r;

	while (i < o->paths_n || j < n->paths_n) {
		r = i == o->paths_n ? 1 : j == n->paths_n ? -1 : str_cmp(o->paths[i], n->paths[j]);
		m->paths[m->paths_n] = r <= 0 ? o->paths[i] : n->paths[j];
		if (r <= 0)
			m->old_at[i++] = (uint32_t)m->paths_n;
		if (r >= 0)
			m->new_at[j++] = (uint32_t)m->paths_n;
		m->paths_n++;
	}
}

/* In the order of places. */
static size_t spread(const struct profile *p, const uint32_t *place, struct unit *units)
{
	size_t n = 0;

	for (size_t i = 0; i < p->uses_n; i++) {
		const struct profile_use *u = &p->uses[i];

		for (uint32_t k = 0; k < u->units; k++)
			units[n++] =
				(struct unit){place[u->path], u->unit + k, u->at_us, u->weight};
	}
	qsort(units, n, sizeof(*units), by_place);
	return n;
}

static int compare_places(const struct unit *a, const struct unit *b)
{
	int r = order(a->path, b->path);

	return r ? r : order(a->unit, b->unit);
}

/* From the times of what both have. */
static void stretch(struct merging *m, const struct unit *a, size_t a_n, const struct unit *b,
		    size_t b_n)
{
	uint64_t old_sum = 0, new_sum = 0;
	double ratio;
	int r;

	for (size_t i = 0, j = 0; i < a_n && j < b_n;) {
		r = compare_places(&a[i], &b[j]);
		if (r == 0) {
			old_sum += a[i].at_us;
			new_sum += b[j].at_us;
		}
		i += r <= 0;
		j += r >= 0;
	}
	m->align = m->grow = 1;
	if (!old_sum || !new_sum)
		return;
	ratio = (double)new_sum / (double)old_sum;
	ratio = ratio < 1 / STRETCH_MAX ? 1 / STRETCH_MAX : ratio;
	ratio = ratio > STRETCH_MAX ? STRETCH_MAX : ratio;
	m->align = 1 / ratio;
	m->grow = 1 + (ratio - 1) / m->k;
}

static uint32_t to_us(double t)
{
	return t >= PROFILE_SPAN_MAX_US ? PROFILE_SPAN_MAX_US : (uint32_t)(t + 0.5);
}

/* a: of old, or NULL; b: of new, or NULL. */
static struct unit merge_one(const struct merging *m, const struct unit *a, const struct unit *b)
{
	struct unit u = a ? *a : *b;
	double at = u.at_us;

	if (a && b) {
		u.weight += (PROFILE_WEIGHT_ONE - u.weight + m->k - 1) / m->k;
		at += (b->at_us * m->align - at) / m->k;
	} else if (b) {
		u.weight = m->old->whole ? PROFILE_WEIGHT_ONE / m->k : PROFILE_WEIGHT_ONE;
		at *= m->align;
	} else if (m->new->whole) {
		u.weight -= (u.weight + m->k - 1) / m->k;
	}
	u.at_us = to_us(at * m->grow);
	return u;
}

static size_t merge_units(struct merging *m, const struct unit *a, size_t a_n, const struct unit *b,
			  size_t b_n, struct unit *out)
{
	size_t n = 0;
	int r;

	for (size_t i = 0, j = 0; i < a_n || j < b_n;) {
		r = i == a_n ? 1 : j == b_n ? -1 : compare_places(&a[i], &b[j]);
		out[n] = merge_one(m, r <= 0 ? &a[i] : NULL, r >= 0 ? &b[j] : NULL);
		n += out[n].weight >= PROFILE_WEIGHT_MIN;
		i += r <= 0;
		j += r >= 0;
	}
	return n;
}

static void merge_head(const struct merging *m, struct profile *out)
{
	const struct profile *new = m->new;

	*out = *m->old;
	out->starts += out->starts < UINT32_MAX;
	out->whole += new->whole && out->whole < UINT32_MAX;
	if (new->last_ns > out->last_ns)
		out->last_ns = new->last_ns;
	if (new->whole || !out->span_us)
		out->span_us = (uint32_t)((int64_t)out->span_us +
					  ((int64_t) new->span_us - out->span_us) / m->k);
}

static int merge_uses(struct merging *m, struct arena *a, struct profile *out)
{
	auto_free struct unit *units =
		reallocarray(NULL, 4 * (size_t)PROFILE_UNITS_MAX, sizeof(*units));
	struct unit *old = units, *new = units + PROFILE_UNITS_MAX, *both;
	size_t old_n, new_n, n;

	if (!units)
		return -ENOMEM;
	both = units + 2 * (size_t)PROFILE_UNITS_MAX;
	old_n = spread(m->old, m->old_at, old);
	new_n = spread(m->new, m->new_at, new);
	stretch(m, old, old_n, new, new_n);
	n = merge_units(m, old, old_n, new, new_n, both);
	return finish(m->paths, m->paths_n, both, n, a, out);
}

int profile_merge(const struct profile *old, const struct profile *new, struct arena *a,
		  struct profile *ret, struct err *err)
{
	size_t n = old->paths_n + new->paths_n + 1;
	auto_free struct str *paths = reallocarray(NULL, n, sizeof(*paths));
	auto_free uint32_t *places = reallocarray(NULL, n, sizeof(*places));
	struct merging m = {.old = old, .new = new, .paths = paths};
	struct profile out;
	int r;

	if (!paths || !places)
		return err_set(err, -ENOMEM, "out of memory");
	if (new->uses_n == 0) {
		*ret = *old;
		return 0;
	}
	m.k = least_u32((uint64_t)old->starts + 1, PROFILE_MERGE_STARTS);
	m.old_at = places;
	m.new_at = places + old->paths_n;
	merge_paths(&m);
	merge_head(&m, &out);
	r = merge_uses(&m, a, &out);
	if (r < 0)
		return err_set(err, r, "no memory for a profile");
	*ret = out;
	return 0;
}
