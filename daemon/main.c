// SPDX-License-Identifier: Apache-2.0
/*
 * firstlightd: arguments and settings, the keeper, and in its child the worker: wiring and the
 * order of start and shutdown. The only file that knows all modules.
 */
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "api/control.h"
#include "api/metrics.h"
#include "api/request.h"
#include "api/snapshots.h"
#include "base/limits.h"
#include "base/log.h"
#include "config.h"
#include "format.h"
#include "fs/fill.h"
#include "fs/mount.h"
#include "image/fetch.h"
#include "image/layer.h"
#include "image/prefetch.h"
#include "image/registry.h"
#include "image/resolve.h"
#include "keeper.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "net/grpc.h"
#include "net/http.h"
#include "operator/operator.h"
#include "operator/scan.h"
#include "predict/profiles.h"
#include "snap/snap.h"
#include "start/starts.h"
#include "store/kv.h"
#include "store/meta.h"
#include "store/objects.h"

#include "base/banned.h"

#define RESTART_CHECK_MS 1000

/* What lazy layers need, in the order of its making. */
struct lazy {
	int root_fd;
	struct work *threads, *fetch_threads; /* look-ups and records; contents */
	struct objects *objects;
	struct layers *layers;
	struct http *http;
	struct registry *registry;
	struct resolver *resolver;
	struct fetcher *fetcher;
	struct prefetcher *prefetcher;
	struct fill *fill;
	struct profiles *profiles;
	struct starts *starts;
};

struct daemon {
	const struct config *config;
	const struct worker_fds *fds;
	struct loop *loop;
	struct mount_features features;
	const char *lazy_off; /* why; NULL = it is on */
	struct kv *kv;
	struct meta *meta;
	struct lazy lazy;
	struct snaps *snaps;
	struct operator* operator;
	struct services services;
	struct grpc_method *methods;
	struct grpc_server *server;
	struct metrics *metrics; /* NULL: not wanted */
	struct scope scope;
	struct waitq stop;
	char plain_file[4096 + 16]; /* ROOT/plain-http */
	bool stopping;
	uint64_t boot;
	int exit_code;
};

/* --- ROOT/format ------------------------------------------------------------------------------ */

