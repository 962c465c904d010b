// SPDX-License-Identifier: Apache-2.0
/* What /proc/PID/mountinfo may say: a container chooses the names in it. */
#include <stdlib.h>
#include <string.h>

#include "start/impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size); /* its own memory, so that a byte too far is seen */
	uint64_t id;

	require(copy || !size);
	if (size)
		memcpy(copy, data, size);
	id = space_snapshot((struct str){copy, size}, "/r");
	require(!id || id == SPACE_OTHERS || memmem(data, size, "upperdir=", 9));
	free(copy);
	return 0;
}
