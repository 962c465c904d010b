// SPDX-License-Identifier: Apache-2.0
/* Spans of a TOML text. base/toml.c judges the syntax; this file finds where things stand. */
#include "config_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/toml.h"

#include "base/banned.h"

#define EDIT_MEMORY (8 * CONFIG_EDIT_MAX)

/* A header or a key with its value, where it stands. */
struct entry {
	bool header, list; /* list: of [[…]] */
	const char *path;  /* canonical, of a key with its table */
	size_t start, end; /* of its lines, the last new line included */
	size_t value, value_end;
	size_t line, indent;
	size_t owner; /* number of its header + 1; 0 = top level */
};

struct spans {
	struct str text;
	struct arena arena;
	struct entry *list;
	size_t n, max;
};

/* --- scanning --------------------------------------------------------------------------------- */

struct scan {
	struct str text;
	size_t at, line;
	struct spans *spans;
	size_t header;     /* number + 1 of the one that keys belong to */
	const char *table; /* its path */
	unsigned lists;    /* [[…]] so far */
	struct err *err;
};

static int bad(struct scan *s, const char *what)
{
	return err_set(s->err, -EINVAL, "line %zu: %s", s->line, what);
}

static char peek(const struct scan *s)
{
	return s->at < s->text.len ? s->text.p[s->at] : 0;
}

static void skip_blanks(struct scan *s)
{
	while (peek(s) == ' ' || peek(s) == '\t')
		s->at++;
}

/* Behind a string that starts here; on one line. */
static int skip_string(struct scan *s)
{
	char quote = peek(s);

	if (s->at + 2 < s->text.len && s->text.p[s->at + 1] == quote &&
	    s->text.p[s->at + 2] == quote)
		return bad(s, "strings over several lines are not understood");
	for (s->at++; s->at < s->text.len && peek(s) != '\n'; s->at++) {
		if (peek(s) == quote) {
			s->at++;
			return 0;
		}
		if (quote == '"' && peek(s) == '\\' && s->at + 1 < s->text.len)
			s->at++;
	}
	return bad(s, "a string does not end");
}

static bool is_bare(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

static bool all_bare(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!is_bare(s.p[i]))
			return false;
	}
	return s.len > 0;
}

/* One part of a key, without its quotes. */
static int key_part(struct scan *s, struct str *ret)
{
	size_t start = s->at;
	int r;

	if (peek(s) == '"' || peek(s) == '\'') {
		r = skip_string(s);
		if (r < 0)
			return r;
		*ret = (struct str){s->text.p + start + 1, s->at - start - 2};
		if (ret->len && memchr(ret->p, '\\', ret->len))
			return bad(s, "an escape in a key is not understood");
		return 0;
	}
	while (is_bare(peek(s)))
		s->at++;
	*ret = (struct str){s->text.p + start, s->at - start};
	return ret->len ? 0 : bad(s, "a key is expected");
}

/* A dotted key, behind prefix. NULL: err has the cause. */
static const char *key_path(struct scan *s, const char *prefix)
{
	const char *path = prefix;
	struct str part;

	while (true) {
		skip_blanks(s);
		if (key_part(s, &part) < 0)
			return NULL;
		path = arena_printf(&s->spans->arena,
				    all_bare(part) ? "%s%s" STR_FMT : "%s%s\"" STR_FMT "\"", path,
				    path[0] ? "." : "", STR_ARG(part));
		if (!path) {
			err_set(s->err, -ENOMEM, "out of memory");
			return NULL;
		}
		skip_blanks(s);
		if (peek(s) != '.')
			return path;
		s->at++;
	}
}

/* Behind a value: over lines where it is a list. */
static int skip_value(struct scan *s)
{
	int depth = 0, r;

	while (s->at < s->text.len) {
		char c = peek(s);

		if (c == '"' || c == '\'') {
			r = skip_string(s);
			if (r < 0)
				return r;
			continue;
		}
		if (c == '#') {
			if (!depth)
				return 0;
			while (s->at < s->text.len && peek(s) != '\n')
				s->at++;
			continue;
		}
		depth += (c == '[' || c == '{') - (c == ']' || c == '}');
		if (c == '\n' && depth <= 0)
			return 0;
		s->line += c == '\n';
		s->at++;
	}
	return depth > 0 ? bad(s, "a list does not end") : 0;
}

