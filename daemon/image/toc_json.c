// SPDX-License-Identifier: Apache-2.0
/*
 * The JSON of a table of contents as it comes: one entry is held, no more. Keys are known exactly
 * as the writers write them; unknown ones are skipped.
 */
#include "base/base64.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"
#include "image/toc_parse.h"

#include "base/banned.h"

/* A piece of an entry's text. */
struct span {
	uint32_t off, len;
};

enum text { NAME, TYPE, LINK_NAME, MODTIME, DIGEST, CHUNK_DIGEST, CHUNK_TYPE, TEXTS };
enum number {
	SIZE,
	MODE,
	UID,
	GID,
	DEV_MAJOR,
	DEV_MINOR,
	OFFSET,
	INNER_OFFSET,
	END_OFFSET,
	CHUNK_OFFSET,
	CHUNK_SIZE,
	NUMBERS
};

static const char *const text_names[TEXTS] = {
	"name", "type", "linkName", "modtime", "digest", "chunkDigest", "chunkType",
};
static const char *const number_names[NUMBERS] = {
	"size",   "mode",        "uid",       "gid",         "devMajor",  "devMinor",
	"offset", "innerOffset", "endOffset", "chunkOffset", "chunkSize",
};

/* Where in the document the parser is. */
enum place { OUTSIDE, TOP, ENTRIES, ENTRY, XATTRS };
/* What the last key names, where it stands. */
enum key { KEY_OTHER, KEY_VERSION, KEY_ENTRIES, KEY_TEXT, KEY_NUMBER, KEY_XATTRS };

struct xattr_span {
	struct span name, value;
};

struct toc_json {
	struct json_parser *json;
	toc_entry_fn *fn;
	struct toc_target *target;
	enum place place;
	unsigned skip; /* depth within something unknown */
	enum key key;
	unsigned which; /* enum text or number */
	bool version, entries;
	/* the entry */
	struct buf text;
	struct span texts[TEXTS];
	uint64_t numbers[NUMBERS];
	struct xattr_span xattrs[XATTRS_MAX];
	size_t xattrs_n;
	struct span xattr_key;
};

static int fail(struct toc_json *p, int code, const char *what)
{
	return err_set(p->target->err, code, "table of contents: %s", what);
}

static int keep(struct toc_json *p, struct str s, struct span *ret)
{
	if (s.len > 2 * JSON_TOKEN_MAX - p->text.len)
		return fail(p, -EFBIG, "entry too long");
	*ret = (struct span){(uint32_t)p->text.len, (uint32_t)s.len};
	return buf_append(&p->text, s.p, s.len);
}

static struct str text_at(const struct toc_json *p, struct span s)
{
	return (struct str){s.len ? (const char *)p->text.data + s.off : "", s.len};
}

static int on_xattr(struct toc_json *p, struct str base64)
{
	struct xattr_span *x = &p->xattrs[p->xattrs_n];
	int r;
	size_t from = p->text.len;

	if (p->xattrs_n == XATTRS_MAX)
		return fail(p, -EFBIG, "too many xattrs");
	if (base64.len > 2 * JSON_TOKEN_MAX - p->text.len)
		return fail(p, -EFBIG, "entry too long");
	r = base64_decode(base64, &p->text);
	if (r < 0)
		return r == -EINVAL ? fail(p, r, "xattr that is no base64") : r;
	x->name = p->xattr_key;
	x->value = (struct span){(uint32_t)from, (uint32_t)(p->text.len - from)};
	p->xattrs_n++;
	return 0;
}

static int on_field(struct toc_json *p, enum json_type type, int64_t integer, struct str text)
{
	switch (p->key) {
	case KEY_TEXT:
		if (type != JSON_STRING)
			return fail(p, -EINVAL, "a text is no string");
		return keep(p, text, &p->texts[p->which]);
	case KEY_NUMBER:
		if (type != JSON_INT || integer < 0)
			return fail(p, -EINVAL, "a number that cannot be");
		p->numbers[p->which] = (uint64_t)integer;
		return 0;
	case KEY_XATTRS:
		return fail(p, -EINVAL, "xattrs are no object");
	default:
		return 0;
	}
}

static int on_top(struct toc_json *p, enum json_type type, int64_t integer)
{
	if (p->key == KEY_ENTRIES)
		return fail(p, -EINVAL, "entries are no list");
	if (p->key != KEY_VERSION)
		return 0;
	if (type != JSON_INT || integer != 1)
		return fail(p, -EOPNOTSUPP, "unknown version");
	p->version = true;
	return 0;
}

static int on_value(void *arg, enum json_type type, int64_t integer, struct str text)
{
	struct toc_json *p = arg;

	/* null is as if the key were not there. */
	if (p->skip > 0 || (type == JSON_NULL && (p->place == ENTRY || p->place == XATTRS)))
		return 0;
	switch (p->place) {
	case TOP:
		if (p->key == KEY_ENTRIES && type == JSON_NULL)
			p->entries = true;
		return type == JSON_NULL ? 0 : on_top(p, type, integer);
	case ENTRY:
		return on_field(p, type, integer, text);
	case XATTRS:
		if (type != JSON_STRING)
			return fail(p, -EINVAL, "xattr that is no string");
		return on_xattr(p, text);
	default:
		return fail(p, -EINVAL, "not a table");
	}
}

