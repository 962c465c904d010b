// SPDX-License-Identifier: Apache-2.0
/*
 * Reads that wait for chunks, and the life of flights. Owns the flights; each is fetched once for
 * all who wait. Loop thread.
 */
#include "image/fetch.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "image/fetch_impl.h"

#include "base/banned.h"

#define NEED_ROUNDS                                                                                \
	4 /* what was brought and is not here all the same is fetched again so often               \
	   */

bool fetch_busy(const struct fetcher *f)
{
	return f->stats.waiting || f->demands;
}

bool fetch_may_log(struct fetcher *f, uint64_t what)
{
	struct log_slot *s = &f->logged[what % FETCH_SLOTS];
	uint64_t now = loop_now_ns(f->loop);

	if (s->what == what && s->at_ns && now - s->at_ns < FETCH_LOG_EVERY_MS * NS_PER_MS)
		return false;
	*s = (struct log_slot){what, now};
	return true;
}

struct readahead *fetch_ahead(struct fetcher *f, uint32_t layer)
{
	struct readahead *ra = &f->ahead[layer % FETCH_SLOTS];

	if (ra->layer != layer)
		readahead_init(ra, layer);
	return ra;
}

/* --- flights ------------------------------------------------------------------------------------
 */

static struct str name_key(const struct flight_name *n)
{
	return (struct str){(const char *)n, sizeof(*n)};
}

struct flight *flight_get(struct fetcher *f, const struct digest *key, uint32_t chunk)
{
	struct flight_name name = {*key, chunk};
	struct map_node *n = map_get(&f->flights, name_key(&name));

	return n ? container_of(n, struct flight, node) : NULL;
}

struct flight *flight_new(struct fetcher *f, const struct flight_what *w)
{
	struct flight *fl = calloc(1, sizeof(*fl));

	if (!fl)
		return NULL;
	fl->f = f;
	fl->name = (struct flight_name){w->key, w->chunk};
	fl->digest = w->digest;
	fl->content_size = w->content_size;
	fl->chunks_n = w->chunks_n;
	fl->obj = w->obj ? object_ref(w->obj) : NULL;
	fl->layer = w->layer;
	fl->index = w->index;
	if (w->c)
		fl->c = *w->c;
	waitq_init(&fl->done);
	list_init(&fl->link);
	fl->node.key = name_key(&fl->name);
	map_put(&f->flights, &fl->node);
	return fl;
}

struct flight *flight_for(struct fetcher *f, struct object *obj, uint32_t chunk)
{
	const struct flight_what w = {.key = obj->key,
				      .digest = obj->digest,
				      .content_size = obj->size,
				      .chunk = chunk,
				      .chunks_n = obj->chunks_n,
				      .obj = obj};

	return flight_new(f, &w);
}

static void flight_free(struct flight *fl)
{
	if (fl->obj)
		object_unref(fl->f->objects, fl->obj);
	free(fl->err);
	free(fl);
}

/* Out of the lists and its transfer. */
static void flight_leave(struct flight *fl)
{
	list_del(&fl->link);
	if (fl->in)
		fl->in->flights[fl->slot] = NULL;
	fl->in = NULL;
	fl->bad = false;
}

static void flight_note(struct flight *fl, const struct err *err)
{
	if (!err || !err->code)
		return;
	if (!fl->err)
		fl->err = malloc(sizeof(*fl->err));
	if (fl->err)
		*fl->err = *err;
}

struct recent *recent_slot(struct fetcher *f, const struct digest *key)
{
	uint32_t i;

	memcpy(&i, key->bytes, sizeof(i));
	return &f->recent[i % FETCH_RECENT];
}

void flight_end(struct fetcher *f, struct flight *fl, int result, struct err *err)
{
	flight_leave(fl);
	if (result == 0 && fl->chunks_n == 1 && !fl->unwritten)
		*recent_slot(f, &fl->name.key) = (struct recent){fl->name.key, ++f->turn};
	map_del(&f->flights, &fl->node);
	fl->ended = true;
	fl->result = result;
	if (result < 0)
		flight_note(fl, err);
	waitq_wake_all(&fl->done);
	if (!fl->waiters)
		flight_free(fl);
}

static void demand_met(struct fetcher *f)
{
	uint64_t now = loop_now_ns(f->loop);

	if (!f->demand_ns || now - f->demand_ns > FETCH_QUIET_MS * NS_PER_MS)
		f->busy_ns = now;
	f->demand_ns = now;
}

