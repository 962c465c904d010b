// SPDX-License-Identifier: Apache-2.0
/*
 * From compressed bytes to verified contents: pieces that have come are decoded on threads, each in
 * one pass over its stream. Small contents of one chunk are collected and written whole; others go
 * into the object's file as they come out, and are shown only when their digest was right.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "image/fetch_impl.h"

#include "base/banned.h"

#define JOB_PIECES    64
#define LOG_UNWRITTEN UINT64_MAX /* for fetch_may_log() */

/* What a thread knows of a chunk. */
struct part {
	struct flight *fl; /* the loop's */
	struct index_chunk c;
	struct digest key, digest; /* of the content */
	uint8_t *bytes;            /* when it is written whole, or cannot be written; else fd */
	int fd;
	uint32_t have;
	struct sha256 sha;
	bool whole;    /* is to be written from bytes */
	int unwritten; /* why it cannot be: it stays in memory; 0 = it can */
	bool skip;     /* nothing to do: it is here */
	int result;    /* -EBADMSG: wrong bytes; -EAGAIN: not done in this pass */
};

/* One stream. */
struct stream {
	struct piece *piece;
	struct part *parts;
	uint32_t n, cur;
	uint64_t pos; /* of the next byte, in the stream's output */
	struct err err;
};

struct decode_job {
	const struct objects *objects;
	enum codec codec;
	struct stream *streams[JOB_PIECES];
	size_t n;
};

/* --- on a thread --------------------------------------------------------------------------------
 */

/* The disk does not take it, for reason why: what it has taken of it comes back. */
static int part_unwritten(struct part *p, int why)
{
	p->unwritten = why;
	p->bytes = malloc(p->c.size);
	return p->bytes ? file_pread_all(p->fd, p->bytes, p->have, p->c.file_off) : -ENOMEM;
}

static void part_feed(struct part *p, const uint8_t *data, size_t n, struct err *err)
{
	int r = 0;

	if (p->result != -EAGAIN || p->skip)
		return;
	sha256_add(&p->sha, data, n);
	if (!p->bytes)
		r = file_pwrite_all(p->fd, data, n, p->c.file_off + p->have);
	if (r < 0)
		r = part_unwritten(p, r);
	if (r < 0)
		p->result =
			err_errno(err, r == -EBADMSG || r == -EAGAIN ? -EIO : r, "write a chunk");
	else if (p->bytes)
		memcpy(p->bytes + p->have, data, n);
	p->have += (uint32_t)n;
}

/* All bytes are there: are they right? */
static void part_close(const struct objects *o, struct part *p, struct err *err)
{
	struct digest sum;

	if (p->result != -EAGAIN || p->skip)
		return;
	sha256_done(&p->sha, &sum);
	if (!digest_eq(&sum, &p->c.digest) || (p->whole && !digest_eq(&sum, &p->digest))) {
		p->result = -EBADMSG;
		return;
	}
	p->result = 0;
	if (p->whole)
		p->unwritten = objects_write_whole(o, &p->key, p->bytes, p->c.size, err);
}

struct sink {
	const struct objects *objects;
	struct stream *s;
};

static int sink_bytes(void *arg, const void *data, size_t n)
{
	struct sink *k = arg;
	struct stream *s = k->s;
	const uint8_t *p = data;

	while (n && s->cur < s->n) {
		struct part *part = &s->parts[s->cur];
		uint64_t end = part->c.inner_off + part->c.size;
		size_t take;

		if (s->pos < part->c.inner_off) { /* between two chunks */
			take = n < part->c.inner_off - s->pos ? n : part->c.inner_off - s->pos;
		} else if (s->pos >= end ||
			   (s->pos - part->c.inner_off != part->have && !part->skip)) {
			s->cur++; /* overlaps the one before: not in this pass */
			continue;
		} else {
			take = n < end - s->pos ? n : end - s->pos;
			part_feed(part, p, take, &s->err);
		}
		s->pos += take;
		p += take;
		n -= take;
		if (s->pos >= end) {
			part_close(k->objects, part, &s->err);
			s->cur++;
		}
	}
	return 0;
}

