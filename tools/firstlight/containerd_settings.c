// SPDX-License-Identifier: Apache-2.0
/* Versions of containerd, and what its settings have to say. Owns nothing between calls. */
#include "containerd_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/limits.h"
#include "loop/loop.h"
#include "net/grpc.h"
#include "proto/containerd.pb-c.h"
#include "try.h"

#include "base/banned.h"

#define PLUGIN     "proxy_plugins.firstlight"
#define CRI_V2     "plugins.\"io.containerd.grpc.v1.cri\".containerd"
#define CRI_V3     "plugins.\"io.containerd.cri.v1.images\""
#define TRANSFER   "plugins.\"io.containerd.transfer.v1.local\".unpack_config"
#define ANSWER_MS  2000
#define PROGRAM_MS 5000
#define WORDS_MAX  KiB(4)

/* --- versions --------------------------------------------------------------------------------- */

int containerd_version_parse(const char *s, struct containerd_version *ret)
{
	struct containerd_version v;

	s += s[0] == 'v';
	if (sscanf(s, "%u.%u", &v.major, &v.minor) == 2 && v.major >= 1 && v.major < 100) {
		*ret = v;
		return 0;
	}
	if (strcmp(s, "2.x") != 0 && strcmp(s, "2") != 0)
		return -EINVAL;
	*ret = (struct containerd_version){2, 1};
	return 0;
}

bool containerd_at_least(const struct containerd_version *v, unsigned major, unsigned minor)
{
	return v->major > major || (v->major == major && v->minor >= minor);
}

struct asked {
	const char *socket;
	struct containerd_version version; /* 0.0: no answer */
};

static may_suspend int ask_main(void *arg)
{
	struct asked *a = arg;
	auto_buf struct buf answer = BUF_INIT;
	Ctrd__VersionResponse *v = NULL;
	struct grpc_client *c;
	int r = grpc_dial(loop_self(), a->socket, ANSWER_MS, &c, NULL);

	if (r < 0)
		return r;
	if (grpc_unary(c, "/containerd.services.version.v1.Version/Version", NULL, 0, ANSWER_MS, "",
		       0, &answer, NULL) == GRPC_OK)
		v = ctrd__version_response__unpack(NULL, answer.len, answer.data);
	if (v)
		r = containerd_version_parse(v->version, &a->version);
	ctrd__version_response__free_unpacked(v, NULL);
	grpc_client_close(c);
	return r;
}

/* In a child. */
static void ask_running(void *arg)
{
	struct loop *loop;

	if (loop_new(&loop, NULL) == 0)
		(void)loop_run(loop, ask_main, arg);
}

/* "containerd github.com/containerd/containerd 1.6.20~ds1 …" */
static int ask_installed(struct containerd_version *ret)
{
	static const char *const argv[] = {"containerd", "--version", NULL};
	auto_buf struct buf text = BUF_INIT;

	if (try_program(argv, PROGRAM_MS, WORDS_MAX, &text) < 0 || buf_append(&text, "", 1) < 0)
		return -ENOENT;
	for (const char *p = strchr((char *)text.data, ' '); p; p = strchr(p + 1, ' ')) {
		if (containerd_version_parse(p + 1, ret) == 0)
			return 0;
	}
	return -ENOENT;
}

int containerd_version_find(const char *socket, struct containerd_version *ret)
{
	struct asked a = {.socket = socket};

	if (try_run(ask_running, &a, sizeof(a), 2 * ANSWER_MS) == 0 && a.version.major) {
		*ret = a.version;
		return 0;
	}
	return ask_installed(ret);
}

/* --- the settings ----------------------------------------------------------------------------- */

static void want(struct containerd_settings *s, const char *table, const char *key,
		 const char *value)
{
	require(s->n < CONFIG_EDIT_SETTINGS);
	s->want[s->n++] = (struct setting){table, key, value};
}

