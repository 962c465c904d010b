// SPDX-License-Identifier: Apache-2.0
/* Steps of time. Owns nothing. */
#include "base/histogram.h"

#include "base/banned.h"

#define NS_PER_MS 1000000ull

const uint32_t histogram_bounds_ms[HISTOGRAM_STEPS] = {
	1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000};

void histogram_add(struct histogram *h, uint64_t ns)
{
	unsigned i = 0;

	while (i < HISTOGRAM_STEPS && ns > histogram_bounds_ms[i] * NS_PER_MS)
		i++;
	h->counts[i]++;
	h->sum_ns += ns;
}
