// SPDX-License-Identifier: Apache-2.0
/* The search for layers, over a registry, layers and tables of contents that are made up here. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "image/resolve.h"
#include "image/toc.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "loop/work.h"

#define LAYERS 4

static struct layer known[LAYERS];
static unsigned adds, tails, manifests, notes, jobs;
static int blob_result, manifest_result;
static unsigned blob_ms;
static const char *manifest;
static const char zeros[TOC_COMPRESSED_MAX];
static uint64_t table_len;                 /* where the manifest says its place */
static uint64_t in_memory, in_memory_most; /* of all tables */

/* Digest number i: all bytes are i. */
static struct digest digest_of(unsigned i)
{
	struct digest d;

	memset(d.bytes, (int)i, sizeof(d.bytes));
	return d;
}

/* --- what resolve.c calls --------------------------------------------------------------------- */

may_suspend int registry_manifest(struct registry *r, struct str ref, const struct digest *digest,
				  enum fetch_class class, struct buf *ret_body, struct err *err)
{
	(void)r, (void)ref, (void)digest, (void)class;
	manifests++;
	if (task_sleep_ms(blob_ms) < 0)
		return -ECANCELED;
	if (manifest_result < 0)
		return err_set(err, manifest_result, "manifest");
	return buf_append(ret_body, manifest, strlen(manifest));
}

may_suspend int registry_blob(struct registry *r, const struct blob_request *q,
			      struct blob_answer *ret, struct err *err)
{
	(void)r;
	tails += q->off == BLOB_TAIL;
	if (task_sleep_ms(blob_ms) < 0)
		return -ECANCELED;
	if (blob_result < 0)
		return err_set(err, blob_result, "blob");
	ret->blob_size = 1000;
	if (q->off == BLOB_TAIL)
		return q->on_data(q->arg, 900, zeros, 100);
	in_memory += q->len;
	in_memory_most = in_memory > in_memory_most ? in_memory : in_memory_most;
	return q->on_data(q->arg, q->off, zeros, q->len);
}

struct layer *layers_find_blob(struct layers *ls, const struct digest *blob)
{
	(void)ls;
	for (size_t i = 0; i < LAYERS; i++) {
		if (known[i].id && digest_eq(&known[i].blob, blob))
			return &known[i];
	}
	return NULL;
}

struct layer *layers_find(struct layers *ls, const struct digest *blob, const struct digest *trust)
{
	(void)ls;
	for (size_t i = 0; i < LAYERS; i++) {
		if (known[i].id && digest_eq(&known[i].blob, blob) &&
		    digest_eq(&known[i].trust, trust))
			return &known[i];
	}
	return NULL;
}

