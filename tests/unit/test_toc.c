// SPDX-License-Identifier: Apache-2.0
/* Tables of contents made here: places, trust, entries of all three kinds, hostile tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"
#include "image/toc_parse.h"
#include "layer_writer.h"

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define D3 "sha256:3333333333333333333333333333333333333333333333333333333333333333"

/* A blob of 64 KiB of payload and that table. */
static void make(struct written *w, enum toc_kind kind, const char *entries)
{
	struct buf json = BUF_INIT;

	*w = (struct written){0};
	assert_int_equal(buf_reserve(&w->blob, 65536), 0);
	memset(w->blob.data, 'x', 65536);
	w->blob.len = 65536;
	assert_int_equal(buf_printf(&json, "{\"version\":1,\"entries\":[%s]}", entries), 0);
	write_toc(w, kind, (struct str){(char *)json.data, json.len});
	buf_fini(&json);
}

static int to_index(const struct written *w, const struct toc_hint *h, struct index **ret,
		    struct err *err)
{
	auto_close int fd = memfd_create("index", 0);
	int r;

	assert_true(fd >= 0);
	r = toc_to_index(h, &w->place, written_toc(w), w->blob.len, fd, err);
	if (r == 0)
		assert_int_equal(index_load(fd, ret, err), 0);
	return r;
}

static struct index *takes(enum toc_kind kind, const char *entries)
{
	struct err err = ERR_INIT;
	struct index *ix = NULL;
	struct toc_hint h;
	struct written w;

	make(&w, kind, entries);
	h = written_hint(&w);
	if (to_index(&w, &h, &ix, &err) != 0)
		fail_msg("%s: %s", entries, err.text);
	buf_fini(&w.blob);
	return ix;
}

static void refuses_code(enum toc_kind kind, const char *entries, int code)
{
	struct err err = ERR_INIT;
	struct index *ix = NULL;
	struct toc_hint h;
	struct written w;
	int r;

	make(&w, kind, entries);
	h = written_hint(&w);
	r = to_index(&w, &h, &ix, &err);
	if (r != code)
		fail_msg("%s: %d %s", entries, r, err.text);
	assert_true(err.text[0]);
	buf_fini(&w.blob);
}

static void refuses(enum toc_kind kind, const char *entries)
{
	refuses_code(kind, entries, -EINVAL);
}

static struct index_entry entry(const struct index *ix, const char *path)
{
	struct index_entry e;

	for (uint32_t i = 0; i < index_info(ix)->entries_n; i++) {
		index_entry(ix, i, &e);
		if (str_eq(e.path, str_of(path)))
			return e;
	}
	fail_msg("no %s", path);
	return e;
}

static struct index_chunk chunk(const struct index *ix, const char *path, uint32_t k)
{
	struct index_entry e = entry(ix, path);
	struct index_object o;
	struct index_chunk c;

	index_object(ix, e.object, &o);
	assert_true(k < o.chunks_n);
	index_chunk(ix, o.chunk + k, &c);
	return c;
}

/* --- places ----------------------------------------------------------------------------------- */

static const struct toc_hint gzip_hint = {.media_type = {"a/b.tar+gzip", 12},
					  .has_toc_digest = true};
static const struct toc_hint stargz_hint = {.media_type = {"a/b.tar+zstd", 12},
					    .has_toc_digest = true};
static const struct toc_hint containers_hint = {.media_type = {"a/b.tar+zstd", 12},
						.has_checksum = true};

static struct str unhex(const char *hex, char *out)
{
	size_t n = 0;
	unsigned v;

	for (; *hex; hex += *hex == ' ' ? 1 : 2) {
		if (*hex == ' ')
			continue;
		assert_int_equal(sscanf(hex, "%2x", &v), 1);
		out[n++] = (char)v;
	}
	return (struct str){out, n};
}

static int place(const struct toc_hint *h, const char *hex, uint64_t blob_size,
		 struct toc_place *ret)
{
	struct err err = ERR_INIT;
	char bytes[TOC_FOOTER_MAX + 10];
	int r = toc_place_from_footer(h, unhex(hex, bytes), blob_size, ret, &err);

	assert_true(r == 0 || err.text[0]);
	return r;
}

#define FOOT_51                                                                                    \
	"1f8b08040000000000ff 1a00 5347 1600 30303030303030303030303165323430 53544152475a "       \
	"010000ffff 0000000000000000"
#define FOOT_47                                                                                    \
	"1f8b08040000000000ff 1600 30303030303030303030303165323430 53544152475a 010000ffff "      \
	"0000000000000000"
