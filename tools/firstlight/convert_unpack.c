// SPDX-License-Identifier: Apache-2.0
/* Blobs to tars. Owns nothing. */
#include "convert_unpack.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "image/codec.h"

#include "base/banned.h"

#define STEP      MiB(1)  /* between two looks at the stop flag, */
#define ROOM_STEP MiB(16) /* at the free space */

/* Where bytes go, and what bounds them. */
struct sink {
	const struct convert_options *o;
	int fd;
	uint64_t n, room_at; /* bytes so far; when to look again */
	struct sha256 sum;
	struct err *err;
};

int convert_room(int fd, uint64_t n, uint64_t free_min, struct err *err)
{
	struct statvfs fs;

	if (fstatvfs(fd, &fs) < 0)
		return err_errno(err, -errno, "look for free space");
	return (uint64_t)fs.f_bavail * fs.f_frsize >= free_min + n
		       ? 0
		       : err_set(err, -ENOSPC,
				 "no room for a layer: less than %" PRIu64
				 " MiB are free for temporary files, $TMPDIR names a place",
				 (free_min + n) >> 20);
}

/* Are n more bytes allowed? */
static int allow(struct sink *s, uint64_t n)
{
	if (convert_stopped(s->o))
		return err_set(s->err, -ECANCELED, "cancelled");
	s->n += n;
	if (s->n > s->o->tar_max)
		return err_set(s->err, -EFBIG, "the layer unpacks to more than %" PRIu64 " bytes",
			       s->o->tar_max);
	if (s->n < s->room_at)
		return 0;
	s->room_at = s->n + ROOM_STEP;
	return convert_room(s->fd, ROOM_STEP, s->o->free_min, s->err);
}

static int put(void *arg, const void *data, size_t n)
{
	struct sink *s = arg;
	const char *p = data;
	int r = 0;

	while (n && r == 0) {
		size_t step = n < STEP ? n : STEP;

		r = allow(s, step);
		if (r < 0)
			return r;
		sha256_add(&s->sum, p, step);
		r = file_write_all(s->fd, p, step);
		p += step;
		n -= step;
	}
	return r < 0 ? err_errno(s->err, r, "write the tar") : 0;
}

static enum codec codec_of(struct str in)
{
	if (in.len >= 2 && memcmp(in.p, "\x1f\x8b", 2) == 0)
		return CODEC_GZIP;
	if (in.len >= 4 &&
	    (memcmp(in.p, "\x28\xb5\x2f\xfd", 4) == 0 || memcmp(in.p + 1, "\x2a\x4d\x18", 3) == 0))
		return CODEC_ZSTD;
	return CODEC_NONE;
}

int convert_unpack(int fd, struct str blob, const struct digest *want,
		   const struct convert_options *o, struct err *err)
{
	struct sink s = {.o = o, .fd = fd, .room_at = ROOM_STEP, .err = err};
	struct digest is;
	int r = sha256_init(&s.sum);

	if (r < 0)
		return err_set(err, r, "out of memory");
	r = codec_whole(codec_of(blob), blob, INT64_MAX, false, put, &s, err);
	sha256_done(&s.sum, &is);
	sha256_fini(&s.sum);
	if (r == 0 && !digest_eq(&is, want))
		r = err_set(err, -EBADMSG, "the layer is not that of its diff id");
	return r;
}

/* --- headers ---------------------------------------------------------------------------------- */

/* The field of a header: octal, ended by NUL; what does not fit stands in the extended header. */
static void octal(char *to, size_t n, uint64_t v)
{
	char text[24];

	if (v >> 3 * (n - 1))
		v = 0;
	snprintf(text, sizeof(text), "%0*" PRIo64, (int)n - 1, v);
	memcpy(to, text, n - 1);
}

