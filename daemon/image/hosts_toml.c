// SPDX-License-Identifier: Apache-2.0
/* Reads the words of hosts.toml. Owns nothing. */
#include "image/hosts_toml.h"

#include <strings.h>

#include "base/toml.h"
#include "image/hosts.h"

#include "base/banned.h"

#define PARTS_MAX 4

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Nanoseconds of a unit; 0 = none. */
static double unit_ns(struct str u)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = {{"ns", 1},   {"us", 1e3}, {"\xc2\xb5s", 1e3}, {"\xce\xbcs", 1e3},
		     {"ms", 1e6}, {"s", 1e9},  {"m", 60e9},        {"h", 3600e9}};

	for (size_t i = 0; i < array_size(units); i++) {
		if (str_eq(u, str_of(units[i].name)))
			return units[i].ns;
	}
	return 0;
}

int duration_parse(struct str s, unsigned *ret_ms)
{
	double total = 0;
	size_t i = 0;

	if (str_eq(s, STR("0"))) {
		*ret_ms = 0;
		return 0;
	}
	if (s.len == 0 || s.len > 64)
		return -EINVAL;
	while (i < s.len) {
		double v = 0, scale = 0, unit;
		size_t start, digits = 0;

		for (; i < s.len && (is_digit(s.p[i]) || (s.p[i] == '.' && scale == 0)); i++) {
			if (s.p[i] == '.') {
				scale = 1;
				continue;
			}
			v = v * 10 + (s.p[i] - '0');
			scale *= 10;
			digits++;
		}
		if (digits == 0)
			return -EINVAL;
		for (start = i; i < s.len && !is_digit(s.p[i]) && s.p[i] != '.'; i++)
			;
		unit = unit_ns((struct str){s.p + start, i - start});
		if (unit == 0)
			return -EINVAL;
		total += (scale > 0 ? v / scale : v) * unit;
	}
	if (!(total >= 0 && total <= 3600e9))
		return -EINVAL;
	*ret_ms = (unsigned)(total / 1e6);
	return 0;
}

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "too large");
}

/* The parts of a canonical path. */
static int split(struct hosts_toml *t, struct str s, struct str parts[PARTS_MAX], size_t *ret_n)
{
	size_t n = 0, i = 0;

	while (i < s.len) {
		bool quoted = s.p[i] == '"';
		char *out = arena_alloc(t->arena, s.len - i + 1);
		size_t len = 0;

		if (!out)
			return -ENOMEM;
		for (i += quoted; i < s.len && s.p[i] != (quoted ? '"' : '.'); i++) {
			if (quoted && s.p[i] == '\\')
				i++;
			out[len++] = s.p[i];
		}
		out[len] = 0;
		if (n < PARTS_MAX)
			parts[n] = (struct str){out, len};
		n++;
		i += quoted + 1u;
	}
	*ret_n = n;
	return 0;
}

static int host_of(struct hosts_toml *t, struct str url, struct host_entry **ret, struct err *err)
{
	struct host_entry *e;

	for (size_t i = 0; i < t->hosts_n; i++) {
		if (str_eq(str_of(t->hosts[i]->url), url)) {
			*ret = t->hosts[i];
			return 0;
		}
	}
	if (t->hosts_n == array_size(t->hosts))
		return err_set(err, -EINVAL, "more than %zu hosts", array_size(t->hosts));
	e = arena_alloc(t->arena, sizeof(*e));
	if (!e)
		return no_memory(err);
	*e = (struct host_entry){.url = url.p};
	t->hosts[t->hosts_n++] = e;
	*ret = e;
	return 0;
}

/* A string of the file that may become a C string; NULL = bad. */
static const char *text_of(struct hosts_toml *t, const struct toml_value *v, struct err *err)
{
	const char *r;

	if (v->type != TOML_STRING || memchr(v->string.p ? v->string.p : "", 0, v->string.len)) {
		err_set(err, -EINVAL, "expected a string, not %s", toml_type_name(v->type));
		return NULL;
	}
	r = arena_strndup(t->arena, v->string.p ? v->string.p : "", v->string.len);
	if (!r)
		no_memory(err);
	return r;
}

/* A string as if it were an array of one. */
static void as_list(const struct toml_value *v, const struct toml_value **ret, size_t *ret_n)
{
	*ret = v->type == TOML_ARRAY ? v->items : v;
	*ret_n = v->type == TOML_ARRAY ? v->items_n : 1;
}

static int set_can(struct hosts_toml *t, struct host_entry *e, const struct toml_value *v,
		   struct err *err)
{
	static const struct {
		const char *name;
		unsigned bit;
	} names[] = {{"pull", HOST_PULL},
		     {"resolve", HOST_RESOLVE},
		     {"push", HOST_PUSH},
		     {"referrers", HOST_REFERRERS}};

	if (v->type != TOML_ARRAY)
		return err_set(err, -EINVAL, "capabilities must be an array");
	e->can = v->items_n ? 0 : HOST_ALL;
	for (size_t i = 0; i < v->items_n; i++) {
		const char *s = text_of(t, &v->items[i], err);
		size_t k = 0;

		if (!s)
			return -EINVAL;
		while (k < array_size(names) && strcasecmp(s, names[k].name) != 0)
			k++;
		if (k == array_size(names))
			return err_set(err, -EINVAL, "unknown capability");
		e->can |= names[k].bit;
	}
	return 0;
}

