// SPDX-License-Identifier: Apache-2.0
/* The control service: its table, and what is asked of the whole daemon. Loop thread. */
#include "api/control.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "format.h"
#include "fs/fill.h"
#include "image/fetch.h"
#include "image/layer.h"
#include "image/registry.h"
#include "loop/loop.h"
#include "loop/work.h"
#include "operator/operator.h"
#include "predict/profiles.h"
#include "proto/control.pb-c.h"
#include "start/starts.h"
#include "store/objects.h"

#include "base/banned.h"

#define FEATURES_MAX 12
#define NS_PER_MS    1000000ull

void control_log(struct grpc_call *call)
{
	const struct peer *peer = grpc_call_peer(call);

	log_info("control call=%s pid=%d uid=%u", strrchr(grpc_call_path(call), '/') + 1,
		 (int)peer->pid, (unsigned)peer->uid);
}

static uint64_t uptime_ms(const struct services *s)
{
	return (loop_now_ns(s->loop) - s->start_ns) / NS_PER_MS;
}

static char *text_of(const char *s)
{
	return (char *)(uintptr_t)(s ? s : "");
}

/* --- Version ---------------------------------------------------------------------------------- */

struct features {
	Flc__Feature list[FEATURES_MAX], *refs[FEATURES_MAX];
	size_t n;
};

static void feature(struct features *f, const char *name, bool on, const char *why)
{
	Flc__Feature *one = &f->list[f->n];

	require(f->n < FEATURES_MAX);
	flc__feature__init(one);
	one->name = text_of(name);
	one->on = on;
	one->why = text_of(on ? "" : why);
	f->refs[f->n++] = one;
}

/* Why no BPF program tells of reads; NULL: one does. */
static const char *bpf_why(const struct services *s)
{
	struct access *a = s->starts ? starts_access(s->starts) : NULL;
	struct access_stats st;

	if (!a)
		return s->starts ? "switched off in the settings, or not loaded yet"
				 : "no layer is lazy";
	access_stats(a, &st);
	return st.programs[PROGRAM_GET_PAGES].reason ? st.programs[PROGRAM_ADD_PAGE].reason : NULL;
}

static void features_fill(const struct services *s, struct features *f)
{
	const struct mount_features *m = s->features;

	feature(f, "lazy", !s->lazy_off, s->lazy_off);
	feature(f, "overlay", m->overlay, m->why);
	feature(f, "data-only", m->data_only, m->why_data_only);
	feature(f, "erofs-file", m->erofs_file, m->why_erofs_file);
	feature(f, "erofs-loop", m->erofs_loop, m->why_erofs_loop);
	feature(f, "passthrough", s->fill && fill_passthrough(s->fill),
		s->fill ? "the kernel has none (Linux 6.9), or it is switched off in the settings"
			: "no layer is lazy");
	feature(f, "bpf", bpf_why(s) == NULL, bpf_why(s));
	feature(f, "index-off", m->index_off, "overlayfs has no such option");
	feature(f, "volatile", m->volatile_upper, "overlayfs has no such option (Linux 5.10)");
	feature(f, "idmap", m->idmap, "no idmapped mounts here (Linux 5.19)");
}

may_suspend static enum grpc_code serve_version(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Flc__VersionResponse o = FLC__VERSION_RESPONSE__INIT;
	struct features f = {.n = 0};
	Flc__Empty *in;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &flc__empty__descriptor, &in);
	if (r < 0)
		return request_code(r);
	features_fill(q.svc, &f);
	o.version = text_of(FIRSTLIGHT_VERSION);
	o.format = FORMAT_VERSION;
	o.worker_pid = (uint64_t)getpid();
	o.keeper_pid = (uint64_t)q.svc->keeper;
	o.uptime_ms = uptime_ms(q.svc);
	o.root = text_of(q.svc->root);
	o.state = text_of(q.svc->state);
	o.address = text_of(q.svc->address);
	o.containerd_address = text_of(q.svc->containerd_address);
	o.features = f.refs;
	o.n_features = f.n;
	return request_code(request_answer(&q, &o.base));
}

/* --- Status ----------------------------------------------------------------------------------- */

/* What the system knows of us and of the disk; on a thread. */
struct look {
	const char *root;
	uint64_t rss, fds, disk_free, disk_size;
};

static int look_job(void *arg)
{
	struct look *l = arg;
	auto_closedir DIR *d = opendir("/proc/self/fd");
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long long total = 0, resident = 0;
	struct statvfs v;

	if (f) {
		if (fscanf(f, "%llu %llu", &total, &resident) == 2)
			l->rss = resident * (uint64_t)sysconf(_SC_PAGESIZE);
		fclose(f);
	}
	while (d && readdir(d))
		l->fds++;
	l->fds -= l->fds > 3 ? 3 : l->fds; /* ".", "..", and this one */
	if (statvfs(l->root, &v) == 0) {
		l->disk_free = (uint64_t)v.f_bavail * v.f_frsize;
		l->disk_size = (uint64_t)v.f_blocks * v.f_frsize;
	}
	return 0;
}

