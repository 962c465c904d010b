// SPDX-License-Identifier: Apache-2.0
/* Trees of JSON, written and changed. */
#include "convert_json.h"

#include <inttypes.h>
#include <string.h>

#include "convert_toc.h"

#include "base/banned.h"

static int put_members(struct buf *b, const struct json *j, char open, char close)
{
	int r = buf_append(b, &open, 1);

	for (const struct json *m = j->first; m && r == 0; m = m->next) {
		if (m != j->first)
			r = buf_append(b, ",", 1);
		if (r == 0 && open == '{')
			r = toc_string(b, m->key.p, m->key.len);
		if (r == 0 && open == '{')
			r = buf_append(b, ":", 1);
		if (r == 0)
			r = json_put(b, m);
	}
	return r == 0 ? buf_append(b, &close, 1) : r;
}

int json_put(struct buf *b, const struct json *j)
{
	switch (j->type) {
	case JSON_NULL:
		return buf_append(b, "null", 4);
	case JSON_BOOL:
		return j->integer ? buf_append(b, "true", 4) : buf_append(b, "false", 5);
	case JSON_INT:
	case JSON_REAL:
		return buf_append(b, j->text.p, j->text.len);
	case JSON_STRING:
		return toc_string(b, j->text.p ? j->text.p : "", j->text.len);
	case JSON_MAP:
		return put_members(b, j, '{', '}');
	default:
		return put_members(b, j, '[', ']');
	}
}

static struct json *member(struct json *map, struct arena *a, const char *key)
{
	struct json *j = (struct json *)(uintptr_t)json_get(map, key), *last = map->first;

	if (j) {
		j->first = NULL;
		return j;
	}
	j = arena_alloc(a, sizeof(*j));
	if (!j)
		return NULL;
	*j = (struct json){.key = {arena_strndup(a, key, strlen(key)), strlen(key)}};
	if (!j->key.p)
		return NULL;
	while (last && last->next)
		last = last->next;
	if (last)
		last->next = j;
	else
		map->first = j;
	return j;
}

static int set(struct json *map, struct arena *a, const char *key, enum json_type type,
	       const char *text)
{
	struct json *j = member(map, a, key);

	if (!j || !text)
		return -ENOMEM;
	j->type = type;
	j->text = (struct str){arena_strndup(a, text, strlen(text)), strlen(text)};
	return j->text.p ? 0 : -ENOMEM;
}

int json_set_text(struct json *map, struct arena *a, const char *key, const char *value)
{
	return set(map, a, key, JSON_STRING, value);
}

int json_set_int(struct json *map, struct arena *a, const char *key, uint64_t value)
{
	return set(map, a, key, JSON_INT, arena_printf(a, "%" PRIu64, value));
}

int json_set_digest(struct json *map, struct arena *a, const char *key, const struct digest *d)
{
	char text[DIGEST_TEXT_SIZE];

	digest_text(d, text);
	return json_set_text(map, a, key, text);
}

struct json *json_map_in(struct json *map, struct arena *a, const char *key)
{
	struct json *j = (struct json *)(uintptr_t)json_get(map, key);

	if (j && j->type == JSON_MAP)
		return j;
	j = member(map, a, key);
	if (j)
		j->type = JSON_MAP;
	return j;
}
