// SPDX-License-Identifier: Apache-2.0
/* The scan. Owns nothing. Loop thread. */
#include "operator/scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/map.h"
#include "image/layer.h"
#include "operator/image.h"
#include "operator/pull.h"
#include "snap/snap.h"

#include "base/banned.h"

#define SNAPSHOTS "snapshots.v1.Snapshots"
#define REMOVED                                                                                    \
	"containerd has a record of this layer, its data is gone: record removed; pull the image " \
	"again"
#define HELD                                                                                       \
	"containerd has a record of this layer, its data is gone, and a container or a pull "      \
	"holds "                                                                                   \
	"it: remove the containers of the image"

/* A key that a namespace has: "NAMESPACE/KEY". */
struct known {
	struct map_node node;
};

struct scan {
	struct operator* op;
	struct arena *a; /* the report's */
	struct scan_report *report;
	struct map keys; /* known.node */
	char **namespaces;
	size_t namespaces_n;
	const char *ns; /* the one that is looked at */
	size_t ns_keys;
	int64_t start_ns; /* CLOCK_REALTIME */
	char **refused;   /* keys that containerd does not remove, SCAN_REFUSED_MAX */
	size_t refused_n;
};

static void keys_clear(struct scan *s)
{
	for (size_t i = 0; s->keys.slots && i < s->keys.size; i++) {
		while (s->keys.slots[i]) {
			struct known *k = container_of(s->keys.slots[i], struct known, node);

			map_del(&s->keys, &k->node);
			free(k);
		}
	}
}

static void line(struct scan *s, const char *what, const char *key)
{
	struct scan_report *r = s->report;
	char *text;

	if (r->lines_n == SCAN_LINES_MAX)
		return;
	log_warn("scan namespace=%s snapshot=\"%s\" %s", s->ns, key, what);
	text = arena_printf(s->a, "%s: %s: %s", s->ns, key, what);
	if (text)
		r->lines[r->lines_n++] = text;
}

/* --- what containerd has ---------------------------------------------------------------------- */

static int take_infos(void *arg, const ProtobufCMessage *answer)
{
	const Fl__ListResponse *m = (const void *)answer;
	struct scan *s = arg;
	size_t ns = strlen(s->ns);

	for (size_t i = 0; i < m->n_info; i++) {
		size_t n = strlen(m->info[i]->name);
		struct known *k;

		if (s->keys.count >= SCAN_KEYS_MAX)
			return -EFBIG;
		k = calloc(1, sizeof(*k) + ns + 1 + n);
		if (!k)
			return -ENOMEM;
		k->node.key = (struct str){(char *)(k + 1), ns + 1 + n};
		memcpy(k + 1, s->ns, ns);
		((char *)(k + 1))[ns] = '/';
		memcpy((char *)(k + 1) + ns + 1, m->info[i]->name, n);
		if (map_get(&s->keys, k->node.key)) { /* of an earlier round */
			free(k);
			continue;
		}
		map_put(&s->keys, &k->node);
		s->ns_keys++;
	}
	return 0;
}

may_suspend static int list(struct scan *s, struct err *err)
{
	const struct containerd_at at = {.ns = s->ns};
	Fl__ListRequest q = FL__LIST_REQUEST__INIT;

	unsigned waited_ms = 0;
	int r;

	q.snapshotter = (char *)(uintptr_t)s->op->options.snapshotter;
	do {
		r = containerd_stream(s->op->containerd, &at, SNAPSHOTS, "List", &q.base,
				      &fl__list_response__descriptor, take_infos, s, err);
	} while (r < 0 && containerd_finds_us(r, err, &waited_ms));
	return r;
}

/* --- records that we lack --------------------------------------------------------------------- */

