// SPDX-License-Identifier: Apache-2.0
/* The layer index: what the builder makes of entries, what is refused, loading of damaged files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/limits.h"
#include "image/index_rec.h"

static struct index_builder *builder;

static void begin(void)
{
	assert_int_equal(index_builder_new(CODEC_GZIP, 1000000, &builder), 0);
}

static struct digest digest_of(unsigned n)
{
	struct digest d;

	sha256(&n, sizeof(n), &d);
	return d;
}

static int add_entry(struct index_entry e, uint64_t size, const struct digest *d)
{
	struct err err = ERR_INIT;
	int r = index_builder_add(builder, &e, size, d, NULL, 0, &err);

	assert_true(r == 0 || err.text[0]);
	return r;
}

static int add(enum index_type type, const char *path)
{
	return add_entry((struct index_entry){.path = str_of(path), .type = type, .mode = 0644}, 0,
			 NULL);
}

static int add_link(enum index_type type, const char *path, const char *link)
{
	return add_entry(
		(struct index_entry){.path = str_of(path), .type = type, .link = str_of(link)}, 0,
		NULL);
}

static int chunk(uint64_t blob_off, uint64_t file_off, uint32_t size, unsigned digest)
{
	struct index_chunk c = {.blob_off = blob_off, .file_off = file_off, .size = size};
	struct err err = ERR_INIT;
	int r;

	if (digest)
		c.digest = digest_of(digest);
	r = index_builder_chunk(builder, &c, &err);
	assert_true(r == 0 || err.text[0]);
	return r;
}

/* A file of one chunk. */
static void file(const char *path, uint64_t blob_off, uint32_t size, unsigned digest)
{
	struct digest d = digest_of(digest);

	assert_int_equal(
		add_entry(
			(struct index_entry){.path = str_of(path), .type = INDEX_REG, .mode = 0644},
			size, &d),
		0);
	assert_int_equal(chunk(blob_off, 0, 0, 0), 0);
}

static int finish(int *ret_fd)
{
	struct err err = ERR_INIT;
	int fd = memfd_create("index", 0), r;

	assert_true(fd >= 0);
	r = index_builder_write(builder, fd, &err);
	assert_true(r == 0 || err.text[0]);
	index_builder_free(builder);
	if (r == 0 && ret_fd)
		*ret_fd = fd;
	else
		close(fd);
	return r;
}

static struct index *load(void)
{
	struct err err = ERR_INIT;
	struct index *ix = NULL;
	int fd = -1;

	assert_int_equal(finish(&fd), 0);
	if (index_load(fd, &ix, &err) != 0)
		fail_msg("%s", err.text);
	close(fd);
	return ix;
}

/* "d a; r a/b; …" with * for opaque and =target, >link. */
static void shows(const char *expect)
{
	static const char letters[] = "?drslLcbpw";
	auto_index struct index *ix = load();
	auto_buf struct buf out = BUF_INIT;
	int r = 0;

	for (uint32_t i = 0; i < index_info(ix)->entries_n; i++) {
		struct index_entry e, t;

		index_entry(ix, i, &e);
		r |= buf_printf(&out, "%c%s " STR_FMT, letters[e.type], e.opaque ? "*" : "",
				STR_ARG(e.path));
		if (e.type == INDEX_LINK) {
			index_entry(ix, e.target, &t);
			r |= buf_printf(&out, "=" STR_FMT, STR_ARG(t.path));
		}
		if (e.link.len)
			r |= buf_printf(&out, ">" STR_FMT, STR_ARG(e.link));
		if (e.names > 1)
			r |= buf_printf(&out, "(%u)", e.names);
		r |= buf_printf(&out, ";");
	}
	r |= buf_append(&out, "", 1);
	assert_int_equal(r, 0);
	assert_string_equal((char *)out.data, expect);
}

