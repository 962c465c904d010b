// SPDX-License-Identifier: Apache-2.0
/* firstlight version */
#include <stdio.h>

#include "cmd.h"

#include "base/banned.h"

int cmd_version(int argc, char **argv)
{
	(void)argv;
	if (argc > 1) {
		fputs("usage: firstlight version\n", stderr);
		return 2;
	}
	puts("firstlight " FIRSTLIGHT_VERSION);
	return 0;
}
