/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world for the FUSE objects: a kernel at the other end of a socketpair, and objects and chunks
 * that the test gives out. The functions of the real modules are defined here instead.
 */
#ifndef FIRSTLIGHT_TESTS_FILL_WORLD_H
#define FIRSTLIGHT_TESTS_FILL_WORLD_H

#include <cmocka.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "fs/fill.h"
#include "fs/fill_state.h"
#include "fs/fill_wire.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "loop/sync.h"

#define CHUNK     4096u
#define NODE(n)   (1024u + (n))
#define WAIT_MS   10000
#define SILENT_MS 30

/* --- objects and chunks that the test gives out ----------------------------------------------- */

#define FAKES 4

struct fake {
	struct object obj;
	unsigned refs;
	uint8_t *here; /* by chunk */
};

static struct {
	struct fake fakes[FAKES];
	unsigned full;    /* so many -EAGAIN to come */
	unsigned waiting; /* fetch_need() that sleep */
	unsigned asked;   /* fetch_need() calls */
} world;

static uint8_t byte_at(uint64_t number, uint64_t off)
{
	return (uint8_t)(number * 31 + off * 7 + (off >> 12) * 13);
}

static int file_new(void)
{
	char path[] = "/var/tmp/firstlight-fill.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

static void fake_make(unsigned i, uint64_t size)
{
	struct fake *k = &world.fakes[i];
	uint8_t *data = malloc(size + 1);

	*k = (struct fake){.obj = {.number = i + 1, .size = size}};
	k->obj.chunks_n = (uint32_t)((size + CHUNK - 1) / CHUNK);
	memset(k->obj.key.bytes, (int)(0xa0 + i), DIGEST_SIZE);
	k->here = calloc(k->obj.chunks_n + 1, 1);
	k->obj.fd = file_new(); /* RWF_NOWAIT does not work on every file system: not in a memfd */
	for (uint64_t j = 0; j < size; j++)
		data[j] = byte_at(i + 1, j);
	assert_int_equal(pwrite(k->obj.fd, data, size, 0), size);
	free(data);
	waitq_init(&k->obj.changed);
}

static void fake_put(unsigned i, uint32_t chunk)
{
	world.fakes[i].here[chunk] = 1;
	waitq_wake_all(&world.fakes[i].obj.changed);
}

static void world_make(void)
{
	memset(&world, 0, sizeof(world));
	fake_make(0, 3 * CHUNK + 100);
	fake_make(1, 600 * CHUNK);
	fake_make(2, 0);
	fake_make(3, 5000 * CHUNK);
}

static void world_end(void)
{
	for (unsigned i = 0; i < FAKES; i++) {
		assert_int_equal(world.fakes[i].refs, 0);
		close(world.fakes[i].obj.fd);
		free(world.fakes[i].here);
	}
}

static struct fake *fake_of(struct object *obj)
{
	return container_of(obj, struct fake, obj);
}

static int busy(void)
{
	if (!world.full)
		return 0;
	world.full--;
	return -EAGAIN;
}

int objects_find(struct objects *o, const struct digest *key, struct object_info *ret,
		 struct err *err)
{
	(void)o, (void)err;
	if (busy() < 0)
		return -EAGAIN;
	task_yield();
	for (unsigned i = 0; i < FAKES; i++) {
		if (digest_eq(&world.fakes[i].obj.key, key)) {
			*ret = (struct object_info){i + 1, world.fakes[i].obj.size};
			return 0;
		}
	}
	return -ENOENT;
}

struct object *objects_peek(struct objects *o, uint64_t number)
{
	(void)o;
	return number >= 1 && number <= FAKES && world.fakes[number - 1].refs
		       ? object_ref(&world.fakes[number - 1].obj)
		       : NULL;
}

int objects_get(struct objects *o, uint64_t number, struct object **ret, struct err *err)
{
	(void)o, (void)err;
	if (busy() < 0)
		return -EAGAIN;
	task_yield();
	if (number < 1 || number > FAKES)
		return -ENOENT;
	*ret = object_ref(&world.fakes[number - 1].obj);
	return 0;
}

struct object *object_ref(struct object *obj)
{
	fake_of(obj)->refs++;
	return obj;
}

void object_unref(struct objects *o, struct object *obj)
{
	(void)o;
	assert_true(fake_of(obj)->refs > 0);
	fake_of(obj)->refs--;
}

bool fetch_present(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len)
{
	(void)f;
	assert_true(len > 0 && off + len <= obj->size);
	for (uint64_t c = off / CHUNK; c <= (off + len - 1) / CHUNK; c++) {
		if (!obj->complete && !fake_of(obj)->here[c])
			return false;
	}
	return true;
}

void fetch_follow(struct fetcher *f, struct object *obj, uint64_t off)
{
	(void)f;
	assert_true(off < obj->size);
}

int fetch_need(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len, struct err *err)
{
	int r = 0;

	(void)err;
	if (busy() < 0)
		return -EAGAIN;
	world.asked++;
	world.waiting++;
	while (r == 0 && !fetch_present(f, obj, off, len))
		r = obj->damaged ? -EIO : waitq_wait(&obj->changed);
	world.waiting--;
	return r;
}

int fetch_copy(struct fetcher *f, struct object *obj, uint64_t off, void *buf, size_t len)
{
	ssize_t n;

	if (!fetch_present(f, obj, off, len))
		return -EAGAIN;
	n = io_read(obj->fd, buf, len, off, 0);
	return n < 0 ? (int)n : n == (ssize_t)len ? 0 : -EIO;
}

/* --- the kernel's side ------------------------------------------------------------------------ */

struct kernel {
	struct fill *fill;
	struct fill_options options;
	int fd;
	uint64_t unique;
	uint8_t body[FILL_READ_MAX]; /* of the last reply */
	size_t n;
	struct wire_out out;
};

static void send_raw(struct kernel *k, const void *data, size_t n)
{
	assert_int_equal(io_send(k->fd, data, n, WAIT_MS), n);
}

static void send_as(struct kernel *k, uint64_t unique, uint32_t opcode, uint64_t node,
		    const void *body, size_t n)
{
	uint8_t message[8192];
	struct wire_in in = {.len = (uint32_t)(sizeof(in) + n),
			     .opcode = opcode,
			     .unique = unique,
			     .node = node};

	memcpy(message, &in, sizeof(in));
	if (n)
		memcpy(message + sizeof(in), body, n);
	send_raw(k, message, sizeof(in) + n);
}

static uint64_t send_new(struct kernel *k, uint32_t opcode, uint64_t node, const void *body,
			 size_t n)
{
	k->unique += 2;
	send_as(k, k->unique, opcode, node, body, n);
	return k->unique;
}

/* The next message; its length, or -ETIMEDOUT. */
static ssize_t receive(struct kernel *k, unsigned timeout_ms)
{
	static uint8_t message[FILL_READ_MAX + 64];
	ssize_t n = io_recv(k->fd, message, sizeof(message), timeout_ms);

	if (n < 0)
		return n;
	assert_true((size_t)n >= sizeof(k->out));
	memcpy(&k->out, message, sizeof(k->out));
	assert_int_equal(k->out.len, n);
	k->n = (size_t)n - sizeof(k->out);
	memcpy(k->body, message + sizeof(k->out), k->n);
	return n;
}

static int reply_to(struct kernel *k, uint64_t unique)
{
	assert_true(receive(k, WAIT_MS) > 0);
	assert_int_equal(k->out.unique, unique);
	return k->out.error;
}

static void silence(struct kernel *k)
{
	assert_int_equal(receive(k, SILENT_MS), -ETIMEDOUT);
}

static int call(struct kernel *k, uint32_t opcode, uint64_t node, const void *body, size_t n)
{
	return reply_to(k, send_new(k, opcode, node, body, n));
}

static const uint32_t init_body[16] = {7, 45, 131072, 0x73fffffb, 0x7fd};

static void fill_up(struct kernel *k)
{
	struct err err = ERR_INIT;

	if (fill_new(loop_self(), (void *)&world, (void *)&world, &k->options, &k->fill, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(receive(k, WAIT_MS), 16); /* RESEND */
	assert_int_equal(k->out.error, 7);
	assert_int_equal(k->out.unique, 0);
}

static void kernel_init(struct kernel *k)
{
	int fds[2], size = 4 << 20;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	*k = (struct kernel){.fd = fds[0],
			     .options = {.fuse_fd = fds[1],
					 .state_fd = memfd_create("state", MFD_CLOEXEC),
					 .root_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
					 .passthrough = true}};
	assert_int_equal(ftruncate(k->options.state_fd, FILL_STATE_SIZE), 0);
	world_make();
	fill_up(k);
	assert_int_equal(call(k, FUSE_INIT, 0, init_body, sizeof(init_body)), 0);
}

static void kernel_fini(struct kernel *k)
{
	fill_free(k->fill);
	close(k->fd);
	close(k->options.fuse_fd);
	close(k->options.state_fd);
	close(k->options.root_fd);
	world_end();
}

static void restart(struct kernel *k)
{
	fill_free(k->fill);
	fill_up(k);
}

static int lookup(struct kernel *k, uint64_t parent, const char *name)
{
	return call(k, FUSE_LOOKUP, parent, name, strlen(name) + 1);
}

static int open_node(struct kernel *k, uint64_t node)
{
	struct fuse_open_in in = {.flags = O_RDONLY};

	return call(k, FUSE_OPEN, node, &in, sizeof(in));
}

static int release_node(struct kernel *k, uint64_t node)
{
	struct fuse_release_in in = {0};

	return call(k, FUSE_RELEASE, node, &in, sizeof(in));
}

static uint64_t read_send(struct kernel *k, uint64_t node, uint64_t off, uint32_t len)
{
	struct fuse_read_in in = {.offset = off, .size = len};

	return send_new(k, FUSE_READ, node, &in, sizeof(in));
}

static void bytes_are(const struct kernel *k, uint64_t number, uint64_t off, size_t n)
{
	assert_int_equal(k->n, n);
	for (size_t i = 0; i < n; i++) {
		if (k->body[i] != byte_at(number, off + i))
			fail_msg("byte %zu", i);
	}
}

/* Each request makes libfuse say of one interrupt that its request has not come yet. */
static void drain(struct kernel *k)
{
	uint64_t id;
	unsigned others;

	do {
		others = 0;
		id = send_new(k, FUSE_LOOKUP, 1, "00", 3);
		do {
			assert_true(receive(k, WAIT_MS) > 0);
			others += k->out.unique != id;
		} while (k->out.unique != id);
		assert_int_equal(k->out.error, 0);
	} while (others);
}

/* How often is the node open, as the state says? */
static unsigned opens(const struct kernel *k, uint64_t node)
{
	struct fill_state *s;
	unsigned n = 0;
	size_t slot;

	assert_int_equal(fill_state_open(k->options.state_fd, FILL_STATE_SIZE, &s, NULL), 0);
	slot = fill_state_find(s, node);
	if (slot != FILL_NO_SLOT) {
		for (n = 1; !fill_state_less(s, slot); n++)
			;
		assert_int_equal(fill_state_first(s, node, FILL_CACHED, 0), slot);
		for (unsigned i = 1; i < n; i++)
			fill_state_again(s, slot);
	}
	fill_state_close(s);
	return n;
}

static struct kernel kern;

static int run(int (*fn)(void *arg), void *arg)
{
	struct loop *loop;
	struct err err = ERR_INIT;
	int r;

	if (loop_new(&loop, &err) < 0)
		fail_msg("%s", err.text);
	r = loop_run(loop, fn, arg);
	loop_free(loop);
	return r;
}

static int with_kernel(void *arg)
{
	void (*const *test)(struct kernel * k) = arg;

	kernel_init(&kern);
	(*test)(&kern);
	kernel_fini(&kern);
	return 0;
}

#define TEST(name)                                                                                 \
	static void name##_on(struct kernel *k);                                                   \
	static void name(void **state)                                                             \
	{                                                                                          \
		void (*fn)(struct kernel *) = name##_on;                                           \
		(void)state;                                                                       \
		assert_int_equal(run(with_kernel, &fn), 0);                                        \
	}                                                                                          \
	static void name##_on(struct kernel *k)

#endif
