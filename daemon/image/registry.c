// SPDX-License-Identifier: Apache-2.0
/*
 * Registries. Owns what is known of hosts, tokens and places of blobs; a request lives in the frame
 * of its task. Loop thread; hosts.toml is read by threads.
 */
#include "image/registry_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/limits.h"
#include "image/blob.h"
#include "image/plain.h"
#include "loop/loop.h"
#include "loop/sync.h"
#include "loop/work.h"

#include "base/banned.h"

#define NS_PER_MS 1000000ull
#define ACCEPT                                                                                     \
	"Accept: application/vnd.docker.distribution.manifest.v2+json, "                           \
	"application/vnd.docker.distribution.manifest.list.v2+json, "                              \
	"application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*"

/* A namespace: the hosts that serve it. */
struct space {
	struct map_node node;
	unsigned users;
	struct mutex lock; /* one reads the file */
	struct hosts *hosts;
	uint64_t due_ns; /* then it is read again */
	char name[];
};

/* --- hosts ----------------------------------------------------------------------------------- */

static void hosts_unref(struct hosts *h)
{
	if (h && --h->refs == 0)
		hosts_free(h);
}

static void space_free(struct registry *r, struct space *s)
{
	map_del(&r->spaces, &s->node);
	hosts_unref(s->hosts);
	free(s);
}

/* Those that nobody uses now. */
static void spaces_clear(struct registry *r)
{
	for (size_t i = 0; r->spaces.slots && i < r->spaces.size; i++) {
		struct map_node *n = r->spaces.slots[i], *next;

		for (; n; n = next) {
			struct space *s = container_of(n, struct space, node);

			next = n->next;
			if (s->users == 0)
				space_free(r, s);
		}
	}
}

static struct space *space_get(struct registry *r, const char *name)
{
	struct map_node *n = map_get(&r->spaces, str_of(name));
	size_t len = strlen(name);
	struct space *s;

	if (n)
		return container_of(n, struct space, node);
	if (r->spaces.count >= REGISTRY_NAMESPACES_MAX)
		spaces_clear(r);
	s = calloc(1, sizeof(*s) + len + 1);
	if (!s)
		return NULL;
	memcpy(s->name, name, len);
	s->node.key = (struct str){s->name, len};
	mutex_init(&s->lock);
	map_put(&r->spaces, &s->node);
	return s;
}

struct load_job {
	const char *dirs, *ns, *plain_file;
	struct hosts *hosts;
	struct err err;
};

static int load_job(void *arg)
{
	struct load_job *j = arg;

	int r = hosts_load(j->dirs, j->ns, &j->hosts, &j->err);

	if (r == 0 && plain_has(j->plain_file, j->ns) == 1)
		hosts_make_plain(j->hosts);
	return r;
}

/* Only those that one may pull from. */
static void keep_pull(struct hosts *h)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++) {
		if (h->list[i].can & HOST_PULL)
			h->list[n++] = h->list[i];
	}
	h->n = n;
}

static may_suspend int load(struct registry *r, struct space *s, struct err *err)
{
	struct load_job j = {r->hosts_dirs, s->name, r->plain_file, NULL, ERR_INIT};
	bool reads = r->hosts_dirs || r->plain_file;
	int e = reads ? work_run(r->threads, load_job, &j) : load_job(&j);

	if (e < 0)
		return err_set(err, e, "%s", err_text(&j.err, e));
	keep_pull(j.hosts);
	j.hosts->refs = 1;
	hosts_unref(s->hosts);
	s->hosts = j.hosts;
	s->due_ns = r->hosts_dirs ? loop_now_ns(r->ex.loop) + REGISTRY_HOSTS_FRESH_MS * NS_PER_MS
				  : UINT64_MAX;
	return 0;
}

