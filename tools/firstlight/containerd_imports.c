// SPDX-License-Identifier: Apache-2.0
/* What containerd's file and those that it imports say. Owns the texts while they are read. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/toml.h"
#include "containerd_settings.h"

#include "base/banned.h"

#define IMPORTS_MAX       64 /* files, all levels together */
#define IMPORTS_DEPTH_MAX 8
#define PATH_BYTES        4096

static const struct setting imports_key = {"", "imports", ""};

struct walk {
	const struct containerd_settings *s;
	struct containerd_found *found;
	unsigned files;
	struct err *err;
};

static int walk_imports(struct walk *w, const char *path, struct str text, unsigned depth);

/* --- one imported file ------------------------------------------------------------------------ */

static int merge_states(struct walk *w, const char *path, struct str text)
{
	const struct containerd_settings *s = w->s;
	enum setting_state states[CONFIG_EDIT_SETTINGS];
	int r = config_look(text, s->want, s->n, states, w->err);

	for (size_t i = 0; i < s->n && r == 0; i++) {
		if (states[i] == SETTING_THERE)
			w->found->states[i] = SETTING_THERE;
		else if (states[i] == SETTING_OTHER)
			r = err_set(w->err, -EEXIST, "%s:%zu: %s.%s has another value than %s",
				    path, config_line(text, &s->want[i]), s->want[i].table,
				    s->want[i].key, s->want[i].value);
	}
	if (r < 0 || !s->unpack_n)
		return r;
	r = config_list_has(text, s->unpack, w->err);
	if (r == CONFIG_LIST_OTHERS)
		return err_set(w->err, -EEXIST, "%s: %s has no element for firstlight", path,
			       s->unpack[0].table);
	if (r == CONFIG_LIST_ELEMENT)
		w->found->unpack = r;
	return r < 0 ? r : 0;
}

static int one_file(struct walk *w, const char *path, unsigned depth)
{
	auto_buf struct buf b = BUF_INIT;
	struct str text;
	int r;

	if (++w->files > IMPORTS_MAX)
		return err_set(w->err, -EINVAL, "more than %d imported files", IMPORTS_MAX);
	r = file_read_all(path, CONFIG_EDIT_MAX, &b, w->err);
	text = (struct str){(char *)b.data, b.len};
	if (r == 0)
		r = merge_states(w, path, text);
	if (r < 0)
		return r == -EEXIST ? r : err_wrap(w->err, r, "%s", path);
	return walk_imports(w, path, text, depth + 1);
}

/* --- the list --------------------------------------------------------------------------------- */

struct import_list {
	struct walk *w;
	const char *path; /* of the file that imports */
	unsigned depth;
};

/* Relative names are beside the file; a '*' may mean none. */
static int one_name(struct import_list *l, struct str name)
{
	const char *slash = strrchr(l->path, '/');
	int dir = slash && name.p[0] != '/' ? (int)(slash - l->path) + 1 : 0, r;
	char pattern[PATH_BYTES];
	glob_t g = {.gl_pathc = 0};

	if (!name.len || memchr(name.p, 0, name.len) ||
	    snprintf(pattern, sizeof(pattern), "%.*s" STR_FMT, dir, l->path, STR_ARG(name)) >=
		    (int)sizeof(pattern))
		return err_set(l->w->err, -EINVAL, "an imported name is not understood");
	if (!strchr(pattern, '*'))
		return one_file(l->w, pattern, l->depth);
	r = glob(pattern, 0, NULL, &g);
	if (r == GLOB_NOMATCH)
		return 0;
	if (r)
		return err_set(l->w->err, -EIO, "%s cannot be listed", pattern);
	for (size_t i = 0; i < g.gl_pathc && r == 0; i++)
		r = one_file(l->w, g.gl_pathv[i], l->depth);
	globfree(&g);
	return r;
}

static int on_imports(void *arg, struct str table, struct str key, const struct toml_value *v,
		      struct err *err)
{
	struct import_list *l = arg;
	int r = 0;

	if (table.len || !v || !str_eq(key, STR("imports")))
		return 0;
	if (v->type != TOML_ARRAY)
		return err_set(err, -EINVAL, "imports is no list");
	for (size_t i = 0; i < v->items_n && r == 0; i++) {
		if (v->items[i].type != TOML_STRING)
			return err_set(err, -EINVAL, "imports is no list of names");
		r = one_name(l, v->items[i].string);
	}
	if (r < 0 && !err->code)
		err_set(err, r, "%s", err_text(l->w->err, r));
	return r;
}

/* The line with imports alone: toml.c does not know all that the rest of the file may have. */
static int walk_imports(struct walk *w, const char *path, struct str text, unsigned depth)
{
	struct import_list l = {w, path, depth};
	struct err own = ERR_INIT;
	size_t line = config_line(text, &imports_key);
	struct str value = config_top(text, "imports");
	auto_buf struct buf b = BUF_INIT;
	int r;

	if (!value.len)
		return 0;
	if (depth > IMPORTS_DEPTH_MAX)
		return err_set(w->err, -EINVAL, "imports in more than %d files", IMPORTS_DEPTH_MAX);
	if (buf_printf(&b, "imports = " STR_FMT "\n", STR_ARG(value)) < 0)
		return err_set(w->err, -ENOMEM, "out of memory");
	r = toml_parse("imports", (struct str){(char *)b.data, b.len}, on_imports, &l, &own);
	if (r < 0) {
		const char *cause = strstr(own.text, ": ");

		err_set(w->err, r, "line %zu: imports: %s", line, cause ? cause + 2 : own.text);
	}
	return r;
}

int containerd_settings_look(const struct containerd_settings *s, const char *path, struct str text,
			     struct containerd_found *ret, struct err *err)
{
	struct walk w = {.s = s, .found = ret, .err = err};
	int r = config_look(text, s->want, s->n, ret->states, err);

	for (size_t i = 0; i < s->n && r == 0; i++)
		ret->lines[i] = config_line(text, &s->want[i]);
	ret->unpack = CONFIG_LIST_ELEMENT;
	if (r == 0 && s->unpack_n)
		r = ret->unpack = config_list_has(text, s->unpack, err);
	return r < 0 ? r : walk_imports(&w, path, text, 0);
}
