// SPDX-License-Identifier: Apache-2.0
/* The hash map: against a plain array through much churn, keys that collide, the hash itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "base/err.h"
#include "base/map.h"

struct element {
	struct map_node node;
	char name[24];
	bool in;
};

static uint64_t rnd_state;

static uint64_t rnd(uint64_t n) /* xorshift64 */
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state % n;
}

static struct element *elements_new(size_t n)
{
	struct element *e = calloc(n, sizeof(*e));

	assert_non_null(e);
	for (size_t i = 0; i < n; i++) {
		snprintf(e[i].name, sizeof(e[i].name), "default/%zu/key", i);
		e[i].node.key = str_of(e[i].name);
	}
	return e;
}

/* Elements of other memory with the same names are found: keys are compared by their bytes. */
static struct element *find(struct map *m, const char *name)
{
	char copy[32];
	struct map_node *n;

	snprintf(copy, sizeof(copy), "%s", name);
	n = map_get(m, str_of(copy));
	return n ? container_of(n, struct element, node) : NULL;
}

static void expect(struct map *m, struct element *e, size_t n, size_t count)
{
	assert_int_equal(m->count, count);
	for (size_t i = 0; i < n; i++) {
		if (find(m, e[i].name) != (e[i].in ? &e[i] : NULL))
			fail_msg("%s", e[i].name);
	}
}

static void test_churn(void **state)
{
	enum { N = 3000, STEPS = 300000 };
	auto_free struct element *e = elements_new(N);
	size_t count = 0;
	struct map m;

	(void)state;
	rnd_state = (uint64_t)time(NULL) | 1;
	print_message("seed %llu\n", (unsigned long long)rnd_state);
	assert_int_equal(map_init(&m), 0);
	for (size_t step = 0; step < STEPS; step++) {
		/* phases of growth and of shrinking */
		struct element *one = &e[rnd(step / 20000 % 2 ? N : N / 50)];

		if (one->in)
			map_del(&m, &one->node);
		else
			map_put(&m, &one->node);
		one->in = !one->in;
		count += one->in ? 1 : (size_t)-1;
		if (find(&m, one->name) != (one->in ? one : NULL))
			fail_msg("step %zu: %s", step, one->name);
		if (step % 10000 == 0)
			expect(&m, e, N, count);
	}
	expect(&m, e, N, count);
	map_fini(&m);
}

static void test_grow_and_drain(void **state)
{
	enum { N = 100000 };
	auto_free struct element *e = elements_new(N);
	struct map m;

	(void)state;
	assert_int_equal(map_init(&m), 0);
	assert_null(map_get(&m, STR("")));
	for (size_t i = 0; i < N; i++) {
		map_put(&m, &e[i].node);
		e[i].in = true;
	}
	assert_true(m.size >= N && m.size <= 4 * N);
	expect(&m, e, N, N);
	for (size_t i = N; i-- > 0; e[i].in = false)
		map_del(&m, &e[i].node);
	expect(&m, e, N, 0);
	map_fini(&m);
	assert_null(m.slots);
}

static void test_any_bytes_are_keys(void **state)
{
	static const struct str keys[] = {{"", 0},         {"\0", 1},         {"\0\0", 2},
					  {"a", 1},        {"a\0", 2},        {"\xff", 1},
					  {"abcdefgh", 8}, {"abcdefgh\0", 9}, {"abcdefg", 7}};
	struct map_node nodes[array_size(keys)];
	struct map m;

	(void)state;
	assert_int_equal(map_init(&m), 0);
	for (size_t i = 0; i < array_size(keys); i++) {
		nodes[i] = (struct map_node){.key = keys[i]};
		assert_null(map_get(&m, keys[i]));
		map_put(&m, &nodes[i]);
	}
	for (size_t i = 0; i < array_size(keys); i++)
		assert_ptr_equal(map_get(&m, keys[i]), &nodes[i]);
	assert_ptr_equal(map_get(&m, (struct str){NULL, 0}), &nodes[0]);
	map_fini(&m);
}

