// SPDX-License-Identifier: Apache-2.0
/* firstlight doctor: what of this host firstlight can use, what not, what that costs, and what to
 * do. */
#include "doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "loop/loop.h"
#include "net/grpc.h"
#include "options.h"
#include "out.h"
#include "proto/containerd.pb-c.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

#define TIMEOUT_MS 5000

static const char *const state_names[] = {"ok", "off", "FAIL", "--"};

struct finding *finding(struct doctor *d, const char *name, enum finding_state state,
			const char *fmt, ...)
{
	struct finding *f = &d->list[d->n];
	va_list ap;

	require(d->n < FINDINGS_MAX);
	d->n++;
	*f = (struct finding){.name = name, .state = state};
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

/* --- the daemon ------------------------------------------------------------------------------- */

static void daemon_found(struct doctor *d, const Flc__VersionResponse *v)
{
	struct finding *f;
	const char *why = "";
	bool lazy = true;

	finding(d, "daemon", FINDING_OK, "firstlightd %s at %s", v->version, d->address);
	for (size_t i = 0; i < v->n_features; i++) {
		if (strcmp(v->features[i]->name, "lazy") == 0) {
			lazy = v->features[i]->on;
			why = v->features[i]->why;
		}
	}
	f = finding(d, "lazy", lazy ? FINDING_OK : FINDING_OFF, "%s",
		    lazy ? "the daemon serves lazy layers" : why);
	f->lazy = true;
	if (!lazy)
		finding_advice(f, "every image is unpacked", "see above, then restart firstlightd");
	if (strcmp(v->version, FIRSTLIGHT_VERSION) != 0)
		finding_advice(finding(d, "versions", FINDING_OFF, "the daemon is %s, this is %s",
				       v->version, FIRSTLIGHT_VERSION),
			       "new commands may not work", "restart firstlightd after an upgrade");
}

static may_suspend void check_daemon(struct doctor *d, struct client *c, pid_t *ret_pid)
{
	Flc__Empty req = FLC__EMPTY__INIT;
	Flc__VersionResponse *v;
	struct finding *f;

	if (c && client_call(c, CONTROL_METHOD("Version"), &req, &flc__version_response__descriptor,
			     TIMEOUT_MS, &v) == 0) {
		*ret_pid = (pid_t)v->worker_pid;
		daemon_found(d, v);
		client_free(v);
		return;
	}
	f = finding(d, "daemon", FINDING_OFF, "none answers at %s%s", d->address,
		    access(d->address, F_OK) == 0 && access(d->address, W_OK) < 0
			    ? ": no permission"
			    : "");
	f->lazy = true;
	finding_advice(f, "containerd cannot use firstlight",
		       "systemctl start firstlightd; --address names another socket");
}

/* --- containerd ------------------------------------------------------------------------------- */

static pid_t peer_pid(const char *path)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred peer = {0};
	socklen_t n = sizeof(peer);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
		return 0;
	return peer.pid;
}

static void check_namespaces(struct doctor *d, pid_t daemon, pid_t containerd)
{
	char a[64], b[64];
	struct stat sa, sb;
	struct finding *f;

	snprintf(a, sizeof(a), "/proc/%d/ns/mnt", (int)daemon);
	snprintf(b, sizeof(b), "/proc/%d/ns/mnt", (int)containerd);
	if (!daemon || !containerd || stat(a, &sa) < 0 || stat(b, &sb) < 0)
		return;
	f = finding(d, "mount-ns", sa.st_ino == sb.st_ino ? FINDING_OK : FINDING_FAIL, "%s",
		    sa.st_ino == sb.st_ino ? "containerd and the daemon share their mounts"
					   : "containerd does not see the daemon's mounts");
	f->lazy = true;
	if (sa.st_ino != sb.st_ino)
		finding_advice(f, "containers cannot be started",
			       "no PrivateTmp, ProtectSystem and the like for either service");
}

