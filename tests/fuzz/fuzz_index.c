// SPDX-License-Identifier: Apache-2.0
/*
 * Index files of any bytes: loaded or refused, and what is loaded can be walked. The harness puts
 * the checksums and keys right, so that every other number is looked at.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"
#include "image/index_rec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fd = -1;

static void seal_objects(uint8_t *file, const struct index_head *h, const struct index_layout *l)
{
	struct rec_object *objects = (void *)(file + l->objects);
	struct rec_chunk *recs = (void *)(file + l->chunks);
	struct index_chunk *chunks = calloc((size_t)h->chunks_n + 1, sizeof(*chunks));

	require(chunks);
	for (uint32_t i = 0; i < h->chunks_n; i++) {
		recs[i].check = htole32(index_check(&recs[i], offsetof(struct rec_chunk, check)));
		index_unpack_chunk(&recs[i], &chunks[i]);
	}
	for (uint32_t i = 0; i < h->objects_n; i++) {
		struct index_object o;

		index_unpack_object(&objects[i], &o);
		if (o.chunk < h->chunks_n && o.chunks_n <= h->chunks_n - o.chunk)
			index_key(&o.digest, o.size, chunks + o.chunk, o.chunks_n, &objects[i].key);
		objects[i].check =
			htole32(index_check(&objects[i], offsetof(struct rec_object, check)));
	}
	free(chunks);
}

static void seal(uint8_t *file, size_t size)
{
	struct index_head *h = (void *)file, host;
	struct index_layout l;

	if (size < sizeof(*h))
		return;
	host = *h;
	index_head_swap(&host);
	l = index_layout(&host);
	if (host.entries_n < size && host.xattrs_n < size && host.objects_n < size &&
	    host.chunks_n < size && l.strings <= size && l.end == size)
		seal_objects(file, &host, &l);
	sha256(file + sizeof(*h), size - sizeof(*h), &h->body);
	index_head_digest(h, &h->head);
}

static void walk(struct index *ix)
{
	const struct index_info *info = index_info(ix);
	struct index_entry e, t;
	struct index_xattr x;
	struct index_object o;
	struct index_chunk c;

	for (uint32_t i = 0; i < info->entries_n; i++) {
		index_entry(ix, i, &e);
		require(index_path_check(e.path) == 0);
		if (e.type == INDEX_LINK) {
			index_entry(ix, e.target, &t);
			require(t.names > 1 && t.type != INDEX_LINK && t.type != INDEX_DIR);
		}
		if (e.object != INDEX_NONE)
			index_object(ix, e.object, &o);
		for (uint32_t k = 0; k < e.xattrs_n; k++) {
			index_xattr(ix, e.xattrs + k, &x);
			require(memchr(x.name.p, 0, x.name.len) == NULL);
		}
		require(e.link.len == 0 || memchr(e.link.p, 0, e.link.len) == NULL);
	}
	for (uint32_t i = 0; i < info->objects_n; i++) {
		uint64_t at = 0;

		index_object(ix, i, &o);
		for (uint32_t k = 0; k < o.chunks_n; k++) {
			index_chunk(ix, o.chunk + k, &c);
			require(c.object == i && c.file_off == at &&
				c.blob_off + c.blob_len <= info->blob_size);
			at += c.size;
		}
		require(at == o.size);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *file = malloc(size + 1);
	struct err err = ERR_INIT;
	struct index_chunk c[3];
	struct index_object o;
	struct index *ix = NULL;
	char path[INDEX_PATH_MAX + 1];

	require(file);
	if (fd < 0)
		fd = memfd_create("index", 0);
	if (size)
		memcpy(file, data, size);
	seal(file, size);
	require(ftruncate(fd, 0) == 0 && pwrite(fd, file, size, 0) == (ssize_t)size);
	if (index_load(fd, &ix, &err) == 0)
		walk(ix);
	else
		require(err.text[0]);
	index_free(ix);
	if (index_read_object(fd, size ? data[0] % 4 : 0, &o, &err) == 0)
		require(o.chunks_n > 0);
	if (index_read_chunks(fd, 0, 3, c, &err) == 0)
		require(c[2].size > 0);
	if (index_read_path(fd, size ? data[0] % 4 : 0, path, &err) == 0)
		require(strlen(path) <= INDEX_PATH_MAX);
	free(file);
	return 0;
}
