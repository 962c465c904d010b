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
#define err_set(err, code, ...) err_answer_(err_set_, err, code, __VA_ARGS__)

/* As err_set, with ": strerror(code)" after the text. */
#define err_errno(err, code, ...) err_answer_(err_errno_, err, code, __VA_ARGS__)

/* Puts "text: " before the text that is there (strerror(code) if none is); answers code. */
#define err_wrap(err, code, ...) err_answer_(err_wrap_, err, code, __VA_ARGS__)

void err_set_(struct err *err, int code, const char *fmt, ...) printf_like(3, 4);
void err_errno_(struct err *err, int code, const char *fmt, ...) printf_like(3, 4);
void err_wrap_(struct err *err, int code, const char *fmt, ...) printf_like(3, 4);

/* The compiler and clang-tidy see here that the answer is an error: else the functions abort. */
#define err_answer_(fn, err, code, ...)                                                            \
	({                                                                                         \
		int err_code_ = (code);                                                            \
		fn(err, err_code_, __VA_ARGS__);                                                   \
		if (err_code_ >= 0)                                                                \
			__builtin_unreachable();                                                   \
		err_code_;                                                                         \
	})

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
