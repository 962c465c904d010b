// SPDX-License-Identifier: Apache-2.0
/* Limits, the clock, lockdown, the unit. Reads files of /proc and asks systemctl; owns nothing. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/str.h"
#include "doctor.h"
#include "out.h"
#include "try.h"

#include "base/banned.h"

#define NOFILE_WANTED   65536
#define FILES_WANTED    65536                  /* that the whole host may still open */
#define MAPS_WANTED     (2 * TASKS_MAX + 8192) /* a stack and its guard page, and all the rest */
#define SMALL_FILE      KiB(16)
#define CLOCK_MIN       1735689600 /* 2025: no certificate in use is valid before */
#define SYSTEMCTL_MS    3000
#define UNIT_MAX        KiB(64)
#define FD_STORE_WANTED 8

long long doctor_number(const char *path)
{
	auto_buf struct buf text = BUF_INIT;
	long long v;

	if (file_read_all(path, SMALL_FILE, &text, NULL) < 0 || buf_append(&text, "", 1) < 0 ||
	    sscanf((char *)text.data, "%lld", &v) != 1)
		return -1;
	return v;
}

/* --- limits ----------------------------------------------------------------------------------- */

/* That of the running daemon; else of us, which its unit may change. */
static void check_nofile(struct doctor *d)
{
	struct rlimit rl = {0, 0};
	bool low, its = d->daemon_pid && prlimit(d->daemon_pid, RLIMIT_NOFILE, NULL, &rl) == 0;
	struct finding *f;

	if (!its)
		getrlimit(RLIMIT_NOFILE, &rl);
	low = rl.rlim_max < NOFILE_WANTED;
	f = finding(d, "descriptors", low ? FINDING_OFF : FINDING_OK, NEED_NOTHING,
		    "%llu at most, %s", (unsigned long long)rl.rlim_max,
		    its ? "of the daemon" : "of this shell");
	if (low)
		finding_advice(f,
			       its ? "many containers at once may find no descriptor"
				   : "the same for a daemon that is started from here",
			       "LimitNOFILE=1048576 in the unit, or ulimit -Hn 1048576");
}

static void check_files(struct doctor *d)
{
	long long max = doctor_number("/proc/sys/fs/file-max"),
		  used = doctor_number("/proc/sys/fs/file-nr"),
		  one = doctor_number("/proc/sys/fs/nr_open");
	bool low = max >= 0 && used >= 0 && max - used < FILES_WANTED;
	bool small = one >= 0 && one < NOFILE_WANTED;
	struct finding *f;

	if (max < 0)
		return;
	f = finding(d, "open-files", low || small ? FINDING_OFF : FINDING_OK, NEED_NOTHING,
		    "%lld of %lld are open on this host; %lld a process", used, max, one);
	if (low || small)
		finding_advice(f, "opening files fails when many containers run",
			       low ? "sysctl -w fs.file-max=4194304"
				   : "sysctl -w fs.nr_open=1048576");
}

static void check_maps(struct doctor *d)
{
	long long max = doctor_number("/proc/sys/vm/max_map_count");
	struct finding *f;

	if (max < 0)
		return;
	f = finding(d, "map-count", max < MAPS_WANTED ? FINDING_OFF : FINDING_OK, NEED_NOTHING,
		    "%lld mappings a process", max);
	if (max < MAPS_WANTED)
		finding_advice(f, "requests are refused before the daemon's own limit is reached",
			       "sysctl -w vm.max_map_count=65530");
}

static void check_memlock(struct doctor *d)
{
	char text[OUT_NUMBER_MAX] = "no limit";
	struct rlimit rl = {0, 0};

	getrlimit(RLIMIT_MEMLOCK, &rl);
	if (rl.rlim_cur != RLIM_INFINITY)
		out_size(rl.rlim_cur, text);
	finding(d, "memlock", FINDING_OK, NEED_NOTHING, "%s; rings count here before Linux 5.12",
		text);
}

/* --- the clock and the kernel's mood ---------------------------------------------------------- */

static void check_clock(struct doctor *d)
{
	struct timex t = {.modes = 0};
	char text[OUT_NUMBER_MAX];
	int64_t now = (int64_t)time(NULL);
	bool wrong = now < CLOCK_MIN;
	bool free_running = adjtimex(&t) < 0 || t.status & STA_UNSYNC;
	struct finding *f;

	f = finding(d, "clock", wrong ? FINDING_FAIL : FINDING_OK, wrong ? NEED_LAZY : NEED_NOTHING,
		    "%s%s", out_time(now, text), free_running ? ", not set by a time server" : "");
	if (wrong)
		finding_advice(f, "no registry's certificate is valid at that time",
			       "set the clock: systemctl start systemd-timesyncd, or date -s");
}

static void check_lockdown(struct doctor *d)
{
	auto_buf struct buf text = BUF_INIT;
	struct finding *f;

	if (file_read_all("/sys/kernel/security/lockdown", SMALL_FILE, &text, NULL) < 0 ||
	    buf_append(&text, "", 1) < 0) {
		finding(d, "lockdown", FINDING_SKIP, NEED_NOTHING,
			"/sys/kernel/security/lockdown cannot be read");
		return;
	}
	if (strstr((char *)text.data, "[confidentiality]")) {
		f = finding(d, "lockdown", FINDING_OFF, NEED_NOTHING, "confidentiality");
		finding_advice(f, "file accesses cannot be traced; images are lazy all the same",
			       "boot with lockdown=integrity");
		return;
	}
	finding(d, "lockdown", FINDING_OK, NEED_NOTHING, "%s",
		strstr((char *)text.data, "[integrity]") ? "integrity: raw tracepoints are allowed"
							 : "none");
}

