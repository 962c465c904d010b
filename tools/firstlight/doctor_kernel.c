// SPDX-License-Identifier: Apache-2.0
/*
 * What the kernel can, found out by trying: mounts in a child with a mount namespace of its own, so
 * that nothing stays behind, however it ends. Owns a directory of its own below an existing one.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "doctor.h"
#include "fs/mount.h"
#include "loop/loop.h"

#include "base/banned.h"

#define FUSE_SECONDS 5

/* --- io_uring --------------------------------------------------------------------------------- */

static void check_uring(struct doctor *d)
{
	struct err err = ERR_INIT;
	struct loop *loop;
	struct finding *f;
	int r = loop_new(&loop, &err);

	f = finding(d, "io_uring", r < 0 ? FINDING_FAIL : FINDING_OK, "%s",
		    r < 0 ? err_text(&err, r) : "a ring can be made");
	f->run = true;
	if (r == 0)
		loop_free(loop);
	else
		finding_advice(
			f, "the daemon cannot start",
			"sysctl kernel.io_uring_disabled=0; a container's seccomp profile must "
			"allow io_uring");
}

/* --- mounts ----------------------------------------------------------------------------------- */

/* The nearest directory that exists. */
static int existing(const char *path, char ret[4096])
{
	struct stat st;

	if (snprintf(ret, 4096, "%s", path) >= 4096)
		return -ENAMETOOLONG;
	while (stat(ret, &st) < 0 || !S_ISDIR(st.st_mode)) {
		char *slash = strrchr(ret, '/');

		if (!slash || !ret[1])
			return -ENOENT;
		slash[slash == ret] = 0;
	}
	return 0;
}

static void feature(struct doctor *d, const char *name, bool on, const char *why, bool lazy,
		    const char *costs, const char *fix)
{
	struct finding *f = finding(d, name, on ? FINDING_OK : FINDING_OFF, "%s",
				    on       ? "works"
				    : why[0] ? why
					     : "it does not work here");

	f->lazy = lazy;
	if (!on)
		finding_advice(f, costs, fix);
}

static void tell_mounts(struct doctor *d, const struct mount_features *m)
{
	struct finding *f = finding(d, "overlay", m->overlay ? FINDING_OK : FINDING_FAIL, "%s",
				    m->overlay ? "overlays below the root work" : m->why);

	f->run = f->lazy = true;
	if (!m->overlay)
		finding_advice(f, "no container has a root",
			       "modprobe overlay; --root on ext4 or xfs (not on overlayfs or NFS)");
	feature(d, "data-only", m->data_only, m->why_data_only, true,
		"no layer is lazy, every image is unpacked", "Linux 6.5 or later");
	feature(d, "erofs-file", m->erofs_file, m->why_erofs_file, false,
		"a loop device for each image", "Linux 6.12 or later with EROFS_FS_BACKED_BY_FILE");
	feature(d, "erofs-loop", m->erofs_loop, m->why_erofs_loop, !m->erofs_file,
		m->erofs_file ? "nothing, as long as erofs-file works"
			      : "no layer is lazy, every image is unpacked",
		"modprobe erofs loop");
	feature(d, "volatile", m->volatile_upper, "overlayfs has no such option", false,
		"the setting snapshot.volatile has no effect", "Linux 5.10 or later");
	feature(d, "idmap", m->idmap, "no idmapped mounts here", false,
		"user namespaces get a copy of each layer", "Linux 5.19 or later");
}

