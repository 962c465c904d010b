// SPDX-License-Identifier: Apache-2.0
/* Both kinds of ends. */
#include "convert_end.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "convert_json.h"
#include "convert_unpack.h"
#include "image/ref.h"
#include "image/registry.h"
#include "image/registry_push.h"
#include "loop/work.h"

#include "base/banned.h"

#define INDEX_MAX  MANIFEST_MAX
#define NAME_LABEL "org.opencontainers.image.ref.name"
#define PATH_MAX_  4096
#define SMALL      MiB(16) /* blobs for which no room is looked for */

int end_parse(const char *text, struct registry *r, struct arena *a, struct end *ret,
	      struct err *err)
{
	struct ref ref;
	const char *colon;

	if (strncmp(text, "oci:", 4) != 0) {
		*ret = (struct end){.registry = r, .ref = text};
		return ref_parse(str_of(text), a, &ref, err);
	}
	text += 4;
	colon = strrchr(text, ':');
	if (colon && strchr(colon, '/'))
		colon = NULL;
	*ret = (struct end){.tag = colon ? colon + 1 : ""};
	ret->dir = colon ? arena_strndup(a, text, (size_t)(colon - text)) : text;
	if (!ret->dir)
		return err_set(err, -ENOMEM, "out of memory");
	return ret->dir[0] && strlen(ret->dir) < PATH_MAX_ - 128
		       ? 0
		       : err_set(err, -EINVAL, "oci: needs a directory");
}

static void blob_path(const struct end *e, const struct digest *digest, char ret[PATH_MAX_])
{
	char hex[DIGEST_HEX_SIZE];

	digest_hex(digest, hex);
	snprintf(ret, PATH_MAX_, "%s/blobs/sha256/%s", e->dir, hex);
}

static int read_layout(const struct end *e, const struct digest *digest, size_t max,
		       struct buf *ret, struct err *err)
{
	char path[PATH_MAX_];
	struct digest is;
	int r;

	blob_path(e, digest, path);
	r = file_read_all(path, max, ret, err);
	if (r < 0)
		return err_set(err, r, "%s: %s", path, strerror(-r));
	sha256(ret->data, ret->len, &is);
	return digest_eq(&is, digest) ? 0 : err_set(err, -EBADMSG, "%s is damaged", path);
}

/* --- reading ---------------------------------------------------------------------------------- */

static int read_index(const struct end *e, struct buf *ret, struct err *err)
{
	char path[PATH_MAX_];
	int r;

	snprintf(path, sizeof(path), "%s/index.json", e->dir);
	r = file_read_all(path, INDEX_MAX, ret, err);
	return r < 0 ? err_set(err, r, "%s: %s", path, strerror(-r)) : 0;
}

static const struct json *find_tag(const struct json *list, const char *tag)
{
	for (const struct json *d = list ? list->first : NULL; d; d = d->next) {
		if (str_eq(json_text(json_get(d, "annotations"), NAME_LABEL), str_of(tag)))
			return d;
	}
	return tag[0] || !list || !list->first || list->first->next ? NULL : list->first;
}

static int resolve_layout(const struct end *e, struct arena *a, struct buf *ret,
			  struct digest *digest, struct str *ret_type, struct err *err)
{
	auto_buf struct buf text = BUF_INIT;
	const struct json *d;
	struct json *doc;
	int r = read_index(e, &text, err);

	if (r == 0)
		r = json_tree((struct str){(char *)text.data, text.len}, a, &doc, err);
	if (r < 0)
		return r;
	d = find_tag(json_get(doc, "manifests"), e->tag);
	if (!d)
		return err_set(err, -ENOENT,
			       e->tag[0] ? "%s has no image %s"
					 : "%s has not just one image: oci:DIR:TAG names one%s",
			       e->dir, e->tag);
	if (digest_parse(json_text(d, "digest"), digest) < 0)
		return err_set(err, -EBADMSG, "%s/index.json has no digest", e->dir);
	*ret_type = json_text(d, "mediaType");
	return read_layout(e, digest, MANIFEST_MAX, ret, err);
}

may_suspend int end_resolve(struct end *e, struct arena *a, struct buf *ret, struct digest *digest,
			    struct str *ret_type, struct err *err)
{
	return e->registry ? registry_resolve(e->registry, str_of(e->ref), a, ret, digest, ret_type,
					      err)
			   : resolve_layout(e, a, ret, digest, ret_type, err);
}

may_suspend int end_manifest(struct end *e, const struct digest *digest, struct buf *ret,
			     struct err *err)
{
	return e->registry ? registry_manifest(e->registry, str_of(e->ref), digest, FETCH_DEMAND,
					       ret, err)
			   : read_layout(e, digest, MANIFEST_MAX, ret, err);
}

struct taking {
	int fd, result;
	struct sha256 sum;
};

static int take(void *arg, uint64_t off, const void *data, size_t n)
{
	struct taking *t = arg;

	sha256_add(&t->sum, data, n);
	return file_pwrite_all(t->fd, data, n, off);
}

