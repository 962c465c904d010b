/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker leaves to the next one, in a memfd that the keeper holds: the INIT request, and of
 * each open node how it is open and how often. A worker may be killed between any two stores: each
 * change is one store that counts, in an order after which an open may be counted twice and is
 * never forgotten. Loop thread.
 */
#ifndef FIRSTLIGHT_FS_FILL_STATE_H
#define FIRSTLIGHT_FS_FILL_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct fill_state;

/* Maps size bytes of fd (stays the caller's). -EPROTO: of a version that is not known here. */
int fill_state_open(int fd, size_t size, struct fill_state **ret, struct err *err) must_check;
void fill_state_close(struct fill_state *s);

/* The INIT request of this connection; answered: the kernel has its reply. */
void fill_state_put_init(struct fill_state *s, const void *request, size_t n);
void fill_state_answered(struct fill_state *s, bool passthrough);
/* NULL: none yet. */
const void *fill_state_init(const struct fill_state *s, size_t *ret_n);
bool fill_state_is_answered(const struct fill_state *s);
bool fill_state_passthrough(const struct fill_state *s);

/* The kernel does not let cached and passthrough opens of one node mix. */
enum fill_mode { FILL_CACHED = 1, FILL_PASSTHROUGH = 2 };

#define FILL_NO_SLOT SIZE_MAX

size_t fill_state_slots(const struct fill_state *s);

/* The slot of an open node, or FILL_NO_SLOT. */
size_t fill_state_find(const struct fill_state *s, uint64_t node);
enum fill_mode fill_state_mode(const struct fill_state *s, size_t slot);
uint32_t fill_state_backing(const struct fill_state *s, size_t slot);

/* First open of a node that has no slot. FILL_NO_SLOT: no room, nothing is noted. */
size_t fill_state_first(struct fill_state *s, uint64_t node, enum fill_mode mode, uint32_t backing);
/* Another open. */
void fill_state_again(struct fill_state *s, size_t slot);
/* One less; the last: true, and the slot is free. */
bool fill_state_less(struct fill_state *s, size_t slot);

/* A cached open without a slot was allowed: no node may start passthrough from now on. */
void fill_state_untracked(struct fill_state *s);
bool fill_state_complete(const struct fill_state *s); /* false after that */

/* A request that was counted, noted after the count (an open) or before it (a release): the kernel
 * may ask it again of the next worker. unique without WIRE_RESEND_BIT. */
void fill_state_opened(struct fill_state *s, uint64_t unique);
bool fill_state_was_opened(const struct fill_state *s, uint64_t unique);
void fill_state_releasing(struct fill_state *s, uint64_t unique);
bool fill_state_was_releasing(const struct fill_state *s, uint64_t unique);

#endif
