// SPDX-License-Identifier: Apache-2.0
/*
 * Whose an event is. Owns what is known of each mount namespace, and the events that wait until it
 * is. Loop thread, but for what reads /proc.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "image/lookup.h"
#include "loop/work.h"
#include "start/impl.h"

#include "base/banned.h"

#define PROC_PATH    64
#define CMDLINE_MAX  4096
#define ENTRY_WORDS  8 /* of a command that are looked at */
#define OCTAL_DIGITS 3

struct waiting {
	struct touch touch;
	uint64_t now_ns;
	pid_t pid;
	struct str program; /* of an execution, a copy; empty: a touch */
};

struct space {
	struct map_node node; /* key = id */
	uint64_t id;
	struct starts *s;
	struct start *start; /* NULL: not known yet */
	bool looking, ignored, dropped;
	pid_t pid;         /* of the last event */
	struct buf events; /* struct waiting */
};

/* --- /proc, on a thread ------------------------------------------------------------------------
 */

/* As mountinfo writes blanks and the like: \040. */
static size_t unescape(struct str s, char *to, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len && n < size; i++) {
		const char *p = s.p + i;

		if (p[0] == '\\' && s.len - i > OCTAL_DIGITS && p[1] >= '0' && p[1] <= '3' &&
		    p[2] >= '0' && p[2] <= '7' && p[3] >= '0' && p[3] <= '7') {
			to[n++] = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			i += OCTAL_DIGITS;
		} else {
			to[n++] = p[0];
		}
	}
	return n;
}

/* "ROOT/snapshots/ID/fs" */
static uint64_t snapshot_of(struct str upper, const char *root)
{
	struct str rest = upper;
	uint64_t id;

	if (!str_starts(rest, str_of(root)))
		return SPACE_OTHERS;
	rest = (struct str){rest.p + strlen(root), rest.len - strlen(root)};
	if (!str_starts(rest, STR("/snapshots/")))
		return SPACE_OTHERS;
	rest = (struct str){rest.p + strlen("/snapshots/"), rest.len - strlen("/snapshots/")};
	if (rest.len < 4 || memcmp(rest.p + rest.len - 3, "/fs", 3) != 0 ||
	    str_u64((struct str){rest.p, rest.len - 3}, &id) < 0)
		return SPACE_OTHERS;
	return id;
}

static uint64_t snapshot_in(struct str options, const char *root)
{
	char upper[4096];

	while (options.len) {
		struct str one = str_cut(&options, ',');
		size_t n;

		if (str_starts(one, STR("upperdir="))) {
			one = (struct str){one.p + strlen("upperdir="),
					   one.len - strlen("upperdir=")};
			n = unescape(one, upper, sizeof(upper));
			return snapshot_of((struct str){upper, n}, root);
		}
	}
	return SPACE_OTHERS;
}

/* id parent dev root WHERE options [tags] - TYPE source OPTIONS */
static uint64_t snapshot_of_line(struct str line, const char *root)
{
	struct str w = {0};

	for (int i = 0; i < 5; i++)
		w = str_cut(&line, ' ');
	if (!str_eq(w, STR("/")))
		return 0;
	do {
		w = str_cut(&line, ' ');
	} while (w.len && !str_eq(w, STR("-")));
	w = str_cut(&line, ' ');
	if (!str_eq(w, STR("overlay")))
		return 0;
	str_cut(&line, ' ');
	return snapshot_in(str_cut(&line, ' '), root);
}

uint64_t space_snapshot(struct str text, const char *root)
{
	uint64_t found = 0;

	while (text.len) {
		uint64_t id = snapshot_of_line(str_cut(&text, '\n'), root);

		if (id) /* the last one covers those before it */
			found = id;
	}
	return found;
}

static int read_proc(pid_t pid, const char *name, size_t max, struct buf *ret)
{
	char path[PROC_PATH];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return file_read_all(path, max, ret, NULL);
}

static bool is_clean(const char *path)
{
	return profile_path_ok(str_of(path)) && strlen(path) < ENTRY_SIZE;
}

