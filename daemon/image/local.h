/* SPDX-License-Identifier: Apache-2.0 */
/* How much of a lazy layer is on this host. Loop thread; reads the index on a thread. */
#ifndef FIRSTLIGHT_IMAGE_LOCAL_H
#define FIRSTLIGHT_IMAGE_LOCAL_H

#include "image/layer.h"
#include "store/objects.h"

struct layer_local {
	uint64_t files, files_here; /* contents, each once */
	uint64_t bytes, bytes_here; /* of them; one that is here in part counts by its chunks */
};

/* Looks at the disk, not at what was noted. -EBADMSG, -EIO, -EAGAIN, -ENOMEM. */
may_suspend int layer_local(struct layers *ls, struct objects *objects, struct work *threads,
			    struct layer *l, struct layer_local *ret, struct err *err);

#endif