static void test_names(void **state)
{
	char name[300], path[INDEX_PATH_MAX + 10];

	(void)state;
	begin();
	assert_int_equal(add(INDEX_DIR, "./"), 0);
	assert_int_equal(add(INDEX_REG, "a/b.c"), 0);
	assert_int_equal(add(INDEX_REG, "a.b"), 0);
	assert_int_equal(add(INDEX_DIR, "/a//b/./"), 0);
	assert_int_equal(add(INDEX_REG, "../../x/../a/b/c"), 0);
	assert_int_equal(add(INDEX_FIFO, "a/b/c"), 0);
	assert_int_equal(
		add_entry((struct index_entry){.path = {"a\0b", 3}, .type = INDEX_DIR}, 0, NULL),
		-EINVAL);
	memset(name, 'n', sizeof(name));
	name[256] = 0;
	assert_int_equal(add(INDEX_REG, name), -EINVAL);
	name[255] = 0;
	assert_int_equal(add(INDEX_DIR, name), 0);
	name[2] = 0;
	assert_int_equal(add(INDEX_DIR, name), 0);
	for (size_t i = 0; i < sizeof(path); i++)
		path[i] = i % 100 ? 'p' : '/';
	path[INDEX_PATH_MAX + 2] = 0;
	assert_int_equal(add(INDEX_REG, path), -EFBIG);
	for (size_t i = 0; i < sizeof(path); i++)
		path[i] = i % 2 ? 'p' : '/';
	path[INDEX_PATH_MAX] = 0;
	assert_int_equal(add(INDEX_REG, path), -EFBIG);
	assert_int_equal(add_entry((struct index_entry){.path = STR("t"), .type = 99}, 0, NULL),
			 -EINVAL);
	name[2] = 'n';
	snprintf(path, sizeof(path), "d a/b;p a/b/c;r a/b.c;r a.b;d nn;d %s;", name);
	shows(path);
}

static void test_last_wins(void **state)
{
	(void)state;
	begin();
	file("x", 100, 10, 1);
	file("./x", 200, 20, 2);
	assert_int_equal(add(INDEX_DIR, "y"), 0);
	assert_int_equal(add_link(INDEX_SYMLINK, "y/", "../t"), 0);
	shows("r x;s y>../t;");
}

static void test_whiteouts(void **state)
{
	(void)state;
	begin();
	assert_int_equal(add(INDEX_REG, ".wh.gone"), 0);
	assert_int_equal(chunk(100, 0, 0, 0), 0);
	assert_int_equal(add(INDEX_REG, "d/.wh.gone"), 0);
	assert_int_equal(add(INDEX_REG, "new"), 0);
	assert_int_equal(add(INDEX_REG, ".wh.new"), 0);
	assert_int_equal(add(INDEX_REG, ".wh.dir"), 0);
	assert_int_equal(add(INDEX_DIR, "dir"), 0);
	assert_int_equal(add(INDEX_REG, "dir/f"), 0);
	assert_int_equal(add(INDEX_REG, "opq/.wh..wh..opq"), 0);
	assert_int_equal(add(INDEX_DIR, "opq2"), 0);
	assert_int_equal(add(INDEX_REG, "opq2/.wh..wh..opq"), 0);
	assert_int_equal(add(INDEX_REG, ".wh.implied"), 0);
	assert_int_equal(add(INDEX_REG, "implied/f"), 0);
	assert_int_equal(add(INDEX_DIR, ".wh..wh.plnk"), 0);
	assert_int_equal(add(INDEX_REG, ".wh..wh.plnk/1.2"), 0);
	assert_int_equal(add(INDEX_REG, ".wh..wh.aufs"), 0);
	assert_int_equal(add(INDEX_CHAR, "overlay"), 0);
	assert_int_equal(add(INDEX_REG, ".wh."), -EINVAL);
	assert_int_equal(add(INDEX_REG, "d/.wh.."), -EINVAL);
	assert_int_equal(add(INDEX_REG, "d/.wh..."), -EINVAL);
	assert_int_equal(add(INDEX_REG, ".wh.d/f"), -EINVAL);
	shows("w d/gone;d* dir;r dir/f;w gone;d* implied;r implied/f;r new;d* opq;d* opq2;"
	      "w overlay;");
	begin();
	assert_int_equal(add(INDEX_REG, ".wh..wh..opq"), 0);
	assert_int_equal(add(INDEX_REG, "a"), 0);
	shows("d* ;r a;");
}

static void test_opaque_dir_alone(void **state)
{
	auto_index struct index *ix = NULL;
	struct index_entry e;

	(void)state;
	begin();
	assert_int_equal(add_entry((struct index_entry){.path = STR("d/.wh..wh..opq"),
							.uid = 7,
							.type = INDEX_REG},
				   0, NULL),
			 0);
	ix = load();
	index_entry(ix, 0, &e);
	assert_int_equal(e.mode, 0755);
	assert_int_equal(e.uid, 0);
	assert_true(e.opaque && e.implied);
	assert_int_equal(index_info(ix)->inodes, 1);
}

