/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads an EROFS image in memory and compares it with the tree that it was made from; aborts with
 * the place where they differ. Written from the format, not from the writer. Shared by unit tests
 * and fuzzers.
 */
#include <sys/stat.h>

#include "base/limits.h"
#include "fs/erofs_format.h"
#include "image/merge.h"

struct check {
	const uint8_t *img;
	size_t len;
	uint64_t xattr_base;
	uint64_t *nids; /* by mark - 1 */
	size_t inodes;
	size_t seen;
};

struct check_inode {
	uint64_t size, xattrs_at, tail_at;
	uint32_t u, mode, uid, gid, nlink, nsec, xattrs_len;
	int64_t mtime;
	unsigned layout;
};

static const uint8_t *check_at(const struct check *c, uint64_t at, uint64_t n)
{
	require(at <= c->len && n <= c->len - at);
	return c->img + at;
}

static struct check_inode check_read(const struct check *c, uint64_t nid)
{
	const uint8_t *p = check_at(c, nid * EROFS_SLOT, EROFS_COMPACT);
	const uint8_t *sb = c->img + EROFS_SB_AT;
	struct check_inode r = {.layout = get16(p) >> 1, .mode = get16(p + I_MODE)};
	bool big = get16(p) & 1;
	uint64_t icount = get16(p + I_XATTR_ICOUNT);

	require(get16(p) < 16 && icount != 1);
	if (big) {
		p = check_at(c, nid * EROFS_SLOT, EROFS_EXTENDED);
		r.size = get64(p + I_SIZE);
		r.uid = get32(p + X_UID);
		r.gid = get32(p + X_GID);
		r.nlink = get32(p + X_NLINK);
		r.mtime = (int64_t)get64(p + X_MTIME);
		r.nsec = get32(p + X_MTIME_NSEC);
	} else {
		r.size = get32(p + I_SIZE);
		r.uid = get16(p + C_UID);
		r.gid = get16(p + C_GID);
		r.nlink = get16(p + C_NLINK);
		r.mtime = (int64_t)get64(sb + SB_EPOCH);
		r.nsec = get32(sb + SB_FIXED_NSEC);
		require(get32(p + 12) == 0);
	}
	r.u = get32(p + 16);
	r.xattrs_at = nid * EROFS_SLOT + (big ? EROFS_EXTENDED : EROFS_COMPACT);
	r.xattrs_len = icount ? (uint32_t)(12 + 4 * (icount - 1)) : 0;
	r.tail_at = r.xattrs_at + r.xattrs_len;
	check_at(c, r.xattrs_at, r.xattrs_len);
	return r;
}

/* --- xattrs ----------------------------------------------------------------------------------- */

/* Is this entry that one? Answers its size through ret. */
static bool check_entry(const struct check *c, uint64_t at, unsigned index, struct str name,
			struct str value, uint32_t *ret)
{
	const uint8_t *p = check_at(c, at, XATTR_ENTRY);
	struct str n = {(const char *)p + 4, p[XATTR_NAME_LEN]};
	struct str v = {n.p + n.len, get16(p + XATTR_VALUE_LEN)};

	*ret = (uint32_t)((4 + n.len + v.len + 3) & ~(size_t)3);
	check_at(c, at, *ret);
	return p[XATTR_INDEX] == index && str_eq(n, name) && str_eq(v, value);
}

static void check_xattr(const struct check *c, const struct check_inode *in, unsigned index,
			struct str name, struct str value)
{
	uint64_t at = in->xattrs_at, end = at + in->xattrs_len;
	uint32_t shared, size;

	require(in->xattrs_len > 12);
	shared = c->img[at + XATTR_SHARED_N];
	require(12 + 4 * shared <= in->xattrs_len);
	for (uint32_t i = 0; i < shared; i++) {
		uint32_t id = get32(c->img + at + 12 + 4 * i);

		if (check_entry(c, c->xattr_base + 4 * (uint64_t)id, index, name, value, &size))
			return;
	}
	for (at += 12 + 4 * shared; at < end; at += size) {
		bool same = check_entry(c, at, index, name, value, &size);

		require(at + size <= end);
		if (same)
			return;
	}
	require(!"the xattr is there");
}

