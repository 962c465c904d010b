// SPDX-License-Identifier: Apache-2.0
/*
 * The FUSE session. Owns the libfuse session, the requests that wait, and a reference to each
 * object that is open. The door to libfuse. Loop thread.
 *
 * /dev/fuse is not blocking and is polled by the ring: a read in the ring that a killed worker
 * leaves behind could take a request with it.
 */
#define FUSE_USE_VERSION 314
#include "fs/fill.h"

#include <fcntl.h>
#include <fuse3/fuse_log.h>
#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include "base/limits.h"
#include "base/log.h"
#include "fs/fill_job.h"
#include "fs/fill_open.h"
#include "fs/fill_read.h"
#include "fs/fill_state.h"
#include "fs/fill_wire.h"
#include "loop/io.h"

#include "base/banned.h"

#define FOREVER_S 1e9

struct job {
	struct fill_job job;
	struct fill *fill;
	fuse_req_t req;
	int (*run)(struct job *j); /* answers, or says why not */
	uint64_t unique, node, off;
	uint64_t came_ns; /* of a READ; else 0 */
	size_t len;
	struct digest key;
};

struct fill {
	struct objects *objects;
	struct fill_reader reader;
	struct fill_opens opens;
	struct fill_state *state; /* opens has it */
	struct fuse_session *session;
	int fd, root_fd; /* fd is the session's */
	bool want_passthrough, up;
	struct fill_stats stats;
	void (*watch)(void *arg, uint64_t object, uint64_t off, uint64_t len, pid_t pid);
	void *watch_arg;
	struct fill_jobs jobs;
	/* while libfuse works: */
	uint64_t unique;
	struct {
		const void *request;
		size_t n;
		bool replay;
	} init;                /* request set: the reply is one of INIT */
	uint32_t open_backing; /* set: the reply is one of OPEN with passthrough */
	uint8_t buffer[FILL_REQUEST_BYTES + 64] __attribute__((aligned(8)));
};

static struct fill *fill_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* --- what is written -------------------------------------------------------------------------- */

/* A reply that the kernel does not take must not leave the reader waiting. */
static ssize_t reply_write(int fd, const struct iovec *iov, int count)
{
	struct wire_out out;
	ssize_t n;
	int code;

	do
		n = writev(fd, iov, count);
	while (n < 0 && errno == EINTR);
	code = n < 0 ? errno : 0;
	if (n >= 0 || code == ENOENT || code == ENODEV || count < 2)
		return n;
	out = *(const struct wire_out *)iov[0].iov_base;
	log_error("fuse reply error=\"%s\" bytes=%u", strerror(code), out.len);
	out.len = sizeof(out);
	out.error = -EIO;
	if (write(fd, &out, sizeof(out)) < 0)
		log_error("fuse reply error=\"%s\"", strerror(errno));
	errno = code;
	return -1;
}

static void answer(struct fill *f, uint64_t unique, int code)
{
	struct wire_out out = {.len = sizeof(out), .error = code, .unique = unique};
	struct iovec iov = {&out, sizeof(out)};

	reply_write(f->fd, &iov, 1);
}

static ssize_t init_reply(struct fill *f, struct iovec *iov, int count)
{
	const struct wire_init_options options = {
		.passthrough = f->want_passthrough,
		.readahead = FILL_READAHEAD_MAX,
		.request_pages = (uint32_t)(FILL_READ_MAX / 4096),
	};
	const struct wire_out *out = iov[0].iov_base;
	bool passthrough = false;
	ssize_t n;

	if (count == 2 && out->error == 0)
		passthrough = wire_init_reply(f->init.request, f->init.n, iov[1].iov_base,
					      iov[1].iov_len, &options);
	if (f->init.replay) { /* the kernel has its answer from the worker before */
		f->up = out->error == 0;
		return out->len;
	}
	n = reply_write(f->fd, iov, count);
	if (n >= 0 && out->error == 0) {
		fill_state_answered(f->state, passthrough);
		f->up = true;
	}
	return n;
}

static ssize_t on_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fill *f = userdata;

	if (f->init.request)
		return init_reply(f, iov, count);
	if (f->open_backing && count == 2 && iov[1].iov_len == sizeof(struct wire_open))
		wire_open_reply(iov[1].iov_base, f->open_backing);
	return reply_write(fd, iov, count);
}

static ssize_t on_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)fd, (void)buf, (void)len, (void)userdata;
	errno = ENOSYS; /* we read */
	return -1;
}

