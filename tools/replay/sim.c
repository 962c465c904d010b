// SPDX-License-Identifier: Apache-2.0
/* The simulation of sim.h. Owns its pieces: units of files that are read or asked for. */
#include "sim.h"

#include "base/list.h"
#include "base/map.h"

#include "base/banned.h"

#define NEVER      UINT64_MAX
#define MEMORY_MAX MiB(256)
#define RANGES     32

enum piece_state { PIECE_AWAY, PIECE_QUEUED, PIECE_SENT, PIECE_HERE };

struct piece {
	struct map_node node; /* in sim.pieces */
	struct {
		uint32_t file, unit;
	} place;
	struct list link; /* in sim.wanted or sim.foreseen, by ready_ns */
	uint64_t bytes, ready_ns;
	enum piece_state state;
	bool predicted, used, awaited;
};

struct sim {
	const struct recording *rec;
	struct sim_link net;
	struct predictor *predictor; /* NULL = none */
	uint64_t *sizes; /* of the recording's files, then of what else the profile names */
	struct arena arena;
	struct map pieces;
	struct list wanted, foreseen; /* piece.link */
	struct piece *sending;
	uint64_t now_ns, sent_ns; /* when the sending one is here */
	size_t event;             /* the program's next access */
	bool started;
	unsigned blocked; /* pieces that the program waits for */
	uint64_t since_ns, waited_ns;
	struct sim_result *out;
	bool no_memory;
};

static void count(struct predict_count *c, uint64_t bytes)
{
	c->units++;
	c->bytes += bytes;
}

/* --- pieces ----------------------------------------------------------------------------------- */

static struct piece *piece_find(struct sim *s, uint32_t file, uint32_t unit)
{
	const struct piece wanted = {.place = {file, unit}};
	struct map_node *node = map_get(
		&s->pieces, (struct str){(const char *)&wanted.place, sizeof(wanted.place)});

	return node ? container_of(node, struct piece, node) : NULL;
}

/* NULL: no memory, which ends the simulation. */
static struct piece *piece_get(struct sim *s, uint32_t file, uint32_t unit)
{
	uint64_t rest = s->sizes[file] - (uint64_t)unit * PROFILE_UNIT;
	struct piece *p = piece_find(s, file, unit);

	if (p)
		return p;
	p = arena_alloc(&s->arena, sizeof(*p));
	if (!p) {
		s->no_memory = true;
		return NULL;
	}
	*p = (struct piece){.place = {file, unit},
			    .bytes = rest < PROFILE_UNIT ? rest : PROFILE_UNIT};
	p->node.key = (struct str){(const char *)&p->place, sizeof(p->place)};
	list_init(&p->link);
	map_put(&s->pieces, &p->node);
	return p;
}

/* Into the queue, which is in the order of ready_ns. */
static void enqueue(struct list *queue, struct piece *p)
{
	struct list *at = queue->prev;

	while (at != queue && container_of(at, struct piece, link)->ready_ns > p->ready_ns)
		at = at->prev;
	list_push_front(at, &p->link);
}

static void ask(struct sim *s, struct list *queue, struct piece *p)
{
	p->state = PIECE_QUEUED;
	p->ready_ns = s->now_ns + s->net.rtt_ns;
	enqueue(queue, p);
}

/* --- the prediction --------------------------------------------------------------------------- */

static bool is_here(void *arg, uint64_t object, uint64_t off, uint64_t len)
{
	struct piece *p = piece_find(arg, (uint32_t)object, (uint32_t)(off / PROFILE_UNIT));

	(void)len; /* the predictor asks unit by unit */
	return p && p->state == PIECE_HERE;
}

static void ask_range(struct sim *s, const struct predict_range *r)
{
	uint32_t first = (uint32_t)(r->off / PROFILE_UNIT);

	s->out->foreseen++;
	for (uint64_t done = 0; done < r->len; done += PROFILE_UNIT) {
		struct piece *p =
			piece_get(s, (uint32_t)r->object, first + (uint32_t)(done / PROFILE_UNIT));

		if (!p)
			return;
		if (p->state != PIECE_AWAY)
			continue;
		p->predicted = true;
		ask(s, &s->foreseen, p);
	}
}

static void predict(struct sim *s)
{
	struct predict_range ranges[RANGES];
	size_t n = RANGES;

	while (s->predictor && n == RANGES) {
		n = predictor_next(s->predictor, s->now_ns, ranges, RANGES);
		for (size_t i = 0; i < n; i++)
			ask_range(s, &ranges[i]);
	}
}

static uint32_t file_of(const struct recording *rec, struct str path)
{
	for (size_t i = 0; i < rec->files_n; i++) {
		if (str_eq(rec->files[i].path, path))
			return (uint32_t)i;
	}
	return UINT32_MAX;
}