/* How many an inode has; also walks all of them. */
static uint32_t check_count(const struct check *c, const struct check_inode *in)
{
	uint64_t at = in->xattrs_at, end = at + in->xattrs_len;
	uint32_t n, size;

	if (in->xattrs_len == 0)
		return 0;
	n = c->img[at + XATTR_SHARED_N];
	for (at += 12 + 4 * n; at < end; at += size, n++)
		check_entry(c, at, 0, STR(""), STR(""), &size);
	require(at == end);
	return n;
}

static bool check_known(struct str name, unsigned *ret_index, struct str *ret_suffix)
{
	static const struct {
		const char *prefix;
		unsigned index;
	} kinds[] = {{"user.", 1}, {"trusted.", 4}, {"security.", 6}};

	*ret_suffix = STR("");
	*ret_index = str_eq(name, STR("system.posix_acl_access"))    ? 2
		     : str_eq(name, STR("system.posix_acl_default")) ? 3
								     : 0;
	for (size_t i = 0; i < array_size(kinds); i++) {
		struct str prefix = str_of(kinds[i].prefix);

		if (!str_starts(name, prefix) || name.len == prefix.len)
			continue;
		*ret_index = kinds[i].index;
		*ret_suffix = (struct str){name.p + prefix.len, name.len - prefix.len};
	}
	return *ret_index && !str_starts(name, STR("trusted.overlay."));
}

static void check_xattrs(const struct check *c, const struct check_inode *in,
			 const struct merge_inode *want, bool whiteouts)
{
	uint32_t n = 0;
	unsigned index;
	struct str suffix;

	for (uint32_t i = 0; i < want->xattrs_n; i++) {
		if (!check_known(want->xattrs[i].name, &index, &suffix))
			continue;
		check_xattr(c, in, index, suffix, want->xattrs[i].value);
		n++;
	}
	if (S_ISREG(want->mode) && want->size && !want->target.p) {
		char text[1 + 2 + 1 + DIGEST_HEX_SIZE] = "/xx/";

		digest_hex(&want->key, text + 4);
		memcpy(text + 1, text + 4, 2);
		check_xattr(c, in, 4, STR("overlay.metacopy"), STR(""));
		check_xattr(c, in, 4, STR("overlay.redirect"), (struct str){text, 68});
		n += 2;
	}
	if (S_ISDIR(want->mode) && want->opaque) {
		check_xattr(c, in, 4, STR("overlay.opaque"), STR("y"));
		n++;
	}
	if (whiteouts) {
		check_xattr(c, in, 4, STR("overlay.origin"), STR(""));
		n++;
	}
	require(check_count(c, in) == n);
}

/* --- directories ------------------------------------------------------------------------------ */

static uint64_t check_visit(struct check *c, const struct merge_inode *want, uint64_t nid);

/* Where byte `off` of a flat inode lies. */
static uint64_t check_data(const struct check_inode *in, uint64_t off)
{
	uint64_t last = in->size & ~(uint64_t)(EROFS_BLOCK - 1);

	if (in->layout == FLAT_INLINE && off >= last) {
		require(in->tail_at / EROFS_BLOCK ==
			(in->tail_at + in->size - last - 1) / EROFS_BLOCK);
		return in->tail_at + off - last;
	}
	require(in->layout == FLAT_PLAIN || in->layout == FLAT_INLINE);
	return (uint64_t)in->u * EROFS_BLOCK + off;
}

static unsigned check_type(mode_t mode)
{
	static const uint8_t types[16] = {
		[1] = 5, [2] = 3, [4] = 2, [6] = 4, [8] = 1, [10] = 7, [12] = 6};

	return types[mode >> 12 & 15];
}

