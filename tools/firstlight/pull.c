// SPDX-License-Identifier: Apache-2.0
/* firstlight pull: the daemon pulls, this shows how it goes. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "progress.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

#define SECRET_MAX 4096

struct pulling {
	Flc__PullRequest req;
	bool json, stdin_secret;
	char secret[SECRET_MAX];
	int phase;   /* the last one that was told; -1 = none */
	size_t told; /* layers whose end was told, from the bottom */
	bool ready;
};

/* --- credentials ------------------------------------------------------------------------------ */

static int read_line(struct pulling *p)
{
	size_t n;

	if (!fgets(p->secret, sizeof(p->secret), stdin))
		return -EINVAL;
	n = strcspn(p->secret, "\r\n");
	if (!p->secret[n] && n == sizeof(p->secret) - 1)
		return -EINVAL; /* longer than any password */
	p->secret[n] = 0;
	return n ? 0 : -EINVAL;
}

static struct termios echoing; /* the terminal's mode while ask_secret() runs */

static void on_signal(int n)
{
	ssize_t ignored;

	tcsetattr(STDIN_FILENO, TCSAFLUSH, &echoing);
	ignored = write(STDERR_FILENO, "\n", 1);
	(void)ignored;
	_exit(128 + n);
}

/* Whatever ends it, the terminal echoes again afterwards. */
static int ask_secret(struct pulling *p)
{
	static const int signals[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal}, old[array_size(signals)];
	auto_free char *user = out_word(p->req.user, false);
	struct termios quiet;
	int r;

	if (tcgetattr(STDIN_FILENO, &echoing) < 0)
		return -ENOTTY;
	for (size_t i = 0; i < array_size(signals); i++)
		sigaction(signals[i], &action, &old[i]);
	quiet = echoing;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	quiet.c_cc[VSUSP] = _POSIX_VDISABLE;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	fprintf(stderr, "Password of %s: ", user);
	r = read_line(p);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &echoing);
	for (size_t i = 0; i < array_size(signals); i++)
		sigaction(signals[i], &old[i], NULL);
	fputc('\n', stderr);
	return r;
}

/* USER or USER:SECRET. */
static int credentials(struct pulling *p)
{
	char *colon = strchr(p->req.user, ':');
	int r = 0;

	if (p->stdin_secret && (!p->req.user[0] || colon))
		return out_misuse("pull", "--password-stdin goes with --user USER");
	if (colon == p->req.user)
		return out_misuse("pull", "--user has no name");
	if (colon && !colon[1])
		return out_misuse("pull", "--user has no secret behind the colon");
	if (colon) {
		*colon = 0;
		p->req.secret = colon + 1;
		return 0;
	}
	if (!p->req.user[0])
		return 0;
	r = p->stdin_secret ? read_line(p) : ask_secret(p);
	p->req.secret = p->secret;
	if (r == 0)
		return 0;
	r = out_fail("pull", r == -ENOTTY ? "no terminal to ask for the password on"
					  : "no password could be read");
	out_hint("--password-stdin takes a line of standard input");
	return r;
}

/* --- what it says ----------------------------------------------------------------------------- */

static const char *const states[] = {"waiting", "fetching", "unpacking", "lazy", "unpacked"};
static const char *const phases[] = {"resolving", "layers", "ready", "complete"};

static const char *state_name(int state)
{
	return state >= 0 && (size_t)state < array_size(states) ? states[state] : "?";
}

static const char *phase_name(int phase)
{
	return phase >= 0 && (size_t)phase < array_size(phases) ? phases[phase] : "?";
}

static void print_json(const Flc__PullProgress *m)
{
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '{');
	out_json_text(&j, "phase", phase_name((int)m->phase));
	out_json_text(&j, "name", m->name);
	out_json_text(&j, "digest", m->digest);
	out_json_uint(&j, "bytes", m->bytes);
	out_json_uint(&j, "bytes_total", m->bytes_total);
	out_json_uint(&j, "elapsed_ms", m->elapsed_ms);
	if (m->away[0])
		out_json_text(&j, "away", m->away);
	out_json_open(&j, "layers", '[');
	for (size_t i = 0; i < m->n_layers; i++) {
		const Flc__LayerProgress *l = m->layers[i];

		out_json_open(&j, NULL, '{');
		out_json_text(&j, "digest", l->digest);
		out_json_text(&j, "state", state_name((int)l->state));
		out_json_uint(&j, "size", l->size);
		out_json_uint(&j, "bytes", l->bytes);
		out_json_bool(&j, "existed", l->existed);
		out_json_text(&j, "why", l->why);
		out_json_close(&j, '}');
	}
	out_json_close(&j, ']');
	out_json_close(&j, '}');
	fflush(stdout);
}

