// SPDX-License-Identifier: Apache-2.0
/* Merged layers, one table: what the layers hold, and what is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/limits.h"
#include "image/merge.h"

#define LAYERS_MAX 8

/* An entry "LETTER path [argument]": d directory, D opaque directory, f file (argument: its
 * content), s symlink, h hard link, w whiteout, p fifo, c 1:3. Its uid is the number of the layer,
 * from 1. */
static void add_entry(struct index_builder *b, char *text, uint32_t layer)
{
	char letter, path[512] = "", arg[512] = "";
	struct index_entry e = {.mode = 0751, .uid = layer, .mtime = 100 + layer};
	struct index_xattr x = {STR("user.layer"), {(char *)&layer, 4}};
	struct digest d;
	struct err err = ERR_INIT;
	struct index_chunk c = {.blob_off = 10};
	int r;

	assert_true(sscanf(text, " %c %511s %511s", &letter, path, arg) >= 2);
	e.type = letter == 'd' || letter == 'D' ? INDEX_DIR
		 : letter == 'f'                ? INDEX_REG
		 : letter == 's'                ? INDEX_SYMLINK
		 : letter == 'h'                ? INDEX_LINK
		 : letter == 'w'                ? INDEX_WHITEOUT
		 : letter == 'p'                ? INDEX_FIFO
						: INDEX_CHAR;
	e.path = str_of(path);
	e.link = str_of(arg);
	e.opaque = letter == 'D';
	e.dev_major = letter == 'c' ? 1 : 0;
	e.dev_minor = letter == 'c' ? 3 : 0;
	sha256(arg, strlen(arg), &d);
	r = index_builder_add(b, &e, strlen(arg), &d, &x,
			      letter == 'd' || letter == 'D' || letter == 'f', &err);
	if (r == 0 && letter == 'f' && arg[0])
		r = index_builder_chunk(b, &c, &err);
	if (r < 0)
		fail_msg("%s: %s", text, err.text);
}

static struct index *layer(const char *text, uint32_t number)
{
	auto_index_builder struct index_builder *b = NULL;
	auto_close int fd = memfd_create("layer", MFD_CLOEXEC);
	auto_free char *copy = strdup(text);
	struct index *ix = NULL;
	struct err err = ERR_INIT;
	char *save = NULL;

