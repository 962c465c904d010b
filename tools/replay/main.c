// SPDX-License-Identifier: Apache-2.0
/* replay: a recorded start against the predictor, offline. Arguments, files, and what is printed.
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/file.h"
#include "sim.h"

#include "base/banned.h"

#define MEMORY_MAX   MiB(128)
#define NS_PER_MS    1000000
#define RATE_MAX     1000000 /* Mbit/s */
#define MS_MAX       60000
#define BYTES_A_MBIT (1000000 / 8)

struct replay {
	const char *recording_file, *profile_file;
	struct sim_link link;
	bool json;
	struct arena arena;
	struct recording rec;
	struct profile profile;
	struct sim_result results[3]; /* by sim_mode */
};

static const char *const names[] = {
	[SIM_WITHOUT] = "without",
	[SIM_PROFILE] = "profile",
	[SIM_PERFECT] = "perfect",
};

/* --- arguments -------------------------------------------------------------------------------- */

static void usage(FILE *f)
{
	fputs("usage: replay --recording FILE [OPTION…]\n\n"
	      "A recorded start, simulated on a link: without a profile, with one, and with "
	      "perfect\n"
	      "foresight. What the model is stands in tools/replay/sim.h.\n\n"
	      "      --recording FILE  the start, as JSON\n"
	      "      --profile FILE    what it is foreseen from, as JSON (the recording itself)\n"
	      "      --rtt MS          of the link, milliseconds (50)\n"
	      "      --rate MBIT       of the link, Mbit/s (100)\n"
	      "      --lead MS         the prediction begins so long before the program (0)\n"
	      "      --json            print JSON\n"
	      "  -h, --help            print this\n",
	      f);
}

static int fail(int code, const char *fmt, ...) printf_like(2, 3);
static int fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("replay: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	if (code == 2)
		fputs("hint: see replay --help\n", stderr);
	return code;
}

static int number(const char *name, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t v;

	if (str_u64(str_of(optarg), &v) < 0 || v < min || v > max)
		return fail(2, "--%s %s: not a number of %llu to %llu", name, optarg,
			    (unsigned long long)min, (unsigned long long)max);
	*ret = v;
	return 0;
}

/* last: the word that it was in. */
static int option(struct replay *rp, int c, const char *last)
{
	uint64_t v = 0;
	int r = 0;

	switch (c) {
	case 'r':
		rp->recording_file = optarg;
		return 0;
	case 'p':
		rp->profile_file = optarg;
		return 0;
	case 't':
		r = number("rtt", 0, MS_MAX, &v);
		rp->link.rtt_ns = v * NS_PER_MS;
		return r;
	case 'b':
		r = number("rate", 1, RATE_MAX, &v);
		rp->link.rate = v * BYTES_A_MBIT;
		return r;
	case 'l':
		r = number("lead", 0, MS_MAX, &v);
		rp->link.lead_ns = v * NS_PER_MS;
		return r;
	case 'j':
		rp->json = true;
		return 0;
	case ':':
		return fail(2, "%s needs a value", last);
	default:
		return fail(2, "no option %s", last);
	}
}

