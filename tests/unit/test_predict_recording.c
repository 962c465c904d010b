// SPDX-License-Identifier: Apache-2.0
/* Recorded starts: read, written, made into a profile; what is wrong is refused. */
#include "profile_fixture.h"

#include "predict/recording.h"

#define HEAD                                                                                       \
	"{\"version\": 1, \"image\": \"docker.io/library/redis:7\", \"executable\": \"/bin/r\", "  \
	"\"when_ns\": 5, \"span_us\": 9000, \"lost\": 0, \"fuse_only\": false, "
#define FILES                                                                                      \
	"\"files\": [{\"path\": \"/a\", \"size\": 300000}, {\"path\": \"/bin/r\", \"size\": 1}], "
#define EVENT(t, path, unit, units, kind)                                                          \
	"{\"t_us\": " t ", \"path\": \"" path "\", \"unit\": " unit ", \"units\": " units          \
	", \"kind\": \"" kind "\"}"
#define WITH(event) HEAD FILES "\"events\": [" event "]}"

static struct recording parsed(const char *text)
{
	struct err err = ERR_INIT;
	struct recording r;

	if (recording_parse(str_of(text), &arena, &r, &err) < 0)
		fail_msg("%s: %s", err.text, text);
	return r;
}

static void test_parse(void **state)
{
	struct recording r =
		parsed(HEAD "\"ready_us\": 800, \"other\": {}, " FILES
			    "\"events\": [" EVENT("0", "/bin/r", "0", "0", "exec") ", " EVENT(
				    "10", "/a", "2", "9", "fault") ", " EVENT("10", "/bin/r", "0",
									      "1", "fuse") "]}");

	(void)state;
	assert_true(str_eq(r.image, STR("docker.io/library/redis:7")));
	assert_true(str_eq(r.executable, STR("/bin/r")));
	assert_int_equal(r.when_ns, 5);
	assert_int_equal(r.span_us, 9000);
	assert_int_equal(r.ready_us, 800);
	assert_int_equal(r.files_n, 2);
	assert_int_equal(r.files[0].size, 300000);
	assert_int_equal(r.events_n, 3);
	assert_int_equal(r.events[0].kind, RECORDING_EXEC);
	assert_int_equal(r.events[0].file, 1);
	assert_int_equal(r.events[1].unit, 2);
	assert_int_equal(r.events[2].kind, RECORDING_FUSE);
	assert_int_equal(parsed(HEAD "\"ready_us\": null, " FILES "\"events\": []}").ready_us, 0);
}

static void test_profile_of_it(void **state)
{
	struct recording r = parsed(WITH(EVENT("0", "/bin/r", "0", "0", "exec") ", " EVENT(
		"5", "/a", "1", "9", "read") ", " EVENT("50000", "/bin/r", "0", "1", "read")));
	struct profile p;

	(void)state;
	assert_int_equal(recording_profile(&r, &arena, &p, NULL), 0);
	assert_int_equal(profile_check(&p, NULL), 0);
	assert_true(str_eq(p.repository, STR("docker.io/library/redis")));
	assert_int_equal(p.whole, 1);
	assert_int_equal(p.uses_n, 2);
	assert_int_equal(p.uses[0].unit, 1);
	assert_int_equal(p.uses[0].units, 2); /* the file ends there */
	assert_int_equal(p.uses[1].at_us, 50000);
	r.lost = 1;
	assert_int_equal(recording_profile(&r, &arena, &p, NULL), 0);
	assert_int_equal(p.whole, 0);
	r.lost = 0;
	r.fuse_only = true;
	assert_int_equal(recording_profile(&r, &arena, &p, NULL), 0);
	assert_int_equal(p.whole, 0);
}

