/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long work, as a person sees it: on a terminal one line with a bar, bytes, rate and time left,
 * drawn anew at most PROGRESS_HZ times a second; elsewhere nothing but the lines of
 * progress_line(). All of it goes to stderr, so that stdout is what the command answers. One at a
 * time; one thread.
 */
#ifndef FIRSTLIGHT_TOOLS_PROGRESS_H
#define FIRSTLIGHT_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clean.h"

#define PROGRESS_HZ 10

/* Begins, or goes on with another phase. what: a short word, copied. quiet: nothing is ever shown.
 */
void progress_begin(const char *what, bool quiet);
/* bytes so far; total 0: not known. */
void progress_set(uint64_t done, uint64_t total);
/* A line above the bar, or by itself. */
void progress_line(const char *fmt, ...) printf_like(1, 2);
/* Takes the bar away. Before any other output. */
void progress_end(void);

/* For tests: the bar for so many columns; answers buf, which ends in NUL. */
#define PROGRESS_LINE_MAX 512
const char *progress_bar(char buf[PROGRESS_LINE_MAX], unsigned columns, const char *what,
			 uint64_t done, uint64_t total, uint64_t rate);

#endif
