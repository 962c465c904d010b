// SPDX-License-Identifier: Apache-2.0
/* firstlight containerd-config: what containerd's settings need, printed or put into its file. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "cmd.h"
#include "config_edit.h"
#include "options.h"
#include "out.h"

#include "base/banned.h"

#define NAME     "containerd-config"
#define PLUGIN   "proxy_plugins.firstlight"
#define CRI_V2   "plugins.\"io.containerd.grpc.v1.cri\".containerd"
#define CRI_V3   "plugins.\"io.containerd.cri.v1.images\""
#define WORDS    512
#define TRANSFER "plugins.\"io.containerd.transfer.v1.local\".unpack_config"

struct asking {
	const char *version, *address, *root;
	const char *merge, *check;
	bool cri, in_place, force;
	unsigned major, minor;
	struct setting want[CONFIG_EDIT_SETTINGS];
	size_t n;
	char address_value[WORDS], root_value[WORDS];
	struct setting unpack[2]; /* of an element of TRANSFER */
	char platform[64];
};

/* --- versions --------------------------------------------------------------------------------- */

static int parse_version(const char *s, unsigned *major, unsigned *minor)
{
	s += s[0] == 'v';
	if (sscanf(s, "%u.%u", major, minor) == 2 && *major >= 1 && *major < 100)
		return 0;
	if (strcmp(s, "2.x") == 0 || strcmp(s, "2") == 0) {
		*major = 2;
		*minor = 1;
		return 0;
	}
	return -EINVAL;
}

