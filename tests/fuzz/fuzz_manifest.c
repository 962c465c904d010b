// SPDX-License-Identifier: Apache-2.0
/* Documents of images from a registry or from containerd's store. */
#include <stdint.h>

#include "base/limits.h"
#include "operator/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str body = {(const char *)data, size};
	struct platform host, made;
	struct index_list list;
	struct manifest m;
	struct digest *ids;
	auto_arena struct arena a;

	arena_init(&a, JSON_TREE_MAX);
	require(platform_parse(STR("linux/arm/v7"), &a, &host, NULL) == 0);
	if (platform_parse(body, &a, &made, NULL) == 0)
		platform_fit(&host, &made);
	if (manifest_index(body, &host, &a, &list, NULL) == 0)
		require(list.best < list.n);
	if (manifest_parse(body, &a, &m, NULL) == 0)
		require(m.layers_n <= CONTROL_LAYERS_MAX && m.config.size <= IMAGE_CONFIG_MAX);
	(void)!config_fits(body, &host, &a, NULL);
	for (size_t n = 0; n < 3; n++) {
		if (config_diff_ids(body, n, &a, &ids, NULL) == 0)
			chain_ids(ids, n);
	}
	manifest_is_index(body, body);
	require(manifest_type(body, body, &a).len > 0 || a.used > a.max / 2);
	return 0;
}