static may_suspend int hosts_get(struct registry *r, const char *ns, struct hosts **ret,
				 struct err *err)
{
	struct space *s = space_get(r, ns);
	int e = 0;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->users++;
	if (!s->hosts || s->due_ns <= loop_now_ns(r->ex.loop)) {
		e = mutex_lock(&s->lock);
		if (e < 0) {
			err_set(err, e, "cancelled");
		} else {
			if (!s->hosts || s->due_ns <= loop_now_ns(r->ex.loop))
				e = load(r, s, err);
			mutex_unlock(&s->lock);
		}
	}
	s->users--;
	if (e < 0)
		return e;
	s->hosts->refs++;
	*ret = s->hosts;
	return 0;
}

/* --- tries ----------------------------------------------------------------------------------- */

static uint64_t random_next(struct registry *r)
{
	r->random ^= r->random >> 12;
	r->random ^= r->random << 25;
	r->random ^= r->random >> 27;
	return r->random * 0x2545F4914F6CDD1Dull;
}

/* Milliseconds that are left; pauses are not counted. */
static unsigned time_left(const struct pull *p)
{
	uint64_t all = REGISTRY_REQUEST_TIMEOUT_MS + p->size * 1000 / REGISTRY_BYTES_A_SECOND;
	uint64_t spent = loop_now_ns(p->r->ex.loop) - p->start_ns;

	if (p->class == FETCH_BACKGROUND)
		spent -= budget_paused_ns(&p->r->budget) - p->paused_ns;
	spent /= NS_PER_MS;
	if (all > UINT32_MAX / 2)
		all = UINT32_MAX / 2;
	return spent < all ? (unsigned)(all - spent) : 0;
}

static may_suspend int try_once(struct pull *p, unsigned i, struct err *err)
{
	struct registry *r = p->r;
	struct exchange x = {.all = &r->ex,
			     .host = &p->hosts->list[i],
			     .ns = p->ref.host,
			     .repository = p->ref.repository,
			     .what = p->what,
			     .class = p->class,
			     .urgent = p->urgent,
			     .arena = &p->arena};
	int e = budget_enter(&r->budget, p->class);

	if (e < 0)
		return err_set(err, e, "cancelled");
	if (!p->started) {
		p->started = true;
		p->start_ns = loop_now_ns(r->ex.loop);
		p->paused_ns = budget_paused_ns(&r->budget);
	}
	arena_reset(&p->arena);
	p->progress = false;
	p->host = i;
	x.timeout_ms = time_left(p);
	if (p->large)
		budget_large(&r->budget, true);
	e = p->attempt(p, &x, err);
	if (p->large)
		budget_large(&r->budget, false);
	budget_leave(&r->budget, p->class);
	p->status = x.status;
	p->wait_ms = x.wait_ms;
	return e;
}

static bool may_help(int e)
{
	return e == -EIO || e == -EAGAIN || e == -ETIMEDOUT || e == -ECONNREFUSED ||
	       e == -EHOSTUNREACH || e == -ECONNRESET || e == -EHOSTDOWN || e == -EPROTO;
}

/* Before try number n + 1 of the last host. */
static unsigned pause_ms(struct pull *p, unsigned n)
{
	unsigned ms = REGISTRY_RETRY_MS;

	for (unsigned i = 1; i < n; i++)
		ms *= 3;
	if (p->wait_ms > ms)
		ms = p->wait_ms;
	return ms + (unsigned)(random_next(p->r) >> 33) % (ms / 2 + 1);
}

/* A name that is mistyped, or a registry that is off, is told soon; what is under way is patient. A
 * connection that was waited for in vain has taken its time. */
static unsigned tries_max(const struct pull *p, int e)
{
	if (p->asks && e == -ETIMEDOUT)
		return 1;
	return p->asks && (e == -ECONNREFUSED || e == -EHOSTUNREACH || e == -EHOSTDOWN)
		       ? REGISTRY_ASK_TRIES
		       : REGISTRY_TRIES;
}

