// SPDX-License-Identifier: Apache-2.0
/* The builder's tree: which entries count, what whiteouts hide, where hard links lead. */
#include "base/limits.h"
#include "image/index_build.h"

#include "base/banned.h"

static int cmp_entries(const void *a, const void *b, void *arg)
{
	const struct index_builder *builder = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int c = index_path_cmp(build_path(builder, build_entry(builder, x)),
			       build_path(builder, build_entry(builder, y)));

	return c ? c : (x > y) - (x < y);
}

static int sort(struct index_builder *b, struct err *err)
{
	uint32_t n = build_count(b->entries, struct rec_entry);

	b->order = calloc((size_t)n + 1, sizeof(*b->order));
	if (!b->order)
		return err_set(err, -ENOMEM, "no memory for the index");
	for (uint32_t i = 0; i < n; i++)
		b->order[i] = i;
	qsort_r(b->order, n, sizeof(*b->order), cmp_entries, b);
	b->order_n = n;
	return 0;
}

/* A directory that nothing but a mark is known of: its attributes are those of the one below. */
static void make_opaque_dir(struct rec_entry *e)
{
	*e = (struct rec_entry){
		.path_off = e->path_off,
		.path_len = e->path_len,
		.type = INDEX_DIR,
		.opaque = INDEX_OPAQUE_IMPLIED,
		.mode = 0755,
		.target = INDEX_NONE,
		.object = INDEX_NONE,
	};
}

/* One of the entries order[from..to) that have one path; INDEX_NONE: nothing stays of it. */
static int choose(struct index_builder *b, uint32_t from, uint32_t to, uint32_t *ret,
		  struct err *err)
{
	uint32_t real = INDEX_NONE, hidden = INDEX_NONE, opaque = INDEX_NONE;
	struct rec_entry *e;

	for (uint32_t i = from; i < to; i++) {
		uint8_t type = build_entry(b, b->order[i])->type;

		*(type == INDEX_WHITEOUT ? &hidden
		  : type == TYPE_OPAQUE  ? &opaque
					 : &real) = b->order[i];
	}
	*ret = real != INDEX_NONE ? real : opaque != INDEX_NONE ? opaque : hidden;
	e = build_entry(b, *ret);
	if (opaque != INDEX_NONE && real != INDEX_NONE && e->type != INDEX_DIR)
		return build_error(err, -EINVAL, build_path(b, e), "opaque, but no directory");
	if (e->type == TYPE_OPAQUE)
		make_opaque_dir(e);
	else if (e->type == INDEX_DIR && (hidden != INDEX_NONE || opaque != INDEX_NONE))
		e->opaque = 1;
	if (e->path_len > 0)
		return 0;
	if (e->type != INDEX_DIR)
		return err_set(err, -EINVAL, "the root is no directory");
	if (e->opaque)
		make_opaque_dir(e);
	else
		*ret = INDEX_NONE;
	return 0;
}

/* Entries of one path become one; what is below something must be below a directory. */
static int merge_names(struct index_builder *b, struct err *err)
{
	uint32_t kept = 0;

	for (uint32_t from = 0, to; from < b->order_n; from = to) {
		struct str path = build_path(b, build_entry(b, b->order[from]));
		struct rec_entry *before;
		uint32_t one;
		int r;

		for (to = from + 1; to < b->order_n; to++) {
			if (!str_eq(path, build_path(b, build_entry(b, b->order[to]))))
				break;
		}
		r = choose(b, from, to, &one, err);
		if (r < 0)
			return r;
		if (one == INDEX_NONE)
			continue;
		/* What is below an entry follows it at once. */
		before = kept > 0 ? build_entry(b, b->order[kept - 1]) : NULL;
		if (before && before->type != INDEX_DIR &&
		    index_path_below(path, build_path(b, before))) {
			if (before->type != INDEX_WHITEOUT)
				return build_error(err, -EINVAL, path,
						   "entry below something that is no directory");
			make_opaque_dir(before);
		}
		b->order[kept++] = one;
	}
	b->order_n = kept;
	return 0;
}

