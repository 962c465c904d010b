// SPDX-License-Identifier: Apache-2.0
/* FUSE objects: the test is the kernel, over a socketpair that keeps messages apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
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

/* --- tests ------------------------------------------------------------------------------------ */

TEST(test_init)
{
	struct fuse_init_out out;
	uint64_t flags;

	assert_int_equal(k->n, 64);
	memcpy(&out, k->body, sizeof(out));
	flags = out.flags | (uint64_t)out.flags2 << 32;
	assert_int_equal(out.major, 7);
	assert_true(flags & 1ull << 37); /* passthrough */
	assert_true(flags & 1ull << 39); /* resend */
	assert_true(flags & FUSE_ASYNC_READ);
	assert_false(flags & FUSE_ASYNC_DIO);
	assert_true(flags & FUSE_PARALLEL_DIROPS);
	assert_false(flags & FUSE_AUTO_INVAL_DATA);
	assert_false(flags & FUSE_WRITEBACK_CACHE);
	assert_false(flags & 1ull << 41);              /* io_uring */
	assert_int_equal(((uint32_t *)k->body)[9], 1); /* max_stack_depth */
	assert_int_equal(out.max_pages, 256);
	assert_int_equal(out.max_background, FILL_BACKGROUND);
	assert_true(fill_passthrough(k->fill));
	assert_int_equal(call(k, FUSE_INIT, 0, init_body, sizeof(init_body)), -EIO);
}

TEST(test_init_old_kernel)
{
	static const uint32_t old[4] = {7, 31, 131072, 0x3fffffb};

	fill_free(k->fill);
	assert_int_equal(ftruncate(k->options.state_fd, 0), 0);
	assert_int_equal(ftruncate(k->options.state_fd, FILL_STATE_SIZE), 0);
	fill_up(k);
	assert_int_equal(call(k, FUSE_INIT, 0, old, sizeof(old)), 0);
	assert_false(fill_passthrough(k->fill));
	assert_int_equal(((uint32_t *)k->body)[9], 0);
	assert_int_equal(((uint32_t *)k->body)[8], 0);
	assert_int_equal(lookup(k, 1, "a0"), 0);
}

static void key_name(unsigned i, char name[65])
{
	digest_hex(&world.fakes[i].obj.key, name);
}

TEST(test_lookup)
{
	struct fuse_entry_out e;
	char name[65];

	assert_int_equal(lookup(k, 1, "a1"), 0);
	memcpy(&e, k->body, sizeof(e));
	assert_int_equal(e.nodeid, 2 + 0xa1);
	assert_int_equal(e.attr.mode, S_IFDIR | 0555);
	assert_true(e.entry_valid > 1000000 && e.attr_valid > 1000000);
	key_name(1, name);
	world.full = 2;
	assert_int_equal(lookup(k, 2 + 0xa1, name), 0);
	memcpy(&e, k->body, sizeof(e));
	assert_int_equal(e.nodeid, NODE(2));
	assert_int_equal(e.attr.ino, 2);
	assert_int_equal(e.attr.mode, S_IFREG | 0444);
	assert_int_equal(e.attr.size, 600 * CHUNK);
	assert_int_equal(e.attr.nlink, 1);
	assert_true(e.attr_valid > 1000000);

	assert_int_equal(lookup(k, 2 + 0xa2, name), -ENOENT);
	assert_int_equal(lookup(k, 1, name), -ENOENT);
	assert_int_equal(lookup(k, NODE(1), name), -ENOENT);
	name[63] = '5';
	assert_int_equal(lookup(k, 2 + 0xa1, name), -ENOENT);
	name[63] = 'A';
	assert_int_equal(lookup(k, 2 + 0xa1, name), -ENOENT);
	assert_int_equal(lookup(k, 1, "A1"), -ENOENT);
	assert_int_equal(lookup(k, 1, "a"), -ENOENT);
	assert_int_equal(lookup(k, 1, ""), -ENOENT);
	assert_int_equal(lookup(k, 1, "a11"), -ENOENT);
}

