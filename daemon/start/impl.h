/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of starts: starts.c has their life, space.c whose an event is, foresee.c what is fetched
 * ahead, learn.c what becomes of it, locate.c where that lies in blobs, expect.c what is asked for
 * because of that. Loop thread.
 */
#ifndef FIRSTLIGHT_START_IMPL_H
#define FIRSTLIGHT_START_IMPL_H

#include "base/limits.h"
#include "base/list.h"
#include "base/map.h"
#include "image/layer.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "loop/sync.h"
#include "predict/predictor.h"
#include "start/starts.h"

#define NS_PER_MS  1000000ull
#define ENTRY_SIZE 1024 /* a longer path is no entry */

struct foresight;

/* What was touched: units of an object, or of a file of the mounted image that is no object. */
struct touch {
	uint64_t number; /* of the object, or inode */
	uint64_t time_ns;
	dev_t dev; /* of a file */
	uint32_t unit, units;
	bool file;
	bool fuse; /* the FUSE mount has seen it */
};

struct start {
	struct list link; /* in starts.alive */
	struct starts *s;
	uint64_t snapshot;
	char *ref, *root;
	struct str repository;  /* of ref */
	struct digest manifest; /* all zero: not known */
	bool has_manifest;
	int root_fd;
	dev_t dev; /* of the image that is mounted at root */
	uint32_t *layers;
	size_t layers_n;
	bool complete;
	bool gone; /* the snapshot is */
	uint64_t begun_ns;
	int64_t when_ns;        /* the same since 1970 */
	uint64_t exec_ns;       /* of its first program; 0: not yet */
	pid_t pid;              /* of its last event; 0: not known */
	uint64_t pid_ns;        /* when the first was seen */
	uint64_t new_ns;        /* something new was touched */
	char entry[ENTRY_SIZE]; /* empty: not known */
	struct touch *touches;  /* in the order of time; only if it is learnt from */
	size_t touches_n, touches_cap;
	bool watches;     /* the programs of BPF are attached for it */
	bool late;        /* not from its beginning on: the execution may have been missed */
	bool learns, cut; /* there were more touches */
	uint64_t lost_before;
	struct foresight *foresight; /* NULL: no profile */
	struct scope scope;          /* what is fetched for it, and looked up */
	struct waitq changed;
};

struct starts {
	struct starts_options o;
	struct access *access; /* NULL: not loaded yet, or never */
	bool blind;            /* BPF sees nothing here: the FUSE mount does */
	int objects_fd;
	struct list alive, recorders;
	unsigned learning, foreseeing, recorders_n;
	unsigned expecting;  /* images, in expect.c */
	struct mutex learn;  /* one at a time becomes a profile */
	struct map spaces;   /* space.c */
	size_t waiting;      /* events of them that wait */
	struct list devices; /* starts.c: struct device */
	struct scope scope;
	struct starts_stats stats;
};

/* --- starts.c --------------------------------------------------------------------------------- */

/* An event of that start: units of files, or a program that pid has executed: its path and its
 * arguments, a NUL behind each; empty: not known which. */
void start_touched(struct start *st, const struct touch *t);
void start_executed(struct start *st, struct str program, pid_t pid, uint64_t now_ns);
struct start *start_by_snapshot(struct starts *s, uint64_t snapshot);
/* Are all first reads seen, also of what is local? */
bool starts_see_all(const struct starts *s);
uint64_t starts_lost(const struct starts *s); /* events in the ring, so far */
/* Those who wait for st's recording are told. */
void recorders_end(struct starts *s, const struct start *st, int result);

/* --- space.c ---------------------------------------------------------------------------------- */

/* Instead of a namespace's number, where only the process is known. */
#define SPACE_OF_PROCESS (1ull << 63)

/* A touch, or (t NULL) an execution as start_executed() gets it, in a namespace. */
void space_event(struct starts *s, uint64_t id, pid_t pid, const struct touch *t,
		 struct str program, uint64_t now_ns);
/* Those of a start that ends: they are not told any more. st NULL: all. */
void spaces_drop(struct starts *s, const struct start *st);
/* The path of what pid runs, as profiles name it, into ret (ENTRY_SIZE; empty: not known). program:
 * as start_executed() gets it, perhaps without arguments; empty: what /proc says, -EAGAIN if that
 * is nothing of the image yet. Blocking. */
int space_entry(int root_fd, pid_t pid, struct str program, char *ret) must_check;
/* The snapshot in whose overlay the text of a mountinfo file has its root; root: ROOT. 0: the root
 * is no overlay (yet). */
#define SPACE_OTHERS UINT64_MAX /* an overlay, and not one of ours */
uint64_t space_snapshot(struct str mountinfo, const char *root);

/* --- foresee.c -------------------------------------------------------------------------------- */

/* Looks for profiles. False: there are none, or only those of other programs, or too much is
 * foreseen at once. */
may_suspend bool foresee_begin(struct start *st);
/* Has fetched what is due now. */
void foresee_step(struct start *st);
void foresee_touched(struct start *st, const struct touch *t);
/* The program is known. False: it has none of the profiles that there are. */
bool foresee_entry(struct start *st, uint64_t now_ns);
/* Nothing of it may run any more. All zero where nothing was foreseen. */
void foresee_end(struct start *st, struct predict_stats *ret);

/* --- locate.c --------------------------------------------------------------------------------- */

struct locate {
	const struct profile *profile;
	int root_fd;                /* of the mounted tree */
	const struct digest *blobs; /* of the layers, top first, EXTENTS_BLOBS_MAX at most */
	const int *fds;             /* of their indexes */
	size_t n;
	struct arena *arena; /* ret lives there, and in blobs */
	struct extents *ret;
};
/* What of the profile is likelier than not, in the image that is here. Blocking. -ENOMEM, and what
 * index_load() answers. */
int locate(const struct locate *in) must_check;

/* --- learn.c ---------------------------------------------------------------------------------- */

/* Makes a profile of what was touched, and gives the recording to those who wait for it. */
may_suspend void start_learn(struct start *st);

/* Who waits in starts_record(). */
struct recorder {
	struct list link;
	struct str repository;
	struct buf *ret;
	int result;                /* 1: waits */
	const struct start *start; /* the one that is recorded; NULL: not begun yet */
	struct waitq changed;
};

#endif
