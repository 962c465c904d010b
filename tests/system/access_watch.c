// SPDX-License-Identifier: Apache-2.0
/*
 * access_watch OPTION...: the real trace/access.c. Writes each event as a line:
 *   object NS INUM PID KEY UNIT UNITS
 *   file NS INUM PID MAJOR:MINOR INO UNIT UNITS
 *   exec NS INUM PID MAJOR:MINOR CGROUP PATH ARGUMENT...
 * and reads commands from standard input, each answered by a line "ok" or "failed" and the command:
 *   watch, unwatch         ignore NS        device PATH on|off, the device of the file system there
 *   stats                  lines of it before the answer
 *   sync                   answered when all records that there are have been written
 *   stall MS               the loop stands still
 *   cycle N, reload N      that often: attached and detached, unloaded and loaded
 * Options: objects=DIR fill=DIR ring=BYTES own debug tracepoint=PROGRAM:NAME refused=PROGRAM;
 * PROGRAM: a number of enum access_program. It ends with its input. Exit code 77: nothing can be
 * loaded here.
 */
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/io.h"
#include "trace/access.h"
#include "trace/access_place.h"

static struct access_options options;
static struct loop *loop;
static struct work *work;
static struct access *watched;
static uint64_t late_ns, late_most_ns, late_n; /* from the access to here */

static void late_count(uint64_t since_ns)
{
	struct timespec t;
	uint64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec - since_ns;
	late_ns += ns;
	late_most_ns = ns > late_most_ns ? ns : late_most_ns;
	late_n++;
}

static void on_event(void *arg, const struct access_event *e)
{
	static const char *const kinds[] = {
		[ACCESS_OBJECT] = "object", [ACCESS_FILE] = "file", [ACCESS_EXEC] = "exec"};
	char hex[DIGEST_HEX_SIZE];

	(void)arg;
	late_count(e->time_ns);
	printf("%s %llu %u %d ", kinds[e->kind], (unsigned long long)e->mnt_ns, e->inum, e->pid);
	digest_hex(&e->key, hex);
	if (e->kind == ACCESS_OBJECT)
		printf("%s", hex);
	else
		printf("%u:%u", major(e->dev), minor(e->dev));
	if (e->kind == ACCESS_EXEC) {
		printf(" %llu %s", (unsigned long long)e->cgroup, e->path);
		for (const char *p = e->args.p; p < e->args.p + e->args.len; p += strlen(p) + 1)
			printf(" %s", p);
		putchar('\n');
		return;
	}
	if (e->kind == ACCESS_FILE)
		printf(" %llu", (unsigned long long)e->ino);
	printf(" %llu %llu\n", (unsigned long long)e->unit, (unsigned long long)e->units);
}

static unsigned fds(void)
{
	auto_closedir DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	return n;
}

static unsigned long long resident_kb(void)
{
	unsigned long long total, pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f || fscanf(f, "%llu %llu", &total, &pages) != 2)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (unsigned long long)sysconf(_SC_PAGESIZE) / 1024;
}

static void stats(void)
{
	struct access_stats s;

	access_stats(watched, &s);
	printf("stats told=%llu read=%llu lost=%llu events=%llu watches=%u fds=%u kb=%llu "
	       "late_us=%llu most_us=%llu\n",
	       (unsigned long long)s.told, (unsigned long long)s.read, (unsigned long long)s.lost,
	       (unsigned long long)s.events, s.watches, fds(), resident_kb(),
	       (unsigned long long)(late_n ? late_ns / late_n / 1000 : 0),
	       (unsigned long long)(late_most_ns / 1000));
	for (unsigned p = 0; p < ACCESS_PROGRAMS; p++)
		printf("program %s %s %s\n", s.programs[p].tracepoint,
		       s.programs[p].attached ? "attached" : "off",
		       s.programs[p].reason ? s.programs[p].reason : "");
}

