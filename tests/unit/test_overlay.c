// SPDX-License-Identifier: Apache-2.0
/* Mount descriptions: the same as containerd's overlayfs snapshotter answers, and never more
 * options than a page holds after containerd has shortened them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "fs/overlay.h"

#define DIR "/var/lib/firstlight/snapshots"
#define ALL UINT64_C(18446744073709551615)

/* "type source option,option": what is mounted. */
static void check(const struct overlay_spec *s, const char *expected)
{
	auto_buf struct buf text = BUF_INIT;
	auto_arena struct arena a;
	struct mount_answer m;
	struct err err = ERR_INIT;

	arena_init(&a, MiB(1));
	if (overlay_mount(s, &a, &m, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(buf_printf(&text, "%s %s ", m.type, m.source), 0);
	for (size_t i = 0; i < m.options_n; i++)
		assert_int_equal(buf_printf(&text, "%s%s", i ? "," : "", m.options[i]), 0);
	assert_int_equal(buf_append(&text, "", 1), 0);
	assert_string_equal((char *)text.data, expected);
}

static void test_no_parent(void **state)
{
	struct overlay_spec s = {.snapshots = DIR, .id = 7, .active = true, .index_off = true};

	(void)state;
	check(&s, "bind " DIR "/7/fs rw,rbind");
	s.active = false;
	check(&s, "bind " DIR "/7/fs ro,rbind");
	s.id = ALL;
	s.userxattr = s.volatile_upper = true; /* say nothing to a bind mount */
	check(&s, "bind " DIR "/18446744073709551615/fs ro,rbind");
}

static void test_one_parent(void **state)
{
	const uint64_t parents[] = {3};
	struct overlay_spec s = {.snapshots = DIR, .id = 7, .parents = parents, .parents_n = 1};

	(void)state;
	check(&s, "bind " DIR "/3/fs ro,rbind"); /* the parent itself, without an overlay */
	s.index_off = true;
	check(&s, "bind " DIR "/3/fs ro,rbind");
	s.active = true;
	check(&s, "overlay overlay index=off,workdir=" DIR "/7/work,upperdir=" DIR
		  "/7/fs,lowerdir=" DIR "/3/fs");
	s.index_off = false;
	check(&s,
	      "overlay overlay workdir=" DIR "/7/work,upperdir=" DIR "/7/fs,lowerdir=" DIR "/3/fs");
}

static void test_many_parents(void **state)
{
	const uint64_t parents[] = {12, 3, 1};
	struct overlay_spec s = {.snapshots = DIR, .id = 70, .parents = parents, .parents_n = 3};

	(void)state;
	check(&s, "overlay overlay lowerdir=" DIR "/12/fs:" DIR "/3/fs:" DIR "/1/fs");
	s.index_off = true;
	check(&s, "overlay overlay index=off,lowerdir=" DIR "/12/fs:" DIR "/3/fs:" DIR "/1/fs");
	s.volatile_upper = true; /* a view has no upper directory */
	check(&s, "overlay overlay index=off,lowerdir=" DIR "/12/fs:" DIR "/3/fs:" DIR "/1/fs");
	s.active = true;
	s.volatile_upper = false;
	check(&s, "overlay overlay index=off,workdir=" DIR "/70/work,upperdir=" DIR
		  "/70/fs,lowerdir=" DIR "/12/fs:" DIR "/3/fs:" DIR "/1/fs");
}

static void test_options(void **state)
{
	const uint64_t parents[] = {3};
	struct overlay_spec s = {.snapshots = "/r",
				 .id = 7,
				 .active = true,
				 .parents = parents,
				 .parents_n = 1,
				 .index_off = true,
				 .userxattr = true,
				 .volatile_upper = true,
				 .uidmap = STR("0:100000:65536"),
				 .gidmap = STR("0:200000:65536")};

	(void)state;
	check(&s, "overlay overlay uidmap=0:100000:65536,gidmap=0:200000:65536,index=off,userxattr,"
		  "workdir=/r/7/work,upperdir=/r/7/fs,volatile,lowerdir=/r/3/fs");
	s.gidmap = (struct str){0}; /* one alone is none */
	check(&s, "overlay overlay index=off,userxattr,workdir=/r/7/work,upperdir=/r/7/fs,volatile,"
		  "lowerdir=/r/3/fs");
	s.uidmap = (struct str){0};
	s.index_off = s.volatile_upper = false;
	check(&s, "overlay overlay userxattr,workdir=/r/7/work,upperdir=/r/7/fs,lowerdir=/r/3/fs");
}

static void test_idmapped_bind(void **state)
{
	const uint64_t parents[] = {3};
	struct overlay_spec s = {.snapshots = "/r",
				 .id = 7,
				 .active = true,
				 .parents = parents,
				 .uidmap = STR("0:1:2"),
				 .gidmap = STR("0:3:4")};

	(void)state;
	check(&s, "bind /r/7/fs uidmap=0:1:2,gidmap=0:3:4,rw,rbind");
	s.active = false;
	s.parents_n = 1;
	check(&s, "bind /r/3/fs uidmap=0:1:2,gidmap=0:3:4,ro,rbind");
}

/*
 * What containerd hands to mount(2) (mount/mount_linux.go, Mount and compactLowerdirOption):
 * options of 3584 bytes or more, commas not counted, lose the common directory of the lower
 * directories.
 */
static size_t mounted_len(const struct overlay_spec *s)
{
	char id[32];
	size_t bytes = s->active ? strlen("workdir=/7/work") + strlen("upperdir=/7/fs") +
					   2 * strlen(s->snapshots)
				 : 0;
	size_t commas = s->active ? 2 : 0, dir = strlen(s->snapshots) + 1;

	if (s->index_off) {
		bytes += strlen("index=off");
		commas++;
	}
	bytes += strlen("lowerdir=") + s->parents_n - 1;
	for (size_t i = 0; i < s->parents_n; i++)
		bytes += dir + (size_t)snprintf(id, sizeof(id), "%llu/fs",
						(unsigned long long)s->parents[i]);
	if (bytes >= 4096 - 512 && s->parents_n > 1)
		bytes -= s->parents_n * dir;
	return bytes + commas;
}

/* A page holds 4095 bytes. Every number of parents, paths and ids of several lengths. */
static void test_page_of_options(void **state)
{
	static const uint64_t firsts[] = {1, 95, 1000, 999900, 99999999999, ALL - 600};
	static const char *const dirs[] = {"/r/snapshots", DIR};
	uint64_t parents[500];
	size_t refused = 0, taken = 0;

	(void)state;
	for (size_t c = 0; c < array_size(firsts) * array_size(dirs) * 2; c++) {
		struct overlay_spec s = {.snapshots = dirs[c & 1],
					 .id = 7,
					 .active = c & 2,
					 .index_off = true,
					 .parents = parents};

		for (size_t n = 1; n <= 500; n++) {
			auto_arena struct arena a;
			struct mount_answer m;
			bool bind = !s.active && n == 1;
			int r;

			parents[n - 1] = firsts[c / 4] + n;
			s.parents_n = n;
			arena_init(&a, MiB(1));
			r = overlay_mount(&s, &a, &m, NULL);
			assert_int_equal(r, bind || mounted_len(&s) <= 4095 ? 0 : -E2BIG);
			refused += r < 0;
			taken += r == 0;
		}
	}
	assert_true(refused > 1000);
	assert_true(taken > 1000);
}

/* The longest directory that a page takes with one parent, to the byte: nothing is shortened then.
 */
static void test_page_of_options_one_parent(void **state)
{
	const size_t rest = strlen("workdir=/7/work,upperdir=/7/fs,lowerdir=/3/fs");
	const uint64_t parents[] = {3};
	char dir[2048];
	struct overlay_spec s = {
		.snapshots = dir, .id = 7, .active = true, .parents = parents, .parents_n = 1};
	auto_arena struct arena a;
	struct mount_answer m;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal((4095 - rest) % 3, 0);
	memset(dir, 'd', sizeof(dir));
	dir[0] = '/';
	dir[(4095 - rest) / 3] = 0;
	arena_init(&a, MiB(1));
	assert_int_equal(overlay_mount(&s, &a, &m, NULL), 0);
	s.id = 70; /* two bytes more */
	assert_int_equal(overlay_mount(&s, &a, &m, &err), -E2BIG);
	assert_non_null(strstr(err.text, "1 layers"));
}

/* Every failing allocation is an answer, and *ret stays as it was. */
static void test_out_of_memory(void **state)
{
	const uint64_t parents[] = {3, 2};
	struct overlay_spec s = {.snapshots = DIR,
				 .id = 7,
				 .active = true,
				 .parents = parents,
				 .parents_n = 2,
				 .index_off = true,
				 .uidmap = STR("0:1:2"),
				 .gidmap = STR("0:3:4")};
	int r = -ENOMEM;

	(void)state;
	for (size_t max = 0; r < 0; max += 8) {
		auto_arena struct arena a;
		struct mount_answer m = {0};

		assert_true(max < 4096);
		arena_init(&a, max);
		r = overlay_mount(&s, &a, &m, NULL);
		assert_true(r == 0 || r == -ENOMEM);
		assert_int_equal(m.type != NULL, r == 0);
	}
}

/* Lazy layers: their metadata mounts are lower directories, their contents come behind "::". */
static void test_runs(void **state)
{
	const uint64_t parents[] = {12, 3};
	const bool runs[] = {false, true};
	struct overlay_spec s = {.snapshots = "/r/snapshots",
				 .id = 70,
				 .active = true,
				 .parents = parents,
				 .parents_n = 2,
				 .root = "/r",
				 .runs = runs,
				 .data = true,
				 .index_off = true};

	(void)state;
	check(&s,
	      "overlay overlay index=off,redirect_dir=on,metacopy=on,workdir=/r/snapshots/70/work,"
	      "upperdir=/r/snapshots/70/fs,lowerdir=/r/snapshots/12/fs:/r/m/3::/r/objects::/r/"
	      "fill");
	s.data = false; /* to unpack into */
	check(&s, "overlay overlay index=off,workdir=/r/snapshots/70/work,"
		  "upperdir=/r/snapshots/70/fs,lowerdir=/r/snapshots/12/fs:/r/m/3");
	s.data = true;
	s.active = false;
	s.parents = &parents[1];
	s.runs = &runs[1];
	s.parents_n = 1; /* a view of one run is no bind mount: it would have no contents */
	check(&s, "overlay overlay index=off,redirect_dir=on,metacopy=on,"
		  "lowerdir=/r/m/3::/r/objects::/r/fill");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_parent),
		cmocka_unit_test(test_one_parent),
		cmocka_unit_test(test_many_parents),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_idmapped_bind),
		cmocka_unit_test(test_page_of_options),
		cmocka_unit_test(test_page_of_options_one_parent),
		cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests_name("overlay", tests, NULL, NULL);
}
