/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that several commands print. */
#ifndef FIRSTLIGHT_TOOLS_KIND_H
#define FIRSTLIGHT_TOOLS_KIND_H

#include "out.h"
#include "proto/control.pb-c.h"

/* "active", "view", "committed". */
const char *kind_name(Fl__Kind kind);

void kind_json_info(struct out_json *j, const char *name, const Fl__Info *i);
void kind_json_image(struct out_json *j, const char *name, const Flc__Image *i);

#endif
