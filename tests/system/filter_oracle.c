// SPDX-License-Identifier: Apache-2.0
/*
 * Compares snap/filter with what `filters gen` (tests/go/filters) prints of containerd's verdicts,
 * read from stdin. Prints the first case that differs and exits with 1.
 */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"
#include "snap/filter.h"

#include "base/banned.h"

#define LABELS 16

struct test_case {
	struct arena arena;
	struct str filters[FILTERS_MAX];
	size_t filters_n;
	struct label labels[LABELS];
	struct filter_subject subject;
	bool parses, matches;
};

static char *next_word(char **line)
{
	char *word = strsep(line, " \n");

	require(word && *word);
	return word;
}

static size_t next_count(char **line, size_t max)
{
	uint64_t n = 0;

	require(str_u64(str_of(next_word(line)), &n) == 0 && n <= max);
	return n;
}

static unsigned base64_digit(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = strchr(digits, c);

	require(c && at);
	return (unsigned)(at - digits);
}

static struct str next_str(struct test_case *t, char **line)
{
	struct str word = str_of(next_word(line));
	char *out = arena_alloc(&t->arena, word.len + 1);
	size_t n = 0;
	unsigned bits = 0, have = 0;

	require(out);
	for (size_t i = 0; i < word.len && word.p[i] != '=' && word.p[i] != '-'; i++) {
		bits = (bits << 6 | base64_digit(word.p[i])) & 0xffff;
		have += 6;
		if (have >= 8) {
			have -= 8;
			out[n++] = (char)(bits >> have);
		}
	}
	return (struct str){out, n};
}

static void read_case(struct test_case *t, char *line)
{
	t->filters_n = next_count(&line, FILTERS_MAX);
	for (size_t i = 0; i < t->filters_n; i++)
		t->filters[i] = next_str(t, &line);
	t->subject.name = next_str(t, &line);
	t->subject.parent = next_str(t, &line);
	t->subject.kind = next_str(t, &line);
	t->subject.labels = t->labels;
	t->subject.labels_n = next_count(&line, LABELS);
	for (size_t i = 0; i < t->subject.labels_n; i++) {
		t->labels[i].key = next_str(t, &line);
		t->labels[i].value = next_str(t, &line);
	}
	t->parses = next_count(&line, 1);
	t->matches = next_count(&line, 1);
}

static void print(const char *what, struct str s)
{
	printf("  %s: ", what);
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		printf(c >= ' ' && c < 0x7f && c != '\\' ? "%c" : "\\x%02x", c);
	}
	printf("\n");
}

static void print_case(const struct test_case *t)
{
	for (size_t i = 0; i < t->filters_n; i++)
		print("filter", t->filters[i]);
	print("name", t->subject.name);
	print("parent", t->subject.parent);
	print("kind", t->subject.kind);
	for (size_t i = 0; i < t->subject.labels_n; i++) {
		print("label", t->labels[i].key);
		print("    =", t->labels[i].value);
	}
}

static bool agrees(const struct test_case *t, size_t number)
{
	auto_filter struct filter *f = NULL;
	struct err err = ERR_INIT;
	bool parses, matches;

	parses = filter_parse(&f, t->filters, t->filters_n, &err) == 0;
	matches = parses && filter_match(f, &t->subject);
	if (parses == t->parses && matches == t->matches)
		return true;
	printf("case %zu: containerd parses %d, matches %d; here parses %d, matches %d (%s)\n",
	       number, t->parses, t->matches, parses, matches, parses ? "no error" : err.text);
	print_case(t);
	return false;
}

int main(void)
{
	size_t size = 0, n = 0, parsed = 0, matched = 0;
	auto_free char *line = NULL;
	bool ok = true;

	while (ok && getline(&line, &size, stdin) > 0) {
		struct test_case t = {0};

		arena_init(&t.arena, MiB(1));
		read_case(&t, line);
		ok = agrees(&t, ++n);
		parsed += t.parses;
		matched += t.matches;
		arena_fini(&t.arena);
	}
	printf("%zu cases, %zu are filters, %zu match\n", n, parsed, matched);
	/* A generator that makes only one kind of case proves nothing. */
	if (ok && (parsed < n / 5 || n - parsed < n / 5 || matched < n / 10)) {
		printf("too few of one kind\n");
		return 1;
	}
	return ok && n ? 0 : 1;
}