/* --- hard links ------------------------------------------------------------------------------- */

static uint32_t find(const struct index_builder *b, struct str path)
{
	uint32_t low = 0, high = b->order_n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		int c = index_path_cmp(build_path(b, build_entry(b, b->order[mid])), path);

		if (c == 0)
			return mid;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return INDEX_NONE;
}

static bool is_target(uint8_t type)
{
	return type == INDEX_REG || type == INDEX_SYMLINK || type == INDEX_CHAR ||
	       type == INDEX_BLOCK || type == INDEX_FIFO;
}

enum link_state { LINK_NEW, LINK_UNDER_WAY, LINK_RESOLVED }; /* in .names of a link */

/* Follows the chain that starts at entry i of the order, once for all links in it. */
static int resolve(struct index_builder *b, uint32_t i, struct err *err)
{
	uint32_t at = i, end;
	struct rec_entry *e = build_entry(b, b->order[i]), *last;

	if (e->type != INDEX_LINK || e->names != LINK_NEW)
		return 0;
	while (e->type == INDEX_LINK && e->names == LINK_NEW) {
		e->names = LINK_UNDER_WAY;
		at = e->target;
		e = build_entry(b, b->order[at]);
	}
	if (e->type == INDEX_LINK && e->names == LINK_UNDER_WAY)
		return build_error(err, -EINVAL, build_path(b, e), "hard links in a circle");
	end = e->type == INDEX_LINK ? e->target : at;
	last = build_entry(b, b->order[end]);
	if (last->type != INDEX_LINK_BELOW && !is_target(last->type))
		return build_error(err, -EINVAL, build_path(b, build_entry(b, b->order[i])),
				   "hard link to a directory or a whiteout");
	for (e = build_entry(b, b->order[i]); e->type == INDEX_LINK && e->names == LINK_UNDER_WAY;
	     e = build_entry(b, b->order[at])) {
		at = e->target;
		e->names = LINK_RESOLVED;
		e->target = end;
		if (last->type == INDEX_LINK_BELOW) {
			e->type = INDEX_LINK_BELOW;
			e->target = INDEX_NONE;
			e->link_off = last->link_off;
			e->link_len = last->link_len;
		}
	}
	return 0;
}

static int resolve_links(struct index_builder *b, struct err *err)
{
	int r = 0;

	for (uint32_t i = 0; i < b->order_n; i++) {
		struct rec_entry *e = build_entry(b, b->order[i]);

		if (e->type != INDEX_LINK)
			continue;
		e->target = find(b, build_string(b, e->link_off, e->link_len));
		if (e->target == INDEX_NONE)
			e->type = INDEX_LINK_BELOW;
	}
	for (uint32_t i = 0; r == 0 && i < b->order_n; i++)
		r = resolve(b, i, err);
	return r;
}

/* Numbers of names, and the fields that a type does not have. */
static void finish(struct index_builder *b)
{
	for (uint32_t i = 0; i < b->order_n; i++) {
		struct rec_entry *e = build_entry(b, b->order[i]);

		e->names = is_target(e->type);
		b->inodes += is_target(e->type) || e->type == INDEX_DIR;
		if (e->type == INDEX_LINK)
			e->link_off = e->link_len = 0;
	}
	for (uint32_t i = 0; i < b->order_n; i++) {
		struct rec_entry *e = build_entry(b, b->order[i]);

		if (e->type == INDEX_LINK)
			build_entry(b, b->order[e->target])->names++;
	}
}

int index_settle(struct index_builder *b, struct err *err)
{
	int r = sort(b, err);

	if (r == 0)
		r = merge_names(b, err);
	for (uint32_t i = 0; r == 0 && i < b->order_n; i++) {
		struct rec_entry *e = build_entry(b, b->order[i]);

		if (e->type == INDEX_CHAR && e->dev_major == 0 && e->dev_minor == 0) {
			e->type = INDEX_WHITEOUT;
			e->xattrs_n = 0;
		}
	}
	if (r == 0)
		r = resolve_links(b, err);
	if (r == 0)
		finish(b);
	return r;
}
