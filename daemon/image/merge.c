// SPDX-License-Identifier: Apache-2.0
/*
 * One layer after the other goes on top of the tree. While it grows, every path that is there has a
 * struct name, found by the whole path; at the end the names of each directory are ordered. Owns
 * the tree; paths and values stay the indexes'.
 */
#include "image/merge.h"

#include <sys/stat.h>

#include "base/arena.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/map.h"

#include "base/banned.h"

#define SLAB 256 /* names and inodes are taken from the arenas by so many */

struct merge_tree {
	struct arena arena;
	struct merge_inode *root;
};

struct name {
	struct map_node node; /* in merge.names, by path */
	struct list link;     /* in the directory's children */
	struct list children; /* name.link */
	struct name *queued;
	struct merge_inode *inode;
	uint32_t layer; /* the last one that has it */
	bool merged;    /* a directory that several layers have made */
	bool cut;       /* what lies at this path below the run is hidden by the run */
	bool hidden;    /* nothing below the run is seen here: a directory above is cut */
};

struct merge {
	struct merge_tree *tree;
	struct arena arena; /* the names */
	struct map names;
	struct name root;
	struct name *last; /* the directory of this layer that was used last */
	bool below;
	uint32_t layer, inodes_n, names_n;
	struct merge_inode *inode_slab; /* the next of this slab is number inodes_n % SLAB */
	struct name *name_slab;
	const struct index *ix;
	struct merge_inode **made; /* of the layer's entries */
};

static struct name *find(struct merge *m, struct str path)
{
	struct map_node *n = path.len ? map_get(&m->names, path) : &m->root.node;

	return n ? container_of(n, struct name, node) : NULL;
}

static bool is_whiteout(const struct merge_inode *in)
{
	return S_ISCHR(in->mode) && in->dev_major == 0 && in->dev_minor == 0;
}

static int new_inode(struct merge *m, mode_t mode, struct merge_inode **ret)
{
	struct merge_inode *in;

	if (m->inodes_n == MERGE_INODES_MAX)
		return -EFBIG;
	if (m->inodes_n % SLAB == 0)
		m->inode_slab = arena_alloc(&m->tree->arena, SLAB * sizeof(*in));
	if (!m->inode_slab)
		return -ENOMEM;
	in = &m->inode_slab[m->inodes_n++ % SLAB];
	*in = (struct merge_inode){.mode = mode, .nlink = 1};
	*ret = in;
	return 0;
}

static int new_name(struct merge *m, struct name *dir, struct str path, struct name **ret)
{
	struct name *n;

	if (m->names_n == MERGE_INODES_MAX)
		return -EFBIG;
	if (m->names_n % SLAB == 0)
		m->name_slab = arena_alloc(&m->arena, SLAB * sizeof(*n));
	if (!m->name_slab)
		return -ENOMEM;
	n = &m->name_slab[m->names_n++ % SLAB];
	*n = (struct name){.node.key = path};
	list_init(&n->children);
	list_push(&dir->children, &n->link);
	map_put(&m->names, &n->node);
	*ret = n;
	return 0;
}

/* Everything below n goes. Each name goes once, so whiteouts cost no more than what they hide. */
static void drop_children(struct merge *m, struct name *n)
{
	struct list todo, *l;

	list_init(&todo);
	list_splice(&todo, &n->children);
	list_init(&n->children);
	while ((l = list_pop(&todo))) {
		struct name *child = container_of(l, struct name, link);

		map_del(&m->names, &child->node);
		list_splice(&todo, &child->children);
	}
}

/* --- entries ---------------------------------------------------------------------------------- */

static int set_attributes(struct merge *m, struct merge_inode *in, const struct index_entry *e)
{
	struct index_xattr *x = NULL;

	if (e->xattrs_n) {
		x = arena_alloc(&m->tree->arena, e->xattrs_n * sizeof(*x));
		if (!x)
			return -ENOMEM;
		for (uint32_t i = 0; i < e->xattrs_n; i++)
			index_xattr(m->ix, e->xattrs + i, &x[i]);
	}
	in->mode = (in->mode & S_IFMT) | (e->mode & 07777);
	in->uid = e->uid;
	in->gid = e->gid;
	in->mtime = e->mtime;
	in->mtime_nsec = e->mtime_nsec;
	in->xattrs = x;
	in->xattrs_n = e->xattrs_n;
	return 0;
}

static mode_t type_of(enum index_type t)
{
	switch (t) {
	case INDEX_DIR:
		return S_IFDIR;
	case INDEX_REG:
		return S_IFREG;
	case INDEX_SYMLINK:
		return S_IFLNK;
	case INDEX_BLOCK:
		return S_IFBLK;
	case INDEX_FIFO:
		return S_IFIFO;
	default:
		return S_IFCHR;
	}
}

/* The inode of an entry that is neither directory nor link, made at its first use. */
static int entry_inode(struct merge *m, uint32_t i, const struct index_entry *e,
		       struct merge_inode **ret)
{
	struct index_object object;
	struct merge_inode *in;
	int r;