/* last: there is no other host to try. */
static may_suspend int try_host(struct pull *p, unsigned i, bool last, struct err *err)
{
	unsigned n = 0, ms;
	int e;

	for (;;) {
		e = try_once(p, i, err);
		if (e == 0 || p->once || !may_help(e))
			return e;
		if (p->progress) { /* go on where it broke off, now */
			n = 0;
			p->r->ex.stats.retries++;
			continue;
		}
		n++;
		if (!last && (n > 1 || (e != -ECONNRESET && e != -EPROTO)))
			return e;
		ms = pause_ms(p, n);
		if (n >= tries_max(p, e) || time_left(p) <= ms)
			return e;
		/* It has gone while nobody used it, most likely: at once, by another one. */
		if (n == 1 && e == -ECONNRESET && !p->wait_ms)
			ms = 0;
		if (task_sleep_ms(ms) < 0)
			return err_set(err, -ECANCELED, "cancelled");
		p->r->ex.stats.retries++;
	}
}

static bool skipped(const struct pull *p, size_t i)
{
	return i >= 32 || p->skip_hosts & 1u << i;
}

/* Ends the request whatever the other hosts might say. */
static bool is_final(const struct pull *p, int e)
{
	return e == -ECANCELED || e == -ENOMEM || time_left(p) == 0;
}

static may_suspend int try_hosts(struct pull *p, struct err *err)
{
	size_t n = p->hosts->n, next;
	int e = err_set(err, -EBADMSG, "%s/%s: no host is left to ask", p->ref.host,
			p->ref.repository);

	for (size_t i = 0; i < n; i = next) {
		for (next = i + 1; next < n && skipped(p, next); next++)
			;
		if (skipped(p, i))
			continue;
		e = try_host(p, (unsigned)i, next >= n, err);
		if (e == 0 || is_final(p, e))
			return e;
	}
	return e;
}

may_suspend int pull_run(struct pull *p, struct str ref, struct err *err)
{
	int e = ref_parse(ref, &p->names, &p->ref, err);

	if (e == 0)
		e = hosts_get(p->r, p->ref.host, &p->hosts, err);
	if (e < 0)
		return e;
	return try_hosts(p, err);
}

void pull_init(struct pull *p, struct registry *r, enum fetch_class class, const char *kind,
	       const struct digest *digest)
{
	char text[DIGEST_TEXT_SIZE];

	*p = (struct pull){.r = r, .class = class};
	digest_text(digest, text);
	snprintf(p->what, sizeof(p->what), "%s/%s", kind, text);
	arena_init(&p->names, KiB(16));
	arena_init(&p->arena, REGISTRY_MEMORY_MAX);
}

void pull_fini(struct pull *p)
{
	hosts_unref(p->hosts);
	arena_fini(&p->names);
	arena_fini(&p->arena);
}

/* --- manifests ------------------------------------------------------------------------------- */

struct manifest {
	struct buf body;
	const struct digest *digest; /* NULL: what it is says which one */
	struct digest is;
	struct str claimed; /* by the host; of the last head */
	struct str type;
	struct arena *arena; /* of the words above; NULL = they are not wanted */
};

static int manifest_words(struct manifest *m, const struct http_head *head)
{
	struct str claimed = http_header(head, "docker-content-digest");
	struct str type = http_header(head, "content-type");

	if (!m->arena)
		return 0;
	m->claimed = (struct str){arena_strndup(m->arena, claimed.p, claimed.len), claimed.len};
	m->type = (struct str){
		arena_strndup(m->arena, type.p, strcspn(type.len ? type.p : "", "; ")), type.len};
	if (m->type.p)
		m->type.len = strlen(m->type.p);
	return m->claimed.p && m->type.p ? 0 : -ENOMEM;
}

static int manifest_head(void *arg, const struct http_head *head)
{
	uint64_t n;
	int r = manifest_words(arg, head);

	if (r < 0)
		return r;
	if (head->status != 200)
		return -EPROTO;
	return str_u64(http_header(head, "content-length"), &n) == 0 && n > MANIFEST_MAX ? -EFBIG
											 : 0;
}

static int manifest_body(void *arg, const void *data, size_t n)
{
	struct manifest *m = arg;

	return m->body.len + n > MANIFEST_MAX ? -EFBIG : buf_append(&m->body, data, n);
}