#define FOOT_46                                                                                    \
	"1f8b08040000000000ff 1500 5347 1100 53544152475a45585445524e414c544f43 010000ffff "       \
	"0000000000000000"
#define FOOT_64                                                                                    \
	"502a4d1840000000 ac59050000000000 6204000000000000 220f000000000000 0100000000000000 "    \
	"165e050000000000 da02000000000000 4a4b000000000000 474e556c496e5578"
#define FOOT_40                                                                                    \
	"502a4d1828000000 1064050000000000 1203000000000000 330b000000000000 0100000000000000 "    \
	"476e556c496e5578"

static void test_footer_vectors(void **state)
{
	struct toc_place p;

	(void)state;
	assert_int_equal(place(&gzip_hint, FOOT_51, 130000, &p), 0);
	assert_int_equal(p.kind, TOC_ESTARGZ);
	assert_int_equal(p.off, 123456);
	assert_int_equal(p.len, 130000 - 123456 - 51);
	assert_int_equal(p.payload_end, 123456);
	assert_int_equal(place(&gzip_hint, FOOT_47, 130000, &p), 0);
	assert_int_equal(p.len, 130000 - 123456 - 47);
	assert_int_equal(place(&gzip_hint, FOOT_46, 130000, &p), -EOPNOTSUPP);
	assert_int_equal(place(&containers_hint, FOOT_64, 352568, &p), 0);
	assert_int_equal(p.kind, TOC_CHUNKED_CONTAINERS);
	assert_int_equal(p.off, 350636);
	assert_int_equal(p.len, 1122);
	assert_int_equal(p.size, 3874);
	assert_int_equal(p.payload_end, 350628);
	assert_int_equal(place(&stargz_hint, FOOT_40, 354146, &p), 0);
	assert_int_equal(p.kind, TOC_CHUNKED_STARGZ);
	assert_int_equal(p.off, 353296);
	assert_int_equal(p.len, 786);
	assert_int_equal(p.size, 2867);
	assert_int_equal(place(&containers_hint, FOOT_40, 354146, &p), 0);
	assert_int_equal(p.kind, TOC_CHUNKED_CONTAINERS);
}

static void test_footers_that_are_none(void **state)
{
	struct toc_place p;

	(void)state;
	assert_int_equal(place(&gzip_hint, "", 0, &p), -EOPNOTSUPP);
	assert_int_equal(place(&gzip_hint, "00", 1, &p), -EOPNOTSUPP);
	assert_int_equal(place(&gzip_hint, FOOT_51, 20, &p), -EOPNOTSUPP);
	assert_int_equal(place(&gzip_hint, FOOT_51, 123456 + 51, &p), -EOPNOTSUPP);
	assert_int_equal(place(&gzip_hint, FOOT_64, 352568, &p), -EOPNOTSUPP);
	assert_int_equal(place(&stargz_hint, FOOT_64, 352568, &p), -EOPNOTSUPP);
	assert_int_equal(place(&stargz_hint, FOOT_51, 130000, &p), -EOPNOTSUPP);
	assert_int_equal(place(&containers_hint, FOOT_64, 350636, &p), -EOPNOTSUPP);
	assert_int_equal(place(&containers_hint, FOOT_64 + 17, 352568, &p), -EOPNOTSUPP);
	/* An offset with a sign, a type that is not 1, a table at 0. */
	assert_int_equal(place(&gzip_hint,
			       "1f8b08040000000000ff 1a00 5347 1600 "
			       "2b303030303030303030303165323430 53544152475a 010000ffff "
			       "0000000000000000",
			       130000, &p),
			 -EOPNOTSUPP);
	assert_int_equal(place(&stargz_hint,
			       "502a4d1828000000 1064050000000000 1203000000000000 "
			       "330b000000000000 0200000000000000 476e556c496e5578",
			       354146, &p),
			 -EOPNOTSUPP);
	assert_int_equal(place(&stargz_hint,
			       "502a4d1828000000 0000000000000000 1203000000000000 "
			       "330b000000000000 0100000000000000 476e556c496e5578",
			       354146, &p),
			 -EOPNOTSUPP);
	assert_int_equal(place(&stargz_hint,
			       "502a4d1828000000 ffffffffffffffff ffffffffffffffff "
			       "330b000000000000 0100000000000000 476e556c496e5578",
			       354146, &p),
			 -EOPNOTSUPP);
	assert_int_equal(place(&stargz_hint,
			       "502a4d1828000000 0800000000000000 0000001000000000 "
			       "330b000000000000 0100000000000000 476e556c496e5578",
			       1ull << 40, &p),
			 -EFBIG);
}

