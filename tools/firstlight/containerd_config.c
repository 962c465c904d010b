// SPDX-License-Identifier: Apache-2.0
/* firstlight containerd-config: what containerd's settings need, printed or put into its file. */
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "cmd.h"
#include "containerd_settings.h"
#include "options.h"
#include "out.h"

#include "base/banned.h"

#define NAME              "containerd-config"
#define CONTAINERD_SOCKET "/run/containerd/containerd.sock"
#define PATH_BYTES        4096

struct asking {
	const char *version;
	const char *merge, *check, *output;
	bool in_place, force;
	struct containerd_settings s;
};

/* --- printing --------------------------------------------------------------------------------- */

static int put_element(struct buf *b, const struct setting *e, size_t n)
{
	int r = buf_printf(b, "\n[[%s]]\n", e->table);

	for (size_t i = 0; i < n && r == 0; i++)
		r = buf_printf(b, "  %s = %s\n", e[i].key, e[i].value);
	return r;
}

static int put_all(const struct containerd_settings *s, struct buf *b)
{
	const char *table = "";
	int r = buf_printf(b, "# containerd %u.%u\nversion = %u\n", s->version.major,
			   s->version.minor, s->format);

	for (size_t i = 0; i < s->n && r == 0; i++) {
		if (strcmp(table, s->want[i].table) != 0)
			r = buf_printf(b, "\n[%s]\n", s->want[i].table);
		table = s->want[i].table;
		if (r == 0)
			r = buf_printf(b, "  %s = %s\n", s->want[i].key, s->want[i].value);
	}
	if (r == 0 && s->unpack_n)
		r = put_element(b, s->overlayfs, s->unpack_n);
	return r == 0 && s->unpack_n ? put_element(b, s->unpack, s->unpack_n) : r;
}

/* --- files ------------------------------------------------------------------------------------ */

static int sync_dir(const char *path)
{
	char copy[PATH_BYTES];
	auto_close int fd = -1;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* The old file becomes path.bak; a moment without path there never is. */
static int keep_old(const char *path)
{
	char bak[PATH_BYTES + 8];

	snprintf(bak, sizeof(bak), "%s.bak", path);
	if (unlink(bak) < 0 && errno != ENOENT)
		return -errno;
	return link(path, bak) < 0 ? -errno : 0;
}

/* tmp, which fd is of, becomes path, with the owner and mode that st has (NULL: 0644). */
static int finish_file(int fd, const char *tmp, const char *path, const struct stat *st,
		       const struct buf *text, bool keep)
{
	int r = file_write_all(fd, text->data, text->len);

	if (r == 0 && st && fchown(fd, st->st_uid, st->st_gid) < 0)
		r = -errno;
	if (r == 0 && fchmod(fd, st ? st->st_mode & 07777 : 0644) < 0)
		r = -errno;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && keep)
		r = keep_old(path);
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(tmp);
	return r < 0 ? r : sync_dir(path);
}

/* In one step. A link is followed; the file that was there stays as FILE.bak if keep is set. */
static int write_file(const char *name, const struct buf *text, bool keep)
{
	char path[PATH_BYTES], tmp[PATH_BYTES + 16], real[PATH_MAX];
	auto_close int fd = -1;
	struct stat st;
	bool exists;

	if (snprintf(path, sizeof(path), "%s", realpath(name, real) ? real : name) >=
	    (int)sizeof(path))
		return -ENAMETOOLONG;
	exists = stat(path, &st) == 0;
	if (exists && !S_ISREG(st.st_mode))
		return -EINVAL;
	snprintf(tmp, sizeof(tmp), "%s.XXXXXX", path);
	fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return finish_file(fd, tmp, path, exists ? &st : NULL, text, exists && keep);
}

static int write_failed(const char *name, int r)
{
	out_fail(NAME, "write %s: %s", name, strerror(-r));
	out_hint_room(strerror(-r));
	return 1;
}

/* To --output, or printed. */
static int deliver(const struct asking *a, const struct buf *text)
{
	int r;

	if (!a->output) {
		fwrite(text->data, 1, text->len, stdout);
		return out_done(NAME);
	}
	r = write_file(a->output, text, false);
	return r < 0 ? write_failed(a->output, r) : 0;
}

