// SPDX-License-Identifier: Apache-2.0
/* Limits, space, the unit, what tracing will need. Reads files only. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "doctor.h"
#include "out.h"

#include "base/banned.h"

#define NOFILE_WANTED 65536
#define FREE_WANTED   (2ull << 30)
#define INODES_WANTED 100000
#define UNIT_MAX      KiB(64)

static void check_user(struct doctor *d)
{
	struct finding *f = finding(d, "user", geteuid() == 0 ? FINDING_OK : FINDING_SKIP, "%s",
				    geteuid() == 0 ? "root" : "not root: not all can be tried");

	if (geteuid() != 0)
		finding_advice(f, "", "sudo firstlight doctor");
}

static void check_nofile(struct doctor *d)
{
	struct rlimit rl = {0, 0};
	struct finding *f;
	bool low;

	getrlimit(RLIMIT_NOFILE, &rl);
	low = rl.rlim_max < NOFILE_WANTED;
	f = finding(d, "descriptors", low ? FINDING_OFF : FINDING_OK, "%llu at most",
		    (unsigned long long)rl.rlim_max);
	if (low)
		finding_advice(f, "many containers at once may find no descriptor",
			       "LimitNOFILE=1048576 in the unit, or ulimit -Hn");
}

static const char *fs_name(unsigned long type)
{
	switch (type) {
	case 0xEF53:
		return "ext4";
	case 0x58465342:
		return "xfs";
	case 0x9123683E:
		return "btrfs";
	case 0x01021994:
		return "tmpfs";
	case 0x794c7630:
		return "overlayfs";
	case 0x6969:
		return "nfs";
	case 0xF2F52010:
		return "f2fs";
	default:
		return "a file system of another kind";
	}
}

static void check_space(struct doctor *d)
{
	char free_text[OUT_NUMBER_MAX];
	const char *path = d->root;
	struct statvfs v;
	struct statfs s;
	struct finding *f;
	uint64_t bytes;
	bool low, none;

	if (statvfs(path, &v) < 0 || statfs(path, &s) < 0) {
		path = "/var/lib";
		if (statvfs(path, &v) < 0 || statfs(path, &s) < 0) {
			finding(d, "root", FINDING_SKIP, "%s is not there yet", d->root);
			return;
		}
	}
	bytes = (uint64_t)v.f_bavail * v.f_frsize;
	none = bytes < KV_OPEN_FREE_MIN;
	low = bytes < FREE_WANTED || (v.f_files && v.f_favail < INODES_WANTED);
	f = finding(d, "root",
		    none  ? FINDING_FAIL
		    : low ? FINDING_OFF
			  : FINDING_OK,
		    "%s on %s, %s and %llu inodes free", d->root, fs_name((unsigned long)s.f_type),
		    out_size(bytes, free_text), (unsigned long long)v.f_favail);
	f->run = true;
	if (none || low)
		finding_advice(f,
			       none ? "the daemon cannot open its database" : "images fill it soon",
			       "free space there, or --root on another disk");
	if (s.f_type == 0x01021994)
		finding_advice(finding(d, "root-kind", FINDING_OFF, "%s is on tmpfs", d->root),
			       "snapshots are in memory, and gone after a reboot",
			       "--root on a disk");
}

/* A setting of the unit that takes the mounts away from containerd. */
static void check_unit(struct doctor *d)
{
	static const char *const paths[] = {"/etc/systemd/system/firstlightd.service",
					    "/usr/local/lib/systemd/system/firstlightd.service",
					    "/lib/systemd/system/firstlightd.service"};
	static const char *const bad[] = {"\nPrivateTmp=", "\nProtectSystem=", "\nPrivateMounts=",
					  "\nMountFlags=", "\nProtectHome=",   "\nReadOnlyPaths="};
	auto_buf struct buf text = BUF_INIT;
	size_t i = 0;

	while (i < array_size(paths) && file_read_all(paths[i], UNIT_MAX, &text, NULL) < 0)
		i++;
	if (i == array_size(paths) || buf_append(&text, "", 1) < 0)
		return; /* started in another way */
	for (size_t k = 0; k < array_size(bad); k++) {
		if (!strstr((char *)text.data, bad[k]))
			continue;
		struct finding *f =
			finding(d, "unit", FINDING_FAIL, "%s sets %s", paths[i], bad[k] + 1);

		f->lazy = true;
		finding_advice(f, "containerd does not see the daemon's mounts",
			       "take that line out, then systemctl daemon-reload");
		return;
	}
	finding(d, "unit", FINDING_OK, "%s", paths[i]);
}

static void check_tracing(struct doctor *d)
{
	auto_buf struct buf text = BUF_INIT;
	bool btf = access("/sys/kernel/btf/vmlinux", R_OK) == 0;
	struct finding *f = finding(d, "btf", btf ? FINDING_OK : FINDING_OFF, "%s",
				    btf ? "types of the running kernel are there"
					: "no /sys/kernel/btf/vmlinux");

	if (!btf)
		finding_advice(f, "file accesses cannot be traced",
			       "a kernel with CONFIG_DEBUG_INFO_BTF");
	if (file_read_all("/sys/kernel/security/lockdown", 256, &text, NULL) == 0 &&
	    buf_append(&text, "", 1) == 0)
		finding(d, "lockdown", FINDING_OK, "%s",
			strstr((char *)text.data, "[none]")        ? "none"
			: strstr((char *)text.data, "[integrity]") ? "integrity: raw tracepoints"
								   : "confidentiality: no tracing");
}

void doctor_host(struct doctor *d)
{
	check_user(d);
	check_nofile(d);
	check_space(d);
	check_unit(d);
	check_tracing(d);
}
