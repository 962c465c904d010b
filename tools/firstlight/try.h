/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trying something that may hang, or leave something behind, in a child; and what other programs
 * print. Nothing here waits longer than it was told. One thread, and no loop beside it.
 */
#ifndef FIRSTLIGHT_TOOLS_TRY_H
#define FIRSTLIGHT_TOOLS_TRY_H

#include "base/buf.h"
#include "base/clean.h"

/*
 * SIGINT, SIGTERM and SIGHUP end only what is tried from now on, so that the caller can clear up:
 * try_caught() has the signal's number then, and every further try answers -EINTR.
 */
void try_hold_signals(void);
int try_caught(void);

/*
 * Runs fn on a copy of the n bytes at shared in a child; what it writes there is copied back, also
 * when it did not end. The child and its children are killed after ms. -ETIMEDOUT, -EINTR, -EIO
 * (it died), or what fork failed with.
 */
int try_run(void (*fn)(void *shared), void *shared, size_t n, unsigned ms) must_check;

/* The same, also after a signal: for clearing up. */
int try_finally(void (*fn)(void *shared), void *shared, size_t n, unsigned ms) must_check;

/*
 * Appends what a program prints, up to max bytes; its stderr goes nowhere. -ENOENT: there is no
 * such program; -EIO: its exit code is not 0; -ETIMEDOUT, -EINTR, -ENOMEM.
 */
int try_program(const char *const *argv, unsigned ms, size_t max, struct buf *out) must_check;

#endif