void flight_want(struct fetcher *f, struct flight *fl)
{
	list_del(&fl->link);
	list_push(fl->ahead ? &f->foreseen : &f->wanted, &fl->link);
	fl->due_ns = 0;
	demand_met(f);
	f->hot = fl->layer;
	loop_defer(f->loop, &f->dispatch);
}

/* All sources have failed, but that may change: later, from the first one on. */
static void flight_pause(struct fetcher *f, struct flight *fl)
{
	uint64_t ms = FETCH_PAUSE_MS;

	for (uint32_t i = 0; i < fl->rounds && ms < FETCH_PAUSE_MAX_MS; i++)
		ms *= 2;
	fl->rounds++;
	fl->tries = 0;
	fl->transient = false;
	fl->source = fl->ref = fl->skip_hosts = 0;
	fl->due_ns = loop_now_ns(f->loop) +
		     (ms < FETCH_PAUSE_MAX_MS ? ms : FETCH_PAUSE_MAX_MS) * NS_PER_MS;
	list_push(&f->paused, &fl->link);
	if (!f->unpause.slot || f->unpause.due_ns > fl->due_ns)
		timer_set(f->loop, &f->unpause, fl->due_ns);
}

static void unpause(struct timer *t)
{
	struct fetcher *f = container_of(t, struct fetcher, unpause);
	uint64_t now = loop_now_ns(f->loop), next = UINT64_MAX;
	struct list *l, *tmp;
	struct err err = ERR_INIT;

	list_for_each_safe (l, tmp, &f->paused) {
		struct flight *fl = container_of(l, struct flight, link);

		if (fl->due_ns > now)
			next = fl->due_ns < next ? fl->due_ns : next;
		else if (chunk_place(f, fl, &err) == 0)
			flight_want(f, fl);
		else
			flight_end(f, fl, -EIO, &err);
	}
	if (next != UINT64_MAX)
		timer_set(f->loop, &f->unpause, next);
}

/* Errors of a registry that another day may not have. */
static bool passes(int code)
{
	return code != -ENOENT && code != -EACCES && code != -EBADMSG && code != -EINVAL &&
	       code != -EFBIG;
}

/* The next host, reference or source. */
static void flight_next(struct flight *fl, const struct flight_failure *why)
{
	uint32_t all = why->hosts_n >= 32 ? UINT32_MAX : (1u << why->hosts_n) - 1;

	fl->tries++;
	if (why->fault == FAULT_BYTES && !why->hosts_n)
		return; /* they came early: nobody knows from where */
	if (why->fault == FAULT_BYTES && why->host < 32) {
		fl->skip_hosts |= 1u << why->host;
		if (~fl->skip_hosts & all)
			return;
	}
	/* An answer that contradicts itself may have been cut on its way: it is not believed, and
	 * asked for again some times. */
	if (why->fault == FAULT_REGISTRY &&
	    (passes(why->code) || (why->code == -EBADMSG && fl->rounds < FETCH_WRONG_ROUNDS)))
		fl->transient = true;
	fl->ref++;
	fl->skip_hosts = 0;
}

void flight_failed(struct fetcher *f, struct flight *fl, const struct flight_failure *why,
		   struct err *err)
{
	struct err place = ERR_INIT;

	flight_leave(fl);
	if (!fl->waiters || f->scope.cancelled) {
		flight_end(f, fl, f->scope.cancelled ? -ECANCELED : -EIO, err);
		return;
	}
	if (fl->along)
		fl->source = fl->ref = fl->skip_hosts = 0;
	else if (why->fault != FAULT_NONE)
		flight_next(fl, why);
	fl->along = false;
	if (why->fault != FAULT_NONE)
		flight_note(fl, err);
	if (fl->tries < FETCH_TRIES_MAX && chunk_place(f, fl, &place) == 0)
		flight_want(f, fl);
	else if (fl->transient)
		flight_pause(f, fl);
	else
		flight_end(f, fl, -EIO, fl->err ? NULL : &place);
}

/* Nobody waits any more for what nobody brings. */
static void flight_unwait(struct flight *fl)
{
	if (--fl->waiters)
		return;
	if (fl->ended) {
		flight_free(fl);
		return;
	}
	if (!fl->in && !fl->putting)
		flight_end(fl->f, fl, -ECANCELED, NULL);
}

/* --- reads --------------------------------------------------------------------------------------
 */