static void entry_key(struct toc_json *p, struct str key)
{
	p->key = KEY_OTHER;
	if (str_eq(key, STR("xattrs"))) {
		p->key = KEY_XATTRS;
		return;
	}
	for (unsigned i = 0; i < TEXTS; i++) {
		if (str_eq(key, str_of(text_names[i]))) {
			p->key = KEY_TEXT;
			p->which = i;
			return;
		}
	}
	for (unsigned i = 0; i < NUMBERS; i++) {
		if (str_eq(key, str_of(number_names[i]))) {
			p->key = KEY_NUMBER;
			p->which = i;
			return;
		}
	}
}

static int on_key(void *arg, struct str key)
{
	struct toc_json *p = arg;

	if (p->skip > 0)
		return 0;
	if (p->place == XATTRS)
		return keep(p, key, &p->xattr_key);
	if (p->place == ENTRY)
		entry_key(p, key);
	else
		p->key = str_eq(key, STR("version"))   ? KEY_VERSION
			 : str_eq(key, STR("entries")) ? KEY_ENTRIES
						       : KEY_OTHER;
	return 0;
}

static void begin_entry(struct toc_json *p)
{
	p->text.len = 0;
	p->xattrs_n = 0;
	for (unsigned i = 0; i < TEXTS; i++)
		p->texts[i] = (struct span){0};
	for (unsigned i = 0; i < NUMBERS; i++)
		p->numbers[i] = 0;
	p->place = ENTRY;
}

static int on_open(void *arg, enum json_type type)
{
	struct toc_json *p = arg;

	if (p->skip > 0 || (p->place != OUTSIDE && p->place != ENTRIES && p->key == KEY_OTHER)) {
		p->skip++;
		return 0;
	}
	if (p->place == OUTSIDE && type == JSON_MAP) {
		p->place = TOP;
		return 0;
	}
	if (p->place == TOP && p->key == KEY_ENTRIES && type == JSON_LIST && !p->entries) {
		p->entries = true;
		p->place = ENTRIES;
		return 0;
	}
	if (p->place == ENTRIES && type == JSON_MAP) {
		begin_entry(p);
		return 0;
	}
	if (p->place == ENTRY && p->key == KEY_XATTRS && type == JSON_MAP) {
		p->place = XATTRS;
		return 0;
	}
	return fail(p, -EINVAL, "an object or list where none belongs");
}

static enum toc_type type_of(struct str s)
{
	static const char *const names[] = {"",     "dir",   "reg",  "symlink", "hardlink",
					    "char", "block", "fifo", "chunk"};

	for (unsigned i = TOC_TYPE_DIR; i <= TOC_TYPE_CHUNK; i++) {
		if (str_eq(s, str_of(names[i])))
			return i;
	}
	return TOC_TYPE_UNKNOWN;
}

static int end_entry(struct toc_json *p)
{
	struct index_xattr xattrs[XATTRS_MAX];
	struct toc_entry e = {
		.type = type_of(text_at(p, p->texts[TYPE])),
		.name = text_at(p, p->texts[NAME]),
		.link_name = text_at(p, p->texts[LINK_NAME]),
		.modtime = text_at(p, p->texts[MODTIME]),
		.digest = text_at(p, p->texts[DIGEST]),
		.chunk_digest = text_at(p, p->texts[CHUNK_DIGEST]),
		.chunk_type = text_at(p, p->texts[CHUNK_TYPE]),
		.size = p->numbers[SIZE],
		.mode = p->numbers[MODE],
		.uid = p->numbers[UID],
		.gid = p->numbers[GID],
		.dev_major = p->numbers[DEV_MAJOR],
		.dev_minor = p->numbers[DEV_MINOR],
		.offset = p->numbers[OFFSET],
		.inner_offset = p->numbers[INNER_OFFSET],
		.end_offset = p->numbers[END_OFFSET],
		.chunk_offset = p->numbers[CHUNK_OFFSET],
		.chunk_size = p->numbers[CHUNK_SIZE],
		.xattrs = xattrs,
		.xattrs_n = p->xattrs_n,
	};

	for (size_t i = 0; i < p->xattrs_n; i++)
		xattrs[i] = (struct index_xattr){text_at(p, p->xattrs[i].name),
						 text_at(p, p->xattrs[i].value)};
	p->place = ENTRIES;
	return p->fn(p->target, &e);
}

static int on_close(void *arg, enum json_type type)
{
	struct toc_json *p = arg;

	(void)type;
	if (p->skip > 0) {
		p->skip--;
		return 0;
	}
	switch (p->place) {
	case XATTRS:
		p->place = ENTRY;
		p->key = KEY_OTHER;
		return 0;
	case ENTRY:
		return end_entry(p);
	case ENTRIES:
		p->place = TOP;
		p->key = KEY_OTHER;
		return 0;
	default:
		p->place = OUTSIDE;
		return 0;
	}
}

static const struct json_events events = {on_value, on_key, on_open, on_close};

int toc_json_new(toc_entry_fn *fn, struct toc_target *t, struct toc_json **ret)
{
	struct toc_json *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->fn = fn;
	p->target = t;
	r = json_new(&events, p, t->err, &p->json);
	if (r < 0) {
		free(p);
		return r;
	}
	*ret = p;
	return 0;
}

int toc_json_feed(struct toc_json *p, const void *data, size_t n)
{
	return json_feed(p->json, data, n);
}

int toc_json_end(struct toc_json *p)
{
	int r = json_end(p->json);

	if (r < 0)
		return r;
	if (!p->version || !p->entries)
		return fail(p, -EINVAL, "no version or no entries");
	return 0;
}

void toc_json_free(struct toc_json *p)
{
	if (!p)
		return;
	json_free(p->json);
	buf_fini(&p->text);
	free(p);
}
