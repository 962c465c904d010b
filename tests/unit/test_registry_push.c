// SPDX-License-Identifier: Apache-2.0
/* Pushes against a scripted registry: uploads that break, mounts from other repositories. */
#include "http_server.h"

#include "base/limits.h"
#include "image/registry_push.h"
#include "loop/loop.h"
#include "loop/work.h"

#define SIZE (1u << 20)

struct fixture {
	struct server server;
	struct registry *r;
	void (*fn)(struct fixture *f);
	unsigned breaks;          /* uploads that break before one succeeds */
	bool half, lost, refuses; /* in the middle of the body; behind it, the blob is there; 403 */
	unsigned sessions, whole, there;
	char mounted[REF_PATH_MAX + 1];
	unsigned char body[SIZE];
	char ref[64];
};

/* The body, of which server_read() has taken a part. */
static bool take(struct request *q, const struct fixture *f, size_t n)
{
	size_t got = SERVER_HEAD_MAX - 1; /* at most: what is compared is the part behind it */
	static __thread unsigned char rest[SIZE];

	while (got < n) {
		ssize_t r = recv(q->fd, rest + got, n - got, 0);

		if (r <= 0)
			return false;
		got += (size_t)r;
	}
	return memcmp(rest + SERVER_HEAD_MAX - 1, f->body + SERVER_HEAD_MAX - 1,
		      n - SERVER_HEAD_MAX + 1) == 0;
}

static bool serve_put(struct request *q, struct fixture *f)
{
	char session[32];

	/* A session that has had bytes is not to be used again. */
	snprintf(session, sizeof(session), "/session-%u?", f->sessions);
	check(asks(q, session) && asks(q, "digest=sha256:"));
	if (f->refuses) {
		take(q, f, SIZE);
		outf(q, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
		return true;
	}
	if (f->sessions <= f->breaks && f->half) {
		check(take(q, f, SIZE / 2));
		return false;
	}
	check(take(q, f, SIZE));
	f->whole++;
	if (f->sessions <= f->breaks) {
		f->there = f->lost;
		return false;
	}
	outf(q, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
	return true;
}

static bool serve(struct request *q)
{
	struct fixture *f = q->server->arg;
	const char *from = strstr(q->head, "&from=");

	if (strncmp(q->head, "PUT ", 4) == 0)
		return serve_put(q, f);
	if (strncmp(q->head, "HEAD ", 5) == 0) {
		outf(q, "HTTP/1.1 %s\r\nContent-Length: %u\r\n\r\n", f->there ? "200 OK" : "404 No",
		     f->there ? SIZE : 0);
		return true;
	}
	check(strncmp(q->head, "POST /v2/a/b/blobs/uploads/", 27) == 0);
	if (from && asks(q, "?mount=sha256:")) {
		snprintf(f->mounted, sizeof(f->mounted), "%.*s", (int)strcspn(from + 6, " "),
			 from + 6);
		outf(q, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
		return true;
	}
	f->sessions++;
	outf(q,
	     "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nLocation: "
	     "/v2/a/b/session-%u?_state=x\r\n\r\n",
	     f->sessions);
	return true;
}

static int in_loop(void *arg)
{
	struct fixture *f = arg;
	const struct registry_options o = {.user_agent = "test"};
	struct work *threads = NULL;
	struct http *http = NULL;

	check(work_new(loop_self(), "test", 2, &threads, NULL) == 0);
	check(http_new(loop_self(), &http, NULL) == 0);
	check(registry_new(loop_self(), http, threads, &o, &f->r, NULL) == 0);
	f->fn(f);
	registry_free(f->r);
	http_free(http);
	work_free(threads);
	return 0;
}

static void run(struct fixture *f)
{
	struct loop *loop;

	for (size_t i = 0; i < SIZE; i++)
		f->body[i] = (unsigned char)(i * 7 + i / 251);
	server_start(&f->server, serve, f);
	snprintf(f->ref, sizeof(f->ref), "127.0.0.1:%u/a/b:1", f->server.port);
	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(loop_run(loop, in_loop, f), 0);
	loop_free(loop);
	server_stop(&f->server);
}

static int put(struct fixture *f)
{
	struct digest d;

	sha256(f->body, SIZE, &d);
	return registry_put_blob(f->r, str_of(f->ref), &d, (struct str){(char *)f->body, SIZE},
				 NULL);
}

static void main_good(struct fixture *f)
{
	check(put(f) == 0);
}

static void main_never(struct fixture *f)
{
	check(put(f) < 0);
}

static void main_refused(struct fixture *f)
{
	check(put(f) == -EACCES);
}

static struct fixture *fixture(void (*fn)(struct fixture *f))
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->fn = fn;
	return f;
}

static void broken_upload(void **state)
{
	(void)state;
	for (unsigned breaks = 0; breaks <= 2; breaks += 2) {
		struct fixture *f = fixture(main_good);

		f->breaks = breaks;
		f->half = true;
		run(f);
		assert_int_equal(f->sessions, breaks + 1);
		assert_int_equal(f->whole, 1);
		free(f);
	}
}

static void lost_answer(void **state)
{
	struct fixture *f = fixture(main_good);

	(void)state;
	f->breaks = 1;
	f->lost = true;
	run(f);
	/* libcurl itself sends again what a kept connection has not answered. */
	assert_int_equal(f->sessions, 1);
	free(f);
}

static void broken_for_good(void **state)
{
	struct fixture *f = fixture(main_never);

	(void)state;
	f->breaks = 1000;
	f->half = true;
	run(f);
	assert_int_equal(f->sessions, REGISTRY_UPLOADS_MAX);
	assert_int_equal(f->whole, 0);
	free(f);
}

static void refused_upload(void **state)
{
	struct fixture *f = fixture(main_refused);

	(void)state;
	f->refuses = true;
	run(f);
	assert_int_equal(f->sessions, 1);
	free(f);
}

static void main_mount(struct fixture *f)
{
	static const struct digest d = {{1}};
	char name[REF_PATH_MAX + 1];

	for (size_t n = 1; n <= REF_PATH_MAX; n += 127) {
		memset(name, 'n', n);
		name[n] = 0;
		check(registry_mount_blob(f->r, str_of(f->ref), &d, name, NULL) == 1);
		check(strcmp(f->mounted, name) == 0);
	}
}

static void mount_of_long_names(void **state)
{
	struct fixture *f = fixture(main_mount);

	(void)state;
	run(f);
	assert_int_equal(f->sessions, 0);
	free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(broken_upload),       cmocka_unit_test(lost_answer),
		cmocka_unit_test(broken_for_good),     cmocka_unit_test(refused_upload),
		cmocka_unit_test(mount_of_long_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
