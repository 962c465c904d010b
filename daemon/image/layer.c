// SPDX-License-Identifier: Apache-2.0
/*
 * The layers in memory, their records and index files. The order of an add is file, record,
 * objects; of a removal objects, record, file: what a crash leaves has no snapshot and is removed
 * at the next start. Loop thread; files and indexes are read on threads.
 */
#include "image/layer.h"

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "format.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "loop/work.h"

#include "base/banned.h"

struct layers {
	struct loop *loop;
	struct meta *meta;
	struct objects *objects;
	struct work *threads;
	int dir_fd; /* ROOT/layers */
	struct map map;
	struct list all;  /* layer.link */
	struct list open; /* layer.fd_link, least recently used first */
	unsigned open_n;
	uint32_t next_id;
	bool started;
	struct scope scope; /* the remover */
	struct waitq dying;
	may_suspend void (*on_remove)(void *arg, uint32_t id);
	void *on_remove_arg;
};

_Static_assert(offsetof(struct layer, trust) == offsetof(struct layer, blob) + DIGEST_SIZE,
	       "both are the key");

static struct str layer_key(const struct layer *l)
{
	return (struct str){(const char *)l->blob.bytes, (size_t)2 * DIGEST_SIZE};
}

/* --- records ---------------------------------------------------------------------------------- */

struct head { /* include/format.h */
	uint8_t version, complete;
	uint16_t refs;
	uint32_t zero;
	struct digest blob, trust;
} __attribute__((packed));

static int record_put(const struct layer *l, struct buf *b)
{
	struct head h = {.version = LAYER_RECORD_VERSION,
			 .complete = l->complete,
			 .refs = htole16((uint16_t)l->refs_n),
			 .blob = l->blob,
			 .trust = l->trust};
	int r = buf_append(b, &h, sizeof(h));

	for (uint32_t i = 0; r == 0 && i < l->refs_n; i++) {
		uint32_t n = htole32((uint32_t)strlen(l->refs[i]));

		r = buf_append(b, &n, sizeof(n));
		if (r == 0)
			r = buf_append(b, l->refs[i], strlen(l->refs[i]));
	}
	return r;
}

static int record_get(struct str in, struct layer *l)
{
	struct head h;

	if (in.len < sizeof(h))
		return -EBADMSG;
	memcpy(&h, in.p, sizeof(h));
	in = (struct str){in.p + sizeof(h), in.len - sizeof(h)};
	if (h.version != LAYER_RECORD_VERSION)
		return -ENOTSUP;
	if (h.zero || h.complete > 1 || le16toh(h.refs) > LAYER_REFS_MAX)
		return -EBADMSG;
	l->blob = h.blob;
	l->trust = h.trust;
	l->complete = h.complete;
	for (unsigned i = 0; i < le16toh(h.refs); i++) {
		uint32_t n;

		if (in.len < sizeof(n))
			return -EBADMSG;
		memcpy(&n, in.p, sizeof(n));
		n = le32toh(n);
		if (n > in.len - sizeof(n))
			return -EBADMSG;
		l->refs[l->refs_n] = strndup(in.p + sizeof(n), n);
		if (!l->refs[l->refs_n++])
			return -ENOMEM;
		in = (struct str){in.p + sizeof(n) + n, in.len - sizeof(n) - n};
	}
	return in.len ? -EBADMSG : 0;
}

static void layer_free(struct layer *l)
{
	if (!l)
		return;
	for (uint32_t i = 0; i < l->refs_n; i++)
		free(l->refs[i]);
	if (l->fd >= 0)
		close(l->fd);
	free(l);
}

static struct layer *layer_new(void)
{
	struct layer *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->fd = -1;
	list_init(&l->link);
	list_init(&l->fd_link);
	l->node.key = layer_key(l);
	return l;
}

/* The key in the database: ids in their order. */
struct id_key {
	uint32_t be;
};

static struct str id_key(struct id_key *k, uint32_t id)
{
	k->be = htobe32(id);
	return (struct str){(const char *)&k->be, sizeof(k->be)};
}