static void test_links(void **state)
{
	(void)state;
	begin();
	assert_int_equal(add_link(INDEX_LINK, "l1", "./l2"), 0);
	assert_int_equal(add_link(INDEX_LINK, "l2", "/d/f"), 0);
	assert_int_equal(add_link(INDEX_LINK, "l3", "l1"), 0);
	file("d/f", 100, 10, 1);
	assert_int_equal(add_link(INDEX_LINK, "below", "l/ow"), 0);
	assert_int_equal(add_link(INDEX_LINK, "a", "below"), 0);
	assert_int_equal(add_link(INDEX_SYMLINK, "s", "../..//x/."), 0);
	assert_int_equal(add_link(INDEX_LINK, "s2", "s"), 0);
	assert_int_equal(add_link(INDEX_SYMLINK, "bad", ""), -EINVAL);
	assert_int_equal(add_link(INDEX_LINK, "bad", "/"), -EINVAL);
	assert_int_equal(add_entry((struct index_entry){.path = STR("bad"),
							.type = INDEX_SYMLINK,
							.link = {"a\0b", 3}},
				   0, NULL),
			 -EINVAL);
	shows("L a>l/ow;L below>l/ow;r d/f(4);l l1=d/f;l l2=d/f;l l3=d/f;s s>../..//x/.(2);l "
	      "s2=s;");
}

static void refuses(int code)
{
	assert_int_equal(finish(NULL), code);
}

static void test_bad_links(void **state)
{
	(void)state;
	begin();
	assert_int_equal(add_link(INDEX_LINK, "a", "b"), 0);
	assert_int_equal(add_link(INDEX_LINK, "b", "c"), 0);
	assert_int_equal(add_link(INDEX_LINK, "c", "b"), 0);
	refuses(-EINVAL);
	begin();
	assert_int_equal(add_link(INDEX_LINK, "a", "a"), 0);
	refuses(-EINVAL);
	begin();
	assert_int_equal(add(INDEX_DIR, "d"), 0);
	assert_int_equal(add_link(INDEX_LINK, "a", "d"), 0);
	refuses(-EINVAL);
	begin();
	assert_int_equal(add(INDEX_REG, ".wh.d"), 0);
	assert_int_equal(add_link(INDEX_LINK, "a", "d"), 0);
	refuses(-EINVAL);
}

/* Many links in a chain to one long name below: a small table must not become a giant file. */
static void test_many_long_links(void **state)
{
	auto_close int fd = memfd_create("index", 0);
	char name[32], before[32], target[4001];
	struct err err = ERR_INIT;
	struct stat st;

	(void)state;
	for (size_t i = 0; i + 1 < sizeof(target); i++)
		target[i] = i % 200 == 199 ? '/' : 'x';
	target[sizeof(target) - 2] = 'x';
	target[sizeof(target) - 1] = 0;
	begin();
	assert_int_equal(add_link(INDEX_LINK, "0", target), 0);
	for (unsigned i = 1; i < INDEX_STRINGS_MAX / 4000 + 1000; i++) {
		snprintf(before, sizeof(before), "%u", i - 1);
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(add_link(INDEX_LINK, name, before), 0);
	}
	assert_int_equal(index_builder_write(builder, fd, &err), -EFBIG);
	index_builder_free(builder);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_size < (off_t)MiB(32));
}

static void test_below_no_directory(void **state)
{
	static const enum index_type types[] = {INDEX_REG, INDEX_FIFO, INDEX_CHAR};

	(void)state;
	for (size_t i = 0; i < array_size(types); i++) {
		begin();
		assert_int_equal(add(INDEX_REG, "a/b/c/d"), 0);
		assert_int_equal(add(types[i], "a/b"), 0);
		assert_int_equal(add(INDEX_REG, "a/b.c"), 0);
		refuses(-EINVAL);
	}
	begin();
	assert_int_equal(add(INDEX_REG, "a"), 0);
	assert_int_equal(add(INDEX_REG, "a/.wh..wh..opq"), 0);
	refuses(-EINVAL);
	begin();
	assert_int_equal(add(INDEX_REG, "."), 0);
	refuses(-EINVAL);
}