static bool chunk_here(const struct object *obj, uint32_t chunk)
{
	return obj->complete || object_has_chunk(obj, chunk);
}

may_suspend static int put_zeros(void *arg)
{
	struct flight *fl = arg;
	struct err err = ERR_INIT;
	int r = objects_put_chunk(fl->f->objects, fl->obj, fl->name.chunk, &err);

	fl->putting = false;
	flight_end(fl->f, fl, r < 0 ? -EIO : 0, &err);
	return 0;
}

static int want_new(struct fetcher *f, struct object *obj, uint32_t chunk, bool exact,
		    struct flight **ret, struct err *err)
{
	struct flight *fl = flight_for(f, obj, chunk);
	struct err why = ERR_INIT;
	int r;

	if (!fl)
		return err_set(err, -EIO, "out of memory");
	fl->exact = fl->ahead = exact;
	r = chunk_place(f, fl, &why);
	if (r == 0 && fl->c.zeros) {
		r = scope_spawn(&f->scope, put_zeros, fl, NULL);
		fl->putting = r == 0;
	} else if (r == 0) {
		flight_want(f, fl);
	}
	if (r < 0) {
		flight_end(f, fl, -EIO, NULL);
		return err_set(err, -EIO, "%s", why.code ? why.text : "no layer has it");
	}
	*ret = fl;
	return 0;
}

static int want_chunk(struct fetcher *f, struct object *obj, uint32_t chunk, bool exact,
		      struct flight **ret, struct err *err)
{
	struct flight *fl = flight_get(f, &obj->key, chunk);
	int r;

	if (!fl) {
		r = want_new(f, obj, chunk, exact, &fl, err);
		if (r < 0)
			return r;
	}
	if (!fl->obj)
		fl->obj = object_ref(obj);
	if (!fl->waiters && fl->in && transfer_overtake(fl)) {
		fl->along = false;
		fl->source = fl->ref = fl->skip_hosts = 0;
		if (chunk_place(f, fl, err) < 0) {
			flight_end(f, fl, -EIO, NULL);
			return err_set(err, -EIO, "no layer has it");
		}
		flight_want(f, fl);
	}
	if (fl->ahead && !exact) {
		fl->ahead = false;
		if (fl->in)
			early_hurry(fl->in);
		else if (!fl->putting && !fl->due_ns)
			flight_want(f, fl);
	}
	fl->waiters++;
	*ret = fl;
	return 0;
}

struct need {
	struct fetcher *f;
	struct object *obj;
	uint64_t pos, end, began_ns, due_ns;
	struct flight *flights[FETCH_NEED_CHUNKS];
	size_t n;
	bool waited, exact;
	uint32_t layer, chunk; /* that is looked at */
	struct err *err;
};

static struct late_chunk *late_slot(struct fetcher *f, uint64_t number, uint32_t chunk)
{
	return &f->late[(number * 31 + chunk) % FETCH_SLOTS];
}

/* After a READ of its readahead that failed, the kernel asks for the first page alone: that one is
 * not to wait as long again. */
static bool late_lately(const struct need *nd, uint32_t chunk)
{
	const struct late_chunk *lc = late_slot(nd->f, nd->obj->number, chunk);

	return lc->at_ns && lc->number == nd->obj->number && lc->chunk == chunk &&
	       nd->began_ns >= lc->at_ns && nd->began_ns - lc->at_ns < FETCH_FAILED_MS * NS_PER_MS;
}

/* Asks for the missing chunks from pos on; ret_pos: how far it came. */
static int need_collect(struct need *nd, uint64_t *ret_pos)
{
	uint64_t pos = nd->pos;
	struct chunk_found found;
	int r;

	nd->n = 0;
	while (pos < nd->end && nd->n < FETCH_NEED_CHUNKS) {
		uint64_t next;

		r = chunk_at(nd->f, nd->obj, pos, &found, nd->err);
		if (r < 0)
			return r;
		next = found.c->file_off + found.c->size;
		nd->layer = found.layer;
		nd->chunk = found.chunk;
		readahead_touch(fetch_ahead(nd->f, found.layer), found.c->blob_off);
		if (!chunk_here(nd->obj, found.chunk) &&
		    !memory_get(nd->f, &nd->obj->key, found.chunk)) {
			if (late_lately(nd, found.chunk))
				return err_set(nd->err, -EIO, "not here a moment ago");
			r = want_chunk(nd->f, nd->obj, found.chunk, nd->exact, &nd->flights[nd->n],
				       nd->err);
			if (r < 0)
				return r;
			nd->n++;
		}
		pos = next;
	}
	*ret_pos = pos;
	return 0;
}

