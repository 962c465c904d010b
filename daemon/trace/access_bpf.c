// SPDX-License-Identifier: Apache-2.0
/* Owns the BPF object, its links and maps, and libbpf's output. Knows no loop. */
#include "trace/access_bpf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"

#include "base/banned.h"

/* The object as bytes and not as a skeleton: that would be one more tool to build with, and gives
 * names to what is looked up once, below. */
extern const char access_object[], access_object_end[];
__asm__(".pushsection .rodata\n"
	".balign 8\n"
	".global access_object\n"
	"access_object:\n"
	".incbin \"access.bpf.o\"\n"
	".global access_object_end\n"
	"access_object_end:\n"
	".byte 0\n"
	".popsection\n");

static const struct {
	const char *name, *tracepoint;
} programs[ACCESS_PROGRAMS] = {
	[PROGRAM_GET_PAGES] = {"get_pages", "mm_filemap_get_pages"},
	[PROGRAM_FAULT] = {"fault", "mm_filemap_fault"},
	[PROGRAM_MAP_PAGES] = {"map_pages", "mm_filemap_map_pages"},
	[PROGRAM_ADD_PAGE] = {"add_page", "mm_filemap_add_to_page_cache"},
	[PROGRAM_EXEC] = {"exec", "sched_process_exec"},
};

struct access_bpf {
	struct access_bpf_options options;
	struct bpf_object *object; /* NULL: nothing could be loaded */
	struct bpf_link *links[ACCESS_PROGRAMS];
	bool out[ACCESS_PROGRAMS]; /* could not be loaded; the reason stays */
	char reasons[ACCESS_PROGRAMS][ACCESS_REASON_MAX]; /* empty: none */
	struct ring_buffer *ring;
	int ring_fd, ignored_fd, devices_fd, devices_n_fd, counters_fd;
	int cpus;
	uint32_t devices_n;
	void (*read_fn)(void *arg, const struct access_record *r, size_t size);
	void *read_arg;
	unsigned read_left;
};

/* --- what libbpf says ------------------------------------------------------------------------ */

/* Of this thread's call under way: the verifier's last word. */
static _Thread_local char verifier[ACCESS_REASON_MAX];

/* Lines of the verifier's log; it ends with why not, a line of numbers and libbpf's frame. */
static void verifier_note(const char *line, size_t len)
{
	static const char *const others[] = {"processed ", "-- ", "libbpf: "};

	for (size_t i = 0; i < array_size(others); i++) {
		if (strncmp(line, others[i], strlen(others[i])) == 0)
			return;
	}
	if (len)
		snprintf(verifier, sizeof(verifier), "%.*s", (int)len, line);
}

static printf_like(2, 0) int on_print(enum libbpf_print_level level, const char *fmt, va_list args)
{
	auto_free char *text = NULL;
	const char *at, *end;
	bool refused;

	if (level == LIBBPF_DEBUG)
		return 0;
	if (vasprintf(&text, fmt, args) < 0) {
		text = NULL;
		return 0;
	}
	refused = strstr(text, "BEGIN PROG LOAD LOG");
	for (at = text; *at; at = *end ? end + 1 : end) {
		end = strchrnul(at, '\n');
		log_debug("%.*s", (int)(end - at), at);
		if (refused)
			verifier_note(at, (size_t)(end - at));
	}
	return 0;
}

/* --- reasons --------------------------------------------------------------------------------- */

static void reason_set(struct access_bpf *b, enum access_program p, const char *fmt, ...)
	printf_like(3, 4);

static void reason_set(struct access_bpf *b, enum access_program p, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(b->reasons[p], sizeof(b->reasons[p]), fmt, args);
	va_end(args);
}

static void reason_all(struct access_bpf *b, const char *text)
{
	for (enum access_program p = 0; p < ACCESS_PROGRAMS; p++)
		reason_set(b, p, "%s", text);
}

/* Why the kernel did not take it. */
static void reason_load(struct access_bpf *b, enum access_program p, int code)
{
	if (code == -EPERM)
		reason_set(b, p, "not permitted: CAP_BPF and CAP_PERFMON are needed");
	else if (verifier[0])
		reason_set(b, p, "refused by the kernel's verifier: %.200s", verifier);
	else
		reason_set(b, p, "not loaded: %s", strerror(-code));
}

/* Those with a reason are out. Answers whether any is left. */
static bool reasons_count(struct access_bpf *b)
{
	bool any = false;

	for (enum access_program p = 0; p < ACCESS_PROGRAMS; p++) {
		b->out[p] = b->reasons[p][0] != '\0';
		any = any || !b->out[p];
	}
	return any;
}

/* --- loading --------------------------------------------------------------------------------- */

static void size_set(struct bpf_object *o, const char *map, size_t entries)
{
	struct bpf_map *m = bpf_object__find_map_by_name(o, map);

	require(m);
	require(bpf_map__set_max_entries(m, (uint32_t)entries) == 0);
}

