// SPDX-License-Identifier: Apache-2.0
/* The look-up of one layer, a task: its table of contents is found, fetched, verified, and made
 * into a known layer. Loop thread; tables are parsed on threads. */
#include <unistd.h>

#include "image/resolve_impl.h"
#include "loop/loop.h"
#include "loop/work.h"

#include "base/banned.h"

const struct digest *trust_of(const struct lookup *l)
{
	return l->hint.has_toc_digest ? &l->hint.toc_digest : &l->hint.checksum;
}

/* --- bytes of the blob ------------------------------------------------------------------------ */

/* One request. A new connection brings little in its first round trips, so what is long comes by
 * several at once; they are warm when contents are fetched. */
struct part {
	struct lookup *l;
	uint64_t off, len;
	struct buf bytes;
	uint64_t first; /* offset of the first byte */
	bool started;
	int result;
	struct err err;
};

static int part_data(void *arg, uint64_t off, const void *data, size_t n)
{
	struct part *p = arg;

	if (!p->started) {
		p->started = true;
		p->first = off;
	}
	if (p->bytes.len + n > TOC_COMPRESSED_MAX)
		return -EFBIG;
	return buf_append(&p->bytes, data, n);
}

may_suspend static int part_fetch(void *arg)
{
	struct part *p = arg;
	struct lookup *l = p->l;
	struct blob_request q = {.ref = str_of(l->image->ref),
				 .digest = l->blob,
				 .off = p->off,
				 .len = p->len,
				 .class = FETCH_DEMAND,
				 .on_data = part_data,
				 .arg = p};
	struct blob_answer answer = {0};

	p->err = ERR_INIT;
	p->result = registry_blob(l->image->r->registry, &q, &answer, &p->err);
	if (p->result == 0 && answer.blob_size)
		l->blob_size = answer.blob_size;
	return 0;
}

/* How many requests for len bytes are worth while. */
static unsigned parts_for(const struct lookup *l, uint64_t len)
{
	uint64_t n = len / RESOLVE_TAIL_MIN,
		 most = RESOLVE_PARTS_ALL / (l->image->lookups_n ? l->image->lookups_n : 1);

	most = most > RESOLVE_PARTS_MAX ? RESOLVE_PARTS_MAX : most;
	n = n > most ? most : n;
	return n ? (unsigned)n : 1;
}

/* Puts them together; they follow each other. */
static int parts_join(struct part *parts, unsigned n, struct buf *into, uint64_t *ret_first,
		      struct err *err)
{
	uint64_t first = parts[0].first;
	size_t before = into->len;

	for (unsigned i = 0; i < n; i++) {
		if (parts[i].result < 0)
			return err_set(err, parts[i].result, "%s",
				       err_text(&parts[i].err, parts[i].result));
		if (parts[i].first != first + (into->len - before))
			return err_set(err, -EBADMSG, "the registry sent another part of the blob");
		if (buf_append(into, parts[i].bytes.data, parts[i].bytes.len) < 0)
			return err_set(err, -ENOMEM, "out of memory");
	}
	*ret_first = first;
	return 0;
}

/* len bytes from off on, or (off BLOB_TAIL) the last ones, appended to into. */
may_suspend static int fetch_range(struct lookup *l, uint64_t off, uint64_t len, struct buf *into,
				   uint64_t *ret_first, struct err *err)
{
	struct part parts[RESOLVE_PARTS_MAX] = {0};
	uint64_t size = l->hint.blob_size;
	unsigned n = off == BLOB_TAIL && size <= len ? 1 : parts_for(l, len);
	struct scope scope;
	int r = 0;

	scope_init(&scope, l->image->r->loop);
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = i * (len / n), end = i + 1 == n ? len : at + len / n;

		parts[i] = (struct part){.l = l, .len = end - at, .bytes = BUF_INIT};
		parts[i].off = off != BLOB_TAIL ? off + at
			       : i + 1 == n     ? BLOB_TAIL
						: size - len + at;
		if (i + 1 == n) /* by this task itself */
			part_fetch(&parts[i]);
		else if (r == 0)
			r = scope_spawn(&scope, part_fetch, &parts[i], NULL);
	}
	if (task_cancelled())
		scope_cancel(&scope);
	scope_wait(&scope);
	scope_fini(&scope);
	if (r < 0)
		err_errno(err, r, "fetch a part of a blob");
	else
		r = parts_join(parts, n, into, ret_first, err);
	for (unsigned i = 0; i < n; i++)
		buf_fini(&parts[i].bytes);
	return r;
}

