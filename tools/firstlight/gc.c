// SPDX-License-Identifier: Apache-2.0
/* firstlight gc: what is not needed goes now. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

#define TIMEOUT_MS 600000

struct asking {
	bool json, containerd;
};

static void print(const Flc__GcResponse *m, bool json)
{
	uint64_t freed = m->bytes_before > m->bytes_after ? m->bytes_before - m->bytes_after : 0;
	struct out_json j = OUT_JSON_INIT;
	char bytes[OUT_NUMBER_MAX], took[OUT_NUMBER_MAX];

	if (!json) {
		printf("%s of contents freed, %llu layers removed, in %s\n", out_size(freed, bytes),
		       (unsigned long long)m->layers_removed, out_duration(m->elapsed_ms, took));
		if (m->trash_left)
			printf("%llu directories could not be removed yet\n",
			       (unsigned long long)m->trash_left);
		return;
	}
	out_json_open(&j, NULL, '{');
	out_json_uint(&j, "bytes_before", m->bytes_before);
	out_json_uint(&j, "bytes_after", m->bytes_after);
	out_json_uint(&j, "layers_removed", m->layers_removed);
	out_json_uint(&j, "trash_left", m->trash_left);
	out_json_uint(&j, "elapsed_ms", m->elapsed_ms);
	out_json_close(&j, '}');
}

static may_suspend int ask(struct client *c, void *arg)
{
	Flc__GcRequest req = FLC__GC_REQUEST__INIT;
	const struct asking *a = arg;
	Flc__GcResponse *m;
	int r;

	req.containerd = a->containerd;
	r = client_call(c, CONTROL_METHOD("Gc"), &req, &flc__gc_response__descriptor, TIMEOUT_MS,
			&m);
	if (r < 0)
		return r;
	print(m, a->json);
	client_free(m);
	return 0;
}

int cmd_gc(int argc, char **argv)
{
	const char *address = options_address();
	struct asking a = {.json = false};
	const struct option_spec specs[] = {
		{"containerd", 'c', OPTION_FLAG, &a.containerd, NULL,
		 "let containerd collect its garbage first"},
		OPTION_ADDRESS(&address),
		OPTION_JSON(&a.json),
	};
	const struct options o = {
		.command = "gc",
		.text = "Deletes now what nobody needs any more: removed snapshots, layers that\n"
			"no snapshot has, contents that no layer has. (It would be deleted\n"
			"anyway, later.)",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	return r != OPTIONS_GO ? r : client_run("gc", address, ask, &a);
}