static void checksum(char ret[TAR_BLOCK])
{
	unsigned sum = 0;

	memset(ret + 148, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += (unsigned char)ret[i];
	octal(ret + 148, 7, sum);
	ret[154] = 0;
	ret[155] = ' ';
}

void tar_header(const char *name, uint64_t size, char ret[TAR_BLOCK])
{
	size_t n = strlen(name);

	memset(ret, 0, TAR_BLOCK);
	memcpy(ret, name, n < 100 ? n : 100);
	octal(ret + 100, 8, 0);
	octal(ret + 108, 8, 0);
	octal(ret + 116, 8, 0);
	octal(ret + 124, 12, size);
	octal(ret + 136, 12, 0);
	ret[156] = '0';
	memcpy(ret + 257, "ustar\00000", 8);
	checksum(ret);
}

/* "LENGTH KEY=VALUE\n", where the length counts itself (POSIX pax, "extended header"). */
static int pax_record(struct buf *b, const char *key, const char *name, const void *value, size_t n)
{
	size_t rest = strlen(key) + strlen(name) + n + 3, len = rest + 1;
	char digits[24];
	int r;

	while ((size_t)snprintf(digits, sizeof(digits), "%zu", len) + rest > len)
		len++;
	r = buf_printf(b, "%zu %s%s=", len, key, name);
	if (r == 0)
		r = buf_append(b, value, n);
	return r == 0 ? buf_append(b, "\n", 1) : r;
}

static int pax_number(struct buf *b, const char *key, int64_t v)
{
	char text[24];

	return pax_record(b, key, "", text, (size_t)snprintf(text, sizeof(text), "%" PRId64, v));
}

/* Of a time before 1970 only the second. */
static int pax_time(struct buf *b, const struct tar_entry *e)
{
	char text[40];
	int n = e->mtime_nsec && e->mtime >= 0
			? snprintf(text, sizeof(text), "%" PRId64 ".%09u", e->mtime, e->mtime_nsec)
			: snprintf(text, sizeof(text), "%" PRId64, e->mtime);

	return pax_record(b, "mtime", "", text, (size_t)n);
}

static int pax_records(struct buf *b, const struct tar_entry *e)
{
	int r = pax_record(b, "path", "", e->name, strlen(e->name));

	if (r == 0)
		r = pax_number(b, "size", (int64_t)e->size);
	if (r == 0)
		r = pax_number(b, "uid", e->uid);
	if (r == 0)
		r = pax_number(b, "gid", e->gid);
	if (r == 0)
		r = pax_time(b, e);
	for (size_t i = 0; i < e->xattrs_n && r == 0; i++)
		r = pax_record(b, "SCHILY.xattr.", e->xattrs[i].name, e->xattrs[i].value,
			       e->xattrs[i].size);
	return r;
}

/* The headers of a regular file: an extended one that says all, and a ustar one. */
static int file_headers(const struct tar_entry *e, struct buf *ret)
{
	static const char zeros[TAR_BLOCK];
	auto_buf struct buf records = BUF_INIT;
	char header[TAR_BLOCK];
	int r = pax_records(&records, e);

	if (r < 0)
		return r;
	tar_header("PaxHeaders/file", records.len, header);
	header[156] = 'x';
	checksum(header);
	r = buf_append(ret, header, TAR_BLOCK);
	if (r == 0)
		r = buf_append(ret, records.data, records.len);
	if (r == 0)
		r = buf_append(ret, zeros, (TAR_BLOCK - records.len % TAR_BLOCK) % TAR_BLOCK);
	tar_header(e->name, e->size, header);
	octal(header + 100, 8, e->mode);
	octal(header + 108, 8, e->uid);
	octal(header + 116, 8, e->gid);
	octal(header + 136, 12, e->mtime > 0 ? (uint64_t)e->mtime : 0);
	checksum(header);
	return r == 0 ? buf_append(ret, header, TAR_BLOCK) : r;
}

/* --- sparse files ----------------------------------------------------------------------------- */

struct copying {
	struct sink sink;
	int from;
	uint64_t at; /* of the old tar, copied up to here */
	const struct tar_list *l;
};

/* n bytes of a file at off. */
static int copy_range(struct sink *s, int fd, uint64_t off, uint64_t n)
{
	char part[64 * 1024];
	int r = 0;

	while (n && r == 0) {
		ssize_t got = pread(fd, part, n < sizeof(part) ? n : sizeof(part), (off_t)off);

		if (got <= 0)
			return err_errno(s->err, got < 0 ? -errno : -EIO, "read the tar");
		r = put(s, part, (size_t)got);
		off += (uint64_t)got;
		n -= (uint64_t)got;
	}
	return r;
}

static int put_zeros(struct sink *s, uint64_t n)
{
	static const char zeros[64 * 1024];
	int r = 0;

	for (; n && r == 0; n -= n < sizeof(zeros) ? n : sizeof(zeros))
		r = put(s, zeros, n < sizeof(zeros) ? n : sizeof(zeros));
	return r;
}

/* Content of a sparse file, as tar_read_content gives it. */
static int on_part(void *arg, uint64_t from, const void *data, size_t n)
{
	struct sink *s = arg;
	int r = put_zeros(s, from);

	return r == 0 ? put(s, data, n) : r;
}

static int on_entry(void *arg, size_t i, struct tar_reader *reader)
{
	struct copying *c = arg;
	const struct tar_entry *e = &c->l->list[i];
	auto_buf struct buf headers = BUF_INIT;
	int r = 0;

	if (!e->sparse)
		return 0;
	r = copy_range(&c->sink, c->from, c->at, e->header - c->at);
	if (r == 0 && file_headers(e, &headers) < 0)
		r = err_set(c->sink.err, -ENOMEM, "out of memory");
	if (r == 0)
		r = put(&c->sink, headers.data, headers.len);
	if (r == 0)
		r = tar_read_content(reader, e, on_part, &c->sink, c->sink.err);
	if (r == 0)
		r = put_zeros(&c->sink, (TAR_BLOCK - e->size % TAR_BLOCK) % TAR_BLOCK);
	c->at = i + 1 < c->l->n ? c->l->list[i + 1].header : c->l->end;
	return r;
}

static int within(const struct tar_list *l, struct err *err)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct tar_entry *e = &l->list[i];

		if (!e->sparse)
			continue;
		if (e->size > CONVERT_SPARSE_MAX || (sum += e->size) > CONVERT_SPARSE_MAX)
			return err_set(err, -EOPNOTSUPP, "sparse files of more than %llu GiB",
				       CONVERT_SPARSE_MAX >> 30);
	}
	return 0;
}

int convert_unsparse(int *fd, struct tar_list *l, const char *dir, const struct convert_options *o,
		     struct digest *ret, struct err *err)
{
	struct copying c = {
		.sink = {.o = o, .room_at = ROOM_STEP, .err = err}, .from = *fd, .l = l};
	int r = within(l, err);

	if (r < 0)
		return r;
	c.sink.fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (c.sink.fd < 0)
		return err_errno(err, -errno, "make a file in %s", dir);
	r = sha256_init(&c.sink.sum) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
	if (r == 0)
		r = tar_walk(*fd, l, on_entry, &c, err);
	if (r == 0)
		r = copy_range(&c.sink, *fd, c.at, l->size - c.at);
	if (r == 0)
		sha256_done(&c.sink.sum, ret);
	sha256_fini(&c.sink.sum);
	close(*fd);
	*fd = c.sink.fd;
	tar_list_fini(l);
	*l = (struct tar_list){.n = 0};
	return r == 0 ? tar_scan(*fd, l, err) : r;
}
