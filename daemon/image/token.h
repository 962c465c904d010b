/* SPDX-License-Identifier: Apache-2.0 */
/* One request to a token server. Owns nothing; loop thread. */
#ifndef FIRSTLIGHT_IMAGE_TOKEN_H
#define FIRSTLIGHT_IMAGE_TOKEN_H

#include "base/arena.h"
#include "base/buf.h"
#include "image/creds.h"
#include "loop/task.h"
#include "net/http.h"

struct token_request {
	struct http *http;
	const char *realm, *service; /* service may be NULL */
	const char *repository;
	const char *scope;  /* of the challenge; may be NULL */
	bool plain_allowed; /* credentials may go over http */
	struct creds creds;
	const struct http_tls *tls;
	const char *const *headers;
	size_t headers_n;
	const char *user_agent;
};

struct token_answer {
	struct str value; /* in the arena */
	unsigned expires_s;
};

/* With an identity token by POST, else by GET. -EACCES: refused; -EAGAIN (429), -EBADMSG (no
 * token in the answer), -EIO (5xx), or as http_run(). */
may_suspend int token_fetch(const struct token_request *q, struct arena *a,
			    struct token_answer *ret, struct err *err);

/* Can it stand in a header? */
bool token_valid(struct str s);
/* Appends "Authorization: Basic …". */
int basic_header(struct str user, struct str secret, struct buf *b) must_check;
/* A token server's answer; -EBADMSG, -ENOMEM. */
int token_parse(struct str body, struct arena *a, struct token_answer *ret, struct err *err);

#endif
