/* SPDX-License-Identifier: Apache-2.0 */
/* The file of hosts that speak plain HTTP, a line each, as pulls have said. Reads and writes files:
 * for worker threads. */
#ifndef FIRSTLIGHT_IMAGE_PLAIN_H
#define FIRSTLIGHT_IMAGE_PLAIN_H

#include "base/err.h"

/* 1: the host ("host[:port]") is in the file; 0: it is not, or there is no file. file NULL: 0. */
int plain_has(const char *file, const char *host);
/* Durable when it returns. 1: added; 0: it was there. -ENOSPC (REGISTRY_PLAIN_MAX), -EIO, … */
int plain_add(const char *file, const char *host, struct err *err);

#endif
