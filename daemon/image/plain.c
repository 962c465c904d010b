// SPDX-License-Identifier: Apache-2.0
/* Lines of hosts. The file is replaced as a whole, so that a crash leaves the old or the new one.
 */
#include "image/plain.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/str.h"

#include "base/banned.h"

/* How many lines there are; -EEXIST: the host is one. */
static int find(const struct buf *text, const char *host)
{
	struct str rest = {(const char *)text->data, text->len};
	int n = 0;

	while (rest.len) {
		const char *end = memchr(rest.p, '\n', rest.len);
		size_t len = end ? (size_t)(end - rest.p) : rest.len;

		if (str_eq((struct str){rest.p, len}, str_of(host)))
			return -EEXIST;
		n++;
		len += end != NULL;
		rest = (struct str){rest.p + len, rest.len - len};
	}
	return n;
}

int plain_has(const char *file, const char *host)
{
	auto_buf struct buf text = BUF_INIT;

	if (!file || file_read_all(file, REGISTRY_PLAIN_BYTES_MAX, &text, NULL) < 0)
		return 0;
	return find(&text, host) == -EEXIST;
}

static int replace(const char *file, const struct buf *text, struct err *err)
{
	auto_free char *tmp = NULL;
	auto_close int fd = -1;

	if (asprintf(&tmp, "%s.new", file) < 0) {
		tmp = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text->data, text->len) != (ssize_t)text->len || fsync(fd) < 0 ||
	    rename(tmp, file) < 0)
		return err_errno(err, errno ? -errno : -EIO, "write %s", file);
	return 0;
}

int plain_add(const char *file, const char *host, struct err *err)
{
	auto_buf struct buf text = BUF_INIT;
	int r = file_read_all(file, REGISTRY_PLAIN_BYTES_MAX, &text, err);

	if (r < 0 && r != -ENOENT)
		return r;
	r = find(&text, host);
	if (r == -EEXIST)
		return 0;
	if (r >= REGISTRY_PLAIN_MAX)
		return err_set(err, -ENOSPC, "%s has %d hosts; no more are noted", file, r);
	if (buf_printf(&text, "%s\n", host) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = replace(file, &text, err);
	return r < 0 ? r : 1;
}
