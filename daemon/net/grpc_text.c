// SPDX-License-Identifier: Apache-2.0
/* The small languages of gRPC's headers. Pure; any thread. */
#include "net/grpc_text.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"

#include "base/banned.h"

#define TIMEOUT_DIGITS_MAX 8

static const struct {
	const char *name;
	struct str digits;
	int code;
} codes[] = {
	[GRPC_OK] = {"OK", {"0", 1}, 0},
	[GRPC_CANCELLED] = {"Canceled", {"1", 1}, -ECANCELED},
	[GRPC_UNKNOWN] = {"Unknown", {"2", 1}, -EIO},
	[GRPC_INVALID_ARGUMENT] = {"InvalidArgument", {"3", 1}, -EINVAL},
	[GRPC_DEADLINE_EXCEEDED] = {"DeadlineExceeded", {"4", 1}, -ETIMEDOUT},
	[GRPC_NOT_FOUND] = {"NotFound", {"5", 1}, -ENOENT},
	[GRPC_ALREADY_EXISTS] = {"AlreadyExists", {"6", 1}, -EEXIST},
	[GRPC_PERMISSION_DENIED] = {"PermissionDenied", {"7", 1}, -EPERM},
	[GRPC_RESOURCE_EXHAUSTED] = {"ResourceExhausted", {"8", 1}, -ENOSPC},
	[GRPC_FAILED_PRECONDITION] = {"FailedPrecondition", {"9", 1}, -EBUSY},
	[GRPC_ABORTED] = {"Aborted", {"10", 2}, -EAGAIN},
	[GRPC_OUT_OF_RANGE] = {"OutOfRange", {"11", 2}, -ERANGE},
	[GRPC_UNIMPLEMENTED] = {"Unimplemented", {"12", 2}, -EOPNOTSUPP},
	[GRPC_INTERNAL] = {"Internal", {"13", 2}, -EPROTO},
	[GRPC_UNAVAILABLE] = {"Unavailable", {"14", 2}, -ECONNREFUSED},
	[GRPC_DATA_LOSS] = {"DataLoss", {"15", 2}, -EBADMSG},
	[GRPC_UNAUTHENTICATED] = {"Unauthenticated", {"16", 2}, -EACCES},
};

static size_t known(enum grpc_code code)
{
	return (size_t)code < array_size(codes) ? (size_t)code : GRPC_UNKNOWN;
}

const char *grpc_code_name(enum grpc_code code)
{
	return codes[known(code)].name;
}

int grpc_code_errno(enum grpc_code code)
{
	return codes[known(code)].code;
}

struct str grpc_code_text(enum grpc_code code)
{
	return codes[known(code)].digits;
}

enum grpc_code grpc_code_parse(struct str s)
{
	uint64_t v;

	return str_u64(s, &v) == 0 && v < array_size(codes) ? (enum grpc_code)v : GRPC_UNKNOWN;
}

enum grpc_code grpc_code_of_http(struct str status)
{
	uint64_t v;

	if (str_u64(status, &v) < 0)
		return GRPC_UNKNOWN;
	switch (v) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_UNKNOWN;
	}
}

enum grpc_code grpc_code_of_reset(uint32_t h2_code)
{
	switch (h2_code) { /* RFC 9113, section 7 */
	case 3:            /* FLOW_CONTROL_ERROR */
	case 11:           /* ENHANCE_YOUR_CALM */
		return GRPC_RESOURCE_EXHAUSTED;
	case 7: /* REFUSED_STREAM */
	case UINT32_MAX:
		return GRPC_UNAVAILABLE;
	case 8: /* CANCEL */
		return GRPC_CANCELLED;
	case 12: /* INADEQUATE_SECURITY */
		return GRPC_PERMISSION_DENIED;
	default:
		return GRPC_INTERNAL;
	}
}

bool grpc_content_type(struct str s)
{
	static const struct str want = {"application/grpc", sizeof("application/grpc") - 1};

	return str_starts(s, want) &&
	       (s.len == want.len || s.p[want.len] == '+' || s.p[want.len] == ';');
}

/* --- grpc-timeout ---------------------------------------------------------------------------- */

static uint64_t unit_ns(char unit)
{
	switch (unit) {
	case 'H':
		return 3600000000000ull;
	case 'M':
		return 60000000000ull;
	case 'S':
		return 1000000000ull;
	case 'm':
		return 1000000ull;
	case 'u':
		return 1000ull;
	case 'n':
		return 1;
	default:
		return 0;
	}
}

int grpc_timeout_parse(struct str s, uint64_t *ret_ns)
{
	uint64_t unit, v;

	if (s.len < 2 || s.len > TIMEOUT_DIGITS_MAX + 1)
		return -EINVAL;
	unit = unit_ns(s.p[s.len - 1]);
	if (!unit || str_u64((struct str){s.p, s.len - 1}, &v) < 0)
		return -EINVAL;
	if (__builtin_mul_overflow(v, unit, &v))
		v = UINT64_MAX;
	*ret_ns = v;
	return 0;
}

void grpc_timeout_print(uint64_t ns, char out[GRPC_TIMEOUT_TEXT_MAX])
{
	static const char units[] = "numSMH";
	size_t i = 0;

	/* the finest unit that says it exactly, or the finest that fits */
	while (i + 1 < sizeof(units) - 1 &&
	       (ns / unit_ns(units[i]) > 99999999 || ns % unit_ns(units[i + 1]) == 0))
		i++;
	if (ns == 0)
		ns = i = 0;
	ns /= unit_ns(units[i]);
	snprintf(out, GRPC_TIMEOUT_TEXT_MAX, "%llu%c",
		 (unsigned long long)(ns > 99999999 ? 99999999 : ns), units[i]);
}

/* --- grpc-message ---------------------------------------------------------------------------- */

/* Not more than max bytes, and no character of UTF-8 cut in two. */
static size_t text_cut(struct str s, size_t max)
{
	size_t n = s.len;

	if (n <= max)
		return n;
	for (n = max; n > max - 4 && ((unsigned char)s.p[n] & 0xc0) == 0x80; n--)
		;
	return n;
}

int grpc_percent_encode(struct str text, struct buf *out)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = text_cut(text, GRPC_ERROR_TEXT_MAX);

	if (buf_reserve(out, n * 3) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c >= 0x20 && c <= 0x7e && c != '%') {
			out->data[out->len++] = c;
		} else {
			out->data[out->len++] = '%';
			out->data[out->len++] = (uint8_t)hex[c >> 4];
			out->data[out->len++] = (uint8_t)hex[c & 15];
		}
	}
	return 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

void grpc_percent_decode(struct str s, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len && n + 1 < size; i++) {
		int hi = s.p[i] == '%' && i + 2 < s.len ? hex_value(s.p[i + 1]) : -1;
		int lo = hi >= 0 ? hex_value(s.p[i + 2]) : -1;

		if (lo >= 0 && (hi || lo)) {
			out[n++] = (char)(hi << 4 | lo);
			i += 2;
		} else {
			out[n++] = s.p[i];
		}
	}
	out[n] = '\0';
}