/* The only place where codes become what an application sees. */
static int shown(int code)
{
	switch (code) {
	case -ECANCELED:
		return EINTR;
	case -ENOENT:
	case -ENOMEM:
	case -ESTALE:
	case -EINVAL:
	case -EROFS:
		return -code;
	default:
		return EIO;
	}
}

/* --- requests that wait ----------------------------------------------------------------------- */

may_suspend static int job_run(struct fill_job *fj)
{
	struct job *j = container_of(fj, struct job, job);

	return j->run(j);
}

static void job_end(struct fill_job *fj, int code)
{
	struct job *j = container_of(fj, struct job, job);

	if (j->came_ns && code < 0 && code != -ECANCELED)
		j->fill->stats.failed++;
	if (code == -ECANCELED && !fj->interrupted)
		fuse_reply_none(j->req); /* we end: the next worker is asked again */
	else if (code < 0)
		fuse_reply_err(j->req, shown(code));
	free(j);
}

static void on_interrupt(fuse_req_t req, void *data)
{
	struct job *j = data;

	(void)req;
	fill_job_interrupt(&j->job);
}

static struct job *job_new(fuse_req_t req, int (*run)(struct job *j), uint64_t node)
{
	struct fill *f = fill_of(req);
	struct job *j = calloc(1, sizeof(*j));

	if (!j) {
		fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	fill_job_init(&j->job, &f->jobs);
	j->job.run = job_run;
	j->job.end = job_end;
	j->fill = f;
	j->req = req;
	j->run = run;
	j->unique = f->unique;
	j->node = node;
	return j;
}

static void job_start(struct job *j)
{
	fuse_req_interrupt_func(j->req, on_interrupt, j);
	fill_job_start(&j->job);
}

/* --- nodes ------------------------------------------------------------------------------------ */

may_suspend static int object_get(struct fill *f, uint64_t node, struct object **ret)
{
	struct object *obj = fill_opens_peek(&f->opens, node);
	int r;

	if (!obj) {
		r = fill_object_get(&f->reader, node - FILL_NODE_OBJECT, &obj);
		if (r == -ENOENT) {
			obj = fill_opens_old(&f->opens, node);
			if (!obj)
				return -ESTALE;
		} else if (r < 0) {
			return r;
		} else {
			fill_opens_met(&f->opens, node, obj);
		}
	}
	*ret = obj;
	return 0;
}

static void reply_entry(fuse_req_t req, uint64_t node, const struct stat *st)
{
	const struct fuse_entry_param e = {
		.ino = node,
		.attr = *st,
		.attr_timeout = FOREVER_S,
		.entry_timeout = FOREVER_S,
	};

	fuse_reply_entry(req, &e);
}

may_suspend static int lookup_run(struct job *j)
{
	struct object_info info;
	struct stat st;
	int r;

	while ((r = objects_find(j->fill->objects, &j->key, &info, NULL)) == -EAGAIN) {
		r = task_sleep_ms(FILL_RETRY_MS);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	st = fill_object_stat(info.number, info.size);
	reply_entry(j->req, FILL_NODE_OBJECT + info.number, &st);
	return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	const struct str str = {name, strnlen(name, DIGEST_HEX_SIZE)};
	uint64_t dir = parent == FILL_NODE_ROOT ? fill_dir_node(str) : 0;
	struct digest key;
	struct stat st;
	struct job *j;

	if (dir) {
		st = fill_dir_stat(dir);
		reply_entry(req, dir, &st);
		return;
	}
	if (parent < FILL_NODE_DIR || !fill_is_dir(parent) || digest_parse_hex(str, &key) < 0 ||
	    key.bytes[0] != parent - FILL_NODE_DIR) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	j = job_new(req, lookup_run, parent);
	if (!j)
		return;
	j->key = key;
	job_start(j);
}

may_suspend static int getattr_run(struct job *j)
{
	struct object *obj;
	struct stat st;
	int r = object_get(j->fill, j->node, &obj);

	if (r < 0)
		return r;
	st = fill_object_stat(obj->number, obj->size);
	object_unref(j->fill->objects, obj);
	fuse_reply_attr(j->req, &st, FOREVER_S);
	return 0;
}

static void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct fill *f = fill_of(req);
	struct object *obj;
	struct stat st;
	struct job *j;

	(void)fi;
	if (fill_is_dir(node)) {
		st = fill_dir_stat(node);
		fuse_reply_attr(req, &st, FOREVER_S);
		return;
	}
	if (!fill_is_object(node)) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	obj = fill_opens_peek(&f->opens, node);
	if (obj) {
		st = fill_object_stat(obj->number, obj->size);
		object_unref(f->objects, obj);
		fuse_reply_attr(req, &st, FOREVER_S);
		return;
	}
	j = job_new(req, getattr_run, node);
	if (j)
		job_start(j);
}

static void op_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct statvfs v;

