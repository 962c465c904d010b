// SPDX-License-Identifier: Apache-2.0
/* firstlight profile: what programs of images read when they start. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "predict/profile.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

static const struct out_column columns[] = {{"REPOSITORY", OUT_GIVES}, {"PROGRAM", OUT_GIVES},
					    {"STARTS", OUT_RIGHT},     {"FILES", OUT_RIGHT},
					    {"CONTENT", OUT_RIGHT},    {"LAST", 0}};

struct work_on {
	const char *repository, *executable; /* "" = not given */
	const char *file;
	bool json, no_trunc;
	struct out_table *table;
	struct out_json out;
};

/* --- list ---------------------------------------------------------------------------------------
 */

static void list_begin(struct work_on *w)
{
	if (w->out.depth == 0)
		out_json_open(&w->out, NULL, '[');
}

static void list_json(struct work_on *w, const Flc__ProfileInfo *p)
{
	struct out_json *j = &w->out;

	list_begin(w);
	out_json_open(j, NULL, '{');
	out_json_text(j, "repository", p->repository);
	out_json_text(j, "executable", p->executable);
	out_json_uint(j, "starts", p->starts);
	out_json_uint(j, "whole", p->whole);
	if (p->last)
		out_json_time(j, "last", p->last->seconds, p->last->nanos);
	out_json_uint(j, "span_us", p->span_us);
	out_json_uint(j, "files", p->paths);
	out_json_uint(j, "uses", p->uses);
	out_json_uint(j, "content", p->content);
	out_json_uint(j, "bytes", p->bytes);
	out_json_close(j, '}');
}

static void list_row(struct work_on *w, const Flc__ProfileInfo *p)
{
	char size[OUT_NUMBER_MAX], when[OUT_NUMBER_MAX] = "-";

	if (p->last)
		out_time(p->last->seconds, when);
	out_cell(w->table, p->repository);
	out_cell(w->table, p->executable[0] ? p->executable : "-");
	out_cellf(w->table, "%u", p->starts);
	out_cellf(w->table, "%u", p->paths);
	out_cell(w->table, out_size(p->content, size));
	out_cell(w->table, when);
}

static int on_profiles(void *arg, void *msg)
{
	const Flc__ProfilesResponse *m = msg;
	struct work_on *w = arg;

	for (size_t i = 0; i < m->n_profiles; i++) {
		if (w->json)
			list_json(w, m->profiles[i]);
		else
			list_row(w, m->profiles[i]);
	}
	return 0;
}

static may_suspend int list(struct client *c, void *arg)
{
	Flc__ProfilesRequest req = FLC__PROFILES_REQUEST__INIT;
	struct work_on *w = arg;
	int r;

	req.repository = (char *)(uintptr_t)w->repository;
	if (!w->json)
		w->table = out_table_new(columns, array_size(columns), !w->no_trunc);
	r = client_stream(c, CONTROL_METHOD("Profiles"), &req, &flc__profiles_response__descriptor,
			  CLIENT_TIMEOUT_MS, on_profiles, w);
	if (w->json) {
		if (r == 0)
			list_begin(w);
		out_json_end(&w->out);
	} else if (r == 0) {
		out_table_end(w->table);
	} else {
		out_table_drop(w->table);
	}
	return r;
}

/* --- documents ----------------------------------------------------------------------------------
 */

static Flc__ProfileName name_of(const struct work_on *w)
{
	Flc__ProfileName n = FLC__PROFILE_NAME__INIT;

	n.repository = (char *)(uintptr_t)w->repository;
	n.executable = (char *)(uintptr_t)w->executable;
	return n;
}

static may_suspend int document(struct client *c, const struct work_on *w,
				Flc__ProfileDocument **ret)
{
	Flc__ProfileName req = name_of(w);

	return client_call(c, CONTROL_METHOD("ProfileExport"), &req,
			   &flc__profile_document__descriptor, CLIENT_TIMEOUT_MS, ret);
}

static may_suspend int export(struct client *c, void *arg)
{
	Flc__ProfileDocument *m;
	int r = document(c, arg, &m);

	if (r < 0)
		return r;
	fputs(m->json, stdout);
	client_free(m);
	return 0;
}

/* --- for people ---------------------------------------------------------------------------------
 */

static const struct out_column use_columns[] = {
	{"MS", OUT_RIGHT}, {"OF STARTS", OUT_RIGHT}, {"KIB", OUT_RIGHT}, {"PATH", OUT_GIVES}};

static void print_uses(const struct profile *p, bool cut)
{
	struct out_table *t = out_table_new(use_columns, array_size(use_columns), cut);
	char part[OUT_NUMBER_MAX];

	for (size_t i = 0; i < p->uses_n; i++) {
		const struct profile_use *u = &p->uses[i];
		struct str path = p->paths[u->path];

		out_cellf(t, "%.1f", u->at_us / 1000.0);
		out_cell(t, out_percent(u->weight, PROFILE_WEIGHT_ONE, part));
		out_cellf(t, "%llu-%llu", u->unit * PROFILE_UNIT / 1024ull,
			  (u->unit + (unsigned long long)u->units) * PROFILE_UNIT / 1024);
		out_cellf(t, STR_FMT, STR_ARG(path));
	}
	out_table_end(t);
}

