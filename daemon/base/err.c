// SPDX-License-Identifier: Apache-2.0
/* Error texts. Owns nothing; any thread. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

static const char *describe(int code)
{
	const char *desc = strerrordesc_np(-code);

	return desc ? desc : "unknown error";
}

void err_set_(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	require(code < 0);
	if (!err)
		return;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
}

void err_errno_(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	require(code < 0);
	if (!err)
		return;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	n = strlen(err->text);
	snprintf(err->text + n, sizeof(err->text) - n, ": %s", describe(code));
}

void err_wrap_(struct err *err, int code, const char *fmt, ...)
{
	char old[ERR_TEXT_MAX];
	va_list ap;
	size_t n;

	require(code < 0);
	if (!err)
		return;
	snprintf(old, sizeof(old), "%s", err_text(err, code));
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	n = strlen(err->text);
	snprintf(err->text + n, sizeof(err->text) - n, ": %s", old);
}

const char *err_text(struct err *err, int code)
{
	return err && err->text[0] ? err->text : describe(code);
}

noreturn void bug_(const char *file, int line, const char *what)
{
	fprintf(stderr, "firstlightd: bug: %s:%d: %s\n", file, line, what);
	abort();
}
