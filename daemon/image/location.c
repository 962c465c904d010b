// SPDX-License-Identifier: Apache-2.0
/* Places of blobs. Owns them; the longest unused goes when there are too many. */
#include "image/location.h"

#include "base/limits.h"

#include "base/banned.h"

struct location {
	struct map_node node;
	struct list link;
	char *url;
	char key[];
};

int locations_init(struct locations *ls)
{
	list_init(&ls->recent);
	return map_init(&ls->map);
}

static void location_free(struct locations *ls, struct location *l)
{
	map_del(&ls->map, &l->node);
	list_del(&l->link);
	free(l->url);
	free(l);
}

void locations_fini(struct locations *ls)
{
	while (!list_empty(&ls->recent))
		location_free(ls, container_of(ls->recent.next, struct location, link));
	map_fini(&ls->map);
}

static struct location *find(struct locations *ls, const char *key)
{
	struct map_node *n = map_get(&ls->map, str_of(key));

	return n ? container_of(n, struct location, node) : NULL;
}

const char *location_get(struct locations *ls, const char *key, struct arena *a)
{
	struct location *l = find(ls, key);

	if (!l)
		return NULL;
	list_del(&l->link);
	list_push(&ls->recent, &l->link);
	return arena_strndup(a, l->url, strlen(l->url));
}

void location_drop(struct locations *ls, const char *key)
{
	struct location *l = find(ls, key);

	if (l)
		location_free(ls, l);
}

void location_put(struct locations *ls, const char *key, const char *url)
{
	size_t n = strlen(key);
	struct location *l;

	location_drop(ls, key);
	if (ls->map.count >= REGISTRY_LOCATIONS_MAX)
		location_free(ls, container_of(ls->recent.next, struct location, link));
	l = calloc(1, sizeof(*l) + n + 1);
	if (!l)
		return;
	memcpy(l->key, key, n);
	l->node.key = (struct str){l->key, n};
	l->url = strdup(url);
	if (!l->url) {
		free(l);
		return;
	}
	list_init(&l->link);
	list_push(&ls->recent, &l->link);
	map_put(&ls->map, &l->node);
}
