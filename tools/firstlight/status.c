// SPDX-License-Identifier: Apache-2.0
/* firstlight status: what the daemon has and does. */
#include "status.h"

#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "options.h"

#include "base/banned.h"

static bool json;

static void json_queues(struct out_json *j, const Flc__StatusResponse *s)
{
	out_json_open(j, "queues", '[');
	for (size_t i = 0; i < s->n_queues; i++) {
		const Flc__Queue *q = s->queues[i];

		out_json_open(j, NULL, '{');
		out_json_text(j, "name", q->name);
		out_json_uint(j, "running", q->running);
		out_json_uint(j, "waiting", q->waiting);
		out_json_uint(j, "requests", q->requests);
		out_json_uint(j, "bytes", q->bytes);
		out_json_close(j, '}');
	}
	out_json_close(j, ']');
}

void status_json(const Flc__StatusResponse *s)
{
	const struct {
		const char *name;
		uint64_t v;
	} numbers[] = {
		{"uptime_ms", s->uptime_ms},
		{"snapshots", s->snapshots},
		{"active", s->active},
		{"views", s->views},
		{"committed", s->committed},
		{"lazy", s->lazy},
		{"layers", s->layers},
		{"layers_complete", s->layers_complete},
		{"runs", s->runs},
		{"store_bytes", s->store_bytes},
		{"store_max", s->store_max},
		{"store_complete", s->store_complete},
		{"store_partial", s->store_partial},
		{"disk_free", s->disk_free},
		{"disk_size", s->disk_size},
		{"chunks", s->chunks},
		{"bytes_blob", s->bytes_blob},
		{"bytes_content", s->bytes_content},
		{"bad_chunks", s->bad_chunks},
		{"failed_reads", s->failed_reads},
		{"retries", s->retries},
		{"throttled", s->throttled},
		{"breaker_open", s->breaker_open},
		{"reads_waiting", s->reads_waiting},
		{"reads", s->reads},
		{"reads_missed", s->reads_missed},
		{"opens", s->opens},
		{"opens_passthrough", s->opens_passthrough},
		{"rss", s->rss},
		{"fds", s->fds},
		{"pulls", s->pulls},
		{"starts", s->starts},
		{"starts_watched", s->starts_watched},
		{"starts_foreseen", s->starts_foreseen},
		{"foreseen_used", s->foreseen_used},
		{"foreseen_wasted", s->foreseen_wasted},
		{"profiles", s->profiles},
	};
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '{');
	for (size_t i = 0; i < array_size(numbers); i++)
		out_json_uint(&j, numbers[i].name, numbers[i].v);
	out_json_bool(&j, "draining", s->draining);
	json_queues(&j, s);
	out_json_close(&j, '}');
}

/* "1.2 MiB/s"; "" without a span. */
static const char *rate(char buf[2 * OUT_NUMBER_MAX], uint64_t now, uint64_t before, uint64_t ms,
			bool bytes)
{
	char n[OUT_NUMBER_MAX];
	uint64_t v = ms && now >= before ? (now - before) * 1000 / ms : 0;

	buf[0] = 0;
	if (ms && bytes)
		snprintf(buf, 2 * OUT_NUMBER_MAX, ", %s/s", out_size(v, n));
	else if (ms)
		snprintf(buf, 2 * OUT_NUMBER_MAX, ", %llu/s", (unsigned long long)v);
	return buf;
}

static void store(struct out_table *t, const Flc__StatusResponse *s)
{
	char a[OUT_NUMBER_MAX], b[OUT_NUMBER_MAX], c[OUT_NUMBER_MAX];

	out_fact(t, "store", "%s%s%s, %llu files complete, %llu partial",
		 out_size(s->store_bytes, a), s->store_max ? " of " : "",
		 s->store_max ? out_size(s->store_max, b) : "",
		 (unsigned long long)s->store_complete, (unsigned long long)s->store_partial);
	out_fact(t, "disk", "%s free of %s", out_size(s->disk_free, b), out_size(s->disk_size, c));
}

static void reads(struct out_table *t, const Flc__StatusResponse *s,
		  const Flc__StatusResponse *before, uint64_t ms)
{
	char r[2 * OUT_NUMBER_MAX], hit[OUT_NUMBER_MAX];

	out_fact(t, "reads", "%llu by FUSE, %s local%s; %u wait, %llu failed",
		 (unsigned long long)s->reads,
		 out_percent(s->reads - s->reads_missed, s->reads, hit),
		 rate(r, s->reads, before ? before->reads : 0, ms, false), s->reads_waiting,
		 (unsigned long long)s->failed_reads);
	out_fact(t, "opens", "%llu by FUSE, %llu passthrough", (unsigned long long)s->opens,
		 (unsigned long long)s->opens_passthrough);
}

