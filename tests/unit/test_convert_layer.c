// SPDX-License-Identifier: Apache-2.0
/* Layers into both formats, read again by the daemon's code; limits, cancelling, any number of
 * threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "convert_check.h"
#include "layer_writer.h"
#include "tar_writer.h"

#include "../../tools/firstlight/convert_codec.h"
#include "../../tools/firstlight/convert_toc.h"

static const struct convert_options options[] = {
	{.zstd = false, .level = 6, .threads = 2, .tar_max = CHECK_TAR_MAX},
	{.zstd = true, .level = 3, .threads = 2, .tar_max = CHECK_TAR_MAX},
};

/* The index of a tar's new layer; NULL where it must fail with that code and these words. */
static struct index *layer(const struct buf *tar, struct str blob, const struct convert_options *o,
			   int code, const char *words)
{
	auto_buf struct buf out = BUF_INIT;
	struct convert_result res;
	struct err err = ERR_INIT;
	struct index *ix = NULL;
	struct digest id;
	int r;

	sha256(tar->data, tar->len, &id);
	r = convert_blob(blob, &id, o, &out, &res, &err);
	if (r != code || !strstr(err.text, words))
		fail_msg("answers %d, \"%s\"", r, err.text);
	if (r == 0) {
		ix = check_layer(buf_str(&out), &res, o->zstd, &err);
		if (!ix)
			fail_msg("cannot be read: %s", err.text);
	}
	return ix;
}

static struct index *layer_of(const struct buf *tar, const struct convert_options *o)
{
	return layer(tar, buf_str(tar), o, 0, "");
}

/* The entry of that path. */
static bool find(const struct index *ix, const char *path, struct index_entry *ret)
{
	for (uint32_t i = 0; i < index_info(ix)->entries_n; i++) {
		index_entry(ix, i, ret);
		if (str_eq(ret->path, str_of(path)))
			return true;
	}
	return false;
}

static void fill(uint8_t *to, size_t n)
{
	uint32_t x = 1;

	for (size_t i = 0; i < n; i++) {
		x = x * 1103515245 + 12345;
		to[i] = i % 4 ? 'a' : (uint8_t)(x >> 16);
	}
}

static void every_kind(void **state)
{
	static const char cap[] = "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
	struct buf tar = BUF_INIT, pax = BUF_INIT;
	size_t n = (9u << 20) + 3;
	uint8_t *large = malloc(n);

	(void)state;
	fill(large, n);
	tar_head(&tar, '5', "dir/", "", 0);
	tar_file(&tar, "dir/large", large, n);
	tar_head(&tar, '1', "early", "dir/\"quotes\\\x7f", 0);
	tar_record(&pax, "SCHILY.xattr.security.capability", cap, 20);
	tar_pax(&tar, &pax);
	tar_file(&tar, "dir/\"quotes\\\x7f", "hello", 5);
	tar_head(&tar, '2', "link", "../x", 0);
	tar_head(&tar, '3', "char", "", 0);
	tar_head(&tar, '4', "block", "", 0);
	tar_head(&tar, '6', "fifo", "", 0);
	tar_file(&tar, "dir/.wh.gone", "", 0);
	tar_file(&tar, "dir/.wh..wh..opq", "", 0);
	tar_file(&tar, "empty", "", 0);
	tar_end(&tar);
	for (int i = 0; i < 2; i++) {
		struct index *ix = layer_of(&tar, &options[i]);
		struct index_entry e;
		struct index_xattr x;
		struct index_object o;

		assert_true(find(ix, "dir", &e) && e.type == INDEX_DIR && e.opaque &&
			    e.mode == 0755);
		assert_true(find(ix, "dir/large", &e) && e.type == INDEX_REG);
		index_object(ix, e.object, &o);
		assert_int_equal(o.size, n);
		assert_int_equal(o.chunks_n, options[i].zstd ? 10 : 3);
		assert_true(find(ix, "dir/\"quotes\\\x7f", &e) && e.names == 2 && e.xattrs_n == 1);
		index_xattr(ix, e.xattrs, &x);
		assert_true(str_eq(x.name, STR("security.capability")) && x.value.len == 20);
		assert_memory_equal(x.value.p, cap, 20);
		assert_true(find(ix, "early", &e) && e.type == INDEX_LINK);
		assert_true(find(ix, "link", &e) && str_eq(e.link, STR("../x")));
		assert_true(find(ix, "char", &e) && e.dev_major == 7 && e.dev_minor == 9);
		assert_true(find(ix, "block", &e) && e.type == INDEX_BLOCK);
		assert_true(find(ix, "fifo", &e) && e.type == INDEX_FIFO);
		assert_true(find(ix, "dir/gone", &e) && e.type == INDEX_WHITEOUT);
		assert_true(find(ix, "empty", &e) && e.object == INDEX_NONE);
		assert_int_equal(e.mtime, 1700000000);
		index_free(ix);
	}
	free(large);
	buf_fini(&tar);
}

