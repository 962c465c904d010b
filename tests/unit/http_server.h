/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scripted HTTP server on a loopback port: a thread for each connection, which hands each
 * request's head to a function of the test. For test_http.c and test_registry.c. Checks abort: a
 * longjmp out of a task's stack would leave the loop in pieces.
 */
#ifndef FIRSTLIGHT_TESTS_HTTP_SERVER_H
#define FIRSTLIGHT_TESTS_HTTP_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define SERVER_CONNECTIONS 64
#define SERVER_HEAD_MAX    8192

struct server;

/* A request; false: close the connection. */
struct request {
	struct server *server;
	int fd, connection;
	unsigned number; /* of the server's requests, from 0 */
	char head[SERVER_HEAD_MAX];
	char body[SERVER_HEAD_MAX];
};
typedef bool serve_fn(struct request *q);

struct server {
	serve_fn *serve;
	void *arg;
	int listen_fd, wake[2];
	unsigned port;
	pthread_t thread, threads[SERVER_CONNECTIONS];
	int fds[SERVER_CONNECTIONS];
	unsigned connections, requests;
	unsigned running, running_max; /* requests that are being served */
	pthread_mutex_t lock;
	char log[65536]; /* "GET /path;" of each request */
};

static inline void out(struct request *q, const void *data, size_t n)
{
	const char *p = data;
	ssize_t r;

	while (n) {
		r = send(q->fd, p, n, MSG_NOSIGNAL);
		if (r <= 0)
			return;
		p += r;
		n -= (size_t)r;
	}
}

__attribute__((format(printf, 2, 3))) static inline void outf(struct request *q, const char *fmt,
							      ...)
{
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	out(q, text, strlen(text));
}

static inline bool asks(const struct request *q, const char *text)
{
	return strstr(q->head, text) != NULL;
}

/* Sleeps, but not longer than the server lives. */
static inline void stall(struct request *q, int ms)
{
	struct pollfd p = {.fd = q->server->wake[0], .events = POLLIN};

	poll(&p, 1, ms);
}

static inline bool server_read(struct request *q)
{
	struct server *s = q->server;
	struct pollfd p[2] = {{.fd = q->fd, .events = POLLIN},
			      {.fd = s->wake[0], .events = POLLIN}};
	size_t n = 0, length = 0;
	char *end, *l;

	memset(q->head, 0, sizeof(q->head));
	memset(q->body, 0, sizeof(q->body));
	while (!(end = strstr(q->head, "\r\n\r\n"))) {
		ssize_t r;

		if (n + 1 >= sizeof(q->head) || poll(p, 2, -1) <= 0 || p[1].revents)
			return false;
		r = recv(q->fd, q->head + n, sizeof(q->head) - 1 - n, 0);
		if (r <= 0)
			return false;
		n += (size_t)r;
		if (q->head[0] == 0x16) { /* a ClientHello; so does Go's server */
			outf(q, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request");
			return false;
		}
	}
	l = strstr(q->head, "Content-Length: ");
	if (l)
		length = strtoul(l + 16, NULL, 10);
	n -= (size_t)(end + 4 - q->head);
	memcpy(q->body, end + 4, n);
	end[4] = 0;
	while (n < length && n + 1 < sizeof(q->body)) {
		ssize_t r = recv(q->fd, q->body + n, sizeof(q->body) - 1 - n, 0);

		if (r <= 0)
			return false;
		n += (size_t)r;
	}
	return true;
}

static inline void server_log(struct request *q)
{
	struct server *s = q->server;
	size_t n = strlen(s->log), line = strcspn(q->head, "\r");

	if (line > 9)
		line -= 9; /* " HTTP/1.1" */
	if (n + line + 2 < sizeof(s->log))
		snprintf(s->log + n, sizeof(s->log) - n, "%.*s;", (int)line, q->head);
}

struct server_job {
	struct server *server;
	int connection;
};

static inline void *server_connection(void *arg)
{
	struct server_job *j = arg;
	struct server *s = j->server;
	struct request *q = calloc(1, sizeof(*q));
	bool on = true;

	q->server = s;
	q->connection = j->connection;
	q->fd = s->fds[j->connection];
	free(j);
	while (on && server_read(q)) {
		pthread_mutex_lock(&s->lock);
		q->number = s->requests++;
		server_log(q);
		if (++s->running > s->running_max)
			s->running_max = s->running;
		pthread_mutex_unlock(&s->lock);
		on = s->serve(q);
		pthread_mutex_lock(&s->lock);
		s->running--;
		pthread_mutex_unlock(&s->lock);
	}
	shutdown(q->fd, SHUT_RDWR);
	free(q);
	return NULL;
}

static inline void *server_accept(void *arg)
{
	struct server *s = arg;
	struct pollfd p[2] = {{.fd = s->listen_fd, .events = POLLIN},
			      {.fd = s->wake[0], .events = POLLIN}};

	while (poll(p, 2, -1) > 0 && !p[1].revents) {
		struct server_job *j;
		int fd = accept(s->listen_fd, NULL, NULL);

		if (fd < 0)
			continue;
		check(s->connections < SERVER_CONNECTIONS);
		j = malloc(sizeof(*j));
		*j = (struct server_job){s, (int)s->connections};
		s->fds[s->connections] = fd;
		check(pthread_create(&s->threads[s->connections], NULL, server_connection, j) == 0);
		s->connections++;
	}
	return NULL;
}

static inline void server_start(struct server *s, serve_fn *serve, void *arg)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(a);

	memset(s, 0, sizeof(*s));
	s->serve = serve;
	s->arg = arg;
	pthread_mutex_init(&s->lock, NULL);
	s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(pipe(s->wake) == 0);
	check(bind(s->listen_fd, (struct sockaddr *)&a, len) == 0 && listen(s->listen_fd, 64) == 0);
	check(getsockname(s->listen_fd, (struct sockaddr *)&a, &len) == 0);
	s->port = ntohs(a.sin_port);
	check(pthread_create(&s->thread, NULL, server_accept, s) == 0);
}

static inline void server_stop(struct server *s)
{
	check(write(s->wake[1], "x", 1) == 1);
	pthread_join(s->thread, NULL);
	for (unsigned i = 0; i < s->connections; i++) {
		shutdown(s->fds[i], SHUT_RDWR);
		pthread_join(s->threads[i], NULL);
		close(s->fds[i]);
	}
	close(s->listen_fd);
	close(s->wake[0]);
	close(s->wake[1]);
	pthread_mutex_destroy(&s->lock);
}

#endif
