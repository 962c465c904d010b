// SPDX-License-Identifier: Apache-2.0
/* Request messages: the first byte chooses the type, the rest is decoded into an arena with a cap.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/limits.h"
#include "proto/snapshots.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *take(void *arg, size_t n)
{
	return arena_alloc(arg, n);
}

static void give(void *arg, void *p)
{
	(void)arg, (void)p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const ProtobufCMessageDescriptor *const types[] = {
		&fl__prepare_request__descriptor, &fl__key_request__descriptor,
		&fl__commit_request__descriptor,  &fl__update_request__descriptor,
		&fl__list_request__descriptor,    &fl__list_response__descriptor,
	};
	ProtobufCAllocator allocator = {take, give, NULL};
	ProtobufCMessage *m;
	struct arena a;

	if (size < 1)
		return 0;
	arena_init(&a, MiB(4));
	allocator.allocator_data = &a;
	m = protobuf_c_message_unpack(types[data[0] % array_size(types)], &allocator, size - 1,
				      data + 1);
	if (m)
		require(protobuf_c_message_get_packed_size(m) < MiB(64));
	require(a.used <= a.max);
	arena_fini(&a);
	return 0;
}
