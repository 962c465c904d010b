// SPDX-License-Identifier: Apache-2.0
/* The suspending verbs. Owns nothing: each operation lives in the frame of its task. */
#include "loop/io.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>

#include "base/err.h"
#include "loop/loop.h"

#include "base/banned.h"

struct wait {
	struct op op;
	struct timer timer;
	struct task *task;
	int res;
	bool done, timed_out;
};

struct io_faults io_faults;

static unsigned fault_draw(void)
{
	/* xorshift64*: repeatable, good enough to choose faults */
	io_faults.seed ^= io_faults.seed >> 12;
	io_faults.seed ^= io_faults.seed << 25;
	io_faults.seed ^= io_faults.seed >> 27;
	return (unsigned)((io_faults.seed * 0x2545F4914F6CDD1Dull) >> 40);
}

static bool fault(unsigned permille)
{
	return io_faults.seed && fault_draw() % 1000 < permille;
}

static uint32_t fault_len(size_t len)
{
	uint32_t n = len > 1u << 30 ? 1u << 30 : (uint32_t)len;

	return n > 1 && fault(io_faults.short_permille) ? 1 + fault_draw() % (n - 1) : n;
}

static void wait_done(struct op *op, int res, uint32_t flags)
{
	struct wait *w = container_of(op, struct wait, op);

	(void)flags;
	w->res = res;
	w->done = true;
	task_wake(w->task);
}

static void wait_interrupted(void *arg)
{
	struct wait *w = arg;

	if (!w->done)
		loop_cancel(task_loop(w->task), &w->op);
}

static void wait_timed_out(struct timer *t)
{
	struct wait *w = container_of(t, struct wait, timer);

	if (w->done)
		return;
	w->timed_out = true;
	loop_cancel(task_loop(w->task), &w->op);
}

/* Submits and waits for the completion, whatever happens meanwhile: the kernel owns w until then.
 */
static int submit_wait(const struct io_uring_sqe *sqe, unsigned timeout_ms)
{
	struct wait w = {.op = {wait_done}, .timer = {.fn = wait_timed_out}, .task = task_self()};
	struct loop *loop = task_loop(w.task);

	if (task_cancelled())
		return -ECANCELED;
	if (fault(io_faults.fail_permille))
		return -ECONNRESET;
	loop_submit(loop, &w.op, sqe);
	if (timeout_ms)
		timer_set(loop, &w.timer, loop_now_ns(loop) + timeout_ms * 1000000ull);
	while (!w.done)
		task_suspend(wait_interrupted, &w);
	timer_stop(loop, &w.timer);
	if ((w.res == -ECANCELED || w.res == -EINTR) && w.timed_out)
		return -ETIMEDOUT;
	if (w.res == -EINTR && task_cancelled())
		return -ECANCELED;
	return w.res;
}

static struct io_uring_sqe rw(uint8_t opcode, int fd, const void *buf, uint32_t len, uint64_t off)
{
	return (struct io_uring_sqe){
		.opcode = opcode, .fd = fd, .addr = (uintptr_t)buf, .len = len, .off = off};
}

ssize_t io_read(int fd, void *buf, size_t len, uint64_t off, unsigned timeout_ms)
{
	struct io_uring_sqe sqe = rw(IORING_OP_READ, fd, buf, fault_len(len), off);

	return submit_wait(&sqe, timeout_ms);
}

ssize_t io_write(int fd, const void *buf, size_t len, uint64_t off, unsigned timeout_ms)
{
	struct io_uring_sqe sqe = rw(IORING_OP_WRITE, fd, buf, fault_len(len), off);

	return submit_wait(&sqe, timeout_ms);
}

ssize_t io_recv(int fd, void *buf, size_t len, unsigned timeout_ms)
{
	struct io_uring_sqe sqe = rw(IORING_OP_RECV, fd, buf, fault_len(len), 0);

	return submit_wait(&sqe, timeout_ms);
}

ssize_t io_send(int fd, const void *buf, size_t len, unsigned timeout_ms)
{
	struct io_uring_sqe sqe = rw(IORING_OP_SEND, fd, buf, fault_len(len), 0);

	sqe.msg_flags = MSG_NOSIGNAL;
	return submit_wait(&sqe, timeout_ms);
}

int io_accept(int fd)
{
	struct io_uring_sqe sqe = rw(IORING_OP_ACCEPT, fd, NULL, 0, 0);

	sqe.accept_flags = SOCK_CLOEXEC;
	return submit_wait(&sqe, 0);
}

int io_connect(int fd, const struct sockaddr *addr, socklen_t len, unsigned timeout_ms)
{
	struct io_uring_sqe sqe = rw(IORING_OP_CONNECT, fd, addr, 0, len);

	return submit_wait(&sqe, timeout_ms);
}

int io_poll(int fd, short events, unsigned timeout_ms)
{
	struct io_uring_sqe sqe = rw(IORING_OP_POLL_ADD, fd, NULL, 0, 0);

	sqe.poll32_events = (uint16_t)events; /* little-endian layout only */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	sqe.poll32_events = sqe.poll32_events << 16;
#endif
	return submit_wait(&sqe, timeout_ms);
}
