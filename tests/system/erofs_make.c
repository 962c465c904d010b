// SPDX-License-Identifier: Apache-2.0
/*
 * Trees that a seed makes, as EROFS images, and the comparison of what the kernel shows of them.
 *   erofs_make make SEED IMAGE OBJECTS   writes the image, and contents of its smaller files into
 *                                        the directory OBJECTS (-: nowhere)
 *   erofs_make check SEED DIR            DIR is a mount of the image
 *   erofs_make overlay SEED DIR          DIR is an overlay above it: contents are compared too
 *   erofs_make mount IMAGE DIR file|loop
 * Seed 0 is the tree of extremes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/arena.h"
#include "base/limits.h"
#include "fs/erofs.h"
#include "fs/mount.h"

#define CONTENT_MAX 20000
#define WIDE        110000
#define DEEP        300

static struct arena arena;
static uint64_t seed;
static bool overlay;
static uint64_t checked;

#define die(...)                                                                                   \
	do {                                                                                       \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fputc('\n', stderr);                                                               \
		exit(1);                                                                           \
	} while (0)

static uint64_t rnd(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

static void *new (size_t n)
{
	void *p = arena_alloc(&arena, n);

	if (!p)
		die("out of memory");
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

/* --- making ----------------------------------------------------------------------------------- */

static const char acl[] = "\2\0\0\0"
			  "\1\0\7\0\377\377\377\377"
			  "\2\0\7\0\350\3\0\0"
			  "\4\0\5\0\377\377\377\377"
			  "\20\0\7\0\377\377\377\377"
			  "\40\0\5\0\377\377\377\377";
static const char caps[] = "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0";

/* In the order of their names; sometimes one of a kind. */
static void set_xattrs(struct merge_inode *in)
{
	struct index_xattr *x = new (16 * sizeof(*x));
	bool file = S_ISREG(in->mode), dir = S_ISDIR(in->mode);
	char *value;

	in->xattrs = x;
	if (file && rnd(4) == 0)
		x[in->xattrs_n++] = (struct index_xattr){STR("security.capability"), {caps, 20}};
	if (rnd(4) == 0)
		x[in->xattrs_n++] = (struct index_xattr){STR("security.other"), STR("")};
	if ((file || dir) && rnd(8) == 0)
		x[in->xattrs_n++] =
			(struct index_xattr){STR("system.posix_acl_access"), {acl, 4 + 5 * 8}};
	if (dir && rnd(8) == 0)
		x[in->xattrs_n++] =
			(struct index_xattr){STR("system.posix_acl_default"), {acl, 4 + 5 * 8}};
	if (rnd(8) == 0)
		x[in->xattrs_n++] = (struct index_xattr){STR("trusted.own"), STR("value")};
	if (!file && !dir)
		return;
	if (rnd(3) == 0)
		x[in->xattrs_n++] = (struct index_xattr){STR("user.a"), STR("again")};
	if (rnd(3) == 0) {
		size_t n = rnd(10) == 0 ? 1 + rnd(9000) : 1 + rnd(50);

		value = new (n);
		memset(value, 'a' + (int)rnd(26), n);
		x[in->xattrs_n++] = (struct index_xattr){STR("user.b"), {value, n}};
	}
}

/* What a content of this key begins with and goes on with. */
static void content(const struct merge_inode *in, char *ret)
{
	for (uint64_t i = 0; i < in->size; i++)
		ret[i] = (char)(in->key.bytes[i % DIGEST_SIZE] + i / DIGEST_SIZE);
}

/* Every other small file is in the image itself. */
static void set_file(struct merge_inode *in, uint64_t size, uint64_t number)
{
	char *bytes;

	in->size = size;
	sha256(&number, sizeof(number), &in->key);
	if (size > SMALL_FILE_MAX || size % 2)
		return;
	bytes = new (size);
	content(in, bytes);
	in->target = (struct str){bytes, size};
}

static char *text(size_t n, char fill)
{
	char *p = new (n + 1);

	memset(p, fill, n);
	return p;
}

static void set_times(struct merge_inode *in)
{
	static const int64_t seconds[] = {0, 1700000000, 1700000000, 1700000000, -1, 1ll << 40};

	in->mtime = seconds[rnd(array_size(seconds))];
	in->mtime_nsec = rnd(2) ? 0 : (uint32_t)rnd(1000000000);
	in->uid = (uint32_t)(rnd(5) ? rnd(2000) : rnd(UINT32_MAX));
	in->gid = (uint32_t)(rnd(5) ? rnd(2000) : rnd(UINT32_MAX));
}

