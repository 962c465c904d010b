/* SPDX-License-Identifier: Apache-2.0 */
/* Writes tars in memory, for tests: right ones and odd ones. */
#ifndef FIRSTLIGHT_TESTS_TAR_WRITER_H
#define FIRSTLIGHT_TESTS_TAR_WRITER_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

static inline void tar_bytes(struct buf *b, const void *data, size_t n)
{
	static const char zeros[512];

	require(buf_append(b, data, n) == 0);
	require(buf_append(b, zeros, (512 - n % 512) % 512) == 0);
}

static inline void tar_sum(char h[512])
{
	unsigned sum = 0;

	memset(h + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	h[155] = ' ';
}

/* The header only; type is its letter. */
static inline void tar_head(struct buf *b, char type, const char *name, const char *link,
			    uint64_t size)
{
	char h[512] = "";

	memcpy(h, name, strnlen(name, 100));
	snprintf(h + 100, 8, "%07o", type == '5' ? 0755 : 0644);
	snprintf(h + 108, 8, "%07o", 0);
	snprintf(h + 116, 8, "%07o", 0);
	snprintf(h + 124, 12, "%011llo", (unsigned long long)size);
	snprintf(h + 136, 12, "%011llo", 1700000000ull);
	h[156] = type;
	memcpy(h + 157, link, strnlen(link, 100));
	memcpy(h + 257, "ustar\00000", 8);
	if (type == '3' || type == '4') {
		snprintf(h + 329, 8, "%07o", 7);
		snprintf(h + 337, 8, "%07o", 9);
	}
	tar_sum(h);
	require(buf_append(b, h, 512) == 0);
}

static inline void tar_file(struct buf *b, const char *name, const void *data, size_t n)
{
	tar_head(b, '0', name, "", n);
	tar_bytes(b, data, n);
}

/* One record of an extended header: its length counts itself. */
static inline void tar_record(struct buf *records, const char *key, const void *value, size_t n)
{
	size_t len = strlen(key) + n + 3, all = len + 1;
	char digits[24];

	while ((size_t)snprintf(digits, sizeof(digits), "%zu", all) + len > all)
		all++;
	require(buf_printf(records, "%zu %s=", all, key) == 0);
	require(buf_append(records, value, n) == 0 && buf_append(records, "\n", 1) == 0);
}

/* An extended header of the records, which are emptied. */
static inline void tar_pax(struct buf *b, struct buf *records)
{
	tar_head(b, 'x', "pax", "", records->len);
	tar_bytes(b, records->data, records->len);
	buf_fini(records);
}

static inline void tar_end(struct buf *b)
{
	static const char zeros[1024];

	require(buf_append(b, zeros, sizeof(zeros)) == 0);
}

#endif