static int print(const struct asking *a)
{
	auto_buf struct buf text = BUF_INIT;

	if (put_all(&a->s, &text) < 0)
		out_no_memory();
	return deliver(a, &text);
}

/* --- a file that is there --------------------------------------------------------------------- */

/* 0, or the exit code. An empty file is as good as none: the version is put into it. */
static int read_file(struct asking *a, const char *path, struct buf *text)
{
	struct err err = ERR_INIT;
	int r = file_read_all(path, CONFIG_EDIT_MAX, text, &err);

	if (r < 0)
		return out_fail(NAME, "%s: %s", path, err_text(&err, r));
	if (config_empty((struct str){(char *)text->data, text->len})) {
		if (text->len && text->data[text->len - 1] != '\n' && buf_append(text, "\n", 1) < 0)
			out_no_memory();
		if (buf_printf(text, "version = %d\n",
			       containerd_at_least(&a->s.version, 2, 0) ? 3 : 2) < 0)
			out_no_memory();
	}
	r = containerd_settings_for(&a->s, (struct str){(char *)text->data, text->len}, &err);
	if (r == 0)
		return 0;
	out_fail(NAME, "%s: %s", path, err_text(&err, r));
	if (r == -ENOTSUP && config_top((struct str){(char *)text->data, text->len}, "version").len)
		out_hint("--containerd tells which containerd it is for");
	else if (r == -ENOTSUP)
		out_hint("containerd config migrate prints it in the present form");
	return 1;
}

static void print_wrong(const struct asking *a, const struct containerd_found *found, size_t i)
{
	const struct setting *w = &a->s.want[i];

	if (found->states[i] == SETTING_MISSING)
		printf("missing  [%s] %s = %s\n", w->table, w->key, w->value);
	else if (found->lines[i])
		printf("differs  line %zu: [%s] %s = %s\n", found->lines[i], w->table, w->key,
		       w->value);
	else
		printf("differs  [%s] %s = %s\n", w->table, w->key, w->value);
}

static int check(struct asking *a)
{
	struct containerd_found found = {.unpack = CONFIG_LIST_NONE};
	auto_buf struct buf text = BUF_INIT;
	struct err err = ERR_INIT;
	int r = read_file(a, a->check, &text), n = 0;

	if (r)
		return r;
	if (containerd_settings_make(&a->s) < 0)
		return out_misuse(NAME, "such paths cannot be written into a TOML file");
	r = containerd_settings_look(&a->s, a->check, (struct str){(char *)text.data, text.len},
				     &found, &err);
	if (r < 0)
		return out_fail(NAME, "%s: %s", a->check, err_text(&err, r));
	for (size_t i = 0; i < a->s.n; i++) {
		if (found.states[i] == SETTING_THERE)
			continue;
		n++;
		print_wrong(a, &found, i);
	}
	if (found.unpack != CONFIG_LIST_ELEMENT) {
		n++;
		printf("missing  [[%s]] %s = %s\n", a->s.unpack[0].table, a->s.unpack[0].key,
		       a->s.unpack[0].value);
	}
	if (!n)
		printf("all is set\n");
	return out_done(NAME) ? 1 : n != 0;
}

/* Adds to the list of those who unpack. containerd's own default goes when there is a list, so that
 * it has to be in it. */
static int merge_unpack(const struct containerd_settings *s, int unpack, struct buf *text,
			struct err *err)
{
	struct buf next = BUF_INIT;
	int r = 0;

	if (unpack == CONFIG_LIST_NONE) {
		r = config_list_add((struct str){(char *)text->data, text->len}, s->overlayfs,
				    s->unpack_n, &next, err);
		buf_fini(text);
		*text = next;
		next = BUF_INIT;
	}
	if (r == 0 && unpack != CONFIG_LIST_ELEMENT) {
		r = config_list_add((struct str){(char *)text->data, text->len}, s->unpack,
				    s->unpack_n, &next, err);
		buf_fini(text);
		*text = next;
	}
	return r;
}

