/* SPDX-License-Identifier: Apache-2.0 */
/*
 * firstlight.control.v1.Control (include/proto/control.proto): what the command line asks for. Who
 * may open the socket may call it; each call that changes something is logged with its peer. Loop
 * thread; each call is a task.
 */
#ifndef FIRSTLIGHT_API_CONTROL_H
#define FIRSTLIGHT_API_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "api/request.h"

#define CONTROL_SERVICE "/firstlight.control.v1.Control/"

struct grpc_method;

/* The methods; their argument is a struct services *. */
const struct grpc_method *control_methods(size_t *ret_n);

/* From now on events go to those who follow them. */
void control_events_start(void);
/* How many follow, and how many events they all have lost. */
size_t control_events_followers(uint64_t *ret_lost);

/* --- inside ----------------------------------------------------------------------------------- */

/* "control call=Verify pid=1 uid=0": of a call that changes something. */
void control_log(struct grpc_call *call);

may_suspend enum grpc_code control_pull(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_events(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_images(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_scan(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_prepare(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_inspect(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_mounts(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_verify(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_gc(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_drain(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_profiles(struct grpc_call *call, void *arg, struct err *err);
may_suspend enum grpc_code control_profile_export(struct grpc_call *call, void *arg,
						  struct err *err);
may_suspend enum grpc_code control_profile_import(struct grpc_call *call, void *arg,
						  struct err *err);
may_suspend enum grpc_code control_profile_remove(struct grpc_call *call, void *arg,
						  struct err *err);
may_suspend enum grpc_code control_record(struct grpc_call *call, void *arg, struct err *err);

#endif
