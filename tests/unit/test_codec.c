// SPDX-License-Identifier: Apache-2.0
/* Decompression: ranges, several members and frames, limits, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/limits.h"
#include "image/codec.h"
#include "layer_writer.h"

#define SIZE 300000

static uint8_t plain[SIZE];
static struct buf gz, zst; /* plain in two members or frames, cut at 100000 */

static int gather(void *arg, const void *data, size_t n)
{
	return buf_append(arg, data, n);
}

static int setup(void **state)
{
	static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'};
	uint32_t x = 1;

	(void)state;
	for (size_t i = 0; i < SIZE; i++) {
		x = x * 1103515245 + 12345;
		plain[i] = i % 3 ? (uint8_t)(x >> 16) : 'a';
	}
	write_gzip(&gz, plain, 100000);
	write_gzip(&gz, plain + 100000, SIZE - 100000);
	write_zstd(&zst, plain, 100000);
	assert_int_equal(buf_append(&zst, skippable, sizeof(skippable)), 0);
	write_zstd(&zst, plain + 100000, SIZE - 100000);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	buf_fini(&gz);
	buf_fini(&zst);
	return 0;
}

static struct str all(const struct buf *b)
{
	return (struct str){(const char *)b->data, b->len};
}

static void range(enum codec codec, struct str in, uint64_t skip, uint64_t len)
{
	auto_buf struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	if (codec_range(codec, in, skip, len, gather, &out, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(out.len, len);
	if (len)
		assert_memory_equal(out.data, plain + skip, len);
}

static void test_ranges(void **state)
{
	static const uint64_t at[] = {0, 1, 65535, 65536, 99999, 100000, 100001, 299999, 300000};
	struct str none = {(const char *)plain, SIZE};

	(void)state;
	for (size_t i = 0; i < array_size(at); i++) {
		for (size_t k = i; k < array_size(at); k++) {
			range(CODEC_GZIP, all(&gz), at[i], at[k] - at[i]);
			range(CODEC_ZSTD, all(&zst), at[i], at[k] - at[i]);
			range(CODEC_NONE, none, at[i], at[k] - at[i]);
		}
	}
}

/* Neither trailer nor what follows it need be there. */
static void test_cut_input(void **state)
{
	struct str g = all(&gz), z = all(&zst);
	struct buf one = BUF_INIT;

	(void)state;
	write_gzip(&one, plain, 1000);
	g = (struct str){(char *)one.data, one.len - 8};
	range(CODEC_GZIP, g, 0, 1000);
	buf_fini(&one);
	write_zstd(&one, plain, 1000);
	range(CODEC_ZSTD, (struct str){(char *)one.data, one.len - 4}, 0, 1000);
	buf_fini(&one);
	/* Garbage behind what is wanted is not looked at. */
	write_zstd(&one, plain, 1000);
	assert_int_equal(buf_append(&one, "garbage", 7), 0);
	range(CODEC_ZSTD, all(&one), 0, 1000);
	buf_fini(&one);
	(void)z;
}

static int bad(enum codec codec, struct str in, uint64_t skip, uint64_t len)
{
	struct err err = ERR_INIT;
	auto_buf struct buf out = BUF_INIT;
	int r = codec_range(codec, in, skip, len, gather, &out, &err);

	assert_true(r == 0 || err.text[0]);
	assert_true(out.len <= len);
	return r;
}

static void test_ends_too_early(void **state)
{
	(void)state;
	assert_int_equal(bad(CODEC_GZIP, all(&gz), SIZE, 1), -EBADMSG);
	assert_int_equal(bad(CODEC_ZSTD, all(&zst), SIZE, 1), -EBADMSG);
	assert_int_equal(bad(CODEC_NONE, all(&gz), gz.len, 1), -EBADMSG);
	assert_int_equal(bad(CODEC_GZIP, all(&gz), UINT64_MAX, UINT64_MAX), -EBADMSG);
	assert_int_equal(bad(CODEC_GZIP, (struct str){(char *)gz.data, 1000}, 0, 100000), -EBADMSG);
	assert_int_equal(bad(CODEC_ZSTD, (struct str){(char *)zst.data, 1000}, 0, 100000),
			 -EBADMSG);
	assert_int_equal(bad(CODEC_GZIP, STR(""), 0, 1), -EBADMSG);
	assert_int_equal(bad(CODEC_ZSTD, STR(""), 0, 1), -EBADMSG);
	assert_int_equal(bad(CODEC_GZIP, all(&zst), 0, 1), -EBADMSG);
	assert_int_equal(bad(CODEC_ZSTD, all(&gz), 0, 1), -EBADMSG);
	assert_int_equal(bad(99, all(&gz), 0, 1), -EINVAL);
	assert_int_equal(bad(CODEC_GZIP, STR(""), 0, 0), 0);
}

static int whole(enum codec codec, struct str in, uint64_t max, bool first, size_t expect)
{
	auto_buf struct buf out = BUF_INIT;
	struct err err = ERR_INIT;
	int r = codec_whole(codec, in, max, first, gather, &out, &err);

	assert_true(r == 0 ? out.len == expect && memcmp(out.data, plain, expect) == 0
			   : err.text[0] != 0);
	return r;
}

static void test_whole(void **state)
{
	(void)state;
	assert_int_equal(whole(CODEC_GZIP, all(&gz), SIZE, false, SIZE), 0);
	assert_int_equal(whole(CODEC_GZIP, all(&gz), SIZE, true, 100000), 0);
	assert_int_equal(whole(CODEC_ZSTD, all(&zst), SIZE, false, SIZE), 0);
	assert_int_equal(whole(CODEC_GZIP, all(&gz), SIZE - 1, false, 0), -EFBIG);
	assert_int_equal(whole(CODEC_GZIP, all(&gz), 99999, true, 0), -EFBIG);
	assert_int_equal(whole(CODEC_ZSTD, all(&zst), SIZE - 1, false, 0), -EFBIG);
	for (size_t cut = 1; cut < 20; cut++) {
		struct str g = {(char *)gz.data, gz.len - cut};
		struct str z = {(char *)zst.data, zst.len - cut};

		assert_int_equal(whole(CODEC_GZIP, g, SIZE, false, 0), -EBADMSG);
		assert_int_equal(whole(CODEC_ZSTD, z, SIZE, false, 0), -EBADMSG);
	}
	gz.data[gz.len - 6] ^= 1; /* the checksum */
	assert_int_equal(whole(CODEC_GZIP, all(&gz), SIZE, false, 0), -EBADMSG);
	gz.data[gz.len - 6] ^= 1;
	zst.data[zst.len - 2] ^= 1;
	assert_int_equal(whole(CODEC_ZSTD, all(&zst), SIZE, false, 0), -EBADMSG);
	zst.data[zst.len - 2] ^= 1;
}

static int refuse(void *arg, const void *data, size_t n)
{
	(void)arg;
	(void)data;
	(void)n;
	return -EPERM;
}

static void test_sink_ends_it(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(codec_range(CODEC_GZIP, all(&gz), 0, 1, refuse, NULL, &err), -EPERM);
	assert_int_equal(codec_whole(CODEC_ZSTD, all(&zst), 1, false, refuse, NULL, &err), -EPERM);
}

/* A frame that asks for a window of 2 GiB. */
static void test_window(void **state)
{
	static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0};

	(void)state;
	assert_int_equal(bad(CODEC_ZSTD, (struct str){(const char *)frame, sizeof(frame)}, 0, 1),
			 -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),         cmocka_unit_test(test_cut_input),
		cmocka_unit_test(test_ends_too_early), cmocka_unit_test(test_whole),
		cmocka_unit_test(test_sink_ends_it),   cmocka_unit_test(test_window),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
