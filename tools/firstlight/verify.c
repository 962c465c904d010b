// SPDX-License-Identifier: Apache-2.0
/* firstlight verify: all complete contents are hashed again. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "options.h"
#include "out.h"
#include "progress.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

struct verifying {
	bool json, repair, done;
	uint64_t objects, bytes, bad, repaired, unreadable;
};

static void json_bad(const Flc__BadObject *b)
{
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '{');
	out_json_text(&j, "object", b->key);
	out_json_text(&j, "why", b->why);
	out_json_bool(&j, "repaired", b->repaired);
	out_json_open(&j, "images", '[');
	for (size_t i = 0; i < b->n_images; i++)
		out_json_text(&j, NULL, b->images[i]);
	out_json_close(&j, ']');
	out_json_close(&j, '}');
}

static void tell_bad(const Flc__BadObject *b)
{
	auto_free char *key = out_word(b->key, false), *why = out_word(b->why, false);
	auto_free char *image = out_word(b->n_images ? b->images[0] : "", false);

	progress_end();
	printf("%s  %s%s%s%s\n", b->repaired ? "repaired" : "bad", key, image[0] ? "  " : "", image,
	       "");
	printf("          %s\n", why);
	fflush(stdout);
}

static int on_message(void *arg, void *msg)
{
	const Flc__VerifyProgress *m = msg;
	struct verifying *v = arg;

	for (size_t i = 0; i < m->n_found; i++) {
		if (v->json)
			json_bad(m->found[i]);
		else
			tell_bad(m->found[i]);
	}
	progress_set(m->bytes, m->bytes_total > m->bytes ? m->bytes_total : m->bytes);
	v->objects = m->objects;
	v->bytes = m->bytes;
	v->bad = m->bad;
	v->repaired = m->repaired;
	v->unreadable = m->unreadable;
	v->done = m->done;
	return 0;
}

static void print_sum(const struct verifying *v)
{
	struct out_json j = OUT_JSON_INIT;
	char bytes[OUT_NUMBER_MAX];

	if (!v->json) {
		printf("%llu files, %s: %llu bad, %llu unreadable, %llu repaired\n",
		       (unsigned long long)v->objects, out_size(v->bytes, bytes),
		       (unsigned long long)v->bad, (unsigned long long)v->unreadable,
		       (unsigned long long)v->repaired);
		return;
	}
	out_json_open(&j, NULL, '{');
	out_json_uint(&j, "objects", v->objects);
	out_json_uint(&j, "bytes", v->bytes);
	out_json_uint(&j, "bad", v->bad);
	out_json_uint(&j, "unreadable", v->unreadable);
	out_json_uint(&j, "repaired", v->repaired);
	out_json_close(&j, '}');
}

static may_suspend int verify(struct client *c, void *arg)
{
	Flc__VerifyRequest req = FLC__VERIFY_REQUEST__INIT;
	struct verifying *v = arg;
	int r;

	req.repair = v->repair;
	progress_begin("verifying", v->json);
	r = client_stream(c, CONTROL_METHOD("Verify"), &req, &flc__verify_progress__descriptor,
			  CLIENT_FOREVER, on_message, v);
	progress_end();
	if (r < 0)
		return r;
	if (!v->done)
		return client_fail(c, -EIO, "the daemon ended before all was looked at");
	print_sum(v);
	return v->bad + v->unreadable > v->repaired;
}

int cmd_verify(int argc, char **argv)
{
	const char *address = options_address();
	struct verifying v = {.json = false};
	const struct option_spec specs[] = {
		{"repair", 'r', OPTION_FLAG, &v.repair, NULL,
		 "remove what is bad and fetch it again"},
		OPTION_ADDRESS(&address),
		OPTION_JSON(&v.json),
	};
	const struct options o = {
		.command = "verify",
		.text = "Hashes all complete contents of lazy layers again, from the disk. Exit "
			"code 1:\n"
			"some are bad and not repaired.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	return r != OPTIONS_GO ? r : client_run("verify", address, verify, &v);
}
