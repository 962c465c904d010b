// SPDX-License-Identifier: Apache-2.0
/*
 * A tar becomes a layer in both formats, or is refused with words; what was written is read again
 * by the daemon's code. First byte: threads. Checksums of headers are put right, or nothing would
 * get past them.
 */
#include <stddef.h>
#include <stdint.h>

#include "../unit/convert_check.h"
#include "../unit/tar_writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one(struct str tar, const struct digest *id, const struct convert_options *o)
{
	auto_buf struct buf out = BUF_INIT;
	struct convert_result res;
	struct err err = ERR_INIT;
	int r = convert_blob(tar, id, o, &out, &res, &err);

	if (r == 0)
		index_free(check_layer(buf_str(&out), &res, o->zstd, &err));
	else
		require(err.text[0] && r != -EIO && r != -ENOSPC);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct convert_options o = {.level = 1, .tar_max = CHECK_TAR_MAX / 4};
	auto_buf struct buf tar = BUF_INIT;
	struct digest id;

	if (size < 1 || (size > 2 && (data[1] == 0x1f || data[1] == 0x28 || data[2] == 0x2a)))
		return 0; /* compressed: fuzz_codec */
	o.threads = data[0] % 3 + 1;
	require(buf_append(&tar, data + 1, size - 1) == 0);
	for (size_t at = 0; at + 512 <= tar.len; at += 512) {
		if (memcmp(tar.data + at + 257, "ustar", 5) == 0)
			tar_sum((char *)tar.data + at);
	}
	sha256(tar.data, tar.len, &id);
	one(buf_str(&tar), &id, &o);
	o.zstd = true;
	one(buf_str(&tar), &id, &o);
	return 0;
}
