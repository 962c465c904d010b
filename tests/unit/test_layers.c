// SPDX-License-Identifier: Apache-2.0
/* Layers of the real writers (tests/data/layers): every entry, and every byte by its chunks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/limits.h"
#include "image/toc.h"

static const struct sample {
	const char *file, *media_type, *digest, *position;
	enum toc_kind kind;
	uint32_t chunks; /* of data/big and data/holes together */
} samples[] = {
	{"estargz", "application/vnd.oci.image.layer.v1.tar+gzip",
	 "sha256:0103b4bc8a07a9c2485cceca698640dc9acd7d7c2142f822cc4a32ea0e1b4bf6", "", TOC_ESTARGZ,
	 16},
	{"chunked-stargz", "application/vnd.oci.image.layer.v1.tar+zstd",
	 "sha256:0106161b70806dc3ef7198294ebefa68b00e18f7ec5f376cb8a70e26709f19c7",
	 "2162:1476:6956:1", TOC_CHUNKED_STARGZ, 16},
	{"chunked-containers", "application/vnd.oci.image.layer.v1.tar+zstd",
	 "sha256:c638cb786263171e47cece66335c57a8653c4cd731babbd0e3b75018c04534a8",
	 "1512:1022:2972:1", TOC_CHUNKED_CONTAINERS, 4},
	{"chunked-containers-old", "application/vnd.oci.image.layer.v1.tar+zstd",
	 "sha256:fa90c23d594e70c4cdf6de742b16bc728a0ca2d1ca1dec04fd46010ce0a434e5",
	 "1476:1005:4105:1", TOC_CHUNKED_CONTAINERS, 4},
};

static const char expect[] = "d bin 755 0:0 1700000000\n"
			     "s bin/link 777 0:0 1700000000 >../bin/./tool\n"
			     "l bin/same 644 0:0 1700000000 =bin/tool\n"
			     "r bin/tool 4755 0:0 1700000000 20 names=2 security.capability:20\n"
			     "r data/big 600 1000:1001 1700000000 8100\n"
			     "r data/copy 644 0:0 1700000000 20\n"
			     "r data/empty 644 0:0 1700000000\n"
			     "r data/holes 644 0:0 1700000001 21511\n"
			     "r data/user 644 0:0 1700000000 1 user.note:12\n"
			     "d dev 755 0:0 1700000000\n"
			     "c dev/null 666 0:0 1700000000 1,3\n"
			     "p dev/pipe 600 0:0 1700000000\n"
			     "d* etc 755 0:0 0\n"
			     "w etc/gone 644 0:0 0\n"
			     "r n\303\244me/with spaces & <signs> 644 0:0 1700000000 6\n"
			     "w removed 644 0:0 0\n";

static void slurp(const char *name, struct buf *ret)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "tests/data/layers/%s.blob", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(buf_reserve(ret, 65536), 0);
	ret->len = (size_t)read(fd, ret->data, 65536);
	assert_true(ret->len > 100 && ret->len < 65536);
	close(fd);
}

static struct index *index_of(const struct sample *s, const struct buf *blob)
{
	struct str all = {(const char *)blob->data, blob->len};
	struct toc_hint h = {.media_type = str_of(s->media_type),
			     .position = str_of(s->position),
			     .blob_size = blob->len};
	struct err err = ERR_INIT;
	auto_close int fd = memfd_create("index", 0);
	struct toc_place p, q;
	struct index *ix = NULL;

	if (s->kind == TOC_CHUNKED_CONTAINERS) {
		h.has_checksum = true;
		assert_int_equal(digest_parse(str_of(s->digest), &h.checksum), 0);
	} else {
		h.has_toc_digest = true;
		assert_int_equal(digest_parse(str_of(s->digest), &h.toc_digest), 0);
	}
	assert_int_equal(toc_place_from_footer(
				 &h, (struct str){all.p + all.len - TOC_FOOTER_MAX, TOC_FOOTER_MAX},
				 all.len, &p, &err),
			 0);
	assert_int_equal(p.kind, s->kind);
	if (s->position[0]) {
		assert_int_equal(toc_place_from_hint(&h, &q, &err), 0);
		assert_memory_equal(&p, &q, sizeof(p));
	}
	if (toc_to_index(&h, &p, (struct str){all.p + p.off, p.len}, all.len, fd, &err) != 0)
		fail_msg("%s: %s", s->file, err.text);
	assert_int_equal(index_load(fd, &ix, &err), 0);
	return ix;
}

