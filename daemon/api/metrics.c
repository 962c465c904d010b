// SPDX-License-Identifier: Apache-2.0
/*
 * The metrics. A module whose counters are to be told gets a function in the table at the end; it
 * appends its families, and is called at each scrape. Loop thread.
 */
#include "api/metrics.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/control.h"
#include "api/metrics_http.h"
#include "api/request.h"
#include "base/limits.h"
#include "format.h"
#include "fs/fill.h"
#include "image/fetch.h"
#include "image/layer.h"
#include "image/registry.h"
#include "net/grpc.h"
#include "operator/operator.h"
#include "predict/profiles.h"
#include "start/starts.h"
#include "store/objects.h"

#include "base/banned.h"

#define NS_PER_S     1000000000ull
#define NS_PER_US    1000ull
#define TEXT_INT_(x) #x
#define TEXT_INT(x)  TEXT_INT_(x)

struct metrics {
	struct metrics_options o;
	struct metrics_http *http;
	int64_t start_s; /* this process's; CLOCK_REALTIME */
};

static const char *const classes[FETCH_CLASSES] = {"demand", "predicted", "background"};

/* --- the processes ---------------------------------------------------------------------------- */

static void tell_build(const struct metrics *m, struct metrics_text *t)
{
	static const struct metric_label labels[] = {
		{"version", {FIRSTLIGHT_VERSION, sizeof(FIRSTLIGHT_VERSION) - 1}},
		{"format", {TEXT_INT(FORMAT_VERSION), sizeof(TEXT_INT(FORMAT_VERSION)) - 1}}};

	metric_family(t, "firstlight_build_info", METRIC_GAUGE,
		      "Always 1; which firstlight this is.");
	metric_number(t, labels, array_size(labels), 1);
	metric_one(t, "firstlight_keeper_start_time_seconds", METRIC_GAUGE,
		   "When the keeper began, in seconds since 1970.", (uint64_t)m->o.keeper_start_s);
	metric_one(t, "firstlight_worker_restarts_total", METRIC_COUNTER,
		   "Workers that ended and were followed by another one, since the keeper began.",
		   m->o.restarts);
}

static uint64_t time_ns(const struct timeval *tv)
{
	return (uint64_t)tv->tv_sec * NS_PER_S + (uint64_t)tv->tv_usec * NS_PER_US;
}

/* In pages; 0 = not known. */
static void read_sizes(unsigned long long *ret_virtual, unsigned long long *ret_resident)
{
	auto_close int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	char text[128] = "";

	*ret_virtual = *ret_resident = 0;
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 &&
	    sscanf(text, "%llu %llu", ret_virtual, ret_resident) != 2)
		*ret_virtual = *ret_resident = 0;
}

/* The names that all of Prometheus' clients use. */
static void tell_process(const struct metrics *m, struct metrics_text *t)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	unsigned long long all, resident;
	struct rusage u = {.ru_maxrss = 0};
	struct rlimit files = {0};
	struct stat st;

	getrusage(RUSAGE_SELF, &u);
	read_sizes(&all, &resident);
	metric_family(t, "process_cpu_seconds_total", METRIC_COUNTER,
		      "User and system time of the worker.");
	metric_seconds(t, NULL, 0, time_ns(&u.ru_utime) + time_ns(&u.ru_stime));
	metric_one(t, "process_resident_memory_bytes", METRIC_GAUGE,
		   "Resident memory of the worker.", resident * page);
	metric_one(t, "process_virtual_memory_bytes", METRIC_GAUGE, "Virtual memory of the worker.",
		   all * page);
	metric_one(t, "process_start_time_seconds", METRIC_GAUGE,
		   "When this worker began, in seconds since 1970.", (uint64_t)m->start_s);
	/* The size is the number since Linux 6.2; to count them would take long. */
	if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
		metric_one(t, "process_open_fds", METRIC_GAUGE,
			   "Open file descriptors of the worker.", (uint64_t)st.st_size);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		metric_one(t, "process_max_fds", METRIC_GAUGE,
			   "How many file descriptors the worker may have.", files.rlim_cur);
}