static struct entry *entry_new(struct scan *s)
{
	struct spans *sp = s->spans;

	if (sp->n == sp->max) {
		size_t max = sp->max ? 2 * sp->max : 256;
		struct entry *list = reallocarray(sp->list, max, sizeof(*list));

		if (!list)
			return NULL;
		sp->list = list;
		sp->max = max;
	}
	sp->list[sp->n] = (struct entry){.line = s->line, .owner = s->header};
	return &sp->list[sp->n++];
}

/* The rest of the line may only be a comment. */
static int line_end(struct scan *s, struct entry *e)
{
	skip_blanks(s);
	if (peek(s) == '\r')
		s->at++;
	if (peek(s) == '#') {
		while (s->at < s->text.len && peek(s) != '\n')
			s->at++;
	}
	if (s->at < s->text.len && peek(s) != '\n')
		return bad(s, "something stands behind it");
	s->at += s->at < s->text.len;
	e->end = s->at;
	s->line++;
	return 0;
}

static int header_line(struct scan *s, size_t start, struct entry *e)
{
	const char *path;

	e->header = true;
	s->at++;
	e->list = peek(s) == '[';
	s->at += e->list;
	path = key_path(s, "");
	if (!path)
		return s->err->code;
	for (int i = 0; i <= e->list; i++) {
		if (peek(s) != ']')
			return bad(s, "the table's name does not end");
		s->at++;
	}
	/* Each of a list is one by itself, and none of ours. */
	e->path = e->list ? arena_printf(&s->spans->arena, "[%u]%s", s->lists++, path) : path;
	e->start = start;
	s->header = s->spans->n;
	s->table = e->path;
	return e->path ? line_end(s, e) : err_set(s->err, -ENOMEM, "out of memory");
}

static int key_line(struct scan *s, size_t start, struct entry *e)
{
	int r;

	e->path = key_path(s, s->table);
	if (!e->path)
		return s->err->code;
	if (peek(s) != '=')
		return bad(s, "no = behind the key");
	s->at++;
	skip_blanks(s);
	e->value = s->at;
	r = skip_value(s);
	e->value_end = s->at;
	while (e->value_end > e->value && strchr(" \t\r", s->text.p[e->value_end - 1]))
		e->value_end--;
	e->start = start;
	return r < 0 ? r : line_end(s, e);
}

static int scan_line(struct scan *s)
{
	size_t start = s->at, indent;
	struct entry *e;

	skip_blanks(s);
	indent = s->at - start;
	if (s->at == s->text.len || peek(s) == '#' || peek(s) == '\n' || peek(s) == '\r') {
		struct entry none;

		return line_end(s, &none);
	}
	e = entry_new(s);
	if (!e)
		return err_set(s->err, -ENOMEM, "out of memory");
	e->indent = indent;
	return peek(s) == '[' ? header_line(s, start, e) : key_line(s, start, e);
}

static void spans_fini(struct spans *sp)
{
	free(sp->list);
	arena_fini(&sp->arena);
}
#define auto_spans cleanup(spans_fini)

static int spans_init(struct spans *sp, struct str text, struct err *err)
{
	struct err unread;
	struct scan s = {.line = 1, .spans = sp, .table = "", .err = err ? err : &unread};
	int r = 0;

	unread = ERR_INIT;
	s.text = (struct str){text.p ? text.p : "", text.len};
	*sp = (struct spans){.text = s.text};
	arena_init(&sp->arena, EDIT_MEMORY);
	if (text.len > CONFIG_EDIT_MAX)
		return err_set(err, -EFBIG, "larger than %u bytes", CONFIG_EDIT_MAX);
	while (r == 0 && s.at < text.len)
		r = scan_line(&s);
	return r;
}

/* --- the judge -------------------------------------------------------------------------------- */

