// SPDX-License-Identifier: Apache-2.0
/* Settings. Owns the strings of each struct config; runs at start, on the main thread. */
#include "config.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "api/metrics_address.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/toml.h"

#include "base/banned.h"

#define ROOT_DEFAULT        "/var/lib/firstlight"
#define STATE_DEFAULT       "/run/firstlight"
#define CONTAINERD_DEFAULT  "/run/containerd/containerd.sock"
#define ADDRESS_NAME        "firstlight.sock"
#define CONFIG_FILE_DEFAULT "/etc/firstlight/config.toml"

/* PATH_MOUNT ends up in mount options, PATH_SOCKET in a struct sockaddr_un. */
enum setting_type {
	SETTING_PATH_MOUNT,
	SETTING_PATH_SOCKET,
	SETTING_LEVEL,
	SETTING_BOOL,
	SETTING_TEXT,
	SETTING_BYTES,
	SETTING_SECONDS,
	SETTING_METRICS
};

struct setting {
	const char *table, *key;
	enum setting_type type;
	size_t offset; /* in struct config */
};

/* Every key of the settings file. */
static const struct setting settings[] = {
	{"", "root", SETTING_PATH_MOUNT, offsetof(struct config, root)},
	{"", "state", SETTING_PATH_MOUNT, offsetof(struct config, state)},
	{"", "address", SETTING_PATH_SOCKET, offsetof(struct config, address)},
	{"", "log_level", SETTING_LEVEL, offsetof(struct config, log_level)},
	{"snapshot", "volatile", SETTING_BOOL, offsetof(struct config, snapshot.volatile_upper)},
	{"snapshot", "sync", SETTING_BOOL, offsetof(struct config, snapshot.sync)},
	{"snapshot", "upperdir_label", SETTING_BOOL,
	 offsetof(struct config, snapshot.upperdir_label)},
	{"lazy", "enabled", SETTING_BOOL, offsetof(struct config, lazy.enabled)},
	{"lazy", "passthrough", SETTING_BOOL, offsetof(struct config, lazy.passthrough)},
	{"lazy", "erofs_file", SETTING_BOOL, offsetof(struct config, lazy.erofs_file)},
	{"lazy", "store_max", SETTING_BYTES, offsetof(struct config, lazy.store_max)},
	{"containerd", "address", SETTING_PATH_SOCKET, offsetof(struct config, containerd.address)},
	{"containerd", "snapshotter", SETTING_TEXT,
	 offsetof(struct config, containerd.snapshotter)},
	{"registry", "hosts_dirs", SETTING_TEXT, offsetof(struct config, registry.hosts_dirs)},
	{"registry", "docker_config", SETTING_TEXT,
	 offsetof(struct config, registry.docker_config)},
	{"start", "bpf", SETTING_BOOL, offsetof(struct config, start.bpf)},
	{"start", "watch_s", SETTING_SECONDS, offsetof(struct config, start.watch_s)},
	{"start", "quiet_s", SETTING_SECONDS, offsetof(struct config, start.quiet_s)},
	{"metrics", "address", SETTING_METRICS, offsetof(struct config, metrics.address)},
};

enum {
	FLAG_ROOT = 1,
	FLAG_STATE,
	FLAG_ADDRESS,
	FLAG_CONTAINERD,
	FLAG_METRICS,
	FLAG_CONFIG,
	FLAG_LEVEL,
	FLAG_VERSION,
	FLAG_HELP
};

static const struct option flags[] = {
	{"root", required_argument, NULL, FLAG_ROOT},
	{"state", required_argument, NULL, FLAG_STATE},
	{"address", required_argument, NULL, FLAG_ADDRESS},
	{"containerd", required_argument, NULL, FLAG_CONTAINERD},
	{"metrics", required_argument, NULL, FLAG_METRICS},
	{"config", required_argument, NULL, FLAG_CONFIG},
	{"log-level", required_argument, NULL, FLAG_LEVEL},
	{"version", no_argument, NULL, FLAG_VERSION},
	{"help", no_argument, NULL, FLAG_HELP},
	{0},
};

