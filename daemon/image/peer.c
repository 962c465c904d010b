// SPDX-License-Identifier: Apache-2.0
/* Hosts that were asked. Owns them all; the longest unused goes when there are too many. */
#include "image/peer.h"

#include "base/err.h"
#include "base/limits.h"

#include "base/banned.h"

#define NS_PER_MS  1000000ull
#define PROBE_POLL 100 /* ms until one asks again whether the probe has come back */

int peers_init(struct peers *ps)
{
	list_init(&ps->recent);
	memset(ps->told, 0, sizeof(ps->told));
	return map_init(&ps->map);
}

static void peer_free(struct peers *ps, struct peer *p)
{
	map_del(&ps->map, &p->node);
	list_del(&p->link);
	free(p->realm);
	free(p->service);
	if (p->basic)
		explicit_bzero(p->basic, strlen(p->basic));
	free(p->basic);
	free(p);
}

void peers_fini(struct peers *ps)
{
	while (!list_empty(&ps->recent))
		peer_free(ps, container_of(ps->recent.next, struct peer, link));
	for (size_t i = 0; i < METRICS_HOSTS_MAX; i++)
		free(ps->told[i].authority);
	map_fini(&ps->map);
}

/* What is told of a host outlives what is known of it. */
static struct registry_host *told_of(struct peers *ps, struct str authority)
{
	size_t i = 0;

	while (i < METRICS_HOSTS_MAX && ps->told[i].authority &&
	       !str_eq(str_of(ps->told[i].authority), authority))
		i++;
	if (i < METRICS_HOSTS_MAX && !ps->told[i].authority)
		ps->told[i].authority = strndup(authority.p, authority.len);
	return ps->told[i].authority ? &ps->told[i] : &ps->told[METRICS_HOSTS_MAX];
}

static void make_room(struct peers *ps)
{
	struct list *l, *tmp;

	list_for_each_safe (l, tmp, &ps->recent) {
		struct peer *p = container_of(l, struct peer, link);

		if (ps->map.count < REGISTRY_PEERS_MAX)
			return;
		if (p->users == 0)
			peer_free(ps, p);
	}
}

struct peer *peer_get(struct peers *ps, struct str authority)
{
	struct map_node *n = map_get(&ps->map, authority);
	struct peer *p = n ? container_of(n, struct peer, node) : NULL;

	if (!p) {
		make_room(ps);
		p = calloc(1, sizeof(*p) + authority.len + 1);
		if (!p)
			return NULL;
		memcpy(p->authority, authority.p, authority.len);
		p->node.key = (struct str){p->authority, authority.len};
		p->told = told_of(ps, authority);
		list_init(&p->link);
		map_put(&ps->map, &p->node);
	}
	list_del(&p->link);
	list_push(&ps->recent, &p->link);
	p->users++;
	return p;
}

void peer_put(struct peer *p)
{
	require(p->users > 0);
	p->users--;
}

unsigned breakers_open(const struct peers *ps)
{
	unsigned n = 0;

	for (const struct list *l = ps->recent.next; l != &ps->recent; l = l->next)
		n += container_of(l, struct peer, link)->open_ms > 0;
	return n;
}

unsigned breaker_enter(struct peer *p, uint64_t now_ns)
{
	if (p->open_ms == 0)
		return 0;
	if (now_ns < p->open_until_ns)
		return (unsigned)((p->open_until_ns - now_ns) / NS_PER_MS) + 1;
	if (p->probing)
		return PROBE_POLL;
	p->probing = true;
	return 0;
}

bool breaker_failed(struct peer *p, uint64_t now_ns)
{
	bool probe = p->probing;

	p->failures++;
	if (p->open_ms && !probe)
		return false; /* asked before it opened */
	if (!probe && p->failures < BREAKER_FAILURES)
		return false;
	p->probing = false;
	p->open_ms = p->open_ms ? p->open_ms * 2 : BREAKER_OPEN_MS;
	if (p->open_ms > BREAKER_OPEN_MAX_MS)
		p->open_ms = BREAKER_OPEN_MAX_MS;
	p->open_until_ns = now_ns + p->open_ms * NS_PER_MS;
	return true;
}

void breaker_worked(struct peer *p)
{
	p->failures = 0;
	p->open_ms = 0;
	p->probing = false;
}

void breaker_unknown(struct peer *p)
{
	p->probing = false;
}
