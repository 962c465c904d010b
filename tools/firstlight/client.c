// SPDX-License-Identifier: Apache-2.0
/*
 * The connection to the daemon. Owns the loop, the connection, and the text of a failure until it
 * is printed. Messages are decoded into an arena with a cap: a short one can ask for much memory.
 */
#include "client.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/limits.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "net/grpc.h"
#include "out.h"

#include "base/banned.h"

#define DIAL_TIMEOUT_MS    10000
#define MESSAGE_MEMORY_MAX MiB(256)

struct client {
	const char *command, *address;
	client_fn *fn;
	void *arg;
	bool optional; /* fn runs without a daemon too */
	struct grpc_client *grpc;
	struct task *main;
	struct scope signals;
	int signal_fd, caught;
	struct err err;
	char hint[ERR_TEXT_MAX];
};

int client_fail(struct client *c, int code, const char *fmt, ...)
{
	va_list ap;

	c->hint[0] = 0;
	c->err.code = code;
	va_start(ap, fmt);
	vsnprintf(c->err.text, sizeof(c->err.text), fmt, ap);
	va_end(ap);
	return code;
}

const char *client_text(const struct client *c)
{
	return c->err.text;
}

static void printf_like(2, 3) hint(struct client *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->hint, sizeof(c->hint), fmt, ap);
	va_end(ap);
}

/* --- the connection ------------------------------------------------------------------------------
 */

/* The other side has ended the connection, or this side because of what it said. */
static bool is_cut(int r)
{
	return r == -ECONNRESET || r == -EPIPE || r == -ESHUTDOWN || r == -EPROTO;
}

static int closed(struct client *c, int r)
{
	client_fail(c, r, "the daemon has closed the connection");
	hint(c, "has firstlightd been restarted? try again");
	return r;
}