int layers_tmpfile(const struct layers *ls, struct err *err)
{
	(void)ls, (void)err;
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

may_suspend int layers_add(struct layers *ls, const struct digest *blob, const struct digest *trust,
			   struct str ref, int index_fd, struct layer **ret, struct err *err)
{
	struct layer *l = &known[adds++];

	(void)ls, (void)ref, (void)index_fd, (void)err;
	assert_null(layers_find(NULL, blob, trust));
	l->blob = *blob;
	l->trust = *trust;
	task_sleep_ms(blob_ms);
	l->id = (uint32_t)(l - known) + 1;
	l->users = 1;
	*ret = l;
	return 0;
}

may_suspend int layers_note_ref(struct layers *ls, struct layer *l, struct str ref, struct err *err)
{
	(void)ls, (void)err;
	assert_true(l->users > 0);
	notes += str_eq(ref, STR("another"));
	return 0;
}

void layer_use(struct layer *l)
{
	l->users++;
}

void layer_unuse(struct layers *ls, struct layer *l)
{
	(void)ls;
	assert_true(l->users > 0);
	l->users--;
}

/* Without threads: the virtual clock does not wait for them on a busy machine. */
int work_new(struct loop *loop, const char *name, unsigned n, struct work **ret, struct err *err)
{
	(void)loop, (void)name, (void)n, (void)err;
	*ret = NULL;
	return 0;
}

void work_free(struct work *w)
{
	(void)w;
}

may_suspend int work_run(struct work *w, int (*fn)(void *arg), void *arg)
{
	(void)w;
	jobs++;
	task_yield();
	return fn(arg);
}

int toc_hint_check(const struct toc_hint *h, struct err *err)
{
	return h->has_toc_digest || h->has_checksum ? 0 : err_set(err, -EOPNOTSUPP, "not lazy");
}

int toc_place_from_hint(const struct toc_hint *h, struct toc_place *ret, struct err *err)
{
	(void)err;
	if (!h->position.len)
		return -ENOENT;
	*ret = (struct toc_place){.off = 500, .len = table_len};
	return 0;
}

int toc_place_from_footer(const struct toc_hint *h, struct str tail, uint64_t blob_size,
			  struct toc_place *ret, struct err *err)
{
	(void)h, (void)err;
	assert_int_equal(tail.len, 100);
	assert_int_equal(blob_size, 1000);
	*ret = (struct toc_place){.off = 880, .len = 60}; /* 20 bytes before the tail */
	return 0;
}

int toc_to_index(const struct toc_hint *h, const struct toc_place *place, struct str bytes,
		 uint64_t blob_size, int fd, struct err *err)
{
	(void)h, (void)fd, (void)err;
	assert_int_equal(bytes.len, place->len);
	assert_true(blob_size == 1000);
	in_memory -= place->len > 60 ? place->len : 0;
	return 0;
}

/* --- the tests -------------------------------------------------------------------------------- */

static struct resolver *resolver;

static char *layer_list(void)
{
	static char list[LAYERS * (DIGEST_TEXT_SIZE + 1)];
	char *p = list;

	for (unsigned i = 1; i <= 3; i++) {
		struct digest d = digest_of(i);

		if (i > 1)
			*p++ = ',';
		digest_text(&d, p);
		p += strlen(p);
	}
	return list;
}

static struct resolve_query toc_query(const char *ref, unsigned i)
{
	return (struct resolve_query){.ref = str_of(ref),
				      .blob = digest_of(i),
				      .has_toc = true,
				      .toc = digest_of(100 + i),
				      .layers = str_of(layer_list())};
}

static int ask(const struct resolve_query *q)
{
	struct err err = ERR_INIT;
	struct layer *l = NULL;
	int r = resolve_layer(resolver, q, &l, &err);

	if (r == 0)
		layer_unuse(NULL, l);
	else
		assert_true(err.text[0]);
	return r;
}

static int in_loop(int (*fn)(void *))
{
	struct loop *loop;
	int r;

	memset(known, 0, sizeof(known));
	adds = tails = manifests = notes = jobs = 0;
	blob_result = manifest_result = 0;
	blob_ms = 50;
	table_len = 50;
	in_memory = in_memory_most = 0;
	assert_int_equal(loop_new(&loop, NULL), 0);
	loop_use_virtual_time(loop, 2000);
	r = loop_run(loop, fn, NULL);
	loop_free(loop);
	return r;
}

static struct work *threads;

may_suspend static void begin(void)
{
	assert_int_equal(work_new(loop_self(), "test", 1, &threads, NULL), 0);
	assert_int_equal(resolver_new(loop_self(), NULL, NULL, threads, &resolver, NULL), 0);
}

may_suspend static void end(void)
{
	resolver_free(resolver);
	work_free(threads);
	for (size_t i = 0; i < LAYERS; i++)
		assert_int_equal(known[i].users, 0);
}

/* Who watches. */
static struct {
	unsigned told;
	size_t blobs;
} watched;

static void watch(void *arg, struct str ref, const struct digest *blobs, size_t n)
{
	assert_ptr_equal(arg, &watched);
	assert_true(str_eq(ref, STR("r")) || str_eq(ref, STR("another")));
	for (size_t i = 0; i < n; i++)
		assert_null(layers_find_blob(NULL, &blobs[i]));
	watched.told++;
	watched.blobs = n;
}

static void expect_told(unsigned times, size_t blobs)
{
	assert_int_equal(watched.told, times);
	assert_int_equal(watched.blobs, blobs);
	watched.told = 0;
	watched.blobs = 0;
}

/* The first question brings the ends of all blobs; the others then cost their table only. */
may_suspend static int toc_main(void *arg)
{
	struct resolve_query q[3] = {toc_query("r", 1), toc_query("r", 2), toc_query("r", 3)};

	(void)arg;
	begin();
	resolver_watch(resolver, watch, &watched);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ask(&q[i]), 0);
		expect_told(i == 0, i == 0 ? 3 : 0); /* of all at once */
		assert_int_equal(tails, 3);
		assert_int_equal(adds, i + 1);
	}
	q[0].ref = STR("another"); /* one more place to fetch it from */
	assert_int_equal(ask(&q[0]), 0);
	assert_int_equal(notes, 1);
	assert_int_equal(adds, 3);
	assert_int_equal(manifests, 0);
	known[1].id = 0; /* one has gone: only that is new */
	adds = 1;
	assert_int_equal(ask(&q[1]), 0);
	expect_told(1, 1);
	end();
	return 0;
}