static void test_write(void **state)
{
	struct recording r = parsed(HEAD "\"ready_us\": 800, " FILES "\"events\": [" EVENT(
		"0", "/bin/r", "0", "0", "exec") ", " EVENT("10", "/a", "2", "9", "fault") "]}");
	const struct recording_file files[] = {{STR("/\xff"), 5}, r.files[1], r.files[0]};
	const struct recording_event events[] = {{.t_us = 1, .file = 0, .units = 1},
						 {.t_us = 2, .file = 2, .unit = 1, .units = 1}};
	auto_buf struct buf b = BUF_INIT, again = BUF_INIT;
	struct recording q;

	(void)state;
	assert_int_equal(recording_write(&r, &b), 0);
	assert_int_equal(recording_parse((struct str){(char *)b.data, b.len}, &arena, &q, NULL), 0);
	assert_int_equal(q.events_n, 2);
	assert_int_equal(q.ready_us, 800);
	assert_int_equal(recording_write(&q, &again), 0);
	assert_int_equal(b.len, again.len);
	assert_memory_equal(b.data, again.data, b.len);
	/* JSON has no way to say that path. */
	r.files = files;
	r.files_n = 3;
	r.events = events;
	r.events_n = 2;
	b.len = 0;
	assert_int_equal(recording_write(&r, &b), 0);
	assert_int_equal(recording_parse((struct str){(char *)b.data, b.len}, &arena, &q, NULL), 0);
	assert_int_equal(q.files_n, 2);
	assert_int_equal(q.events_n, 1);
	assert_int_equal(q.events[0].t_us, 2);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"{}",
		"[1]",
		HEAD FILES "}",
		HEAD "\"events\": []}",
		HEAD
		"\"files\": [{\"path\": \"/a\", \"size\": 1}, {\"path\": \"/a\", \"size\": 1}], "
		"\"events\": []}",
		HEAD "\"files\": [{\"path\": \"a\", \"size\": 1}], \"events\": []}",
		HEAD "\"files\": [{\"path\": \"/a/../b\", \"size\": 1}], \"events\": []}",
		HEAD "\"files\": [{\"path\": \"/a\", \"size\": -1}], \"events\": []}",
		HEAD "\"files\": [{\"path\": \"/a\", \"size\": 17592186044417}], \"events\": []}",
		HEAD "\"ready_us\": \"soon\", " FILES "\"events\": []}",
		WITH("5"),
		WITH(EVENT("0", "/b", "0", "1", "read")),
		WITH(EVENT("0", "/a", "3", "1", "read")),
		WITH(EVENT("0", "/a", "0", "0", "read")),
		WITH(EVENT("0", "/a", "1", "0", "exec")),
		WITH(EVENT("0", "/a", "0", "4294967295", "read")),
		WITH(EVENT("0", "/a", "-1", "1", "read")),
		WITH(EVENT("0", "/a", "0", "1", "write")),
		WITH(EVENT("4000000001", "/a", "0", "1", "read")),
		WITH(EVENT("9", "/a", "0", "1", "read") ", " EVENT("8", "/a", "0", "1", "read")),
		"{\"version\": 1, \"image\": \"\", \"executable\": \"/bin/r\", \"when_ns\": 5, "
		"\"span_us\": 9000, \"lost\": 0, \"fuse_only\": false, \"files\": [], \"events\": "
		"[]}",
		"{\"version\": 1, \"image\": \"r\", \"executable\": \"bin\", \"when_ns\": 5, "
		"\"span_us\": 9000, \"lost\": 0, \"fuse_only\": false, \"files\": [], \"events\": "
		"[]}",
		"{\"version\": 1, \"image\": \"r\", \"executable\": \"\", \"when_ns\": 5, "
		"\"span_us\": 9000, \"lost\": 0, \"fuse_only\": 0, \"files\": [], \"events\": []}",
	};
	struct recording r;
	struct err err;

	(void)state;
	for (size_t i = 0; i < array_size(bad); i++) {
		err = ERR_INIT;
		if (recording_parse(str_of(bad[i]), &arena, &r, &err) != -EINVAL)
			fail_msg("%s", bad[i]);
		assert_true(err.text[0]);
	}
	assert_int_equal(recording_parse(STR("{\"version\": 2}"), &arena, &r, NULL), -ENOTSUP);
}

static void test_too_many(void **state)
{
	auto_buf struct buf b = BUF_INIT;
	struct recording r;

	(void)state;
	assert_int_equal(buf_printf(&b, HEAD FILES "\"events\": ["), 0);
	for (unsigned i = 0; i < RECORDING_EVENTS_MAX; i++)
		assert_int_equal(
			buf_printf(&b, "%s" EVENT("0", "/a", "0", "1", "read"), i ? ", " : ""), 0);
	assert_int_equal(buf_printf(&b, "]}"), 0);
	assert_int_equal(recording_parse((struct str){(char *)b.data, b.len}, &arena, &r, NULL), 0);
	b.len -= 2;
	assert_int_equal(buf_printf(&b, ", " EVENT("0", "/a", "0", "1", "read") "]}"), 0);
	assert_int_equal(recording_parse((struct str){(char *)b.data, b.len}, &arena, &r, NULL),
			 -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_parse, setup, teardown),
		cmocka_unit_test_setup_teardown(test_profile_of_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
	};

	return cmocka_run_group_tests_name("recording", tests, NULL, NULL);
}
