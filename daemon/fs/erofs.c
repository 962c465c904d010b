// SPDX-License-Identifier: Apache-2.0
/*
 * Lays an image out and writes it from its start to its end: superblock, inodes with what lies
 * inline, shared xattrs, blocks of large directories. Owns nothing after the call. An inode's mark
 * is its number + 1.
 */
#include "fs/erofs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "fs/erofs_dir.h"
#include "fs/erofs_format.h"
#include "fs/erofs_xattr.h"

#include "base/banned.h"

#define WRITE_BYTES   KiB(256)
#define FILE_SIZE_MAX (UINT64_C(1) << 60)
#define TARGET_MAX    4095 /* of a symlink; the kernel takes no more */

struct node {
	struct merge_inode *in;
	struct xattr_refs xattrs;
	uint32_t area;   /* bytes of xattrs behind the inode */
	uint32_t nid;    /* places fit: EROFS_IMAGE_MAX / EROFS_SLOT */
	uint32_t block;  /* first data block, counted from the first of all */
	uint32_t blocks; /* of a directory, without its last piece */
	uint32_t tail;   /* bytes of the last piece, of the symlink, of the small file */
	uint8_t layout;  /* FLAT_PLAIN, … */
	bool compact;    /* the small inode can say it all */
	bool whiteouts;  /* a directory with whiteouts in it */
	uint8_t chunk_bits;
};

struct image {
	struct node *nodes;
	size_t nodes_n, nodes_cap;
	struct xattr_pool xattrs;
	int64_t epoch; /* of compact inodes */
	uint32_t epoch_nsec;
	uint64_t end;         /* of the inodes */
	uint64_t data_blocks; /* how many */
	uint64_t data_at;     /* first one */
	uint64_t xattr_at;    /* start of the shared area */
	int fd;
	struct buf out;
	uint64_t flushed;
};

static int add_node(struct image *im, struct merge_inode *in)
{
	size_t cap = im->nodes_cap ? im->nodes_cap * 2 : 1024;
	struct node *nodes;

	if (im->nodes_n >= EROFS_IMAGE_MAX / EROFS_SLOT)
		return -EFBIG;
	if (im->nodes_n == im->nodes_cap) {
		nodes = realloc(im->nodes, cap * sizeof(nodes[0]));
		if (!nodes)
			return -ENOMEM;
		im->nodes = nodes;
		im->nodes_cap = cap;
	}
	im->nodes[im->nodes_n++] = (struct node){.in = in};
	in->mark = im->nodes_n;
	return 0;
}

static bool is_whiteout(const struct merge_inode *in)
{
	return S_ISCHR(in->mode) && in->dev_major == 0 && in->dev_minor == 0;
}

/* Marks are 0 after it: directories have one name each, so they can be walked without. */
static int clear_marks(struct image *im, struct merge_inode *root)
{
	int r = add_node(im, root);

	for (size_t i = 0; r == 0 && i < im->nodes_n; i++) {
		struct merge_inode *dir = im->nodes[i].in;

		for (uint32_t j = 0; r == 0 && j < dir->names_n; j++) {
			dir->names[j].inode->mark = 0;
			if (S_ISDIR(dir->names[j].inode->mode))
				r = add_node(im, dir->names[j].inode);
		}
	}
	for (size_t i = 0; i < im->nodes_n; i++)
		im->nodes[i].in->mark = 0;
	im->nodes_n = 0;
	return r;
}

/* Numbers every inode, the root first and the children of a directory next to each other. */
static int collect(struct image *im, struct merge_inode *root)
{
	int r = clear_marks(im, root);

	if (r == 0)
		r = add_node(im, root);
	for (size_t i = 0; r == 0 && i < im->nodes_n; i++) {
		struct merge_inode *dir = im->nodes[i].in;
		bool whiteouts = false;

		for (uint32_t j = 0; S_ISDIR(dir->mode) && r == 0 && j < dir->names_n; j++) {
			struct merge_inode *in = dir->names[j].inode;

			whiteouts |= is_whiteout(in);
			if (!in->mark)
				r = add_node(im, in);
		}
		im->nodes[i].whiteouts = whiteouts;
	}
	return r;
}

