/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world for the fetcher, drawn from a seed: layers with blobs, contents in one or several of
 * them, an object store that checks every byte it is given, and a registry with latency, a slow
 * wire and faults. The functions of the real modules are defined here instead.
 */
#ifndef FIRSTLIGHT_TESTS_FETCH_WORLD_H
#define FIRSTLIGHT_TESTS_FETCH_WORLD_H

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "image/fetch_impl.h"
#include "loop/io.h"

#define LAYERS_MAX   3
#define CONTENTS_MAX 80
#define CHUNKS_MAX   1200 /* of a layer */
#define HOSTS_MAX    3
#define MAGIC        0x1f

enum faults {
	FAULTS_NONE,
	FAULTS_LIAR,   /* one host of several gives wrong bytes */
	FAULTS_ERRORS, /* requests fail now and then, at any byte */
	FAULTS_DOWN,   /* nothing works for a while */
	FAULTS_FULL,   /* the disk takes nothing for a while */
	FAULTS_BROKEN, /* some chunks are wrong everywhere */
	FAULTS_KINDS
};

struct fake_content {
	struct object obj; /* first: object_unref() finds the rest */
	unsigned refs;
	uint8_t *bytes;
	uint32_t size, chunks_n;
	uint32_t at[64]; /* where chunks begin; at[chunks_n] = size */
	bool zeros[64], here[64];
	unsigned puts[64];
	bool written, broken;
	struct object_source sources[LAYERS_MAX];
	struct timer completes;
};

struct fake_layer {
	struct layer l;
	struct buf blob;
	struct index_object objects[CONTENTS_MAX];
	struct index_chunk chunks[CHUNKS_MAX];
	uint32_t objects_n, chunks_n;
};

#define STALL_MS 30000

struct world {
	uint64_t seed, rng;
	struct loop *loop;
	struct fetcher *f;
	enum faults faults;
	unsigned layers_n, contents_n, hosts_n, liar;
	uint64_t latency_us, bytes_per_ms;
	uint64_t down_from_ms, down_to_ms;
	uint64_t stall_at; /* bytes of the next request: there it stands still, once; 0: it does not
			    */
	unsigned running[FETCH_CLASSES];
	uint64_t requests[FETCH_CLASSES], bytes[FETCH_CLASSES];
	size_t buffered_max;
	struct waitq wire;
	struct fake_layer *layers[LAYERS_MAX];
	struct fake_content *contents[CONTENTS_MAX];
};

static struct world *w;

static uint64_t rnd(void)
{
	/* xorshift64* */
	w->rng ^= w->rng >> 12;
	w->rng ^= w->rng << 25;
	w->rng ^= w->rng >> 27;
	return w->rng * 2685821657736338717ull;
}

/* [0, n) */
static uint64_t below(uint64_t n)
{
	return n ? (rnd() >> 11) % n : 0;
}

static bool chance(unsigned permille)
{
	return below(1000) < permille;
}

static uint64_t now_ms(void)
{
	return loop_now_ns(w->loop) / NS_PER_MS;
}

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("seed %llu: %s:%d: %s", (unsigned long long)w->seed, __FILE__,    \
				 __LINE__, #cond);                                                 \
	} while (0)

/* --- the log: counted ------------------------------------------------------------------------ */

static unsigned log_lines;
static char read_failed[2048]; /* the last line of this kind */

void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	log_lines++;
	if (strncmp(fmt, "read failed", 11) == 0) {
		va_start(ap, fmt);
		vsnprintf(read_failed, sizeof(read_failed), fmt, ap);
		va_end(ap);
	}
	if (!getenv("FETCH_SEED"))
		return;
	va_start(ap, fmt);
	print_message("%llu ms, level %d: ", (unsigned long long)now_ms(), level);
	vprint_message(fmt, ap);
	print_message("\n");
	va_end(ap);
}

/* --- waiting ---------------------------------------------------------------------------------- */

struct nap {
	struct timer timer;
	struct waitq q;
	bool over;
};

static void nap_over(struct timer *t)
{
	struct nap *n = container_of(t, struct nap, timer);

	n->over = true;
	waitq_wake_all(&n->q);
}

/* Not cancellable, as what threads do. */
static void nap_us(uint64_t us)
{
	struct nap n = {.timer = {.fn = nap_over}};

	waitq_init(&n.q);
	timer_set(w->loop, &n.timer, loop_now_ns(w->loop) + us * 1000);
	while (!n.over)
		waitq_wait_always(&n.q);
}

int work_run(struct work *threads, int (*fn)(void *arg), void *arg)
{
	(void)threads;
	nap_us(20 + below(300));
	return fn(arg);
}