static void test_chunks(void **state)
{
	struct digest d = digest_of(9);
	auto_index struct index *ix = NULL;
	struct index_object o;
	struct index_chunk c[3];
	struct digest key;

	(void)state;
	begin();
	index_builder_payload(builder, 900000);
	file("late", 5000, 10, 1);
	assert_int_equal(
		add_entry((struct index_entry){.path = STR("big"), .type = INDEX_REG}, 300, &d), 0);
	assert_int_equal(chunk(1000, 0, 100, 2), 0);
	assert_int_equal(chunk(2000, 100, 150, 3), 0);
	assert_int_equal(chunk(3000, 250, 0, 4), 0);
	file("same", 7000, 10, 1);
	file(".prefetch.landmark", 4000, 1, 5);
	ix = load();
	assert_int_equal(index_info(ix)->objects_n, 2);
	assert_int_equal(index_info(ix)->chunks_n, 4);
	assert_int_equal(index_info(ix)->entries_n, 3);
	assert_int_equal(index_info(ix)->content_bytes, 310);
	assert_int_equal(index_info(ix)->prefetch_end, 4000);
	index_object(ix, 0, &o);
	assert_int_equal(o.size, 300);
	assert_int_equal(o.chunks_n, 3);
	for (uint32_t i = 0; i < 3; i++)
		index_chunk(ix, o.chunk + i, &c[i]);
	assert_int_equal(c[0].blob_len, 1000);
	assert_int_equal(c[2].blob_len, 1000);
	assert_int_equal(c[2].file_off, 250);
	assert_int_equal(c[2].size, 50);
	index_key(&d, 300, c, 3, &key);
	assert_true(digest_eq(&key, &o.key));
	index_object(ix, 1, &o);
	index_chunk(ix, o.chunk, &c[0]);
	assert_int_equal(c[0].blob_off, 5000);
	assert_int_equal(c[0].blob_len, 2000);
}

static void test_key_vector(void **state)
{
	struct digest d = digest_of(1), key, expect;
	uint8_t bytes[40] = {0};

	(void)state;
	memcpy(bytes, d.bytes, 32);
	bytes[32] = 5;
	sha256(bytes, sizeof(bytes), &expect);
	index_key(&d, 5, NULL, 1, &key);
	assert_true(digest_eq(&key, &expect));
}

static void big(uint64_t size, bool digest)
{
	struct digest d = digest_of(1);

	begin();
	assert_int_equal(add_entry((struct index_entry){.path = STR("f"), .type = INDEX_REG}, size,
				   digest ? &d : NULL),
			 0);
}

static void test_bad_chunks(void **state)
{
	struct err err = ERR_INIT;
	struct index_chunk c = {.blob_off = 1, .inner_off = CHUNK_INNER_MAX + 1, .size = 1};

	(void)state;
	begin();
	assert_int_equal(chunk(1, 0, 1, 1), -EINVAL);
	index_builder_free(builder);
	big(100, true); /* a gap */
	assert_int_equal(chunk(1, 0, 50, 1), 0);
	assert_int_equal(chunk(1, 60, 40, 1), -EINVAL);
	index_builder_free(builder);
	big(100, true); /* an overlap */
	assert_int_equal(chunk(1, 0, 50, 1), 0);
	assert_int_equal(chunk(1, 40, 60, 1), -EINVAL);
	index_builder_free(builder);
	big(100, true); /* too long */
	assert_int_equal(chunk(1, 0, 101, 1), -EINVAL);
	index_builder_free(builder);
	big(100, true); /* outside */
	assert_int_equal(chunk(1000000, 0, 100, 1), -EINVAL);
	assert_int_equal(chunk(UINT64_MAX, 0, 100, 1), -EINVAL);
	assert_int_equal(index_builder_chunk(builder, &c, &err), -EFBIG);
	index_builder_free(builder);
	big(CHUNK_SIZE_MAX + 1, true);
	assert_int_equal(chunk(1, 0, 0, 1), -EFBIG);
	assert_int_equal(chunk(1, 0, CHUNK_SIZE_MAX + 1, 1), -EFBIG);
	refuses(-EINVAL); /* not covered */
	big(100, true);
	assert_int_equal(chunk(1, 0, 50, 1), 0);
	refuses(-EINVAL);
	big(100, true); /* no digest of one of several */
	assert_int_equal(chunk(1, 0, 50, 1), 0);
	assert_int_equal(chunk(2, 50, 50, 0), 0);
	refuses(-EINVAL);
	big(100, false); /* no digest of the whole */
	assert_int_equal(chunk(1, 0, 50, 1), 0);
	assert_int_equal(chunk(2, 50, 50, 2), 0);
	refuses(-EINVAL);
	big(100, false); /* no digest at all */
	assert_int_equal(chunk(1, 0, 0, 0), 0);
	refuses(-EINVAL);
	big(100, true); /* claims one content, would give another */
	assert_int_equal(chunk(1, 0, 0, 2), 0);
	refuses(-EINVAL);
	begin();
	assert_int_equal(add_entry((struct index_entry){.path = STR("f"), .type = INDEX_REG},
				   UINT64_MAX, NULL),
			 -EINVAL);
	refuses(0);
}

