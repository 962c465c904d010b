// SPDX-License-Identifier: Apache-2.0
/*
 * A layer's blob anew: the tar goes to a file, its pieces are compressed by several threads and
 * written in order by this one. Memory is bounded by the pieces that are under way.
 */
#include "convert_layer.h"

#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "convert_codec.h"
#include "convert_tar.h"
#include "convert_toc.h"
#include "convert_unpack.h"

#include "base/banned.h"

#define LANDMARK    ".no.prefetch.landmark"
#define TOC_NAME    "stargz.index.json"
#define SKIPPABLE   0x184D2A50u /* RFC 8878, 3.1.2 */
#define ZSTD_FOOTER 40u
#define GZIP_FOOTER 51u
#define THREADS_MAX 64
#define GAP_MAX     (4u << 20) /* bytes of a piece behind its payload */
#define SLOTS       (2 * THREADS_MAX)

struct job {
	const struct convert_options *o;
	int tar_fd, out_fd;
	const char *dir;
	struct tar_list tar;
	uint64_t tar_end; /* of what is taken of it */
	struct piece *pieces;
	size_t n, max;
	uint64_t off; /* written */
	struct sha256 blob;
	struct sha256 file; /* of several chunks */
	struct sha256 diff; /* gzip: of the new tar */
	struct err *err;
};

/* --- bytes ------------------------------------------------------------------------------------ */

static int put(struct job *j, const void *data, size_t n)
{
	int r = file_write_all(j->out_fd, data, n);

	if (r < 0)
		return err_errno(j->err, r, "write the new layer");
	sha256_add(&j->blob, data, n);
	j->off += n;
	return 0;
}

/* --- the tar ---------------------------------------------------------------------------------- */

static int put_landmark(int fd, struct err *err)
{
	char blocks[2 * TAR_BLOCK] = "";
	int r;

	tar_header(LANDMARK, 1, blocks);
	blocks[TAR_BLOCK] = 0xf; /* what it holds in all of them */
	r = file_write_all(fd, blocks, sizeof(blocks));
	return r < 0 ? err_errno(err, r, "write the tar") : 0;
}

/* The tar of the blob, verified, behind the landmark where the format wants one, and its entries.
 */
static int unpack(struct job *j, struct str in, const struct digest *want, struct digest *ret)
{
	int r = j->o->zstd ? 0 : put_landmark(j->tar_fd, j->err);

	if (r == 0)
		r = convert_unpack(j->tar_fd, in, want, j->o, j->err);
	if (r == 0)
		r = tar_scan(j->tar_fd, &j->tar, j->err);
	*ret = *want;
	return r == 0 && j->tar.sparse
		       ? convert_unsparse(&j->tar_fd, &j->tar, j->dir, j->o, ret, j->err)
		       : r;
}

/* --- pieces ----------------------------------------------------------------------------------- */

static int add_piece(struct job *j, uint64_t off, int64_t entry, uint64_t chunk_off,
		     uint64_t chunk_len)
{
	if (j->n == j->max) {
		size_t more = j->max ? 2 * j->max : 1024;
		void *list = reallocarray(j->pieces, more, sizeof(*j->pieces));

		if (!list)
			return err_set(j->err, -ENOMEM, "out of memory");
		j->pieces = list;
		j->max = more;
	}
	j->pieces[j->n++] = (struct piece){
		.off = off, .entry = entry, .chunk_off = chunk_off, .chunk_len = chunk_len};
	return 0;
}

/* The last piece gets what follows its payload, up to there; what is too much for it gets pieces of
 * its own: a run of headers, or zeros behind the tar's end, may be of any length. */
static int fill_gap(struct job *j, uint64_t to)
{
	struct piece *p = &j->pieces[j->n - 1];
	uint64_t at = p->off + p->chunk_len + GAP_MAX;
	int r = 0;

	p->len = (at < to ? at : to) - p->off;
	for (; at < to && r == 0; at += GAP_MAX) {
		r = add_piece(j, at, -1, 0, 0);
		if (r == 0)
			j->pieces[j->n - 1].len = to - at < GAP_MAX ? to - at : GAP_MAX;
	}
	return r;
}

