// SPDX-License-Identifier: Apache-2.0
/* Settings: every key and flag, which of them wins, what is refused and with which text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/limits.h"
#include "config.h"

static char dir[64];   /* of this run */
static char path[128]; /* a settings file in it */

static int group_setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/fl-config-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/config.toml", dir);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static void write_file(const void *data, size_t n)
{
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, n), n);
}

static int parse(struct config *c, const char *text, struct err *err)
{
	config_init(c);
	return config_parse(c, "c.toml", text, strlen(text), err);
}

static void refuses(const char *text, const char *message)
{
	auto_config struct config c;
	struct err err = ERR_INIT;

	if (parse(&c, text, &err) != -EINVAL)
		fail_msg("taken: <%s>", text);
	assert_string_equal(err.text, message);
}

#define ARGS_MAX 8

/* config_args with a command line of words, the file being at path. */
static int args(struct config *c, struct err *err, ...)
{
	char *argv[ARGS_MAX + 1] = {"firstlightd"};
	const char *word;
	int argc = 1, r;
	va_list ap;

	va_start(ap, err);
	while ((word = va_arg(ap, const char *))) {
		assert_true(argc < ARGS_MAX);
		argv[argc++] = strdup(word);
	}
	va_end(ap);
	config_init(c);
	r = config_args(c, argc, argv, err);
	for (int i = 1; i < argc; i++)
		free(argv[i]);
	return r;
}

#define refuses_args(message, ...)                                                                 \
	do {                                                                                       \
		auto_config struct config c_;                                                      \
		struct err err_ = ERR_INIT;                                                        \
		assert_int_equal(args(&c_, &err_, __VA_ARGS__, NULL), -EINVAL);                    \
		assert_string_equal(err_.text, message);                                           \
	} while (0)

static void test_defaults(void **state)
{
	auto_config struct config c;
	struct err err = ERR_INIT;

	(void)state;
	write_file("", 0);
	assert_int_equal(args(&c, &err, "--config", path, NULL), 0);
	assert_int_equal(c.action, CONFIG_RUN);
	assert_string_equal(c.config_file, path);
	assert_string_equal(c.root, "/var/lib/firstlight");
	assert_string_equal(c.state, "/run/firstlight");
	assert_string_equal(c.address, "/run/firstlight/firstlight.sock");
	assert_int_equal(c.log_level, LOG_LEVEL_INFO);
	assert_false(c.snapshot.volatile_upper);
	assert_true(c.snapshot.sync);
	assert_false(c.snapshot.upperdir_label);
	assert_null(c.metrics.address);
}

static void test_every_key(void **state)
{
	static const char text[] = "root = \"/r\"\n"
				   "state = '/s'\n"
				   "address = \"/a/b.sock\"\n"
				   "log_level = \"debug\"\n"
				   "[snapshot]\n"
				   "volatile = true\n"
				   "sync = false\n"
				   "upperdir_label = true\n"
				   "[metrics]\n"
				   "address = \"127.0.0.1:9477\"\n";
	auto_config struct config c;
	struct err err = ERR_INIT;

	(void)state;
	write_file(text, strlen(text));
	assert_int_equal(args(&c, &err, "--config", path, NULL), 0);
	assert_string_equal(c.root, "/r");
	assert_string_equal(c.state, "/s");
	assert_string_equal(c.address, "/a/b.sock");
	assert_int_equal(c.log_level, LOG_LEVEL_DEBUG);
	assert_true(c.snapshot.volatile_upper);
	assert_false(c.snapshot.sync);
	assert_true(c.snapshot.upperdir_label);
	assert_string_equal(c.metrics.address, "127.0.0.1:9477");
}

static void test_dotted_keys(void **state)
{
	auto_config struct config c;

	(void)state;
	assert_int_equal(parse(&c, "snapshot.sync = false\n\"snapshot\".'volatile' = true", NULL),
			 0);
	assert_false(c.snapshot.sync);
	assert_true(c.snapshot.volatile_upper);
	assert_null(c.address);
}

