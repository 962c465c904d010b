// SPDX-License-Identifier: Apache-2.0
/* firstlight: the command line. One subcommand a file; this one finds it. */
#include <stdio.h>
#include <string.h>

#include "cmd.h"

#include "base/banned.h"

static const struct cmd cmds[] = {
	{"snapshots", "list snapshots", cmd_snapshots},
	{"version", "print the version", cmd_version},
};

static void usage(FILE *f)
{
	fputs("usage: firstlight COMMAND [ARGUMENT…]\n\n", f);
	for (size_t i = 0; i < array_size(cmds); i++)
		fprintf(f, "  %-12s %s\n", cmds[i].name, cmds[i].help);
	fputs("\nfirstlight COMMAND --help tells more.\n", f);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return 2;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
		usage(stdout);
		return 0;
	}
	for (size_t i = 0; i < array_size(cmds); i++) {
		if (strcmp(argv[1], cmds[i].name) == 0)
			return cmds[i].run(argc - 1, argv + 1);
	}
	fprintf(stderr, "firstlight: no command \"%s\"; see firstlight --help\n", argv[1]);
	return 2;
}
