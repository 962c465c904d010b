// SPDX-License-Identifier: Apache-2.0
/* RE2 expressions in PCRE2's dialect. Owns nothing; no recursion. */
#include "snap/filter_re.h"

#include <errno.h>
#include <stdio.h>

#include "snap/filter_re_class.h"

#include "base/banned.h"

enum { FLAG_FOLD = 1, FLAG_MULTI = 2, FLAG_DOT_ALL = 4, FLAG_LAZY = 8 };

struct group {
	unsigned flags;
	bool fold;
	size_t start;
	unsigned weight_max;
};

struct re {
	struct re_text t;
	unsigned flags;      /* FLAG_… as the expression has set them */
	bool atom;           /* is there something that a quantifier can apply to? */
	bool quantified;     /* has it a quantifier already? */
	size_t atom_start;   /* where in t.out it begins */
	unsigned weight;     /* how often counts repeat what is in it, nested ones multiplied */
	unsigned weight_max; /* largest weight before it in this group */
	size_t depth;
	struct group groups[FILTER_RE_NEST_MAX];
};

static void settle(struct re *r)
{
	if (r->weight > r->weight_max)
		r->weight_max = r->weight;
	r->weight = 1;
}

/* What is emitted next can be quantified. */
static void begin_atom(struct re *r)
{
	bool fold = r->flags & FLAG_FOLD;

	settle(r);
	if (fold != r->t.fold)
		RE_EMIT(&r->t, fold ? "(?i)" : "(?-i)");
	r->t.fold = fold;
	r->atom = true;
	r->quantified = false;
	r->atom_start = r->t.out->len;
}

static void emit_atom(struct re *r, const char *text)
{
	begin_atom(r);
	RE_EMIT(&r->t, "%s", text);
}

static void emit_literal(struct re *r, int32_t c)
{
	begin_atom(r);
	if (re_digit(c) || re_alpha(c))
		RE_EMIT(&r->t, "%c", (char)c);
	else
		RE_EMIT(&r->t, "\\x{%x}", (unsigned)c);
}

static bool open_group(struct re *r, unsigned flags)
{
	if (r->depth == FILTER_RE_NEST_MAX)
		return false;
	emit_atom(r, "(?:");
	r->groups[r->depth++] = (struct group){.flags = r->flags,
					       .fold = r->t.fold,
					       .start = r->atom_start,
					       .weight_max = r->weight_max};
	r->flags = flags;
	r->weight_max = 1;
	r->atom = false;
	return true;
}

static bool close_group(struct re *r)
{
	const struct group *g;

	if (r->depth == 0)
		return false;
	g = &r->groups[--r->depth];
	settle(r);
	RE_EMIT(&r->t, ")");
	r->weight = r->weight_max;
	r->weight_max = g->weight_max;
	r->flags = g->flags;
	r->t.fold = g->fold;
	r->atom = true;
	r->quantified = false;
	r->atom_start = g->start;
	return true;
}

/* Behind (?P<. The name itself is of no use here. */
static bool read_name(struct re *r)
{
	size_t start = r->t.pos;
	int c;

	while ((c = re_peek(&r->t, 0)) == '_' || re_digit(c) || re_alpha(c))
		r->t.pos++;
	if (c != '>' || r->t.pos == start)
		return false;
	r->t.pos++;
	return open_group(r, r->flags);
}

/* Behind (?. Go takes (?<name> since 1.22. */
static bool read_flags(struct re *r)
{
	static const char letters[] = "imsU"; /* in the order of FLAG_… */
	unsigned flags = r->flags, bit;
	bool minus = false, any = true;
	const char *at;

	if (re_peek(&r->t, 0) == '<' || (re_peek(&r->t, 0) == 'P' && re_peek(&r->t, 1) == '<')) {
		r->t.pos += re_peek(&r->t, 0) == 'P' ? 2 : 1;
		return read_name(r);
	}
	for (;;) {
		int c = re_peek(&r->t, 0);

		r->t.pos++;
		if ((c == ':' || c == ')') && any) {
			if (c == ':')
				return open_group(r, flags);
			r->flags = flags;
			return true;
		}
		at = c > 0 ? strchr(letters, c) : NULL;
		if (at) {
			bit = 1u << (at - letters);
			flags = minus ? flags & ~bit : flags | bit;
			any = true;
		} else if (c == '-' && !minus) {
			minus = true;
			any = false;
		} else {
			return false;
		}
	}
}

/* Applies a quantifier to the last atom; max < 0: without end. count: was it written with { }? */
static bool quantify(struct re *r, int min, int max, bool count)
{
	bool lazy = r->flags & FLAG_LAZY;
	unsigned times = (unsigned)(max < 0 ? min : max);

	if (!r->atom)
		return false;
	if (re_peek(&r->t, 0) == '?') {
		r->t.pos++;
		lazy = !lazy;
	}
	if (count && max == 0)
		r->weight = 1;
	else if (count && times > 0)
		r->weight *= times;
	if (count && times >= 2 && r->weight > FILTER_RE_REPEAT_MAX)
		return false;
	if (r->quantified) {
		/* a*(?i)+ is (a*)+ in RE2 */
		RE_EMIT(&r->t, ")   ");
		if (r->t.error == 0) {
			uint8_t *at = r->t.out->data + r->atom_start;

			memmove(at + 3, at, r->t.out->len - r->atom_start - 3);
			memcpy(at, "(?:", 3);
		}
	}
	r->quantified = true;
	RE_EMIT(&r->t, "{%d,", min);
	if (max >= 0)
		RE_EMIT(&r->t, "%d", max);
	RE_EMIT(&r->t, lazy ? "}?" : "}");
	return true;
}

