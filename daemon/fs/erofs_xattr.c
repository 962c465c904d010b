// SPDX-License-Identifier: Apache-2.0
/* Owns the values of one image while it is written. Keys of the maps are copies or the tree's. */
#include "fs/erofs_xattr.h"

#include <sys/stat.h>

#include "base/limits.h"
#include "fs/erofs_format.h"

#include "base/banned.h"

#define SHARED_MAX   255 /* of one inode; the count is a byte */
#define AREA_MAX     (XATTR_HEADER + 4u * 65534)
#define REDIRECT_LEN (1 + 3 + 64) /* "/ab/<64 hex>" */

/* Lies in the map by key: index, name, NUL, value. Redirects: by the object's key alone. */
struct xattr_value {
	struct map_node node;
	struct xattr_value *next; /* of the shared ones */
	uint32_t uses, id;
	uint16_t value_len;
	uint8_t index, name_len;
	bool redirect;
};

static const struct {
	struct str prefix;
	uint8_t index;
	bool whole; /* the prefix is the name */
} names[] = {
	{{"user.", 5}, XATTR_USER, false},
	{{"system.posix_acl_access", 23}, XATTR_ACL_ACCESS, true},
	{{"system.posix_acl_default", 24}, XATTR_ACL_DEFAULT, true},
	{{"trusted.", 8}, XATTR_TRUSTED, false},
	{{"security.", 9}, XATTR_SECURITY, false},
};

int xattr_pool_init(struct xattr_pool *p)
{
	int r;

	*p = (struct xattr_pool){0};
	arena_init(&p->arena, EROFS_IMAGE_MAX);
	r = map_init(&p->map);
	return r < 0 ? r : map_init(&p->objects);
}

void xattr_pool_fini(struct xattr_pool *p)
{
	map_fini(&p->map);
	map_fini(&p->objects);
	arena_fini(&p->arena);
	buf_fini(&p->key);
	free(p->refs);
}

static int add_ref(struct xattr_pool *p, struct xattr_value *v)
{
	size_t cap = p->refs_cap ? p->refs_cap * 2 : 1024;
	struct xattr_value **refs;

	if (p->refs_n >= UINT32_MAX)
		return -EFBIG;
	if (p->refs_n == p->refs_cap) {
		refs = realloc(p->refs, cap * sizeof(refs[0]));
		if (!refs)
			return -ENOMEM;
		p->refs = refs;
		p->refs_cap = cap;
	}
	v->uses++;
	p->refs[p->refs_n++] = v;
	return 0;
}

static int take(struct xattr_pool *p, uint8_t index, struct str name, struct str value)
{
	struct xattr_value *v;
	struct map_node *n;
	int r;

	if (name.len > UINT8_MAX || value.len > UINT16_MAX)
		return -EFBIG;
	p->key.len = 0;
	r = buf_append(&p->key, &index, 1);
	if (r == 0)
		r = buf_append(&p->key, name.p, name.len);
	if (r == 0)
		r = buf_append(&p->key, "", 1);
	if (r == 0)
		r = buf_append(&p->key, value.p, value.len);
	if (r < 0)
		return r;
	n = map_get(&p->map, (struct str){(char *)p->key.data, p->key.len});
	if (n)
		return add_ref(p, container_of(n, struct xattr_value, node));
	v = arena_alloc(&p->arena, sizeof(*v));
	if (!v)
		return -ENOMEM;
	*v = (struct xattr_value){
		.index = index, .name_len = (uint8_t)name.len, .value_len = (uint16_t)value.len};
	v->node.key.p = arena_strndup(&p->arena, (char *)p->key.data, p->key.len);
	v->node.key.len = p->key.len;
	if (!v->node.key.p)
		return -ENOMEM;
	map_put(&p->map, &v->node);
	return add_ref(p, v);
}

static int take_redirect(struct xattr_pool *p, const struct digest *object)
{
	struct str key = {(const char *)object->bytes, DIGEST_SIZE};
	struct map_node *n = map_get(&p->objects, key);
	struct xattr_value *v;

	if (n)
		return add_ref(p, container_of(n, struct xattr_value, node));
	v = arena_alloc(&p->arena, sizeof(*v));
	if (!v)
		return -ENOMEM;
	*v = (struct xattr_value){
		.node.key = key,
		.index = XATTR_TRUSTED,
		.name_len = sizeof("overlay.redirect") - 1,
		.value_len = REDIRECT_LEN,
		.redirect = true,
	};
	map_put(&p->objects, &v->node);
	return add_ref(p, v);
}

/* What overlayfs takes for its own is never an image's; unknown kinds cannot be stored. */
static int take_named(struct xattr_pool *p, const struct index_xattr *x)
{
	for (size_t i = 0; i < array_size(names); i++) {
		struct str name = x->name;

		if (!str_starts(name, names[i].prefix) ||
		    (name.len == names[i].prefix.len) != names[i].whole)
			continue;
		name.p += names[i].prefix.len;
		name.len -= names[i].prefix.len;
		if (names[i].index == XATTR_TRUSTED && str_starts(name, STR("overlay.")))
			return 0;
		return take(p, names[i].index, name, x->value);
	}
	return 0;
}

