/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors. Functions return 0 or -errno; where a person reads the failure, the caller also passes a
 * `struct err *` (NULL is allowed) that carries the text. Any thread; a struct err has one owner.
 */
#ifndef FIRSTLIGHT_BASE_ERR_H
#define FIRSTLIGHT_BASE_ERR_H

#include <errno.h>
#include <stdnoreturn.h>

#include "base/clean.h"

#define ERR_TEXT_MAX 512

struct err {
	int code; /* negative errno; 0 = none */
	char text[ERR_TEXT_MAX];
};

#define ERR_INIT ((struct err){0})

/* Sets code and text; answers code, so that `return err_set(err, -ENOENT, …)` works. code < 0. */
int err_set(struct err *err, int code, const char *fmt, ...) printf_like(3, 4);

/* As err_set, with ": strerror(code)" after the text. */
int err_errno(struct err *err, int code, const char *fmt, ...) printf_like(3, 4);

/* Puts "text: " before the text that is there (strerror(code) if none is); answers code. */
int err_wrap(struct err *err, int code, const char *fmt, ...) printf_like(3, 4);

/* Text of err, or of strerror(code) when err has none. Lives as long as err. */
const char *err_text(struct err *err, int code);

/* A mistake of ours: says where and aborts, in release builds too. */
noreturn void bug_(const char *file, int line, const char *what);
#define require(cond)                                                                              \
	do {                                                                                       \
		if (__builtin_expect(!(cond), 0))                                                  \
			bug_(__FILE__, __LINE__, #cond);                                           \
	} while (0)

#endif
