// SPDX-License-Identifier: Apache-2.0
/* What we may do, and what the kernel can, found out by trying: rings, mounts, FUSE, BPF. Mounts
 * are made in a mount namespace of the phase's own child, so that they go with it. */
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"
#include "doctor.h"
#include "fs/fill_wire.h"
#include "fs/mount.h"
#include "loop/loop.h"

#include "base/banned.h"

/* --- rights ----------------------------------------------------------------------------------- */

#define STATUS_MAX KiB(16)

static const struct right {
	const char *name;
	unsigned bit; /* linux/capability.h */
	bool must;
} rights[] = {
	{"CAP_CHOWN", 0, true},     {"CAP_DAC_OVERRIDE", 1, true}, {"CAP_FOWNER", 3, true},
	{"CAP_FSETID", 4, false},   {"CAP_SYS_ADMIN", 21, true},   {"CAP_MKNOD", 27, false},
	{"CAP_SETFCAP", 31, false},
};

/* A number of /proc/self/status; -1. */
static int status_number(const char *name, int base, unsigned long long *ret)
{
	auto_buf struct buf text = BUF_INIT;
	const char *at;

	if (file_read_all("/proc/self/status", STATUS_MAX, &text, NULL) < 0 ||
	    buf_append(&text, "", 1) < 0)
		return -1;
	at = strstr((char *)text.data, name);
	if (!at)
		return -1;
	*ret = strtoull(at + strlen(name), NULL, base);
	return 0;
}

static void check_rights(struct doctor *d)
{
	unsigned long long caps = 0;
	char missing[160] = "";
	bool must = false;
	struct finding *f;

	if (geteuid() != 0) {
		f = finding(d, "rights", FINDING_SKIP, NEED_RUN, "not root: mounts are not tried");
		finding_advice(f, "", "sudo firstlight doctor");
		return;
	}
	if (status_number("\nCapEff:", 16, &caps) < 0)
		caps = ~0ull; /* then what is tried will show it */
	for (size_t i = 0; i < array_size(rights); i++) {
		size_t n = strlen(missing);

		if (caps >> rights[i].bit & 1)
			continue;
		must |= rights[i].must;
		snprintf(missing + n, sizeof(missing) - n, "%s%s", n ? ", " : "", rights[i].name);
	}
	d->root_user = true;
	f = finding(d, "rights",
		    must         ? FINDING_FAIL
		    : missing[0] ? FINDING_OFF
				 : FINDING_OK,
		    NEED_RUN, missing[0] ? "root, but without %s" : "root%s", missing);
	if (missing[0])
		finding_advice(f,
			       must ? "it cannot mount or unpack"
				    : "images with such files are not unpacked right",
			       "run it on the host, or in a privileged container");
}

static void check_seccomp(struct doctor *d)
{
	unsigned long long mode = 0;

	if (status_number("\nSeccomp:", 10, &mode) == 0 && mode)
		finding(d, "seccomp", FINDING_OK, NEED_NOTHING,
			"a filter is on; what it refuses shows below");
}

static void check_uring(struct doctor *d)
{
	long long off = doctor_number("/proc/sys/kernel/io_uring_disabled");
	struct err err = ERR_INIT;
	struct loop *loop;
	struct finding *f;
	int r = loop_new(&loop, &err);

	d->ring = r == 0;
	if (r == 0) {
		finding(d, "io_uring", FINDING_OK, NEED_RUN, "a ring can be made");
		loop_free(loop);
		return;
	}
	/* 1 forbids it to others than root */
	f = finding(d, "io_uring", off == 1 && geteuid() != 0 ? FINDING_SKIP : FINDING_FAIL,
		    NEED_RUN, "%s", err_text(&err, r));
	finding_advice(
		f, "the daemon cannot start",
		off > 0 ? "sysctl -w kernel.io_uring_disabled=0"
			: "the container's seccomp profile must allow io_uring; a kernel with "
			  "CONFIG_IO_URING");
}

void doctor_rights(void *arg)
{
	check_rights(arg);
	check_seccomp(arg);
	check_uring(arg);
}

/* --- mounts ----------------------------------------------------------------------------------- */

static struct finding *feature(struct doctor *d, const char *name, bool on, const char *why,
			       enum finding_need need, const char *costs, const char *fix)
{
	struct finding *f = finding(d, name, on ? FINDING_OK : FINDING_OFF, need, "%s",
				    on       ? "works"
				    : why[0] ? why
					     : "it does not work here");

