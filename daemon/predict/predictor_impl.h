/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the predictor: predictor.c (profiles and files), predict_order.c (what comes next),
 * predict_judge.c (uses and arrivals, and what they say). */
#ifndef FIRSTLIGHT_PREDICT_PREDICTOR_IMPL_H
#define FIRSTLIGHT_PREDICT_PREDICTOR_IMPL_H

#include "base/list.h"
#include "base/map.h"
#include "predict/predictor.h"

#define NOWHERE UINT32_MAX

enum unit_state {
	UNIT_OPEN,   /* nothing is known, nothing was asked */
	UNIT_ASKED,  /* on its way */
	UNIT_HERE,   /* it has come */
	UNIT_COLD,   /* was on the disk; to be read into the page cache */
	UNIT_LOCAL,  /* was on the disk; done */
	UNIT_FAILED, /* did not come */
	UNIT_GONE,   /* not in this version, or another path's unit stands for it */
};

struct unit {
	struct map_node node; /* in predictor.by_file, then in predictor.by_object */
	struct {
		uint64_t of; /* file or object */
		uint32_t unit;
	} __attribute__((packed)) place;
	struct unit *same;    /* of another path with the same content, which stands for it */
	struct unit *next;    /* of the same file */
	struct list unjudged; /* in predictor.unjudged: here, not used, not judged */
	uint64_t here_ns;     /* since when */
	uint32_t file;
	uint32_t order;   /* place in predictor.order; NOWHERE = not predicted */
	uint32_t at_us;   /* when it is used, from the profile that put it there */
	uint32_t chance;  /* of PROFILE_WEIGHT_ONE */
	uint8_t profiles; /* a bit for each that has it */
	uint8_t state;    /* enum unit_state */
	bool behind;      /* the position has passed it: later than what is ahead */
	bool used, wrong;
	bool counted; /* in predictor.unused or .paged_unused */
};

/* A unit as one profile has it. */
struct step {
	struct unit *unit;
	uint32_t at_us, weight;
};

struct candidate {
	struct str executable;
	uint32_t starts;
	struct step *steps;
	size_t steps_n;
};

struct file {
	struct map_node node; /* in predictor.paths */
	struct unit *units;   /* unit.next */
	uint32_t index;       /* in predictor.files */
	uint64_t object, size;
	bool known; /* resolved, or absent */
};

/* Entries are left in place when they do not hold any more, and passed over later. */
struct heap {
	struct heap_entry {
		uint64_t key;
		struct unit *unit;
	} * entries;
	size_t n;
};

struct predictor {
	struct predict_options o;
	struct arena arena; /* units, steps, names */
	struct candidate candidates[PREDICT_PROFILES_MAX];
	unsigned candidates_n;
	struct map paths, by_file, by_object;
	struct file **files;
	size_t files_n, units_n;
	struct unit *
		*order; /* units_n of them at most; one that says it is elsewhere is passed over */
	uint32_t places;
	uint32_t position, judged; /* in order; what lies before judged was judged by its place */
	uint32_t far,
		far_first; /* uses far ahead since the last near one; the first of their places */
	struct heap fetch, page;       /* UNIT_OPEN, UNIT_COLD */
	struct list unjudged;          /* unit.unjudged, by here_ns */
	uint64_t unused, paged_unused; /* bytes ahead of the position */
	uint64_t begun_ns;
	bool settled, begun, exec_seen;
	/* the link */
	uint64_t rate, rate_bytes, busy_ns, busy_since;
	bool rate_seen;
	struct predict_stats stats; /* the counts */
};

static inline void count(struct predict_count *c, uint64_t bytes)
{
	c->units++;
	c->bytes += bytes;
}

static inline void uncount(struct predict_count *c, uint64_t bytes)
{
	c->units--;
	c->bytes -= bytes;
}

static inline uint64_t unit_off(const struct unit *u)
{
	return (uint64_t)u->place.unit * PROFILE_UNIT;
}

/* Of a file that is resolved. */
static inline uint64_t unit_len(const struct predictor *p, const struct unit *u)
{
	uint64_t rest = p->files[u->file]->size - unit_off(u);

	return rest < PROFILE_UNIT ? rest : PROFILE_UNIT;
}

/* predict_order.c */
#define ORDER_ALL    (-1)
#define ORDER_COMMON (-2)
#define ORDER_NONE   (-3)
/* Puts all in order, of one candidate or of these. */
void order_make(struct predictor *p, int candidate);
/* Its file is known now, or it stands for an earlier place: it may be asked for. */
void order_ready(struct predictor *p, struct unit *u);
struct unit *order_find(struct predictor *p, uint64_t object, uint32_t unit);
uint64_t order_window(const struct predictor *p);

/* predict_judge.c */
void judge_begin(struct predictor *p, uint64_t now_ns);
void judge_time(struct predictor *p, uint64_t now_ns);
void judge_asked(struct predictor *p,
		 uint64_t now_ns); /* before it is added to what is in flight */
bool judge_stopped(const struct predictor *p);
/* It is not ahead any more. */
void judge_release(struct predictor *p, struct unit *u);

/* predictor.c */
void predictor_settle(struct predictor *p); /* of the first call that needs the order */
void predictor_first_read(struct predictor *p, const struct unit *u);

#endif
