// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes become a few layers (through the builder, the file and the loader), the layers one tree,
 * the tree an EROFS image: none of it may fail but by a refusal, and the image must say what the
 * tree says.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/erofs.h"

#include "../unit/erofs_check.h"

#define LAYERS_MAX 6

struct input {
	const uint8_t *p;
	size_t left;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t byte(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->p++;
}

static uint64_t number(struct input *in)
{
	uint8_t n = byte(in);

	return n < 200 ? n : (uint64_t)byte(in) << (n - 200);
}

/* Few names, so that layers meet; parts such as "." and ".wh.a" too. */
static struct str path(struct input *in, char *p)
{
	static const char *const names[] = {
		"a", "b", "c", "-", "!", ".", "..", ".wh.a", ".wh.b", ".wh..wh..opq", "long"};
	size_t len = 0;

	for (uint8_t parts = byte(in) % 5 + 1; parts > 0; parts--) {
		uint8_t b = byte(in);
		const char *name = names[b % array_size(names)];
		size_t n = strlen(name);

		memcpy(p + len, name, n);
		len += n;
		if (b % array_size(names) == array_size(names) - 1) {
			memset(p + len, 'a' + b % 7, b);
			len += b;
		}
		p[len++] = '/';
	}
	return (struct str){p, len - 1};
}

/* A builder that has refused something is of no use any more. */
static int add(struct index_builder *b, struct input *in)
{
	static const uint8_t types[] = {INDEX_DIR,  INDEX_DIR,   INDEX_REG,  INDEX_REG,
					INDEX_REG,  INDEX_LINK,  INDEX_LINK, INDEX_WHITEOUT,
					INDEX_CHAR, INDEX_BLOCK, INDEX_FIFO, INDEX_SYMLINK};
	static const char value[70000];
	char a[2000], l[2000];
	struct index_xattr x[2] = {{STR("user.a"), STR("again")}};
	struct index_entry e = {0};
	struct index_chunk c = {0};
	struct digest d = {{byte(in), 1}};
	uint64_t size = number(in);
	struct err err;
	uint8_t flags = byte(in);
	int r;

	e.path = path(in, a);
	e.link = path(in, l);
	e.type = types[byte(in) % array_size(types)];
	e.opaque = flags & 1;
	e.mode = byte(in);
	e.uid = (uint32_t)number(in);
	e.mtime = flags & 2 ? (int64_t)number(in) : 5;
	e.dev_major = byte(in);
	e.dev_minor = (uint32_t)number(in);
	x[1] = (struct index_xattr){STR("security.b"), {value, number(in) % sizeof(value)}};
	r = index_builder_add(b, &e, size, &d, x, flags >> 2 & 1 ? 2 : flags >> 3 & 1, &err);
	c.blob_off = byte(in);
	if (r == 0 && e.type == INDEX_REG && size)
		r = index_builder_chunk(b, &c, &err);
	return r;
}

static struct index *layer(struct input *in)
{
	auto_index_builder struct index_builder *b = NULL;
	auto_close int fd = memfd_create("layer", MFD_CLOEXEC);
	struct index *ix = NULL;
	struct err err;

	require(fd >= 0 && index_builder_new(CODEC_GZIP, 1 << 20, &b) == 0);
	for (uint8_t n = byte(in) % 24; n > 0; n--) {
		if (add(b, in) < 0)
			return NULL;
	}
	if (index_builder_write(b, fd, &err) == 0 && index_load(fd, &ix, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		require(!"what was built can be loaded");
	}
	return ix;
}

/* Half of the small files are in the image. */
static void set_contents(struct merge_inode *dir)
{
	static const char bytes[SMALL_FILE_MAX];

	for (uint32_t i = 0; i < dir->names_n; i++) {
		struct merge_inode *in = dir->names[i].inode;

		if (S_ISDIR(in->mode))
			set_contents(in);
		else if (S_ISREG(in->mode) && in->size && in->size <= sizeof(bytes) && in->size % 2)
			in->target = (struct str){bytes, in->size};
	}
}

static void image(struct merge_tree *t)
{
	static const uint8_t uuid[16] = {1};
	auto_close int fd = memfd_create("image", MFD_CLOEXEC);
	struct erofs_stat st;
	struct err err = ERR_INIT;
	void *img;
	int r;

	set_contents(merge_root(t));
	r = erofs_write(t, uuid, fd, &st, &err);

	if (r < 0) {
		require((r == -EFBIG || r == -EINVAL) && err.text[0]);
		return;
	}
	img = mmap(NULL, st.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	require(img != MAP_FAILED);
	check_image(img, st.bytes, merge_root(t), st.inodes);
	munmap(img, st.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct index *layers[LAYERS_MAX];
	struct merge_tree *t = NULL;
	struct err err = ERR_INIT;
	bool below = byte(&in) & 1;
	size_t n = 0;
	int r;

	while (n < LAYERS_MAX && in.left) {
		layers[n] = layer(&in);
		if (layers[n])
			n++;
	}
	r = merge_layers(layers, n, below, &t, &err);
	if (r == 0)
		image(t);
	else
		require(r == -EINVAL && err.text[0]);
	merge_free(t);
	for (size_t i = 0; i < n; i++)
		index_free(layers[i]);
	return 0;
}