	(void)node;
	if (fstatvfs(fill_of(req)->root_fd, &v) < 0)
		fuse_reply_err(req, shown(-errno));
	else
		fuse_reply_statfs(req, &v);
}

/* Objects are looked up, not listed. */
static void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	const off_t n = 2 + (node == 1 ? 256 : 0);
	char buf[4096], name[4];
	struct stat st;
	size_t used = 0, entry;

	(void)fi;
	if (!fill_is_dir(node) || off < 0) {
		fuse_reply_err(req, ENOTDIR);
		return;
	}
	if (size > sizeof(buf))
		size = sizeof(buf);
	for (; off < n; off++) {
		snprintf(name, sizeof(name), "%02x", (unsigned)((off - 2) & 255));
		st = fill_dir_stat(off < 2 ? node : FILL_NODE_DIR + (uint64_t)(off - 2));
		entry = fuse_add_direntry(req, buf + used, size - used,
					  off == 0   ? "."
					  : off == 1 ? ".."
						     : name,
					  &st, off + 1);
		if (entry > size - used)
			break;
		used += entry;
	}
	fuse_reply_buf(req, buf, used);
}

/* --- open and release ------------------------------------------------------------------------- */

/* Takes the reference. Counted before the kernel knows: it may only be too many. */
static void open_answer(struct fill *f, fuse_req_t req, uint64_t unique, uint64_t node,
			struct object *obj)
{
	struct fuse_file_info fi = {.flags = O_RDONLY, .keep_cache = 1};

	f->open_backing = fill_opens_add(&f->opens, unique, node, obj);
	f->stats.opens++;
	f->stats.opens_passthrough += f->open_backing != 0;
	object_unref(f->objects, obj);
	if (fuse_reply_open(req, &fi) < 0) /* nobody waits for it any more, or it got an error */
		fill_opens_undo(&f->opens, node);
	f->open_backing = 0;
}

may_suspend static int open_run(struct job *j)
{
	struct object *obj;
	int r = object_get(j->fill, j->node, &obj);

	if (r < 0)
		return r;
	open_answer(j->fill, j->req, j->unique, j->node, obj);
	return 0;
}

static void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct fill *f = fill_of(req);
	struct object *obj;
	struct job *j;

	if ((fi->flags & O_ACCMODE) != O_RDONLY || !fill_is_object(node)) {
		fuse_reply_err(req, fill_is_object(node) ? EROFS : ESTALE);
		return;
	}
	obj = fill_opens_peek(&f->opens, node);
	if (obj) {
		open_answer(f, req, f->unique, node, obj);
		return;
	}
	j = job_new(req, open_run, node);
	if (j)
		job_start(j);
}

static void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct fill *f = fill_of(req);

	(void)fi;
	if (fill_is_object(node))
		fill_opens_release(&f->opens, f->unique, node);
	fuse_reply_err(req, 0);
}

/* --- read ------------------------------------------------------------------------------------- */

/* What of a READ is inside the object. */
static size_t read_len(const struct object *obj, uint64_t off, size_t len)
{
	if (off >= obj->size)
		return 0;
	return obj->size - off < len ? (size_t)(obj->size - off) : len;
}

may_suspend static int read_run(struct job *j)
{
	struct fill *f = j->fill;
	struct object *obj;
	void *buf = NULL;
	bool missed;
	size_t len;
	int r = object_get(f, j->node, &obj);

	if (r < 0)
		return r;
	len = read_len(obj, j->off, j->len);
	r = obj->damaged ? -EIO : 0;
	missed = len && !fetch_present(f->reader.fetcher, obj, j->off, len);
	f->stats.missed += missed;
	if (r == 0 && len)
		r = fill_read(&f->reader, obj, j->off, len, &buf);
	if (missed)
		histogram_add(&f->stats.waits, loop_now_ns(f->jobs.scope.loop) - j->came_ns);
	object_unref(f->objects, obj);
	if (r < 0)
		return r;
	fuse_reply_buf(j->req, buf, len);
	if (buf)
		fill_buffer_put(&f->reader, buf);
	return 0;
}

