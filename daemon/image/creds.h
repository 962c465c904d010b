/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials from docker's config.json and its helpers, read anew each time. Reads files and runs
 * programs: for worker threads.
 */
#ifndef FIRSTLIGHT_IMAGE_CREDS_H
#define FIRSTLIGHT_IMAGE_CREDS_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

/* Empty = not there. NUL behind each. */
struct creds {
	struct str user, secret;
	struct str identity; /* refresh token */
	struct str token;    /* ready bearer token */
};

/*
 * For "host[:port]"; all empty when none are known. file: the config, NULL = $DOCKER_CONFIG, then
 * $HOME/.docker. The strings live in a. -ENOMEM, -EINVAL (bad file), -EIO and -ETIMEDOUT (helper),
 * or what reading the file failed with; a file that does not exist is an empty one.
 */
int creds_find(const char *file, const char *host, struct arena *a, struct creds *ret,
	       struct err *err);

/* The parts, for tests. helper: the suffix of a program that knows more, "" = none. */
int creds_parse(struct str document, const char *host, struct arena *a, struct creds *ret,
		struct str *ret_helper, struct err *err);
int creds_helper_answer(struct str document, struct arena *a, struct creds *ret, struct err *err);
/* "get" of docker-credential-SUFFIX. No credentials: all empty. */
int creds_run_helper(struct str suffix, const char *host, unsigned timeout_ms, struct arena *a,
		     struct creds *ret, struct err *err);

#endif
