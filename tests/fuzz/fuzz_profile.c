// SPDX-License-Identifier: Apache-2.0
/*
 * Profiles, recorded starts and extents, from anywhere: any bytes are refused or are valid. The
 * first byte says what they are: '0' a record (u16 length of the key, key, value), '1' a profile's
 * document, '2' a recording's, '3' a record of extents. What is taken goes all the way: merged,
 * written and read again, predicted from, compared with itself.
 */
#include <stdint.h>
#include <string.h>

#include "predict/extents.h"
#include "predict/predictor.h"
#include "predict/recording.h"

#define MEMORY_MAX MiB(256)
#define ROUNDS     40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const struct profile *a, const struct profile *b)
{
	require(a->uses_n == b->uses_n && a->paths_n == b->paths_n);
	for (size_t i = 0; i < a->paths_n; i++)
		require(str_eq(a->paths[i], b->paths[i]));
	require(a->uses_n == 0 || memcmp(a->uses, b->uses, a->uses_n * sizeof(*a->uses)) == 0);
}

static void predict(const struct profile *p, const struct profile *other)
{
	const struct predict_options o = {.rtt_ns = 1000, .page_ahead = 5};
	struct predict_range ranges[16];
	struct predictor *pr;
	struct predict_stats s;
	uint64_t now = 0;
	size_t n;

	require(predictor_new(&o, &pr) == 0);
	require(predictor_add(pr, p) == 0 && predictor_add(pr, other) == 0);
	for (size_t i = 0; i < predictor_files(pr); i++)
		predictor_resolve(pr, i, i % 7, i % 3 ? OBJECT_SIZE_MAX : i * 100000);
	for (unsigned k = 0; k < ROUNDS; k++) {
		n = predictor_next(pr, now, ranges, 16);
		require(n <= 16);
		for (size_t i = 0; i < n; i++) {
			require(ranges[i].len > 0 && ranges[i].len <= PREDICT_RANGE_MAX);
			now += 1000000;
			predictor_arrived(pr, ranges[i].object, ranges[i].off, ranges[i].len, now);
			predictor_seen(pr, ranges[i].object,
				       (uint32_t)(ranges[i].off / PROFILE_UNIT), 1 + k % 2, now);
		}
		if (k == 5)
			predictor_exec(pr, p->executable, now);
	}
	predictor_stats(pr, &s);
	require(s.asked.bytes ==
		s.flight.bytes + s.unused.bytes + s.right.bytes + s.wrong.bytes + s.failed.bytes);
	predictor_free(pr);
}

static void use(const struct profile *p, struct arena *a)
{
	auto_buf struct buf key = BUF_INIT, value = BUF_INIT, text = BUF_INIT;
	struct profile again, merged;
	bool words = str_utf8(p->executable);

	require(profile_check(p, NULL) == 0);
	require(profile_key_encode(p, &key) == 0 && profile_encode(p, &value) == 0);
	require(value.len == profile_size(p));
	require(profile_decode((struct str){(char *)key.data, key.len},
			       (struct str){(char *)value.data, value.len}, a, &again, NULL) == 0);
	same(p, &again);
	require(profile_merge(p, &again, a, &merged, NULL) == 0);
	require(profile_check(&merged, NULL) == 0);
	predict(p, &merged);
	for (size_t i = 0; i < p->paths_n; i++)
		words &= str_utf8(p->paths[i]);
	require((profile_json(p, &text, NULL) == 0) == str_utf8(p->executable));
	if (!words || text.len > PROFILE_JSON_MAX)
		return;
	require(profile_from_json((struct str){(char *)text.data, text.len}, a, &again, NULL) == 0);
	same(p, &again);
}

static void record(struct str in, struct arena *a)
{
	auto_buf struct buf value = BUF_INIT;
	struct err err = ERR_INIT;
	struct profile p;
	struct str key;
	uint16_t n;

	if (in.len < sizeof(n))
		return;
	memcpy(&n, in.p, sizeof(n));
	in = (struct str){in.p + sizeof(n), in.len - sizeof(n)};
	n = n < in.len ? n : (uint16_t)in.len;
	key = (struct str){in.p, n};
	in = (struct str){in.p + n, in.len - n};
	if (profile_decode(key, in, a, &p, &err) < 0) {
		require(err.text[0]);
		return;
	}
	require(profile_encode(&p, &value) == 0);
	require(value.len == in.len && memcmp(value.data, in.p, in.len) == 0);
	use(&p, a);
}

static void recording(struct str in, struct arena *a)
{
	auto_buf struct buf text = BUF_INIT;
	struct recording r, again;
	struct profile p;

	if (recording_parse(in, a, &r, NULL) < 0)
		return;
	require(recording_write(&r, &text) == 0);
	if (text.len <= RECORDING_JSON_MAX) {
		in = (struct str){(char *)text.data, text.len};
		require(recording_parse(in, a, &again, NULL) == 0);
		require(r.events_n == again.events_n && r.files_n == again.files_n);
	}
	require(recording_profile(&r, a, &p, NULL) == 0);
	use(&p, a);
}

static void same_extents(const struct extents *a, const struct extents *b)
{
	require(a->n == b->n);
	for (size_t i = 0; i < a->n; i++) {
		const struct extent *x = &a->list[i], *y = &b->list[i];

		require(x->blob < a->blobs_n && x->content < a->contents_n && x->len > 0);
		require(x->off == y->off && x->len == y->len);
		require(digest_eq(&a->blobs[x->blob], &b->blobs[y->blob]));
		require(digest_eq(&a->contents[x->content], &b->contents[y->content]));
	}
}

static void places(struct str in, struct arena *a)
{
	auto_buf struct buf value = BUF_INIT;
	struct err err = ERR_INIT;
	struct extents two[2], common;

	if (extents_decode(in, a, &two[0], &err) < 0) {
		require(err.text[0]);
		return;
	}
	require(extents_encode(&two[0], &value) == 0);
	require(value.len == in.len && memcmp(value.data, in.p, in.len) == 0);
	in = (struct str){(char *)value.data, value.len};
	require(extents_decode(in, a, &two[1], NULL) == 0);
	same_extents(&two[0], &two[1]);
	require(extents_common(two, 2, a, &common) == 0);
	same_extents(&two[0], &common);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	struct profile p;
	struct arena a;
	struct str in;

	if (size < 1)
		return 0;
	in = (struct str){(const char *)data + 1, size - 1};
	arena_init(&a, MEMORY_MAX);
	if (data[0] == '0')
		record(in, &a);
	else if (data[0] == '1' && profile_from_json(in, &a, &p, &err) == 0)
		use(&p, &a);
	else if (data[0] == '2')
		recording(in, &a);
	else if (data[0] == '3')
		places(in, &a);
	else
		require(data[0] != '1' || err.text[0]);
	arena_fini(&a);
	return 0;
}
