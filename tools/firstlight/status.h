/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's counters, as status prints them once and top again and again. */
#ifndef FIRSTLIGHT_TOOLS_STATUS_H
#define FIRSTLIGHT_TOOLS_STATUS_H

#include "out.h"
#include "proto/control.pb-c.h"

void status_json(const Flc__StatusResponse *s);
/* Into t, a list of facts. before (may be NULL): the counters ms earlier, for rates. */
void status_facts(struct out_table *t, const Flc__StatusResponse *s,
		  const Flc__StatusResponse *before, uint64_t ms);

#endif
