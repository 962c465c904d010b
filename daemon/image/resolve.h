/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an image reference to lazy layers: the manifest, and the tables of contents of all its
 * layers at once, whichever is asked for first. What is found waits RESOLVE_KEEP_MS for those who
 * will ask for the other layers. Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_RESOLVE_H
#define FIRSTLIGHT_IMAGE_RESOLVE_H

#include "image/layer.h"
#include "image/registry.h"

struct resolver;

/* All given stay the caller's. */
int resolver_new(struct loop *loop, struct registry *registry, struct layers *layers,
		 struct work *threads, struct resolver **ret, struct err *err) must_check;
/* No resolve_layer() may be running. */
may_suspend void resolver_free(struct resolver *r);

/* Manifests and configs that this host has already are asked for first: read answers a body that
 * has been verified, of at most max bytes; anything but 0 is for the registry. */
void resolver_documents(struct resolver *r,
			may_suspend int (*read)(void *arg, const struct digest *digest, size_t max,
						struct buf *ret),
			void *arg);
/* fn(arg, ref, blobs, n) is called when layers with these blobs, which are not known here, begin to
 * be looked for; it must not suspend. */
void resolver_watch(struct resolver *r,
		    void (*fn)(void *arg, struct str ref, const struct digest *blobs, size_t n),
		    void *arg);
/* Ends what is under way; from now on nothing is looked for. */
may_suspend void resolver_stop(struct resolver *r);

/* What is known of a layer before anything is fetched. Strings are the caller's. */
struct resolve_query {
	struct str ref;     /* the image */
	struct digest blob; /* of the layer */
	bool has_manifest;
	struct digest manifest; /* verified by who asks; all annotations come from there */
	bool has_toc;
	struct digest toc; /* of the table of contents (JSON): eStargz and its relatives */
	struct str layers; /* digests of this and the upper layers, ',' between; may be empty */
};

/*
 * The layer, which the caller then uses (layer_unuse()). Not lazy, not to be had, or not within
 * RESOLVE_TIMEOUT_MS: -EOPNOTSUPP, -ENOENT, -EACCES, -EBADMSG, -ETIMEDOUT, … with the cause:
 * it is for the ordinary path then. -ECANCELED.
 */
may_suspend int resolve_layer(struct resolver *r, const struct resolve_query *q, struct layer **ret,
			      struct err *err);

/* The manifest is known (verified by the caller): its layers are looked for from now on, and its
 * config is fetched, with what resolve_layer() and resolve_config() ask for later. */
int resolve_begin(struct resolver *r, struct str ref, const struct digest *manifest,
		  struct str body, struct err *err);

/* The config of the image that a manifest describes, verified; by whatever reference it is known.
 * -ENOENT and the like, -ETIMEDOUT (RESOLVE_TIMEOUT_MS), -ECANCELED. */
may_suspend int resolve_config(struct resolver *r, struct str ref, const struct digest *manifest,
			       struct buf *ret, struct err *err);

#endif
