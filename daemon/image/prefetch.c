// SPDX-License-Identifier: Apache-2.0
/*
 * Starts that are foreseen. Owns a task for each start and one for each file of it; files are
 * looked up in the mounted metadata image on threads, and read as a container would read them. Loop
 * thread.
 */
#include "image/prefetch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "image/command.h"
#include "image/elf.h"
#include "image/lookup.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "loop/work.h"

#include "base/banned.h"

#define PATH_BYTES   1024 /* a longer name is not followed */
#define SCRIPT_BYTES 256  /* of its first line */

struct prefetcher {
	struct loop *loop;
	struct resolver *resolver;
	struct objects *objects;
	struct fetcher *fetcher;
	struct work *threads;
	struct scope scope;
	struct list alive; /* start.link */
	unsigned starts;
};

struct start {
	struct list link; /* in prefetcher.alive */
	struct prefetcher *p;
	uint32_t *layers;
	size_t layers_n;
	struct arena arena; /* of its words */
	char *ref, *root;
	struct digest manifest;
	int root_fd;
	struct scope scope;                   /* its files */
	struct str path;                      /* $PATH */
	uint64_t numbers[PREFETCH_FILES_MAX]; /* objects that were found */
	size_t numbers_n, files;
	uint64_t bytes;
	char *cache; /* /etc/ld.so.cache; NULL = none */
	size_t cache_n;
	bool cache_done;
	struct waitq changed;
};

/* One file that is looked for; the first of its paths that there is. */
struct file {
	struct start *s;
	struct buf paths; /* NUL behind each */
	enum { FILE_DATA, FILE_PROGRAM, FILE_LD_CACHE } kind;
	char real[PATH_BYTES]; /* where it is, without links; empty = too long */
	struct digest key;
	struct object *obj;
	uint64_t size;
	struct elf elf;
};

/* --- on a thread --------------------------------------------------------------------------------
 */

/* Is there a regular file with content? */
static bool find_one(struct file *fi, const char *path)
{
	struct lookup_file f;

	if (lookup_file(fi->s->root_fd, path, &f) < 0 || f.embedded)
		return false;
	fi->key = f.key;
	fi->size = f.size;
	lookup_real(fi->s->root_fd, fi->s->root, path, fi->real, sizeof(fi->real));
	return true;
}

static int find_job(void *arg)
{
	struct file *fi = arg;
	const char *p = (const char *)fi->paths.data, *end = p + fi->paths.len;

	for (; p < end; p += strlen(p) + 1) {
		if (find_one(fi, p))
			return 0;
	}
	return -ENOENT;
}

/* --- files --------------------------------------------------------------------------------------
 */

may_suspend static int file_task(void *arg);

static struct file *file_new(struct start *s)
{
	struct file *fi = s->files < PREFETCH_FILES_MAX ? calloc(1, sizeof(*fi)) : NULL;

	if (fi)
		fi->s = s;
	return fi;
}

static void file_free(struct file *fi)
{
	if (fi->obj)
		object_unref(fi->s->p->objects, fi->obj);
	buf_fini(&fi->paths);
	free(fi);
}

static void file_path(struct file *fi, struct str dir, struct str name)
{
	if (fi->paths.len + dir.len + name.len + 2 > PREFETCH_PATHS_MAX ||
	    memchr(name.p, '\0', name.len) || (dir.len && memchr(dir.p, '\0', dir.len)))
		return;
	if (buf_printf(&fi->paths, STR_FMT "%s" STR_FMT, STR_ARG(dir), dir.len ? "/" : "",
		       STR_ARG(name)) == 0 &&
	    buf_append(&fi->paths, "", 1) < 0)
		buf_fini(&fi->paths);
}

/* Takes it. */
static void file_start(struct file *fi)
{
	if ((!fi->paths.len && !fi->obj) || scope_spawn(&fi->s->scope, file_task, fi, NULL) < 0)
		file_free(fi);
	else
		fi->s->files++;
}

/* In each of the directories of a list, ':' between. */
static void file_dirs(struct file *fi, struct str dirs, struct str name)
{
	while (dirs.len) {
		const char *colon = memchr(dirs.p, ':', dirs.len);
		size_t n = colon ? (size_t)(colon - dirs.p) : dirs.len;

		if (n && dirs.p[0] == '/')
			file_path(fi, (struct str){dirs.p, n}, name);
		n += colon != NULL;
		dirs = (struct str){dirs.p + n, dirs.len - n};
	}
}

