// SPDX-License-Identifier: Apache-2.0
/* Profiles of starts: told, taken in and out, recorded. Loop thread. */
#include "api/control.h"
#include "base/limits.h"
#include "predict/profiles.h"
#include "proto/control.pb-c.h"
#include "start/starts.h"

#include "base/banned.h"

#define BLOCK 100 /* profiles in one message */

/* --- list --------------------------------------------------------------------------------------
 */

struct listing {
	struct request *q;
	struct str repository;
	Flc__ProfileInfo **all;
	size_t n, cap;
};

static int list_one(void *arg, const struct profile_info *info)
{
	struct listing *l = arg;
	Flc__ProfileInfo *o;

	if (l->repository.len && !str_eq(l->repository, info->repository))
		return 0;
	o = l->n < l->cap ? arena_alloc(&l->q->arena, sizeof(*o)) : NULL;
	if (!o)
		return -ENOMEM;
	flc__profile_info__init(o);
	o->repository = request_text(l->q, info->repository);
	o->executable = request_text(l->q, info->executable);
	o->last = request_time(l->q, info->last_ns);
	if (!o->repository || !o->executable || !o->last)
		return -ENOMEM;
	o->starts = info->starts;
	o->whole = info->whole;
	o->span_us = info->span_us;
	o->paths = info->paths_n;
	o->uses = info->uses_n;
	o->content = info->content;
	o->bytes = info->bytes;
	l->all[l->n++] = o;
	return 0;
}

may_suspend static int answer_list(struct listing *l)
{
	Flc__ProfilesResponse o = FLC__PROFILES_RESPONSE__INIT;
	int r = 0;

	for (size_t at = 0; r == 0 && at < l->n; at += BLOCK) {
		o.profiles = l->all + at;
		o.n_profiles = l->n - at < BLOCK ? l->n - at : BLOCK;
		r = request_answer(l->q, &o.base);
	}
	return r;
}

may_suspend enum grpc_code control_profiles(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	struct listing l = {.q = &q, .cap = PROFILES_MAX};
	Flc__ProfilesRequest *in;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &flc__profiles_request__descriptor, &in);
	if (r < 0)
		return request_code(r);
	l.repository = str_of(in->repository);
	l.all = arena_alloc(&q.arena, PROFILES_MAX * sizeof(*l.all));
	r = l.all ? profiles_each(q.svc->profiles, list_one, &l)
		  : err_set(err, -ENOMEM, "out of memory");
	return request_code(r < 0 ? r : answer_list(&l));
}

/* --- documents ---------------------------------------------------------------------------------
 */

may_suspend static int answer_document(struct request *q, struct buf *json)
{
	Flc__ProfileDocument o = FLC__PROFILE_DOCUMENT__INIT;

	if (buf_append(json, "", 1) < 0)
		return err_set(q->err, -ENOMEM, "out of memory");
	o.json = (char *)json->data;
	return request_answer(q, &o.base);
}

may_suspend enum grpc_code control_profile_export(struct grpc_call *call, void *arg,
						  struct err *err)
{
	auto_request struct request q;
	auto_buf struct buf json = BUF_INIT;
	auto_arena struct arena a;
	Flc__ProfileName *in;
	struct profile p;
	int r;

	arena_init(&a, START_PROFILES_MEMORY);
	request_init(&q, call, arg, err);
	r = request_read(&q, &flc__profile_name__descriptor, &in);
	if (r == 0)
		r = profiles_get(q.svc->profiles, str_of(in->repository), str_of(in->executable),
				 &a, &p, err);
	if (r == 0)
		r = profile_json(&p, &json, err);
	return request_code(r < 0 ? r : answer_document(&q, &json));
}

may_suspend enum grpc_code control_profile_import(struct grpc_call *call, void *arg,
						  struct err *err)
{
	auto_request struct request q;
	Flc__ProfileName o = FLC__PROFILE_NAME__INIT;
	auto_arena struct arena a;
	Flc__ProfileDocument *in;
	struct profile p = {0};
	int r;

	arena_init(&a, START_PROFILES_MEMORY);
	request_init(&q, call, arg, err);
	control_log(call);
	r = request_read(&q, &flc__profile_document__descriptor, &in);
	if (r == 0)
		r = profiles_import(q.svc->profiles, str_of(in->json), &a, &p, err);
	if (r < 0)
		return request_code(r);
	o.repository = request_text(&q, p.repository);
	o.executable = request_text(&q, p.executable);
	if (!o.repository || !o.executable)
		return request_code(err_set(err, -ENOMEM, "out of memory"));
	return request_code(request_answer(&q, &o.base));
}

may_suspend enum grpc_code control_profile_remove(struct grpc_call *call, void *arg,
						  struct err *err)
{
	auto_request struct request q;
	Flc__ProfileRemoved o = FLC__PROFILE_REMOVED__INIT;
	struct str executable;
	Flc__ProfileName *in;
	int r;

	request_init(&q, call, arg, err);
	control_log(call);
	r = request_read(&q, &flc__profile_name__descriptor, &in);
	if (r < 0)
		return request_code(r);
	executable = str_of(in->executable);
	r = profiles_remove(q.svc->profiles, str_of(in->repository), in->all ? NULL : &executable,
			    err);
	if (r == 0)
		r = err_set(err, -ENOENT, "no such profile");
	if (r < 0)
		return request_code(r);
	o.profiles = (uint64_t)r;
	return request_code(request_answer(&q, &o.base));
}

may_suspend enum grpc_code control_record(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	auto_buf struct buf json = BUF_INIT;
	Flc__RecordRequest *in;
	uint32_t seconds;
	int r;

	request_init(&q, call, arg, err);
	control_log(call);
	r = request_read(&q, &flc__record_request__descriptor, &in);
	if (r == 0 && !q.svc->starts)
		r = err_set(err, -EOPNOTSUPP, "no layer is lazy here: %s", q.svc->lazy_off);
	if (r < 0)
		return request_code(r);
	seconds = in->timeout_s && in->timeout_s < RECORD_TIMEOUT_S ? in->timeout_s
								    : RECORD_TIMEOUT_S;
	r = starts_record(q.svc->starts, str_of(in->ref), seconds * 1000, &json, err);
	return request_code(r < 0 ? r : answer_document(&q, &json));
}
