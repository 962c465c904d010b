// SPDX-License-Identifier: Apache-2.0
/* Counts the contents of a layer that are here. Owns nothing. */
#include "image/local.h"

#include <fcntl.h>
#include <stdlib.h>

#include "loop/work.h"

#include "base/banned.h"

struct job {
	int fd;
	struct object_entry *entries;
	size_t n;
	struct err *err;
};

static int entries_job(void *arg)
{
	struct job *j = arg;
	auto_index struct index *ix = NULL;
	int r = index_load(j->fd, &ix, j->err);

	if (r < 0)
		return r;
	j->n = index_info(ix)->objects_n;
	j->entries = calloc(j->n + 1, sizeof(*j->entries));
	if (!j->entries)
		return err_set(j->err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < j->n; i++) {
		struct index_object o;

		index_object(ix, (uint32_t)i, &o);
		j->entries[i] = (struct object_entry){.key = o.key,
						      .digest = o.digest,
						      .size = o.size,
						      .index = (uint32_t)i,
						      .chunks_n = o.chunks_n};
	}
	return 0;
}

/* Chunks are of about one size. */
may_suspend static uint64_t part_here(struct objects *objects, const struct object_entry *e)
{
	struct object_info info;
	struct object *obj;
	uint64_t n;

	if (objects_find(objects, &e->key, &info, NULL) < 0 ||
	    objects_get(objects, info.number, &obj, NULL) < 0)
		return 0;
	n = obj->chunks_n ? e->size / obj->chunks_n * obj->chunks_here : 0;
	object_unref(objects, obj);
	return n;
}

may_suspend static int count(struct objects *objects, const struct job *j, struct layer_local *ret,
			     struct err *err)
{
	auto_free uint8_t *states = calloc(j->n + 1, 1);
	int r = states ? objects_state(objects, j->entries, j->n, states, err)
		       : err_set(err, -ENOMEM, "out of memory");

	for (size_t i = 0; i < j->n && r == 0; i++) {
		const struct object_entry *e = &j->entries[i];

		ret->files++;
		ret->bytes += e->size;
		ret->files_here += states[i] == OBJECT_COMPLETE;
		if (states[i] == OBJECT_COMPLETE)
			ret->bytes_here += e->size;
		else if (states[i] == OBJECT_PARTIAL)
			ret->bytes_here += part_here(objects, e);
	}
	return r;
}

may_suspend int layer_local(struct layers *ls, struct objects *objects, struct work *threads,
			    struct layer *l, struct layer_local *ret, struct err *err)
{
	struct job j = {.err = err};
	int r = layer_fd(ls, l, err);

	*ret = (struct layer_local){0};
	if (r < 0)
		return r;
	j.fd = fcntl(r, F_DUPFD_CLOEXEC, 0);
	if (j.fd < 0)
		return err_errno(err, -errno, "index of a layer");
	r = work_run(threads, entries_job, &j);
	close(j.fd);
	if (r == 0)
		r = count(objects, &j, ret, err);
	free(j.entries);
	return r;
}
