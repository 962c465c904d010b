// SPDX-License-Identifier: Apache-2.0
/*
 * containerd's content store. Writes are lockstep: a message there, one back. Loop thread.
 * Facts: containerd api/services/content/v1, core/content (contentserver).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "operator/containerd_impl.h"

#include "base/banned.h"

#define WRITE_METHOD "/containerd.services.content.v1.Content/Write"

/* --- reading ---------------------------------------------------------------------------------- */

struct reading {
	struct buf *into;
	size_t max;
};

static int take_piece(void *arg, const ProtobufCMessage *answer)
{
	const Ctrd__ReadContentResponse *m = (const void *)answer;
	struct reading *rd = arg;

	if (m->offset < 0 || (uint64_t)m->offset != rd->into->len)
		return -EBADMSG;
	if (m->data.len > rd->max - rd->into->len)
		return -EFBIG;
	return buf_append(rd->into, m->data.data, m->data.len);
}

may_suspend int containerd_content_read(struct containerd *c, const struct containerd_at *at,
					const struct digest *digest, size_t max, struct buf *ret,
					struct err *err)
{
	Ctrd__ReadContentRequest q = CTRD__READ_CONTENT_REQUEST__INIT;
	struct reading rd = {ret, max};
	char text[DIGEST_TEXT_SIZE];
	struct digest is;
	int r;

	digest_text(digest, text);
	q.digest = text;
	ret->len = 0;
	r = containerd_stream(c, at, "content.v1.Content", "Read", &q.base,
			      &ctrd__read_content_response__descriptor, take_piece, &rd, err);
	if (r < 0)
		return r;
	sha256(ret->data, ret->len, &is);
	if (!digest_eq(&is, digest))
		return err_set(err, -EBADMSG, "containerd's content %s is damaged", text);
	return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* One message and its answer. */
may_suspend static int exchange(struct containerd_writer *w, Ctrd__WriteContentRequest *q,
				struct arena *a, Ctrd__WriteContentResponse **ret, struct err *err)
{
	int r = containerd_pack(&q->base, &w->bytes);

	if (r == 0)
		r = grpc_send(w->call, w->bytes.data, w->bytes.len);
	if (r == 0)
		r = grpc_recv(w->call, &w->bytes);
	if (r <= 0) { /* the status says why */
		enum grpc_code code = grpc_finish(take_ptr(w->call), err);

		if (r == 0 && code == GRPC_OK)
			return err_set(err, -EIO, "containerd ended the write");
		return code == GRPC_OK ? r : grpc_code_errno(code);
	}
	*ret = (void *)containerd_unpack(&ctrd__write_content_response__descriptor, &w->bytes, a);
	if (!*ret || (*ret)->offset < 0)
		return err_set(err, -EBADMSG, "containerd's answer is not valid");
	w->offset = (uint64_t)(*ret)->offset;
	return 0;
}

may_suspend static int open_once(struct containerd_writer *w, const struct containerd_at *at,
				 const struct digest *digest, struct err *err)
{
	Ctrd__WriteContentRequest q = CTRD__WRITE_CONTENT_REQUEST__INIT;
	Ctrd__WriteContentResponse *m;
	struct grpc_metadata md[2];
	size_t n = containerd_metadata(at, md);
	char text[DIGEST_TEXT_SIZE];
	struct containerd_link *l;
	auto_arena struct arena a;
	int r;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	r = containerd_link_get(w->c, &l, err);
	if (r < 0)
		return r;
	r = grpc_call_start(l->client, WRITE_METHOD, md, n, CONTAINERD_INGEST_MS, &w->call, err);
	if (r < 0) {
		containerd_link_put(l);
		return r;
	}
	w->link = l;
	digest_text(digest, text);
	q.action = CTRD__WRITE_ACTION__STAT;
	q.ref = (char *)(uintptr_t)w->ref;
	q.total = (int64_t)w->total;
	q.expected = text;
	return exchange(w, &q, &a, &m, err);
}

may_suspend int containerd_writer_open(struct containerd *c, const struct containerd_at *at,
				       const char *ref, const struct digest *digest, uint64_t size,
				       struct containerd_writer *ret, struct err *err)
{
	unsigned wait_ms = CONTAINERD_LOCKED_MS, waited_ms = 0;
	int r;