static void tell_loop(const struct metrics *m, struct metrics_text *t)
{
	(void)m;
	metric_one(t, "firstlight_tasks", METRIC_GAUGE, "Tasks that run or wait.", task_count());
	metric_one(t, "firstlight_tasks_max", METRIC_GAUGE, "How many there may be.", TASKS_MAX);
}

/* --- calls ------------------------------------------------------------------------------------ */

static void tell_method(struct metrics_text *t, const char *method, const uint64_t *calls)
{
	for (unsigned code = 0; code < GRPC_CODES; code++) {
		const struct metric_label labels[] = {{"method", str_of(method)},
						      {"code", str_of(grpc_code_name(code))}};

		if (calls[code])
			metric_number(t, labels, array_size(labels), calls[code]);
	}
}

static void tell_calls(const struct metrics *m, struct metrics_text *t)
{
	const struct grpc_server *server = m->o.server;
	struct grpc_server_stats st;
	size_t n;
	const struct grpc_method *methods = grpc_server_methods(server, &n);

	grpc_server_stats(server, &st);
	metric_one(t, "firstlight_connections", METRIC_GAUGE,
		   "Connections at the socket that containerd and the command line use.",
		   st.connections);
	metric_family(t, "firstlight_connections_total", METRIC_COUNTER,
		      "Connections there, by whether they were served.");
	metric_number(t, METRIC_LABEL("result", "accepted"), st.accepted);
	metric_number(t, METRIC_LABEL("result", "refused"), st.refused);
	metric_one(t, "firstlight_grpc_calls", METRIC_GAUGE, "Calls that run now.", st.calls);
	metric_family(t, "firstlight_grpc_calls_total", METRIC_COUNTER,
		      "Calls that have ended, by method and code; those with none: 0.");
	for (size_t i = 0; i < n; i++)
		tell_method(t, methods[i].path, grpc_server_calls(server, i));
	tell_method(t, "other", grpc_server_calls(server, n));
}

static void tell_events(const struct metrics *m, struct metrics_text *t)
{
	uint64_t lost;

	(void)m;
	metric_one(t, "firstlight_event_followers", METRIC_GAUGE,
		   "Who follows events (firstlight events).", control_events_followers(&lost));
	metric_one(t, "firstlight_events_lost_total", METRIC_COUNTER,
		   "Events that followers did not get: they were too slow.", lost);
}

/* --- snapshots, layers, contents -------------------------------------------------------------- */

static void tell_snapshots(const struct metrics *m, struct metrics_text *t)
{
	struct snaps_stats st;

	snaps_stats(m->o.services->snaps, &st);
	metric_family(t, "firstlight_snapshots", METRIC_GAUGE, "Snapshots by kind.");
	metric_number(t, METRIC_LABEL("kind", "active"), st.kinds[SNAPSHOT_ACTIVE]);
	metric_number(t, METRIC_LABEL("kind", "view"), st.kinds[SNAPSHOT_VIEW]);
	metric_number(t, METRIC_LABEL("kind", "committed"), st.kinds[SNAPSHOT_COMMITTED]);
	metric_one(t, "firstlight_lazy_snapshots", METRIC_GAUGE,
		   "Committed snapshots that are lazy layers.", st.lazy);
	metric_one(t, "firstlight_mounted_runs", METRIC_GAUGE,
		   "Metadata images that are mounted, each of a run of lazy layers.", st.runs);
	metric_one(t, "firstlight_pulls", METRIC_GAUGE, "Pulls under way (firstlight pull).",
		   operator_pulls(m->o.services->operator));
}

static void tell_layers(const struct metrics *m, struct metrics_text *t)
{
	uint64_t complete, n = layers_tally(m->o.services->layers, &complete);

	metric_one(t, "firstlight_lazy_enabled", METRIC_GAUGE,
		   "1: layers in a lazy format are not unpacked.", !m->o.services->lazy_off);
	metric_one(t, "firstlight_lazy_layers", METRIC_GAUGE, "Lazy layers that are known.", n);
	metric_one(t, "firstlight_lazy_layers_complete", METRIC_GAUGE,
		   "Lazy layers all of whose contents are here.", complete);
}

