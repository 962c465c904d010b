// SPDX-License-Identifier: Apache-2.0
/*
 * Fetches from a registry through image/registry.c, to standard output.
 * usage: registry_get HOSTS-DIRS|- DOCKER-CONFIG REF DIGEST-OF-BLOB OFF|tail LEN [twice]
 *        (twice: once more for the background, over the same connections if it may)
 *        registry_get HOSTS-DIRS|- DOCKER-CONFIG REF manifest DIGEST
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "image/registry.h"
#include "loop/loop.h"
#include "loop/work.h"

struct get {
	char **argv;
	struct http *http;
	struct work *threads;
	struct registry *r;
	struct err err;
};

static int on_data(void *arg, uint64_t off, const void *data, size_t n)
{
	(void)arg, (void)off;
	return fwrite(data, 1, n, stdout) == n ? 0 : -EIO;
}

static may_suspend int manifest(struct get *g)
{
	struct buf body = BUF_INIT;
	struct digest d;
	int r = digest_parse(str_of(g->argv[5]), &d);

	if (r == 0)
		r = registry_manifest(g->r, str_of(g->argv[3]), &d, FETCH_DEMAND, &body, &g->err);
	if (r == 0)
		r = on_data(NULL, 0, body.data, body.len);
	buf_fini(&body);
	return r;
}

static may_suspend int blob(struct get *g)
{
	struct blob_request q = {.ref = str_of(g->argv[3]), .on_data = on_data};
	struct blob_answer answer;
	int r = digest_parse(str_of(g->argv[4]), &q.digest);

	if (r < 0)
		return r;
	q.off = strcmp(g->argv[5], "tail") == 0 ? BLOB_TAIL : strtoull(g->argv[5], NULL, 10);
	q.len = strtoull(g->argv[6], NULL, 10);
	r = registry_blob(g->r, &q, &answer, &g->err);
	q.class = FETCH_BACKGROUND;
	if (r == 0 && g->argv[7])
		r = registry_blob(g->r, &q, &answer, &g->err);
	fprintf(stderr, "host=%s status=%d size=%llu\n", answer.host_name, answer.status,
		(unsigned long long)answer.blob_size);
	return r;
}

static int in_loop(void *arg)
{
	struct get *g = arg;
	struct registry_options o = {.hosts_dirs = strcmp(g->argv[1], "-") ? g->argv[1] : NULL,
				     .docker_config = g->argv[2],
				     .user_agent = "registry_get"};
	int r = work_new(loop_self(), "get", 2, &g->threads, &g->err);

	if (r == 0)
		r = http_new(loop_self(), &g->http, &g->err);
	if (r == 0)
		r = registry_new(loop_self(), g->http, g->threads, &o, &g->r, &g->err);
	if (r == 0)
		r = strcmp(g->argv[4], "manifest") == 0 ? manifest(g) : blob(g);
	registry_free(g->r);
	http_free(g->http);
	work_free(g->threads);
	return r;
}

int main(int argc, char **argv)
{
	struct get g = {.argv = argv};
	struct loop *loop;
	int r;

	if (argc < 6 || (argc < 7 && strcmp(argv[4], "manifest") != 0))
		return 2;
	r = loop_new(&loop, &g.err);
	if (r == 0) {
		r = loop_run(loop, in_loop, &g);
		loop_free(loop);
	}
	if (r < 0)
		fprintf(stderr, "%d %s\n", r, err_text(&g.err, r));
	return r < 0;
}