/* A number without leading zeros; anything too large is one more than is allowed. */
static bool read_count(struct re *r, int *ret_n)
{
	int n = 0;

	if (!re_digit(re_peek(&r->t, 0)) ||
	    (re_peek(&r->t, 0) == '0' && re_digit(re_peek(&r->t, 1))))
		return false;
	for (; re_digit(re_peek(&r->t, 0)); r->t.pos++) {
		n = n * 10 + (re_peek(&r->t, 0) - '0');
		if (n > FILTER_RE_REPEAT_MAX)
			n = FILTER_RE_REPEAT_MAX + 1;
	}
	*ret_n = n;
	return true;
}

/* Behind {, which is a literal if no count follows; *ret_count tells whether one did. */
static bool read_repeat(struct re *r, bool *ret_count)
{
	size_t start = r->t.pos;
	int min = 0, max;

	*ret_count = read_count(r, &min);
	max = min;
	if (*ret_count && re_peek(&r->t, 0) == ',') {
		r->t.pos++;
		max = -1;
		*ret_count = re_peek(&r->t, 0) == '}' || read_count(r, &max);
	}
	if (!*ret_count || re_peek(&r->t, 0) != '}') {
		*ret_count = false;
		r->t.pos = start;
		emit_literal(r, '{');
		return true;
	}
	r->t.pos++;
	if (min > FILTER_RE_REPEAT_MAX || max > FILTER_RE_REPEAT_MAX || (max >= 0 && min > max))
		return false;
	return quantify(r, min, max, true);
}

/* Behind \Q: literals up to \E or the end. */
static void read_verbatim(struct re *r)
{
	while (re_peek(&r->t, 0) >= 0) {
		if (re_peek(&r->t, 0) == '\\' && re_peek(&r->t, 1) == 'E') {
			r->t.pos += 2;
			return;
		}
		emit_literal(r, re_rune(&r->t));
	}
}

/* Behind a backslash that is not in [ ]. */
static bool read_backslash(struct re *r)
{
	static const char asserts[] = "AbBz";
	int c = re_peek(&r->t, 0);
	int32_t rune;
	bool ok;

	if (c > 0 && strchr(asserts, c)) {
		r->t.pos++;
		begin_atom(r);
		RE_EMIT(&r->t, "(?:\\%c)", c); /* in brackets it may have a quantifier */
		return true;
	}
	if (c == 'Q') {
		r->t.pos++;
		read_verbatim(r);
		return true;
	}
	if (re_is_set(c)) {
		emit_atom(r, "[");
		ok = re_set(&r->t);
		RE_EMIT(&r->t, "]");
		return ok;
	}
	if (!re_escape(&r->t, &rune))
		return false;
	emit_literal(r, rune);
	return true;
}

/* One token; *repeat: was the one before a quantifier, is this? */
static bool read_token(struct re *r, bool *repeat)
{
	int c = re_peek(&r->t, 0);
	bool stacked = *repeat, multi = r->flags & FLAG_MULTI, ok;

	*repeat = c == '*' || c == '+' || c == '?';
	if (c >= 0x80) {
		emit_literal(r, re_rune(&r->t));
		return true;
	}
	r->t.pos++;
	switch (c) {
	case '*':
	case '+':
	case '?':
		return !stacked && quantify(r, c == '+', c == '?' ? 1 : -1, false);
	case '{':
		ok = read_repeat(r, repeat);
		return ok && !(stacked && *repeat);
	case '(':
		if (re_peek(&r->t, 0) != '?')
			return open_group(r, r->flags);
		r->t.pos++;
		return read_flags(r);
	case ')':
		return close_group(r);
	case '|':
		settle(r);
		r->atom = false;
		RE_EMIT(&r->t, "|");
		return true;
	case '^':
		emit_atom(r, multi ? "(?m:^)" : "(?:\\A)");
		return true;
	case '$':
		emit_atom(r, multi ? "(?m:$)" : "(?:\\z)");
		return true;
	case '.':
		emit_atom(r, r->flags & FLAG_DOT_ALL ? "(?s:.)" : ".");
		return true;
	case '[':
		begin_atom(r);
		return re_class(&r->t);
	case '\\':
		return read_backslash(r);
	default:
		emit_literal(r, c);
		return true;
	}
}

int filter_re(struct str re, size_t *folded, struct buf *out)
{
	struct re r = {.t = {.s = re, .out = out, .folded = *folded}, .weight = 1, .weight_max = 1};
	bool repeat = false;

	if (!str_utf8(re))
		return -EINVAL;
	RE_EMIT(&r.t, "(?s:.*?)(?:");
	while (r.t.error == 0 && r.t.pos < re.len) {
		if (!read_token(&r, &repeat))
			return r.t.error ? r.t.error : -EINVAL;
	}
	RE_EMIT(&r.t, ")");
	if (r.t.error || r.depth)
		return r.t.error ? r.t.error : -EINVAL;
	*folded = r.t.folded;
	return *folded > FILTER_RE_FOLD_MAX ? -E2BIG : 0;
}