/* The first line of "containerd --version". It says it at once, or it is none. */
static int ask_version(char *line, size_t size)
{
	char name[] = "containerd", option[] = "--version", *args[] = {name, option, NULL};
	posix_spawn_file_actions_t actions;
	int ends[2], status = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	status = posix_spawnp(&pid, name, &actions, NULL, args, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	n = status ? -1 : read(ends[0], line, size - 1);
	close(ends[0]);
	if (!status)
		waitpid(pid, NULL, 0);
	line[n > 0 ? n : 0] = 0;
	return n > 0 ? 0 : -ENOENT;
}

/* "containerd github.com/containerd/containerd 1.6.20~ds1 …" */
static int installed_version(unsigned *major, unsigned *minor)
{
	char line[256];

	if (ask_version(line, sizeof(line)) < 0)
		return -ENOENT;
	for (const char *p = strchr(line, ' '); p; p = strchr(p + 1, ' ')) {
		if (parse_version(p + 1, major, minor) == 0)
			return 0;
	}
	return -ENOENT;
}

static bool at_least(const struct asking *a, unsigned major, unsigned minor)
{
	return a->major > major || (a->major == major && a->minor >= minor);
}

/* --- the settings ----------------------------------------------------------------------------- */

static void want(struct asking *a, const char *table, const char *key, const char *value)
{
	a->want[a->n++] = (struct setting){table, key, value};
}

static bool plain(const char *s)
{
	for (; *s; s++) {
		if (*s == '"' || *s == '\\' || (unsigned char)*s < ' ')
			return false;
	}
	return true;
}

/* CRI pulls through the transfer service from 2.1 on, which has to know who unpacks. */
static bool has_unpack(const struct asking *a)
{
	return a->cri && at_least(a, 2, 1);
}

static void unpack_settings(struct asking *a)
{
	struct utsname u;
	const char *arch;

	uname(&u);
	arch = strcmp(u.machine, "x86_64") == 0    ? "amd64"
	       : strcmp(u.machine, "aarch64") == 0 ? "arm64"
						   : u.machine;
	snprintf(a->platform, sizeof(a->platform), "\"linux/%.40s\"", arch);
	a->unpack[0] = (struct setting){TRANSFER, "platform", a->platform};
	a->unpack[1] = (struct setting){TRANSFER, "snapshotter", "\"firstlight\""};
}

static int settings(struct asking *a)
{
	if (!plain(a->address) || !plain(a->root) || strlen(a->address) + 3 > WORDS ||
	    strlen(a->root) + 3 > WORDS)
		return out_misuse(NAME, "paths must not hold quotes or control characters");
	snprintf(a->address_value, WORDS, "\"%s\"", a->address);
	snprintf(a->root_value, WORDS, "\"%s\"", a->root);
	want(a, PLUGIN, "type", "\"snapshot\"");
	want(a, PLUGIN, "address", a->address_value);
	want(a, PLUGIN ".exports", "root", a->root_value);
	if (at_least(a, 2, 1))
		want(a, PLUGIN ".exports", "enable_remote_snapshot_annotations", "\"true\"");
	if (!a->cri)
		return 0;
	want(a, at_least(a, 2, 0) ? CRI_V3 : CRI_V2, "snapshotter", "\"firstlight\"");
	if (has_unpack(a))
		unpack_settings(a);
	else
		want(a, at_least(a, 2, 0) ? CRI_V3 : CRI_V2, "disable_snapshot_annotations",
		     "false");
	return 0;
}

static int print(const struct asking *a)
{
	const char *table = "";

	printf("# containerd %u.%u\n", a->major, a->minor);
	printf("version = %d\n", at_least(a, 2, 0) ? 3 : 2);
	for (size_t i = 0; i < a->n; i++) {
		if (strcmp(table, a->want[i].table) != 0)
			printf("\n[%s]\n", a->want[i].table);
		table = a->want[i].table;
		printf("  %s = %s\n", a->want[i].key, a->want[i].value);
	}
	if (has_unpack(a))
		printf("\n[[%s]]\n  %s = %s\n  %s = %s\n", TRANSFER, a->unpack[0].key,
		       a->unpack[0].value, a->unpack[1].key, a->unpack[1].value);
	return out_done(NAME);
}

/* --- files ------------------------------------------------------------------------------------ */

static int read_file(const char *path, struct buf *text)
{
	struct err err = ERR_INIT;
	int r = file_read_all(path, CONFIG_EDIT_MAX, text, &err);

	return r < 0 ? out_fail(NAME, "%s: %s", path, err_text(&err, r)) : 0;
}

/* The names of CRI's settings depend on the file's version, not on containerd's. */
static int check_version(const struct asking *a, const char *path, struct str text)
{
	struct str v = config_top(text, "version");
	const char *should = at_least(a, 2, 0) ? "3" : "2";

	if (!a->cri || str_eq(v, str_of(should)))
		return 0;
	out_fail(NAME, "%s has version %.*s; the settings of CRI are those of version %s", path,
		 v.len ? (int)v.len : 1, v.len ? v.p : "1", should);
	out_hint("containerd config migrate, or --containerd for another containerd");
	return 1;
}

static void note_imports(struct str text)
{
	struct str v = config_top(text, "imports");

	if (v.len && !str_eq(v, STR("[]")))
		fprintf(stderr,
			"note: imports = " STR_FMT ": what these files set is not looked at\n",
			STR_ARG(v));
}

static int check(const struct asking *a)
{
	enum setting_state states[CONFIG_EDIT_SETTINGS];
	auto_buf struct buf text = BUF_INIT;
	struct err err = ERR_INIT;
	int r = read_file(a->check, &text), n = 0;
	struct str t = {(char *)text.data, text.len};

	if (r == 0)
		r = check_version(a, a->check, t);
	if (r)
		return r;
	r = config_look(t, a->want, a->n, states, &err);
	if (r < 0)
		return out_fail(NAME, "%s: %s", a->check, err_text(&err, r));
	note_imports(t);
	for (size_t i = 0; i < a->n; i++) {
		if (states[i] == SETTING_THERE)
			continue;
		n++;
		printf("%s  [%s] %s = %s\n", states[i] == SETTING_MISSING ? "missing" : "differs",
		       a->want[i].table, a->want[i].key, a->want[i].value);
	}
	r = has_unpack(a) ? config_list_has(t, a->unpack, 2, &err) : 1;
	if (r < 0)
		return out_fail(NAME, "%s: %s", a->check, err_text(&err, r));
	if (!r)
		printf("missing  [[%s]] %s = %s\n", TRANSFER, a->unpack[1].key, a->unpack[1].value);
	n += !r;
	if (!n)
		printf("all is set\n");
	return out_done(NAME) ? 1 : n != 0;
}

/* In one step, with the mode and owner that it has; the old one stays as FILE.bak. */
static int write_file(const char *path, const struct buf *text)
{
	char tmp[4096], bak[4096];
	struct stat st;
	auto_close int fd = -1;

	if (snprintf(tmp, sizeof(tmp), "%s.firstlight", path) >= (int)sizeof(tmp) ||
	    snprintf(bak, sizeof(bak), "%s.bak", path) >= (int)sizeof(bak))
		return -ENAMETOOLONG;
	if (stat(path, &st) < 0)
		return -errno;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, text->data, text->len) != (ssize_t)text->len ||
	    fchmod(fd, st.st_mode & 07777) < 0 || fchown(fd, st.st_uid, st.st_gid) < 0 ||
	    fsync(fd) < 0 || (unlink(bak) < 0 && errno != ENOENT) || link(path, bak) < 0 ||
	    rename(tmp, path) < 0) {
		int r = errno ? -errno : -EIO;

		unlink(tmp);
		return r;
	}
	return 0;
}

