// SPDX-License-Identifier: Apache-2.0
/*
 * The node's profiles. Owns the list of what there is; the records are meta's. Changes are made one
 * after the other, under a lock that is held from the reading to the write; reads take none, a
 * record is whole whenever it is read.
 */
#include "predict/profiles.h"

#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "loop/sync.h"

#include "base/banned.h"

#define ARENA_MAX MiB(8) /* of one profile, twice its record and what it is made of */
#define ONE_OF    64     /* profiles of one repository that are looked at for the best */

struct known {
	struct map_node node; /* in profiles.known; its key is the record's */
	struct list link;     /* in profiles.by_use */
	struct profile_info info;
	size_t extents; /* bytes of their record; 0: there is none */
	char key[];     /* of the extents: a NUL, then the profile's */
};

struct profiles {
	struct meta *meta;
	struct map known;
	struct list by_use; /* known.link: longest not used first */
	size_t bytes;
	struct mutex change;
	uint64_t merged, evicted;
};

/* --- what is known ---------------------------------------------------------------------------- */

static struct known *known_new(struct str key, const struct profile *p)
{
	struct known *k = malloc(sizeof(*k) + 1 + key.len);

	if (!k)
		return NULL;
	*k = (struct known){.node.key = {k->key + 1, key.len}};
	k->key[0] = '\0';
	memcpy(k->key + 1, key.p, key.len);
	k->info = (struct profile_info){
		.repository = {k->key + 1, p->repository.len},
		.executable = {k->key + 1 + p->repository.len + 1, p->executable.len},
		.starts = p->starts,
		.whole = p->whole,
		.last_ns = p->last_ns,
		.span_us = p->span_us,
		.paths_n = (uint32_t)p->paths_n,
		.uses_n = (uint32_t)p->uses_n,
		.bytes = key.len + profile_size(p),
	};
	for (size_t i = 0; i < p->uses_n; i++)
		k->info.content += (uint64_t)p->uses[i].units * PROFILE_UNIT;
	return k;
}

static struct str extents_key(const struct known *k)
{
	return (struct str){k->key, k->node.key.len + 1};
}

static size_t known_bytes(const struct known *k)
{
	return k->info.bytes + k->extents;
}

static struct known *known_find(struct profiles *p, struct str key)
{
	struct map_node *n = map_get(&p->known, key);

	return n ? container_of(n, struct known, node) : NULL;
}

static void known_drop(struct profiles *p, struct known *k)
{
	map_del(&p->known, &k->node);
	list_del(&k->link);
	p->bytes -= known_bytes(k);
	free(k);
}

/* In place of the one with the same key. */
static void known_put(struct profiles *p, struct known *k)
{
	struct known *old = known_find(p, k->node.key);

	if (old)
		known_drop(p, old);
	map_put(&p->known, &k->node);
	list_push(&p->by_use, &k->link);
	p->bytes += known_bytes(k);
}

static void known_used(struct profiles *p, struct known *k)
{
	list_del(&k->link);
	list_push(&p->by_use, &k->link);
}

static void known_extents(struct profiles *p, struct known *k, size_t bytes)
{
	p->bytes += bytes - k->extents;
	k->extents = bytes;
}

