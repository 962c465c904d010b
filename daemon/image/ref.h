/* SPDX-License-Identifier: Apache-2.0 */
/* References to images (distribution/reference v0.6.0; docker's normalisation). Pure. */
#ifndef FIRSTLIGHT_IMAGE_REF_H
#define FIRSTLIGHT_IMAGE_REF_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

/* Strings end in NUL. */
struct ref {
	const char *host;       /* "docker.io", "host:5000"; never "index.docker.io" */
	const char *repository; /* "library/redis" */
	struct str tag;         /* "latest" when neither tag nor digest is given */
	struct str digest;      /* empty = none */
};

/* The strings live in a. -EINVAL, -ENOMEM. */
int ref_parse(struct str text, struct arena *a, struct ref *ret, struct err *err);

#endif