void doctor_limits(void *arg)
{
	check_nofile(arg);
	check_files(arg);
	check_maps(arg);
	check_memlock(arg);
	check_clock(arg);
	check_lockdown(arg);
}

/* --- the unit --------------------------------------------------------------------------------- */

/* Settings that give the service mounts of its own; the values with which they do not. */
static const struct unit_setting {
	const char *name, *off[3];
} unit_settings[] = {
	{"PrivateTmp", {"no"}},
	{"PrivateMounts", {"no"}},
	{"PrivateDevices", {"no"}},
	{"ProtectSystem", {"no"}},
	{"ProtectHome", {"no"}},
	{"ProtectKernelTunables", {"no"}},
	{"ProtectKernelModules", {"no"}},
	{"ProtectKernelLogs", {"no"}},
	{"ProtectControlGroups", {"no"}},
	{"ProtectProc", {"default"}},
	{"ProcSubset", {"all"}},
	{"RootDirectory", {""}},
	{"RootImage", {""}},
	{"ReadOnlyPaths", {""}},
	{"ReadWritePaths", {""}},
	{"InaccessiblePaths", {""}},
	{"BindPaths", {""}},
	{"TemporaryFileSystem", {""}},
	{"MountFlags", {"", "0", "shared"}}, /* systemctl show prints a number */
};

#define MS_SHARED_TEXT "1048576"

static bool harmless(const struct unit_setting *s, struct str value)
{
	if (value.len == 0 || str_eq(value, STR(MS_SHARED_TEXT)))
		return true;
	for (size_t i = 0; i < array_size(s->off) && s->off[i]; i++) {
		if (str_eq(value, str_of(s->off[i])))
			return true;
	}
	return false;
}

struct unit {
	bool loaded, active;
	char bad[160]; /* "NAME=VALUE" of the first setting that is not harmless */
	long long files, store;
};

static void unit_line(struct unit *u, struct str name, struct str value)
{
	char number[32];

	snprintf(number, sizeof(number), STR_FMT, STR_ARG(value));
	if (str_eq(name, STR("LoadState")))
		u->loaded = str_eq(value, STR("loaded"));
	else if (str_eq(name, STR("ActiveState")))
		u->active = str_eq(value, STR("active"));
	else if (str_eq(name, STR("LimitNOFILE")))
		u->files = strcmp(number, "infinity") == 0 ? LLONG_MAX : strtoll(number, NULL, 10);
	else if (str_eq(name, STR("FileDescriptorStoreMax")))
		u->store = strtoll(number, NULL, 10);
	for (size_t i = 0; i < array_size(unit_settings) && !u->bad[0]; i++) {
		if (str_eq(name, str_of(unit_settings[i].name)) &&
		    !harmless(&unit_settings[i], value))
			snprintf(u->bad, sizeof(u->bad), STR_FMT "=" STR_FMT, STR_ARG(name),
				 STR_ARG(value));
	}
}

/* What "systemctl show" prints. */
static void unit_read(struct unit *u, const char *at)
{
	*u = (struct unit){.files = LLONG_MAX, .store = LLONG_MAX};
	while (*at) {
		size_t n = strcspn(at, "\n");
		const char *eq = memchr(at, '=', n);

		if (eq)
			unit_line(u, (struct str){at, (size_t)(eq - at)},
				  (struct str){eq + 1, (size_t)(at + n - eq - 1)});
		at += n + (at[n] == '\n');
	}
}

static void tell_unit(struct doctor *d, const struct unit *u)
{
	struct finding *f;

	if (u->bad[0]) {
		f = finding(d, "unit", FINDING_FAIL, NEED_LAZY, "firstlightd.service sets %s",
			    u->bad);
		finding_advice(
			f, "containerd does not see the daemon's mounts",
			"take that line out (systemctl edit --full firstlightd), restart it");
		return;
	}
	if (u->store < FD_STORE_WANTED || u->files < NOFILE_WANTED) {
		f = finding(d, "unit", FINDING_OFF, NEED_NOTHING,
			    "firstlightd.service: LimitNOFILE=%lld, FileDescriptorStoreMax=%lld",
			    u->files, u->store);
		finding_advice(f,
			       u->store < FD_STORE_WANTED
				       ? "an upgrade of the daemon ends reads that are under way"
				       : "many containers at once may find no descriptor",
			       "LimitNOFILE=1048576 and FileDescriptorStoreMax=8 in the unit");
		return;
	}
	finding(d, "unit", FINDING_OK, NEED_NOTHING, "firstlightd.service is %s",
		u->active ? "active" : "loaded, not active");
}

void doctor_unit(void *arg)
{
	static const char *const argv[] = {"systemctl", "--no-pager", "show", "firstlightd", NULL};
	struct doctor *d = arg;
	auto_buf struct buf text = BUF_INIT;
	struct unit u;
	int r;

	if (access("/run/systemd/system", F_OK) < 0)
		return; /* another init, or none */
	r = try_program(argv, SYSTEMCTL_MS, UNIT_MAX, &text);
	if (r == -ENOENT)
		return;
	if (r < 0 || buf_append(&text, "", 1) < 0) {
		finding(d, "unit", FINDING_SKIP, NEED_NOTHING, "systemctl show: %s", strerror(-r));
		return;
	}
	unit_read(&u, (char *)text.data);
	if (u.loaded)
		tell_unit(d, &u);
	else
		finding(d, "unit", FINDING_OK, NEED_NOTHING,
			"firstlightd.service is not installed");
}
