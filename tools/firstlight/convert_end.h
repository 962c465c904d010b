/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where images come from and go to: a registry, or an OCI layout (image-spec, image-layout.md),
 * written oci:DIR[:TAG]. A layout's index.json is replaced last and as a whole. One task.
 */
#ifndef FIRSTLIGHT_TOOLS_CONVERT_END_H
#define FIRSTLIGHT_TOOLS_CONVERT_END_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/task.h"

struct registry;
struct work;

struct end {
	struct registry *registry; /* NULL: a layout */
	const char *ref;           /* of a registry */
	const char *dir, *tag;     /* of a layout; tag "" = the only image, or "latest" */
};

/* text as above; r is for references. -EINVAL. */
int end_parse(const char *text, struct registry *r, struct arena *a, struct end *ret,
	      struct err *err);

/* What the name stands for. -ENOENT, … */
may_suspend int end_resolve(struct end *e, struct arena *a, struct buf *ret, struct digest *digest,
			    struct str *ret_type, struct err *err);
may_suspend int end_manifest(struct end *e, const struct digest *digest, struct buf *ret,
			     struct err *err);
/* A blob in a file that is open for reading, verified: the layout's own, or one without a name in
 * tmp. The caller closes it. */
may_suspend int end_fetch(struct end *e, struct work *w, const struct digest *digest, uint64_t size,
			  const char *tmp, int *ret_fd, struct err *err);

/* Makes the layout if it is one. */
int end_prepare(struct end *e, struct err *err);
may_suspend int end_has(struct end *e, const struct digest *digest, struct err *err);
/* from: the same registry, whose repository has the blob; NULL. */
/* A file without a name for what end_put is to send: where that is a link, or in tmp. */
int end_temp(const struct end *e, const char *tmp, struct err *err);
may_suspend int end_put(struct end *e, struct work *w, const struct digest *digest, int fd,
			uint64_t size, struct err *err);
may_suspend int end_mount(struct end *e, const struct digest *digest, const struct end *from,
			  struct err *err);
may_suspend int end_put_manifest(struct end *e, struct str body, const char *type, struct err *err);
/* Under the name, last. */
may_suspend int end_tag(struct end *e, struct str body, const char *type, struct err *err);

#endif