static const char usage[] =
	"Usage: firstlightd [flag …]\n"
	"\n"
	"  --root DIR         content and snapshots (" ROOT_DEFAULT ")\n"
	"  --state DIR        sockets and mounts, gone after a boot (" STATE_DEFAULT ")\n"
	"  --address SOCKET   where containerd connects (<state>/" ADDRESS_NAME ")\n"
	"  --containerd SOCKET  containerd itself (" CONTAINERD_DEFAULT ")\n"
	"  --metrics ADDRESS  metrics: unix:/PATH, 127.0.0.1:PORT or [::1]:PORT (none)\n"
	"  --config FILE      settings (" CONFIG_FILE_DEFAULT ", which may be missing)\n"
	"  --log-level LEVEL  error, warn, info or debug (info)\n"
	"  --version          print the version\n"
	"  --help             print this\n"
	"\n"
	"Flags win over the settings file.\n";

const char *config_usage(void)
{
	return usage;
}

void config_init(struct config *c)
{
	*c = (struct config){
		.log_level = LOG_LEVEL_INFO,
		.snapshot.sync = true,
		.lazy = {.enabled = true, .passthrough = true, .erofs_file = true},
		.start = {.bpf = true, .watch_s = START_WATCH_S, .quiet_s = START_QUIET_S}};
	c->config_file = strdup(CONFIG_FILE_DEFAULT);
	c->root = strdup(ROOT_DEFAULT);
	c->state = strdup(STATE_DEFAULT);
	c->containerd.address = strdup(CONTAINERD_DEFAULT);
	c->containerd.snapshotter = strdup("firstlight");
}

void config_fini(struct config *c)
{
	free(c->config_file);
	free(c->root);
	free(c->state);
	free(c->address);
	free(c->containerd.address);
	free(c->containerd.snapshotter);
	free(c->registry.hosts_dirs);
	free(c->registry.docker_config);
	free(c->metrics.address);
	*c = (struct config){0};
}

/* Cause why s cannot be a path, or NULL. */
static const char *path_fault(struct str s)
{
	if (!s.p || s.len == 0 || s.p[0] != '/')
		return "must be an absolute path";
	if (s.len >= PATH_MAX)
		return "is too long";
	if (memchr(s.p, 0, s.len) || memchr(s.p, '\n', s.len))
		return "must not contain NUL or a new line";
	return NULL;
}

static const char *mount_path_fault(struct str s)
{
	const char *fault = path_fault(s);

	for (size_t i = 0; !fault && i < s.len; i++) {
		if (s.p[i] == ',' || s.p[i] == ':' || s.p[i] == '\\')
			fault = "must not contain ',', ':' or '\\'";
	}
	return fault;
}

/* "//" becomes "/", and none is left at the end: containerd cuts paths of lower directories by the
 * length of their cleaned common directory. */
static void squeeze_slashes(char *path)
{
	char *out = path;

	for (const char *in = path; *in; in++) {
		if (*in != '/' || (in[1] != '/' && (in[1] || out == path)))
			*out++ = *in;
	}
	*out = 0;
}

