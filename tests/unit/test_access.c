// SPDX-License-Identifier: Apache-2.0
/* Accesses without the kernel's part: places, devices, and a host on which no program runs. What
 * the programs tell is tested by tests/system/test_access.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "loop/scope.h"
#include "trace/access.h"
#include "trace/access_place.h"

static const char mounts[] =
	"22 27 0:21 / /sys rw,nosuid - sysfs sysfs rw\n"
	"27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
	"227 27 0:45 /sub /srv/a\\040b rw - btrfs /dev/vdb rw,subvolid=5,subvol=/27 1 7:7\n"
	"30 27 4095:1048575 / /big rw - ext4 /dev/big rw\n"
	"31 27 4096:0 / /toobig rw - ext4 /dev/big rw\n"
	"32 27 8 / /odd rw - ext4 /dev/big rw\n"
	"33 27\n"
	"34";

static int dev_of(uint64_t id, uint32_t *dev)
{
	return access_mount_dev((struct str){mounts, sizeof(mounts) - 1}, id, dev);
}

static void test_mounts(void **state)
{
	uint32_t dev = 77;

	(void)state;
	assert_int_equal(dev_of(22, &dev), 0);
	assert_int_equal(dev, 21);
	assert_int_equal(dev_of(27, &dev), 0);
	assert_int_equal(dev, 254u << 20);
	assert_int_equal(dev_of(227, &dev), 0);
	assert_int_equal(dev, 45);
	assert_int_equal(dev_of(30, &dev), 0);
	assert_int_equal(dev, UINT32_MAX);
	dev = 77;
	assert_int_equal(dev_of(31, &dev), -EPROTO);
	assert_int_equal(dev_of(32, &dev), -EPROTO);
	assert_int_equal(dev_of(33, &dev), -EPROTO);
	assert_int_equal(dev_of(34, &dev), -EPROTO);
	assert_int_equal(dev_of(2, &dev), -ENOENT);
	assert_int_equal(access_mount_dev(STR(""), 1, &dev), -ENOENT);
	assert_int_equal(dev, 77);
}

static void test_devices(void **state)
{
	static const dev_t devs[] = {0, 1, 0xff, 0x100, 0xfffff};

	(void)state;
	for (size_t i = 0; i < array_size(devs); i++) {
		dev_t dev = makedev(254, devs[i]);

		assert_int_equal(access_s_dev(dev), 254u << 20 | devs[i]);
		assert_true(access_dev(access_s_dev(dev)) == dev);
	}
}

static void test_places(void **state)
{
	struct access_place place;
	struct stat st;

	(void)state;
	assert_int_equal(stat("/proc", &st), 0);
	assert_int_equal(access_place("/proc", &place), 0);
	assert_int_equal(place.s_dev, access_s_dev(st.st_dev));
	assert_int_equal(place.ino, st.st_ino);
	assert_true(place.mount_root);
	assert_int_equal(access_place("/proc/self", &place), 0);
	assert_false(place.mount_root);
	assert_int_equal(access_place("/nothing/here", &place), -ENOENT);
}

static void on_event(void *arg, const struct access_event *e)
{
	(void)e;
	++*(unsigned *)arg;
}

static void stats_check(struct access *a, unsigned watches)
{
	struct access_stats s;

	access_stats(a, &s);
	assert_int_equal(s.watches, watches);
	assert_int_equal(s.told + s.read + s.lost + s.events, 0);
	for (unsigned p = 0; p < ACCESS_PROGRAMS; p++) {
		assert_string_equal(s.programs[p].tracepoint, "no_such_tracepoint");
		assert_non_null(s.programs[p].reason);
		assert_string_not_equal(s.programs[p].reason, "");
		assert_false(s.programs[p].attached);
	}
}

may_suspend static int watch_task(void *arg)
{
	struct access *a = arg;

	for (int i = 0; i < 10; i++) {
		access_watch(a);
		access_unwatch(a);
	}
	return 0;
}

/* Nothing can run: all calls do what they do elsewhere, and nothing comes of it. */
may_suspend static int nothing_main(void *arg)
{
	struct access_options o = {.objects = "/proc", .fill = "/nothing", .event = on_event};
	struct work *work;
	struct access *a;
	struct scope scope;

	for (unsigned p = 0; p < ACCESS_PROGRAMS; p++)
		o.tracepoints[p] = "no_such_tracepoint";
	o.arg = arg;
	assert_int_equal(work_new(loop_self(), "access", 2, &work, NULL), 0);
	assert_int_equal(access_new(loop_self(), work, &o, &a, NULL), 0);
	stats_check(a, 0);
	access_watch(a);
	access_ignore(a, 1);
	assert_int_equal(access_device(a, makedev(7, 0), true), 0);
	assert_int_equal(access_device(a, makedev(7, 0), false), 0);
	stats_check(a, 1);
	scope_init(&scope, loop_self());
	for (int i = 0; i < 10; i++)
		assert_int_equal(scope_spawn(&scope, watch_task, a, NULL), 0);
	scope_cancel(&scope);
	scope_wait(&scope);
	scope_fini(&scope);
	access_unwatch(a);
	stats_check(a, 0);
	access_free(a);
	access_free(NULL);
	work_free(work);
	return 0;
}

static void test_nothing_runs(void **state)
{
	unsigned events = 0;
	struct loop *loop;

	(void)state;
	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(loop_run(loop, nothing_main, &events), 0);
	loop_free(loop);
	assert_int_equal(events, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_nothing_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