/* An argument that is a regular file of the image: its path. */
static bool file_of_word(int root_fd, const char *cwd, const char *arg, char *ret)
{
	const char *rest = strncmp(arg, "./", 2) == 0 ? arg + 2 : arg;
	int n;

	if (!arg[0] || arg[0] == '-')
		return false;
	if (arg[0] == '/')
		n = snprintf(ret, ENTRY_SIZE, "%s", arg);
	else
		n = snprintf(ret, ENTRY_SIZE, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, rest);
	return n > 0 && n < ENTRY_SIZE && is_clean(ret) && lookup_is_file(root_fd, ret);
}

static void read_link(pid_t pid, const char *name, char *ret)
{
	char path[PROC_PATH];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	n = readlink(path, ret, ENTRY_SIZE - 1);
	ret[n > 0 ? n : 0] = '\0';
}

/* The first of the arguments that is a file of the image; there is a NUL behind the last. */
static void entry_of_args(int root_fd, const char *cwd, struct str args, char *ret)
{
	const char *p = args.p, *end = args.p + args.len;
	char found[ENTRY_SIZE];

	for (int i = 0; i <= ENTRY_WORDS && p < end; i++, p += strlen(p) + 1) {
		if (i > 0 && file_of_word(root_fd, cwd, p, found)) {
			snprintf(ret, ENTRY_SIZE, "%s", found);
			return;
		}
	}
}

int space_entry(int root_fd, pid_t pid, struct str program, char *ret)
{
	auto_buf struct buf line = BUF_INIT;
	struct str args = {0};
	char cwd[ENTRY_SIZE];
	size_t n;

	read_link(pid, "cwd", cwd);
	if (program.len) {
		n = strlen(program.p) + 1;
		snprintf(ret, ENTRY_SIZE, "%s", program.p);
		args = (struct str){program.p + n, program.len - n};
	} else {
		read_link(pid, "exe", ret);
	}
	if (!is_clean(ret))
		ret[0] = '\0';
	/* What runs now may be what the first program has executed: only if there is nothing else.
	 */
	if (!args.len && read_proc(pid, "cmdline", CMDLINE_MAX, &line) == 0 && line.len &&
	    buf_append(&line, "", 1) == 0)
		args = (struct str){(char *)line.data, line.len};
	/* While a program is being executed it has no arguments yet. */
	if (!program.len && (!args.len || !ret[0] || !lookup_is_file(root_fd, ret)))
		return -EAGAIN;
	if (cwd[0])
		entry_of_args(root_fd, cwd, args, ret);
	return 0;
}

/* --- looking -----------------------------------------------------------------------------------
 */

static void space_empty(struct space *sp)
{
	struct waiting *w = (struct waiting *)sp->events.data;
	size_t n = sp->events.len / sizeof(*w);

	for (size_t i = 0; i < n; i++)
		free((char *)(uintptr_t)w[i].program.p);
	sp->s->waiting -= n;
	buf_fini(&sp->events);
}

/* Who is looking frees it then. */
static void space_free(struct space *sp)
{
	if (!sp->dropped)
		map_del(&sp->s->spaces, &sp->node);
	space_empty(sp);
	sp->dropped = true;
	if (!sp->looking)
		free(sp);
}

static void deliver(struct start *st, const struct waiting *w)
{
	if (w->program.len)
		start_executed(st, w->program, w->pid, w->now_ns);
	else
		start_touched(st, &w->touch);
}

/* Its events are st's, from the first on. */
static void space_bind(struct space *sp, struct start *st)
{
	struct waiting *w = (struct waiting *)sp->events.data;
	size_t n = sp->events.len / sizeof(*w);

	sp->start = st;
	if (!st->pid && n && sp->pid) {
		st->pid = sp->pid;
		st->pid_ns = w[0].now_ns;
	}
	for (size_t i = 0; i < n; i++)
		deliver(st, &w[i]);
	space_empty(sp);
}

static void space_ignore(struct space *sp)
{
	if (sp->id & SPACE_OF_PROCESS) {
		sp->ignored = true;
		space_empty(sp);
		return;
	}
	if (sp->s->access)
		access_ignore(sp->s->access, sp->id);
	space_free(sp);
}

struct look {
	pid_t pid;
	const char *root;
	uint64_t snapshot;
};

