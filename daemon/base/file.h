/* SPDX-License-Identifier: Apache-2.0 */
/* Whole small files, read by worker threads or at the start. */
#ifndef FIRSTLIGHT_BASE_FILE_H
#define FIRSTLIGHT_BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the file to b. -EFBIG: larger than max; -EINVAL: no regular file; -ENOMEM, or what open
 * or read failed with. err gets no path. */
int file_read_all(const char *path, size_t max, struct buf *b, struct err *err) must_check;

#endif
