// SPDX-License-Identifier: Apache-2.0
/* Snapshots by the reference in their label. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "snap/tree.h"

#include "base/banned.h"

void ref_clear(struct snaps *s, struct snap *sn)
{
	struct snap_ref *ref = sn->ref;

	if (!ref)
		return;
	sn->ref = NULL;
	list_del(&sn->ref_link);
	if (list_empty(&ref->snaps)) {
		map_del(&s->refs, &ref->node);
		free(ref);
	}
}

int ref_set(struct snaps *s, struct snap *sn, const struct label *labels, size_t n)
{
	const struct label *l = label_find(labels, n, LABEL_REF);
	struct map_node *there;
	struct snap_ref *ref;

	ref_clear(s, sn);
	if (!l)
		return 0;
	there = map_get(&s->refs, l->value);
	ref = there ? container_of(there, struct snap_ref, node)
		    : calloc(1, sizeof(*ref) + l->value.len);
	if (!ref)
		return -ENOMEM;
	if (!there) {
		memcpy(ref + 1, l->value.p, l->value.len);
		ref->node.key = (struct str){(char *)(ref + 1), l->value.len};
		list_init(&ref->snaps);
		map_put(&s->refs, &ref->node);
	}
	list_push(&ref->snaps, &sn->ref_link);
	sn->ref = ref;
	return 0;
}

static struct snap *find(struct snaps *s, struct str value, const struct snap *p, bool lazy)
{
	struct map_node *n = map_get(&s->refs, value);
	struct snap_ref *ref = n ? container_of(n, struct snap_ref, node) : NULL;

	for (struct list *it = ref ? ref->snaps.next : NULL; ref && it != &ref->snaps;
	     it = it->next) {
		struct snap *sn = container_of(it, struct snap, ref_link);

		if ((sn->layer || !lazy) && sn->kind == SNAPSHOT_COMMITTED && sn->parent == p &&
		    sn->state == SNAP_STABLE && !sn->broken)
			return sn;
	}
	return NULL;
}

struct snap *ref_find(struct snaps *s, struct str value, const struct snap *p)
{
	return find(s, value, p, true);
}

struct snap *ref_find_any(struct snaps *s, struct str value, const struct snap *p)
{
	return find(s, value, p, false);
}
