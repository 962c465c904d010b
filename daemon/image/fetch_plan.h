/* SPDX-License-Identifier: Apache-2.0 */
/* Which chunks go into one request, and how far ahead of the reader it goes. Pure. */
#ifndef FIRSTLIGHT_IMAGE_FETCH_PLAN_H
#define FIRSTLIGHT_IMAGE_FETCH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct plan_chunk {
	uint64_t off, len;    /* of its stream, in the blob */
	uint64_t inner, size; /* of its bytes, in the stream's output */
	bool want;            /* else it only comes along */
	bool take;            /* the answer */
	uint32_t ref;         /* the caller's */
};

/* Compressed bytes that are enough for the first `output` bytes of a stream, of the blob_len that
 * the index allows for it: an index may claim too much. */
uint64_t plan_stream_len(uint64_t blob_len, uint64_t output);

/* Orders by place. */
void plan_sort(struct plan_chunk *c, size_t n);

/* Bytes of the blob. */
struct plan_limits {
	uint64_t ahead; /* behind the last wanted chunk, for others that come along */
	uint64_t max;   /* all together, unless the seed alone is more */
	uint64_t gap;   /* between chunks, at most FETCH_GAP_MAX */
};
/* Marks what goes into one request with c[seed] (ordered by place, seed is wanted): wanted chunks,
 * and others. Chunks that overlap in one stream's output are never taken together. */
void plan_request(struct plan_chunk *c, size_t n, size_t seed, const struct plan_limits *limits);

/*
 * How far ahead to read in one layer. What requests brought unasked is remembered for the last few;
 * when such a range is forgotten the window grows if it was of use, and shrinks if not.
 */
#define READAHEAD_RANGES 16

/* What requests tell of the link: bytes that come in one round trip cost as much as a second
 * request. */
struct link_seen {
	uint64_t trip_ns;   /* to the first byte; 0: not known */
	uint64_t bytes_sec; /* of one request; 0: not known */
};
void link_saw(struct link_seen *l, uint64_t trip_ns, uint64_t bytes, uint64_t ns);
uint64_t link_trip(const struct link_seen *l);
/* A gap between two chunks that costs as much as a second request, which is none of a round trip
 * while others are under way. */
uint64_t link_gap(const struct link_seen *l);

struct readahead {
	uint32_t layer;
	uint64_t trip;   /* bytes that the link brings in one round trip */
	unsigned halves; /* the window, in halves of that */
	struct readahead_range {
		uint64_t from, to; /* equal: none */
		bool used;
	} ranges[READAHEAD_RANGES];
	unsigned next;
};

void readahead_init(struct readahead *ra, uint32_t layer);
/* Something at off was read. */
void readahead_touch(struct readahead *ra, uint64_t off);
/* A request for off is about to be made: the window for it, in bytes. */
uint64_t readahead_miss(struct readahead *ra, uint64_t off, uint64_t trip);
/* It brings [from, to) unasked. */
void readahead_brought(struct readahead *ra, uint64_t from, uint64_t to);

#endif