/* In quotes, if it can be; -EINVAL. */
static int quote(const char *s, char ret[SETTINGS_WORD])
{
	for (const char *p = s; *p; p++) {
		if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ' || *p == 0x7f)
			return -EINVAL;
	}
	if (!str_utf8(str_of(s)) || strlen(s) + 3 > SETTINGS_WORD)
		return -EINVAL;
	snprintf(ret, SETTINGS_WORD, "\"%s\"", s);
	return 0;
}

/* containerd takes the first differ that it finds unless one is named. */
static void make_unpack(struct containerd_settings *s)
{
	struct utsname u;
	const char *arch;

	uname(&u);
	arch = strcmp(u.machine, "x86_64") == 0    ? "amd64"
	       : strcmp(u.machine, "aarch64") == 0 ? "arm64"
						   : u.machine;
	snprintf(s->platform, sizeof(s->platform), "\"linux/%.40s\"", arch);
	s->unpack_n = array_size(s->unpack);
	s->unpack[0] = (struct setting){TRANSFER, "snapshotter", "\"firstlight\""};
	s->overlayfs[0] = (struct setting){TRANSFER, "snapshotter", "\"overlayfs\""};
	s->unpack[1] = s->overlayfs[1] = (struct setting){TRANSFER, "platform", s->platform};
	s->unpack[2] = s->overlayfs[2] = (struct setting){TRANSFER, "differ", "\"walking\""};
}

/* The name of CRI's table is new in 2.0. Settings in the old one count there only in a file of
 * version 2 that also has runtimes in it. */
static void make_cri(struct containerd_settings *s, const char *key, const char *value)
{
	bool renamed = containerd_at_least(&s->version, 2, 0);

	if (renamed)
		want(s, CRI_V3, key, value);
	if (!renamed || s->old_cri)
		want(s, CRI_V2, key, value);
}

int containerd_settings_make(struct containerd_settings *s)
{
	bool transfer = containerd_at_least(&s->version, 2, 1);

	s->n = s->unpack_n = 0;
	if (!s->format)
		s->format = containerd_at_least(&s->version, 2, 0) ? 3 : 2;
	if (quote(s->address, s->address_value) < 0 || quote(s->root, s->root_value) < 0)
		return -EINVAL;
	want(s, PLUGIN, "type", "\"snapshot\"");
	want(s, PLUGIN, "address", s->address_value);
	want(s, PLUGIN ".exports", "root", s->root_value);
	if (transfer)
		want(s, PLUGIN ".exports", "enable_remote_snapshot_annotations", "\"true\"");
	s->plugin_n = s->n;
	if (transfer)
		make_unpack(s);
	if (s->cri)
		make_cri(s, "snapshotter", "\"firstlight\"");
	if (s->cri && (!transfer || s->local_pull))
		make_cri(s, "disable_snapshot_annotations", "false");
	return 0;
}

int containerd_settings_for(struct containerd_settings *s, struct str text, struct err *err)
{
	static const struct setting local = {CRI_V3, "use_local_image_pull", "true"};
	struct str v = config_top(text, "version");
	bool v2 = containerd_at_least(&s->version, 2, 0);
	enum setting_state state = SETTING_MISSING;
	int r = config_look(text, &local, 1, &state, err);

	if (r < 0)
		return r;
	s->local_pull = state == SETTING_THERE;
	s->old_cri = v2 && str_eq(v, STR("2")) && config_has(text, CRI_V2 ".runtimes");
	s->format = str_eq(v, STR("3")) ? 3 : str_eq(v, STR("2")) ? 2 : 0;
	if (s->format == 3 && !v2)
		return err_set(err, -ENOTSUP,
			       "version = 3 is for containerd 2.0 and later, not %u.%u",
			       s->version.major, s->version.minor);
	if (!v.len && v2) /* the present form, when none is named */
		s->format = 3;
	if (s->format || (!s->cri && !v2))
		return 0;
	if (v.len)
		return err_set(err, -ENOTSUP, "version = %.*s is not known here",
			       (int)(v.len > 20 ? 20 : v.len), v.p);
	return err_set(err, -ENOTSUP, "the file has no version, which makes it one of version 1");
}
