// SPDX-License-Identifier: Apache-2.0
/* firstlight record: what the next start of an image's container touches. */
#include <stdio.h>

#include "base/limits.h"
#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

struct recording_of {
	const char *ref;
	uint64_t seconds;
};

static may_suspend int ask(struct client *c, void *arg)
{
	Flc__RecordRequest req = FLC__RECORD_REQUEST__INIT;
	struct recording_of *o = arg;
	Flc__ProfileDocument *m;
	int r;

	req.ref = (char *)(uintptr_t)o->ref;
	req.timeout_s = (uint32_t)o->seconds;
	r = client_call(c, CONTROL_METHOD("Record"), &req, &flc__profile_document__descriptor,
			RPC_TIMEOUT_MAX_MS, &m);
	if (r < 0)
		return r;
	fputs(m->json, stdout);
	client_free(m);
	return 0;
}

int cmd_record(int argc, char **argv)
{
	const char *address = options_address();
	struct recording_of of = {.seconds = RECORD_TIMEOUT_S};
	const struct option_spec specs[] = {
		{"timeout", 't', OPTION_NUMBER, &of.seconds, "SECONDS",
		 "how long a start is waited for (300, the most)"},
		OPTION_ADDRESS(&address),
	};
	const struct options o = {
		.command = "record",
		.arguments = "IMAGE",
		.text = "Waits for the next start of a container of the image (any tag of it),\n"
			"watches it, and prints what it has touched, in order, as JSON: for\n"
			"build/replay, and to see why a start is slow.",
		.specs = specs,
		.n = array_size(specs),
		.args_min = 1,
		.args_max = 1,
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	if (of.seconds > RECORD_TIMEOUT_S)
		return out_misuse("record", "more than %d seconds", RECORD_TIMEOUT_S);
	of.ref = argv[optind];
	return client_run("record", address, ask, &of);
}