	*ret = (struct containerd_writer){.c = c, .ref = ref, .total = size};
	while (true) {
		r = open_once(ret, at, digest, err);
		/* "ref locked" is Unavailable: somebody else writes it */
		if (r >= 0 || (r != -ECONNREFUSED && r != -ECONNRESET) ||
		    waited_ms >= CONTAINERD_INGEST_MS)
			break;
		containerd_writer_end(ret);
		*ret = (struct containerd_writer){.c = c, .ref = ref, .total = size};
		if (task_sleep_ms(wait_ms) < 0) {
			r = err_set(err, -ECANCELED, "cancelled");
			break;
		}
		waited_ms += wait_ms;
		wait_ms = wait_ms * 2 < CONTAINERD_LOCKED_MAX_MS ? wait_ms * 2
								 : CONTAINERD_LOCKED_MAX_MS;
	}
	if (r < 0)
		containerd_writer_end(ret);
	if (r < 0 && r != -EEXIST)
		err_wrap(err, r, "containerd: write %s", ref);
	if (r == 0 && ret->offset > size) {
		containerd_writer_end(ret);
		return err_set(err, -EBADMSG, "containerd: %s has more bytes than it should", ref);
	}
	return r;
}

may_suspend int containerd_writer_put(struct containerd_writer *w, const void *data, size_t n,
				      struct err *err)
{
	Ctrd__WriteContentRequest q = CTRD__WRITE_CONTENT_REQUEST__INIT;
	uint64_t end = w->offset + n;
	Ctrd__WriteContentResponse *m;
	auto_arena struct arena a;
	int r;

	require(n <= CONTAINERD_WRITE_MAX);
	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	q.action = CTRD__WRITE_ACTION__WRITE;
	q.offset = (int64_t)w->offset;
	q.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)data};
	r = exchange(w, &q, &a, &m, err);
	if (r == 0 && w->offset != end)
		r = err_set(err, -EIO, "containerd took %" PRIu64 " of %" PRIu64 " bytes",
			    w->offset, end);
	return r < 0 ? err_wrap(err, r, "containerd: write %s", w->ref) : 0;
}

may_suspend int containerd_writer_commit(struct containerd_writer *w, const struct digest *digest,
					 Fl__Label **labels, size_t labels_n, struct err *err)
{
	Ctrd__WriteContentRequest q = CTRD__WRITE_CONTENT_REQUEST__INIT;
	Ctrd__WriteContentResponse *m;
	char text[DIGEST_TEXT_SIZE];
	auto_arena struct arena a;
	enum grpc_code code;
	int r;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	digest_text(digest, text);
	q.action = CTRD__WRITE_ACTION__COMMIT;
	q.offset = (int64_t)w->offset;
	q.total = (int64_t)w->total;
	q.expected = text;
	q.labels = labels;
	q.n_labels = labels_n;
	r = exchange(w, &q, &a, &m, err);
	if (r == 0) { /* the last answer comes twice, then the status */
		grpc_close_send(w->call);
		code = grpc_finish(take_ptr(w->call), err);
		r = grpc_code_errno(code);
	}
	return r < 0 && r != -EEXIST ? err_wrap(err, r, "containerd: commit %s", w->ref) : 0;
}

may_suspend void containerd_writer_end(struct containerd_writer *w)
{
	if (w->call) {
		grpc_cancel(w->call);
		grpc_finish(take_ptr(w->call), NULL);
	}
	if (w->link)
		containerd_link_put(take_ptr(w->link));
	buf_fini(&w->bytes);
}

may_suspend int containerd_content_label(struct containerd *c, const struct containerd_at *at,
					 const struct digest *digest, Fl__Label **labels,
					 size_t labels_n, struct err *err)
{
	Ctrd__ContentInfoMessage q = CTRD__CONTENT_INFO_MESSAGE__INIT, *m;
	Ctrd__ContentInfo info = CTRD__CONTENT_INFO__INIT;
	Fl__FieldMask mask = FL__FIELD_MASK__INIT;
	char text[DIGEST_TEXT_SIZE];
	auto_arena struct arena a;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	digest_text(digest, text);
	info.digest = text;
	info.labels = labels;
	info.n_labels = labels_n;
	mask.paths = arena_alloc(&a, (labels_n + 1) * sizeof(*mask.paths));
	if (!mask.paths)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < labels_n; i++) {
		mask.paths[i] = arena_printf(&a, "labels.%s", labels[i]->key);
		if (!mask.paths[i])
			return err_set(err, -ENOMEM, "out of memory");
	}
	mask.n_paths = labels_n;
	q.info = &info;
	q.update_mask = &mask;
	return containerd_call(c, at, "content.v1.Content", "Update", &q.base,
			       &ctrd__content_info_message__descriptor, 0, &a, &m, err);
}

may_suspend int containerd_content_put(struct containerd *c, const struct containerd_at *at,
				       const char *ref, const struct digest *digest,
				       struct str data, Fl__Label **labels, size_t labels_n,
				       struct err *err)
{
	struct containerd_writer w;
	int r = containerd_writer_open(c, at, ref, digest, data.len, &w, err);

	if (r == -EEXIST)
		return labels_n ? containerd_content_label(c, at, digest, labels, labels_n, err)
				: 0;
	while (r == 0 && w.offset < data.len) {
		size_t n = data.len - w.offset;

		n = n < CONTAINERD_WRITE_MAX ? n : CONTAINERD_WRITE_MAX;
		r = containerd_writer_put(&w, data.p + w.offset, n, err);
	}
	if (r == 0)
		r = containerd_writer_commit(&w, digest, labels, labels_n, err);
	containerd_writer_end(&w);
	return r;
}
