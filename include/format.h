/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
/*
 * What firstlight keeps on disk: the contract between one version and the next.
 *
 *   ROOT/format          text, "firstlight N\n": the version of everything below. Read before
 *                        anything is opened; a newer N is refused.
 *   ROOT/lock            flock(2)ed by the keeper and inherited by its worker; holds the keeper's pid
 *   ROOT/db/             RocksDB, one column family a space (below)
 *   ROOT/snapshots/ID/   fs: the snapshot's own files (an overlay upper or lower directory)
 *                        work: overlay's work directory (of active snapshots)
 *                        A view that has a parent has none.
 *   ROOT/trash/ID/       on its way out; nothing refers to it
 *   ROOT/layers/ID       index of a lazy layer (below)
 *   ROOT/meta/ID.erofs   metadata image of the run of lazy layers whose top is snapshot ID; can be
 *                        made again from the indexes
 *   ROOT/m/ID/           where it is mounted
 *   ROOT/fill/           where the FUSE mount is
 *
 *   ROOT/objects/AB/KEY  a complete content; KEY: 64 hex digits, AB: their first two. Mode 0400 while
 *                        its bytes may not be on the disk, then 0444, or 0440 when writing them to
 *                        the disk failed. Contents that are equal but have other chunks are one
 *                        inode, also named by the key of the content as one chunk
 *   ROOT/partial/KEY     a content of several chunks, of which some are there: the bytes at their
 *                        places, then the presence (below) at the next multiple of 4096
 *   ROOT/partial/verify/KEY  was in objects/ without mode 0444 when another boot found it: it goes back
 *                        once its bytes have been hashed
 *
 * Integers are little-endian; a str is a u32 length and its bytes, without NUL.
 *
 * Space "default":   "next-id"     u64: every id of a snapshot below has been given away
 *                    "next-layer"  u32: the same of layers
 * Space "snapshots": key = the snapshot's name (containerd's key, any bytes)
 *   u8  version            SNAPSHOT_RECORD_VERSION; 1 has no layer
 *   u8  kind               enum snapshot_kind
 *   u16 0
 *   u64 id                 the directory's name, decimal
 *   i64 created, updated   ns since 1970-01-01 UTC
 *   i64 size, inodes       of a committed snapshot: bytes on disk (512-byte blocks), inodes; else 0
 *   u64 boot               active: the boot in which it was prepared (a hash of boot_id), for volatile
 *   u32 layer              committed: the lazy layer that it is; 0 = it has a directory
 *   str parent             name of the parent; empty = none
 *   u32 labels             how many follow, ordered by key, no key twice
 *     str key, str value
 *
 * Space "layers": key = the layer's id, u32 big-endian
 *   u8  version            LAYER_RECORD_VERSION
 *   u8  complete           1: all its contents were local once
 *   u16 refs               how many follow
 *   u32 0
 *   blob, trust            32 bytes each: sha256 of the blob, and of its table of contents as the
 *                          manifest gives it
 *     str ref              image reference
 *
 * Layer index (ROOT/layers/ID; image/index_rec.h has the records as structs, packed):
 *   header: "FLINDEX\0", u32 version, u32 codec (0 none, 1 gzip, 2 zstd), u64 blob size, u64 bytes to
 *     prefetch, u64 sum of object sizes, u64 inodes, u64 length of the strings, u32 number of entries,
 *     xattrs, objects, chunks, sha256 of all behind the header, sha256 of the header before this
 *   entries, as a walk through the tree finds them (paths by bytes, '/' before all others), 68 bytes:
 *     u32 path offset, length; u32 link offset, length; i64 mtime, u32 ns; u32 uid, gid; u32 device
 *     major, minor; u32 target; u32 names; u32 object; u32 first xattr, number; u16 mode; u8 type
 *     (enum index_type); u8 opaque (2: with attributes from below)
 *   xattrs, 16 bytes, those of an entry together and ordered by name: u32 name offset, length; u32
 *     value offset, length
 *   objects, 84 bytes, ordered by the place of their first chunk in the blob: key, sha256, u64 size,
 *     u32 first chunk, number; u32 check
 *   chunks, 80 bytes: u64 offset in the blob, length; u64 offset in the stream's output; u64 offset in
 *     the content; u32 size, object; u32 flags (1: zeros); sha256; u32 check
 *   strings: what the offsets lead to
 *   A check is FNV-1a of the record before it. What a field means: image/index.h.
 *
 *                    "objects-boot"  u64: the boot in which ROOT/objects was last looked through
 * Space "numbers":   key = u64 number of an object, big-endian; the value is its key
 * Space "objects":   key = the object's key (32 bytes)
 *   u32 version            OBJECT_RECORD_VERSION
 *   u32 chunks             how many; part of what the key stands for
 *   u64 number             the key's first OBJECT_NUMBER_BITS bits, from OBJECT_NUMBER_FIRST on; smaller
 *                          ones are directories of the fill mount
 *   u64 size               of the content, > 0
 *   u8  digest[32]         sha256 of the content, as the layers claim
 *   to the end, 8 bytes each: u32 layer, u32 number of the content in that layer's index
 *
 * Space "profiles": key = image repository, NUL, executable: what starts of it have read. Without tag
 * or digest; the executable as it is in the image, empty = not known
 *   u8  version            PROFILE_RECORD_VERSION
 *   u8  0, u16 0
 *   u32 starts, whole      starts that went into it, and those of them of which all was seen; whole <=
 *                          starts, starts > 0
 *   i64 last               of the last one, ns since 1970-01-01 UTC
 *   u32 span               length of what was watched, mean, us
 *   u32 paths, uses        how many follow
 *     str path             absolute, clean; ordered by bytes, none twice, each with a use
 *     20 bytes: u32 path, first unit (of 128 KiB), units; u32 us since the start; u32 weight, 65536 = read
 *     by every start; ordered by time, then path, then unit; no unit of a path twice
 *
 *   The same space, key = NUL, then the key of a profile: where that program's start lies in the blobs
 *   u8  version            EXTENTS_RECORD_VERSION
 *   u8  0, u16 0
 *   u32 blobs, contents, extents
 *     32 bytes             sha256 of each blob
 *     32 bytes             key of each content
 *     20 bytes: u32 blob, u32 content; u64 offset in the blob; u32 compressed length; in the order of
 *     first use, no place twice
 *
 * Presence in a partial file:
 *   u32 magic, u32 version PRESENCE_MAGIC, PRESENCE_VERSION
 *   u64 boot               the chunks of another boot may not be on the disk: they do not count
 *   u64 size, u32 chunks   of the content
 *   u32 0
 *   u8  bitmap[(chunks + 7) / 8]   chunk i is there: bit i % 8 of byte i / 8; the rest is 0
 */