static void test_zeros(void **state)
{
	struct err err = ERR_INIT;
	struct index_chunk c = {.size = 5000, .zeros = true};
	auto_index struct index *ix = NULL;

	(void)state;
	big(5010, true);
	assert_int_equal(index_builder_chunk(builder, &c, &err), 0);
	assert_int_equal(chunk(77, 5000, 10, 2), 0);
	ix = load();
	index_chunk(ix, 0, &c);
	assert_true(c.zeros);
	assert_int_equal(c.blob_off, 77);
	assert_int_equal(c.blob_len, 0);
	index_free(take_ptr(ix));
	/* Alone it is content like any other: its digest must be proven. */
	big(5000, true);
	c = (struct index_chunk){.blob_off = 5, .size = 5000, .zeros = true};
	assert_int_equal(index_builder_chunk(builder, &c, &err), 0);
	ix = load();
	index_chunk(ix, 0, &c);
	assert_false(c.zeros);
	assert_true(c.blob_len > 0);
}

static void test_long_gap(void **state)
{
	auto_index struct index *ix = NULL;
	struct index_chunk c;

	(void)state;
	begin();
	file("a", 100, 10, 1);
	ix = load();
	index_chunk(ix, 0, &c);
	assert_int_equal(c.blob_len, KiB(64) + 11);
}

static void test_xattrs(void **state)
{
	static struct index_xattr many[XATTRS_MAX + 1];
	struct index_entry e = {.path = STR("f"), .type = INDEX_REG};
	struct err err = ERR_INIT;
	auto_index struct index *ix = NULL;
	struct index_xattr x;
	struct index_xattr some[] = {
		{STR("user.b"), STR("1")},
		{STR("trusted.overlay.redirect"), STR("/etc")},
		{STR("security.capability"), {"\0\1", 2}},
		{STR("user.b"), STR("2")},
		{STR("system.posix_acl_access"), STR("")},
		{STR("system.nfs4_acl"), STR("x")},
		{STR("odd"), STR("x")},
	};

	(void)state;
	begin();
	assert_int_equal(index_builder_add(builder, &e, 0, NULL, some, array_size(some), &err), 0);
	e = (struct index_entry){.path = STR("p"), .type = INDEX_FIFO};
	assert_int_equal(index_builder_add(builder, &e, 0, NULL, some, array_size(some), &err), 0);
	e.path = STR("bad");
	assert_int_equal(index_builder_add(builder, &e, 0, NULL,
					   &(struct index_xattr){STR(""), STR("")}, 1, &err),
			 -EINVAL);
	assert_int_equal(index_builder_add(builder, &e, 0, NULL,
					   &(struct index_xattr){STR("user."), STR("")}, 1, &err),
			 -EINVAL);
	assert_int_equal(index_builder_add(builder, &e, 0, NULL,
					   &(struct index_xattr){{"user.\0a", 7}, STR("")}, 1,
					   &err),
			 -EINVAL);
	for (size_t i = 0; i < array_size(many); i++)
		many[i] = (struct index_xattr){STR("security.x"), STR("y")};
	assert_int_equal(index_builder_add(builder, &e, 0, NULL, many, array_size(many), &err),
			 -EFBIG);
	many[0].value = (struct str){(const char *)many, XATTRS_BYTES_MAX - 5};
	assert_int_equal(index_builder_add(builder, &e, 0, NULL, many, 1, &err), -EFBIG);
	ix = load();
	index_entry(ix, 0, &e);
	assert_int_equal(e.xattrs_n, 3);
	index_xattr(ix, e.xattrs, &x);
	assert_true(str_eq(x.name, STR("security.capability")) && x.value.len == 2);
	index_xattr(ix, e.xattrs + 1, &x);
	assert_true(str_eq(x.name, STR("system.posix_acl_access")) && x.value.len == 0);
	index_xattr(ix, e.xattrs + 2, &x);
	assert_true(str_eq(x.name, STR("user.b")) && str_eq(x.value, STR("2")));
	index_entry(ix, 1, &e);
	assert_int_equal(e.xattrs_n, 2);
}

