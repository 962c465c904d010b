// SPDX-License-Identifier: Apache-2.0
/* The documents of an image. */
#include "operator/manifest.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/json.h"
#include "base/limits.h"

#include "base/banned.h"

#define OCI_INDEX       "application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST    "application/vnd.oci.image.manifest.v1+json"
#define DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"

/* --- platforms -------------------------------------------------------------------------------- */

static bool is(struct str s, const char *word)
{
	return str_eq(s, str_of(word));
}

/* Other names that people and kernels use. */
static void normalise(struct platform *p)
{
	if (is(p->arch, "x86_64") || is(p->arch, "x86-64")) {
		p->arch = STR("amd64");
	} else if (is(p->arch, "aarch64")) {
		p->arch = STR("arm64");
	} else if (is(p->arch, "armhf") || is(p->arch, "armv7l")) {
		p->arch = STR("arm");
		p->variant = STR("v7");
	} else if (is(p->arch, "armel") || is(p->arch, "armv6l")) {
		p->arch = STR("arm");
		p->variant = STR("v6");
	} else if (is(p->arch, "i386") || is(p->arch, "i686")) {
		p->arch = STR("386");
	}
	if ((is(p->arch, "arm64") && (is(p->variant, "8") || is(p->variant, "v8"))) ||
	    (is(p->arch, "amd64") && is(p->variant, "v1")))
		p->variant = STR("");
	if (is(p->arch, "arm") && !p->variant.len)
		p->variant = STR("v7");
}

static bool word(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    c != '_' && c != '-' && c != '.')
			return false;
	}
	return s.len > 0 && s.len <= 64;
}

/* Up to the next '/', which is taken too. */
static struct str part(struct str *rest)
{
	const char *slash = rest->len ? memchr(rest->p, '/', rest->len) : NULL;
	size_t n = slash ? (size_t)(slash - rest->p) : rest->len;
	struct str s = {rest->p, n};

	n += slash != NULL;
	*rest = (struct str){rest->p + n, rest->len - n};
	return s;
}

static int copy(struct str *s, struct arena *a)
{
	s->p = arena_strndup(a, s->p ? s->p : "", s->len);
	return s->p ? 0 : -ENOMEM;
}

