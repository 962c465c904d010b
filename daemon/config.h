/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: defaults, the settings file, the command line. Filled once at start, then const. */
#ifndef FIRSTLIGHT_CONFIG_H
#define FIRSTLIGHT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

/* What the command line asks for. */
enum config_action { CONFIG_RUN, CONFIG_HELP, CONFIG_VERSION };

struct config {
	enum config_action action;
	char *config_file; /* --config */
	char *root;        /* absolute; without the characters that mount options cannot hold */
	char *state;       /* as root */
	char *address; /* as root, and short enough for sun_path; NULL until config_args is done */
	enum log_level log_level;
	struct {
		bool volatile_upper; /* volatile: active snapshots are mounted with "volatile" */
		bool sync;           /* sync: syncfs before a commit is acknowledged */
		bool upperdir_label; /* Stat tells the upperdir in a label */
	} snapshot;
	struct {
		bool enabled;       /* lazy: layers in a lazy format are not unpacked */
		bool passthrough;   /* FUSE passthrough; off: overlays on top of a container's root
				       work */
		bool erofs_file;    /* metadata images without a loop device; off: as above */
		uint64_t store_max; /* bytes on disk of file contents; 0 = no cap */
	} lazy;
	struct {
		char *address;     /* of containerd itself, for pulls */
		char *snapshotter; /* our name there */
	} containerd;
	struct {
		char *hosts_dirs; /* containerd's config_path: directories of hosts.toml trees, ':'
				   */
		char *docker_config; /* NULL: $DOCKER_CONFIG/config.json, $HOME/.docker/config.json
				      */
	} registry;
	struct {
		bool bpf;         /* start: what containers touch is seen by BPF; off: by FUSE */
		uint64_t watch_s; /* how long a start is watched at most */
		uint64_t quiet_s; /* or until nothing new was touched for so long */
	} start;
	struct {
		char *address; /* api/metrics_address.h; NULL = no metrics */
	} metrics;
};

#define auto_config cleanup(config_fini)

/* Defaults. A setting for which there is no memory stays NULL; config_args answers -ENOMEM then. */
void config_init(struct config *c);
void config_fini(struct config *c);

/*
 * Reads a settings document; name is for messages. -EINVAL with "name:line: cause", -ENOMEM. What
 * stood before an error is set.
 */
int config_parse(struct config *c, const char *name, const char *text, size_t len, struct err *err);

/*
 * Reads a settings file of at most CONFIG_FILE_MAX bytes. No file is no error unless must_exist.
 * Never waits for a FIFO or a device: they are refused. As config_parse, -EFBIG, and what open
 * and read answer.
 */
int config_load(struct config *c, const char *path, bool must_exist, struct err *err);

/*
 * The command line, then the settings file, then the command line again: flags win. The default
 * file may be missing, one named by --config may not. With action set to CONFIG_HELP or
 * CONFIG_VERSION no file is read. Not thread safe (getopt).
 */
int config_args(struct config *c, int argc, char **argv, struct err *err);

/* What --help prints. */
const char *config_usage(void);

#endif
