// SPDX-License-Identifier: Apache-2.0
/* The scan. Owns nothing. Loop thread. */
#include "operator/scan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/map.h"
#include "operator/image.h"
#include "operator/pull.h"
#include "snap/snap.h"

#include "base/banned.h"

#define SNAPSHOTS "snapshots.v1.Snapshots"

/* A key that a namespace has: "NAMESPACE/KEY". */
struct known {
	struct map_node node;
};

struct scan {
	struct operator* op;
	struct arena *a; /* the report's */
	struct scan_report *report;
	struct map keys; /* known.node */
	const char *ns;
	size_t ns_keys;
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

	log_warn("scan namespace=%s snapshot=\"%s\" %s", s->ns, key, what);
	if (r->lines_n == SCAN_LINES_MAX)
		return;
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
		struct known *k = calloc(1, sizeof(*k) + ns + 1 + n);

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
				const ProtobufCMessageDescriptor *type)
{
	const struct containerd_at at = {.ns = s->ns};
	Fl__KeyRequest q = FL__KEY_REQUEST__INIT;
	auto_arena struct arena a;
	void *m;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	q.snapshotter = (char *)(uintptr_t)s->op->options.snapshotter;
	q.key = (char *)(uintptr_t)key;
	return containerd_call(s->op->containerd, &at, SNAPSHOTS, method, &q.base, type, 0, &a, &m,
			       NULL);
}

static bool has_key(struct scan *s, const char *key)
{
	auto_buf struct buf b = BUF_INIT;

	return buf_printf(&b, "%s/%s", s->ns, key) == 0 &&
	       map_get(&s->keys, (struct str){(char *)b.data, b.len});
}

/* The layers of an image from the top: those whose record leads nowhere go. */
may_suspend static int repair_image(void *arg, struct arena *a, const struct operator_image *im)
{
	struct scan *s = arg;

	(void)a;
	for (size_t i = im->layers_n; i-- > 0;) {
		char chain[DIGEST_TEXT_SIZE];
		int r;

		digest_text(&im->layers[i].chain, chain);
		if (has_key(s, chain))
			continue;
		r = key_call(s, "Stat", chain, &fl__info_response__descriptor);
		if (r == -ENOTCONN || r == -ECANCELED)
			return r;
		if (r != -ENOENT || key_call(s, "Remove", chain, NULL) < 0)
			continue; /* it is here, or containerd has no record either */
		s->report->missing++;
		s->report->repaired++;
		line(s,
		     "containerd has a record of this layer, its data is gone: record removed; "
		     "pull the image again",
		     chain);
	}
	return 0;
}

/* The key in "snapshot NS/NUMBER/KEY does not exist", our own words; NULL = there is none. */
static const char *key_in(struct scan *s, const struct err *why)
{
	const char *at = strstr(why->text, "snapshot "), *end, *slash;
	struct digest d;

	if (!at)
		return NULL;
	at += sizeof("snapshot ") - 1;
	end = strstr(at, " does not exist");
	if (end && (size_t)(end - at) >= DIGEST_TEXT_SIZE - 1 &&
	    digest_parse((struct str){at, DIGEST_TEXT_SIZE - 1}, &d) == 0)
		return arena_strndup(s->a, at, DIGEST_TEXT_SIZE - 1); /* a lazy one */
	if (!end || strncmp(at, s->ns, strlen(s->ns)) != 0 || at[strlen(s->ns)] != '/')
		return NULL;
	slash = memchr(at + strlen(s->ns) + 1, '/', (size_t)(end - at) - strlen(s->ns) - 1);
	return slash ? arena_strndup(s->a, slash + 1, (size_t)(end - slash) - 1) : NULL;
}

static bool is_layer(const char *key)
{
	struct digest d;

	return digest_parse(str_of(key), &d) == 0;
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
	if (key_call(s, "Remove", key, NULL) == 0) { /* no image has it */
		s->report->missing++;
		s->report->repaired++;
		line(s, "containerd has a record of this layer, its data is gone: record removed",
		     key);
	}
	return 0;
}

/* Their snapshots are only told. */
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
		const Ctrd__Container *c = m->containers[i];

		if (strcmp(c->snapshotter, s->op->options.snapshotter) != 0 ||
		    !c->snapshot_key[0] || has_key(s, c->snapshot_key) ||
		    key_call(s, "Stat", c->snapshot_key, &fl__info_response__descriptor) != -ENOENT)
			continue;
		s->report->missing++;
		line(s, "the container's snapshot is gone: remove the container", c->snapshot_key);
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
		r = check_containers(s, err);
	s->report->snapshots += s->ns_keys;
	return r;
}

/* --- ours that nobody knows ------------------------------------------------------------------- */

/* "NS/NUMBER/KEY" without its number; false: no name that containerd gives. */
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

/* Lazy layers carry their reference as a name: containerd keeps them under a name of its own. */
may_suspend static int count_unknown(struct scan *s, struct err *err)
{
	struct snaps_walk *walk = NULL;
	struct snap_info *infos = calloc(LIST_BLOCK, sizeof(*infos));
	auto_arena struct arena a;
	int n = 0, r = infos ? snaps_walk_new(s->op->options.snaps, NULL, &walk, err)
			     : err_set(err, -ENOMEM, "out of memory");

	arena_init(&a, SIZE_MAX / 2); /* LIST_BLOCK records, each of bounded size */
	while (r == 0 && (n = snaps_walk_next(s->op->options.snaps, walk, &a, infos, err)) > 0) {
		for (int i = 0; i < n; i++) {
			bool lazy = infos[i].record.layer != 0;

			s->report->unknown += !lazy && !known_name(s, infos[i].name);
		}
		arena_reset(&a);
	}
	snaps_walk_free(walk);
	free(infos);
	return r < 0 ? r : n < 0 ? n : 0;
}

/* --- all of it -------------------------------------------------------------------------------- */

may_suspend static int scan_all(struct scan *s, struct err *err)
{
	char **namespaces = NULL;
	size_t n = 0;
	int r = operator_namespaces(s->op, s->a, &namespaces, &n, err);

	for (size_t i = 0; i < n && r == 0; i++) {
		s->ns = namespaces[i];
		r = scan_namespace(s, err);
	}
	s->report->namespaces = n;
	return r == 0 ? count_unknown(s, err) : r;
}

may_suspend int operator_scan(struct operator* op, struct arena *a, struct scan_report *ret,
			      struct err *err)
{
	struct scan s = {.op = op, .a = a, .report = ret};
	int r;

	*ret = (struct scan_report){.lines = arena_alloc(a, SCAN_LINES_MAX * sizeof(char *))};
	if (!ret->lines || map_init(&s.keys) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = scan_all(&s, err);
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

		if (task_sleep_ms(wait_ms) < 0)
			return 0;
		arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
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
