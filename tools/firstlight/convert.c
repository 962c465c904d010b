// SPDX-License-Identifier: Apache-2.0
/* firstlight convert: an image into a lazy format. Needs no daemon. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "cmd.h"
#include "convert_codec.h"
#include "convert_image.h"
#include "image/registry.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "loop/work.h"
#include "net/http.h"
#include "options.h"
#include "out.h"
#include "progress.h"

#include "base/banned.h"

#define LEVEL_ZSTD 3 /* what most writers take; 9 gains 5 % and takes four times as long */
#define LEVEL_GZIP 6
#define NAME       "convert"

struct run {
	struct conversion *c;
	const char *src, *dst, *platform, *hosts, *user;
	bool plain, json;
	int caught;
	struct task *main;
	int signal_fd;
	struct err err;
};

static const char *const actions[] = {"converted", "kept", "copied"};

static void on_layer(void *arg, const struct convert_report *r)
{
	char from[OUT_NUMBER_MAX], to[OUT_NUMBER_MAX], digest[DIGEST_TEXT_SIZE];
	auto_free char *why = out_word(r->why, false);

	(void)arg;
	digest_text(&r->from, digest);
	progress_line("%.19s  %-9s  %s%s%s%s%s", digest, actions[r->action],
		      out_size(r->from_size, from), r->action == LAYER_CONVERTED ? " to " : "",
		      r->action == LAYER_CONVERTED ? out_size(r->to_size, to) : "",
		      why[0] ? "  " : "", why);
}

static void on_bytes(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	progress_set(done, total);
}

static void print_json(const struct run *run, uint64_t ms)
{
	struct out_json j = OUT_JSON_INIT;
	char text[DIGEST_TEXT_SIZE];

	out_json_open(&j, NULL, '{');
	out_json_text(&j, "source", run->src);
	out_json_text(&j, "destination", run->dst);
	digest_text(&run->c->digest, text);
	out_json_text(&j, "digest", text);
	out_json_uint(&j, "elapsed_ms", ms);
	out_json_open(&j, "layers", '[');
	for (size_t i = 0; i < run->c->layers_n; i++) {
		const struct convert_report *r = &run->c->layers[i];

		out_json_open(&j, NULL, '{');
		digest_text(&r->from, text);
		out_json_text(&j, "from", text);
		digest_text(&r->to, text);
		out_json_text(&j, "to", text);
		out_json_uint(&j, "from_size", r->from_size);
		out_json_uint(&j, "to_size", r->to_size);
		out_json_text(&j, "action", actions[r->action]);
		out_json_text(&j, "why", r->why);
		out_json_close(&j, '}');
	}
	out_json_close(&j, ']');
	out_json_close(&j, '}');
}

static void print_sum(const struct run *run, uint64_t ms)
{
	char text[DIGEST_TEXT_SIZE], took[OUT_NUMBER_MAX], a[OUT_NUMBER_MAX], b[OUT_NUMBER_MAX];
	uint64_t from = 0, to = 0;

	for (size_t i = 0; i < run->c->layers_n; i++) {
		from += run->c->layers[i].from_size;
		to += run->c->layers[i].to_size;
	}
	digest_text(&run->c->digest, text);
	printf("%s  %s to %s in %s\n", text, out_size(from, a), out_size(to, b),
	       out_duration(ms, took));
}

/* --- running ---------------------------------------------------------------------------------- */

static may_suspend int watch_signals(void *arg)
{
	struct run *run = arg;
	struct signalfd_siginfo si;

	if (io_read(run->signal_fd, &si, sizeof(si), 0, 0) == sizeof(si)) {
		run->caught = (int)si.ssi_signo;
		convert_cancel(run->c);
		task_cancel(run->main);
	}
	return 0;
}

static may_suspend int tell_registry(struct run *run, struct registry *r, const struct end *e)
{
	const char *colon = strchr(run->user, ':');
	int q = 0;

	if (!e->registry)
		return 0;
	if (run->plain)
		q = registry_plain(r, str_of(e->ref), &run->err);
	if (q == 0 && run->user[0])
		q = registry_login(r, str_of(e->ref),
				   (struct str){run->user, colon ? (size_t)(colon - run->user)
								 : strlen(run->user)},
				   str_of(colon ? colon + 1 : ""), &run->err);
	return q;
}

static may_suspend int work_on(struct run *run, struct registry *r, struct arena *a)
{
	struct conversion *c = run->c;
	int q = end_parse(run->src, r, a, &c->src, &run->err);

	if (q == 0)
		q = end_parse(run->dst, r, a, &c->dst, &run->err);
	if (q == 0 && !c->all)
		q = platform_parse(str_of(run->platform), a, &c->platform, &run->err);
	if (q == 0)
		q = tell_registry(run, r, &c->src);
	if (q == 0)
		q = tell_registry(run, r, &c->dst);
	return q == 0 ? convert_image(c, &run->err) : q;
}