static may_suspend int fetch_registry(struct end *e, const struct digest *digest, uint64_t size,
				      int fd, struct err *err)
{
	struct taking t = {.fd = fd};
	struct blob_request q = {.ref = str_of(e->ref),
				 .digest = *digest,
				 .len = size,
				 .class = FETCH_DEMAND,
				 .on_data = take,
				 .arg = &t};
	struct blob_answer answer;
	struct digest is;
	int r = sha256_init(&t.sum);

	if (r < 0)
		return err_set(err, r, "out of memory");
	r = size ? registry_blob(e->registry, &q, &answer, err) : 0;
	sha256_done(&t.sum, &is);
	sha256_fini(&t.sum);
	return r == 0 && !digest_eq(&is, digest)
		       ? err_set(err, -EBADMSG, "a blob is not that of its digest")
		       : r;
}

struct file_job {
	int fd;
	const char *path;
	const struct digest *digest;
	uint64_t size;
	struct err *err;
};

static int hash_file(void *arg)
{
	struct file_job *j = arg;
	auto_free char *buf = malloc(MiB(1));
	struct sha256 sum = {NULL};
	struct digest is;
	ssize_t n = 1;
	int r = buf ? sha256_init(&sum) : -ENOMEM;

	if (r < 0)
		return err_set(j->err, r, "out of memory");
	for (off_t off = 0; n > 0; off += n) {
		n = pread(j->fd, buf, MiB(1), off);
		if (n > 0)
			sha256_add(&sum, buf, (size_t)n);
		else if (n < 0)
			r = err_errno(j->err, -errno, "%s", j->path);
	}
	sha256_done(&sum, &is);
	sha256_fini(&sum);
	return r == 0 && !digest_eq(&is, j->digest)
		       ? err_set(j->err, -EBADMSG, "a blob is not that of its digest")
		       : r;
}

static may_suspend int fetch_layout(struct end *e, struct work *w, const struct digest *digest,
				    uint64_t size, int *ret_fd, struct err *err)
{
	struct stat st;
	char path[PATH_MAX_];
	struct file_job j = {.path = path, .digest = digest, .err = err};
	int r;

	blob_path(e, digest, path);
	j.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (j.fd < 0)
		return err_errno(err, -errno, "%s", path);
	r = fstat(j.fd, &st) < 0 || (uint64_t)st.st_size != size
		    ? err_set(err, -EBADMSG, "a blob is not of the size that it should be")
		    : work_run(w, hash_file, &j);
	if (r < 0)
		close(j.fd);
	else
		*ret_fd = j.fd;
	return r;
}

may_suspend int end_fetch(struct end *e, struct work *w, const struct digest *digest, uint64_t size,
			  const char *tmp, int *ret_fd, struct err *err)
{
	int fd, r;

	if (!e->registry)
		return fetch_layout(e, w, digest, size, ret_fd, err);
	fd = end_temp(e, tmp, err);
	if (fd < 0)
		return fd;
	r = size > SMALL ? convert_room(fd, size, CONVERT_FREE_MIN, err) : 0;
	if (r == 0)
		r = fetch_registry(e, digest, size, fd, err);
	if (r < 0)
		close(fd);
	else
		*ret_fd = fd;
	return r;
}

/* --- writing ---------------------------------------------------------------------------------- */

static int make_dir(const char *path, struct err *err)
{
	return mkdir(path, 0755) < 0 && errno != EEXIST ? err_errno(err, -errno, "make %s", path)
							: 0;
}

static int write_file(const char *path, const void *data, size_t n, struct err *err)
{
	static atomic_uint number; /* two tasks may write the same blob */
	char tmp[PATH_MAX_ + 32];
	auto_close int fd = -1;
	int r = 0;

	snprintf(tmp, sizeof(tmp), "%s.new.%d.%u", path, (int)getpid(),
		 atomic_fetch_add(&number, 1));
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_errno(err, -errno, "write %s", path);
	r = file_write_all(fd, data, n);
	if (r == 0 && (fsync(fd) < 0 || rename(tmp, path) < 0))
		r = -errno;
	if (r < 0)
		unlink(tmp);
	return r < 0 ? err_errno(err, r, "write %s", path) : 0;
}

int end_prepare(struct end *e, struct err *err)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	char path[PATH_MAX_];
	int r;

	if (e->registry)
		return 0;
	r = make_dir(e->dir, err);
	snprintf(path, sizeof(path), "%s/blobs", e->dir);
	r = r == 0 ? make_dir(path, err) : r;
	snprintf(path, sizeof(path), "%s/blobs/sha256", e->dir);
	r = r == 0 ? make_dir(path, err) : r;
	snprintf(path, sizeof(path), "%s/oci-layout", e->dir);
	if (r == 0 && access(path, F_OK) < 0)
		r = write_file(path, layout, sizeof(layout) - 1, err);
	return r;
}

may_suspend int end_has(struct end *e, const struct digest *digest, struct err *err)
{
	char path[PATH_MAX_];

	if (e->registry)
		return registry_has_blob(e->registry, str_of(e->ref), digest, err);
	blob_path(e, digest, path);
	return access(path, F_OK) == 0;
}

