/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of contents of lazy layers: eStargz (containerd/stargz-snapshotter docs/estargz.md) and
 * zstd:chunked in both dialects (containers/storage pkg/chunked; stargz-snapshotter
 * estargz/zstdchunked). Finds them in a blob's tail, verifies them, and turns them into an index.
 * Blocking: threads only; the bytes are hostile.
 */
#ifndef FIRSTLIGHT_IMAGE_TOC_H
#define FIRSTLIGHT_IMAGE_TOC_H

#include "base/digest.h"
#include "image/index.h"

enum toc_kind {
	TOC_ESTARGZ = 1,
	TOC_CHUNKED_STARGZ,    /* zstd:chunked as stargz-snapshotter writes it */
	TOC_CHUNKED_CONTAINERS /* as containers/storage writes it */
};

/* What the manifest says of a layer: where the trust comes from. */
struct toc_hint {
	struct str media_type; /* empty = not known: the footer tells */
	uint64_t blob_size;    /* 0 = not known */
	bool has_toc_digest;   /* containerd.io/snapshot/stargz/toc.digest: of the JSON */
	struct digest toc_digest;
	bool has_checksum; /* io.github.containers.zstd-chunked.manifest-checksum: of the
			      compressed TOC */
	struct digest checksum;
	struct str position; /* …manifest-position, "offset:length:uncompressed:type"; empty */
};

/* Where in the blob the table is. */
struct toc_place {
	enum toc_kind kind;
	uint64_t off, len;    /* compressed */
	uint64_t size;        /* uncompressed; 0 = not known */
	uint64_t payload_end; /* chunks lie below it */
};

/* Can this layer be lazy at all? -EOPNOTSUPP with the reason if not (no digest to trust, a
 * compression without a table, both trust annotations at once). */
int toc_hint_check(const struct toc_hint *h, struct err *err) must_check;

/* From annotations alone, without reading the blob; -ENOENT: the footer must be read. -EINVAL. */
int toc_place_from_hint(const struct toc_hint *h, struct toc_place *ret,
			struct err *err) must_check;

#define TOC_FOOTER_MAX 72 /* bytes at a blob's end that toc_place_from_footer() wants, or all */

/* From the last bytes of a blob of blob_size bytes. -EOPNOTSUPP: no lazy layer. */
int toc_place_from_footer(const struct toc_hint *h, struct str tail, uint64_t blob_size,
			  struct toc_place *ret, struct err *err) must_check;

/*
 * Verifies the table's bytes against the hint, parses them and writes the index into fd.
 * -EBADMSG: does not verify or is damaged; -EINVAL: breaks a rule of index.h; -EFBIG: a limit;
 * -EOPNOTSUPP: not of a kind that can be lazy; -ENOMEM; -ENOSPC, -EIO of fd.
 */
int toc_to_index(const struct toc_hint *h, const struct toc_place *place, struct str bytes,
		 uint64_t blob_size, int fd, struct err *err) must_check;

#endif
