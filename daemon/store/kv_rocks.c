// SPDX-License-Identifier: Apache-2.0
/* RocksDB through its C API, and the only file that includes it. Owns the handles. */
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "store/kv.h"

#include "base/banned.h"

#define WAL_BYTES_MAX      MiB(32)
#define BLOOM_BITS_PER_KEY 10

static const char *const space_names[KV_SPACES] = {
	[KV_DEFAULT] = "default", [KV_SNAPSHOTS] = "snapshots", [KV_LAYERS] = "layers",
	[KV_OBJECTS] = "objects", [KV_NUMBERS] = "numbers",     [KV_PROFILES] = "profiles",
};

struct kv_rocks {
	struct kv kv;
	rocksdb_t *db;
	rocksdb_column_family_handle_t *cf[KV_SPACES];
	rocksdb_options_t *options;
	rocksdb_block_based_table_options_t *table;
	rocksdb_cache_t *cache;
	rocksdb_writeoptions_t *synced;
	rocksdb_readoptions_t *read;
};

struct rocks_iter {
	struct kv_iter it;
	rocksdb_iterator_t *rocks;
	bool started;
};

/* Takes RocksDB's message; its kind is only in its text. */
static int rocks_err(char *text, const char *what, struct err *err)
{
	int code = -EIO;

	if (strstr(text, "No space left on device") || strstr(text, "Disk quota exceeded"))
		code = -ENOSPC;
	else if (strstr(text, "While lock file") || strstr(text, "lock hold by current process"))
		code = -EBUSY;
	else if (strstr(text, "Corruption: "))
		code = -EBADMSG; /* does not heal by a restart */
	err_set(err, code, "%s: %s", what, text);
	rocksdb_free(text);
	return code;
}

static void options_init(struct kv_rocks *k)
{
	rocksdb_options_t *o = k->options = rocksdb_options_create();

	k->cache = rocksdb_cache_create_lru(KV_BLOCK_CACHE);
	k->table = rocksdb_block_based_options_create();
	rocksdb_block_based_options_set_block_cache(k->table, k->cache);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(k->table, 1);
	rocksdb_block_based_options_set_filter_policy(
		k->table, rocksdb_filterpolicy_create_bloom(BLOOM_BITS_PER_KEY));
	rocksdb_options_set_block_based_table_factory(o, k->table);
	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_create_missing_column_families(o, 1);
	rocksdb_options_set_paranoid_checks(o, 1);
	/* A torn record at the end of the log was never acknowledged; damage elsewhere is an error.
	 */
	rocksdb_options_set_wal_recovery_mode(o, rocksdb_tolerate_corrupted_tail_records_recovery);
	rocksdb_options_set_write_buffer_size(o, KV_WRITE_BUFFER);
	rocksdb_options_set_max_total_wal_size(o, WAL_BYTES_MAX);
	rocksdb_options_set_max_open_files(o, KV_OPEN_FILES_MAX);
	rocksdb_options_set_max_background_jobs(o, 2);
	rocksdb_options_set_compression(o, rocksdb_no_compression);
	rocksdb_options_set_keep_log_file_num(o, 2);
	/* Next to nothing in its log file: after a write to it has failed on a full disk the next
	 * one aborts (an assertion of WritableFileWriter, 7.8). Errors come to us as such. */
	rocksdb_options_set_info_log_level(o, 5 /* header */);
	rocksdb_options_set_stats_dump_period_sec(o, 0);
	k->synced = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(k->synced, 1);
	k->read = rocksdb_readoptions_create();
}

static void rocks_close(struct kv *kv)
{
	struct kv_rocks *k = container_of(kv, struct kv_rocks, kv);

	for (int i = 0; i < KV_SPACES; i++) {
		if (k->cf[i])
			rocksdb_column_family_handle_destroy(k->cf[i]);
	}
	if (k->db)
		rocksdb_close(k->db);
	rocksdb_readoptions_destroy(k->read);
	rocksdb_writeoptions_destroy(k->synced);
	rocksdb_options_destroy(k->options);
	rocksdb_block_based_options_destroy(k->table);
	rocksdb_cache_destroy(k->cache);
	free(k);
}

static int rocks_commit(struct kv *kv, const struct kv_change *changes, size_t n, struct err *err)
{
	struct kv_rocks *k = container_of(kv, struct kv_rocks, kv);
	rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
	char *text = NULL;

	for (size_t i = 0; i < n; i++) {
		const struct kv_change *c = &changes[i];

		if (c->del)
			rocksdb_writebatch_delete_cf(batch, k->cf[c->space], c->key.p, c->key.len);
		else
			rocksdb_writebatch_put_cf(batch, k->cf[c->space], c->key.p, c->key.len,
						  c->value.p, c->value.len);
	}
	rocksdb_write(k->db, k->synced, batch, &text);
	rocksdb_writebatch_destroy(batch);
	return text ? rocks_err(text, "write to the database", err) : 0;
}