struct check_names {
	const struct merge_inode *dir;
	uint64_t nid, parent;
	uint32_t next;
	bool dot, dotdot;
	char last[NAME_MAX];
	size_t last_len;
};

static void check_name(struct check *c, struct check_names *s, struct str name, uint64_t nid,
		       unsigned type)
{
	const struct merge_inode *in;

	require(name.len >= 1 && name.len <= NAME_MAX);
	require(str_cmp((struct str){s->last, s->last_len}, name) < 0);
	memcpy(s->last, name.p, name.len);
	s->last_len = name.len;
	if (str_eq(name, STR("."))) {
		require(nid == s->nid && type == 2 && !s->dot);
		s->dot = true;
		return;
	}
	if (str_eq(name, STR(".."))) {
		require(nid == s->parent && type == 2 && !s->dotdot);
		s->dotdot = true;
		return;
	}
	require(s->next < s->dir->names_n && str_eq(name, s->dir->names[s->next].name));
	in = s->dir->names[s->next++].inode;
	require(type == check_type(in->mode));
	require(in->mark >= 1 && in->mark <= c->inodes);
	if (c->nids[in->mark - 1])
		require(!S_ISDIR(in->mode) && c->nids[in->mark - 1] == nid);
	else
		c->nids[in->mark - 1] = check_visit(c, in, nid);
}

static void check_dir(struct check *c, const struct merge_inode *want, uint64_t nid,
		      const struct check_inode *in)
{
	struct check_names s = {.dir = want, .nid = nid, .parent = nid};

	if (want->parent && want->parent != want)
		s.parent = c->nids[want->parent->mark - 1];
	for (uint64_t off = 0; off < in->size; off += EROFS_BLOCK) {
		uint32_t len =
			(uint32_t)(in->size - off < EROFS_BLOCK ? in->size - off : EROFS_BLOCK);
		const uint8_t *p = check_at(c, check_data(in, off), len);
		uint32_t n = get16(p + DIRENT_NAMEOFF) / DIRENT_SIZE;

		require(n > 0 && get16(p + DIRENT_NAMEOFF) % DIRENT_SIZE == 0);
		for (uint32_t i = 0; i < n; i++) {
			uint32_t at = get16(p + i * DIRENT_SIZE + DIRENT_NAMEOFF);
			uint32_t end =
				i + 1 < n ? get16(p + (i + 1) * DIRENT_SIZE + DIRENT_NAMEOFF) : len;

			require(at < end && end <= len);
			if (i + 1 == n)
				end = at + (uint32_t)strnlen((const char *)p + at, end - at);
			check_name(c, &s, (struct str){(const char *)p + at, end - at},
				   get64(p + i * DIRENT_SIZE), p[i * DIRENT_SIZE + DIRENT_TYPE]);
		}
	}
	require(s.dot && s.dotdot && s.next == want->names_n);
}

/* --- inodes ----------------------------------------------------------------------------------- */

static void check_device(const struct merge_inode *want, uint32_t u)
{
	require((u >> 8 & 0xfff) == (want->dev_major & 0xfff));
	require(((u & 0xff) | (u >> 12 & 0xfff00)) == (want->dev_minor & 0xfffff));
}

static void check_regular(const struct check *c, const struct check_inode *in)
{
	unsigned bits = in->u & 31;
	uint64_t n, at = (in->tail_at + 7) / 8 * 8;

	if (in->size == 0) {
		require(in->layout == FLAT_PLAIN);
		return;
	}
	require(in->layout == CHUNK_BASED && (in->u & ~31u) == CHUNK_INDEXES);
	n = ((in->size - 1) >> (12 + bits)) + 1;
	require(n == 1 || bits == 31);
	for (uint64_t i = 0; i < n; i++) {
		const uint8_t *p = check_at(c, at + 8 * i, 8);

		require(get32(p) == 0 && get32(p + 4) == 0xFFFFFFFFu);
	}
}

