// SPDX-License-Identifier: Apache-2.0
/* Refused requests. Owns nothing. The keeper's only thread. */
#include "fs/fill_refuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <unistd.h>

#include "base/limits.h"
#include "fs/fill.h"
#include "fs/fill_open.h"
#include "fs/fill_wire.h"

#include "base/banned.h"

static void refuse(struct fill_opens *opens, const void *request, size_t n, int *count)
{
	const struct wire_in *in = request;
	struct wire_out out = {.len = sizeof(out), .error = -EIO};
	enum wire_kind kind = wire_check(request, n);

	if (kind == WIRE_BROKEN || kind == WIRE_SILENT || in->opcode == FUSE_INTERRUPT)
		return;
	if (kind == WIRE_REQUEST && in->opcode == FUSE_RELEASE) {
		fill_opens_release(opens, in->unique, in->node);
		out.error = 0;
	}
	out.unique = in->unique;
	/* one that nobody waits for any more is none */
	*count += write(opens->fuse_fd, &out, sizeof(out)) == sizeof(out) && out.error;
}

static int refuse_all(struct fill_opens *opens, struct err *err)
{
	static uint8_t request[FILL_REQUEST_BYTES] __attribute__((aligned(8)));
	const struct wire_out resend = wire_resend();
	int count = 0;

	if (write(opens->fuse_fd, &resend, sizeof(resend)) < 0)
		return err_errno(err, -errno, "ask for the requests of the last worker");
	for (int i = 0; i < FILL_REQUESTS_MAX; i++) {
		ssize_t n = read(opens->fuse_fd, request, sizeof(request));

		if (n > 0)
			refuse(opens, request, (size_t)n, &count);
		else if (n == 0 || (errno != EINTR && errno != ENOENT))
			break;
	}
	return count;
}

int fill_refuse(int fuse_fd, int state_fd, struct err *err)
{
	struct fill_state *state;
	struct fill_opens opens;
	int flags = fcntl(fuse_fd, F_GETFL), r;

	if (flags < 0 || fcntl(fuse_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno(err, -errno, "fuse descriptor");
	r = fill_state_open(state_fd, FILL_STATE_SIZE, &state, err);
	if (r < 0)
		return r;
	if (!fill_state_is_answered(state)) { /* INIT waits, and all that comes after it */
		fill_state_close(state);
		return 0;
	}
	r = fill_opens_init(&opens, NULL, state, err);
	opens.fuse_fd = fuse_fd;
	if (r == 0)
		r = refuse_all(&opens, err);
	fill_opens_fini(&opens);
	return r;
}
