// SPDX-License-Identifier: Apache-2.0
/* firstlight scan: containerd's records of snapshots against the daemon's. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

#define TIMEOUT_MS 600000

static bool json;

static void print_json(const Flc__ScanResponse *m)
{
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '{');
	out_json_uint(&j, "snapshots", m->snapshots);
	out_json_uint(&j, "namespaces", m->namespaces);
	out_json_uint(&j, "missing", m->missing);
	out_json_uint(&j, "repaired", m->repaired);
	out_json_uint(&j, "unknown", m->unknown);
	out_json_open(&j, "lines", '[');
	for (size_t i = 0; i < m->n_lines; i++)
		out_json_text(&j, NULL, m->lines[i]);
	out_json_close(&j, ']');
	out_json_close(&j, '}');
}

static void print(const Flc__ScanResponse *m)
{
	for (size_t i = 0; i < m->n_lines; i++) {
		auto_free char *text = out_word(m->lines[i], true);

		printf("%s\n", text);
	}
	printf("%llu snapshots in %llu namespaces; %llu records without data, %llu removed; %llu "
	       "snapshots\nthat containerd does not know (its collection removes them)\n",
	       (unsigned long long)m->snapshots, (unsigned long long)m->namespaces,
	       (unsigned long long)m->missing, (unsigned long long)m->repaired,
	       (unsigned long long)m->unknown);
}

static may_suspend int ask(struct client *c, void *arg)
{
	Flc__Empty req = FLC__EMPTY__INIT;
	Flc__ScanResponse *m;
	int r = client_call(c, CONTROL_METHOD("Scan"), &req, &flc__scan_response__descriptor,
			    TIMEOUT_MS, &m),
	    left;

	(void)arg;
	if (r < 0)
		return r;
	if (json)
		print_json(m);
	else
		print(m);
	left = m->missing > m->repaired;
	client_free(m);
	return left;
}

int cmd_scan(int argc, char **argv)
{
	const char *address = options_address();
	const struct option_spec specs[] = {OPTION_ADDRESS(&address), OPTION_JSON(&json)};
	const struct options o = {
		.command = "scan",
		.text = "Compares containerd's records of snapshots with the daemon's, and\n"
			"removes those of layers whose data is gone. The daemon does so at its\n"
			"start too. Exit code 1: something is left to be done by hand.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	return r != OPTIONS_GO ? r : client_run("scan", address, ask, NULL);
}