/* clang-format on */
#ifndef FIRSTLIGHT_FORMAT_H
#define FIRSTLIGHT_FORMAT_H

#define FORMAT_VERSION          1
#define SNAPSHOT_RECORD_VERSION 2
#define LAYER_RECORD_VERSION    1

#define INDEX_MAGIC             "FLINDEX" /* with its NUL */
#define INDEX_VERSION           1u

#define PROFILE_RECORD_VERSION  1
#define EXTENTS_RECORD_VERSION  1
#define OBJECT_RECORD_VERSION   1
#define PRESENCE_VERSION        1
#define PRESENCE_MAGIC          0x52504c46u /* "FLPR" */
#define OBJECT_NUMBER_FIRST     1024
#define OBJECT_NUMBER_BITS      61 /* and a node id or inode number is still positive */

#define FORMAT_KEY_NEXT_ID      "next-id"
#define FORMAT_KEY_NEXT_LAYER   "next-layer"
#define FORMAT_KEY_OBJECTS_BOOT "objects-boot"

/* The wire's numbers (containerd.services.snapshots.v1.Kind). */
enum snapshot_kind {
	SNAPSHOT_VIEW = 1,
	SNAPSHOT_ACTIVE = 2,
	SNAPSHOT_COMMITTED = 3,
};

#endif
