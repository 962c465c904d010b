// SPDX-License-Identifier: Apache-2.0
/* Indexes, manifests and configs of images: which platform is chosen, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "operator/manifest.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct arena a;
static struct err err;

static struct platform platform(const char *text)
{
	struct platform p;

	assert_int_equal(platform_parse(str_of(text), &a, &p, &err), 0);
	return p;
}

static unsigned fit(const char *host, const char *made)
{
	struct platform h = platform(host), m = platform(made);

	return platform_fit(&h, &m);
}

static void test_platforms(void **state)
{
	struct platform p;

	(void)state;
	assert_int_equal(fit("linux/amd64", "linux/amd64"), 100);
	assert_int_equal(fit("linux/x86_64", "linux/amd64/v1"), 100);
	assert_int_equal(fit("linux/arm64", "linux/aarch64/v8"), 100);
	assert_int_equal(fit("linux/amd64", "windows/amd64"), 0);
	assert_int_equal(fit("linux/amd64", "linux/arm64"), 0);
	assert_int_equal(fit("linux/amd64", "linux/amd64/v3"), 0); /* it may not run */
	assert_true(fit("linux/amd64/v3", "linux/amd64/v2") > fit("linux/amd64/v3", "linux/386"));
	assert_true(fit("linux/arm/v7", "linux/arm/v6") > 0);
	assert_int_equal(fit("linux/arm/v6", "linux/arm/v7"), 0);
	assert_true(fit("linux/arm64", "linux/arm/v7") > fit("linux/arm64", "linux/arm/v6"));
	assert_int_equal(platform_parse(STR(""), &a, &p, &err), 0);
	assert_true(str_eq(p.os, STR("linux")) && p.arch.len);
	for (const char *const *w =
		     (const char *const[]){"linux", "a/b/c/d", "/", "a/", "a b/c", "linux/ä", NULL};
	     *w; w++)
		assert_int_equal(platform_parse(str_of(*w), &a, &p, &err), -EINVAL);
}

static int choose(const char *body, size_t *ret)
{
	struct platform host = platform("linux/arm64");
	struct index_list list;
	int r = manifest_index(str_of(body), &host, &a, &list, &err);

	*ret = r == 0 ? list.best : 99;
	return r;
}

#define ENTRY(digest, os, arch)                                                                    \
	"{\"digest\":\"" digest "\",\"size\":5,\"platform\":{\"os\":\"" os                         \
	"\",\"architecture\":\"" arch "\"}}"

static void test_index(void **state)
{
	size_t i;

	(void)state;
	assert_int_equal(choose("{\"manifests\":[" ENTRY(A, "linux", "amd64") "," ENTRY(
					B, "linux", "arm64") "]}",
				&i),
			 0);
	assert_int_equal(i, 1);
	assert_int_equal(choose("{\"manifests\":[" ENTRY(A, "linux", "arm") "," ENTRY(
					B, "unknown", "unknown") "]}",
				&i),
			 0);
	assert_int_equal(i, 0);
	assert_int_equal(choose("{\"manifests\":[{\"digest\":\"" A "\",\"size\":5}]}", &i), 0);
	assert_int_equal(choose("{\"manifests\":[" ENTRY(A, "linux", "amd64") "]}", &i), -ENOENT);
	assert_non_null(strstr(err.text, "linux/amd64"));
	assert_int_equal(choose("{\"manifests\":[]}", &i), -ENOENT);
	assert_int_equal(choose("{\"manifests\":{}}", &i), -EBADMSG);
	assert_int_equal(choose("{\"manifests\":[{\"digest\":\"sha256:x\",\"size\":5}]}", &i),
			 -EBADMSG);
	assert_int_equal(choose("{\"manifests\":[{\"digest\":\"" A "\",\"size\":-1}]}", &i),
			 -EBADMSG);
	assert_int_equal(choose("[]", &i), -EBADMSG);
	assert_int_equal(choose("", &i), -EBADMSG);
}