TEST(test_attributes)
{
	struct fuse_getattr_in in = {0};
	struct fuse_attr_out a;
	struct fuse_kstatfs st;

	assert_int_equal(call(k, FUSE_GETATTR, 1, &in, sizeof(in)), 0);
	memcpy(&a, k->body, sizeof(a));
	assert_int_equal(a.attr.mode, S_IFDIR | 0555);
	assert_int_equal(a.attr.nlink, 258);
	for (int i = 0; i < 2; i++) { /* not in use, in use */
		assert_int_equal(call(k, FUSE_GETATTR, NODE(1), &in, sizeof(in)), 0);
		memcpy(&a, k->body, sizeof(a));
		assert_int_equal(a.attr.size, 3 * CHUNK + 100);
		assert_int_equal(a.attr.blocks, 25);
		assert_int_equal(open_node(k, NODE(1)), 0);
	}
	assert_int_equal(call(k, FUSE_GETATTR, NODE(77), &in, sizeof(in)), -ESTALE);
	assert_int_equal(call(k, FUSE_GETATTR, 500, &in, sizeof(in)), -ESTALE);
	assert_int_equal(call(k, FUSE_GETATTR, NODE(0), &in, sizeof(in)), -ESTALE);
	assert_int_equal(call(k, FUSE_STATFS, 1, NULL, 0), 0);
	memcpy(&st, k->body, sizeof(st));
	assert_true(st.blocks > 0 && st.bsize > 0);
}

static unsigned list_dir(struct kernel *k, uint64_t node)
{
	struct fuse_read_in in = {.size = 1024};
	struct fuse_dirent *d;
	unsigned n = 0;

	do {
		assert_int_equal(call(k, FUSE_READDIR, node, &in, sizeof(in)), 0);
		for (size_t at = 0; at < k->n; at += FUSE_DIRENT_SIZE(d), n++) {
			d = (struct fuse_dirent *)(k->body + at);
			in.offset = d->off;
		}
	} while (k->n);
	return n;
}

TEST(test_directories)
{
	struct fuse_open_in in = {0};
	struct fuse_release_in out = {0};

	assert_int_equal(call(k, FUSE_OPENDIR, 1, &in, sizeof(in)), 0);
	assert_int_equal(list_dir(k, 1), 258);
	assert_int_equal(list_dir(k, 77), 2);
	assert_int_equal(call(k, FUSE_RELEASEDIR, 1, &out, sizeof(out)), 0);
}

