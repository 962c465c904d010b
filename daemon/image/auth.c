// SPDX-License-Identifier: Apache-2.0
/* Tokens. Owns them, by host, namespace and repository; the longest unused goes when there are too
 * many. Loop thread; files and helpers on threads. */
#include "image/auth.h"

#include "base/base64.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/log.h"
#include "image/creds.h"
#include "image/logins.h"
#include "image/token.h"
#include "loop/loop.h"
#include "loop/sync.h"
#include "loop/work.h"
#include "net/url.h"

#include "base/banned.h"

#define NS_PER_S 1000000000ull

struct auth {
	struct loop *loop;
	struct http *http;
	struct work *threads;
	struct auth_options options;
	struct map tokens;  /* token.node */
	struct list recent; /* token.link; the longest unused first */
	struct list logins; /* login.link */
	size_t logins_n;
};

struct token {
	struct map_node node;
	struct list link;
	unsigned users;
	struct mutex lock; /* one fetches it */
	char *value;       /* NULL = none */
	uint64_t expires_ns;
	uint64_t no;        /* changes with value */
	unsigned tries;     /* to get credentials, that have ended */
	struct err failure; /* of the last one; code 0 = none */
	char *scope;        /* as the challenge said it; NULL = it did not */
	char key[];
};

static void secret_free(char **s)
{
	if (*s)
		explicit_bzero(*s, strlen(*s));
	free(*s);
	*s = NULL;
}

static void token_free(struct auth *a, struct token *t)
{
	map_del(&a->tokens, &t->node);
	list_del(&t->link);
	secret_free(&t->value);
	free(t->scope);
	free(t);
}

static void make_room(struct auth *a)
{
	struct list *l, *tmp;

	list_for_each_safe (l, tmp, &a->recent) {
		struct token *t = container_of(l, struct token, link);

		if (a->tokens.count < REGISTRY_TOKENS_MAX)
			return;
		if (t->users == 0)
			token_free(a, t);
	}
}

static struct token *token_new(struct auth *a, struct str key)
{
	struct token *t;

	make_room(a);
	t = calloc(1, sizeof(*t) + key.len + 1);
	if (!t)
		return NULL;
	memcpy(t->key, key.p, key.len);
	t->node.key = (struct str){t->key, key.len};
	mutex_init(&t->lock);
	list_init(&t->link);
	map_put(&a->tokens, &t->node);
	return t;
}

/* The token of this use. */
static struct token *token_of(struct auth_use *u)
{
	const char *key;
	struct map_node *n;

	if (u->token)
		return u->token;
	key = arena_printf(u->arena, "%s %s %s", u->peer->authority, u->ns, u->repository);
	n = key ? map_get(&u->auth->tokens, str_of(key)) : NULL;
	u->token = n ? container_of(n, struct token, node) : NULL;
	if (!u->token && key)
		u->token = token_new(u->auth, str_of(key));
	if (!u->token)
		return NULL;
	list_del(&u->token->link);
	list_push(&u->auth->recent, &u->token->link);
	u->token->users++;
	return u->token;
}

void auth_done(struct auth_use *u)
{
	if (u->token)
		u->token->users--;
	u->token = NULL;
}

/* --- credentials ----------------------------------------------------------------------------- */

/* Those that a pull has brought. */
struct login {
	struct list link; /* auth.logins, the oldest first */
	char *user, *secret;
	char ns[];
};

static void login_free(struct login *l)
{
	list_del(&l->link);
	secret_free(&l->secret);
	free(l->user);
	free(l);
}

static struct login *login_new(struct str ns, struct str user, struct str secret)
{
	struct login *l = calloc(1, sizeof(*l) + ns.len + 1);

	if (!l)
		return NULL;
	list_init(&l->link);
	memcpy(l->ns, ns.p, ns.len);
	l->user = strndup(user.len ? user.p : "", user.len);
	l->secret = strndup(secret.len ? secret.p : "", secret.len);
	if (l->user && l->secret)
		return l;
	login_free(l);
	return NULL;
}

static struct login *login_find(struct auth *a, const char *ns)
{
	for (struct list *it = a->logins.next; it != &a->logins; it = it->next) {
		struct login *l = container_of(it, struct login, link);

		if (strcmp(l->ns, ns) == 0)
			return l;
	}
	return NULL;
}

/* Tokens of the namespace were got with other credentials. */
static void tokens_forget(struct auth *a, const char *ns)
{
	struct list *it, *tmp;

	list_for_each_safe (it, tmp, &a->recent) {
		struct token *t = container_of(it, struct token, link);
		const char *of = strchr(t->key, ' ');

		if (of && strncmp(of + 1, ns, strlen(ns)) == 0 && of[1 + strlen(ns)] == ' ')
			secret_free(&t->value);
	}
}

