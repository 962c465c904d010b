// SPDX-License-Identifier: Apache-2.0
/* Settings that are put into containerd's file: every other byte stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../tools/firstlight/config_edit.c" // NOLINT: the tools are no library

static const struct setting plugin[] = {
	{"proxy_plugins.firstlight", "type", "\"snapshot\""},
	{"proxy_plugins.firstlight", "address", "\"/run/f.sock\""},
};

/* The text after a merge; "" on an error, which err has. */
static const char *merged(const char *text, const struct setting *want, size_t n, bool force,
			  struct err *err)
{
	static struct buf out;

	buf_fini(&out);
	*err = ERR_INIT;
	if (config_merge(str_of(text), want, n, force, &out, err) < 0)
		return "";
	assert_int_equal(buf_append(&out, "", 1), 0);
	return (char *)out.data;
}

static void check(const char *text, const char *expected)
{
	struct err err;
	const char *is = merged(text, plugin, 2, false, &err);

	assert_string_equal(err.text, "");
	assert_string_equal(is, expected);
	/* once more changes nothing */
	char *first = strdup(is);
	assert_string_equal(merged(first, plugin, 2, false, &err), first);
	free(first);
}

static void test_adds(void **state)
{
	(void)state;
	check("", "[proxy_plugins.firstlight]\n  type = \"snapshot\"\n  address = "
		  "\"/run/f.sock\"\n");
	check("version = 2 # two\n",
	      "version = 2 # two\n\n[proxy_plugins.firstlight]\n  type = \"snapshot\"\n  address = "
	      "\"/run/f.sock\"\n");
	check("version = 2", /* no new line at the end */
	      "version = 2\n\n[proxy_plugins.firstlight]\n  type = \"snapshot\"\n  address = "
	      "\"/run/f.sock\"\n");
	/* into a table that is there, behind its keys, as they are indented; what is below stays */
	check("[proxy_plugins.firstlight] # ours\n    type = 'snapshot'\n\n# end\n[grpc]\n",
	      "[proxy_plugins.firstlight] # ours\n    type = 'snapshot'\n    address = "
	      "\"/run/f.sock\"\n\n# end\n[grpc]\n");
	check("[proxy_plugins]\n[proxy_plugins.firstlight]\n[grpc]\na=1\n",
	      "[proxy_plugins]\n[proxy_plugins.firstlight]\n  type = \"snapshot\"\n  address = "
	      "\"/run/f.sock\"\n[grpc]\na=1\n");
	check("[proxy_plugins.\"firstlight\"]\ntype=\"snapshot\"\naddress=\"/run/f.sock\"\n",
	      "[proxy_plugins.\"firstlight\"]\ntype=\"snapshot\"\naddress=\"/run/f.sock\"\n");
	check("x = [\n  \"[a]\", # [b]\n  \"c\"\n]\n[[l]]\nk = 1\n[[l]]\nk = 2\n",
	      "x = [\n  \"[a]\", # [b]\n  \"c\"\n]\n[[l]]\nk = 1\n[[l]]\nk = "
	      "2\n\n[proxy_plugins.firstlight]\n  type = \"snapshot\"\n  address = "
	      "\"/run/f.sock\"\n");
	check("proxy_plugins.firstlight.type = \"snapshot\"\n"
	      "proxy_plugins.firstlight.address = \"/run/f.sock\"\n",
	      "proxy_plugins.firstlight.type = \"snapshot\"\n"
	      "proxy_plugins.firstlight.address = \"/run/f.sock\"\n");
}

static void refused(const char *text, const char *why)
{
	struct err err;

	assert_string_equal(merged(text, plugin, 2, false, &err), "");
	if (!strstr(err.text, why))
		fail_msg("\"%s\" is refused with \"%s\", not \"%s\"", text, err.text, why);
}

static void test_refuses(void **state)
{
	(void)state;
	refused("[proxy_plugins.firstlight]\n# x\naddress = \"/other\"\n", "line 3: ");
	refused("[proxy_plugins]\nfirstlight = { type = \"snapshot\" }\n", "by hand");
	refused("proxy_plugins = { }\n", "by hand");
	refused("proxy_plugins.firstlight.type = \"snapshot\"\n", "by hand");
	refused("[a\n", "line 1: ");
	refused("a = \"x\n", "line 1: ");
	refused("\na = '''x\n'''\n", "line 2: ");
	refused("a = [1,\n2\n", "does not end");
	refused("a = 1 2\n", "line");
	refused("a\n", "no =");
	refused("\"a\\u0041\" = 1\n", "escape");
	refused("a = 1\na = 2\n", "line");
	refused("[a]\n[a]\n", "line");
	refused("\xff = 1\n", "line 1: ");
}

static void test_force(void **state)
{
	struct err err;

	(void)state;
	assert_string_equal(
		merged("[proxy_plugins.firstlight]\ntype = \"snapshot\"\naddress = \"/o\" # c\n",
		       plugin, 2, true, &err),
		"[proxy_plugins.firstlight]\ntype = \"snapshot\"\naddress = \"/run/f.sock\" # c\n");
	assert_string_equal(
		merged("[proxy_plugins.firstlight]\naddress = [\n1]\n", plugin, 2, true, &err), "");
	assert_non_null(strstr(err.text, "by hand"));
}

static void test_looks(void **state)
{
	enum setting_state s[2];
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(
		config_look(STR("[proxy_plugins.firstlight]\naddress = 3\n"), plugin, 2, s, &err),
		0);
	assert_int_equal(s[0], SETTING_MISSING);
	assert_int_equal(s[1], SETTING_OTHER);
	assert_true(str_eq(config_top(STR("[a]\nversion = 1\n"), "version"), (struct str){0}));
	struct str v = config_top(STR("version  =  3 # x\n"), "version");
	assert_int_equal(v.len, 1);
	assert_int_equal(v.p[0], '3');
}

static void test_lists(void **state)
{
	static const struct setting el[] = {{"t.\"a.b\".l", "p", "\"x\""},
					    {"t.\"a.b\".l", "q", "\"y\""}};
	auto_buf struct buf out = BUF_INIT, again = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(
		config_list_add(STR("[[t.\"a.b\".l]]\np = \"x\"\nq = \"z\""), el, 2, &out, &err),
		0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal((char *)out.data, "[[t.\"a.b\".l]]\np = \"x\"\nq = \"z\"\n\n"
					      "[[t.\"a.b\".l]]\n  p = \"x\"\n  q = \"y\"\n");
	out.len--;
	assert_int_equal(config_list_has((struct str){(char *)out.data, out.len}, el, 2, &err), 1);
	assert_int_equal(
		config_list_add((struct str){(char *)out.data, out.len}, el, 2, &again, &err), 0);
	assert_int_equal(again.len, out.len);
	assert_int_equal(config_list_has(STR("[t.\"a.b\"]\nl = [ ]\n"), el, 2, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_adds),  cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_force), cmocka_unit_test(test_looks),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