static int add_chunks(struct job *j, size_t i)
{
	uint64_t max = j->o->zstd ? CONVERT_CHUNK_ZSTD : CONVERT_CHUNK_GZIP;
	const struct tar_entry *e = &j->tar.list[i];
	int r = 0;

	for (uint64_t at = 0; at < e->size && r == 0; at += max) {
		r = fill_gap(j, e->data + at);
		if (r == 0)
			r = add_piece(j, e->data + at, (int64_t)i, at,
				      e->size - at < max ? e->size - at : max);
	}
	return r;
}

/* What lies between a payload and the next belongs to the first. */
static int plan(struct job *j)
{
	int r = add_piece(j, 0, -1, 0, 0);

	for (size_t i = 0; i < j->tar.n && r == 0; i++)
		r = j->tar.list[i].size ? add_chunks(j, i) : 0;
	return r == 0 ? fill_gap(j, j->tar_end) : r;
}

/* --- threads ---------------------------------------------------------------------------------- */

struct slot {
	struct buf raw, packed;
	struct digest digest; /* of the payload */
	bool ready;
	int result;
	struct err err;
};

struct pool {
	struct job *j;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t next, written, slots_n;
	bool stop;
	struct slot slots[SLOTS];
};

static int pack_one(struct pool *pool, struct packer *packer, size_t i, struct slot *s)
{
	const struct piece *p = &pool->j->pieces[i];
	int r;

	s->raw.len = 0;
	if (buf_reserve(&s->raw, p->len + 1) < 0)
		return err_set(&s->err, -ENOMEM, "out of memory");
	r = file_pread_all(pool->j->tar_fd, s->raw.data, p->len, p->off);
	if (r < 0)
		return err_errno(&s->err, r, "read the tar");
	s->raw.len = p->len;
	sha256(s->raw.data, p->chunk_len, &s->digest);
	return p->len ? packer_pack(packer, s->raw.data, p->len, &s->packed, &s->err)
		      : (int)(s->packed.len = 0);
}

/* The next piece, once there is a slot; false: nothing is left. */
static bool take(struct pool *pool, size_t *ret)
{
	bool go;

	pthread_mutex_lock(&pool->lock);
	while (!pool->stop && pool->next < pool->j->n &&
	       pool->next >= pool->written + pool->slots_n)
		pthread_cond_wait(&pool->changed, &pool->lock);
	go = !pool->stop && pool->next < pool->j->n;
	*ret = pool->next;
	pool->next += go;
	pthread_mutex_unlock(&pool->lock);
	return go;
}

static void *packing(void *arg)
{
	struct pool *pool = arg;
	struct packer *packer = NULL;
	struct err err = ERR_INIT;
	size_t i;
	int bad = packer_new(pool->j->o->zstd, pool->j->o->level, &packer, &err);

	while (take(pool, &i)) {
		struct slot *s = &pool->slots[i % pool->slots_n];
		int r = bad ? bad : pack_one(pool, packer, i, s);

		pthread_mutex_lock(&pool->lock);
		if (bad)
			s->err = err;
		s->result = r;
		s->ready = true;
		pthread_cond_broadcast(&pool->changed);
		pthread_mutex_unlock(&pool->lock);
	}
	packer_free(packer);
	return NULL;
}

static int file_digest(struct job *j, struct piece *p, const struct slot *s)
{
	struct tar_entry *e;
	int r = 0;

	p->digest = s->digest;
	if (p->entry < 0)
		return 0;
	e = &j->tar.list[p->entry];
	if (p->chunk_len == e->size) {
		e->digest = s->digest;
		return 0;
	}
	if (!p->chunk_off)
		r = sha256_init(&j->file);
	if (r < 0)
		return err_set(j->err, r, "out of memory");
	sha256_add(&j->file, s->raw.data, p->chunk_len);
	if (p->chunk_off + p->chunk_len == e->size) {
		sha256_done(&j->file, &e->digest);
		sha256_fini(&j->file);
	}
	return 0;
}