/* A worker after this one will know them. */
static int logins_save(struct auth *a)
{
	struct login_text list[REGISTRY_LOGINS_MAX];
	size_t n = 0;

	for (struct list *it = a->logins.next; it != &a->logins; it = it->next) {
		struct login *l = container_of(it, struct login, link);

		list[n++] = (struct login_text){str_of(l->ns), str_of(l->user), str_of(l->secret)};
	}
	return a->options.logins_fd ? logins_write(a->options.logins_fd, list, n) : 0;
}

static bool has_nul(struct str s)
{
	return s.len && memchr(s.p, 0, s.len);
}

int auth_login(struct auth *a, const char *ns, struct str user, struct str secret, struct err *err)
{
	struct login *old = login_find(a, ns), *l;
	int r;

	if (has_nul(user) || has_nul(secret))
		return err_set(err, -EINVAL, "a user or a secret with a NUL");
	if (strlen(ns) + user.len + secret.len + 3 > REGISTRY_LOGIN_BYTES_MAX)
		return err_set(err, -E2BIG, "user and secret are too long");
	if (old && str_eq(str_of(old->user), user) && str_eq(str_of(old->secret), secret))
		return 0;
	l = login_new(str_of(ns), user, secret);
	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	if (old)
		login_free(old);
	else if (a->logins_n >= REGISTRY_LOGINS_MAX)
		login_free(container_of(a->logins.next, struct login, link));
	else
		a->logins_n++;
	list_push(&a->logins, &l->link);
	tokens_forget(a, ns);
	r = logins_save(a);
	if (r < 0)
		log_warn("credentials are lost with this worker error=\"%s\"", strerror(-r));
	return 0;
}

/* Of the worker before. */
static int login_again(void *arg, const struct login_text *t)
{
	struct auth *a = arg;
	struct login *l;

	if (a->logins_n >= REGISTRY_LOGINS_MAX)
		return -EINVAL;
	l = login_new(t->ns, t->user, t->secret);
	if (!l)
		return -ENOMEM;
	list_push(&a->logins, &l->link);
	a->logins_n++;
	return 0;
}

static void logins_load(struct auth *a)
{
	int r = a->options.logins_fd ? logins_read(a->options.logins_fd, login_again, a) : 0;

	if (r < 0)
		log_warn("credentials of the worker before are not known error=\"%s\"",
			 strerror(-r));
}

int auth_new(struct loop *loop, struct http *http, struct work *threads,
	     const struct auth_options *options, struct auth **ret, struct err *err)
{
	struct auth *a = calloc(1, sizeof(*a));

	if (!a || map_init(&a->tokens) < 0) {
		free(a);
		return err_set(err, -ENOMEM, "out of memory");
	}
	a->loop = loop;
	a->http = http;
	a->threads = threads;
	a->options = *options;
	list_init(&a->recent);
	list_init(&a->logins);
	logins_load(a);
	*ret = a;
	return 0;
}

void auth_free(struct auth *a)
{
	if (!a)
		return;
	while (!list_empty(&a->recent))
		token_free(a, container_of(a->recent.next, struct token, link));
	while (!list_empty(&a->logins))
		login_free(container_of(a->logins.next, struct login, link));
	map_fini(&a->tokens);
	free(a);
}

/* Is it the namespace's own host that asks? */
static bool own_host(const struct auth_use *u)
{
	if (strcmp(u->ns, "docker.io") == 0)
		return strcmp(u->peer->authority, "registry-1.docker.io") == 0;
	return strcmp(u->peer->authority, u->ns) == 0;
}

/* true: a has a copy. */
static bool login_creds(struct auth_use *u, struct arena *a, struct creds *ret)
{
	struct login *l = own_host(u) ? login_find(u->auth, u->ns) : NULL;

	if (!l)
		return false;
	*ret = (struct creds){.user = str_of(arena_strndup(a, l->user, strlen(l->user))),
			      .secret = str_of(arena_strndup(a, l->secret, strlen(l->secret)))};
	return ret->user.p && ret->secret.p;
}

struct creds_job {
	const char *file, *host;
	struct arena *arena;
	struct creds creds;
	struct err err;
};

static int find_job(void *arg)
{
	struct creds_job *j = arg;

	return creds_find(j->file, j->host, j->arena, &j->creds, &j->err);
}

static may_suspend int find_creds(struct auth_use *u, struct arena *a, struct creds *ret,
				  struct err *err)
{
	struct creds_job j = {
		u->auth->options.docker_config, u->peer->authority, a, {.user = {0}}, ERR_INIT};
	int r;

