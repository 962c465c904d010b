/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.snapshots.v1.Snapshots over snap/. */
#ifndef FIRSTLIGHT_API_SNAPSHOTS_H
#define FIRSTLIGHT_API_SNAPSHOTS_H

#include <stddef.h>

struct grpc_method;

/* The methods; their argument is a struct services *. */
const struct grpc_method *snapshots_methods(size_t *ret_n);

#endif
