/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines on stderr: time, level, message, then key=value words as the caller writes them.
 * With JOURNAL_STREAM set, "<priority>" comes first instead of the time. Control characters and
 * what is no UTF-8 become '?', a line ends after 2048 bytes. Any thread; one line is one write(2).
 */
#ifndef FIRSTLIGHT_BASE_LOG_H
#define FIRSTLIGHT_BASE_LOG_H

#include "base/clean.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Sets the level; lines above it are dropped. role ("keeper", "worker") starts each line; static.
 */
void log_init(enum log_level level, const char *role);

/* "error", "warn", "info", "debug"; -EINVAL otherwise. */
int log_level_parse(const char *s, enum log_level *ret_level);

void log_line(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
