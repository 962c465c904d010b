// SPDX-License-Identifier: Apache-2.0
/* Messages that several commands print. Owns nothing. */
#include "kind.h"

#include "base/banned.h"

const char *kind_name(Fl__Kind kind)
{
	switch (kind) {
	case FL__KIND__VIEW:
		return "view";
	case FL__KIND__ACTIVE:
		return "active";
	case FL__KIND__COMMITTED:
		return "committed";
	default:
		return "unknown";
	}
}

static void json_stamp(struct out_json *j, const char *name, const Fl__Timestamp *t)
{
	if (t)
		out_json_time(j, name, t->seconds, t->nanos);
	else
		out_json_text(j, name, NULL);
}

void kind_json_info(struct out_json *j, const char *name, const Fl__Info *i)
{
	out_json_open(j, name, '{');
	out_json_text(j, "kind", kind_name(i->kind));
	out_json_text(j, "name", i->name);
	out_json_text(j, "parent", i->parent);
	json_stamp(j, "created_at", i->created_at);
	json_stamp(j, "updated_at", i->updated_at);
	out_json_open(j, "labels", '{');
	for (size_t l = 0; l < i->n_labels; l++)
		out_json_text(j, i->labels[l]->key, i->labels[l]->value);
	out_json_close(j, '}');
	out_json_close(j, '}');
}

void kind_json_image(struct out_json *j, const char *name, const Flc__Image *i)
{
	out_json_open(j, name, '{');
	out_json_text(j, "namespace", i->namespace_);
	out_json_text(j, "name", i->name);
	out_json_text(j, "digest", i->digest);
	out_json_text(j, "manifest", i->manifest);
	out_json_uint(j, "layers", i->layers);
	out_json_uint(j, "lazy", i->lazy);
	out_json_uint(j, "unpacked", i->unpacked);
	out_json_uint(j, "bytes", i->bytes);
	out_json_uint(j, "bytes_local", i->bytes_local);
	out_json_bool(j, "ready", i->ready);
	out_json_bool(j, "complete", i->complete);
	json_stamp(j, "created_at", i->created_at);
	out_json_text(j, "problem", i->problem);
	out_json_close(j, '}');
}
