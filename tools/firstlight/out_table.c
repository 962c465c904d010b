// SPDX-License-Identifier: Apache-2.0
/* Tables that fit the terminal. A table owns its cells until they are printed. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "base/utf8.h"
#include "out.h"

#include "base/banned.h"

#define ROWS_MAX  2000 /* then what is there is printed: memory stays bounded */
#define GAP       2    /* between columns */
#define GIVES_MIN 12   /* a column is not made narrower than that */
#define FACTS     2    /* columns of a list of facts */

struct out_table {
	const struct out_column *columns;
	size_t n;
	bool cut, titles;
	char **cells;
	size_t count, cap; /* cells */
	size_t *widths;
};

static const struct out_column fact_columns[FACTS] = {{"", 0}, {"", OUT_GIVES}};

struct out_table *out_table_new(const struct out_column *columns, size_t n, bool cut)
{
	struct out_table *t = calloc(1, sizeof(*t));

	if (!t)
		out_no_memory();
	*t = (struct out_table){.columns = columns, .n = n, .cut = cut, .titles = true};
	t->widths = calloc(n, sizeof(*t->widths));
	if (!t->widths)
		out_no_memory();
	return t;
}

struct out_table *out_facts_new(bool cut)
{
	struct out_table *t = out_table_new(fact_columns, FACTS, cut);

	t->titles = false;
	return t;
}

/* --- printing ----------------------------------------------------------------------------------
 */

static void measure(struct out_table *t)
{
	for (size_t c = 0; t->titles && c < t->n; c++) {
		size_t w = strlen(t->columns[c].title);

		if (w > t->widths[c])
			t->widths[c] = w;
	}
	for (size_t i = 0, c = 0; i < t->count; i++, c = c + 1 < t->n ? c + 1 : 0) {
		size_t w = out_columns(t->cells[i], strlen(t->cells[i]));

		if (w > t->widths[c])
			t->widths[c] = w;
	}
}

/* Takes columns away from the widest that gives, one by one, until the row fits. */
static void squeeze(struct out_table *t)
{
	size_t room = out_width(), total = (t->n - 1) * GAP, widest;

	for (size_t c = 0; c < t->n; c++)
		total += t->widths[c];
	while (t->cut && total > room) {
		widest = t->n;
		for (size_t c = 0; c < t->n; c++) {
			if ((t->columns[c].flags & OUT_GIVES) && t->widths[c] > GIVES_MIN &&
			    (widest == t->n || t->widths[c] > t->widths[widest]))
				widest = c;
		}
		if (widest == t->n)
			return;
		t->widths[widest]--;
		total--;
	}
}

/* Bytes of the longest start of s that takes at most so many columns. */
static size_t head_bytes(const char *s, size_t columns)
{
	size_t len = strlen(s), i = 0, width;

	while (i < len) {
		utf8_get((struct str){s, len}, i, &width);
		if (out_columns(s, i + width) > columns)
			break;
		i += width;
	}
	return i;
}

/* Where the longest end of s begins that takes at most so many columns. */
static size_t tail_start(const char *s, size_t columns)
{
	size_t len = strlen(s), i = 0, width;

	while (i < len && out_columns(s + i, len - i) > columns) {
		utf8_get((struct str){s, len}, i, &width);
		i += width;
	}
	return i;
}

/* One cell; blanks behind it unless it is the last. */
static void print_cell(const struct out_table *t, size_t c, const char *s)
{
	size_t have = out_columns(s, strlen(s)), want = t->widths[c], head;
	bool right = t->columns[c].flags & OUT_RIGHT;

	if (have > want && t->cut) { /* "abc…xyz" */
		head = head_bytes(s, (want - 1) / 2);
		printf("%.*s…", (int)head, s);
		have = out_columns(s, head) + 1;
		s += tail_start(s, want - have);
		have += out_columns(s, strlen(s));
	}
	if (right && have < want)
		printf("%*s", (int)(want - have), "");
	fputs(s, stdout);
	if (c + 1 == t->n)
		putchar('\n');
	else
		printf("%*s", (int)(right || have >= want ? 0 : want - have) + GAP, "");
}

static void flush(struct out_table *t)
{
	measure(t);
	squeeze(t);
	for (size_t c = 0; t->titles && c < t->n; c++)
		print_cell(t, c, t->columns[c].title);
	t->titles = false;
	for (size_t i = 0, c = 0; i < t->count; i++, c = c + 1 < t->n ? c + 1 : 0) {
		print_cell(t, c, t->cells[i]);
		free(t->cells[i]);
	}
	t->count = 0;
}

void out_table_drop(struct out_table *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t->widths);
	free(t);
}

void out_table_end(struct out_table *t)
{
	flush(t);
	out_table_drop(t);
}

/* --- cells -------------------------------------------------------------------------------------
 */

void out_cell(struct out_table *t, const char *text)
{
	char **cells;

	if (t->count == ROWS_MAX * t->n)
		flush(t);
	if (t->count == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 64;
		cells = reallocarray(t->cells, t->cap, sizeof(*cells));
		if (!cells)
			out_no_memory();
		t->cells = cells;
	}
	t->cells[t->count++] = out_word(text, t->cut);
}

static void cell_va(struct out_table *t, const char *fmt, va_list ap)
{
	auto_free char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0) {
		text = NULL;
		out_no_memory();
	}
	out_cell(t, text);
}

void out_cellf(struct out_table *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cell_va(t, fmt, ap);
	va_end(ap);
}

void out_fact(struct out_table *t, const char *name, const char *fmt, ...)
{
	va_list ap;

	out_cell(t, name);
	va_start(ap, fmt);
	cell_va(t, fmt, ap);
	va_end(ap);
}