static int look_job(void *arg)
{
	struct look *l = arg;
	auto_buf struct buf text = BUF_INIT;
	int r = read_proc(l->pid, "mountinfo", SPACE_MOUNTINFO_MAX, &text);

	if (r == 0)
		l->snapshot = space_snapshot((struct str){(char *)text.data, text.len}, l->root);
	return r;
}

/* As space_snapshot(), after some tries; 0: the process has gone, or nobody wants to know. */
may_suspend static uint64_t look(struct space *sp)
{
	struct look l = {.root = sp->s->o.root};
	int r = 0;

	/* A runtime makes the namespace first, and then changes its root. */
	for (unsigned i = 0; i < SPACE_TRIES && !l.snapshot && !sp->dropped; i++) {
		if (i && task_sleep_ms(SPACE_RETRY_MS << (i - 1)) < 0)
			return 0;
		l.pid = sp->pid;
		r = work_run(sp->s->o.threads, look_job, &l);
	}
	return r == 0 && !l.snapshot ? SPACE_OTHERS : l.snapshot;
}

may_suspend static int look_task(void *arg)
{
	struct space *sp = arg;
	uint64_t snapshot = look(sp);
	struct start *st;

	sp->looking = false;
	if (sp->dropped) {
		free(sp);
		return 0;
	}
	st = snapshot && snapshot != SPACE_OTHERS ? start_by_snapshot(sp->s, snapshot) : NULL;
	log_debug("namespace=%llx pid=%d snapshot=%lld start=%d", (unsigned long long)sp->id,
		  (int)sp->pid, (long long)snapshot, st != NULL);
	if (st)
		space_bind(sp, st);
	else if (snapshot)
		space_ignore(sp);
	else
		space_free(sp);
	return 0;
}

/* --- events ------------------------------------------------------------------------------------
 */

static struct space *space_get(struct starts *s, uint64_t id)
{
	struct map_node *n = map_get(&s->spaces, (struct str){(const char *)&id, sizeof(id)});
	struct space *sp;

	if (n)
		return container_of(n, struct space, node);
	sp = s->spaces.count < SPACES_MAX ? calloc(1, sizeof(*sp)) : NULL;
	if (!sp)
		return NULL;
	sp->id = id;
	sp->s = s;
	sp->node.key = (struct str){(const char *)&sp->id, sizeof(sp->id)};
	map_put(&s->spaces, &sp->node);
	return sp;
}

static void space_wait(struct space *sp, struct waiting *w)
{
	if (sp->s->waiting >= SPACE_EVENTS_MAX || buf_append(&sp->events, w, sizeof(*w)) < 0) {
		free((char *)(uintptr_t)w->program.p);
		return;
	}
	sp->s->waiting++;
	if (sp->looking)
		return;
	sp->looking = scope_spawn(&sp->s->scope, look_task, sp, NULL) == 0;
	if (!sp->looking)
		space_free(sp);
}

void space_event(struct starts *s, uint64_t id, pid_t pid, const struct touch *t,
		 struct str program, uint64_t now_ns)
{
	struct waiting w = {.now_ns = now_ns, .pid = pid};
	char *copy;
	struct space *sp = space_get(s, id);

	if (!sp || sp->ignored)
		return;
	sp->pid = pid ? pid : sp->pid; /* 0: of another PID namespace */
	if (t)
		w.touch = *t;
	if (sp->start) {
		sp->start->pid = sp->pid;
		w.program = program;
		deliver(sp->start, &w);
		return;
	}
	if (!t) {
		copy = malloc(program.len);
		if (!copy)
			return;
		memcpy(copy, program.p, program.len);
		w.program = (struct str){copy, program.len};
	}
	space_wait(sp, &w);
}

void spaces_drop(struct starts *s, const struct start *st)
{
	for (size_t i = 0; i < s->spaces.size; i++) {
		struct map_node *n = s->spaces.slots[i], *next;

		for (; n; n = next) {
			struct space *sp = container_of(n, struct space, node);

			next = n->next;
			if (st && sp->start != st)
				continue;
			if (st && s->access && !(sp->id & SPACE_OF_PROCESS))
				access_ignore(s->access, sp->id);
			space_free(sp);
		}
	}
}
