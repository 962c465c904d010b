/* SPDX-License-Identifier: Apache-2.0 */
/* What doctor finds out. A finding's texts are copied. One thread. */
#ifndef FIRSTLIGHT_TOOLS_DOCTOR_H
#define FIRSTLIGHT_TOOLS_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/clean.h"

enum finding_state {
	FINDING_OK,
	FINDING_OFF,  /* works without it, with less */
	FINDING_FAIL, /* stands in the way */
	FINDING_SKIP, /* could not be tried */
};

#define FINDINGS_MAX 48
#define TEXT_MAX     240

struct finding {
	const char *name; /* static */
	enum finding_state state;
	bool lazy, run; /* needed for lazy layers; for the daemon at all */
	char text[TEXT_MAX], costs[TEXT_MAX], fix[TEXT_MAX];
};

struct doctor {
	const char *root, *address, *containerd, *containerd_config;
	struct finding list[FINDINGS_MAX];
	size_t n;
};

/* Adds one; answers it, so that costs and fix can be set. Too many end the program. */
struct finding *finding(struct doctor *d, const char *name, enum finding_state state,
			const char *fmt, ...) printf_like(4, 5);
void finding_advice(struct finding *f, const char *costs, const char *fix);

/* doctor_kernel.c: by trying; before there are threads. */
void doctor_kernel(struct doctor *d);
/* doctor_host.c: files and limits. */
void doctor_host(struct doctor *d);

#endif
