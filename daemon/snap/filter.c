// SPDX-License-Identifier: Apache-2.0
/* Snapshot filters. Owns compiled filters; the one door to PCRE2. One thread for one filter. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "snap/filter.h"

#include <pcre2.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "snap/filter_re.h"

#include "base/banned.h"

#define FILTER_MEMORY_MAX    MiB(16) /* of one list, without expressions */
#define FILTER_REGEXES_MAX   64      /* in one list */
#define REGEX_MATCH_HEAP_KIB 4096

enum operator{ OP_PRESENT, OP_EQUAL, OP_NOT_EQUAL, OP_MATCHES };
enum field { FIELD_OTHER, FIELD_KIND, FIELD_NAME, FIELD_PARENT, FIELD_LABEL };

struct selector {
	struct selector *next;
	enum operator op;
	enum field field;
	struct str label; /* key of FIELD_LABEL */
	struct str value;
	pcre2_code *re; /* of OP_MATCHES; NULL: Go would not compile it */
};

struct filter {
	struct arena arena;
	struct selector **ands; /* one per filter: selector.next; NULL matches all */
	size_t n, regexes;
	pcre2_compile_context *compile;
	pcre2_match_context *match;
	pcre2_match_data *scratch;
};

/* What stands for no code point: the end, and what containerd refuses anywhere (NUL, bad UTF-8). */
enum { RUNE_END = -1, RUNE_BAD = -2 };

struct parse {
	struct filter *f;
	struct str s;
	size_t index, pos;
	struct buf text;     /* the field or value that is being read */
	pcre2_code *graphic; /* made when it is needed */
	struct err *err;
};

static int fail(struct parse *p, const char *cause)
{
	return err_set(p->err, -EINVAL, "filter %zu, byte %zu: %s", p->index, p->pos, cause);
}

static int no_memory(struct parse *p)
{
	return err_set(p->err, -ENOMEM, "filter %zu: no memory", p->index);
}

/* U+FFFD is bad too: Go's decoder answers it for bad bytes, and containerd does not look further.
 */
static int32_t peek(const struct parse *p, size_t *ret_width)
{
	int32_t c;

	*ret_width = 0;
	if (p->pos == p->s.len)
		return RUNE_END;
	c = utf8_get(p->s, p->pos, ret_width);
	return c <= 0 || c == 0xfffd ? RUNE_BAD : c;
}

static int32_t peek_rune(const struct parse *p)
{
	size_t width;

	return peek(p, &width);
}

/* White_Space of Unicode. */
static bool is_space(int32_t c)
{
	return (c >= '\t' && c <= '\r') || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
	       c == 0x205f || c == 0x3000;
}

static bool is_one_of(int32_t c, const char *set)
{
	return c > 0 && c < 0x80 && strchr(set, c);
}

static bool is_field(int32_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '_';
}

static void skip_space(struct parse *p)
{
	size_t width;

	while (is_space(peek(p, &width)))
		p->pos += width;
}

static int put(struct parse *p, const char *data, size_t n)
{
	return buf_append(&p->text, data, n) < 0 ? no_memory(p) : 0;
}

/* Moves p->text from an offset on into the filter. */
static int take_text(struct parse *p, size_t from, struct str *ret)
{
	size_t n = p->text.len - from;
	char *copy = arena_strndup(&p->f->arena, n ? (char *)p->text.data + from : "", n);

	if (!copy)
		return no_memory(p);
	*ret = (struct str){copy, n};
	return 0;
}

