/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to fetch next for a container that starts: accesses in, ordered ranges out. Pure: no I/O, no
 * clock; the same calls give the same answers. Times are ns of one clock, and never go back.
 *
 * Life: predictor_new(), predictor_add() for each profile that may be the right one, then the
 * caller looks each file up (predictor_path(), then predictor_resolve() or predictor_absent(), in
 * any order and at any time) and asks predictor_next() whenever something has happened.
 *
 * What is predicted. Units that a start reads with a chance of PREDICT_WEIGHT_MIN. Until the
 * program is known, a chance is the mean over the profiles, each counting by its starts; first
 * comes what all of them have, then, of the one with the most starts and so on, what is likelier
 * than not (PREDICT_UNSURE_MIN). From predictor_exec() on it is that program's profile alone.
 *
 * How far. What is asked for and not here, and what is here and not used, stays within what the
 * link brings in PREDICT_AHEAD_MS (between two bounds in bytes). Until the container's first sign
 * of life only what is under way counts, up to the upper bound: nothing competes, and who is told
 * of many ranges at once can join neighbours.
 *
 * Position. A use moves it on to behind its place; a use far ahead only when there have been
 * PREDICT_JUMP_ACCESSES of them. What it passes comes later than what lies ahead, but does come.
 *
 * Judgement. A predicted unit that was used is right, even if it came late. It is wrong once the
 * position is PREDICT_BEHIND_UNITS past it, or when it has been here for PREDICT_JUDGE_MS of the
 * container's life and its time is over (twice that of the profile, and PREDICT_JUDGE_MS); a use
 * puts that right later. With less than PREDICT_PRECISION_MIN of PREDICT_JUDGE_BYTES or more
 * right, nothing is asked for, until uses have put it right.
 *
 * Memory is bounded by PREDICT_UNITS_MAX, and is all taken by predictor_add(); a call takes
 * logarithmic time for each unit that it is about.
 */
#ifndef FIRSTLIGHT_PREDICT_PREDICTOR_H
#define FIRSTLIGHT_PREDICT_PREDICTOR_H

#include "predict/profile.h"

struct predictor;

struct predict_options {
	uint64_t rtt_ns; /* a request's answer begins no earlier */
	uint64_t rate;   /* bytes of content a second; 0 = not known: it is learnt in any case */
	uint64_t ahead_min, ahead_max; /* bytes; 0 = PREDICT_AHEAD_MIN, PREDICT_AHEAD_MAX */
	uint64_t page_ahead;           /* bytes from the disk ahead of the program; 0 = none */
	/* Are these bytes on the disk? Called by predictor_next() only. NULL = nothing is. */
	bool (*here)(void *arg, uint64_t object, uint64_t off, uint64_t len);
	void *arg;
};

/* -ENOMEM. */
int predictor_new(const struct predict_options *o, struct predictor **ret) must_check;
void predictor_free(struct predictor *p);

/* One more that may be the right one; it is copied. Those beyond PREDICT_PROFILES_MAX, and units
 * beyond PREDICT_UNITS_MAX, are left out. Before all calls below. -ENOMEM. */
int predictor_add(struct predictor *p, const struct profile *profile) must_check;

/* The files to look up: 0 to n - 1, in the order of their first use in the profiles as added. */
size_t predictor_files(const struct predictor *p);
struct str predictor_path(const struct predictor *p, size_t i);
/* File i is that object. Nothing is asked for before it, and uses that are seen before count as not
 * foreseen. Several files may be one object. Again for the same file: does nothing. */
void predictor_resolve(struct predictor *p, size_t i, uint64_t object, uint64_t size);
/* This version of the image does not have it. */
void predictor_absent(struct predictor *p, size_t i);

/* The container's first program, as it is in the image; later ones change nothing. With no profile
 * of it, only what all profiles have is still predicted if there are several, else nothing. */
void predictor_exec(struct predictor *p, struct str path, uint64_t now_ns);

/* Is there a profile of that program, or of any? */
bool predictor_knows(const struct predictor *p, struct str path);

/* A first use of these units by the container, whether it had to wait or not. The caller drops
 * repeats where it can; only those of foreseen units are noticed. */
void predictor_seen(struct predictor *p, uint64_t object, uint32_t unit, uint32_t units,
		    uint64_t now_ns);

enum predict_level {
	PREDICT_FETCH, /* registry to disk */
	PREDICT_PAGE,  /* is on the disk: into the page cache. Needs no answer */
};

struct predict_range {
	uint64_t object, off, len; /* inside of the object */
	enum predict_level level;
};

/* What to ask for now; each level in order of first use, neighbours joined, nothing twice. Answers
 * how many ranges: when it is max, ask again. */
size_t predictor_next(struct predictor *p, uint64_t now_ns, struct predict_range *out, size_t max);

/* A range, or a part of one, is here; or will not come: then it is not asked for again. Others'
 * bytes are passed over. */
void predictor_arrived(struct predictor *p, uint64_t object, uint64_t off, uint64_t len,
		       uint64_t now_ns);
void predictor_failed(struct predictor *p, uint64_t object, uint64_t off, uint64_t len);

struct predict_count {
	uint64_t units, bytes;
};

struct predict_stats {
	/* What was predicted. Each unit of it is then in one of the next four. */
	struct predict_count asked; /* PREDICT_FETCH */
	struct predict_count flight, unused, right, wrong;
	struct predict_count failed;
	struct predict_count paged; /* PREDICT_PAGE */
	uint64_t requests;          /* ranges of PREDICT_FETCH */
	/* First uses. */
	struct predict_count hits;   /* predicted, here in time */
	struct predict_count late;   /* predicted, asked for, not here yet */
	struct predict_count missed; /* in the profile, not asked for yet */
	struct predict_count local;  /* in the profile, was on the disk before */
	struct predict_count unforeseen;
	unsigned precision; /* right / (right + wrong), percent of bytes; 100 of nothing */
	unsigned recall;    /* all but unforeseen / all uses, percent of bytes; 100 of nothing */
	uint64_t rate;      /* bytes a second, as learnt */
	uint64_t window;    /* bytes ahead that it allows */
	uint32_t position, places; /* in the order of what is predicted, and how long that is */
	bool begun;                /* the container has shown life */
	bool stopped;              /* too much of it was wrong */
};
void predictor_stats(const struct predictor *p, struct predict_stats *ret);

#endif
