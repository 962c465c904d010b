// SPDX-License-Identifier: Apache-2.0
/* EROFS images of hand-made trees, read back byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/arena.h"
#include "fs/erofs.h"

#include "erofs_check.h"

static struct arena arena;
static const uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static int setup(void **state)
{
	(void)state;
	arena_init(&arena, MiB(512));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

static void *new (size_t n)
{
	void *p = arena_alloc(&arena, n ? n : 1);

	assert_non_null(p);
	memset(p, 0, n);
	return p;
}

static struct merge_inode *inode(mode_t mode)
{
	struct merge_inode *in = new (sizeof(*in));

	in->mode = mode;
	in->nlink = S_ISDIR(mode) ? 2 : 1;
	return in;
}

static struct merge_inode *file(uint64_t size, uint8_t key)
{
	struct merge_inode *in = inode(S_IFREG | 0644);

	in->size = size;
	memset(in->key.bytes, key, DIGEST_SIZE);
	return in;
}

static struct merge_inode *symlink_to(const char *target)
{
	struct merge_inode *in = inode(S_IFLNK | 0777);

	in->target = str_of(target);
	return in;
}

static int by_name(const void *a, const void *b)
{
	return str_cmp(((const struct merge_name *)a)->name, ((const struct merge_name *)b)->name);
}

/* A directory for up to max names; add() fills it. */
static struct merge_inode *directory(uint32_t max)
{
	struct merge_inode *in = inode(S_IFDIR | 0755);

	in->names = new (max * sizeof(in->names[0]));
	return in;
}

static struct merge_inode *add(struct merge_inode *dir, const char *name, struct merge_inode *in)
{
	dir->names[dir->names_n++] =
		(struct merge_name){{arena_strndup(&arena, name, strlen(name)), strlen(name)}, in};
	if (S_ISDIR(in->mode)) {
		in->parent = dir;
		dir->nlink++;
	}
	return in;
}

static void sort(struct merge_inode *dir)
{
	qsort(dir->names, dir->names_n, sizeof(dir->names[0]), by_name);
}

/* An image that is cut short is seen, wherever that is. */
static void check_whole(int fd, uint64_t bytes)
{
	const uint64_t cuts[] = {bytes - 1, bytes / 2, EROFS_SB_AT + 40, 0};
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(erofs_whole(path, NULL), 0);
	for (size_t i = 0; i < array_size(cuts); i++) {
		assert_int_equal(ftruncate(fd, (off_t)cuts[i]), 0);
		assert_int_equal(erofs_whole(path, NULL), -EBADMSG);
	}
}

/* Writes it twice, compares the bytes, and reads the image back. */
static struct erofs_stat write_and_check(struct merge_inode *root)
{
	struct erofs_stat st = {0}, again = {0};
	struct err err = ERR_INIT;
	auto_close int a = memfd_create("a", MFD_CLOEXEC), b = memfd_create("b", MFD_CLOEXEC);
	uint8_t *pa, *pb;