static int format_write(int root_fd, struct err *err)
{
	char text[32];
	auto_close int fd =
		openat(root_fd, "format.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int n = snprintf(text, sizeof(text), "firstlight %d\n", FORMAT_VERSION);

	if (fd < 0 || write(fd, text, (size_t)n) != n || fsync(fd) < 0 ||
	    renameat(root_fd, "format.new", root_fd, "format") < 0 || fsync(root_fd) < 0)
		return err_errno(err, -errno, "write the format file");
	return 0;
}

/* 0: a version that is known here; -ENOENT: none yet; -ENOTSUP, -EINVAL: not to be touched. */
static int format_read(int root_fd, const char *root, struct err *err)
{
	auto_close int fd = openat(root_fd, "format", O_RDONLY | O_CLOEXEC);
	char text[64] = "";
	unsigned version;
	char end;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return err_errno(err, -errno, "read %s/format", root);
	if (sscanf(text, "firstlight %u%c", &version, &end) != 2 || end != '\n')
		return err_set(err, -EINVAL, "%s/format is damaged: not touched", root);
	if (version > FORMAT_VERSION)
		return err_set(err, -ENOTSUP,
			       "%s was written by a newer firstlight (format %u; this one knows "
			       "%d): not touched",
			       root, version, FORMAT_VERSION);
	return 0;
}

/* Reads the version before anything else is opened; a new root gets one. */
static int format_check(const char *root, struct err *err)
{
	auto_close int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int r;

	if (root_fd < 0)
		return err_errno(err, -errno, "open %s", root);
	r = format_read(root_fd, root, err);
	if (r != -ENOENT)
		return r;
	if (fstatat(root_fd, "db", &st, 0) == 0)
		return err_set(err, -EINVAL, "%s has a database but no format file: not touched",
			       root);
	return format_write(root_fd, err);
}

/* Before the keeper writes its lock file: is the root one that must not be touched? */
static bool format_refused(const char *root, struct err *err)
{
	auto_close int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = root_fd < 0 ? 0 : format_read(root_fd, root, err);

	return r == -ENOTSUP || r == -EINVAL;
}

/*
 * RocksDB makes a new database where CURRENT is missing, and the directories of all snapshots would
 * be trash then. Without any snapshot there is nothing to lose: the first start was cut short.
 */
static int database_check(const char *root, const char *db, struct err *err)
{
	auto_closedir DIR *dir = NULL;
	struct dirent *e;
	char path[4096 + 16];

	snprintf(path, sizeof(path), "%s/CURRENT", db);
	if (access(path, F_OK) == 0)
		return 0;
	if (errno != ENOENT)
		return err_errno(err, -errno, "look for %s", path);
	snprintf(path, sizeof(path), "%s/snapshots", root);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : err_errno(err, -errno, "open %s", path);
	while ((e = readdir(dir))) {
		if (e->d_name[0] != '.')
			return err_set(err, -EBADMSG,
				       "%s has snapshots, but its database has lost its "
				       "file CURRENT: not touched",
				       root);
	}
	return 0;
}

/* --- the worker ------------------------------------------------------------------------------- */

static void stop(struct daemon *d, int exit_code)
{
	d->stopping = true;
	d->exit_code = exit_code;
	waitq_wake_all(&d->stop);
}

may_suspend static int accept_task(void *arg)
{
	struct daemon *d = arg;
	int r = grpc_server_run(d->server, d->fds->listen_fd);

	if (r != -ECANCELED) {
		log_error("accept error=\"%s\"", strerror(-r));
		stop(d, 1);
	}
	return 0;
}

may_suspend static int signal_task(void *arg)
{
	struct daemon *d = arg;
	struct signalfd_siginfo si;
	auto_close int fd = -1;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (io_read(fd, &si, sizeof(si), 0, 0) == sizeof(si))
		stop(d, 0);
	return 0;
}

/* Opening the database writes tables and logs. */
static bool room_to_open(const char *root)
{
	struct statvfs v;

	return statvfs(root, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize >= KV_OPEN_FREE_MIN;
}

/* A store that has failed comes back by a new start, once the disk takes data again. Until then
 * this worker answers reads; one that cannot open the database would not. */
may_suspend static int restart_task(void *arg)
{
	struct daemon *d = arg;

	while (task_sleep_ms(RESTART_CHECK_MS) == 0) {
		if (snaps_want_restart(d->snaps) && room_to_open(d->config->root)) {
			log_warn("restart reason=\"the store failed and the disk works again\"");
			stop(d, 1);
			break;
		}
	}
	return 0;
}

static int serve_metrics(struct daemon *d, struct err *err)
{
	const struct metrics_options o = {.address = d->config->metrics.address,
					  .services = &d->services,
					  .server = d->server,
					  .restarts = d->fds->restarts,
					  .keeper_start_s = d->fds->keeper_start_s};

	return o.address ? metrics_new(d->loop, &o, &d->metrics, err) : 0;
}

static int spawn_all(struct daemon *d, struct err *err)
{
	int r = scope_spawn(&d->scope, signal_task, d, NULL);

	if (r == 0)
		r = scope_spawn(&d->scope, restart_task, d, NULL);
	if (r == 0)
		r = scope_spawn(&d->scope, accept_task, d, NULL);
	return r < 0 ? err_errno(err, r, "start tasks") : 0;
}

static void services_init(struct daemon *d)
{
	const struct lazy *l = &d->lazy;

	d->services = (struct services){
		.loop = d->loop,
		.snaps = d->snaps,
		.layers = l->layers,
		.objects = l->objects,
		.registry = l->registry,
		.fetcher = l->fetcher,
		.fill = l->fill,
		.starts = l->starts,
		.profiles = l->profiles,
		.operator= d->operator,
		.threads = l->threads,
		.features = &d->features,
		.root = d->config->root,
		.state = d->config->state,
		.address = d->config->address,
		.containerd_address = d->config->containerd.address,
		.store_max = d->config->lazy.store_max,
		.lazy_off = d->lazy_off,
		.start_ns = loop_now_ns(d->loop),
		.keeper = getppid(),
	};
}

/* Both services on one server. */
static int serve_calls(struct daemon *d, struct err *err)
{
	size_t n, m;
	const struct grpc_method *snapshots = snapshots_methods(&n);
	const struct grpc_method *control = control_methods(&m);

	const struct operator_options o = {.address = d->config->containerd.address,
					   .snapshotter = d->config->containerd.snapshotter,
					   .snaps = d->snaps,
					   .layers = d->lazy.layers,
					   .objects = d->lazy.objects,
					   .registry = d->lazy.registry,
					   .resolver = d->lazy.resolver,
					   .threads = d->lazy.threads};
	int r = operator_new(d->loop, &o, &d->operator, err);

	if (r == 0)
		r = operator_scan_start(d->operator, err);
	if (r < 0)
		return r;
	services_init(d);
	control_events_start();
	d->methods = calloc(n + m, sizeof(*d->methods));
	if (!d->methods)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(d->methods, snapshots, n * sizeof(*snapshots));
	memcpy(d->methods + n, control, m * sizeof(*control));
	return grpc_server_new(d->loop, d->methods, n + m, &d->services, &d->server, err);
}

may_suspend static int serve_snapshots(struct daemon *d, struct err *err)
{
	const struct snaps_options options = {
		.root = d->config->root,
		.boot = d->boot,
		.features = d->features,
		.volatile_upper = d->config->snapshot.volatile_upper,
		.sync = d->config->snapshot.sync,
		.upperdir_label = d->config->snapshot.upperdir_label,
		.lazy = {.layers = d->lazy.layers,
			 .resolver = d->lazy.resolver,
			 .fetcher = d->lazy.fetcher,
			 .starts = d->lazy.starts,
			 .serve = d->lazy.fill != NULL,
			 .erofs_file = d->features.erofs_file && d->config->lazy.erofs_file},
	};
	int r = snaps_new(d->loop, &options, d->meta, &d->snaps, err);

	if (r == 0)
		r = serve_calls(d, err);
	if (r == 0)
		r = serve_metrics(d, err);
	if (r == 0)
		r = spawn_all(d, err);
	if (r < 0)
		return r;
	if (write(d->fds->ready_fd, "r", 1) < 0)
		log_warn("the keeper does not listen");
	while (!d->stopping)
		waitq_wait_always(&d->stop);
	return 0;
}

/* Without an id every start is taken for another boot: what may not be on the disk is checked. */
static uint64_t boot_hash(void)
{
	char text[64] = "";
	auto_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	uint64_t h = 14695981039346656037ull; /* FNV-1a */
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text));

	if (n <= 0) {
		log_warn("the boot id cannot be read");
		n = getrandom(text, sizeof(text), 0);
	}
	for (ssize_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)text[i]) * 1099511628211ull;
	return h;
}