static void little(void **state)
{
	struct buf tar = BUF_INIT;

	(void)state;
	for (int i = 0; i < 2; i++) {
		index_free(layer_of(&tar, &options[i])); /* no byte at all */
		tar_end(&tar);
		index_free(layer_of(&tar, &options[i])); /* no entry */
		tar.len = 0;
		tar_file(&tar, ".wh.a", "", 0); /* only whiteouts */
		tar_file(&tar, "b/.wh.c", "", 0);
		index_free(layer_of(&tar, &options[i])); /* no blocks of zeros */
		tar_end(&tar);
		tar_bytes(&tar, "rubbish", 7);
		index_free(layer_of(&tar, &options[i]));
		tar.len = 0;
	}
	buf_fini(&tar);
}

static void sparse_files(void **state)
{
	struct buf tar = BUF_INIT, pax = BUF_INIT;
	char data[1024] = "2\n1000\n3\n5000000\n2\n";

	(void)state;
	memcpy(data + 512, "abcde", 5);
	tar_file(&tar, "before", "x", 1);
	tar_record(&pax, "GNU.sparse.major", "1", 1);
	tar_record(&pax, "GNU.sparse.minor", "0", 1);
	tar_record(&pax, "GNU.sparse.name", "holes", 5);
	tar_record(&pax, "GNU.sparse.realsize", "6000000", 7);
	tar_record(&pax, "mtime", "1700000002.25", 13);
	tar_record(&pax, "uid", "3000000", 7);
	tar_record(&pax, "SCHILY.xattr.user.a", "\0=\n", 3);
	tar_pax(&tar, &pax);
	tar_file(&tar, "GNUSparseFile.1/holes", data, 517);
	tar_file(&tar, "after", "y", 1);
	tar_end(&tar);
	for (int i = 0; i < 2; i++) {
		struct index *ix = layer_of(&tar, &options[i]);
		struct index_entry e;
		struct index_object o;
		struct index_xattr x;

		assert_true(find(ix, "holes", &e) && e.type == INDEX_REG && e.xattrs_n == 1);
		assert_int_equal(e.mode, 0644);
		assert_int_equal(e.uid, 3000000);
		assert_int_equal(e.mtime, 1700000002);
		assert_int_equal(e.mtime_nsec, 250000000);
		index_xattr(ix, e.xattrs, &x);
		assert_true(str_eq(x.value, (struct str){"\0=\n", 3}));
		index_object(ix, e.object, &o);
		assert_int_equal(o.size, 6000000);
		assert_true(find(ix, "before", &e) && find(ix, "after", &e));
		index_free(ix);
	}
	/* Their size is bounded before anything is written. */
	memset(data, 0, sizeof(data));
	tar.len = 0;
	tar_record(&pax, "GNU.sparse.major", "1", 1);
	tar_record(&pax, "GNU.sparse.minor", "0", 1);
	tar_record(&pax, "GNU.sparse.name", "holes", 5);
	tar_record(&pax, "GNU.sparse.realsize", "9000000000000", 13);
	tar_pax(&tar, &pax);
	memcpy(data, "1\n8999999999999\n1\n", 18);
	tar_file(&tar, "GNUSparseFile.1/holes", data, 513);
	tar_end(&tar);
	layer(&tar, buf_str(&tar), &options[1], -EOPNOTSUPP, "sparse files of more than");
	buf_fini(&tar);
}

