// SPDX-License-Identifier: Apache-2.0
/*
 * fill_serve DIR OBJECTS STATS [nopassthrough]: a keeper and its worker with the real fs/fill.c
 * over objects that the test makes up. OBJECTS holds files named by their key. Objects whose key
 * begins with
 *   aa  are complete;
 *   bb  are partial: chunks of 64 KiB come 2 ms after the first who needs them, and are forgotten
 *       with the worker;
 *   cc  never come;
 *   dd  are like bb until OBJECTS/complete exists, then they are complete.
 * STATS is memory of struct stats. SIGTERM ends the worker in order, then the keeper.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/fill.h"
#include "fs/fill_mount.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "loop/scope.h"

#define CHUNK       65536u
#define OBJECTS_MAX 64

struct stats {
	uint64_t worker; /* pid */
	uint64_t starts, reads, needs;
};

struct fake {
	struct object obj;
	unsigned refs;
	char kind;
	uint8_t *chunks; /* 0 absent, 1 on its way, 2 here */
};

static struct {
	struct fake fakes[OBJECTS_MAX];
	unsigned n;
	int dir_fd;
	struct stats *stats;
	struct scope scope; /* of chunks on their way */
} world;

static noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

/* --- objects ---------------------------------------------------------------------------------- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void world_read(const char *dir)
{
	struct dirent **names;
	int n = scandir(dir, &names, NULL, by_name);
	struct digest key;
	struct stat st;

	world.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < n; i++) {
		struct fake *k = &world.fakes[world.n];

		if (digest_parse_hex(str_of(names[i]->d_name), &key) < 0 || world.n == OBJECTS_MAX)
			continue;
		k->obj = (struct object){.number = ++world.n, .key = key};
		k->kind = names[i]->d_name[0];
		k->obj.fd = openat(world.dir_fd, names[i]->d_name, O_RDONLY | O_CLOEXEC);
		if (k->obj.fd < 0 || fstat(k->obj.fd, &st) < 0)
			die(names[i]->d_name);
		k->obj.size = (uint64_t)st.st_size;
		k->obj.complete = k->kind == 'a';
		k->chunks = calloc(1, k->obj.size / CHUNK + 1);
		waitq_init(&k->obj.changed);
	}
}

static struct fake *fake_of(struct object *obj)
{
	return container_of(obj, struct fake, obj);
}

int objects_find(struct objects *o, const struct digest *key, struct object_info *ret,
		 struct err *err)
{
	(void)o, (void)err;
	task_yield();
	for (unsigned i = 0; i < world.n; i++) {
		if (digest_eq(&world.fakes[i].obj.key, key)) {
			*ret = (struct object_info){i + 1, world.fakes[i].obj.size};
			return 0;
		}
	}
	return -ENOENT;
}

struct object *objects_peek(struct objects *o, uint64_t number)
{
	struct fake *k = number >= 1 && number <= world.n ? &world.fakes[number - 1] : NULL;

	(void)o;
	if (!k || !k->refs)
		return NULL;
	if (k->kind == 'd' && faccessat(world.dir_fd, "complete", F_OK, 0) == 0)
		k->obj.complete = true;
	return object_ref(&k->obj);
}

int objects_get(struct objects *o, uint64_t number, struct object **ret, struct err *err)
{
	(void)err;
	task_yield();
	if (number < 1 || number > world.n)
		return -ENOENT;
	world.fakes[number - 1].refs++;
	*ret = objects_peek(o, number);
	world.fakes[number - 1].refs--;
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
	fake_of(obj)->refs--;
}

static bool present(struct object *obj, uint64_t off, uint64_t len)
{
	for (uint64_t c = off / CHUNK; c <= (off + len - 1) / CHUNK && !obj->complete; c++) {
		if (fake_of(obj)->chunks[c] != 2)
			return false;
	}
	return true;
}

bool fetch_present(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len)
{
	(void)f;
	world.stats->reads++;
	return present(obj, off, len);
}

void fetch_follow(struct fetcher *f, struct object *obj, uint64_t off)
{
	(void)f;
	(void)obj, (void)off;
}

struct way {
	struct fake *k;
	uint64_t chunk;
};

static int way_task(void *arg)
{
	struct way *w = arg;

	if (task_sleep_ms(2) == 0) {
		w->k->chunks[w->chunk] = 2;
		waitq_wake_all(&w->k->obj.changed);
	}
	free(w);
	return 0;
}

int fetch_need(struct fetcher *f, struct object *obj, uint64_t off, uint64_t len, struct err *err)
{
	struct fake *k = fake_of(obj);
	int r = 0;

	(void)f, (void)err;
	world.stats->needs++;
	for (uint64_t c = off / CHUNK; c <= (off + len - 1) / CHUNK && k->kind != 'c'; c++) {
		struct way *w = k->chunks[c] ? NULL : malloc(sizeof(*w));

		if (!w)
			continue;
		*w = (struct way){k, c};
		k->chunks[c] = 1;
		if (scope_spawn(&world.scope, way_task, w, NULL) < 0)
			die("spawn");
	}
	while (r == 0 && !present(obj, off, len))
		r = waitq_wait(&obj->changed);
	return r;
}

int fetch_copy(struct fetcher *f, struct object *obj, uint64_t off, void *buf, size_t len)
{
	ssize_t n;

	(void)f;
	if (!present(obj, off, len))
		return -EAGAIN;
	n = io_read(obj->fd, buf, len, off, 0);
	return n < 0 ? (int)n : n == (ssize_t)len ? 0 : -EIO;
}

/* --- the worker ------------------------------------------------------------------------------- */