/* Records of lazy layers are known even where none can be mounted, so that they can be removed. */
may_suspend static int lazy_store(struct daemon *d, struct err *err)
{
	struct lazy *l = &d->lazy;
	struct objects_options options = {.boot = d->boot, .bytes_max = d->config->lazy.store_max};
	int r;

	l->root_fd = open(d->config->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->root_fd < 0)
		return err_errno(err, -errno, "open %s", d->config->root);
	options.root_fd = l->root_fd;
	r = work_new(d->loop, "image", WORK_THREADS_IMAGE, &l->threads, err);
	if (r == 0)
		r = work_new(d->loop, "fetch", WORK_THREADS_FETCH, &l->fetch_threads, err);
	if (r == 0)
		r = objects_new(d->loop, d->meta, l->threads, &options, &l->objects, err);
	if (r == 0)
		r = layers_new(d->loop, d->meta, l->objects, l->threads, l->root_fd, &l->layers,
			       err);
	return r;
}

static bool lazy_possible(struct daemon *d)
{
	const struct mount_features *f = &d->features;
	const char *why = NULL;

	if (!d->config->lazy.enabled)
		why = "switched off in the settings";
	else if (d->fds->fuse_fd < 0)
		why = "no FUSE mount (the keeper says why)";
	else if (!(f->erofs_file && d->config->lazy.erofs_file) && !f->erofs_loop)
		why = f->why_erofs_loop;
	else if (!f->data_only)
		why = f->why_data_only;
	if (why)
		log_warn("lazy layers are off: every image is unpacked why=\"%s\"", why);
	d->lazy_off = why;
	return !why;
}