static int need_timed_out(const struct need *nd, const struct flight *fl)
{
	for (size_t i = 0; i < nd->n; i++) {
		uint32_t chunk = nd->flights[i]->name.chunk;

		if (!nd->flights[i]->ended && !nd->exact)
			*late_slot(nd->f, nd->obj->number, chunk) = (struct late_chunk){
				nd->obj->number, loop_now_ns(nd->f->loop), chunk};
	}
	return err_set(nd->err, -EIO, "not here after %u s: %s", FETCH_READ_TIMEOUT_MS / 1000,
		       fl->err ? fl->err->text : "the registry is too slow");
}

may_suspend static int need_wait_one(struct need *nd, struct flight *fl)
{
	nd->chunk = fl->name.chunk;
	while (!fl->ended) {
		uint64_t now = loop_now_ns(nd->f->loop);
		int r = -ETIMEDOUT;

		if (now < nd->due_ns)
			r = waitq_wait_ms(&fl->done, (unsigned)((nd->due_ns - now + NS_PER_MS - 1) /
								NS_PER_MS));
		if (r == -ETIMEDOUT && !fl->ended)
			return need_timed_out(nd, fl);
		if (r == -ECANCELED)
			return r;
	}
	nd->layer = fl->layer;
	if (fl->result == 0)
		return 0;
	return err_set(nd->err, -EIO, "%s", fl->err ? fl->err->text : "the fetcher has ended");
}

may_suspend static int need_wait(struct need *nd)
{
	int r = 0;

	for (size_t i = 0; i < nd->n && r == 0; i++)
		r = need_wait_one(nd, nd->flights[i]);
	return r;
}

static void need_leave(struct need *nd)
{
	for (size_t i = 0; i < nd->n; i++)
		flight_unwait(nd->flights[i]);
	nd->n = 0;
}

may_suspend static int need_run(struct need *nd)
{
	unsigned rounds = 0;
	uint64_t next;
	int r = 0;

	while (r == 0 && nd->pos < nd->end && !nd->obj->complete) {
		if (nd->obj->damaged)
			return err_set(nd->err, -EIO, "its bytes do not have its digest");
		r = need_collect(nd, &next);
		if (r == 0 && nd->n == 0) {
			nd->pos = next;
			rounds = 0;
			continue;
		}
		if (r == 0 && rounds++ == NEED_ROUNDS)
			r = err_set(nd->err, -EIO, "its chunks do not stay");
		nd->waited = true;
		if (r == 0)
			r = need_wait(nd);
		need_leave(nd);
	}
	return r;
}

bool fetch_present(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len)
{
	uint64_t end = off < obj->size && len < obj->size - off ? off + len : obj->size;
	struct chunk_found found;

	if (obj->damaged)
		return false;
	for (uint64_t pos = off; pos < end && !obj->complete;) {
		if (chunk_at(f, obj, pos, &found, NULL) < 0 || !chunk_here(obj, found.chunk))
			return false;
		pos = found.c->file_off + found.c->size;
		readahead_touch(fetch_ahead(f, found.layer), found.c->blob_off);
	}
	return true;
}

may_suspend static int need(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len,
			    bool exact, struct err *err)
{
	struct err own = ERR_INIT;
	struct need nd = {.f = f,
			  .obj = obj,
			  .pos = off,
			  .began_ns = loop_now_ns(f->loop),
			  .chunk = INDEX_NONE,
			  .exact = exact,
			  .err = err ? err : &own};
	unsigned *waiting = exact ? &f->waiting_ahead : &f->stats.waiting;
	int r;

	nd.end = off < obj->size && len < obj->size - off ? off + len : obj->size;
	nd.due_ns = nd.began_ns + FETCH_READ_TIMEOUT_MS * NS_PER_MS;
	if (*waiting == (exact ? FETCH_AHEAD_WAITING_MAX : FETCH_WAITING_MAX)) {
		r = err_set(nd.err, -EIO, "too many reads wait");
	} else {
		++*waiting;
		r = need_run(&nd);
		--*waiting;
	}
	if (!fetch_busy(f))
		waitq_wake_all(&f->quiet);
	if (r == 0 && off == 0 && nd.waited && f->watch)
		f->watch(f->watch_arg, obj);
	if (r == 0 || r == -ECANCELED || exact)
		return r; /* of what is foreseen nobody has missed anything yet */
	f->stats.failed_reads++;
	if (fetch_may_log(f, obj->number))
		report_failed_read(f, &(struct failed_read){obj, off, nd.layer, nd.chunk},
				   err_text(nd.err, r));
	return r;
}