static void test_flags_beat_the_file(void **state)
{
	static const char text[] =
		"root = '/r'\nstate = '/s'\naddress = '/a'\nlog_level = 'warn'\n";
	auto_config struct config c, d, e, g;
	struct err err = ERR_INIT;

	(void)state;
	write_file(text, strlen(text));
	assert_int_equal(args(&c, &err, "--root=/R", "--state=/S", "--address=/A",
			      "--log-level=error", "--config", path, NULL),
			 0);
	assert_string_equal(c.root, "/R");
	assert_string_equal(c.state, "/S");
	assert_string_equal(c.address, "/A");
	assert_int_equal(c.log_level, LOG_LEVEL_ERROR);
	/* none is wanted after all */
	write_file("[metrics]\naddress = 'unix:/m'", 29);
	assert_int_equal(args(&e, &err, "--config", path, NULL), 0);
	assert_string_equal(e.metrics.address, "unix:/m");
	assert_int_equal(args(&g, &err, "--metrics=", "--config", path, NULL), 0);
	assert_null(g.metrics.address);
	/* the last of two flags wins; the address follows the state directory */
	write_file("state = '/s'", 12);
	assert_int_equal(args(&d, &err, "--root=/1", "--root", "/2", "--config", path, NULL), 0);
	assert_string_equal(d.root, "/2");
	assert_string_equal(d.address, "/s/firstlight.sock");
}

static void test_actions(void **state)
{
	auto_config struct config c, d;

	(void)state;
	/* no file is read */
	assert_int_equal(args(&c, NULL, "--help", "--config", "/does/not/exist", NULL), 0);
	assert_int_equal(c.action, CONFIG_HELP);
	assert_int_equal(args(&d, NULL, "--version", "--config", "/does/not/exist", NULL), 0);
	assert_int_equal(d.action, CONFIG_VERSION);
}

static void test_usage_names_every_flag(void **state)
{
	static const char *const names[] = {"--root",      "--state",   "--address", "--config",
					    "--log-level", "--version", "--help",    "--metrics"};

	(void)state;
	for (size_t i = 0; i < array_size(names); i++)
		assert_non_null(strstr(config_usage(), names[i]));
}

static void test_bad_flags(void **state)
{
	(void)state;
	refuses_args("--bogus is not a flag, or takes no value", "--bogus");
	refuses_args("--help=1 is not a flag, or takes no value", "--help=1");
	refuses_args("-x is not a flag", "-x");
	refuses_args("-\xc3 is not a flag", "-é");
	refuses_args("-x is not a flag", "-xy");
	refuses_args("--root needs a value", "--root");
	refuses_args("unexpected argument more", "more");
	refuses_args("unexpected argument --root", "--", "--root");
	refuses_args("--root must be an absolute path", "--root", "r");
	refuses_args("--root must be an absolute path", "--root=");
	refuses_args("--root must not contain ',', ':' or '\\'", "--root=/a:b");
	refuses_args("--state must not contain ',', ':' or '\\'", "--state=/a,b");
	refuses_args("--address must not contain ',', ':' or '\\'", "--address=/a\\b");
	refuses_args("--config must be an absolute path", "--config=c");
	refuses_args("--log-level must be error, warn, info or debug", "--log-level=INFO");
	refuses_args("--metrics: must be \"unix:/PATH\", \"127.0.0.1:PORT\" or \"[::1]:PORT\"",
		     "--metrics=9477");
}

static void test_bad_keys(void **state)
{
	(void)state;
	refuses("x = 1", "c.toml:1: unknown key x");
	refuses("\n\nROOT = '/r'", "c.toml:3: unknown key ROOT");
	refuses("snapshot = true", "c.toml:1: unknown key snapshot");
	refuses("sync = true", "c.toml:1: unknown key sync");
	refuses("[snapshot]\nroot = '/r'", "c.toml:2: unknown key root");
	refuses("[snapshots]\nsync = true", "c.toml:1: unknown table snapshots");
	refuses("[snapshot.sync]", "c.toml:1: unknown table snapshot.sync");
	refuses("a.b = 1", "c.toml:1: unknown table a");
	refuses("root.x = 1", "c.toml:1: unknown table root");
	refuses("root = '/a'\nroot = '/a'", "c.toml:2: root is already defined");
	refuses("[snapshot]\n[snapshot]", "c.toml:2: snapshot is already defined");
	refuses("[snapshot]\nsync = true\nsync = true",
		"c.toml:3: snapshot.sync is already defined");
}