may_suspend static int key_call(struct scan *s, const char *method, const char *key,
				const ProtobufCMessageDescriptor *type, struct err *err)
{
	const struct containerd_at at = {.ns = s->ns};
	Fl__KeyRequest q = FL__KEY_REQUEST__INIT;
	auto_arena struct arena a;
	void *m;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	q.snapshotter = (char *)(uintptr_t)s->op->options.snapshotter;
	q.key = (char *)(uintptr_t)key;
	return containerd_call(s->op->containerd, &at, SNAPSHOTS, method, &q.base, type, 0, &a, &m,
			       err);
}

enum finding { RECORD_NONE, RECORD_FINE, RECORD_EMPTY };

/* Has containerd a record of the key, and is there something behind it? Or -errno. The words tell:
 * a record that comes to be only now must not be taken for an empty one. */
may_suspend static int look(struct scan *s, const char *key)
{
	struct err why = ERR_INIT;
	int r = key_call(s, "Stat", key, &fl__info_response__descriptor, &why);

	if (r == -ENOENT)
		return strstr(why.text, SNAP_NOT_HERE) ? RECORD_EMPTY : RECORD_NONE;
	return r < 0 ? r : RECORD_FINE;
}

/* 0, or -EBUSY: containerd says that others hang on it. */
may_suspend static int take_out(struct scan *s, const char *key)
{
	struct err why = ERR_INIT;
	int r = key_call(s, "Remove", key, NULL, &why);

	if (r < 0)
		log_debug("scan snapshot=\"%s\" stays error=\"%s\"", key, why.text);
	if (r == 0) {
		s->report->missing++;
		s->report->repaired++;
		line(s, REMOVED, key);
	}
	return r == -EBUSY ? r : 0;
}

static bool has_key(struct scan *s, const char *ns, struct str key)
{
	auto_buf struct buf b = BUF_INIT;

	return buf_printf(&b, "%s/" STR_FMT, ns, STR_ARG(key)) == 0 &&
	       map_get(&s->keys, (struct str){(char *)b.data, b.len});
}

/* Refused: what hangs on it may be there no more, which only containerd's collection finds out. */
static void note_refused(struct scan *s, const char *key)
{
	char *copy;

	for (size_t i = 0; i < s->refused_n; i++) {
		if (strcmp(s->refused[i], key) == 0)
			return;
	}
	copy = s->refused_n < SCAN_REFUSED_MAX ? arena_strndup(s->a, key, strlen(key)) : NULL;
	if (copy)
		s->refused[s->refused_n++] = copy;
}

/* The image's config holds its top snapshot: from now on it holds the layers below `lowest`, so
 * that these stay and the others may go. */
may_suspend static int rehang(struct scan *s, const struct operator_image *im, size_t lowest)
{
	const struct containerd_at at = {.ns = s->ns};
	Fl__Label label = FL__LABEL__INIT, *labels = &label;
	char chain[DIGEST_TEXT_SIZE] = "", key[128];

	if (lowest)
		digest_text(&im->layers[lowest - 1].chain, chain);
	snprintf(key, sizeof(key), "containerd.io/gc.ref.snapshot.%s", s->op->options.snapshotter);
	label.key = key;
	label.value = chain; /* empty: it goes */
	return containerd_content_label(s->op->containerd, &at, &im->config, &labels, 1, NULL);
}

/* How containerd has layer i, as enum finding, or -errno. */
may_suspend static int look_at_layer(struct scan *s, const struct operator_image *im, size_t i,
				     char chain[DIGEST_TEXT_SIZE])
{
	digest_text(&im->layers[i].chain, chain);
	return has_key(s, s->ns, str_of(chain)) ? RECORD_FINE : look(s, chain);
}

/* From the top of an image down to its lowest layer whose record leads nowhere, all goes: what lies
 * above that one is of no use. */
