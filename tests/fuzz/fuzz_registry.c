// SPDX-License-Identifier: Apache-2.0
/*
 * What registries and their settings say: any bytes are taken or refused, and what is taken keeps
 * the promises of the headers. The first byte chooses the parser.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/limits.h"
#include "image/answer.h"
#include "image/blob.h"
#include "image/creds.h"
#include "image/hosts.h"
#include "image/ref.h"
#include "image/token.h"
#include "net/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_ref(struct str in, struct arena *a)
{
	struct err err = ERR_INIT;
	struct ref r, again;
	const char *text;

	if (ref_parse(in, a, &r, &err) < 0) {
		require(err.text[0]);
		return;
	}
	require(*r.host && !strchr(r.host, '/') && *r.repository && *r.repository != '/');
	require(!strstr(r.repository, ".."));
	text = arena_printf(a, "%s/%s%s%s%s%s", r.host, r.repository, r.tag.len ? ":" : "", r.tag.p,
			    r.digest.len ? "@" : "", r.digest.p);
	require(text && ref_parse(str_of(text), a, &again, &err) == 0);
	require(strcmp(r.host, again.host) == 0 && strcmp(r.repository, again.repository) == 0);
}

static void fuzz_challenge(struct str in, struct arena *a)
{
	struct challenge c[CHALLENGES_MAX];
	size_t n = challenges_parse(in, a, c, CHALLENGES_MAX);

	require(n <= CHALLENGES_MAX);
	for (size_t i = 0; i < n; i++) {
		require(!c[i].realm.p || c[i].realm.p[c[i].realm.len] == 0);
		require(c[i].scope.len <= CHALLENGE_VALUE_MAX);
	}
}

static int on_data(void *arg, uint64_t off, const void *data, size_t n)
{
	uint64_t *next = arg;

	(void)data;
	require(n > 0 && (*next == BLOB_TAIL || off == *next));
	*next = off + n;
	return 0;
}

/* The head of a part of a blob; the length of the body follows from the text too. */
static void fuzz_range(struct str in, struct arena *a)
{
	struct http_header h[] = {{STR("content-range"), in}, {STR("content-length"), in}};
	struct http_head part = {206, h, 1}, whole = {200, h + 1, 1};
	static const char body[4096];
	struct blob_request q = {.on_data = on_data};
	uint64_t next;

	for (int i = 0; i < 4; i++) {
		struct blob_part p;

		q.off = i & 1 ? BLOB_TAIL : 5;
		q.len = 100;
		q.arg = &next;
		next = q.off;
		blob_start(&p, &q);
		if (blob_on_head(&p, i & 2 ? &part : &whole) == 0) {
			int r = 0;

			for (int k = 0; r == 0 && k < 3; k++)
				r = blob_on_body(&p, body, sizeof(body) - (size_t)k);
			require(!p.known || p.pos <= p.end);
		}
	}
	retry_after_ms(in, 0);
	require(strlen(error_message(in, a)) <= 300);
}

static void fuzz_hosts(struct str in)
{
	struct err err = ERR_INIT;
	struct hosts *hs;

	if (hosts_parse(in, "docker.io", &hs, &err) < 0) {
		require(err.text[0]);
		return;
	}
	require(hs->n >= 1 && hs->n <= REGISTRY_HOSTS_MAX);
	for (size_t i = 0; i < hs->n; i++) {
		require(hs->list[i].authority[0] && hs->list[i].can);
		for (size_t k = 0; k < hs->list[i].headers_n; k++)
			require(!strpbrk(hs->list[i].headers[k], "\r\n"));
	}
	hosts_free(hs);
}

static void fuzz_creds(struct str in, struct arena *a)
{
	struct token_answer t;
	struct str helper;
	struct creds c;

	if (creds_parse(in, "h:5000", a, &c, &helper, NULL) == 0)
		require(c.secret.len == 0 || c.secret.p);
	creds_helper_answer(in, a, &c, NULL);
	if (token_parse(in, a, &t, NULL) == 0)
		require(token_valid(t.value) && t.expires_s > 0);
}

static void fuzz_url(struct str in, struct arena *a)
{
	struct url u;
	const char *r = url_resolve("https://h:1/v2/a?b", in, a);

	require(!r || url_parse(str_of(r), &u) == 0);
	require(!r || !strpbrk(r, "\r\n "));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = {(const char *)data + 1, size - 1};
	struct arena a;

	if (size == 0)
		return 0;
	arena_init(&a, MiB(4));
	switch (data[0]) {
	case 'r':
		fuzz_ref(in, &a);
		break;
	case 'c':
		fuzz_challenge(in, &a);
		break;
	case 'b':
		fuzz_range(in, &a);
		break;
	case 'h':
		fuzz_hosts(in);
		break;
	case 'd':
		fuzz_creds(in, &a);
		break;
	case 'u':
		fuzz_url(in, &a);
		break;
	default:
		break;
	}
	arena_fini(&a);
	return 0;
}