/* Compact inodes have one time: what more than half of the inodes have, if there is such a one. */
static void choose_epoch(struct image *im)
{
	size_t votes = 0;

	for (size_t i = 0; i < im->nodes_n; i++) {
		const struct merge_inode *in = im->nodes[i].in;
		bool same = in->mtime == im->epoch && in->mtime_nsec == im->epoch_nsec;

		if (votes == 0) {
			im->epoch = in->mtime;
			im->epoch_nsec = in->mtime_nsec;
			votes = 1;
		} else {
			votes = same ? votes + 1 : votes - 1;
		}
	}
}

/* --- layout ----------------------------------------------------------------------------------- */

static uint64_t node_size(const struct node *n)
{
	if (S_ISDIR(n->in->mode))
		return (uint64_t)n->blocks * EROFS_BLOCK + n->tail;
	if (S_ISLNK(n->in->mode))
		return n->in->target.len;
	return S_ISREG(n->in->mode) ? n->in->size : 0;
}

static uint32_t inode_size(const struct node *n)
{
	return n->compact ? EROFS_COMPACT : EROFS_EXTENDED;
}

static uint64_t chunks_of(const struct node *n)
{
	uint64_t chunk = UINT64_C(1) << (EROFS_BLOCK_BITS + n->chunk_bits);

	return (n->in->size + chunk - 1) / chunk;
}

/* Size and kind of what the node has beside its inode. */
static int measure(const struct image *im, struct node *n)
{
	const struct merge_inode *in = n->in;
	uint64_t blocks = 0;
	int r = 0;

	n->layout = FLAT_PLAIN;
	if (S_ISDIR(in->mode)) {
		r = dir_size(in, &blocks, &n->tail);
		if (r < 0 || blocks > EROFS_IMAGE_MAX / EROFS_BLOCK)
			return r < 0 ? r : -EFBIG;
		n->blocks = (uint32_t)blocks;
		n->layout = n->tail ? FLAT_INLINE : FLAT_PLAIN;
	} else if (S_ISLNK(in->mode)) {
		if (in->target.len < 1 || in->target.len > TARGET_MAX)
			return -EINVAL;
		n->tail = (uint32_t)in->target.len;
		n->layout = FLAT_INLINE;
	} else if (S_ISREG(in->mode) && in->target.p) {
		if (in->target.len != in->size || in->size < 1 || in->size > EROFS_BLOCK)
			return -EINVAL;
		n->tail = (uint32_t)in->size; /* not inline: inodes stay close together */
	} else if (S_ISREG(in->mode) && in->size > 0) {
		if (in->size > FILE_SIZE_MAX)
			return -EFBIG;
		n->layout = CHUNK_BASED;
		while (n->chunk_bits < CHUNK_BITS_MAX && chunks_of(n) > 1)
			n->chunk_bits++;
	}
	n->compact = in->mtime == im->epoch && in->mtime_nsec == im->epoch_nsec &&
		     node_size(n) <= UINT32_MAX && in->uid <= UINT16_MAX && in->gid <= UINT16_MAX &&
		     in->nlink <= UINT16_MAX;
	return xattr_area_size(&im->xattrs, n->xattrs, &n->area);
}

/* Where an inode can begin, at pos or later, so that its inline piece lies in one block, as the
 * kernel wants it; or the piece is moved out. A symlink shares the block with its inode. */
static uint64_t place_inline(struct node *n, uint64_t pos)
{
	uint64_t head = inode_size(n) + n->area;
	uint64_t whole = head + n->tail, in_block = (pos + head) % EROFS_BLOCK;

	if (S_ISLNK(n->in->mode)) {
		if (pos % EROFS_BLOCK + whole <= EROFS_BLOCK)
			return pos;
		if (whole <= EROFS_BLOCK)
			return erofs_align(pos, EROFS_BLOCK);
	} else {
		if (in_block + n->tail <= EROFS_BLOCK)
			return pos;
		if (n->tail <= EROFS_BLOCK / 2)
			return pos + erofs_align(EROFS_BLOCK - in_block, EROFS_SLOT);
	}
	n->layout = FLAT_PLAIN;
	return pos;
}

