/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The door to libbpf: loads bpf/access.bpf.c, which is in this program's own bytes, attaches it and
 * reads its ring. Every program is on its own: one that does not load or attach has a reason, and
 * the others go on. Calls marked blocking are for a thread, one at a time; the rest is quick and
 * the loop's. What libbpf says goes to the log (debug), and the end of it into a reason.
 */
#ifndef FIRSTLIGHT_TRACE_ACCESS_BPF_H
#define FIRSTLIGHT_TRACE_ACCESS_BPF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "access_event.h"
#include "base/clean.h"

enum access_program {
	PROGRAM_GET_PAGES,
	PROGRAM_FAULT,
	PROGRAM_MAP_PAGES,
	PROGRAM_ADD_PAGE, /* in place of those before it: attached if one of them is not there */
	PROGRAM_EXEC,
	ACCESS_PROGRAMS,
};

struct access_bpf;

struct access_bpf_options {
	struct access_settings settings;
	size_t ring_bytes;                        /* a power of two, whole pages */
	const char *tracepoints[ACCESS_PROGRAMS]; /* tests: another name; NULL: the kernel's */
	bool refused[ACCESS_PROGRAMS];            /* tests: as if the verifier did */
};

/* Blocking. Loads what can be loaded; that may be nothing. -ENOMEM. */
int access_bpf_load(const struct access_bpf_options *o, struct access_bpf **ret) must_check;
/* Blocking. Detaches and unloads; NULL is allowed. */
void access_bpf_free(struct access_bpf *b);

/* Blocking. */
void access_bpf_attach(struct access_bpf *b);
void access_bpf_detach(struct access_bpf *b);

/* What the program is attached to: a raw tracepoint. */
const char *access_bpf_tracepoint(const struct access_bpf *b, enum access_program p);
/* Why the program does not run while others do; NULL: it does, or can. Lives until the next
 * blocking call. */
const char *access_bpf_reason(const struct access_bpf *b, enum access_program p);
bool access_bpf_attached(const struct access_bpf *b, enum access_program p);

/* Readable when there is a record; -1: nothing is loaded. */
int access_bpf_fd(const struct access_bpf *b);

/* Gives up to max records to fn, oldest first: each is only valid in the call, size >= that of
 * struct access_record. Answers how many. */
unsigned access_bpf_read(struct access_bpf *b, unsigned max,
			 void (*fn)(void *arg, const struct access_record *r, size_t size),
			 void *arg);

/* Nothing happens where nothing is loaded. */
int access_bpf_ignore(struct access_bpf *b, uint64_t mnt_ns);         /* -ENOMEM */
int access_bpf_device(struct access_bpf *b, uint32_t s_dev, bool on); /* -E2BIG: too many */
void access_bpf_counters(const struct access_bpf *b, uint64_t ret[ACCESS_COUNTERS]); /* sums */

#endif
