/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's types, with the fields that access.bpf.c reads and no others. Where a field is in
 * the kernel that runs is found out when the program is loaded (CO-RE: preserve_access_index), by
 * names of types and fields; order and neighbours here mean nothing. So no vmlinux.h is needed,
 * which is 100,000 lines of one kernel, made by a program that needs a running kernel with type
 * information: a build machine has neither.
 *
 * Fields that only some kernels have are asked for with bpf_core_field_exists(). A type that
 * changed its shape has a second declaration with ___ in its name, which CO-RE leaves out.
 */
#ifndef FIRSTLIGHT_BPF_KERNEL_H
#define FIRSTLIGHT_BPF_KERNEL_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#define core __attribute__((preserve_access_index))

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
} core;

struct hlist_node {
	struct hlist_node *next;
} core;

struct hlist_head {
	struct hlist_node *first;
} core;

struct address_space {
	struct inode *host;
} core;

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
	long long i_size;
	struct hlist_head i_dentry; /* in a union of the kernel's; all names of the inode */
	struct address_space i_data;
} core;

struct qstr {
	__u32 len; /* in a union */
	const unsigned char *name;
} core;

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	union {
		struct hlist_node d_alias;
	} d_u;
} core;

struct file {
	struct inode *f_inode;
} core;

struct linux_binprm {
	struct file *file; /* the interpreter, where there is one */
	const char *filename;
} core;

struct ns_common {
	unsigned int inum;
	__u64 ns_id; /* since 6.18 */
} core;

struct mnt_namespace {
	struct ns_common ns;
	__u64 seq; /* before 6.18 */
} core;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
} core;

struct pid_namespace {
	struct ns_common ns;
} core;

struct upid {
	int nr;
	struct pid_namespace *ns;
} core;

struct pid {
	unsigned int level;     /* of the innermost namespace */
	struct upid numbers[1]; /* one in each namespace, the host's first */
} core;

struct mm_struct {
	unsigned long arg_start, arg_end;
} core;

struct task_struct {
	struct mm_struct *mm;
	struct nsproxy *nsproxy;
	struct task_struct *group_leader;
	struct pid *thread_pid;
} core;

/* Since 6.18 flags are a struct. */
typedef struct {
	unsigned long f;
} core memdesc_flags_t;

struct folio {
	memdesc_flags_t flags;
	struct address_space *mapping;
	unsigned long index;
	unsigned int _nr_pages; /* since 6.15 */
} core;

struct folio___before_6_18 {
	unsigned long flags;
} core;

struct folio___before_6_15 {
	unsigned int _folio_nr_pages;
} core;

enum pageflags {
	PG_head = 6, /* the kernel's own value is asked for */
};

#endif
