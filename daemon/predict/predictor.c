// SPDX-License-Identifier: Apache-2.0
/* The predictor's profiles and files. Owns all its memory. */
#include "predict/predictor.h"

#include "predict/predictor_impl.h"

#include "base/banned.h"

#define MEMORY_MAX MiB(32)

int predictor_new(const struct predict_options *o, struct predictor **ret)
{
	struct predictor *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->o = *o;
	p->o.ahead_min = o->ahead_min ? o->ahead_min : PREDICT_AHEAD_MIN;
	p->o.ahead_max = o->ahead_max ? o->ahead_max : PREDICT_AHEAD_MAX;
	p->rate = o->rate ? o->rate : PREDICT_RATE_START;
	list_init(&p->unjudged);
	arena_init(&p->arena, MEMORY_MAX);
	if (map_init(&p->paths) < 0 || map_init(&p->by_file) < 0 || map_init(&p->by_object) < 0) {
		predictor_free(p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

void predictor_free(struct predictor *p)
{
	if (!p)
		return;
	map_fini(&p->paths);
	map_fini(&p->by_file);
	map_fini(&p->by_object);
	free(p->files);
	free(p->order);
	free(p->fetch.entries);
	free(p->page.entries);
	arena_fini(&p->arena);
	free(p);
}

/* --- profiles --------------------------------------------------------------------------------- */

/* The place of the file with that path, which is made. */
static int file_of(struct predictor *p, struct str path, uint32_t *ret)
{
	struct map_node *node = map_get(&p->paths, path);
	struct file *f, **grown;
	char *name;

	if (node) {
		*ret = container_of(node, struct file, node)->index;
		return 0;
	}
	f = arena_alloc(&p->arena, sizeof(*f));
	name = arena_strndup(&p->arena, path.p, path.len);
	grown = reallocarray(p->files, p->files_n + 1, sizeof(*grown));
	if (grown)
		p->files = grown;
	if (!f || !name || !grown)
		return -ENOMEM;
	*f = (struct file){.node.key = {name, path.len}, .index = (uint32_t)p->files_n};
	map_put(&p->paths, &f->node);
	p->files[p->files_n] = f;
	*ret = (uint32_t)p->files_n++;
	return 0;
}

static struct str place_key(const struct unit *u)
{
	return (struct str){(const char *)&u->place, sizeof(u->place)};
}

/* That unit of the file, which is made. NULL in *ret: there are too many. */
static int unit_of(struct predictor *p, uint32_t file, uint32_t unit, struct unit **ret)
{
	const struct unit wanted = {.place = {file, unit}};
	struct map_node *node = map_get(&p->by_file, place_key(&wanted));
	struct unit *u;

	*ret = node ? container_of(node, struct unit, node) : NULL;
	if (node || p->units_n == PREDICT_UNITS_MAX)
		return 0;
	u = arena_alloc(&p->arena, sizeof(*u));
	if (!u)
		return -ENOMEM;
	*u = wanted;
	u->node.key = place_key(u);
	u->file = file;
	u->order = NOWHERE;
	u->next = p->files[file]->units;
	p->files[file]->units = u;
	list_init(&u->unjudged);
	map_put(&p->by_file, &u->node);
	p->units_n++;
	*ret = u;
	return 0;
}

static int add_use(struct predictor *p, struct candidate *c, uint32_t file,
		   const struct profile_use *use)
{
	struct unit *u;
	int r;

	for (uint32_t i = 0; i < use->units; i++) {
		r = unit_of(p, file, use->unit + i, &u);
		if (r < 0)
			return r;
		if (!u)
			continue;
		u->profiles |= (uint8_t)(1u << p->candidates_n);
		c->steps[c->steps_n++] = (struct step){u, use->at_us, use->weight};
	}
	return 0;
}

/* All that a call may need later, for the units that there are. */
static int make_room(struct predictor *p)
{
	size_t n = p->units_n + 1;
	struct unit **order = reallocarray(p->order, n, sizeof(*order));
	struct heap_entry *fetch = reallocarray(p->fetch.entries, 2 * n, sizeof(*fetch));
	struct heap_entry *page = reallocarray(p->page.entries, 2 * n, sizeof(*page));

	p->order = order ? order : p->order;
	p->fetch.entries = fetch ? fetch : p->fetch.entries;
	p->page.entries = page ? page : p->page.entries;
	return order && fetch && page ? 0 : -ENOMEM;
}

int predictor_add(struct predictor *p, const struct profile *profile)
{
	struct candidate c = {.starts = profile->starts};
	size_t units = 0;
	char *name;
	uint32_t file = 0;
	int r = 0;

	require(!p->settled && profile->starts > 0);
	if (p->candidates_n == PREDICT_PROFILES_MAX)
		return 0;
	for (size_t i = 0; i < profile->uses_n; i++)
		units += profile->uses[i].units;
	name = arena_strndup(&p->arena, profile->executable.p, profile->executable.len);
	c.steps = arena_alloc(&p->arena, (units + 1) * sizeof(*c.steps));
	if (!name || !c.steps)
		return -ENOMEM;
	c.executable = (struct str){name, profile->executable.len};
	for (size_t i = 0; i < profile->uses_n && r == 0; i++) {
		r = file_of(p, profile->paths[profile->uses[i].path], &file);
		if (r == 0)
			r = add_use(p, &c, file, &profile->uses[i]);
	}
	if (r == 0)
		r = make_room(p);
	if (r == 0)
		p->candidates[p->candidates_n++] = c;
	return r;
}

/* Chances, and the first order. */
void predictor_settle(struct predictor *p)
{
	uint64_t starts = 0;

	if (p->settled)
		return;
	p->settled = true;
	for (unsigned i = 0; i < p->candidates_n; i++)
		starts += p->candidates[i].starts;
	for (unsigned i = 0; i < p->candidates_n; i++) {
		const struct candidate *c = &p->candidates[i];

		for (size_t k = 0; k < c->steps_n; k++)
			c->steps[k].unit->chance +=
				(uint32_t)((uint64_t)c->steps[k].weight * c->starts / starts);
	}
	order_make(p, ORDER_ALL);
}

/* --- files ------------------------------------------------------------------------------------ */

size_t predictor_files(const struct predictor *p)
{
	return p->files_n;
}

struct str predictor_path(const struct predictor *p, size_t i)
{
	require(i < p->files_n);
	return p->files[i]->node.key;
}

/* Another path has the same content: that path's unit stands for u, at the earlier place. */
static void stand_in(struct predictor *p, struct unit *u, struct unit *other)
{
	u->state = UNIT_GONE;
	u->same = other;
	if (u->order >= other->order) /* nowhere is behind everything */
		return;
	if (u->order < p->position)
		judge_release(p, other);
	other->order = u->order;
	other->at_us = u->at_us;
	other->behind = false;
	p->order[other->order] = other;
	u->order = NOWHERE;
	order_ready(p, other);
}

static void unit_known(struct predictor *p, struct unit *u, const struct file *f)
{
	struct unit *other;

	map_del(&p->by_file, &u->node);
	if (unit_off(u) >= f->size) {
		u->state = UNIT_GONE;
		return;
	}
	other = order_find(p, f->object, u->place.unit);
	if (other) {
		stand_in(p, u, other);
		return;
	}
	u->place.of = f->object;
	map_put(&p->by_object, &u->node);
	order_ready(p, u);
}

void predictor_resolve(struct predictor *p, size_t i, uint64_t object, uint64_t size)
{
	struct file *f;

	require(i < p->files_n);
	predictor_settle(p);
	f = p->files[i];
	if (f->known)
		return;
	f->known = true;
	f->object = object;
	f->size = size;
	for (struct unit *u = f->units; u; u = u->next)
		unit_known(p, u, f);
}

void predictor_absent(struct predictor *p, size_t i)
{
	predictor_resolve(p, i, 0, 0);
}

/* --- the program ------------------------------------------------------------------------------ */

static int candidate_of(const struct predictor *p, struct str executable)
{
	for (unsigned i = 0; i < p->candidates_n; i++) {
		if (str_eq(p->candidates[i].executable, executable))
			return (int)i;
	}
	return -1;
}

bool predictor_knows(const struct predictor *p, struct str path)
{
	return candidate_of(p, path) >= 0 || candidate_of(p, STR("")) >= 0;
}

void predictor_exec(struct predictor *p, struct str path, uint64_t now_ns)
{
	int c = candidate_of(p, path);

	predictor_settle(p);
	judge_begin(p, now_ns);
	if (p->exec_seen)
		return;
	p->exec_seen = true;
	if (c < 0)
		c = candidate_of(p, STR(""));
	if (c >= 0)
		order_make(p, c);
	else
		order_make(p, p->candidates_n > 1 ? ORDER_COMMON : ORDER_NONE);
}

/* Without events of exec, the first file that is read says it too. */
void predictor_first_read(struct predictor *p, const struct unit *u)
{
	int c = candidate_of(p, p->files[u->file]->node.key);

	if (!p->exec_seen && p->candidates_n > 1 && c >= 0)
		order_make(p, c);
}

/* --- counts ----------------------------------------------------------------------------------- */

static unsigned percent(uint64_t part, uint64_t whole)
{
	return whole ? (unsigned)(part * 100 / whole) : 100;
}

void predictor_stats(const struct predictor *p, struct predict_stats *ret)
{
	struct predict_stats s = p->stats;
	uint64_t foreseen = s.hits.bytes + s.late.bytes + s.missed.bytes + s.local.bytes;

	s.precision = percent(s.right.bytes, s.right.bytes + s.wrong.bytes);
	s.recall = percent(foreseen, foreseen + s.unforeseen.bytes);
	s.rate = p->rate;
	s.window = order_window(p);
	s.position = p->position;
	s.places = p->places;
	s.begun = p->begun;
	s.stopped = judge_stopped(p);
	*ret = s;
}
