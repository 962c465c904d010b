// SPDX-License-Identifier: Apache-2.0
/* Images, as containerd and we know them. Loop thread. */
#include "api/control_image.h"

#include "base/banned.h"

may_suspend int control_image(struct request *q, const Flc__InspectRequest *in,
			      Flc__InspectResponse *o)
{
	(void)o;
	return err_set(q->err, -ENOENT, "no image %.200s", in->name);
}
