// SPDX-License-Identifier: Apache-2.0
/* The database's twin in memory, for tests: the same order and atomicity, and errors on demand. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/kv.h"

#include "base/banned.h"

struct entry {
	struct str key, value; /* one allocation, at key.p */
};

struct space {
	struct entry *entries; /* by key */
	size_t n;
};

struct kv_mem {
	struct kv kv;
	pthread_mutex_t lock;
	struct space spaces[KV_SPACES];
	unsigned fail_after;
	int fail_code;
	bool fail_applied;
};

struct mem_iter {
	struct kv_iter it;
	struct space copy;
	size_t at;
};

/* First entry with a key ≥ key. */
static size_t space_find(const struct space *s, struct str key)
{
	size_t lo = 0, hi = s->n, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (str_cmp(s->entries[mid].key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int entry_new(struct str key, struct str value, struct entry *ret)
{
	char *p = malloc(key.len + value.len + 1);

	if (!p)
		return -ENOMEM;
	if (key.len)
		memcpy(p, key.p, key.len);
	if (value.len)
		memcpy(p + key.len, value.p, value.len);
	*ret = (struct entry){{p, key.len}, {p + key.len, value.len}};
	return 0;
}

static int space_apply(struct space *s, const struct kv_change *c)
{
	size_t i = space_find(s, c->key);
	bool there = i < s->n && str_eq(s->entries[i].key, c->key);
	struct entry e = {0}, *grown;

	if (!c->del && entry_new(c->key, c->value, &e) < 0)
		return -ENOMEM;
	if (there) {
		free((char *)s->entries[i].key.p);
		if (!c->del) {
			s->entries[i] = e;
			return 0;
		}
		s->n--;
		memmove(&s->entries[i], &s->entries[i + 1], (s->n - i) * sizeof(e));
		return 0;
	}
	if (c->del)
		return 0;
	grown = reallocarray(s->entries, s->n + 1, sizeof(e));
	if (!grown) {
		free((char *)e.key.p);
		return -ENOMEM;
	}
	s->entries = grown;
	memmove(&s->entries[i + 1], &s->entries[i], (s->n - i) * sizeof(e));
	s->entries[i] = e;
	s->n++;
	return 0;
}

static void space_fini(struct space *s)
{
	for (size_t i = 0; i < s->n; i++)
		free((char *)s->entries[i].key.p);
	free(s->entries);
}

static int mem_commit(struct kv *kv, const struct kv_change *changes, size_t n, struct err *err)
{
	struct kv_mem *m = container_of(kv, struct kv_mem, kv);
	int code = 0, r = 0;

	pthread_mutex_lock(&m->lock);
	if (m->fail_code && m->fail_after-- == 0) {
		m->fail_after = 0;
		code = m->fail_code;
	}
	for (size_t i = 0; (!code || m->fail_applied) && i < n && r == 0; i++)
		r = space_apply(&m->spaces[changes[i].space], &changes[i]);
	if (code)
		m->fail_applied = false; /* only the first one may get through */
	pthread_mutex_unlock(&m->lock);
	return code || r ? err_errno(err, code ? code : r, "write to the database") : 0;
}

static int mem_get(struct kv *kv, enum kv_space space, struct str key, struct buf *ret_value,
		   struct err *err)
{
	struct kv_mem *m = container_of(kv, struct kv_mem, kv);
	struct space *s = &m->spaces[space];
	int r = -ENOENT;
	size_t i;

	pthread_mutex_lock(&m->lock);
	i = space_find(s, key);
	if (i < s->n && str_eq(s->entries[i].key, key)) {
		ret_value->len = 0;
		r = buf_append(ret_value, s->entries[i].value.p, s->entries[i].value.len);
	}
	pthread_mutex_unlock(&m->lock);
	return r < 0 ? err_errno(err, r, "read from the database") : 0;
}

static int mem_iter(struct kv *kv, enum kv_space space, struct kv_iter **ret_it, struct err *err)
{
	struct kv_mem *m = container_of(kv, struct kv_mem, kv);
	struct mem_iter *it = calloc(1, sizeof(*it));
	int r = it ? 0 : -ENOMEM;

	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; r == 0 && i < m->spaces[space].n; i++)
		r = space_apply(&it->copy,
				&(struct kv_change){.key = m->spaces[space].entries[i].key,
						    .value = m->spaces[space].entries[i].value});
	pthread_mutex_unlock(&m->lock);
	if (r < 0) {
		if (it)
			space_fini(&it->copy);
		free(it);
		return err_set(err, r, "out of memory");
	}
	it->it.kv = kv;
	*ret_it = &it->it;
	return 0;
}

static int mem_next(struct kv_iter *base, struct str *ret_key, struct str *ret_value,
		    struct err *err)
{
	struct mem_iter *it = container_of(base, struct mem_iter, it);

	(void)err;
	if (it->at == it->copy.n)
		return 0;
	*ret_key = it->copy.entries[it->at].key;
	*ret_value = it->copy.entries[it->at++].value;
	return 1;
}

static void mem_iter_free(struct kv_iter *base)
{
	struct mem_iter *it = container_of(base, struct mem_iter, it);

	space_fini(&it->copy);
	free(it);
}

static void mem_close(struct kv *kv)
{
	struct kv_mem *m = container_of(kv, struct kv_mem, kv);

	for (int i = 0; i < KV_SPACES; i++)
		space_fini(&m->spaces[i]);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static const struct kv_type mem_type = {
	.commit = mem_commit,
	.get = mem_get,
	.iter = mem_iter,
	.next = mem_next,
	.iter_free = mem_iter_free,
	.close = mem_close,
};

int kv_mem_open(struct kv **ret_kv)
{
	struct kv_mem *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->kv.type = &mem_type;
	pthread_mutex_init(&m->lock, NULL);
	*ret_kv = &m->kv;
	return 0;
}

void kv_mem_fail(struct kv *kv, unsigned n, int code, bool applied)
{
	struct kv_mem *m = container_of(kv, struct kv_mem, kv);

	pthread_mutex_lock(&m->lock);
	m->fail_after = n;
	m->fail_code = code;
	m->fail_applied = applied;
	pthread_mutex_unlock(&m->lock);
}