static void status_snapshots(const struct services *s, Flc__StatusResponse *o)
{
	struct snaps_stats st;

	snaps_stats(s->snaps, &st);
	o->snapshots = snaps_count(s->snaps);
	o->active = st.kinds[SNAPSHOT_ACTIVE];
	o->views = st.kinds[SNAPSHOT_VIEW];
	o->committed = st.kinds[SNAPSHOT_COMMITTED];
	o->lazy = st.lazy;
	o->runs = st.runs;
	o->draining = snaps_draining(s->snaps);
	for (uint32_t id = 0; (id = layers_next(s->layers, id));) {
		o->layers++;
		o->layers_complete += layers_get(s->layers, id)->complete;
	}
}

static void status_store(const struct services *s, Flc__StatusResponse *o)
{
	struct objects_usage u;

	objects_usage(s->objects, &u);
	o->store_bytes = u.bytes;
	o->store_complete = u.complete;
	o->store_partial = u.partial;
	o->store_max = s->store_max;
}

static void status_fetch(const struct services *s, Flc__StatusResponse *o)
{
	struct fetch_stats f;
	struct fill_stats fi;

	fetch_stats(s->fetcher, &f);
	o->chunks = f.chunks;
	o->bytes_blob = f.bytes_blob;
	o->bytes_content = f.bytes_content;
	o->bad_chunks = f.bad_chunks;
	o->failed_reads = f.failed_reads;
	o->reads_waiting = f.waiting;
	fill_stats(s->fill, &fi);
	o->reads = fi.reads;
	o->reads_missed = fi.missed;
	o->opens = fi.opens;
	o->opens_passthrough = fi.opens_passthrough;
}

static void status_starts(const struct services *s, Flc__StatusResponse *o)
{
	struct profiles_stats ps;
	struct starts_stats st;

	profiles_stats(s->profiles, &ps);
	o->profiles = ps.n;
	if (!s->starts)
		return;
	starts_stats(s->starts, &st);
	o->starts = st.begun;
	o->starts_watched = st.watched;
	o->starts_foreseen = st.foreseen;
	o->foreseen_used = st.hit_bytes + st.late_bytes;
	o->foreseen_wasted = st.wasted_bytes;
}

struct queues {
	Flc__Queue list[FETCH_CLASSES], *refs[FETCH_CLASSES];
};

static void status_queues(const struct services *s, struct queues *qs, Flc__StatusResponse *o)
{
	static const char *const names[] = {"demand", "predicted", "background"};
	struct registry_stats st;

	registry_stats(s->registry, &st);
	for (size_t i = 0; i < FETCH_CLASSES; i++) {
		flc__queue__init(&qs->list[i]);
		qs->list[i].name = text_of(names[i]);
		qs->list[i].running = st.running[i];
		qs->list[i].waiting = st.waiting[i];
		qs->list[i].requests = st.requests[i];
		qs->list[i].bytes = st.bytes[i];
		qs->refs[i] = &qs->list[i];
	}
	o->queues = qs->refs;
	o->n_queues = FETCH_CLASSES;
	o->retries = st.retries;
	o->throttled = st.throttled;
	o->breaker_open = st.breaker_open;
}

may_suspend static enum grpc_code serve_status(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Flc__StatusResponse o = FLC__STATUS_RESPONSE__INIT;
	struct look look = {0};
	struct queues queues;
	Flc__Empty *in;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &flc__empty__descriptor, &in);
	look.root = q.svc->root;
	if (r == 0)
		r = work_run(q.svc->threads, look_job, &look);
	if (r < 0)
		return request_code(r);
	o.uptime_ms = uptime_ms(q.svc);
	o.rss = look.rss;
	o.fds = look.fds;
	o.disk_free = look.disk_free;
	o.disk_size = look.disk_size;
	status_snapshots(q.svc, &o);
	status_store(q.svc, &o);
	status_starts(q.svc, &o);
	o.pulls = operator_pulls(q.svc->operator);
	if (q.svc->fill) {
		status_fetch(q.svc, &o);
		status_queues(q.svc, &queues, &o);
	}
	return request_code(request_answer(&q, &o.base));
}

/* --- the table -------------------------------------------------------------------------------- */

const struct grpc_method *control_methods(size_t *ret_n)
{
	static const struct grpc_method methods[] = {
		{CONTROL_SERVICE "Version", serve_version, false},
		{CONTROL_SERVICE "Status", serve_status, false},
		{CONTROL_SERVICE "Pull", control_pull, true},
		{CONTROL_SERVICE "Images", control_images, true},
		{CONTROL_SERVICE "Scan", control_scan, false},
		{CONTROL_SERVICE "PrepareManager", control_prepare, false},
		{CONTROL_SERVICE "Mounts", control_mounts, false},
		{CONTROL_SERVICE "Inspect", control_inspect, false},
		{CONTROL_SERVICE "Events", control_events, true},
		{CONTROL_SERVICE "Verify", control_verify, true},
		{CONTROL_SERVICE "Gc", control_gc, false},
		{CONTROL_SERVICE "Drain", control_drain, true},
		{CONTROL_SERVICE "Profiles", control_profiles, true},
		{CONTROL_SERVICE "ProfileExport", control_profile_export, false},
		{CONTROL_SERVICE "ProfileImport", control_profile_import, false},
		{CONTROL_SERVICE "ProfileRemove", control_profile_remove, false},
		{CONTROL_SERVICE "Record", control_record, false},
	};

	*ret_n = array_size(methods);
	return methods;
}