static int lay_out(struct image *im)
{
	uint64_t pos = EROFS_SB_AT + EROFS_SB_SIZE;

	for (size_t i = 0; i < im->nodes_n; i++) {
		struct node *n = &im->nodes[i];
		int r = measure(im, n);

		if (r < 0)
			return r;
		pos = erofs_align(pos, EROFS_SLOT);
		if (n->layout == FLAT_INLINE)
			pos = place_inline(n, pos);
		n->nid = (uint32_t)(pos / EROFS_SLOT);
		pos += inode_size(n) + n->area;
		if (n->layout == FLAT_INLINE)
			pos += n->tail;
		else if (n->layout == CHUNK_BASED)
			pos = erofs_align(pos, CHUNK_ENTRY) + CHUNK_ENTRY * chunks_of(n);
		n->block = (uint32_t)im->data_blocks;
		im->data_blocks += n->blocks + (n->layout == FLAT_PLAIN && n->tail);
		if (pos > EROFS_IMAGE_MAX || im->data_blocks > EROFS_IMAGE_MAX / EROFS_BLOCK)
			return -EFBIG;
	}
	im->end = pos;
	im->xattr_at = erofs_align(pos, 4);
	if (xattr_layout(&im->xattrs, im->xattr_at % EROFS_BLOCK) < 0)
		return -EFBIG;
	im->data_at =
		erofs_align(im->xattr_at + im->xattrs.shared_bytes, EROFS_BLOCK) / EROFS_BLOCK;
	return (im->data_at + im->data_blocks) * EROFS_BLOCK > EROFS_IMAGE_MAX ? -EFBIG : 0;
}

/* --- bytes ------------------------------------------------------------------------------------ */

static int flush(struct image *im)
{
	int r;

	/* Only now is all of the first block known; what is written first is never shorter. */
	if (im->flushed == 0)
		put32(im->out.data + EROFS_SB_AT + SB_CHECKSUM,
		      erofs_crc(im->out.data + EROFS_SB_AT, EROFS_BLOCK - EROFS_SB_AT));
	r = file_pwrite_all(im->fd, im->out.data, im->out.len, im->flushed);
	im->flushed += im->out.len;
	im->out.len = 0;
	return r;
}

static int flush_full(struct image *im)
{
	return im->out.len >= WRITE_BYTES ? flush(im) : 0;
}

/* Zeros up to a place in the image. */
static int pad_to(struct image *im, uint64_t at)
{
	uint64_t here = im->flushed + im->out.len;
	int r;

	require(at >= here);
	r = buf_reserve(&im->out, at - here);
	if (r < 0)
		return r;
	if (at > here)
		memset(im->out.data + im->out.len, 0, at - here);
	im->out.len += at - here;
	return 0;
}

static int pad_block(struct image *im)
{
	return pad_to(im, erofs_align(im->flushed + im->out.len, EROFS_BLOCK));
}

static int put_superblock(struct image *im, const uint8_t uuid[16])
{
	uint8_t *sb;
	int r = pad_to(im, EROFS_SB_AT + EROFS_SB_SIZE);

	if (r < 0)
		return r;
	sb = im->out.data + EROFS_SB_AT;
	put32(sb + SB_MAGIC, EROFS_MAGIC);
	put32(sb + SB_COMPAT, COMPAT_CHECKSUM | COMPAT_MTIME);
	sb[SB_BLKSZBITS] = EROFS_BLOCK_BITS;
	put16(sb + SB_ROOT_NID, im->nodes[0].nid);
	put64(sb + SB_INOS, im->nodes_n);
	put64(sb + SB_EPOCH, (uint64_t)im->epoch);
	put32(sb + SB_FIXED_NSEC, im->epoch_nsec);
	put32(sb + SB_BLOCKS, (uint32_t)(im->data_at + im->data_blocks));
	put32(sb + SB_XATTR_BLKADDR, (uint32_t)(im->xattr_at / EROFS_BLOCK));
	put32(sb + SB_INCOMPAT, INCOMPAT_CHUNKED);
	memcpy(sb + SB_UUID, uuid, 16);
	return 0;
}

