/* SPDX-License-Identifier: Apache-2.0 */
/* An image's state from containerd's content store, with no registry. Loop thread. */
#ifndef FIRSTLIGHT_OPERATOR_PREPARE_H
#define FIRSTLIGHT_OPERATOR_PREPARE_H

#include "operator/image.h"

struct prepared {
	struct digest manifest; /* the one that was loaded */
	size_t layers, lazy;
};

/*
 * Reads the manifest and its config from the content store and registers the image's layers, whose
 * indexes this host has, as snapshots through containerd. Where a part is missing the other
 * manifests of the store that name one of the layers are tried. -ENOENT: which part is missing.
 * Nothing is fetched but what a layer without an index here would need: that fails.
 */
may_suspend int operator_prepare(struct operator* op, const char *ns, const struct digest *manifest,
				 struct prepared *ret, struct err *err);

#endif
