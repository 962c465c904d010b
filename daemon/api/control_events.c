// SPDX-License-Identifier: Apache-2.0
/* Those who follow events: each has a queue of its own, and is told how many it lost. Loop thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/control.h"
#include "base/clock.h"
#include "base/event.h"
#include "base/limits.h"
#include "base/list.h"
#include "loop/sync.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

struct follower {
	struct list link;  /* in followers */
	struct list queue; /* queued.link */
	size_t queued;
	uint64_t lost;
	char **kinds; /* none = all */
	size_t kinds_n;
	struct waitq filled;
};

/* One event, packed. */
struct queued {
	struct list link;
	uint64_t lost; /* before it */
	int64_t time_ns;
	size_t fields_n;
	struct event_field fields[EVENT_FIELDS_MAX]; /* point behind this struct */
	char kind[32];
};

static struct list followers = {&followers, &followers};
static size_t followers_n;
static uint64_t lost_all;

static bool wants(const struct follower *f, const char *kind)
{
	for (size_t i = 0; i < f->kinds_n; i++) {
		if (strcmp(f->kinds[i], kind) == 0)
			return true;
	}
	return f->kinds_n == 0;
}

static struct queued *copy(const char *kind, const struct event_field *fields, size_t n)
{
	size_t bytes = 0;
	struct queued *e;
	char *at;

	for (size_t i = 0; i < n; i++)
		bytes += fields[i].value.len;
	e = bytes > CONTROL_EVENT_MAX || n > EVENT_FIELDS_MAX ? NULL
							      : calloc(1, sizeof(*e) + bytes + n);
	if (!e)
		return NULL;
	at = (char *)(e + 1);
	e->fields_n = n;
	snprintf(e->kind, sizeof(e->kind), "%s", kind);
	for (size_t i = 0; i < n; i++) {
		e->fields[i] = (struct event_field){fields[i].key, {at, fields[i].value.len}};
		if (fields[i].value.len)
			memcpy(at, fields[i].value.p, fields[i].value.len);
		at += fields[i].value.len + 1;
	}
	return e;
}

static void emit(void *arg, const char *kind, const struct event_field *fields, size_t n)
{
	(void)arg;
	for (struct list *l = followers.next; l != &followers; l = l->next) {
		struct follower *f = container_of(l, struct follower, link);
		struct queued *e;

		if (!wants(f, kind))
			continue;
		e = f->queued < CONTROL_EVENTS_QUEUE ? copy(kind, fields, n) : NULL;
		if (!e) {
			f->lost++;
			lost_all++;
			continue;
		}
		e->lost = f->lost;
		e->time_ns = wall_now_ns();
		f->lost = 0;
		list_push(&f->queue, &e->link);
		f->queued++;
		waitq_wake_all(&f->filled);
	}
}

void control_events_start(void)
{
	event_sink(emit, NULL);
}

size_t control_events_followers(uint64_t *ret_lost)
{
	*ret_lost = lost_all;
	return followers_n;
}

/* Values that are no UTF-8 would make the message invalid. */
static char *clean(struct request *q, struct str s)
{
	char *t = request_text(q, s);

	for (size_t i = 0; t && !str_utf8(s) && i < s.len; i++) {
		if ((unsigned char)t[i] >= 0x80)
			t[i] = '?';
	}
	return t;
}

may_suspend static int send_event(struct request *q, const struct queued *e)
{
	Fl__Label labels[EVENT_FIELDS_MAX], *refs[EVENT_FIELDS_MAX];
	Flc__Event o = FLC__EVENT__INIT;
	int r;

	for (size_t i = 0; i < e->fields_n; i++) {
		fl__label__init(&labels[i]);
		labels[i].key = (char *)(uintptr_t)e->fields[i].key;
		labels[i].value = clean(q, e->fields[i].value);
		if (!labels[i].value)
			return err_set(q->err, -ENOMEM, "out of memory");
		refs[i] = &labels[i];
	}
	o.time = request_time(q, e->time_ns);
	o.kind = (char *)(uintptr_t)e->kind;
	o.fields = refs;
	o.n_fields = e->fields_n;
	o.lost = e->lost;
	r = o.time ? request_answer(q, &o.base) : -ENOMEM;
	return r;
}

may_suspend static int follow(struct request *q, struct grpc_call *call, void *arg,
			      struct follower *f)
{
	struct list *l;
	int r = 0;

	(void)q;
	while (r == 0) {
		auto_request struct request one; /* memory of one event */

		while (r == 0 && list_empty(&f->queue))
			r = waitq_wait(&f->filled);
		if (r < 0)
			return r;
		l = list_pop(&f->queue);
		f->queued--;
		request_init(&one, call, arg, q->err);
		r = send_event(&one, container_of(l, struct queued, link));
		free(container_of(l, struct queued, link));
	}
	return r;
}

may_suspend enum grpc_code control_events(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	struct follower f = {.lost = 0};
	Flc__EventsRequest *in;
	struct list *l;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &flc__events_request__descriptor, &in);
	if (r == 0 && followers_n >= CONTROL_FOLLOWERS_MAX)
		r = err_set(err, -EAGAIN, "%d others follow events already", CONTROL_FOLLOWERS_MAX);
	if (r < 0)
		return request_code(r);
	list_init(&f.queue);
	waitq_init(&f.filled);
	f.kinds = in->kinds;
	f.kinds_n = in->n_kinds;
	list_push(&followers, &f.link);
	followers_n++;
	r = follow(&q, call, arg, &f);
	list_del(&f.link);
	followers_n--;
	while ((l = list_pop(&f.queue)))
		free(container_of(l, struct queued, link));
	return request_code(r);
}
