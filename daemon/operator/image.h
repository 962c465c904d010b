/* SPDX-License-Identifier: Apache-2.0 */
/* Images as containerd has them: records in its namespaces, documents in its content store. No
 * registry is asked. Loop thread. */
#ifndef FIRSTLIGHT_OPERATOR_IMAGE_H
#define FIRSTLIGHT_OPERATOR_IMAGE_H

#include "base/arena.h"
#include "base/buf.h"
#include "operator/manifest.h"
#include "operator/operator.h"

struct image_layer {
	struct digest digest, diff_id, chain;
	uint64_t size;
	struct str media_type;
};

/* Strings live in the arena of the call. */
struct operator_image {
	const char *ns, *name;
	struct digest target, manifest, config;
	int64_t created_ns;
	struct image_layer *layers; /* bottom first; NULL: see problem */
	size_t layers_n;
	const struct descriptor *blobs; /* of the layers, also where the config cannot be had */
	size_t blobs_n;
	const char *problem; /* which of its documents cannot be had; NULL = none */
};

/* The namespaces of containerd, at most OPERATOR_NAMESPACES_MAX. -ENOTCONN, … */
may_suspend int operator_namespaces(struct operator* op, struct arena *a, char ***ret,
				    size_t *ret_n, struct err *err);

/* Fills what hangs on ret->target, for this host's platform. -ENOENT, with the name of what is
 * missing; -EBADMSG, … */
may_suspend int operator_image_load(struct operator* op, struct arena *a,
				    struct operator_image *ret, struct err *err);

/* fn is called for each image of a namespace, in order of name, with an arena of its own; it may
 * suspend. Documents that cannot be had are told as a problem. */
may_suspend int operator_images(struct operator* op, const char *ns,
				int (*fn)(void *arg, struct arena *a,
					  const struct operator_image *image),
				void *arg, struct err *err);
/* One by name. -ENOENT. */
may_suspend int operator_image(struct operator* op, const char *ns, const char *name,
			       struct arena *a, struct operator_image *ret, struct err *err);

/* A document of any namespace, verified. -ENOENT, -EFBIG, -ENOTCONN, … */
may_suspend int operator_document(struct operator* op, const struct digest *digest, size_t max,
				  struct buf *ret);

/* Our snapshots of the image's layers, as far as they are here: names[i] is empty where it is not.
 */
int operator_snapshots(struct operator* op, const struct operator_image *image, struct arena *a,
		       struct str *names);

#endif