/* -1: go on; else the exit code. */
static int arguments(struct replay *rp, int argc, char **argv)
{
	static const struct option longs[] = {
		{"recording", required_argument, NULL, 'r'},
		{"profile", required_argument, NULL, 'p'},
		{"rtt", required_argument, NULL, 't'},
		{"rate", required_argument, NULL, 'b'},
		{"lead", required_argument, NULL, 'l'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c, r;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
		if (c == 'h') {
			usage(stdout);
			return 0;
		}
		r = option(rp, c, argv[optind - 1]);
		if (r)
			return r;
	}
	if (optind < argc)
		return fail(2, "unexpected argument %s", argv[optind]);
	return rp->recording_file ? -1 : fail(2, "--recording is missing");
}

/* --- files ------------------------------------------------------------------------------------ */

/* Of the arena's life. */
static int read_document(struct replay *rp, const char *path, size_t max, struct str *ret,
			 struct err *err)
{
	auto_buf struct buf b = BUF_INIT;
	char *copy;
	int r = file_read_all(path, max, &b, err);

	if (r < 0)
		return r;
	copy = arena_strndup(&rp->arena, (const char *)b.data, b.len);
	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	*ret = (struct str){copy, b.len};
	return 0;
}

static int read_files(struct replay *rp, struct err *err)
{
	struct str text = STR("");
	int r = read_document(rp, rp->recording_file, RECORDING_JSON_MAX, &text, err);

	if (r == 0)
		r = recording_parse(text, &rp->arena, &rp->rec, err);
	if (r < 0)
		return err_wrap(err, r, "%s", rp->recording_file);
	if (!rp->profile_file)
		return recording_profile(&rp->rec, &rp->arena, &rp->profile, err);
	r = read_document(rp, rp->profile_file, PROFILE_JSON_MAX, &text, err);
	if (r == 0)
		r = profile_from_json(text, &rp->arena, &rp->profile, err);
	return r < 0 ? err_wrap(err, r, "%s", rp->profile_file) : 0;
}

/* --- results ---------------------------------------------------------------------------------- */

static unsigned percent(const struct predict_count *part, const struct predict_count *whole)
{
	return whole->bytes ? (unsigned)(part->bytes * 100 / whole->bytes) : 100;
}

static double mib(uint64_t bytes)
{
	return (double)bytes / (double)MiB(1);
}

static void print_word(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		putchar(s.p[i] < ' ' || s.p[i] > '~' ? '?' : s.p[i]);
}

static void print_run(const char *name, const struct sim_result *r)
{
	printf("%-10s %12.3f %12.3f %10llu %10llu %10.2f\n", name, (double)r->ready_ns / 1e9,
	       (double)r->waited_ns / 1e9, (unsigned long long)r->requests,
	       (unsigned long long)r->foreseen, mib(r->used.bytes + r->wasted.bytes));
}

static void print_text(const struct replay *rp)
{
	const struct sim_result *p = &rp->results[SIM_PROFILE];

	fputs("image      ", stdout);
	print_word(rp->rec.image);
	fputs("\nprogram    ", stdout);
	print_word(rp->rec.executable);
	printf("\nrecording  %zu events of %zu files, %.2f MiB read%s\n", rp->rec.events_n,
	       rp->rec.files_n, mib(p->used.bytes),
	       rp->rec.lost ? "; events were lost"
			    : (rp->rec.fuse_only ? "; what was local is not in it" : ""));
	printf("profile    %u starts, %zu uses of %zu files%s\n", rp->profile.starts,
	       rp->profile.uses_n, rp->profile.paths_n,
	       rp->profile_file ? "" : " (the recording itself)");
	printf("link       RTT %llu ms, %llu Mbit/s, lead %llu ms\n\n",
	       (unsigned long long)rp->link.rtt_ns / NS_PER_MS,
	       (unsigned long long)rp->link.rate / BYTES_A_MBIT,
	       (unsigned long long)rp->link.lead_ns / NS_PER_MS);
	printf("%-10s %12s %12s %10s %10s %10s\n", "", "ready, s", "waited, s", "requests",
	       "foreseen", "MiB");
	for (size_t i = 0; i < array_size(names); i++)
		print_run(names[i], &rp->results[i]);
	printf("\nof what was read: hit %u %%, late %u %%, missed %u %%; wasted %.2f MiB\n",
	       percent(&p->hits, &p->used), percent(&p->late, &p->used),
	       percent(&p->missed, &p->used), mib(p->wasted.bytes));
	printf("precision %u %%, recall %u %%%s\n", p->stats.precision, p->stats.recall,
	       p->stats.stopped ? ", stopped" : "");
}

static void json_count(const char *name, const struct predict_count *c)
{
	printf(", \"%s\": {\"units\": %llu, \"bytes\": %llu}", name, (unsigned long long)c->units,
	       (unsigned long long)c->bytes);
}

static void print_json(const struct replay *rp)
{
	printf("{\"rtt_ns\": %llu, \"rate\": %llu, \"lead_ns\": %llu",
	       (unsigned long long)rp->link.rtt_ns, (unsigned long long)rp->link.rate,
	       (unsigned long long)rp->link.lead_ns);
	for (size_t i = 0; i < array_size(names); i++) {
		const struct sim_result *r = &rp->results[i];

		printf(",\n \"%s\": {\"ready_ns\": %llu, \"waited_ns\": %llu, \"requests\": %llu, "
		       "\"foreseen\": %llu",
		       names[i], (unsigned long long)r->ready_ns, (unsigned long long)r->waited_ns,
		       (unsigned long long)r->requests, (unsigned long long)r->foreseen);
		json_count("used", &r->used);
		json_count("hits", &r->hits);
		json_count("late", &r->late);
		json_count("missed", &r->missed);
		json_count("wasted", &r->wasted);
		if (i == SIM_PROFILE)
			printf(", \"precision\": %u, \"recall\": %u, \"stopped\": %s",
			       r->stats.precision, r->stats.recall,
			       r->stats.stopped ? "true" : "false");
		putchar('}');
	}
	puts("}");
}

static int replay(struct replay *rp)
{
	struct err err = ERR_INIT;
	int r = read_files(rp, &err);

	for (unsigned i = 0; r == 0 && i < array_size(names); i++)
		r = sim_run(&rp->rec, &rp->profile, &rp->link, (enum sim_mode)i, &rp->results[i],
			    &err);
	if (r < 0)
		return fail(1, "%s", err_text(&err, r));
	if (rp->json)
		print_json(rp);
	else
		print_text(rp);
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : fail(1, "cannot write the results");
}

int main(int argc, char **argv)
{
	struct replay rp = {
		.link = {.rtt_ns = 50ull * NS_PER_MS, .rate = 100ull * BYTES_A_MBIT},
	};
	int r = arguments(&rp, argc, argv);

	if (r >= 0)
		return r;
	arena_init(&rp.arena, MEMORY_MAX);
	r = replay(&rp);
	arena_fini(&rp.arena);
	return r;
}
