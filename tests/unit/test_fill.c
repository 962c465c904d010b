// SPDX-License-Identifier: Apache-2.0
/* FUSE objects: the test is the kernel, over a socketpair that keeps messages apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>

#include "fill_world.h"

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

/* An answer that the kernel does not take opens nothing, and no release follows. */
TEST(test_open_answer_not_taken)
{
	struct fuse_open_in in = {.flags = O_RDONLY};

	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(shutdown(k->fd, SHUT_RD), 0);
	send_new(k, FUSE_OPEN, NODE(1), &in, sizeof(in));
	assert_int_equal(task_sleep_ms(SILENT_MS), 0);
	assert_int_equal(opens(k, NODE(1)), 0);
	assert_int_equal(world.fakes[0].refs, 0);
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
		cmocka_unit_test(test_open_answer_not_taken),
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