struct hash_job {
	const struct buf *body;
	struct digest digest;
};

static int hash_job(void *arg)
{
	struct hash_job *j = arg;

	sha256(j->body->data, j->body->len, &j->digest);
	return 0;
}

static may_suspend int manifest_attempt(struct pull *p, struct exchange *x, struct err *err)
{
	struct manifest *m = p->arg;
	struct hash_job j = {.body = &m->body};
	struct digest claimed;
	int e;

	m->body.len = 0;
	x->headers[x->headers_n++] = ACCEPT;
	x->on_head = manifest_head;
	x->on_body = manifest_body;
	x->arg = m;
	e = exchange_run(x, err);
	if (e == -EFBIG)
		return err_set(err, e, "%s: a manifest larger than %zu bytes", x->host->authority,
			       MANIFEST_MAX);
	if (e < 0)
		return e;
	e = m->body.len > KiB(64) ? work_run(p->r->threads, hash_job, &j) : hash_job(&j);
	if (e < 0)
		return err_set(err, e, "too much work");
	m->is = j.digest;
	if (!m->digest && (!m->claimed.len || digest_parse(m->claimed, &claimed) < 0 ||
			   digest_eq(&claimed, &m->is)))
		return 0;
	if (!m->digest || !digest_eq(&j.digest, m->digest))
		return err_set(err, -EBADMSG, "%s: the manifest is not the one of its digest",
			       x->host->authority);
	return 0;
}

/* m->body is the caller's if it is 0. */
static may_suspend int manifest_pull(struct pull *p, struct manifest *m, struct str ref,
				     struct err *err)
{
	int e;

	p->attempt = manifest_attempt;
	p->arg = m;
	e = pull_run(p, ref, err);
	pull_fini(p);
	if (e < 0)
		buf_fini(&m->body);
	return e;
}

may_suspend int registry_manifest(struct registry *r, struct str ref, const struct digest *digest,
				  enum fetch_class class, struct buf *ret_body, struct err *err)
{
	struct manifest m = {.digest = digest};
	struct pull p;
	int e;

	pull_init(&p, r, class, "manifests", digest);
	e = manifest_pull(&p, &m, ref, err);
	if (e == 0)
		*ret_body = m.body;
	return e;
}

may_suspend int registry_resolve(struct registry *r, struct str ref, struct arena *a,
				 struct buf *ret_body, struct digest *ret_digest,
				 struct str *ret_type, struct err *err)
{
	struct manifest m = {.arena = a};
	struct digest digest = {{0}};
	auto_arena struct arena names;
	struct ref parts;
	struct pull p;
	int e;

	arena_init(&names, KiB(16));
	e = ref_parse(ref, &names, &parts, err);
	if (e < 0)
		return e;
	if (parts.digest.len && digest_parse(parts.digest, &digest) < 0)
		return err_set(err, -EINVAL, "digests are sha256 here: " STR_FMT,
			       STR_ARG(parts.digest));
	pull_init(&p, r, FETCH_DEMAND, "manifests", &digest);
	p.asks = true;
	if (parts.digest.len)
		m.digest = &digest;
	else
		snprintf(p.what, sizeof(p.what), "manifests/" STR_FMT, STR_ARG(parts.tag));
	e = manifest_pull(&p, &m, ref, err);
	if (e < 0)
		return e;
	*ret_body = m.body;
	*ret_digest = m.is;
	*ret_type = m.type;
	return 0;
}

/* --- what pulls tell of hosts ---------------------------------------------------------------- */

struct plain_job {
	const char *file, *host;
	struct err *err;
};

static int plain_job(void *arg)
{
	struct plain_job *j = arg;

	return plain_add(j->file, j->host, j->err);
}

