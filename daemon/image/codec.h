/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression with limits: gzip members (RFC 1952) and zstd frames (RFC 8878), and nothing at
 * all. Blocking: threads only. The input is whatever a registry sent.
 */
#ifndef FIRSTLIGHT_IMAGE_CODEC_H
#define FIRSTLIGHT_IMAGE_CODEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum codec { CODEC_NONE, CODEC_GZIP, CODEC_ZSTD };

/* Takes output in pieces; a negative answer ends the work and is its result. */
typedef int codec_sink(void *arg, const void *data, size_t n);

/*
 * Decompresses in, drops the first skip bytes of the output, and gives the next len to sink.
 * Neither the end of the stream nor its checksum need be there behind them; members and frames that
 * follow each other are one stream. -EBADMSG: damaged, or the output ends too early; -ENOMEM.
 */
int codec_range(enum codec c, struct str in, uint64_t skip, uint64_t len, codec_sink *sink,
		void *arg, struct err *err) must_check;

/* The whole of one gzip member or of all zstd frames in `in`, at most max bytes. first_member: stop
 * after the first gzip member. -EFBIG: more than max; -EBADMSG: damaged or cut short. */
int codec_whole(enum codec c, struct str in, uint64_t max, bool first_member, codec_sink *sink,
		void *arg, struct err *err) must_check;

#endif
