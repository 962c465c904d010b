/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is remembered of each host that was asked: does it answer (circuit breaker), does it speak
 * TLS, how does it want to be told who asks. Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_PEER_H
#define FIRSTLIGHT_IMAGE_PEER_H

#include <stdint.h>

#include "base/limits.h"
#include "base/list.h"
#include "base/map.h"
#include "image/answer.h"
#include "image/registry.h"

struct peer {
	struct map_node node; /* peers.map */
	struct list link;     /* peers.recent */
	unsigned users;
	struct registry_host *told; /* in peers.told */
	bool tls_seen, plain;       /* TLS has worked; it does without */
	/* circuit breaker */
	unsigned failures; /* in a row */
	unsigned open_ms;  /* 0 = closed */
	uint64_t open_until_ns;
	bool probing;
	char failure[256]; /* the last one, for people */
	/* the challenge that it sent last */
	enum challenge_scheme scheme;
	char *realm, *service;
	char *basic;       /* the Authorization header */
	uint64_t basic_no; /* changes with it */
	char authority[];
};

struct peers {
	struct map map;
	struct list recent;                               /* peer.link; the longest unused first */
	struct registry_host told[METRICS_HOSTS_MAX + 1]; /* the last: all others */
};

int peers_init(struct peers *ps) must_check; /* -ENOMEM */
void peers_fini(struct peers *ps);

/* Makes it when it is not known; NULL: no memory. peer_put() when done. */
struct peer *peer_get(struct peers *ps, struct str authority);
void peer_put(struct peer *p);

/* How many are not asked now. */
unsigned breakers_open(const struct peers *ps);

/* May it be asked now? 0 = yes, else the milliseconds to wait. After 0, say how it went. */
unsigned breaker_enter(struct peer *p, uint64_t now_ns);
/* true: this failure has opened it. */
bool breaker_failed(struct peer *p, uint64_t now_ns);
void breaker_worked(struct peer *p);
/* It was not found out. */
void breaker_unknown(struct peer *p);

#endif
