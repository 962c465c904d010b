// SPDX-License-Identifier: Apache-2.0
/* The scan of containerd's snapshots, and images from its content store. Loop thread. */
#include "api/control.h"
#include "base/limits.h"
#include "operator/prepare.h"
#include "operator/scan.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

may_suspend enum grpc_code control_scan(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Flc__ScanResponse o = FLC__SCAN_RESPONSE__INIT;
	struct scan_report report;
	Flc__Empty *in;
	int r;

	request_init(&q, call, arg, err);
	control_log(call);
	r = request_read(&q, &flc__empty__descriptor, &in);
	if (r == 0)
		r = operator_scan(q.svc->operator, & q.arena, &report, err);
	if (r)
		return request_code(r);
	o.snapshots = report.snapshots;
	o.namespaces = report.namespaces;
	o.missing = report.missing;
	o.unknown = report.unknown;
	o.repaired = report.repaired;
	o.lines = report.lines;
	o.n_lines = report.lines_n;
	return request_code(request_answer(&q, &o.base));
}

may_suspend enum grpc_code control_prepare(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Flc__PrepareResponse o = FLC__PREPARE_RESPONSE__INIT;
	Flc__PrepareRequest *in;
	char text[DIGEST_TEXT_SIZE];
	struct prepared done;
	struct digest manifest;
	int r;

	request_init(&q, call, arg, err);
	control_log(call);
	r = request_read(&q, &flc__prepare_request__descriptor, &in);
	if (r == 0 && digest_parse(str_of(in->manifest), &manifest) < 0)
		r = err_set(err, -EINVAL, "not a sha256 digest: %.100s", in->manifest);
	if (r == 0)
		r = operator_prepare(q.svc->operator,
				     in->namespace_[0] ? in->namespace_ : "default", &manifest,
				     &done, err);
	if (r)
		return request_code(r);
	digest_text(&done.manifest, text);
	o.manifest = text;
	o.layers = (uint32_t)done.layers;
	o.lazy = (uint32_t)done.lazy;
	return request_code(request_answer(&q, &o.base));
}