static void test_attributes(void **state)
{
	auto_index struct index *ix = NULL;
	struct index_entry e = {.path = STR("f"),
				.type = INDEX_BLOCK,
				.mode = 0106755,
				.uid = 1,
				.gid = 2,
				.mtime = 1234567890,
				.mtime_nsec = 5,
				.dev_major = 4095,
				.dev_minor = 1048575};
	struct index_entry is;

	(void)state;
	begin();
	assert_int_equal(add_entry(e, 0, NULL), 0);
	e.mtime = -5;
	e.path = STR("g");
	assert_int_equal(add_entry(e, 0, NULL), 0);
	e.dev_major++;
	assert_int_equal(add_entry(e, 0, NULL), -EINVAL);
	e.dev_major--;
	e.dev_minor++;
	assert_int_equal(add_entry(e, 0, NULL), -EINVAL);
	e.dev_minor--;
	e.uid = UINT32_MAX;
	assert_int_equal(add_entry(e, 0, NULL), -EINVAL);
	ix = load();
	index_entry(ix, 0, &is);
	assert_int_equal(is.mode, 06755);
	assert_int_equal(is.uid, 1);
	assert_int_equal(is.gid, 2);
	assert_int_equal(is.mtime, 1234567890);
	assert_int_equal(is.mtime_nsec, 5);
	assert_int_equal(is.dev_major, 4095);
	assert_int_equal(is.dev_minor, 1048575);
	assert_int_equal(is.names, 1);
	assert_int_equal(is.object, INDEX_NONE);
	index_entry(ix, 1, &is);
	assert_int_equal(is.mtime, 0);
	assert_int_equal(is.mtime_nsec, 0);
}

static int sample(void)
{
	int fd = -1;

	begin();
	file("a", 100, 10, 1);
	file("b", 200, 10, 2);
	assert_int_equal(add(INDEX_DIR, "d"), 0);
	assert_int_equal(add_link(INDEX_LINK, "d/l", "a"), 0);
	assert_int_equal(finish(&fd), 0);
	return fd;
}

static void test_point_reads(void **state)
{
	struct err err = ERR_INIT;
	auto_close int fd = sample();
	struct index_info info;
	struct index_object o;
	struct index_chunk c[2];
	uint8_t byte;
	off_t end;

	(void)state;
	assert_int_equal(index_read_info(fd, &info, &err), 0);
	assert_int_equal(info.entries_n, 4);
	assert_int_equal(info.inodes, 3);
	assert_int_equal(info.codec, CODEC_GZIP);
	assert_int_equal(index_read_object(fd, 1, &o, &err), 0);
	assert_int_equal(o.chunk, 1);
	assert_int_equal(index_read_object(fd, 2, &o, &err), -EINVAL);
	assert_int_equal(index_read_chunks(fd, 0, 2, c, &err), 0);
	assert_int_equal(c[1].blob_off, 200);
	assert_int_equal(index_read_chunks(fd, 1, 2, c, &err), -EINVAL);
	assert_int_equal(index_read_chunks(fd, UINT32_MAX, 2, c, &err), -EINVAL);
	assert_int_equal(index_read_chunks(fd, 2, 0, c, &err), 0);
	/* One wrong byte in the second chunk. */
	end = (off_t)(sizeof(struct index_head) + 4 * sizeof(struct rec_entry) +
		      2 * sizeof(struct rec_object) + 2 * sizeof(struct rec_chunk)) -
	      20;
	assert_int_equal(pread(fd, &byte, 1, end), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, end), 1);
	assert_int_equal(index_read_chunks(fd, 0, 1, c, &err), 0);
	assert_int_equal(index_read_chunks(fd, 0, 2, c, &err), -EBADMSG);
}

