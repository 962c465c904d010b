// SPDX-License-Identifier: Apache-2.0
/*
 * libarchive understands the dialects of tar (ustar, pax, GNU); the offsets come from the positions
 * of its headers: the bytes of a file end where the next header begins, padded to a block.
 */
#include "convert_tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"

#include "base/banned.h"

#define READ_BLOCK (64u * 1024)

static uint64_t padded(uint64_t n)
{
	return (n + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

static int archive_failed(struct archive *a, struct err *err)
{
	const char *text = archive_error_string(a);

	return err_set(err, -EBADMSG, "the tar is damaged: %s", text ? text : "?");
}

static const char *type_of(struct archive_entry *e)
{
	if (archive_entry_hardlink(e))
		return "hardlink";
	switch (archive_entry_filetype(e)) {
	case AE_IFREG:
		return "reg";
	case AE_IFDIR:
		return "dir";
	case AE_IFLNK:
		return "symlink";
	case AE_IFCHR:
		return "char";
	case AE_IFBLK:
		return "block";
	case AE_IFIFO:
		return "fifo";
	default:
		return NULL;
	}
}

/* A name, which JSON can hold. */
static int keep(struct arena *a, const char *s, const char **ret, struct err *err)
{
	if (!s || !str_utf8(str_of(s)))
		return err_set(err, -EOPNOTSUPP, "a name that is no UTF-8");
	*ret = arena_strndup(a, s, strlen(s));
	return *ret ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int take_xattrs(struct tar_list *l, struct archive_entry *e, struct tar_entry *t,
		       struct err *err)
{
	int n = archive_entry_xattr_reset(e);
	const char *name;
	const void *value;
	size_t size;

	t->xattrs = n ? arena_alloc(&l->arena, (size_t)n * sizeof(*t->xattrs)) : NULL;
	if (n && !t->xattrs)
		return err_set(err, -ENOMEM, "out of memory");
	while (t->xattrs_n < (size_t)n &&
	       archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
		struct tar_xattr *x = &t->xattrs[t->xattrs_n++];
		int r = keep(&l->arena, name, &x->name, err);

		if (r < 0)
			return r;
		x->value = arena_strndup(&l->arena, value, size);
		x->size = size;
		if (!x->value)
			return err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

static int take(struct tar_list *l, struct archive_entry *e, struct tar_entry *t, struct err *err)
{
	const char *link =
		archive_entry_hardlink(e) ? archive_entry_hardlink(e) : archive_entry_symlink(e);
	int r;

	t->type = type_of(e);
	if (!t->type)
		return err_set(err, -EOPNOTSUPP, "an entry of an unknown kind");
	r = keep(&l->arena, archive_entry_pathname(e), &t->name, err);
	if (r == 0 && link)
		r = keep(&l->arena, link, &t->link, err);
	if (r < 0)
		return r;
	if (archive_entry_size(e) < 0)
		return err_set(err, -EBADMSG, "the tar is damaged: %s has no size", t->name);
	t->size = strcmp(t->type, "reg") == 0 ? (uint64_t)archive_entry_size(e) : 0;
	t->sparse = archive_entry_sparse_count(e) > 0;
	t->mode = (uint32_t)archive_entry_perm(e);
	t->uid = (uint32_t)archive_entry_uid(e);
	t->gid = (uint32_t)archive_entry_gid(e);
	t->mtime = archive_entry_mtime_is_set(e) ? archive_entry_mtime(e) : 0;
	t->mtime_nsec = t->mtime ? (uint32_t)archive_entry_mtime_nsec(e) : 0;
	t->major = (uint32_t)archive_entry_rdevmajor(e);
	t->minor = (uint32_t)archive_entry_rdevminor(e);
	l->index = l->index || strcmp(t->name, "stargz.index.json") == 0;
	return take_xattrs(l, e, t, err);
}

/* The bytes of the entry before end where the next begins, but for those of a sparse file. */
static int place(struct tar_list *l, uint64_t next, struct err *err)
{
	struct tar_entry *t = &l->list[l->n - 1];
	uint64_t n = padded(t->size);

	if (next % TAR_BLOCK || (!t->sparse && (n > next || next - n < t->header + TAR_BLOCK)))
		return err_set(err, -EBADMSG, "the tar is damaged: %s is cut short", t->name);
	if (n && !t->sparse && t->data + n != next)
		return err_set(err, -EOPNOTSUPP, "the bytes of %s are not in one piece", t->name);
	l->sparse = l->sparse || t->sparse;
	return 0;
}

static int scan(struct archive *a, struct tar_list *l, struct err *err)
{
	struct archive_entry *e;
	size_t max = 0;
	int r;

	while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		uint64_t at = (uint64_t)archive_read_header_position(a);
		int bad = l->n ? place(l, at, err) : 0;

		if (bad)
			return bad;
		if (l->n == TAR_ENTRIES_MAX)
			return err_set(err, -EFBIG, "more than %d entries", TAR_ENTRIES_MAX);
		if (l->n == max) {
			size_t more = max ? 2 * max : 1024;
			void *list = reallocarray(l->list, more, sizeof(*l->list));

			if (!list)
				return err_set(err, -ENOMEM, "out of memory");
			l->list = list;
			max = more;
		}
		l->list[l->n] = (struct tar_entry){.header = at};
		r = take(l, e, &l->list[l->n++], err);
		if (r < 0)
			return r;
		l->list[l->n - 1].data = (uint64_t)archive_filter_bytes(a, -1);
	}
	if (r != ARCHIVE_EOF)
		return archive_failed(a, err);
	l->end = (uint64_t)archive_read_header_position(a);
	return l->n ? place(l, l->end, err) : 0;
}

static int reader_open(int fd, struct archive **ret, struct err *err)
{
	struct archive *a = archive_read_new();

	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	*ret = a;
	archive_read_support_filter_none(a);
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, -errno, "read the tar");
	return archive_read_open_fd(a, fd, READ_BLOCK) == ARCHIVE_OK ? 0 : archive_failed(a, err);
}

int tar_scan(int fd, struct tar_list *l, struct err *err)
{
	struct archive *a = NULL;
	struct stat st;
	int r;

	*l = (struct tar_list){.n = 0};
	arena_init(&l->arena, TAR_MEMORY_MAX);
	r = fstat(fd, &st) < 0 ? err_errno(err, -errno, "read the tar") : reader_open(fd, &a, err);
	if (r == 0)
		r = scan(a, l, err);
	archive_read_free(a);
	l->size = r == 0 ? (uint64_t)st.st_size : 0;
	if (r == 0 && l->end > l->size)
		r = err_set(err, -EBADMSG, "the tar is damaged: it is cut short");
	return r;
}

struct tar_reader {
	struct archive *a;
};

int tar_walk(int fd, const struct tar_list *l, tar_walk_fn *fn, void *arg, struct err *err)
{
	struct tar_reader reader = {NULL};
	struct archive_entry *e;
	int r = reader_open(fd, &reader.a, err);

	for (size_t i = 0; i < l->n && r == 0; i++) {
		int q = archive_read_next_header(reader.a, &e);

		r = q == ARCHIVE_OK || q == ARCHIVE_WARN ? fn(arg, i, &reader)
							 : archive_failed(reader.a, err);
	}
	archive_read_free(reader.a);
	return r;
}

int tar_read_content(struct tar_reader *reader, const struct tar_entry *e, tar_part_fn *fn,
		     void *arg, struct err *err)
{
	uint64_t at = 0;
	const void *data;
	int64_t off;
	size_t n;
	int q, r = 0;

	while (r == 0 && (q = archive_read_data_block(reader->a, &data, &n, &off)) == ARCHIVE_OK) {
		if (off < 0 || (uint64_t)off < at || (uint64_t)off > e->size ||
		    n > e->size - (uint64_t)off)
			return err_set(err, -EBADMSG, "the tar is damaged: %s", e->name);
		r = fn(arg, (uint64_t)off - at, data, n);
		at = (uint64_t)off + n;
	}
	if (r == 0 && q != ARCHIVE_EOF)
		return archive_failed(reader->a, err);
	return r == 0 ? fn(arg, e->size - at, NULL, 0) : r;
}

void tar_list_fini(struct tar_list *l)
{
	free(l->list);
	arena_fini(&l->arena);
}