static int worker_main(void *arg)
{
	const struct fill_options *options = arg;
	struct err err = ERR_INIT;
	struct fill *fill;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	scope_init(&world.scope, loop_self());
	if (fill_new(loop_self(), (void *)&world, (void *)&world, options, &fill, &err) < 0) {
		fprintf(stderr, "fill_new: %s\n", err.text);
		return 1;
	}
	world.stats->worker = (uint64_t)getpid();
	world.stats->starts++;
	io_poll(fd, POLLIN, 0);
	fill_free(fill);
	scope_cancel(&world.scope);
	scope_wait(&world.scope);
	for (unsigned i = 0; i < world.n; i++)
		require(world.fakes[i].refs == 0);
	return 0;
}

static int worker(const struct fill_options *options, const char *objects)
{
	struct loop *loop;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	world_read(objects);
	if (loop_new(&loop, NULL) < 0)
		die("loop");
	r = loop_run(loop, worker_main, (void *)options);
	loop_free(loop);
	for (unsigned i = 0; i < world.n; i++)
		free(world.fakes[i].chunks);
	return r;
}

/* --- the keeper ------------------------------------------------------------------------------- */

static pid_t worker_pid;
static volatile sig_atomic_t stopping;

static void on_term(int signal_number)
{
	(void)signal_number;
	stopping = 1;
	kill(worker_pid, SIGTERM);
}

static struct stats *stats_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *p;

	if (fd < 0 || ftruncate(fd, sizeof(struct stats)) < 0)
		die(path);
	p = mmap(NULL, sizeof(struct stats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die(path);
	return p;
}

int main(int argc, char **argv)
{
	struct fill_options options = {.passthrough = argc == 4};
	struct err err = ERR_INIT;
	sigset_t set;
	int status = 0;

	if (argc < 4)
		return 2;
	log_init(LOG_LEVEL_INFO, "fill_serve");
	world.stats = stats_map(argv[3]);
	if (fill_mount(argv[1], &options.fuse_fd, &err) < 0 ||
	    fill_memory(FILL_STATE_SIZE, &options.state_fd, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 77;
	}
	options.root_fd = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	while (!stopping) {
		sigprocmask(SIG_BLOCK, &set, NULL);
		signal(SIGTERM, SIG_DFL);
		worker_pid = fork();
		if (worker_pid == 0)
			exit(worker(&options, argv[2]));
		signal(SIGTERM, on_term);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		while (waitpid(worker_pid, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFEXITED(status) && WEXITSTATUS(status) && !stopping)
			break;
	}
	fill_unmount(argv[1]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