/* Where the profile's last use of that path ends. */
static uint64_t size_in(const struct profile *profile, struct str path)
{
	uint64_t end = 0;

	for (size_t i = 0; i < profile->uses_n; i++) {
		const struct profile_use *u = &profile->uses[i];

		if (str_eq(profile->paths[u->path], path) && (uint64_t)u->unit + u->units > end)
			end = (uint64_t)u->unit + u->units;
	}
	return end * PROFILE_UNIT;
}

static int prediction_start(struct sim *s, const struct profile *profile)
{
	const struct predict_options o = {
		.rtt_ns = s->net.rtt_ns, .rate = s->net.rate, .here = is_here, .arg = s};
	uint32_t others = (uint32_t)s->rec->files_n;
	int r;

	require(profile);
	r = predictor_new(&o, &s->predictor);
	if (r == 0)
		r = predictor_add(s->predictor, profile);
	for (size_t i = 0; r == 0 && i < predictor_files(s->predictor); i++) {
		struct str path = predictor_path(s->predictor, i);
		uint32_t file = file_of(s->rec, path);

		if (file == UINT32_MAX) {
			file = others++;
			s->sizes[file] = size_in(profile, path);
		}
		predictor_resolve(s->predictor, i, file, s->sizes[file]);
	}
	return r;
}

/* --- the program ------------------------------------------------------------------------------ */

static void use_piece(struct sim *s, struct piece *p, struct piece **last)
{
	struct sim_result *out = s->out;

	if (!p->used) {
		p->used = true;
		count(&out->used, p->bytes);
		count(p->state == PIECE_HERE   ? &out->hits
		      : p->state == PIECE_AWAY ? &out->missed
					       : &out->late,
		      p->bytes);
	}
	if (p->state == PIECE_HERE)
		return;
	if (p->state == PIECE_AWAY) {
		out->requests += !*last || (*last)->place.unit + 1 != p->place.unit;
		*last = p;
		ask(s, &s->wanted, p);
	} else if (p->state == PIECE_QUEUED && !p->awaited) {
		list_del(&p->link);
		enqueue(&s->wanted, p);
	}
	p->awaited = true;
	s->blocked++;
}

static uint32_t units_of(const struct recording *rec, const struct recording_event *e)
{
	uint64_t end = (rec->files[e->file].size + PROFILE_UNIT - 1) / PROFILE_UNIT;

	return end - e->unit < e->units ? (uint32_t)(end - e->unit) : e->units;
}

static void access_next(struct sim *s)
{
	const struct recording_event *e = &s->rec->events[s->event++];
	uint32_t n = e->units ? units_of(s->rec, e) : 0;
	struct piece *last = NULL;

	s->since_ns = s->now_ns;
	for (uint32_t i = 0; i < n; i++) {
		struct piece *p = piece_get(s, e->file, e->unit + i);

		if (!p)
			return;
		use_piece(s, p, &last);
	}
	if (s->predictor && n)
		predictor_seen(s->predictor, e->file, e->unit, n, s->now_ns);
	predict(s);
}

static void program_start(struct sim *s)
{
	s->started = true;
	if (s->predictor && s->rec->executable.len)
		predictor_exec(s->predictor, s->rec->executable, s->now_ns);
	predict(s);
}

static uint64_t program_time(const struct sim *s)
{
	if (!s->started)
		return s->net.lead_ns;
	if (s->blocked || s->event == s->rec->events_n)
		return NEVER;
	return s->net.lead_ns + s->rec->events[s->event].t_us * 1000 + s->waited_ns;
}

/* --- the link --------------------------------------------------------------------------------- */

static struct piece *first_of(const struct list *queue)
{
	return list_empty(queue) ? NULL : container_of(queue->next, struct piece, link);
}

/* When the next one may be sent. */
static uint64_t link_time(const struct sim *s)
{
	const struct piece *a = first_of(&s->wanted), *b = first_of(&s->foreseen);
	uint64_t at = NEVER;

	if (s->sending)
		return NEVER;
	if (a)
		at = a->ready_ns;
	if (b && b->ready_ns < at)
		at = b->ready_ns;
	return at < s->now_ns ? s->now_ns : at;
}

static void link_send(struct sim *s)
{
	struct piece *p = first_of(&s->wanted);

	if (!p || p->ready_ns > s->now_ns)
		p = first_of(&s->foreseen);
	require(p);
	list_del(&p->link);
	p->state = PIECE_SENT;
	s->sending = p;
	s->sent_ns = s->now_ns + (uint64_t)((unsigned __int128)p->bytes * 1000000000 / s->net.rate);
}