	if (m->made[i]) {
		*ret = m->made[i];
		return 0;
	}
	r = new_inode(m, type_of(e->type), &in);
	if (r == 0)
		r = set_attributes(m, in, e);
	if (r < 0)
		return r;
	in->nlink = e->names;
	if (e->type == INDEX_SYMLINK)
		in->target = e->link;
	if (e->type == INDEX_REG && e->object != INDEX_NONE) {
		index_object(m->ix, e->object, &object);
		in->size = object.size;
		in->key = object.key;
	}
	if (e->type == INDEX_CHAR || e->type == INDEX_BLOCK) {
		in->dev_major = e->dev_major;
		in->dev_minor = e->dev_minor;
	}
	m->made[i] = in;
	*ret = in;
	return 0;
}

/* A directory of this layer; e: its entry, NULL: it is only implied. */
static int enter_dir(struct merge *m, struct name *parent, struct str path,
		     const struct index_entry *e, struct name **ret)
{
	struct name *n = find(m, path);
	bool fresh = !n || !S_ISDIR(n->inode->mode);
	struct merge_inode *in = NULL;
	int r = 0;

	if (!n)
		r = new_name(m, parent, path, &n);
	if (r == 0 && fresh)
		r = new_inode(m, S_IFDIR | 0755, &in);
	if (r < 0)
		return r;
	if (in) {
		in->implied = true;
		n->inode = in;
		n->merged = false;
	} else if (n->layer != m->layer) {
		n->merged = true;
	}
	n->layer = m->layer;
	if (e && !e->implied) {
		r = set_attributes(m, n->inode, e);
		n->inode->implied = false;
	}
	if (e && e->opaque) {
		drop_children(m, n);
		n->merged = false;
		n->cut = true;
	}
	*ret = n;
	return r;
}

static size_t parent_len(struct str path, size_t len)
{
	while (len > 0 && path.p[--len] != '/')
		;
	return len;
}

/* The directory of this layer that path is, with all those above it. */
static int get_dir(struct merge *m, struct str path, struct name **ret)
{
	struct str part = path;
	struct name *n;
	int r = 0;

	if (m->last && str_eq(m->last->node.key, path)) {
		*ret = m->last;
		return 0;
	}
	while (!(n = find(m, part)) || n->layer != m->layer || !S_ISDIR(n->inode->mode))
		part.len = parent_len(path, part.len);
	while (r == 0 && part.len < path.len) {
		part.len += part.len > 0;
		while (part.len < path.len && path.p[part.len] != '/')
			part.len++;
		r = enter_dir(m, n, part, NULL, &n);
	}
	m->last = n;
	*ret = n;
	return r;
}

static int put_whiteout(struct merge *m, struct name *dir, struct str path)
{
	struct name *n = find(m, path);
	int r = 0;

	if (n)
		drop_children(m, n);
	if (!m->below) {
		if (n) {
			map_del(&m->names, &n->node);
			list_del(&n->link);
		}
		return 0;
	}
	if (!n)
		r = new_name(m, dir, path, &n);
	if (r < 0)
		return r;
	n->cut = true;
	n->layer = m->layer;
	return new_inode(m, S_IFCHR, &n->inode);
}

static int put_inode(struct merge *m, struct name *dir, struct str path, struct merge_inode *in)
{
	struct name *n;
	int r = 0;

	if (is_whiteout(in))
		return put_whiteout(m, dir, path);
	n = find(m, path);
	if (n)
		drop_children(m, n);
	else
		r = new_name(m, dir, path, &n);
	if (r < 0)
		return r;
	n->inode = in;
	n->cut = true;
	n->layer = m->layer;
	return 0;
}

static int put_entry(struct merge *m, uint32_t i, const struct index_entry *e)
{
	struct str above = {e->path.p, parent_len(e->path, e->path.len)};
	struct index_entry target;
	struct merge_inode *in;
	struct name *dir, *n;
	int r;

	/* overlayfs does not look whether the root of a layer is opaque, and containerd sets no
	 * attributes of it. */
	if (e->path.len == 0)
		return 0;
	r = get_dir(m, above, &dir);
	if (r < 0)
		return r;
	switch (e->type) {
	case INDEX_DIR:
		return enter_dir(m, dir, e->path, e, &n);
	case INDEX_WHITEOUT:
		return put_whiteout(m, dir, e->path);
	case INDEX_LINK:
		index_entry(m->ix, e->target, &target);
		r = entry_inode(m, e->target, &target, &in);
		break;
	case INDEX_LINK_BELOW:
		in = m->made[i];
		in->nlink++;
		break;
	default:
		r = entry_inode(m, i, e, &in);
	}
	return r < 0 ? r : put_inode(m, dir, e->path, in);
}

/* Links to lower layers lead to what these show, before this layer changes it. */
static int find_links_below(struct merge *m, uint32_t entries, struct err *err)
{
	struct index_entry e;

	for (uint32_t i = 0; i < entries; i++) {
		const struct name *n;

		index_entry(m->ix, i, &e);
		if (e.type != INDEX_LINK_BELOW)
			continue;
		n = find(m, e.link);
		if (!n || S_ISDIR(n->inode->mode) || is_whiteout(n->inode))
			return err_set(err, -EINVAL,
				       STR_FMT ": a hard link to " STR_FMT
					       ", which no lower layer has as a file",
				       STR_ARG(e.path), STR_ARG(e.link));
		m->made[i] = n->inode;
	}
	return 0;
}

