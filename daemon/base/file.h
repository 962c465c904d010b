/* SPDX-License-Identifier: Apache-2.0 */
/* Files: whole small ones, and reads and writes that are not done by halves. Blocking: for threads,
 * or the start. */
#ifndef FIRSTLIGHT_BASE_FILE_H
#define FIRSTLIGHT_BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the file to b. -EFBIG: larger than max; -EINVAL: no regular file; -ENOMEM, or what open
 * or read failed with. err gets no path. */
int file_read_all(const char *path, size_t max, struct buf *b, struct err *err) must_check;

/* All n bytes, however many calls that takes. -errno; -ENODATA: the file ends before. */
int file_pread_all(int fd, void *data, size_t n, uint64_t off) must_check;
int file_pwrite_all(int fd, const void *data, size_t n, uint64_t off) must_check;
int file_write_all(int fd, const void *data, size_t n) must_check; /* at the file's position */

#endif
