// SPDX-License-Identifier: Apache-2.0
/* Small documents as a tree. All memory is the caller's arena. */
#include "base/json.h"
#include "base/limits.h"

#include "base/banned.h"

struct tree {
	struct arena *a;
	struct json *root;
	struct json *open[JSON_DEPTH_MAX];
	struct json *last[JSON_DEPTH_MAX]; /* member of open[] */
	int depth;
	struct str key; /* of the next member */
};

static int copy(struct tree *t, struct str s, struct str *ret)
{
	char *p = arena_strndup(t->a, s.p, s.len);

	if (!p)
		return -ENOMEM;
	*ret = (struct str){p, s.len};
	return 0;
}

static int add(struct tree *t, enum json_type type, struct json **ret)
{
	struct json *j = arena_alloc(t->a, sizeof(*j));

	if (!j)
		return -ENOMEM;
	*j = (struct json){.type = type, .text = STR(""), .key = t->key};
	t->key = STR("");
	if (t->depth == 0) {
		t->root = j;
	} else {
		if (t->last[t->depth - 1])
			t->last[t->depth - 1]->next = j;
		else
			t->open[t->depth - 1]->first = j;
		t->last[t->depth - 1] = j;
	}
	*ret = j;
	return 0;
}

static int on_value(void *arg, enum json_type type, int64_t integer, struct str text)
{
	struct tree *t = arg;
	struct json *j;
	int r = add(t, type, &j);

	if (r < 0)
		return r;
	j->integer = integer;
	return text.len ? copy(t, text, &j->text) : 0;
}

static int on_key(void *arg, struct str key)
{
	struct tree *t = arg;

	return copy(t, key, &t->key);
}

static int on_open(void *arg, enum json_type type)
{
	struct tree *t = arg;
	struct json *j;
	int r = add(t, type, &j);

	if (r < 0)
		return r;
	require(t->depth < JSON_DEPTH_MAX);
	t->open[t->depth] = j;
	t->last[t->depth++] = NULL;
	return 0;
}

static int on_close(void *arg, enum json_type type)
{
	struct tree *t = arg;

	(void)type;
	t->depth--;
	return 0;
}

static const struct json_events events = {on_value, on_key, on_open, on_close};

int json_tree(struct str document, struct arena *a, struct json **ret, struct err *err)
{
	struct tree t = {.a = a, .key = STR("")};
	struct json_parser *p;
	int r = json_new(&events, &t, err, &p);

	if (r == 0) {
		r = json_feed(p, document.p, document.len);
		if (r == 0)
			r = json_end(p);
		json_free(p);
	}
	if (r == -ENOMEM)
		return err_set(err, r, "JSON: no memory for it");
	if (r == 0)
		*ret = t.root;
	return r;
}

const struct json *json_get(const struct json *j, const char *key)
{
	const struct json *found = NULL;

	if (!j || j->type != JSON_MAP)
		return NULL;
	for (const struct json *m = j->first; m; m = m->next) {
		if (str_eq(m->key, str_of(key)))
			found = m;
	}
	return found;
}

struct str json_text(const struct json *j, const char *key)
{
	const struct json *m = json_get(j, key);

	return m && m->type == JSON_STRING ? m->text : STR("");
}
