// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What processes touch: which object or small file, which units of it, once for each mount
 * namespace; and what they execute. Decides all of that in the kernel and fills the ring with
 * records (include/access_event.h); daemon/trace/access.c loads it, and says what each program is
 * for.
 *
 * Raw tracepoints, because they load where others (fentry, kprobes, LSM) are refused, as under
 * lockdown, and cost least.
 *
 * Kernel memory is read through pointers of bpf_rdonly_cast() (Linux 6.2; lazy images need 6.5):
 * plain loads that give 0 where nothing is mapped, for a tenth of what bpf_probe_read_kernel()
 * costs. Nothing that is read here can go away meanwhile in a way that matters:
 * - A tracepoint's program runs under RCU. The mapping and its inode are held by the file or the
 *   memory map that is being read, and so is the dentry that it was opened by.
 * - Other names of the inode may be unlinked or renamed at any time. Dentries and long names are
 *   freed after a grace period; d_parent of a dentry is another dentry always. What is read is an
 *   old or a new name; as the name is the content's key wherever it stands, both are right, and
 *   under a directory that is no object's it does not count.
 * - A dentry that has been taken off the inode may already have its link used for something else:
 *   then d_inode is not this inode, and the walk ends.
 * - An unlinked file that is still open keeps its dentry, and counts: its content is what its name
 *   says.
 */
#include "kernel.h"

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "access_event.h"

#define OVERLAY_MAGIC 0x794c7630 /* linux/magic.h */
#define NAME_LEN      64
#define ALIASES_MAX   4  /* names of an inode that are looked at */
#define WORDS_MAX     16 /* bitmaps of one access: 128 MiB; the next call tells what is behind */
#define SEEN_BITS     14
#define SEEN_WORDS    (1 << SEEN_BITS)
#define SEEN_UNITS    16 /* of a word: 2 MiB */
#define SEEN_ALL      ((1ull << SEEN_UNITS) - 1)
#define SEEN_MANY     8 /* words that a long read is held against */
#define PID_LEVELS    8 /* nested PID namespaces that are looked at */

const volatile struct access_settings settings SEC(".rodata.settings");

/* The daemon's, while it runs: how many devices there are. Without any, nobody looks. */
__u32 devices_n SEC(".data.devices_n");

/* Sizes of maps, where they are not here, are the daemon's (limits.h). */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
} ring SEC(".maps");

/* Devices of small files. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u8);
} devices SEC(".maps");

/* Mount namespaces that do not count. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u64);
	__type(value, __u8);
} ignored SEC(".maps");

/* How many executions of a mount namespace were told. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u64);
	__type(value, __u32);
} execs SEC(".maps");

struct touched_key {
	__u64 mnt_ns;
	__u64 id[2]; /* the first 16 digits of a key; or an inode number, a device */
	__u32 kind, word;
};

/* Bitmaps of units that were told. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct touched_key);
	__type(value, __u64);
} touched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ACCESS_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/*
 * What has been told or dropped lately: asked before all that costs something. It must cost next to
 * nothing itself, because every read of the page cache asks.
 *
 * A word has SEEN_UNITS bits, and above them 48 of a hash that says whose they are: which mapping,
 * inode and namespace, and which of its words. The memory of a mapping may be used again for
 * another inode. The number of an inode is not, as long as a container is there that has seen it:
 * its layers keep their files. A word is read and written whole, so all processors share it without
 * a lock; who finds it overwritten looks further, and tells nothing twice. Taken for another is a
 * word once in 2^48.
 */
volatile __u64 seen_words[SEEN_WORDS];

struct seen {
	__u32 at;   /* its first word; the next ones lie behind it */
	__u64 hash; /* the upper bits count */
};

/* --- reading the kernel's memory ------------------------------------------------------------- */

void *bpf_rdonly_cast(const void *p, __u32 type) __ksym;

/* A number that is a pointer becomes one that may be followed, as may all that it leads to. */
#define kernel(type, p)                                                                            \
	((struct type *)bpf_rdonly_cast((void *)(p), bpf_core_type_id_kernel(struct type)))

static __always_inline struct nsproxy *current_nsproxy(void)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	return task->nsproxy;
}

static __always_inline struct mnt_namespace *current_mnt_ns(void)
{
	return current_nsproxy()->mnt_ns;
}