	assert_int_equal(index_builder_new(CODEC_GZIP, 1 << 20, &b), 0);
	for (char *e = strtok_r(copy, ";", &save); e; e = strtok_r(NULL, ";", &save))
		add_entry(b, e, number);
	if (index_builder_write(b, fd, &err) < 0 || index_load(fd, &ix, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	return ix;
}

static char letter_of(const struct merge_inode *in)
{
	switch (in->mode & S_IFMT) {
	case S_IFREG:
		return 'f';
	case S_IFDIR:
		return in->opaque ? 'D' : 'd';
	case S_IFLNK:
		return 's';
	case S_IFIFO:
		return 'p';
	case S_IFBLK:
		return 'b';
	default:
		return in->dev_major || in->dev_minor ? 'c' : 'w';
	}
}

/* "LETTER[?]layer/nlink path[=size][>target]; …" depth first. ?: only implied. */
static void show(const struct merge_inode *dir, const char *above, struct buf *out)
{
	char path[512];
	int r = 0;

	for (uint32_t i = 0; i < dir->names_n; i++) {
		const struct merge_inode *in = dir->names[i].inode;

		snprintf(path, sizeof(path), "%s%s" STR_FMT, above, above[0] ? "/" : "",
			 STR_ARG(dir->names[i].name));
		r |= buf_printf(out, "%s%c%s%u/%u %s", out->len ? "; " : "", letter_of(in),
				in->implied ? "?" : "", in->uid, in->nlink, path);
		if (in->size)
			r |= buf_printf(out, "=%u", (unsigned)in->size);
		if (in->target.len)
			r |= buf_printf(out, ">" STR_FMT, STR_ARG(in->target));
		if (in->xattrs_n)
			assert_memory_equal(in->xattrs[0].value.p, &in->uid, 4);
		assert_int_equal(in->xattrs_n, in->uid && (S_ISDIR(in->mode) || S_ISREG(in->mode)));
		if (in->uid)
			assert_int_equal(in->mtime, 100 + in->uid);
		if (!S_ISDIR(in->mode))
			continue;
		assert_ptr_equal(in->parent, dir);
		assert_int_equal(in->mode & 07777, in->uid ? 0751 : 0755);
		show(in, path, out);
	}
	assert_int_equal(r, 0);
}

static int run(const char *const *texts, bool below, struct buf *out, uint32_t *ret_nlink)
{
	struct index *layers[LAYERS_MAX];
	auto_merge struct merge_tree *t = NULL;
	struct err err = ERR_INIT;
	size_t n = 0;
	int r;

	for (; texts[n]; n++)
		layers[n] = layer(texts[n], (uint32_t)n + 1);
	r = merge_layers(layers, n, below, &t, &err);
	assert_int_equal(r < 0, err.text[0] != 0);
	if (r == 0) {
		assert_int_equal(merge_root(t)->mode, S_IFDIR | 0755);
		*ret_nlink = merge_root(t)->nlink;
		show(merge_root(t), "", out);
	}
	assert_int_equal(buf_append(out, "", 1), 0);
	for (size_t i = 0; i < n; i++)
		index_free(layers[i]);
	return r;
}

static const struct {
	bool below;
	const char *layers[LAYERS_MAX];
	const char *expect; /* NULL: -EINVAL */
} cases[] = {
	/* one layer */
	{false, {"f a x"}, "f1/1 a=1"},
	{false, {"d d; f d/a x; d d/e; d d/f"}, "d1/4 d; f1/1 d/a=1; d1/2 d/e; d1/2 d/f"},
	{false, {"f x/y/z 12"}, "d0/3 x; d0/2 x/y; f1/1 x/y/z=2"},
	{false,
	 {"f a x; h b a; h c b; s s to; p p; c c1"},
	 "f1/3 a=1; f1/3 b=1; f1/3 c=1; c1/1 c1; p1/1 p; s1/1 s>to"},
	{false, {"h a b; f b x"}, "f1/2 a=1; f1/2 b=1"},
	{false, {"w gone; D o; f o/a"}, "d1/2 o; f1/1 o/a"},
	{false, {"w d/gone"}, "d0/2 d"},
	{false, {"d a; d a-b; f a/z; f a-b/y"}, "d1/2 a; f1/1 a/z; d1/2 a-b; f1/1 a-b/y"},

	/* upper wins */
	{false, {"f a x", "f a yy"}, "f2/1 a=2"},
	{false, {"f a x; h b a", "f a yy"}, "f2/1 a=2; f1/2 b=1"},
	{false, {"f b 1", "f a 1; f c 1", "f b0 1"}, "f2/1 a=1; f1/1 b=1; f3/1 b0=1; f2/1 c=1"},
	{false, {"s a x", "f a"}, "f2/1 a"},
	{false, {"d d; f d/a", "d d; f d/b"}, "d2/1 d; f1/1 d/a; f2/1 d/b"},
	{false, {"d d; f d/a", "f d x"}, "f2/1 d=1"},
	{false, {"f d x", "d d; f d/b"}, "d2/2 d; f2/1 d/b"},
	{false, {"d d; d d/e; f d/e/f", "s d x", "d d"}, "d3/2 d"},

	/* implied parents */
	{false, {"d d; f d/a", "f d/b"}, "d1/1 d; f1/1 d/a; f2/1 d/b"},
	{false, {"d d; d d/e", "f d/e/f"}, "d1/1 d; d1/1 d/e; f2/1 d/e/f"},
	{false, {"f d", "f d/b"}, "d0/2 d; f2/1 d/b"},
	{false,
	 {"s lib usr/lib; f usr/lib/a", "f lib/b"},
	 "d0/2 lib; f2/1 lib/b; d0/3 usr; d0/2 usr/lib; f1/1 usr/lib/a"},
	{false, {"f d/a", "d d"}, "d2/1 d; f1/1 d/a"},

	/* whiteouts */
	{false, {"f a; f b", "w a"}, "f1/1 b"},
	{false, {"f a", "w a", "f a 1"}, "f3/1 a=1"},
	{false, {"d d; f d/a; d d/e; f d/e/f; f k", "w d"}, "f1/1 k"},
	{false, {"d d; f d/a; d d/e; f d/e/f", "w d", "d d; f d/b"}, "d3/2 d; f3/1 d/b"},
	{false, {"d d; f d/a; d d/e; f d/e/f", "w d/e"}, "d1/1 d; f1/1 d/a"},
	{false, {"f a; h b a", "w a"}, "f1/2 b"},
	{false, {"f a", "w none; w d/none"}, "f1/1 a; d0/2 d"},
	{false, {"f a", "w a/b"}, "d0/2 a"},

	/* opaque */
	{false, {"d d; f d/a; d d/e; f d/e/f", "D d; f d/b"}, "d2/2 d; f2/1 d/b"},
	{false,
	 {"d d; f d/a; d d/e; f d/e/f", "D d; d d/e; f d/e/g"},
	 "d2/3 d; d2/2 d/e; f2/1 d/e/g"},
	{false, {"d d; f d/a", "D d; f d/b", "d d; f d/c"}, "d3/1 d; f2/1 d/b; f3/1 d/c"},
	{false, {"f d", "D d; f d/b"}, "d2/2 d; f2/1 d/b"},
	{false, {"d d; f d/a", "f d/.wh..wh..opq; f d/b"}, "d1/2 d; f2/1 d/b"},
	{false, {"d d; f d/a", "w d; f d/b"}, "d1/2 d; f2/1 d/b"},
	{false, {"f d", "f d/.wh..wh..opq"}, "d0/2 d"},
	{false, {"f a", "D .; f b"}, "f1/1 a; f2/1 b"}, /* as overlayfs has it */

	/* links to lower layers */
	{false, {"f a x", "h b a"}, "f1/2 a=1; f1/2 b=1"},
	{false, {"f a x", "h b a; h c b"}, "f1/3 a=1; f1/3 b=1; f1/3 c=1"},
	{false, {"s a x", "h b a"}, "s1/2 a>x; s1/2 b>x"},
	{false, {"f d/a x", "D d; h b d/a"}, "f1/2 b=1; d2/2 d"},
	{false, {"f a x", "h b none"}, NULL},
	{false, {"d a", "h b a"}, NULL},
	{false, {"f a x", "w a", "h b a"}, NULL},
	{true, {"f a x", "w a", "h b a"}, NULL},
	{false, {"h b a"}, NULL},

	/* something lies below */
	{true, {"f a x; d d"}, "f1/1 a=1; d1/2 d"},
	{true, {"w a; w d/b"}, "w0/1 a; d?0/2 d; w0/1 d/b"},
	{true, {"f a", "w a"}, "w0/1 a"},
	{true, {"d d; f d/a", "w d"}, "w0/1 d"},
	{true, {"w d", "d d; f d/a"}, "D2/2 d; f2/1 d/a"},
	{true, {"w d", "f d/a"}, "D0/2 d; f2/1 d/a"},
	{true, {"f d", "d d", "f d/a"}, "D2/1 d; f3/1 d/a"},
	{true, {"D d; f d/a"}, "D1/2 d; f1/1 d/a"},
	{true, {"D d; f d/a", "d d; f d/b"}, "D2/1 d; f1/1 d/a; f2/1 d/b"},
	{true,
	 {"D d; f d/a", "w d/a; w d/b; f d/c/e; D d/g"},
	 "D1/1 d; d0/2 d/c; f2/1 d/c/e; d2/2 d/g"},
	{true, {"w d/a", "D d"}, "D2/2 d"},
	{true, {"w a", "f a x"}, "f2/1 a=1"},
	{true, {"w a", "f a x", "w a"}, "w0/1 a"},
};

static void test_cases(void **state)
{
	uint32_t nlink;

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		auto_buf struct buf out = BUF_INIT;
		int r = run(cases[i].layers, cases[i].below, &out, &nlink);

		if (!cases[i].expect)
			assert_int_equal(r, -EINVAL);
		else if (r < 0 || strcmp((char *)out.data, cases[i].expect) != 0)
			fail_msg("case %zu (%s): %d\n%s\nexpected:\n%s", i, cases[i].layers[0], r,
				 (char *)out.data, cases[i].expect);
	}
}

static void test_root(void **state)
{
	auto_buf struct buf out = BUF_INIT;
	uint32_t nlink;

	(void)state;
	assert_int_equal(run((const char *[]){"d a; d b", NULL}, false, &out, &nlink), 0);
	assert_int_equal(nlink, 4);
	assert_int_equal(run((const char *[]){"d a; d b", "", NULL}, false, &out, &nlink), 0);
	assert_int_equal(nlink, 1);
	assert_int_equal(run((const char *[]){"", NULL}, true, &out, &nlink), 0);
	assert_int_equal(nlink, 2);
	assert_int_equal(run((const char *[]){NULL}, false, &out, &nlink), -EINVAL);
}

static void add_plain(struct index_builder *b, enum index_type type, const char *path)
{
	struct index_entry e = {.path = str_of(path), .type = type, .mode = 0755};
	struct err err = ERR_INIT;

	if (index_builder_add(b, &e, 0, NULL, NULL, 0, &err) < 0)
		fail_msg("%s", err.text);
}

static struct index *write_and_load(struct index_builder *b)
{
	auto_close int fd = memfd_create("layer", MFD_CLOEXEC);
	struct index *ix = NULL;
	struct err err = ERR_INIT;