/* --- the table -------------------------------------------------------------------------------- */

may_suspend static int fetch_tail(struct lookup *l, struct err *err)
{
	uint64_t len = 4 * RESOLVE_TAIL_MIN;
	unsigned n;
	int r;

	if (l->hint.blob_size) {
		len = l->hint.blob_size / RESOLVE_TAIL_SHARE;
		len = len < RESOLVE_TAIL_MIN ? RESOLVE_TAIL_MIN : len;
		len = len > RESOLVE_TAIL_MAX ? RESOLVE_TAIL_MAX : len;
		n = parts_for(l, len);
		if (n > 1 && len > n * RESOLVE_TAIL_MIN)
			len = n * RESOLVE_TAIL_MIN; /* the rest by as many that are warm then */
	}
	r = fetch_range(l, BLOB_TAIL, len, &l->tail, &l->tail_off, err);
	if (r == 0 && !l->blob_size)
		l->blob_size = l->tail_off + l->tail.len;
	if (r == 0 && l->tail_off + l->tail.len != l->blob_size)
		r = err_set(err, -EBADMSG, "the registry sent another part of the blob");
	return r;
}

/* Where the table is; reads the footer if need be. */
may_suspend static int locate(struct lookup *l, struct toc_place *ret, struct err *err)
{
	struct str tail;
	int r = toc_place_from_hint(&l->hint, ret, err);

	if (r != -ENOENT)
		return r;
	if (!l->tail.len) {
		r = fetch_tail(l, err);
		if (r < 0)
			return r;
	}
	tail = (struct str){(char *)l->tail.data, l->tail.len};
	return toc_place_from_footer(&l->hint, tail, l->blob_size, ret, err);
}

/* The table's bytes: what of them the tail has is not fetched again. */
may_suspend static int table(struct lookup *l, const struct toc_place *place, struct buf *ret,
			     struct err *err)
{
	uint64_t end = place->off + place->len, have = l->tail.len ? l->tail_off : UINT64_MAX;
	uint64_t missing = have < place->off ? 0 : have < end ? have - place->off : place->len;
	uint64_t first;
	int r = 0;

	if (place->len > TOC_COMPRESSED_MAX)
		return err_set(err, -EFBIG, "table of contents of %llu bytes",
			       (unsigned long long)place->len);
	if (missing)
		r = fetch_range(l, place->off, missing, ret, &first, err);
	if (r == 0 && missing < place->len) {
		uint64_t at = place->off + missing - l->tail_off;

		if (at + (place->len - missing) > l->tail.len)
			return err_set(err, -EBADMSG, "the table of contents is cut short");
		r = buf_append(ret, l->tail.data + at, place->len - missing);
	}
	if (r == 0 && ret->len != place->len)
		r = err_set(err, -EBADMSG, "the registry sent %zu bytes of the table", ret->len);
	return r;
}

struct toc_job {
	const struct toc_hint *hint;
	const struct toc_place *place;
	struct str bytes;
	uint64_t blob_size;
	int fd;
	struct err *err;
};

static int toc_job(void *arg)
{
	struct toc_job *j = arg;

	return toc_to_index(j->hint, j->place, j->bytes, j->blob_size, j->fd, j->err);
}

/* The table's bytes are in memory from here on. */
may_suspend static int memory_enter(struct resolver *r, uint64_t n)
{
	int e = 0;

	while (e == 0 && r->tables > 0 && r->tables + n > RESOLVE_TABLES_MAX)
		e = waitq_wait(&r->changed);
	if (e == 0)
		r->tables += n;
	return e;
}

static void memory_leave(struct resolver *r, uint64_t n)
{
	r->tables -= n;
	waitq_wake_all(&r->changed);
}

/* Fetches the table and makes an index of it. */
may_suspend static int read_table(struct lookup *l, const struct toc_place *place, int fd,
				  struct err *err)
{
	auto_buf struct buf bytes = BUF_INIT;
	struct toc_job job;
	int ret = table(l, place, &bytes, err);

	if (ret < 0)
		return ret;
	job = (struct toc_job){.hint = &l->hint,
			       .place = place,
			       .bytes = {(char *)bytes.data, bytes.len},
			       .blob_size = l->blob_size ? l->blob_size : l->hint.blob_size,
			       .fd = fd,
			       .err = err};
	return work_run(l->image->r->threads, toc_job, &job);
}

