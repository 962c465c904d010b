// SPDX-License-Identifier: Apache-2.0
/*
 * The shared memory: a head, then an open-addressing table. A slot counts when its word is not
 * zero; one that was used keeps its node, so that searches go on behind it. Loop thread.
 */
#include "fs/fill_state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "fs/fill_wire.h"

#include "base/banned.h"

#define STATE_MAGIC   0x316c6c69666c6600ull /* a new memfd is zero */
#define STATE_VERSION 1
#define HEAD_BYTES    4096
#define MODE_SHIFT    30
#define COUNT_MASK    ((1u << MODE_SHIFT) - 1)

struct head {
	uint64_t magic;
	uint32_t version, init_len, answered, passthrough, untracked, padding;
	uint64_t opened, releasing;
	uint8_t init[WIRE_INIT_MAX];
};

struct slot {
	uint64_t node; /* 0 = never used since the last search could end here */
	uint32_t backing;
	uint32_t word; /* mode << MODE_SHIFT | count; 0 = free */
};

struct fill_state {
	void *map;
	size_t size, n;
	struct head *head;
	struct slot *slots;
};

_Static_assert(sizeof(struct head) <= HEAD_BYTES, "the table follows");

/* The order of the stores is what the next worker relies on. */
#define store(p, v) __atomic_store_n(&(p), (v), __ATOMIC_SEQ_CST)

static int head_check(struct fill_state *s, struct err *err)
{
	struct head *h = s->head;

	if (h->magic == 0) {
		store(h->version, STATE_VERSION);
		store(h->magic, STATE_MAGIC);
	}
	if (h->magic != STATE_MAGIC || h->version != STATE_VERSION || h->init_len > WIRE_INIT_MAX)
		return err_set(err, -EPROTO, "the fill state is of another firstlight");
	return 0;
}

int fill_state_open(int fd, size_t size, struct fill_state **ret, struct err *err)
{
	struct fill_state *s;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_errno(err, -errno, "fill state");
	if ((uint64_t)st.st_size < size || size < HEAD_BYTES + sizeof(struct slot))
		return err_set(err, -EINVAL, "the fill state is too small");
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_errno(err, -ENOMEM, "fill state");
	s->map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (s->map == MAP_FAILED) {
		r = err_errno(err, -errno, "map the fill state");
		free(s);
		return r;
	}
	s->size = size;
	s->head = s->map;
	s->slots = (struct slot *)((char *)s->map + HEAD_BYTES);
	s->n = (size - HEAD_BYTES) / sizeof(struct slot);
	r = head_check(s, err);
	if (r < 0) {
		fill_state_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void fill_state_close(struct fill_state *s)
{
	if (!s)
		return;
	munmap(s->map, s->size);
	free(s);
}

/* --- INIT ------------------------------------------------------------------------------------- */

void fill_state_put_init(struct fill_state *s, const void *request, size_t n)
{
	store(s->head->init_len, 0);
	if (n > WIRE_INIT_MAX)
		n = WIRE_INIT_MAX;
	memcpy(s->head->init, request, n);
	store(s->head->init_len, (uint32_t)n);
}

void fill_state_answered(struct fill_state *s, bool passthrough)
{
	store(s->head->passthrough, passthrough ? 1u : 0u);
	store(s->head->answered, 1u);
}

const void *fill_state_init(const struct fill_state *s, size_t *ret_n)
{
	*ret_n = s->head->init_len;
	return *ret_n ? s->head->init : NULL;
}

bool fill_state_is_answered(const struct fill_state *s)
{
	return s->head->answered;
}

bool fill_state_passthrough(const struct fill_state *s)
{
	return s->head->passthrough;
}

/* --- open nodes ------------------------------------------------------------------------------- */

size_t fill_state_slots(const struct fill_state *s)
{
	return s->n;
}

static size_t next(const struct fill_state *s, size_t i)
{
	return i + 1 < s->n ? i + 1 : 0;
}

static size_t start(const struct fill_state *s, uint64_t node)
{
	return (size_t)(((node * 0x9E3779B97F4A7C15ull) >> 32) % s->n);
}

static size_t probes(const struct fill_state *s)
{
	return s->n < FILL_PROBES_MAX ? s->n : FILL_PROBES_MAX;
}

size_t fill_state_find(const struct fill_state *s, uint64_t node)
{
	size_t i = start(s, node);

	for (size_t k = probes(s); k > 0 && s->slots[i].node; k--, i = next(s, i)) {
		if (s->slots[i].node == node && s->slots[i].word)
			return i;
	}
	return FILL_NO_SLOT;
}

enum fill_mode fill_state_mode(const struct fill_state *s, size_t slot)
{
	return s->slots[slot].word >> MODE_SHIFT & FILL_PASSTHROUGH ? FILL_PASSTHROUGH
								    : FILL_CACHED;
}

uint32_t fill_state_backing(const struct fill_state *s, size_t slot)
{
	return s->slots[slot].backing;
}

size_t fill_state_first(struct fill_state *s, uint64_t node, enum fill_mode mode, uint32_t backing)
{
	size_t i = start(s, node);
	struct slot *slot;

	for (size_t k = probes(s); k > 0; k--, i = next(s, i)) {
		slot = &s->slots[i];
		if (slot->word)
			continue;
		store(slot->node, node);
		store(slot->backing, backing);
		store(slot->word, (uint32_t)mode << MODE_SHIFT | 1);
		return i;
	}
	return FILL_NO_SLOT;
}

void fill_state_again(struct fill_state *s, size_t slot)
{
	uint32_t word = s->slots[slot].word;

	if ((word & COUNT_MASK) < COUNT_MASK)
		store(s->slots[slot].word, word + 1);
}

bool fill_state_less(struct fill_state *s, size_t slot)
{
	uint32_t word = s->slots[slot].word;

	if ((word & COUNT_MASK) == COUNT_MASK)
		return false; /* was not counted any more: it stays for ever */
	if ((word & COUNT_MASK) > 1) {
		store(s->slots[slot].word, word - 1);
		return false;
	}
	store(s->slots[slot].word, 0u);
	/* Searches may end here again if they would at the next. */
	for (size_t k = s->n; k > 1 && !s->slots[next(s, slot)].node; k--) {
		if (s->slots[slot].word || !s->slots[slot].node)
			break;
		store(s->slots[slot].node, (uint64_t)0);
		slot = slot ? slot - 1 : s->n - 1;
	}
	return true;
}

void fill_state_untracked(struct fill_state *s)
{
	store(s->head->untracked, 1u);
}

bool fill_state_complete(const struct fill_state *s)
{
	return !s->head->untracked;
}

/* --- requests that may come again ------------------------------------------------------------- */

void fill_state_opened(struct fill_state *s, uint64_t unique)
{
	store(s->head->opened, unique);
}

bool fill_state_was_opened(const struct fill_state *s, uint64_t unique)
{
	return s->head->opened == unique;
}

void fill_state_releasing(struct fill_state *s, uint64_t unique)
{
	store(s->head->releasing, unique);
}

bool fill_state_was_releasing(const struct fill_state *s, uint64_t unique)
{
	return s->head->releasing == unique;
}
