// SPDX-License-Identifier: Apache-2.0
/* The entries of tars: every kind, the dialects' odd sides, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "convert_check.h"
#include "tar_writer.h"

#include "../../tools/firstlight/convert_tar.h"

static int scan(const struct buf *tar, struct tar_list *l, struct err *err)
{
	auto_close int fd = check_file(buf_str(tar));

	return tar_scan(fd, l, err);
}

static void takes(struct buf *tar, struct tar_list *l, size_t n)
{
	struct err err = ERR_INIT;

	if (scan(tar, l, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(l->n, n);
	buf_fini(tar);
}

static void refuses(struct buf *tar, int code, const char *words)
{
	struct err err = ERR_INIT;
	struct tar_list l;

	assert_int_equal(scan(tar, &l, &err), code);
	if (!strstr(err.text, words))
		fail_msg("says \"%s\", not \"%s\"", err.text, words);
	tar_list_fini(&l);
	buf_fini(tar);
}

static void every_kind(void **state)
{
	struct buf tar = BUF_INIT;
	struct tar_list l;

	(void)state;
	tar_head(&tar, '5', "dir/", "", 0);
	tar_head(&tar, '1', "early", "dir/file", 0); /* to what comes later */
	tar_file(&tar, "dir/file", "hello", 5);
	tar_head(&tar, '1', "late", "dir/file", 0);
	tar_head(&tar, '2', "link", "dir/../dir/file", 0);
	tar_head(&tar, '3', "char", "", 0);
	tar_head(&tar, '4', "block", "", 0);
	tar_head(&tar, '6', "fifo", "", 0);
	tar_file(&tar, "dir/.wh.gone", "", 0);
	tar_end(&tar);
	takes(&tar, &l, 9);
	assert_string_equal(l.list[0].type, "dir");
	assert_int_equal(l.list[0].mode, 0755);
	assert_string_equal(l.list[1].type, "hardlink");
	assert_string_equal(l.list[1].link, "dir/file");
	assert_string_equal(l.list[2].type, "reg");
	assert_int_equal(l.list[2].size, 5);
	assert_int_equal(l.list[2].header, 1024);
	assert_int_equal(l.list[2].data, 1536);
	assert_int_equal(l.list[2].mtime, 1700000000);
	assert_string_equal(l.list[4].link, "dir/../dir/file");
	assert_string_equal(l.list[5].type, "char");
	assert_int_equal(l.list[5].major, 7);
	assert_int_equal(l.list[5].minor, 9);
	assert_string_equal(l.list[6].type, "block");
	assert_string_equal(l.list[7].type, "fifo");
	assert_string_equal(l.list[8].name, "dir/.wh.gone");
	assert_int_equal(l.end, 10 * 512);
	assert_int_equal(l.size, 10 * 512 + 1024);
	assert_false(l.sparse || l.index);
	tar_list_fini(&l);
}

static void extended_headers(void **state)
{
	static const char value[] = "\0\1\n=\xff";
	struct buf tar = BUF_INIT, pax = BUF_INIT;
	char name[401] = "\xc3\xa4/";
	struct tar_list l;

	(void)state;
	memset(name + 3, 'n', sizeof(name) - 4);
	tar_record(&pax, "path", name, sizeof(name) - 1);
	tar_record(&pax, "mtime", "1700000001.5", 12);
	tar_record(&pax, "uid", "3000000", 7);
	tar_record(&pax, "gid", "4000000", 7);
	tar_record(&pax, "SCHILY.xattr.user.binary", value, sizeof(value) - 1);
	tar_record(&pax, "SCHILY.xattr.user.empty", "", 0);
	tar_pax(&tar, &pax);
	tar_file(&tar, "short", "abc", 3);
	tar_head(&tar, 'L', "././@LongLink", "", 151); /* GNU's way */
	tar_bytes(&tar, name + 200, 151);
	tar_file(&tar, "gnu", "", 0);
	tar_end(&tar);
	takes(&tar, &l, 2);
	assert_string_equal(l.list[0].name, name);
	assert_int_equal(l.list[0].header, 0);
	assert_int_equal(l.list[0].mtime, 1700000001);
	assert_int_equal(l.list[0].mtime_nsec, 500000000);
	assert_int_equal(l.list[0].uid, 3000000);
	assert_int_equal(l.list[0].gid, 4000000);
	assert_int_equal(l.list[0].xattrs_n, 2);
	for (int i = 0; i < 2; i++) {
		const struct tar_xattr *x = &l.list[0].xattrs[i];
		bool empty = strcmp(x->name, "user.empty") == 0;

		assert_int_equal(x->size, empty ? 0 : sizeof(value) - 1);
		assert_memory_equal(x->value, value, x->size);
	}
	assert_int_equal(strlen(l.list[1].name), 151);
	tar_list_fini(&l);
}

static void nothing(void **state)
{
	struct buf tar = BUF_INIT;
	struct tar_list l;

	(void)state;
	takes(&tar, &l, 0);
	tar_list_fini(&l);
	tar_end(&tar);
	takes(&tar, &l, 0);
	assert_int_equal(l.end, 0);
	tar_list_fini(&l);
}