static void check_mounts(struct doctor *d)
{
	struct mount_features m = {.overlay = false};
	char parent[4096], dir[4096 + 32];
	struct err err = ERR_INIT;
	int r = existing(d->root, parent);

	if (r == 0) {
		snprintf(dir, sizeof(dir), "%s/.firstlight-doctor.XXXXXX", parent);
		r = mkdtemp(dir) ? 0 : -errno;
	}
	if (r < 0) {
		finding(d, "overlay", FINDING_FAIL, "nothing can be written below %s: %s", d->root,
			strerror(-r))
			->run = true;
		return;
	}
	r = mount_probe(dir, &m, &err);
	if (r < 0)
		finding(d, "overlay", FINDING_FAIL, "%s", err_text(&err, r))->run = true;
	else
		tell_mounts(d, &m);
	snprintf(dir + strlen(dir), sizeof(dir) - strlen(dir), "/probe");
	rmdir(dir);
	*strrchr(dir, '/') = 0;
	rmdir(dir);
}

/* --- FUSE ------------------------------------------------------------------------------------- */

/* What the kernel offers in FUSE_INIT (linux/fuse.h). */
#define INIT_EXT         (1u << 30)
#define INIT_PASSTHROUGH (1ull << 37)
#define INIT_RESEND      (1ull << 39)
#define INIT_URING       (1ull << 41)

struct fuse_found {
	int error; /* errno; 0 = mounted */
	uint64_t flags;
};

static int read_init(int fd, uint64_t *ret)
{
	static uint32_t request[64 * 1024 / 4]; /* FUSE_MIN_READ_BUFFER and more */
	ssize_t n = read(fd, request, sizeof(request));

	if (n < 40 + 16)
		return n < 0 ? errno : EPROTO;
	*ret = request[13]; /* behind the header of 40 bytes: major, minor, readahead, flags */
	if (n >= 40 + 20 && *ret & INIT_EXT)
		*ret |= (uint64_t)request[14] << 32;
	return 0;
}

static void try_fuse(struct fuse_found *found)
{
	char options[96];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	found->error = fd < 0 ? errno : 0;
	if (!found->error &&
	    (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0))
		found->error = errno;
	if (found->error)
		return;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (mount("firstlight-doctor", "/tmp", "fuse", MS_NODEV | MS_NOSUID, options) < 0)
		found->error = errno;
	else
		found->error = read_init(fd, &found->flags);
}

/* In a child: its mount goes with it. */
static struct fuse_found fuse_probe(void)
{
	struct fuse_found found = {.error = EIO};
	int ends[2];
	pid_t pid;

	if (pipe(ends) < 0)
		return found;
	pid = fork();
	if (pid == 0) {
		alarm(FUSE_SECONDS);
		try_fuse(&found);
		_exit(write(ends[1], &found, sizeof(found)) != sizeof(found));
	}
	close(ends[1]);
	if (pid > 0 && read(ends[0], &found, sizeof(found)) != sizeof(found))
		found.error = ETIMEDOUT;
	close(ends[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return found;
}

static void check_fuse(struct doctor *d)
{
	struct fuse_found found = fuse_probe();
	struct finding *f =
		finding(d, "fuse", found.error ? FINDING_OFF : FINDING_OK, "%s",
			found.error ? strerror(found.error) : "a FUSE file system can be mounted");

	f->lazy = true;
	if (found.error) {
		finding_advice(f, "no layer is lazy, every image is unpacked",
			       "modprobe fuse; /dev/fuse must be there and open to root");
		return;
	}
	feature(d, "passthrough", found.flags & INIT_PASSTHROUGH, "the kernel does not offer it",
		false, "files that stay on FUSE are read through the daemon", "Linux 6.9 or later");
	feature(d, "resend", found.flags & INIT_RESEND, "the kernel does not offer it", false,
		"reads that were under way when the worker died end with an error",
		"Linux 6.9 or later");
	feature(d, "fuse-uring", found.flags & INIT_URING, "not offered, or switched off", false,
		"nothing: firstlight does not use it yet",
		"echo Y > /sys/module/fuse/parameters/enable_uring (Linux 6.14)");
}

void doctor_kernel(struct doctor *d)
{
	check_uring(d);
	if (geteuid() != 0) {
		finding(d, "mounts", FINDING_SKIP, "only root can try mounts; run it as root")
			->lazy = true;
		return;
	}
	check_mounts(d);
	check_fuse(d);
}