/* Opened, with sizes and settings. */
static int object_open(const struct access_bpf *b, struct bpf_object **ret)
{
	struct access_settings settings = b->options.settings;
	struct bpf_object *o;
	struct bpf_map *m;

	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "firstlight");

	o = bpf_object__open_mem(access_object, (size_t)(access_object_end - access_object), &opts);
	if (!o)
		return -errno;
	size_set(o, "ring", b->options.ring_bytes);
	size_set(o, "devices", ACCESS_DEVICES_MAX);
	size_set(o, "ignored", ACCESS_IGNORED_MAX);
	size_set(o, "execs", ACCESS_IGNORED_MAX);
	size_set(o, "touched", ACCESS_TOUCHED_MAX);
	m = bpf_object__find_map_by_name(o, ".rodata.settings");
	require(m && bpf_map__set_initial_value(m, &settings, sizeof(settings)) == 0);
	*ret = o;
	return 0;
}

/* Loads these programs and no others. */
static int object_load(const struct access_bpf *b, const bool which[ACCESS_PROGRAMS],
		       struct bpf_object **ret)
{
	struct bpf_object *o = NULL;
	struct bpf_program *prog;
	int r = object_open(b, &o);

	if (r < 0)
		return r;
	for (enum access_program p = 0; p < ACCESS_PROGRAMS; p++) {
		prog = bpf_object__find_program_by_name(o, programs[p].name);
		require(prog && bpf_program__set_autoload(prog, which[p]) == 0);
		if (b->options.refused[p])
			bpf_program__set_type(prog, BPF_PROG_TYPE_SOCKET_FILTER);
	}
	verifier[0] = '\0';
	r = bpf_object__load(o);
	if (r < 0)
		bpf_object__close(o);
	else
		*ret = o;
	return r;
}

/* One that is refused takes all of an object with it: each is tried alone. */
static void each_try(struct access_bpf *b)
{
	struct bpf_object *o;
	int r;

	for (enum access_program p = 0; p < ACCESS_PROGRAMS; p++) {
		bool one[ACCESS_PROGRAMS] = {false};

		if (b->out[p])
			continue;
		one[p] = true;
		r = object_load(b, one, &o);
		if (r == 0)
			bpf_object__close(o);
		else
			reason_load(b, p, r);
	}
}

static int usable_load(struct access_bpf *b)
{
	bool which[ACCESS_PROGRAMS];

	for (enum access_program p = 0; p < ACCESS_PROGRAMS; p++)
		which[p] = !b->out[p];
	return object_load(b, which, &b->object);
}

const char *access_bpf_tracepoint(const struct access_bpf *b, enum access_program p)
{
	return b->options.tracepoints[p] ? b->options.tracepoints[p] : programs[p].tracepoint;
}

/* The kernel's type information has a type for each tracepoint. */
static void tracepoints_look(struct access_bpf *b)
{
	struct btf *btf = btf__load_vmlinux_btf();
	char type[64];

	if (!btf) {
		reason_all(b, "the kernel has no type information (CONFIG_DEBUG_INFO_BTF)");
		return;
	}
	for (enum access_program p = 0; p < ACCESS_PROGRAMS; p++) {
		snprintf(type, sizeof(type), "btf_trace_%s", access_bpf_tracepoint(b, p));
		if (btf__find_by_name_kind(btf, type, BTF_KIND_TYPEDEF) < 0)
			reason_set(b, p, "this kernel has no tracepoint %s",
				   access_bpf_tracepoint(b, p));
	}
	btf__free(btf);
}

static int map_fd(const struct access_bpf *b, const char *name)
{
	return bpf_object__find_map_fd_by_name(b->object, name);
}

static int on_record(void *ctx, void *data, size_t size)
{
	struct access_bpf *b = ctx;

	if (size >= sizeof(struct access_record))
		b->read_fn(b->read_arg, data, size);
	return --b->read_left ? 0 : -ECANCELED;
}

static int maps_open(struct access_bpf *b)
{
	b->ring_fd = map_fd(b, "ring");
	b->ignored_fd = map_fd(b, "ignored");
	b->devices_fd = map_fd(b, "devices");
	b->devices_n_fd = map_fd(b, ".data.devices_n");
	b->counters_fd = map_fd(b, "counters");
	b->cpus = libbpf_num_possible_cpus();
	if (b->cpus < 0)
		return b->cpus;
	b->ring = ring_buffer__new(b->ring_fd, on_record, b, NULL);
	return b->ring ? 0 : -errno;
}

static void unload(struct access_bpf *b)
{
	ring_buffer__free(b->ring);
	b->ring = NULL;
	bpf_object__close(b->object);
	b->object = NULL;
}

