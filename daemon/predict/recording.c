// SPDX-License-Identifier: Apache-2.0
/* Recorded starts as JSON, in and out. Pure; any thread. */
#include "predict/recording.h"

#include <stdio.h>

#include "base/json.h"
#include "base/map.h"
#include "predict/fields.h"

#include "base/banned.h"

static const char *const kinds[] = {
	[RECORDING_READ] = "read",
	[RECORDING_FAULT] = "fault",
	[RECORDING_FUSE] = "fuse",
	[RECORDING_EXEC] = "exec",
};

/* --- in --------------------------------------------------------------------------------------- */

/* A file by its path. */
struct named {
	struct map_node node;
	uint32_t file;
};

struct reading {
	struct recording *out;
	struct recording_file *files;
	struct recording_event *events;
	struct map names; /* named.node; elements in the arena */
	struct err *err;
};

static int no_memory(struct reading *rd)
{
	return err_set(rd->err, -ENOMEM, "no memory for a recording");
}

static int read_file(struct reading *rd, const struct json *j, uint32_t i, struct named *name)
{
	struct recording_file *f = &rd->files[i];
	char what[32];
	int r;

	snprintf(what, sizeof(what), "file %u", i);
	r = field_text(j, what, "path", &f->path, rd->err);
	if (r == 0)
		r = field_uint(j, what, "size", OBJECT_SIZE_MAX, &f->size, rd->err);
	if (r < 0)
		return r;
	if (!profile_path_ok(f->path))
		return err_set(rd->err, -EINVAL, "%s: its path is not clean and absolute", what);
	if (map_get(&rd->names, f->path))
		return err_set(rd->err, -EINVAL, "%s is there twice", what);
	*name = (struct named){.node.key = f->path, .file = i};
	map_put(&rd->names, &name->node);
	return 0;
}

static int read_files(struct reading *rd, const struct json *j, struct arena *a)
{
	const struct json *list;
	struct named *names;
	uint32_t i = 0;
	size_t n;
	int r = field_list(j, "files", RECORDING_FILES_MAX, &list, &n, rd->err);

	if (r < 0)
		return r;
	rd->files = arena_alloc(a, (n + 1) * sizeof(*rd->files));
	names = arena_alloc(a, (n + 1) * sizeof(*names));
	if (!rd->files || !names)
		return no_memory(rd);
	for (const struct json *m = list->first; m && r == 0; m = m->next, i++)
		r = read_file(rd, m, i, &names[i]);
	rd->out->files = rd->files;
	rd->out->files_n = n;
	return r;
}

static int read_kind(struct reading *rd, const struct json *j, const char *what,
		     enum recording_kind *ret)
{
	struct str kind = STR("");
	int r = field_text(j, what, "kind", &kind, rd->err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < array_size(kinds); i++) {
		if (str_eq(kind, str_of(kinds[i]))) {
			*ret = (enum recording_kind)i;
			return 0;
		}
	}
	return err_set(rd->err, -EINVAL, "%s: a kind that is not known", what);
}

/* Does it begin in its file? An empty file has nothing to read. */
static bool range_ok(const struct reading *rd, const struct recording_event *e)
{
	if (e->kind == RECORDING_EXEC && e->units == 0)
		return e->unit == 0;
	return e->units > 0 && e->units <= PROFILE_UNIT_END &&
	       (uint64_t)e->unit * PROFILE_UNIT < rd->files[e->file].size;
}

static int read_event(struct reading *rd, const struct json *j, size_t i)
{
	struct recording_event *e = &rd->events[i];
	struct map_node *node;
	struct str path = STR("");
	char what[32];
	int r;

	snprintf(what, sizeof(what), "event %zu", i);
	r = field_uint(j, what, "t_us", PROFILE_SPAN_MAX_US, &e->t_us, rd->err);
	if (r == 0)
		r = field_text(j, what, "path", &path, rd->err);
	if (r == 0)
		r = field_u32(j, what, "unit", UINT32_MAX, &e->unit, rd->err);
	if (r == 0)
		r = field_u32(j, what, "units", UINT32_MAX, &e->units, rd->err);
	if (r == 0)
		r = read_kind(rd, j, what, &e->kind);
	if (r < 0)
		return r;
	node = map_get(&rd->names, path);
	if (!node)
		return err_set(rd->err, -EINVAL, "%s: its file is not among the files", what);
	e->file = container_of(node, struct named, node)->file;
	if (!range_ok(rd, e))
		return err_set(rd->err, -EINVAL, "%s: not in its file", what);
	if (i > 0 && e->t_us < rd->events[i - 1].t_us)
		return err_set(rd->err, -EINVAL, "%s: out of order", what);
	return 0;
}

static int read_events(struct reading *rd, const struct json *j, struct arena *a)
{
	const struct json *list;
	size_t n, i = 0;
	int r = field_list(j, "events", RECORDING_EVENTS_MAX, &list, &n, rd->err);

	if (r < 0)
		return r;
	rd->events = arena_alloc(a, (n + 1) * sizeof(*rd->events));
	if (!rd->events)
		return no_memory(rd);
	for (const struct json *m = list->first; m && r == 0; m = m->next, i++)
		r = read_event(rd, m, i);
	rd->out->events = rd->events;
	rd->out->events_n = n;
	return r;
}

