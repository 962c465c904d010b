/* SPDX-License-Identifier: Apache-2.0 */
/* The small languages of gRPC's headers. Pure; any thread. */
#ifndef FIRSTLIGHT_NET_GRPC_TEXT_H
#define FIRSTLIGHT_NET_GRPC_TEXT_H

#include "base/buf.h"
#include "base/str.h"
#include "net/grpc.h"

#define GRPC_TIMEOUT_TEXT_MAX 16

/* A value of grpc-timeout, in ns; a very long one is UINT64_MAX. -EINVAL. */
int grpc_timeout_parse(struct str s, uint64_t *ret_ns) must_check;

/* Rounded down to what 8 digits can say, but never to nothing. */
void grpc_timeout_print(uint64_t ns, char out[GRPC_TIMEOUT_TEXT_MAX]);

/* Appends a status message as a header can carry it; no more than GRPC_ERROR_TEXT_MAX of its bytes.
 */
int grpc_percent_encode(struct str text, struct buf *out) must_check;

/* The other way. What is no valid escape stands for itself. NUL-terminated, cut to size. */
void grpc_percent_decode(struct str s, char *out, size_t size);

/* Is it "application/grpc", alone or with a suffix or parameters? */
bool grpc_content_type(struct str s);

/* "0" to "16"; an unknown one is "2". Static. */
struct str grpc_code_text(enum grpc_code code);
enum grpc_code grpc_code_parse(struct str s);

/* What an answer without a grpc-status means. */
enum grpc_code grpc_code_of_http(struct str status);
enum grpc_code grpc_code_of_reset(uint32_t h2_code);

#endif