/* What i_u holds: 12 bits of major and 20 of minor, as mknod(2) cuts them; or a place. */
static uint32_t inode_u(const struct image *im, const struct node *n)
{
	const struct merge_inode *in = n->in;

	if (S_ISCHR(in->mode) || S_ISBLK(in->mode))
		return (in->dev_minor & 0xff) | (in->dev_major & 0xfff) << 8 |
		       (in->dev_minor & 0xfff00) << 12;
	if (n->layout == CHUNK_BASED)
		return CHUNK_INDEXES | n->chunk_bits;
	if (n->blocks || (n->layout == FLAT_PLAIN && n->tail))
		return (uint32_t)(im->data_at + n->block);
	return 0;
}

static int put_inode(struct image *im, const struct node *n, uint32_t number)
{
	const struct merge_inode *in = n->in;
	uint8_t b[EROFS_EXTENDED] = {0};

	put16(b + I_FORMAT, FORMAT(n->layout, !n->compact));
	put16(b + I_XATTR_ICOUNT, n->area ? 1 + (n->area - XATTR_HEADER) / 4 : 0);
	put16(b + I_MODE, in->mode);
	if (n->compact) {
		put16(b + C_NLINK, in->nlink);
		put32(b + I_SIZE, (uint32_t)node_size(n));
		put32(b + C_U, inode_u(im, n));
		put32(b + C_INO, number);
		put16(b + C_UID, in->uid);
		put16(b + C_GID, in->gid);
	} else {
		put64(b + I_SIZE, node_size(n));
		put32(b + X_U, inode_u(im, n));
		put32(b + X_INO, number);
		put32(b + X_UID, in->uid);
		put32(b + X_GID, in->gid);
		put64(b + X_MTIME, (uint64_t)in->mtime);
		put32(b + X_MTIME_NSEC, in->mtime_nsec);
		put32(b + X_NLINK, in->nlink);
	}
	return buf_append(&im->out, b, inode_size(n));
}

static uint8_t dirent_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 1;
	case S_IFDIR:
		return 2;
	case S_IFCHR:
		return 3;
	case S_IFBLK:
		return 4;
	case S_IFIFO:
		return 5;
	case S_IFSOCK:
		return 6;
	case S_IFLNK:
		return 7;
	default:
		return 0;
	}
}

/* One block of entries, without padding; goes on with the iterator. */
static int put_dir_block(struct image *im, struct dir_iter *it)
{
	struct dir_iter names = *it;
	struct dir_block block = dir_next_block(it);
	uint32_t off = block.entries * DIRENT_SIZE;
	int r = buf_reserve(&im->out, block.bytes);
	const struct merge_inode *in;
	struct str name;
	uint8_t *p;

	if (r < 0)
		return r;
	p = im->out.data + im->out.len;
	for (uint32_t i = 0; i < block.entries && dir_next(&names, &name, &in); i++) {
		uint8_t *entry = p + (size_t)i * DIRENT_SIZE;

		put64(entry, im->nodes[in->mark - 1].nid);
		put16(entry + DIRENT_NAMEOFF, off);
		entry[DIRENT_TYPE] = dirent_type(in->mode);
		entry[DIRENT_TYPE + 1] = 0;
		memcpy(p + off, name.p, name.len);
		off += (uint32_t)name.len;
	}
	im->out.len += block.bytes;
	return 0;
}

/* The directory's last piece, behind its inode. */
static int put_dir_tail(struct image *im, const struct node *n)
{
	struct dir_iter it = {.dir = n->in};

	for (uint32_t i = 0; i < n->blocks; i++)
		dir_next_block(&it);
	return put_dir_block(im, &it);
}

static int put_chunks(struct image *im, const struct node *n)
{
	uint8_t hole[CHUNK_ENTRY] = {0};
	int r = pad_to(im, erofs_align(im->flushed + im->out.len, CHUNK_ENTRY));

	put32(hole + 4, CHUNK_HOLE);
	for (uint64_t i = chunks_of(n); r == 0 && i > 0; i--)
		r = buf_append(&im->out, hole, sizeof(hole));
	return r;
}