may_suspend int fetch_need(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len,
			   struct err *err)
{
	return need(f, obj, off, len, false, err);
}

may_suspend int fetch_foreseen(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len,
			       struct err *err)
{
	return need(f, obj, off, len, true, err);
}

void fetch_gather(struct fetcher *f, bool on)
{
	f->gathers += on ? 1 : -1u;
	if (on && f->gathers == 1) {
		f->gather_ns = loop_now_ns(f->loop) + FETCH_GATHER_MS * NS_PER_MS;
		timer_set(f->loop, &f->gathered, f->gather_ns);
	}
	if (!f->gathers)
		loop_defer(f->loop, &f->dispatch);
}

static void gathered(struct timer *t)
{
	struct fetcher *f = container_of(t, struct fetcher, gathered);

	loop_defer(f->loop, &f->dispatch);
}

void fetch_know(struct fetcher *f, const uint32_t *layers, size_t n, bool known)
{
	for (size_t i = 0; i < n; i++)
		f->knows[layers[i] % FETCH_SLOTS] += known ? 1 : -1u;
}

void fetch_watch(struct fetcher *f, void (*fn)(void *arg, struct object *obj), void *arg)
{
	f->watch = fn;
	f->watch_arg = arg;
}

/* --- life ---------------------------------------------------------------------------------------
 */

int fetcher_new(struct loop *loop, struct registry *registry, struct layers *layers,
		struct objects *objects, struct work *threads, struct fetcher **ret,
		struct err *err)
{
	struct fetcher *f = calloc(1, sizeof(*f));

	if (!f || map_init(&f->flights) < 0 || map_init(&f->kept) < 0) {
		if (f)
			map_fini(&f->flights);
		free(f);
		return err_set(err, -ENOMEM, "out of memory");
	}
	f->loop = loop;
	f->registry = registry;
	f->layers = layers;
	f->objects = objects;
	f->threads = threads;
	scope_init(&f->scope, loop);
	list_init(&f->wanted);
	list_init(&f->foreseen);
	list_init(&f->running);
	list_init(&f->paused);
	list_init(&f->fills);
	list_init(&f->kept_order);
	list_init(&f->early);
	list_init(&f->room[0]);
	list_init(&f->room[1]);
	waitq_init(&f->quiet);
	waitq_init(&f->fills_changed);
	list_init(&f->dispatch.link);
	f->dispatch.fn = transfers_dispatch;
	f->unpause.fn = unpause;
	f->gathered.fn = gathered;
	f->stalls.fn = transfers_look;
	f->kept_timer.fn = memory_forget_old;
	f->early_timer.fn = early_forget_old;
	*ret = f;
	return 0;
}

may_suspend void fetcher_free(struct fetcher *f)
{
	if (!f)
		return;
	require(!f->stats.waiting && !f->waiting_ahead);
	fills_stop(f);
	scope_cancel(&f->scope);
	scope_wait(&f->scope);
	scope_fini(&f->scope);
	loop_defer_cancel(&f->dispatch);
	timer_stop(f->loop, &f->unpause);
	timer_stop(f->loop, &f->gathered);
	timer_stop(f->loop, &f->stalls);
	while (!list_empty(&f->foreseen)) /* nobody waits for it */
		flight_end(f, container_of(f->foreseen.next, struct flight, link), -ECANCELED,
			   NULL);
	require(f->flights.count == 0 && f->buffered == 0);
	map_fini(&f->flights);
	memory_fini(f);
	early_fini(f);
	chunks_forget(f);
	free(f);
}

void fetch_stats(const struct fetcher *f, struct fetch_stats *ret)
{
	*ret = f->stats;
	ret->memory = f->kept_bytes;
	ret->early_memory = f->early_held;
	for (int i = 0; i < FETCH_CLASSES; i++) {
		ret->chunks += f->stats.of[i].chunks;
		ret->bytes_blob += f->stats.of[i].bytes_blob;
		ret->bytes_content += f->stats.of[i].bytes_content;
	}
}
