/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Indexes, manifests and configs of images (OCI image-spec: image-index.md, manifest.md, config.md;
 * Docker's schema 2), as far as a pull needs them. Their bytes are not trusted. Pure.
 */
#ifndef FIRSTLIGHT_OPERATOR_MANIFEST_H
#define FIRSTLIGHT_OPERATOR_MANIFEST_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"

/* Words end in NUL; variant may be empty. */
struct platform {
	struct str os, arch, variant;
};

/* "os/arch[/variant]", or empty: the host's. Other names of the same are made one (x86_64: amd64;
 * aarch64: arm64). The words live in a. -EINVAL, -ENOMEM. */
int platform_parse(struct str text, struct arena *a, struct platform *ret, struct err *err);
/* How well something made for `is` runs on `host`: 0 = not at all, more is better. */
unsigned platform_fit(const struct platform *host, const struct platform *is);

struct descriptor {
	struct str media_type;
	struct digest digest;
	uint64_t size;
};

/* What containerd calls an index or a manifest list. type: as the registry says, may be empty. */
bool manifest_is_index(struct str type, struct str body);

/* All manifests of an index in its order, and the one that fits best. -EBADMSG, -ENOENT (none
 * fits: err names those that there are), -ENOMEM. */
struct index_list {
	struct descriptor *list;
	size_t n, best;
};
int manifest_index(struct str body, const struct platform *host, struct arena *a,
		   struct index_list *ret, struct err *err);

struct manifest {
	struct descriptor config;
	struct descriptor *layers; /* bottom first */
	size_t layers_n;
};
/* -EBADMSG; -EOPNOTSUPP: no image (an artifact, or Docker's schema 1). -EFBIG: more than
 * CONTROL_LAYERS_MAX layers. */
int manifest_parse(struct str body, struct arena *a, struct manifest *ret, struct err *err);

/* The diff ids of a config, bottom first: layers_n of them or -EBADMSG. */
int config_diff_ids(struct str body, size_t layers_n, struct arena *a, struct digest **ret,
		    struct err *err);

/* Of an image that no index names: -ENOENT if its config says that it is for another platform. */
int config_fits(struct str body, const struct platform *host, struct arena *a, struct err *err);

/* Chain ids (image-spec config.md "Layer ChainID"), in place of the diff ids. */
void chain_ids(struct digest *ids, size_t n);

/* The media type of a body that names it, else what the registry said, else by what it is. */
struct str manifest_type(struct str said, struct str body, struct arena *a);

#endif
