/* SPDX-License-Identifier: Apache-2.0 */
/* What time it is for people. Intervals are measured by the loop's clock (loop_now_ns()). */
#ifndef FIRSTLIGHT_BASE_CLOCK_H
#define FIRSTLIGHT_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds since 1970-01-01 UTC (CLOCK_REALTIME). Any thread. */
static inline int64_t wall_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

#endif
