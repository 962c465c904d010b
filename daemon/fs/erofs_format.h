/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of the EROFS format is written here (Linux fs/erofs/erofs_fs.h): places, numbers, and the
 * superblock's checksum. All integers are little-endian. Pure.
 */
#ifndef FIRSTLIGHT_FS_EROFS_FORMAT_H
#define FIRSTLIGHT_FS_EROFS_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define EROFS_MAGIC      0xE0F5E1E2u
#define EROFS_BLOCK_BITS 12
#define EROFS_BLOCK      4096u
#define EROFS_SB_AT      1024u
#define EROFS_SB_SIZE    128u
#define EROFS_SLOT       32u   /* nids count these */
#define EROFS_ROOT_MAX   65535 /* nid of the root */

/* superblock: places of its fields */
#define SB_MAGIC         0
#define SB_CHECKSUM      4
#define SB_COMPAT        8
#define SB_BLKSZBITS     12
#define SB_ROOT_NID      14
#define SB_INOS          16
#define SB_EPOCH         24
#define SB_FIXED_NSEC    32
#define SB_BLOCKS        36
#define SB_META_BLKADDR  40
#define SB_XATTR_BLKADDR 44
#define SB_UUID          48
#define SB_INCOMPAT      80

#define COMPAT_CHECKSUM  0x1u
#define COMPAT_MTIME     0x2u
#define INCOMPAT_CHUNKED 0x4u

/* inodes: the first four fields of both sizes, then those of each */
#define EROFS_COMPACT      32u
#define EROFS_EXTENDED     64u
#define I_FORMAT           0
#define I_XATTR_ICOUNT     2
#define I_MODE             4
#define I_SIZE             8
#define C_NLINK            6 /* compact */
#define C_U                16
#define C_INO              20
#define C_UID              24
#define C_GID              26
#define X_U                16 /* extended */
#define X_INO              20
#define X_UID              24
#define X_GID              28
#define X_MTIME            32
#define X_MTIME_NSEC       40
#define X_NLINK            44

#define FLAT_PLAIN         0u
#define FLAT_INLINE        2u
#define CHUNK_BASED        4u
#define FORMAT(layout, ex) ((uint16_t)((layout) << 1 | ((ex) ? 1u : 0u)))

#define CHUNK_BITS_MAX     31u
#define CHUNK_INDEXES      0x20u /* entries of 8 bytes */
#define CHUNK_ENTRY        8u
#define CHUNK_HOLE         0xFFFFFFFFu /* at byte 4 of an entry */

#define DIRENT_SIZE        12u /* nid u64, nameoff u16, type u8, reserved u8 */
#define DIRENT_NAMEOFF     8
#define DIRENT_TYPE        10

/* xattrs: a header and the numbers of shared values, then entries */
#define XATTR_HEADER    12u
#define XATTR_SHARED_N  4 /* u8 in the header */
#define XATTR_ENTRY     4u
#define XATTR_NAME_LEN  0
#define XATTR_INDEX     1
#define XATTR_VALUE_LEN 2

enum {
	XATTR_USER = 1,
	XATTR_ACL_ACCESS,
	XATTR_ACL_DEFAULT,
	XATTR_TRUSTED,
	XATTR_SECURITY = 6,
};

static inline void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, v & 0xffff);
	put16(p + 2, v >> 16);
}

static inline void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)v);
	put32(p + 4, (uint32_t)(v >> 32));
}

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static inline uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* CRC-32C, reflected, from 0xFFFFFFFF, not inverted at the end. */
static inline uint32_t erofs_crc(const uint8_t *p, size_t n)
{
	uint32_t c = 0xFFFFFFFFu;

	while (n--) {
		c ^= *p++;
		for (int i = 0; i < 8; i++)
			c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0);
	}
	return c;
}

static inline uint64_t erofs_align(uint64_t v, uint64_t to)
{
	return (v + to - 1) / to * to;
}

#endif