static struct merge_inode *random_inode(void)
{
	static const mode_t types[] = {S_IFREG, S_IFREG, S_IFREG, S_IFREG, S_IFDIR,
				       S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO};
	struct merge_inode *in = inode(types[rnd(array_size(types))] | (mode_t)rnd(010000));

	set_times(in);
	if (rnd(3) == 0)
		set_xattrs(in);
	if (S_ISREG(in->mode) && rnd(6)) {
		uint64_t size = rnd(8) ? 1 + rnd(rnd(2) ? CONTENT_MAX : SMALL_FILE_MAX)
				       : UINT64_C(1) << rnd(61);

		/* equal contents have equal sizes */
		set_file(in, size, size);
	}
	if (S_ISLNK(in->mode)) {
		in->mode = S_IFLNK | 0777;
		in->target = str_of(text(1 + (rnd(3) ? rnd(60) : rnd(4095)), 't'));
	}
	if (S_ISCHR(in->mode) || S_ISBLK(in->mode)) {
		in->dev_major = 1 + (uint32_t)rnd(4095);
		in->dev_minor = (uint32_t)rnd(1 << 20);
	}
	return in;
}

static int by_name(const void *a, const void *b)
{
	return str_cmp(((const struct merge_name *)a)->name, ((const struct merge_name *)b)->name);
}

static void sort(struct merge_inode *dir)
{
	qsort(dir->names, dir->names_n, sizeof(dir->names[0]), by_name);
}

static void add(struct merge_inode *dir, const char *name, struct merge_inode *in)
{
	dir->names[dir->names_n++] = (struct merge_name){str_of(name), in};
	if (S_ISDIR(in->mode)) {
		in->parent = dir;
		dir->nlink++;
	}
}

/* A name that differs from others by its number. */
static const char *random_name(uint32_t number)
{
	static const char first[] = "!-.az\x80\xff";
	char *name = arena_printf(&arena, "%c%u", first[rnd(sizeof(first) - 1)], number);
	size_t len = strlen(name), more = rnd(3) ? rnd(20) : rnd(256 - len);
	char *p = text(len + more, 'n');

	memcpy(p, name, len);
	return p;
}

static void fill(struct merge_inode *dir, struct merge_inode **files, uint32_t *files_n)
{
	uint32_t n = (uint32_t)(rnd(4) ? rnd(12) : rnd(120));

	dir->names = new ((n + 1) * sizeof(dir->names[0]));
	for (uint32_t i = 0; i < n; i++) {
		if (*files_n && rnd(6) == 0) {
			struct merge_inode *in = files[rnd(*files_n)];

			in->nlink++;
			add(dir, random_name(i), in);
			continue;
		}
		add(dir, random_name(i), random_inode());
		if (!S_ISDIR(dir->names[i].inode->mode) && *files_n < 1000)
			files[(*files_n)++] = dir->names[i].inode;
	}
	sort(dir);
}

static struct merge_inode *random_tree(void)
{
	struct merge_inode *root = inode(S_IFDIR | 0755), **dirs = new (1000 * sizeof(*dirs));
	struct merge_inode **files = new (1000 * sizeof(*files));
	uint32_t dirs_n = 1, files_n = 0;

	set_times(root);
	set_xattrs(root);
	dirs[0] = root;
	for (uint32_t i = 0; i < dirs_n; i++) {
		if (i < 30)
			fill(dirs[i], files, &files_n);
		for (uint32_t j = 0; j < dirs[i]->names_n && dirs_n < 1000; j++) {
			if (S_ISDIR(dirs[i]->names[j].inode->mode))
				dirs[dirs_n++] = dirs[i]->names[j].inode;
		}
	}
	return root;
}

static struct merge_inode *extremes(void)
{
	struct merge_inode *root = inode(S_IFDIR | 01777), *dir, *in;

	root->names = new (70 * sizeof(root->names[0]));
	dir = inode(S_IFDIR | 0755);
	dir->names = new ((WIDE + 1) * sizeof(dir->names[0]));
	add(root, "wide", dir);
	for (unsigned i = 0; i < WIDE; i++) {
		in = inode(S_IFREG | 0644);
		set_file(in, i < 1000 ? 1 + i : UINT32_MAX, i);
		in->mtime = i;
		add(dir, arena_printf(&arena, "%06u.name", i), in);
	}
	in = root;
	for (int i = 0; i < DEEP; i++) {
		dir = inode(S_IFDIR | 0700);
		dir->names = new (sizeof(dir->names[0]));
		add(in, "deep", dir);
		in = dir;
	}
	dir = inode(S_IFDIR | 0755);
	dir->names = new (300 * sizeof(dir->names[0]));
	add(root, text(255, 'x'), dir);
	for (int i = 0; i < 300; i++) {
		char *name = text(255, 'y');

		name[0] = (char)('0' + i / 100);
		name[1] = (char)('0' + i / 10 % 10);
		name[2] = (char)('0' + i % 10);
		in = inode(S_IFLNK | 0777);
		in->target = str_of(text((size_t)(i < 200 ? 3896 + i : i), 't'));
		add(dir, name, in);
	}
	for (int i = 0; i <= 60; i++) {
		in = inode(S_IFREG | 0400);
		set_file(in, (UINT64_C(1) << i) + (uint64_t)(i % 3) - (i ? 1 : 0),
			 1000 + (uint64_t)i);
		if (in->size > UINT64_C(1) << 60)
			in->size = UINT64_C(1) << 60;
		add(root, arena_printf(&arena, "size%02d", i), in);
	}
	sort(root);
	return root;
}

