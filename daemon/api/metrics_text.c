// SPDX-License-Identifier: Apache-2.0
/* Prometheus' text format. Owns nothing. */
#include "api/metrics_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/banned.h"

#define NS_PER_S  UINT64_C(1000000000)
#define MS_PER_S  1000u
#define BOUND_MAX 16 /* bytes of a bound as text */

static void note(struct metrics_text *t, int r)
{
	if (r < 0 && t->code == 0)
		t->code = r;
}

static void put(struct metrics_text *t, const char *text)
{
	note(t, buf_append(&t->text, text, strlen(text)));
}

void metric_family(struct metrics_text *t, const char *name, enum metric_type type,
		   const char *help)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};

	t->name = name;
	note(t,
	     buf_printf(&t->text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]));
}

static void put_value(struct metrics_text *t, struct str s)
{
	bool clean = str_utf8(s);

	put(t, "\"");
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (c == '\\' || c == '"')
			note(t, buf_printf(&t->text, "\\%c", c));
		else if (c == '\n')
			put(t, "\\n");
		else if ((!clean && (unsigned char)c >= 0x80) || c == 0)
			put(t, "?");
		else
			note(t, buf_append(&t->text, &c, 1));
	}
	put(t, "\"");
}

/* The name, and what is in braces. */
static void put_head(struct metrics_text *t, const char *suffix, const struct metric_label *labels,
		     size_t n)
{
	put(t, t->name);
	put(t, suffix);
	for (size_t i = 0; i < n; i++) {
		put(t, i ? "," : "{");
		put(t, labels[i].name);
		put(t, "=");
		put_value(t, labels[i].value);
	}
	put(t, n ? "} " : " ");
}

static void put_number(struct metrics_text *t, uint64_t value)
{
	note(t, buf_printf(&t->text, "%" PRIu64 "\n", value));
}

static void put_seconds(struct metrics_text *t, uint64_t ns)
{
	note(t, buf_printf(&t->text, "%" PRIu64 ".%09" PRIu64 "\n", ns / NS_PER_S, ns % NS_PER_S));
}

void metric_number(struct metrics_text *t, const struct metric_label *labels, size_t n,
		   uint64_t value)
{
	put_head(t, "", labels, n);
	put_number(t, value);
}

void metric_seconds(struct metrics_text *t, const struct metric_label *labels, size_t n,
		    uint64_t ns)
{
	put_head(t, "", labels, n);
	put_seconds(t, ns);
}

/* "0.001", "0.5", "60". */
static void bound_text(uint32_t ms, char *ret, size_t size)
{
	size_t len = (size_t)snprintf(ret, size, "%u.%03u", ms / MS_PER_S, ms % MS_PER_S);

	while (ret[len - 1] == '0')
		ret[--len] = 0;
	if (ret[len - 1] == '.')
		ret[--len] = 0;
}

void metric_histogram(struct metrics_text *t, const struct histogram *h)
{
	char bound[BOUND_MAX] = "+Inf";
	uint64_t sum = 0;

	for (unsigned i = 0; i <= HISTOGRAM_STEPS; i++) {
		if (i < HISTOGRAM_STEPS)
			bound_text(histogram_bounds_ms[i], bound, sizeof(bound));
		else
			snprintf(bound, sizeof(bound), "+Inf");
		sum += h->counts[i];
		put_head(t, "_bucket", METRIC_LABEL("le", bound));
		put_number(t, sum);
	}
	put_head(t, "_sum", NULL, 0);
	put_seconds(t, h->sum_ns);
	put_head(t, "_count", NULL, 0);
	put_number(t, sum);
}

void metric_one(struct metrics_text *t, const char *name, enum metric_type type, const char *help,
		uint64_t value)
{
	metric_family(t, name, type, help);
	metric_number(t, NULL, 0, value);
}
