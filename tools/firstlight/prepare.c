// SPDX-License-Identifier: Apache-2.0
/* firstlight prepare: an image's layers from containerd's content store, without its registry. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

#define TIMEOUT_MS 600000

struct asking {
	const char *ns, *manifest;
	bool json;
};

static may_suspend int ask(struct client *c, void *arg)
{
	Flc__PrepareRequest req = FLC__PREPARE_REQUEST__INIT;
	struct out_json j = OUT_JSON_INIT;
	const struct asking *a = arg;
	Flc__PrepareResponse *m;
	int r;

	req.namespace_ = (char *)(uintptr_t)a->ns;
	req.manifest = (char *)(uintptr_t)a->manifest;
	r = client_call(c, CONTROL_METHOD("PrepareManager"), &req,
			&flc__prepare_response__descriptor, TIMEOUT_MS, &m);
	if (r < 0)
		return r;
	if (a->json) {
		out_json_open(&j, NULL, '{');
		out_json_text(&j, "manifest", m->manifest);
		out_json_uint(&j, "layers", m->layers);
		out_json_uint(&j, "lazy", m->lazy);
		out_json_close(&j, '}');
	} else {
		auto_free char *digest = out_word(m->manifest, false);

		printf("%s  %u of %u layers lazy\n", digest, m->lazy, m->layers);
	}
	client_free(m);
	return 0;
}

int cmd_prepare(int argc, char **argv)
{
	const char *address = options_address();
	struct asking a = {.ns = options_namespace()};
	const struct option_spec specs[] = {
		OPTION_NAMESPACE(&a.ns),
		OPTION_ADDRESS(&address),
		OPTION_JSON(&a.json),
	};
	const struct options o = {
		.command = "prepare",
		.arguments = "DIGEST",
		.text = "Registers the layers of an image again, from its manifest in\n"
			"containerd's content store; no registry is asked. If a part is missing,\n"
			"other manifests that have one of the layers are tried.",
		.specs = specs,
		.n = array_size(specs),
		.args_min = 1,
		.args_max = 1,
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	a.manifest = argv[optind];
	return client_run("prepare", address, ask, &a);
}