struct seen {
	const struct setting *want; /* NULL: only the syntax */
	bool table, key;
};

static int on_key(void *arg, struct str table, struct str key, const struct toml_value *v,
		  struct err *err)
{
	struct seen *s = arg;

	(void)err;
	if (!s->want || !str_eq(table, str_of(s->want->table)))
		return 0;
	s->table = true;
	s->key = s->key || (v && str_eq(key, str_of(s->want->key)));
	return 0;
}

/* For base/toml.c, which knows no lists of tables: each becomes a table of its own. */
static int judged_text(const struct spans *sp, struct buf *ret)
{
	size_t at = 0;
	int r = 0;

	for (size_t i = 0; i < sp->n && r == 0; i++) {
		const struct entry *e = &sp->list[i];

		if (!e->header || !e->list)
			continue;
		r = buf_append(ret, sp->text.p + at, e->start - at);
		if (r == 0)
			r = buf_printf(ret, "[\"list %zu\"]\n", i);
		at = e->end;
	}
	return r == 0 ? buf_append(ret, sp->text.p + at, sp->text.len - at) : r;
}

static int judge(const struct spans *sp, const struct setting *want, struct seen *seen,
		 struct err *err)
{
	auto_buf struct buf text = BUF_INIT;

	*seen = (struct seen){.want = want};
	if (judged_text(sp, &text) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return toml_parse("line", (struct str){(char *)text.data, text.len}, on_key, seen, err);
}

/* --- looking ---------------------------------------------------------------------------------- */

static const struct entry *find(const struct spans *sp, const char *path, bool header)
{
	for (size_t i = 0; i < sp->n; i++) {
		if (sp->list[i].header == header && strcmp(sp->list[i].path, path) == 0)
			return &sp->list[i];
	}
	return NULL;
}

static struct str value_of(const struct spans *sp, const struct entry *e)
{
	return (struct str){sp->text.p + e->value, e->value_end - e->value};
}

/* 'x' is "x". */
static bool same_value(struct str is, const char *want)
{
	size_t n = strlen(want);

	if (str_eq(is, str_of(want)))
		return true;
	return n >= 2 && want[0] == '"' && is.len == n && is.p[0] == '\'' && is.p[n - 1] == '\'' &&
	       memcmp(is.p + 1, want + 1, n - 2) == 0;
}

/* Something else stands where the table would be, or it is written in a form without a header. */
static int check_place(const struct spans *sp, const struct setting *want, struct err *err)
{
	size_t n = strlen(want->table);
	struct seen seen;
	int r;

	for (size_t i = 0; i < sp->n; i++) {
		const struct entry *e = &sp->list[i];
		size_t m = strlen(e->path);

		if (e->header)
			continue;
		if (strncmp(e->path, want->table, m < n ? m : n) == 0 &&
		    (m == n || (m < n && want->table[m] == '.') ||
		     (m > n && e->path[n] == '.' && !find(sp, want->table, true))))
			return err_set(err, -EINVAL,
				       "line %zu: %s is written in a form that cannot be added to: "
				       "put it in by hand",
				       e->line, want->table);
	}
	r = judge(sp, want, &seen, err);
	if (r == 0 && seen.key && !find(sp, want->table, true))
		return err_set(err, -EINVAL, "%s is set in a form that is not understood",
			       want->table);
	return r;
}

static const struct entry *find_setting(const struct spans *sp, const struct setting *want,
					char path[512])
{
	snprintf(path, 512, "%s%s%s", want->table, want->table[0] ? "." : "", want->key);
	return find(sp, path, false);
}

int config_look(struct str text, const struct setting *want, size_t n, enum setting_state *ret,
		struct err *err)
{
	auto_spans struct spans sp;
	struct seen seen;
	char path[512];
	int r = spans_init(&sp, text, err);

