// SPDX-License-Identifier: Apache-2.0
/* TOML reader. Owns the names that one document has used so far, until it is read. */
#include "base/toml.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/toml_word.h"
#include "base/utf8.h"

#include "base/banned.h"

#define TOML_MEMORY_MAX MiB(8) /* names of one document; beyond: "too many keys" */
#define TOML_PARTS_MAX  16     /* of one key */
#define TOML_DEPTH_MAX  8      /* arrays and inline tables in each other */

/* What a path has been used for. The last two are tables that some longer path brought about. */
enum seen_kind { SEEN_VALUE, SEEN_TABLE, SEEN_ABOVE, SEEN_DOTTED };

/* What a path may be already when it is used as this. */
static const unsigned seen_before[] = {
	[SEEN_VALUE] = 0,
	[SEEN_TABLE] = 1u << SEEN_ABOVE,
	[SEEN_ABOVE] = 1u << SEEN_TABLE | 1u << SEEN_ABOVE | 1u << SEEN_DOTTED,
	[SEEN_DOTTED] = 1u << SEEN_DOTTED,
};

struct seen {
	struct map_node node; /* toml.seen; key: the canonical path */
	enum seen_kind kind;
};

struct toml {
	const char *name, *p, *end;
	unsigned line;
	size_t table_len;  /* bytes of path that are the current table */
	struct buf path;   /* the table, then the key that is being read */
	struct buf string; /* the string that is being read */
	struct map seen;   /* seen.node */
	struct arena arena;
	toml_key_fn *fn;
	void *arg;
	struct err *err;
};

printf_like(2, 3) static int fail(struct toml *t, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(t->err, -EINVAL, "%s:%u: %s", t->name, t->line, text);
}

/* The byte at the reading position + n; -1 behind the end. */
static int peek(const struct toml *t, size_t n)
{
	return (size_t)(t->end - t->p) > n ? (unsigned char)t->p[n] : -1;
}

static bool eat(struct toml *t, int c)
{
	if (peek(t, 0) != c)
		return false;
	t->p++;
	return true;
}