static int parse(const char *body, struct manifest *m)
{
	return manifest_parse(str_of(body), &a, m, &err);
}

static void test_manifest(void **state)
{
	struct manifest m;

	(void)state;
	assert_int_equal(parse("{\"config\":{\"digest\":\"" A "\",\"size\":7},\"layers\":["
			       "{\"mediaType\":\"t\",\"digest\":\"" B "\",\"size\":9}]}",
			       &m),
			 0);
	assert_int_equal(m.layers_n, 1);
	assert_int_equal(m.layers[0].size, 9);
	assert_true(str_eq(m.layers[0].media_type, STR("t")));
	assert_int_equal(parse("{\"fsLayers\":[],\"schemaVersion\":1}", &m), -EOPNOTSUPP);
	assert_int_equal(parse("{\"config\":{\"digest\":\"" A "\",\"size\":7}}", &m), -EOPNOTSUPP);
	assert_int_equal(parse("{\"layers\":[]}", &m), -EBADMSG);
	assert_int_equal(
		parse("{\"config\":{\"digest\":\"" A "\",\"size\":999999999},\"layers\":[]}", &m),
		-EFBIG);
	assert_int_equal(
		parse("{\"config\":{\"digest\":\"" A "\",\"size\":7},\"layers\":[{}]}", &m),
		-EBADMSG);
	assert_true(manifest_is_index(STR(""), STR("{\"manifests\":[]}")));
	assert_false(manifest_is_index(STR("application/vnd.oci.image.index.v1+json"),
				       STR("{\"mediaType\":\"application/vnd.oci.image.manifest."
					   "v1+json\"}")));
	assert_true(str_eq(manifest_type(STR("text/plain"), STR("{\"layers\":[]}"), &a),
			   STR("application/vnd.oci.image.manifest.v1+json")));
}

static void test_config(void **state)
{
	struct digest *ids, want;
	struct platform arm;
	static const char both[] = A " " B;

	(void)state;
	assert_int_equal(config_diff_ids(STR("{\"rootfs\":{\"diff_ids\":[\"" A "\",\"" B "\"]}}"),
					 2, &a, &ids, &err),
			 0);
	chain_ids(ids, 2);
	sha256(both, sizeof(both) - 1, &want);
	assert_true(digest_eq(&ids[1], &want));
	assert_int_equal(digest_parse(STR(A), &want), 0);
	assert_true(digest_eq(&ids[0], &want));
	assert_int_equal(config_diff_ids(STR("{\"rootfs\":{\"diff_ids\":[]}}"), 1, &a, &ids, &err),
			 -EBADMSG);
	assert_int_equal(config_diff_ids(STR("{\"rootfs\":{\"diff_ids\":[1]}}"), 1, &a, &ids, &err),
			 -EBADMSG);
	assert_int_equal(config_diff_ids(STR("{}"), 0, &a, &ids, &err), -EOPNOTSUPP);
	assert_int_equal(platform_parse(STR("linux/arm64"), &a, &arm, &err), 0);
	assert_int_equal(
		config_fits(STR("{\"os\":\"linux\",\"architecture\":\"aarch64\"}"), &arm, &a, &err),
		0);
	assert_int_equal(config_fits(STR("{\"architecture\":\"amd64\"}"), &arm, &a, &err), 0);
	assert_int_equal(
		config_fits(STR("{\"os\":\"linux\",\"architecture\":\"amd64\"}"), &arm, &a, &err),
		-ENOENT);
	assert_string_equal(err.text,
			    "the image is not there for linux/arm64; it is for linux/amd64");
	assert_int_equal(config_fits(STR("[1"), &arm, &a, &err), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_platforms),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_manifest),
		cmocka_unit_test(test_config),
	};
	int r;

	arena_init(&a, 1 << 20);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	arena_fini(&a);
	return r;
}
