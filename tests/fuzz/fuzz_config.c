// SPDX-License-Identifier: Apache-2.0
/*
 * Settings files: any bytes are taken or refused with a text that names the line, and what is taken
 * keeps the promises of config.h.
 */
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/un.h>

#include "base/limits.h"
#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const char *p, size_t size)
{
	require(p[0] == '/' && strlen(p) < size);
	require(!strpbrk(p, ",:\\\n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	struct config c;

	config_init(&c);
	if (config_parse(&c, "f", (const char *)data, size, &err) < 0) {
		require(err.code == -EINVAL);
		require(strncmp(err.text, "f:", 2) == 0 && err.text[2] >= '1' &&
			err.text[2] <= '9');
	} else {
		require(err.code == 0 && err.text[0] == 0);
	}
	check_path(c.root, PATH_MAX);
	check_path(c.state, PATH_MAX);
	if (c.address)
		check_path(c.address, sizeof(((struct sockaddr_un *)0)->sun_path));
	require(c.log_level <= LOG_LEVEL_DEBUG);
	config_fini(&c);
	return 0;
}
