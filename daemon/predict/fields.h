/* SPDX-License-Identifier: Apache-2.0 */
/* Members of the JSON documents of this folder: read within bounds, and written. Pure. */
#ifndef FIRSTLIGHT_PREDICT_FIELDS_H
#define FIRSTLIGHT_PREDICT_FIELDS_H

#include "base/buf.h"
#include "base/json.h"

/* The integer j.key of 0 to max. -EINVAL and which member of what ("use 3") is missing or wrong. */
int field_uint(const struct json *j, const char *what, const char *key, uint64_t max, uint64_t *ret,
	       struct err *err) must_check;
int field_u32(const struct json *j, const char *what, const char *key, uint32_t max, uint32_t *ret,
	      struct err *err) must_check;
/* The text j.key, without NUL. -EINVAL as above. */
int field_text(const struct json *j, const char *what, const char *key, struct str *ret,
	       struct err *err) must_check;
/* The list j.key and how many members it has. -EINVAL as above, or more than max. */
int field_list(const struct json *j, const char *key, size_t max, const struct json **ret,
	       size_t *ret_n, struct err *err) must_check;

/* -ENOTSUP unless j.version is version; -EINVAL. */
int field_version(const struct json *j, uint32_t version, struct err *err) must_check;

/* Appends s, which is UTF-8, with its quotes. -ENOMEM. */
int field_put_text(struct buf *b, struct str s) must_check;

#endif
