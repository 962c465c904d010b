// SPDX-License-Identifier: Apache-2.0
/*
 * Filters: lists of any bytes, one filter a line and the name to match behind a NUL, are compiled
 * and matched, or refused with the place. An added empty filter makes every list match.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/limits.h"
#include "snap/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct label labels[] = {
	{{"a", 1}, {"1", 1}},
	{{"containerd.io/snapshot.ref", 26}, {"sha256:ab", 9}},
};

/* Takes what stands before the first c off s. */
static struct str cut(struct str *s, char c)
{
	const char *at = s->len ? memchr(s->p, c, s->len) : NULL;
	struct str head = {s->p, at ? (size_t)(at - s->p) : s->len};

	*s = (struct str){s->p + head.len + (at ? 1 : 0), s->len - head.len - (at ? 1 : 0)};
	return head;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str name = {(const char *)data, size}, text = cut(&name, 0);
	struct filter_subject subject = {name, STR("p"), STR("view"), labels, array_size(labels)};
	struct str list[FILTERS_MAX];
	struct filter *f = NULL;
	struct err err = ERR_INIT;
	size_t n = 0;
	bool matches;

	do
		list[n++] = cut(&text, '\n');
	while (text.len && n < FILTERS_MAX - 1);
	if (filter_parse(&f, list, n, &err) < 0) {
		require(!f && err.code == -EINVAL && strncmp(err.text, "filter ", 7) == 0);
		return 0;
	}
	matches = filter_match(f, &subject);
	require(matches == filter_match(f, &subject));
	filter_free(f);
	list[n++] = STR("");
	require(filter_parse(&f, list, n, &err) == 0 && filter_match(f, &subject));
	filter_free(f);
	return 0;
}
