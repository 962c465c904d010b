/* SPDX-License-Identifier: Apache-2.0 */
/* Subcommands of firstlight. Exit codes: 0 done, 1 failed, 2 wrong use, 128 + N ended by signal N.
 */
#ifndef FIRSTLIGHT_TOOLS_CMD_H
#define FIRSTLIGHT_TOOLS_CMD_H

#include "base/clean.h"

struct cmd {
	const char *name, *help;           /* help NULL: not listed */
	int (*run)(int argc, char **argv); /* argv[0] is the command */
};

int cmd_containerd_config(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_drain(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_gc(int argc, char **argv);
int cmd_images(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_mounts(int argc, char **argv);
int cmd_prepare(int argc, char **argv);
int cmd_profile(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_record(int argc, char **argv);
int cmd_scan(int argc, char **argv);
int cmd_snapshots(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_version(int argc, char **argv);

#endif