static void tell_store(const struct metrics *m, struct metrics_text *t)
{
	struct objects_usage u;

	objects_usage(m->o.services->objects, &u);
	metric_family(t, "firstlight_objects", METRIC_GAUGE,
		      "Contents of files in the store, each once over all images.");
	metric_number(t, METRIC_LABEL("state", "complete"), u.complete);
	metric_number(t, METRIC_LABEL("state", "partial"), u.partial);
	metric_one(t, "firstlight_store_bytes", METRIC_GAUGE, "What they take on disk.", u.bytes);
	metric_one(t, "firstlight_store_max_bytes", METRIC_GAUGE,
		   "What they may take (lazy.store_max); 0: no limit.", m->o.services->store_max);
}

/* --- reads and fetching: not without lazy layers ---------------------------------------------- */

static void tell_reads(const struct metrics *m, struct metrics_text *t)
{
	struct fill_stats st;

	if (!m->o.services->fill)
		return;
	fill_stats(m->o.services->fill, &st);
	metric_one(t, "firstlight_fuse_requests_total", METRIC_COUNTER,
		   "Requests of all kinds that came through the FUSE mount.", st.requests);
	metric_one(t, "firstlight_fuse_opens_total", METRIC_COUNTER, "Contents opened there.",
		   st.opens);
	metric_one(t, "firstlight_fuse_opens_passthrough_total", METRIC_COUNTER,
		   "Those of them whose reads the kernel serves itself.", st.opens_passthrough);
	metric_one(t, "firstlight_fuse_reads_total", METRIC_COUNTER, "Reads there.", st.reads);
	metric_one(t, "firstlight_fuse_reads_waited_total", METRIC_COUNTER,
		   "Those of them whose bytes were not here.", st.missed);
	metric_one(t, "firstlight_fuse_reads_failed_total", METRIC_COUNTER,
		   "Those of them that got an error.", st.failed);
	metric_family(t, "firstlight_fuse_read_wait_seconds", METRIC_HISTOGRAM,
		      "How long reads whose bytes were not here took, those that failed too.");
	metric_histogram(t, &st.waits);
}

static void tell_amounts(const struct fetch_stats *st, struct metrics_text *t)
{
	metric_family(t, "firstlight_fetch_chunks_total", METRIC_COUNTER,
		      "Chunks fetched, by the class of the request.");
	for (int i = 0; i < FETCH_CLASSES; i++)
		metric_number(t, METRIC_LABEL("class", classes[i]), st->of[i].chunks);
	metric_family(t, "firstlight_fetch_compressed_bytes_total", METRIC_COUNTER,
		      "Bytes of blobs fetched, as they came.");
	for (int i = 0; i < FETCH_CLASSES; i++)
		metric_number(t, METRIC_LABEL("class", classes[i]), st->of[i].bytes_blob);
	metric_family(t, "firstlight_fetch_content_bytes_total", METRIC_COUNTER,
		      "Bytes of the chunks, decompressed and verified.");
	for (int i = 0; i < FETCH_CLASSES; i++)
		metric_number(t, METRIC_LABEL("class", classes[i]), st->of[i].bytes_content);
}

static void tell_fetch(const struct metrics *m, struct metrics_text *t)
{
	struct fetch_stats st;

	if (!m->o.services->fetcher)
		return;
	fetch_stats(m->o.services->fetcher, &st);
	tell_amounts(&st, t);
	metric_one(t, "firstlight_fetch_waiting", METRIC_GAUGE, "Reads that wait for contents now.",
		   st.waiting);
	metric_one(t, "firstlight_fetch_failures_total", METRIC_COUNTER,
		   "Waits of them that ended without the contents.", st.failed_reads);
	metric_one(t, "firstlight_fetch_bad_chunks_total", METRIC_COUNTER,
		   "Chunks that came with wrong bytes.", st.bad_chunks);
	metric_one(t, "firstlight_fetch_unwritten_chunks_total", METRIC_COUNTER,
		   "Chunks that the disk did not take.", st.unwritten);
	metric_one(t, "firstlight_memory_content_bytes", METRIC_GAUGE,
		   "What is held of them in memory for reads.", st.memory);
	metric_one(t, "firstlight_memory_read_bytes_total", METRIC_COUNTER,
		   "What reads have got from there.", st.bytes_memory);
	metric_one(t, "firstlight_early_memory_bytes", METRIC_GAUGE,
		   "Compressed bytes held that were asked for before their layer was known.",
		   st.early_memory);
	metric_one(t, "firstlight_early_bytes_total", METRIC_COUNTER, "Such bytes that have come.",
		   st.early_bytes);
	metric_one(t, "firstlight_early_used_bytes_total", METRIC_COUNTER,
		   "Those of them that were wanted.", st.early_taken);
}