/* --- the disk --------------------------------------------------------------------------------- */

static bool disk_full(void)
{
	return w->faults == FAULTS_FULL && now_ms() >= w->down_from_ms && now_ms() < w->down_to_ms;
}

/* Instead of libc's. */
ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
	if (disk_full())
		n = n > 1 && chance(500) ? 1 + below(n - 1) : 0; /* the last room, or none */
	if (n)
		return syscall(SYS_pwrite64, fd, buf, n, off);
	errno = ENOSPC;
	return -1;
}

ssize_t io_read(int fd, void *buf, size_t len, uint64_t off, unsigned timeout_ms)
{
	(void)timeout_ms;
	nap_us(below(100));
	return pread(fd, buf, 1 + below(len), (off_t)off);
}

/* --- codec: a magic byte, then every byte the other way --------------------------------------- */

int codec_range(enum codec c, struct str in, uint64_t skip, uint64_t len, codec_sink *sink,
		void *arg, struct err *err)
{
	uint8_t out[4096];

	check(c == CODEC_GZIP);
	if (in.len < 1 || (uint8_t)in.p[0] != MAGIC)
		return err_set(err, -EBADMSG, "no magic");
	for (uint64_t i = 0; i < len;) {
		size_t n = len - i < sizeof(out) ? len - i : 1 + below(sizeof(out));
		int r;

		for (size_t k = 0; k < n; k++) {
			if (1 + skip + i + k >= in.len)
				return err_set(err, -EBADMSG, "the stream ends too early");
			out[k] = (uint8_t)(in.p[1 + skip + i + k] ^ 0x5a);
		}
		r = sink(arg, out, n);
		if (r < 0)
			return r;
		i += n;
	}
	return 0;
}

/* --- layers: the descriptor's size says which
 * ----------------------------------------------------- */

struct layer *layers_get(struct layers *ls, uint32_t id)
{
	(void)ls;
	return id >= 1 && id <= w->layers_n ? &w->layers[id - 1]->l : NULL;
}

int layer_fd(struct layers *ls, struct layer *l, struct err *err)
{
	(void)ls, (void)err;
	if (l->fd < 0) {
		l->fd = memfd_create("index", MFD_CLOEXEC);
		check(l->fd >= 0 && ftruncate(l->fd, l->id) == 0);
	}
	return l->fd;
}

static struct fake_layer *layer_of(int fd)
{
	struct stat st;

	check(fstat(fd, &st) == 0 && st.st_size >= 1 && st.st_size <= w->layers_n);
	return w->layers[st.st_size - 1];
}

int index_read_object(int fd, uint32_t i, struct index_object *ret, struct err *err)
{
	struct fake_layer *l = layer_of(fd);

	if (i >= l->objects_n)
		return err_set(err, -EINVAL, "no such object");
	*ret = l->objects[i];
	return 0;
}

int index_read_chunks(int fd, uint32_t first, uint32_t n, struct index_chunk *ret, struct err *err)
{
	struct fake_layer *l = layer_of(fd);

	if (first > l->chunks_n || n > l->chunks_n - first)
		return err_set(err, -EINVAL, "no such chunks");
	memcpy(ret, &l->chunks[first], n * sizeof(*ret));
	return 0;
}

int index_read_path(int fd, uint32_t object, char *ret, struct err *err)
{
	(void)fd, (void)err;
	snprintf(ret, INDEX_PATH_MAX + 1, "a\" error=\"%u", object);
	return 0;
}

/* --- objects
 * -------------------------------------------------------------------------------------- */

static struct fake_content *content_by_key(const struct digest *key)
{
	for (unsigned i = 0; i < w->contents_n; i++) {
		if (digest_eq(&w->contents[i]->obj.key, key))
			return w->contents[i];
	}
	return NULL;
}

int objects_find(struct objects *o, const struct digest *key, struct object_info *ret,
		 struct err *err)
{
	struct fake_content *c = content_by_key(key);

	(void)o;
	nap_us(below(100));
	if (!c)
		return err_set(err, -ENOENT, "no such object");
	*ret = (struct object_info){c->obj.number, c->size};
	return 0;
}

struct object *object_ref(struct object *obj)
{
	((struct fake_content *)obj)->refs++;
	return obj;
}

void object_unref(struct objects *o, struct object *obj)
{
	(void)o;
	check(((struct fake_content *)obj)->refs-- > 0);
}

