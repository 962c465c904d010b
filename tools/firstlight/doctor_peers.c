// SPDX-License-Identifier: Apache-2.0
/* The daemon, containerd, registries: do they answer, do they know each other. Each phase has a
 * loop of its own; owns nothing beyond it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "client.h"
#include "doctor.h"
#include "image/hosts.h"
#include "loop/loop.h"
#include "net/grpc.h"
#include "options.h"
#include "proto/containerd.pb-c.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

#define CALL_MS       4000
#define REGISTRY_MS   4000
#define SKEW_MAX_S    300
#define MOUNTINFO_MAX MiB(16)

/* --- sockets ---------------------------------------------------------------------------------- */

/* Does somebody listen at path, and who? 0, -errno; -EAGAIN: too many wait already. */
static int knock(const char *path, pid_t *ret_pid)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred peer = {0};
	socklen_t n = sizeof(peer);

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0)
		*ret_pid = peer.pid;
	return 0;
}

/* Why nobody answers, in words; with what to do. */
static void tell_knock(struct finding *f, int r, const char *path, const char *start,
		       const char *option)
{
	char fix[TEXT_MAX];
	struct stat st;

	snprintf(fix, sizeof(fix), "%s; %s names another socket", start, option);
	if (r == -EACCES || r == -EPERM) {
		f->state = FINDING_SKIP;
		snprintf(f->text, sizeof(f->text), "no permission to open %s", path);
		snprintf(fix, sizeof(fix), "run it as root");
	} else if (r == -ENOENT || r == -ENOTDIR) {
		snprintf(f->text, sizeof(f->text), "not running: there is no %s", path);
	} else if (r == -ECONNREFUSED && stat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
		snprintf(f->text, sizeof(f->text), "%s is not a socket", path);
	} else if (r == -ECONNREFUSED) {
		snprintf(f->text, sizeof(f->text), "not running: nobody listens at %s", path);
	} else {
		snprintf(f->text, sizeof(f->text), "%s: %s", path, strerror(-r));
	}
	finding_advice(f, "containerd cannot use firstlight", fix);
}

/* --- calls ------------------------------------------------------------------------------------ */

struct call {
	struct doctor *d;
	struct grpc_client *grpc;
	struct err err;
};

static may_suspend enum grpc_code ask(struct call *c, const char *method,
				      const ProtobufCMessage *req, struct buf *answer)
{
	const struct grpc_metadata md = {"containerd-namespace", "default"};
	uint8_t bytes[256];

	require(protobuf_c_message_get_packed_size(req) <= sizeof(bytes));
	return grpc_unary(c->grpc, method, &md, 1, CALL_MS, bytes,
			  protobuf_c_message_pack(req, bytes), answer, &c->err);
}

/* Runs fn in a loop, connected to path. -errno: err has the cause. */
struct talk {
	struct call *call;
	const char *path;
	may_suspend int (*fn)(struct call *c);
};

static may_suspend int talk_main(void *arg)
{
	struct talk *t = arg;
	int r = grpc_dial(loop_self(), t->path, CALL_MS, &t->call->grpc, &t->call->err);

	if (r < 0)
		return r;
	r = t->fn(t->call);
	grpc_client_close(t->call->grpc);
	return r;
}

static int talk(struct call *c, const char *path, int (*fn)(struct call *c))
{
	struct talk t = {.call = c, .path = path, .fn = fn};
	struct loop *loop;
	int r = loop_new(&loop, &c->err);

	if (r < 0)
		return r;
	r = loop_run(loop, talk_main, &t);
	loop_free(loop);
	return r;
}

/* --- the daemon ------------------------------------------------------------------------------- */