static void skip_blank(struct toml *t)
{
	while (peek(t, 0) == ' ' || peek(t, 0) == '\t')
		t->p++;
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static bool is_bare(int c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
	       c == '-';
}

/* Control characters that may stand in no string and no comment. */
static bool is_control(int c)
{
	return (c >= 0 && c < 0x20 && c != '\t') || c == 0x7f;
}

/* Blanks, a comment, and the end of the line. */
static int read_line_end(struct toml *t)
{
	skip_blank(t);
	if (eat(t, '#')) {
		while (t->p < t->end && !is_control(peek(t, 0)))
			t->p++;
	}
	if (t->p == t->end)
		return 0;
	if (peek(t, 0) == '\r' && peek(t, 1) == '\n')
		t->p++;
	if (!eat(t, '\n'))
		return fail(t, is_control(peek(t, 0)) ? "control character"
						      : "unexpected text at the end of the line");
	t->line++;
	return 0;
}

static int put(struct toml *t, struct buf *b, const void *data, size_t n)
{
	return buf_append(b, data, n) < 0 ? err_set(t->err, -ENOMEM, "%s: no memory", t->name) : 0;
}

static int put_byte(struct toml *t, struct buf *b, int c)
{
	return put(t, b, &(uint8_t){(uint8_t)c}, 1);
}

/* Behind \u or \U. */
static int read_unicode(struct toml *t, size_t digits)
{
	char out[UTF8_MAX];
	uint32_t c = 0;

	for (size_t i = 0; i < digits; i++) {
		int d = toml_hex(peek(t, 0));

		if (d < 0)
			return fail(t, "\\%c needs %zu hexadecimal digits", digits == 4 ? 'u' : 'U',
				    digits);
		c = c << 4 | (uint32_t)d;
		t->p++;
	}
	if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return fail(t, "escape of something that is no character");
	return put(t, &t->string, out, utf8_put(out, c));
}

/* Behind the backslash. */
static int read_escape(struct toml *t)
{
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	int c = peek(t, 0);
	const char *at;

	if (c == 'u' || c == 'U') {
		t->p++;
		return read_unicode(t, c == 'u' ? 4 : 8);
	}
	at = c > 0 ? strchr(from, c) : NULL;
	if (!at)
		return fail(t, "unknown escape in a string");
	t->p++;
	return put_byte(t, &t->string, to[at - from]);
}

/* A string in either kind of quotes, into t->string. */
static int read_string(struct toml *t)
{
	int quote = peek(t, 0), r = 0;

	if (peek(t, 1) == quote && peek(t, 2) == quote)
		return fail(t, "multi-line strings are not used here");
	t->p++;
	t->string.len = 0;
	while (r == 0 && !eat(t, quote)) {
		int c = peek(t, 0);

		if (c < 0 || c == '\n' || c == '\r')
			return fail(t, "string without an end");
		if (is_control(c))
			return fail(t, "control character in a string");
		t->p++;
		r = c == '\\' && quote == '"' ? read_escape(t) : put_byte(t, &t->string, c);
	}
	return r;
}

/* Appends t->string to the path in the canonical form. */
static int put_part(struct toml *t)
{
	bool bare = t->string.len > 0;
	int r = 0;

	for (size_t i = 0; i < t->string.len; i++)
		bare = bare && is_bare(t->string.data[i]);
	if (bare)
		return put(t, &t->path, t->string.data, t->string.len);
	r = put_byte(t, &t->path, '"');
	for (size_t i = 0; r == 0 && i < t->string.len; i++) {
		int c = t->string.data[i];

		if (c == '"' || c == '\\')
			r = put_byte(t, &t->path, '\\');
		if (r == 0)
			r = put_byte(t, &t->path, c);
	}
	return r < 0 ? r : put_byte(t, &t->path, '"');
}

static int read_part(struct toml *t)
{
	const char *start = t->p;
	int r;

	if (peek(t, 0) == '"' || peek(t, 0) == '\'') {
		r = read_string(t);
		return r < 0 ? r : put_part(t);
	}
	while (is_bare(peek(t, 0)))
		t->p++;
	if (t->p == start)
		return fail(t, "expected a key");
	return put(t, &t->path, start, (size_t)(t->p - start));
}

/* Records that t->path is used as kind. */
static int note(struct toml *t, enum seen_kind kind)
{
	struct str path = {(char *)t->path.data, t->path.len};
	struct map_node *n = map_get(&t->seen, path);
	struct seen *s = n ? container_of(n, struct seen, node) : NULL;

	if (s) {
		if (!(seen_before[kind] & 1u << s->kind))
			return fail(t, "%.*s is already defined",
				    (int)(path.len > 100 ? 100 : path.len), path.p);
		if (kind == SEEN_TABLE)
			s->kind = kind;
		return 0;
	}
	s = arena_alloc(&t->arena, sizeof(*s));
	if (!s)
		return fail(t, "too many keys");
	*s = (struct seen){.kind = kind};
	s->node.key = (struct str){arena_strndup(&t->arena, path.p, path.len), path.len};
	if (!s->node.key.p)
		return fail(t, "too many keys");
	map_put(&t->seen, &s->node);
	return 0;
}

/* Appends a dotted key to t->path; what stands before its last part is noted as kind. */
static int read_path(struct toml *t, enum seen_kind kind, size_t *ret_last)
{
	for (size_t parts = 1;; parts++) {
		int r = t->path.len ? put_byte(t, &t->path, '.') : 0;

		*ret_last = t->path.len;
		if (r == 0)
			r = read_part(t);
		if (r < 0)
			return r;
		skip_blank(t);
		if (!eat(t, '.'))
			return 0;
		if (parts == TOML_PARTS_MAX)
			return fail(t, "a key of more than %d parts", TOML_PARTS_MAX);
		r = note(t, kind);
		if (r < 0)
			return r;
		skip_blank(t);
	}
}

/* A value without quotes. A time may follow a date behind a space. */
static int read_word(struct toml *t, struct toml_value *v)
{
	struct str s = {t->p, 0};
	const char *cause;

	while (is_bare(peek(t, 0)) || (peek(t, 0) > 0 && strchr(".:+", peek(t, 0))) ||
	       (peek(t, 0) == ' ' && is_digit(peek(t, 1)) && peek(t, 3) == ':'))
		t->p++;
	s.len = (size_t)(t->p - s.p);
	cause = toml_word(s, v);
	return cause ? fail(t, "%s", cause) : 0;
}

static int check_line(struct toml *t)
{
	const char *lf = memchr(t->p, '\n', (size_t)(t->end - t->p));

	if (!str_utf8((struct str){t->p, (size_t)((lf ? lf : t->end) - t->p)}))
		return fail(t, "not valid UTF-8");
	return 0;
}

/* Blanks, comments and ends of lines within an array. */
static int skip_lines(struct toml *t)
{
	int c, r = 0;

	for (;;) {
		skip_blank(t);
		c = peek(t, 0);
		if (c != '#' && c != '\n' && c != '\r')
			return 0;
		r = read_line_end(t);
		if (r == 0)
			r = check_line(t);
		if (r < 0)
			return r;
	}
}

static int read_value(struct toml *t, struct toml_value *v, unsigned depth);

/* An item's string outlives t->string. */
static int keep_string(struct toml *t, struct toml_value *v)
{
	if (v->type != TOML_STRING)
		return 0;
	v->string.p = arena_strndup(&t->arena, v->string.p, v->string.len);
	return v->string.p ? 0 : fail(t, "too much text");
}

static int read_items(struct toml *t, struct buf *items, unsigned depth)
{
	struct toml_value v = {0};
	int r;

	for (;;) {
		r = skip_lines(t);
		if (r < 0 || eat(t, ']'))
			return r;
		if (peek(t, 0) == '{')
			return fail(t, "inline tables in arrays are not used here");
		r = read_value(t, &v, depth + 1);
		if (r == 0)
			r = keep_string(t, &v);
		if (r == 0)
			r = put(t, items, &v, sizeof(v));
		if (r == 0)
			r = skip_lines(t);
		if (r < 0)
			return r;
		if (!eat(t, ',') && peek(t, 0) != ']')
			return fail(t, "expected , or ] in an array");
	}
}

static int read_array(struct toml *t, struct toml_value *v, unsigned depth)
{
	auto_buf struct buf items = BUF_INIT;
	struct toml_value *copy;
	int r;

	if (depth == TOML_DEPTH_MAX)
		return fail(t, "arrays in more than %d arrays", TOML_DEPTH_MAX - 1);
	t->p++;
	r = read_items(t, &items, depth);
	if (r < 0)
		return r;
	copy = arena_alloc(&t->arena, items.len + 1);
	if (!copy)
		return fail(t, "too much text");
	if (items.len)
		memcpy(copy, items.data, items.len);
	*v = (struct toml_value){
		.type = TOML_ARRAY, .items = copy, .items_n = items.len / sizeof(*copy)};
	return 0;
}

static int read_value(struct toml *t, struct toml_value *v, unsigned depth)
{
	int r;

	switch (peek(t, 0)) {
	case '[':
		return read_array(t, v, depth);
	case '"':
	case '\'':
		r = read_string(t);
		*v = (struct toml_value){.type = TOML_STRING,
					 .string = {(char *)t->string.data, t->string.len}};
		return r;
	default:
		return read_word(t, v);
	}
}

static int call(struct toml *t, size_t table_len, size_t key_start, const struct toml_value *v)
{
	const char *path = (char *)t->path.data;
	struct str key = {path + key_start, t->path.len - key_start};
	int r = t->fn(t->arg, (struct str){path, table_len}, key, v, t->err);

	return r < 0 ? err_wrap(t->err, r, "%s:%u", t->name, t->line) : 0;
}

/* [table], behind the bracket. */
static int read_table(struct toml *t)
{
	size_t last;
	int r;

	if (peek(t, 0) == '[')
		return fail(t, "arrays of tables are not used here");
	t->path.len = 0;
	skip_blank(t);
	r = read_path(t, SEEN_ABOVE, &last);
	if (r < 0)
		return r;
	if (!eat(t, ']'))
		return fail(t, "expected ] behind the name of a table");
	r = note(t, SEEN_TABLE);
	if (r < 0)
		return r;
	t->table_len = t->path.len;
	return call(t, t->table_len, t->table_len, NULL);
}

static int read_pair(struct toml *t, unsigned depth);

/* { key = value, … }; its name is in t->path. No key can be added to it later. */
static int read_inline(struct toml *t, unsigned depth)
{
	size_t name = t->path.len;
	int r;

	if (depth == TOML_DEPTH_MAX)
		return fail(t, "inline tables in more than %d tables", TOML_DEPTH_MAX - 1);
	t->p++;
	r = call(t, name, name, NULL);
	skip_blank(t);
	if (r < 0 || eat(t, '}'))
		return r;
	do {
		skip_blank(t);
		t->path.len = name;
		r = read_pair(t, depth + 1);
		if (r < 0)
			return r;
		skip_blank(t);
	} while (eat(t, ','));
	return eat(t, '}') ? 0 : fail(t, "expected , or } in an inline table");
}

/* key = value; the table is in t->path. */
static int read_pair(struct toml *t, unsigned depth)
{
	struct toml_value v;
	size_t last;
	int r;

	r = read_path(t, SEEN_DOTTED, &last);
	if (r < 0)
		return r;
	if (!eat(t, '='))
		return fail(t, "expected = behind a key");
	r = note(t, SEEN_VALUE);
	if (r < 0)
		return r;
	skip_blank(t);
	if (peek(t, 0) == '{')
		return read_inline(t, depth);
	r = read_value(t, &v, 0);
	return r < 0 ? r : call(t, last ? last - 1 : 0, last, &v);
}

static int read_key(struct toml *t)
{
	t->path.len = t->table_len;
	return read_pair(t, 0);
}

static int read_line(struct toml *t)
{
	int c, r = check_line(t);

	if (r < 0)
		return r;
	skip_blank(t);
	c = peek(t, 0);
	if (eat(t, '['))
		r = read_table(t);
	else if (c >= 0 && c != '#' && c != '\n' && c != '\r')
		r = read_key(t);
	return r < 0 ? r : read_line_end(t);
}

int toml_parse(const char *name, struct str text, toml_key_fn *fn, void *arg, struct err *err)
{
	struct toml t = {.name = name, .line = 1, .fn = fn, .arg = arg, .err = err};
	int r = map_init(&t.seen);

	if (r < 0)
		return err_errno(err, r, "%s", name);
	t.p = text.len ? text.p : "";
	t.end = t.p + text.len;
	arena_init(&t.arena, TOML_MEMORY_MAX);
	while (r == 0 && t.p < t.end)
		r = read_line(&t);
	map_fini(&t.seen);
	arena_fini(&t.arena);
	buf_fini(&t.path);
	buf_fini(&t.string);
	return r;
}
