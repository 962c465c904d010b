/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing to a registry (OCI distribution-spec, "Push"): only to the host that a reference names,
 * to no mirror. Retries and credentials as for pulls (registry.h). ref: as there. Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_REGISTRY_PUSH_H
#define FIRSTLIGHT_IMAGE_REGISTRY_PUSH_H

#include "image/registry.h"

/* Does the repository have the blob? 1, 0; -EACCES, … */
may_suspend int registry_has_blob(struct registry *r, struct str ref, const struct digest *digest,
				  struct err *err);
/* Asks for a blob of another repository of the same registry. 1: it is there now; 0: it has to be
 * sent. */
may_suspend int registry_mount_blob(struct registry *r, struct str ref, const struct digest *digest,
				    const char *from, struct err *err);
/* In one request; body may be a mapped file. An upload that breaks is repeated as a whole, up to
 * REGISTRY_UPLOADS_MAX times. */
may_suspend int registry_put_blob(struct registry *r, struct str ref, const struct digest *digest,
				  struct str body, struct err *err);
/* Under the reference's tag, or (tagged false) by its digest only. type: its media type. */
may_suspend int registry_put_manifest(struct registry *r, struct str ref, struct str body,
				      const char *type, bool tagged, struct err *err);

#endif
