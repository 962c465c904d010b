// SPDX-License-Identifier: Apache-2.0
/* Options of a command. Owns nothing: values stay where argv has them. */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "out.h"

#include "base/banned.h"

#define SPECS_MAX 32
#define LEFT_MAX  28 /* columns of "  -a, --address SOCKET" */

static const char *environment(const char *name, const char *other)
{
	const char *s = getenv(name);

	return s && s[0] ? s : other;
}

const char *options_address(void)
{
	return environment("FIRSTLIGHT_ADDRESS", ADDRESS_DEFAULT);
}

const char *options_namespace(void)
{
	return environment("CONTAINERD_NAMESPACE", "default");
}

static void print_spec(const struct option_spec *s)
{
	char left[LEFT_MAX * 2], letter[8] = "    ";

	if (s->letter)
		snprintf(letter, sizeof(letter), "-%c, ", s->letter);
	snprintf(left, sizeof(left), "  %s--%s%s%s", letter, s->name, s->value ? " " : "",
		 s->value ? s->value : "");
	printf("%-*s  %s\n", LEFT_MAX, left, s->help);
}

static void print_help(const struct options *o)
{
	static const struct option_spec help = {
		.name = "help", .letter = 'h', .help = "print this"};

	printf("usage: firstlight %s [OPTION…]", o->command);
	printf("%s%s\n\n%s\n\n", o->arguments ? " " : "", o->arguments ? o->arguments : "",
	       o->text);
	for (size_t i = 0; i < o->n; i++)
		print_spec(&o->specs[i]);
	print_spec(&help);
}

static int set(const struct options *o, const struct option_spec *s, char *value)
{
	struct option_list *list = s->to;
	uint64_t v = 0;

	switch (s->type) {
	case OPTION_FLAG:
		*(bool *)s->to = true;
		return 0;
	case OPTION_TEXT:
		if (!value[0])
			return out_misuse(o->command, "--%s is empty", s->name);
		*(const char **)s->to = value;
		return 0;
	case OPTION_NUMBER:
		if (str_u64(str_of(value), &v) < 0 || v == 0)
			return out_misuse(o->command, "--%s %s: not a number of at least 1",
					  s->name, value);
		*(uint64_t *)s->to = v;
		return 0;
	case OPTION_LIST:
		if (!value[0])
			return out_misuse(o->command, "--%s is empty", s->name);
		if (list->n == OPTION_LIST_MAX)
			return out_misuse(o->command, "--%s: more than %d", s->name,
					  OPTION_LIST_MAX);
		list->items[list->n++] = value;
		return 0;
	}
	return 0;
}

/* For getopt_long(): the option's place as its value, or a letter. */
static void make_tables(const struct options *o, struct option longs[], char *letters)
{
	require(o->n < SPECS_MAX);
	*letters++ = ':'; /* a missing value is told from an unknown option */
	*letters++ = 'h';
	for (size_t i = 0; i < o->n; i++) {
		const struct option_spec *s = &o->specs[i];

		longs[i] = (struct option){s->name,
					   s->type == OPTION_FLAG ? no_argument : required_argument,
					   NULL, (int)i + 1};
		if (s->letter)
			*letters++ = s->letter;
		if (s->letter && s->type != OPTION_FLAG)
			*letters++ = ':';
	}
	*letters = 0;
	longs[o->n] = (struct option){"help", no_argument, NULL, 'h'};
	longs[o->n + 1] = (struct option){0};
}

static const struct option_spec *spec_of(const struct options *o, int c)
{
	if (c > 0 && c <= (int)o->n)
		return &o->specs[c - 1];
	for (size_t i = 0; i < o->n; i++) {
		if (o->specs[i].letter == c)
			return &o->specs[i];
	}
	return NULL;
}

static int wrong(const struct options *o, int c, char **argv)
{
	if (c == ':')
		return out_misuse(o->command, "%s needs a value", argv[optind - 1]);
	if (optopt > SPECS_MAX && optopt != 'h')
		return out_misuse(o->command, "no option -%c", optopt);
	if (optopt != 0) /* getopt knows it, so that a value was there that must not be */
		return out_misuse(o->command, "%s takes no value", argv[optind - 1]);
	return out_misuse(o->command, "no option %s", argv[optind - 1]);
}

static int check_arguments(const struct options *o, int n, char **rest)
{
	if (n < o->args_min)
		return out_misuse(o->command, "%s is missing", o->arguments);
	if (o->args_max >= 0 && n > o->args_max)
		return out_misuse(o->command, "unexpected argument %s", rest[o->args_max]);
	for (int i = 0; i < n; i++) {
		if (!rest[i][0])
			return out_misuse(o->command, "%s is empty", o->arguments);
	}
	return OPTIONS_GO;
}

int options_parse(const struct options *o, int argc, char **argv)
{
	struct option longs[SPECS_MAX + 2];
	char letters[SPECS_MAX * 2 + 4];
	const struct option_spec *spec;
	int c, r;

	make_tables(o, longs, letters);
	optind = 0; /* glibc: start over */
	opterr = 0;
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		if (c == 'h') {
			print_help(o);
			return out_done(o->command);
		}
		spec = c == '?' || c == ':' ? NULL : spec_of(o, c);
		if (!spec)
			return wrong(o, c, argv);
		r = set(o, spec, optarg);
		if (r)
			return r;
	}
	return check_arguments(o, argc - optind, argv + optind);
}