may_suspend static int make_layer(struct lookup *l, struct err *err)
{
	struct resolver *r = l->image->r;
	struct toc_place place;
	int ret = locate(l, &place, err);

	if (ret < 0)
		return ret;
	auto_close int fd = layers_tmpfile(r->layers, err);
	if (fd < 0)
		return fd;
	ret = memory_enter(r, place.len);
	if (ret < 0)
		return ret;
	ret = read_table(l, &place, fd, err);
	memory_leave(r, place.len);
	buf_fini(&l->tail);
	if (ret < 0)
		return ret;
	return layers_add(r->layers, &l->blob, trust_of(l), str_of(l->image->ref), fd, &l->layer,
			  err);
}

static bool being_added(const struct resolver *r, const struct lookup *l)
{
	for (struct list *it = r->adding.next; it != &r->adding; it = it->next) {
		const struct lookup *o = container_of(it, struct lookup, adding_link);

		if (digest_eq(&o->blob, &l->blob) && digest_eq(trust_of(o), trust_of(l)))
			return true;
	}
	return false;
}

may_suspend int layer_use_known(struct resolver *r, struct layer *known, struct str ref,
				struct layer **ret, struct err *err)
{
	int e;

	layer_use(known);
	e = layers_note_ref(r->layers, known, ref, err);
	if (e < 0)
		layer_unuse(r->layers, known);
	else
		*ret = known;
	return e;
}

/* A known layer, or a new one; each is made once at a time. */
may_suspend static int lookup_layer(struct lookup *l, struct err *err)
{
	struct resolver *r = l->image->r;
	struct layer *known;
	int ret = toc_hint_check(&l->hint, err);

	while (ret == 0 && being_added(r, l))
		ret = waitq_wait(&r->changed);
	if (ret < 0)
		return ret;
	known = layers_find(r->layers, &l->blob, trust_of(l));
	if (known) { /* whoever asks finds it too */
		ret = layer_use_known(r, known, str_of(l->image->ref), &known, err);
		if (ret == 0)
			layer_unuse(r->layers, known);
		return ret;
	}
	list_push(&r->adding, &l->adding_link);
	ret = make_layer(l, err);
	list_del(&l->adding_link);
	return ret;
}

/* Until `changed` or a time; -ETIMEDOUT, -ECANCELED. */
may_suspend int resolve_wait(struct resolver *r, uint64_t until_ns)
{
	uint64_t now = loop_now_ns(r->loop);

	if (now >= until_ns)
		return -ETIMEDOUT;
	return waitq_wait_ms(&r->changed, (unsigned)((until_ns - now) / NS_PER_MS + 1));
}

/* Ahead of its labels: what nobody asks for in time goes. */
may_suspend static int wait_for_hint(struct lookup *l)
{
	struct resolver *r = l->image->r;
	uint64_t until = loop_now_ns(r->loop) + RESOLVE_KEEP_MS * NS_PER_MS;
	int e = 0;

	while (e == 0 && !l->hinted)
		e = resolve_wait(r, until);
	return l->hinted ? 0 : e;
}

may_suspend static int lookup_task(void *arg)
{
	struct lookup *l = arg;
	struct image *im = l->image;
	int r = 0;

	l->err = ERR_INIT;
	if (!l->hint.blob_size)
		r = image_sizes(im);
	if (r == 0 && !l->hinted) {
		r = fetch_tail(l, &l->err);
		if (r == 0)
			r = wait_for_hint(l);
	}
	if (r == 0)
		r = lookup_layer(l, &l->err);
	buf_fini(&l->tail);
	l->result = r;
	l->state = LOOKUP_DONE;
	image_leave(im);
	return 0;
}

int lookup_start(struct lookup *l)
{
	int r;

	/* It was known then, and has gone. */
	if (l->state == LOOKUP_DONE && l->result == 0 && !l->layer &&
	    !layers_find(l->image->r->layers, &l->blob, trust_of(l)))
		l->state = LOOKUP_IDLE;
	if (l->state != LOOKUP_IDLE)
		return 0;
	r = scope_spawn(&l->image->r->scope, lookup_task, l, NULL);
	if (r < 0)
		return r;
	l->state = LOOKUP_RUNNING;
	l->begun = true;
	l->image->busy++;
	return 0;
}