	if (r == 0)
		r = judge(&sp, NULL, &seen, err);
	for (size_t i = 0; i < n && r == 0; i++) {
		const struct entry *e = find_setting(&sp, &want[i], path);

		if (!e)
			ret[i] = SETTING_MISSING;
		else
			ret[i] = same_value(value_of(&sp, e), want[i].value) ? SETTING_THERE
									     : SETTING_OTHER;
	}
	return r;
}

struct str config_top(struct str text, const char *key)
{
	auto_spans struct spans sp;
	const struct entry *e;

	if (spans_init(&sp, text, NULL) < 0)
		return (struct str){0};
	e = find(&sp, key, false);
	return e && !e->owner ? value_of(&sp, e) : (struct str){0};
}

/* --- merging ---------------------------------------------------------------------------------- */

/* text with [from, to) replaced. */
static int splice(struct str text, size_t from, size_t to, const char *with, struct buf *ret)
{
	int r;

	ret->len = 0;
	r = buf_append(ret, text.p, from);
	if (r == 0)
		r = buf_append(ret, with, strlen(with));
	return r == 0 ? buf_append(ret, text.p + to, text.len - to) : r;
}

static const char *header_text(struct arena *a, const char *table)
{
	return arena_printf(a, "[%s]", table);
}

/* Behind the last key of the table, or behind its header. */
static int add_to_table(struct spans *sp, const struct entry *header, const struct setting *want,
			struct buf *ret)
{
	size_t number = (size_t)(header - sp->list) + 1, at = header->end;
	size_t indent = header->indent + 2;
	bool ends = at == 0 || sp->text.p[at - 1] == '\n';
	const char *line;

	for (size_t i = 0; i < sp->n; i++) {
		if (!sp->list[i].header && sp->list[i].owner == number) {
			at = sp->list[i].end;
			indent = sp->list[i].indent;
			ends = sp->text.p[at - 1] == '\n';
		}
	}
	line = arena_printf(&sp->arena, "%s%*s%s = %s\n", ends ? "" : "\n", (int)indent, "",
			    want->key, want->value);
	return line ? splice(sp->text, at, at, line, ret) : -ENOMEM;
}

static int add_table(struct spans *sp, const struct setting *want, struct buf *ret)
{
	size_t n = sp->text.len;
	bool ends = n == 0 || sp->text.p[n - 1] == '\n';
	const char *lines =
		arena_printf(&sp->arena, "%s%s%s\n  %s = %s\n", ends ? "" : "\n", n ? "\n" : "",
			     header_text(&sp->arena, want->table), want->key, want->value);

	return lines ? splice(sp->text, n, n, lines, ret) : -ENOMEM;
}

static int replace(struct spans *sp, const struct entry *e, const struct setting *want, bool force,
		   struct buf *ret, struct err *err)
{
	struct str is = value_of(sp, e);

	if (same_value(is, want->value))
		return splice(sp->text, 0, 0, "", ret);
	if (!force)
		return err_set(err, -EEXIST, "line %zu: %s.%s is %.*s, not %s", e->line,
			       want->table, want->key, (int)(is.len > 100 ? 100 : is.len), is.p,
			       want->value);
	if (is.len && (memchr(is.p, '\n', is.len) || is.p[0] == '[' || is.p[0] == '{'))
		return err_set(err, -EINVAL, "line %zu: %s.%s is a list: change it by hand",
			       e->line, want->table, want->key);
	return splice(sp->text, e->value, e->value_end, want->value, ret);
}

static int merge_one(struct str text, const struct setting *want, bool force, struct buf *ret,
		     struct err *err)
{
	auto_spans struct spans sp;
	const struct entry *e, *header;
	char path[512];
	int r = spans_init(&sp, text, err);

	if (r < 0)
		return r;
	e = find_setting(&sp, want, path);
	if (e)
		return replace(&sp, e, want, force, ret, err);
	r = check_place(&sp, want, err);
	if (r < 0)
		return r;
	header = find(&sp, want->table, true);
	r = header ? add_to_table(&sp, header, want, ret) : add_table(&sp, want, ret);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

/* The result is read again: all that was there is there, and the settings are. */
static int check_result(struct str before, struct str after, const struct setting *want, size_t n,
			struct err *err)
{
	auto_spans struct spans a, b;
	enum setting_state states[CONFIG_EDIT_SETTINGS];
	size_t j = 0;
	int r = spans_init(&a, before, err), q = spans_init(&b, after, err);

