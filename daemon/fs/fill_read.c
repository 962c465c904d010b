// SPDX-License-Identifier: Apache-2.0
/* Reads of objects. Owns the buffers. Loop thread. */
#include "fs/fill_read.h"

#include <stdlib.h>
#include <sys/uio.h>

#include "base/limits.h"

#include "base/banned.h"

void fill_reader_init(struct fill_reader *r, struct objects *objects, struct fetcher *fetcher)
{
	*r = (struct fill_reader){.objects = objects, .fetcher = fetcher};
	list_init(&r->idle);
	waitq_init(&r->room);
}

void fill_reader_fini(struct fill_reader *r)
{
	struct list *l;

	require(r->buffers == r->idle_n);
	while ((l = list_pop(&r->idle)))
		free(l);
}

/* --- buffers ---------------------------------------------------------------------------------- */

/* NULL: all are in use, or no memory (then others will come back). */
static void *buffer_try(struct fill_reader *r)
{
	struct list *l = list_pop(&r->idle);
	void *p;

	if (l) {
		r->idle_n--;
		return l;
	}
	if (r->buffers >= FILL_BUFFERS_MAX)
		return NULL;
	p = malloc(FILL_READ_MAX);
	if (p)
		r->buffers++;
	return p;
}

may_suspend static int buffer_get(struct fill_reader *r, void **ret)
{
	void *p;
	int res;

	while (!(p = buffer_try(r))) {
		if (!r->buffers)
			return -ENOMEM;
		res = waitq_wait(&r->room);
		if (res < 0)
			return res;
	}
	*ret = p;
	return 0;
}

void fill_buffer_put(struct fill_reader *r, void *buf)
{
	if (r->idle_n < FILL_BUFFERS_IDLE) {
		list_push_front(&r->idle, buf);
		r->idle_n++;
	} else {
		free(buf);
		r->buffers--;
	}
	waitq_wake_one(&r->room);
}

/* --- objects ---------------------------------------------------------------------------------- */

may_suspend int fill_object_get(struct fill_reader *r, uint64_t number, struct object **ret)
{
	int res;

	while ((res = objects_get(r->objects, number, ret, NULL)) == -EAGAIN) {
		res = task_sleep_ms(FILL_RETRY_MS);
		if (res < 0)
			return res;
	}
	return res;
}

int fill_read_now(struct fill_reader *r, struct object *obj, uint64_t off, size_t len,
		  void **ret_buf)
{
	struct iovec iov = {.iov_len = len};

	if (obj->damaged)
		return -EIO;
	fetch_follow(r->fetcher, obj, off);
	if (!fetch_present(r->fetcher, obj, off, len))
		return -EAGAIN;
	iov.iov_base = buffer_try(r);
	if (!iov.iov_base)
		return -EAGAIN;
	if (preadv2(obj->fd, &iov, 1, (off_t)off, RWF_NOWAIT) != (ssize_t)len) {
		fill_buffer_put(r, iov.iov_base);
		return -EAGAIN;
	}
	*ret_buf = iov.iov_base;
	return 0;
}

may_suspend static int need(struct fill_reader *r, struct object *obj, uint64_t off, size_t len)
{
	int res;

	while ((res = fetch_need(r->fetcher, obj, off, len, NULL)) == -EAGAIN) {
		res = task_sleep_ms(FILL_RETRY_MS);
		if (res < 0)
			return res;
	}
	return res;
}

may_suspend static int try_read(struct fill_reader *r, struct object *obj, uint64_t off, size_t len,
				void **ret_buf)
{
	void *buf;
	int res = need(r, obj, off, len);

	if (res < 0)
		return res;
	res = buffer_get(r, &buf);
	if (res < 0)
		return res;
	res = fetch_copy(r->fetcher, obj, off, buf, len);
	if (res < 0)
		fill_buffer_put(r, buf);
	else
		*ret_buf = buf;
	return res;
}

may_suspend int fill_read(struct fill_reader *r, struct object *obj, uint64_t off, size_t len,
			  void **ret_buf)
{
	int res = -EAGAIN;

	fetch_follow(r->fetcher, obj, off);
	/* What was in memory only may have gone while it waited for a buffer. */
	for (unsigned n = 0; n < FILL_READ_TRIES && res == -EAGAIN; n++)
		res = try_read(r, obj, off, len, ret_buf);
	return res == -EAGAIN ? -EIO : res;
}