may_suspend static int repair_image(void *arg, struct arena *a, const struct operator_image *im)
{
	char chain[DIGEST_TEXT_SIZE];
	size_t lowest = im->layers_n;
	struct scan *s = arg;
	int r = RECORD_NONE;

	(void)a;
	for (size_t i = 0; i < lowest && r != -ENOTCONN && r != -ECANCELED; i++) {
		r = look_at_layer(s, im, i, chain);
		if (r == RECORD_EMPTY)
			lowest = i;
	}
	if (r >= 0 && lowest < im->layers_n)
		r = rehang(s, im, lowest);
	for (size_t i = im->layers_n; r >= 0 && i-- > lowest;) {
		r = look_at_layer(s, im, i, chain);
		if (r > RECORD_NONE && take_out(s, chain) == -EBUSY)
			note_refused(s, chain);
	}
	return r == -ENOTCONN || r == -ECANCELED ? r : 0;
}

/* What nothing refers to any more goes now. */
may_suspend static int collect_refused(struct scan *s, struct err *err)
{
	int r = s->refused_n ? operator_collect(s->op, err) : 0;

	for (size_t i = 0; r == 0 && i < s->refused_n; i++) {
		const char *key = s->refused[i];
		int is = look(s, key);

		if (is == -ENOTCONN || is == -ECANCELED)
			return err_set(err, is, "containerd: Stat");
		if (is < 0 || is == RECORD_FINE)
			continue;
		s->report->missing++;
		s->report->repaired += is == RECORD_NONE;
		line(s, is == RECORD_NONE ? REMOVED : HELD, key);
	}
	s->refused_n = 0;
	return r;
}

/* The key in "snapshot NS/NUMBER/KEY" SNAP_NOT_HERE; NULL = there is none. */
static const char *key_in(struct scan *s, const struct err *why)
{
	const char *at = strstr(why->text, "snapshot "), *end, *slash;
	struct digest d;

	if (!at)
		return NULL;
	at += sizeof("snapshot ") - 1;
	end = strstr(at, SNAP_NOT_HERE);
	if (end && (size_t)(end - at) >= DIGEST_TEXT_SIZE - 1 &&
	    digest_parse((struct str){at, DIGEST_TEXT_SIZE - 1}, &d) == 0)
		return arena_strndup(s->a, at, DIGEST_TEXT_SIZE - 1); /* a lazy one */
	if (!end || strncmp(at, s->ns, strlen(s->ns)) != 0 || at[strlen(s->ns)] != '/')
		return NULL;
	slash = memchr(at + strlen(s->ns) + 1, '/', (size_t)(end - at) - strlen(s->ns) - 1);
	return slash ? arena_strndup(s->a, slash + 1, (size_t)(end - slash) - 1) : NULL;
}

/* Of an image, or of one that was being unpacked. */
static bool is_layer(const char *key)
{
	struct digest d;

	return digest_parse(str_of(key), &d) == 0 || strncmp(key, "extract-", 8) == 0;
}

/* 0: look again; else there is nothing more that could be done. */
may_suspend static int repair(struct scan *s, const struct err *why, const char *last)
{
	const char *key = key_in(s, why);

	if (!key || (last && strcmp(key, last) == 0))
		return -EEXIST;
	if (!is_layer(key)) {
		s->report->missing++;
		line(s,
		     "containerd has a record of this snapshot, its data is gone: remove the "
		     "container",
		     key);
		return -EEXIST;
	}
	if (operator_images(s->op, s->ns, repair_image, s, NULL) < 0)
		return -EIO;
	if (look(s, key) == RECORD_EMPTY && take_out(s, key) == -EBUSY) /* no image has it */
		note_refused(s, key);
	return collect_refused(s, NULL);
}

/* Its snapshot is only told. */
may_suspend static int check_container(struct scan *s, const Ctrd__Container *c)
{
	int r;

	if (strcmp(c->snapshotter, s->op->options.snapshotter) != 0 || !c->snapshot_key[0] ||
	    has_key(s, s->ns, str_of(c->snapshot_key)))
		return 0;
	r = look(s, c->snapshot_key);
	if (r == RECORD_NONE || r == RECORD_EMPTY) {
		s->report->missing++;
		line(s, "the container's snapshot is gone: remove the container", c->snapshot_key);
	}
	return r == -ENOTCONN || r == -ECANCELED ? r : 0;
}

