// SPDX-License-Identifier: Apache-2.0
/* Decompression of any bytes: no more comes out than was asked for. First bytes: kind, skip, len.
 */
#include <stddef.h>
#include <stdint.h>

#include "image/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int count(void *arg, const void *data, size_t n)
{
	volatile uint8_t last = n ? ((const uint8_t *)data)[n - 1] : 0;

	(void)last;
	*(uint64_t *)arg += n;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	uint64_t got = 0, len;
	struct str in;
	int r;

	if (size < 3)
		return 0;
	in = (struct str){(const char *)data + 3, size - 3};
	len = data[2] * 16u;
	r = codec_range(data[0] % 3, in, data[1], len, count, &got, &err);
	require(r == 0 ? got == len : got <= len && err.text[0]);
	got = 0;
	r = codec_whole(data[0] % 3, in, len * 16, data[0] & 4, count, &got, &err);
	require(got <= len * 16 && (r == 0 || err.text[0]));
	return 0;
}
