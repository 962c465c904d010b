// SPDX-License-Identifier: Apache-2.0
/* Times of the object store over RocksDB in a new directory. Prints, judges nothing.
 * usage: objects_speed DIRECTORY [OBJECTS] */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/tree.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "store/objects.h"

#define SIZE 6000

static const char *dir;
static size_t count = 10000;
static struct work *threads;
static struct objects *objects;
static struct object_entry *entries;
static uint8_t *states;

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double last;

static void lap(const char *what, int r)
{
	double t = now_ms();

	printf("%-40s %9.2f ms%s\n", what, t - last, r < 0 ? strerror(-r) : "");
	last = now_ms();
}

static struct objects *open_store(struct meta **meta, int root_fd)
{
	struct objects_options options = {.root_fd = root_fd, .boot = 1};
	struct err err = ERR_INIT;
	struct objects *o = NULL;
	char path[4096];
	struct kv *kv;

	snprintf(path, sizeof(path), "%s/db", dir);
	if (kv_rocks_open(path, &kv, &err) < 0 ||
	    meta_new(loop_self(), kv, dup(root_fd), meta, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	last = now_ms(); /* without the database */
	if (objects_new(loop_self(), *meta, threads, &options, &o, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	return o;
}

static int write_half(void *arg)
{
	static const char data[SIZE];
	int r = 0;

	for (size_t i = arg ? count / 2 : 0; i < (arg ? count : count / 2) && r == 0; i++)
		r = objects_write_whole(objects, &entries[i].key, data, SIZE, NULL);
	return r;
}

static int write_task(void *arg)
{
	return work_run(threads, write_half, arg);
}

static void write_all(void)
{
	struct scope scope;

	scope_init(&scope, loop_self());
	for (size_t i = 0; i < 2; i++) {
		if (scope_spawn(&scope, write_task, i ? entries : NULL, NULL) < 0)
			exit(1);
	}
	scope_wait(&scope);
	scope_fini(&scope);
	lap("write whole, 2 threads", 0);
	for (size_t i = 0; i < count; i++)
		objects_wrote(objects, &entries[i].key);
	lap("wrote, all", 0);
}

static void get_all(const char *what)
{
	struct object_info info;
	struct object *obj;
	int r = 0;

	for (size_t i = 0; i < 1000 && i < count && r == 0; i++) {
		r = objects_find(objects, &entries[i].key, &info, NULL);
		if (r == 0)
			r = objects_get(objects, info.number, &obj, NULL);
		if (r == 0)
			object_unref(objects, obj);
	}
	lap(what, r);
}

static void fill_all(void)
{
	static const char data[SIZE];
	struct object_info info;
	struct object *obj;
	int r = 0;

	for (size_t i = 0; i < 1000 && i < count && r == 0; i++) {
		r = objects_find(objects, &entries[i].key, &info, NULL);
		if (r == 0)
			r = objects_get(objects, info.number, &obj, NULL);
		if (r < 0)
			break;
		if (pwrite(obj->fd, data, SIZE, 0) != SIZE)
			r = -EIO;
		else
			r = objects_put_chunk(objects, obj, 0, NULL);
		object_unref(objects, obj);
	}
	lap("find, get, put of 1000, one by one", r);
}

static bool files_left(void)
{
	if (objects_state(objects, entries, count, states, NULL) < 0)
		exit(1);
	for (size_t i = 0; i < count; i++) {
		if (states[i] != OBJECT_ABSENT)
			return true;
	}
	return false;
}

static int run(void *arg)
{
	int root_fd = open(dir, O_RDONLY | O_DIRECTORY);
	struct digest *keys = calloc(count, sizeof(*keys));
	struct meta *meta;

	(void)arg;
	if (root_fd < 0 || !keys || work_new(loop_self(), "fs", 4, &threads, NULL) < 0)
		return 1;
	last = now_ms();
	objects = open_store(&meta, root_fd);
	lap("start, new", 0);
	lap("add, new", objects_add(objects, 1, entries, count, NULL));
	lap("add, second layer", objects_add(objects, 2, entries, count, NULL));
	lap("add, again", objects_add(objects, 2, entries, count, NULL));
	get_all("find and get of 1000, absent");
	fill_all();
	get_all("find and get of 1000, complete");
	write_all();
	lap("state", objects_state(objects, entries, count, states, NULL));
	for (size_t i = 0; i < count; i++)
		keys[i] = entries[i].key;
	lap("remove, one of two layers", objects_remove(objects, 2, keys, count, NULL));
	objects_free(objects);
	meta_free(meta);
	last = now_ms();
	objects = open_store(&meta, root_fd);
	lap("start, full", 0);
	lap("remove, last layer", objects_remove(objects, 1, keys, count, NULL));
	while (files_left() && task_sleep_ms(20) == 0)
		;
	lap("files deleted", 0);
	objects_free(objects);
	meta_free(meta);
	work_free(threads);
	free(keys);
	close(root_fd);
	return 0;
}

int main(int argc, char **argv)
{
	struct loop *loop;
	int r;

	if (argc < 2)
		return 2;
	dir = argv[1];
	if (argc > 2)
		count = strtoul(argv[2], NULL, 10);
	entries = calloc(count + 1, sizeof(*entries));
	states = calloc(count + 1, 1);
	if (!entries || !states || mkdir(dir, 0700) < 0 || loop_new(&loop, NULL) < 0)
		return 1;
	for (size_t i = 0; i < count; i++) {
		entries[i] = (struct object_entry){.size = SIZE, .chunks_n = 1};
		entries[i].index = (uint32_t)i;
		sha256(&i, sizeof(i), &entries[i].key);
	}
	r = loop_run(loop, run, NULL);
	loop_free(loop);
	free(entries);
	free(states);
	return tree_remove(AT_FDCWD, dir, NULL) < 0 ? 1 : r;
}