TEST(test_read)
{
	struct fuse_open_out out;
	struct fuse_open_in in = {.flags = O_RDWR};
	uint64_t id;

	assert_int_equal(call(k, FUSE_OPEN, NODE(1), &in, sizeof(in)), -EROFS);
	assert_int_equal(open_node(k, NODE(9)), -ESTALE);
	assert_int_equal(open_node(k, 5), -ESTALE);
	world.full = 1;
	assert_int_equal(open_node(k, NODE(1)), 0);
	memcpy(&out, k->body, sizeof(out));
	assert_int_equal(out.open_flags, FOPEN_KEEP_CACHE);
	assert_int_equal(opens(k, NODE(1)), 1);

	fake_put(0, 0);
	assert_int_equal(reply_to(k, read_send(k, NODE(1), 10, 100)), 0);
	bytes_are(k, 1, 10, 100);
	assert_int_equal(world.asked, 0);

	world.full = 1;
	id = read_send(k, NODE(1), 100, 3 * CHUNK); /* missing */
	silence(k);
	fake_put(0, 2);
	fake_put(0, 1);
	silence(k);
	fake_put(0, 3);
	assert_int_equal(reply_to(k, id), 0);
	bytes_are(k, 1, 100, 3 * CHUNK);
	assert_int_equal(reply_to(k, read_send(k, NODE(1), 3 * CHUNK, 8192)), 0);
	bytes_are(k, 1, 3 * CHUNK, 100);
	assert_int_equal(reply_to(k, read_send(k, NODE(1), 3 * CHUNK + 100, 4096)), 0);
	assert_int_equal(k->n, 0);
	assert_int_equal(reply_to(k, read_send(k, NODE(1), 1ull << 62, 4096)), 0);
	assert_int_equal(k->n, 0);
	assert_int_equal(reply_to(k, read_send(k, NODE(1), 1ull << 63, 4096)), -EINVAL);
	assert_int_equal(reply_to(k, read_send(k, NODE(1), 0, FILL_READ_MAX + 1)), -EINVAL);
	assert_int_equal(reply_to(k, read_send(k, NODE(9), 0, 4096)), -ESTALE);
	assert_int_equal(reply_to(k, read_send(k, 1, 0, 4096)), -EINVAL);
	assert_int_equal(reply_to(k, read_send(k, NODE(3), 0, 4096)), 0); /* empty */
	assert_int_equal(k->n, 0);

	world.fakes[1].obj.complete = true;
	assert_int_equal(reply_to(k, read_send(k, NODE(2), CHUNK, FILL_READ_MAX / 8)), 0);
	bytes_are(k, 2, CHUNK, FILL_READ_MAX / 8);
	assert_int_equal(ftruncate(world.fakes[1].obj.fd, CHUNK), 0); /* shorter than it must be */
	assert_int_equal(reply_to(k, read_send(k, NODE(2), 0, 2 * CHUNK)), -EIO);
	world.fakes[0].obj.damaged = true;
	assert_int_equal(reply_to(k, read_send(k, NODE(1), 0, 100)), -EIO);
	assert_int_equal(release_node(k, NODE(1)), 0);
	assert_int_equal(opens(k, NODE(1)), 0);
}

TEST(test_interrupt)
{
	struct fuse_interrupt_in in;
	uint64_t a, b;

	assert_int_equal(open_node(k, NODE(1)), 0);
	a = read_send(k, NODE(1), 0, 100);
	b = read_send(k, NODE(1), CHUNK, 100);
	silence(k);
	assert_int_equal(world.waiting, 2);
	in.unique = a;
	send_as(k, a | 1, FUSE_INTERRUPT, 0, &in, sizeof(in));
	assert_int_equal(reply_to(k, a), -EINTR);
	assert_int_equal(world.waiting, 1);
	fake_put(0, 1);
	assert_int_equal(reply_to(k, b), 0);
	bytes_are(k, 1, CHUNK, 100);
	/* too late, then before its request */
	in.unique = b;
	send_as(k, b | 1, FUSE_INTERRUPT, 0, &in, sizeof(in));
	in.unique = k->unique + 2;
	send_as(k, in.unique | 1, FUSE_INTERRUPT, 0, &in, sizeof(in));
	a = read_send(k, NODE(1), 0, 100);
	do
		assert_true(receive(k, WAIT_MS) > 0);
	while (k->out.unique != a && k->out.error == -EAGAIN);
	assert_int_equal(k->out.unique, a);
	assert_int_equal(k->out.error, -EINTR);
	assert_int_equal(world.waiting, 0);
	drain(k);
}

/* More than there may be tasks; each is answered when its chunk comes, or interrupted in the list.
 */
TEST(test_many_reads)
{
	const unsigned n = 5000;
	struct fuse_interrupt_in in;
	uint64_t first, id;

	assert_int_equal(open_node(k, NODE(4)), 0);
	first = k->unique + 2;
	for (unsigned i = 0; i < n; i++)
		read_send(k, NODE(4), i * CHUNK, CHUNK);
	silence(k);
	assert_int_equal(world.waiting, FILL_TASKS_MAX);
	in.unique = first + 2ull * (n - 1);
	send_as(k, in.unique | 1, FUSE_INTERRUPT, 0, &in, sizeof(in));
	assert_int_equal(reply_to(k, in.unique), -EINTR);
	for (unsigned i = 0; i + 1 < n; i++) {
		if (i % 100 == 0) { /* each time all who wait wake up */
			memset(world.fakes[3].here + i, 1, 100);
			waitq_wake_all(&world.fakes[3].obj.changed);
		}
		assert_true(receive(k, WAIT_MS) > 0);
		assert_int_equal(k->out.error, 0);
		id = (k->out.unique - first) / 2;
		assert_true(id < n);
		bytes_are(k, 4, id * CHUNK, CHUNK);
	}
	assert_int_equal(world.waiting, 0);
}