may_suspend int end_mount(struct end *e, const struct digest *digest, const struct end *from,
			  struct err *err)
{
	auto_arena struct arena a;
	struct ref to, of;

	arena_init(&a, KiB(32));
	if (!e->registry || !from->registry)
		return 0;
	if (ref_parse(str_of(e->ref), &a, &to, NULL) < 0 ||
	    ref_parse(str_of(from->ref), &a, &of, NULL) < 0 || strcmp(to.host, of.host) != 0)
		return 0;
	return registry_mount_blob(e->registry, str_of(e->ref), digest, of.repository, err);
}

int end_temp(const struct end *e, const char *tmp, struct err *err)
{
	char dir[PATH_MAX_];
	int fd = -1;

	if (!e->registry) {
		snprintf(dir, sizeof(dir), "%s/blobs/sha256", e->dir);
		fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
	}
	if (fd < 0)
		fd = open(tmp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return fd < 0 ? err_errno(err, -errno, "make a file in %s", tmp) : fd;
}

/* A file of the same file system becomes the blob itself; another is copied. */
static int put_file(void *arg)
{
	struct file_job *j = arg;
	char from[40];
	void *map;
	int r;

	snprintf(from, sizeof(from), "/proc/self/fd/%d", j->fd);
	if (fsync(j->fd) == 0 &&
	    (linkat(AT_FDCWD, from, AT_FDCWD, j->path, AT_SYMLINK_FOLLOW) == 0 || errno == EEXIST))
		return 0;
	map = j->size ? mmap(NULL, j->size, PROT_READ, MAP_SHARED, j->fd, 0) : NULL;
	if (map == MAP_FAILED)
		return err_errno(j->err, -errno, "read a blob");
	r = write_file(j->path, map ? map : "", j->size, j->err);
	if (map)
		munmap(map, j->size);
	return r;
}

static may_suspend int put_registry(struct end *e, const struct digest *digest, int fd,
				    uint64_t size, struct err *err)
{
	void *map = size ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : NULL;
	int r;

	if (map == MAP_FAILED)
		return err_errno(err, -errno, "read a blob");
	r = registry_put_blob(e->registry, str_of(e->ref), digest,
			      (struct str){size ? map : "", size}, err);
	if (map)
		munmap(map, size);
	return r;
}

may_suspend int end_put(struct end *e, struct work *w, const struct digest *digest, int fd,
			uint64_t size, struct err *err)
{
	char path[PATH_MAX_];
	struct file_job j = {.fd = fd, .path = path, .size = size, .err = err};

	if (e->registry)
		return put_registry(e, digest, fd, size, err);
	blob_path(e, digest, path);
	return work_run(w, put_file, &j);
}

may_suspend int end_put_manifest(struct end *e, struct str body, const char *type, struct err *err)
{
	char path[PATH_MAX_];
	struct digest digest;

	if (e->registry)
		return registry_put_manifest(e->registry, str_of(e->ref), body, type, false, err);
	sha256(body.p, body.len, &digest);
	blob_path(e, &digest, path);
	return write_file(path, body.p, body.len, err);
}

/* The other images of the layout stay. */
static int tag_layout(struct end *e, struct str body, const char *type, struct err *err)
{
	const char *tag = e->tag[0] ? e->tag : "latest";
	auto_buf struct buf old = BUF_INIT, text = BUF_INIT;
	char path[PATH_MAX_], digest[DIGEST_TEXT_SIZE];
	const struct json *list = NULL;
	auto_arena struct arena a;
	struct json *doc;
	struct digest d;
	int r = 0;

	arena_init(&a, JSON_TREE_MAX);
	if (read_index(e, &old, NULL) == 0 &&
	    json_tree((struct str){(char *)old.data, old.len}, &a, &doc, NULL) == 0)
		list = json_get(doc, "manifests");
	sha256(body.p, body.len, &d);
	digest_text(&d, digest);
	r = buf_printf(&text,
		       "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index."
		       "v1+json\",\"manifests\":[");
	for (const struct json *m = list ? list->first : NULL; m && r == 0; m = m->next) {
		if (str_eq(json_text(json_get(m, "annotations"), NAME_LABEL), str_of(tag)))
			continue;
		r = json_put(&text, m);
		if (r == 0)
			r = buf_append(&text, ",", 1);
	}
	if (r == 0)
		r = buf_printf(&text,
			       "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu,"
			       "\"annotations\":{\"" NAME_LABEL "\":\"%s\"}}]}\n",
			       type, digest, body.len, tag);
	if (r < 0)
		return err_set(err, -ENOMEM, "out of memory");
	snprintf(path, sizeof(path), "%s/index.json", e->dir);
	return write_file(path, text.data, text.len, err);
}

may_suspend int end_tag(struct end *e, struct str body, const char *type, struct err *err)
{
	int r;

	if (e->registry)
		return registry_put_manifest(e->registry, str_of(e->ref), body, type, true, err);
	r = end_put_manifest(e, body, type, err);
	return r == 0 ? tag_layout(e, body, type, err) : r;
}