int objects_get(struct objects *o, uint64_t number, struct object **ret, struct err *err)
{
	struct fake_content *c = w->contents[number - 1];

	(void)o, (void)err;
	nap_us(below(200));
	if (c->obj.fd < 0) {
		c->obj.fd = memfd_create("object", MFD_CLOEXEC);
		check(c->obj.fd >= 0 && ftruncate(c->obj.fd, c->size) == 0);
	}
	*ret = object_ref(&c->obj);
	return 0;
}

bool object_has_chunk(const struct object *obj, uint32_t chunk)
{
	check(chunk < obj->chunks_n);
	return ((const struct fake_content *)obj)->here[chunk];
}

static void content_completes(struct timer *t)
{
	struct fake_content *c = container_of(t, struct fake_content, completes);

	c->obj.complete = true;
	waitq_wake_all(&c->obj.changed);
}

int objects_put_chunk(struct objects *o, struct object *obj, uint32_t chunk, struct err *err)
{
	struct fake_content *c = (struct fake_content *)obj;
	uint32_t n = c->at[chunk + 1] - c->at[chunk];
	uint8_t *got = malloc(n);

	(void)o, (void)err;
	check(c->refs > 0 && got);
	check(pread(obj->fd, got, n, c->at[chunk]) == n);
	check(memcmp(got, c->bytes + c->at[chunk], n) == 0);
	free(got);
	nap_us(below(1000));
	c->puts[chunk]++;
	if (!c->here[chunk]) {
		c->here[chunk] = true;
		obj->chunks_here++;
	}
	if (obj->chunks_here == obj->chunks_n && !obj->complete)
		timer_set(w->loop, &c->completes, loop_now_ns(w->loop) + below(20) * NS_PER_MS);
	waitq_wake_all(&obj->changed);
	return 0;
}

int objects_write_whole(const struct objects *o, const struct digest *key, const void *data,
			size_t size, struct err *err)
{
	struct fake_content *c = content_by_key(key);

	(void)o;
	check(c && c->size == size && memcmp(data, c->bytes, size) == 0);
	if (disk_full())
		return err_set(err, -ENOSPC, "no room");
	c->written = true;
	c->puts[0]++;
	return 0;
}

void objects_wrote(struct objects *o, const struct digest *key)
{
	struct fake_content *c = content_by_key(key);

	(void)o;
	check(c && c->written);
	if (c->obj.fd >= 0 && !c->obj.complete) /* open: later */
		timer_set(w->loop, &c->completes, loop_now_ns(w->loop) + below(3) * NS_PER_MS);
	else
		content_completes(&c->completes);
}

int objects_state(struct objects *o, const struct object_entry *entries, size_t n,
		  uint8_t *ret_states, struct err *err)
{
	(void)o, (void)err;
	nap_us(50 + below(200));
	for (size_t i = 0; i < n; i++) {
		struct fake_content *c = content_by_key(&entries[i].key);

		check(c);
		ret_states[i] = c->obj.complete || c->written ? OBJECT_COMPLETE
				: c->obj.chunks_here          ? OBJECT_PARTIAL
							      : OBJECT_ABSENT;
	}
	return 0;
}

/* --- the registry
 * --------------------------------------------------------------------------------- */

static bool registry_down(void)
{
	return w->faults == FAULTS_DOWN && now_ms() >= w->down_from_ms && now_ms() < w->down_to_ms;
}

/* A piece of a blob's bytes, as this host gives them. */
static int give(const struct blob_request *q, struct fake_layer *l, uint32_t host, uint64_t off,
		size_t n)
{
	uint8_t *data = malloc(n);
	int r;

	check(data);
	memcpy(data, l->blob.data + off, n);
	if (w->faults == FAULTS_LIAR && host == w->liar)
		data[below(n)] ^= 0xff;
	w->bytes[q->class] += n;
	r = q->on_data(q->arg, off, data, n);
	free(data);
	if (w->f->buffered > w->buffered_max)
		w->buffered_max = w->f->buffered;
	return r;
}

static int serve(const struct blob_request *q, struct fake_layer *l, uint32_t host)
{
	uint64_t pos = q->off, end = q->off + q->len;
	uint64_t fails_at =
		w->faults == FAULTS_ERRORS && chance(300) ? q->off + below(q->len) : UINT64_MAX;
	uint64_t stall_at = w->stall_at ? q->off + w->stall_at : UINT64_MAX;
	int r = task_sleep_ms((unsigned)(w->latency_us / 1000));

	w->stall_at = 0;
	while (r == 0 && pos < end) {
		size_t n = 1 + below(KiB(64));

		if (pos + n > stall_at) {
			r = task_sleep_ms(STALL_MS);
			stall_at = UINT64_MAX;
		}

		while (q->class == FETCH_BACKGROUND && w->running[FETCH_DEMAND] && r == 0)
			r = waitq_wait(&w->wire);
		if (r < 0)
			break;
		n = n < end - pos ? n : end - pos;
		r = task_sleep_ms((unsigned)(n / w->bytes_per_ms));
		if (r == 0 && (registry_down() || pos + n > fails_at))
			return -ETIMEDOUT;
		if (r == 0)
			r = give(q, l, host, pos, n);
		pos += n;
	}
	return r;
}