static void tell_lazy(struct doctor *d, const Flc__VersionResponse *v)
{
	const char *why = "";
	struct finding *f;
	bool lazy = true;

	for (size_t i = 0; i < v->n_features; i++) {
		if (strcmp(v->features[i]->name, "lazy") == 0) {
			lazy = v->features[i]->on;
			why = v->features[i]->why;
		}
	}
	f = finding(d, "daemon-lazy", lazy ? FINDING_OK : FINDING_OFF, NEED_LAZY, "%s",
		    lazy ? "the daemon serves lazy layers" : why);
	if (!lazy)
		finding_advice(f, "every image is unpacked",
			       "see what is off above, then restart firstlightd");
}

static void tell_version(struct doctor *d, const Flc__VersionResponse *v)
{
	finding(d, "daemon", FINDING_OK, NEED_USE, "firstlightd %s at %s", v->version, d->address);
	if (strcmp(v->version, FIRSTLIGHT_VERSION) != 0)
		finding_advice(finding(d, "versions", FINDING_OFF, NEED_NOTHING,
				       "the daemon is %s, this is %s", v->version,
				       FIRSTLIGHT_VERSION),
			       "new commands may not work", "restart firstlightd after an upgrade");
	if (strcmp(v->root, d->root) != 0)
		finding_advice(finding(d, "daemon-root", FINDING_OFF, NEED_NOTHING,
				       "the daemon's root is %s; looked at was %s", v->root,
				       d->root),
			       "what is said above is of another directory",
			       "firstlight doctor --root with the daemon's root");
	tell_lazy(d, v);
}

static may_suspend int daemon_version(struct call *c)
{
	Flc__Empty req = FLC__EMPTY__INIT;
	auto_buf struct buf answer = BUF_INIT;
	Flc__VersionResponse *v;

	if (ask(c, CONTROL_METHOD("Version"), &req.base, &answer) != GRPC_OK)
		return c->err.code < 0 ? c->err.code : -EIO;
	v = flc__version_response__unpack(NULL, answer.len, answer.data);
	if (!v)
		return err_set(&c->err, -EBADMSG, "its answer cannot be read");
	tell_version(c->d, v);
	flc__version_response__free_unpacked(v, NULL);
	return 0;
}

void doctor_daemon(void *arg)
{
	struct doctor *d = arg;
	struct call c = {.d = d};
	struct finding *f;
	int r = knock(d->address, &d->daemon_pid);

	if (r < 0) {
		f = finding(d, "daemon", FINDING_OFF, NEED_USE, "%s", "");
		tell_knock(f, r, d->address, "systemctl start firstlightd", "--address");
		return;
	}
	if (!d->ring) {
		finding(d, "daemon", FINDING_SKIP, NEED_USE, "it listens; calls need io_uring");
		return;
	}
	r = talk(&c, d->address, daemon_version);
	if (r == 0)
		return;
	f = finding(d, "daemon", FINDING_FAIL, NEED_USE, "somebody listens at %s, but: %s",
		    d->address, err_text(&c.err, r));
	finding_advice(f, "containerd cannot use firstlight",
		       "the log of firstlightd may say why; an older one is restarted");
}

/* --- containerd ------------------------------------------------------------------------------- */

static const char *export_of(const Ctrd__Plugin *p, const char *name)
{
	for (size_t i = 0; i < p->n_exports; i++) {
		if (strcmp(p->exports[i]->key, name) == 0)
			return p->exports[i]->value;
	}
	return "";
}

static void tell_plugin(struct doctor *d, const Ctrd__Plugin *p)
{
	static const char costs[] = "containerd cannot use firstlight";
	static const char merge[] = "firstlight containerd-config --merge FILE, then restart "
				    "containerd";
	struct finding *f;

	if (!p) {
		f = finding(d, "plugin", FINDING_OFF, NEED_USE, "containerd has no snapshotter %s",
			    d->snapshotter);
		finding_advice(f, costs, merge);
	} else if (p->init_err && p->init_err->code) {
		f = finding(d, "plugin", FINDING_FAIL, NEED_USE, "%s: %s", d->snapshotter,
			    p->init_err->message);
		finding_advice(f, costs, "the log of containerd says more");
	} else if (strcmp(export_of(p, "address"), d->address) != 0) {
		f = finding(d, "plugin", FINDING_FAIL, NEED_USE, "%s is at %s for containerd",
			    d->snapshotter, export_of(p, "address"));
		finding_advice(f, costs, "the same address in both; or --address names it");
	} else {
		finding(d, "plugin", FINDING_OK, NEED_USE, "containerd has the snapshotter %s",
			d->snapshotter);
	}
}