static void test_hints(void **state)
{
	struct toc_hint h = {.media_type = STR("application/vnd.oci.image.layer.v1.tar+gzip")};
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(toc_hint_check(&h, &err), -EOPNOTSUPP);
	h.has_toc_digest = true;
	assert_int_equal(toc_hint_check(&h, &err), 0);
	h.has_checksum = true;
	assert_int_equal(toc_hint_check(&h, &err), -EOPNOTSUPP);
	h.has_toc_digest = false;
	assert_int_equal(toc_hint_check(&h, &err), -EOPNOTSUPP);
	h.media_type = STR("application/vnd.oci.image.layer.v1.tar+zstd");
	assert_int_equal(toc_hint_check(&h, &err), 0);
	h.media_type = STR("application/vnd.oci.image.layer.v1.tar");
	assert_int_equal(toc_hint_check(&h, &err), -EOPNOTSUPP);
	h = (struct toc_hint){.has_toc_digest = true};
	h.media_type = STR("application/vnd.docker.image.rootfs.diff.tar.gzip");
	assert_int_equal(toc_hint_check(&h, &err), 0);
	h.media_type = STR("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
	assert_int_equal(toc_hint_check(&h, &err), -EOPNOTSUPP);
}

static int position(const char *text, struct toc_place *ret)
{
	struct toc_hint h = containers_hint;
	struct err err = ERR_INIT;
	int r;

	h.position = str_of(text);
	h.blob_size = 352568;
	r = toc_place_from_hint(&h, ret, &err);
	assert_true(r == 0 || err.text[0]);
	return r;
}

static void test_positions(void **state)
{
	struct toc_hint h = gzip_hint;
	struct err err = ERR_INIT;
	struct toc_place p;

	(void)state;
	assert_int_equal(position("350636:1122:3874:1", &p), 0);
	assert_int_equal(p.off, 350636);
	assert_int_equal(p.len, 1122);
	assert_int_equal(p.size, 3874);
	assert_int_equal(p.payload_end, 350628);
	assert_int_equal(p.kind, TOC_CHUNKED_CONTAINERS);
	assert_int_equal(position("", &p), -ENOENT);
	assert_int_equal(position("350636:1122:3874", &p), -EINVAL);
	assert_int_equal(position("350636:1122:3874:2", &p), -EINVAL);
	assert_int_equal(position("350636:1122:3874:1:", &p), -EINVAL);
	assert_int_equal(position("350636::3874:1", &p), -EINVAL);
	assert_int_equal(position("-1:1122:3874:1", &p), -EINVAL);
	assert_int_equal(position("7:1122:3874:1", &p), -EINVAL);
	assert_int_equal(position("352000:1122:3874:1", &p), -EINVAL);
	assert_int_equal(position("18446744073709551615:1122:3874:1", &p), -EINVAL);
	assert_int_equal(position("8:1122:99999999999:1", &p), -EFBIG);
	h.position = STR("350636:1122:3874:1");
	assert_int_equal(toc_place_from_hint(&h, &p, &err), -ENOENT);
}

static void test_found_by_footer(void **state)
{
	(void)state;
	for (enum toc_kind kind = TOC_ESTARGZ; kind <= TOC_CHUNKED_CONTAINERS; kind++) {
		struct err err = ERR_INIT;
		struct toc_place p;
		struct written w;
		struct toc_hint h;

		make(&w, kind, "");
		h = written_hint(&w);
		if (toc_place_from_footer(
			    &h,
			    (struct str){(char *)w.blob.data + w.blob.len - TOC_FOOTER_MAX,
					 TOC_FOOTER_MAX},
			    w.blob.len, &p, &err) != 0)
			fail_msg("%s", err.text);
		assert_int_equal(p.kind, kind);
		assert_int_equal(p.off, w.place.off);
		assert_int_equal(p.len, w.place.len);
		assert_int_equal(p.size, w.place.size);
		assert_int_equal(p.payload_end, 65536);
		buf_fini(&w.blob);
	}
}

/* --- trust ------------------------------------------------------------------------------------ */

static void test_wrong_digest(void **state)
{
	(void)state;
	for (enum toc_kind kind = TOC_ESTARGZ; kind <= TOC_CHUNKED_CONTAINERS; kind++) {
		/* A table that is wrong too: the digest is what is reported. */
		for (int wrong = 0; wrong < 2; wrong++) {
			struct err err = ERR_INIT;
			struct index *ix = NULL;
			struct written w;
			struct toc_hint h;

			make(&w, kind, wrong ? "{\"name\":5}" : "");
			h = written_hint(&w);
			h.toc_digest.bytes[3] ^= 1;
			h.checksum.bytes[3] ^= 1;
			assert_int_equal(to_index(&w, &h, &ix, &err), -EBADMSG);
			buf_fini(&w.blob);
		}
	}
}

static void test_damaged_bytes(void **state)
{
	(void)state;
	for (enum toc_kind kind = TOC_ESTARGZ; kind <= TOC_CHUNKED_CONTAINERS; kind++) {
		struct written w;
		struct toc_hint h;

		make(&w, kind, "{\"type\":\"dir\",\"name\":\"d/\"}");
		h = written_hint(&w);
		for (size_t i = 0; i < w.place.len; i++) {
			struct err err = ERR_INIT;
			struct index *ix = NULL;

			w.blob.data[w.place.off + i] ^= 0x40;
			/* In eStargz not all of the gzip header and of the tar counts. */
			if (to_index(&w, &h, &ix, &err) != -EBADMSG)
				assert_int_not_equal(kind, TOC_CHUNKED_CONTAINERS);
			index_free(ix);
			w.blob.data[w.place.off + i] ^= 0x40;
		}
		buf_fini(&w.blob);
	}
}

static void test_wrong_place(void **state)
{
	struct err err = ERR_INIT;
	struct index *ix = NULL;
	struct toc_hint h;
	struct written w;

	(void)state;
	make(&w, TOC_CHUNKED_STARGZ, "");
	h = written_hint(&w);
	w.place.size++;
	assert_int_equal(to_index(&w, &h, &ix, &err), -EBADMSG);
	w.place.size -= 2;
	assert_int_equal(to_index(&w, &h, &ix, &err), -EBADMSG);
	w.place.size++;
	w.place.len--;
	assert_int_equal(to_index(&w, &h, &ix, &err), -EBADMSG);
	w.place.len++;
	w.place.kind = TOC_ESTARGZ;
	assert_int_equal(to_index(&w, &h, &ix, &err), -EOPNOTSUPP);
	buf_fini(&w.blob);
}

/* --- entries ---------------------------------------------------------------------------------- */

static void test_estargz_entries(void **state)
{
	auto_index struct index *ix = takes(
		TOC_ESTARGZ,
		"{\"name\":\".prefetch.landmark\",\"type\":\"reg\",\"size\":1,\"offset\":9000,"
		"\"digest\":\"" D1 "\",\"chunkDigest\":\"" D1 "\"},"
		"{\"name\":\"./d/\",\"type\":\"dir\",\"mode\":16877,\"uid\":5,\"gid\":6,"
		"\"userName\":\"u\",\"groupName\":\"g\",\"modtime\":\"2019-08-20T10:30:43Z\","
		"\"NumLink\":3,\"odd\":{\"a\":[1,{\"name\":\"x\"}]},"
		"\"xattrs\":{\"user.a\":\"AAE=\",\"trusted.b\":\"eA==\",\"user.e\":\"\"}},"
		"{\"name\":\"d/f\",\"type\":\"reg\",\"size\":5,\"offset\":100,\"digest\":\"" D1
		"\",\"chunkDigest\":\"" D1 "\",\"innerOffset\":1024},"
		"{\"name\":\"big\",\"type\":\"reg\",\"size\":250,\"offset\":200,\"digest\":\"" D3
		"\",\"chunkSize\":100,\"chunkDigest\":\"" D1 "\"},"
		"{\"name\":\"\",\"type\":\"chunk\",\"offset\":300,\"chunkOffset\":100,"
		"\"chunkSize\":100,\"chunkDigest\":\"" D2 "\"},"
		"{\"name\":\"\",\"type\":\"chunk\",\"offset\":400,\"chunkOffset\":200,"
		"\"chunkDigest\":\"" D3 "\"},"
		"{\"name\":\"e\",\"type\":\"reg\",\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb"
		"92427ae41e4649b934ca495991b7852b855\",\"modtime\":\"nonsense\"},"
		"{\"name\":\"l\",\"type\":\"hardlink\",\"linkName\":\"./d/f\"},"
		"{\"name\":\"s\",\"type\":\"symlink\",\"linkName\":\"/x/../y\"},"
		"{\"name\":\"c\",\"type\":\"char\",\"devMajor\":1,\"devMinor\":3,\"mode\":438},"
		"{\"name\":\"b\",\"type\":\"block\",\"devMajor\":8},"
		"{\"name\":\"p\",\"type\":\"fifo\",\"uid\":null},"
		"{\"name\":\".wh.gone\",\"type\":\"reg\"}");
	struct index_entry e = entry(ix, "d");
	struct index_xattr x;
	struct index_chunk c;

	(void)state;
	assert_int_equal(index_info(ix)->prefetch_end, 9000);
	assert_int_equal(index_info(ix)->codec, CODEC_GZIP);
	assert_int_equal(index_info(ix)->entries_n, 10);
	assert_int_equal(e.mode, 0755);
	assert_int_equal(e.uid, 5);
	assert_int_equal(e.gid, 6);
	assert_int_equal(e.mtime, 1566297043);
	assert_int_equal(e.xattrs_n, 2);
	index_xattr(ix, e.xattrs, &x);
	assert_true(str_eq(x.name, STR("user.a")) && x.value.len == 2 && x.value.p[1] == 1);
	c = chunk(ix, "d/f", 0);
	assert_int_equal(c.inner_off, 1024);
	assert_int_equal(c.blob_len, 100);
	c = chunk(ix, "big", 2);
	assert_int_equal(c.size, 50);
	assert_int_equal(c.blob_off, 400);
	assert_int_equal(c.blob_len, 9000 - 400);
	assert_int_equal(entry(ix, "l").type, INDEX_LINK);
	assert_int_equal(entry(ix, "d/f").names, 2);
	assert_true(str_eq(entry(ix, "s").link, STR("/x/../y")));
	assert_int_equal(entry(ix, "c").dev_minor, 3);
	assert_int_equal(entry(ix, "e").object, INDEX_NONE);
	assert_int_equal(entry(ix, "gone").type, INDEX_WHITEOUT);
}

static void test_no_prefetch(void **state)
{
	auto_index struct index *ix = takes(
		TOC_CHUNKED_STARGZ,
		"{\"name\":\".no.prefetch.landmark\",\"type\":\"reg\",\"size\":1,\"offset\":9,"
		"\"digest\":\"" D1 "\"},{\"name\":\"./.prefetch.landmark\",\"type\":\"reg\","
		"\"size\":1,\"offset\":99,\"digest\":\"" D1 "\"},"
		"{\"name\":\"stargz.index.json\",\"type\":\"reg\"}");

	(void)state;
	assert_int_equal(index_info(ix)->prefetch_end, 0);
	assert_int_equal(index_info(ix)->entries_n, 0);
	assert_int_equal(index_info(ix)->codec, CODEC_ZSTD);
}

static void test_containers_entries(void **state)
{
	auto_index struct index *ix = takes(
		TOC_CHUNKED_CONTAINERS,
		"{\"type\":\"reg\",\"name\":\"./one\",\"mode\":420,\"size\":5,\"modtime\":"
		"\"2024-05-05T01:02:03.5+02:00\",\"accesstime\":\"0001-01-01T00:00:00Z\","
		"\"digest\":\"" D1 "\",\"offset\":100,\"endOffset\":150},"
		"{\"type\":\"reg\",\"name\":\"many\",\"size\":6000,\"digest\":\"" D3 "\","
		"\"modtime\":\"1970-01-01T00:00:00Z\","
		"\"offset\":300,\"endOffset\":500,\"chunkSize\":100,\"chunkDigest\":\"" D1 "\"},"
		"{\"type\":\"chunk\",\"name\":\"many\",\"offset\":350,\"chunkSize\":5000,"
		"\"chunkOffset\":100,\"chunkType\":\"zeros\",\"chunkDigest\":\"" D2 "\"},"
		"{\"type\":\"chunk\",\"name\":\"many\",\"offset\":400,\"chunkSize\":900,"
		"\"chunkOffset\":5100,\"chunkDigest\":\"" D2 "\"},"
		"{\"type\":\"reg\",\"name\":\"empty\",\"modtime\":\"0001-01-01T00:00:00Z\"},"
		"{\"type\":\"reg\",\"name\":\"last\",\"size\":7,\"digest\":\"" D2 "\","
		"\"offset\":600,\"endOffset\":700}");
	struct index_chunk c;

	(void)state;
	assert_int_equal(entry(ix, "one").mtime, 1714863723);
	assert_int_equal(entry(ix, "one").mtime_nsec, 500000000);
	assert_int_equal(entry(ix, "empty").mtime, 0);
	assert_int_equal(chunk(ix, "one", 0).blob_len, 50);
	assert_int_equal(chunk(ix, "one", 0).size, 5);
	assert_int_equal(chunk(ix, "many", 0).blob_len, 50);
	c = chunk(ix, "many", 1);
	assert_true(c.zeros);
	assert_int_equal(c.size, 5000);
	assert_int_equal(c.blob_off, 350);
	c = chunk(ix, "many", 2);
	assert_int_equal(c.blob_len, 100);
	assert_int_equal(c.file_off, 5100);
	assert_int_equal(chunk(ix, "last", 0).blob_len, 100);
}

#define FILE_OF(more) "{\"type\":\"reg\",\"name\":\"f\"," more "}"

static const char *const hostile_entries[] = {
	"5",
	"[]",
	"\"x\"",
	"{}",
	"{\"name\":\"a\"}",
	"{\"type\":\"socket\",\"name\":\"a\"}",
	"{\"type\":\"reg\",\"name\":5}",
	"{\"type\":\"reg\",\"name\":[\"a\"]}",
	"{\"type\":\"reg\",\"name\":\"a\\u0000b\"}",
	"{\"type\":\"reg\",\"name\":\"d/.wh.\"}",
	"{\"type\":\"reg\",\"name\":\"\"}",
	"{\"type\":\"reg\",\"name\":\"..\"}",
	"{\"type\":\"dir\",\"name\":\"a\",\"uid\":-1}",
	"{\"type\":\"dir\",\"name\":\"a\",\"uid\":4294967295}",
	"{\"type\":\"dir\",\"name\":\"a\",\"uid\":4294967296}",
	"{\"type\":\"dir\",\"name\":\"a\",\"uid\":1e3}",
	"{\"type\":\"dir\",\"name\":\"a\",\"uid\":\"0\"}",
	"{\"type\":\"dir\",\"name\":\"a\",\"mode\":99999999999999999999}",
	"{\"type\":\"char\",\"name\":\"a\",\"devMajor\":4096}",
	"{\"type\":\"symlink\",\"name\":\"a\"}",
	"{\"type\":\"hardlink\",\"name\":\"a\"}",
	"{\"type\":\"hardlink\",\"name\":\"a\",\"linkName\":\"a\"}",
	"{\"type\":\"dir\",\"name\":\"a\",\"xattrs\":{\"user.a\":\"A\"}}",
	"{\"type\":\"dir\",\"name\":\"a\",\"xattrs\":{\"user.a\":\"AAA*\"}}",
	"{\"type\":\"dir\",\"name\":\"a\",\"xattrs\":{\"user.a\":\"A===\"}}",
	"{\"type\":\"dir\",\"name\":\"a\",\"xattrs\":{\"user.a\":5}}",
	"{\"type\":\"dir\",\"name\":\"a\",\"xattrs\":{\"user.a\":{}}}",
	"{\"type\":\"dir\",\"name\":\"a\",\"xattrs\":[]}",
	"{\"type\":\"dir\",\"name\":\"a\",\"xattrs\":{\"\":\"\"}}",
	"{\"type\":\"reg\",\"name\":\"a\"},{\"type\":\"reg\",\"name\":\"a/b\"}",
	/* chunks */
	"{\"type\":\"chunk\",\"name\":\"a\",\"offset\":1,\"chunkSize\":1}",
	"{\"type\":\"dir\",\"name\":\"a\"},{\"type\":\"chunk\",\"offset\":1}",
	FILE_OF("\"size\":5,\"digest\":\"" D1 "\""),
	FILE_OF("\"size\":5,\"offset\":9"),
	FILE_OF("\"size\":5,\"offset\":9,\"digest\":\"sha256:12\""),
	FILE_OF("\"size\":5,\"offset\":9,\"digest\":\"x\""),
	FILE_OF("\"size\":5,\"offset\":65536,\"digest\":\"" D1 "\""),
	FILE_OF("\"size\":5,\"offset\":9223372036854775807,\"digest\":\"" D1 "\""),
	FILE_OF("\"size\":5,\"offset\":9,\"chunkSize\":6,\"digest\":\"" D1 "\""),
	FILE_OF("\"size\":5,\"offset\":9,\"chunkOffset\":1,\"digest\":\"" D1 "\""),
	FILE_OF("\"size\":5,\"offset\":9,\"chunkSize\":4,\"digest\":\"" D1 "\""),
	FILE_OF("\"size\":5,\"offset\":9,\"digest\":\"" D1 "\",\"chunkDigest\":\"" D2 "\""),
	FILE_OF("\"size\":5,\"offset\":9,\"chunkSize\":4,\"digest\":\"" D1
		"\"") ",{\"type\":\"chunk\",\"offset\":10,\"chunkOffset\":4,\"chunkSize\":"
		      "1}",
	FILE_OF("\"size\":5,\"offset\":9,\"chunkSize\":5,\"digest\":\"" D1
		"\"") ",{\"type\":\"chunk\",\"offset\":10,\"chunkOffset\":5}",
	FILE_OF("\"size\":5,\"offset\":9,\"chunkSize\":3,\"digest\":\"" D1
		"\",\"chunkDigest\":\"" D2 "\"") ",{\"type\":\"chunk\",\"offset\":10,"
						 "\"chunkOffset\":4,\"chunkSize\":1,"
						 "\"chunkDigest\":\"" D2 "\"}",
};

static void test_hostile_entries(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(hostile_entries); i++) {
		for (enum toc_kind kind = TOC_ESTARGZ; kind <= TOC_CHUNKED_CONTAINERS; kind++)
			refuses(kind, hostile_entries[i]);
	}
	refuses(TOC_CHUNKED_CONTAINERS,
		FILE_OF("\"size\":5,\"offset\":9,\"endOffset\":65537,\"digest\":\"" D1 "\""));
	refuses(TOC_CHUNKED_CONTAINERS,
		FILE_OF("\"size\":5,\"offset\":9,\"chunkType\":\"odd\",\"digest\":\"" D1 "\""));
	refuses(TOC_CHUNKED_CONTAINERS, "{\"type\":\"dir\",\"name\":\"a\",\"modtime\":\"x\"}");
	refuses_code(TOC_ESTARGZ, FILE_OF("\"size\":5,\"offset\":9,\"digest\":\"sha512:12\""),
		     -EOPNOTSUPP);
	refuses_code(TOC_ESTARGZ, FILE_OF("\"size\":67108865,\"offset\":9,\"digest\":\"" D1 "\""),
		     -EFBIG);
	refuses_code(
		TOC_ESTARGZ,
		FILE_OF("\"size\":5,\"offset\":9,\"chunkSize\":4294967301,\"digest\":\"" D1 "\""),
		-EFBIG);
	refuses_code(
		TOC_ESTARGZ,
		FILE_OF("\"size\":5,\"offset\":9,\"innerOffset\":67108865,\"digest\":\"" D1 "\""),
		-EFBIG);
}