static void test_wrong_types(void **state)
{
	static const struct {
		const char *key, *want;
	} keys[] = {{"root", "a string"},
		    {"state", "a string"},
		    {"address", "a string"},
		    {"log_level", "a string"},
		    {"snapshot.volatile", "a boolean"},
		    {"snapshot.sync", "a boolean"},
		    {"snapshot.upperdir_label", "a boolean"},
		    {"metrics.address", "a string"}};
	static const struct {
		const char *value, *is;
	} values[] = {{"1", "an integer"},
		      {"1.5", "a float"},
		      {"1979-05-27", "a date"},
		      {"true", "a boolean"},
		      {"'/a'", "a string"}};
	char text[80], message[120];

	(void)state;
	for (size_t i = 0; i < array_size(keys); i++) {
		const char *dot = strchr(keys[i].key, '.');

		for (size_t j = 0; j < array_size(values); j++) {
			if (strcmp(keys[i].want, values[j].is) == 0)
				continue;
			snprintf(text, sizeof(text), "%s = %s", keys[i].key, values[j].value);
			snprintf(message, sizeof(message), "c.toml:1: %s must be %s, not %s",
				 dot ? dot + 1 : keys[i].key, keys[i].want, values[j].is);
			refuses(text, message);
		}
	}
	refuses("root = ['/a']", "c.toml:1: root must be a string, not an array");
	refuses("snapshot = [{sync = true}]",
		"c.toml:1: inline tables in arrays are not used here");
}

static void test_bad_values(void **state)
{
	(void)state;
	refuses("root = ''", "c.toml:1: root must be an absolute path");
	refuses("state = 'a/b'", "c.toml:1: state must be an absolute path");
	refuses("root = '/a:b'", "c.toml:1: root must not contain ',', ':' or '\\'");
	refuses("root = \"/a\\u0000\"", "c.toml:1: root must not contain NUL or a new line");
	refuses("state = \"/a\\n\"", "c.toml:1: state must not contain NUL or a new line");
	refuses("address = \"unix:///a\"", "c.toml:1: address must be an absolute path");
	refuses("[metrics]\naddress = '0.0.0.0:1'",
		"c.toml:2: address: must be a loopback address, and 0.0.0.0 is none: metrics are "
		"not for the network");
	refuses("[metrics]\naddress = \"unix:/a\\u0000\"",
		"c.toml:2: address has no text, or NUL in it");
	refuses("log_level = ''", "c.toml:1: log_level must be error, warn, info or debug");
	refuses("log_level = 'information'",
		"c.toml:1: log_level must be error, warn, info or debug");
	refuses("log_level = \"info\\u0000\"",
		"c.toml:1: log_level must be error, warn, info or debug");
	refuses("root = '/a", "c.toml:1: string without an end");
	refuses("\nroot = '/\xff'", "c.toml:2: not valid UTF-8");
	refuses("root = /a", "c.toml:1: expected a value");
}

static void test_levels(void **state)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	(void)state;
	for (size_t i = 0; i < array_size(names); i++) {
		auto_config struct config c;
		char text[32];

		snprintf(text, sizeof(text), "log_level = '%s'", names[i]);
		assert_int_equal(parse(&c, text, NULL), 0);
		assert_int_equal(c.log_level, i);
	}
}

/* Paths at their limits: PATH_MAX with the NUL, sun_path with the NUL. */
static void test_long_paths(void **state)
{
	char name[PATH_MAX + 1], text[PATH_MAX + 32];
	auto_config struct config c, d;
	struct err err = ERR_INIT;

	(void)state;
	memset(name, 'a', sizeof(name));
	name[0] = '/';
	name[PATH_MAX - 1] = 0;
	snprintf(text, sizeof(text), "root = '%s'", name);
	assert_int_equal(parse(&c, text, &err), 0);
	snprintf(text, sizeof(text), "root = '%sa'", name);
	refuses(text, "c.toml:1: root is too long");
	name[107] = 0;
	snprintf(text, sizeof(text), "address = '%s'", name);
	assert_int_equal(parse(&d, text, &err), 0);
	assert_int_equal(strlen(d.address), 107);
	snprintf(text, sizeof(text), "address = '%sa'", name);
	refuses(text, "c.toml:1: address is longer than a socket's name can be (107 bytes)");
	refuses_args("address is longer than a socket's name can be (107 bytes)", "--state", name,
		     "--config", path);
}