/* Is it answered? */
static bool read_now(struct fill *f, fuse_req_t req, uint64_t node, uint64_t off, size_t len)
{
	struct object *obj = fill_opens_peek(&f->opens, node);
	void *buf = NULL;
	int r = 0;

	if (!obj)
		return false;
	len = read_len(obj, off, len);
	if (len)
		r = fill_read_now(&f->reader, obj, off, len, &buf);
	object_unref(f->objects, obj);
	if (r == -EAGAIN)
		return false;
	f->stats.failed += r < 0;
	if (r < 0)
		fuse_reply_err(req, shown(r));
	else
		fuse_reply_buf(req, buf, len);
	if (buf)
		fill_buffer_put(&f->reader, buf);
	return true;
}

static void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct fill *f = fill_of(req);
	struct job *j;

	(void)fi;
	if (!fill_is_object(node) || off < 0 || size > FILL_READ_MAX) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	f->stats.reads++;
	if (f->watch)
		f->watch(f->watch_arg, node - FILL_NODE_OBJECT, (uint64_t)off, size,
			 fuse_req_ctx(req)->pid);
	if (read_now(f, req, node, (uint64_t)off, size))
		return;
	j = job_new(req, read_run, node);
	if (!j)
		return;
	j->off = (uint64_t)off;
	j->len = size;
	j->came_ns = loop_now_ns(f->jobs.scope.loop);
	job_start(j);
}

/* --- the session ------------------------------------------------------------------------------ */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	/* Not FUSE_CAP_ASYNC_DIO: not even SIGKILL ends an O_DIRECT read then (Linux 6.18). */
	conn->want = conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_EXPLICIT_INVAL_DATA);
	conn->max_write = 4096; /* nothing is written; it is the size of our request buffer */
	conn->max_background = FILL_BACKGROUND;
	conn->congestion_threshold = FILL_BACKGROUND * 3 / 4;
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.statfs = op_statfs,
	.readdir = op_readdir,
	.open = op_open,
	.release = op_release,
	.read = op_read,
};

static printf_like(2, 0) void on_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap); /* NOLINT(clang-analyzer-valist.Uninitialized) */
	text[strcspn(text, "\n")] = 0;
	log_line(level <= FUSE_LOG_ERR ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, "libfuse text=\"%s\"",
		 text);
}

static void process(struct fill *f, void *request, size_t n)
{
	const struct fuse_buf buf = {.size = n, .mem = request};

	f->stats.requests++;
	f->unique = ((struct wire_in *)request)->unique;
	fuse_session_process_buf(f->session, &buf);
}

static void process_init(struct fill *f, void *request, size_t n, bool replay)
{
	f->init.request = request;
	f->init.n = n;
	f->init.replay = replay;
	process(f, request, n);
	f->init.request = NULL;
	f->opens.passthrough = f->want_passthrough && fill_state_passthrough(f->state);
	log_info("fuse session=%s up=%d passthrough=%d", replay ? "taken-over" : "new", f->up,
		 f->opens.passthrough);
}

/* Feeds the INIT request of the worker before. */
static void replay(struct fill *f)
{
	uint8_t request[WIRE_INIT_MAX + 64] __attribute__((aligned(8))) = {0};
	const void *saved;
	size_t n;

	saved = fill_state_init(f->state, &n);
	if (!saved)
		return;
	memcpy(request, saved, n);
	process_init(f, request, n, true);
}

static void request_arrived(struct fill *f, size_t n)
{
	struct wire_in *in = (struct wire_in *)f->buffer;

	memset(f->buffer + n, 0, 64); /* an old kernel's shorter argument reads as zeros */
	switch (wire_check(f->buffer, n)) {
	case WIRE_BROKEN:
		log_warn("fuse request of %zu bytes is none", n);
		break;
	case WIRE_SILENT:
		break;
	case WIRE_SHORT:
		answer(f, in->unique, -EINVAL);
		break;
	case WIRE_UNKNOWN:
		answer(f, in->unique, -ENOSYS);
		break;
	case WIRE_INIT:
		if (!f->up) {
			fill_state_put_init(f->state, f->buffer, n);
			process_init(f, f->buffer, n, false);
		} else {
			answer(f, in->unique, -EIO);
		}
		break;
	case WIRE_REQUEST:
		if (!f->up) { /* the worker before was killed right after its INIT reply */
			replay(f);
			if (f->up)
				fill_state_answered(f->state, fill_state_passthrough(f->state));
		}
		process(f, f->buffer, n);
		break;
	}
}

