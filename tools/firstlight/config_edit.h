/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts settings into a TOML file of somebody else's: by spans of its text, so that every other byte
 * stays. What is not understood is not touched but told, with its line. Pure.
 */
#ifndef FIRSTLIGHT_TOOLS_CONFIG_EDIT_H
#define FIRSTLIGHT_TOOLS_CONFIG_EDIT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "config_spans.h"

/* table in the form of base/toml.h (plugins."a.b".c); value as it is written ("\"x\"", "true"). */
struct setting {
	const char *table, *key, *value;
};

enum setting_state { SETTING_THERE, SETTING_MISSING, SETTING_OTHER };

#define CONFIG_EDIT_SETTINGS 32

/* How each of the settings stands in text. -EINVAL: it is not understood, err says the line. */
int config_look(struct str text, const struct setting *want, size_t n, enum setting_state *ret,
		struct err *err);

/*
 * Into ret: text with the settings. -EEXIST: one has another value (force: single-line values are
 * replaced); -EINVAL: not understood, or in a form that cannot be added to; -ENOMEM. The result is
 * read again: exactly the settings differ.
 */
int config_merge(struct str text, const struct setting *want, size_t n, bool force, struct buf *ret,
		 struct err *err);

/* The line on which it is set; 0: none, or not understood. */
size_t config_line(struct str text, const struct setting *want);

enum { CONFIG_LIST_NONE, CONFIG_LIST_OTHERS, CONFIG_LIST_ELEMENT };

/* Has the list of tables ([[table]]) an element with this key and value, others, or none?
 * -EINVAL: the text is not understood. */
int config_list_has(struct str text, const struct setting *want, struct err *err);

/* Into ret (empty): text with an element that has all of want, which are of one table, at its end,
 * unless one with want[0] is there. */
int config_list_add(struct str text, const struct setting *want, size_t n, struct buf *ret,
		    struct err *err);

/* Has it only comments, or nothing? */
bool config_empty(struct str text);

/* Is there a table of that name, or one or a key below it? */
bool config_has(struct str text, const char *table);

/* The value of a top-level integer or string, as written; empty: it is not there. */
struct str config_top(struct str text, const char *key);

#endif