static int hex_digit(int32_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

static int read_digits(struct parse *p, int digits, unsigned base, uint32_t *ret_c)
{
	uint32_t c = 0;

	for (int i = 0; i < digits; i++, p->pos++) {
		unsigned d = (unsigned)hex_digit(peek_rune(p));

		if (d >= base)
			return fail(p, "escape with too few digits");
		c = c * base + d;
	}
	*ret_c = c;
	return 0;
}

/* Behind a backslash. Escapes of Go strings; \x and octal ones are bytes, \u and \U code points. */
static int read_escape(struct parse *p, int32_t quote)
{
	static const char from[] = "abfnrtv\\", to[] = "\a\b\f\n\r\t\v\\";
	int32_t c = peek_rune(p);
	char out[UTF8_MAX];
	uint32_t v = 0;
	int r;

	if (c == quote)
		v = (uint32_t)c;
	else if (is_one_of(c, from))
		v = (uint32_t)to[strchr(from, c) - from];
	if (v)
		p->pos++;
	else if (is_one_of(c, "01234567") && (r = read_digits(p, 3, 8, &v)) < 0)
		return r;
	else if (is_one_of(c, "xuU")) {
		p->pos++;
		r = read_digits(p, c == 'x' ? 2 : c == 'u' ? 4 : 8, 16, &v);
		if (r < 0)
			return r;
	} else if (!is_one_of(c, "01234567")) {
		return fail(p, "unknown escape");
	}
	if (c == 'u' || c == 'U') {
		/* a negative rune is taken for a byte by containerd, a surrogate becomes U+FFFD */
		if (v > 0x10ffff && v <= INT32_MAX)
			return fail(p, "escape beyond U+10FFFF");
		if (v <= INT32_MAX)
			return put(p, out, utf8_put(out, v >= 0xd800 && v <= 0xdfff ? 0xfffd : v));
	} else if (v > 0xff) {
		return fail(p, "escape beyond \\377");
	}
	out[0] = (char)v;
	return put(p, out, 1);
}

static int read_quoted(struct parse *p)
{
	int32_t quote = p->s.p[p->pos++], c;
	size_t width;
	int r = 0;

	while (r == 0 && (c = peek(p, &width)) != quote) {
		if (c < 0 || c == '\n')
			return fail(p, "quoted string without an end");
		if (c != '\\')
			r = put(p, p->s.p + p->pos, width);
		p->pos += width;
		if (c == '\\')
			r = read_escape(p, quote);
	}
	if (r == 0)
		p->pos++;
	return r;
}

/* One part of a field path. */
static int read_field(struct parse *p)
{
	size_t start;

	skip_space(p);
	if (peek_rune(p) == '"')
		return read_quoted(p);
	start = p->pos;
	while (is_field(peek_rune(p)))
		p->pos++;
	if (p->pos == start)
		return fail(p, "expected the name of a field");
	return put(p, p->s.p + start, p->pos - start);
}

static enum field field_of(struct str name)
{
	if (str_eq(name, STR("kind")))
		return FIELD_KIND;
	if (str_eq(name, STR("name")))
		return FIELD_NAME;
	if (str_eq(name, STR("parent")))
		return FIELD_PARENT;
	return str_eq(name, STR("labels")) ? FIELD_LABEL : FIELD_OTHER;
}

/* Only labels looks at what follows the first part; the parts are joined with ".". */
static int read_path(struct parse *p, struct selector *s)
{
	size_t from;
	int r;

	p->text.len = 0;
	r = read_field(p);
	if (r < 0)
		return r;
	s->field = field_of((struct str){(char *)p->text.data, p->text.len});
	from = p->text.len;
	for (bool first = true; peek_rune(p) == '.'; first = false) {
		p->pos++;
		if (!first && (r = put(p, ".", 1)) < 0)
			return r;
		r = read_field(p);
		if (r < 0)
			return r;
	}
	return s->field == FIELD_LABEL ? take_text(p, from, &s->label) : 0;
}

static int read_operator(struct parse *p, enum operator* ret_op)
{
	static const struct str names[] = {
		[OP_EQUAL] = {"==", 2}, [OP_NOT_EQUAL] = {"!=", 2}, [OP_MATCHES] = {"~=", 2}};
	struct str s;

	skip_space(p);
	s = (struct str){p->s.p + p->pos, 0};
	while (p->pos + s.len < p->s.len && is_one_of(s.p[s.len], "=!~"))
		s.len++;
	for (size_t i = OP_EQUAL; i <= OP_MATCHES; i++) {
		if (str_eq(s, names[i])) {
			p->pos += s.len;
			*ret_op = (enum operator)i;
			return 0;
		}
	}
	return fail(p, "expected ==, != or ~=");
}

/* Letters, marks, numbers, punctuation and symbols. 1, 0, -ENOMEM. */
static int is_graphic(struct parse *p, int32_t c, size_t width)
{
	static const char pattern[] = "[\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}]";
	pcre2_match_data *md;
	PCRE2_SIZE at;
	int r;

	if (c < 0x80)
		return c > ' ' && c < 0x7f;
	if (!p->graphic)
		p->graphic = pcre2_compile((PCRE2_SPTR)pattern, sizeof(pattern) - 1, PCRE2_UTF, &r,
					   &at, NULL);
	md = p->graphic ? pcre2_match_data_create(1, NULL) : NULL;
	if (!md)
		return no_memory(p);
	r = pcre2_match(p->graphic, (PCRE2_SPTR)p->s.p + p->pos, width, 0, 0, md, NULL);
	pcre2_match_data_free(md);
	return r >= 0;
}

/* A value without quotes. Its first character may be any that has no other meaning, as in
 * containerd. */
static int read_bare(struct parse *p)
{
	size_t start = p->pos, width;
	int32_t c = peek(p, &width);
	int r;

	do {
		p->pos += width;
		c = peek(p, &width);
		if (c < 0 || c == ',' || is_space(c))
			break;
		r = is_graphic(p, c, width);
		if (r < 0)
			return r;
	} while (r);
	return put(p, p->s.p + start, p->pos - start);
}

static int read_value(struct parse *p, struct selector *s)
{
	int32_t c;
	int r;

	skip_space(p);
	c = peek_rune(p);
	p->text.len = 0;
	if (c == '"' || (is_one_of(c, "/|") && s->op == OP_MATCHES))
		r = read_quoted(p);
	else if (c < 0 || is_one_of(c, "/|,.=!~"))
		r = fail(p, "expected a value");
	else
		r = read_bare(p);
	return r < 0 ? r : take_text(p, 0, &s->value);
}

/* What compiling and matching need, made for the first expression. */
static int prepare_regexes(struct filter *f)
{
	if (f->scratch)
		return 0;
	f->compile = pcre2_compile_context_create(NULL);
	f->match = pcre2_match_context_create(NULL);
	if (!f->compile || !f->match)
		return -ENOMEM;
	pcre2_set_newline(f->compile, PCRE2_NEWLINE_LF);
	pcre2_set_parens_nest_limit(f->compile, FILTER_RE_NEST_MAX + 4);
	pcre2_set_compile_extra_options(f->compile, PCRE2_EXTRA_ALLOW_SURROGATE_ESCAPES);
	pcre2_set_match_limit(f->match, REGEX_MATCH_STEPS_MAX);
	pcre2_set_depth_limit(f->match, REGEX_MATCH_STEPS_MAX);
	pcre2_set_heap_limit(f->match, REGEX_MATCH_HEAP_KIB);
	f->scratch = pcre2_match_data_create(1, NULL);
	return f->scratch ? 0 : -ENOMEM;
}

/*
 * No auto-possession: its look ahead recurses deep, and makes steps that scan a whole value. One
 * step is then about one character, and REGEX_MATCH_STEPS_MAX bounds the time of a match.
 */
static int compile_regex(struct parse *p, struct selector *s)
{
	auto_buf struct buf pattern = BUF_INIT;
	PCRE2_SIZE at;
	int code, r;

	if (p->f->regexes++ == FILTER_REGEXES_MAX)
		return fail(p, "too many regular expressions");
	r = filter_re(s->value, &pattern);
	if (r == -EINVAL)
		return 0;
	if (r < 0 || prepare_regexes(p->f) < 0)
		return no_memory(p);
	s->re = pcre2_compile(pattern.data, pattern.len,
			      PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ALT_CIRCUMFLEX |
				      PCRE2_NO_AUTO_POSSESS | PCRE2_NEVER_BACKSLASH_C,
			      &code, &at, p->f->compile);
	return !s->re && code == PCRE2_ERROR_HEAP_FAILED ? no_memory(p) : 0;
}

static int read_selector(struct parse *p, struct selector **ret)
{
	struct selector *s = arena_alloc(&p->f->arena, sizeof(*s));
	int32_t c;
	int r;

	if (!s)
		return no_memory(p);
	*s = (struct selector){0};
	*ret = s; /* before anything fails: s->re has to be freed */
	r = read_path(p, s);
	c = peek_rune(p);
	if (r < 0 || c == ',' || c == RUNE_END)
		return r;
	r = read_operator(p, &s->op);
	if (r == 0)
		r = read_value(p, s);
	return r == 0 && s->op == OP_MATCHES ? compile_regex(p, s) : r;
}

static int read_filter(struct parse *p, struct selector **tail)
{
	int r;

	if (p->s.len > FILTER_MAX)
		return fail(p, "filter is too long");
	if (p->s.len == 0)
		return 0;
	for (;;) {
		r = read_selector(p, tail);
		if (r < 0 || peek_rune(p) == RUNE_END)
			return r;
		if (peek_rune(p) != ',')
			return fail(p, "unexpected character");
		p->pos++;
		tail = &(*tail)->next;
	}
}

int filter_parse(struct filter **ret, const struct str *exprs, size_t n, struct err *err)
{
	auto_filter struct filter *f = NULL;
	struct parse p = {.err = err};
	int r = 0;

	if (n > FILTERS_MAX)
		return err_set(err, -EINVAL, "more than %d filters", FILTERS_MAX);
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_set(err, -ENOMEM, "no memory");
	arena_init(&f->arena, FILTER_MEMORY_MAX);
	f->ands = arena_alloc(&f->arena, (n + 1) * sizeof(f->ands[0]));
	if (!f->ands)
		return err_set(err, -ENOMEM, "no memory");
	p.f = f;
	for (size_t i = 0; r == 0 && i < n; i++) {
		f->ands[f->n++] = NULL;
		p.index = i;
		p.s = exprs[i];
		p.pos = 0;
		r = read_filter(&p, &f->ands[i]);
	}
	buf_fini(&p.text);
	pcre2_code_free(p.graphic);
	if (r == 0)
		*ret = take_ptr(f);
	return r;
}

/* The value of a field; false if it is absent. */
static bool field_get(const struct selector *s, const struct filter_subject *subject,
		      struct str *ret)
{
	const struct label *label;

	switch (s->field) {
	case FIELD_KIND:
		*ret = subject->kind;
		return true;
	case FIELD_NAME:
		*ret = subject->name;
		return true;
	case FIELD_PARENT:
		*ret = subject->parent;
		return true;
	case FIELD_LABEL:
		label = label_find(subject->labels, subject->labels_n, s->label);
		if (label)
			*ret = label->value;
		return label;
	default:
		return false;
	}
}

static bool selector_match(const struct filter *f, const struct selector *s,
			   const struct filter_subject *subject)
{
	struct str v = STR("");
	bool present = field_get(s, subject, &v);

	switch (s->op) {
	case OP_PRESENT:
		return present;
	case OP_EQUAL:
		return present && str_eq(v, s->value);
	case OP_NOT_EQUAL:
		return !str_eq(v, s->value);
	case OP_MATCHES:
		return s->re && pcre2_match(s->re, v.len ? (PCRE2_SPTR)v.p : (PCRE2_SPTR) "", v.len,
					    0, 0, f->scratch, f->match) >= 0;
	}
	return false;
}

bool filter_match(const struct filter *f, const struct filter_subject *s)
{
	const struct selector *and;

	for (size_t i = 0; i < f->n; i++) {
		for (and = f->ands[i]; and&&selector_match(f, and, s); and = and->next)
			;
		if (!and)
			return true;
	}
	return f->n == 0;
}

void filter_free(struct filter *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n; i++) {
		for (struct selector *s = f->ands[i]; s; s = s->next)
			pcre2_code_free(s->re);
	}
	pcre2_match_data_free(f->scratch);
	pcre2_match_context_free(f->match);
	pcre2_compile_context_free(f->compile);
	arena_fini(&f->arena);
	free(f);
}