static may_suspend void check_plugin(struct call *c)
{
	static char filter[] = "type==io.containerd.snapshotter.v1";
	char *filters[] = {filter};
	Ctrd__FiltersRequest req = CTRD__FILTERS_REQUEST__INIT;
	Ctrd__PluginsResponse *v = NULL;
	const Ctrd__Plugin *found = NULL;
	auto_buf struct buf answer = BUF_INIT;

	req.filters = filters;
	req.n_filters = 1;
	if (ask(c, "/containerd.services.introspection.v1.Introspection/Plugins", &req.base,
		&answer) == GRPC_OK)
		v = ctrd__plugins_response__unpack(NULL, answer.len, answer.data);
	if (!v) {
		finding(c->d, "plugin", FINDING_SKIP, NEED_USE, "%s", err_text(&c->err, -EBADMSG));
		return;
	}
	for (size_t i = 0; i < v->n_plugins; i++) {
		if (strcmp(v->plugins[i]->id, c->d->snapshotter) == 0)
			found = v->plugins[i];
	}
	tell_plugin(c->d, found);
	ctrd__plugins_response__free_unpacked(v, NULL);
}

static may_suspend int containerd_version(struct call *c)
{
	Ctrd__Empty req = CTRD__EMPTY__INIT;
	auto_buf struct buf answer = BUF_INIT;
	struct doctor *d = c->d;
	Ctrd__VersionResponse *v;

	if (ask(c, "/containerd.services.version.v1.Version/Version", &req.base, &answer) !=
	    GRPC_OK)
		return c->err.code < 0 ? c->err.code : -EIO;
	v = ctrd__version_response__unpack(NULL, answer.len, answer.data);
	if (!v)
		return err_set(&c->err, -EBADMSG, "its answer cannot be read");
	finding(d, "containerd", FINDING_OK, NEED_USE, "%s at %s", v->version, d->containerd);
	snprintf(d->containerd_version, sizeof(d->containerd_version), "%s", v->version);
	ctrd__version_response__free_unpacked(v, NULL);
	check_plugin(c);
	return 0;
}

static int read_mounts(pid_t pid, struct buf *text)
{
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
	r = file_read_all(path, MOUNTINFO_MAX, text, NULL);
	return r < 0 ? r : buf_append(text, "", 1);
}

/* The peer group (proc(5), mountinfo: "shared:N") of the mount that dir is in; 0: it has none, so
 * that what is mounted there is seen nowhere else. */
static unsigned peer_group(const char *mounts, const char *dir)
{
	size_t best = 0, n;
	unsigned group = 0;

	for (const char *line = mounts; *line; line += n + (line[n] == '\n')) {
		char point[PATH_MAX], tag[64];

		n = strcspn(line, "\n");
		if (sscanf(line, "%*s %*s %*s %*s %4095s %*s %63s", point, tag) != 2)
			continue;
		size_t len = strcmp(point, "/") == 0 ? 0 : strlen(point);

		if (len < best || strncmp(dir, point, len) != 0 || (dir[len] && dir[len] != '/'))
			continue;
		best = len;
		group = strncmp(tag, "shared:", 7) == 0 ? (unsigned)strtoul(tag + 7, NULL, 10) : 0;
	}
	return group;
}

/* Are mounts that the daemon makes below root passed on to containerd? */
static bool passed_on(const struct doctor *d)
{
	auto_buf struct buf ours = BUF_INIT, theirs = BUF_INIT;
	char shared[48], master[48];
	unsigned group;

	if (read_mounts(d->daemon_pid, &ours) < 0 || read_mounts(d->containerd_pid, &theirs) < 0)
		return false;
	group = peer_group((char *)ours.data, d->root);
	snprintf(shared, sizeof(shared), " shared:%u ", group);
	snprintf(master, sizeof(master), " master:%u ", group);
	return group &&
	       (strstr((char *)theirs.data, shared) || strstr((char *)theirs.data, master));
}