	if (!on)
		finding_advice(f, costs, fix);
	return f;
}

static bool in_user_namespace(void)
{
	unsigned inside = 0, outside = 0, length = 0;
	auto_buf struct buf text = BUF_INIT;

	if (file_read_all("/proc/self/uid_map", STATUS_MAX, &text, NULL) < 0 ||
	    buf_append(&text, "", 1) < 0 ||
	    sscanf((char *)text.data, "%u %u %u", &inside, &outside, &length) != 3)
		return false;
	return length != UINT32_MAX;
}

static void tell_overlay(struct doctor *d, const struct mount_features *m)
{
	struct finding *f = finding(d, "overlay", m->overlay ? FINDING_OK : FINDING_FAIL, NEED_RUN,
				    "%s", m->overlay ? "overlays below the root work" : m->why);

	if (!m->overlay)
		finding_advice(f, "no container has a root",
			       "modprobe overlay; --root on ext4, xfs or btrfs, not on overlayfs "
			       "or NFS; CAP_SYS_ADMIN");
	feature(d, "index-off", m->index_off, "overlayfs has no such option", NEED_NOTHING,
		"a directory that is used twice is refused", "Linux 4.13 or later");
	if (in_user_namespace())
		feature(d, "userxattr", m->userxattr, "overlayfs has no such option", NEED_NOTHING,
			"no overlays in a user namespace", "Linux 5.11 or later");
	feature(d, "volatile", m->volatile_upper, "overlayfs has no such option", NEED_NOTHING,
		"the setting snapshot.volatile has no effect", "Linux 5.10 or later");
	feature(d, "idmap", m->idmap, "no idmapped mounts here", NEED_NOTHING,
		"user namespaces get a copy of each layer", "Linux 5.19 or later");
}

static void tell_images(struct doctor *d, const struct mount_features *m)
{
	bool file = m->erofs_file && !d->erofs_file_off;

	feature(d, "data-only", m->data_only, m->why_data_only, NEED_LAZY,
		"no layer is lazy, every image is unpacked",
		"Linux 6.5 or later, with overlayfs and EROFS");
	feature(d, "erofs-file", file,
		m->erofs_file ? "switched off in the settings" : m->why_erofs_file, NEED_NOTHING,
		"a loop device for each image",
		"Linux 6.12 or later, CONFIG_EROFS_FS_BACKED_BY_FILE");
	feature(d, "erofs-loop", m->erofs_loop, m->why_erofs_loop, file ? NEED_NOTHING : NEED_LAZY,
		file ? "nothing, as long as erofs-file works"
		     : "no layer is lazy, every image is unpacked",
		"modprobe erofs loop; /dev/loop-control must be there");
}

void doctor_mounts(void *arg)
{
	struct doctor *d = arg;
	struct mount_features m = {.overlay = false};
	struct err err = ERR_INIT;
	int r;

	if (!d->dir[0]) {
		finding(d, "mounts", FINDING_SKIP, NEED_RUN, "not tried, see above");
		return;
	}
	r = mount_probe(d->dir, &m, &err);
	if (r < 0) {
		finding(d, "overlay", FINDING_FAIL, NEED_RUN, "%s", err_text(&err, r));
		return;
	}
	tell_overlay(d, &m);
	tell_images(d, &m);
	if (d->lazy_off)
		feature(d, "lazy", false, "switched off in the settings", NEED_LAZY,
			"every image is unpacked", "lazy.enabled = true");
}

/* --- FUSE ------------------------------------------------------------------------------------- */

/* What the kernel offers in FUSE_INIT (linux/fuse.h). */
#define INIT_EXT         (1u << 30)
#define INIT_PASSTHROUGH (1ull << 37)
#define INIT_URING       (1ull << 41)
#define FUSE_MINOR       36 /* of the protocol that we speak; knows INIT_EXT */

#define URING_SWITCH     "/sys/module/fuse/parameters/enable_uring" /* since Linux 6.14 */

struct init_reply {
	struct wire_out head;
	uint32_t major, minor, readahead, flags;
	uint32_t background, write_max, rest[10]; /* struct fuse_init_out, 64 bytes */
};

