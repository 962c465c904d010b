// SPDX-License-Identifier: Apache-2.0
/* Settings that are put into containerd's file: every other byte stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"

// NOLINTBEGIN: the tools are no library
#include "../../tools/firstlight/config_edit.c"
#include "../../tools/firstlight/config_spans.c"
// NOLINTEND

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

static int list_has(const char *text)
{
	static const struct setting el = {"t.\"a.b\".l", "p", "\"x\""};
	struct err err = ERR_INIT;

	return config_list_has(str_of(text), &el, &err);
}

static void test_lists(void **state)
{
	static const struct setting el[] = {{"t.\"a.b\".l", "p", "\"x\""},
					    {"t.\"a.b\".l", "q", "\"y\""}};
	auto_buf struct buf out = BUF_INIT, again = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(
		config_list_add(STR("[[t.\"a.b\".l]]\np = \"z\"\nq = \"y\""), el, 2, &out, &err),
		0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal((char *)out.data, "[[t.\"a.b\".l]]\np = \"z\"\nq = \"y\"\n\n"
					      "[[t.\"a.b\".l]]\n  p = \"x\"\n  q = \"y\"\n");
	out.len--;
	assert_int_equal(
		config_list_add((struct str){(char *)out.data, out.len}, el, 2, &again, &err), 0);
	assert_int_equal(again.len, out.len);
	assert_int_equal(list_has((char *)out.data), CONFIG_LIST_ELEMENT);
	assert_int_equal(list_has("[[t.\"a.b\".l]]\nq = \"x\"\n"), CONFIG_LIST_OTHERS);
	assert_int_equal(list_has("[[t.\"a.b\".m]]\np = \"x\"\n[t.\"a.b\"]\n"), CONFIG_LIST_NONE);
	assert_int_equal(list_has("[t.\"a.b\"]\nl = [ ]\n"), -EINVAL);
	assert_int_equal(list_has("[t.\"a.b\".l]\np = \"x\"\n"), -EINVAL);
	assert_int_equal(list_has("[[t]]\n"), -EINVAL);
	assert_int_equal(list_has("t = 1\n"), -EINVAL);
}

/* What it says is what counts, not how. */
static void test_same(void **state)
{
	static const char *const texts[] = {
		"[proxy_plugins.firstlight]\ntype = 'snapshot'\naddress = \"\\u002frun/f.sock\"\n",
		"proxy_plugins = { firstlight = { type = \"snapshot\", address = '/run/f.sock' } "
		"}\n",
		"[proxy_plugins]\nfirstlight.type = \"snapshot\"\n\"firstlight\".'address' = "
		"\"/run/f.sock\"\n",
		"[ proxy_plugins . \"firstlight\" ]\r\n\ttype=\"snapshot\"\r\n"
		"address =\t\"/run/f.sock\"#x",
	};

	(void)state;
	for (size_t i = 0; i < array_size(texts); i++)
		check(texts[i], texts[i]);
}

static void test_in_the_way(void **state)
{
	(void)state;
	refused("[[proxy_plugins]]\na = 1\n", "line 1: ");
	refused("a = 1\n[[proxy_plugins.firstlight]]\n", "line 2: ");
	refused("proxy_plugins = 3\n", "line 1: ");
	refused("[proxy_plugins]\nfirstlight = \"x\"\n", "line 2: ");
	refused("[proxy_plugins]\nfirstlight.address = \"/run/f.sock\"\n", "line 2: ");
	refused("[proxy_plugins.firstlight]\ntype = \"\"\"\nsnapshot\"\"\"\n", "line 2: ");
	refused("[proxy_plugins.firstlight.type]\nx = 1\n", "");
	refused("[proxy_plugins.firstlight]\ntype.x = 1\n", "");
	refused("a = [{ b = 1 }]\n", "line 1: ");
	refused("[\"x\\u0041\"]\n", "escape");
	refused("[proxy_plugins.firstlight]\ntype = \"snapshot\" extra\n", "line 2");
	refused("a = \"\x01\"\n", "line 1");
	refused("[a]]\n", "line 1");
	refused("[[l]]\r", "line 1");
	refused("[[l]] # \x01\n", "line 1");
	refused("a = [1, 2\n[b]\n", "line");
	refused("a.b = 1\n[a]\n", "line 2");
}

/* Only the settings may differ, in any file. */
static void test_many(void **state)
{
	static const char *const texts[] = {
		"# only a comment",
		"\n\n\n",
		"a = 1.5\nb = 1979-05-27T07:32:00Z\nc = [1, [2, \"]\"], 'x']\nd = { e = \"}\" }\n",
		"[a]\n  [a.b]\n    c = \"# no comment\" # comment [x]\n[[l]]\n[[l]]\nx = [\n  1, # "
		"]\n]\n",
		"[proxy_plugins.other]\n  address = \"/o\"\n",
		"[proxy_plugins.firstlight.exports]\n  root = \"/r\"\n",
		"[x]\r\na = 1\r\n",
		"'' = 1\n\"\" .x = 2\n",
		"\"proxy_plugins.firstlight\" = 1\n",
		"[\"proxy_plugins.firstlight\"]\ntype = 7\n",
		"[\"proxy_plugins\"]\n",
	};
	struct err err;

	(void)state;
	for (size_t i = 0; i < array_size(texts); i++) {
		auto_free char *once = strdup(merged(texts[i], plugin, 2, false, &err));
		enum setting_state states[2];

		if (i == 7) { /* the empty key twice */
			assert_string_equal(once, "");
			continue;
		}
		assert_string_equal(err.text, "");
		assert_string_equal(merged(once, plugin, 2, false, &err), once);
		assert_int_equal(config_look(str_of(once), plugin, 2, states, &err), 0);
		assert_int_equal(states[0], SETTING_THERE);
		assert_int_equal(states[1], SETTING_THERE);
		assert_int_equal(strncmp(once, texts[i], strlen(texts[i])), 0);
	}
}

/* A file as large as is allowed ends soon; a larger one is refused. */
static void test_large(void **state)
{
	auto_buf struct buf text = BUF_INIT, out = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	while (text.len < KiB(512))
		assert_int_equal(
			buf_printf(&text, "[t%zu]\nkey = \"value\" # %zu\n", text.len, text.len),
			0);
	assert_int_equal(config_merge((struct str){(char *)text.data, text.len}, plugin, 2, false,
				      &out, &err),
			 0);
	while (text.len <= CONFIG_EDIT_MAX)
		assert_int_equal(buf_printf(&text, "# %080d\n", 0), 0);
	assert_int_equal(config_merge((struct str){(char *)text.data, text.len}, plugin, 2, false,
				      &out, &err),
			 -EFBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_adds),  cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_force), cmocka_unit_test(test_looks),
		cmocka_unit_test(test_lists), cmocka_unit_test(test_same),
		cmocka_unit_test(test_many),  cmocka_unit_test(test_in_the_way),
		cmocka_unit_test(test_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