	assert_int_equal(ftruncate(a, 123456789), 0); /* what was there goes */
	if (erofs_write_root(root, uuid, a, &st, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(erofs_write_root(root, uuid, b, &again, &err), 0);
	assert_int_equal(st.bytes, again.bytes);
	assert_int_equal(lseek(a, 0, SEEK_END), st.bytes);
	pa = mmap(NULL, st.bytes, PROT_READ, MAP_PRIVATE, a, 0);
	pb = mmap(NULL, st.bytes, PROT_READ, MAP_PRIVATE, b, 0);
	assert_true(pa != MAP_FAILED && pb != MAP_FAILED);
	assert_memory_equal(pa, pb, st.bytes);
	assert_memory_equal(pa + EROFS_SB_AT + SB_UUID, uuid, 16);
	check_image(pa, st.bytes, root, st.inodes);
	munmap(pa, st.bytes);
	munmap(pb, st.bytes);
	check_whole(b, st.bytes);
	return st;
}

static void test_crc(void **state)
{
	(void)state;
	assert_int_equal(erofs_crc((const uint8_t *)"123456789", 9), 0x1CF96D7C);
	assert_int_equal(erofs_crc(NULL, 0), 0xFFFFFFFF);
}

static void test_empty(void **state)
{
	struct merge_inode *root = directory(1);
	struct erofs_stat st;

	(void)state;
	root->mode = S_IFDIR | 01777;
	root->uid = 70000;
	root->gid = 3;
	st = write_and_check(root);
	assert_int_equal(st.bytes, EROFS_BLOCK);
	assert_int_equal(st.inodes, 1);
	assert_int_equal(st.root_mode, 01777);
	assert_int_equal(st.root_uid, 70000);
	assert_int_equal(st.root_gid, 3);
}

static void test_types(void **state)
{
	struct merge_inode *root = directory(64), *in, *sub;

	(void)state;
	add(root, "!before", file(1, 1));
	add(root, "-x", file(0, 0));
	add(root, ".!", file(4096, 2));
	add(root, "...", file(4097, 2));
	in = add(root, "char", inode(S_IFCHR | 0600));
	in->dev_major = 8;
	in->dev_minor = 300;
	in = add(root, "block", inode(S_IFBLK | 0660));
	in->dev_major = 4095;
	in->dev_minor = 0xfffff;
	add(root, "fifo", inode(S_IFIFO | 0644));
	add(root, "link", symlink_to("../target"));
	add(root, "whiteout", inode(S_IFCHR));
	in = add(root, "hard", file(UINT64_C(1) << 60, 3));
	in->nlink = 3;
	add(root, "hard2", in);
	sub = add(root, "sub", directory(3));
	sub->opaque = true;
	add(sub, "hard3", in);
	in = add(sub, "z", file((UINT64_C(1) << 43), 4));
	in->uid = UINT32_MAX;
	in->gid = 65536;
	in->mtime = -1;
	in->mtime_nsec = 999999999;
	in = add(sub, "y", file((UINT64_C(1) << 43) + 1, 4));
	in->mtime = INT64_MAX;
	in->mode = S_IFREG | 07777;
	sort(root);
	sort(sub);
	assert_int_equal(write_and_check(root).inodes, 14);
}

/* Times that most inodes share make small inodes, others do not. */
static void test_times(void **state)
{
	struct merge_inode *root = directory(200), *in;
	uint64_t compact;
	char name[16];

	(void)state;
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%03d", i);
		in = add(root, name, file(0, 0));
		in->mtime = 1700000000;
		in->mtime_nsec = 5;
	}
	compact = write_and_check(root).bytes;
	for (int i = 0; i < 200; i++)
		root->names[i].inode->mtime = i;
	assert_true(write_and_check(root).bytes > compact);
}

static void test_wide(void **state)
{
	enum { N = 120000 };
	struct merge_inode *root = directory(1), *dir;
	char name[32];

	(void)state;
	dir = add(root, "wide", directory(N));
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "%06d-name", i);
		add(dir, name, file((uint64_t)i, (uint8_t)i));
	}
	assert_int_equal(write_and_check(root).inodes, N + 2);
}

static void test_deep(void **state)
{
	struct merge_inode *root = directory(1), *dir = root;

	(void)state;
	for (int i = 0; i < 20000; i++)
		dir = add(dir, "d", directory(1));
	assert_int_equal(write_and_check(root).inodes, 20001);
}

/* Every length of names around the sizes at which a directory gets another block. */
static void test_dir_sizes(void **state)
{
	char name[NAME_MAX + 1];

	(void)state;
	for (uint32_t n = 1; n < 70; n++) {
		for (uint32_t len = 3; len <= NAME_MAX; len += n > 14 && n < 19 ? 1 : 28) {
			struct merge_inode *root = directory(1), *dir;

			dir = add(root, "d", directory(n));
			for (uint32_t i = 0; i < n; i++) {
				memset(name, 'n', sizeof(name));
				name[0] = (char)('0' + i / 10);
				name[1] = (char)('0' + i % 10);
				name[len] = 0;
				add(dir, name, inode(S_IFIFO));
			}
			write_and_check(root);
			arena_fini(&arena);
		}
	}
}

static void test_symlinks(void **state)
{
	char target[4096];
	struct merge_inode *root = directory(5000);
	char name[16];

	(void)state;
	memset(target, 't', sizeof(target));
	for (int len = 1; len<4096; len += len> 3900 ? 1 : 37) {
		target[len] = 0;
		snprintf(name, sizeof(name), "l%04d", len);
		add(root, name, symlink_to(arena_strndup(&arena, target, (size_t)len)));
		target[len] = 't';
	}
	write_and_check(root);
}

static void set_xattrs(struct merge_inode *in, const struct index_xattr *x, uint32_t n)
{
	in->xattrs = x;
	in->xattrs_n = n;
}

