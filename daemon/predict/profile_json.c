// SPDX-License-Identifier: Apache-2.0
/* Profiles as JSON, out and in. What comes in is from anywhere. Pure; any thread. */
#include <stdio.h>

#include "base/json.h"
#include "predict/fields.h"
#include "predict/profile.h"

#include "base/banned.h"

/* --- out -------------------------------------------------------------------------------------- */

static int put_use(const struct profile *p, const struct profile_use *u, bool first, struct buf *b)
{
	int r = buf_printf(b, "%s\n    {\"path\": ", first ? "" : ",");

	if (r == 0)
		r = field_put_text(b, p->paths[u->path]);
	if (r == 0)
		r = buf_printf(b, ", \"unit\": %u, \"units\": %u, \"at_us\": %u, \"weight\": %u}",
			       u->unit, u->units, u->at_us, u->weight);
	return r;
}

static int put_uses(const struct profile *p, struct buf *b)
{
	bool first = true;
	int r = buf_printf(b, "  \"uses\": [");

	for (size_t i = 0; r == 0 && i < p->uses_n; i++) {
		if (!str_utf8(p->paths[p->uses[i].path]))
			continue;
		r = put_use(p, &p->uses[i], first, b);
		first = false;
	}
	return r < 0 ? r : buf_printf(b, "%s]\n}\n", first ? "" : "\n  ");
}

int profile_json(const struct profile *p, struct buf *b, struct err *err)
{
	int r;

	if (!str_utf8(p->executable))
		return err_set(err, -EINVAL, "the executable's path is no UTF-8");
	r = buf_printf(b, "{\n  \"version\": %d,\n  \"repository\": ", PROFILE_JSON_VERSION);
	if (r == 0)
		r = field_put_text(b, p->repository);
	if (r == 0)
		r = buf_printf(b, ",\n  \"executable\": ");
	if (r == 0)
		r = field_put_text(b, p->executable);
	if (r == 0)
		r = buf_printf(b,
			       ",\n  \"starts\": %u,\n  \"whole\": %u,\n  \"last_ns\": %lld,\n"
			       "  \"span_us\": %u,\n",
			       p->starts, p->whole, (long long)p->last_ns, p->span_us);
	if (r == 0)
		r = put_uses(p, b);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

/* --- in --------------------------------------------------------------------------------------- */

static int compare_paths(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static int read_use(const struct json *j, size_t i, struct str *ret_path, struct profile_use *ret,
		    struct err *err)
{
	char what[32];
	int r;

	snprintf(what, sizeof(what), "use %zu", i);
	r = field_text(j, what, "path", ret_path, err);
	if (r == 0)
		r = field_u32(j, what, "unit", UINT32_MAX, &ret->unit, err);
	if (r == 0)
		r = field_u32(j, what, "units", UINT32_MAX, &ret->units, err);
	if (r == 0)
		r = field_u32(j, what, "at_us", UINT32_MAX, &ret->at_us, err);
	return r < 0 ? r : field_u32(j, what, "weight", UINT32_MAX, &ret->weight, err);
}

static size_t order_paths(struct str *paths, size_t n)
{
	size_t out = 0;

	qsort(paths, n, sizeof(*paths), compare_paths);
	for (size_t i = 0; i < n; i++) {
		if (out == 0 || !str_eq(paths[out - 1], paths[i]))
			paths[out++] = paths[i];
	}
	return out;
}

static int read_uses(const struct json *j, struct arena *a, struct profile *out, struct err *err)
{
	const struct json *list;
	struct profile_use *uses;
	struct str *paths;
	auto_free struct str *given = NULL;
	size_t n, i = 0;
	int r = field_list(j, "uses", PROFILE_USES_MAX, &list, &n, err);

	if (r < 0)
		return r;
	given = reallocarray(NULL, n + 1, sizeof(*given));
	paths = arena_alloc(a, (n + 1) * sizeof(*paths));
	uses = arena_alloc(a, (n + 1) * sizeof(*uses));
	if (!given || !paths || !uses)
		return err_set(err, -ENOMEM, "no memory for a profile");
	for (const struct json *m = list->first; m && r == 0; m = m->next, i++)
		r = read_use(m, i, &given[i], &uses[i], err);
	if (r < 0)
		return r;
	memcpy(paths, given, n * sizeof(*paths));
	*out = (struct profile){.paths = paths, .uses = uses, .uses_n = n};
	out->paths_n = order_paths(paths, n);
	for (i = 0; i < n; i++) {
		const struct str *at =
			bsearch(&given[i], paths, out->paths_n, sizeof(*at), compare_paths);

		require(at);
		uses[i].path = (uint32_t)(at - paths);
	}
	qsort(uses, n, sizeof(*uses), profile_use_order);
	return 0;
}

static int read_head(const struct json *j, struct profile *out, struct err *err)
{
	const char *what = "profile";
	uint64_t last = 0;
	int r = field_text(j, what, "repository", &out->repository, err);

	if (r == 0)
		r = field_text(j, what, "executable", &out->executable, err);
	if (r == 0)
		r = field_u32(j, what, "starts", UINT32_MAX, &out->starts, err);
	if (r == 0)
		r = field_u32(j, what, "whole", UINT32_MAX, &out->whole, err);
	if (r == 0)
		r = field_u32(j, what, "span_us", UINT32_MAX, &out->span_us, err);
	if (r == 0)
		r = field_uint(j, what, "last_ns", INT64_MAX, &last, err);
	if (r == 0)
		out->last_ns = (int64_t)last;
	return r;
}

int profile_from_json(struct str document, struct arena *a, struct profile *ret, struct err *err)
{
	struct profile out;
	struct json *j;
	int r;

	if (document.len > PROFILE_JSON_MAX)
		return err_set(err, -EINVAL, "larger than a profile may be");
	r = json_tree(document, a, &j, err);
	if (r == 0)
		r = field_version(j, PROFILE_JSON_VERSION, err);
	if (r == 0)
		r = read_uses(j, a, &out, err);
	if (r == 0)
		r = read_head(j, &out, err);
	if (r == 0)
		r = profile_check(&out, err);
	if (r == 0)
		*ret = out;
	return r;
}
