// SPDX-License-Identifier: Apache-2.0
/* Stored records: any bytes are decoded or refused, and what is decoded is encoded to the same
 * bytes. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/limits.h"
#include "store/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = {(const char *)data, size};
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;
	struct record rec;
	struct arena a;

	arena_init(&a, MiB(1));
	if (record_decode(in, &a, &rec, &err) == 0) {
		require(record_encode(&rec, &out) == 0);
		/* One of an older version is written as one of this. */
		require(data[0] != SNAPSHOT_RECORD_VERSION ||
			(out.len == size && memcmp(out.data, data, size) == 0));
	} else {
		require(err.text[0]);
	}
	buf_fini(&out);
	arena_fini(&a);
	return 0;
}
