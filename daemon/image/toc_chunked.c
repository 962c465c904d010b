// SPDX-License-Identifier: Apache-2.0
/*
 * zstd:chunked as containers/storage writes it (pkg/chunked/internal/minimal/compression.go): no
 * landmarks; the file says where its last chunk ends; runs of zeros need not be fetched.
 */
#include "image/toc_parse.h"

#include "base/banned.h"

static int flush(struct toc_target *t, bool last)
{
	struct index_chunk *c = &t->chunk;

	if (!t->waiting)
		return 0;
	t->waiting = false;
	if (last && t->end_offset > c->blob_off && !c->zeros)
		c->blob_len = t->end_offset - c->blob_off;
	return index_builder_chunk(t->builder, c, t->err);
}

int toc_chunked_end(struct toc_target *t)
{
	return flush(t, true);
}

static int chunk(struct toc_target *t, const struct toc_entry *e)
{
	int r = toc_chunk(t, e, &t->chunk);

	if (r < 0)
		return r;
	t->chunk.inner_off = 0;
	if (str_eq(e->chunk_type, STR("zeros")))
		t->chunk.zeros = true;
	else if (e->chunk_type.len)
		return err_set(t->err, -EINVAL, "table of contents: chunk of an unknown type");
	if (t->chunk.blob_off == 0 && !t->chunk.zeros)
		return err_set(t->err, -EINVAL, "table of contents: chunk without a place");
	t->waiting = true;
	return 0;
}

int toc_chunked_entry(struct toc_target *t, const struct toc_entry *e)
{
	int r = flush(t, e->type != TOC_TYPE_CHUNK);

	if (r == 0 && e->type != TOC_TYPE_CHUNK) {
		r = toc_add(t, e, true);
		t->end_offset = e->end_offset;
		if (r < 0 || !t->in_file)
			return r;
	}
	return r < 0 ? r : chunk(t, e);
}
