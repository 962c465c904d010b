// SPDX-License-Identifier: Apache-2.0
/* firstlight snapshots: what the daemon's List answers, one line a snapshot. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "kind.h"
#include "options.h"
#include "out.h"
#include "proto/snapshots.pb-c.h"

#include "base/banned.h"

static const struct out_column columns[] = {
	{"KIND", 0}, {"CREATED", 0}, {"NAME", OUT_GIVES}, {"PARENT", OUT_GIVES}};

struct listing {
	char **filters;
	size_t n;
	bool json, no_trunc;
	struct out_table *table;
	struct out_json out;
};

static void add_row(struct listing *l, const Fl__Info *i)
{
	char when[OUT_NUMBER_MAX] = "-";

	if (i->created_at)
		out_time(i->created_at->seconds, when);
	out_cell(l->table, kind_name(i->kind));
	out_cell(l->table, when);
	out_cell(l->table, i->name);
	out_cell(l->table, i->parent[0] ? i->parent : "-");
}

/* The list begins with its first member: a failure before that prints nothing. */
static void begin(struct listing *l)
{
	if (l->out.depth == 0)
		out_json_open(&l->out, NULL, '[');
}

static int on_message(void *arg, void *msg)
{
	const Fl__ListResponse *resp = msg;
	struct listing *l = arg;

	for (size_t i = 0; i < resp->n_info; i++) {
		if (l->json) {
			begin(l);
			kind_json_info(&l->out, NULL, resp->info[i]);
		} else {
			add_row(l, resp->info[i]);
		}
	}
	return 0;
}

static may_suspend int ask(struct client *c, void *arg)
{
	struct listing *l = arg;
	Fl__ListRequest req = FL__LIST_REQUEST__INIT;
	int r;

	req.filters = l->filters;
	req.n_filters = l->n;
	if (!l->json)
		l->table = out_table_new(columns, array_size(columns), !l->no_trunc);
	r = client_stream(c, SNAPSHOTS_METHOD("List"), &req, &fl__list_response__descriptor,
			  CLIENT_TIMEOUT_MS, on_message, l);
	if (l->json) {
		if (r == 0)
			begin(l);
		out_json_end(&l->out);
	} else if (r == 0) {
		out_table_end(l->table);
	} else {
		out_table_drop(l->table);
	}
	return r;
}

int cmd_snapshots(int argc, char **argv)
{
	const char *address = options_address();
	struct listing l = {.out = OUT_JSON_INIT};
	const struct option_spec specs[] = {OPTION_ADDRESS(&address), OPTION_JSON(&l.json),
					    OPTION_NO_TRUNC(&l.no_trunc)};
	const struct options o = {
		.command = "snapshots",
		.arguments = "[FILTER…]",
		.text = "Lists the daemon's snapshots. A FILTER is containerd's (kind==active,\n"
			"labels.\"key\"==value, …); several: any of them.",
		.specs = specs,
		.n = array_size(specs),
		.args_max = -1,
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	l.filters = argv + optind;
	l.n = (size_t)(argc - optind);
	return client_run("snapshots", address, ask, &l);
}
