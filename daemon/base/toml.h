/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reader of TOML 1.0 (toml.io/en/v1.0.0) for settings files. Hands out one key at a time and keeps
 * nothing. Left out, and refused with a clear error: arrays of tables, inline tables in arrays,
 * multi-line strings.
 * Floats and dates are recognised and handed out without a value. Pure; any thread.
 */
#ifndef FIRSTLIGHT_BASE_TOML_H
#define FIRSTLIGHT_BASE_TOML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum toml_type { TOML_STRING, TOML_INTEGER, TOML_BOOLEAN, TOML_FLOAT, TOML_DATE, TOML_ARRAY };

struct toml_value {
	enum toml_type type;
	struct str string; /* of a string; may hold NUL */
	int64_t integer;
	bool boolean;
	const struct toml_value *items; /* of an array */
	size_t items_n;
};

/*
 * Called for each key. table and key are in a canonical form: parts joined with '.', a part that is
 * not [A-Za-z0-9_-]+ in double quotes; table is empty at the top level. For a [table] line, and
 * for an inline table before its keys, it is called with an empty key and v = NULL. The strings
 * live until it returns. < 0 ends the reading; "name:line: " is put before the text that it set.
 */
typedef int toml_key_fn(void *arg, struct str table, struct str key, const struct toml_value *v,
			struct err *err);

/*
 * Reads a document; name is for messages. -EINVAL with "name:line: cause" for bad syntax, bad UTF-8
 * and keys or tables given twice; -ENOMEM; or what fn answered. Keys before an error were handed
 * out.
 */
int toml_parse(const char *name, struct str text, toml_key_fn *fn, void *arg, struct err *err);

/* "a string", "an integer", … for messages. */
const char *toml_type_name(enum toml_type type);

#endif