/* More large reads at once than there are buffers. */
TEST(test_few_buffers)
{
	uint64_t id[FILL_BUFFERS_MAX * 2];

	assert_int_equal(open_node(k, NODE(2)), 0);
	for (unsigned i = 0; i < array_size(id); i++)
		id[i] = read_send(k, NODE(2), i * CHUNK, 4 * CHUNK);
	silence(k);
	world.fakes[1].obj.complete = true;
	waitq_wake_all(&world.fakes[1].obj.changed);
	for (unsigned i = 0; i < array_size(id); i++) {
		assert_true(receive(k, WAIT_MS) > 0);
		assert_int_equal(k->out.error, 0);
		assert_true(k->out.unique >= id[0] && (k->out.unique - id[0]) % 2 == 0);
		bytes_are(k, 2, (k->out.unique - id[0]) / 2 * CHUNK, 4 * CHUNK);
	}
}

TEST(test_restart)
{
	struct fuse_read_in in = {.size = 100};
	uint64_t id, queued;

	assert_int_equal(open_node(k, NODE(1)), 0);
	id = read_send(k, NODE(1), 0, 100);
	silence(k);
	fill_free(k->fill);
	queued = read_send(k, NODE(1), 50, 100); /* nobody has read this one */
	assert_int_equal(receive(k, SILENT_MS), -ETIMEDOUT);
	fill_up(k);
	assert_true(fill_passthrough(k->fill));
	assert_int_equal(opens(k, NODE(1)), 1);
	send_as(k, id | WIRE_RESEND_BIT, FUSE_READ, NODE(1), &in, sizeof(in));
	silence(k);
	fake_put(0, 0);
	for (int i = 0; i < 2; i++) {
		assert_true(receive(k, WAIT_MS) > 0);
		assert_int_equal(k->out.error, 0);
		assert_true(k->out.unique == (id | WIRE_RESEND_BIT) || k->out.unique == queued);
		bytes_are(k, 1, k->out.unique == queued ? 50 : 0, 100);
	}
	assert_int_equal(release_node(k, NODE(1)), 0);
	assert_int_equal(opens(k, NODE(1)), 0);
}

/* The kernel may ask again what was counted already. */
TEST(test_resent)
{
	struct fuse_open_in in = {0};
	struct fuse_release_in out = {0};
	uint64_t id;

	assert_int_equal(open_node(k, NODE(1)), 0);
	assert_int_equal(open_node(k, NODE(1)), 0);
	id = k->unique;
	restart(k);
	send_as(k, id | WIRE_RESEND_BIT, FUSE_OPEN, NODE(1), &in, sizeof(in));
	assert_int_equal(reply_to(k, id | WIRE_RESEND_BIT), 0);
	assert_int_equal(opens(k, NODE(1)), 2);
	send_as(k, (id + 2) | WIRE_RESEND_BIT, FUSE_OPEN, NODE(1), &in, sizeof(in));
	assert_int_equal(reply_to(k, (id + 2) | WIRE_RESEND_BIT), 0);
	assert_int_equal(opens(k, NODE(1)), 3); /* was not counted: is now */

	k->unique += 2;
	assert_int_equal(release_node(k, NODE(1)), 0);
	id = k->unique;
	assert_int_equal(opens(k, NODE(1)), 2);
	restart(k);
	send_as(k, id | WIRE_RESEND_BIT, FUSE_RELEASE, NODE(1), &out, sizeof(out));
	assert_int_equal(reply_to(k, id | WIRE_RESEND_BIT), 0);
	assert_int_equal(opens(k, NODE(1)), 2);
	send_as(k, (id + 2) | WIRE_RESEND_BIT, FUSE_RELEASE, NODE(1), &out, sizeof(out));
	assert_int_equal(reply_to(k, (id + 2) | WIRE_RESEND_BIT), 0);
	assert_int_equal(opens(k, NODE(1)), 1);
	assert_int_equal(release_node(k, NODE(1)), 0);
	assert_int_equal(release_node(k, NODE(1)), 0); /* one too many */
	assert_int_equal(opens(k, NODE(1)), 0);
}