static int make_key(struct str repository, struct str executable, struct buf *key, struct err *err)
{
	const struct profile p = {.repository = repository, .executable = executable};

	return profile_key_encode(&p, key) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

static struct str as_str(const struct buf *b)
{
	return (struct str){(const char *)b->data, b->len};
}

/* --- the start -------------------------------------------------------------------------------- */

struct loading {
	struct known **all;
	size_t n, cap;
	struct buf bad; /* keys of what cannot be read, a u32 length before each */
	size_t bad_n;
	struct buf extents; /* the same of extents, their sizes, u64, before the lengths */
	struct err *err;
};

static int load_bad(struct loading *l, struct str key)
{
	uint32_t n = (uint32_t)key.len;

	l->bad_n++;
	if (buf_append(&l->bad, &n, sizeof(n)) < 0 || buf_append(&l->bad, key.p, key.len) < 0)
		return -ENOMEM;
	return 0;
}

static int load_extents(struct loading *l, struct str key, struct str value)
{
	uint64_t size = key.len + value.len;
	uint32_t n = (uint32_t)key.len;
	auto_arena struct arena a;
	struct extents e;
	int r;

	arena_init(&a, ARENA_MAX);
	r = extents_decode(value, &a, &e, NULL);
	if (r < 0)
		return r == -ENOMEM ? r : load_bad(l, key);
	if (buf_append(&l->extents, &size, sizeof(size)) < 0 ||
	    buf_append(&l->extents, &n, sizeof(n)) < 0 ||
	    buf_append(&l->extents, key.p, key.len) < 0)
		return -ENOMEM;
	return 0;
}

static int load_one(struct loading *l, struct str key, struct str value)
{
	struct known **grown;
	struct profile p;
	auto_arena struct arena a;
	int r;

	arena_init(&a, ARENA_MAX);
	r = profile_decode(key, value, &a, &p, NULL);
	if (r == -EBADMSG || r == -ENOTSUP)
		return load_bad(l, key);
	if (r < 0)
		return r;
	if (l->n == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 64;
		grown = reallocarray(l->all, l->cap, sizeof(struct known *));
		if (!grown)
			return -ENOMEM;
		l->all = grown;
	}
	l->all[l->n] = known_new(key, &p);
	if (!l->all[l->n])
		return -ENOMEM;
	l->n++;
	return 0;
}

/* On a reading thread. */
static int load_job(struct kv *kv, void *arg)
{
	struct loading *l = arg;
	struct str key, value;
	struct kv_iter *it;
	int r = kv_iter_new(kv, KV_PROFILES, &it, l->err), more;

	if (r < 0)
		return r;
	while ((more = kv_iter_next(it, &key, &value, l->err)) > 0 && r == 0) {
		r = key.len && !key.p[0] ? load_extents(l, key, value) : load_one(l, key, value);
		if (r < 0)
			err_set(l->err, r, "out of memory");
	}
	kv_iter_free(it);
	return r < 0 ? r : more;
}

/* Those of no profile are deleted. */
static int match_extents(struct profiles *p, struct loading *l)
{
	uint64_t size;
	uint32_t n;

	for (size_t at = 0; at < l->extents.len; at += sizeof(size) + sizeof(n) + n) {
		const char *key = (char *)l->extents.data + at + sizeof(size) + sizeof(n);
		struct known *k;

		memcpy(&size, l->extents.data + at, sizeof(size));
		memcpy(&n, l->extents.data + at + sizeof(size), sizeof(n));
		k = known_find(p, (struct str){key + 1, n - 1});
		if (k)
			known_extents(p, k, size);
		else if (load_bad(l, (struct str){key, n}) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int by_last(const void *a, const void *b)
{
	const struct known *const *x = a, *const *y = b;

	return ((*x)->info.last_ns > (*y)->info.last_ns) -
	       ((*x)->info.last_ns < (*y)->info.last_ns);
}

may_suspend static void delete_bad(struct profiles *p, struct loading *l)
{
	auto_free struct kv_change *changes = calloc(l->bad_n + 1, sizeof(*changes));
	struct meta_change c = {.more = changes};
	struct err err = ERR_INIT;
	uint32_t n;
	int r;

	if (!changes || l->bad_n == 0)
		return;
	for (size_t at = 0; at < l->bad.len; at += sizeof(n) + n) {
		memcpy(&n, l->bad.data + at, sizeof(n));
		changes[c.more_n++] = (struct kv_change){
			.space = KV_PROFILES,
			.key = {(const char *)l->bad.data + at + sizeof(n), n},
			.del = true,
		};
	}
	r = meta_commit(p->meta, &c, &err);
	log_warn("profiles that cannot be read are deleted n=%zu%s%s", l->bad_n,
		 r < 0 ? " error=" : "", r < 0 ? err_text(&err, r) : "");
}

may_suspend int profiles_new(struct meta *meta, struct profiles **ret, struct err *err)
{
	struct profiles *p = calloc(1, sizeof(*p));
	struct loading l = {.err = err};
	int r;

	if (!p || map_init(&p->known) < 0) {
		free(p);
		return err_set(err, -ENOMEM, "out of memory");
	}
	p->meta = meta;
	mutex_init(&p->change);
	list_init(&p->by_use);
	r = meta_read(meta, load_job, &l);
	if (r == 0) {
		if (l.n)
			qsort(l.all, l.n, sizeof(struct known *), by_last);
		for (size_t i = 0; i < l.n; i++)
			known_put(p, l.all[i]);
		l.n = 0;
		r = match_extents(p, &l) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
	}
	if (r == 0) {
		delete_bad(p, &l);
		*ret = p;
	} else {
		for (size_t i = 0; i < l.n; i++)
			free(l.all[i]);
		profiles_free(p);
	}
	free(l.all);
	buf_fini(&l.bad);
	buf_fini(&l.extents);
	return r;
}

void profiles_free(struct profiles *p)
{
	if (!p)
		return;
	while (!list_empty(&p->by_use))
		known_drop(p, container_of(p->by_use.next, struct known, link));
	map_fini(&p->known);
	free(p);
}

/* --- reads ------------------------------------------------------------------------------------ */

struct reading {
	struct str key;
	struct arena *a;
	struct profile *ret;
	struct err *err;
};

/* On a reading thread; a is nobody else's meanwhile. */
static int read_job(struct kv *kv, void *arg)
{
	struct reading *rd = arg;
	auto_buf struct buf value = BUF_INIT;
	char *key, *copy;
	int r = kv_get(kv, KV_PROFILES, rd->key, &value, rd->err);

	if (r < 0)
		return r;
	key = arena_strndup(rd->a, rd->key.p, rd->key.len);
	copy = arena_strndup(rd->a, (const char *)value.data, value.len);
	if (!key || !copy)
		return err_set(rd->err, -ENOMEM, "no memory for a profile");
	return profile_decode((struct str){key, rd->key.len}, (struct str){copy, value.len}, rd->a,
			      rd->ret, rd->err);
}

may_suspend static int read_key(struct profiles *p, struct str key, struct arena *a,
				struct profile *ret, struct err *err)
{
	struct reading rd = {key, a, ret, err};

	return meta_read(p->meta, read_job, &rd);
}

may_suspend int profiles_get(struct profiles *p, struct str repository, struct str executable,
			     struct arena *a, struct profile *ret, struct err *err)
{
	auto_buf struct buf key = BUF_INIT;
	struct known *k;
	int r = make_key(repository, executable, &key, err);

	if (r < 0)
		return r;
	k = known_find(p, as_str(&key));
	if (!k)
		return err_set(err, -ENOENT, "no such profile");
	known_used(p, k);
	return read_key(p, as_str(&key), a, ret, err);
}

/* The best of the repository, most starts first; then those with the later start. */
static size_t find_best(struct profiles *p, struct str repository, struct known **best, size_t max)
{
	struct list *it, *tmp;
	size_t n = 0, i;

	list_for_each_safe (it, tmp, &p->by_use) {
		struct known *k = container_of(it, struct known, link);

		if (!str_eq(k->info.repository, repository))
			continue;
		for (i = n; i > 0 && best[i - 1]->info.starts <= k->info.starts; i--) {
			if (i < max)
				best[i] = best[i - 1];
		}
		if (i < max)
			best[i] = k;
		n += n < max;
	}
	return n;
}

bool profiles_any(const struct profiles *p, struct str repository)
{
	for (struct list *it = p->by_use.next; it != &p->by_use; it = it->next) {
		if (str_eq(container_of(it, struct known, link)->info.repository, repository))
			return true;
	}
	return false;
}

may_suspend int profiles_of(struct profiles *p, struct str repository, struct arena *a,
			    struct profile *ret, size_t max, struct err *err)
{
	struct known *best[ONE_OF];
	struct str keys[ONE_OF];
	size_t n = find_best(p, repository, best, max < ONE_OF ? max : ONE_OF);
	int found = 0, r;

	for (size_t i = 0; i < n; i++) { /* before anything suspends */
		keys[i].len = best[i]->node.key.len;
		keys[i].p = arena_strndup(a, best[i]->node.key.p, keys[i].len);
		if (!keys[i].p)
			return err_set(err, -ENOMEM, "no memory for a profile");
		known_used(p, best[i]);
	}
	for (size_t i = 0; i < n; i++) {
		r = read_key(p, keys[i], a, &ret[found], err);
		if (r < 0 && r != -ENOENT) /* removed meanwhile */
			return r;
		found += r == 0;
	}
	return found;
}

struct reading_extents {
	struct str key;
	struct arena *a;
	struct extents *ret;
};

/* On a reading thread. */
static int extents_job(struct kv *kv, void *arg)
{
	struct reading_extents *rd = arg;
	auto_buf struct buf value = BUF_INIT;
	char *copy;
	int r = kv_get(kv, KV_PROFILES, rd->key, &value, NULL);

	if (r < 0)
		return r;
	copy = arena_strndup(rd->a, (const char *)value.data, value.len);
	if (!copy)
		return -ENOMEM;
	return extents_decode((struct str){copy, value.len}, rd->a, rd->ret, NULL);
}

may_suspend int profiles_extents(struct profiles *p, struct str repository, struct arena *a,
				 struct extents *ret, size_t max)
{
	struct known *best[ONE_OF];
	struct reading_extents rd[ONE_OF];
	size_t n = find_best(p, repository, best, max < ONE_OF ? max : ONE_OF), known = 0;
	int found = 0, r;

	for (size_t i = 0; i < n; i++) { /* before anything suspends */
		struct str key = extents_key(best[i]);

		if (!best[i]->extents) /* it may be what runs next */
			return 0;
		rd[known] = (struct reading_extents){.key.len = key.len, .a = a};
		rd[known].key.p = arena_strndup(a, key.p, key.len);
		if (!rd[known++].key.p)
			return -ENOMEM;
	}
	for (size_t i = 0; i < known; i++) {
		rd[i].ret = &ret[found];
		r = meta_read(p->meta, extents_job, &rd[i]);
		if (r == -ENOMEM || r == -ECANCELED || r == -EIO)
			return r;
		if (r < 0) /* just being written, removed meanwhile, or damaged */
			return 0;
		found++;
	}
	return found;
}

int profiles_each(struct profiles *p, int (*fn)(void *arg, const struct profile_info *info),
		  void *arg)
{
	struct list *it, *tmp;
	int r = 0;

	list_for_each_safe (it, tmp, &p->by_use) {
		r = fn(arg, &container_of(it, struct known, link)->info);
		if (r)
			break;
	}
	return r;
}

void profiles_stats(const struct profiles *p, struct profiles_stats *ret)
{
	*ret = (struct profiles_stats){p->known.count, p->bytes, p->merged, p->evicted};
}

/* --- changes: with the lock held -------------------------------------------------------------- */

#define DELETIONS_EACH 2

/* Adds those of one; extents first, for forget(). */
static size_t delete_one(const struct known *k, struct kv_change *deletions, size_t n)
{
	if (k->extents)
		deletions[n++] = (struct kv_change){
			.space = KV_PROFILES, .key = extents_key(k), .del = true};
	deletions[n++] = (struct kv_change){.space = KV_PROFILES, .key = k->node.key, .del = true};
	return n;
}

/* Deletions that make room for k, longest not used first; k's predecessor does not count. */
static size_t make_room(struct profiles *p, const struct known *k, struct kv_change *deletions)
{
	struct known *old = known_find(p, k->node.key);
	size_t count = p->known.count + (old ? 0 : 1), n = 0;
	size_t bytes = p->bytes + known_bytes(k) - (old ? known_bytes(old) : 0);
	struct list *it, *tmp;

	list_for_each_safe (it, tmp, &p->by_use) {
		struct known *other = container_of(it, struct known, link);

		if (count <= PROFILES_MAX && bytes <= PROFILES_BYTES_MAX)
			break;
		if (other == old)
			continue;
		n = delete_one(other, deletions, n);
		count--;
		bytes -= known_bytes(other);
	}
	return n;
}

/* Answers how many profiles they were. */
static size_t forget(struct profiles *p, const struct kv_change *deletions, size_t n)
{
	size_t profiles = 0;

	for (size_t i = 0; i < n; i++) {
		struct known *k = deletions[i].key.p[0] ? known_find(p, deletions[i].key) : NULL;

		if (k)
			known_drop(p, k);
		profiles += k != NULL;
	}
	return profiles;
}

static struct kv_change *deletions_new(const struct profiles *p)
{
	return reallocarray(NULL, DELETIONS_EACH * p->known.count + 1, sizeof(struct kv_change));
}

/* Writes it over what is there, whose extents stay or go. */
may_suspend static int write_one(struct profiles *p, const struct profile *profile,
				 bool keep_extents, struct err *err)
{
	auto_free struct kv_change *deletions = deletions_new(p);
	auto_buf struct buf key = BUF_INIT, value = BUF_INIT;
	struct meta_change c = {.n = 1, .more = deletions};
	struct known *k = NULL, *old;
	int r = deletions ? profile_key_encode(profile, &key) : -ENOMEM;

	if (r == 0)
		r = profile_encode(profile, &value);
	if (r == 0)
		k = known_new(as_str(&key), profile);
	if (!k)
		return err_set(err, -ENOMEM, "out of memory");
	old = known_find(p, k->node.key);
	if (old && keep_extents)
		k->extents = old->extents;
	c.changes[0] = (struct kv_change){KV_PROFILES, as_str(&key), as_str(&value), false};
	if (old && old->extents && !keep_extents)
		c.changes[c.n++] = (struct kv_change){
			.space = KV_PROFILES, .key = extents_key(k), .del = true};
	c.more_n = make_room(p, k, deletions);
	r = meta_commit(p->meta, &c, err);
	if (r < 0) {
		free(k);
		return r;
	}
	p->evicted += forget(p, deletions, c.more_n);
	known_put(p, k);
	return 0;
}

struct merging {
	struct reading old;
	const struct profile *start;
	struct profile *ret;
};

/* On a reading thread. What cannot be read is begun anew. */
static int merge_job(struct kv *kv, void *arg)
{
	struct merging *m = arg;
	struct profile old;
	int r;

	m->old.ret = &old;
	r = read_job(kv, &m->old);
	if (r == -ENOENT || r == -EBADMSG || r == -ENOTSUP) {
		*m->ret = *m->start;
		return 0;
	}
	return r < 0 ? r : profile_merge(&old, m->start, m->old.a, m->ret, m->old.err);
}

may_suspend static int put_locked(struct profiles *p, const struct profile *start, struct err *err)
{
	auto_buf struct buf key = BUF_INIT;
	auto_arena struct arena a;
	struct profile merged;
	struct merging m = {.start = start, .ret = &merged};
	int r;

	arena_init(&a, ARENA_MAX);
	r = make_key(start->repository, start->executable, &key, err);
	if (r < 0)
		return r;
	m.old = (struct reading){.key = as_str(&key), .a = &a, .err = err};
	r = meta_read(p->meta, merge_job, &m);
	if (r == 0)
		r = write_one(p, &merged, true, err);
	p->merged += r == 0;
	return r;
}

may_suspend int profiles_put(struct profiles *p, const struct profile *start, struct err *err)
{
	int r = profile_check(start, err);

	if (r < 0 || start->uses_n == 0)
		return r;
	r = mutex_lock(&p->change);
	if (r < 0)
		return err_errno(err, r, "wait for other changes of profiles");
	r = put_locked(p, start, err);
	mutex_unlock(&p->change);
	return r;
}

may_suspend static int put_extents_locked(struct profiles *p, struct str key, struct str value,
					  struct err *err)
{
	auto_free struct kv_change *deletions = deletions_new(p);
	struct meta_change c = {.n = 1, .more = deletions};
	struct known *k = known_find(p, key);
	size_t before, size = key.len + 1 + value.len;
	int r;

	if (!k)
		return err_set(err, -ENOENT, "no such profile");
	if (!deletions)
		return err_set(err, -ENOMEM, "out of memory");
	before = k->extents;
	c.changes[0] = (struct kv_change){KV_PROFILES, extents_key(k), value, false};
	known_extents(p, k, size);
	c.more_n = make_room(p, k, deletions);
	r = meta_commit(p->meta, &c, err);
	if (r < 0)
		known_extents(p, k, before);
	else
		p->evicted += forget(p, deletions, c.more_n);
	return r;
}

may_suspend int profiles_put_extents(struct profiles *p, struct str repository,
				     struct str executable, const struct extents *e,
				     struct err *err)
{
	auto_buf struct buf key = BUF_INIT, value = BUF_INIT;
	int r = make_key(repository, executable, &key, err);

	if (r == 0 && extents_encode(e, &value) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	r = mutex_lock(&p->change);
	if (r < 0)
		return err_errno(err, r, "wait for other changes of profiles");
	r = put_extents_locked(p, as_str(&key), as_str(&value), err);
	mutex_unlock(&p->change);
	return r;
}

struct importing {
	struct str document;
	struct arena *a;
	struct profile *ret;
	struct err *err;
};

/* On a reading thread: a document is parsed for some milliseconds. */
static int import_job(struct kv *kv, void *arg)
{
	struct importing *im = arg;

	(void)kv;
	return profile_from_json(im->document, im->a, im->ret, im->err);
}

may_suspend int profiles_import(struct profiles *p, struct str document, struct arena *a,
				struct profile *ret, struct err *err)
{
	struct profile profile;
	struct importing im = {document, a, &profile, err};
	int r = meta_read(p->meta, import_job, &im);

	if (r < 0)
		return r;
	r = mutex_lock(&p->change);
	if (r < 0)
		return err_errno(err, r, "wait for other changes of profiles");
	r = write_one(p, &profile, false, err);
	mutex_unlock(&p->change);
	if (r == 0 && ret)
		*ret = profile;
	return r;
}

may_suspend static int remove_locked(struct profiles *p, struct str repository,
				     const struct str *executable, struct err *err)
{
	auto_free struct kv_change *deletions = deletions_new(p);
	struct meta_change c = {.more = deletions};
	struct list *it, *tmp;
	int r;

	if (!deletions)
		return err_set(err, -ENOMEM, "out of memory");
	list_for_each_safe (it, tmp, &p->by_use) {
		struct known *k = container_of(it, struct known, link);

		if (str_eq(k->info.repository, repository) &&
		    (!executable || str_eq(k->info.executable, *executable)))
			c.more_n = delete_one(k, deletions, c.more_n);
	}
	r = c.more_n ? meta_commit(p->meta, &c, err) : 0;
	return r < 0 ? r : (int)forget(p, deletions, c.more_n);
}

may_suspend int profiles_remove(struct profiles *p, struct str repository,
				const struct str *executable, struct err *err)
{
	int r = mutex_lock(&p->change);

	if (r < 0)
		return err_errno(err, r, "wait for other changes of profiles");
	r = remove_locked(p, repository, executable, err);
	mutex_unlock(&p->change);
	return r;
}
