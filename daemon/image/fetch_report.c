// SPDX-License-Identifier: Apache-2.0
/*
 * The log line of a read that failed: which content, of which layer and image, by which path. Names
 * in it come from images and registries. Loop thread, but for path_job().
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/event.h"
#include "base/limits.h"
#include "base/log.h"
#include "image/fetch_impl.h"

#include "base/banned.h"

#define VALUE_MAX 520 /* bytes of a value with its quotes: all of them fit into one line */

struct path_job {
	int fd;
	uint32_t object; /* number in the index */
	char path[INDEX_PATH_MAX + 1];
};

static int path_job(void *arg)
{
	struct path_job *j = arg;

	return index_read_path(j->fd, j->object, j->path, NULL);
}

/* As the layer says; obj may be in it by several names. */
may_suspend static int path_find(struct fetcher *f, const struct object *obj, struct layer *l,
				 struct path_job *j)
{
	uint32_t i = 0;
	int fd, r;

	while (i < obj->sources_n && obj->sources[i].layer != l->id)
		i++;
	if (i == obj->sources_n || f->paths == FETCH_PATHS_MAX)
		return -ENOENT;
	fd = layer_fd(f->layers, l, NULL);
	if (fd < 0)
		return fd;
	j->object = obj->sources[i].index;
	j->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (j->fd < 0)
		return -errno;
	f->paths++;
	r = work_run(f->threads, path_job, j);
	f->paths--;
	close(j->fd);
	return r;
}

may_suspend void report_failed_read(struct fetcher *f, const struct failed_read *r,
				    const char *error)
{
	uint32_t id = r->layer || !r->obj->sources_n ? r->layer : r->obj->sources[0].layer;
	struct layer *l = layers_get(f->layers, id);
	char blob[DIGEST_TEXT_SIZE] = "?", path[VALUE_MAX], why[VALUE_MAX], chunk[16] = "?";
	char ref[256] = "?";
	struct path_job job = {.path = "?"};

	if (l) {
		digest_text(&l->blob, blob);
		if (l->refs_n)
			snprintf(ref, sizeof(ref), "%s", l->refs[0]);
		if (path_find(f, r->obj, l, &job) < 0)
			snprintf(job.path, sizeof(job.path), "?");
	}
	if (r->chunk != INDEX_NONE)
		snprintf(chunk, sizeof(chunk), "%u", r->chunk);
	log_error("read failed object=%" PRIu64 " chunk=%s offset=%" PRIu64 " layer=%s ref=%s "
		  "path=%s error=%s",
		  r->obj->number, chunk, r->off, blob, ref,
		  str_quoted(str_of(job.path), path, sizeof(path)),
		  str_quoted(str_of(error), why, sizeof(why)));
	event_emit("read-failed",
		   (struct event_field[]){{"image", str_of(ref)},
					  {"layer", str_of(blob)},
					  {"path", str_of(job.path)},
					  {"chunk", str_of(chunk)},
					  {"cause", str_of(error)}},
		   5);
}
