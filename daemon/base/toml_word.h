/* SPDX-License-Identifier: Apache-2.0 */
/* The values of TOML 1.0 that stand without quotes. For toml.c. Pure; any thread. */
#ifndef FIRSTLIGHT_BASE_TOML_WORD_H
#define FIRSTLIGHT_BASE_TOML_WORD_H

#include "base/toml.h"

/* 0 to 15; -1 for what is no hexadecimal digit. */
int toml_hex(int c);

/*
 * Sorts a boolean, integer, float or date, and gives the value of the first two. Of a date only the
 * shape of its beginning is looked at. NULL, or the cause why it is no value.
 */
const char *toml_word(struct str s, struct toml_value *ret_v);

#endif
