// SPDX-License-Identifier: Apache-2.0
/* firstlight doctor: what of this host firstlight can use, what not, what that costs, and what to
 * do. Owns the order of the phases, the verdict and the report. */
#include "doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "config.h"
#include "net/url.h"
#include "options.h"
#include "out.h"
#include "try.h"

#include "base/banned.h"

#define NAME              "doctor"
#define CONTAINERD_CONFIG "/etc/containerd/config.toml"

#define EXIT_LAZY         1
#define EXIT_RUN          3

static const char *const state_names[] = {"ok", "off", "FAIL", "--"};

struct finding *finding(struct doctor *d, const char *name, enum finding_state state,
			enum finding_need need, const char *fmt, ...)
{
	struct finding *f = &d->list[d->n];
	va_list ap;

	require(d->n < FINDINGS_MAX);
	d->n++;
	*f = (struct finding){.name = name, .state = state, .need = need};
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	return f;
}

void finding_advice(struct finding *f, const char *costs, const char *fix)
{
	snprintf(f->costs, sizeof(f->costs), "%s", costs);
	snprintf(f->fix, sizeof(f->fix), "%s", fix);
}

/* --- the phases ------------------------------------------------------------------------------- */

struct phase {
	const char *name;
	void (*fn)(void *arg);
	unsigned ms;
	enum finding_need need;
};

/* The order of the report. */
static const struct phase phases[] = {
	{"rights", doctor_rights, 5000, NEED_RUN},
	{"root", doctor_root, 5000, NEED_RUN},
	{"mounts", doctor_mounts, 15000, NEED_RUN},
	{"fuse", doctor_fuse, 5000, NEED_LAZY},
	{"tracing", doctor_bpf, 5000, NEED_NOTHING},
	{"unit", doctor_unit, 8000, NEED_NOTHING},
	{"daemon", doctor_daemon, 8000, NEED_USE},
	{"limits", doctor_limits, 5000, NEED_NOTHING},
	{"containerd", doctor_containerd, 12000, NEED_USE},
	{"config", doctor_settings, 5000, NEED_NOTHING},
	{"registry", doctor_registries, 30000, NEED_NOTHING},
};

static void run_phase(struct doctor *d, const struct phase *p)
{
	int r = try_run(p->fn, d, sizeof(*d), p->ms);

	if (r == 0 || r == -EINTR)
		return;
	if (r == -ETIMEDOUT)
		finding(d, p->name, FINDING_FAIL, p->need, "no end within %u s: it hangs",
			p->ms / 1000);
	else
		finding(d, p->name, FINDING_FAIL, p->need, "trying it failed: %s", strerror(-r));
}

static void run_phases(struct doctor *d)
{
	try_hold_signals();
	for (size_t i = 0; i < array_size(phases) && !try_caught(); i++)
		run_phase(d, &phases[i]);
	if (d->dir[0] && try_finally(doctor_root_end, d, sizeof(*d), 10000) < 0)
		fprintf(stderr, "note: %s is left over\n", d->dir);
}

/* --- the verdict ------------------------------------------------------------------------------ */

/* How bad: EXIT_RUN, EXIT_LAZY, 0. */
static int badness(const struct finding *f)
{
	if (f->state == FINDING_OK || f->need == NEED_NOTHING)
		return 0;
	if (f->need == NEED_RUN && f->state == FINDING_OFF)
		return 0;
	return f->need == NEED_RUN && f->state == FINDING_FAIL ? EXIT_RUN : EXIT_LAZY;
}

/* The finding that decides; NULL: all is well. What the kernel lacks goes before who does not run.
 */
static const struct finding *worst(const struct doctor *d)
{
	const struct finding *w = NULL;

	for (size_t i = 0; i < d->n; i++) {
		const struct finding *f = &d->list[i];
		bool skip = f->state == FINDING_SKIP;

		if (!badness(f))
			continue;
		if (!w || badness(f) > badness(w) ||
		    (badness(f) == badness(w) && !skip &&
		     (f->need > w->need || w->state == FINDING_SKIP)))
			w = f;
	}
	return w;
}

static int verdict(const struct doctor *d, char *text, size_t size)
{
	const struct finding *w = worst(d);
	const char *what = "lazy images do not work yet";

	if (!w) {
		snprintf(text, size, "lazy images work here");
		return 0;
	}
	if (badness(w) == EXIT_RUN)
		what = "firstlightd cannot run";
	else if (w->state == FINDING_SKIP)
		what = "not all could be tried";
	else if (w->need == NEED_LAZY)
		what = "images are unpacked";
	snprintf(text, size, "%s: %s: %s", what, w->name, w->text);
	return badness(w);
}

/* --- the report ------------------------------------------------------------------------------- */

static void print_json(const struct doctor *d, const char *text, int r)
{
	static const char *const states[] = {"ok", "off", "fail", "skipped"};
	static const char *const needs[] = {"nothing", "use", "lazy", "run"};
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '{');
	out_json_text(&j, "verdict", text);
	out_json_int(&j, "exit", r);
	out_json_open(&j, "checks", '[');
	for (size_t i = 0; i < d->n; i++) {
		const struct finding *f = &d->list[i];

		out_json_open(&j, NULL, '{');
		out_json_text(&j, "name", f->name);
		out_json_text(&j, "state", states[f->state]);
		out_json_text(&j, "needed_for", needs[f->need]);
		out_json_text(&j, "text", f->text);
		out_json_text(&j, "costs", f->costs);
		out_json_text(&j, "fix", f->fix);
		out_json_close(&j, '}');
	}
	out_json_close(&j, ']');
	out_json_close(&j, '}');
}

/* Words behind a head of so many columns; broken at the terminal's edge, further lines indented as
 * far. */
