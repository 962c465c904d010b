// SPDX-License-Identifier: Apache-2.0
/* containerd's file as somebody wrote it: whatever is merged reads as before, and again. */
// NOLINTBEGIN: the tools are no library
#include "../../tools/firstlight/config_edit.c"
#include "../../tools/firstlight/config_spans.c"
// NOLINTEND

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct setting want[] = {
	{"proxy_plugins.firstlight", "type", "\"snapshot\""},
	{"proxy_plugins.firstlight.exports", "root", "\"/r\""},
	{"plugins.\"io.containerd.grpc.v1.cri\".containerd", "snapshotter", "\"firstlight\""},
};

static const struct setting element[] = {
	{"plugins.\"io.containerd.transfer.v1.local\".unpack_config", "snapshotter",
	 "\"firstlight\""},
	{"plugins.\"io.containerd.transfer.v1.local\".unpack_config", "platform", "\"linux\""},
};

/* Added to, the text stands at the beginning, and once is enough. */
static void add(struct str text)
{
	auto_buf struct buf out = BUF_INIT, again = BUF_INIT;
	struct str longer;

	if (config_list_add(text, element, array_size(element), &out, NULL) < 0)
		return;
	longer = (struct str){(char *)out.data, out.len};
	require(str_starts(longer, text));
	require(config_list_has(longer, element, NULL) == CONFIG_LIST_ELEMENT);
	require(config_list_add(longer, element, array_size(element), &again, NULL) == 0);
	require(again.len == out.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum setting_state states[array_size(want)];
	struct str text = {(const char *)data, size};

	for (int force = 0; force < 2; force++) {
		auto_buf struct buf out = BUF_INIT, again = BUF_INIT;
		struct str merged;

		if (config_merge(text, want, array_size(want), force, &out, NULL) < 0)
			continue;
		merged = (struct str){(char *)out.data, out.len};
		require(config_look(merged, want, array_size(want), states, NULL) == 0);
		for (size_t i = 0; i < array_size(want); i++)
			require(states[i] == SETTING_THERE);
		require(config_merge(merged, want, array_size(want), false, &again, NULL) == 0);
		require(again.len == out.len && memcmp(again.data, out.data, out.len) == 0);
	}
	add(text);
	return 0;
}