int platform_parse(struct str text, struct arena *a, struct platform *ret, struct err *err)
{
	struct platform p = {STR("linux"), {0}, STR("")};
	struct utsname u;
	struct str rest = text;

	if (!text.len) {
		uname(&u);
		p.arch = str_of(u.machine);
	} else {
		p.os = part(&rest);
		p.arch = part(&rest);
		if (rest.len)
			p.variant = part(&rest);
		if (rest.len || !word(p.os) || !word(p.arch) || (p.variant.len && !word(p.variant)))
			return err_set(err, -EINVAL, "not a platform (os/arch[/variant]): %.*s",
				       (int)(text.len > 100 ? 100 : text.len), text.p);
	}
	normalise(&p);
	if (copy(&p.os, a) < 0 || copy(&p.arch, a) < 0 || copy(&p.variant, a) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	*ret = p;
	return 0;
}

/* "v7": 7; anything else: 0. */
static unsigned level(struct str variant)
{
	return variant.len == 2 && variant.p[0] == 'v' && variant.p[1] > '0' && variant.p[1] <= '9'
		       ? (unsigned)(variant.p[1] - '0')
		       : 0;
}

unsigned platform_fit(const struct platform *host, const struct platform *made)
{
	struct platform p = *made;
	unsigned have, want;

	normalise(&p);
	if (!str_eq(p.os, host->os))
		return 0;
	if (str_eq(p.arch, host->arch)) {
		if (str_eq(p.variant, host->variant))
			return 100;
		have = level(host->variant);
		want = level(p.variant);
		if (is(p.arch, "arm") || is(p.arch, "amd64")) /* a lower level runs too */
			return want < have || (!have && !want) ? 50 + want : 0;
		return !p.variant.len ? 50 : 0;
	}
	if (is(host->arch, "amd64") && is(p.arch, "386"))
		return 10;
	if (is(host->arch, "arm64") && is(p.arch, "arm"))
		return 10 + level(p.variant);
	return 0;
}

/* --- descriptors ------------------------------------------------------------------------------ */

static int descriptor(const struct json *j, struct descriptor *ret)
{
	const struct json *size = json_get(j, "size");

	ret->media_type = json_text(j, "mediaType");
	if (digest_parse(json_text(j, "digest"), &ret->digest) < 0 || !size ||
	    size->type != JSON_INT || size->integer <= 0)
		return -EBADMSG;
	if (!ret->media_type.p)
		ret->media_type = STR("");
	ret->size = (uint64_t)size->integer;
	return 0;
}

static size_t count(const struct json *list)
{
	size_t n = 0;

	for (const struct json *d = list ? list->first : NULL; d; d = d->next)
		n++;
	return n;
}

static int parse(struct str body, struct arena *a, const char *what, struct json **ret,
		 struct err *err)
{
	int r = json_tree(body, a, ret, err);

	if (r < 0)
		return err_wrap(err, r == -ENOMEM ? r : -EBADMSG, "%s", what);
	if ((*ret)->type != JSON_MAP)
		return err_set(err, -EBADMSG, "%s: not a JSON object", what);
	return 0;
}

bool manifest_is_index(struct str type, struct str body)
{
	auto_arena struct arena a;
	struct json *doc;
	struct str own;

	arena_init(&a, JSON_TREE_MAX);
	if (json_tree(body, &a, &doc, NULL) < 0)
		return is(type, OCI_INDEX) || is(type, DOCKER_LIST);
	own = json_text(doc, "mediaType");
	if (own.len)
		return is(own, OCI_INDEX) || is(own, DOCKER_LIST);
	return json_get(doc, "manifests") && !json_get(doc, "layers");
}

struct str manifest_type(struct str said, struct str body, struct arena *a)
{
	auto_arena struct arena tmp;
	struct json *doc;
	struct str type = said;

	arena_init(&tmp, JSON_TREE_MAX);
	if (json_tree(body, &tmp, &doc, NULL) == 0 && json_text(doc, "mediaType").len)
		type = json_text(doc, "mediaType");
	if (!is(type, OCI_INDEX) && !is(type, DOCKER_LIST) && !is(type, OCI_MANIFEST) &&
	    !is(type, DOCKER_MANIFEST))
		type = manifest_is_index(said, body) ? STR(OCI_INDEX) : STR(OCI_MANIFEST);
	return (struct str){arena_strndup(a, type.p, type.len), type.len};
}

/* --- indexes ---------------------------------------------------------------------------------- */

static unsigned fit_of(const struct json *d, const struct platform *host)
{
	const struct json *p = json_get(d, "platform");
	struct platform made = {json_text(p, "os"), json_text(p, "architecture"),
				json_text(p, "variant")};

	return p ? platform_fit(host, &made) : 1; /* it does not say: better than nothing */
}

static int none_fits(const struct json *list, const struct platform *host, struct err *err)
{
	char names[200] = "";
	size_t at = 0;

	for (const struct json *d = list->first; d && at + 48 < sizeof(names); d = d->next) {
		const struct json *p = json_get(d, "platform");
		struct str os = json_text(p, "os"), arch = json_text(p, "architecture");

		if (!p || !word(os) || !word(arch) || os.len + arch.len > 40)
			continue;
		at += (size_t)snprintf(names + at, sizeof(names) - at, "%s" STR_FMT "/" STR_FMT,
				       at ? ", " : "", STR_ARG(os), STR_ARG(arch));
	}
	return err_set(err, -ENOENT,
		       "the image is not there for " STR_FMT "/" STR_FMT "; it has: %s",
		       STR_ARG(host->os), STR_ARG(host->arch), at ? names : "nothing");
}

int manifest_index(struct str body, const struct platform *host, struct arena *a,
		   struct index_list *ret, struct err *err)
{
	const struct json *list, *d;
	unsigned best = 0;
	struct json *doc;
	int r = parse(body, a, "index", &doc, err);

	if (r < 0)
		return r;
	list = json_get(doc, "manifests");
	if (!list || list->type != JSON_LIST)
		return err_set(err, -EBADMSG, "index: it has no manifests");
	*ret = (struct index_list){.list = arena_alloc(a, (count(list) + 1) * sizeof(*ret->list))};
	if (!ret->list)
		return err_set(err, -ENOMEM, "out of memory");
	for (d = list->first; d; d = d->next) {
		unsigned fit = fit_of(d, host);

		if (descriptor(d, &ret->list[ret->n]) < 0)
			return err_set(err, -EBADMSG, "index: entry %zu is not a descriptor",
				       ret->n);
		if (fit > best) {
			best = fit;
			ret->best = ret->n;
		}
		ret->n++;
	}
	return best ? 0 : none_fits(list, host, err);
}

/* --- manifests and configs -------------------------------------------------------------------- */

int manifest_parse(struct str body, struct arena *a, struct manifest *ret, struct err *err)
{
	const struct json *list, *d;
	struct json *doc;
	int r = parse(body, a, "manifest", &doc, err);

	if (r < 0)
		return r;
	list = json_get(doc, "layers");
	if (!list && (json_get(doc, "fsLayers") || json_get(doc, "signatures")))
		return err_set(err, -EOPNOTSUPP, "Docker's old manifests (schema 1) are not taken");
	if (!list || list->type != JSON_LIST)
		return err_set(err, -EOPNOTSUPP, "it is no image: the manifest has no layers");
	if (descriptor(json_get(doc, "config"), &ret->config) < 0)
		return err_set(err, -EBADMSG, "manifest: it names no config");
	if (ret->config.size > IMAGE_CONFIG_MAX)
		return err_set(err, -EFBIG, "a config larger than %zu bytes", IMAGE_CONFIG_MAX);
	ret->layers_n = count(list);
	if (ret->layers_n > CONTROL_LAYERS_MAX)
		return err_set(err, -EFBIG, "%zu layers; at most %d are taken", ret->layers_n,
			       CONTROL_LAYERS_MAX);
	ret->layers = arena_alloc(a, (ret->layers_n + 1) * sizeof(*ret->layers));
	if (!ret->layers)
		return err_set(err, -ENOMEM, "out of memory");
	ret->layers_n = 0;
	for (d = list->first; d; d = d->next) {
		if (descriptor(d, &ret->layers[ret->layers_n]) < 0)
			return err_set(err, -EBADMSG, "manifest: layer %zu is not a descriptor",
				       ret->layers_n);
		ret->layers_n++;
	}
	return 0;
}

int config_diff_ids(struct str body, size_t layers_n, struct arena *a, struct digest **ret,
		    struct err *err)
{
	const struct json *ids;
	struct json *doc;
	size_t n = 0;
	int r = parse(body, a, "config", &doc, err);

	if (r < 0)
		return r;
	ids = json_get(json_get(doc, "rootfs"), "diff_ids");
	if (!ids || ids->type != JSON_LIST)
		return err_set(err, -EOPNOTSUPP, "it is no image: the config has no diff_ids");
	if (count(ids) != layers_n)
		return err_set(err, -EBADMSG, "the config has %zu diff_ids for %zu layers",
			       count(ids), layers_n);
	*ret = arena_alloc(a, (layers_n + 1) * sizeof(**ret));
	if (!*ret)
		return err_set(err, -ENOMEM, "out of memory");
	for (const struct json *d = ids->first; d; d = d->next) {
		if (d->type != JSON_STRING || digest_parse(d->text, &(*ret)[n++]) < 0)
			return err_set(err, -EBADMSG, "config: diff_id %zu is no digest", n - 1);
	}
	return 0;
}

int config_fits(struct str body, const struct platform *host, struct arena *a, struct err *err)
{
	struct platform made;
	struct json *doc;
	int r = parse(body, a, "config", &doc, err);

	if (r < 0)
		return r;
	made = (struct platform){json_text(doc, "os"), json_text(doc, "architecture"),
				 json_text(doc, "variant")};
	if (!word(made.os) || !word(made.arch) || platform_fit(host, &made))
		return 0; /* who does not say is believed */
	return err_set(err, -ENOENT,
		       "the image is not there for " STR_FMT "/" STR_FMT "; it is for " STR_FMT
		       "/" STR_FMT,
		       STR_ARG(host->os), STR_ARG(host->arch), STR_ARG(made.os),
		       STR_ARG(made.arch));
}

void chain_ids(struct digest *ids, size_t n)
{
	char text[2 * DIGEST_TEXT_SIZE];

	for (size_t i = 1; i < n; i++) {
		digest_text(&ids[i - 1], text);
		text[DIGEST_TEXT_SIZE - 1] = ' ';
		digest_text(&ids[i], text + DIGEST_TEXT_SIZE);
		sha256(text, 2 * DIGEST_TEXT_SIZE - 1, &ids[i]);
	}
}