static void test_xattrs(void **state)
{
	static char big[65535];
	static const struct index_xattr some[] = {
		{{"security.capability", 19}, {"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20}},
		{{"system.posix_acl_access", 23}, {"\2\0\0\0", 4}},
		{{"system.posix_acl_default", 24}, {"\2\0\0\0", 4}},
		{{"system.posix_acl_other", 22}, {"x", 1}}, /* not stored */
		{{"trusted.overlay.opaque", 22}, {"y", 1}}, /* not stored */
		{{"trusted.own", 11}, {"v", 1}},
		{{"user.", 5}, {"x", 1}}, /* not stored */
		{{"user.a", 6}, {"", 0}},
		{{"user.b", 6}, {"1\0002", 3}},
		{{"user.big", 8}, {big, sizeof(big)}},
		{{"weird", 5}, {"x", 1}}, /* not stored */
	};
	struct merge_inode *root = directory(4);
	struct index_xattr *many = new (300 * sizeof(*many));

	(void)state;
	memset(big, 'b', sizeof(big));
	set_xattrs(root, some, array_size(some));
	set_xattrs(add(root, "a", file(5, 5)), some, array_size(some) - 2);
	set_xattrs(add(root, "b", symlink_to("x")), some, 1);
	for (int i = 0; i < 300; i++)
		many[i] = (struct index_xattr){str_of(arena_printf(&arena, "user.n%03d", i)),
					       STR("value")};
	set_xattrs(add(root, "c", file(6, 6)), many, 300);
	set_xattrs(add(root, "d", directory(0)), many, 300);
	write_and_check(root);
}

static int refused(struct merge_inode *root)
{
	auto_close int fd = memfd_create("a", MFD_CLOEXEC);
	struct erofs_stat st;
	struct err err = ERR_INIT;
	int r = erofs_write_root(root, uuid, fd, &st, &err);

	assert_int_equal(r < 0, err.text[0] != 0);
	return r;
}

static void test_small_files(void **state)
{
	static char bytes[EROFS_BLOCK];
	struct merge_inode *root = directory(5000);
	char name[16];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7);
	for (size_t len = 1; len <= EROFS_BLOCK; len += len > 3900 ? 1 : 37) {
		struct merge_inode *in = file(len, (uint8_t)len);

		in->target = (struct str){bytes, len};
		snprintf(name, sizeof(name), "f%04zu", len);
		add(root, name, in);
	}
	add(root, "z", file(100, 1)); /* one that it does not hold */
	write_and_check(root);
}

static void test_refused(void **state)
{
	static char value[65536];
	struct index_xattr *x = new (6 * sizeof(*x));
	struct merge_inode *root = directory(1);

	(void)state;
	add(root, "a", file((UINT64_C(1) << 60) + 1, 1));
	assert_int_equal(refused(root), -EFBIG);
	root->names_n = 0;
	add(root, "a", symlink_to(""));
	assert_int_equal(refused(root), -EINVAL);
	memset(value, 'x', 4096);
	root->names[0].inode->target = (struct str){value, 4096};
	assert_int_equal(refused(root), -EINVAL);
	root->names[0].inode = file(4097, 1);
	root->names[0].inode->target = (struct str){value, 4097};
	assert_int_equal(refused(root), -EINVAL);
	root->names[0].inode = file(5, 1);
	root->names[0].inode->target = (struct str){value, 4};
	assert_int_equal(refused(root), -EINVAL);
	root->names_n = 0;
	x[0] = (struct index_xattr){STR("user.a"), {value, 65536}};
	set_xattrs(root, x, 1);
	assert_int_equal(refused(root), -EFBIG);
	for (int i = 0; i < 6; i++)
		x[i] = (struct index_xattr){str_of(arena_printf(&arena, "user.%d", i)),
					    {value, 60000}};
	set_xattrs(root, x, 6); /* the area's size does not fit */
	assert_int_equal(refused(root), -EFBIG);
	root->xattrs_n = 0;
	add(root, "", file(0, 0));
	assert_int_equal(refused(root), -EINVAL);
}

/* Maps of holes are bounded too. */
static void test_image_limit(void **state)
{
	struct merge_inode *root = directory(3000);
	char name[16];

	(void)state;
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "f%04d", i);
		add(root, name, file(UINT64_C(1) << 60, 1));
	}
	assert_int_equal(refused(root), -EFBIG);
}

static void test_write_error(void **state)
{
	auto_close int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct erofs_stat st = {.bytes = 1};
	struct err err = ERR_INIT;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(erofs_write_root(directory(0), uuid, fd, &st, &err), -ENOSPC);
	assert_int_equal(st.bytes, 1);
	assert_non_null(strstr(err.text, "No space"));
}

static void test_speed(void **state)
{
	struct merge_inode *root = directory(1000), *dir = NULL, *in;
	auto_close int fd = memfd_create("a", MFD_CLOEXEC);
	struct erofs_stat st;
	struct timespec a, b;
	char name[32];

	(void)state;
	for (int i = 0; i < 100000; i++) {
		if (i % 100 == 0) {
			snprintf(name, sizeof(name), "dir%06d", i);
			dir = add(root, name, directory(100));
		}
		snprintf(name, sizeof(name), "file-%06d.txt", i);
		in = add(dir, name, file(5000, 0));
		in->mtime = i;
		memcpy(in->key.bytes, &i, sizeof(i));
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	assert_int_equal(erofs_write_root(root, uuid, fd, &st, NULL), 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	print_message(
		"101001 inodes, %llu bytes: %lld us of CPU\n", (unsigned long long)st.bytes,
		(long long)((b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_crc),         TEST(test_empty),    TEST(test_types),
		TEST(test_times),       TEST(test_wide),     TEST(test_deep),
		TEST(test_dir_sizes),   TEST(test_symlinks), TEST(test_xattrs),
		TEST(test_small_files), TEST(test_refused),  TEST(test_image_limit),
		TEST(test_write_error), TEST(test_speed),
	};

	return cmocka_run_group_tests_name("erofs", tests, NULL, NULL);
}
