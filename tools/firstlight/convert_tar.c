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

#define BLOCK      512u
#define READ_BLOCK (64u * 1024)

static uint64_t padded(uint64_t n)
{
	return (n + BLOCK - 1) / BLOCK * BLOCK;
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

/* NULL: no memory, or no UTF-8. */
static const char *keep(struct arena *a, const char *s)
{
	return s && str_utf8(str_of(s)) ? arena_strndup(a, s, strlen(s)) : NULL;
}

static int take_xattrs(struct tar_list *l, struct archive_entry *e, struct tar_entry *t)
{
	int n = archive_entry_xattr_reset(e);
	const char *name;
	const void *value;
	size_t size;

	t->xattrs = n ? arena_alloc(&l->arena, (size_t)n * sizeof(*t->xattrs)) : NULL;
	if (n && !t->xattrs)
		return -ENOMEM;
	while (t->xattrs_n < (size_t)n &&
	       archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
		struct tar_xattr *x = &t->xattrs[t->xattrs_n++];

		x->name = keep(&l->arena, name);
		x->value = arena_strndup(&l->arena, value, size);
		x->size = size;
		if (!x->name || !x->value)
			return -ENOMEM;
	}
	return 0;
}

static int take(struct tar_list *l, struct archive_entry *e, struct tar_entry *t, struct err *err)
{
	const char *link =
		archive_entry_hardlink(e) ? archive_entry_hardlink(e) : archive_entry_symlink(e);

	t->type = type_of(e);
	t->name = keep(&l->arena, archive_entry_pathname(e));
	t->link = link ? keep(&l->arena, link) : NULL;
	if (!t->type)
		return err_set(err, -EOPNOTSUPP, "an entry of an unknown kind");
	if (!t->name || (link && !t->link))
		return err_set(err, -EOPNOTSUPP, "a name that is no UTF-8, or no memory");
	if (archive_entry_sparse_count(e))
		return err_set(err, -EOPNOTSUPP, "sparse files");
	t->size = strcmp(t->type, "reg") == 0 ? (uint64_t)archive_entry_size(e) : 0;
	t->mode = (uint32_t)archive_entry_perm(e);
	t->uid = (uint32_t)archive_entry_uid(e);
	t->gid = (uint32_t)archive_entry_gid(e);
	t->mtime = archive_entry_mtime_is_set(e) ? archive_entry_mtime(e) : 0;
	t->mtime_nsec = t->mtime ? (uint32_t)archive_entry_mtime_nsec(e) : 0;
	t->major = (uint32_t)archive_entry_rdevmajor(e);
	t->minor = (uint32_t)archive_entry_rdevminor(e);
	l->index = l->index || strcmp(t->name, "stargz.index.json") == 0;
	return take_xattrs(l, e, t) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

/* The bytes of the entry before end where the next begins. */
static int place(struct tar_entry *t, uint64_t next, struct err *err)
{
	uint64_t n = padded(t->size);

	if (next < t->header + BLOCK + n || next % BLOCK)
		return err_set(err, -EBADMSG, "the tar is damaged: %s is cut short", t->name);
	t->data = next - n;
	return 0;
}

static int scan(struct archive *a, struct tar_list *l, struct err *err)
{
	struct archive_entry *e;
	size_t max = 0;
	int r;

	while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		uint64_t at = (uint64_t)archive_read_header_position(a);

		if (l->n && place(&l->list[l->n - 1], at, err) < 0)
			return -EBADMSG;
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
	}
	if (r != ARCHIVE_EOF)
		return archive_failed(a, err);
	l->end = (uint64_t)archive_read_header_position(a);
	return l->n ? place(&l->list[l->n - 1], l->end, err) : 0;
}

int tar_scan(int fd, struct tar_list *l, struct err *err)
{
	struct archive *a = archive_read_new();
	struct stat st;
	int r;

	*l = (struct tar_list){.n = 0};
	arena_init(&l->arena, TAR_MEMORY_MAX);
	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	archive_read_support_filter_none(a);
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	if (lseek(fd, 0, SEEK_SET) < 0 || fstat(fd, &st) < 0)
		r = err_errno(err, -errno, "read the tar");
	else if (archive_read_open_fd(a, fd, READ_BLOCK) != ARCHIVE_OK)
		r = archive_failed(a, err);
	else
		r = scan(a, l, err);
	archive_read_free(a);
	l->size = r == 0 ? (uint64_t)st.st_size : 0;
	if (r == 0 && l->end > l->size)
		r = err_set(err, -EBADMSG, "the tar is damaged: it is cut short");
	return r;
}

void tar_list_fini(struct tar_list *l)
{
	free(l->list);
	arena_fini(&l->arena);
}
