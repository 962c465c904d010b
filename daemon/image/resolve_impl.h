/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of resolve.h: images in resolve.c, the look-up of each layer in resolve_layer.c. Loop
 * thread. */
#ifndef FIRSTLIGHT_IMAGE_RESOLVE_IMPL_H
#define FIRSTLIGHT_IMAGE_RESOLVE_IMPL_H

#include "base/limits.h"
#include "base/map.h"
#include "image/resolve.h"
#include "image/toc.h"
#include "loop/scope.h"

#define NS_PER_MS 1000000ull

struct resolver {
	struct loop *loop;
	struct registry *registry;
	struct layers *layers;
	struct work *threads;
	struct map images;
	struct scope scope;
	may_suspend int (*documents)(void *arg, const struct digest *digest, size_t max,
				     struct buf *ret); /* NULL = none */
	void *documents_arg;
	void (*watch)(void *arg, struct str ref, const struct digest *blobs, size_t n);
	void *watch_arg;
	struct waitq changed; /* some look-up or image has */
	struct list adding;   /* lookup.adding_link: tables that become layers just now */
	uint64_t tables;      /* bytes of tables in memory */
	bool janitor;
};

struct image {
	struct map_node node; /* key: the reference, NUL, the manifest's digest or nothing */
	struct resolver *r;
	char *ref;
	struct digest manifest;
	struct buf given; /* the manifest, if it need not be fetched */
	bool was_given;   /* by who has looked for the config on this host */
	enum { MANIFEST_UNASKED, MANIFEST_COMING, MANIFEST_HERE, MANIFEST_FAILED } state;
	enum {
		SIZES_UNASKED,
		SIZES_COMING,
		SIZES_KNOWN
	} sizes;    /* of the blobs, for who has no hint */
	int result; /* of the manifest */
	struct err err;
	struct digest config_digest;
	uint64_t config_size;
	struct buf config;
	enum { CONFIG_COMING, CONFIG_HERE, CONFIG_FAILED } config_state;
	struct list lookups; /* lookup.link */
	size_t lookups_n;
	unsigned busy; /* tasks and askers that hold it */
	uint64_t used_ns;
};

struct lookup {
	struct list link, adding_link;
	struct image *image;
	struct digest blob;
	bool hinted; /* hint is known */
	bool begun;  /* lately: who watches has not been told */
	struct toc_hint hint;
	char *media_type, *position;
	struct buf tail; /* the end of the blob, from tail_off on */
	uint64_t tail_off, blob_size;
	enum { LOOKUP_IDLE, LOOKUP_RUNNING, LOOKUP_DONE } state;
	struct layer *layer; /* used by us */
	int result;
	struct err err;
};

/* resolve.c: a task or asker holds it no more; others look again. */
void image_leave(struct image *im);
/* Until the sizes of its blobs are known, if this host has its manifest; not for long. */
may_suspend int image_sizes(struct image *im);

/* --- resolve_layer.c -------------------------------------------------------------------------- */

/* What proves its table of contents, once it is hinted. */
const struct digest *trust_of(const struct lookup *l);
/* The caller uses it then, and it can be fetched from ref too. */
may_suspend int layer_use_known(struct resolver *r, struct layer *known, struct str ref,
				struct layer **ret, struct err *err);
/* Until something has changed; -ETIMEDOUT. */
may_suspend int resolve_wait(struct resolver *r, uint64_t until_ns);
/* Its task runs, if it does not and has not. */
int lookup_start(struct lookup *l);

#endif