may_suspend static void all_read(void)
{
	struct access_stats s;

	do {
		task_sleep_ms(1);
		access_stats(watched, &s);
	} while (s.read < s.told);
}

static int device(const char *args)
{
	char path[512], on[8];
	struct access_place place;

	if (sscanf(args, "%511s %7s", path, on) != 2 || access_place(path, &place) < 0)
		return -EINVAL;
	return access_device(watched, access_dev(place.s_dev), strcmp(on, "on") == 0);
}

may_suspend static int repeat(const char *what, long n)
{
	struct err err = ERR_INIT;
	int r = 0;

	for (long i = 0; i < n && r == 0; i++) {
		if (what[0] == 'c') {
			access_watch(watched);
			access_unwatch(watched);
		} else {
			access_free(watched);
			r = access_new(loop, work, &options, &watched, &err);
		}
	}
	return r;
}

may_suspend static int command(const char *line)
{
	const char *args = strchrnul(line, ' ');
	size_t n = (size_t)(args - line);

	if (strcmp(line, "watch") == 0)
		access_watch(watched);
	else if (strcmp(line, "unwatch") == 0)
		access_unwatch(watched);
	else if (strncmp(line, "ignore", n) == 0)
		access_ignore(watched, strtoull(args, NULL, 10));
	else if (strncmp(line, "device", n) == 0)
		return device(args);
	else if (strcmp(line, "stats") == 0)
		stats();
	else if (strcmp(line, "sync") == 0)
		all_read();
	else if (strncmp(line, "stall", n) == 0)
		poll(NULL, 0, (int)strtol(args, NULL, 10));
	else if (strncmp(line, "cycle", n) == 0 || strncmp(line, "reload", n) == 0)
		return repeat(line, strtol(args, NULL, 10));
	else
		return -EINVAL;
	return 0;
}

may_suspend static void commands(void)
{
	char line[1024];
	size_t len = 0;

	while (len < sizeof(line) && io_read(0, line + len, 1, 0, 0) == 1) {
		if (line[len++] != '\n')
			continue;
		line[len - 1] = '\0';
		len = 0;
		printf("%s %s\n", command(line) < 0 ? "failed" : "ok", line);
	}
}

may_suspend static int watch_main(void *arg)
{
	struct err err = ERR_INIT;

	(void)arg;
	if (work_new(loop, "access", 1, &work, &err) < 0 ||
	    access_new(loop, work, &options, &watched, &err) < 0) {
		fprintf(stderr, "access_new: %s\n", err.text);
		return 1;
	}
	printf("ready\n");
	commands();
	access_free(watched);
	work_free(work);
	return 0;
}

static bool option(char *word)
{
	char *value = strchrnul(word, '='), *name;
	unsigned long p;

	if (*value)
		*value++ = '\0';
	p = strtoul(value, &name, 10);
	if (strcmp(word, "objects") == 0)
		options.objects = value;
	else if (strcmp(word, "fill") == 0)
		options.fill = value;
	else if (strcmp(word, "ring") == 0)
		options.ring_bytes = strtoul(value, NULL, 10);
	else if (strcmp(word, "own") == 0)
		options.own_too = true;
	else if (strcmp(word, "debug") == 0)
		log_init(LOG_LEVEL_DEBUG, "access");
	else if (strcmp(word, "tracepoint") == 0 && p < ACCESS_PROGRAMS && *name == ':')
		options.tracepoints[p] = name + 1;
	else if (strcmp(word, "refused") == 0 && p < ACCESS_PROGRAMS)
		options.refused[p] = true;
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	int r;

	log_init(LOG_LEVEL_INFO, "access");
	setvbuf(stdout, NULL, _IOLBF, 0);
	options.event = on_event;
	for (int i = 1; i < argc; i++) {
		if (!option(argv[i])) {
			fprintf(stderr, "what is %s?\n", argv[i]);
			return 2;
		}
	}
	if (loop_new(&loop, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	r = loop_run(loop, watch_main, NULL);
	loop_free(loop);
	return r;
}
