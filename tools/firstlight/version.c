// SPDX-License-Identifier: Apache-2.0
/* firstlight version: of the command, and of the daemon if it can be reached. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

#define TIMEOUT_MS 5000

static bool json;

static void print_features(const Flc__VersionResponse *v, struct out_table *t)
{
	for (size_t i = 0; i < v->n_features; i++) {
		const Flc__Feature *f = v->features[i];

		out_cellf(t, "  %s", f->name);
		out_cellf(t, "%s%s%s", f->on ? "on" : "off", f->why[0] ? ": " : "", f->why);
	}
}

static void print_daemon(const Flc__VersionResponse *v)
{
	struct out_table *t = out_facts_new(false);
	char up[OUT_NUMBER_MAX];

	out_fact(t, "command", "%s", FIRSTLIGHT_VERSION);
	out_fact(t, "daemon", "%s", v->version);
	out_fact(t, "format", "%u", v->format);
	out_fact(t, "uptime", "%s", out_duration(v->uptime_ms, up));
	out_fact(t, "worker", "%llu", (unsigned long long)v->worker_pid);
	out_fact(t, "keeper", "%llu", (unsigned long long)v->keeper_pid);
	out_fact(t, "root", "%s", v->root);
	out_fact(t, "state", "%s", v->state);
	out_fact(t, "address", "%s", v->address);
	out_fact(t, "containerd", "%s", v->containerd_address[0] ? v->containerd_address : "-");
	if (v->n_features)
		out_fact(t, "features", "%s", "");
	print_features(v, t);
	out_table_end(t);
}

static void print_json(const Flc__VersionResponse *v)
{
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '{');
	out_json_text(&j, "command", FIRSTLIGHT_VERSION);
	if (!v) {
		out_json_text(&j, "daemon", NULL);
		out_json_close(&j, '}');
		return;
	}
	out_json_open(&j, "daemon", '{');
	out_json_text(&j, "version", v->version);
	out_json_uint(&j, "format", v->format);
	out_json_uint(&j, "worker_pid", v->worker_pid);
	out_json_uint(&j, "keeper_pid", v->keeper_pid);
	out_json_uint(&j, "uptime_ms", v->uptime_ms);
	out_json_text(&j, "root", v->root);
	out_json_text(&j, "state", v->state);
	out_json_text(&j, "address", v->address);
	out_json_text(&j, "containerd_address", v->containerd_address);
	out_json_open(&j, "features", '[');
	for (size_t i = 0; i < v->n_features; i++) {
		out_json_open(&j, NULL, '{');
		out_json_text(&j, "name", v->features[i]->name);
		out_json_bool(&j, "on", v->features[i]->on);
		out_json_text(&j, "why", v->features[i]->why);
		out_json_close(&j, '}');
	}
	out_json_close(&j, ']');
	out_json_close(&j, '}');
	out_json_close(&j, '}');
}

static may_suspend int ask(struct client *c, void *arg)
{
	Flc__Empty req = FLC__EMPTY__INIT;
	Flc__VersionResponse *v = NULL;

	(void)arg;
	if (c && client_call(c, CONTROL_METHOD("Version"), &req, &flc__version_response__descriptor,
			     TIMEOUT_MS, &v) < 0)
		v = NULL;
	if (json)
		print_json(v);
	else if (v)
		print_daemon(v);
	else
		printf("command  %s\ndaemon   not reached\n", FIRSTLIGHT_VERSION);
	client_free(v);
	return 0;
}

int cmd_version(int argc, char **argv)
{
	const char *address = options_address();
	const struct option_spec specs[] = {OPTION_ADDRESS(&address), OPTION_JSON(&json)};
	const struct options o = {
		.command = "version",
		.text = "Prints the version of this command and, if it can be reached, the "
			"daemon's.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	return r != OPTIONS_GO ? r : client_try("version", address, ask, NULL);
}
