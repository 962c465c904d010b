// SPDX-License-Identifier: Apache-2.0
/* firstlight snapshots: what the daemon's List answers, one line a snapshot. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cmd.h"
#include "loop/loop.h"
#include "net/grpc.h"
#include "proto/snapshots.pb-c.h"

#include "base/banned.h"

#define METHOD     "/containerd.services.snapshots.v1.Snapshots/List"
#define TIMEOUT_MS 30000

static const char usage[] = "usage: firstlight snapshots [--address SOCKET] [FILTER…]\n\n"
			    "Lists kind, creation time, name and parent of the daemon's snapshots. "
			    "A FILTER is containerd's\n"
			    "(kind==active, labels.\"key\"==value, …); several: any of them.\n"
			    "SOCKET is /run/firstlight/firstlight.sock unless given.\n";

struct listing {
	const char *address;
	char **filters;
	size_t n;
};

static void print_info(const Fl__Info *i)
{
	static const char *const kinds[] = {"unknown", "view", "active", "committed"};
	time_t t = i->created_at ? (time_t)i->created_at->seconds : 0;
	char when[32];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	printf("%-9s %s %s %s\n", (unsigned)i->kind < 4 ? kinds[i->kind] : "?", when, i->name,
	       i->parent[0] ? i->parent : "-");
}

may_suspend static int receive(struct grpc_call *call)
{
	auto_buf struct buf msg = BUF_INIT;
	Fl__ListResponse *resp;
	int r;

	while ((r = grpc_recv(call, &msg)) > 0) {
		resp = fl__list_response__unpack(NULL, msg.len, msg.data);
		if (!resp)
			return -EBADMSG;
		for (size_t i = 0; i < resp->n_info; i++)
			print_info(resp->info[i]);
		fl__list_response__free_unpacked(resp, NULL);
	}
	return r;
}

may_suspend static int ask(struct grpc_client *client, const struct listing *l, struct err *err)
{
	Fl__ListRequest req = FL__LIST_REQUEST__INIT;
	auto_free uint8_t *bytes = NULL;
	struct grpc_call *call;
	enum grpc_code code;
	int r;

	req.filters = l->filters;
	req.n_filters = l->n;
	bytes = malloc(fl__list_request__get_packed_size(&req) + 1);
	if (!bytes)
		return err_set(err, -ENOMEM, "out of memory");
	r = grpc_call_start(client, METHOD, NULL, 0, TIMEOUT_MS, &call, err);
	if (r < 0)
		return r;
	r = grpc_send(call, bytes, fl__list_request__pack(&req, bytes));
	if (r == 0)
		r = grpc_close_send(call);
	if (r == 0)
		r = receive(call);
	code = grpc_finish(call, err);
	return code == GRPC_OK ? r : grpc_code_errno(code);
}

may_suspend static int run(void *arg)
{
	struct listing *l = arg;
	struct grpc_client *client;
	struct err err = ERR_INIT;
	int r = grpc_dial(loop_self(), l->address, TIMEOUT_MS, &client, &err);

	if (r == 0) {
		r = ask(client, l, &err);
		grpc_client_close(client);
	}
	if (r < 0)
		fprintf(stderr, "firstlight: snapshots: %s\n", err_text(&err, r));
	return r < 0;
}

int cmd_snapshots(int argc, char **argv)
{
	static const struct option options[] = {
		{"address", required_argument, NULL, 'a'}, {"help", no_argument, NULL, 'h'}, {0}};
	struct listing l = {.address = "/run/firstlight/firstlight.sock"};
	struct err err = ERR_INIT;
	struct loop *loop;
	int c;

	while ((c = getopt_long(argc, argv, "a:h", options, NULL)) != -1) {
		if (c == 'a') {
			l.address = optarg;
			continue;
		}
		fputs(usage, c == 'h' ? stdout : stderr);
		return c == 'h' ? 0 : 2;
	}
	l.filters = argv + optind;
	l.n = (size_t)(argc - optind);
	if (loop_new(&loop, &err) < 0) {
		fprintf(stderr, "firstlight: %s\n", err.text);
		return 1;
	}
	c = loop_run(loop, run, &l);
	loop_free(loop);
	return c;
}
