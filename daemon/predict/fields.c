// SPDX-License-Identifier: Apache-2.0
/* Members of JSON documents. Owns nothing. */
#include "predict/fields.h"

#include "base/banned.h"

int field_uint(const struct json *j, const char *what, const char *key, uint64_t max, uint64_t *ret,
	       struct err *err)
{
	const struct json *m = json_get(j, key);

	if (!m || m->type != JSON_INT || m->integer < 0 || (uint64_t)m->integer > max)
		return err_set(err, -EINVAL, "%s: \"%s\" is not an integer of 0 to %llu", what, key,
			       (unsigned long long)max);
	*ret = (uint64_t)m->integer;
	return 0;
}

int field_u32(const struct json *j, const char *what, const char *key, uint32_t max, uint32_t *ret,
	      struct err *err)
{
	uint64_t v;
	int r = field_uint(j, what, key, max, &v, err);

	if (r == 0)
		*ret = (uint32_t)v;
	return r;
}

int field_text(const struct json *j, const char *what, const char *key, struct str *ret,
	       struct err *err)
{
	const struct json *m = json_get(j, key);

	if (!m || m->type != JSON_STRING || (m->text.len && memchr(m->text.p, 0, m->text.len)))
		return err_set(err, -EINVAL, "%s: \"%s\" is not a text", what, key);
	*ret = m->text;
	return 0;
}

int field_list(const struct json *j, const char *key, size_t max, const struct json **ret,
	       size_t *ret_n, struct err *err)
{
	const struct json *list = json_get(j, key);
	size_t n = 0;

	if (!list || list->type != JSON_LIST)
		return err_set(err, -EINVAL, "\"%s\" is not a list", key);
	for (const struct json *m = list->first; m; m = m->next) {
		if (++n > max)
			return err_set(err, -EINVAL, "\"%s\" has more than %zu members", key, max);
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

int field_version(const struct json *j, uint32_t version, struct err *err)
{
	uint32_t v;
	int r;

	if (j->type != JSON_MAP)
		return err_set(err, -EINVAL, "not a JSON object");
	r = field_u32(j, "document", "version", UINT32_MAX, &v, err);
	if (r < 0)
		return r;
	if (v > version)
		return err_set(err, -ENOTSUP, "version %u; this program knows %u", v, version);
	return v == version ? 0 : err_set(err, -EINVAL, "version %u", v);
}

int field_put_text(struct buf *b, struct str s)
{
	size_t from = 0;
	int r = buf_append(b, "\"", 1);

	for (size_t i = 0; r == 0 && i <= s.len; i++) {
		unsigned char c = i < s.len ? (unsigned char)s.p[i] : 0;

		if (i < s.len && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
			continue;
		r = buf_append(b, s.p + from, i - from);
		from = i + 1;
		if (r == 0 && i < s.len)
			r = c == '"' || c == '\\' ? buf_printf(b, "\\%c", c)
						  : buf_printf(b, "\\u%04x", c);
	}
	return r < 0 ? r : buf_append(b, "\"", 1);
}
