/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion record of one ring operation. It lives with its owner (the frame of the suspended task
 * or the object that waits) until the completion arrives; the kernel owns it and its buffers so
 * long.
 */
#ifndef FIRSTLIGHT_LOOP_OP_H
#define FIRSTLIGHT_LOOP_OP_H

#include <stdint.h>

struct op {
	/* Called on the loop thread for each completion; res is the CQE's, -errno on failure. */
	void (*done)(struct op *op, int res, uint32_t cqe_flags);
};

#endif