	if (login_creds(u, a, ret))
		return 0;
	r = work_run(u->auth->threads, find_job, &j);
	if (r < 0)
		return err_set(err, r, "credentials: %s", err_text(&j.err, r));
	*ret = j.creds;
	return 0;
}

/* --- bearer ---------------------------------------------------------------------------------- */

static int keep_token(struct auth_use *u, struct str value, unsigned expires_s, struct err *err)
{
	struct token *t = u->token;
	char *copy = strndup(value.p, value.len);

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	secret_free(&t->value);
	t->value = copy;
	t->no++;
	t->expires_ns = loop_now_ns(u->auth->loop) + expires_s * NS_PER_S;
	u->fresh = true;
	return 0;
}

/* A copy: the peer may be told another realm while the token is fetched. NULL stays NULL. */
static const char *keep(struct arena *a, const char *s)
{
	return s ? arena_strndup(a, s, strlen(s)) : NULL;
}

static may_suspend int fetch_with(struct auth_use *u, struct arena *a, struct err *err)
{
	struct token_request q = {.http = u->auth->http,
				  .realm = keep(a, u->peer->realm),
				  .service = keep(a, u->peer->service),
				  .repository = u->repository,
				  .scope = keep(a, u->token->scope),
				  .plain_allowed = !u->https,
				  .tls = u->tls,
				  .headers = u->headers,
				  .headers_n = u->headers_n,
				  .user_agent = u->auth->options.user_agent};
	struct token_answer answer;
	int r;

	if (!q.realm)
		return err_set(err, -ENOMEM, "out of memory");
	r = find_creds(u, a, &q.creds, err);
	if (r < 0)
		return r;
	if (q.creds.token.len)
		return token_valid(q.creds.token)
			       ? keep_token(u, q.creds.token, REGISTRY_TOKEN_MIN_S, err)
			       : err_set(err, -EINVAL, "registrytoken is no token");
	r = token_fetch(&q, a, &answer, err);
	return r < 0 ? r : keep_token(u, answer.value, answer.expires_s, err);
}

static may_suspend int fetch(struct auth_use *u, struct err *err)
{
	struct arena a;
	int r;

	arena_init(&a, REGISTRY_MEMORY_MAX + DOCKER_CONFIG_MAX * 8);
	r = fetch_with(u, &a, err);
	arena_fini(&a);
	return r;
}

/* Under the lock. What failed while we waited for the lock is not tried again by each who waited:
 * a token server that is down would hold them one after the other. tries: before the wait. */
static may_suspend int try_to_get(struct auth_use *u, unsigned tries,
				  may_suspend int (*get)(struct auth_use *u, struct err *err),
				  struct err *err)
{
	struct token *t = u->token;
	struct err e = ERR_INIT;
	int r;

	if (t->tries != tries && t->failure.code < 0)
		return err_set(err, t->failure.code, "%s", t->failure.text);
	r = get(u, &e);
	if (r != -ECANCELED && r != -ENOMEM) {
		t->tries++;
		t->failure = e;
	}
	return r < 0 ? err_set(err, r, "%s", err_text(&e, r)) : 0;
}

static may_suspend int bearer(struct auth_use *u, const char **ret, struct err *err)
{
	struct token *t = u->token;
	unsigned tries = t->tries;
	int r = mutex_lock(&t->lock);

	if (r < 0)
		return err_set(err, r, "cancelled");
	if (!t->value || t->expires_ns <= loop_now_ns(u->auth->loop))
		r = try_to_get(u, tries, fetch, err);
	if (r == 0) {
		u->used = true;
		u->no = t->no;
		*ret = arena_printf(u->arena, "Authorization: Bearer %s", t->value);
		if (!*ret)
			r = err_set(err, -ENOMEM, "out of memory");
	}
	mutex_unlock(&t->lock);
	return r;
}

/* --- basic ----------------------------------------------------------------------------------- */

static int keep_basic(struct auth_use *u, const struct creds *c, struct err *err)
{
	auto_buf struct buf b = BUF_INIT;
	char *copy = NULL;
	int r;

	if (c->token.len) {
		r = token_valid(c->token)
			    ? buf_printf(&b, "Authorization: Bearer " STR_FMT, STR_ARG(c->token))
			    : -EINVAL;
	} else if (c->user.len) {
		r = basic_header(c->user, c->secret, &b);
	} else {
		return err_set(err, -EACCES,
			       "it wants a user and a password, and none are known for %s",
			       u->peer->authority);
	}
	if (r == 0)
		copy = strndup((char *)b.data, b.len);
	if (b.len)
		explicit_bzero(b.data, b.len);
	if (!copy)
		return err_set(err, r < 0 ? r : -ENOMEM, "credentials that cannot be sent");
	secret_free(&u->peer->basic);
	u->peer->basic = copy;
	u->peer->basic_no++;
	u->fresh = true;
	return 0;
}