/* What it is compressed with does not matter. */
static void sources(void **state)
{
	auto_buf struct buf tar = BUF_INIT, gz = BUF_INIT, zst = BUF_INIT;
	uint8_t large[100000];

	(void)state;
	fill(large, sizeof(large));
	tar_file(&tar, "file", large, sizeof(large));
	tar_end(&tar);
	write_gzip(&gz, tar.data, 5000);
	write_gzip(&gz, tar.data + 5000, tar.len - 5000);
	write_zstd(&zst, tar.data, 5000);
	write_skippable(&zst, "abc", 3);
	write_zstd(&zst, tar.data + 5000, tar.len - 5000);
	for (int i = 0; i < 2; i++) {
		index_free(layer(&tar, buf_str(&gz), &options[i], 0, ""));
		index_free(layer(&tar, buf_str(&zst), &options[i], 0, ""));
		gz.len -= 20;
		layer(&tar, buf_str(&gz), &options[i], -EBADMSG, "cut short");
		gz.len += 20;
		zst.len -= 20;
		layer(&tar, buf_str(&zst), &options[i], -EBADMSG, "cut short");
		zst.len += 20;
		layer(&gz, buf_str(&zst), &options[i], -EBADMSG, "diff id");
	}
}

static void same_bytes(void **state)
{
	auto_buf struct buf tar = BUF_INIT;
	uint8_t *large = malloc(3u << 20);
	struct digest id;

	(void)state;
	fill(large, 3u << 20);
	for (int i = 0; i < 40; i++) {
		char name[20];

		snprintf(name, sizeof(name), "file-%d", i);
		tar_file(&tar, name, large + i, i % 10 ? (size_t)i * 100 : 3000000);
	}
	tar_end(&tar);
	sha256(tar.data, tar.len, &id);
	for (int i = 0; i < 2; i++) {
		auto_buf struct buf first = BUF_INIT;

		for (unsigned threads = 1; threads <= 70; threads = threads * 2 + 1) {
			struct convert_options o = options[i];
			auto_buf struct buf out = BUF_INIT;
			struct convert_result res;

			o.threads = threads;
			assert_int_equal(convert_blob(buf_str(&tar), &id, &o, &out, &res, NULL), 0);
			if (!first.len)
				assert_int_equal(buf_append(&first, out.data, out.len), 0);
			assert_int_equal(out.len, first.len);
			assert_memory_equal(out.data, first.data, out.len);
		}
	}
	free(large);
}

static void limits(void **state)
{
	struct convert_options o = options[1];
	auto_buf struct buf tar = BUF_INIT, bomb = BUF_INIT;

	(void)state;
	assert_int_equal(buf_reserve(&tar, 40u << 20), 0);
	memset(tar.data, 0, 40u << 20);
	tar.len = 40u << 20;
	write_zstd(&bomb, tar.data, tar.len);
	o.tar_max = tar.len;
	index_free(layer(&tar, buf_str(&bomb), &o, 0, ""));
	o.tar_max = tar.len - 1;
	layer(&tar, buf_str(&bomb), &o, -EFBIG, "the layer unpacks to more than 41943039 bytes");
	layer(&tar, buf_str(&tar), &o, -EFBIG, "the layer unpacks to more than 41943039 bytes");
	o.tar_max = tar.len;
	o.free_min = 1ull << 60; /* no disk has that */
	layer(&tar, buf_str(&bomb), &o, -ENOSPC, "no room for a layer");
}

static void *stop_soon(void *arg)
{
	atomic_bool *stop = arg;
	struct timespec pause = {0, 20000000};

	nanosleep(&pause, NULL);
	*stop = true;
	return NULL;
}

/* It would take minutes. */
static void cancelled(void **state)
{
	struct convert_options o = {
		.zstd = true, .level = 22, .threads = 1, .tar_max = CHECK_TAR_MAX};
	auto_buf struct buf tar = BUF_INIT;
	uint8_t *large = malloc(60u << 20);
	atomic_bool stop = true;
	pthread_t thread;

	(void)state;
	fill(large, 60u << 20);
	tar_file(&tar, "large", large, 60u << 20);
	free(large);
	tar_end(&tar);
	o.stop = &stop;
	layer(&tar, buf_str(&tar), &o, -ECANCELED, "cancelled");
	stop = false;
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, &stop), 0);
	layer(&tar, buf_str(&tar), &o, -ECANCELED, "cancelled");
	pthread_join(thread, NULL);
}