static void test_many_xattrs(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(buf_printf(&b, "{\"type\":\"dir\",\"name\":\"a\",\"xattrs\":{"), 0);
	for (int i = 0; i <= XATTRS_MAX; i++)
		assert_int_equal(buf_printf(&b, "%s\"user.%d\":\"\"", i ? "," : "", i), 0);
	assert_int_equal(buf_append(&b, "}}", 3), 0);
	refuses_code(TOC_ESTARGZ, (char *)b.data, -EFBIG);
	buf_fini(&b);
}

static void document(const char *json, int code)
{
	struct err err = ERR_INIT;
	struct index *ix = NULL;
	struct written w = {0};
	struct toc_hint h;
	int r;

	write_toc(&w, TOC_ESTARGZ, str_of(json));
	h = written_hint(&w);
	r = to_index(&w, &h, &ix, &err);
	if (r != code)
		fail_msg("%s: %d %s", json, r, err.text);
	assert_true(code == 0 || err.text[0]);
	index_free(ix);
	buf_fini(&w.blob);
}

static void test_hostile_documents(void **state)
{
	(void)state;
	document("{\"version\":1,\"entries\":[]}", 0);
	document("{\"version\":1,\"entries\":null}", 0);
	document("{\"x\":[{\"entries\":[5]}],\"entries\":[],\"version\":1,\"tarSplitDigest\":\"\"}",
		 0);
	document("", -EINVAL);
	document("{}", -EINVAL);
	document("[]", -EINVAL);
	document("null", -EINVAL);
	document("{\"version\":1}", -EINVAL);
	document("{\"entries\":[]}", -EINVAL);
	document("{\"version\":2,\"entries\":[]}", -EOPNOTSUPP);
	document("{\"version\":\"1\",\"entries\":[]}", -EOPNOTSUPP);
	document("{\"version\":1,\"entries\":{}}", -EINVAL);
	document("{\"version\":1,\"entries\":5}", -EINVAL);
	document("{\"version\":1,\"entries\":[],\"entries\":[]}", -EINVAL);
	document("{\"version\":1,\"entries\":[", -EINVAL);
	document("{\"version\":1,\"entries\":[]}x", -EINVAL);
	document("{\"version\":1,\"entries\":[[]]}", -EINVAL);
}

