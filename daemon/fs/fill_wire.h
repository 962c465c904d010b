/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libfuse 3.14 does not do on the wire of /dev/fuse (linux/fuse.h, protocol 7.45): the lengths
 * of requests, passthrough in INIT and OPEN replies, RESEND. Pure, but for the ioctls. Numbers are
 * the kernel's.
 */
#ifndef FIRSTLIGHT_FS_FILL_WIRE_H
#define FIRSTLIGHT_FS_FILL_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_RESEND_BIT (1ull << 63) /* of unique: the kernel has asked this before */

/* struct fuse_in_header */
struct wire_in {
	uint32_t len, opcode;
	uint64_t unique, node;
	uint32_t uid, gid, pid;
	uint16_t ext_len, padding;
};

/* struct fuse_out_header */
struct wire_out {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};

/* struct fuse_open_out */
struct wire_open {
	uint64_t fh;
	uint32_t flags;
	int32_t backing_id;
};

#define WIRE_INIT_MAX 256 /* bytes of an INIT request, more than any kernel sends */

enum wire_kind {
	WIRE_BROKEN,  /* not even a header: nothing can be answered */
	WIRE_SHORT,   /* an operation that we know, without all of its argument */
	WIRE_SILENT,  /* expects no answer, and we have no use for it */
	WIRE_UNKNOWN, /* an operation that we do not have: ENOSYS, and the kernel asks no more */
	WIRE_INIT,
	WIRE_REQUEST, /* for libfuse, which trusts in lengths */
};

/* What are these n bytes? data is aligned for a uint64_t. */
enum wire_kind wire_check(const void *data, size_t n);

struct wire_init_options {
	bool passthrough;
	uint32_t readahead, request_pages;
};

/* Completes the INIT reply of libfuse (n bytes at reply, behind the header) to a request; does it
 * say passthrough now? */
bool wire_init_reply(const void *request, size_t request_n, void *reply, size_t n,
		     const struct wire_init_options *options);

/* Makes the OPEN reply one of passthrough. */
void wire_open_reply(struct wire_open *reply, uint32_t backing_id);

/* The 16 bytes that ask for all unanswered requests again. */
struct wire_out wire_resend(void);

/* An id for a file in fuse_fd's connection; -errno. */
int wire_backing_open(int fuse_fd, int fd);
void wire_backing_close(int fuse_fd, uint32_t id);

#endif
