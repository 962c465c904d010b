/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only OR BSD-2-Clause */
/*
 * What bpf/access.bpf.c tells the daemon, through a BPF ring buffer: the contract between the two.
 * They are built together, so a record has no version. Integers are the host's own.
 */
#ifndef FIRSTLIGHT_ACCESS_EVENT_H
#define FIRSTLIGHT_ACCESS_EVENT_H

#include <linux/types.h>

#define ACCESS_UNIT_SHIFT 17 /* accesses are told in units of 128 KiB of a content */
#define ACCESS_UNIT       (1u << ACCESS_UNIT_SHIFT)
#define ACCESS_WORD_UNITS 64  /* units of one record, those of one bitmap */
#define ACCESS_PATH_MAX   256 /* bytes of a path of an exec, with its NUL */
#define ACCESS_ARGS_MAX   512 /* bytes of its arguments */
#define ACCESS_EXECS_MAX  16  /* executions that are told of one mount namespace: its first */

enum access_record_kind {
	ACCESS_RECORD_OBJECT = 1,
	ACCESS_RECORD_FILE = 2,
	ACCESS_RECORD_EXEC = 3,
};

struct access_record {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 mnt_ns;  /* the mount namespace's own number, which no other ever gets */
	__u32 inum;    /* its number in /proc/PID/ns/mnt, which a later one may get */
	__u32 pid;     /* of the process, in the daemon's PID namespace; 0 = it is not in that */
	__u32 kind;    /* enum access_record_kind */
	__u32 dev;     /* s_dev, as the kernel has it: 12 bits major, 20 bits minor */
};

/* Units of a content that this namespace has not touched before: bit i of mask is unit
 * ACCESS_WORD_UNITS * word + i. */
struct access_touch {
	struct access_record head;
	__u64 mask;
	__u32 word;
	__u32 pad;
	union {
		__u8 key[32]; /* ACCESS_RECORD_OBJECT */
		__u64 ino;    /* ACCESS_RECORD_FILE */
	};
};

struct access_exec {
	struct access_record head;
	__u64 cgroup; /* of the v2 hierarchy */
	__u32 args_n; /* bytes in args; 0: they could not be read */
	__u32 pad;
	char path[ACCESS_PATH_MAX];
	char args[ACCESS_ARGS_MAX]; /* a NUL behind each, as in /proc/PID/cmdline; cut */
};

/* What the daemon sets before the programs are loaded: the map ".rodata.settings". Devices are
 * s_dev. */
struct access_settings {
	__u64 objects_ino; /* ROOT/objects */
	__u32 objects_dev;
	__u32 fill_dev;     /* the FUSE mount; 0 = none */
	__u32 own_inums[2]; /* mount namespaces that do not count, and outlive the daemon */
	__u32 unit_shift;   /* 1 << unit_shift: pages of a unit */
	__u32 pid_ns;       /* the daemon's PID namespace: its number in /proc/self/ns/pid */
};

/* What a program counts, one array a processor. */
enum access_counter {
	ACCESS_TOLD, /* records in the ring */
	ACCESS_LOST, /* records for which there was no room */
	ACCESS_COUNTERS,
};

#endif
