/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things stand in a TOML text: its headers and keys, with their bytes. Finds spans and does
 * not judge: what it takes may still be no TOML. Pure.
 */
#ifndef FIRSTLIGHT_TOOLS_CONFIG_SPANS_H
#define FIRSTLIGHT_TOOLS_CONFIG_SPANS_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

#define CONFIG_EDIT_MAX (4u << 20) /* bytes of a file */

/* A header or a key with its value, where it stands. */
struct entry {
	bool header, list;       /* list: of [[…]] */
	const char *path;        /* canonical, of a key with its table */
	size_t start, end;       /* of its lines, the last new line included */
	size_t value, value_end; /* of a header: both behind its brackets */
	size_t line, indent;
	size_t owner; /* number of its header + 1; 0 = top level */
};

struct spans {
	struct str text;
	struct arena arena;
	struct entry *list;
	size_t n, max;
};

/* spans_fini() is needed also after an error: -EINVAL with the line, -EFBIG, -ENOMEM. */
int spans_init(struct spans *sp, struct str text, struct err *err);
void spans_fini(struct spans *sp);

#define auto_spans cleanup(spans_fini)

#endif