static void starts(struct out_table *t, const Flc__StatusResponse *s)
{
	uint64_t all = s->foreseen_used + s->foreseen_wasted;
	char used[OUT_NUMBER_MAX];

	out_fact(t, "starts", "%llu, %llu foreseen, %llu watched now; %llu profiles, %s used",
		 (unsigned long long)s->starts, (unsigned long long)s->starts_foreseen,
		 (unsigned long long)s->starts_watched, (unsigned long long)s->profiles,
		 out_percent(s->foreseen_used, all, used));
}

static void queues(struct out_table *t, const Flc__StatusResponse *s,
		   const Flc__StatusResponse *before, uint64_t ms)
{
	char bytes[OUT_NUMBER_MAX], r[2 * OUT_NUMBER_MAX];

	for (size_t i = 0; i < s->n_queues; i++) {
		const Flc__Queue *q = s->queues[i];
		uint64_t was = before && i < before->n_queues ? before->queues[i]->bytes : 0;

		out_fact(t, q->name, "%u running, %u waiting; %llu requests, %s%s", q->running,
			 q->waiting, (unsigned long long)q->requests, out_size(q->bytes, bytes),
			 rate(r, q->bytes, was, ms, true));
	}
}

void status_facts(struct out_table *t, const Flc__StatusResponse *s,
		  const Flc__StatusResponse *before, uint64_t ms)
{
	char a[OUT_NUMBER_MAX], b[OUT_NUMBER_MAX], r[2 * OUT_NUMBER_MAX];

	out_fact(t, "up", "%s, %s resident, %llu descriptors%s", out_duration(s->uptime_ms, a),
		 out_size(s->rss, b), (unsigned long long)s->fds, s->draining ? ", draining" : "");
	out_fact(t, "snapshots", "%llu: %llu active, %llu views, %llu layers (%llu lazy)",
		 (unsigned long long)s->snapshots, (unsigned long long)s->active,
		 (unsigned long long)s->views, (unsigned long long)s->committed,
		 (unsigned long long)s->lazy);
	out_fact(t, "lazy layers", "%llu, %llu complete; %llu metadata images mounted",
		 (unsigned long long)s->layers, (unsigned long long)s->layers_complete,
		 (unsigned long long)s->runs);
	store(t, s);
	reads(t, s, before, ms);
	out_fact(t, "fetched", "%s as %s in %llu chunks%s; %llu bad", out_size(s->bytes_content, a),
		 out_size(s->bytes_blob, b), (unsigned long long)s->chunks,
		 rate(r, s->bytes_blob, before ? before->bytes_blob : 0, ms, true),
		 (unsigned long long)s->bad_chunks);
	queues(t, s, before, ms);
	out_fact(t, "registries", "%llu retries, %llu throttled, %llu breakers open",
		 (unsigned long long)s->retries, (unsigned long long)s->throttled,
		 (unsigned long long)s->breaker_open);
	out_fact(t, "pulls", "%llu", (unsigned long long)s->pulls);
	starts(t, s);
}

static may_suspend int ask(struct client *c, void *arg)
{
	Flc__Empty req = FLC__EMPTY__INIT;
	Flc__StatusResponse *s;
	struct out_table *t;
	int r = client_call(c, CONTROL_METHOD("Status"), &req, &flc__status_response__descriptor,
			    CLIENT_TIMEOUT_MS, &s);

	(void)arg;
	if (r < 0)
		return r;
	if (json) {
		status_json(s);
	} else {
		t = out_facts_new(false);
		status_facts(t, s, NULL, 0);
		out_table_end(t);
	}
	client_free(s);
	return 0;
}

int cmd_status(int argc, char **argv)
{
	const char *address = options_address();
	const struct option_spec specs[] = {OPTION_ADDRESS(&address), OPTION_JSON(&json)};
	const struct options o = {
		.command = "status",
		.text = "Shows what the daemon has and does. Counters are since its worker's "
			"start.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	return r != OPTIONS_GO ? r : client_run("status", address, ask, NULL);
}
