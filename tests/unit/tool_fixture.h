/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a command prints, for the tests of tools/firstlight. Each piece runs in a child, so that it
 * may end the program, and its memory can be told.
 */
#ifndef FIRSTLIGHT_TESTS_TOOL_FIXTURE_H
#define FIRSTLIGHT_TESTS_TOOL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clean.h"

#define PRINTED_MAX (1 << 20)

struct printed {
	int status; /* of the program; 128 + N: signal N */
	long rss_kib;
	char *out, *err; /* NUL behind them */
};

static inline char *printed_take(int fd)
{
	char *s = calloc(1, PRINTED_MAX + 1);

	assert_non_null(s);
	assert_true(pread(fd, s, PRINTED_MAX, 0) >= 0);
	close(fd);
	return s;
}

static inline void printed_free(struct printed *p)
{
	free(p->out);
	free(p->err);
}

#define auto_printed cleanup(printed_free)

/* Runs fn in a child. The caller frees what it is told. */
static inline struct printed printed_by(int (*fn)(void *arg), void *arg)
{
	int out = memfd_create("out", 0), err = memfd_create("err", 0), status;
	struct rusage usage;
	struct printed p;
	pid_t pid;

	assert_true(out >= 0 && err >= 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(out, STDOUT_FILENO);
		dup2(err, STDERR_FILENO);
		status = fn(arg);
		fflush(NULL);
		_exit(status);
	}
	assert_int_equal(wait4(pid, &status, 0, &usage), pid);
	p.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	p.rss_kib = usage.ru_maxrss;
	p.out = printed_take(out);
	p.err = printed_take(err);
	return p;
}

#endif
