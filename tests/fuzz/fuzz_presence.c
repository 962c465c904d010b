// SPDX-License-Identifier: Apache-2.0
/* Object records and the presence of partial files: any bytes are decoded or refused. What is
 * decoded is encoded to the same bytes, and presence never shows a chunk that there is not. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "store/objects_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void record(struct str in)
{
	struct object_record rec;
	struct err err = ERR_INIT;
	char head[OBJECT_RECORD_HEAD], source[OBJECT_SOURCE_SIZE];

	if (object_record_decode(in, &rec, &err) < 0) {
		require(err.text[0]);
		return;
	}
	object_record_encode(&rec, head);
	require(memcmp(head, in.p, sizeof(head)) == 0);
	require(sizeof(head) + (size_t)rec.sources_n * sizeof(source) == in.len);
	for (uint32_t i = 0; i < rec.sources_n; i++) {
		object_source_encode(object_record_source(&rec, i), source);
		require(memcmp(source, rec.sources + i * sizeof(source), sizeof(source)) == 0);
	}
}

/* u32 chunks, then the end of a file. */
static void presence(struct str in)
{
	uint32_t chunks, here, bits = 0;
	struct str head, bitmap;

	if (in.len < sizeof(chunks) + PRESENCE_HEAD)
		return;
	memcpy(&chunks, in.p, sizeof(chunks));
	chunks = chunks % 4096 + 1;
	head = (struct str){in.p + sizeof(chunks), PRESENCE_HEAD};
	bitmap.p = head.p + head.len;
	bitmap.len = in.len - sizeof(chunks) - PRESENCE_HEAD;
	if (presence_check(head, bitmap, 1, 100000, chunks, &here) < 0)
		return;
	require(bitmap.len == presence_size(chunks));
	for (uint32_t i = 0; i < bitmap.len * 8; i++) {
		bool bit = (uint8_t)bitmap.p[i / 8] >> i % 8 & 1;

		require(!bit || i < chunks);
		bits += bit;
	}
	require(bits == here);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Their own memory, so that a byte too far is seen, and not aligned. */
	char *copy = malloc(size + 1);

	require(copy);
	if (size)
		memcpy(copy + 1, data, size);
	record((struct str){copy + 1, size});
	presence((struct str){copy + 1, size});
	free(copy);
	return 0;
}