static const char *socket_path_fault(struct str s)
{
	if (s.len >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return "is longer than a socket's name can be (107 bytes)";
	return mount_path_fault(s);
}

/* Replaces *field by s; what is the name of the setting for messages. */
static int set_path(char **field, struct str s, const char *fault, const char *what,
		    struct err *err)
{
	char *copy;

	if (fault || !s.p)
		return err_set(err, -EINVAL, "%s %s", what, fault ? fault : "is missing");
	copy = strndup(s.p, s.len);
	if (!copy)
		return err_set(err, -ENOMEM, "no memory");
	squeeze_slashes(copy);
	free(*field);
	*field = copy;
	return 0;
}

/* "" = none. */
static int set_metrics(char **field, struct str s, const char *what, struct err *err)
{
	union metrics_address address;
	auto_free char *copy = s.p && !memchr(s.p, 0, s.len) ? strndup(s.p, s.len) : NULL;
	int r;

	if (!copy)
		return err_set(err, -EINVAL, "%s has no text, or NUL in it", what);
	r = *copy ? metrics_address_parse(copy, &address, err) : 0;
	if (r < 0)
		return err_wrap(err, r, "%s", what);
	free(*field);
	*field = *copy ? take_ptr(copy) : NULL;
	return 0;
}

static int set_level(enum log_level *field, struct str s, const char *what, struct err *err)
{
	char name[8] = "";

	if (s.len < sizeof(name) && s.len)
		memcpy(name, s.p, s.len);
	if (strlen(name) != s.len || log_level_parse(name, field) < 0)
		return err_set(err, -EINVAL, "%s must be error, warn, info or debug", what);
	return 0;
}

static int set(struct config *c, const struct setting *s, const struct toml_value *v,
	       struct err *err)
{
	void *field = (char *)c + s->offset;
	bool number = s->type == SETTING_BYTES || s->type == SETTING_SECONDS;
	enum toml_type type = s->type == SETTING_BOOL ? TOML_BOOLEAN
			      : number                ? TOML_INTEGER
						      : TOML_STRING;

	if (v->type != type)
		return err_set(err, -EINVAL, "%s must be %s, not %s", s->key, toml_type_name(type),
			       toml_type_name(v->type));
	switch (s->type) {
	case SETTING_PATH_MOUNT:
		return set_path(field, v->string, mount_path_fault(v->string), s->key, err);
	case SETTING_PATH_SOCKET:
		return set_path(field, v->string, socket_path_fault(v->string), s->key, err);
	case SETTING_LEVEL:
		return set_level(field, v->string, s->key, err);
	case SETTING_BOOL:
		*(bool *)field = v->boolean;
		return 0;
	case SETTING_TEXT:
		return set_path(field, v->string, path_fault(v->string), s->key, err);
	case SETTING_BYTES:
		if (v->integer < 0)
			return err_set(err, -EINVAL, "%s must not be negative", s->key);
		*(uint64_t *)field = (uint64_t)v->integer;
		return 0;
	case SETTING_SECONDS:
		if (v->integer < 1 || v->integer > START_WATCH_MAX_S)
			return err_set(err, -EINVAL, "%s must be 1 to %d", s->key,
				       START_WATCH_MAX_S);
		*(uint64_t *)field = (uint64_t)v->integer;
		return 0;
	case SETTING_METRICS:
		return set_metrics(field, v->string, s->key, err);
	}
	return 0;
}

/* A toml_key_fn. */
static int on_key(void *arg, struct str table, struct str key, const struct toml_value *v,
		  struct err *err)
{
	struct str t = {table.p, table.len > 64 ? 64 : table.len};
	struct str k = {key.p, key.len > 64 ? 64 : key.len};
	bool known = false;

	for (size_t i = 0; i < array_size(settings); i++) {
		if (!str_eq(table, str_of(settings[i].table)))
			continue;
		known = true;
		if (v && str_eq(key, str_of(settings[i].key)))
			return set(arg, &settings[i], v, err);
	}
	if (!known)
		return err_set(err, -EINVAL, "unknown table " STR_FMT, STR_ARG(t));
	if (!v)
		return 0;
	return err_set(err, -EINVAL, "unknown key " STR_FMT, STR_ARG(k));
}

int config_parse(struct config *c, const char *name, const char *text, size_t len, struct err *err)
{
	return toml_parse(name, (struct str){text, len}, on_key, c, err);
}

static int read_all(int fd, struct buf *b, const char *path, struct err *err)
{
	ssize_t n;
	int r;

	do {
		r = buf_reserve(b, KiB(16));
		if (r < 0)
			return err_set(err, r, "%s: no memory", path);
		n = read(fd, b->data + b->len, b->cap - b->len);
		if (n < 0)
			return err_errno(err, -errno, "read %s", path);
		b->len += (size_t)n;
		if (b->len > CONFIG_FILE_MAX)
			return err_set(err, -EFBIG, "%s is larger than %zu bytes", path,
				       CONFIG_FILE_MAX);
	} while (n > 0);
	return 0;
}

int config_load(struct config *c, const char *path, bool must_exist, struct err *err)
{
	auto_buf struct buf b = BUF_INIT;
	auto_close int fd = -1;
	struct stat st;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		r = -errno;
		return r == -ENOENT && !must_exist ? 0 : err_errno(err, r, "open %s", path);
	}
	if (fstat(fd, &st) < 0)
		return err_errno(err, -errno, "stat %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s is not a regular file", path);
	r = read_all(fd, &b, path, err);
	if (r < 0)
		return r;
	return config_parse(c, path, (const char *)b.data, b.len, err);
}