/* 0, or the exit code; merged is the result. */
static int merge_text(struct asking *a, struct str text, struct buf *merged)
{
	struct containerd_found found = {.unpack = CONFIG_LIST_NONE};
	struct err err = ERR_INIT;
	bool hint = false;
	int r = containerd_settings_look(&a->s, a->merge, text, &found, &err);

	if (r == 0) {
		r = config_merge(text, a->s.want, a->s.n, a->force, merged, &err);
		hint = r == -EEXIST;
	}
	if (r == 0)
		r = merge_unpack(&a->s, found.unpack, merged, &err);
	if (r == 0)
		return 0;
	out_fail(NAME, "%s: %s", a->merge, err_text(&err, r));
	if (hint)
		out_hint("--force replaces it; nothing was written");
	return 1;
}

static int merge(struct asking *a)
{
	auto_buf struct buf text = BUF_INIT, merged = BUF_INIT;
	int r = read_file(a, a->merge, &text);

	if (r)
		return r;
	if (containerd_settings_make(&a->s) < 0)
		return out_misuse(NAME, "such paths cannot be written into a TOML file");
	r = merge_text(a, (struct str){(char *)text.data, text.len}, &merged);
	if (r)
		return r;
	if (!a->in_place)
		return deliver(a, &merged);
	if (merged.len == text.len && memcmp(merged.data, text.data, text.len) == 0) {
		printf("%s: all is set already\n", a->merge);
		return out_done(NAME);
	}
	r = write_file(a->merge, &merged, true);
	if (r < 0)
		return write_failed(a->merge, r);
	printf("%s is changed (%s.bak is the old one); restart containerd\n", a->merge, a->merge);
	return out_done(NAME);
}

/* --- the command ------------------------------------------------------------------------------ */

static void settle_version(struct asking *a)
{
	const char *socket = getenv("CONTAINERD_ADDRESS");

	if (a->version || containerd_version_find(socket && socket[0] ? socket : CONTAINERD_SOCKET,
						  &a->s.version) == 0)
		return;
	fprintf(stderr,
		"note: there is no containerd here; this is for 1.6 (--containerd tells)\n");
	a->s.version = (struct containerd_version){1, 6};
}

static int run(struct asking *a)
{
	if (a->merge && a->check)
		return out_misuse(NAME, "--merge and --check exclude each other");
	if ((a->in_place || a->force) && !a->merge)
		return out_misuse(NAME, "--in-place and --force go with --merge FILE");
	if (a->output && (a->in_place || a->check))
		return out_misuse(NAME, "--output goes with neither --in-place nor --check");
	if (a->version && containerd_version_parse(a->version, &a->s.version) < 0)
		return out_misuse(NAME, "not a version of containerd: %s", a->version);
	settle_version(a);
	if (a->merge)
		return merge(a);
	if (a->check)
		return check(a);
	if (containerd_settings_make(&a->s) < 0)
		return out_misuse(NAME, "such paths cannot be written into a TOML file");
	return print(a);
}

int cmd_containerd_config(int argc, char **argv)
{
	struct asking a = {.s = {.address = options_address(), .root = "/var/lib/firstlight"}};
	const struct option_spec specs[] = {
		{"containerd", 0, OPTION_TEXT, &a.version, "VERSION",
		 "1.6, 1.7, 2.0, 2.1, 2.x (the one that is here)"},
		{"cri", 0, OPTION_FLAG, &a.s.cri, NULL, "also make it the snapshotter of CRI"},
		{"root", 0, OPTION_TEXT, &a.s.root, "DIR",
		 "the daemon's root (/var/lib/firstlight)"},
		{"merge", 0, OPTION_TEXT, &a.merge, "FILE", "print FILE with the settings put in"},
		{"output", 0, OPTION_TEXT, &a.output, "FILE", "write FILE, do not print"},
		{"in-place", 0, OPTION_FLAG, &a.in_place, NULL, "with --merge: change FILE itself"},
		{"force", 0, OPTION_FLAG, &a.force, NULL, "with --merge: replace other values"},
		{"check", 0, OPTION_TEXT, &a.check, "FILE", "only tell what is missing in FILE"},
		OPTION_ADDRESS(&a.s.address),
	};
	const struct options o = {
		.command = NAME,
		.text = "Prints the settings that containerd needs to use firstlight, or puts\n"
			"them into its file. What else the file has stays as it is; what is not\n"
			"understood is told and not touched. Exit code 1: something differs, or\n"
			"nothing could be done.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	return r == OPTIONS_GO ? run(&a) : r;
}