/* 0: nothing more now; -ENODEV: unmounted; other errors. */
static int requests_take(struct fill *f)
{
	ssize_t n;

	for (int i = 0; i < FILL_BURST && f->jobs.count < FILL_REQUESTS_MAX; i++) {
		n = read(f->fd, f->buffer, FILL_REQUEST_BYTES);
		if (n > 0)
			request_arrived(f, (size_t)n);
		else if (n == 0)
			return -ENODEV;
		else if (errno == EAGAIN)
			return 0;
		else if (errno != EINTR && errno != ENOENT)
			return -errno;
	}
	return 0;
}

may_suspend static int take_task(void *arg)
{
	struct fill *f = arg;
	int r = 0;

	while (r != -ECANCELED) {
		if (f->jobs.count >= FILL_REQUESTS_MAX) {
			r = waitq_wait(&f->jobs.room);
			continue;
		}
		r = io_poll(f->fd, POLLIN, 0);
		if (r >= 0)
			r = requests_take(f);
		if (r == -ENODEV) {
			log_warn("fuse: the mount is gone");
			break;
		}
		if (r < 0 && r != -ECANCELED) {
			log_error("fuse requests error=\"%s\"", strerror(-r));
			r = task_sleep_ms(FILL_RETRY_MS);
		}
	}
	return 0;
}

static int session_open(struct fill *f, int fuse_fd, struct err *err)
{
	static const struct fuse_custom_io io = {.writev = on_writev, .read = on_read};
	char name[] = "firstlight", *argv[] = {name, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	int flags = fcntl(fuse_fd, F_GETFL), r;

	if (flags < 0 || fcntl(fuse_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno(err, -errno, "fuse descriptor");
	fuse_set_log_func(on_log);
	f->session = fuse_session_new(&args, &ops, sizeof(ops), f);
	fuse_opt_free_args(&args);
	if (!f->session)
		return err_set(err, -ENOMEM, "no fuse session");
	f->fd = fcntl(fuse_fd, F_DUPFD_CLOEXEC, 3);
	if (f->fd < 0)
		return err_errno(err, -errno, "fuse descriptor");
	f->opens.fuse_fd = f->fd;
	r = fuse_session_custom_io(f->session, &io, f->fd);
	if (r < 0) {
		close(f->fd);
		return err_errno(err, r, "fuse session");
	}
	return 0;
}

static void session_take_up(struct fill *f)
{
	const struct wire_out resend = wire_resend();

	if (fill_state_is_answered(f->state))
		replay(f);
	if (write(f->fd, &resend, sizeof(resend)) < 0 && f->up)
		log_warn("fuse: requests of the worker before are lost error=\"%s\"",
			 strerror(errno));
}

static int parts_open(struct fill *f, const struct fill_options *options, struct err *err)
{
	int r = fill_state_open(options->state_fd, FILL_STATE_SIZE, &f->state, err);

	if (r == 0)
		r = fill_opens_init(&f->opens, f->objects, f->state, err);
	return r < 0 ? r : session_open(f, options->fuse_fd, err);
}

may_suspend int fill_new(struct loop *loop, struct objects *objects, struct fetcher *fetcher,
			 const struct fill_options *options, struct fill **ret, struct err *err)
{
	struct fill *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return err_errno(err, -ENOMEM, "fill");
	f->objects = objects;
	f->fd = -1;
	f->root_fd = options->root_fd;
	f->want_passthrough = options->passthrough;
	fill_reader_init(&f->reader, objects, fetcher);
	fill_jobs_init(&f->jobs, loop);
	r = parts_open(f, options, err);
	if (r == 0) {
		session_take_up(f);
		r = scope_spawn(&f->jobs.scope, take_task, f, NULL);
		if (r < 0)
			err_errno(err, r, "fill task");
	}
	if (r < 0) {
		fill_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

may_suspend void fill_free(struct fill *f)
{
	if (!f)
		return;
	fill_jobs_fini(&f->jobs);
	if (f->session)
		fuse_session_destroy(f->session); /* its descriptor, not the connection */
	fill_opens_fini(&f->opens);
	fill_reader_fini(&f->reader);
	free(f);
}

bool fill_passthrough(const struct fill *f)
{
	return f->opens.passthrough;
}

void fill_watch(struct fill *f,
		void (*fn)(void *arg, uint64_t object, uint64_t off, uint64_t len, pid_t pid),
		void *arg)
{
	f->watch = fn;
	f->watch_arg = arg;
}

void fill_stats(const struct fill *f, struct fill_stats *ret)
{
	*ret = f->stats;
}