/* A file that the image holds, in a block of its own. */
static void check_small(struct check *c, const struct check_inode *in,
			const struct merge_inode *want)
{
	struct str bytes = {(const char *)check_at(c, check_data(in, 0), in->size), in->size};

	require(in->layout == FLAT_PLAIN && check_data(in, 0) % EROFS_BLOCK == 0);
	require(str_eq(bytes, want->target));
}

/* All but the names of a directory; those come later, without recursion. */
static uint64_t check_visit(struct check *c, const struct merge_inode *want, uint64_t nid)
{
	struct check_inode in = check_read(c, nid);
	bool whiteouts = false;

	c->seen++;
	for (uint32_t i = 0; S_ISDIR(want->mode) && i < want->names_n; i++) {
		const struct merge_inode *child = want->names[i].inode;

		whiteouts |= S_ISCHR(child->mode) && !child->dev_major && !child->dev_minor;
	}
	require(in.mode == want->mode && in.uid == want->uid && in.gid == want->gid);
	require(in.mtime == want->mtime && in.nsec == want->mtime_nsec);
	require(in.nlink == want->nlink);
	check_xattrs(c, &in, want, whiteouts);
	if (S_ISREG(want->mode)) {
		require(in.size == want->size);
		if (want->target.p)
			check_small(c, &in, want);
		else
			check_regular(c, &in);
	} else if (S_ISLNK(want->mode)) {
		struct str target = {NULL, in.size};

		target.p = (const char *)check_at(c, check_data(&in, 0), in.size);
		require(str_eq(target, want->target));
		require(in.layout == FLAT_PLAIN ||
			nid * EROFS_SLOT / EROFS_BLOCK == (in.tail_at + in.size - 1) / EROFS_BLOCK);
	} else if (S_ISCHR(want->mode) || S_ISBLK(want->mode)) {
		check_device(want, in.u);
	}
	return nid;
}

/* The tree must have been written just now: its marks number the inodes. */
static void check_image(const uint8_t *img, size_t len, const struct merge_inode *root,
			size_t inodes)
{
	struct check c = {.img = img, .len = len, .inodes = inodes};
	const uint8_t *sb = img + EROFS_SB_AT;
	uint8_t block[EROFS_BLOCK];
	const struct merge_inode **queue = calloc(inodes, sizeof(queue[0]));
	size_t queued = 1;

	c.nids = calloc(inodes, sizeof(c.nids[0]));
	require(c.nids && queue && len >= EROFS_BLOCK && len % EROFS_BLOCK == 0);
	require(get32(sb) == EROFS_MAGIC && sb[SB_BLKSZBITS] == 12);
	require(get32(sb + SB_BLOCKS) == len / EROFS_BLOCK && get64(sb + SB_INOS) == inodes);
	memcpy(block, img, sizeof(block));
	put32(block + EROFS_SB_AT + SB_CHECKSUM, 0);
	require(get32(sb + SB_CHECKSUM) ==
		erofs_crc(block + EROFS_SB_AT, EROFS_BLOCK - EROFS_SB_AT));
	c.xattr_base = (uint64_t)get32(sb + SB_XATTR_BLKADDR) * EROFS_BLOCK;
	require(root->mark == 1);
	c.nids[0] = check_visit(&c, root, get16(sb + SB_ROOT_NID));
	queue[0] = root;
	for (size_t i = 0; i < queued; i++) {
		uint64_t nid = c.nids[queue[i]->mark - 1];
		struct check_inode in = check_read(&c, nid);

		check_dir(&c, queue[i], nid, &in);
		for (uint32_t j = 0; j < queue[i]->names_n; j++) {
			if (S_ISDIR(queue[i]->names[j].inode->mode))
				queue[queued++] = queue[i]->names[j].inode;
		}
	}
	require(c.seen == inodes);
	free(c.nids);
	free(queue);
}