static int show(const struct index *ix, uint32_t i, struct buf *out)
{
	struct index_entry e, t;
	struct index_object o;
	struct index_xattr x;
	int r;

	index_entry(ix, i, &e);
	r = buf_printf(out, "%c%s " STR_FMT " %o %u:%u %" PRId64, "?drslLcbpw"[e.type],
		       e.opaque ? "*" : "", STR_ARG(e.path), e.mode, e.uid, e.gid, e.mtime);
	if (e.object != INDEX_NONE) {
		index_object(ix, e.object, &o);
		r |= buf_printf(out, " %" PRIu64, o.size);
	}
	if (e.link.len)
		r |= buf_printf(out, " >" STR_FMT, STR_ARG(e.link));
	if (e.type == INDEX_LINK) {
		index_entry(ix, e.target, &t);
		r |= buf_printf(out, " =" STR_FMT, STR_ARG(t.path));
	}
	if (e.dev_major || e.dev_minor)
		r |= buf_printf(out, " %u,%u", e.dev_major, e.dev_minor);
	if (e.names > 1)
		r |= buf_printf(out, " names=%u", e.names);
	for (uint32_t k = 0; k < e.xattrs_n; k++) {
		index_xattr(ix, e.xattrs + k, &x);
		r |= buf_printf(out, " " STR_FMT ":%zu", STR_ARG(x.name), x.value.len);
	}
	return r | buf_append(out, "\n", 1);
}

static void test_entries(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(samples); i++) {
		auto_buf struct buf blob = BUF_INIT, out = BUF_INIT;
		auto_index struct index *ix = NULL;

		slurp(samples[i].file, &blob);
		ix = index_of(&samples[i], &blob);
		for (uint32_t k = 0; k < index_info(ix)->entries_n; k++)
			assert_int_equal(show(ix, k, &out), 0);
		assert_int_equal(buf_append(&out, "", 1), 0);
		assert_string_equal((char *)out.data, expect);
		assert_int_equal(index_info(ix)->inodes, 13);
		assert_int_equal(index_info(ix)->objects_n, 5);
	}
}

static int gather(void *arg, const void *data, size_t n)
{
	return buf_append(arg, data, n);
}

/* Fetches as a reader would: only the chunk's own range of the blob. */
static void decode(const struct index *ix, const struct buf *blob, uint32_t object)
{
	auto_buf struct buf content = BUF_INIT;
	struct err err = ERR_INIT;
	struct index_object o;
	struct digest d;

	index_object(ix, object, &o);
	for (uint32_t k = 0; k < o.chunks_n; k++) {
		struct index_chunk c;

		index_chunk(ix, o.chunk + k, &c);
		assert_int_equal(content.len, c.file_off);
		if (c.zeros) {
			assert_int_equal(buf_reserve(&content, c.size), 0);
			memset(content.data + content.len, 0, c.size);
			content.len += c.size;
			continue;
		}
		if (codec_range(index_info(ix)->codec,
				(struct str){(char *)blob->data + c.blob_off, c.blob_len},
				c.inner_off, c.size, gather, &content, &err) != 0)
			fail_msg("%s", err.text);
		sha256(content.data + c.file_off, c.size, &d);
		assert_true(digest_eq(&d, &c.digest));
	}
	assert_int_equal(content.len, o.size);
	sha256(content.data, content.len, &d);
	assert_true(digest_eq(&d, &o.digest));
}

static void test_contents(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(samples); i++) {
		auto_buf struct buf blob = BUF_INIT;
		auto_index struct index *ix = NULL;
		uint64_t last = 0;
		bool zeros = false;

		slurp(samples[i].file, &blob);
		ix = index_of(&samples[i], &blob);
		for (uint32_t k = 0; k < index_info(ix)->objects_n; k++)
			decode(ix, &blob, k);
		for (uint32_t k = 0; k < index_info(ix)->chunks_n; k++) {
			struct index_chunk c;

			index_chunk(ix, k, &c);
			assert_true(c.blob_off >= last);
			last = c.blob_off;
			zeros = zeros || c.zeros;
		}
		assert_int_equal(index_info(ix)->chunks_n, 3 + samples[i].chunks);
		assert_int_equal(zeros, samples[i].kind == TOC_CHUNKED_CONTAINERS);
	}
}

/* The landmark stands first, with no file before it. */
static void test_prefetch(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(samples); i++) {
		auto_buf struct buf blob = BUF_INIT;
		auto_index struct index *ix = NULL;
		struct index_chunk c;

		slurp(samples[i].file, &blob);
		ix = index_of(&samples[i], &blob);
		index_chunk(ix, 0, &c);
		assert_true(index_info(ix)->prefetch_end < c.blob_off);
		assert_int_equal(index_info(ix)->prefetch_end > 0,
				 samples[i].kind != TOC_CHUNKED_CONTAINERS);
	}
}

/* Zstandard's times keep their fraction. */
static void test_fraction(void **state)
{
	auto_buf struct buf blob = BUF_INIT;
	auto_index struct index *ix = NULL;
	struct index_entry e;

	(void)state;
	slurp(samples[2].file, &blob);
	ix = index_of(&samples[2], &blob);
	index_entry(ix, 7, &e);
	assert_int_equal(e.mtime_nsec, 250000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_contents),
		cmocka_unit_test(test_prefetch),
		cmocka_unit_test(test_fraction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
