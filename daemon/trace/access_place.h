/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where files are, as the kernel's own structures say it: the device of a file system (s_dev) is
 * not always st_dev, which btrfs makes up for each subvolume. Any thread.
 */
#ifndef FIRSTLIGHT_TRACE_ACCESS_PLACE_H
#define FIRSTLIGHT_TRACE_ACCESS_PLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/sysmacros.h>
#include <sys/types.h>

#include "base/clean.h"
#include "base/str.h"

/* s_dev: 12 bits major, 20 bits minor (linux/kdev_t.h). */
static inline uint32_t access_s_dev(dev_t dev)
{
	return major(dev) << 20 | minor(dev);
}

static inline dev_t access_dev(uint32_t s_dev)
{
	return makedev(s_dev >> 20, s_dev & 0xfffff);
}

struct access_place {
	uint32_t s_dev;
	uint64_t ino;
	bool mount_root; /* something is mounted there */
};

/* Blocking. -ENOENT, -EPROTO: /proc/self/mountinfo does not tell, or what statx(2) failed with. */
int access_place(const char *path, struct access_place *ret) must_check;

/* The s_dev of mount id in a mountinfo file's text (proc_pid_mountinfo(5)); -ENOENT, -EPROTO. */
int access_mount_dev(struct str mountinfo, uint64_t id, uint32_t *ret_s_dev) must_check;

#endif
