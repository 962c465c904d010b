// SPDX-License-Identifier: Apache-2.0
/*
 * Contents of several chunks: who reads here and there in one soon reads the rest, one round trip
 * after the other. From the second chunk on, those behind what was read last, then those before it,
 * are asked for, as long as what is brought unasked is read. Loop thread.
 */
#include "base/limits.h"
#include "image/fetch_impl.h"

#include "base/banned.h"

static bool bit_get(const uint64_t *bits, uint32_t chunk)
{
	return bits[chunk / 64 % FOLLOW_WORDS] >> chunk % 64 & 1;
}

static void bit_set(uint64_t *bits, uint32_t chunk)
{
	bits[chunk / 64 % FOLLOW_WORDS] |= 1ull << chunk % 64;
}

static struct follow *slot_of(struct fetcher *f, const struct object *obj)
{
	return &f->follow[obj->number % FETCH_SLOTS];
}

/* What was brought unasked and is not read stays below what was read. */
static bool is_worth(const struct follow *fo)
{
	uint64_t most = fo->read_bytes < FOLLOW_UNUSED_MAX ? fo->read_bytes : FOLLOW_UNUSED_MAX;

	return fo->reads > 1 && fo->unused_bytes < most;
}

/* What is known to be read goes first. */
static bool link_is_taken(const struct fetcher *f)
{
	return f->holds &&
	       (!list_empty(&f->foreseen) || f->predictions + f->early_running > FOLLOW_BESIDE_MAX);
}

static bool may_ask(const struct fetcher *f, const struct follow *fo)
{
	return is_worth(fo) && !link_is_taken(f) && fo->transfers < FOLLOW_TRANSFERS &&
	       f->follows < FOLLOW_ALL_MAX && !f->scope.cancelled;
}

/* Looks from off on for a chunk that nobody has asked for; backwards: from the byte before off. */
static bool find_missing(struct fetcher *f, struct object *obj, uint64_t off, bool back,
			 struct chunk_found *ret)
{
	for (unsigned i = 0; i < FOLLOW_LOOK && (back ? off > 0 : off < obj->size); i++) {
		if (chunk_at(f, obj, back ? off - 1 : off, ret, NULL) < 0)
			return false;
		if (!ret->c->zeros && !object_has_chunk(obj, ret->chunk) &&
		    !flight_get(f, &obj->key, ret->chunk))
			return true;
		off = back ? ret->c->file_off : ret->c->file_off + ret->c->size;
	}
	return false;
}

/* A flight for it; NULL: no memory, or no place. */
static struct flight *flight_of(struct fetcher *f, struct object *obj, uint32_t chunk)
{
	struct flight *fl = flight_for(f, obj, chunk);

	if (fl && (chunk_place(f, fl, NULL) < 0 || fl->c.zeros)) {
		flight_end(f, fl, -EIO, NULL);
		return NULL;
	}
	return fl;
}

/* Does fl, the next of the content, fit behind the others? */
static bool goes_along(const struct transfer *t, const struct flight *fl)
{
	const struct index_chunk *from = &t->flights[0]->c,
				 *last = &t->flights[t->flights_n - 1]->c;

	return t->layer == fl->layer && fl->c.blob_off >= last->blob_off &&
	       fl->c.blob_off <= last->blob_off + last->blob_len + FETCH_GAP_MAX &&
	       fl->c.blob_off + fl->c.blob_len <= from->blob_off + FOLLOW_REQUEST_MAX;
}

/* Takes the chunk at off, and those behind it that make one request with it. */
static struct transfer *collect(struct fetcher *f, struct object *obj, struct follow *fo,
				struct chunk_found found)
{
	struct transfer *t = NULL;
	uint64_t off;

	do {
		struct flight *fl = flight_of(f, obj, found.chunk);

		if (!fl)
			break;
		if (!t)
			t = transfer_new(f, fl->layer, fl->ref, FOLLOW_PARTS_MAX, NULL);
		if (!t || (t->flights_n && !goes_along(t, fl))) {
			flight_end(f, fl, -ECANCELED, NULL);
			break;
		}
		transfer_add(t, fl);
		bit_set(fo->asked, found.chunk);
		fo->unused_bytes += fl->c.size;
		off = fl->c.file_off + fl->c.size;
	} while (is_worth(fo) && t->flights_n < t->flights_cap && off < obj->size &&
		 chunk_at(f, obj, off, &found, NULL) == 0 && !object_has_chunk(obj, found.chunk) &&
		 !flight_get(f, &obj->key, found.chunk));
	return t;
}

static void ask(struct fetcher *f, struct object *obj, struct follow *fo)
{
	struct chunk_found found;

	while (may_ask(f, fo)) {
		struct transfer *t;

		if (!find_missing(f, obj, fo->end, false, &found) &&
		    !find_missing(f, obj, fo->from, true, &found))
			return;
		t = collect(f, obj, fo, found);
		if (!t)
			return;
		t->class = FETCH_PREDICTED;
		t->alone = true;
		t->follow = object_ref(obj);
		if (transfer_start(t) < 0) {
			transfer_end(t, -ECANCELED, NULL);
			return;
		}
		f->follows++;
		fo->transfers++;
	}
}

void fetch_follow(struct fetcher *f, struct object *obj, uint64_t off)
{
	struct follow *fo = slot_of(f, obj);
	struct chunk_found found;

	if (obj->complete || obj->damaged || obj->chunks_n < 2 ||
	    chunk_at(f, obj, off, &found, NULL) < 0)
		return;
	if (fo->number != obj->number)
		*fo = (struct follow){.number = obj->number};
	if (bit_get(fo->read, found.chunk))
		return;
	bit_set(fo->read, found.chunk);
	fo->reads++;
	/* every loader looks at the first and the last */
	if (found.chunk > 0 && found.chunk + 1 < obj->chunks_n)
		fo->read_bytes += found.c->size;
	fo->from = found.c->file_off;
	fo->end = fo->from + found.c->size;
	if (bit_get(fo->asked, found.chunk))
		fo->unused_bytes -=
			found.c->size < fo->unused_bytes ? found.c->size : fo->unused_bytes;
	ask(f, obj, fo);
}

void follow_ended(struct fetcher *f, struct object *obj, int result)
{
	struct follow *fo = slot_of(f, obj);

	f->follows--;
	if (fo->number == obj->number && fo->transfers) {
		fo->transfers--;
		if (result == 0)
			ask(f, obj, fo);
	}
	object_unref(f->objects, obj);
}