	if (r == 0 && q == 0)
		r = config_look(after, want, n, states, err);
	for (size_t i = 0; i < n && r == 0 && q == 0; i++) {
		if (states[i] != SETTING_THERE)
			r = err_set(err, -EINVAL, "%s.%s cannot be put in", want[i].table,
				    want[i].key);
	}
	for (size_t i = 0; i < a.n && r == 0 && q == 0; i++, j++) {
		while (j < b.n && strcmp(a.list[i].path, b.list[j].path) != 0)
			j++;
		if (j == b.n)
			r = err_set(err, -EINVAL, "line %zu would be lost", a.list[i].line);
	}
	return r < 0 ? r : q;
}

int config_merge(struct str text, const struct setting *want, size_t n, bool force, struct buf *ret,
		 struct err *err)
{
	auto_buf struct buf now = BUF_INIT;
	struct seen seen;
	int r;

	require(n <= CONFIG_EDIT_SETTINGS);
	{
		auto_spans struct spans sp;

		r = spans_init(&sp, text, err);
		if (r == 0)
			r = judge(&sp, NULL, &seen, err);
	}
	if (r == 0 && buf_append(&now, text.p ? text.p : "", text.len) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n && r == 0; i++) {
		struct buf next = BUF_INIT;

		r = merge_one((struct str){(char *)now.data, now.len}, &want[i], force, &next, err);
		buf_fini(&now);
		now = next;
	}
	if (r == 0)
		r = check_result(text, (struct str){(char *)now.data, now.len}, want, n, err);
	if (r == 0)
		r = buf_append(ret, now.data, now.len);
	return r;
}

/* --- lists of tables -------------------------------------------------------------------------- */

static bool is_list_of(const struct entry *e, const char *table)
{
	const char *name = e->header && e->list ? strchr(e->path, ']') : NULL;

	return name && strcmp(name + 1, table) == 0;
}

static bool element_has(const struct spans *sp, size_t header, const struct setting *want)
{
	for (size_t i = 0; i < sp->n; i++) {
		const struct entry *e = &sp->list[i];
		size_t n = strlen(e->path), m = strlen(want->key);

		if (!e->header && e->owner == header + 1 && n > m && e->path[n - m - 1] == '.' &&
		    strcmp(e->path + n - m, want->key) == 0)
			return same_value(value_of(sp, e), want->value);
	}
	return false;
}

static int list_has(const struct spans *sp, const struct setting *want, size_t n, struct err *err)
{
	const struct entry *key = find(sp, want->table, false);

	if (key)
		return err_set(err, -EINVAL,
			       "line %zu: %s is a list in one value: add to it by hand", key->line,
			       want->table);
	for (size_t i = 0; i < sp->n; i++) {
		size_t have = 0;

		if (!is_list_of(&sp->list[i], want->table))
			continue;
		for (size_t k = 0; k < n; k++)
			have += element_has(sp, i, &want[k]);
		if (have == n)
			return 1;
	}
	return 0;
}

int config_list_has(struct str text, const struct setting *want, size_t n, struct err *err)
{
	auto_spans struct spans sp;
	int r = spans_init(&sp, text, err);

	return r < 0 ? r : list_has(&sp, want, n, err);
}

int config_list_add(struct str text, const struct setting *want, size_t n, struct buf *ret,
		    struct err *err)
{
	bool ends = !text.len || text.p[text.len - 1] == '\n';
	int r = config_list_has(text, want, n, err);

	if (r < 0)
		return r;
	if (buf_append(ret, text.p ? text.p : "", text.len) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (r == 1)
		return 0;
	r = buf_printf(ret, "%s\n[[%s]]\n", ends ? "" : "\n", want->table);
	for (size_t i = 0; i < n && r == 0; i++)
		r = buf_printf(ret, "  %s = %s\n", want[i].key, want[i].value);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}