static struct merge_inode *tree(const char *number)
{
	seed = strtoull(number, NULL, 10);
	if (seed == 0)
		return extremes();
	seed *= 0x9e3779b97f4a7c15ull;
	return random_tree();
}

static void write_object(int dir, const struct merge_inode *in)
{
	char hex[DIGEST_HEX_SIZE], path[80], bytes[CONTENT_MAX];
	int fd;

	digest_hex(&in->key, hex);
	snprintf(path, sizeof(path), "%.2s", hex);
	mkdirat(dir, path, 0755);
	snprintf(path, sizeof(path), "%.2s/%s", hex, hex);
	fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0 && errno == EEXIST)
		return;
	content(in, bytes);
	if (fd < 0 || write(fd, bytes, in->size) != (ssize_t)in->size)
		die("%s: %s", path, strerror(errno));
	close(fd);
}

static void write_objects(int fd, const struct merge_inode *dir)
{
	for (uint32_t i = 0; i < dir->names_n; i++) {
		const struct merge_inode *in = dir->names[i].inode;

		if (S_ISDIR(in->mode))
			write_objects(fd, in);
		else if (S_ISREG(in->mode) && in->size && in->size <= CONTENT_MAX)
			write_object(fd, in);
	}
}

static void make(const char *image, const char *objects, struct merge_inode *root)
{
	static const uint8_t uuid[16] = "a test's image!";
	bool contents = strcmp(objects, "-") != 0;
	auto_close int dir = contents ? open(objects, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	auto_close int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	struct erofs_stat st;
	struct err err = ERR_INIT;

	if (fd < 0 || (contents && dir < 0))
		die("%s, %s: %s", image, objects, strerror(errno));
	if (erofs_write_root(root, uuid, fd, &st, &err) < 0)
		die("%s", err.text);
	if (contents)
		write_objects(dir, root);
	printf("%llu inodes, %llu bytes\n", (unsigned long long)st.inodes,
	       (unsigned long long)st.bytes);
}

/* --- checking --------------------------------------------------------------------------------- */

/* Of a path through /proc, because of long paths. */
static void check_value(const char *path, const char *name, struct str want)
{
	char value[65536];
	ssize_t n = lgetxattr(path, name, value, sizeof(value));

	if (n != (ssize_t)want.len || memcmp(value, want.p, want.len) != 0)
		die("%s: xattr %s: %zd bytes, not %zu: %s", path, name, n, want.len,
		    n < 0 ? strerror(errno) : "");
}

static void check_xattrs(const char *path, const struct merge_inode *in)
{
	char list[4096], redirect[1 + 3 + DIGEST_HEX_SIZE] = "/xx/";
	ssize_t n = llistxattr(path, list, sizeof(list));
	uint32_t count = 0, want = in->xattrs_n;

	for (uint32_t i = 0; i < in->xattrs_n; i++)
		check_value(path, in->xattrs[i].name.p, in->xattrs[i].value);
	if (!overlay && S_ISREG(in->mode) && in->size && !in->target.p) {
		digest_hex(&in->key, redirect + 4);
		memcpy(redirect + 1, redirect + 4, 2);
		check_value(path, "trusted.overlay.metacopy", STR(""));
		check_value(path, "trusted.overlay.redirect", str_of(redirect));
		want += 2;
	}
	for (ssize_t i = 0; i < n; i += (ssize_t)strlen(list + i) + 1)
		count++;
	if (n < 0 || count != want)
		die("%s: %u xattrs, not %u", path, count, want);
}

static void check_content(int dir, const char *name, const struct merge_inode *in)
{
	char want[CONTENT_MAX], got[CONTENT_MAX + 1];
	auto_close int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n;

	content(in, want);
	n = fd < 0 ? -1 : read(fd, got, sizeof(got));
	if (n != (ssize_t)in->size || memcmp(want, got, in->size) != 0)
		die("%s: its content is wrong (%zd of %llu bytes): %s", name, n,
		    (unsigned long long)in->size, n < 0 ? strerror(errno) : "");
}

static void check_target(int dir, const char *name, const struct merge_inode *in)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target));

	if (n != (ssize_t)in->target.len || memcmp(target, in->target.p, in->target.len) != 0)
		die("%s: target of %zd bytes", name, n);
}

