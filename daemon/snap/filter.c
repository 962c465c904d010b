// SPDX-License-Identifier: Apache-2.0
/* Snapshot filters. Owns compiled filters; the one door to PCRE2. One thread for one filter. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "snap/filter.h"

#include <pcre2.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/limits.h"
#include "snap/filter_re.h"
#include "snap/filter_scan.h"

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
	struct selector **ands;    /* one per filter: selector.next; NULL matches all */
	size_t n, regexes, folded; /* folded: see filter_re */
	pcre2_compile_context *compile;
	pcre2_match_context *match;
	pcre2_match_data *scratch;
};

struct parse {
	struct filter *f;
	size_t index;
	struct scan scan;
	pcre2_code *graphic; /* made when it is needed */
	struct err *err;
};

static int fail(struct parse *p, const char *cause)
{
	return err_set(p->err, -EINVAL, "filter %zu, byte %zu: %s", p->index, p->scan.pos, cause);
}

static int no_memory(struct parse *p)
{
	return err_set(p->err, -ENOMEM, "filter %zu: no memory", p->index);
}

/* Completes what a scan_ function answered. */
static int scanned(struct parse *p, int r)
{
	return r == 0 ? 0 : r == -EINVAL ? fail(p, p->scan.fault) : no_memory(p);
}

/* Copies the text of the scanner from an offset on into the filter. */
static int take_text(struct parse *p, size_t from, struct str *ret)
{
	size_t n = p->scan.text.len - from;
	char *copy = arena_strndup(&p->f->arena, n ? (char *)p->scan.text.data + from : "", n);

	if (!copy)
		return no_memory(p);
	*ret = (struct str){copy, n};
	return 0;
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
	struct scan *scan = &p->scan;
	size_t from;
	int r;

	scan->text.len = 0;
	r = scan_field(scan);
	if (r < 0)
		return scanned(p, r);
	s->field = field_of((struct str){(char *)scan->text.data, scan->text.len});
	from = scan->text.len;
	for (bool first = true; scan_peek(scan) == '.'; first = false) {
		scan->pos++;
		r = first ? 0 : buf_append(&scan->text, ".", 1);
		if (r == 0)
			r = scan_field(scan);
		if (r < 0)
			return scanned(p, r);
	}
	return s->field == FIELD_LABEL ? take_text(p, from, &s->label) : 0;
}

static int read_operator(struct parse *p, enum operator* ret_op)
{
	static const struct str names[] = {
		[OP_EQUAL] = {"==", 2}, [OP_NOT_EQUAL] = {"!=", 2}, [OP_MATCHES] = {"~=", 2}};
	struct str s = scan_operator(&p->scan);

	for (size_t i = OP_EQUAL; i <= OP_MATCHES; i++) {
		if (str_eq(s, names[i])) {
			p->scan.pos += s.len;
			*ret_op = (enum operator)i;
			return 0;
		}
	}
	return fail(p, "expected ==, != or ~=");
}

/* A value without quotes is, behind its first character, letters, marks, numbers, punctuation,
 * symbols. */
static int check_bare(struct parse *p, struct str v)
{
	static const char pattern[] = "(?s:.)[\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}]*+\\z";
	pcre2_match_data *md;
	PCRE2_SIZE at;
	size_t i = 1;
	int r;

	while (i < v.len && v.p[i] > ' ' && v.p[i] < 0x7f)
		i++;
	if (i == v.len)
		return 0;
	if (!p->graphic)
		p->graphic = pcre2_compile((PCRE2_SPTR)pattern, sizeof(pattern) - 1,
					   PCRE2_UTF | PCRE2_ANCHORED, &r, &at, NULL);
	md = p->graphic ? pcre2_match_data_create(1, NULL) : NULL;
	if (!md)
		return no_memory(p);
	r = pcre2_match(p->graphic, (PCRE2_SPTR)v.p, v.len, 0, 0, md, NULL);
	pcre2_match_data_free(md);
	return r >= 0 ? 0 : fail(p, "a character in the value needs quotes");
}

static int read_value(struct parse *p, struct selector *s)
{
	bool bare;
	int r = scanned(p, scan_value(&p->scan, s->op == OP_MATCHES, &bare));

	if (r == 0)
		r = take_text(p, 0, &s->value);
	return r == 0 && bare ? check_bare(p, s->value) : r;
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
	r = filter_re(s->value, &p->f->folded, &pattern);
	if (r == -EINVAL)
		return 0;
	if (r == -E2BIG)
		return fail(p, "classes under (?i) are too large");
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
	c = scan_peek(&p->scan);
	if (r < 0 || c == ',' || c == SCAN_END)
		return r;
	r = read_operator(p, &s->op);
	if (r == 0)
		r = read_value(p, s);
	return r == 0 && s->op == OP_MATCHES ? compile_regex(p, s) : r;
}

static int read_filter(struct parse *p, struct selector **tail)
{
	int r;

	if (p->scan.s.len > FILTER_MAX)
		return fail(p, "filter is too long");
	if (p->scan.s.len == 0)
		return 0;
	for (;;) {
		r = read_selector(p, tail);
		if (r < 0 || scan_peek(&p->scan) == SCAN_END)
			return r;
		if (scan_peek(&p->scan) != ',')
			return fail(p, "unexpected character");
		p->scan.pos++;
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
		p.scan.s = exprs[i];
		p.scan.pos = 0;
		r = read_filter(&p, &f->ands[i]);
	}
	buf_fini(&p.scan.text);
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

bool filter_wants_label(const struct filter *f, struct str key, struct str *ret)
{
	if (f->n != 1)
		return false;
	for (const struct selector *s = f->ands[0]; s; s = s->next) {
		if (s->field == FIELD_LABEL && s->op == OP_EQUAL && str_eq(s->label, key)) {
			*ret = s->value;
			return true;
		}
	}
	return false;
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
