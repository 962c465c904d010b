/* SPDX-License-Identifier: Apache-2.0 */
/* What an image starts: the words of its command, from its config (OCI image-spec, config.md
 * "Properties": config.Entrypoint, Cmd, Env). Pure. */
#ifndef FIRSTLIGHT_IMAGE_COMMAND_H
#define FIRSTLIGHT_IMAGE_COMMAND_H

#include "base/arena.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"

struct command {
	/* Of Entrypoint and Cmd, options left out, each once; what stands inside of one argument,
	 * as a shell's script does, word by word. COMMAND_WORDS_MAX. */
	struct str words[COMMAND_WORDS_MAX];
	size_t words_n;
	struct str path; /* $PATH of its Env, or the usual one */
};

/* Strings live in a. -EINVAL, -ENOMEM. */
int command_parse(struct str config, struct arena *a, struct command *ret,
		  struct err *err) must_check;

#endif
