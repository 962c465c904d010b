// SPDX-License-Identifier: Apache-2.0
/* Parses the answers of registries. Owns nothing. */
#include "image/answer.h"

#include <errno.h>
#include <strings.h>
#include <time.h>

#include "base/json.h"
#include "base/limits.h"

#include "base/banned.h"

#define MESSAGE_MAX 200

static struct str part(struct str s, size_t from, size_t to)
{
	return (struct str){s.p + from, to - from};
}

static size_t find(struct str s, char c)
{
	const char *at = s.len ? memchr(s.p, c, s.len) : NULL;

	return at ? (size_t)(at - s.p) : s.len;
}

int content_range_parse(struct str text, struct content_range *ret)
{
	struct content_range r = {0};
	size_t slash, dash;

	if (text.len < 6 || strncasecmp(text.p, "bytes", 5) != 0 || text.p[5] != ' ')
		return -EINVAL;
	while (text.len > 5 && (text.p[5] == ' '))
		text.p++, text.len--;
	text = part(text, 5, text.len);
	slash = find(text, '/');
	if (slash == text.len)
		return -EINVAL;
	r.unsatisfied = slash == 1 && text.p[0] == '*';
	if (!str_eq(part(text, slash + 1, text.len), STR("*")) &&
	    str_u64(part(text, slash + 1, text.len), &r.total) < 0)
		return -EINVAL;
	dash = find(part(text, 0, slash), '-');
	if (!r.unsatisfied &&
	    (dash == slash || str_u64(part(text, 0, dash), &r.first) < 0 ||
	     str_u64(part(text, dash + 1, slash), &r.last) < 0 || r.last < r.first ||
	     r.last == UINT64_MAX || (r.total && r.last >= r.total)))
		return -EINVAL;
	*ret = r;
	return 0;
}

unsigned retry_after_ms(struct str text, int64_t now)
{
	char copy[64];
	struct tm tm = {0};
	uint64_t seconds;
	int64_t at;

	if (text.len == 0 || text.len >= sizeof(copy))
		return 0;
	if (str_u64(text, &seconds) < 0) {
		memcpy(copy, text.p, text.len);
		copy[text.len] = 0;
		if (!strptime(copy, "%a, %d %b %Y %H:%M:%S GMT", &tm))
			return 0;
		at = timegm(&tm);
		if (at <= now)
			return 0;
		seconds = (uint64_t)(at - now);
	}
	return seconds >= REGISTRY_RETRY_AFTER_MAX_MS / 1000 ? REGISTRY_RETRY_AFTER_MAX_MS
							     : (unsigned)seconds * 1000;
}

/* --- challenges ------------------------------------------------------------------------------ */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_token(char c)
{
	return c > 32 && c < 127 && !strchr("\"(),/:;<=>?@[\\]{}", c);
}

static void skip(struct str *s, bool commas)
{
	while (s->len && (is_blank(s->p[0]) || (commas && s->p[0] == ',')))
		*s = part(*s, 1, s->len);
}

static struct str take_token(struct str *s)
{
	struct str r = {s->p, 0};

	while (r.len < s->len && is_token(s->p[r.len]))
		r.len++;
	*s = part(*s, r.len, s->len);
	return r;
}

/* Behind the quote. false: no end, or too long. */
static bool take_quoted(struct str *s, struct arena *a, struct str *ret)
{
	size_t n = s->len < CHALLENGE_VALUE_MAX ? s->len : CHALLENGE_VALUE_MAX, len = 0;
	char *out = arena_alloc(a, n + 1);

	for (size_t i = 0; out && i < n; i++) {
		char c = s->p[i];

		if (c == '"') {
			out[len] = 0;
			*ret = (struct str){out, len};
			*s = part(*s, i + 1, s->len);
			return true;
		}
		if (c == '\\' && ++i < n)
			c = s->p[i];
		out[len++] = c;
	}
	return false;
}

static void set_param(struct challenge *c, struct str name, struct str value)
{
	const struct {
		const char *name;
		struct str *to;
	} params[] = {{"realm", &c->realm}, {"service", &c->service}, {"scope", &c->scope}};

	for (size_t i = 0; i < array_size(params); i++) {
		if (name.len == strlen(params[i].name) &&
		    strncasecmp(name.p, params[i].name, name.len) == 0)
			*params[i].to = value;
	}
}

/* Behind "name =". */
static bool take_value(struct str *s, struct arena *a, struct str *ret)
{
	struct str v;

	skip(s, false);
	if (s->len && s->p[0] == '"') {
		*s = part(*s, 1, s->len);
		return take_quoted(s, a, ret);
	}
	v = take_token(s);
	ret->p = v.len <= CHALLENGE_VALUE_MAX ? arena_strndup(a, v.p, v.len) : NULL;
	ret->len = v.len;
	return ret->p != NULL;
}

static enum challenge_scheme scheme_of(struct str s)
{
	if (s.len == 6 && strncasecmp(s.p, "bearer", 6) == 0)
		return CHALLENGE_BEARER;
	return s.len == 5 && strncasecmp(s.p, "basic", 5) == 0 ? CHALLENGE_BASIC : CHALLENGE_OTHER;
}

size_t challenges_parse(struct str s, struct arena *a, struct challenge *ret, size_t max)
{
	struct str name, value;
	size_t n = 0;

	for (;;) {
		skip(&s, true);
		name = take_token(&s);
		if (name.len == 0)
			return n;
		skip(&s, false);
		if (s.len == 0 || s.p[0] != '=') {
			if (n == max)
				return n;
			ret[n++] = (struct challenge){.scheme = scheme_of(name)};
			continue;
		}
		while (s.len && s.p[0] == '=') /* several: the end of a token68 */
			s = part(s, 1, s.len);
		if (s.len == 0 || s.p[0] == ',')
			continue;
		if (n == 0 || !take_value(&s, a, &value))
			return n;
		set_param(&ret[n - 1], name, value);
	}
}

/* --- bodies and links ------------------------------------------------------------------------ */

static const char *from_json(struct str body, struct arena *a)
{
	const struct json *e;
	struct str code, message;
	struct json *root;

	if (json_tree(body, a, &root, NULL) < 0)
		return NULL;
	e = json_get(root, "errors");
	e = e ? e->first : NULL;
	code = json_text(e, "code");
	message = json_text(e, "message");
	if (message.len == 0)
		message = json_text(root, "details"); /* of token servers */
	if (code.len == 0 && message.len == 0)
		return NULL;
	if (message.len > MESSAGE_MAX)
		message.len = MESSAGE_MAX;
	if (code.len > 64)
		code.len = 64;
	return arena_printf(a, STR_FMT "%s" STR_FMT, STR_ARG(code),
			    code.len && message.len ? ": " : "", STR_ARG(message));
}

const char *error_message(struct str body, struct arena *a)
{
	const char *from = from_json(body, a);
	char *text;

	if (!from) {
		while (body.len && is_blank(body.p[0]))
			body = part(body, 1, body.len);
		if (body.len && body.p[0] == '<') /* a page for browsers */
			body.len = 0;
		body.len = find(body, '\n');
		from = arena_strndup(a, body.len ? body.p : "",
				     body.len > MESSAGE_MAX ? MESSAGE_MAX : body.len);
	}
	if (!from)
		return "";
	text = arena_strndup(a, from, strlen(from));
	for (char *p = text; p && *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	}
	return text ? text : "";
}