static int put_node(struct image *im, uint32_t i)
{
	const struct node *n = &im->nodes[i];
	int r = pad_to(im, (uint64_t)n->nid * EROFS_SLOT);

	if (r == 0)
		r = put_inode(im, n, i + 1);
	if (r == 0)
		r = xattr_put_area(&im->xattrs, n->xattrs, &im->out);
	if (r < 0)
		return r;
	if (n->layout == CHUNK_BASED)
		r = put_chunks(im, n);
	else if (n->layout == FLAT_INLINE && S_ISDIR(n->in->mode))
		r = put_dir_tail(im, n);
	else if (n->layout == FLAT_INLINE)
		r = buf_append(&im->out, n->in->target.p, n->in->target.len);
	return r == 0 ? flush_full(im) : r;
}

/* The blocks that did not fit behind the inode. */
static int put_data(struct image *im, const struct node *n)
{
	bool piece = n->layout == FLAT_PLAIN && n->tail;
	struct dir_iter it = {.dir = n->in};
	int r = 0;

	if (!S_ISDIR(n->in->mode) && piece) {
		r = buf_append(&im->out, n->in->target.p, n->in->target.len);
		return r == 0 ? pad_block(im) : r;
	}
	for (uint32_t i = 0; r == 0 && i < n->blocks + piece; i++) {
		r = put_dir_block(im, &it);
		if (r == 0)
			r = pad_block(im);
		if (r == 0)
			r = flush_full(im);
	}
	return r;
}

static int put_image(struct image *im, const uint8_t uuid[16])
{
	int r = put_superblock(im, uuid);

	for (size_t i = 0; r == 0 && i < im->nodes_n; i++)
		r = put_node(im, (uint32_t)i);
	if (r == 0)
		r = pad_to(im, im->xattr_at);
	if (r == 0)
		r = xattr_put_shared(&im->xattrs, &im->out);
	if (r == 0)
		r = pad_block(im);
	for (size_t i = 0; r == 0 && i < im->nodes_n; i++)
		r = put_data(im, &im->nodes[i]);
	if (r == 0)
		r = flush(im);
	if (r == 0 && ftruncate(im->fd, (off_t)im->flushed) < 0)
		r = -errno;
	return r;
}

static int write_image(struct image *im, struct merge_inode *root, const uint8_t uuid[16],
		       struct err *err)
{
	int r = xattr_pool_init(&im->xattrs);

	if (r == 0)
		r = collect(im, root);
	for (size_t i = 0; r == 0 && i < im->nodes_n; i++)
		r = xattr_take(&im->xattrs, im->nodes[i].in, im->nodes[i].whiteouts,
			       &im->nodes[i].xattrs);
	if (r == 0) {
		choose_epoch(im);
		r = lay_out(im);
	}
	if (r < 0)
		return err_errno(err, r, "lay out the metadata image");
	require(im->nodes[0].nid <= EROFS_ROOT_MAX);
	r = put_image(im, uuid);
	return r < 0 ? err_errno(err, r, "write the metadata image") : 0;
}

int erofs_write_root(struct merge_inode *root, const uint8_t uuid[16], int fd,
		     struct erofs_stat *ret, struct err *err)
{
	struct image im = {.fd = fd};
	int r = write_image(&im, root, uuid, err);

	if (r == 0)
		*ret = (struct erofs_stat){
			.bytes = im.flushed,
			.inodes = im.nodes_n,
			.root_mode = root->mode & 07777,
			.root_uid = root->uid,
			.root_gid = root->gid,
		};
	xattr_pool_fini(&im.xattrs);
	buf_fini(&im.out);
	free(im.nodes);
	return r;
}

int erofs_write(struct merge_tree *t, const uint8_t uuid[16], int fd, struct erofs_stat *ret,
		struct err *err)
{
	return erofs_write_root(merge_root(t), uuid, fd, ret, err);
}

int erofs_whole(const char *path, struct err *err)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t sb[EROFS_SB_SIZE];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, -errno, "open %s", path);
	if (pread(fd, sb, sizeof(sb), EROFS_SB_AT) != sizeof(sb) ||
	    get32(sb + SB_MAGIC) != EROFS_MAGIC ||
	    (uint64_t)st.st_size != (uint64_t)get32(sb + SB_BLOCKS) * EROFS_BLOCK)
		return err_set(err, -EBADMSG, "%s is not whole", path);
	return 0;
}