/* What err says of a failed dial, in the words of somebody who wants to know what to do. */
static void explain_dial(struct client *c, int r)
{
	struct stat st;

	if (r == -ENAMETOOLONG) {
		client_fail(c, r, "the path of the daemon's socket is longer than %zu bytes",
			    sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	} else if (r == -ENOENT || r == -ENOTDIR) {
		client_fail(c, r, "no daemon at %s", c->address);
		hint(c, "is firstlightd running? --address names another socket");
	} else if (r == -ECONNREFUSED && stat(c->address, &st) == 0 && !S_ISSOCK(st.st_mode)) {
		client_fail(c, r, "%s is not a socket", c->address);
	} else if (r == -ECONNREFUSED) {
		client_fail(c, r, "no daemon answers at %s", c->address);
		hint(c, "has firstlightd ended? its log says why");
	} else if (r == -EACCES || r == -EPERM) {
		client_fail(c, r, "no permission to open %s", c->address);
		hint(c, "run it as root");
	} else if (r == -ETIMEDOUT) {
		client_fail(c, r, "the daemon at %s does not answer", c->address);
		hint(c, "the log of firstlightd may say why");
	} else if (is_cut(r)) {
		client_fail(c, r, "what answers at %s does not speak as firstlightd", c->address);
		hint(c, "is it another server's socket? the log of firstlightd may say more");
	}
}

static may_suspend int dial(struct client *c)
{
	int r = grpc_dial(loop_self(), c->address, DIAL_TIMEOUT_MS, &c->grpc, &c->err);

	if (r < 0) {
		c->grpc = NULL;
		explain_dial(c, r);
	}
	return r;
}

may_suspend int client_reconnect(struct client *c)
{
	if (c->grpc && grpc_client_usable(c->grpc))
		return 0;
	grpc_client_close(take_ptr(c->grpc));
	return dial(c);
}

/* --- calls ---------------------------------------------------------------------------------------
 */

static void *arena_alloc_fn(void *arena, size_t n)
{
	return arena_alloc(arena, n);
}

static void arena_free_fn(void *arena, void *p)
{
	(void)arena;
	(void)p;
}

/* The arena stands before its message. */
struct message {
	struct arena arena;
	ProtobufCMessage *msg;
};

static void message_free(struct message *m)
{
	if (!m)
		return;
	arena_fini(&m->arena);
	free(m);
}

static int decode(struct client *c, const char *method, const ProtobufCMessageDescriptor *type,
		  const struct buf *bytes, struct message **ret)
{
	struct message *m = calloc(1, sizeof(*m));
	ProtobufCAllocator allocator = {arena_alloc_fn, arena_free_fn, NULL};

	if (!m)
		out_no_memory();
	arena_init(&m->arena, MESSAGE_MEMORY_MAX);
	allocator.allocator_data = &m->arena;
	m->msg = protobuf_c_message_unpack(type, &allocator, bytes->len, bytes->data);
	if (!m->msg) {
		message_free(m);
		client_fail(c, -EBADMSG, "the answer to %s cannot be read",
			    strrchr(method, '/') + 1);
		hint(c, "do firstlight and firstlightd have the same version?");
		return -EBADMSG;
	}
	*ret = m;
	return 0;
}

/* The messages that client_call() has answered, to find their arenas. */
struct answer {
	struct answer *next;
	struct message *message;
};

static struct answer *answers;

static void *answer_keep(struct message *m)
{
	struct answer *a = malloc(sizeof(*a));

	if (!a)
		out_no_memory();
	*a = (struct answer){answers, m};
	answers = a;
	return m->msg;
}

void client_free(void *msg)
{
	for (struct answer **at = &answers, *a; (a = *at); at = &a->next) {
		if (a->message->msg != msg)
			continue;
		*at = a->next;
		message_free(a->message);
		free(a);
		return;
	}
}

/* What the daemon or the connection said, turned into words. */
static int explain_call(struct client *c, const char *method, enum grpc_code code)
{
	int r = grpc_code_errno(code);
	const char *name = strrchr(method, '/') + 1;

	if (code == GRPC_UNIMPLEMENTED && strstr(c->err.text, "unknown method")) {
		client_fail(c, r, "the daemon does not know %s", name);
		hint(c, "it is older than this command: restart firstlightd after an upgrade");
	} else if (code == GRPC_DEADLINE_EXCEEDED &&
		   strcmp(c->err.text, "deadline exceeded") == 0) {
		client_fail(c, r, "the daemon did not answer %s in time", name);
		hint(c, "the log of firstlightd may say why");
	} else if (code == GRPC_UNAVAILABLE &&
		   (strcmp(c->err.text, "the connection was lost") == 0 ||
		    strcmp(c->err.text, "the server has refused the call") == 0)) {
		closed(c, r);
	} else if (code == GRPC_INVALID_ARGUMENT) {
		hint(c, "see firstlight %s --help", c->command);
	}
	return r;
}

/* Sends req as the only message. */
static may_suspend int start(struct client *c, const char *method, const ProtobufCMessage *req,
			     unsigned timeout_ms, struct grpc_call **ret_call)
{
	auto_free uint8_t *bytes = malloc(protobuf_c_message_get_packed_size(req) + 1);
	struct grpc_call *call;
	int r;

	if (!bytes)
		out_no_memory();
	r = grpc_call_start(c->grpc, method, NULL, 0, timeout_ms, &call, &c->err);
	if (r < 0)
		return is_cut(r) ? closed(c, r) : r;
	/* A failure shows in grpc_finish(), with the server's reason. */
	if (grpc_send(call, bytes, protobuf_c_message_pack(req, bytes)) == 0)
		(void)grpc_close_send(call);
	*ret_call = call;
	return 0;
}

may_suspend int client_stream(struct client *c, const char *method, const void *req,
			      const ProtobufCMessageDescriptor *resp_type, unsigned timeout_ms,
			      client_message_fn *fn, void *arg)
{
	auto_buf struct buf bytes = BUF_INIT;
	struct grpc_call *call;
	struct message *m;
	enum grpc_code code;
	int r, own = 0; /* a failure on this side */

	r = start(c, method, req, timeout_ms, &call);
	if (r < 0)
		return r;
	while (own == 0 && (r = grpc_recv(call, &bytes)) == 1) {
		own = decode(c, method, resp_type, &bytes, &m);
		if (own == 0) {
			own = fn(arg, m->msg);
			message_free(m);
		}
	}
	if (own < 0) {
		grpc_cancel(call);
		(void)grpc_finish(call, NULL);
		return own;
	}
	code = grpc_finish(call, &c->err);
	if (code != GRPC_OK)
		return explain_call(c, method, code);
	return r < 0 ? client_fail(c, r, "%s: the answer broke off", strrchr(method, '/') + 1) : 0;
}

may_suspend int client_call(struct client *c, const char *method, const void *req,
			    const ProtobufCMessageDescriptor *resp_type, unsigned timeout_ms,
			    void *ret_resp)
{
	auto_buf struct buf bytes = BUF_INIT;
	struct grpc_call *call;
	struct message *m;
	enum grpc_code code;
	int r;

	r = start(c, method, req, timeout_ms, &call);
	if (r < 0)
		return r;
	r = grpc_recv(call, &bytes);
	code = grpc_finish(call, &c->err);
	if (code != GRPC_OK)
		return explain_call(c, method, code);
	if (r != 1)
		return client_fail(c, -EBADMSG, "%s: no message in the answer",
				   strrchr(method, '/') + 1);
	r = decode(c, method, resp_type, &bytes, &m);
	if (r == 0)
		*(void **)ret_resp = answer_keep(m);
	return r;
}

/* --- the frame -----------------------------------------------------------------------------------
 */

static may_suspend int watch_signals(void *arg)
{
	struct client *c = arg;
	struct signalfd_siginfo si;

	if (io_read(c->signal_fd, &si, sizeof(si), 0, 0) == sizeof(si)) {
		c->caught = (int)si.ssi_signo;
		task_cancel(c->main);
	}
	return 0;
}

static may_suspend int serve(struct client *c)
{
	int r = dial(c);

	if (r < 0)
		return c->optional && !c->caught ? c->fn(NULL, c->arg) : r;
	r = c->fn(c, c->arg);
	grpc_client_close(take_ptr(c->grpc));
	return r;
}

static may_suspend int run(void *arg)
{
	struct client *c = arg;
	int r;

	c->main = task_self();
	scope_init(&c->signals, loop_self());
	r = scope_spawn(&c->signals, watch_signals, c, NULL);
	if (r == 0)
		r = serve(c);
	scope_cancel(&c->signals);
	scope_wait(&c->signals);
	scope_fini(&c->signals);
	while (answers)
		client_free(answers->message->msg);
	return r;
}

static int finish(struct client *c, int r)
{
	const char *text;

	if (c->caught) {
		fflush(stdout);
		return 128 + c->caught;
	}
	if (r >= 0)
		return r == 0 ? out_done(c->command) : r;
	text = err_text(&c->err, r);
	out_fail(c->command, "%s", text);
	if (c->hint[0])
		out_hint("%s", c->hint);
	else
		out_hint_room(text);
	return 1;
}

static int run_loop(struct client *c)
{
	struct loop *loop;
	sigset_t set, old;
	int r;

	if (loop_new(&loop, &c->err) < 0)
		return out_fail(c->command, "%s", c->err.text);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, &old);
	c->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	r = c->signal_fd < 0 ? client_fail(c, -errno, "signalfd failed") : loop_run(loop, run, c);
	if (c->signal_fd >= 0)
		close(c->signal_fd);
	loop_free(loop);
	r = finish(c, r);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return r;
}

int client_run(const char *command, const char *address, client_fn *fn, void *arg)
{
	struct client c = {.command = command, .address = address, .fn = fn, .arg = arg};

	return run_loop(&c);
}

int client_try(const char *command, const char *address, client_fn *fn, void *arg)
{
	struct client c = {
		.command = command, .address = address, .fn = fn, .arg = arg, .optional = true};

	return run_loop(&c);
}
