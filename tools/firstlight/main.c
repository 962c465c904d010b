// SPDX-License-Identifier: Apache-2.0
/* firstlight: the command line. One subcommand a file; this one finds it. */
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "out.h"

#include "base/banned.h"

#define NAME_MAX_BYTES 32
#define NEAR           3 /* edits between a mistyped command and the one that is suggested */

/* In the order of --help. */
static const struct cmd cmds[] = {
	{"pull", "pull an image, so that a container can start on it", cmd_pull},
	{"images", "list images and how much of them is local", cmd_images},
	{"inspect", "show an image or a snapshot, and where its files are", cmd_inspect},
	{"snapshots", "list snapshots", cmd_snapshots},
	{"mounts", "list mounts", cmd_mounts},
	{"status", "show what the daemon has and does", cmd_status},
	{"top", "the same, live", cmd_top},
	{"events", "follow what happens", cmd_events},
	{"verify", "hash all contents again, and repair them", cmd_verify},
	{"gc", "delete what is not needed, now", cmd_gc},
	{"drain", "fetch all that is missing; no layer is lazy from now on", cmd_drain},
	{"scan", "compare containerd's records with the daemon's", cmd_scan},
	{"profile", "what programs read when they start", cmd_profile},
	{"record", "record what the next start of an image touches", cmd_record},
	{"prepare", "register an image's layers without its registry", cmd_prepare},
	{"convert", "convert an image into a lazy format", cmd_convert},
	{"doctor", "find out what this host can, and what stands in the way", cmd_doctor},
	{"containerd-config", "containerd's settings for firstlight", cmd_containerd_config},
	{"version", "versions of the command and the daemon", cmd_version},
};

static void usage(FILE *f)
{
	fputs("usage: firstlight COMMAND [ARGUMENT…]\n\n", f);
	for (size_t i = 0; i < array_size(cmds); i++) {
		if (cmds[i].help)
			fprintf(f, "  %-18s %s\n", cmds[i].name, cmds[i].help);
	}
	fputs("\nfirstlight help COMMAND tells more, as does firstlight COMMAND --help.\n", f);
}

static const struct cmd *find(const char *name)
{
	for (size_t i = 0; i < array_size(cmds); i++) {
		if (strcmp(name, cmds[i].name) == 0)
			return &cmds[i];
	}
	return NULL;
}

static size_t least(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* How many letters are put in, taken out or changed between a and b (Levenshtein). */
static size_t edits(const char *a, const char *b)
{
	size_t row[NAME_MAX_BYTES + 1], n = strlen(b), corner, up;

	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		corner = row[0];
		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			up = row[j];
			row[j] = least(up + 1, row[j - 1] + 1, corner + (a[i - 1] != b[j - 1]));
			corner = up;
		}
	}
	return row[n];
}

static int unknown(const char *name)
{
	const char *near = NULL;
	size_t best = NEAR + 1, d;

	out_fail(NULL, "no command \"%s\"", name);
	for (size_t i = 0; i < array_size(cmds) && strlen(name) < NAME_MAX_BYTES; i++) {
		d = cmds[i].help ? edits(name, cmds[i].name) : best;
		if (d < best && d < strlen(name)) {
			best = d;
			near = cmds[i].name;
		}
	}
	if (near)
		out_hint("did you mean \"%s\"?", near);
	else
		out_hint("see firstlight --help");
	return 2;
}

static int help(int argc, char **argv)
{
	char option[] = "--help", *args[] = {argv[1], option, NULL};
	const struct cmd *c;

	if (argc > 2)
		return out_misuse(NULL, "unexpected argument %s", argv[2]);
	if (argc == 2) {
		c = find(argv[1]);
		return c ? c->run(2, args) : unknown(argv[1]);
	}
	usage(stdout);
	return out_done(NULL);
}

/* A socket must not become standard output: writes to a closed one fail, as they should. */
static void hold_standard_files(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
			abort();
	}
}

int main(int argc, char **argv)
{
	const struct cmd *c;

	hold_standard_files();
	setlocale(LC_CTYPE, "C.UTF-8"); /* for wcwidth() */
	if (argc < 2) {
		usage(stderr);
		return 2;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return help(argc - 1, argv + 1);
	if (strcmp(argv[1], "--version") == 0) {
		if (argc > 2)
			return out_misuse(NULL, "unexpected argument %s", argv[2]);
		puts("firstlight " FIRSTLIGHT_VERSION);
		return out_done(NULL);
	}
	if (argv[1][0] == '-')
		return out_misuse(NULL, "no option %s", argv[1]);
	c = find(argv[1]);
	return c ? c->run(argc - 1, argv + 1) : unknown(argv[1]);
}
