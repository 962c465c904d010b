// SPDX-License-Identifier: Apache-2.0
/* firstlight inspect: an image or a snapshot, its layers, and where their files are. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "kind.h"
#include "options.h"
#include "out.h"

#include "base/banned.h"

struct asking {
	const char *name, *ns;
	bool json, snapshot, no_trunc;
};

/* --- JSON ------------------------------------------------------------------------------------- */

static void json_layer(struct out_json *j, const Flc__Layer *l)
{
	out_json_open(j, NULL, '{');
	out_json_text(j, "digest", l->digest);
	out_json_text(j, "diff_id", l->diff_id);
	out_json_text(j, "snapshot", l->snapshot);
	out_json_bool(j, "lazy", l->lazy);
	out_json_bool(j, "complete", l->complete);
	if (l->lazy) {
		out_json_uint(j, "id", l->id);
		out_json_text(j, "toc", l->toc);
		out_json_uint(j, "files", l->files);
		out_json_uint(j, "files_local", l->files_local);
		out_json_uint(j, "bytes", l->bytes);
		out_json_uint(j, "bytes_local", l->bytes_local);
		out_json_open(j, "refs", '[');
		for (size_t i = 0; i < l->n_refs; i++)
			out_json_text(j, NULL, l->refs[i]);
		out_json_close(j, ']');
	}
	out_json_text(j, "path", l->path);
	out_json_text(j, "mount", l->mount);
	out_json_close(j, '}');
}

static void json_mount(struct out_json *j, const Fl__Mount *m)
{
	out_json_open(j, NULL, '{');
	out_json_text(j, "type", m->type);
	out_json_text(j, "source", m->source);
	out_json_open(j, "options", '[');
	for (size_t i = 0; i < m->n_options; i++)
		out_json_text(j, NULL, m->options[i]);
	out_json_close(j, ']');
	out_json_close(j, '}');
}

static void print_json(const Flc__InspectResponse *m)
{
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '{');
	if (m->image)
		kind_json_image(&j, "image", m->image);
	if (m->info) {
		kind_json_info(&j, "snapshot", m->info);
		out_json_text(&j, "path", m->path);
		out_json_int(&j, "size", m->size);
		out_json_int(&j, "inodes", m->inodes);
		out_json_open(&j, "mounts", '[');
		for (size_t i = 0; i < m->n_mounts; i++)
			json_mount(&j, m->mounts[i]);
		out_json_close(&j, ']');
	}
	out_json_open(&j, "layers", '[');
	for (size_t i = 0; i < m->n_layers; i++)
		json_layer(&j, m->layers[i]);
	out_json_close(&j, ']');
	out_json_close(&j, '}');
}

/* --- for people ------------------------------------------------------------------------------- */

static void print_image(const Flc__Image *i, bool cut)
{
	struct out_table *t = out_facts_new(cut);
	char size[OUT_NUMBER_MAX], local[OUT_NUMBER_MAX];

	out_fact(t, "image", "%s", i->name);
	out_fact(t, "namespace", "%s", i->namespace_);
	out_fact(t, "digest", "%s", i->digest);
	out_fact(t, "manifest", "%s", i->manifest[0] ? i->manifest : "-");
	out_fact(t, "layers", "%u: %u lazy, %u unpacked, %u not here", i->layers, i->lazy,
		 i->unpacked, i->layers - i->lazy - i->unpacked);
	if (i->lazy)
		out_fact(t, "lazy contents", "%s, %s local", out_size(i->bytes, size),
			 out_percent(i->bytes_local, i->bytes, local));
	out_fact(t, "state", "%s",
		 i->complete ? "complete: all of it is local"
		 : i->ready  ? "ready: a container can start"
			     : "not here");
	if (i->problem[0])
		out_fact(t, "problem", "%s", i->problem);
	out_table_end(t);
}

static void print_mounts(struct out_table *t, const Flc__InspectResponse *m)
{
	for (size_t i = 0; i < m->n_mounts; i++) {
		out_fact(t, "mount", "%s %s", m->mounts[i]->type, m->mounts[i]->source);
		for (size_t k = 0; k < m->mounts[i]->n_options; k++)
			out_fact(t, "", "%s", m->mounts[i]->options[k]);
	}
}

