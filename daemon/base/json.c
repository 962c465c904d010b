// SPDX-License-Identifier: Apache-2.0
/* JSON by yajl, and the only file that includes it. yajl keeps at most one token of the input. */
#include "base/json.h"

#include <yajl/yajl_parse.h>

#include "base/limits.h"

#include "base/banned.h"

struct json_parser {
	const struct json_events *events;
	void *arg;
	struct err *err;
	yajl_handle yajl;
	int depth;
	int failed;   /* what a handler or a limit answered */
	size_t quiet; /* bytes since the last event */
};

static int answer(struct json_parser *p, int r)
{
	p->quiet = 0;
	if (r < 0)
		p->failed = r;
	return r >= 0;
}

static int value(struct json_parser *p, enum json_type type, int64_t integer, struct str text)
{
	return answer(p, p->events->value ? p->events->value(p->arg, type, integer, text) : 0);
}

static int on_null(void *ctx)
{
	return value(ctx, JSON_NULL, 0, STR(""));
}

static int on_bool(void *ctx, int b)
{
	return value(ctx, JSON_BOOL, b != 0, STR(""));
}

/* false: not an integer, or it does not fit. */
static bool parse_integer(struct str s, int64_t *ret)
{
	bool negative = s.len > 0 && s.p[0] == '-';
	int64_t v = 0;

	for (size_t i = negative; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		if (__builtin_mul_overflow(v, (int64_t)10, &v) ||
		    __builtin_sub_overflow(v, (int64_t)(s.p[i] - '0'), &v))
			return false;
	}
	if (!negative && __builtin_sub_overflow((int64_t)0, v, &v))
		return false;
	*ret = v;
	return true;
}

static int on_number(void *ctx, const char *digits, size_t n)
{
	struct str text = {digits, n};
	int64_t v = 0;

	if (parse_integer(text, &v))
		return value(ctx, JSON_INT, v, text);
	return value(ctx, JSON_REAL, 0, text);
}

/* yajl lets long forms and lone surrogates through. */
static int check_text(struct json_parser *p, struct str s)
{
	if (s.len <= JSON_TOKEN_MAX && str_utf8(s))
		return 0;
	return err_set(p->err, -EINVAL,
		       s.len > JSON_TOKEN_MAX ? "JSON: a string is too long"
					      : "JSON: a string is no UTF-8");
}

static int on_string(void *ctx, const unsigned char *s, size_t n)
{
	struct str text = {(const char *)s, n};
	int r = check_text(ctx, text);

	return r < 0 ? answer(ctx, r) : value(ctx, JSON_STRING, 0, text);
}

static int on_key(void *ctx, const unsigned char *s, size_t n)
{
	struct json_parser *p = ctx;
	struct str text = {(const char *)s, n};
	int r = check_text(p, text);

	if (r == 0 && p->events->key)
		r = p->events->key(p->arg, text);
	return answer(p, r);
}

static int open_(struct json_parser *p, enum json_type type)
{
	if (++p->depth > JSON_DEPTH_MAX)
		return answer(p, err_set(p->err, -EINVAL, "JSON: deeper than %d", JSON_DEPTH_MAX));
	return answer(p, p->events->open ? p->events->open(p->arg, type) : 0);
}

static int close_(struct json_parser *p, enum json_type type)
{
	p->depth--;
	return answer(p, p->events->close ? p->events->close(p->arg, type) : 0);
}

static int on_map(void *ctx)
{
	return open_(ctx, JSON_MAP);
}

static int on_map_end(void *ctx)
{
	return close_(ctx, JSON_MAP);
}

static int on_list(void *ctx)
{
	return open_(ctx, JSON_LIST);
}

static int on_list_end(void *ctx)
{
	return close_(ctx, JSON_LIST);
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_bool,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_map,
	.yajl_map_key = on_key,
	.yajl_end_map = on_map_end,
	.yajl_start_array = on_list,
	.yajl_end_array = on_list_end,
};

int json_new(const struct json_events *events, void *arg, struct err *err, struct json_parser **ret)
{
	struct json_parser *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct json_parser){.events = events, .arg = arg, .err = err};
	p->yajl = yajl_alloc(&callbacks, NULL, p);
	if (!p->yajl) {
		free(p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

static int result(struct json_parser *p, yajl_status status)
{
	unsigned char *text;
	size_t n;

	if (status == yajl_status_ok)
		return 0;
	if (p->failed < 0)
		return p->failed;
	p->failed = -EINVAL;
	text = yajl_get_error(p->yajl, 0, NULL, 0);
	for (n = 0; text && text[n] && text[n] != '\n';)
		n++;
	err_set(p->err, -EINVAL, "JSON: %.*s", (int)n, text ? (char *)text : "");
	yajl_free_error(p->yajl, text);
	return -EINVAL;
}

int json_feed(struct json_parser *p, const void *data, size_t n)
{
	const unsigned char *at = data;
	int r;

	require(p->failed == 0);
	while (n > 0) {
		size_t piece = n < KiB(64) ? n : KiB(64);

		p->quiet += piece;
		r = result(p, yajl_parse(p->yajl, at, piece));
		if (r < 0)
			return r;
		if (p->quiet > JSON_TOKEN_MAX + KiB(64)) {
			p->failed = -EINVAL;
			return err_set(p->err, -EINVAL, "JSON: a token is too long");
		}
		at += piece;
		n -= piece;
	}
	return 0;
}

int json_end(struct json_parser *p)
{
	require(p->failed == 0);
	return result(p, yajl_complete_parse(p->yajl));
}

void json_free(struct json_parser *p)
{
	if (!p)
		return;
	yajl_free(p->yajl);
	free(p);
}
