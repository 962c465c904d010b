// SPDX-License-Identifier: Apache-2.0
/* firstlight mounts: the FUSE mount, the metadata images, and the roots that are made of them. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

static const struct out_column columns[] = {
	{"KIND", 0}, {"TYPE", 0}, {"USERS", OUT_RIGHT}, {"TARGET", OUT_GIVES}};

struct asking {
	bool json, no_trunc;
};

static void print_json(const Flc__MountsList *m)
{
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '[');
	for (size_t i = 0; i < m->n_mounts; i++) {
		const Flc__MountEntry *e = m->mounts[i];

		out_json_open(&j, NULL, '{');
		out_json_text(&j, "kind", e->kind);
		out_json_text(&j, "target", e->target);
		out_json_text(&j, "source", e->source);
		out_json_text(&j, "type", e->fstype);
		out_json_uint(&j, "users", e->users);
		out_json_text(&j, "snapshot", e->snapshot);
		out_json_open(&j, "layers", '[');
		for (size_t k = 0; k < e->n_layers; k++)
			out_json_uint(&j, NULL, e->layers[k]);
		out_json_close(&j, ']');
		out_json_close(&j, '}');
	}
	out_json_close(&j, ']');
}

static void print_table(const Flc__MountsList *m, bool cut)
{
	struct out_table *t = out_table_new(columns, array_size(columns), cut);

	for (size_t i = 0; i < m->n_mounts; i++) {
		const Flc__MountEntry *e = m->mounts[i];

		out_cell(t, e->kind);
		out_cell(t, e->fstype);
		if (e->snapshot[0])
			out_cellf(t, "%u", e->users);
		else
			out_cell(t, "-");
		out_cell(t, e->target);
	}
	out_table_end(t);
}

static may_suspend int ask(struct client *c, void *arg)
{
	const struct asking *a = arg;
	Flc__Empty req = FLC__EMPTY__INIT;
	Flc__MountsList *m;
	int r = client_call(c, CONTROL_METHOD("Mounts"), &req, &flc__mounts_list__descriptor,
			    CLIENT_TIMEOUT_MS, &m);

	if (r < 0)
		return r;
	if (a->json)
		print_json(m);
	else
		print_table(m, !a->no_trunc);
	client_free(m);
	return 0;
}

int cmd_mounts(int argc, char **argv)
{
	const char *address = options_address();
	struct asking a = {.json = false};
	const struct option_spec specs[] = {OPTION_ADDRESS(&address), OPTION_JSON(&a.json),
					    OPTION_NO_TRUNC(&a.no_trunc)};
	const struct options o = {
		.command = "mounts",
		.text = "Lists mounts, as the daemon sees them: \"fill\" is the FUSE mount, "
			"\"meta\" a\n"
			"metadata image of lazy layers (USERS: snapshots that use it), "
			"\"container\" an\n"
			"overlay made of what firstlight has.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	return r != OPTIONS_GO ? r : client_run("mounts", address, ask, &a);
}
