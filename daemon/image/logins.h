/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials that pulls have brought, in memory that outlives the worker: a file without a name
 * (memfd) that the keeper holds. Never on a disk. Not thread safe.
 *
 * Two halves; the head says which one holds how many bytes. A half is written before the head
 * names it, so that a worker that is killed meanwhile leaves the older list.
 */
#ifndef FIRSTLIGHT_IMAGE_LOGINS_H
#define FIRSTLIGHT_IMAGE_LOGINS_H

#include "base/clean.h"
#include "base/limits.h"
#include "base/str.h"

#define LOGINS_HEAD_BYTES 4096
#define LOGINS_HALF_BYTES (REGISTRY_LOGINS_MAX * REGISTRY_LOGIN_BYTES_MAX)
#define LOGINS_STATE_SIZE (LOGINS_HEAD_BYTES + 2 * LOGINS_HALF_BYTES) /* of the file */

struct login_text {
	struct str ns, user, secret; /* none has a NUL; all three < REGISTRY_LOGIN_BYTES_MAX */
};

/* All that is there from now on. -EINVAL: no file of that size; -ENOMEM, or what writing failed
 * with: then the older list stays. */
int logins_write(int fd, const struct login_text *list, size_t n) must_check;

/* Calls fn for each, in order, until it answers not 0; that is answered. -EINVAL: no such file;
 * -EBADMSG: it holds something else; -ENOMEM, or what reading failed with. */
int logins_read(int fd, int (*fn)(void *arg, const struct login_text *l), void *arg) must_check;

#endif
