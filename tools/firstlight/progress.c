// SPDX-License-Identifier: Apache-2.0
/* The bar. Owns the last line of the terminal between begin and end. */
#include "progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "out.h"

#include "base/banned.h"

#define BAR_MIN    10
#define BAR_MAX    30
#define FACTS_ROOM 50   /* columns of "1023 MiB of 1023 MiB  1023 KiB/s  59 m 59 s left" */
#define WINDOW_MS  3000 /* of the rate */
#define CLEAR_LINE "\r\033[K"
#define RATE_STEPS 32

static struct {
	bool shown, quiet;
	char what[32];
	uint64_t done, total, drawn_ms;
	/* Points of the last seconds, for the rate. */
	struct {
		uint64_t ms, done;
	} points[RATE_STEPS];
	size_t first, n;
} bar;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static bool terminal(void)
{
	return !bar.quiet && out_terminal(STDERR_FILENO);
}

static void point(uint64_t ms)
{
	size_t last = (bar.first + bar.n + RATE_STEPS - 1) % RATE_STEPS;

	if (bar.n && ms - bar.points[last].ms < WINDOW_MS / RATE_STEPS)
		return;
	while (bar.n && (bar.n == RATE_STEPS || ms - bar.points[bar.first].ms > WINDOW_MS)) {
		bar.first = (bar.first + 1) % RATE_STEPS;
		bar.n--;
	}
	last = (bar.first + bar.n++) % RATE_STEPS;
	bar.points[last].ms = ms;
	bar.points[last].done = bar.done;
}

/* Bytes a second over the window. */
static uint64_t rate(uint64_t ms)
{
	uint64_t span = bar.n ? ms - bar.points[bar.first].ms : 0;

	if (span < 100 || bar.done < bar.points[bar.first].done)
		return 0;
	return (bar.done - bar.points[bar.first].done) * 1000 / span;
}

const char *progress_bar(char buf[PROGRESS_LINE_MAX], unsigned columns, const char *what,
			 uint64_t done, uint64_t total, uint64_t bytes_rate)
{
	char a[OUT_NUMBER_MAX], b[OUT_NUMBER_MAX], r[OUT_NUMBER_MAX], left[OUT_NUMBER_MAX];
	char facts[160] = "", picture[BAR_MAX + 1];
	size_t used, width;
	int n = 0;

	if (total)
		n = snprintf(facts, sizeof(facts), "%s of %s", out_size(done, a),
			     out_size(total, b));
	else if (done)
		n = snprintf(facts, sizeof(facts), "%s", out_size(done, a));
	if (bytes_rate)
		n += snprintf(facts + n, sizeof(facts) - (size_t)n, "  %s/s",
			      out_size(bytes_rate, r));
	if (bytes_rate && total > done)
		snprintf(facts + n, sizeof(facts) - (size_t)n, "  %s left",
			 out_duration((total - done) * 1000 / bytes_rate, left));
	/* The bar does not change its length with the facts, unless they leave it no room. */
	used = strlen(what) + 7; /* blanks, brackets, the last column */
	width = columns > used + FACTS_ROOM + BAR_MIN ? columns - used - FACTS_ROOM : BAR_MIN;
	width = width > BAR_MAX ? BAR_MAX : width;
	if (!total || used + width + strlen(facts) > columns) {
		snprintf(buf, PROGRESS_LINE_MAX, "%s%s%s", what, n ? "  " : "", facts);
	} else {
		size_t full = (size_t)((done > total ? total : done) * 1.0 / (double)total *
				       (double)width);

		for (size_t i = 0; i < width; i++)
			picture[i] = i < full ? '#' : '.';
		picture[width] = 0;
		snprintf(buf, PROGRESS_LINE_MAX, "%s  [%s]  %s", what, picture, facts);
	}
	if (strlen(buf) >= columns && columns)
		buf[columns - 1] = 0;
	return buf;
}

static void draw(bool always)
{
	char line[PROGRESS_LINE_MAX];
	uint64_t ms = now_ms();

	if (!terminal())
		return;
	point(ms);
	if (!always && bar.shown && ms - bar.drawn_ms < 1000 / PROGRESS_HZ)
		return;
	fprintf(stderr, CLEAR_LINE "%s",
		progress_bar(line, out_width_of(STDERR_FILENO), bar.what, bar.done, bar.total,
			     rate(ms)));
	fflush(stderr);
	bar.shown = true;
	bar.drawn_ms = ms;
}

void progress_begin(const char *what, bool quiet)
{
	bar.quiet = quiet;
	snprintf(bar.what, sizeof(bar.what), "%s", what);
	bar.done = bar.total = 0;
	bar.n = 0;
	draw(true);
}

void progress_set(uint64_t done, uint64_t total)
{
	bar.done = done;
	bar.total = total;
	draw(false);
}

void progress_end(void)
{
	if (bar.shown) {
		fputs(CLEAR_LINE, stderr);
		fflush(stderr);
	}
	bar.shown = false;
}

void progress_line(const char *fmt, ...)
{
	bool again = bar.shown;
	va_list ap;

	if (bar.quiet)
		return;
	progress_end();
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	if (again)
		draw(true);
}