static void link_sent(struct sim *s)
{
	struct piece *p = s->sending;

	require(p);
	s->sending = NULL;
	p->state = PIECE_HERE;
	if (p->awaited) {
		p->awaited = false;
		s->blocked--;
		if (s->blocked == 0)
			s->waited_ns += s->now_ns - s->since_ns;
	}
	if (s->predictor)
		predictor_arrived(s->predictor, p->place.file,
				  (uint64_t)p->place.unit * PROFILE_UNIT, p->bytes, s->now_ns);
	predict(s);
}

/* --- all of it -------------------------------------------------------------------------------- */

/* All that will be read, at once. */
static void ask_all(struct sim *s)
{
	const struct piece *last = NULL;

	for (size_t i = 0; i < s->rec->events_n; i++) {
		const struct recording_event *e = &s->rec->events[i];

		for (uint32_t k = 0; e->units && k < units_of(s->rec, e); k++) {
			struct piece *p = piece_get(s, e->file, e->unit + k);

			if (!p)
				return;
			if (p->state != PIECE_AWAY)
				continue;
			p->predicted = true;
			ask(s, &s->foreseen, p);
			s->out->foreseen += !last || last->place.file != e->file ||
					    last->place.unit + 1 != e->unit + k;
			last = p;
		}
	}
}

/* What the program has waited until it was ready. */
static void note_ready(struct sim *s)
{
	const struct recording *rec = s->rec;
	bool more = s->event < rec->events_n;

	if (s->blocked || (rec->ready_us && more && rec->events[s->event].t_us <= rec->ready_us))
		return;
	if (s->out->ready_ns || (!rec->ready_us && more))
		return;
	s->out->waited_ns = s->waited_ns;
	s->out->ready_ns = s->waited_ns;
	if (rec->ready_us)
		s->out->ready_ns += rec->ready_us * 1000;
	else if (rec->events_n)
		s->out->ready_ns += rec->events[rec->events_n - 1].t_us * 1000;
}

static void run(struct sim *s)
{
	while (!s->no_memory && (s->event < s->rec->events_n || s->blocked || !s->started)) {
		uint64_t sent = s->sending ? s->sent_ns : NEVER, program = program_time(s),
			 link = link_time(s);

		if (sent <= program && sent <= link) {
			s->now_ns = sent;
			link_sent(s);
		} else if (program <= link) {
			s->now_ns = program;
			if (s->started)
				access_next(s);
			else
				program_start(s);
		} else {
			s->now_ns = link;
			link_send(s);
		}
		if (s->started)
			note_ready(s);
	}
}

static void sum_up(struct sim *s)
{
	for (size_t i = 0; i < s->pieces.size; i++) {
		for (struct map_node *n = s->pieces.slots[i]; n; n = n->next) {
			const struct piece *p = container_of(n, struct piece, node);

			if (p->predicted && !p->used)
				count(&s->out->wasted, p->bytes);
		}
	}
	if (s->predictor)
		predictor_stats(s->predictor, &s->out->stats);
}

static bool too_large(const struct recording *rec)
{
	uint64_t units = 0;

	for (size_t i = 0; i < rec->events_n; i++)
		units += rec->events[i].units ? units_of(rec, &rec->events[i]) : 0;
	return units > SIM_UNITS_MAX;
}

int sim_run(const struct recording *rec, const struct profile *profile, const struct sim_link *link,
	    enum sim_mode mode, struct sim_result *ret, struct err *err)
{
	size_t files = rec->files_n + (profile ? profile->paths_n : 0) + 1;
	auto_free uint64_t *sizes = calloc(files, sizeof(*sizes));
	struct sim_result out = {0};
	struct sim s = {.rec = rec, .net = *link, .sizes = sizes, .out = &out};
	int r = 0;

	if (too_large(rec))
		return err_set(err, -E2BIG, "the recording reads more than %d units",
			       SIM_UNITS_MAX);
	if (!sizes || map_init(&s.pieces) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < rec->files_n; i++)
		sizes[i] = rec->files[i].size;
	arena_init(&s.arena, MEMORY_MAX);
	list_init(&s.wanted);
	list_init(&s.foreseen);
	if (mode == SIM_PROFILE)
		r = prediction_start(&s, profile);
	if (mode == SIM_PERFECT)
		ask_all(&s);
	if (r == 0) {
		predict(&s);
		run(&s);
		sum_up(&s);
		*ret = out;
	}
	predictor_free(s.predictor);
	map_fini(&s.pieces);
	arena_fini(&s.arena);
	return r < 0 || s.no_memory ? err_set(err, -ENOMEM, "out of memory") : 0;
}