static void test_hostile_tars(void **state)
{
	static const struct {
		size_t at;
		const char *bytes;
	} changes[] = {{0, "x"}, {17, "x"}, {156, "5"}, {124, "9"}, {124, "77777777777"}};

	(void)state;
	for (size_t i = 0; i < array_size(changes); i++) {
		struct toc_tar t = {0};
		struct err err = ERR_INIT;
		uint8_t head[512] = "stargz.index.json";
		struct str table;

		head[156] = '0';
		memcpy(head + 124, "00000000005", 11);
		if (i == 0)
			assert_int_equal(
				toc_tar_feed(&(struct toc_tar){0}, head, 512, &table, &err), 0);
		memcpy(head + changes[i].at, changes[i].bytes, strlen(changes[i].bytes));
		assert_int_equal(toc_tar_feed(&t, head, 512, &table, &err),
				 i == 4 ? -EFBIG : -EBADMSG);
	}
}

static void test_tar_in_pieces(void **state)
{
	uint8_t bytes[1024] = "stargz.index.json";

	(void)state;
	bytes[156] = '0';
	memcpy(bytes + 124, "00000000005", 11);
	memcpy(bytes + 512, "12345", 5);
	for (size_t piece = 1; piece < 1024; piece += 7) {
		struct toc_tar t = {0};
		struct err err = ERR_INIT;
		char got[8] = "";
		size_t n = 0;

		for (size_t at = 0; at < 1024; at += piece) {
			struct str table;
			size_t k = 1024 - at < piece ? 1024 - at : piece;

			assert_int_equal(toc_tar_feed(&t, bytes + at, k, &table, &err), 0);
			assert_true(table.len <= 5 - n);
			memcpy(got + n, table.p, table.len);
			n += table.len;
		}
		assert_string_equal(got, "12345");
	}
}

