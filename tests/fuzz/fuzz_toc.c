// SPDX-License-Identifier: Apache-2.0
/*
 * Tables of contents. First byte 0..2: what follows is the JSON of a table of that kind, in a blob
 * that the harness writes, with the right digests. 3: the end of a blob, or a position. What comes
 * out must load.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../unit/layer_writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fd = -1;

static void walk(struct index *ix)
{
	const struct index_info *info = index_info(ix);
	volatile uint64_t sum = 0;

	for (uint32_t i = 0; i < info->entries_n; i++) {
		struct index_entry e;

		index_entry(ix, i, &e);
		for (size_t k = 0; k < e.path.len; k++)
			sum += (uint8_t)e.path.p[k];
		for (uint32_t k = 0; k < e.xattrs_n; k++) {
			struct index_xattr x;

			index_xattr(ix, e.xattrs + k, &x);
			sum += x.name.len + x.value.len;
		}
	}
}

static void read_table(const struct toc_hint *h, const struct toc_place *p, struct str bytes,
		       uint64_t blob_size)
{
	struct err err = ERR_INIT;
	struct index *ix = NULL;

	if (fd < 0)
		fd = memfd_create("index", 0);
	if (toc_to_index(h, p, bytes, blob_size, fd, &err) < 0) {
		require(err.text[0]);
		return;
	}
	require(index_load(fd, &ix, &err) == 0);
	walk(ix);
	index_free(ix);
}

static void table(enum toc_kind kind, struct str json)
{
	static const char payload[65536];
	struct written w = {0};
	struct toc_hint h;

	require(buf_append(&w.blob, payload, sizeof(payload)) == 0);
	write_toc(&w, kind, json);
	h = written_hint(&w);
	read_table(&h, &w.place, written_toc(&w), w.blob.len);
	buf_fini(&w.blob);
}

static void place(struct str in)
{
	static const char *const types[] = {"a.tar+gzip", "a.tar+zstd", ""};
	struct err err = ERR_INIT;
	struct toc_place p;
	struct toc_hint h = {.position = in};
	uint64_t blob_size;

	if (in.len < 10)
		return;
	h.media_type = str_of(types[(uint8_t)in.p[0] % 3]);
	h.has_checksum = in.p[1] & 1;
	h.has_toc_digest = in.p[1] & 2;
	memcpy(&blob_size, in.p + 2, sizeof(blob_size));
	in.p += 10;
	in.len -= 10;
	h.position = in;
	if (toc_place_from_hint(&h, &p, &err) == 0)
		require(p.payload_end < p.off && p.off + p.len > p.off);
	h.position = STR("");
	if (toc_place_from_footer(&h, in, blob_size, &p, &err) == 0)
		require(p.payload_end <= p.off && p.off + p.len <= blob_size);
	/* The bytes themselves as a table: of this kind alone they can be believed as they are. */
	sha256(in.p, in.len, &h.checksum);
	h.media_type = STR("a.tar+zstd");
	h.has_checksum = true;
	h.has_toc_digest = false;
	p = (struct toc_place){TOC_CHUNKED_CONTAINERS, 100, in.len, 0, 92};
	read_table(&h, &p, in, 100 + in.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = {(const char *)data + 1, size - 1};

	if (size < 1)
		return 0;
	if (data[0] % 4 < 3)
		table(TOC_ESTARGZ + data[0] % 4, rest);
	else
		place(rest);
	return 0;
}