/* The number that no other namespace ever gets; 0 = the process is ending. */
static __always_inline __u64 mnt_ns_id(struct mnt_namespace *ns)
{
	return bpf_core_field_exists(ns->seq) ? ns->seq : ns->ns.ns_id;
}

/* --- one access ------------------------------------------------------------------------------ */

/* Whose access to which units of which file. */
struct touch {
	__u64 mapping, mnt_ns, ino;
	__u32 dev;
	__u32 object;           /* or a small file */
	__u64 first, last, end; /* units; end is the file's last */
	__u8 name[NAME_LEN];    /* of an object */
};

static __always_inline void count(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* The bits of units first to last that are in this word. */
static __always_inline __u64 word_mask(__u64 first, __u64 last, __u32 word)
{
	__u64 start = (__u64)word * ACCESS_WORD_UNITS, mask = ~0ull;

	if (first > start)
		mask &= ~0ull << ((first - start) & (ACCESS_WORD_UNITS - 1));
	if (last < start + ACCESS_WORD_UNITS - 1)
		mask &= ~0ull >> ((start + ACCESS_WORD_UNITS - 1 - last) & (ACCESS_WORD_UNITS - 1));
	return mask;
}

/* Where its words are. Known before whose they are: they come from memory meanwhile. */
static __always_inline __u32 seen_at(__u64 mapping)
{
	/* A pointer becomes a number by its distance from another. */
	__u64 at = (__u64)current_nsproxy() - (__u64)&devices_n;

	barrier_var(at);
	return ((__u32)mapping + (__u32)at) * 0x9e3779b1u >> (32 - SEEN_BITS);
}

static __always_inline __u64 seen_hash(__u64 mapping, __u64 ino, __u64 mnt_ns)
{
	return mapping * 0x9e3779b97f4a7c15 + ino * 0xc2b2ae3d27d4eb4f +
	       mnt_ns * 0xd6e8feb86659fd93;
}

/* The inode is taken from where the mapping is: only those that are in their inode are remembered,
 * and the others read memory that means nothing, for nothing. */
static __always_inline struct seen seen_current(__u64 mapping)
{
	struct inode *inode = kernel(inode, mapping - bpf_core_field_offset(struct inode, i_data));

	return (struct seen){
		.at = seen_at(mapping),
		.hash = seen_hash(mapping, inode->i_ino, mnt_ns_id(current_mnt_ns())),
	};
}

static __always_inline volatile __u64 *seen_word(const struct seen *s, __u64 n)
{
	return &seen_words[(s->at + (__u32)n) & (SEEN_WORDS - 1)];
}

/* What its nth word is without its bits. */
static __always_inline __u64 seen_owner(const struct seen *s, __u64 n)
{
	return ((s->hash >> SEEN_UNITS) + n) << SEEN_UNITS;
}

/* All of these bits of its nth word? */
static __always_inline bool seen_bits(const struct seen *s, __u64 n, __u64 bits)
{
	__u64 word = *seen_word(s, n);

	return (word ^ seen_owner(s, n)) >> SEEN_UNITS == 0 && !(bits & ~word);
}

static __always_inline bool seen_unit(__u64 mapping, __u64 unit)
{
	struct seen s = seen_current(mapping);

	return seen_bits(&s, unit / SEEN_UNITS, 1ull << unit % SEEN_UNITS);
}

static __always_inline bool seen_units(__u64 mapping, __u64 first, __u64 last)
{
	struct seen s = seen_current(mapping);
	__u64 n = first / SEEN_UNITS, bits = SEEN_ALL << first % SEEN_UNITS & SEEN_ALL;

	for (int i = 0; i < SEEN_MANY && n < last / SEEN_UNITS; i++, n++, bits = SEEN_ALL) {
		if (!seen_bits(&s, n, bits))
			return false;
	}
	return n == last / SEEN_UNITS &&
	       seen_bits(&s, n, bits & SEEN_ALL >> (SEEN_UNITS - 1 - last % SEEN_UNITS));
}

/* These of a bitmap of ACCESS_WORD_UNITS, and no others, are known. Global, as is touch_tell(): so
 * the verifier looks at it once and not on each path to it. */
__noinline int seen_now(const struct touch *t, __u32 word, __u64 mask)
{
	__u64 n = (__u64)word * (ACCESS_WORD_UNITS / SEEN_UNITS);
	struct seen s;

	if (!t)
		return 0;
	s.at = seen_at(t->mapping);
	s.hash = seen_hash(t->mapping, t->ino, t->mnt_ns);
	for (int i = 0; i < ACCESS_WORD_UNITS / SEEN_UNITS && n <= t->end / SEEN_UNITS;
	     i++, n++, mask >>= SEEN_UNITS) {
		if (mask & SEEN_ALL)
			*seen_word(&s, n) = seen_owner(&s, n) | (mask & SEEN_ALL);
	}
	return 0;
}

/* The current process's number where the daemon is. */
static __always_inline __u32 pid_of_current(void)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct pid *pid = task->group_leader->thread_pid;
	__u64 at = (__u64)pid + bpf_core_field_offset(struct pid, numbers);
	__u32 level = pid->level;
	struct upid *u;

	for (__u32 i = 0; i < PID_LEVELS && i <= level; i++) {
		u = kernel(upid, (void *)at);
		if (u->ns->ns.inum == settings.pid_ns)
			return u->nr;
		at += bpf_core_type_size(struct upid);
	}
	return 0;
}

