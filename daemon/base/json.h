/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON from outside, event by event (RFC 8259): nothing is kept, so memory does not grow with the
 * document. For small documents there is a tree in an arena. Pure; any thread.
 */
#ifndef FIRSTLIGHT_BASE_JSON_H
#define FIRSTLIGHT_BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_STRING, JSON_MAP, JSON_LIST };

/* Handlers answer 0, or a negative code that ends the parse and is its result. Strings are valid
 * during the call only, are UTF-8, and may hold NUL. */
struct json_events {
	/* A null, bool, number or string. integer: of JSON_BOOL and JSON_INT; text: of JSON_STRING,
	 * and the digits of JSON_INT and JSON_REAL (an integer that does not fit is a JSON_REAL).
	 */
	int (*value)(void *arg, enum json_type type, int64_t integer, struct str text);
	int (*key)(void *arg, struct str key);
	int (*open)(void *arg, enum json_type type); /* JSON_MAP or JSON_LIST */
	int (*close)(void *arg, enum json_type type);
};

struct json_parser;

/* err (may be NULL) takes the cause of a syntax error, until json_free(). */
int json_new(const struct json_events *events, void *arg, struct err *err,
	     struct json_parser **ret) must_check;
/* The next piece. -EINVAL: not JSON, or deeper than JSON_DEPTH_MAX; or the handler's code. After an
 * error only json_free() is allowed. */
int json_feed(struct json_parser *p, const void *data, size_t n) must_check;
/* The end: -EINVAL when the document is not complete. Anything but white space behind the document
 * is an error in feed or here. */
int json_end(struct json_parser *p) must_check;
void json_free(struct json_parser *p);

/* --- trees, for documents of a few MiB at most ------------------------------------------------ */

struct json {
	enum json_type type;
	int64_t integer;           /* of JSON_BOOL, JSON_INT */
	struct str text;           /* of JSON_STRING, JSON_INT, JSON_REAL; NUL behind it */
	struct str key;            /* in a map */
	struct json *first, *next; /* members; the next one beside this */
};

/* All of it lives in a. -EINVAL, -ENOMEM (the arena's cap). */
int json_tree(struct str document, struct arena *a, struct json **ret, struct err *err) must_check;

/* The member of that name, the last if it is there twice; NULL: none, or j is no map or NULL. */
const struct json *json_get(const struct json *j, const char *key);
/* The text of a string member; empty if it is missing or something else. */
struct str json_text(const struct json *j, const char *key);

#endif