static void test_long_names_in_messages(void **state)
{
	auto_config struct config c;
	struct err err = ERR_INIT;
	char text[2048];

	(void)state;
	snprintf(text, sizeof(text), "%01000d = 1", 0);
	assert_int_equal(parse(&c, text, &err), -EINVAL);
	assert_int_equal(strlen(err.text), strlen("c.toml:1: unknown key ") + 64);
}

static void test_files(void **state)
{
	auto_config struct config c;
	struct err err = ERR_INIT;
	char fifo[96];

	(void)state;
	config_init(&c);
	assert_int_equal(config_load(&c, "/does/not/exist", false, &err), 0);
	assert_int_equal(config_load(&c, "/does/not/exist", true, &err), -ENOENT);
	assert_string_equal(err.text, "open /does/not/exist: No such file or directory");
	assert_int_equal(config_load(&c, "/dev/null/x", false, &err), -ENOTDIR);
	assert_int_equal(config_load(&c, dir, true, &err), -EINVAL);
	assert_int_equal(config_load(&c, "/dev/zero", true, &err), -EINVAL);
	assert_string_equal(err.text, "/dev/zero is not a regular file");
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(config_load(&c, fifo, true, &err), -EINVAL); /* does not wait */
	unlink(fifo);
	write_file("root = '/r'\nx = 1\n", 18);
	assert_int_equal(config_load(&c, path, true, &err), -EINVAL);
	assert_non_null(strstr(err.text, "/config.toml:2: unknown key x"));
	assert_string_equal(c.root, "/r"); /* what stood before it */
}

/* A named file has to be there; an error of the file ends the start. */
static void test_named_file(void **state)
{
	auto_config struct config c, d;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(args(&c, &err, "--config", "/does/not/exist", NULL), -ENOENT);
	assert_string_equal(err.text, "open /does/not/exist: No such file or directory");
	write_file("x", 1);
	assert_int_equal(args(&d, &err, "--config", path, NULL), -EINVAL);
	assert_non_null(strstr(err.text, "/config.toml:1: expected = behind a key"));
}

static void test_file_size(void **state)
{
	auto_free char *text = malloc(CONFIG_FILE_MAX + 1);
	auto_config struct config c;
	struct err err = ERR_INIT;

	(void)state;
	assert_non_null(text);
	memset(text, '\n', CONFIG_FILE_MAX + 1);
	config_init(&c);
	write_file(text, CONFIG_FILE_MAX);
	assert_int_equal(config_load(&c, path, true, &err), 0);
	write_file(text, CONFIG_FILE_MAX + 1);
	assert_int_equal(config_load(&c, path, true, &err), -EFBIG);
	assert_non_null(strstr(err.text, "/config.toml is larger than 1048576 bytes"));
}

static void test_no_memory_for_defaults(void **state)
{
	auto_config struct config c;
	char *argv[] = {"firstlightd", "--config", path, NULL};
	struct err err = ERR_INIT;

	(void)state;
	write_file("", 0);
	config_init(&c);
	free(take_ptr(c.root)); /* as if strdup had failed */
	assert_int_equal(config_args(&c, 3, argv, &err), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_every_key),
		cmocka_unit_test(test_dotted_keys),
		cmocka_unit_test(test_flags_beat_the_file),
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_usage_names_every_flag),
		cmocka_unit_test(test_bad_flags),
		cmocka_unit_test(test_bad_keys),
		cmocka_unit_test(test_wrong_types),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_long_paths),
		cmocka_unit_test(test_long_names_in_messages),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_named_file),
		cmocka_unit_test(test_file_size),
		cmocka_unit_test(test_no_memory_for_defaults),
	};

	return cmocka_run_group_tests_name("config", tests, group_setup, group_teardown);
}