static may_suspend int find_basic(struct auth_use *u, struct err *err)
{
	struct creds c = {.user = {0}};
	struct arena a;
	int r;

	arena_init(&a, DOCKER_CONFIG_MAX * 8);
	r = find_creds(u, &a, &c, err);
	if (r == 0)
		r = keep_basic(u, &c, err);
	arena_fini(&a);
	return r;
}

static may_suspend int basic(struct auth_use *u, const char **ret, struct err *err)
{
	unsigned tries = u->token->tries;
	int r = mutex_lock(&u->token->lock);

	if (r < 0)
		return err_set(err, r, "cancelled");
	if (!u->peer->basic)
		r = try_to_get(u, tries, find_basic, err);
	if (r == 0) {
		u->used = true;
		u->no = u->peer->basic_no;
		*ret = arena_strndup(u->arena, u->peer->basic, strlen(u->peer->basic));
		if (!*ret)
			r = err_set(err, -ENOMEM, "out of memory");
	}
	mutex_unlock(&u->token->lock);
	return r;
}

int auth_header(struct auth_use *u, const char **ret, struct err *err)
{
	*ret = NULL;
	u->used = u->fresh = false;
	if (u->peer->scheme == CHALLENGE_OTHER)
		return 0;
	if (!token_of(u))
		return err_set(err, -ENOMEM, "out of memory");
	return u->peer->scheme == CHALLENGE_BEARER ? bearer(u, ret, err) : basic(u, ret, err);
}

/* --- challenges ------------------------------------------------------------------------------ */

static int replace(char **to, struct str s)
{
	char *copy = s.p ? strndup(s.p, s.len) : NULL;

	if (s.p && !copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

/* The best challenge of all lines; scheme CHALLENGE_OTHER: none that we know. */
static struct challenge best_challenge(const struct http_head *head, struct arena *a)
{
	struct challenge best = {0}, list[CHALLENGES_MAX];
	struct url u;

	for (size_t i = 0; i < head->headers_n; i++) {
		size_t n = 0;

		if (str_eq(head->headers[i].name, STR("www-authenticate")))
			n = challenges_parse(head->headers[i].value, a, list, CHALLENGES_MAX);
		for (size_t k = 0; k < n; k++) {
			if (list[k].scheme == CHALLENGE_BEARER && url_parse(list[k].realm, &u) < 0)
				continue;
			if (list[k].scheme > best.scheme)
				best = list[k];
		}
	}
	return best;
}

static int learn(struct auth_use *u, const struct challenge *c)
{
	struct peer *p = u->peer;
	int r = 0;

	if (c->scheme == CHALLENGE_BEARER) {
		r = replace(&p->realm, c->realm);
		if (r == 0)
			r = replace(&p->service, c->service);
		if (r == 0)
			r = replace(&u->token->scope, c->scope);
		if (r < 0)
			return r;
	}
	p->scheme = c->scheme;
	return 0;
}

/* What was used is of no use any more, unless another has replaced it already. */
static void drop_used(struct auth_use *u)
{
	if (!u->used)
		return;
	if (u->peer->scheme == CHALLENGE_BEARER && u->token->no == u->no)
		u->token->expires_ns = 0;
	if (u->peer->scheme == CHALLENGE_BASIC && u->peer->basic_no == u->no)
		secret_free(&u->peer->basic);
}

static bool text_eq(const char *known, struct str s)
{
	return str_eq(str_of(known), s);
}

/* Does the challenge ask for something else than what was just tried? */
static bool is_news(const struct auth_use *u, const struct challenge *c)
{
	if (c->scheme != CHALLENGE_BEARER || u->challenged)
		return false;
	return u->peer->scheme != CHALLENGE_BEARER || !text_eq(u->peer->realm, c->realm) ||
	       !text_eq(u->peer->service, c->service) || !text_eq(u->token->scope, c->scope);
}

int auth_refused(struct auth_use *u, const struct http_head *head, struct err *err)
{
	struct challenge c = best_challenge(head, u->arena);
	int r;

	if (!token_of(u))
		return err_set(err, -ENOMEM, "out of memory");
	if ((u->fresh && !is_news(u, &c)) || (head->status == 403 && !u->used))
		return err_set(err, -EACCES, "refused");
	drop_used(u);
	if (head->status == 403)
		return 0;
	if (c.scheme == CHALLENGE_OTHER)
		return err_set(err, -EACCES,
			       "it wants to know who asks, in no way that is known here");
	u->challenged = true;
	r = learn(u, &c);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}