static int part_begin(struct part *p)
{
	if (p->skip)
		return 0;
	return sha256_init(&p->sha);
}

static void decode_stream(struct decode_job *j, struct stream *s)
{
	struct sink k = {j->objects, s};
	struct str in = {(const char *)s->piece->data, s->piece->len};
	uint64_t end = 0;
	int r = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		uint64_t e = s->parts[i].c.inner_off + s->parts[i].c.size;

		end = e > end ? e : end;
		if (part_begin(&s->parts[i]) < 0)
			s->parts[i].skip = true; /* its result stays "not done" */
	}
	s->pos = s->parts[0].c.inner_off;
	r = codec_range(j->codec, in, s->pos, end - s->pos, sink_bytes, &k, &s->err);
	for (uint32_t i = s->cur; i < s->n && r == -EBADMSG; i++) {
		if (s->parts[i].result == -EAGAIN)
			s->parts[i].result = -EBADMSG;
	}
	for (uint32_t i = 0; i < s->n; i++)
		sha256_fini(&s->parts[i].sha);
}

static int decode_run(void *arg)
{
	struct decode_job *j = arg;

	for (size_t i = 0; i < j->n; i++)
		decode_stream(j, j->streams[i]);
	return 0;
}

/* --- on the loop --------------------------------------------------------------------------------
 */

static void part_end(struct part *p)
{
	free(take_ptr(p->bytes));
	if (p->fd >= 0)
		close(take_fd(&p->fd));
}

/* Where do its bytes go? */
static int part_target(struct part *p, struct err *err)
{
	struct flight *fl = p->fl;

	if (fl->obj && (fl->obj->complete || object_has_chunk(fl->obj, fl->name.chunk))) {
		p->skip = true;
		p->result = 0;
		return 0;
	}
	if (fl->obj && fl->obj->no_file) {
		p->unwritten = -ENOSPC;
		p->bytes = malloc(fl->c.size);
		return p->bytes ? 0 : -ENOMEM;
	}
	if (fl->obj && fl->obj->fd >= 0) {
		/* An own descriptor: the object may become complete from elsewhere meanwhile. */
		p->fd = fcntl(fl->obj->fd, F_DUPFD_CLOEXEC, 0);
		return p->fd < 0 ? -errno : 0;
	}
	if (fl->chunks_n > 1 || fl->c.size != fl->content_size || fl->c.size > FETCH_WHOLE_MAX)
		return p->result = err_set(err, -EIO, "the object has no file");
	p->bytes = malloc(fl->c.size);
	p->whole = true;
	return p->bytes ? 0 : -ENOMEM;
}

static void part_init(struct part *p, struct flight *fl, struct err *err)
{
	*p = (struct part){.fl = fl, .fd = -1, .result = -EAGAIN};
	p->c = fl->c;
	p->key = fl->name.key;
	p->digest = fl->digest;
	if (part_target(p, err) < 0)
		p->skip = true;
}

static void stream_free(struct stream *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->n; i++)
		part_end(&s->parts[i]);
	free(s->parts);
	free(s);
}

/* NULL: no memory. */
static struct stream *stream_new(struct transfer *t, struct piece *p)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (s)
		s->parts = calloc(p->n, sizeof(*s->parts));
	if (!s || !s->parts) {
		free(s);
		return NULL;
	}
	s->piece = p;
	for (uint32_t i = p->first; i < p->first + p->n; i++) {
		if (t->flights[i])
			part_init(&s->parts[s->n++], t->flights[i], &s->err);
	}
	return s;
}

static uint64_t piece_output(const struct transfer *t, const struct piece *p)
{
	uint64_t end = 0;

	for (uint32_t i = p->first; i < p->first + p->n; i++) {
		const struct flight *fl = t->flights[i];

		if (fl && fl->c.inner_off + fl->c.size > end)
			end = fl->c.inner_off + fl->c.size;
	}
	return end;
}