static void tell_layer(const Flc__LayerProgress *l)
{
	auto_free char *digest = out_word(l->digest, true), *why = out_word(l->why, false);
	char size[OUT_NUMBER_MAX];

	progress_line("%s  %-8s  %s%s%s%s", digest, state_name((int)l->state),
		      out_size(l->size, size), l->existed ? "  was here" : "",
		      why[0] && !l->existed ? "  " : "", l->existed ? "" : why);
}

static bool layer_ended(const Flc__LayerProgress *l)
{
	return l->state == FLC__LAYER_PROGRESS__STATE__LAZY ||
	       l->state == FLC__LAYER_PROGRESS__STATE__UNPACKED;
}

static void tell_layers(struct pulling *p, const Flc__PullProgress *m)
{
	while (p->told < m->n_layers && layer_ended(m->layers[p->told]))
		tell_layer(m->layers[p->told++]);
}

static void tell_away(const Flc__PullProgress *m)
{
	auto_free char *away = out_word(m->away, false);

	if (away[0])
		fprintf(stderr, "note: %s: the image is taken as it was here\n", away);
}

static void tell_ready(const Flc__PullProgress *m)
{
	auto_free char *name = out_word(m->name, false);
	char took[OUT_NUMBER_MAX];
	size_t lazy = 0;

	for (size_t i = 0; i < m->n_layers; i++)
		lazy += m->layers[i]->state == FLC__LAYER_PROGRESS__STATE__LAZY;
	progress_end();
	tell_away(m);
	printf("%s  ready after %s  %zu of %zu layers lazy\n", name,
	       out_duration(m->elapsed_ms, took), lazy, m->n_layers);
	fflush(stdout);
}

static int on_message(void *arg, void *msg)
{
	const Flc__PullProgress *m = msg;
	struct pulling *p = arg;
	bool ready = m->phase >= FLC__PULL_PROGRESS__PHASE__READY;

	if (p->json) {
		print_json(m);
		return 0;
	}
	if ((int)m->phase != p->phase && !ready)
		progress_begin(phase_name((int)m->phase), false);
	tell_layers(p, m);
	if (ready && !p->ready)
		tell_ready(m);
	if (ready && !p->ready && p->req.wait)
		progress_begin("local", false);
	p->ready = ready;
	p->phase = (int)m->phase;
	if (!ready || p->req.wait)
		progress_set(m->bytes, m->bytes_total);
	if (m->phase == FLC__PULL_PROGRESS__PHASE__COMPLETE) {
		progress_end();
		printf("all of it is local\n");
	}
	return 0;
}

static may_suspend int pull(struct client *c, void *arg)
{
	struct pulling *p = arg;
	int r = client_stream(c, CONTROL_METHOD("Pull"), &p->req, &flc__pull_progress__descriptor,
			      CLIENT_FOREVER, on_message, p);

	progress_end();
	return r;
}

int cmd_pull(int argc, char **argv)
{
	const char *address = options_address(), *ns = options_namespace();
	struct pulling p = {.req = FLC__PULL_REQUEST__INIT, .phase = -1};
	bool plain = false, wait = false;
	const char *platform = "", *user = "";
	const struct option_spec specs[] = {
		{"platform", 0, OPTION_TEXT, &platform, "OS/ARCH[/VARIANT]",
		 "another than this host's"},
		OPTION_NAMESPACE(&ns),
		{"plain-http", 0, OPTION_FLAG, &plain, NULL, "the registry speaks no TLS"},
		{"user", 'u', OPTION_TEXT, &user, "USER[:SECRET]", "who asks the registry"},
		{"password-stdin", 0, OPTION_FLAG, &p.stdin_secret, NULL,
		 "the secret is a line of standard input"},
		{"wait", 'w', OPTION_FLAG, &wait, NULL, "until all of the image is local"},
		OPTION_ADDRESS(&address),
		OPTION_JSON(&p.json),
	};
	const struct options o = {
		.command = "pull",
		.arguments = "REF",
		.text = "Pulls an image, and returns when a container can start on it. What\n"
			"cannot be lazy is fetched and unpacked.",
		.specs = specs,
		.n = array_size(specs),
		.args_min = 1,
		.args_max = 1,
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	p.req.ref = argv[optind];
	p.req.namespace_ = (char *)(uintptr_t)ns;
	p.req.platform = (char *)(uintptr_t)platform;
	p.req.user = (char *)(uintptr_t)user;
	p.req.plain_http = plain;
	p.req.wait = wait;
	r = credentials(&p);
	if (r == 0)
		r = client_run("pull", address, pull, &p);
	explicit_bzero(p.secret, sizeof(p.secret));
	return r;
}
