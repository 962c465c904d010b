// SPDX-License-Identifier: Apache-2.0
/* Hash map with chained nodes and SipHash-2-4. Owns the slot array only. */
#include "base/map.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/err.h"

#include "base/banned.h"

#define SLOTS_MIN 64

static inline uint64_t rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1], v[1] = rotl(v[1], 13) ^ v[0], v[0] = rotl(v[0], 32);
	v[2] += v[3], v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = rotl(v[1], 17) ^ v[2], v[2] = rotl(v[2], 32);
}

/* SipHash-2-4 (Aumasson, Bernstein 2012). */
static uint64_t siphash(const uint64_t seed[2], struct str s)
{
	uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575ull, seed[1] ^ 0x646f72616e646f6dull,
			 seed[0] ^ 0x6c7967656e657261ull, seed[1] ^ 0x7465646279746573ull};
	uint64_t m;
	size_t i;

	for (i = 0; i + 8 <= s.len; i += 8) {
		memcpy(&m, s.p + i, 8);
		v[3] ^= m;
		sip_round(v);
		sip_round(v);
		v[0] ^= m;
	}
	m = (uint64_t)s.len << 56;
	for (size_t j = 0; i + j < s.len; j++)
		m |= (uint64_t)(unsigned char)s.p[i + j] << (8 * j);
	v[3] ^= m;
	sip_round(v);
	sip_round(v);
	v[0] ^= m;
	v[2] ^= 0xff;
	for (int r = 0; r < 4; r++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int map_init(struct map *m)
{
	*m = (struct map){.size = SLOTS_MIN};
	if (getrandom(m->seed, sizeof(m->seed), 0) != sizeof(m->seed))
		return -EIO;
	m->slots = calloc(m->size, sizeof(m->slots[0]));
	return m->slots ? 0 : -ENOMEM;
}

void map_fini(struct map *m)
{
	free(m->slots);
	*m = (struct map){0};
}

struct map_node *map_get(struct map *m, struct str key)
{
	uint64_t h = siphash(m->seed, key);
	struct map_node *n;

	for (n = m->slots[h & (m->size - 1)]; n; n = n->next) {
		if (n->hash == h && str_eq(n->key, key))
			return n;
	}
	return NULL;
}

static void map_grow(struct map *m)
{
	size_t size = m->size * 2;
	struct map_node **slots = calloc(size, sizeof(slots[0]));
	struct map_node *n;

	if (!slots)
		return;
	for (size_t i = 0; i < m->size; i++) {
		while ((n = m->slots[i])) {
			m->slots[i] = n->next;
			n->next = slots[n->hash & (size - 1)];
			slots[n->hash & (size - 1)] = n;
		}
	}
	free(m->slots);
	m->slots = slots;
	m->size = size;
}

void map_put(struct map *m, struct map_node *n)
{
	struct map_node **slot;

	if (m->count >= m->size)
		map_grow(m);
	n->hash = siphash(m->seed, n->key);
	slot = &m->slots[n->hash & (m->size - 1)];
	n->next = *slot;
	*slot = n;
	m->count++;
}

void map_del(struct map *m, struct map_node *n)
{
	struct map_node **p = &m->slots[n->hash & (m->size - 1)];

	while (*p != n) {
		require(*p);
		p = &(*p)->next;
	}
	*p = n->next;
	n->next = NULL;
	m->count--;
}