static void test_read_path(void **state)
{
	const off_t strings = (off_t)(sizeof(struct index_head) + 4 * sizeof(struct rec_entry) +
				      2 * sizeof(struct rec_object) + 2 * sizeof(struct rec_chunk));
	char path[INDEX_PATH_MAX + 1] = "as it was";
	auto_close int fd = sample();
	struct err err = ERR_INIT;
	struct rec_entry e;

	(void)state;
	assert_int_equal(index_read_path(fd, 2, path, &err), -ENOENT);
	assert_int_equal(index_read_path(fd, INDEX_NONE, path, &err), -ENOENT);
	assert_string_equal(path, "as it was");
	assert_int_equal(index_read_path(fd, 1, path, &err), 0);
	assert_string_equal(path, "b");
	assert_int_equal(index_read_path(fd, 0, path, &err), 0);
	assert_string_equal(path, "a");
	/* Records may be damaged: the file is not read as a whole here. */
	assert_int_equal(pread(fd, &e, sizeof(e), sizeof(struct index_head)), sizeof(e));
	e.path_off = UINT32_MAX;
	assert_int_equal(pwrite(fd, &e, sizeof(e), sizeof(struct index_head)), sizeof(e));
	assert_int_equal(index_read_path(fd, 0, path, &err), -EBADMSG);
	e.path_off = 0;
	e.path_len = UINT32_MAX;
	assert_int_equal(pwrite(fd, &e, sizeof(e), sizeof(struct index_head)), sizeof(e));
	assert_int_equal(index_read_path(fd, 0, path, &err), -EBADMSG);
	e.path_len = 1;
	assert_int_equal(pwrite(fd, &e, sizeof(e), sizeof(struct index_head)), sizeof(e));
	assert_int_equal(pwrite(fd, "", 1, strings), 1);
	assert_int_equal(index_read_path(fd, 0, path, &err), -EBADMSG);
	assert_int_equal(index_read_path(-1, 0, path, &err), -EIO);
}

/* Every wrong byte and every cut is found. */
static void test_damage(void **state)
{
	auto_close int fd = sample();
	off_t size = lseek(fd, 0, SEEK_END);
	struct index *ix = NULL;
	struct err err;
	uint8_t byte;

	(void)state;
	for (off_t i = 0; i < size; i++) {
		assert_int_equal(pread(fd, &byte, 1, i), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, i), 1);
		err = ERR_INIT;
		if (index_load(fd, &ix, &err) == 0)
			fail_msg("byte %jd", (intmax_t)i);
		assert_true(err.code == -EBADMSG || err.code == -ENOTSUP);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, i), 1);
	}
	assert_int_equal(index_load(fd, &ix, &err), 0);
	index_free(ix);
	for (off_t i = size - 1; i >= 0; i -= 7) {
		assert_int_equal(ftruncate(fd, i), 0);
		assert_int_equal(index_load(fd, &ix, &err), -EBADMSG);
	}
}

static void test_no_file(void **state)
{
	struct index *ix;
	struct index_info info;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(index_load(-1, &ix, &err), -EIO);
	assert_int_equal(index_read_info(-1, &info, &err), -EIO);
	begin();
	assert_int_equal(index_builder_write(builder, -1, &err), -EIO);
	index_builder_free(builder);
}

static void test_empty(void **state)
{
	(void)state;
	begin();
	shows("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),           cmocka_unit_test(test_last_wins),
		cmocka_unit_test(test_whiteouts),       cmocka_unit_test(test_opaque_dir_alone),
		cmocka_unit_test(test_links),           cmocka_unit_test(test_bad_links),
		cmocka_unit_test(test_chunks),          cmocka_unit_test(test_below_no_directory),
		cmocka_unit_test(test_key_vector),      cmocka_unit_test(test_bad_chunks),
		cmocka_unit_test(test_zeros),           cmocka_unit_test(test_long_gap),
		cmocka_unit_test(test_xattrs),          cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_damage),          cmocka_unit_test(test_point_reads),
		cmocka_unit_test(test_no_file),         cmocka_unit_test(test_empty),
		cmocka_unit_test(test_many_long_links), cmocka_unit_test(test_read_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
