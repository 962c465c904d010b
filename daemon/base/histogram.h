/* SPDX-License-Identifier: Apache-2.0 */
/* How long something took, counted by steps from 1 ms to 60 s. Pure; one thread. */
#ifndef FIRSTLIGHT_BASE_HISTOGRAM_H
#define FIRSTLIGHT_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 15

/* Upper bounds of the steps, themselves included. */
extern const uint32_t histogram_bounds_ms[HISTOGRAM_STEPS];

/* All zero at first. */
struct histogram {
	uint64_t counts[HISTOGRAM_STEPS + 1]; /* each step alone; the last: longer than all */
	uint64_t sum_ns;
};

void histogram_add(struct histogram *h, uint64_t ns);

#endif
