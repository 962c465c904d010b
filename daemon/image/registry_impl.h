/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of registry.h: hosts, tries and what is pulled in registry.c, what is pushed in
 * registry_push.c. Loop thread. */
#ifndef FIRSTLIGHT_IMAGE_REGISTRY_IMPL_H
#define FIRSTLIGHT_IMAGE_REGISTRY_IMPL_H

#include "base/limits.h"
#include "base/map.h"
#include "image/budget.h"
#include "image/exchange.h"
#include "image/ref.h"
#include "image/registry.h"

struct registry {
	struct work *threads;
	char *hosts_dirs, *docker_config, *user_agent, *plain_file;
	struct budget budget;
	struct exchanger ex;
	struct map spaces; /* space.node */
	uint64_t random;
};

/* One request, over all its hosts and tries. */
struct pull {
	struct registry *r;
	struct ref ref;
	struct hosts *hosts;
	enum fetch_class class;
	const bool *urgent;
	bool once;  /* one try only */
	bool large; /* the background waits */
	bool asks;  /* somebody waits for whether there is a registry at all */
	uint32_t skip_hosts;
	char what[REGISTRY_WHAT_MAX];
	uint64_t size;             /* bytes that are expected */
	struct arena names, arena; /* the ref's; one try's */
	/* Fills in the rest of an exchange and judges its answer. */
	may_suspend int (*attempt)(struct pull *p, struct exchange *x, struct err *err);
	void *arg;
	bool progress; /* the last try has brought something */
	bool started;
	uint64_t start_ns, paused_ns; /* of the first try; pauses before it */
	int status;
	unsigned host, wait_ms;
};

/* kind "blobs", "manifests": what is "kind/sha256:…". attempt and arg are the caller's to set. */
void pull_init(struct pull *p, struct registry *r, enum fetch_class class, const char *kind,
	       const struct digest *digest);
void pull_fini(struct pull *p);
may_suspend int pull_run(struct pull *p, struct str ref, struct err *err);
/* An absolute address of a path at the host of a namespace; NULL. */
may_suspend const char *registry_address(struct registry *r, const char *ns, const char *path,
					 struct arena *a);

#endif
