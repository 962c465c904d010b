// SPDX-License-Identifier: Apache-2.0
/* Lengths and patches of FUSE messages. Owns nothing. */
#include "fs/fill_wire.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clean.h"

#include "base/banned.h"

/* Newer than the headers that we build with. */
#define INIT_PASSTHROUGH  (1ull << 37)
#define INIT_HAS_RESEND   (1ull << 39)
#define OPEN_PASSTHROUGH  (1u << 7)
#define NOTIFY_RESEND     7
#define IOC_BACKING_OPEN  _IOW(229, 1, struct backing_map)
#define IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

struct init_in {
	uint32_t major, minor, max_readahead, flags, flags2;
	uint32_t unused[11];
};

struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
};

_Static_assert(sizeof(struct wire_in) == sizeof(struct fuse_in_header), "fuse_in_header");
_Static_assert(sizeof(struct wire_out) == sizeof(struct fuse_out_header), "fuse_out_header");
_Static_assert(sizeof(struct wire_open) == sizeof(struct fuse_open_out), "fuse_open_out");
_Static_assert(sizeof(struct init_out) == 64, "fuse_init_out");

/* Bytes of the argument of each operation that we have, + 1; 0 = we do not have it. */
static const uint8_t argument[] = {
	[FUSE_LOOKUP] = 1 + 1,
	[FUSE_GETATTR] = 1 + sizeof(struct fuse_getattr_in),
	[FUSE_OPEN] = 1 + sizeof(struct fuse_open_in),
	[FUSE_READ] = 1 + sizeof(struct fuse_read_in),
	[FUSE_STATFS] = 1,
	[FUSE_RELEASE] = 1 + sizeof(struct fuse_release_in),
	[FUSE_INIT] = 1 + 16,
	[FUSE_OPENDIR] = 1 + sizeof(struct fuse_open_in),
	[FUSE_READDIR] = 1 + sizeof(struct fuse_read_in),
	[FUSE_RELEASEDIR] = 1 + sizeof(struct fuse_release_in),
	[FUSE_INTERRUPT] = 1 + sizeof(struct fuse_interrupt_in),
	[FUSE_DESTROY] = 1,
};

static bool silent(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_NOTIFY_REPLY;
}

enum wire_kind wire_check(const void *data, size_t n)
{
	const struct wire_in *in = data;
	const char *body = (const char *)(in + 1);

	if (n < sizeof(*in) || in->len != n)
		return WIRE_BROKEN;
	if (silent(in->opcode))
		return WIRE_SILENT;
	if (in->opcode >= array_size(argument) || !argument[in->opcode])
		return WIRE_UNKNOWN;
	n -= sizeof(*in);
	if (n + 1 < argument[in->opcode] || (in->opcode == FUSE_LOOKUP && !memchr(body, 0, n)))
		return in->opcode == FUSE_INTERRUPT ? WIRE_SILENT : WIRE_SHORT;
	return in->opcode == FUSE_INIT ? WIRE_INIT : WIRE_REQUEST;
}

bool wire_init_reply(const void *request, size_t request_n, void *reply, size_t n,
		     const struct wire_init_options *options)
{
	struct init_in in = {0};
	struct init_out out;
	uint64_t offered, flags;

	if (n < sizeof(out) || request_n < sizeof(struct wire_in))
		return false;
	request_n -= sizeof(struct wire_in);
	memcpy(&in, (const char *)request + sizeof(struct wire_in),
	       request_n < sizeof(in) ? request_n : sizeof(in));
	memcpy(&out, reply, sizeof(out));
	offered = in.flags | (in.flags & FUSE_INIT_EXT ? (uint64_t)in.flags2 << 32 : 0);
	flags = out.flags | (out.flags & FUSE_INIT_EXT ? (uint64_t)out.flags2 << 32 : 0);
	flags |=
		offered & (FUSE_INIT_EXT | INIT_HAS_RESEND | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS);
	if (options->passthrough)
		flags |= offered & INIT_PASSTHROUGH;
	out.flags = (uint32_t)flags;
	out.flags2 = (uint32_t)(flags >> 32);
	out.max_stack_depth = flags & INIT_PASSTHROUGH ? 1 : 0;
	out.max_readahead = options->readahead;
	if (flags & FUSE_MAX_PAGES)
		out.max_pages = (uint16_t)options->request_pages;
	memcpy(reply, &out, sizeof(out));
	return flags & INIT_PASSTHROUGH;
}

void wire_open_reply(struct wire_open *reply, uint32_t backing_id)
{
	reply->flags = OPEN_PASSTHROUGH;
	reply->backing_id = (int32_t)backing_id;
}

struct wire_out wire_resend(void)
{
	return (struct wire_out){.len = sizeof(struct wire_out), .error = NOTIFY_RESEND};
}

int wire_backing_open(int fuse_fd, int fd)
{
	struct backing_map map = {.fd = fd};
	int id = ioctl(fuse_fd, IOC_BACKING_OPEN, &map);

	if (id < 0)
		return -errno;
	return id > 0 ? id : -EPROTO;
}

void wire_backing_close(int fuse_fd, uint32_t id)
{
	ioctl(fuse_fd, IOC_BACKING_CLOSE, &id);
}