may_suspend static int check_containers(struct scan *s, struct err *err)
{
	const struct containerd_at at = {.ns = s->ns};
	Ctrd__FiltersRequest q = CTRD__FILTERS_REQUEST__INIT;
	Ctrd__ContainersResponse *m;
	auto_arena struct arena a;
	int r;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	r = containerd_call(s->op->containerd, &at, "containers.v1.Containers", "List", &q.base,
			    &ctrd__containers_response__descriptor, 0, &a, &m, err);
	for (size_t i = 0; r == 0 && i < m->n_containers; i++) {
		r = check_container(s, m->containers[i]);
		if (r < 0)
			err_errno(err, r, "containerd: Stat");
	}
	return r;
}

may_suspend static int scan_namespace(struct scan *s, struct err *err)
{
	const char *last = NULL;
	int r = -ENOENT;

	s->ns_keys = 0;
	for (int i = 0; i < SCAN_ROUNDS_MAX && r == -ENOENT; i++) {
		struct err why = ERR_INIT;

		r = list(s, &why);
		if (r == -ENOENT && repair(s, &why, last) < 0) {
			line(s, "containerd cannot list its snapshots before that is solved", "-");
			return 0;
		}
		if (r < 0 && r != -ENOENT)
			return err_set(err, r, "%s", err_text(&why, r));
		last = r == -ENOENT ? key_in(s, &why) : NULL;
	}
	if (r == 0) /* 1.6 passes over what it does not find here */
		r = operator_images(s->op, s->ns, repair_image, s, err);
	if (r == 0)
		r = collect_refused(s, err);
	if (r == 0)
		r = check_containers(s, err);
	s->report->snapshots += s->ns_keys;
	return r;
}

/* --- ours that nobody knows ------------------------------------------------------------------- */

/* "NS/NUMBER/KEY": is it one of theirs? */
static bool known_name(struct scan *s, struct str name)
{
	const char *one = name.len ? memchr(name.p, '/', name.len) : NULL, *two;
	auto_buf struct buf key = BUF_INIT;
	size_t rest = one ? (size_t)(name.p + name.len - one) - 1 : 0;

	two = rest ? memchr(one + 1, '/', rest) : NULL;
	if (!two)
		return false;
	if (buf_append(&key, name.p, (size_t)(one - name.p)) < 0 ||
	    buf_append(&key, two, (size_t)(name.p + name.len - two)) < 0)
		return true; /* no memory: it is not called unknown */
	return map_get(&s->keys, (struct str){(char *)key.data, key.len}) != NULL;
}

/* A lazy layer has its reference as a name, and each namespace keeps it under that. */
static bool known_layer(struct scan *s, const struct record *rec)
{
	const struct label *ref =
		label_find(rec->labels, rec->labels_n, STR("containerd.io/snapshot.ref"));

	for (size_t i = 0; ref && i < s->namespaces_n; i++) {
		if (has_key(s, s->namespaces[i], ref->value))
			return true;
	}
	return false;
}

static bool is_unknown(struct scan *s, const struct snap_info *info)
{
	if (info->record.created_ns >= s->start_ns)
		return false; /* since the lists were read */
	return info->record.layer ? !known_layer(s, &info->record) : !known_name(s, info->name);
}