/* Keys that all fall into one slot are told apart, and each can be taken out of the chain. */
static void test_one_chain(void **state)
{
	enum { N = 50000, CHAIN = 40 };
	auto_free struct element *e = elements_new(N);
	struct element *chain[CHAIN];
	struct map m;
	size_t n = 0;

	(void)state;
	assert_int_equal(map_init(&m), 0);
	for (size_t i = 0; i < N && n < CHAIN; i++) {
		map_put(&m, &e[i].node);
		map_del(&m, &e[i].node);
		if ((e[i].node.hash & (m.size - 1)) == 5)
			chain[n++] = &e[i];
	}
	assert_int_equal(n, CHAIN);
	for (size_t step = 1; step < CHAIN; step += 2) { /* steps that share no factor with 40 */
		if (step % 5 == 0)
			continue;
		for (size_t i = 0; i < CHAIN; i++) {
			map_put(&m, &chain[i]->node);
			chain[i]->in = true;
		}
		for (size_t i = 0, at = 0; i < CHAIN; i++, at = (at + step) % CHAIN) {
			map_del(&m, &chain[at]->node);
			chain[at]->in = false;
			for (size_t j = 0; j < CHAIN; j++)
				assert_ptr_equal(find(&m, chain[j]->name),
						 chain[j]->in ? chain[j] : NULL);
		}
		assert_int_equal(m.count, 0);
	}
	map_fini(&m);
}

/* Two keys with one hash: the bytes decide. */
static void test_equal_hashes(void **state)
{
	auto_free struct element *e = elements_new(2);
	struct map m;

	(void)state;
	assert_int_equal(map_init(&m), 0);
	map_put(&m, &e[1].node);
	map_del(&m, &e[1].node);
	e[0].node.hash = e[1].node.hash;
	m.slots[e[0].node.hash & (m.size - 1)] = &e[0].node; /* as map_put would */
	assert_null(find(&m, e[1].name));
	map_put(&m, &e[1].node);
	assert_ptr_equal(find(&m, e[1].name), &e[1]);
	map_fini(&m);
}

static void delete_what_is_not_there(void)
{
	struct map_node in = {.key = STR("a")}, out = {.key = STR("b")};
	struct rlimit none = {0, 0};
	struct map m;

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGABRT, SIG_DFL);
	dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
	if (map_init(&m) == 0) {
		map_put(&m, &in);
		out.hash = in.hash;
		map_del(&m, &out);
	}
}

static void test_del_of_a_stranger(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		delete_what_is_not_there();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* What collides in one map does not in the next: the hash is keyed. */
static void test_maps_have_their_own_seeds(void **state)
{
	enum { N = 2000 };
	auto_free struct element *e = elements_new(N);
	size_t same = 0, was = 0, is = 0;
	struct map a, b;

	(void)state;
	assert_int_equal(map_init(&a), 0);
	assert_int_equal(map_init(&b), 0);
	assert_memory_not_equal(a.seed, b.seed, sizeof(a.seed));
	for (size_t i = 0; i < N; i++) {
		uint64_t hash;

		map_put(&a, &e[i].node);
		hash = e[i].node.hash;
		map_del(&a, &e[i].node);
		map_put(&b, &e[i].node);
		same += hash == e[i].node.hash;
		if ((hash & 63) == 0) {
			was++;
			is += (e[i].node.hash & 63) == 0;
		}
		map_del(&b, &e[i].node);
	}
	assert_int_equal(same, 0);
	assert_true(was > 10 && is < was / 2); /* 31 and half of one are expected */
	map_fini(&a);
	map_fini(&b);
}

/* Vectors of the reference code: key 00 01 … 0f, text 00 01 …. */
static void test_siphash(void **state)
{
	static const struct {
		size_t len;
		uint64_t hash;
	} vectors[] = {{0, 0x726fdb47dd0e0e31ull},
		       {8, 0x93f5f5799a932462ull},
		       {15, 0xa129ca6149be45e5ull}};
	char text[16];
	struct map m;

	(void)state;
	assert_int_equal(map_init(&m), 0);
	m.seed[0] = 0x0706050403020100ull;
	m.seed[1] = 0x0f0e0d0c0b0a0908ull;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)i;
	for (size_t i = 0; i < array_size(vectors); i++) {
		struct map_node n = {.key = {text, vectors[i].len}};

		map_put(&m, &n);
		assert_true(n.hash == vectors[i].hash);
		map_del(&m, &n);
	}
	map_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_grow_and_drain),
		cmocka_unit_test(test_any_bytes_are_keys),
		cmocka_unit_test(test_one_chain),
		cmocka_unit_test(test_equal_hashes),
		cmocka_unit_test(test_del_of_a_stranger),
		cmocka_unit_test(test_maps_have_their_own_seeds),
		cmocka_unit_test(test_siphash),
	};

	return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