static may_suspend int show(struct client *c, void *arg)
{
	const struct work_on *w = arg;
	auto_arena struct arena a;
	struct err err = ERR_INIT;
	Flc__ProfileDocument *m;
	struct profile p;
	int r;

	arena_init(&a, START_PROFILES_MEMORY);
	if (w->json)
		return export(c, arg);
	r = document(c, w, &m);
	if (r < 0)
		return r;
	r = profile_from_json(str_of(m->json), &a, &p, &err);
	if (r < 0)
		r = client_fail(c, r, "%s", err_text(&err, r));
	else
		print_uses(&p, !w->no_trunc);
	client_free(m);
	return r;
}

static may_suspend int import(struct client *c, void *arg)
{
	Flc__ProfileDocument req = FLC__PROFILE_DOCUMENT__INIT;
	auto_buf struct buf json = BUF_INIT;
	struct err err = ERR_INIT;
	struct work_on *w = arg;
	Flc__ProfileName *m;
	int r = file_read_all(w->file, PROFILE_JSON_MAX, &json, &err);

	if (r == 0)
		r = buf_append(&json, "", 1);
	if (r < 0)
		return client_fail(c, r, "%s: %s", w->file, err_text(&err, r));
	req.json = (char *)json.data;
	r = client_call(c, CONTROL_METHOD("ProfileImport"), &req, &flc__profile_name__descriptor,
			CLIENT_TIMEOUT_MS, &m);
	if (r < 0)
		return r;
	if (!w->json) {
		auto_free char *repository = out_word(m->repository, false);
		auto_free char *executable = out_word(m->executable, false);

		printf("%s %s\n", repository, executable);
	} else {
		struct out_json j = OUT_JSON_INIT;

		out_json_open(&j, NULL, '{');
		out_json_text(&j, "repository", m->repository);
		out_json_text(&j, "executable", m->executable);
		out_json_close(&j, '}');
	}
	client_free(m);
	return 0;
}

static may_suspend int forget(struct client *c, void *arg)
{
	struct work_on *w = arg;
	Flc__ProfileName req = name_of(w);
	Flc__ProfileRemoved *m;
	int r;

	req.all = !w->executable[0];
	r = client_call(c, CONTROL_METHOD("ProfileRemove"), &req, &flc__profile_removed__descriptor,
			CLIENT_TIMEOUT_MS, &m);
	if (r < 0)
		return r;
	if (w->json)
		printf("{\"profiles\":%llu}\n", (unsigned long long)m->profiles);
	else
		printf("%llu removed\n", (unsigned long long)m->profiles);
	client_free(m);
	return 0;
}

struct verb {
	const char *name;
	client_fn *run;
	int least, most; /* arguments */
};

static const struct verb verbs[] = {
	{"list", list, 0, 1},     {"show", show, 2, 2}, {"export", export, 2, 2},
	{"import", import, 1, 1}, {"rm", forget, 1, 2},
};

static const struct verb *verb_of(const char *name)
{
	for (size_t i = 0; i < array_size(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	}
	return NULL;
}

int cmd_profile(int argc, char **argv)
{
	const char *address = options_address();
	struct work_on w = {.repository = "", .executable = "", .out = OUT_JSON_INIT};
	const struct option_spec specs[] = {OPTION_ADDRESS(&address), OPTION_JSON(&w.json),
					    OPTION_NO_TRUNC(&w.no_trunc)};
	const struct options o = {
		.command = "profile",
		.arguments = "list|show|export|import|rm [ARGUMENT…]",
		.text = "What programs of images read when they start, as learnt here.\n"
			"\n"
			"  list [REPOSITORY]         of all programs\n"
			"  show REPOSITORY PROGRAM   of one, in order\n"
			"  export REPOSITORY PROGRAM the same as a JSON document\n"
			"  import FILE               such a document takes the place of what is "
			"here\n"
			"  rm REPOSITORY [PROGRAM]   forgets it",
		.specs = specs,
		.n = array_size(specs),
		.args_min = 1,
		.args_max = 3,
	};
	int r = options_parse(&o, argc, argv), n = argc - optind;
	const struct verb *v;

	if (r != OPTIONS_GO)
		return r;
	v = verb_of(argv[optind]);
	if (!v)
		return out_misuse("profile", "no \"%s\" of profiles", argv[optind]);
	if (n - 1 < v->least || n - 1 > v->most)
		return out_misuse("profile", "%s: %s", v->name,
				  n - 1 < v->least ? "an argument is missing"
						   : "too many arguments");
	if (v->run == import)
		w.file = argv[optind + 1];
	else if (n > 1)
		w.repository = argv[optind + 1];
	if (n > 2)
		w.executable = argv[optind + 2];
	return client_run("profile", address, v->run, &w);
}