static void check_namespaces(struct doctor *d)
{
	char a[64], b[64];
	struct stat sa, sb;
	struct finding *f;

	if (!d->daemon_pid || !d->containerd_pid)
		return;
	snprintf(a, sizeof(a), "/proc/%d/ns/mnt", (int)d->daemon_pid);
	snprintf(b, sizeof(b), "/proc/%d/ns/mnt", (int)d->containerd_pid);
	if (stat(a, &sa) < 0 || stat(b, &sb) < 0) {
		finding(d, "mount-ns", FINDING_SKIP, NEED_LAZY, "/proc: %s", strerror(errno));
		return;
	}
	f = finding(d, "mount-ns", FINDING_OK, NEED_LAZY,
		    "containerd and the daemon have the same mounts");
	if (sa.st_ino == sb.st_ino)
		return;
	if (passed_on(d)) {
		snprintf(f->text, sizeof(f->text),
			 "the daemon's mounts are passed on to containerd");
		return;
	}
	f->state = FINDING_FAIL;
	snprintf(f->text, sizeof(f->text), "containerd does not see the daemon's mounts");
	finding_advice(f, "containers on lazy layers cannot be started",
		       "no PrivateTmp, ProtectSystem and the like for either service");
}

void doctor_containerd(void *arg)
{
	struct doctor *d = arg;
	struct call c = {.d = d};
	struct finding *f;
	int r = knock(d->containerd, &d->containerd_pid);

	if (r < 0) {
		f = finding(d, "containerd", FINDING_OFF, NEED_USE, "%s", "");
		tell_knock(f, r, d->containerd, "systemctl start containerd", "--containerd");
		return;
	}
	if (!d->ring) {
		finding(d, "containerd", FINDING_SKIP, NEED_USE, "it listens; calls need io_uring");
	} else {
		r = talk(&c, d->containerd, containerd_version);
		if (r < 0)
			finding_advice(finding(d, "containerd", FINDING_FAIL, NEED_USE,
					       "somebody listens at %s, but: %s", d->containerd,
					       err_text(&c.err, r)),
				       "no containers", "the log of containerd may say why");
	}
	check_namespaces(d);
}

/* --- registries ------------------------------------------------------------------------------- */

struct visit {
	struct doctor *d;
	struct http *http;
	int64_t date; /* the registry's; 0: it does not say */
};

static int on_head(void *arg, const struct http_head *head)
{
	struct str date = http_header(head, "date");
	struct visit *v = arg;
	struct tm tm = {0};
	char text[64];

	snprintf(text, sizeof(text), STR_FMT, STR_ARG(date));
	if (strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm))
		v->date = (int64_t)timegm(&tm);
	return 0;
}

static int on_body(void *arg, const void *data, size_t n)
{
	(void)arg, (void)data, (void)n;
	return 0;
}

static may_suspend int get(struct visit *v, const struct host *h, bool https, int *ret_status,
			   struct err *err)
{
	struct arena a;
	struct http_head head;
	struct http_request q = {.method = "GET",
				 .tls = &h->tls,
				 .headers = h->headers,
				 .headers_n = h->headers_n,
				 .connect_timeout_ms = REGISTRY_MS,
				 .timeout_ms = REGISTRY_MS,
				 .on_head = on_head,
				 .on_body = on_body,
				 .arg = v};
	int r;

	arena_init(&a, REGISTRY_MEMORY_MAX);
	q.url = arena_printf(&a, "%s://%s%s/", https ? "https" : "http", h->authority, h->path);
	r = q.url ? http_run(v->http, &q, &a, &head, err) : -ENOMEM;
	if (r == 0)
		*ret_status = head.status;
	arena_fini(&a);
	return r;
}