static void print_snapshot(const Flc__InspectResponse *m, bool cut)
{
	struct out_table *t = out_facts_new(cut);
	char size[OUT_NUMBER_MAX];

	out_fact(t, "snapshot", "%s", m->info->name);
	out_fact(t, "kind", "%s", kind_name(m->info->kind));
	out_fact(t, "parent", "%s", m->info->parent[0] ? m->info->parent : "-");
	out_fact(t, "path", "%s", m->path[0] ? m->path : "-");
	out_fact(t, "usage", "%s, %lld inodes", out_size((uint64_t)m->size, size),
		 (long long)m->inodes);
	for (size_t i = 0; i < m->info->n_labels; i++)
		out_fact(t, i ? "" : "labels", "%s=%s", m->info->labels[i]->key,
			 m->info->labels[i]->value);
	print_mounts(t, m);
	out_table_end(t);
}

static void print_layer(struct out_table *t, const Flc__Layer *l)
{
	char size[OUT_NUMBER_MAX], local[OUT_NUMBER_MAX];

	out_fact(t, "layer", "%s", l->digest[0] ? l->digest : l->snapshot);
	out_fact(t, "  state", "%s",
		 !l->snapshot[0] ? "not here"
		 : !l->lazy      ? "unpacked"
		 : l->complete   ? "lazy, complete"
				 : "lazy");
	if (l->lazy)
		out_fact(t, "  local", "%s of %s, %llu of %llu files",
			 out_percent(l->bytes_local, l->bytes, local), out_size(l->bytes, size),
			 (unsigned long long)l->files_local, (unsigned long long)l->files);
	if (l->snapshot[0])
		out_fact(t, "  snapshot", "%s", l->snapshot);
	if (l->path[0])
		out_fact(t, l->lazy ? "  index" : "  files", "%s", l->path);
	if (l->mount[0])
		out_fact(t, "  mounted at", "%s", l->mount);
	for (size_t i = 0; i < l->n_refs; i++)
		out_fact(t, i ? "" : "  from", "%s", l->refs[i]);
}

static void print_layers(const Flc__InspectResponse *m, bool cut)
{
	struct out_table *t = out_facts_new(cut);

	for (size_t i = 0; i < m->n_layers; i++)
		print_layer(t, m->layers[i]);
	out_table_end(t);
}

static may_suspend int ask(struct client *c, void *arg)
{
	Flc__InspectRequest req = FLC__INSPECT_REQUEST__INIT;
	Flc__InspectResponse *m;
	struct asking *a = arg;
	int r;

	req.name = (char *)(uintptr_t)a->name;
	req.namespace_ = (char *)(uintptr_t)a->ns;
	req.snapshot = a->snapshot;
	r = client_call(c, CONTROL_METHOD("Inspect"), &req, &flc__inspect_response__descriptor,
			CLIENT_TIMEOUT_MS, &m);
	if (r < 0)
		return r;
	if (a->json) {
		print_json(m);
	} else {
		if (m->image)
			print_image(m->image, !a->no_trunc);
		else if (m->info)
			print_snapshot(m, !a->no_trunc);
		if (m->n_layers)
			printf("\n");
		print_layers(m, !a->no_trunc);
	}
	client_free(m);
	return 0;
}

int cmd_inspect(int argc, char **argv)
{
	const char *address = options_address();
	struct asking a = {.ns = ""};
	const struct option_spec specs[] = {
		{"namespace", 'n', OPTION_TEXT, &a.ns, "NAME", "of containerd (all)"},
		{"snapshot", 's', OPTION_FLAG, &a.snapshot, NULL, "NAME is a snapshot's key"},
		OPTION_ADDRESS(&address),
		OPTION_JSON(&a.json),
		OPTION_NO_TRUNC(&a.no_trunc),
	};
	const struct options o = {
		.command = "inspect",
		.arguments = "NAME",
		.text = "Shows an image, or a snapshot by its key: layers, bottom first, what\n"
			"of them is local, and where their files are.",
		.specs = specs,
		.n = array_size(specs),
		.args_min = 1,
		.args_max = 1,
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	a.name = argv[optind];
	return client_run("inspect", address, ask, &a);
}
