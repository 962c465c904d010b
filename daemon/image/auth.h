/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who asks: challenges, basic authentication, bearer tokens (distribution: auth/token.md,
 * auth/oauth.md). Owns the tokens; each is fetched once for all who need it. Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_AUTH_H
#define FIRSTLIGHT_IMAGE_AUTH_H

#include "base/arena.h"
#include "image/hosts.h"
#include "image/peer.h"
#include "loop/task.h"

struct auth;
struct loop;
struct token;
struct work;

struct auth_options {
	const char *docker_config; /* both stay the caller's */
	const char *user_agent;    /* "User-Agent: …" */
	int logins_fd;             /* memory that outlives us, see image/logins.h; 0: none */
};

int auth_new(struct loop *loop, struct http *http, struct work *threads,
	     const struct auth_options *options, struct auth **ret, struct err *err) must_check;
void auth_free(struct auth *a);

/* Credentials for a namespace ("docker.io", "host:5000"), before docker's config; for its own host
 * only. In memory, REGISTRY_LOGINS_MAX of them, the oldest goes; the next worker knows them too.
 * -ENOMEM, -E2BIG (REGISTRY_LOGIN_BYTES_MAX), -EINVAL (a NUL). */
int auth_login(struct auth *a, const char *ns, struct str user, struct str secret, struct err *err);

/* One request to one host. */
struct auth_use {
	struct auth *auth;
	struct peer *peer;
	bool https;
	const struct http_tls *tls;
	const char *const *headers; /* for the token server too */
	size_t headers_n;
	const char *ns, *repository;
	struct arena *arena;
	/* its own */
	struct token *token;
	uint64_t no; /* of the credentials that were used */
	bool used, fresh, challenged;
};

/* The Authorization header, in the arena; NULL = none is known to be needed. Fetches a token when
 * the host is known to want one. -EACCES, -ECANCELED, or what the token server's answer led to. */
may_suspend int auth_header(struct auth_use *u, const char **ret, struct err *err);

/* A 401 or 403: learns from it. 0: ask again. -EACCES: in vain; or as above. */
may_suspend int auth_refused(struct auth_use *u, const struct http_head *head, struct err *err);

void auth_done(struct auth_use *u);

#endif