static void test_labels(void **state)
{
	(void)state;
	assert_int_equal(in_loop(toc_main), 0);
}

static char *manifest_of(const char *annotations)
{
	static char text[4096];
	char hex[3][DIGEST_TEXT_SIZE];

	for (unsigned i = 0; i < 3; i++) {
		struct digest d = digest_of(i + 1);

		digest_text(&d, hex[i]);
	}
	snprintf(text, sizeof(text),
		 "{\"layers\":[{\"mediaType\":\"m\",\"digest\":\"%s\",\"size\":1000,"
		 "\"annotations\":{%s}},{\"digest\":\"%s\",\"size\":1000},"
		 "{\"digest\":\"%s\",\"size\":1000,\"annotations\":{%s}}]}",
		 hex[0], annotations, hex[1], hex[2], annotations);
	return text;
}

/* A layer without annotations is not lazy; the others are found though nobody has asked yet. */
may_suspend static int manifest_main(void *arg)
{
	struct resolve_query q = {.ref = STR("r"), .has_manifest = true, .manifest = digest_of(9)};
	char note[512], text[DIGEST_TEXT_SIZE];
	struct digest trust = digest_of(50);

	(void)arg;
	digest_text(&trust, text);
	snprintf(note, sizeof(note),
		 "\"io.github.containers.zstd-chunked.manifest-checksum\":\"%s\","
		 "\"io.github.containers.zstd-chunked.manifest-position\":\"500:50:90:1\"",
		 text);
	manifest = manifest_of(note);
	begin();
	resolver_watch(resolver, watch, &watched);
	q.blob = digest_of(2);
	assert_int_equal(ask(&q), -EOPNOTSUPP);
	expect_told(1, 2);
	task_sleep_ms(1000);
	assert_int_equal(adds, 2);
	q.blob = digest_of(1);
	assert_int_equal(ask(&q), 0);
	q.blob = digest_of(3);
	assert_int_equal(ask(&q), 0);
	q.blob = digest_of(4);
	assert_int_equal(ask(&q), -EOPNOTSUPP);
	assert_int_equal(manifests, 1);
	assert_int_equal(tails, 0);
	task_sleep_ms(3 * RESOLVE_KEEP_MS); /* forgotten */
	for (size_t i = 0; i < LAYERS; i++)
		assert_int_equal(known[i].users, 0);
	end();
	return 0;
}