static void on_fuse_read(void *arg, uint64_t object, uint64_t off, uint64_t len, pid_t pid)
{
	starts_fuse_read(arg, object, off, len, pid);
}

static void on_looked_for(void *arg, struct str ref, const struct digest *blobs, size_t n)
{
	starts_expect(arg, ref, blobs, n);
}

static int watch_starts(struct daemon *d, struct err *err)
{
	const struct config *c = d->config;
	struct lazy *l = &d->lazy;
	const struct starts_options o = {.loop = d->loop,
					 .threads = l->threads,
					 .layers = l->layers,
					 .objects = l->objects,
					 .fetcher = l->fetcher,
					 .prefetcher = l->prefetcher,
					 .profiles = l->profiles,
					 .root = c->root,
					 .bpf = c->start.bpf,
					 .watch_ms = (unsigned)c->start.watch_s * 1000,
					 .quiet_ms = (unsigned)c->start.quiet_s * 1000};
	int r = starts_new(&o, &l->starts, err);

	if (r == 0) {
		fill_watch(l->fill, on_fuse_read, l->starts);
		resolver_watch(l->resolver, on_looked_for, l->starts);
	}
	return r;
}

may_suspend static int lazy_serve(struct daemon *d, struct err *err)
{
	struct lazy *l = &d->lazy;
	const struct registry_options registry = {.hosts_dirs = d->config->registry.hosts_dirs,
						  .docker_config =
							  d->config->registry.docker_config,
						  .user_agent = "firstlight/" FIRSTLIGHT_VERSION,
						  .plain_file = d->plain_file,
						  .logins_fd = d->fds->logins_fd};
	const struct fill_options fill = {.fuse_fd = d->fds->fuse_fd,
					  .state_fd = d->fds->fill_state_fd,
					  .root_fd = l->root_fd,
					  .passthrough = d->config->lazy.passthrough};
	int r = http_new(d->loop, &l->http, err);

	snprintf(d->plain_file, sizeof(d->plain_file), "%s/plain-http", d->config->root);
	if (r == 0)
		r = registry_new(d->loop, l->http, l->threads, &registry, &l->registry, err);
	if (r == 0)
		r = resolver_new(d->loop, l->registry, l->layers, l->threads, &l->resolver, err);
	if (r == 0)
		r = fetcher_new(d->loop, l->registry, l->layers, l->objects, l->fetch_threads,
				&l->fetcher, err);
	if (r == 0)
		r = prefetcher_new(d->loop, l->resolver, l->objects, l->fetcher, l->threads,
				   &l->prefetcher, err);
	if (r == 0)
		r = fill_new(d->loop, l->objects, l->fetcher, &fill, &l->fill, err);
	return r < 0 ? r : watch_starts(d, err);
}

/* Nobody calls any more. */
may_suspend static void lazy_stop(struct lazy *l)
{
	if (l->layers)
		layers_stop(l->layers);
	fill_free(l->fill);
	if (l->resolver)
		resolver_watch(l->resolver, NULL, NULL);
	starts_stop(l->starts);
	prefetcher_stop(l->prefetcher);
	fetcher_free(l->fetcher);
}

may_suspend static void lazy_free(struct lazy *l)
{
	starts_free(l->starts);
	profiles_free(l->profiles);
	prefetcher_free(l->prefetcher);
	resolver_free(l->resolver);
	registry_free(l->registry);
	http_free(l->http);
	layers_free(l->layers);
	objects_free(l->objects);
	work_free(l->threads);
	work_free(l->fetch_threads);
	if (l->root_fd >= 0)
		close(l->root_fd);
}

