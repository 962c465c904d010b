// SPDX-License-Identifier: Apache-2.0
/* Finds the headers and keys of a TOML text. Owns nothing between calls. */
#include "config_spans.h"

#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define EDIT_MEMORY (8 * CONFIG_EDIT_MAX)

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
	if (peek(s) == '\r' && s->at + 1 < s->text.len && s->text.p[s->at + 1] == '\n')
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
	e->value = e->value_end = s->at;
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

void spans_fini(struct spans *sp)
{
	free(sp->list);
	arena_fini(&sp->arena);
}

int spans_init(struct spans *sp, struct str text, struct err *err)
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
