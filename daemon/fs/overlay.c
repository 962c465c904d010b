// SPDX-License-Identifier: Apache-2.0
/* Overlay and bind mount descriptions. Pure; any thread. */
#include "fs/overlay.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"

#include "base/banned.h"

#define ID_DIGITS_MAX 20

static bool option(struct mount_answer *m, char *text)
{
	require(m->options_n < array_size(m->options));
	m->options[m->options_n++] = text;
	return text != NULL;
}

static int bind(const struct overlay_spec *s, uint64_t id, bool writable, struct arena *a,
		struct mount_answer *m, struct err *err)
{
	m->type = arena_printf(a, "bind");
	m->source = arena_printf(a, "%s/%" PRIu64 "/fs", s->snapshots, id);
	if (!m->type || !m->source || !option(m, arena_printf(a, writable ? "rw" : "ro")) ||
	    !option(m, arena_printf(a, "rbind")))
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static bool is_run(const struct overlay_spec *s, size_t parent)
{
	return s->runs && s->runs[parent];
}

static bool has_runs(const struct overlay_spec *s)
{
	for (size_t i = 0; i < s->parents_n; i++) {
		if (is_run(s, i))
			return true;
	}
	return false;
}

static char *lowerdir(const struct overlay_spec *s, struct arena *a)
{
	size_t one = strlen(s->snapshots) + ID_DIGITS_MAX +
		     sizeof("/"
			    "/fs:");
	size_t size = sizeof("lowerdir=") + s->parents_n * one, n;
	bool data = s->data && has_runs(s);
	char *text;

	if (data)
		size += 2 * strlen(s->root) + sizeof("::/objects::/fill");
	text = arena_alloc(a, size);

	if (!text)
		return NULL;
	n = (size_t)snprintf(text, size, "lowerdir=");
	for (size_t i = 0; i < s->parents_n; i++) {
		if (is_run(s, i))
			n += (size_t)snprintf(text + n, size - n, "%s%s/m/%" PRIu64, i ? ":" : "",
					      s->root, s->parents[i]);
		else
			n += (size_t)snprintf(text + n, size - n, "%s%s/%" PRIu64 "/fs",
					      i ? ":" : "", s->snapshots, s->parents[i]);
	}
	if (data)
		snprintf(text + n, size - n, "::%s/objects::%s/fill", s->root, s->root);
	return text;
}

/*
 * Bytes of the option string that mount(2) gets: near a page of options containerd goes to the
 * lower directories' common directory and names them from there. The kernel would cut a longer
 * string without a word and mount fewer layers (Linux 6.18).
 */
static size_t options_len(const struct overlay_spec *s, const struct mount_answer *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->options_n; i++)
		n += strlen(m->options[i]) + 1;
	n -= 1;
	/* It finds no common directory where "::" is. */
	if (s->data && has_runs(s))
		return n;
	if (n >= MOUNT_OPTIONS_MAX + 1 - 512 && s->parents_n > 1)
		n -= s->parents_n * (strlen(s->snapshots) + 1);
	return n;
}

int overlay_mount(const struct overlay_spec *s, struct arena *a, struct mount_answer *ret,
		  struct err *err)
{
	struct mount_answer m = {0};
	bool ok = true;
	int r = 0;

	if (s->uidmap.len && s->gidmap.len)
		ok = option(&m, arena_printf(a, "uidmap=" STR_FMT, STR_ARG(s->uidmap))) &&
		     option(&m, arena_printf(a, "gidmap=" STR_FMT, STR_ARG(s->gidmap)));
	if (!ok)
		return err_set(err, -ENOMEM, "out of memory");
	if (s->parents_n == 0 || (!s->active && s->parents_n == 1 && !is_run(s, 0))) {
		r = bind(s, s->parents_n ? s->parents[0] : s->id, s->active, a, &m, err);
		if (r == 0)
			*ret = m;
		return r;
	}
	m.type = arena_printf(a, "overlay");
	m.source = arena_printf(a, "overlay");
	if (s->index_off)
		ok = ok && option(&m, arena_printf(a, "index=off"));
	if (s->userxattr)
		ok = ok && option(&m, arena_printf(a, "userxattr"));
	if (s->data && has_runs(s))
		ok = ok && option(&m, arena_printf(a, "redirect_dir=on")) &&
		     option(&m, arena_printf(a, "metacopy=on"));
	if (s->active) {
		ok = ok && option(&m, arena_printf(a, "workdir=%s/%" PRIu64 "/work", s->snapshots,
						   s->id));
		ok = ok &&
		     option(&m, arena_printf(a, "upperdir=%s/%" PRIu64 "/fs", s->snapshots, s->id));
		if (s->volatile_upper)
			ok = ok && option(&m, arena_printf(a, "volatile"));
	}
	ok = ok && option(&m, lowerdir(s, a));
	if (!ok || !m.type || !m.source)
		return err_set(err, -ENOMEM, "out of memory");
	if (options_len(s, &m) > MOUNT_OPTIONS_MAX)
		return err_set(err, -E2BIG, "%zu layers do not fit into a page of mount options",
			       s->parents_n);
	*ret = m;
	return 0;
}