static int rocks_get(struct kv *kv, enum kv_space space, struct str key, struct buf *ret_value,
		     struct err *err)
{
	struct kv_rocks *k = container_of(kv, struct kv_rocks, kv);
	rocksdb_pinnableslice_t *v;
	char *text = NULL;
	const char *p;
	size_t len;
	int r;

	v = rocksdb_get_pinned_cf(k->db, k->read, k->cf[space], key.p, key.len, &text);
	if (text)
		return rocks_err(text, "read from the database", err);
	if (!v)
		return err_set(err, -ENOENT, "no such record");
	p = rocksdb_pinnableslice_value(v, &len);
	ret_value->len = 0;
	r = buf_append(ret_value, p, len);
	rocksdb_pinnableslice_destroy(v);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

static int rocks_iter(struct kv *kv, enum kv_space space, struct kv_iter **ret_it, struct err *err)
{
	struct kv_rocks *k = container_of(kv, struct kv_rocks, kv);
	struct rocks_iter *it = calloc(1, sizeof(*it));

	if (!it)
		return err_set(err, -ENOMEM, "out of memory");
	it->it.kv = kv;
	it->rocks = rocksdb_create_iterator_cf(k->db, k->read, k->cf[space]);
	*ret_it = &it->it;
	return 0;
}

static int rocks_next(struct kv_iter *base, struct str *ret_key, struct str *ret_value,
		      struct err *err)
{
	struct rocks_iter *it = container_of(base, struct rocks_iter, it);
	char *text = NULL;

	if (it->started && !rocksdb_iter_valid(it->rocks))
		return 0; /* asked again after the end */
	if (it->started)
		rocksdb_iter_next(it->rocks);
	else
		rocksdb_iter_seek_to_first(it->rocks);
	it->started = true;
	if (!rocksdb_iter_valid(it->rocks)) {
		rocksdb_iter_get_error(it->rocks, &text);
		return text ? rocks_err(text, "walk through the database", err) : 0;
	}
	ret_key->p = rocksdb_iter_key(it->rocks, &ret_key->len);
	ret_value->p = rocksdb_iter_value(it->rocks, &ret_value->len);
	return 1;
}

static void rocks_iter_free(struct kv_iter *base)
{
	struct rocks_iter *it = container_of(base, struct rocks_iter, it);

	rocksdb_iter_destroy(it->rocks);
	free(it);
}

static const struct kv_type rocks_type = {
	.commit = rocks_commit,
	.get = rocks_get,
	.iter = rocks_iter,
	.next = rocks_next,
	.iter_free = rocks_iter_free,
	.close = rocks_close,
};

/* A space that this version does not know was made by a later one. */
static int spaces_known(struct kv_rocks *k, const char *dir, struct err *err)
{
	char path[4096], **names, *text = NULL;
	struct stat st;
	size_t n;
	int r = 0;

	snprintf(path, sizeof(path), "%s/CURRENT", dir);
	if (stat(path, &st) < 0)
		return 0; /* new */
	names = rocksdb_list_column_families(k->options, dir, &n, &text);
	if (text)
		r = rocks_err(text, "list the database's spaces", err);
	for (size_t i = 0; i < n && r == 0; i++) {
		size_t j = 0;

		while (j < KV_SPACES && strcmp(names[i], space_names[j]) != 0)
			j++;
		if (j == KV_SPACES)
			r = err_set(err, -ENOTSUP, "%s has the space \"%s\" of a newer version",
				    dir, names[i]);
	}
	rocksdb_list_column_families_destroy(names, n);
	return r;
}

int kv_rocks_open(const char *dir, struct kv **ret_kv, struct err *err)
{
	const rocksdb_options_t *options[KV_SPACES];
	struct kv_rocks *k = calloc(1, sizeof(*k));
	char *text = NULL;
	int r;

	if (!k)
		return err_set(err, -ENOMEM, "out of memory");
	k->kv.type = &rocks_type;
	options_init(k);
	r = spaces_known(k, dir, err);
	if (r < 0) {
		rocks_close(&k->kv);
		return r;
	}
	for (int i = 0; i < KV_SPACES; i++)
		options[i] = k->options;
	k->db = rocksdb_open_column_families(k->options, dir, KV_SPACES, space_names, options,
					     k->cf, &text);
	if (text) {
		k->db = NULL;
		memset(k->cf, 0, sizeof(k->cf));
		rocks_close(&k->kv);
		return rocks_err(text, "open the database", err);
	}
	*ret_kv = &k->kv;
	return 0;
}
