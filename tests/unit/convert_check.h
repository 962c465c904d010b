/* SPDX-License-Identifier: Apache-2.0 */
/* Converts tars in memory, and reads what came out with the daemon's code: every chunk, every
 * digest. */
#ifndef FIRSTLIGHT_TESTS_CONVERT_CHECK_H
#define FIRSTLIGHT_TESTS_CONVERT_CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "image/toc.h"

#include "../../tools/firstlight/convert_layer.h"

#define CHECK_TAR_MAX (64u << 20) /* of what a test unpacks */

static inline struct str buf_str(const struct buf *b)
{
	return (struct str){b->data ? (const char *)b->data : "", b->len};
}

static inline int check_gather(void *arg, const void *data, size_t n)
{
	return buf_append(arg, data, n);
}

static inline int check_file(struct str content)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	require(fd >= 0 &&
		(!content.len || write(fd, content.p, content.len) == (ssize_t)content.len));
	return fd;
}

static inline void check_read(int fd, struct buf *ret)
{
	struct stat st;

	require(fstat(fd, &st) == 0 && buf_reserve(ret, (size_t)st.st_size + 1) == 0);
	require(pread(fd, ret->data, (size_t)st.st_size, 0) == st.st_size);
	ret->len = (size_t)st.st_size;
}

/* blob, of diff id `want`, into out. */
static inline int convert_blob(struct str blob, const struct digest *want,
			       const struct convert_options *o, struct buf *out,
			       struct convert_result *ret, struct err *err)
{
	auto_close int in = check_file(blob), to = check_file(STR(""));
	int r = convert_layer(in, want, "/tmp", o, to, ret, err);

	if (r == 0)
		check_read(to, out);
	return r;
}

static inline void check_chunks(const struct index *ix, const struct index_object *o,
				struct str blob)
{
	auto_buf struct buf content = BUF_INIT;
	struct digest is;

	for (uint32_t i = 0; i < o->chunks_n; i++) {
		struct index_chunk c;
		size_t before = content.len;

		index_chunk(ix, o->chunk + i, &c);
		require(c.file_off == before && c.blob_off + c.blob_len <= blob.len);
		require(codec_range(index_info(ix)->codec,
				    (struct str){blob.p + c.blob_off, c.blob_len}, c.inner_off,
				    c.size, check_gather, &content, NULL) == 0);
		sha256(content.data + before, content.len - before, &is);
		require(digest_eq(&is, &c.digest));
	}
	sha256(content.data, content.len, &is);
	require(content.len == o->size && digest_eq(&is, &o->digest));
}

/* The new blob says what the result says, and its table what the blob holds. The index, or NULL
 * with the reason in err if the daemon refuses it. */
static inline struct index *check_layer(struct str blob, const struct convert_result *res,
					bool zstd, struct err *err)
{
	struct toc_hint h = {.media_type =
				     zstd ? STR("application/vnd.oci.image.layer.v1.tar+zstd")
					  : STR("application/vnd.oci.image.layer.v1.tar+gzip"),
			     .blob_size = blob.len,
			     .has_toc_digest = true,
			     .toc_digest = res->toc};
	auto_buf struct buf tar = BUF_INIT;
	auto_close int fd = check_file(STR(""));
	struct toc_place place;
	struct index *ix = NULL;
	struct digest is;

	sha256(blob.p, blob.len, &is);
	require(res->size == blob.len && digest_eq(&is, &res->digest));
	require(codec_whole(zstd ? CODEC_ZSTD : CODEC_GZIP, blob, CHECK_TAR_MAX, false,
			    check_gather, &tar, NULL) == 0);
	sha256(tar.data, tar.len, &is);
	require(res->tar_size == tar.len && digest_eq(&is, &res->diff_id));
	require(toc_place_from_footer(&h, blob, blob.len, &place, err) == 0);
	require(!zstd || (place.off == res->toc_off && place.len == res->toc_len));
	if (toc_to_index(&h, &place, (struct str){blob.p + place.off, place.len}, blob.len, fd,
			 err) < 0)
		return NULL;
	require(index_load(fd, &ix, err) == 0);
	for (uint32_t i = 0; i < index_info(ix)->objects_n; i++) {
		struct index_object o;

		index_object(ix, i, &o);
		check_chunks(ix, &o, blob);
	}
	return ix;
}

#endif