static uint32_t request[KiB(64) / 4];

/* Reads INIT; answers what the kernel offers, 0 = err is set. */
static uint64_t read_init(int fd, ssize_t *ret_n, int *ret_err)
{
	uint64_t flags;

	*ret_n = read(fd, request, sizeof(request));
	*ret_err = *ret_n < 0 ? errno : *ret_n < 40 + 16 ? EPROTO : 0;
	if (*ret_err)
		return 0;
	flags = request[13]; /* behind the head of 40 bytes: major, minor, readahead, flags */
	if (*ret_n >= 40 + 20 && flags & INIT_EXT)
		flags |= (uint64_t)request[14] << 32;
	return flags;
}

/* Answers INIT, with passthrough if it is offered; 0 or -errno. */
static int answer_init(int fd, ssize_t n)
{
	const struct wire_init_options options = {
		.passthrough = true, .readahead = KiB(128), .request_pages = 32};
	struct init_reply reply = {
		.head = {.len = sizeof(reply), .unique = ((struct wire_in *)request)->unique},
		.major = 7,
		.minor = FUSE_MINOR,
		.write_max = KiB(64)};

	wire_init_reply(request, (size_t)n, &reply.major, sizeof(reply) - sizeof(reply.head),
			&options);
	return write(fd, &reply, sizeof(reply)) == sizeof(reply) ? 0 : -errno;
}

/* A new worker asks for what the last one has left; there is nothing, but it must be understood. */
static int try_resend(int fd)
{
	struct wire_out resend = wire_resend();

	return write(fd, &resend, sizeof(resend)) == sizeof(resend) ? 0 : -errno;
}

/* A file of the root as the backing of one of FUSE. */
static int try_passthrough(struct doctor *d, int fd, bool offered)
{
	char path[sizeof(d->dir) + 16];
	auto_close int file = -1;
	int id;

	if (!offered)
		return -EOPNOTSUPP;
	snprintf(path, sizeof(path), "%s/backing", d->dir);
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	id = file < 0 ? -errno : wire_backing_open(fd, file);
	if (id > 0)
		wire_backing_close(fd, (uint32_t)id);
	return id < 0 ? id : 0;
}

static void tell_fuse(struct doctor *d, int fd, ssize_t n, uint64_t offered)
{
	int r, init, pass;

	/* The file is opened before the reply: from then on the mount may hide it. */
	init = answer_init(fd, n);
	pass = init < 0 ? init : try_passthrough(d, fd, offered & INIT_PASSTHROUGH);
	if (d->passthrough_off)
		feature(d, "passthrough", false, "switched off in the settings", NEED_NOTHING,
			"files that stay on FUSE are read through the daemon",
			"lazy.passthrough = true");
	else
		feature(d, "passthrough", pass == 0,
			pass == -EOPNOTSUPP ? "the kernel does not offer it" : strerror(-pass),
			NEED_NOTHING, "files that stay on FUSE are read through the daemon",
			"Linux 6.9 or later, CONFIG_FUSE_PASSTHROUGH");
	r = init < 0 ? init : try_resend(fd);
	feature(d, "resend", r == 0, r == -EINVAL ? "the kernel does not know it" : strerror(-r),
		NEED_NOTHING, "reads that were under way when the worker died end with an error",
		"Linux 6.9 or later");
	feature(d, "fuse-uring", offered & INIT_URING,
		access(URING_SWITCH, F_OK) == 0 ? "switched off: " URING_SWITCH " is N"
						: "the kernel does not offer it",
		NEED_NOTHING, "nothing: firstlight reads /dev/fuse", "echo Y >" URING_SWITCH);
}

/* Mounted over a directory that nothing else is tried in. 0 or an errno. */
static int mount_fuse(struct doctor *d, int fd)
{
	char options[96], at[sizeof(d->dir) + 16];

	snprintf(at, sizeof(at), "%s/fuse", d->dir);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mkdir(at, 0700) < 0)
		return errno;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	return mount("firstlight-doctor", at, "fuse", MS_NODEV | MS_NOSUID, options) < 0 ? errno
											 : 0;
}