/* Large tables of contents do not all come into memory at once. */
may_suspend static int large_main(void *arg)
{
	struct resolve_query q = {.ref = STR("r"), .has_manifest = true, .manifest = digest_of(9)};
	char note[512], text[DIGEST_TEXT_SIZE];
	struct digest trust = digest_of(50);
	char *large;

	(void)arg;
	digest_text(&trust, text);
	snprintf(note, sizeof(note),
		 "\"io.github.containers.zstd-chunked.manifest-checksum\":\"%s\","
		 "\"io.github.containers.zstd-chunked.manifest-position\":\"500:50:90:1\"",
		 text);
	large = malloc(KiB(128) + strlen(manifest_of(note)) + 1); /* parsed by a thread */
	assert_non_null(large);
	memset(large, ' ', KiB(128));
	strcpy(large + KiB(128), manifest_of(note));
	manifest = large;
	table_len = TOC_COMPRESSED_MAX;
	begin();
	q.blob = digest_of(1);
	assert_int_equal(ask(&q), 0);
	q.blob = digest_of(3);
	assert_int_equal(ask(&q), 0);
	assert_int_equal(adds, 2);
	assert_int_equal(in_memory_most, TOC_COMPRESSED_MAX);
	assert_int_equal(jobs, 3);
	end();
	free(large);
	return 0;
}

static void test_large(void **state)
{
	(void)state;
	assert_int_equal(in_loop(large_main), 0);
}

static void test_manifest(void **state)
{
	(void)state;
	assert_int_equal(in_loop(manifest_main), 0);
}

static unsigned documents;

may_suspend static int read_document(void *arg, const struct digest *digest, size_t max,
				     struct buf *ret)
{
	const struct digest has = digest_of(50);

	documents++;
	assert_ptr_equal(arg, &documents);
	assert_true(max <= MANIFEST_MAX);
	task_sleep_ms(1);
	if (!digest_eq(digest, &has)) {
		assert_int_equal(buf_append(ret, "half of it", 10), 0); /* does not count */
		return -ENOENT;
	}
	return buf_append(ret, manifest, strlen(manifest));
}

/* A manifest of this host is not asked of the registry, which is away; the config is both's. */
may_suspend static int documents_main(void *arg)
{
	struct resolve_query q = {.ref = STR("m"),
				  .blob = digest_of(1),
				  .has_manifest = true,
				  .manifest = digest_of(50)};
	struct buf config = BUF_INIT;

	(void)arg;
	manifest =
		"{\"layers\": [{\"digest\": "
		"\"sha256:0101010101010101010101010101010101010101010101010101010101010101\", "
		"\"size\": 1000, \"annotations\": {\"containerd.io/snapshot/stargz/toc.digest\": "
		"\"sha256:6565656565656565656565656565656565656565656565656565656565656565\"}}], "
		"\"config\": {\"size\": 2, \"digest\": "
		"\"sha256:0909090909090909090909090909090909090909090909090909090909090909\"}}";
	begin();
	documents = 0;
	resolver_documents(resolver, read_document, &documents);
	manifest_result = -ECONNREFUSED;
	assert_int_equal(ask(&q), 0);
	assert_int_equal(manifests, 0);
	assert_int_equal(adds, 1);
	blob_result = -ECONNREFUSED;
	assert_int_equal(resolve_config(resolver, q.ref, &q.manifest, &config, NULL), -ENOENT);
	assert_int_equal(config.len, 0);
	assert_int_equal(manifests, 0);
	assert_in_range(documents, 2, 5);
	q.manifest = digest_of(51); /* nobody has it */
	assert_int_equal(ask(&q), -ECONNREFUSED);
	assert_int_equal(manifests, 1);
	resolver_stop(resolver);
	q.manifest = digest_of(52);
	assert_int_equal(ask(&q), -ECANCELED);
	end();
	return 0;
}

static void test_documents(void **state)
{
	(void)state;
	assert_int_equal(in_loop(documents_main), 0);
}

