// SPDX-License-Identifier: Apache-2.0
/* Credentials in the keeper's memory. Owns nothing: the file is the caller's. */
#include "image/logins.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

#include "base/banned.h"

#define MAGIC 0x4c474e31u /* "LGN1" */
#define WORDS 3           /* of a login, a NUL behind each */

/* Eight bytes in one page: written at once, or not. */
struct head {
	uint32_t magic;
	uint32_t at; /* bytes << 1 | half */
};

static uint64_t half_at(unsigned half)
{
	return LOGINS_HEAD_BYTES + (uint64_t)half * LOGINS_HALF_BYTES;
}

/* New memory is all zeros: an empty list. */
static int head_read(int fd, struct head *h)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0 || st.st_size != LOGINS_STATE_SIZE)
		return -EINVAL;
	r = file_pread_all(fd, h, sizeof(*h), 0);
	if (r < 0)
		return r;
	if (h->magic == 0 && h->at == 0)
		return 0;
	return h->magic == MAGIC && h->at >> 1 <= LOGINS_HALF_BYTES ? 0 : -EBADMSG;
}

/* What is not needed any more is not kept. */
static void wipe(struct buf *b)
{
	if (b->data)
		explicit_bzero(b->data, b->cap);
	buf_fini(b);
}

static int put_word(struct buf *b, struct str s)
{
	int r = buf_append(b, s.p, s.len);

	return r < 0 ? r : buf_append(b, "", 1);
}

static int pack(struct buf *b, const struct login_text *list, size_t n)
{
	int r = buf_reserve(b, LOGINS_HALF_BYTES); /* so that no copy is left behind */

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = put_word(b, list[i].ns);
		if (r == 0)
			r = put_word(b, list[i].user);
		if (r == 0)
			r = put_word(b, list[i].secret);
	}
	return r == 0 && b->len > LOGINS_HALF_BYTES ? -EINVAL : r;
}

static int erase(int fd, unsigned half, size_t n)
{
	auto_free char *zeros = calloc(1, n + 1);

	return zeros ? file_pwrite_all(fd, zeros, n, half_at(half)) : -ENOMEM;
}

int logins_write(int fd, const struct login_text *list, size_t n)
{
	struct buf b = BUF_INIT;
	struct head old, new;
	int r = head_read(fd, &old);

	if (r == -EBADMSG)
		old = (struct head){0};
	else if (r < 0)
		return r;
	r = pack(&b, list, n);
	new = (struct head){MAGIC, (uint32_t)b.len << 1 | !(old.at & 1)};
	if (r == 0)
		r = file_pwrite_all(fd, b.data, b.len, half_at(new.at & 1));
	if (r == 0)
		r = file_pwrite_all(fd, &new, sizeof(new), 0);
	if (r == 0)
		r = erase(fd, old.at & 1, old.at >> 1);
	wipe(&b);
	return r;
}

static int unpack(const char *p, size_t n, int (*fn)(void *arg, const struct login_text *l),
		  void *arg)
{
	struct str words[WORDS];
	const char *end;
	size_t i = 0;
	int r = 0;

	for (; r == 0 && n; n -= (size_t)(end + 1 - p), p = end + 1) {
		end = memchr(p, 0, n);
		if (!end)
			return -EBADMSG;
		words[i++] = (struct str){p, (size_t)(end - p)};
		if (i == WORDS) {
			i = 0;
			r = fn(arg, &(struct login_text){words[0], words[1], words[2]});
		}
	}
	return r == 0 && i ? -EBADMSG : r;
}

int logins_read(int fd, int (*fn)(void *arg, const struct login_text *l), void *arg)
{
	struct buf b = BUF_INIT;
	struct head h;
	int r = head_read(fd, &h);

	if (r < 0 || h.at >> 1 == 0)
		return r;
	r = buf_reserve(&b, h.at >> 1);
	if (r == 0)
		r = file_pread_all(fd, b.data, h.at >> 1, half_at(h.at & 1));
	if (r == 0)
		r = unpack((char *)b.data, h.at >> 1, fn, arg);
	wipe(&b);
	return r;
}