/* A program by its name, or any file by its path. */
static void want_word(struct start *s, struct str word)
{
	struct file *fi = file_new(s);

	if (!fi)
		return;
	fi->kind = FILE_PROGRAM;
	if (word.len && word.p[0] == '/')
		file_path(fi, (struct str){0}, word);
	else if (word.len && !memchr(word.p, '/', word.len))
		file_dirs(fi, s->path, word);
	file_start(fi);
}

static void want_path(struct start *s, const char *path, int kind)
{
	struct file *fi = file_new(s);

	if (!fi)
		return;
	fi->kind = kind;
	file_path(fi, (struct str){0}, str_of(path));
	file_start(fi);
}

may_suspend static int file_read(void *arg, uint64_t off, void *buf, size_t n)
{
	struct file *fi = arg;
	struct prefetcher *p = fi->s->p;
	int r;

	if (off > fi->size || n > fi->size - off)
		return -ENOEXEC;
	r = fetch_foreseen(p->fetcher, fi->obj, off, n, NULL);
	return r < 0 ? r : fetch_copy(p->fetcher, fi->obj, off, buf, n);
}

/* The directory of fi, where a run path says so; "$ORIGIN" is how nearly all that have one begin.
 */
static void run_path(const struct file *fi, struct file *lib, struct str name)
{
	struct str rest = str_of(fi->elf.runpath), origin = {fi->real, 0};
	const char *slash = strrchr(fi->real, '/');
	char dir[2 * PATH_BYTES];

	origin.len = slash ? (size_t)(slash - fi->real) : 0; /* 0: not known */
	while (rest.len) {
		const char *colon = memchr(rest.p, ':', rest.len);
		struct str one = {rest.p, colon ? (size_t)(colon - rest.p) : rest.len};
		size_t skip = str_starts(one, STR("$ORIGIN"))     ? 7
			      : str_starts(one, STR("${ORIGIN}")) ? 9
								  : 0;
		int n = snprintf(dir, sizeof(dir), STR_FMT STR_FMT, skip ? (int)origin.len : 0,
				 origin.p, (int)(one.len - skip), one.p + skip);

		if (n > 0 && (size_t)n < sizeof(dir) && (!skip || origin.len))
			file_path(lib, (struct str){dir, (size_t)n}, name);
		one.len += colon != NULL;
		rest = (struct str){rest.p + one.len, rest.len - one.len};
	}
}

static void want_library(struct file *fi, const char *name)
{
	struct start *s = fi->s;
	struct file *lib = file_new(s);
	const char *path;
	uint32_t at = 0;

	if (!lib)
		return;
	lib->kind = FILE_PROGRAM;
	if (strchr(name, '/')) {
		file_path(lib, (struct str){0}, str_of(name));
	} else {
		run_path(fi, lib, str_of(name));
		while (s->cache && (path = ld_cache_find(s->cache, s->cache_n, name, &at)))
			file_path(lib, (struct str){0}, str_of(path));
		file_dirs(lib, STR("/lib:/usr/lib:/lib64:/usr/lib64:/usr/local/lib"), str_of(name));
	}
	file_start(lib);
}

/* "#!/usr/bin/env python3": a path, or words. */
static void want_script(struct file *fi, char *line, size_t n)
{
	for (size_t i = 2; i < n && line[i] != '\n';) {
		size_t from = i;

		while (i < n && line[i] != ' ' && line[i] != '\t' && line[i] != '\n')
			i++;
		if (i < n && i > from && line[from] != '-') /* else cut short */
			want_word(fi->s, (struct str){line + from, i - from});
		while (i < n && (line[i] == ' ' || line[i] == '\t'))
			i++;
	}
}

/* What the loader reads of a large file, if there is room for it. */
may_suspend static void read_parts(struct file *fi)
{
	for (size_t i = 0; i < fi->elf.parts_n; i++) {
		const struct elf_range *e = &fi->elf.parts[i];

		if (e->len > PREFETCH_BYTES_MAX - fi->s->bytes)
			continue;
		fi->s->bytes += e->len;
		fetch_foreseen(fi->s->p->fetcher, fi->obj, e->off, e->len, NULL);
	}
}

