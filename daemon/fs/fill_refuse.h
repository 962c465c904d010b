/* SPDX-License-Identifier: Apache-2.0 */
/* Ends, for the keeper, the FUSE requests that no worker has lived long enough to answer. */
#ifndef FIRSTLIGHT_FS_FILL_REFUSE_H
#define FIRSTLIGHT_FS_FILL_REFUSE_H

#include "base/err.h"

/* Answers EIO to each request that waits in the connection, those that a dead worker had taken too;
 * releases are counted in the state. No worker may run. The number of answers, or -errno. Does not
 * wait. */
int fill_refuse(int fuse_fd, int state_fd, struct err *err);

#endif