may_suspend static int serve(struct daemon *d, struct err *err)
{
	int root_fd = open(d->config->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (root_fd < 0)
		return err_errno(err, -errno, "open %s", d->config->root);
	r = meta_new(d->loop, take_ptr(d->kv), root_fd, &d->meta, err);
	if (r == 0)
		r = lazy_store(d, err);
	if (r == 0) /* also where nothing is lazy: they are told, and removed */
		r = profiles_new(d->meta, &d->lazy.profiles, err);
	if (r == 0 && lazy_possible(d))
		r = lazy_serve(d, err);
	return r < 0 ? r : serve_snapshots(d, err);
}

/* Of a start that failed. What is damaged or too new does not heal by itself. */
static int exit_code_of(int r)
{
	return r == -ENOTSUP || r == -EINVAL || r == -EBADMSG ? WORKER_REFUSED : 1;
}

may_suspend static int worker_main(void *arg)
{
	struct daemon *d = arg;
	struct err err = ERR_INIT;
	int r;

	scope_init(&d->scope, d->loop);
	waitq_init(&d->stop);
	r = serve(d, &err);
	if (r < 0)
		log_error("cannot serve error=\"%s\"", err_text(&err, r));
	scope_cancel(&d->scope);
	scope_wait(&d->scope);
	metrics_free(d->metrics);
	if (d->server)
		grpc_server_drain(d->server, DRAIN_TIMEOUT_MS);
	grpc_server_free(d->server);
	operator_free(d->operator);
	free(d->methods);
	lazy_stop(&d->lazy);
	snaps_free(d->snaps);
	lazy_free(&d->lazy);
	meta_free(d->meta);
	scope_fini(&d->scope);
	return r < 0 ? exit_code_of(r) : d->exit_code;
}

/* Many connections and iterators: as many descriptors as the system allows. */
static void raise_limits(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	mallopt(M_ARENA_MAX, 2); /* few threads, little memory */
}

static int prepare(struct daemon *d, struct err *err)
{
	const char *root = d->config->root;
	char db[4096];
	int r;

	snprintf(db, sizeof(db), "%s/db", root);
	r = format_check(root, err);
	if (r == 0)
		r = mount_probe(root, &d->features, err);
	if (r == 0 && mkdir(db, 0700) < 0 && errno != EEXIST)
		r = err_errno(err, -errno, "mkdir %s", db);
	if (r == 0)
		r = database_check(root, db, err);
	if (r < 0)
		return r;
	log_info("kernel overlay=%d index_off=%d userxattr=%d volatile=%d idmap=%d why=\"%s\"",
		 d->features.overlay, d->features.index_off, d->features.userxattr,
		 d->features.volatile_upper, d->features.idmap, d->features.why);
	r = loop_new(&d->loop, err);
	if (r == -ENOSYS || r == -EPERM || r == -EACCES)
		return err_wrap(err, -ENOTSUP, "no event loop");
	return r < 0 ? r : kv_rocks_open(db, &d->kv, err);
}

static int worker(const struct config *config, const struct worker_fds *fds)
{
	struct daemon d = {.config = config, .fds = fds, .lazy.root_fd = -1};
	struct err err = ERR_INIT;
	int r;

	log_init(config->log_level, "worker");
	umask(0);
	raise_limits();
	d.boot = boot_hash();
	r = prepare(&d, &err);
	if (r < 0) {
		log_error("cannot start error=\"%s\"", err_text(&err, r));
		r = exit_code_of(r);
	} else {
		r = loop_run(d.loop, worker_main, &d);
	}
	loop_free(d.loop);
	return r;
}

int main(int argc, char **argv)
{
	auto_config struct config config;
	struct err err = ERR_INIT;

	config_init(&config);
	if (config_args(&config, argc, argv, &err) < 0) {
		fprintf(stderr, "firstlightd: %s\n", err.text);
		return 2;
	}
	if (config.action == CONFIG_HELP) {
		fputs(config_usage(), stdout);
		return 0;
	}
	if (config.action == CONFIG_VERSION) {
		puts("firstlightd " FIRSTLIGHT_VERSION);
		return 0;
	}
	if (format_refused(config.root, &err)) {
		fprintf(stderr, "firstlightd: %s\n", err.text);
		return 1;
	}
	return keeper_run(&config, worker);
}