may_suspend static void program(struct file *fi)
{
	const struct elf_file file = {file_read, fi};
	struct start *s = fi->s;
	char line[SCRIPT_BYTES];
	size_t n = fi->size < sizeof(line) ? (size_t)fi->size : sizeof(line);

	if (file_read(fi, 0, line, n) < 0)
		return;
	if (n > 2 && memcmp(line, "#!", 2) == 0) {
		want_script(fi, line, n);
		return;
	}
	if (elf_read(&file, &fi->elf) < 0)
		return;
	while (!s->cache_done) {
		if (waitq_wait(&s->changed) < 0)
			return;
	}
	if (fi->elf.interpreter[0])
		want_path(s, fi->elf.interpreter, FILE_PROGRAM);
	for (size_t i = 0; i < fi->elf.needed_n; i++)
		want_library(fi, fi->elf.needed[i]);
	if (fi->size > PREFETCH_WHOLE_MAX)
		read_parts(fi);
}

may_suspend static void ld_cache(struct file *fi)
{
	char *data = fi->size <= LD_CACHE_MAX ? malloc(fi->size) : NULL;

	if (data && file_read(fi, 0, data, fi->size) == 0) {
		fi->s->cache = data;
		fi->s->cache_n = fi->size;
	} else {
		free(data);
	}
}

static bool is_new(struct start *s, uint64_t number)
{
	for (size_t i = 0; i < s->numbers_n; i++) {
		if (s->numbers[i] == number)
			return false;
	}
	if (s->numbers_n == PREFETCH_FILES_MAX)
		return false;
	s->numbers[s->numbers_n++] = number;
	return true;
}

may_suspend static int file_open(struct file *fi)
{
	struct prefetcher *p = fi->s->p;
	struct object_info info;
	int r;

	if (fi->obj)
		return 0;
	r = work_run(p->threads, find_job, fi);
	if (r < 0)
		return r;
	r = objects_find(p->objects, &fi->key, &info, NULL);
	if (r < 0)
		return r;
	if (!is_new(fi->s, info.number))
		return -EEXIST;
	return objects_get(p->objects, info.number, &fi->obj, NULL);
}

may_suspend static int file_task(void *arg)
{
	struct file *fi = arg;
	struct start *s = fi->s;

	if (file_open(fi) == 0) {
		if (fi->size <= PREFETCH_WHOLE_MAX && fi->size <= PREFETCH_BYTES_MAX - s->bytes) {
			s->bytes += fi->size;
			fetch_foreseen(s->p->fetcher, fi->obj, 0, fi->size, NULL);
		}
		if (fi->kind == FILE_LD_CACHE)
			ld_cache(fi);
		else if (fi->kind == FILE_PROGRAM)
			program(fi);
	}
	if (fi->kind == FILE_LD_CACHE) {
		s->cache_done = true;
		waitq_wake_all(&s->changed);
	}
	file_free(fi);
	return 0;
}

/* --- a start ------------------------------------------------------------------------------------
 */

may_suspend static int want_command(struct start *s, struct err *err)
{
	auto_buf struct buf config = BUF_INIT;
	struct command c;
	int r = resolve_config(s->p->resolver, str_of(s->ref), &s->manifest, &config, err);

	if (r < 0)
		return r;
	r = command_parse((struct str){(char *)config.data, config.len}, &s->arena, &c, err);
	if (r < 0)
		return r;
	s->path = c.path;
	for (size_t i = 0; i < c.words_n; i++)
		want_word(s, c.words[i]);
	return 0;
}

/* Files that nearly every program reads. */
static void want_usual(struct start *s)
{
	static const char *const usual[] = {"/etc/passwd", "/etc/group", "/etc/nsswitch.conf"};

	want_path(s, "/etc/ld.so.cache", FILE_LD_CACHE);
	s->cache_done = s->files == 0;
	for (size_t i = 0; i < array_size(usual); i++)
		want_path(s, usual[i], FILE_DATA);
}

/* What is foreseen; then, for a while, what follows from what is read. */
may_suspend static int start_run(struct start *s, struct err *err)
{
	struct fetcher *f = s->p->fetcher;
	int r;

	fetch_hold(f, true);
	want_usual(s);
	r = want_command(s, err);
	if (scope_wait_ms(&s->scope, PREFETCH_TIMEOUT_MS) == 0)
		log_info("foreseen image=%s files=%zu bytes=%llu", s->ref, s->numbers_n,
			 (unsigned long long)s->bytes);
	fetch_hold(f, false);
	task_sleep_ms(PREFETCH_FOLLOW_MS);
	return r;
}

