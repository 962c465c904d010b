/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What doctor finds out, in phases: each runs in a child with a time limit (try.h), on a struct
 * doctor that is shared with it. A finding's texts are copied, its name is not. One thread.
 */
#ifndef FIRSTLIGHT_TOOLS_DOCTOR_H
#define FIRSTLIGHT_TOOLS_DOCTOR_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clean.h"

enum finding_state {
	FINDING_OK,
	FINDING_OFF,  /* works without it, with less */
	FINDING_FAIL, /* stands in the way */
	FINDING_SKIP, /* could not be tried */
};

/* What cannot be while it is not FINDING_OK. */
enum finding_need {
	NEED_NOTHING,
	NEED_USE,  /* containerd cannot use the daemon */
	NEED_LAZY, /* lazy layers: images are unpacked */
	NEED_RUN,  /* the daemon; FINDING_OFF is not that bad */
};

#define FINDINGS_MAX 80
#define TEXT_MAX     240

/* What is asked of registries at most; FINDINGS_MAX has room for it. */
#define REGISTRIES_LOOK     4
#define REGISTRY_HOSTS_LOOK 2 /* mirrors of one */

struct finding {
	const char *name; /* static */
	enum finding_state state;
	enum finding_need need;
	char text[TEXT_MAX], costs[TEXT_MAX], fix[TEXT_MAX];
};

struct option_list;

struct doctor {
	/* asked for */
	const char *root, *address, *containerd, *containerd_config;
	char state_address[PATH_MAX]; /* where address may point */
	bool containerd_config_given;
	const char *hosts_dirs, *snapshotter; /* of the settings */
	const struct option_list *registries;
	bool lazy_off, erofs_file_off, passthrough_off; /* in the settings */

	/* found on the way */
	char dir[PATH_MAX + 32];          /* a directory of ours beside the root; "": none */
	bool ring;                        /* io_uring works */
	bool root_user;                   /* and capabilities to mount */
	pid_t daemon_pid, containerd_pid; /* 0: not there */
	char containerd_version[64];      /* as it says; "": not known */

	struct finding list[FINDINGS_MAX];
	size_t n;
};

/* Adds one; answers it, so that more can be set. Too many end the program. */
struct finding *finding(struct doctor *d, const char *name, enum finding_state state,
			enum finding_need need, const char *fmt, ...) printf_like(5, 6);
void finding_advice(struct finding *f, const char *costs, const char *fix);

/* The number that a small file of /proc begins with; -1: there is none. */
long long doctor_number(const char *path);

/* The phases; arg is the struct doctor. */
void doctor_rights(void *arg); /* doctor_kernel.c */
void doctor_mounts(void *arg);
void doctor_fuse(void *arg);
void doctor_bpf(void *arg);
void doctor_root(void *arg); /* doctor_root.c: makes dir */
void doctor_root_end(void *arg);
void doctor_limits(void *arg); /* doctor_host.c */
void doctor_unit(void *arg);
void doctor_daemon(void *arg); /* doctor_peers.c */
void doctor_containerd(void *arg);
void doctor_registries(void *arg);
void doctor_settings(void *arg); /* doctor_config.c: those of containerd */

#endif
