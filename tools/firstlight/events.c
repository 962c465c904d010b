// SPDX-License-Identifier: Apache-2.0
/* firstlight events: what happens, as it happens. */
#include <stdio.h>

#include "base/event.h"
#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

struct following {
	struct option_list kinds;
	uint64_t count; /* 0: for ever */
	uint64_t seen;
	bool json;
};

static void print_json(const Flc__Event *e)
{
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '{');
	if (e->time)
		out_json_time(&j, "time", e->time->seconds, e->time->nanos);
	out_json_text(&j, "kind", e->kind);
	for (size_t i = 0; i < e->n_fields; i++)
		out_json_text(&j, e->fields[i]->key, e->fields[i]->value);
	if (e->lost)
		out_json_uint(&j, "lost", e->lost);
	out_json_close(&j, '}');
}

static void print_line(const Flc__Event *e)
{
	auto_free char *kind = out_word(e->kind, false);
	char when[OUT_NUMBER_MAX] = "-";

	if (e->lost)
		printf("%llu events are lost here\n", (unsigned long long)e->lost);
	if (e->time)
		out_time(e->time->seconds, when);
	printf("%s  %s", when, kind);
	for (size_t i = 0; i < e->n_fields; i++) {
		auto_free char *key = out_word(e->fields[i]->key, false);
		auto_free char *value = out_word(e->fields[i]->value, true);

		printf("  %s=%s", key, value);
	}
	printf("\n");
}

static int on_event(void *arg, void *msg)
{
	struct following *f = arg;

	if (f->json)
		print_json(msg);
	else
		print_line(msg);
	if (fflush(stdout) < 0)
		return -EPIPE;
	return f->count && ++f->seen == f->count ? -ECANCELED : 0;
}

static may_suspend int follow(struct client *c, void *arg)
{
	Flc__EventsRequest req = FLC__EVENTS_REQUEST__INIT;
	struct following *f = arg;
	int r;

	req.kinds = f->kinds.items;
	req.n_kinds = f->kinds.n;
	r = client_stream(c, CONTROL_METHOD("Events"), &req, &flc__event__descriptor,
			  CLIENT_FOREVER, on_event, f);
	if (f->count && f->seen == f->count)
		return 0;
	return r == -EPIPE ? client_fail(c, r, "the output cannot be written") : r;
}

int cmd_events(int argc, char **argv)
{
	const char *address = options_address();
	struct following f = {.count = 0};
	const struct option_spec specs[] = {
		{"kind", 'k', OPTION_LIST, &f.kinds, "KIND",
		 "only such; may be given several times"},
		{"count", 'c', OPTION_NUMBER, &f.count, "N", "end after N events"},
		OPTION_ADDRESS(&address),
		OPTION_JSON(&f.json),
	};
	const struct options o = {
		.command = "events",
		.text = "Prints events from now on, a line each: layer-lazy, layer-ordinary,\n"
			"layer-complete, layer-removed, read-failed, pull-ready, pull-failed.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	for (size_t i = 0; i < f.kinds.n; i++) {
		if (!event_is_kind(f.kinds.items[i]))
			return out_misuse("events", "no kind of event is called \"%s\"",
					  f.kinds.items[i]);
	}
	return client_run("events", address, follow, &f);
}