static __always_inline void head_fill(struct access_record *r, struct mnt_namespace *ns,
				      __u64 mnt_ns, __u32 kind, __u32 dev)
{
	r->time_ns = bpf_ktime_get_ns();
	r->mnt_ns = mnt_ns;
	r->inum = ns->ns.inum;
	r->pid = pid_of_current();
	r->kind = kind;
	r->dev = dev;
}

static __always_inline bool ns_ignored(struct mnt_namespace *ns, __u64 mnt_ns)
{
	__u32 inum = ns->ns.inum;

	return inum == settings.own_inums[0] || inum == settings.own_inums[1] ||
	       bpf_map_lookup_elem(&ignored, &mnt_ns);
}

/* Of a lower-case hex digit its value + 1, of all else 0. */
static const __u8 digits[256] = {
	['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,
	['6'] = 7,  ['7'] = 8,  ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12,
	['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

/* false: it is none. */
static __always_inline bool key_of(const __u8 name[NAME_LEN], __u8 key[NAME_LEN / 2])
{
	__u8 bad = 0, high, low;

	for (int i = 0; i < NAME_LEN / 2; i++) {
		high = digits[name[2 * i]] - 1;
		low = digits[name[2 * i + 1]] - 1;
		bad |= high | low;
		key[i] = high << 4 | low;
	}
	return bad < 16;
}

__noinline int touch_tell(const struct touch *t, __u32 word, __u64 mask)
{
	struct access_touch *r;

	if (!t)
		return 0;
	r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r) {
		count(ACCESS_LOST);
		return 0;
	}
	head_fill(&r->head, current_mnt_ns(), t->mnt_ns,
		  t->object ? ACCESS_RECORD_OBJECT : ACCESS_RECORD_FILE, t->dev);
	r->mask = mask;
	r->word = word;
	r->pad = 0;
	if (!t->object) {
		r->ino = t->ino;
	} else if (!key_of(t->name, r->key)) {
		bpf_ringbuf_discard(r, 0);
		return 0;
	}
	count(ACCESS_TOLD);
	/* Wakes the daemon if it has read all before this, and not else. */
	bpf_ringbuf_submit(r, 0);
	return 0;
}

/* Those of mask that nobody has told before. */
static __always_inline __u64 touched_add(const struct touched_key *key, __u64 mask, __u64 *known)
{
	__u64 *bits = bpf_map_lookup_elem(&touched, key), old = 0;

	if (!bits && bpf_map_update_elem(&touched, key, &mask, BPF_NOEXIST))
		bits = bpf_map_lookup_elem(&touched, key); /* another processor was there first */
	if (bits) /* else it is new, or there is no room: told, and told again */
		old = __sync_fetch_and_or(bits, mask);
	*known = old | mask;
	return mask & ~old;
}

/* Is the directory above the one that dentry is in where objects are? The fill mount's is its root,
 * whose inode number is what its server says. */
static __always_inline bool object_place(struct dentry *dentry, __u32 dev)
{
	struct dentry *dir = dentry->d_parent, *top = dir->d_parent;

	if (dir == top)
		return false;
	if (dev == settings.fill_dev)
		return top->d_parent == top;
	return top->d_inode->i_ino == settings.objects_ino;
}

/* A name of the inode that is as long as an object's and, with place, where objects are; NULL: none
 * of the first few. */
static __always_inline struct dentry *object_name(struct inode *inode, __u32 dev, bool place)
{
	struct hlist_node *link = inode->i_dentry.first;
	struct dentry *dentry;

	for (int i = 0; i < ALIASES_MAX && link; i++) {
		dentry = kernel(dentry,
				(void *)link - bpf_core_field_offset(struct dentry, d_u.d_alias));
		if (dentry->d_inode != inode)
			break;
		if (dentry->d_name.len == NAME_LEN && (!place || object_place(dentry, dev)))
			return dentry;
		link = link->next;
	}
	return NULL;
}

/* Fills in the first digits of the name in *key, and all of them in *t. false: it is no object. */
static __always_inline bool object_key(struct inode *inode, struct touch *t,
				       struct touched_key *key)
{
	struct dentry *dentry = object_name(inode, t->dev, true);

	if (!dentry || bpf_probe_read_kernel(t->name, NAME_LEN, dentry->d_name.name))
		return false;
	__builtin_memcpy(key->id, t->name, sizeof(key->id));
	key->kind = ACCESS_RECORD_OBJECT;
	return true;
}

/* Tells what is new. */
static __always_inline int touch_look(struct touch *t, struct inode *inode)
{
	struct touched_key key = {.mnt_ns = t->mnt_ns, .kind = ACCESS_RECORD_FILE};
	__u64 mask, fresh, known;
	__u32 word = t->first / ACCESS_WORD_UNITS;

	if (!t->mnt_ns || t->first > t->end || !inode->i_size)
		return 0;
	if (ns_ignored(current_mnt_ns(), t->mnt_ns)) {
		seen_now(t, word, ~0ull);
		return 0;
	}
	key.id[0] = t->ino;
	key.id[1] = t->dev;
	if (t->object && !object_key(inode, t, &key))
		return 0;
	for (int i = 0; i < WORDS_MAX && (__u64)word * ACCESS_WORD_UNITS <= t->last; i++, word++) {
		key.word = word;
		mask = word_mask(t->first, t->last, word);
		fresh = touched_add(&key, mask, &known);
		if (fresh)
			touch_tell(t, word, fresh);
		seen_now(t, word, known);
	}
	return 0;
}

/* What was not seen, or not lately. Apart, so that what was stays short. */
static __noinline int touch_unseen(__u64 mapping, __u64 first, __u64 last)
{
	struct inode *inode = kernel(address_space, mapping)->host;
	__u32 dev = inode->i_sb->s_dev;
	bool object = dev == settings.objects_dev || dev == settings.fill_dev;
	__u64 end = ((__u64)inode->i_size - 1) >> ACCESS_UNIT_SHIFT;
	struct touch t;

	if (first != last) {
		/* A read asks for what the caller's buffer has room for. */
		if (last > end)
			last = end;
		if (seen_units(mapping, first, last))
			return 0;
	}
	if (!object && (!devices_n || !bpf_map_lookup_elem(&devices, &dev)))
		return 0;
	/* Other files are not worth a word, nor is what is not in its inode, as a device's. */
	if ((object && !object_name(inode, dev, false)) || mapping != (__u64)&inode->i_data)
		return 0;
	t = (struct touch){
		.mapping = mapping,
		.mnt_ns = mnt_ns_id(current_mnt_ns()),
		.ino = inode->i_ino,
		.dev = dev,
		.object = object,
		.first = first,
		.last = last,
		.end = end,
	};
	return touch_look(&t, inode);
}

/* Pages first to last of a mapping are asked for. */
static __always_inline int touch(__u64 mapping, __u64 first, __u64 last)
{
	__u32 shift = settings.unit_shift;

	first >>= shift;
	last >>= shift;
	return first == last && seen_unit(mapping, first) ? 0 : touch_unseen(mapping, first, last);
}

/* --- the tracepoints ------------------------------------------------------------------------- */

typedef struct bpf_raw_tracepoint_args args;

/* Reads, sendfile and splice, exec's look at the head of a file; a hit as well as a miss. Since
 * 6.12; that release may name one page too many. */
SEC("raw_tp/mm_filemap_get_pages")
int get_pages(args *ctx)
{
	return touch(ctx->args[0], ctx->args[1], ctx->args[2]);
}

/* A page of a memory map that is not there yet; it may be in the cache. Since 6.12. */
SEC("raw_tp/mm_filemap_fault")
int fault(args *ctx)
{
	return touch(ctx->args[0], ctx->args[1], ctx->args[1]);
}

/* A page of a memory map that is in the cache, and those around it (fault_around_bytes, 64 KiB):
 * which one of them it was is not told. Since 6.12. */
SEC("raw_tp/mm_filemap_map_pages")
int map_pages(args *ctx)
{
	return touch(ctx->args[0], ctx->args[1], ctx->args[2]);
}

static __always_inline __u64 folio_pages(struct folio *folio)
{
	struct folio___before_6_18 *flat = (void *)folio;
	struct folio___before_6_15 *older = (void *)folio;
	__u64 flags = bpf_core_field_exists(folio->flags.f) ? folio->flags.f : flat->flags;

	if (!(flags & 1ull << bpf_core_enum_value(enum pageflags, PG_head)))
		return 1;
	if (bpf_core_field_exists(folio->_nr_pages))
		return folio->_nr_pages;
	return bpf_core_field_exists(older->_folio_nr_pages) ? older->_folio_nr_pages : 1;
}

/* A page comes into the cache, read or read ahead. For kernels that lack one of those above: no
 * hit is seen, and more than what was asked for. */
SEC("raw_tp/mm_filemap_add_to_page_cache")
int add_page(args *ctx)
{
	struct folio *folio = kernel(folio, ctx->args[0]);
	__u64 mapping; /* to be a number, not a pointer */

	if (bpf_probe_read_kernel(&mapping, sizeof(mapping), &folio->mapping))
		return 0;
	return touch(mapping, folio->index, folio->index + folio_pages(folio) - 1);
}

/* What this process was given, as far as it fits: it lies on the new stack, which is in memory. */
static __always_inline __u32 read_args(char *to)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	__u64 from = task->mm->arg_start, n = task->mm->arg_end - from;

	if (n > ACCESS_ARGS_MAX)
		n = ACCESS_ARGS_MAX;
	return bpf_probe_read_user(to, n, (const void *)from) < 0 ? 0 : n;
}

/* What a container is, its first programs say; a shell script that runs for ever has many. */
static __always_inline bool is_first_exec(__u64 mnt_ns)
{
	__u32 *n = bpf_map_lookup_elem(&execs, &mnt_ns), one = 1;

	if (!n) {
		bpf_map_update_elem(&execs, &mnt_ns, &one, BPF_ANY);
		return true;
	}
	if (*n >= ACCESS_EXECS_MAX)
		return false;
	++*n; /* two at once count as one */
	return true;
}

SEC("raw_tp/sched_process_exec")
int exec(args *ctx)
{
	struct linux_binprm *bprm = kernel(linux_binprm, (void *)ctx->args[2]);
	struct super_block *sb = bprm->file->f_inode->i_sb;
	struct mnt_namespace *ns;
	struct access_exec *r;
	__u64 mnt_ns;

	if (sb->s_magic != OVERLAY_MAGIC)
		return 0;
	ns = current_mnt_ns();
	mnt_ns = mnt_ns_id(ns);
	if (!mnt_ns || ns_ignored(ns, mnt_ns) || !is_first_exec(mnt_ns))
		return 0;
	r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r) {
		count(ACCESS_LOST);
		return 0;
	}
	head_fill(&r->head, ns, mnt_ns, ACCESS_RECORD_EXEC, sb->s_dev);
	r->cgroup = bpf_get_current_cgroup_id();
	if (bpf_probe_read_kernel_str(r->path, sizeof(r->path), bprm->filename) < 0)
		r->path[0] = '\0';
	r->args_n = read_args(r->args);
	r->pad = 0;
	count(ACCESS_TOLD);
	bpf_ringbuf_submit(r, 0);
	return 0;
}

/* Helpers that read kernel memory are for such programs only. */
char licence[] SEC("license") = "Dual BSD/GPL";
