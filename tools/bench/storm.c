// SPDX-License-Identifier: Apache-2.0
/* Does one thing to every file named on standard input, ROUNDS times over, and prints how many in a
 * second. With 0 rounds it goes on until it is told to end, and prints every 20 ms, as fio's logs
 * do: time of day in milliseconds, how many in a second in the time before.
 * usage: storm stat|open|read|exec|append ROUNDS */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int do_stat(const char *path)
{
	struct stat st;

	return lstat(path, &st);
}

static int do_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : close(fd);
}

static int do_read(const char *path)
{
	static char buf[1 << 16];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : 1;

	while (n > 0)
		n = read(fd, buf, sizeof(buf));
	return n < 0 ? -1 : close(fd);
}

static int do_exec(const char *path)
{
	char *argv[] = {(char *)(size_t)path, NULL};
	int status;
	pid_t pid;

	if (posix_spawn(&pid, path, NULL, NULL, argv, argv + 1) != 0)
		return -1;
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

static int do_append(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, "x", 1);

	return n != 1 ? -1 : close(fd);
}

static const struct {
	const char *name;
	int (*fn)(const char *path);
} kinds[] = {{"stat", do_stat},
	     {"open", do_open},
	     {"read", do_read},
	     {"exec", do_exec},
	     {"append", do_append}};

static char **read_paths(size_t *ret_n)
{
	char **paths = NULL, *line = NULL;
	size_t n = 0, room = 0;

	while (getline(&line, &room, stdin) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (n % 1024 == 0)
			paths = realloc(paths, (n + 1024) * sizeof(*paths));
		if (!paths || !(paths[n] = strdup(line)))
			abort();
		n++;
	}
	free(line);
	*ret_n = n;
	return paths;
}

static double seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* How many were done since when, if that is to be told now. */
static void tell(size_t *n, double *since)
{
	double now = seconds(CLOCK_MONOTONIC);

	if (now - *since < 0.02)
		return;
	printf("%.0f, %.1f\n", seconds(CLOCK_REALTIME) * 1e3, (double)*n / (now - *since));
	fflush(stdout);
	*n = 0;
	*since = now;
}

int main(int argc, char **argv)
{
	int (*fn)(const char *path) = NULL;
	size_t n, done = 0, rounds = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	char **paths = read_paths(&n);
	double start;

	for (size_t i = 0; argc == 3 && i < sizeof(kinds) / sizeof(*kinds); i++) {
		if (strcmp(kinds[i].name, argv[1]) == 0)
			fn = kinds[i].fn;
	}
	if (!fn || !n)
		return 2;
	start = seconds(CLOCK_MONOTONIC);
	for (size_t r = 0; !rounds || r < rounds; r++) {
		for (size_t i = 0; i < n; i++) {
			if (fn(paths[i]) < 0) {
				perror(paths[i]);
				return 1;
			}
			done++;
			if (!rounds)
				tell(&done, &start);
		}
	}
	printf("%.1f\n", (double)done / (seconds(CLOCK_MONOTONIC) - start));
	return 0;
}
