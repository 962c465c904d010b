// SPDX-License-Identifier: Apache-2.0
/* firstlight images: containerd's images, and how much of them is here. */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "kind.h"
#include "options.h"
#include "out.h"

#include "base/banned.h"

static const struct out_column columns[] = {
	{"NAMESPACE", 0},    {"IMAGE", OUT_GIVES}, {"DIGEST", 0}, {"LAYERS", 0},
	{"SIZE", OUT_RIGHT}, {"LOCAL", OUT_RIGHT}, {"STATE", 0}};

#define SHA256 "sha256:" /* leaves the names more room */

struct listing {
	const char *ns;
	bool json, no_trunc;
	struct out_table *table;
	struct out_json out;
};

static const char *state_of(const Flc__Image *i)
{
	if (i->problem[0])
		return "incomplete";
	if (i->complete)
		return "complete";
	return i->ready ? "ready" : "not here";
}

static void add_row(struct listing *l, const Flc__Image *i)
{
	char size[OUT_NUMBER_MAX], local[OUT_NUMBER_MAX];

	out_cell(l->table, i->namespace_);
	out_cell(l->table, i->name);
	out_cell(l->table,
		 i->digest + (!l->no_trunc && strncmp(i->digest, SHA256, strlen(SHA256)) == 0
				      ? strlen(SHA256)
				      : 0));
	if (i->lazy && i->lazy < i->layers)
		out_cellf(l->table, "%u, %u lazy", i->layers, i->lazy);
	else
		out_cellf(l->table, "%u%s", i->layers, i->lazy ? " lazy" : "");
	out_cell(l->table, i->lazy ? out_size(i->bytes, size) : "-");
	out_cell(l->table, i->lazy ? out_percent(i->bytes_local, i->bytes, local) : "-");
	out_cell(l->table, state_of(i));
}

/* The list begins with its first member: a failure before that prints nothing. */
static void begin(struct listing *l)
{
	if (l->out.depth == 0)
		out_json_open(&l->out, NULL, '[');
}

static int on_message(void *arg, void *msg)
{
	const Flc__ImagesResponse *m = msg;
	struct listing *l = arg;

	for (size_t i = 0; i < m->n_images; i++) {
		if (l->json) {
			begin(l);
			kind_json_image(&l->out, NULL, m->images[i]);
		} else {
			add_row(l, m->images[i]);
		}
	}
	return 0;
}

static may_suspend int ask(struct client *c, void *arg)
{
	Flc__ImagesRequest req = FLC__IMAGES_REQUEST__INIT;
	struct listing *l = arg;
	int r;

	req.namespace_ = (char *)(uintptr_t)l->ns;
	if (!l->json)
		l->table = out_table_new(columns, array_size(columns), !l->no_trunc);
	r = client_stream(c, CONTROL_METHOD("Images"), &req, &flc__images_response__descriptor,
			  10 * CLIENT_TIMEOUT_MS, on_message, l);
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

int cmd_images(int argc, char **argv)
{
	const char *address = options_address();
	struct listing l = {.ns = "", .out = OUT_JSON_INIT};
	const struct option_spec specs[] = {
		{"namespace", 'n', OPTION_TEXT, &l.ns, "NAME", "of containerd (all)"},
		OPTION_ADDRESS(&address),
		OPTION_JSON(&l.json),
		OPTION_NO_TRUNC(&l.no_trunc),
	};
	const struct options o = {
		.command = "images",
		.text = "Lists containerd's images: how many of their layers are lazy, and how\n"
			"much of those is local. A container can start on one that is ready or\n"
			"complete.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	return r != OPTIONS_GO ? r : client_run("images", address, ask, &l);
}
