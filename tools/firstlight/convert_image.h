/* SPDX-License-Identifier: Apache-2.0 */
/* An image, or all of an index, from one end to another with its layers converted. One task. */
#ifndef FIRSTLIGHT_TOOLS_CONVERT_IMAGE_H
#define FIRSTLIGHT_TOOLS_CONVERT_IMAGE_H

#include "convert_end.h"
#include "convert_layer.h"
#include "operator/manifest.h"

#define CONVERT_LAYERS_AT_ONCE 2    /* one is fetched or sent while another is compressed */
#define CONVERT_LAYERS_MAX     4096 /* of all platforms */

struct convert_report {
	struct digest from, to;
	uint64_t from_size, to_size;
	enum { LAYER_CONVERTED, LAYER_KEPT, LAYER_COPIED } action;
	char why[160]; /* kept */
};

struct scope;

struct conversion {
	struct end src, dst;
	struct convert_options options;
	bool all;                 /* platforms */
	struct platform platform; /* if not all */
	const char *tmp;          /* where files without names are */
	struct work *work;
	struct loop *loop;
	/* Called for each layer that is done; must not suspend. */
	void (*on_layer)(void *arg, const struct convert_report *r);
	void (*on_bytes)(void *arg, uint64_t done, uint64_t total);
	void *arg;
	/* its result */
	struct convert_report layers[CONVERT_LAYERS_MAX];
	size_t layers_n;
	struct digest digest; /* of what was tagged */
	uint64_t done, total;
	/* while it runs */
	atomic_bool stop; /* options.stop */
	struct scope *running;
};

/* Ends what runs, soon. Loop thread. */
void convert_cancel(struct conversion *c);

may_suspend int convert_image(struct conversion *c, struct err *err);

#endif