static void wrapped(size_t head, const char *text)
{
	size_t width = out_width() > 40 ? out_width() - 1 : 79, at = head;

	for (bool first_word = true; *text; first_word = false) {
		size_t n = strcspn(text, " "), columns = out_columns(text, n);

		if (!first_word && at + 1 + columns > width) {
			printf("\n%*s", (int)head, "");
			at = head;
		} else if (!first_word) {
			putchar(' ');
			at++;
		}
		printf("%.*s", (int)n, text);
		at += columns;
		text += n;
		text += *text == ' ';
	}
	putchar('\n');
}

static void print_finding(const struct finding *f, bool colour)
{
	static const char *const colours[] = {"\033[32m", "\033[33m", "\033[31m", ""};
	auto_free char *text = out_word(f->text, false);
	auto_free char *costs = out_word(f->costs, false);
	auto_free char *fix = out_word(f->fix, false);

	printf("%s%-4s%s %-12s ", colour ? colours[f->state] : "", state_names[f->state],
	       colour ? "\033[0m" : "", f->name);
	wrapped(18, text);
	if (costs[0])
		wrapped((size_t)printf("       costs: "), costs);
	if (fix[0])
		wrapped((size_t)printf("       fix:   "), fix);
}

static void print(const struct doctor *d, const char *verdict_text)
{
	auto_free char *text = out_word(verdict_text, false);
	const char *no = getenv("NO_COLOR");
	bool colour = out_terminal(STDOUT_FILENO) && !(no && no[0]);

	for (size_t i = 0; i < d->n; i++)
		print_finding(&d->list[i], colour);
	putchar('\n');
	wrapped(0, text);
}

static int report(const struct doctor *d, bool json)
{
	char text[2 * TEXT_MAX];
	int r;

	if (try_caught())
		return 128 + try_caught();
	r = verdict(d, text, sizeof(text));
	if (json)
		print_json(d, text, r);
	else
		print(d, text);
	return out_done(NAME) ? 1 : r;
}

/* --- the command ------------------------------------------------------------------------------ */

struct asked {
	const char *root, *address, *containerd, *containerd_config, *config;
	struct option_list registries;
	bool json;
};

static const char *first(const char *a, const char *b, const char *c)
{
	return a ? a : b ? b : c;
}

/* What was asked for, else what the daemon's settings say. */
static void settle(struct doctor *d, const struct asked *a, struct config *c)
{
	const char *env = getenv("FIRSTLIGHT_ADDRESS");
	struct err err = ERR_INIT;
	int r = config_load(c, first(a->config, c->config_file, ""), a->config != NULL, &err);

	if (r < 0)
		finding_advice(
			finding(d, "settings", FINDING_FAIL, NEED_RUN, "%s", err_text(&err, r)),
			"the daemon does not start with them", "correct that line");
	d->root = first(a->root, c->root, "/var/lib/firstlight");
	d->address = first(a->address, env && env[0] ? env : NULL, c->address);
	if (!d->address) {
		snprintf(d->state_address, sizeof(d->state_address), "%s/firstlight.sock",
			 first(c->state, "/run/firstlight", NULL));
		d->address = d->state_address;
	}
	d->containerd = first(a->containerd, c->containerd.address, "");
	d->containerd_config = first(a->containerd_config, CONTAINERD_CONFIG, NULL);
	d->containerd_config_given = a->containerd_config != NULL;
	d->hosts_dirs = c->registry.hosts_dirs;
	d->snapshotter = first(c->containerd.snapshotter, "firstlight", NULL);
	d->registries = &a->registries;
	d->lazy_off = !c->lazy.enabled;
	d->erofs_file_off = !c->lazy.erofs_file;
	d->passthrough_off = !c->lazy.passthrough;
}

static int examine(const struct asked *a)
{
	auto_config struct config c;
	auto_free struct doctor *d = calloc(1, sizeof(*d));

	if (!d)
		out_no_memory();
	config_init(&c);
	settle(d, a, &c);
	run_phases(d);
	return report(d, a->json);
}

int cmd_doctor(int argc, char **argv)
{
	struct asked a = {.json = false};
	const struct option_spec specs[] = {
		{"root", 0, OPTION_TEXT, &a.root, "DIR", "the daemon's root (/var/lib/firstlight)"},
		{"containerd", 0, OPTION_TEXT, &a.containerd, "SOCKET",
		 "containerd's (/run/containerd/containerd.sock)"},
		{"config", 0, OPTION_TEXT, &a.config, "FILE",
		 "its settings (/etc/firstlight/config.toml)"},
		{"containerd-config", 0, OPTION_TEXT, &a.containerd_config, "FILE",
		 "containerd's (" CONTAINERD_CONFIG ")"},
		{"registry", 0, OPTION_LIST, &a.registries, "HOST",
		 "also ask this registry; may be given several times"},
		OPTION_ADDRESS(&a.address),
		OPTION_JSON(&a.json),
	};
	const struct options o = {
		.command = NAME,
		.text = "Tries what firstlight can use of this host, and says what is on, what\n"
			"is off, what that costs and how to turn it on. Exit code 0: lazy\n"
			"images work; 1: they do not; 3: the daemon cannot run here.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	if (a.registries.n > REGISTRIES_LOOK)
		return out_misuse(NAME, "--registry: more than %d", REGISTRIES_LOOK);
	for (size_t i = 0; i < a.registries.n; i++) {
		struct url u;

		if (url_parse_authority(str_of(a.registries.items[i]), &u) < 0)
			return out_misuse(NAME, "--registry %s: not HOST or HOST:PORT",
					  a.registries.items[i]);
	}
	return examine(&a);
}
