// SPDX-License-Identifier: Apache-2.0
/* ELF files and the loader's cache. Owns nothing. */
#include "image/elf.h"

#include <elf.h>
#include <string.h>

#include "base/banned.h"

#define HEADERS_MAX 64
#define DYNAMIC_MAX 512 /* entries */

struct reading {
	const struct elf_file *file;
	Elf64_Phdr headers[HEADERS_MAX];
	size_t headers_n;
	struct elf *ret;
};

may_suspend static int read_at(const struct reading *r, uint64_t off, void *buf, size_t n)
{
	return r->file->read(r->file->arg, off, buf, n);
}

may_suspend static int read_headers(struct reading *r)
{
	Elf64_Ehdr h;
	int e = read_at(r, 0, &h, sizeof(h));

	if (e < 0)
		return e;
	if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 ||
	    h.e_ident[EI_DATA] !=
		    (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB) ||
	    h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phnum > HEADERS_MAX)
		return -ENOEXEC;
	r->headers_n = h.e_phnum;
	return r->headers_n ? read_at(r, h.e_phoff, r->headers, r->headers_n * sizeof(*r->headers))
			    : 0;
}

/* A string of at most n bytes, its end included; what is longer is cut away as a whole. */
may_suspend static int read_text(const struct reading *r, uint64_t off, uint64_t n, char *ret)
{
	int e;

	ret[0] = '\0';
	if (n > ELF_NAME_MAX)
		n = ELF_NAME_MAX;
	if (!n)
		return 0;
	e = read_at(r, off, ret, n);
	if (e < 0 || !memchr(ret, '\0', n))
		ret[0] = '\0';
	return e;
}

static const Elf64_Phdr *header(const struct reading *r, uint32_t type)
{
	for (size_t i = 0; i < r->headers_n; i++) {
		if (r->headers[i].p_type == type)
			return &r->headers[i];
	}
	return NULL;
}

/* Where an address lies in the file, and how much of its segment follows. */
static bool file_place(const struct reading *r, uint64_t addr, uint64_t *ret_off, uint64_t *ret_n)
{
	for (size_t i = 0; i < r->headers_n; i++) {
		const Elf64_Phdr *p = &r->headers[i];

		if (p->p_type != PT_LOAD || addr < p->p_vaddr || addr - p->p_vaddr >= p->p_filesz)
			continue;
		*ret_off = p->p_offset + (addr - p->p_vaddr);
		*ret_n = p->p_filesz - (addr - p->p_vaddr);
		return true;
	}
	return false;
}

static uint64_t dynamic_value(const Elf64_Dyn *d, size_t n, int64_t tag)
{
	for (size_t i = 0; i < n && d[i].d_tag != DT_NULL; i++) {
		if (d[i].d_tag == tag)
			return d[i].d_un.d_val;
	}
	return UINT64_MAX;
}

/* A string of the dynamic string table. */
may_suspend static int dynamic_text(const struct reading *r, const Elf64_Dyn *d, size_t n,
				    uint64_t at, char *ret)
{
	uint64_t table = dynamic_value(d, n, DT_STRTAB), off, left;

	ret[0] = '\0';
	if (table == UINT64_MAX || at > UINT32_MAX || !file_place(r, table, &off, &left) ||
	    at >= left)
		return 0;
	return read_text(r, off + at, left - at, ret);
}

may_suspend static int read_dynamic(struct reading *r)
{
	const Elf64_Phdr *p = header(r, PT_DYNAMIC);
	Elf64_Dyn d[DYNAMIC_MAX];
	size_t n = p ? p->p_filesz / sizeof(*d) : 0;
	uint64_t at;
	int e = 0;

	n = n < DYNAMIC_MAX ? n : DYNAMIC_MAX;
	if (n)
		e = read_at(r, p->p_offset, d, n * sizeof(*d));
	for (size_t i = 0; i < n && e == 0 && d[i].d_tag != DT_NULL; i++) {
		char *name = r->ret->needed[r->ret->needed_n];

		if (d[i].d_tag != DT_NEEDED || r->ret->needed_n == ELF_NEEDED_MAX)
			continue;
		e = dynamic_text(r, d, n, d[i].d_un.d_val, name);
		r->ret->needed_n += name[0] != '\0';
	}
	at = dynamic_value(d, n, DT_RUNPATH);
	if (at == UINT64_MAX)
		at = dynamic_value(d, n, DT_RPATH);
	if (e == 0 && at != UINT64_MAX)
		e = dynamic_text(r, d, n, at, r->ret->runpath);
	return e;
}

static void note_parts(struct reading *r)
{
	for (size_t i = 0; i < r->headers_n && r->ret->parts_n < ELF_PARTS_MAX; i++) {
		const Elf64_Phdr *p = &r->headers[i];

		if (p->p_type == PT_LOAD && p->p_filesz && (p->p_offset == 0 || p->p_flags & PF_W))
			r->ret->parts[r->ret->parts_n++] =
				(struct elf_range){p->p_offset, p->p_filesz};
	}
}

may_suspend int elf_read(const struct elf_file *file, struct elf *ret)
{
	struct reading r = {.file = file, .ret = ret};
	const Elf64_Phdr *p;
	int e;

	*ret = (struct elf){.needed_n = 0};
	e = read_headers(&r);
	if (e < 0)
		return e;
	note_parts(&r);
	p = header(&r, PT_INTERP);
	if (p)
		e = read_text(&r, p->p_offset, p->p_filesz, ret->interpreter);
	return e < 0 ? e : read_dynamic(&r);
}

/* --- /etc/ld.so.cache ------------------------------------------------------------------------- */

#define CACHE_MAGIC "glibc-ld.so.cache1.1"

struct cache_head {
	char magic[sizeof(CACHE_MAGIC) - 1];
	uint32_t entries_n, strings_size;
	uint8_t flags, zero[3];
	uint32_t extension, unused[3];
};

struct cache_entry {
	int32_t flags;
	uint32_t key, value; /* offsets of strings in the file */
	uint32_t os_version;
	uint64_t hwcap;
};

static const char *cache_string(const char *cache, size_t n, uint32_t at)
{
	return at < n && memchr(cache + at, '\0', n - at) ? cache + at : NULL;
}

const char *ld_cache_find(const void *cache, size_t n, const char *name, uint32_t *at)
{
	struct cache_head h;
	struct cache_entry e;

	if (n < sizeof(h) || memcmp(cache, CACHE_MAGIC, sizeof(h.magic)) != 0)
		return NULL;
	memcpy(&h, cache, sizeof(h));
	for (; *at < h.entries_n && *at < (n - sizeof(h)) / sizeof(e); ++*at) {
		const char *key, *value;

		memcpy(&e, (const char *)cache + sizeof(h) + *at * sizeof(e), sizeof(e));
		key = cache_string(cache, n, e.key);
		value = cache_string(cache, n, e.value);
		if (key && value && strcmp(key, name) == 0) {
			++*at;
			return value;
		}
	}
	return NULL;
}