void doctor_fuse(void *arg)
{
	struct doctor *d = arg;
	auto_close int fd = d->dir[0] ? open("/dev/fuse", O_RDWR | O_CLOEXEC) : -1;
	int error = fd < 0 ? errno : 0;
	uint64_t offered = 0;
	ssize_t n = 0;
	struct finding *f;

	if (!d->dir[0]) {
		finding(d, "fuse", FINDING_SKIP, NEED_LAZY, "not tried, see above");
		return;
	}
	f = finding(d, "fuse", FINDING_OK, NEED_LAZY, "a FUSE file system can be mounted");
	if (!error)
		error = mount_fuse(d, fd);
	if (!error)
		offered = read_init(fd, &n, &error);
	if (!error) {
		tell_fuse(d, fd, n, offered);
		return;
	}
	f->state = FINDING_OFF;
	snprintf(f->text, sizeof(f->text), "%s%s", fd < 0 ? "/dev/fuse: " : "", strerror(error));
	finding_advice(f, "no layer is lazy, every image is unpacked",
		       "modprobe fuse; /dev/fuse must be there and open to root");
}

/* --- BPF -------------------------------------------------------------------------------------- */

#define MOV_R0_0                                                                                   \
	{                                                                                          \
		.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0                          \
	}
#define EXIT_R0                                                                                    \
	{                                                                                          \
		.code = BPF_JMP | BPF_EXIT                                                         \
	}

static int bpf(int cmd, union bpf_attr *attr, size_t n)
{
	int fd = (int)syscall(SYS_bpf, cmd, attr, n);

	return fd < 0 ? -errno : fd;
}

/* A program that does nothing. */
static int load_program(void)
{
	static const struct bpf_insn insns[] = {MOV_R0_0, EXIT_R0};
	union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT};

	attr.insns = (uint64_t)(uintptr_t)insns;
	attr.insn_cnt = array_size(insns);
	attr.license = (uint64_t)(uintptr_t) "GPL";
	return bpf(BPF_PROG_LOAD, &attr, sizeof(attr));
}

static int try_ring_buffer(void)
{
	union bpf_attr attr = {.map_type = BPF_MAP_TYPE_RINGBUF};
	auto_close int fd = -1;

	attr.max_entries = 4096;
	fd = bpf(BPF_MAP_CREATE, &attr, sizeof(attr));
	return fd < 0 ? fd : 0;
}

/* Attached, and taken off at once. */
static int try_tracepoint(int program, const char *name)
{
	union bpf_attr attr = {.raw_tracepoint = {.name = (uint64_t)(uintptr_t)name}};
	auto_close int fd = -1;

	attr.raw_tracepoint.prog_fd = (uint32_t)program;
	fd = bpf(BPF_RAW_TRACEPOINT_OPEN, &attr, sizeof(attr));
	return fd < 0 ? fd : 0;
}

void doctor_bpf(void *arg)
{
	static const char *const names[] = {"sched_process_exec", "mm_filemap_add_to_page_cache",
					    "mm_filemap_get_pages", "mm_filemap_fault",
					    "mm_filemap_map_pages"};
	static const char costs[] = "file accesses cannot be traced; images are lazy all the same";
	struct doctor *d = arg;
	bool btf = access("/sys/kernel/btf/vmlinux", R_OK) == 0;
	auto_close int program = -1;
	struct finding *f;
	int r;

	feature(d, "btf", btf, "no /sys/kernel/btf/vmlinux", NEED_NOTHING, costs,
		"a kernel with CONFIG_DEBUG_INFO_BTF");
	if (!d->root_user) {
		finding(d, "bpf", FINDING_SKIP, NEED_NOTHING, "only root can try it");
		return;
	}
	program = load_program();
	r = program < 0 ? program : try_ring_buffer();
	f = finding(d, "bpf", FINDING_OK, NEED_NOTHING, "raw tracepoints can be attached");
	for (size_t i = 0; r == 0 && i < array_size(names); i++) {
		r = try_tracepoint(program, names[i]);
		if (r < 0)
			snprintf(f->text, sizeof(f->text), "tracepoint %s: %s", names[i],
				 strerror(-r));
	}
	if (r == 0)
		return;
	f->state = FINDING_OFF;
	if (program < 0)
		snprintf(f->text, sizeof(f->text), "no program can be loaded: %s", strerror(-r));
	finding_advice(f, costs,
		       r == -EPERM ? "CAP_BPF and CAP_PERFMON, or root; lockdown integrity at most"
				   : "Linux 6.12 or later has all of them");
}