int access_bpf_load(const struct access_bpf_options *o, struct access_bpf **ret)
{
	struct access_bpf *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	libbpf_set_print(on_print);
	b->options = *o;
	tracepoints_look(b);
	r = reasons_count(b) ? usable_load(b) : 0;
	if (r < 0) {
		each_try(b);
		r = reasons_count(b) ? usable_load(b) : 0;
	}
	if (r == 0 && b->object)
		r = maps_open(b);
	if (r < 0) {
		unload(b);
		for (enum access_program p = 0; p < ACCESS_PROGRAMS; p++)
			reason_load(b, p, r);
		reasons_count(b);
	}
	*ret = b;
	return 0;
}

void access_bpf_free(struct access_bpf *b)
{
	if (!b)
		return;
	access_bpf_detach(b);
	unload(b);
	free(b);
}

/* --- attaching ------------------------------------------------------------------------------- */

static void attach(struct access_bpf *b, enum access_program p)
{
	struct bpf_program *prog;

	if (b->out[p] || b->links[p])
		return;
	prog = bpf_object__find_program_by_name(b->object, programs[p].name);
	b->links[p] = bpf_program__attach_raw_tracepoint(prog, access_bpf_tracepoint(b, p));
	if (b->links[p])
		b->reasons[p][0] = '\0';
	else
		reason_set(b, p, "not attached to %s: %s", access_bpf_tracepoint(b, p),
			   strerror(errno));
}

void access_bpf_attach(struct access_bpf *b)
{
	attach(b, PROGRAM_GET_PAGES);
	attach(b, PROGRAM_FAULT);
	attach(b, PROGRAM_MAP_PAGES);
	attach(b, PROGRAM_EXEC);
	if (!b->links[PROGRAM_GET_PAGES] || !b->links[PROGRAM_FAULT] ||
	    !b->links[PROGRAM_MAP_PAGES])
		attach(b, PROGRAM_ADD_PAGE);
}

void access_bpf_detach(struct access_bpf *b)
{
	for (enum access_program p = 0; p < ACCESS_PROGRAMS; p++) {
		bpf_link__destroy(b->links[p]);
		b->links[p] = NULL;
	}
}

bool access_bpf_attached(const struct access_bpf *b, enum access_program p)
{
	return b->links[p] != NULL;
}

const char *access_bpf_reason(const struct access_bpf *b, enum access_program p)
{
	if (b->reasons[p][0])
		return b->reasons[p];
	if (p == PROGRAM_ADD_PAGE && !b->reasons[PROGRAM_GET_PAGES][0] &&
	    !b->reasons[PROGRAM_FAULT][0] && !b->reasons[PROGRAM_MAP_PAGES][0])
		return "not needed: the kernel has the better ones";
	return NULL;
}

/* --- while it runs --------------------------------------------------------------------------- */

int access_bpf_fd(const struct access_bpf *b)
{
	return b->object ? b->ring_fd : -1;
}

unsigned access_bpf_read(struct access_bpf *b, unsigned max,
			 void (*fn)(void *arg, const struct access_record *r, size_t size),
			 void *arg)
{
	if (!b->object || !max)
		return 0;
	b->read_fn = fn;
	b->read_arg = arg;
	b->read_left = max;
	ring_buffer__consume(b->ring); /* fails with what on_record() stops it with */
	return max - b->read_left;
}

int access_bpf_ignore(struct access_bpf *b, uint64_t mnt_ns)
{
	uint8_t yes = 1;

	return b->object ? bpf_map_update_elem(b->ignored_fd, &mnt_ns, &yes, BPF_ANY) : 0;
}

int access_bpf_device(struct access_bpf *b, uint32_t s_dev, bool on)
{
	uint32_t zero = 0;
	uint8_t yes = 1;
	int r;

	if (!b->object)
		return 0;
	r = on ? bpf_map_update_elem(b->devices_fd, &s_dev, &yes, BPF_NOEXIST)
	       : bpf_map_delete_elem(b->devices_fd, &s_dev);
	if (r < 0)
		return r == (on ? -EEXIST : -ENOENT) ? 0 : r;
	b->devices_n += on ? 1 : -1u;
	return bpf_map_update_elem(b->devices_n_fd, &zero, &b->devices_n, BPF_ANY);
}

void access_bpf_counters(const struct access_bpf *b, uint64_t ret[ACCESS_COUNTERS])
{
	auto_free uint64_t *each = b->object ? calloc((size_t)b->cpus, sizeof(each[0])) : NULL;

	for (uint32_t which = 0; which < ACCESS_COUNTERS; which++) {
		ret[which] = 0;
		if (!each || bpf_map_lookup_elem(b->counters_fd, &which, each) < 0)
			continue;
		for (int cpu = 0; cpu < b->cpus; cpu++)
			ret[which] += each[cpu];
	}
}
