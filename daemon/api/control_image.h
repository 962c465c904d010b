/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the control service: layers and images as its messages. Loop thread. */
#ifndef FIRSTLIGHT_API_CONTROL_IMAGE_H
#define FIRSTLIGHT_API_CONTROL_IMAGE_H

#include "api/control.h"
#include "proto/control.pb-c.h"

/* A snapshot of a chain as a layer, in the request's arena. */
may_suspend int control_layer(struct request *q, const struct snaps_link *link, Flc__Layer **ret);

/* The image of that name, as containerd knows it. -ENOENT. */
may_suspend int control_image(struct request *q, const Flc__InspectRequest *in,
			      Flc__InspectResponse *o);

#endif
