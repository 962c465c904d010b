// SPDX-License-Identifier: Apache-2.0
/* firstlight drain: no layer becomes lazy any more, and the rest is fetched. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "progress.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

struct draining {
	bool json, undo, wait, done;
	uint64_t layers, complete, bytes, local;
};

static int on_message(void *arg, void *msg)
{
	const Flc__DrainProgress *m = msg;
	struct draining *d = arg;

	d->layers = m->layers;
	d->complete = m->layers_complete;
	d->bytes = m->bytes;
	d->local = m->bytes_local;
	d->done = m->done;
	progress_set(m->bytes_local, m->bytes);
	return 0;
}

static void print(const struct draining *d)
{
	struct out_json j = OUT_JSON_INIT;
	char local[OUT_NUMBER_MAX];

	if (!d->json) {
		printf("%s: %llu of %llu layers complete, %s local\n",
		       d->undo ? "not draining" : "draining", (unsigned long long)d->complete,
		       (unsigned long long)d->layers,
		       d->bytes ? out_percent(d->local, d->bytes, local) : "all");
		return;
	}
	out_json_open(&j, NULL, '{');
	out_json_bool(&j, "draining", !d->undo);
	out_json_uint(&j, "layers", d->layers);
	out_json_uint(&j, "layers_complete", d->complete);
	out_json_uint(&j, "bytes", d->bytes);
	out_json_uint(&j, "bytes_local", d->local);
	out_json_bool(&j, "done", d->done);
	out_json_close(&j, '}');
}

static may_suspend int drain(struct client *c, void *arg)
{
	Flc__DrainRequest req = FLC__DRAIN_REQUEST__INIT;
	struct draining *d = arg;
	int r;

	req.undo = d->undo;
	req.wait = d->wait;
	progress_begin("draining", d->json || !d->wait);
	r = client_stream(c, CONTROL_METHOD("Drain"), &req, &flc__drain_progress__descriptor,
			  CLIENT_FOREVER, on_message, d);
	progress_end();
	if (r == 0)
		print(d);
	return r;
}

int cmd_drain(int argc, char **argv)
{
	const char *address = options_address();
	struct draining d = {.json = false};
	const struct option_spec specs[] = {
		{"undo", 0, OPTION_FLAG, &d.undo, NULL, "layers may be lazy again"},
		{"wait", 'w', OPTION_FLAG, &d.wait, NULL, "until all layers are complete"},
		OPTION_ADDRESS(&address),
		OPTION_JSON(&d.json),
	};
	const struct options o = {
		.command = "drain",
		.text = "From now on no new layer is lazy; what is missing of the others is "
			"fetched.\n"
			"Then neither registry nor network is needed. A restart of the daemon ends "
			"it.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	if (d.undo && d.wait)
		return out_misuse("drain", "--undo and --wait exclude each other");
	return client_run("drain", address, drain, &d);
}
