// SPDX-License-Identifier: Apache-2.0
/* Settings in a TOML text: config_spans.c finds where things stand, base/toml.c judges what they
 * say, before and after. Owns nothing between calls. */
#include "config_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/toml.h"
#include "config_spans.h"

#include "base/banned.h"

#define LIST_NAME "an element of a list" /* a table that nobody has */

/* --- the judge -------------------------------------------------------------------------------- */

/* For base/toml.c, which knows no lists of tables: each becomes a table of its own, numbered in the
 * order of the file, and keeps its line. */
static int judged_text(const struct spans *sp, struct buf *ret)
{
	size_t at = 0, lists = 0;
	int r = 0;

	for (size_t i = 0; i < sp->n && r == 0; i++) {
		const struct entry *e = &sp->list[i];

		if (!e->header || !e->list)
			continue;
		r = buf_append(ret, sp->text.p + at, e->start - at);
		if (r == 0)
			r = buf_printf(ret, "[\"" LIST_NAME " %zu\"]", lists++);
		at = e->value_end;
	}
	return r == 0 ? buf_append(ret, sp->text.p + at, sp->text.len - at) : r;
}

static int judge(const struct spans *sp, toml_key_fn *fn, void *arg, struct err *err)
{
	auto_buf struct buf text = BUF_INIT;
	struct err own = ERR_INIT;
	int r;

	if (judged_text(sp, &text) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = toml_parse("line", (struct str){(char *)text.data, text.len}, fn, arg, &own);
	if (r < 0 && strncmp(own.text, "line:", 5) == 0)
		own.text[4] = ' '; /* as the scanner says it */
	return r < 0 ? err_set(err, r, "%s", own.text) : 0;
}

/* One key of the text, or the beginning of a table. */
struct fact {
	struct digest sum; /* of all that it says */
	size_t want;       /* number + 1 of the setting that it is, or whose table it begins */
	bool key;          /* the setting, not its table */
	bool there;        /* with its value, or the table */
};

struct facts {
	const struct setting *want;
	size_t want_n;
	struct buf list; /* of struct fact */
};

static void facts_fini(struct facts *f)
{
	buf_fini(&f->list);
}
#define auto_facts cleanup(facts_fini)

static bool value_is(const struct toml_value *v, const char *want)
{
	size_t n = strlen(want);

	if (v->type == TOML_STRING)
		return n >= 2 && want[0] == '"' && str_eq(v->string, (struct str){want + 1, n - 2});
	return v->type == TOML_BOOLEAN && strcmp(want, v->boolean ? "true" : "false") == 0;
}

static int put_value(struct buf *b, const struct toml_value *v)
{
	int r = buf_printf(b, "%d %zu %lld %d ", (int)v->type, v->string.len, (long long)v->integer,
			   v->boolean);

	if (r == 0 && v->type == TOML_STRING)
		r = buf_append(b, v->string.p ? v->string.p : "", v->string.len);
	for (size_t i = 0; r == 0 && v->type == TOML_ARRAY && i < v->items_n; i++)
		r = put_value(b, &v->items[i]);
	return r == 0 ? buf_append(b, ";", 1) : r;
}

static int on_key(void *arg, struct str table, struct str key, const struct toml_value *v,
		  struct err *err)
{
	struct facts *f = arg;
	auto_buf struct buf text = BUF_INIT;
	struct fact fact; /* is compared with its padding */
	int r = buf_printf(&text, "%zu %zu " STR_FMT STR_FMT, table.len, key.len, STR_ARG(table),
			   STR_ARG(key));

	memset(&fact, 0, sizeof(fact));
	if (r == 0 && v)
		r = put_value(&text, v);
	for (size_t i = 0; i < f->want_n && !fact.want; i++) {
		if (!str_eq(table, str_of(f->want[i].table)) ||
		    (v && !str_eq(key, str_of(f->want[i].key))))
			continue;
		fact.want = i + 1;
		fact.key = v != NULL;
		fact.there = !v || value_is(v, f->want[i].value);
	}
	sha256(text.data, text.len, &fact.sum);
	if (r == 0)
		r = buf_append(&f->list, &fact, sizeof(fact));
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

/* Where things stand in text, and what it says. To be ended after an error too. */
static int read_text(struct str text, const struct setting *want, size_t n, struct spans *ret_spans,
		     struct facts *ret_facts, struct err *err)
{
	int r = spans_init(ret_spans, text, err);

	*ret_facts = (struct facts){.want = want, .want_n = n, .list = BUF_INIT};
	return r == 0 ? judge(ret_spans, on_key, ret_facts, err) : r;
}

static const struct fact *fact_at(const struct facts *f, size_t i)
{
	return i * sizeof(struct fact) < f->list.len ? (const struct fact *)f->list.data + i : NULL;
}

/* b says all that a says, but for the settings: these may be new, or have another value. */
static bool facts_kept(const struct facts *a, const struct facts *b)
{
	const struct fact *x, *y;
	size_t i = 0, j = 0;

	while ((x = fact_at(a, i)) || fact_at(b, j)) {
		y = fact_at(b, j);
		if (x && y && digest_eq(&x->sum, &y->sum)) {
			i++;
			j++;
		} else if (y && y->want && y->there) {
			j++; /* added */
		} else if (x && x->want && !x->there) {
			i++; /* replaced */
		} else {
			return false;
		}
	}
	return true;
}

/* --- looking ---------------------------------------------------------------------------------- */

static const struct entry *find(const struct spans *sp, const char *path, bool header)
{
	for (size_t i = 0; i < sp->n; i++) {
		if (sp->list[i].header == header && strcmp(sp->list[i].path, path) == 0)
			return &sp->list[i];
	}
	return NULL;
}

static struct str value_of(const struct spans *sp, const struct entry *e)
{
	return (struct str){sp->text.p + e->value, e->value_end - e->value};
}

/* 'x' is "x". */
static bool same_value(struct str is, const char *want)
{
	size_t n = strlen(want);

	if (str_eq(is, str_of(want)))
		return true;
	return n >= 2 && want[0] == '"' && is.len == n && is.p[0] == '\'' && is.p[n - 1] == '\'' &&
	       memcmp(is.p + 1, want + 1, n - 2) == 0;
}

/* table is path, or somewhere in it. */
static bool is_within(const char *table, const char *path)
{
	size_t n = strlen(path);

	return strncmp(table, path, n) == 0 && (!table[n] || table[n] == '.');
}

/* Does this stand where the table would be, or say it in a form that has no header? */
static bool in_the_way(const struct spans *sp, const struct entry *e, const struct setting *want)
{
	if (e->header && e->list)
		return is_within(want->table, strchr(e->path, ']') + 1);
	if (e->header)
		return false;
	if (is_within(want->table, e->path))
		return true;
	return is_within(e->path, want->table) && !find(sp, want->table, true) &&
	       !is_within(e->owner ? sp->list[e->owner - 1].path : "", want->table);
}

static int check_place(const struct spans *sp, const struct setting *want, struct err *err)
{
	for (size_t i = 0; i < sp->n; i++) {
		if (in_the_way(sp, &sp->list[i], want))
			return err_set(err, -EINVAL,
				       "line %zu: %s is written in a form that cannot be added to: "
				       "put it in by hand",
				       sp->list[i].line, want->table);
	}
	return 0;
}

static const struct entry *find_setting(const struct spans *sp, const struct setting *want,
					char path[512])
{
	snprintf(path, 512, "%s%s%s", want->table, want->table[0] ? "." : "", want->key);
	return find(sp, path, false);
}

static void states_of(const struct facts *f, enum setting_state *ret)
{
	const struct fact *x;

	for (size_t i = 0; i < f->want_n; i++)
		ret[i] = SETTING_MISSING;
	for (size_t i = 0; (x = fact_at(f, i)); i++) {
		if (x->want && x->key)
			ret[x->want - 1] = x->there ? SETTING_THERE : SETTING_OTHER;
	}
}

int config_look(struct str text, const struct setting *want, size_t n, enum setting_state *ret,
		struct err *err)
{
	auto_spans struct spans sp;
	auto_facts struct facts f;
	int r = read_text(text, want, n, &sp, &f, err);

	if (r == 0)
		states_of(&f, ret);
	return r;
}

size_t config_line(struct str text, const struct setting *want)
{
	auto_spans struct spans sp;
	const struct entry *e;
	char path[512];

	if (spans_init(&sp, text, NULL) < 0)
		return 0;
	e = find_setting(&sp, want, path);
	return e ? e->line : 0;
}

struct str config_top(struct str text, const char *key)
{
	auto_spans struct spans sp;
	const struct entry *e;

	if (spans_init(&sp, text, NULL) < 0)
		return (struct str){0};
	e = find(&sp, key, false);
	return e && !e->owner ? value_of(&sp, e) : (struct str){0};
}

bool config_empty(struct str text)
{
	auto_spans struct spans sp;

	return spans_init(&sp, text, NULL) == 0 && sp.n == 0;
}

bool config_has(struct str text, const char *table)
{
	auto_spans struct spans sp;
	bool has = false;

	if (spans_init(&sp, text, NULL) < 0)
		return false;
	for (size_t i = 0; i < sp.n; i++)
		has |= is_within(sp.list[i].path, table);
	return has;
}

/* --- merging ---------------------------------------------------------------------------------- */

/* text with [from, to) replaced. */
static int spliced(struct str text, size_t from, size_t to, const char *with, struct buf *ret)
{
	int r;

	ret->len = 0;
	r = buf_append(ret, text.p, from);
	if (r == 0)
		r = buf_append(ret, with, strlen(with));
	return r == 0 ? buf_append(ret, text.p + to, text.len - to) : r;
}

static const char *header_text(struct arena *a, const char *table)
{
	return arena_printf(a, "[%s]", table);
}

/* Behind the last key of the table, or behind its header. */
static int add_to_table(struct spans *sp, const struct entry *header, const struct setting *want,
			struct buf *ret)
{
	size_t number = (size_t)(header - sp->list) + 1, at = header->end;
	size_t indent = header->indent + 2;
	bool ends = at == 0 || sp->text.p[at - 1] == '\n';
	const char *line;

	for (size_t i = 0; i < sp->n; i++) {
		if (!sp->list[i].header && sp->list[i].owner == number) {
			at = sp->list[i].end;
			indent = sp->list[i].indent;
			ends = sp->text.p[at - 1] == '\n';
		}
	}
	line = arena_printf(&sp->arena, "%s%*s%s = %s\n", ends ? "" : "\n", (int)indent, "",
			    want->key, want->value);
	return line ? spliced(sp->text, at, at, line, ret) : -ENOMEM;
}

static int add_table(struct spans *sp, const struct setting *want, struct buf *ret)
{
	size_t n = sp->text.len;
	bool ends = n == 0 || sp->text.p[n - 1] == '\n';
	const char *lines =
		arena_printf(&sp->arena, "%s%s%s\n  %s = %s\n", ends ? "" : "\n", n ? "\n" : "",
			     header_text(&sp->arena, want->table), want->key, want->value);

	return lines ? spliced(sp->text, n, n, lines, ret) : -ENOMEM;
}

static int replace(struct spans *sp, const struct entry *e, const struct setting *want, bool force,
		   struct buf *ret, struct err *err)
{
	struct str is = value_of(sp, e);

	if (same_value(is, want->value))
		return spliced(sp->text, 0, 0, "", ret);
	if (!force)
		return err_set(err, -EEXIST, "line %zu: %s.%s is %.*s, not %s", e->line,
			       want->table, want->key, (int)(is.len > 100 ? 100 : is.len), is.p,
			       want->value);
	if (is.len && (memchr(is.p, '\n', is.len) || is.p[0] == '[' || is.p[0] == '{'))
		return err_set(err, -EINVAL, "line %zu: %s.%s is a list: change it by hand",
			       e->line, want->table, want->key);
	return spliced(sp->text, e->value, e->value_end, want->value, ret);
}

static int merge_one(struct str text, const struct setting *want, bool force, struct buf *ret,
		     struct err *err)
{
	auto_spans struct spans sp;
	auto_facts struct facts f;
	const struct entry *e, *header;
	enum setting_state state = SETTING_MISSING;
	char path[512];
	int r = read_text(text, want, 1, &sp, &f, err);

	if (r < 0)
		return r;
	states_of(&f, &state);
	if (state == SETTING_THERE)
		return spliced(text, 0, 0, "", ret) < 0 ? err_set(err, -ENOMEM, "out of memory")
							: 0;
	e = find_setting(&sp, want, path);
	if (e)
		return replace(&sp, e, want, force, ret, err);
	r = check_place(&sp, want, err);
	if (r == 0 && state == SETTING_OTHER)
		r = err_set(err, -EINVAL, "%s is set in a form that is not understood", path);
	if (r < 0)
		return r;
	header = find(&sp, want->table, true);
	r = header ? add_to_table(&sp, header, want, ret) : add_table(&sp, want, ret);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

/* What stands in b too, in the same bytes; of a setting only its name. */
static int check_spans(const struct spans *a, const struct spans *b, const struct setting *want,
		       size_t n, struct err *err)
{
	const struct entry *settings[CONFIG_EDIT_SETTINGS], *e;
	char path[512];

	for (size_t k = 0; k < n; k++)
		settings[k] = find_setting(a, &want[k], path);
	for (size_t i = 0, j = 0; i < a->n; i++, j++) {
		bool ours = false;

		e = &a->list[i];
		while (j < b->n &&
		       (b->list[j].header != e->header || strcmp(e->path, b->list[j].path) != 0))
			j++;
		for (size_t k = 0; k < n; k++)
			ours |= settings[k] == e;
		if (j == b->n || (!ours && !str_eq(value_of(a, e), value_of(b, &b->list[j]))))
			return err_set(err, -EINVAL, "line %zu would change", e->line);
	}
	return 0;
}

/* The result is read again: the settings are in it, and exactly they differ. */
static int check_result(struct str before, struct str after, const struct setting *want, size_t n,
			struct err *err)
{
	auto_spans struct spans a, b;
	auto_facts struct facts fa, fb;
	enum setting_state states[CONFIG_EDIT_SETTINGS];
	int r = read_text(before, want, n, &a, &fa, err),
	    q = read_text(after, want, n, &b, &fb, err);

	if (r < 0 || q < 0)
		return r < 0 ? r : q;
	states_of(&fb, states);
	for (size_t i = 0; i < n; i++) {
		if (states[i] != SETTING_THERE)
			return err_set(err, -EINVAL, "%s.%s cannot be put in", want[i].table,
				       want[i].key);
	}
	if (!facts_kept(&fa, &fb))
		return err_set(err, -EINVAL,
			       "the result would say something else: edit it by hand");
	return check_spans(&a, &b, want, n, err);
}

int config_merge(struct str text, const struct setting *want, size_t n, bool force, struct buf *ret,
		 struct err *err)
{
	auto_buf struct buf now = BUF_INIT;
	int r = 0;

	require(n <= CONFIG_EDIT_SETTINGS);
	if (buf_append(&now, text.p ? text.p : "", text.len) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n && r == 0; i++) {
		struct buf next = BUF_INIT;

		r = merge_one((struct str){(char *)now.data, now.len}, &want[i], force, &next, err);
		buf_fini(&now);
		now = next;
	}
	if (r == 0)
		r = check_result(text, (struct str){(char *)now.data, now.len}, want, n, err);
	if (r == 0 && buf_append(ret, now.data, now.len) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	return r;
}

/* --- lists of tables -------------------------------------------------------------------------- */

static bool is_list_of(const struct entry *e, const char *table)
{
	return e->header && e->list && strcmp(strchr(e->path, ']') + 1, table) == 0;
}

static bool element_has(const struct spans *sp, size_t header, const struct setting *want)
{
	for (size_t i = 0; i < sp->n; i++) {
		const struct entry *e = &sp->list[i];
		size_t n = strlen(e->path), m = strlen(want->key);

		if (!e->header && e->owner == header + 1 && n > m && e->path[n - m - 1] == '.' &&
		    strcmp(e->path + n - m, want->key) == 0)
			return same_value(value_of(sp, e), want->value);
	}
	return false;
}

/* One value, or a table, where the list should be. */
static int check_list(const struct spans *sp, const char *table, struct err *err)
{
	for (size_t i = 0; i < sp->n; i++) {
		const struct entry *e = &sp->list[i];
		bool bad = e->header ? (e->list ? !is_list_of(e, table) &&
							  is_within(table, strchr(e->path, ']') + 1)
						: strcmp(e->path, table) == 0)
				     : is_within(table, e->path);

		if (bad)
			return err_set(err, -EINVAL,
				       "line %zu: %s is in a form that cannot be added to: add to "
				       "it by hand",
				       e->line, table);
	}
	return 0;
}

int config_list_has(struct str text, const struct setting *want, struct err *err)
{
	auto_spans struct spans sp;
	auto_facts struct facts f;
	int r = read_text(text, NULL, 0, &sp, &f, err);
	bool any = false;

	if (r == 0)
		r = check_list(&sp, want->table, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < sp.n; i++) {
		if (!is_list_of(&sp.list[i], want->table))
			continue;
		any = true;
		if (element_has(&sp, i, want))
			return CONFIG_LIST_ELEMENT;
	}
	return any ? CONFIG_LIST_OTHERS : CONFIG_LIST_NONE;
}

/* That it can be read, and says what it said. */
static int check_longer(struct str before, struct str after, const struct setting *want,
			struct err *err)
{
	auto_spans struct spans a, b;
	auto_facts struct facts fa, fb;
	int r = read_text(before, NULL, 0, &a, &fa, err),
	    q = read_text(after, NULL, 0, &b, &fb, err);

	if (r < 0 || q < 0)
		return r < 0 ? r : q;
	if (fb.list.len < fa.list.len ||
	    (fa.list.len && memcmp(fa.list.data, fb.list.data, fa.list.len) != 0) ||
	    config_list_has(after, want, err) != CONFIG_LIST_ELEMENT)
		return err_set(err, -EINVAL, "%s cannot be added to: add to it by hand",
			       want->table);
	return 0;
}

int config_list_add(struct str text, const struct setting *want, size_t n, struct buf *ret,
		    struct err *err)
{
	bool ends = !text.len || text.p[text.len - 1] == '\n';
	int r = config_list_has(text, want, err);

	if (r < 0)
		return r;
	if (buf_append(ret, text.p ? text.p : "", text.len) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (r == CONFIG_LIST_ELEMENT)
		return 0;
	r = buf_printf(ret, "%s\n[[%s]]\n", ends ? "" : "\n", want->table);
	for (size_t i = 0; i < n && r == 0; i++)
		r = buf_printf(ret, "  %s = %s\n", want[i].key, want[i].value);
	if (r < 0)
		return err_set(err, r, "out of memory");
	return check_longer(text, (struct str){(char *)ret->data, ret->len}, want, err);
}
