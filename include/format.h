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
 */
/* clang-format on */
#ifndef FIRSTLIGHT_FORMAT_H
#define FIRSTLIGHT_FORMAT_H

#define FORMAT_VERSION          1
#define SNAPSHOT_RECORD_VERSION 2
#define LAYER_RECORD_VERSION    1

#define FORMAT_KEY_NEXT_ID      "next-id"
#define FORMAT_KEY_NEXT_LAYER   "next-layer"

/* The wire's numbers (containerd.services.snapshots.v1.Kind). */
enum snapshot_kind {
	SNAPSHOT_VIEW = 1,
	SNAPSHOT_ACTIVE = 2,
	SNAPSHOT_COMMITTED = 3,
};

#endif