void registry_urgent(struct registry *r)
{
	(void)r;
}

int registry_blob(struct registry *registry, const struct blob_request *q, struct blob_answer *ret,
		  struct err *err)
{
	struct fake_layer *l = NULL;
	uint32_t host = 0;
	int r;

	(void)registry;
	for (unsigned i = 0; i < w->layers_n; i++) {
		if (digest_eq(&w->layers[i]->l.blob, &q->digest))
			l = w->layers[i];
	}
	check(l && q->len > 0 && q->off + q->len <= l->blob.len);
	while (host < w->hosts_n && (q->skip_hosts >> host & 1))
		host++;
	*ret = (struct blob_answer){.hosts_n = w->hosts_n, .host = host, .status = 200};
	snprintf(ret->host_name, sizeof(ret->host_name), "host%u", host);
	w->requests[q->class]++;
	if (host == w->hosts_n)
		return err_set(err, -EHOSTUNREACH, "no host is left");
	w->running[q->class]++;
	check(w->running[FETCH_BACKGROUND] <= REGISTRY_BACKGROUND_MAX);
	check(w->running[FETCH_DEMAND] <= REGISTRY_REQUESTS_MAX);
	check(w->running[FETCH_PREDICTED] <= REGISTRY_PREDICTED_MAX + FETCH_EARLY_HURRY);
	r = serve(q, l, host);
	w->running[q->class]--;
	if (!w->running[FETCH_DEMAND])
		waitq_wake_all(&w->wire);
	return r < 0 ? err_set(err, r, "GET %u: %s", host, r == -ETIMEDOUT ? "slow" : "ended") : 0;
}

/* --- making it
 * ------------------------------------------------------------------------------------ */

static struct fake_content *content_new(unsigned number)
{
	struct fake_content *c = calloc(1, sizeof(*c));
	uint32_t chunk = 1 + (uint32_t)below(chance(300) ? KiB(120) : KiB(16));

	check(c);
	c->chunks_n = chance(700) ? 1 : 1 + (uint32_t)below(chance(200) ? 60 : 8);
	for (uint32_t i = 0; i < c->chunks_n; i++) {
		uint32_t n = i + 1 < c->chunks_n ? chunk : 1 + (uint32_t)below(chunk);

		c->zeros[i] = c->chunks_n > 1 && chance(100);
		c->at[i + 1] = c->at[i] + n;
	}
	c->size = c->at[c->chunks_n];
	c->bytes = calloc(c->size, 1);
	check(c->bytes);
	for (uint32_t i = 0; i < c->chunks_n; i++) {
		for (uint32_t k = c->at[i]; k < c->at[i + 1] && !c->zeros[i]; k++)
			c->bytes[k] = (uint8_t)(rnd() >> 32);
	}
	c->broken = w->faults == FAULTS_BROKEN && chance(200);
	sha256(c->bytes, c->size, &c->obj.digest);
	sha256(&number, sizeof(number), &c->obj.key);
	memcpy(c->obj.key.bytes, &number, sizeof(number)); /* no collisions in fetcher.recent */
	c->obj.number = number;
	c->obj.size = c->size;
	c->obj.chunks_n = c->chunks_n;
	c->obj.fd = -1;
	c->obj.sources = c->sources;
	waitq_init(&c->obj.changed);
	c->completes.fn = content_completes;
	return c;
}

static void blob_byte(struct fake_layer *l, uint8_t b)
{
	check(buf_append(&l->blob, &b, 1) == 0);
}