/* The file of hosts that speak plain HTTP is for this run only. */
static may_suspend int with_registry(struct run *run, struct http *http, struct work *threads)
{
	char plain[] = "/tmp/firstlight-plain.XXXXXX";
	const struct registry_options o = {.hosts_dirs = run->hosts,
					   .user_agent = "firstlight/" FIRSTLIGHT_VERSION,
					   .plain_file = plain};
	auto_close int fd = mkstemp(plain);
	struct registry *r = NULL;
	auto_arena struct arena a;
	int q = fd < 0 ? err_errno(&run->err, -errno, "make a file in /tmp")
		       : registry_new(loop_self(), http, threads, &o, &r, &run->err);

	arena_init(&a, MiB(1));
	if (q == 0)
		q = work_on(run, r, &a);
	registry_free(r);
	unlink(plain);
	return q;
}

static may_suspend int main_task(void *arg)
{
	struct run *run = arg;
	struct work *threads = NULL;
	struct http *http = NULL;
	struct scope signals;
	int r;

	run->main = task_self();
	run->c->loop = loop_self();
	scope_init(&signals, loop_self());
	r = scope_spawn(&signals, watch_signals, run, NULL);
	if (r == 0)
		r = work_new(loop_self(), "files", 2, &threads, &run->err);
	if (r == 0)
		r = work_new(loop_self(), "layers", CONVERT_LAYERS_AT_ONCE, &run->c->work,
			     &run->err);
	if (r == 0)
		r = http_new(loop_self(), &http, &run->err);
	if (r == 0)
		r = with_registry(run, http, threads);
	http_free(http);
	if (threads)
		work_free(threads);
	if (run->c->work)
		work_free(run->c->work);
	scope_cancel(&signals);
	scope_wait(&signals);
	scope_fini(&signals);
	return r;
}

static int run_all(struct run *run)
{
	struct loop *loop;
	uint64_t start;
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	run->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (loop_new(&loop, &run->err) < 0)
		return out_fail(NAME, "%s", run->err.text);
	start = loop_now_ns(loop);
	log_init(LOG_LEVEL_ERROR, "convert"); /* what is retried is not told */
	progress_begin("converting", run->json);
	r = loop_run(loop, main_task, run);
	progress_end();
	start = (loop_now_ns(loop) - start) / 1000000;
	loop_free(loop);
	if (run->caught)
		return 128 + run->caught;
	if (r < 0)
		return out_fail(NAME, "%s", err_text(&run->err, r));
	if (run->json)
		print_json(run, start);
	else
		print_sum(run, start);
	return out_done(NAME);
}

static int set_format(struct conversion *c, const char *format, uint64_t level)
{
	c->options.zstd = strcmp(format, "zstd:chunked") == 0;
	if (!c->options.zstd && strcmp(format, "estargz") != 0)
		return out_misuse(NAME, "--format is zstd:chunked or estargz");
	if (level > (c->options.zstd ? PACK_ZSTD_LEVEL_MAX : PACK_GZIP_LEVEL_MAX))
		return out_misuse(NAME, "--level is at most %d for %s",
				  c->options.zstd ? PACK_ZSTD_LEVEL_MAX : PACK_GZIP_LEVEL_MAX,
				  format);
	c->options.level = level ? (int)level : c->options.zstd ? LEVEL_ZSTD : LEVEL_GZIP;
	return 0;
}

int cmd_convert(int argc, char **argv)
{
	struct run run = {.platform = "all", .user = ""};
	const char *format = "zstd:chunked", *tmp = getenv("TMPDIR");
	uint64_t level = 0, threads = (uint64_t)get_nprocs();
	const struct option_spec specs[] = {
		{"format", 'f', OPTION_TEXT, &format, "FORMAT",
		 "zstd:chunked (default) or estargz"},
		{"platform", 0, OPTION_TEXT, &run.platform, "OS/ARCH[/VARIANT]",
		 "only that one of an index (all)"},
		{"level", 'l', OPTION_NUMBER, &level, "N",
		 "of compression (3 for zstd, 6 for gzip)"},
		{"threads", 'j', OPTION_NUMBER, &threads, "N", "that compress (one a processor)"},
		{"plain-http", 0, OPTION_FLAG, &run.plain, NULL, "the registries speak no TLS"},
		{"hosts-dir", 0, OPTION_TEXT, &run.hosts, "DIR", "a tree of hosts.toml"},
		{"user", 'u', OPTION_TEXT, &run.user, "USER[:SECRET]", "who asks the registries"},
		OPTION_JSON(&run.json),
	};
	const struct options o = {
		.command = NAME,
		.arguments = "SRC DST",
		.text = "Converts an image into a lazy format. SRC and DST are references to\n"
			"images in a registry, or oci:DIR[:TAG], an OCI layout. Layers that are\n"
			"right already stay.",
		.specs = specs,
		.n = array_size(specs),
		.args_min = 2,
		.args_max = 2,
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	run.c = calloc(1, sizeof(*run.c));
	if (!run.c)
		out_no_memory();
	run.src = argv[optind];
	run.dst = argv[optind + 1];
	run.c->all = strcmp(run.platform, "all") == 0;
	run.c->tmp = tmp && tmp[0] ? tmp : "/var/tmp";
	run.c->options.threads = threads > 64 ? 64 : (unsigned)threads;
	run.c->options.tar_max = CONVERT_TAR_MAX;
	run.c->options.free_min = CONVERT_FREE_MIN;
	run.c->options.stop = &run.c->stop;
	run.c->on_layer = on_layer;
	run.c->on_bytes = on_bytes;
	r = set_format(run.c, format, level);
	if (r == 0)
		r = run_all(&run);
	free(run.c);
	return r;
}