static int read_head(struct reading *rd, const struct json *j)
{
	const struct json *ready = json_get(j, "ready_us"), *fuse = json_get(j, "fuse_only");
	const char *what = "recording";
	struct recording *out = rd->out;
	uint64_t when = 0;
	int r = field_text(j, what, "image", &out->image, rd->err);

	if (r == 0)
		r = field_text(j, what, "executable", &out->executable, rd->err);
	if (r == 0)
		r = field_uint(j, what, "when_ns", INT64_MAX, &when, rd->err);
	if (r == 0)
		r = field_uint(j, what, "span_us", PROFILE_SPAN_MAX_US, &out->span_us, rd->err);
	if (r == 0)
		r = field_uint(j, what, "lost", INT64_MAX, &out->lost, rd->err);
	if (r == 0 && ready && ready->type != JSON_NULL)
		r = field_uint(j, what, "ready_us", PROFILE_SPAN_MAX_US, &out->ready_us, rd->err);
	if (r < 0)
		return r;
	if (!fuse || fuse->type != JSON_BOOL)
		return err_set(rd->err, -EINVAL, "recording: \"fuse_only\" is not true or false");
	if (!profile_repository_ok(profile_repository_of(out->image)) ||
	    (out->executable.len && !profile_path_ok(out->executable)))
		return err_set(rd->err, -EINVAL, "recording: of no image and program");
	out->when_ns = (int64_t)when;
	out->fuse_only = fuse->integer;
	return 0;
}

int recording_parse(struct str document, struct arena *a, struct recording *ret, struct err *err)
{
	struct recording out = {0};
	struct reading rd = {.out = &out, .err = err};
	struct json *j;
	int r;

	if (document.len > RECORDING_JSON_MAX)
		return err_set(err, -EINVAL, "larger than a recording may be");
	r = json_tree(document, a, &j, err);
	if (r == 0)
		r = field_version(j, RECORDING_VERSION, err);
	if (r == 0)
		r = read_head(&rd, j);
	if (r < 0)
		return r;
	if (map_init(&rd.names) < 0)
		return no_memory(&rd);
	r = read_files(&rd, j, a);
	if (r == 0)
		r = read_events(&rd, j, a);
	map_fini(&rd.names);
	if (r == 0)
		*ret = out;
	return r;
}

/* --- out -------------------------------------------------------------------------------------- */

static int put_head(const struct recording *r, struct buf *b)
{
	int e = buf_printf(b, "{\"version\": %d,\n \"image\": ", RECORDING_VERSION);

	if (e == 0)
		e = field_put_text(b, r->image);
	if (e == 0)
		e = buf_printf(b, ",\n \"executable\": ");
	if (e == 0)
		e = field_put_text(b, str_utf8(r->executable) ? r->executable : STR(""));
	if (e == 0)
		e = buf_printf(b, ",\n \"when_ns\": %lld, \"span_us\": %llu, ",
			       (long long)r->when_ns, (unsigned long long)r->span_us);
	if (e == 0 && r->ready_us)
		e = buf_printf(b, "\"ready_us\": %llu, ", (unsigned long long)r->ready_us);
	if (e == 0)
		e = buf_printf(b, "\"lost\": %llu, \"fuse_only\": %s", (unsigned long long)r->lost,
			       r->fuse_only ? "true" : "false");
	return e;
}

static int put_files(const struct recording *r, struct buf *b)
{
	const char *comma = "";
	int e = buf_printf(b, ",\n \"files\": [");

	for (size_t i = 0; e == 0 && i < r->files_n; i++) {
		if (!str_utf8(r->files[i].path))
			continue;
		e = buf_printf(b, "%s\n  {\"path\": ", comma);
		if (e == 0)
			e = field_put_text(b, r->files[i].path);
		if (e == 0)
			e = buf_printf(b, ", \"size\": %llu}",
				       (unsigned long long)r->files[i].size);
		comma = ",";
	}
	return e < 0 ? e : buf_printf(b, "]");
}

static int put_events(const struct recording *r, struct buf *b)
{
	const char *comma = "";
	int e = buf_printf(b, ",\n \"events\": [");

	for (size_t i = 0; e == 0 && i < r->events_n; i++) {
		const struct recording_event *ev = &r->events[i];

		if (!str_utf8(r->files[ev->file].path))
			continue;
		e = buf_printf(b, "%s\n  {\"t_us\": %llu, \"path\": ", comma,
			       (unsigned long long)ev->t_us);
		if (e == 0)
			e = field_put_text(b, r->files[ev->file].path);
		if (e == 0)
			e = buf_printf(b, ", \"unit\": %u, \"units\": %u, \"kind\": \"%s\"}",
				       ev->unit, ev->units, kinds[ev->kind]);
		comma = ",";
	}
	return e < 0 ? e : buf_printf(b, "]}\n");
}

int recording_write(const struct recording *r, struct buf *b)
{
	int e = put_head(r, b);

	if (e == 0)
		e = put_files(r, b);
	return e < 0 ? e : put_events(r, b);
}

/* --- as a profile ------------------------------------------------------------------------------
 */

int recording_profile(const struct recording *r, struct arena *a, struct profile *ret,
		      struct err *err)
{
	auto_free struct profile_event *events =
		reallocarray(NULL, r->events_n + 1, sizeof(*events));
	struct profile_start s = {
		.repository = profile_repository_of(r->image),
		.executable = r->executable,
		.when_ns = r->when_ns,
		.span_us = r->span_us,
		.whole = r->lost == 0 && !r->fuse_only,
		.events = events,
	};

	if (!events)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < r->events_n; i++) {
		const struct recording_event *e = &r->events[i];
		const struct recording_file *f = &r->files[e->file];
		uint64_t end = (f->size + PROFILE_UNIT - 1) / PROFILE_UNIT;

		if (e->units == 0)
			continue;
		events[s.events_n++] = (struct profile_event){
			.path = f->path,
			.unit = e->unit,
			.units = e->units < end - e->unit ? e->units : (uint32_t)(end - e->unit),
			.at_us = e->t_us,
		};
	}
	return profile_build(&s, a, ret, err);
}