static int write_piece(struct job *j, struct piece *p, const struct slot *s)
{
	int r = s->result;

	if (convert_stopped(j->o))
		return err_set(j->err, -ECANCELED, "cancelled");
	if (r < 0)
		return err_set(j->err, r, "%s", s->err.text);
	p->blob_off = j->off;
	r = file_digest(j, p, s);
	if (r == 0 && !j->o->zstd)
		sha256_add(&j->diff, s->raw.data, s->raw.len);
	return r == 0 ? put(j, s->packed.data, s->packed.len) : r;
}

static int write_all(struct pool *pool)
{
	int r = 0;

	for (size_t i = 0; i < pool->j->n && r == 0; i++) {
		struct slot *s = &pool->slots[i % pool->slots_n];

		pthread_mutex_lock(&pool->lock);
		while (!s->ready)
			pthread_cond_wait(&pool->changed, &pool->lock);
		s->ready = false;
		pthread_mutex_unlock(&pool->lock);
		r = write_piece(pool->j, &pool->j->pieces[i], s);
		pthread_mutex_lock(&pool->lock);
		pool->written = i + 1;
		pool->stop = r < 0;
		pthread_cond_broadcast(&pool->changed);
		pthread_mutex_unlock(&pool->lock);
	}
	return r;
}

static int pack_all(struct job *j)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	pthread_t threads[THREADS_MAX];
	unsigned n = j->o->threads > THREADS_MAX ? THREADS_MAX : j->o->threads, started = 0;
	int r = 0;

	if (!pool)
		return err_set(j->err, -ENOMEM, "out of memory");
	pool->j = j;
	pool->slots_n = 2 * n;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->changed, NULL);
	while (started < n && pthread_create(&threads[started], NULL, packing, pool) == 0)
		started++;
	r = started ? write_all(pool) : err_set(j->err, -EAGAIN, "no thread can be started");
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < SLOTS; i++) {
		buf_fini(&pool->slots[i].raw);
		buf_fini(&pool->slots[i].packed);
	}
	pthread_cond_destroy(&pool->changed);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
	return r;
}

/* --- the end of the blob ---------------------------------------------------------------------- */

static int put_skippable(struct job *j, const void *body, size_t n)
{
	uint32_t head[2] = {htole32(SKIPPABLE), htole32((uint32_t)n)};
	int r = put(j, head, sizeof(head));

	return r == 0 ? put(j, body, n) : r;
}

static int end_zstd(struct job *j, const struct buf *toc, struct convert_result *ret)
{
	auto_buf struct buf packed = BUF_INIT;
	struct packer *packer;
	uint64_t footer[5];
	int r = packer_new(true, j->o->level, &packer, j->err);

	if (r < 0)
		return r;
	r = packer_pack(packer, toc->data, toc->len, &packed, j->err);
	packer_free(packer);
	if (r == 0 && packed.len > UINT32_MAX)
		r = err_set(j->err, -EOPNOTSUPP, "its table of contents is too large");
	ret->toc_off = j->off + 8;
	ret->toc_len = packed.len;
	ret->toc_size = toc->len;
	if (r == 0) {
		sha256(packed.data, packed.len, &ret->toc_packed);
		r = put_skippable(j, packed.data, packed.len);
	}
	footer[0] = htole64(ret->toc_off);
	footer[1] = htole64(ret->toc_len);
	footer[2] = htole64(ret->toc_size);
	footer[3] = htole64(1);
	memcpy(&footer[4], "GnUlInUx", 8);
	ret->tar_size = j->tar_end;
	return r == 0 ? put_skippable(j, footer, ZSTD_FOOTER) : r;
}