static void check_stat(int dir, const char *name, struct merge_inode *in)
{
	uint64_t size = S_ISLNK(in->mode) ? in->target.len : in->size;
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		die("stat %s: %s", name, strerror(errno));
	if (st.st_mode != in->mode || st.st_uid != in->uid || st.st_gid != in->gid ||
	    st.st_nlink != in->nlink)
		die("%s: mode %o, uid %u, gid %u, nlink %u", name, st.st_mode, st.st_uid, st.st_gid,
		    (unsigned)st.st_nlink);
	if (st.st_mtim.tv_sec != in->mtime || st.st_mtim.tv_nsec != (long)in->mtime_nsec)
		die("%s: mtime %lld", name, (long long)st.st_mtim.tv_sec);
	if (!S_ISDIR(in->mode) && (uint64_t)st.st_size != size)
		die("%s: size %lld", name, (long long)st.st_size);
	if ((S_ISCHR(in->mode) || S_ISBLK(in->mode)) &&
	    st.st_rdev != makedev(in->dev_major, in->dev_minor))
		die("%s: device %llx", name, (unsigned long long)st.st_rdev);
	if (!in->mark)
		in->mark = st.st_ino;
	else if (in->mark != st.st_ino)
		die("%s: is no hard link", name);
	checked++;
}

static int cmp_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Are the names just these? */
static void check_names(int fd, const struct merge_inode *dir)
{
	char **names = calloc(dir->names_n + 3, sizeof(*names));
	DIR *d = fdopendir(dup(fd));
	uint32_t n = 0, dots = 0;
	struct dirent *e;

	if (!d || !names)
		die("readdir: %s", strerror(errno));
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
			dots++;
			continue;
		}
		if (n == dir->names_n)
			die("readdir: %s is too much", e->d_name);
		names[n++] = strdup(e->d_name);
	}
	qsort(names, n, sizeof(*names), cmp_strings);
	if (n != dir->names_n || dots != 2)
		die("readdir: %u of %u names", n, dir->names_n);
	for (uint32_t i = 0; i < n; i++) {
		if (!str_eq(dir->names[i].name, str_of(names[i])))
			die("readdir: %s, not %s", names[i], dir->names[i].name.p);
		free(names[i]);
	}
	free(names);
	closedir(d);
}

static void check_tree(int fd, struct merge_inode *dir)
{
	char path[NAME_MAX + 64];

	check_names(fd, dir);
	for (uint32_t i = 0; i < dir->names_n; i++) {
		struct merge_inode *in = dir->names[i].inode;
		const char *name = dir->names[i].name.p;
		int sub;

		if (dir->names_n > 10000 && i % 32)
			continue; /* their names have been seen */
		check_stat(fd, name, in);
		snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", fd, name);
		check_xattrs(path, in);
		if (S_ISLNK(in->mode))
			check_target(fd, name, in);
		if (S_ISREG(in->mode) && in->size <= CONTENT_MAX && (overlay || in->target.p))
			check_content(fd, name, in);
		if (!S_ISDIR(in->mode))
			continue;
		sub = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0)
			die("open %s: %s", name, strerror(errno));
		check_tree(sub, in);
		close(sub);
	}
}

static void check(const char *path, struct merge_inode *root)
{
	auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	if (!overlay) /* there it is the upper directory's */
		check_stat(fd, ".", root);
	check_tree(fd, root);
	printf("%llu names are right\n", (unsigned long long)checked);
}

static void mount_image(const char *image, const char *dir, const char *how)
{
	struct err err = ERR_INIT;

	if (mount_erofs(image, dir, strcmp(how, "file") == 0, &err) < 0)
		die("%s", err.text);
	if (mount_is_mounted(dir) != 1)
		die("%s: mounted, but does not look so", dir);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		die("usage: see the source");
	arena_init(&arena, MiB(1024));
	overlay = strcmp(argv[1], "overlay") == 0;
	if (strcmp(argv[1], "mount") == 0 && argc == 5)
		mount_image(argv[2], argv[3], argv[4]);
	else if (strcmp(argv[1], "make") == 0 && argc == 5)
		make(argv[3], argv[4], tree(argv[2]));
	else
		check(argv[3], tree(argv[2]));
	arena_fini(&arena);
	return 0;
}