may_suspend static int layer_write(struct layers *ls, struct layer *l, bool is_new, struct err *err)
{
	auto_buf struct buf b = BUF_INIT;
	struct meta_change c = {0};
	struct id_key key;
	uint32_t next = htole32(ls->next_id);

	if (record_put(l, &b) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	c.changes[c.n++] = (struct kv_change){
		.space = KV_LAYERS, .key = id_key(&key, l->id), .value = {(char *)b.data, b.len}};
	if (is_new)
		c.changes[c.n++] = (struct kv_change){.key = STR(FORMAT_KEY_NEXT_LAYER),
						      .value = {(char *)&next, sizeof(next)}};
	return meta_commit(ls->meta, &c, err);
}

/* --- the start -------------------------------------------------------------------------------- */

struct load {
	struct layers *ls;
	struct err *err;
};

static int load_next_id(struct layers *ls, struct kv *kv, struct err *err)
{
	auto_buf struct buf b = BUF_INIT;
	uint32_t v;
	int r = kv_get(kv, KV_DEFAULT, STR(FORMAT_KEY_NEXT_LAYER), &b, err);

	if (r == -ENOENT)
		return 0;
	if (r == 0 && b.len != sizeof(v))
		r = err_set(err, -EBADMSG, "damaged record of the next layer id");
	if (r < 0)
		return r;
	memcpy(&v, b.data, sizeof(v));
	v = le32toh(v);
	if (v > ls->next_id)
		ls->next_id = v;
	return 0;
}

/* A layer whose index file is gone or damaged stays, so that its snapshots can be removed; whatever
 * needs the file fails. */
static void load_info(struct layers *ls, struct layer *l)
{
	struct err err = ERR_INIT;
	char name[16];
	int r;

	snprintf(name, sizeof(name), "%" PRIu32, l->id);
	auto_close int fd = openat(ls->dir_fd, name, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? err_errno(&err, -errno, "open") : index_read_info(fd, &l->info, &err);
	l->lost = r < 0;
	if (r < 0)
		log_error("layer index is lost layer=%" PRIu32 " error=\"%s\"", l->id,
			  err_text(&err, r));
}

static int load_one(struct layers *ls, struct str key, struct str value, struct err *err)
{
	struct layer *l = layer_new();
	struct id_key k;
	int r;

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	r = key.len == sizeof(k) ? record_get(value, l) : -EBADMSG;
	if (r < 0) {
		layer_free(l);
		return err_set(err, r, "damaged record of a layer");
	}
	memcpy(&k, key.p, sizeof(k));
	l->id = be32toh(k.be);
	load_info(ls, l);
	if (l->id >= ls->next_id)
		ls->next_id = l->id + 1;
	list_push(&ls->all, &l->link);
	if (map_get(&ls->map, layer_key(l)))
		l->dying = true; /* added twice around a crash: the older one serves */
	else
		map_put(&ls->map, &l->node);
	return 0;
}

static int load_job(struct kv *kv, void *arg)
{
	struct load *job = arg;
	struct str key, value;
	struct kv_iter *it;
	int r = kv_iter_new(kv, KV_LAYERS, &it, job->err);

	if (r < 0)
		return r;
	while ((r = kv_iter_next(it, &key, &value, job->err)) > 0) {
		r = load_one(job->ls, key, value, job->err);
		if (r < 0)
			break;
	}
	kv_iter_free(it);
	return r < 0 ? r : load_next_id(job->ls, kv, job->err);
}

may_suspend int layers_new(struct loop *loop, struct meta *meta, struct objects *objects,
			   struct work *threads, int root_fd, struct layers **ret, struct err *err)
{
	struct layers *ls = calloc(1, sizeof(*ls));
	struct load job = {ls, err};
	int r;

	if (!ls)
		return err_set(err, -ENOMEM, "out of memory");
	ls->loop = loop;
	ls->meta = meta;
	ls->objects = objects;
	ls->threads = threads;
	ls->dir_fd = -1;
	ls->next_id = 1;
	list_init(&ls->all);
	list_init(&ls->open);
	waitq_init(&ls->dying);
	scope_init(&ls->scope, loop);
	r = map_init(&ls->map) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
	if (r == 0 && mkdirat(root_fd, "layers", 0700) < 0 && errno != EEXIST)
		r = err_errno(err, -errno, "mkdir layers");
	if (r == 0) {
		ls->dir_fd = openat(root_fd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = ls->dir_fd < 0 ? err_errno(err, -errno, "open layers")
				   : meta_read(meta, load_job, &job);
	}
	if (r < 0) {
		layers_free(ls);
		return r;
	}
	*ret = ls;
	return 0;
}

may_suspend void layers_stop(struct layers *ls)
{
	scope_cancel(&ls->scope);
	scope_wait(&ls->scope);
}

may_suspend void layers_free(struct layers *ls)
{
	struct list *it, *tmp;

	if (!ls)
		return;
	layers_stop(ls);
	scope_fini(&ls->scope);
	list_for_each_safe (it, tmp, &ls->all)
		layer_free(container_of(it, struct layer, link));
	map_fini(&ls->map);
	if (ls->dir_fd >= 0)
		close(ls->dir_fd);
	free(ls);
}

/* --- look-ups --------------------------------------------------------------------------------- */

/* Few layers, short list; the hot paths keep what they found. */
struct layer *layers_get(struct layers *ls, uint32_t id)
{
	for (struct list *it = ls->all.next; it != &ls->all; it = it->next) {
		struct layer *l = container_of(it, struct layer, link);

		if (l->id == id)
			return l;
	}
	return NULL;
}

struct layer *layers_find(struct layers *ls, const struct digest *blob, const struct digest *trust)
{
	const struct digest what[2] = {*blob, *trust};
	struct map_node *n = map_get(&ls->map, (struct str){(const char *)what, sizeof(what)});

	return n ? container_of(n, struct layer, node) : NULL;
}

struct layer *layers_find_blob(struct layers *ls, const struct digest *blob)
{
	for (struct list *it = ls->all.next; it != &ls->all; it = it->next) {
		struct layer *l = container_of(it, struct layer, link);

		if (!l->dying && digest_eq(&l->blob, blob))
			return l;
	}
	return NULL;
}

uint32_t layers_next(const struct layers *ls, uint32_t after)
{
	for (struct list *it = ls->all.next; it != &ls->all; it = it->next) {
		struct layer *l = container_of(it, struct layer, link);

		if (l->id > after && !l->dying)
			return l->id;
	}
	return 0;
}

uint64_t layers_tally(const struct layers *ls, uint64_t *ret_complete)
{
	uint64_t n = 0, complete = 0;

	for (const struct list *it = ls->all.next; it != &ls->all; it = it->next) {
		const struct layer *l = container_of(it, struct layer, link);

		n += !l->dying;
		complete += !l->dying && l->complete;
	}
	*ret_complete = complete;
	return n;
}

static void fd_close(struct layers *ls, struct layer *l)
{
	if (l->fd < 0)
		return;
	close(l->fd);
	l->fd = -1;
	list_del(&l->fd_link);
	ls->open_n--;
}

int layer_fd(struct layers *ls, struct layer *l, struct err *err)
{
	char name[16];

	if (l->fd >= 0) {
		list_del(&l->fd_link);
		list_push(&ls->open, &l->fd_link);
		return l->fd;
	}
	while (ls->open_n >= LAYER_FDS_MAX)
		fd_close(ls, container_of(ls->open.next, struct layer, fd_link));
	snprintf(name, sizeof(name), "%" PRIu32, l->id);
	l->fd = openat(ls->dir_fd, name, O_RDONLY | O_CLOEXEC);
	if (l->fd < 0)
		return err_errno(err, -errno, "open the index of layer %" PRIu32, l->id);
	list_push(&ls->open, &l->fd_link);
	ls->open_n++;
	return l->fd;
}

/* --- adding ----------------------------------------------------------------------------------- */

int layers_tmpfile(const struct layers *ls, struct err *err)
{
	int fd = openat(ls->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd < 0 ? err_errno(err, -errno, "make a layer index") : fd;
}

/* What a thread needs of a layer. */
struct index_job {
	struct layers *ls;
	uint32_t id;
	int fd; /* of the index */
	bool publish;
	struct index_info info;
	struct object_entry *entries;
	size_t n;
	struct err *err;
};

/* Synced, then with a name. */
static int publish(const struct index_job *job)
{
	char from[64], name[16];

	snprintf(from, sizeof(from), "/proc/self/fd/%d", job->fd);
	snprintf(name, sizeof(name), "%" PRIu32, job->id);
	if (fsync(job->fd) < 0)
		return err_errno(job->err, -errno, "sync a layer index");
	if (unlinkat(job->ls->dir_fd, name, 0) < 0 && errno != ENOENT)
		return err_errno(job->err, -errno, "unlink layers/%s", name);
	if (linkat(AT_FDCWD, from, job->ls->dir_fd, name, AT_SYMLINK_FOLLOW) < 0)
		return err_errno(job->err, -errno, "link layers/%s", name);
	if (fsync(job->ls->dir_fd) < 0)
		return err_errno(job->err, -errno, "sync layers/");
	return 0;
}

/* The objects of an index; and its file under its name. */
static int index_job(void *arg)
{
	struct index_job *job = arg;
	auto_index struct index *ix = NULL;
	int r = index_load(job->fd, &ix, job->err);

	if (r < 0)
		return r;
	job->info = *index_info(ix);
	job->n = job->info.objects_n;
	job->entries = calloc(job->n + 1, sizeof(*job->entries));
	if (!job->entries)
		return err_set(job->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < job->n; i++) {
		struct index_object o;

		index_object(ix, i, &o);
		job->entries[i] = (struct object_entry){.key = o.key,
							.digest = o.digest,
							.size = o.size,
							.index = i,
							.chunks_n = o.chunks_n};
	}
	return job->publish ? publish(job) : 0;
}

static int ref_add(struct layer *l, struct str ref)
{
	uint32_t at = 0;
	char *text;

	while (at < l->refs_n && !str_eq(str_of(l->refs[at]), ref))
		at++;
	if (at == 0 && l->refs_n)
		return 0;
	text = strndup(ref.p, ref.len);
	if (!text)
		return -ENOMEM;
	if (at == l->refs_n && l->refs_n < LAYER_REFS_MAX)
		l->refs_n++;
	else
		free(l->refs[at < LAYER_REFS_MAX ? at : --at]);
	memmove(&l->refs[1], &l->refs[0], at * sizeof(l->refs[0]));
	l->refs[0] = text;
	return 1;
}

may_suspend static int add_steps(struct layers *ls, struct layer *l, struct index_job *job,
				 struct err *err)
{
	int r = work_run(ls->threads, index_job, job);

	if (r < 0)
		return err_wrap(err, r, "layer index");
	l->info = job->info;
	r = layer_write(ls, l, true, err);
	if (r == 0)
		r = objects_add(ls->objects, l->id, job->entries, job->n, err);
	return r;
}

may_suspend int layers_add(struct layers *ls, const struct digest *blob, const struct digest *trust,
			   struct str ref, int index_fd, struct layer **ret, struct err *err)
{
	struct index_job job = {.ls = ls, .fd = index_fd, .publish = true, .err = err};
	struct layer *l = layer_new();
	int r;

	if (!l || ref_add(l, ref) < 0) {
		layer_free(l);
		return err_set(err, -ENOMEM, "out of memory");
	}
	l->blob = *blob;
	l->trust = *trust;
	l->users = 1;
	job.id = l->id = ls->next_id++;
	list_push(&ls->all, &l->link);
	r = add_steps(ls, l, &job, err);
	free(job.entries);
	if (r < 0) {
		l->dying = true;
		layer_unuse(ls, l);
		return r;
	}
	map_put(&ls->map, &l->node);
	*ret = l;
	return 0;
}

may_suspend int layers_note_ref(struct layers *ls, struct layer *l, struct str ref, struct err *err)
{
	int r = ref_add(l, ref);

	if (r < 0)
		return err_set(err, r, "out of memory");
	return r ? layer_write(ls, l, false, err) : 0;
}

may_suspend int layers_set_complete(struct layers *ls, struct layer *l, struct err *err)
{
	if (l->complete)
		return 0;
	l->complete = true;
	return layer_write(ls, l, false, err);
}

/* --- removal ---------------------------------------------------------------------------------- */

void layer_use(struct layer *l)
{
	l->users++;
}

static void layer_die(struct layers *ls, struct layer *l)
{
	if (map_get(&ls->map, layer_key(l)) == &l->node)
		map_del(&ls->map, &l->node);
	l->dying = true;
	waitq_wake_all(&ls->dying);
}

void layer_unuse(struct layers *ls, struct layer *l)
{
	require(l->users > 0);
	if (--l->users == 0)
		layer_die(ls, l);
}

may_suspend static int remove_objects(struct layers *ls, struct layer *l, struct err *err)
{
	struct index_job job = {.ls = ls, .err = err};
	struct digest *keys;
	int r;

	job.fd = layer_fd(ls, l, err);
	if (job.fd == -ENOENT)
		return 0; /* its objects are left without a layer: the store's own walk finds them
			   */
	if (job.fd < 0)
		return job.fd;
	job.fd = take_fd(&l->fd);
	list_del(&l->fd_link);
	ls->open_n--;
	r = work_run(ls->threads, index_job, &job);
	close(job.fd);
	keys = calloc(job.n + 1, sizeof(*keys));
	if (r == 0 && !keys)
		r = err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < job.n; i++)
		keys[i] = job.entries[i].key;
	if (r == 0)
		r = objects_remove(ls->objects, l->id, keys, job.n, err);
	else if (r == -EBADMSG)
		r = 0; /* damaged: as if it were gone */
	free(keys);
	free(job.entries);
	return r;
}

struct unlink_job {
	int dir_fd;
	uint32_t id;
};

static int unlink_job(void *arg)
{
	struct unlink_job *job = arg;
	char name[16];

	snprintf(name, sizeof(name), "%" PRIu32, job->id);
	return unlinkat(job->dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

may_suspend static int layer_remove(struct layers *ls, struct layer *l, struct err *err)
{
	struct unlink_job file = {ls->dir_fd, l->id};
	struct meta_change c = {0};
	struct id_key key;
	int r;

	if (ls->on_remove)
		ls->on_remove(ls->on_remove_arg, l->id);
	r = remove_objects(ls, l, err);
	c.changes[c.n++] =
		(struct kv_change){.space = KV_LAYERS, .key = id_key(&key, l->id), .del = true};
	if (r == 0)
		r = meta_commit(ls->meta, &c, err);
	if (r < 0)
		return r;
	r = work_run(ls->threads, unlink_job, &file);
	if (r < 0)
		log_warn("unlink layer=%" PRIu32 " error=\"%s\"", l->id, strerror(-r));
	fd_close(ls, l);
	list_del(&l->link);
	layer_free(l);
	return 0;
}

/* The one behind id `after`, so that one that cannot be removed does not keep the others; or the
 * first. */
static struct layer *next_dying(struct layers *ls, uint32_t after)
{
	struct layer *first = NULL;

	for (struct list *it = ls->all.next; it != &ls->all; it = it->next) {
		struct layer *l = container_of(it, struct layer, link);

		if (!l->dying || l->users)
			continue;
		if (l->id > after)
			return l;
		if (!first)
			first = l;
	}
	return first;
}

#define REMOVE_RETRY_MS 5000

may_suspend static int remover(void *arg)
{
	struct layers *ls = arg;
	uint32_t last = 0;

	while (!task_cancelled()) {
		struct layer *l = next_dying(ls, last);
		struct err err = ERR_INIT;
		int r;

		if (!l) {
			if (waitq_wait(&ls->dying) < 0)
				break;
			continue;
		}
		last = l->id;
		r = layer_remove(ls, l, &err);
		if (r < 0 && !task_cancelled()) {
			log_error("remove layer=%" PRIu32 " error=\"%s\"", l->id,
				  err_text(&err, r));
			task_sleep_ms(REMOVE_RETRY_MS);
		}
	}
	return 0;
}

/* Index files that no record names: an add that was cut short. */
static int stray_job(void *arg)
{
	struct layers *ls = arg;
	auto_closedir DIR *d = NULL;
	struct dirent *e;
	uint64_t id;
	int fd = openat(ls->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' || (str_u64(str_of(e->d_name), &id) == 0 &&
					    id < ls->next_id && layers_get(ls, (uint32_t)id)))
			continue;
		unlinkat(ls->dir_fd, e->d_name, 0);
	}
	return 0;
}

int layers_start(struct layers *ls, may_suspend void (*on_remove)(void *arg, uint32_t id),
		 void *arg, struct err *err)
{
	struct list *it, *tmp;
	int r;

	ls->on_remove = on_remove;
	ls->on_remove_arg = arg;
	list_for_each_safe (it, tmp, &ls->all) {
		struct layer *l = container_of(it, struct layer, link);

		if (!l->users)
			layer_die(ls, l);
	}
	r = stray_job(ls); /* before anybody adds: short */
	if (r < 0)
		return err_errno(err, r, "look through layers/");
	r = scope_spawn(&ls->scope, remover, ls, NULL);
	return r < 0 ? err_errno(err, r, "start the removal of layers") : 0;
}