static void what_stays(void **state)
{
	auto_buf struct buf tar = BUF_INIT;

	(void)state;
	tar_file(&tar, "stargz.index.json", "{}", 2);
	tar_end(&tar);
	layer(&tar, buf_str(&tar), &options[0], -EOPNOTSUPP, "table of contents already");
	index_free(layer_of(&tar, &options[1]));
	tar.len = 0;
	tar_file(&tar, "caf\xe9", "", 0);
	tar_end(&tar);
	layer(&tar, buf_str(&tar), &options[1], -EOPNOTSUPP, "UTF-8");
}

/* --- parts ------------------------------------------------------------------------------------ */

static void packers(void **state)
{
	static const char text[] = "the same bytes, the same bytes, the same bytes";

	(void)state;
	for (int zstd = 0; zstd < 2; zstd++) {
		auto_buf struct buf a = BUF_INIT, b = BUF_INIT, back = BUF_INIT;
		struct packer *p;

		assert_int_equal(packer_new(zstd, 3, &p, NULL), 0);
		assert_int_equal(packer_pack(p, text, sizeof(text), &a, NULL), 0);
		assert_int_equal(packer_pack(p, "x", 1, &b, NULL), 0); /* nothing is carried over */
		assert_int_equal(packer_pack(p, text, sizeof(text), &b, NULL), 0);
		packer_free(p);
		assert_int_equal(a.len, b.len);
		assert_memory_equal(a.data, b.data, a.len);
		assert_int_equal(codec_whole(zstd ? CODEC_ZSTD : CODEC_GZIP, buf_str(&a), 1000,
					     false, check_gather, &back, NULL),
				 0);
		assert_int_equal(back.len, sizeof(text));
		assert_memory_equal(back.data, text, back.len);
	}
}

static void table(void **state)
{
	struct tar_xattr x = {"user.a", "\0\xff", 2};
	struct tar_entry list[] = {
		{.name = "a\n\"", .type = "symlink", .link = "\\b", .mode = 0777, .mtime = -1},
		{.name = "c",
		 .type = "reg",
		 .size = 7,
		 .mtime = 1,
		 .mtime_nsec = 50000000,
		 .xattrs = &x,
		 .xattrs_n = 1},
	};
	struct piece pieces[] = {{.blob_off = 0, .entry = -1},
				 {.blob_off = 10, .entry = 1, .chunk_len = 4},
				 {.blob_off = 20, .entry = 1, .chunk_off = 4, .chunk_len = 3}};
	struct tar_list l = {.list = list, .n = 2};
	auto_buf struct buf json = BUF_INIT;
	const char *s;

	(void)state;
	assert_int_equal(toc_write(&l, pieces, 3, &json), 0);
	assert_int_equal(buf_append(&json, "", 1), 0);
	s = (const char *)json.data;
	assert_non_null(strstr(
		s, "{\"version\":1,\"entries\":[\n{\"name\":\"a\\u000a\\\"\",\"type\":\"symlink\","
		   "\"modtime\":\"1969-12-31T23:59:59Z\",\"linkName\":\"\\\\b\",\"mode\":511}"));
	assert_non_null(strstr(s, "\"modtime\":\"1970-01-01T00:00:01.05Z\""));
	assert_non_null(strstr(s, "\"xattrs\":{\"user.a\":\"AP8=\"}"));
	assert_non_null(strstr(s, "\"offset\":10,\"chunkSize\":4,\"chunkDigest\""));
	assert_non_null(strstr(s,
			       "{\"name\":\"c\",\"type\":\"chunk\",\"offset\":20,\"chunkOffset\":4,"
			       "\"chunkSize\":3,\"chunkDigest\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind),   cmocka_unit_test(little),
		cmocka_unit_test(sparse_files), cmocka_unit_test(sources),
		cmocka_unit_test(same_bytes),   cmocka_unit_test(limits),
		cmocka_unit_test(cancelled),    cmocka_unit_test(what_stays),
		cmocka_unit_test(packers),      cmocka_unit_test(table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