static int set_flag(struct config *c, int flag, const char *value, struct err *err)
{
	struct str s = str_of(value);

	switch (flag) {
	case FLAG_ROOT:
		return set_path(&c->root, s, mount_path_fault(s), "--root", err);
	case FLAG_STATE:
		return set_path(&c->state, s, mount_path_fault(s), "--state", err);
	case FLAG_CONTAINERD:
		return set_path(&c->containerd.address, s, socket_path_fault(s), "--containerd",
				err);
	case FLAG_ADDRESS:
		return set_path(&c->address, s, socket_path_fault(s), "--address", err);
	case FLAG_METRICS:
		return set_metrics(&c->metrics.address, s, "--metrics", err);
	case FLAG_CONFIG:
		return set_path(&c->config_file, s, path_fault(s), "--config", err);
	case FLAG_LEVEL:
		return set_level(&c->log_level, s, "--log-level", err);
	case FLAG_VERSION:
		c->action = CONFIG_VERSION;
		return 0;
	default:
		c->action = CONFIG_HELP;
		return 0;
	}
}

/* Applies the command line; tells whether --config was there. */
static int set_flags(struct config *c, int argc, char **argv, bool *ret_named, struct err *err)
{
	int flag, r;

	optind = 0; /* glibc: start over */
	opterr = 0;
	while ((flag = getopt_long(argc, argv, ":", flags, NULL)) != -1) {
		if (flag == ':')
			return err_set(err, -EINVAL, "%s needs a value", argv[optind - 1]);
		if (flag == '?' && (unsigned char)optopt >= ' ')
			return err_set(err, -EINVAL, "-%c is not a flag", optopt);
		if (flag == '?')
			return err_set(err, -EINVAL, "%s is not a flag, or takes no value",
				       argv[optind - 1]);
		r = set_flag(c, flag, optarg, err);
		if (r < 0)
			return r;
		if (flag == FLAG_CONFIG)
			*ret_named = true;
	}
	if (optind < argc)
		return err_set(err, -EINVAL, "unexpected argument %s", argv[optind]);
	return 0;
}

/* The address follows from the state directory unless it was given. */
static int settle_address(struct config *c, struct err *err)
{
	auto_free char *address = NULL;
	struct str s;

	if (!c->root || !c->state || !c->config_file || !c->containerd.address ||
	    !c->containerd.snapshotter)
		return err_set(err, -ENOMEM, "no memory");
	if (c->address)
		return 0;
	if (asprintf(&address, "%s/%s", c->state, ADDRESS_NAME) < 0) {
		address = NULL;
		return err_set(err, -ENOMEM, "no memory");
	}
	s = str_of(address);
	return set_path(&c->address, s, socket_path_fault(s), "address", err);
}

int config_args(struct config *c, int argc, char **argv, struct err *err)
{
	bool named = false;
	int r;

	r = set_flags(c, argc, argv, &named, err);
	if (r < 0 || c->action != CONFIG_RUN)
		return r;
	if (c->config_file)
		r = config_load(c, c->config_file, named, err);
	if (r == 0)
		r = set_flags(c, argc, argv, &named, err);
	return r < 0 ? r : settle_address(c, err);
}