static void tell_failure(struct doctor *d, const struct host *h, int r, struct err *err)
{
	struct finding *f = finding(d, "registry", FINDING_OFF, NEED_NOTHING, "%s: %s",
				    h->authority, err_text(err, r));

	finding_advice(f, "nothing can be pulled from it",
		       r == -EKEYREJECTED ? "the clock; or its CA into hosts.toml or /etc/ssl/certs"
		       : r == -EHOSTUNREACH ? "the name, DNS, the route; a proxy if there is one"
		       : r == -EPROTONOSUPPORT
			       ? "it speaks plain HTTP: server = \"http://…\" in its hosts.toml"
			       : "is it running, does a firewall let us through?");
}

static void tell_status(struct doctor *d, const struct host *h, int status)
{
	struct finding *f;

	if (status == 200 || status == 401) {
		finding(d, "registry", FINDING_OK, NEED_NOTHING, "%s answers%s", h->authority,
			status == 401 ? " (and asks who we are)" : "");
		return;
	}
	f = finding(d, "registry", FINDING_OFF, NEED_NOTHING, "%s answers %d to %s/", h->authority,
		    status, h->path);
	finding_advice(f, "it may be no registry, or refuse us", "look at the address");
}

static void tell_date(struct visit *v, const struct host *h)
{
	int64_t skew = (int64_t)time(NULL) - v->date;
	struct finding *f;

	if (!v->date || (skew <= SKEW_MAX_S && skew >= -SKEW_MAX_S))
		return;
	f = finding(v->d, "clock-skew", FINDING_OFF, NEED_NOTHING,
		    "our clock is %lld s %s that of %s", (long long)(skew < 0 ? -skew : skew),
		    skew < 0 ? "behind" : "ahead of", h->authority);
	finding_advice(f, "certificates and tokens may be refused", "set the clock");
}

static may_suspend void visit_host(struct visit *v, const struct host *h)
{
	struct err err = ERR_INIT;
	int status = 0, r;

	v->date = 0;
	r = get(v, h, h->https, &status, &err);
	if (h->https && h->fallback &&
	    (r == -EPROTONOSUPPORT || (h->no_port && r == -ECONNREFUSED))) {
		err = ERR_INIT;
		r = get(v, h, false, &status, &err);
	}
	if (r < 0)
		tell_failure(v->d, h, r, &err);
	else
		tell_status(v->d, h, status);
	tell_date(v, h);
}

static may_suspend void visit_registry(struct visit *v, const char *ns)
{
	struct err err = ERR_INIT;
	struct hosts *h;
	int r = hosts_load(v->d->hosts_dirs, ns, &h, &err);

	if (r < 0) {
		finding(v->d, "registry", FINDING_OFF, NEED_NOTHING, "%s: %s", ns,
			err_text(&err, r));
		return;
	}
	for (size_t i = 0; i < h->n && i < REGISTRY_HOSTS_LOOK; i++)
		visit_host(v, &h->list[i]);
	hosts_free(h);
}

static may_suspend int visit_all(void *arg)
{
	struct doctor *d = arg;
	struct visit v = {.d = d};
	struct err err = ERR_INIT;
	int r = http_new(loop_self(), &v.http, &err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < d->registries->n; i++)
		visit_registry(&v, d->registries->items[i]);
	http_free(v.http);
	return 0;
}

void doctor_registries(void *arg)
{
	struct doctor *d = arg;
	struct err err = ERR_INIT;
	struct loop *loop;
	int r;

	if (!d->registries->n || !d->ring) {
		finding(d, "registry", FINDING_SKIP, NEED_NOTHING, "%s",
			d->ring ? "none was named (--registry HOST)" : "needs io_uring");
		return;
	}
	r = loop_new(&loop, &err);
	if (r == 0) {
		r = loop_run(loop, visit_all, d);
		loop_free(loop);
	}
	if (r < 0)
		finding(d, "registry", FINDING_SKIP, NEED_NOTHING, "%s", err_text(&err, r));
}