static void ends(void **state)
{
	struct buf tar = BUF_INIT;
	struct tar_list l;

	(void)state;
	tar_file(&tar, "no-blocks-of-zeros", "a", 1);
	takes(&tar, &l, 1);
	assert_int_equal(l.end, 1024);
	tar_list_fini(&l);
	tar_file(&tar, "file", "a", 1);
	tar_end(&tar);
	tar_bytes(&tar, "rubbish", 7);
	takes(&tar, &l, 1);
	assert_int_equal(l.end, 1024);
	assert_int_equal(l.size, 1024 + 1024 + 512);
	tar_list_fini(&l);
}

static void damaged(void **state)
{
	struct buf tar = BUF_INIT;

	(void)state;
	tar_file(&tar, "file", "abcdef", 6);
	tar.len -= 509;
	refuses(&tar, -EBADMSG, "damaged");
	tar_file(&tar, "file", "abcdef", 6);
	tar.len -= 700;
	refuses(&tar, -EBADMSG, "damaged");
	tar_head(&tar, '0', "more-than-there-is", "", 1ull << 32);
	tar_end(&tar);
	refuses(&tar, -EBADMSG, "damaged");
	tar_head(&tar, '0', "less-than-nothing", "", 0);
	memset(tar.data + 124, 0xff, 12);
	tar_sum((char *)tar.data);
	tar_end(&tar);
	refuses(&tar, -EBADMSG, "damaged");
	tar_file(&tar, "file", "abcdef", 6);
	tar.data[3] ^= 1; /* the checksum is wrong */
	refuses(&tar, -EBADMSG, "damaged");
	tar_bytes(&tar, "no tar at all", 13);
	refuses(&tar, -EBADMSG, "damaged");
}

static void names_that_are_no_text(void **state)
{
	struct buf tar = BUF_INIT, pax = BUF_INIT;

	(void)state;
	tar_file(&tar, "latin-\xe4", "a", 1);
	tar_end(&tar);
	refuses(&tar, -EOPNOTSUPP, "UTF-8");
	tar_head(&tar, '2', "link", "latin-\xe4", 0);
	tar_end(&tar);
	refuses(&tar, -EOPNOTSUPP, "UTF-8");
	tar_record(&pax, "path", "latin-\xe4", 7);
	tar_pax(&tar, &pax);
	tar_file(&tar, "latin", "a", 1);
	tar_end(&tar);
	refuses(&tar, -EOPNOTSUPP, "UTF-8");
	tar_record(&pax, "SCHILY.xattr.user.\xe4", "a", 1);
	tar_pax(&tar, &pax);
	tar_file(&tar, "xattr", "a", 1);
	tar_end(&tar);
	refuses(&tar, -EOPNOTSUPP, "UTF-8");
}

/* --- sparse files ----------------------------------------------------------------------------- */

/* GNU tar's pax format 1.0: the map is before the data. */
static void sparse(struct buf *tar)
{
	struct buf pax = BUF_INIT;
	char data[1024] = "2\n1000\n3\n5000\n2\n";

	memcpy(data + 512, "abcde", 5);
	tar_record(&pax, "GNU.sparse.major", "1", 1);
	tar_record(&pax, "GNU.sparse.minor", "0", 1);
	tar_record(&pax, "GNU.sparse.name", "holes", 5);
	tar_record(&pax, "GNU.sparse.realsize", "6000", 4);
	tar_pax(tar, &pax);
	tar_file(tar, "GNUSparseFile.1/holes", data, 517);
}

struct content {
	const struct tar_list *l;
	struct buf bytes;
	size_t entries;
};

static int on_part(void *arg, uint64_t hole, const void *data, size_t n)
{
	struct buf *b = arg;

	require(buf_reserve(b, hole) == 0);
	memset(b->data + b->len, 0, hole);
	b->len += hole;
	return n ? buf_append(b, data, n) : 0;
}

static int on_entry(void *arg, size_t i, struct tar_reader *reader)
{
	struct content *c = arg;

	c->entries++;
	return c->l->list[i].sparse
		       ? tar_read_content(reader, &c->l->list[i], on_part, &c->bytes, NULL)
		       : 0;
}

static void sparse_files(void **state)
{
	struct buf tar = BUF_INIT;
	auto_close int fd = -1;
	struct tar_list l;
	struct content c = {.l = &l};

	(void)state;
	tar_file(&tar, "before", "x", 1);
	sparse(&tar);
	tar_file(&tar, "after", "y", 1);
	tar_end(&tar);
	fd = check_file(buf_str(&tar));
	takes(&tar, &l, 3);
	assert_true(l.sparse && l.list[1].sparse);
	assert_false(l.list[0].sparse || l.list[2].sparse);
	assert_string_equal(l.list[1].name, "holes");
	assert_int_equal(l.list[1].size, 6000);
	assert_int_equal(tar_walk(fd, &l, on_entry, &c, NULL), 0);
	assert_int_equal(c.entries, 3);
	assert_int_equal(c.bytes.len, 6000);
	assert_memory_equal(c.bytes.data + 998, "\0\0abc\0", 6);
	assert_memory_equal(c.bytes.data + 4999, "\0de\0", 4);
	buf_fini(&c.bytes);
	tar_list_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind),   cmocka_unit_test(extended_headers),
		cmocka_unit_test(nothing),      cmocka_unit_test(ends),
		cmocka_unit_test(damaged),      cmocka_unit_test(names_that_are_no_text),
		cmocka_unit_test(sparse_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