/* Takes pieces for one job; large ones go alone. */
static void job_fill(struct transfer *t, struct decode_job *j)
{
	uint64_t output = 0;

	while (j->n < JOB_PIECES && !list_empty(&t->ready)) {
		struct piece *p = container_of(t->ready.next, struct piece, link);
		struct stream *s;

		output += piece_output(t, p);
		if (j->n && output > FETCH_JOB_BYTES)
			return;
		list_del(&p->link);
		s = stream_new(t, p);
		if (s && s->n)
			j->streams[j->n++] = s;
		else
			stream_free(s); /* its flights are tried again later */
		if (!s || !s->n)
			piece_drop(t, p);
	}
}

/* A failure of this host's disk: nobody else can help. */
static void part_failed(struct transfer *t, struct flight *fl, int code, struct err *err)
{
	struct flight_failure why = {.fault = FAULT_NONE, .code = code};

	if (t->fill)
		fill_failed(t->fill, fl->index, &why);
	err_wrap(err, code, "object chunk %u", fl->name.chunk);
	flight_end(t->f, fl, -EIO, err);
}

/* The store tells those who have the object open a little later. */
may_suspend static void wrote_whole(struct fetcher *f, struct part *p)
{
	struct flight *fl = p->fl;
	int r = 0;

	objects_wrote(f->objects, &p->key);
	while (r == 0 && fl->obj && !fl->obj->complete)
		r = waitq_wait_ms(&fl->obj->changed, FETCH_ADOPT_MS);
}

/* A read gets it from memory. The background has no use for that: it tries again when there may be
 * room. */
static int part_keep(struct transfer *t, struct part *p, struct err *err)
{
	struct fetcher *f = t->f;
	struct flight_failure why = {.fault = FAULT_NONE, .code = p->unwritten};
	int r;

	if (t->fill && !p->fl->waiters)
		return err_errno(err, p->unwritten, "write a chunk");
	if (t->fill)
		fill_failed(t->fill, p->fl->index, &why);
	r = memory_keep(f, &p->fl->name, take_ptr(p->bytes), p->c.size);
	if (r < 0)
		return err_set(err, r, "out of memory");
	p->fl->unwritten = true;
	f->stats.unwritten++;
	if (fetch_may_log(f, LOG_UNWRITTEN))
		log_warn("contents cannot be written, reads get them from memory error=\"%s\"",
			 strerror(-p->unwritten));
	return 0;
}

may_suspend static void part_finish(struct transfer *t, struct part *p, struct err *err)
{
	struct fetcher *f = t->f;
	struct flight *fl = p->fl;
	int r = p->result;

	if (r == -EAGAIN)
		return; /* stays in the transfer until its end */
	if (r == -EBADMSG) {
		fl->bad = true;
		return;
	}
	if (r == 0 && p->unwritten)
		r = part_keep(t, p, err);
	else if (r == 0 && p->whole)
		wrote_whole(f, p);
	else if (r == 0 && !p->skip)
		r = objects_put_chunk(f->objects, fl->obj, fl->name.chunk, err);
	if (r < 0) {
		part_failed(t, fl, r, err);
		return;
	}
	if (!fl->unwritten)
		memory_drop(f, &fl->name.key, fl->name.chunk);
	if (!p->skip) {
		f->stats.of[t->class].chunks++;
		f->stats.of[t->class].bytes_content += p->c.size;
	}
	flight_end(f, fl, 0, NULL);
}

may_suspend static void job_finish(struct transfer *t, struct decode_job *j, int code)
{
	for (size_t i = 0; i < j->n; i++) {
		struct stream *s = j->streams[i];

		piece_drop(t, s->piece);
		for (uint32_t k = 0; k < s->n && code == 0; k++)
			part_finish(t, &s->parts[k], &s->err);
		stream_free(s);
	}
}

may_suspend int transfer_decoder(void *arg)
{
	struct transfer *t = arg;
	struct decode_job *j = calloc(1, sizeof(*j));

	while (j && !list_empty(&t->ready) && !task_cancelled()) {
		*j = (struct decode_job){.objects = t->f->objects, .codec = t->codec};
		job_fill(t, j);
		if (j->n)
			job_finish(t, j, work_run(t->f->threads, decode_run, j));
	}
	free(j);
	if (--t->decoders == 0)
		waitq_wake_all(&t->idle);
	return 0;
}