static void start_free(struct start *s)
{
	if (s->root_fd >= 0)
		close(s->root_fd);
	arena_fini(&s->arena);
	free(s->layers);
	free(s->cache);
	free(s->ref);
	free(s->root);
	free(s);
}

may_suspend static int start_main(void *arg)
{
	struct start *s = arg;
	struct prefetcher *p = s->p;
	struct err err = ERR_INIT;
	int r = start_run(s, &err);

	list_del(&s->link);
	scope_cancel(&s->scope);
	scope_wait(&s->scope);
	scope_fini(&s->scope);
	if (r < 0 && r != -ECANCELED)
		log_info("the command is not known image=%s cause=\"%s\"", s->ref,
			 err_text(&err, r));
	start_free(s);
	p->starts--;
	return 0;
}

static struct start *start_new(struct prefetcher *p, const struct prefetch_tree *t)
{
	struct start *s = p->starts < PREFETCH_STARTS_MAX ? calloc(1, sizeof(*s)) : NULL;

	if (!s)
		return NULL;
	s->p = p;
	s->manifest = t->manifest;
	s->ref = strndup(t->ref.p, t->ref.len);
	s->root = strdup(t->root);
	s->layers = calloc(t->layers_n, sizeof(*s->layers));
	s->root_fd = open(t->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	arena_init(&s->arena, JSON_TREE_MAX);
	waitq_init(&s->changed);
	if (!s->ref || !s->root || !s->layers || s->root_fd < 0) {
		start_free(s);
		return NULL;
	}
	s->layers_n = t->layers_n;
	memcpy(s->layers, t->layers, t->layers_n * sizeof(*s->layers));
	return s;
}

void prefetch_start(struct prefetcher *p, const struct prefetch_tree *t)
{
	struct start *s = start_new(p, t);

	if (!s)
		return;
	if (scope_spawn(&p->scope, start_main, s, NULL) < 0) {
		start_free(s);
		return;
	}
	scope_init(&s->scope, p->loop);
	list_push(&p->alive, &s->link);
	p->starts++;
}

/* --- reads --------------------------------------------------------------------------------------
 */

static bool has_layer_of(const struct start *s, const struct object *obj)
{
	for (uint32_t i = 0; i < obj->sources_n; i++) {
		for (size_t k = 0; k < s->layers_n; k++) {
			if (obj->sources[i].layer == s->layers[k])
				return true;
		}
	}
	return false;
}

static bool is_program(const struct object *obj)
{
	char magic[4];
	struct iovec iov = {magic, sizeof(magic)};

	/* It has just been written. */
	return preadv2(obj->fd, &iov, 1, 0, RWF_NOWAIT) == sizeof(magic) &&
	       (memcmp(magic, "\177ELF", 4) == 0 || memcmp(magic, "#!", 2) == 0);
}

/* A library that no program names, or a program that no command names. */
static void on_read(void *arg, struct object *obj)
{
	struct prefetcher *p = arg;

	if (list_empty(&p->alive) || !is_program(obj))
		return;
	for (struct list *l = p->alive.next; l != &p->alive; l = l->next) {
		struct start *s = container_of(l, struct start, link);
		struct file *fi;

		if (!has_layer_of(s, obj) || !is_new(s, obj->number))
			continue;
		fi = file_new(s);
		if (!fi)
			continue;
		fi->kind = FILE_PROGRAM;
		fi->obj = object_ref(obj);
		fi->size = obj->size;
		file_start(fi);
	}
}

/* --- life ---------------------------------------------------------------------------------------
 */

int prefetcher_new(struct loop *loop, struct resolver *resolver, struct objects *objects,
		   struct fetcher *fetcher, struct work *threads, struct prefetcher **ret,
		   struct err *err)
{
	struct prefetcher *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	*p = (struct prefetcher){.loop = loop,
				 .resolver = resolver,
				 .objects = objects,
				 .fetcher = fetcher,
				 .threads = threads};
	scope_init(&p->scope, loop);
	list_init(&p->alive);
	fetch_watch(fetcher, on_read, p);
	*ret = p;
	return 0;
}

may_suspend void prefetcher_stop(struct prefetcher *p)
{
	if (!p)
		return;
	fetch_watch(p->fetcher, NULL, NULL);
	scope_cancel(&p->scope);
	scope_wait(&p->scope);
}

void prefetcher_free(struct prefetcher *p)
{
	if (!p)
		return;
	scope_fini(&p->scope);
	free(p);
}