may_suspend static int count_unknown(struct scan *s, struct err *err)
{
	struct snaps_walk *walk = NULL;
	struct snap_info *infos = calloc(LIST_BLOCK, sizeof(*infos));
	auto_arena struct arena a;
	int n = 0, r = infos ? snaps_walk_new(s->op->options.snaps, NULL, &walk, err)
			     : err_set(err, -ENOMEM, "out of memory");

	arena_init(&a, SIZE_MAX / 2); /* LIST_BLOCK records, each of bounded size */
	while (r == 0 && (n = snaps_walk_next(s->op->options.snaps, walk, &a, infos, err)) > 0) {
		for (int i = 0; i < n; i++)
			s->report->unknown += is_unknown(s, &infos[i]);
		arena_reset(&a);
	}
	snaps_walk_free(walk);
	free(infos);
	return r < 0 ? r : n < 0 ? n : 0;
}

/* --- layers whose index is lost ----------------------------------------------------------------
 */

/* They keep their place until nothing uses them: then a pull makes the index again. */
static void check_indexes(struct scan *s)
{
	struct layers *layers = s->op->options.layers;

	s->ns = "firstlight";
	for (uint32_t id = 0; layers && (id = layers_next(layers, id));) {
		const struct layer *l = layers_get(layers, id);
		char blob[DIGEST_TEXT_SIZE];

		if (!l || !l->lost)
			continue;
		digest_text(&l->blob, blob);
		s->report->missing++;
		line(s, "the index of this layer is lost: remove its images, and pull them again",
		     blob);
	}
}

/* --- all of it -------------------------------------------------------------------------------- */

may_suspend static int scan_all(struct scan *s, struct err *err)
{
	int r = operator_namespaces(s->op, s->a, &s->namespaces, &s->namespaces_n, err);

	s->start_ns = wall_now_ns();
	for (size_t i = 0; i < s->namespaces_n && r == 0; i++) {
		s->ns = s->namespaces[i];
		r = scan_namespace(s, err);
	}
	s->report->namespaces = s->namespaces_n;
	if (r == 0)
		check_indexes(s);
	return r == 0 ? count_unknown(s, err) : r;
}

may_suspend int operator_scan(struct operator* op, struct arena *a, struct scan_report *ret,
			      struct err *err)
{
	struct scan s = {.op = op, .a = a, .report = ret};
	int r;

	*ret = (struct scan_report){.lines = arena_alloc(a, SCAN_LINES_MAX * sizeof(char *))};
	s.refused = arena_alloc(a, SCAN_REFUSED_MAX * sizeof(char *));
	if (!ret->lines || !s.refused || map_init(&s.keys) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = mutex_lock(&op->scanning);
	if (r == 0) {
		r = scan_all(&s, err);
		mutex_unlock(&op->scanning);
	} else {
		err_set(err, r, "cancelled");
	}
	keys_clear(&s);
	map_fini(&s.keys);
	if (r == 0)
		log_info("scan snapshots=%" PRIu64 " namespaces=%" PRIu64 " missing=%" PRIu64
			 " repaired=%" PRIu64 " unknown=%" PRIu64,
			 ret->snapshots, ret->namespaces, ret->missing, ret->repaired,
			 ret->unknown);
	return r;
}

may_suspend static int start_task(void *arg)
{
	struct operator* op = arg;
	unsigned wait_ms = SCAN_RETRY_MS;
	int r = -ENOTCONN;

	while (r == -ENOTCONN || r == -ECONNREFUSED || r == -ECONNRESET) {
		struct scan_report report;
		struct err err = ERR_INIT;
		auto_arena struct arena a;

		arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
		if (task_sleep_ms(wait_ms) < 0)
			return 0;
		r = operator_scan(op, &a, &report, &err);
		if (r < 0)
			log_debug("scan error=\"%s\"", err_text(&err, r));
		wait_ms = wait_ms * 2 < SCAN_RETRY_MAX_MS ? wait_ms * 2 : SCAN_RETRY_MAX_MS;
	}
	return 0;
}

int operator_scan_start(struct operator* op, struct err *err)
{
	int r = scope_spawn(&op->scope, start_task, op, NULL);

	return r < 0 ? err_errno(err, r, "start the scan") : 0;
}
