// SPDX-License-Identifier: Apache-2.0
/* OCI layouts as sources and destinations: names, blobs that are damaged or there already, tags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "loop/loop.h"
#include "loop/work.h"

#include "../../tools/firstlight/convert_end.h"

#define TYPE "application/vnd.oci.image.manifest.v1+json"

struct fixture {
	char dir[64], layout[96], text[128];
	struct work *work;
	struct arena a;
	struct end end;
};

static char *path(struct fixture *f, const struct digest *d)
{
	char hex[DIGEST_HEX_SIZE];

	digest_hex(d, hex);
	return arena_printf(&f->a, "%s/blobs/sha256/%s", f->layout, hex);
}

static int make(const struct fixture *f, const char *content)
{
	int fd = end_temp(&f->end, f->dir, NULL);

	require(fd >= 0 && write(fd, content, strlen(content)) == (ssize_t)strlen(content));
	return fd;
}

static void blobs(struct fixture *f)
{
	static const char text[] = "what a blob holds";
	auto_buf struct buf got = BUF_INIT;
	auto_close int in = -1, none = -1, fd = make(f, text), other = -1;
	struct err err = ERR_INIT;
	struct digest d;
	struct stat st;

	sha256(text, strlen(text), &d);
	require(end_has(&f->end, &d, &err) == 0);
	require(end_fetch(&f->end, f->work, &d, strlen(text), f->dir, &none, &err) == -ENOENT);
	require(end_put(&f->end, f->work, &d, fd, strlen(text), &err) == 0);
	require(end_has(&f->end, &d, &err) == 1);
	require(stat(path(f, &d), &st) == 0 && (st.st_mode & 07777) == 0644 && st.st_nlink == 1);
	require(end_put(&f->end, f->work, &d, fd, strlen(text), &err) == 0); /* again */
	/* A file of another file system, where no link is possible. */
	other = memfd_create("other", MFD_CLOEXEC);
	require(write(other, text, strlen(text)) == (ssize_t)strlen(text));
	require(unlink(path(f, &d)) == 0);
	require(end_put(&f->end, f->work, &d, other, strlen(text), &err) == 0);
	require(file_read_all(path(f, &d), 1000, &got, &err) == 0);
	require(got.len == strlen(text) && memcmp(got.data, text, got.len) == 0);
	require(end_fetch(&f->end, f->work, &d, strlen(text), f->dir, &in, &err) == 0 && in >= 0);
	/* Damage is told before anything is made of it. */
	require(end_fetch(&f->end, f->work, &d, strlen(text) + 1, f->dir, &none, &err) == -EBADMSG);
	require(strstr(err.text, "size"));
	require(truncate(path(f, &d), 5) == 0);
	require(end_fetch(&f->end, f->work, &d, 5, f->dir, &none, &err) == -EBADMSG);
	require(strstr(err.text, "digest") && none == -1);
}

static void tags(struct fixture *f)
{
	struct str one = STR("{\"schemaVersion\":2}"), two = STR("{\"schemaVersion\":2,\"a\":1}"),
		   type;
	auto_buf struct buf body = BUF_INIT;
	struct err err = ERR_INIT;
	struct digest d, is;
	struct end e;

	require(end_resolve(&f->end, &f->a, &body, &d, &type, &err) == -ENOENT);
	require(end_tag(&f->end, one, TYPE, &err) == 0); /* "latest" */
	require(end_resolve(&f->end, &f->a, &body, &d, &type, &err) == 0);
	sha256(one.p, one.len, &is);
	require(digest_eq(&d, &is) && str_eq(type, STR(TYPE)) && body.len == one.len);
	e = f->end;
	e.tag = "two";
	require(end_resolve(&e, &f->a, &body, &d, &type, &err) == -ENOENT);
	require(strstr(err.text, "no image two"));
	require(end_tag(&e, two, TYPE, &err) == 0);
	require(end_resolve(&f->end, &f->a, &body, &d, &type, &err) == -ENOENT); /* which one? */
	body.len = 0;
	require(end_resolve(&e, &f->a, &body, &d, &type, &err) == 0 && body.len == two.len);
	require(end_tag(&e, one, TYPE, &err) == 0); /* moves */
	e.tag = "latest";
	body.len = 0;
	require(end_resolve(&e, &f->a, &body, &d, &type, &err) == 0 && body.len == one.len);
	body.len = 0;
	require(end_manifest(&e, &is, &body, &err) == 0 && body.len == one.len);
	require(truncate(path(f, &is), 3) == 0);
	require(end_manifest(&e, &is, &body, &err) == -EBADMSG);
}

static void names(struct fixture *f)
{
	struct err err = ERR_INIT;
	struct end e;

	require(end_parse("oci:/a/b:c", NULL, &f->a, &e, &err) == 0);
	require(strcmp(e.dir, "/a/b") == 0 && strcmp(e.tag, "c") == 0 && !e.registry);
	require(end_parse("oci:a:b/c", NULL, &f->a, &e, &err) == 0);
	require(strcmp(e.dir, "a:b/c") == 0 && e.tag[0] == 0);
	require(end_parse("oci:", NULL, &f->a, &e, &err) == -EINVAL);
	require(end_parse("oci::tag", NULL, &f->a, &e, &err) == -EINVAL);
	require(end_parse("a//b", NULL, &f->a, &e, &err) == -EINVAL);
	require(end_parse("host:5000/a/b:c", NULL, &f->a, &e, &err) == 0);
}

static void (*what)(struct fixture *f);

static int in_loop(void *arg)
{
	struct fixture *f = arg;
	struct err err = ERR_INIT;

	require(work_new(loop_self(), "test", 1, &f->work, &err) == 0);
	snprintf(f->dir, sizeof(f->dir), "/tmp/test_convert_end.XXXXXX");
	require(mkdtemp(f->dir));
	snprintf(f->layout, sizeof(f->layout), "%s/layout", f->dir);
	snprintf(f->text, sizeof(f->text), "oci:%s", f->layout);
	arena_init(&f->a, MiB(4));
	require(end_parse(f->text, NULL, &f->a, &f->end, &err) == 0);
	require(end_prepare(&f->end, &err) == 0 && end_prepare(&f->end, &err) == 0);
	what(f);
	work_free(f->work);
	snprintf(f->text, sizeof(f->text), "rm -r %s", f->dir);
	arena_fini(&f->a);
	return system(f->text);
}

static void run(void (*fn)(struct fixture *f))
{
	struct fixture f = {.work = NULL};
	struct loop *loop;

	what = fn;
	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(loop_run(loop, in_loop, &f), 0);
	loop_free(loop);
}

static void test_blobs(void **state)
{
	(void)state;
	run(blobs);
}

static void test_tags(void **state)
{
	(void)state;
	run(tags);
}

static void test_names(void **state)
{
	(void)state;
	run(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blobs),
		cmocka_unit_test(test_tags),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