static may_suspend enum grpc_code ask(struct grpc_client *c, const char *method, const void *req,
				      size_t n, struct buf *answer, struct err *err)
{
	const struct grpc_metadata md = {"containerd-namespace", "default"};

	return grpc_unary(c, method, &md, 1, TIMEOUT_MS, req, n, answer, err);
}

/* A snapshot that does not exist: how containerd says so tells whether it knows us. */
static may_suspend void check_plugin(struct doctor *d, struct grpc_client *c)
{
	Fl__KeyRequest q = FL__KEY_REQUEST__INIT;
	auto_buf struct buf answer = BUF_INIT;
	struct err err = ERR_INIT;
	uint8_t bytes[128];
	struct finding *f;
	enum grpc_code code;
	size_t n;

	q.snapshotter = (char *)(uintptr_t) "firstlight";
	q.key = (char *)(uintptr_t) "firstlight-doctor";
	n = fl__key_request__pack(&q, bytes);
	code = ask(c, "/containerd.services.snapshots.v1.Snapshots/Stat", bytes, n, &answer, &err);
	if (code == GRPC_NOT_FOUND) {
		finding(d, "plugin", FINDING_OK, "containerd has the snapshotter firstlight");
		return;
	}
	f = finding(d, "plugin", FINDING_OFF, "%s",
		    code == GRPC_INVALID_ARGUMENT ? "containerd knows no snapshotter firstlight"
						  : err_text(&err, -EIO));
	f->lazy = true;
	finding_advice(f, "containerd cannot use firstlight",
		       "firstlight containerd-config --merge FILE, then restart containerd");
}

static may_suspend void check_containerd(struct doctor *d)
{
	auto_buf struct buf answer = BUF_INIT;
	struct grpc_client *c = NULL;
	struct err err = ERR_INIT;
	Ctrd__VersionResponse *v = NULL;
	struct finding *f;
	int r = grpc_dial(loop_self(), d->containerd, TIMEOUT_MS, &c, &err);

	if (r == 0 && ask(c, "/containerd.services.version.v1.Version/Version", "", 0, &answer,
			  &err) == GRPC_OK)
		v = ctrd__version_response__unpack(NULL, answer.len, answer.data);
	if (!v) {
		f = finding(d, "containerd", FINDING_OFF, "%s", err_text(&err, r < 0 ? r : -EIO));
		f->lazy = true;
		finding_advice(f, "no containers",
			       "start containerd; --containerd names its socket");
	} else {
		finding(d, "containerd", FINDING_OK, "%s at %s", v->version, d->containerd);
		check_plugin(d, c);
		ctrd__version_response__free_unpacked(v, NULL);
	}
	grpc_client_close(c);
}

static may_suspend int services(struct client *c, void *arg)
{
	struct doctor *d = arg;
	pid_t daemon = 0;

	check_daemon(d, c, &daemon);
	check_containerd(d);
	check_namespaces(d, daemon, peer_pid(d->containerd));
	return 0;
}

/* --- the report ------------------------------------------------------------------------------- */

/* 0: lazy images; 1: something needed for them is wrong; 3: the daemon cannot run. */
static int verdict(const struct doctor *d)
{
	int r = 0;

	for (size_t i = 0; i < d->n; i++) {
		const struct finding *f = &d->list[i];

		if (f->state == FINDING_OK || f->state == FINDING_SKIP)
			continue;
		if (f->run && f->state == FINDING_FAIL)
			return 3;
		if (f->lazy || f->state == FINDING_FAIL)
			r = 1;
	}
	return r;
}

static const char *verdict_text(int r)
{
	return r == 0   ? "lazy images work here"
	       : r == 1 ? "lazy images do not work here: see what is off or FAIL above"
			: "firstlightd cannot run here: see FAIL above";
}