static int set_ca(struct hosts_toml *t, struct host_entry *e, const struct toml_value *v,
		  struct err *err)
{
	const struct toml_value *list;
	size_t n;

	e->tls = true;
	as_list(v, &list, &n);
	for (size_t i = 0; i < n; i++) {
		if (e->ca_n == HOST_FILES_MAX)
			return err_set(err, -EINVAL, "more than %d files", HOST_FILES_MAX);
		e->ca[e->ca_n] = text_of(t, &list[i], err);
		if (!e->ca[e->ca_n++])
			return -EINVAL;
	}
	return 0;
}

/* libcurl presents one certificate: the first pair counts. */
static int set_client(struct hosts_toml *t, struct host_entry *e, const struct toml_value *v,
		      struct err *err)
{
	const struct toml_value *pair;
	size_t n;

	e->tls = true;
	as_list(v, &pair, &n);
	for (size_t i = 0; i < n; i++) {
		const struct toml_value *words;
		const char *s[2] = {NULL, NULL};
		size_t words_n;

		as_list(&pair[i], &words, &words_n);
		if (words_n < 1 || words_n > 2)
			return err_set(err, -EINVAL, "client wants pairs of files");
		for (size_t k = 0; k < words_n; k++) {
			s[k] = text_of(t, &words[k], err);
			if (!s[k])
				return -EINVAL;
		}
		if (i > 0)
			continue;
		e->cert = s[0];
		e->key = s[1] && *s[1] ? s[1] : NULL;
	}
	return 0;
}

static int set_bool(bool *to, struct str key, const struct toml_value *v, struct err *err)
{
	if (v->type != TOML_BOOLEAN)
		return err_set(err, -EINVAL, STR_FMT " must be a boolean", STR_ARG(key));
	*to = v->boolean;
	return 0;
}

static int set_key(struct hosts_toml *t, struct host_entry *e, struct str key,
		   const struct toml_value *v, struct err *err)
{
	if (str_eq(key, STR("capabilities")))
		return set_can(t, e, v, err);
	if (str_eq(key, STR("ca")))
		return set_ca(t, e, v, err);
	if (str_eq(key, STR("client")))
		return set_client(t, e, v, err);
	if (str_eq(key, STR("override_path")))
		return set_bool(&e->override_path, key, v, err);
	if (str_eq(key, STR("skip_verify"))) {
		e->tls = true;
		return set_bool(&e->skip_verify, key, v, err);
	}
	if (str_eq(key, STR("dial_timeout")) &&
	    (v->type != TOML_STRING || duration_parse(v->string, &e->dial_timeout_ms) < 0))
		return err_set(err, -EINVAL, "dial_timeout must be a duration");
	if (str_eq(key, STR("server")) && e == &t->root) {
		e->url = text_of(t, v, err);
		return e->url ? 0 : -EINVAL;
	}
	return 0; /* unknown keys are for others */
}

static bool header_valid(const char *name, const char *value)
{
	for (const char *p = name; *p; p++) {
		if (*p <= ' ' || *p >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", *p))
			return false;
	}
	return *name && !strpbrk(value, "\r\n");
}

static int set_header(struct hosts_toml *t, struct host_entry *e, struct str name,
		      const struct toml_value *v, struct err *err)
{
	const struct toml_value *list;
	size_t n;

	as_list(v, &list, &n);
	for (size_t i = 0; i < n; i++) {
		const char *s = text_of(t, &list[i], err);

		if (!s)
			return -EINVAL;
		if (!header_valid(name.p, s))
			return err_set(err, -EINVAL, "not a header");
		if (e->headers_n == HOST_HEADERS_MAX)
			return err_set(err, -EINVAL, "more than %d headers", HOST_HEADERS_MAX);
		e->headers[e->headers_n] = arena_printf(t->arena, "%s: %s", name.p, s);
		if (!e->headers[e->headers_n++])
			return no_memory(err);
	}
	return 0;
}

static int on_key(void *arg, struct str table, struct str key, const struct toml_value *v,
		  struct err *err)
{
	struct str parts[PARTS_MAX], name[PARTS_MAX] = {{"", 0}};
	struct hosts_toml *t = arg;
	struct host_entry *e = &t->root;
	size_t n, key_n, at = 0;
	int r;

	if (split(t, table, parts, &n) < 0 || split(t, key, name, &key_n) < 0)
		return no_memory(err);
	if (n >= 2 && str_eq(parts[0], STR("host"))) {
		r = host_of(t, parts[1], &e, err);
		if (r < 0)
			return r;
		at = 2;
	}
	if (!v || key_n != 1)
		return 0;
	if (n == at)
		return set_key(t, e, name[0], v, err);
	if (n == at + 1 && str_eq(parts[at], STR("header")))
		return set_header(t, e, name[0], v, err);
	return 0;
}

int hosts_toml_parse(struct hosts_toml *t, struct str text, struct err *err)
{
	return toml_parse("hosts.toml", text, on_key, t, err);
}
