/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 with the standard alphabet (RFC 4648, section 4). Pure. */
#ifndef FIRSTLIGHT_BASE_BASE64_H
#define FIRSTLIGHT_BASE_BASE64_H

#include "base/buf.h"
#include "base/str.h"

/* Appends; padded. -ENOMEM. */
int base64_encode(struct str data, struct buf *b) must_check;

/* Appends; padding may be missing. -EINVAL, -ENOMEM. */
int base64_decode(struct str text, struct buf *b) must_check;

#endif