static void time_is(const char *text, int64_t s, uint32_t ns)
{
	int64_t got = 0;
	uint32_t got_ns = 0;

	if (toc_time(str_of(text), &got, &got_ns) != 0)
		fail_msg("%s", text);
	assert_int_equal(got, s);
	assert_int_equal(got_ns, ns);
}

static void test_times(void **state)
{
	static const char *const bad[] = {
		"",
		"2019-08-20",
		"2019-08-20T10:30:43",
		"2019-13-20T10:30:43Z",
		"2019-00-20T10:30:43Z",
		"2019-02-29T10:30:43Z",
		"1900-02-29T10:30:43Z",
		"2019-08-00T10:30:43Z",
		"2019-08-20T24:30:43Z",
		"2019-08-20T10:60:43Z",
		"2019-08-20T10:30:60Z",
		"2019-08-20t10:30:43Z",
		"2019-08-20T10:30:43z",
		"2019-08-20T10:30:43.Z",
		"2019-08-20T10:30:43.1234567890Z",
		"2019-08-20T10:30:43+0200",
		"2019-08-20T10:30:43+24:00",
		"2019-08-20T10:30:43Zx",
		" 2019-08-20T10:30:43Z",
	};
	int64_t s;
	uint32_t ns;

	(void)state;
	time_is("1970-01-01T00:00:00Z", 0, 0);
	time_is("1969-12-31T23:59:59.9Z", -1, 900000000);
	time_is("2019-08-20T10:30:43Z", 1566297043, 0);
	time_is("2024-05-05T01:02:03.5+02:00", 1714863723, 500000000);
	time_is("2024-02-29T12:00:00.000000001-11:30", 1709249400, 1);
	time_is("2000-02-29T00:00:00Z", 951782400, 0);
	time_is("0001-01-01T00:00:00Z", -62135596800, 0);
	time_is("0000-01-01T00:00:00Z", -62167219200, 0);
	time_is("9999-12-31T23:59:59Z", 253402300799, 0);
	for (size_t i = 0; i < array_size(bad); i++) {
		if (toc_time(str_of(bad[i]), &s, &ns) == 0)
			fail_msg("%s", bad[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_footer_vectors),
		cmocka_unit_test(test_footers_that_are_none),
		cmocka_unit_test(test_hints),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_found_by_footer),
		cmocka_unit_test(test_wrong_digest),
		cmocka_unit_test(test_damaged_bytes),
		cmocka_unit_test(test_wrong_place),
		cmocka_unit_test(test_estargz_entries),
		cmocka_unit_test(test_no_prefetch),
		cmocka_unit_test(test_containers_entries),
		cmocka_unit_test(test_hostile_entries),
		cmocka_unit_test(test_many_xattrs),
		cmocka_unit_test(test_hostile_documents),
		cmocka_unit_test(test_hostile_tars),
		cmocka_unit_test(test_tar_in_pieces),
		cmocka_unit_test(test_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