/* --- registries ------------------------------------------------------------------------------- */

static void tell_queues(const struct registry_stats *st, struct metrics_text *t)
{
	metric_family(t, "firstlight_registry_requests_running", METRIC_GAUGE,
		      "Requests under way, by class.");
	for (int i = 0; i < FETCH_CLASSES; i++)
		metric_number(t, METRIC_LABEL("class", classes[i]), st->running[i]);
	metric_family(t, "firstlight_registry_requests_waiting", METRIC_GAUGE,
		      "Requests that wait for those to end, by class.");
	for (int i = 0; i < FETCH_CLASSES; i++)
		metric_number(t, METRIC_LABEL("class", classes[i]), st->waiting[i]);
}

static void tell_hosts(const struct registry *r, struct metrics_text *t)
{
	static const char *const outcomes[REQUEST_OUTCOMES] = {"ok", "4xx", "5xx", "network",
							       "cancelled"};
	size_t n;
	const struct registry_host *hosts = registry_hosts(r, &n);

	metric_family(t, "firstlight_registry_requests_total", METRIC_COUNTER,
		      "Requests by host and outcome; without those for tokens.");
	for (size_t i = 0; i < n; i++) {
		struct str host = str_of(hosts[i].authority ? hosts[i].authority : "other");

		for (int o = 0; o < REQUEST_OUTCOMES; o++) {
			const struct metric_label labels[] = {{"host", host},
							      {"outcome", str_of(outcomes[o])}};

			if (hosts[i].requests[o])
				metric_number(t, labels, array_size(labels), hosts[i].requests[o]);
		}
	}
}

static void tell_registry(const struct metrics *m, struct metrics_text *t)
{
	const struct registry *r = m->o.services->registry;
	struct registry_stats st;
	uint64_t bytes = 0;

	if (!r)
		return;
	registry_stats(r, &st);
	for (int i = 0; i < FETCH_CLASSES; i++)
		bytes += st.bytes[i];
	tell_hosts(r, t);
	metric_family(t, "firstlight_registry_bytes_total", METRIC_COUNTER,
		      "Bytes of manifests and blobs, by who gave them: the image's own registry, "
		      "or a mirror of hosts.toml.");
	metric_number(t, METRIC_LABEL("source", "registry"), bytes - st.bytes_mirror);
	metric_number(t, METRIC_LABEL("source", "mirror"), st.bytes_mirror);
	tell_queues(&st, t);
	metric_one(t, "firstlight_registry_retries_total", METRIC_COUNTER,
		   "Requests that were made again.", st.retries);
	metric_one(t, "firstlight_registry_throttled_total", METRIC_COUNTER,
		   "Answers that said: too many requests (429).", st.throttled);
	metric_one(t, "firstlight_registry_breakers_open", METRIC_GAUGE,
		   "Hosts that are not asked now, since they failed too often.", st.breakers);
	metric_one(t, "firstlight_registry_breakers_opened_total", METRIC_COUNTER,
		   "How often that has begun.", st.breaker_open);
}

/* --- starts ----------------------------------------------------------------------------------- */

static void tell_access(const struct starts *s, struct metrics_text *t)
{
	struct access *a = starts_access(s);
	struct access_stats st;

	metric_family(t, "firstlight_access_program_usable", METRIC_GAUGE,
		      "Is there nothing in the way of this BPF program? By its tracepoint.");
	if (!a)
		return;
	access_stats(a, &st);
	for (size_t i = 0; i < ACCESS_PROGRAMS; i++)
		metric_number(t, METRIC_LABEL("tracepoint", st.programs[i].tracepoint),
			      !st.programs[i].reason);
}