/* Killed between saving INIT and knowing that its answer was taken. */
TEST(test_half_init)
{
	struct fuse_getattr_in in = {0};
	uint32_t zero = 0;

	for (int i = 0; i < 2; i++) {
		fill_free(k->fill);
		/* struct head: answered follows magic, version, init_len */
		assert_int_equal(pwrite(k->options.state_fd, &zero, 4, 16), 4);
		fill_up(k);
		if (i == 0) { /* the kernel asks again */
			send_as(k, 2 | WIRE_RESEND_BIT, FUSE_INIT, 0, init_body, sizeof(init_body));
			assert_int_equal(reply_to(k, 2 | WIRE_RESEND_BIT), 0);
			assert_int_equal(k->n, 64);
		}
		assert_int_equal(call(k, FUSE_GETATTR, 1, &in, sizeof(in)), 0);
	}
}

TEST(test_state_of_others)
{
	uint32_t two = 2;
	struct fill *f;
	struct err err = ERR_INIT;

	fill_free(k->fill);
	assert_int_equal(pwrite(k->options.state_fd, &two, 4, 8), 4);
	assert_int_equal(
		fill_new(loop_self(), (void *)&world, (void *)&world, &k->options, &f, &err),
		-EPROTO);
	two = 1;
	assert_int_equal(pwrite(k->options.state_fd, &two, 4, 8), 4);
	fill_up(k);
}

TEST(test_short_and_unknown)
{
	static const uint32_t opcodes[] = {FUSE_LOOKUP,  FUSE_GETATTR,   FUSE_OPEN,
					   FUSE_READ,    FUSE_RELEASE,   FUSE_OPENDIR,
					   FUSE_READDIR, FUSE_RELEASEDIR};
	static const uint32_t unknown[] = {
		FUSE_SETATTR, FUSE_WRITE, FUSE_GETXATTR, FUSE_FLUSH, FUSE_IOCTL, FUSE_LSEEK,
		47,           52,         1000,          UINT32_MAX, 0};
	uint8_t body[64];

	memset(body, 'x', sizeof(body));
	for (unsigned i = 0; i < array_size(opcodes); i++)
		assert_int_equal(call(k, opcodes[i], 1, body, 7), -EINVAL);
	for (unsigned i = 0; i < array_size(unknown); i++)
		assert_int_equal(call(k, unknown[i], 1, body, sizeof(body)), -ENOSYS);
	send_new(k, FUSE_FORGET, NODE(1), body, 8);
	send_new(k, FUSE_BATCH_FORGET, 0, body, 64);
	send_new(k, FUSE_NOTIFY_REPLY, 0, body, 64);
	send_new(k, FUSE_INTERRUPT, 0, body, 4);
	send_raw(k, body, 20);
	send_raw(k, body, 60);
	silence(k);
	assert_int_equal(lookup(k, 1, "00"), 0);
}

