/* SPDX-License-Identifier: Apache-2.0 */
/* Labels of a snapshot: an array without duplicates, ordered by str_cmp of the keys. Not owned. */
#ifndef FIRSTLIGHT_STORE_LABEL_H
#define FIRSTLIGHT_STORE_LABEL_H

#include "base/str.h"

struct label {
	struct str key, value;
};

/* The label of that key among n; NULL if there is none. */
static inline const struct label *label_find(const struct label *labels, size_t n, struct str key)
{
	size_t from = 0;

	while (from < n) {
		size_t mid = from + (n - from) / 2;
		int r = str_cmp(labels[mid].key, key);

		if (r == 0)
			return &labels[mid];
		if (r < 0)
			from = mid + 1;
		else
			n = mid;
	}
	return NULL;
}

#endif