may_suspend int registry_plain(struct registry *r, struct str ref, struct err *err)
{
	auto_arena struct arena names;
	struct map_node *n;
	struct ref parts;
	int e;

	arena_init(&names, KiB(16));
	e = ref_parse(ref, &names, &parts, err);
	if (e == 0 && !r->plain_file)
		e = err_set(err, -EOPNOTSUPP, "there is no place to note it");
	if (e == 0)
		e = work_run(r->threads, plain_job,
			     &(struct plain_job){r->plain_file, parts.host, err});
	n = e == 1 ? map_get(&r->spaces, str_of(parts.host)) : NULL;
	if (n) /* read again before the next request */
		container_of(n, struct space, node)->due_ns = 0;
	return e < 0 ? e : 0;
}

int registry_login(struct registry *r, struct str ref, struct str user, struct str secret,
		   struct err *err)
{
	auto_arena struct arena names;
	struct ref parts;
	int e;

	arena_init(&names, KiB(16));
	e = ref_parse(ref, &names, &parts, err);
	return e < 0 ? e : auth_login(r->ex.auth, parts.host, user, secret, err);
}

/* --- blobs ----------------------------------------------------------------------------------- */

/* One exchange; 1: its answer was good, and there is more to ask this host for. */
static may_suspend int blob_once(struct pull *p, struct exchange *x, struct err *err)
{
	struct blob_part *part = p->arg;
	char range[80];
	uint64_t before = part->pos;
	bool known = part->known;
	int e;

	blob_range(part, range, sizeof(range));
	x->headers_n = 0;
	x->headers[x->headers_n++] = range;
	e = exchange_run(x, err);
	if (part->whole && part->known) /* the next try has time for all of that */
		p->size = part->end;
	p->progress = part->known && known ? part->pos > before : part->known;
	if (part->given < 0)
		return err_set(err, part->given, "the bytes were not taken");
	if (blob_complete(part))
		return 0;
	if (!part->known && !part->no_suffix && (part->wrong || e == -ERANGE || e == -EBADMSG)) {
		part->no_suffix = true;
		return 1;
	}
	if (part->wrong)
		return err_set(err, -EBADMSG, "%s: %s", x->host->authority, part->why);
	if (e == -ERANGE)
		return err_set(err, -EBADMSG, "%s: the range is outside of the blob",
			       x->host->authority);
	if (e == 0 && part->probe)
		return 1;
	if (e == 0)
		return err_set(err, -ECONNRESET, "%s: the answer ends too early",
			       x->host->authority);
	return e;
}

static may_suspend int blob_attempt(struct pull *p, struct exchange *x, struct err *err)
{
	int e = 1;

	x->blob = true;
	x->on_head = blob_on_head;
	x->on_body = blob_on_body;
	x->arg = p->arg;
	for (int i = 0; e == 1 && i < 3; i++)
		e = blob_once(p, x, err);
	return e == 1 ? err_set(err, -EBADMSG, "%s: it does not say the size of the blob",
				x->host->authority)
		      : e;
}

static void fill_answer(const struct pull *p, const struct blob_part *part, struct blob_answer *ret)
{
	*ret = (struct blob_answer){.blob_size = part->total, .host = p->host, .status = p->status};
	if (!p->hosts)
		return;
	ret->hosts_n = (uint32_t)p->hosts->n;
	if (p->host < p->hosts->n)
		snprintf(ret->host_name, sizeof(ret->host_name), "%s",
			 p->hosts->list[p->host].authority);
}

may_suspend int registry_blob(struct registry *r, const struct blob_request *q,
			      struct blob_answer *ret, struct err *err)
{
	struct blob_part part;
	struct pull p;
	int e;

	*ret = (struct blob_answer){0};
	if (q->len == 0 || (q->off != BLOB_TAIL && q->off + q->len < q->off))
		return err_set(err, -EINVAL, "not a part of a blob");
	blob_start(&part, q);
	pull_init(&p, r, q->class, "blobs", &q->digest);
	p.attempt = blob_attempt;
	p.arg = &part;
	p.skip_hosts = q->skip_hosts;
	p.urgent = q->urgent;
	p.large = q->class != FETCH_BACKGROUND && q->len >= REGISTRY_LARGE;
	p.size = q->len;
	e = pull_run(&p, q->ref, err);
	fill_answer(&p, &part, ret);
	pull_fini(&p);
	return e;
}

