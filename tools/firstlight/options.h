/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of a command, from one table: they are parsed (getopt_long), and told by --help, which
 * the man pages and the shell's completion are checked against. One thread.
 */
#ifndef FIRSTLIGHT_TOOLS_OPTIONS_H
#define FIRSTLIGHT_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
	OPTION_FLAG,   /* bool */
	OPTION_TEXT,   /* const char *; not empty */
	OPTION_NUMBER, /* uint64_t, at least 1 */
	OPTION_LIST,   /* struct option_list: texts; may be given several times */
};

#define OPTION_LIST_MAX 64

struct option_list {
	char *items[OPTION_LIST_MAX];
	size_t n;
};

struct option_spec {
	const char *name; /* without "--" */
	char letter;      /* 0: none */
	enum option_type type;
	void *to;          /* where the value goes */
	const char *value; /* what --help calls it; NULL for a flag */
	const char *help;
};

struct options {
	const char *command;
	const char *arguments; /* for the usage line: "REF", "[FILTER…]"; NULL: none */
	const char *text;      /* lines behind it */
	const struct option_spec *specs;
	size_t n;
	int args_min, args_max; /* -1: any number */
};

#define OPTIONS_GO (-1)

/*
 * OPTIONS_GO: all is set, and the arguments are argv[optind…]. Else the exit code: --help was
 * printed, or a wrong use was told. --help is known without a spec.
 */
int options_parse(const struct options *o, int argc, char **argv);

#define ADDRESS_DEFAULT "/run/firstlight/firstlight.sock"

/* $FIRSTLIGHT_ADDRESS, or the default. */
const char *options_address(void);

/* $CONTAINERD_NAMESPACE, or containerd's default. */
const char *options_namespace(void);

/* The specs that most commands have. */
#define OPTION_ADDRESS(to)                                                                         \
	{                                                                                          \
		"address", 'a', OPTION_TEXT, to, "SOCKET",                                         \
			"the daemon's socket ($FIRSTLIGHT_ADDRESS)"                                \
	}
#define OPTION_NAMESPACE(to)                                                                       \
	{                                                                                          \
		"namespace", 'n', OPTION_TEXT, to, "NAME",                                         \
			"of containerd ($CONTAINERD_NAMESPACE, default)"                           \
	}
#define OPTION_JSON(to)                                                                            \
	{                                                                                          \
		"json", 0, OPTION_FLAG, to, NULL, "print JSON"                                     \
	}
#define OPTION_NO_TRUNC(to)                                                                        \
	{                                                                                          \
		"no-trunc", 0, OPTION_FLAG, to, NULL, "print digests and names whole"              \
	}

#endif