static void tell_predictions(const struct starts_stats *st, struct metrics_text *t)
{
	const struct {
		const char *result;
		uint64_t bytes;
	} all[] = {{"hit", st->hit_bytes},
		   {"late", st->late_bytes},
		   {"missed", st->missed_bytes},
		   {"unforeseen", st->unforeseen_bytes},
		   {"wasted", st->wasted_bytes}};

	metric_family(
		t, "firstlight_prediction_bytes_total", METRIC_COUNTER,
		"Of starts with a profile: first uses that were here in time (hit), on their "
		"way (late), not asked for yet (missed), not in the profile (unforeseen); and "
		"what was fetched and not used (wasted).");
	for (size_t i = 0; i < array_size(all); i++)
		metric_number(t, METRIC_LABEL("result", all[i].result), all[i].bytes);
	metric_one(t, "firstlight_prediction_asked_bytes_total", METRIC_COUNTER,
		   "Content that predictions have asked for.", st->asked_bytes);
	metric_one(t, "firstlight_predictions_stopped_total", METRIC_COUNTER,
		   "Starts whose prediction was wrong too often, and ended.", st->stopped);
}

static void tell_starts(const struct metrics *m, struct metrics_text *t)
{
	const struct services *s = m->o.services;
	struct profiles_stats ps;
	struct starts_stats st;

	profiles_stats(s->profiles, &ps);
	metric_one(t, "firstlight_profiles", METRIC_GAUGE, "Programs whose starts are known.",
		   ps.n);
	metric_one(t, "firstlight_profiles_bytes", METRIC_GAUGE, "What their records take.",
		   ps.bytes);
	metric_one(t, "firstlight_profiles_evicted_total", METRIC_COUNTER,
		   "Profiles that had to make room.", ps.evicted);
	if (!s->starts)
		return;
	starts_stats(s->starts, &st);
	metric_one(t, "firstlight_starts_watched", METRIC_GAUGE,
		   "Containers that are starting, and watched.", st.watched);
	metric_one(t, "firstlight_starts_total", METRIC_COUNTER, "Such starts.", st.begun);
	metric_one(t, "firstlight_starts_foreseen_total", METRIC_COUNTER,
		   "Those of them that had a profile.", st.foreseen);
	metric_one(t, "firstlight_starts_learnt_total", METRIC_COUNTER,
		   "Those that went into a profile.", st.learnt);
	metric_one(t, "firstlight_access_touches_total", METRIC_COUNTER,
		   "First touches of watched containers.", st.touches);
	metric_one(t, "firstlight_access_lost_total", METRIC_COUNTER,
		   "Records of touches that found BPF's ring buffer full.", st.lost);
	metric_one(t, "firstlight_access_unmatched_total", METRIC_COUNTER,
		   "Contents that were touched and are no file of the image.", st.unmatched);
	tell_predictions(&st, t);
	tell_access(s->starts, t);
}

/* --- the table -------------------------------------------------------------------------------- */

typedef void tell_fn(const struct metrics *m, struct metrics_text *t);

static tell_fn *const table[] = {
	tell_build,  tell_process, tell_loop,  tell_calls, tell_events,   tell_snapshots,
	tell_layers, tell_store,   tell_reads, tell_fetch, tell_registry, tell_starts,
};

/* A metrics_fn. */
static void tell_all(void *arg, struct metrics_text *t)
{
	for (size_t i = 0; i < array_size(table); i++)
		table[i](arg, t);
}

/* --- life ------------------------------------------------------------------------------------- */

int metrics_new(struct loop *loop, const struct metrics_options *options, struct metrics **ret,
		struct err *err)
{
	struct metrics *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	m->o = *options;
	m->start_s = time(NULL);
	r = metrics_http_new(loop, options->address, tell_all, m, &m->http, err);
	if (r < 0) {
		free(m);
		return r;
	}
	*ret = m;
	return 0;
}

may_suspend void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	metrics_http_free(m->http);
	free(m);
}