static int merge(const struct asking *a)
{
	auto_buf struct buf text = BUF_INIT, merged = BUF_INIT;
	struct err err = ERR_INIT;
	int r = read_file(a->merge, &text);
	struct str t = {(char *)text.data, text.len};

	if (r == 0)
		r = check_version(a, a->merge, t);
	if (r)
		return r;
	r = config_merge(t, a->want, a->n, a->force, &merged, &err);
	if (r == 0 && has_unpack(a)) {
		struct buf listed = BUF_INIT;

		r = config_list_add((struct str){(char *)merged.data, merged.len}, a->unpack, 2,
				    &listed, &err);
		buf_fini(&merged);
		merged = listed;
	}
	if (r < 0) {
		out_fail(NAME, "%s: %s", a->merge, err_text(&err, r));
		if (r == -EEXIST)
			out_hint("--force replaces it; nothing was written");
		return 1;
	}
	note_imports(t);
	if (!a->in_place) {
		fwrite(merged.data, 1, merged.len, stdout);
		return out_done(NAME);
	}
	if (merged.len == text.len && memcmp(merged.data, text.data, text.len) == 0) {
		printf("%s: all is set already\n", a->merge);
		return out_done(NAME);
	}
	r = write_file(a->merge, &merged);
	if (r < 0)
		return out_fail(NAME, "write %s: %s", a->merge, strerror(-r));
	printf("%s is changed (%s.bak is the old one); restart containerd\n", a->merge, a->merge);
	return out_done(NAME);
}

int cmd_containerd_config(int argc, char **argv)
{
	struct asking a = {.address = options_address(), .root = "/var/lib/firstlight"};
	const struct option_spec specs[] = {
		{"containerd", 0, OPTION_TEXT, &a.version, "VERSION",
		 "1.6, 1.7, 2.0, 2.1 or later (the installed one)"},
		{"cri", 0, OPTION_FLAG, &a.cri, NULL, "also make it the snapshotter of CRI"},
		{"root", 0, OPTION_TEXT, &a.root, "DIR", "the daemon's root (/var/lib/firstlight)"},
		{"merge", 0, OPTION_TEXT, &a.merge, "FILE", "print FILE with the settings put in"},
		{"in-place", 0, OPTION_FLAG, &a.in_place, NULL, "with --merge: change FILE itself"},
		{"force", 0, OPTION_FLAG, &a.force, NULL, "with --merge: replace other values"},
		{"check", 0, OPTION_TEXT, &a.check, "FILE", "only tell what is missing in FILE"},
		OPTION_ADDRESS(&a.address),
	};
	const struct options o = {
		.command = NAME,
		.text = "Prints the settings that containerd needs to use firstlight, or puts them "
			"into\n"
			"its file. What else the file has stays as it is; what is not understood "
			"is told\n"
			"and not touched. Exit code 1: something differs, or nothing could be "
			"done.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	if (a.merge && a.check)
		return out_misuse(NAME, "--merge and --check exclude each other");
	if ((a.in_place || a.force) && !a.merge)
		return out_misuse(NAME, "--in-place and --force go with --merge FILE");
	if (a.version && parse_version(a.version, &a.major, &a.minor) < 0)
		return out_misuse(NAME, "not a version of containerd: %s", a.version);
	if (!a.version && installed_version(&a.major, &a.minor) < 0) {
		fprintf(stderr, "note: no containerd is installed here; this is for 2.1\n");
		a.major = 2;
		a.minor = 1;
	}
	r = settings(&a);
	if (r)
		return r;
	return a.merge ? merge(&a) : a.check ? check(&a) : print(&a);
}
