// SPDX-License-Identifier: Apache-2.0
/* The bytes of object records and of the presence of partial objects. Pure; any thread. */
#include <endian.h>
#include <string.h>

#include "base/limits.h"
#include "store/objects_impl.h"

#include "base/banned.h"

/* include/format.h */
struct record_head {
	uint32_t version, chunks_n;
	uint64_t number, size;
	uint8_t digest[DIGEST_SIZE];
};
_Static_assert(sizeof(struct record_head) == OBJECT_RECORD_HEAD, "format");

struct source {
	uint32_t layer, index;
};
_Static_assert(sizeof(struct source) == OBJECT_SOURCE_SIZE, "format");

struct presence_head {
	uint32_t magic, version;
	uint64_t boot, size;
	uint32_t chunks_n, zero;
};
_Static_assert(sizeof(struct presence_head) == PRESENCE_HEAD, "format");

void object_record_encode(const struct object_record *rec, char ret[OBJECT_RECORD_HEAD])
{
	struct record_head h = {
		.version = htole32(OBJECT_RECORD_VERSION),
		.chunks_n = htole32(rec->chunks_n),
		.number = htole64(rec->number),
		.size = htole64(rec->size),
	};

	memcpy(h.digest, rec->digest.bytes, DIGEST_SIZE);
	memcpy(ret, &h, sizeof(h));
}

void object_source_encode(struct object_source s, char ret[OBJECT_SOURCE_SIZE])
{
	struct source out = {htole32(s.layer), htole32(s.index)};

	memcpy(ret, &out, sizeof(out));
}

int object_record_decode(struct str bytes, struct object_record *ret, struct err *err)
{
	struct record_head h;
	uint32_t version;

	if (bytes.len < sizeof(version))
		return err_set(err, -EBADMSG, "object record of %zu bytes is too short", bytes.len);
	memcpy(&version, bytes.p, sizeof(version));
	version = le32toh(version);
	if (version > OBJECT_RECORD_VERSION)
		return err_set(err, -ENOTSUP, "object record of version %u; this program knows %u",
			       version, OBJECT_RECORD_VERSION);
	if (version != OBJECT_RECORD_VERSION || bytes.len < sizeof(h) ||
	    (bytes.len - sizeof(h)) % OBJECT_SOURCE_SIZE ||
	    (bytes.len - sizeof(h)) / OBJECT_SOURCE_SIZE > UINT32_MAX)
		return err_set(err, -EBADMSG, "damaged object record (version %u, %zu bytes)",
			       version, bytes.len);
	memcpy(&h, bytes.p, sizeof(h));
	*ret = (struct object_record){
		.number = le64toh(h.number),
		.size = le64toh(h.size),
		.chunks_n = le32toh(h.chunks_n),
		.sources = bytes.p + sizeof(h),
		.sources_n = (uint32_t)((bytes.len - sizeof(h)) / OBJECT_SOURCE_SIZE),
	};
	memcpy(ret->digest.bytes, h.digest, DIGEST_SIZE);
	if (ret->number < OBJECT_NUMBER_FIRST || ret->number >> OBJECT_NUMBER_BITS || !ret->size ||
	    ret->size > OBJECT_SIZE_MAX || !ret->chunks_n || ret->chunks_n > INDEX_CHUNKS_MAX)
		return err_set(err, -EBADMSG, "damaged object record");
	return 0;
}

struct object_source object_record_source(const struct object_record *rec, uint32_t i)
{
	struct source s;

	memcpy(&s, rec->sources + (size_t)i * OBJECT_SOURCE_SIZE, sizeof(s));
	return (struct object_source){le32toh(s.layer), le32toh(s.index)};
}

void presence_encode(uint64_t boot, uint64_t size, uint32_t chunks_n, char ret[PRESENCE_HEAD])
{
	struct presence_head h = {
		.magic = htole32(PRESENCE_MAGIC),
		.version = htole32(PRESENCE_VERSION),
		.boot = htole64(boot),
		.size = htole64(size),
		.chunks_n = htole32(chunks_n),
	};

	memcpy(ret, &h, sizeof(h));
}

int presence_check(struct str head, struct str bitmap, uint64_t boot, uint64_t size,
		   uint32_t chunks_n, uint32_t *ret_here)
{
	struct presence_head h;
	uint32_t here = 0;

	if (head.len != sizeof(h) || bitmap.len != presence_size(chunks_n))
		return -EBADMSG;
	memcpy(&h, head.p, sizeof(h));
	if (le32toh(h.magic) != PRESENCE_MAGIC || le32toh(h.version) != PRESENCE_VERSION ||
	    le64toh(h.size) != size || le32toh(h.chunks_n) != chunks_n || h.zero)
		return -EBADMSG;
	if (le64toh(h.boot) != boot)
		return -ESTALE;
	if (chunks_n % 8 && (uint8_t)bitmap.p[bitmap.len - 1] >> chunks_n % 8)
		return -EBADMSG; /* chunks that it does not have */
	for (size_t i = 0; i < bitmap.len; i++)
		here += (uint32_t)__builtin_popcount((uint8_t)bitmap.p[i]);
	*ret_here = here;
	return 0;
}

void object_canonical_key(const struct digest *digest, uint64_t size, struct digest *ret)
{
	uint8_t bytes[DIGEST_SIZE + sizeof(size)];

	size = htole64(size);
	memcpy(bytes, digest->bytes, DIGEST_SIZE);
	memcpy(bytes + DIGEST_SIZE, &size, sizeof(size));
	sha256(bytes, sizeof(bytes), ret);
}