	if (index_builder_write(b, fd, &err) < 0 || index_load(fd, &ix, &err) < 0)
		fail_msg("%s", err.text);
	return ix;
}

/* As deep as an index goes, removed and made again many times. */
static void test_deep(void **state)
{
	enum { DEEP = 1000, N = 21 };
	struct index *layers[N];
	auto_merge struct merge_tree *t = NULL;
	const struct merge_inode *in;
	char path[2 * DEEP + 2] = "";
	int depth = 0;

	(void)state;
	for (int i = 0; i < DEEP; i++)
		memcpy(path + (size_t)2 * i, "d/", 3);
	memcpy(path + (size_t)2 * DEEP, "f", 2);
	for (int i = 0; i < N; i++) {
		auto_index_builder struct index_builder *b = NULL;

		assert_int_equal(index_builder_new(CODEC_GZIP, 1 << 20, &b), 0);
		add_plain(b, i % 2 ? INDEX_WHITEOUT : INDEX_REG, i % 2 ? "d" : path);
		layers[i] = write_and_load(b);
	}
	assert_int_equal(merge_layers(layers, N, false, &t, NULL), 0);
	for (in = merge_root(t); S_ISDIR(in->mode); in = in->names[0].inode, depth++)
		assert_int_equal(in->names_n, 1);
	assert_int_equal(depth, DEEP + 1);
	for (int i = 0; i < N; i++)
		index_free(layers[i]);
}

static void test_speed(void **state)
{
	enum { N = 100, FILES = 10000 };
	static struct index *layers[N];
	struct merge_tree *t = NULL;
	struct timespec a, b;
	char path[128];

	(void)state;
	for (int i = 0; i < N; i++) {
		auto_index_builder struct index_builder *builder = NULL;

		assert_int_equal(index_builder_new(CODEC_GZIP, 1 << 20, &builder), 0);
		for (int j = 0; j < FILES; j++) {
			snprintf(path, sizeof(path), "usr/share/dir%03d/file-%d-%d", j % 100,
				 j % 2 ? i : 0, j);
			add_plain(builder, INDEX_REG, path);
		}
		layers[i] = write_and_load(builder);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	assert_int_equal(merge_layers(layers, N, false, &t, NULL), 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	print_message(
		"%d layers of %d files: %lld us of CPU\n", N, FILES,
		(long long)((b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000));
	merge_free(t);
	for (int i = 0; i < N; i++)
		index_free(layers[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_deep),
		cmocka_unit_test(test_speed),
	};

	return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