static void print_json(const struct doctor *d, int r)
{
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '{');
	out_json_text(&j, "verdict", verdict_text(r));
	out_json_open(&j, "checks", '[');
	for (size_t i = 0; i < d->n; i++) {
		const struct finding *f = &d->list[i];

		out_json_open(&j, NULL, '{');
		out_json_text(&j, "name", f->name);
		out_json_text(&j, "state",
			      f->state == FINDING_SKIP   ? "skipped"
			      : f->state == FINDING_FAIL ? "fail"
							 : state_names[f->state]);
		out_json_text(&j, "text", f->text);
		out_json_text(&j, "costs", f->costs);
		out_json_text(&j, "fix", f->fix);
		out_json_close(&j, '}');
	}
	out_json_close(&j, ']');
	out_json_close(&j, '}');
}

/* Words of a line that is broken at the terminal's edge, further lines indented as far. */
static void wrapped(const char *head, const char *text)
{
	size_t width = out_width() > 40 ? out_width() - 1 : 79, at = strlen(head);

	printf("%s", head);
	for (bool first = true; *text; first = false) {
		size_t n = strcspn(text, " ");

		if (!first && at + 1 + n > width) {
			printf("\n%*s", (int)strlen(head), "");
			at = strlen(head);
		} else if (!first) {
			putchar(' ');
			at++;
		}
		printf("%.*s", (int)n, text);
		at += n;
		text += n;
		text += *text == ' ';
	}
	putchar('\n');
}

static void print(const struct doctor *d, int r)
{
	static const char *const colours[] = {"\033[32m", "\033[33m", "\033[31m", ""};
	bool colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");

	for (size_t i = 0; i < d->n; i++) {
		const struct finding *f = &d->list[i];
		auto_free char *text = out_word(f->text, false);
		char head[64];

		if (colour)
			printf("%s", colours[f->state]);
		printf("%-4s", state_names[f->state]);
		if (colour)
			printf("\033[0m");
		snprintf(head, sizeof(head), " %-12s ", f->name);
		wrapped(head, text);
		if (f->costs[0])
			wrapped("       costs: ", f->costs);
		if (f->fix[0])
			wrapped("       fix:   ", f->fix);
	}
	printf("\n%s\n", verdict_text(r));
}

static bool ring_works(const struct doctor *d)
{
	for (size_t i = 0; i < d->n; i++) {
		if (strcmp(d->list[i].name, "io_uring") == 0)
			return d->list[i].state == FINDING_OK;
	}
	return false;
}

int cmd_doctor(int argc, char **argv)
{
	const char *address = options_address();
	struct doctor *d = calloc(1, sizeof(*d));
	bool json = false;
	int r;

	if (!d)
		out_no_memory();
	d->root = "/var/lib/firstlight";
	d->containerd = "/run/containerd/containerd.sock";
	const struct option_spec specs[] = {
		{"root", 0, OPTION_TEXT, &d->root, "DIR",
		 "the daemon's root (/var/lib/firstlight)"},
		{"containerd", 0, OPTION_TEXT, &d->containerd, "SOCKET",
		 "containerd's (/run/containerd/containerd.sock)"},
		OPTION_ADDRESS(&address),
		OPTION_JSON(&json),
	};
	const struct options o = {
		.command = "doctor",
		.text = "Tries what firstlight can use of this host, and says what is on, what is "
			"off,\n"
			"what that costs and how to turn it on. Exit code 0: lazy images work; 1: "
			"they do\n"
			"not; 3: the daemon cannot run here.",
		.specs = specs,
		.n = array_size(specs),
	};

	r = options_parse(&o, argc, argv);
	if (r == OPTIONS_GO) {
		d->address = address;
		doctor_host(d);
		doctor_kernel(d);
		if (ring_works(d)) /* which the calls need */
			client_try("doctor", address, services, d);
		r = verdict(d);
		if (json)
			print_json(d, r);
		else
			print(d, r);
		r = out_done("doctor") ? 1 : r;
	}
	free(d);
	return r;
}