/* Puts the content's chunks behind what the blob has; sometimes into one stream with the last. */
static void layer_put(struct fake_layer *l, struct fake_content *c)
{
	struct index_object *o = &l->objects[l->objects_n];

	*o = (struct index_object){.key = c->obj.key,
				   .digest = c->obj.digest,
				   .size = c->size,
				   .chunk = l->chunks_n,
				   .chunks_n = c->chunks_n};
	for (uint32_t i = 0; i < c->chunks_n; i++) {
		struct index_chunk *ch = &l->chunks[l->chunks_n++];
		struct index_chunk *before = l->chunks_n > 1 ? ch - 1 : NULL;
		uint32_t n = c->at[i + 1] - c->at[i];
		bool join = before && !before->zeros && before->inner_off < KiB(64) && chance(300);

		*ch = (struct index_chunk){.file_off = c->at[i],
					   .size = n,
					   .object = l->objects_n,
					   .zeros = c->zeros[i]};
		if (ch->zeros) {
			ch->blob_off = l->blob.len;
			continue;
		}
		sha256(c->bytes + c->at[i], n, &ch->digest);
		if (join) {
			ch->blob_off = before->blob_off;
			ch->inner_off = l->blob.len - before->blob_off - 1;
		} else {
			ch->blob_off = l->blob.len;
			blob_byte(l, MAGIC);
		}
		check(buf_reserve(&l->blob, n) == 0);
		for (uint32_t k = c->at[i]; k < c->at[i + 1]; k++)
			l->blob.data[l->blob.len++] = c->bytes[k] ^ 0x5a;
		if (c->broken && i == 0)
			l->blob.data[l->blob.len - 1] ^= 1;
		ch->blob_len = l->blob.len - ch->blob_off;
		if (!join && chance(300)) {
			for (uint64_t k = below(chance(200) ? KiB(150) : 300); k > 0; k--)
				blob_byte(l, (uint8_t)k);
			if (chance(500)) /* says more than there is */
				ch->blob_len = l->blob.len - ch->blob_off;
		}
	}
	c->sources[c->obj.sources_n++] = (struct object_source){l->l.id, l->objects_n};
	l->objects_n++;
}

static struct fake_layer *layer_new(uint32_t id)
{
	struct fake_layer *l = calloc(1, sizeof(*l));

	check(l);
	l->l.id = id;
	l->l.fd = -1;
	l->l.refs_n = 1 + (uint32_t)below(2);
	l->l.refs[0] = (char *)"host/a:1";
	l->l.refs[1] = (char *)"host/b:2";
	sha256(&id, sizeof(id), &l->l.blob);
	for (unsigned i = 0; i < w->contents_n; i++) {
		struct fake_content *c = w->contents[i];

		if ((c->obj.sources_n == 0 && (id == w->layers_n || chance(500))) || chance(150)) {
			if (l->chunks_n + c->chunks_n <= CHUNKS_MAX)
				layer_put(l, c);
		}
	}
	l->l.info = (struct index_info){.codec = CODEC_GZIP,
					.blob_size = l->blob.len,
					.prefetch_end = chance(500) ? below(l->blob.len) : 0,
					.objects_n = l->objects_n,
					.chunks_n = l->chunks_n};
	return l;
}

static void world_new(uint64_t seed, struct loop *loop)
{
	w = calloc(1, sizeof(*w));
	assert_non_null(w);
	w->seed = seed;
	w->rng = seed * 0x9e3779b97f4a7c15ull + 1;
	w->loop = loop;
	rnd();
	w->faults = (enum faults)(seed % FAULTS_KINDS);
	w->hosts_n = w->faults == FAULTS_LIAR ? 2 + (unsigned)below(HOSTS_MAX - 1)
					      : 1 + (unsigned)below(HOSTS_MAX);
	w->liar = (unsigned)below(w->hosts_n);
	w->latency_us = 1000 * (1 + below(80));
	w->bytes_per_ms = KiB(1) << below(6);
	w->down_from_ms = 1000 + below(500);
	w->down_to_ms = w->down_from_ms + below(chance(300) ? 100000 : 20000);
	waitq_init(&w->wire);
	w->contents_n = 1 + (unsigned)below(CONTENTS_MAX);
	for (unsigned i = 0; i < w->contents_n; i++)
		w->contents[i] = content_new(i + 1);
	w->layers_n = 1 + (unsigned)below(LAYERS_MAX);
	for (unsigned i = 0; i < w->layers_n; i++)
		w->layers[i] = layer_new(i + 1);
	assert_int_equal(fetcher_new(loop, NULL, NULL, NULL, NULL, &w->f, NULL), 0);
}

static void world_free(void)
{
	for (unsigned i = 0; i < w->contents_n; i++) {
		struct fake_content *c = w->contents[i];

		check(c->refs == 0);
		timer_stop(w->loop, &c->completes);
		if (c->obj.fd >= 0)
			close(c->obj.fd);
		free(c->bytes);
		free(c);
	}
	for (unsigned i = 0; i < w->layers_n; i++) {
		if (w->layers[i]->l.fd >= 0)
			close(w->layers[i]->l.fd);
		buf_fini(&w->layers[i]->blob);
		free(w->layers[i]);
	}
	free(w);
	w = NULL;
}

#endif
