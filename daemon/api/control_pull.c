// SPDX-License-Identifier: Apache-2.0
/* Pulls: the request, and progress as a stream. Loop thread. */
#include "api/control.h"
#include "base/limits.h"
#include "operator/operator.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

struct pulling {
	struct grpc_call *call;
	void *arg;
	struct err *err;
};

static char *digest_out(struct request *q, const struct digest *d)
{
	char text[DIGEST_TEXT_SIZE];

	digest_text(d, text);
	return request_text(q, str_of(text));
}

static Flc__LayerProgress *layer_out(struct request *q, const struct pull_layer *l)
{
	Flc__LayerProgress *o = arena_alloc(&q->arena, sizeof(*o));

	if (!o)
		return NULL;
	flc__layer_progress__init(o);
	o->digest = digest_out(q, &l->digest);
	o->state = (Flc__LayerProgress__State)l->state;
	o->size = l->size;
	o->bytes = l->bytes;
	o->why = (char *)(uintptr_t)l->why;
	o->existed = l->existed;
	return o->digest ? o : NULL;
}

may_suspend static int send_view(struct request *q, const struct pull_view *v)
{
	Flc__PullProgress o = FLC__PULL_PROGRESS__INIT;

	o.phase = (Flc__PullProgress__Phase)v->phase;
	o.name = request_text(q, str_of(v->name));
	o.digest = v->has_digest ? digest_out(q, &v->digest) : request_text(q, STR(""));
	o.layers = arena_alloc(&q->arena, (v->layers_n + 1) * sizeof(*o.layers));
	if (!o.name || !o.digest || !o.layers)
		return err_set(q->err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < v->layers_n; i++) {
		o.layers[i] = layer_out(q, &v->layers[i]);
		if (!o.layers[i])
			return err_set(q->err, -ENOMEM, "out of memory");
	}
	o.n_layers = v->layers_n;
	o.bytes = v->bytes;
	o.bytes_total = v->bytes_total;
	o.elapsed_ms = v->elapsed_ms;
	if (v->away)
		o.away = (char *)(uintptr_t)v->away;
	return request_answer(q, &o.base);
}

may_suspend static int report(void *arg, const struct pull_view *v)
{
	struct pulling *pl = arg;
	auto_request struct request q; /* memory of one message */

	request_init(&q, pl->call, pl->arg, pl->err);
	return send_view(&q, v);
}

may_suspend enum grpc_code control_pull(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	struct pulling pl = {call, arg, err};
	struct pull_request want;
	Flc__PullRequest *in;
	int r;

	request_init(&q, call, arg, err);
	control_log(call);
	r = request_read(&q, &flc__pull_request__descriptor, &in);
	if (r < 0)
		return request_code(r);
	want = (struct pull_request){.ref = in->ref,
				     .ns = in->namespace_[0] ? in->namespace_ : "default",
				     .platform = in->platform,
				     .plain_http = in->plain_http,
				     .user = in->user,
				     .secret = in->secret,
				     .wait = in->wait};
	return request_code(operator_pull(q.svc->operator, & want, report, &pl, err));
}