/* The table is the last entry of the tar, in a member of its own. */
static int end_gzip(struct job *j, const struct buf *toc, struct convert_result *ret)
{
	auto_buf struct buf tail = BUF_INIT, packed = BUF_INIT;
	size_t pad = (TAR_BLOCK - toc->len % TAR_BLOCK) % TAR_BLOCK + 2 * TAR_BLOCK;
	uint64_t at = j->off;
	char footer[GZIP_FOOTER + 1], header[TAR_BLOCK], zeros[3 * TAR_BLOCK] = "";
	struct packer *packer;
	int r;

	tar_header(TOC_NAME, toc->len, header);
	if (buf_append(&tail, header, TAR_BLOCK) < 0 ||
	    buf_append(&tail, toc->data, toc->len) < 0 || buf_append(&tail, zeros, pad) < 0)
		return err_set(j->err, -ENOMEM, "out of memory");
	r = packer_new(false, j->o->level, &packer, j->err);
	if (r < 0)
		return r;
	r = packer_pack(packer, tail.data, tail.len, &packed, j->err);
	packer_free(packer);
	sha256_add(&j->diff, tail.data, tail.len);
	sha256_done(&j->diff, &ret->diff_id);
	ret->tar_size = j->tar_end + tail.len;
	if (r == 0)
		r = put(j, packed.data, packed.len);
	memcpy(footer, "\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0", 16);
	snprintf(footer + 16, 17, "%016" PRIx64, at);
	memcpy(footer + 32, "STARGZ\x01\0\0\xff\xff\0\0\0\0\0\0\0\0", 19);
	return r == 0 ? put(j, footer, GZIP_FOOTER) : r;
}

static int finish(struct job *j, struct convert_result *ret)
{
	auto_buf struct buf toc = BUF_INIT;
	int r;

	if (toc_write(&j->tar, j->pieces, j->n, &toc) < 0)
		return err_set(j->err, -ENOMEM, "out of memory");
	sha256(toc.data, toc.len, &ret->toc);
	r = j->o->zstd ? end_zstd(j, &toc, ret) : end_gzip(j, &toc, ret);
	if (r == 0)
		sha256_done(&j->blob, &ret->digest);
	ret->size = j->off;
	return r;
}

/* --- all of it -------------------------------------------------------------------------------- */

/* An empty file's digest is that of nothing. */
static void empty_digests(struct tar_list *l)
{
	struct digest none;

	sha256("", 0, &none);
	for (size_t i = 0; i < l->n; i++) {
		if (!l->list[i].size)
			l->list[i].digest = none;
	}
}

static int convert(struct job *j, struct str in, const struct digest *want,
		   struct convert_result *ret)
{
	int r = unpack(j, in, want, &ret->diff_id);

	if (r == 0 && j->tar.index && !j->o->zstd)
		r = err_set(j->err, -EOPNOTSUPP, "its tar has a table of contents already");
	if (r < 0)
		return r;
	j->tar_end = j->o->zstd ? j->tar.size : j->tar.end;
	empty_digests(&j->tar);
	r = plan(j);
	if (r == 0)
		r = pack_all(j);
	return r == 0 ? finish(j, ret) : r;
}

int convert_layer(int in_fd, const struct digest *want, const char *dir,
		  const struct convert_options *o, int out_fd, struct convert_result *ret,
		  struct err *err)
{
	struct job j = {.o = o, .out_fd = out_fd, .dir = dir, .err = err};
	struct stat st;
	void *map = NULL;
	int r;

	*ret = (struct convert_result){.size = 0};
	j.tar_fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (j.tar_fd < 0)
		return err_errno(err, -errno, "make a file in %s", dir);
	r = fstat(in_fd, &st) < 0 ? err_errno(err, -errno, "read the layer") : 0;
	if (r == 0 && st.st_size)
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, in_fd, 0);
	if (map == MAP_FAILED)
		r = err_set(err, -EIO, "the layer cannot be read");
	if (r == 0 && (sha256_init(&j.blob) < 0 || sha256_init(&j.diff) < 0))
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = convert(&j, (struct str){map ? map : "", (size_t)st.st_size}, want, ret);
	sha256_fini(&j.blob);
	sha256_fini(&j.diff);
	sha256_fini(&j.file);
	if (map && map != MAP_FAILED)
		munmap(map, (size_t)st.st_size);
	free(j.pieces);
	tar_list_fini(&j.tar);
	close(j.tar_fd);
	return r;
}