/* Errors of the network are not remembered, a slow one ends in time. */
may_suspend static int faults_main(void *arg)
{
	struct resolve_query q = toc_query("r", 1), none = {.ref = STR("r")};
	uint64_t start;

	(void)arg;
	begin();
	assert_int_equal(ask(&none), -EOPNOTSUPP);
	blob_result = -ECONNRESET;
	assert_int_equal(ask(&q), -ECONNRESET);
	blob_result = 0;
	assert_int_equal(ask(&q), 0);
	q = toc_query("other", 2);
	q.layers = STR("");
	blob_ms = 10 * RESOLVE_TIMEOUT_MS;
	start = loop_now_ns(loop_self());
	assert_int_equal(ask(&q), -ETIMEDOUT);
	assert_true(loop_now_ns(loop_self()) - start < 2 * RESOLVE_TIMEOUT_MS * 1000000ull);
	manifest_result = -ENOENT;
	blob_ms = 1;
	q = (struct resolve_query){.ref = STR("m"), .blob = digest_of(1), .has_manifest = true};
	assert_int_equal(ask(&q), -ENOENT);
	end();
	return 0;
}

static void test_faults(void **state)
{
	(void)state;
	assert_int_equal(in_loop(faults_main), 0);
}

may_suspend static int ask_task(void *arg)
{
	assert_int_equal(ask(arg), 0);
	return 0;
}

/* Two images have the same layer: it is made once. */
may_suspend static int twice_main(void *arg)
{
	struct resolve_query q[2] = {toc_query("a", 1), toc_query("b", 1)};
	struct scope scope;

	(void)arg;
	begin();
	scope_init(&scope, loop_self());
	for (int i = 0; i < 2; i++) {
		q[i].layers = STR("");
		assert_int_equal(scope_spawn(&scope, ask_task, &q[i], NULL), 0);
	}
	scope_wait(&scope);
	scope_fini(&scope);
	assert_int_equal(adds, 1);
	end();
	return 0;
}

static void test_twice(void **state)
{
	(void)state;
	assert_int_equal(in_loop(twice_main), 0);
}

/* What was fetched ahead goes when nobody asks for it, however much else is asked for. */
may_suspend static int unasked_main(void *arg)
{
	struct resolve_query q = toc_query("r", 1), next = toc_query("r", 2);
	struct resolve_query other = {.ref = STR("m"), .blob = digest_of(1), .has_manifest = true};

	(void)arg;
	begin();
	assert_int_equal(ask(&q), 0);
	assert_int_equal(tails, 3);
	manifest_result = -ENOENT;
	for (int i = 0; i < 10; i++) {
		task_sleep_ms(RESOLVE_KEEP_MS / 2);
		assert_int_equal(ask(&other), -ENOENT);
	}
	next.layers = STR("");
	assert_int_equal(ask(&next), 0);
	assert_int_equal(tails, 4);
	end();
	return 0;
}

static void test_unasked(void **state)
{
	(void)state;
	assert_int_equal(in_loop(unasked_main), 0);
}

/* A layer is good only for who trusts the same table of contents. */
may_suspend static int trust_main(void *arg)
{
	struct resolve_query q = toc_query("r", 1), other = toc_query("r", 1);

	(void)arg;
	begin();
	q.layers = other.layers = STR("");
	other.toc = digest_of(99);
	assert_int_equal(ask(&q), 0);
	assert_int_equal(ask(&other), -EBADMSG);
	assert_int_equal(ask(&q), 0);
	end();
	return 0;
}

static void test_trust(void **state)
{
	(void)state;
	assert_int_equal(in_loop(trust_main), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_labels),  cmocka_unit_test(test_manifest),
		cmocka_unit_test(test_faults),  cmocka_unit_test(test_twice),
		cmocka_unit_test(test_unasked), cmocka_unit_test(test_trust),
		cmocka_unit_test(test_large),   cmocka_unit_test(test_documents),
	};

	return cmocka_run_group_tests_name("resolve", tests, NULL, NULL);
}