TEST(test_garbage)
{
	uint64_t message[32];
	struct wire_in *in = (struct wire_in *)message;
	unsigned seed = 1;
	size_t n;

	for (unsigned i = 0; i < FAKES; i++)
		world.fakes[i].obj.complete = true;
	for (unsigned i = 0; i < 20000; i++) {
		for (size_t j = 0; j < array_size(message); j++)
			message[j] = (uint64_t)rand_r(&seed) >> (rand_r(&seed) % 31);
		n = 40 + (size_t)rand_r(&seed) % (sizeof(message) - 40);
		in->len = (uint32_t)(i % 64 ? n : in->len);
		in->opcode = (uint32_t)rand_r(&seed) % 56;
		if (in->opcode == FUSE_DESTROY)
			in->opcode = FUSE_READ;
		in->node = i % 2 ? (uint64_t)rand_r(&seed) % 300 : NODE(rand_r(&seed) % 6);
		send_raw(k, message, n);
		while (receive(k, 1) > 0 && i % 16 == 0)
			;
	}
	drain(k);
}

/* --- the table alone -------------------------------------------------------------------------- */

static struct fill_state *state_new(size_t size, int *fd)
{
	struct fill_state *s;

	*fd = memfd_create("state", MFD_CLOEXEC);
	assert_int_equal(ftruncate(*fd, (off_t)size), 0);
	assert_int_equal(fill_state_open(*fd, size, &s, NULL), 0);
	return s;
}

static void test_state_random(void **state)
{
	enum { NODES = 400, SLOTS = 512 };
	unsigned counts[NODES] = {0}, seed = 7, n;
	int fd;
	struct fill_state *s = state_new(4096 + SLOTS * 16, &fd);
	size_t slot;

	(void)state;
	assert_int_equal(fill_state_slots(s), SLOTS);
	for (unsigned i = 0; i < 200000; i++) {
		n = (unsigned)rand_r(&seed) % (i % 40000 < 20000 ? NODES : 50);
		slot = fill_state_find(s, n + 1);
		assert_int_equal(slot != FILL_NO_SLOT, counts[n] > 0);
		if (rand_r(&seed) % 2) {
			if (slot == FILL_NO_SLOT)
				assert_int_not_equal(
					fill_state_first(s, n + 1, FILL_PASSTHROUGH, n),
					FILL_NO_SLOT);
			else
				fill_state_again(s, slot);
			counts[n]++;
		} else if (counts[n]) {
			assert_int_equal(fill_state_mode(s, slot), FILL_PASSTHROUGH);
			assert_int_equal(fill_state_backing(s, slot), n);
			assert_int_equal(fill_state_less(s, slot), --counts[n] == 0);
		}
	}
	fill_state_close(s);
	close(fd);
}

static void test_state_full(void **state)
{
	int fd;
	struct fill_state *s = state_new(4096 + 8 * 16, &fd), *again;

	(void)state;
	for (uint64_t n = 1; n <= 8; n++)
		assert_int_not_equal(fill_state_first(s, n, FILL_CACHED, 0), FILL_NO_SLOT);
	assert_int_equal(fill_state_first(s, 9, FILL_CACHED, 0), FILL_NO_SLOT);
	assert_true(fill_state_complete(s));
	fill_state_untracked(s);
	assert_int_equal(fill_state_open(fd, 4096 + 8 * 16, &again, NULL), 0);
	assert_false(fill_state_complete(again));
	assert_int_not_equal(fill_state_find(again, 8), FILL_NO_SLOT);
	assert_int_equal(fill_state_find(again, 9), FILL_NO_SLOT);
	fill_state_close(again);
	assert_int_equal(fill_state_open(fd, 4096 + 9 * 16, &again, NULL), -EINVAL);
	fill_state_close(s);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_init),
		cmocka_unit_test(test_init_old_kernel),
		cmocka_unit_test(test_lookup),
		cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_interrupt),
		cmocka_unit_test(test_many_reads),
		cmocka_unit_test(test_few_buffers),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_resent),
		cmocka_unit_test(test_half_init),
		cmocka_unit_test(test_state_of_others),
		cmocka_unit_test(test_short_and_unknown),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_state_random),
		cmocka_unit_test(test_state_full),
	};

	log_init(LOG_LEVEL_ERROR, "test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
