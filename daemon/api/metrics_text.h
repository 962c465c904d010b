/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prometheus' text format, version 0.0.4
 * (github.com/prometheus/docs, docs/instrumenting/exposition_formats.md). A family is begun, then
 * come its samples, then the next family. What there is no memory for is noted, and told at the
 * end. Pure.
 */
#ifndef FIRSTLIGHT_API_METRICS_TEXT_H
#define FIRSTLIGHT_API_METRICS_TEXT_H

#include "base/buf.h"
#include "base/histogram.h"
#include "base/str.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* Starts zeroed; buf_fini(&t->text) at the end. */
struct metrics_text {
	struct buf text;
	const char *name; /* of the family that is being told; the caller's */
	int code;         /* the first failure: -ENOMEM */
};

struct metric_label {
	const char *name;
	struct str value; /* any bytes: what is no UTF-8 becomes '?' */
};

/* name: [a-z_]+, with the unit last, and "_total" for a counter; help: one line. */
void metric_family(struct metrics_text *t, const char *name, enum metric_type type,
		   const char *help);

/* A sample of the family. */
void metric_number(struct metrics_text *t, const struct metric_label *labels, size_t n,
		   uint64_t value);
/* As seconds. */
void metric_seconds(struct metrics_text *t, const struct metric_label *labels, size_t n,
		    uint64_t ns);
/* All samples of one. */
void metric_histogram(struct metrics_text *t, const struct histogram *h);

/* A family with one sample that has no labels. */
void metric_one(struct metrics_text *t, const char *name, enum metric_type type, const char *help,
		uint64_t value);

/* One label: metric_number(t, METRIC_LABEL("class", "demand"), 7). */
#define METRIC_LABEL(name, value) (const struct metric_label[]){{(name), str_of(value)}}, 1

#endif
