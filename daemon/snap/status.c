// SPDX-License-Identifier: Apache-2.0
/* What is told of the whole tree: counts, mounted runs, where files are. Changes nothing. Loop
 * thread. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "loop/loop.h"
#include "snap/tree.h"

#include "base/banned.h"

#define TRASH_LOOK_MS 100

static bool run_mounted(const struct snap *sn)
{
	return sn->run && sn->run->state == RUN_MOUNTED;
}

void snaps_stats(const struct snaps *s, struct snaps_stats *ret)
{
	*ret = (struct snaps_stats){.lazy = s->lazy_n, .runs = s->runs_n};
	memcpy(ret->kinds, s->kinds, sizeof(ret->kinds));
}

static int run_tell(const struct snap *top, struct arena *a, struct snaps_run *ret)
{
	size_t n = 0;

	for (const struct snap *p = top; p && p->layer; p = p->parent)
		n++;
	*ret = (struct snaps_run){.id = top->id, .users = top->run->users, .layers_n = n};
	ret->top = (struct str){arena_strndup(a, snap_name(top).p, snap_name(top).len),
				snap_name(top).len};
	ret->layers = arena_alloc(a, (n + 1) * sizeof(*ret->layers));
	if (!ret->top.p || !ret->layers)
		return -ENOMEM;
	n = 0;
	for (const struct snap *p = top; p && p->layer; p = p->parent)
		ret->layers[n++] = p->layer;
	return 0;
}

int snaps_runs(const struct snaps *s, struct arena *a, struct snaps_run *ret, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < s->map.size && n < max; i++) {
		for (struct map_node *m = s->map.slots[i]; m && n < max; m = m->next) {
			const struct snap *sn = container_of(m, struct snap, node);

			if (run_mounted(sn) && run_tell(sn, a, &ret[n++]) < 0)
				return -ENOMEM;
		}
	}
	return (int)n;
}

int snaps_chain(struct snaps *s, struct str name, struct arena *a, struct snaps_link *ret,
		size_t max, struct err *err)
{
	const struct snap *sn = snap_find(s, name);
	size_t n = 0;

	if (!sn)
		return snap_not_found(name, err);
	for (; sn && n < max; sn = sn->parent) {
		struct str is = snap_name(sn);

		ret[n++] = (struct snaps_link){.name = {arena_strndup(a, is.p, is.len), is.len},
					       .id = sn->id,
					       .layer = sn->layer,
					       .has_dir = snap_has_dir(sn),
					       .mounted = run_mounted(sn)};
		if (!ret[n - 1].name.p)
			return err_set(err, -ENOMEM, "out of memory");
	}
	return (int)n;
}

int snaps_find_ref(struct snaps *s, struct str ref, struct str parent, struct arena *a,
		   struct str *ret)
{
	const struct snap *p = parent.len ? snap_find(s, parent) : NULL;
	const struct snap *sn = parent.len && !p ? NULL : ref_find_any(s, ref, p);

	if (!sn)
		return -ENOENT;
	*ret = (struct str){arena_strndup(a, snap_name(sn).p, snap_name(sn).len),
			    snap_name(sn).len};
	return ret->p ? 0 : -ENOMEM;
}

void snaps_drain(struct snaps *s, bool on)
{
	s->draining = on;
}

bool snaps_draining(const struct snaps *s)
{
	return s->draining;
}

static int count_job(void *arg)
{
	const struct snaps *s = arg;
	auto_closedir DIR *d = NULL;
	struct dirent *e;
	int fd = openat(s->trash_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;

	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while ((e = readdir(d)) && n < INT32_MAX)
		n += e->d_name[0] != '.';
	return n;
}

may_suspend int snaps_empty_trash(struct snaps *s, unsigned timeout_ms, uint64_t *ret_left)
{
	uint64_t until = loop_now_ns(s->loop) + timeout_ms * 1000000ull;
	int r = 0, n;

	*ret_left = 0;
	snaps_cleanup(s);
	while ((n = work_run(s->fs, count_job, s)) > 0 && r == 0)
		r = loop_now_ns(s->loop) >= until ? -ETIMEDOUT : task_sleep_ms(TRASH_LOOK_MS);
	*ret_left = n > 0 ? (uint64_t)n : 0;
	return n < 0 ? n : r;
}
