/* SPDX-License-Identifier: Apache-2.0 */
/* A growable run of bytes. One owner; limits are the caller's. Sizes in bytes. */
#ifndef FIRSTLIGHT_BASE_BUF_H
#define FIRSTLIGHT_BASE_BUF_H

#include <stdint.h>

#include "base/clean.h"

struct buf {
	uint8_t *data;
	size_t len, cap;
};

#define BUF_INIT ((struct buf){0})
#define auto_buf cleanup(buf_fini)

/* Room for n more bytes; -ENOMEM. */
int buf_reserve(struct buf *b, size_t n) must_check;

/* Appends; -ENOMEM (b unchanged). */
int buf_append(struct buf *b, const void *data, size_t n) must_check;

/* Appends formatted text without its NUL; -ENOMEM. */
int buf_printf(struct buf *b, const char *fmt, ...) printf_like(2, 3) must_check;

/* Drops the first n bytes. */
void buf_consume(struct buf *b, size_t n);

/* Empties it and gives the memory back. */
void buf_fini(struct buf *b);

#endif