/* --- life ------------------------------------------------------------------------------------ */

static int copy(char **to, const char *s)
{
	*to = s ? strdup(s) : NULL;
	return s && !*to ? -ENOMEM : 0;
}

static int start(struct registry *r, struct loop *loop, struct http *http,
		 const struct registry_options *o, struct err *err)
{
	struct auth_options ao;

	if (copy(&r->hosts_dirs, o->hosts_dirs) < 0 || copy(&r->plain_file, o->plain_file) < 0 ||
	    copy(&r->docker_config, o->docker_config) < 0)
		return -ENOMEM;
	if (asprintf(&r->user_agent, "User-Agent: %s",
		     o->user_agent ? o->user_agent : "firstlight") < 0) {
		r->user_agent = NULL;
		return -ENOMEM;
	}
	budget_init(&r->budget, loop, http);
	r->ex.loop = loop;
	r->ex.http = http;
	r->ex.user_agent = r->user_agent;
	if (peers_init(&r->ex.peers) < 0 || locations_init(&r->ex.locations) < 0 ||
	    map_init(&r->spaces) < 0)
		return -ENOMEM;
	if (getrandom(&r->random, sizeof(r->random), 0) != sizeof(r->random))
		return -EIO;
	r->random |= 1;
	ao = (struct auth_options){r->docker_config, r->user_agent, o->logins_fd};
	return auth_new(loop, http, r->threads, &ao, &r->ex.auth, err);
}

static void destroy(struct registry *r)
{
	auth_free(r->ex.auth);
	spaces_clear(r);
	map_fini(&r->spaces);
	if (r->ex.locations.map.slots)
		locations_fini(&r->ex.locations);
	if (r->ex.peers.map.slots)
		peers_fini(&r->ex.peers);
	free(r->hosts_dirs);
	free(r->plain_file);
	free(r->docker_config);
	free(r->user_agent);
	free(r);
}

int registry_new(struct loop *loop, struct http *http, struct work *threads,
		 const struct registry_options *options, struct registry **ret, struct err *err)
{
	struct registry *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return err_set(err, -ENOMEM, "out of memory");
	r->threads = threads;
	e = start(r, loop, http, options, err);
	if (e < 0) {
		destroy(r);
		return err_set(err, e, "out of memory");
	}
	*ret = r;
	return 0;
}

void registry_free(struct registry *r)
{
	if (!r)
		return;
	for (int i = 0; i < FETCH_CLASSES; i++)
		require(r->budget.running[i] == 0 && r->budget.waiting[i] == 0);
	destroy(r);
}

void registry_urgent(struct registry *r)
{
	http_urgent(r->ex.http);
}

void registry_stats(const struct registry *r, struct registry_stats *ret)
{
	*ret = r->ex.stats;
	ret->breakers = breakers_open(&r->ex.peers);
	memcpy(ret->running, r->budget.running, sizeof(ret->running));
	memcpy(ret->waiting, r->budget.waiting, sizeof(ret->waiting));
}

const struct registry_host *registry_hosts(const struct registry *r, size_t *ret_n)
{
	*ret_n = array_size(r->ex.peers.told);
	return r->ex.peers.told;
}

may_suspend const char *registry_address(struct registry *r, const char *ns, const char *path,
					 struct arena *a)
{
	struct hosts *h;
	const char *url = NULL;

	if (hosts_get(r, ns, &h, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < h->n && !url; i++) {
		const struct host *one = &h->list[i];
		struct peer *p = peer_get(&r->ex.peers, str_of(one->authority));
		bool https = one->https && !(one->fallback && p && p->plain);

		if (p)
			peer_put(p);
		if (!one->ns)
			url = arena_printf(a, "%s://%s%s", https ? "https" : "http", one->authority,
					   path);
	}
	hosts_unref(h);
	return url;
}