static int put_layer(struct merge *m, const struct index *ix, struct err *err)
{
	uint32_t n = index_info(ix)->entries_n;
	auto_free struct merge_inode **made = calloc((size_t)n + 1, sizeof(made[0]));
	struct index_entry e;
	int r;

	if (!made)
		return err_set(err, -ENOMEM, "no memory to merge a layer");
	m->layer++;
	m->ix = ix;
	m->made = made;
	m->last = NULL;
	m->root.layer = m->layer;
	r = find_links_below(m, n, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++) {
		index_entry(ix, i, &e);
		r = put_entry(m, i, &e);
		if (r < 0)
			return err_errno(err, r, "merge " STR_FMT, STR_ARG(e.path));
	}
	return 0;
}

/* --- the end ---------------------------------------------------------------------------------- */

static int cmp_names(const void *a, const void *b)
{
	return str_cmp(((const struct merge_name *)a)->name, ((const struct merge_name *)b)->name);
}

static void sort_names(struct merge_inode *dir)
{
	for (uint32_t i = 1; i < dir->names_n; i++) {
		if (cmp_names(&dir->names[i - 1], &dir->names[i]) > 0) {
			qsort(dir->names, dir->names_n, sizeof(dir->names[0]), cmp_names);
			return;
		}
	}
}

/* Fills a directory's names; its subdirectories go behind the queue's end. */
static int finish_dir(struct merge *m, struct name *n, struct name **tail)
{
	struct merge_inode *dir = n->inode;
	bool hidden = n->hidden || n->cut;
	size_t skip = n->node.key.len + (n->node.key.len > 0);
	uint32_t max = 0, subdirs = 0;
	struct list *l, *tmp;

	list_for_each_safe (l, tmp, &n->children)
		max++;
	dir->names = arena_alloc(&m->tree->arena, max * sizeof(dir->names[0]));
	if (!dir->names)
		return -ENOMEM;
	list_for_each_safe (l, tmp, &n->children) {
		struct name *child = container_of(l, struct name, link);
		struct str path = child->node.key;

		if (hidden && is_whiteout(child->inode))
			continue; /* there is nothing that it could hide */
		dir->names[dir->names_n++] = (struct merge_name){
			.name = {path.p + skip, path.len - skip}, .inode = child->inode};
		if (!S_ISDIR(child->inode->mode))
			continue;
		subdirs++;
		child->hidden = hidden;
		child->inode->parent = dir;
		(*tail)->queued = child;
		*tail = child;
	}
	sort_names(dir);
	dir->opaque = m->below && n->cut && !n->hidden;
	dir->implied &= m->below && !hidden;
	dir->nlink = n->merged ? 1 : 2 + subdirs;
	return 0;
}

static int finish(struct merge *m)
{
	struct name *tail = &m->root;
	int r = 0;

	m->root.inode->parent = m->root.inode;
	for (struct name *n = &m->root; n && r == 0; n = n->queued)
		r = finish_dir(m, n, &tail);
	return r;
}

static int merge_all(struct merge *m, struct index *const *layers, size_t n, struct err *err)
{
	int r = map_init(&m->names);

	if (r == 0)
		r = new_inode(m, S_IFDIR | 0755, &m->root.inode);
	if (r < 0)
		return err_errno(err, r, "merge layers");
	list_init(&m->root.children);
	m->root.inode->implied = true;
	m->root.merged = n > 1;
	m->tree->root = m->root.inode;
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = put_layer(m, layers[i], err);
		if (r < 0)
			return err_wrap(err, r, "layer %zu of %zu", i + 1, n);
	}
	r = finish(m);
	return r < 0 ? err_errno(err, r, "merge layers") : 0;
}

int merge_layers(struct index *const *layers, size_t n, bool below, struct merge_tree **ret,
		 struct err *err)
{
	struct merge m = {.below = below};
	int r;

	if (n < 1 || n > SNAPSHOT_DEPTH_MAX)
		return err_set(err, -EINVAL, "%zu layers to merge", n);
	m.tree = calloc(1, sizeof(*m.tree));
	if (!m.tree)
		return err_set(err, -ENOMEM, "no memory to merge layers");
	arena_init(&m.tree->arena, MERGE_MEMORY_MAX);
	arena_init(&m.arena, MERGE_MEMORY_MAX);
	r = merge_all(&m, layers, n, err);
	arena_fini(&m.arena);
	map_fini(&m.names);
	if (r < 0)
		merge_free(m.tree);
	else
		*ret = m.tree;
	return r;
}

void merge_free(struct merge_tree *t)
{
	if (!t)
		return;
	arena_fini(&t->arena);
	free(t);
}

struct merge_inode *merge_root(const struct merge_tree *t)
{
	return t->root;
}