int xattr_take(struct xattr_pool *p, const struct merge_inode *in, bool whiteouts,
	       struct xattr_refs *ret)
{
	size_t first = p->refs_n;
	int r = 0;

	if (S_ISREG(in->mode) && in->size > 0 && !in->target.p) {
		r = take(p, XATTR_TRUSTED, STR("overlay.metacopy"), STR(""));
		if (r == 0)
			r = take_redirect(p, &in->key);
	}
	if (r == 0 && S_ISDIR(in->mode) && in->opaque)
		r = take(p, XATTR_TRUSTED, STR("overlay.opaque"), STR("y"));
	/* Without an origin readdir shows the whiteouts of a directory that no other layer has. */
	if (r == 0 && whiteouts)
		r = take(p, XATTR_TRUSTED, STR("overlay.origin"), STR(""));
	for (uint32_t i = 0; r == 0 && i < in->xattrs_n; i++)
		r = take_named(p, &in->xattrs[i]);
	if (r == 0)
		*ret = (struct xattr_refs){(uint32_t)first, (uint32_t)(p->refs_n - first)};
	return r;
}

static uint32_t entry_size(const struct xattr_value *v)
{
	return (uint32_t)erofs_align(XATTR_ENTRY + v->name_len + v->value_len, 4);
}

int xattr_layout(struct xattr_pool *p, uint64_t base)
{
	struct xattr_value **tail = &p->shared;
	uint64_t at = base;

	p->shared = NULL;
	for (size_t i = 0; i < p->refs_n; i++) {
		struct xattr_value *v = p->refs[i];

		if (v->uses < 2 || v->next || tail == &v->next)
			continue;
		v->id = (uint32_t)(at / 4);
		at += entry_size(v);
		if (at > EROFS_IMAGE_MAX)
			return -EFBIG;
		*tail = v;
		tail = &v->next;
	}
	p->shared_bytes = at - base;
	return 0;
}

int xattr_area_size(const struct xattr_pool *p, struct xattr_refs r, uint32_t *ret)
{
	uint64_t size = XATTR_HEADER;
	uint32_t shared = 0;

	for (uint32_t i = 0; i < r.n; i++) {
		const struct xattr_value *v = p->refs[r.first + i];

		if (v->uses > 1 && shared < SHARED_MAX) {
			shared++;
			size += 4;
		} else {
			size += entry_size(v);
		}
	}
	if (size > AREA_MAX)
		return -EFBIG;
	*ret = r.n ? (uint32_t)size : 0;
	return 0;
}

static int put_entry(const struct xattr_value *v, struct buf *out)
{
	uint32_t size = entry_size(v);
	uint8_t *p;
	int r = buf_reserve(out, size);

	if (r < 0)
		return r;
	p = out->data + out->len;
	memset(p, 0, size);
	p[XATTR_NAME_LEN] = v->name_len;
	p[XATTR_INDEX] = v->index;
	put16(p + XATTR_VALUE_LEN, v->value_len);
	p += XATTR_ENTRY;
	if (v->redirect) {
		char text[DIGEST_HEX_SIZE];

		digest_hex((const struct digest *)v->node.key.p, text);
		memcpy(p, "overlay.redirect/", v->name_len + 1u);
		p += v->name_len + 1;
		memcpy(p, text, 2);
		p[2] = '/';
		memcpy(p + 3, text, DIGEST_HEX_SIZE - 1);
	} else {
		memcpy(p, v->node.key.p + 1, v->name_len);
		if (v->value_len)
			memcpy(p + v->name_len, v->node.key.p + 2 + v->name_len, v->value_len);
	}
	out->len += size;
	return 0;
}

int xattr_put_area(const struct xattr_pool *p, struct xattr_refs r, struct buf *out)
{
	uint32_t shared = 0, seen = 0;
	int err;

	if (r.n == 0)
		return 0;
	for (uint32_t i = 0; i < r.n; i++)
		shared += p->refs[r.first + i]->uses > 1;
	if (shared > SHARED_MAX)
		shared = SHARED_MAX;
	err = buf_reserve(out, XATTR_HEADER + 4 * shared);
	if (err < 0)
		return err;
	memset(out->data + out->len, 0, XATTR_HEADER);
	out->data[out->len + XATTR_SHARED_N] = (uint8_t)shared;
	out->len += XATTR_HEADER;
	for (uint32_t i = 0; seen < shared; i++) {
		if (p->refs[r.first + i]->uses > 1) {
			put32(out->data + out->len, p->refs[r.first + i]->id);
			out->len += 4;
			seen++;
		}
	}
	seen = 0;
	for (uint32_t i = 0; i < r.n; i++) {
		const struct xattr_value *v = p->refs[r.first + i];

		if (v->uses > 1 && seen++ < SHARED_MAX)
			continue;
		err = put_entry(v, out);
		if (err < 0)
			return err;
	}
	return 0;
}

int xattr_put_shared(const struct xattr_pool *p, struct buf *out)
{
	int r = 0;

	for (const struct xattr_value *v = p->shared; v && r == 0; v = v->next)
		r = put_entry(v, out);
	return r;
}
