// SPDX-License-Identifier: Apache-2.0
/*
 * Chunks that the disk does not take, since it is full or broken, for the reads that wait for them
 * and those that follow soon. What was not used longest goes. Owns the bytes. Loop thread.
 */
#include <stdlib.h>

#include "base/limits.h"
#include "image/fetch_impl.h"
#include "loop/io.h"

#include "base/banned.h"

struct kept {
	struct map_node node;
	struct flight_name name;
	struct list link; /* in fetcher.kept_order, the last used at the end */
	uint64_t used_ns;
	uint32_t size;
	uint8_t *bytes;
};

static struct str name_key(const struct flight_name *n)
{
	return (struct str){(const char *)n, sizeof(*n)};
}

static struct kept *find(struct fetcher *f, const struct digest *key, uint32_t chunk)
{
	struct flight_name name = {*key, chunk};
	struct map_node *n = f->kept.count ? map_get(&f->kept, name_key(&name)) : NULL;

	return n ? container_of(n, struct kept, node) : NULL;
}

static void drop(struct fetcher *f, struct kept *k)
{
	map_del(&f->kept, &k->node);
	list_del(&k->link);
	f->kept_bytes -= k->size;
	free(k->bytes);
	free(k);
}

static void use(struct fetcher *f, struct kept *k)
{
	k->used_ns = loop_now_ns(f->loop);
	list_del(&k->link);
	list_push(&f->kept_order, &k->link);
}

void memory_forget_old(struct timer *t)
{
	struct fetcher *f = container_of(t, struct fetcher, kept_timer);
	uint64_t now = loop_now_ns(f->loop);

	while (!list_empty(&f->kept_order)) {
		struct kept *k = container_of(f->kept_order.next, struct kept, link);
		uint64_t due = k->used_ns + FETCH_MEMORY_IDLE_MS * NS_PER_MS;

		if (due > now) {
			timer_set(f->loop, t, due);
			return;
		}
		drop(f, k);
	}
}

int memory_keep(struct fetcher *f, const struct flight_name *name, uint8_t *bytes, uint32_t size)
{
	struct kept *k = find(f, &name->key, name->chunk);

	if (k) {
		free(bytes);
		use(f, k);
		return 0;
	}
	k = size <= FETCH_MEMORY_MAX ? calloc(1, sizeof(*k)) : NULL;
	if (!k) {
		free(bytes);
		return -ENOMEM;
	}
	while (f->kept_bytes > FETCH_MEMORY_MAX - size)
		drop(f, container_of(f->kept_order.next, struct kept, link));
	k->name = *name;
	k->size = size;
	k->bytes = bytes;
	k->node.key = name_key(&k->name);
	map_put(&f->kept, &k->node);
	list_init(&k->link);
	use(f, k);
	f->kept_bytes += size;
	if (!f->kept_timer.slot)
		timer_set(f->loop, &f->kept_timer, k->used_ns + FETCH_MEMORY_IDLE_MS * NS_PER_MS);
	return 0;
}

const uint8_t *memory_get(struct fetcher *f, const struct digest *key, uint32_t chunk)
{
	struct kept *k = find(f, key, chunk);

	if (!k)
		return NULL;
	use(f, k);
	return k->bytes;
}

void memory_drop(struct fetcher *f, const struct digest *key, uint32_t chunk)
{
	struct kept *k = find(f, key, chunk);

	if (k)
		drop(f, k);
}

void memory_fini(struct fetcher *f)
{
	timer_stop(f->loop, &f->kept_timer);
	while (!list_empty(&f->kept_order))
		drop(f, container_of(f->kept_order.next, struct kept, link));
	map_fini(&f->kept);
}

/* --- reading ---------------------------------------------------------------------------------- */

may_suspend static int read_file(const struct object *obj, uint64_t off, char *buf, size_t len)
{
	ssize_t n;

	for (size_t done = 0; done < len; done += (size_t)n) {
		n = io_read(obj->fd, buf + done, len - done, off + done, 0);
		if (n == -EINTR || n == -EAGAIN)
			n = 0;
		else if (n <= 0)
			return n < 0 ? (int)n : -EIO; /* shorter than its content */
	}
	return 0;
}

/* What of it one chunk has. */
may_suspend static int read_chunk(struct fetcher *f, struct object *obj, uint64_t off, char *buf,
				  size_t *len)
{
	struct chunk_found found;
	const uint8_t *bytes;
	uint64_t in;
	int r = chunk_at(f, obj, off, &found, NULL);

	if (r < 0)
		return r;
	in = off - found.c->file_off;
	if (*len > found.c->size - in)
		*len = (size_t)(found.c->size - in);
	if (object_has_chunk(obj, found.chunk))
		return read_file(obj, off, buf, *len);
	bytes = memory_get(f, &obj->key, found.chunk);
	if (!bytes)
		return -EAGAIN;
	memcpy(buf, bytes + in, *len);
	f->stats.bytes_memory += *len;
	return 0;
}

may_suspend int fetch_copy(struct fetcher *f, struct object *obj, uint64_t off, void *buf,
			   size_t len)
{
	if (obj->damaged)
		return -EIO;
	if (fetch_present(f, obj, off, len))
		return read_file(obj, off, buf, len);
	for (size_t done = 0, n; done < len; done += n) {
		int r;

		n = len - done;
		r = read_chunk(f, obj, off + done, (char *)buf + done, &n);
		if (r < 0)
			return r;
	}
	return 0;
}
