// SPDX-License-Identifier: Apache-2.0
/* What containerd's settings say of firstlight. Owns nothing. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/toml.h"
#include "containerd_settings.h"
#include "doctor.h"

#include "base/banned.h"

#define MERGE "firstlight containerd-config%s --merge %s --in-place, then restart containerd"

/* The first of the settings [from, to) that is not there; to: none. */
static size_t first_wrong(const struct containerd_found *found, size_t from, size_t to)
{
	while (from < to && found->states[from] == SETTING_THERE)
		from++;
	return from;
}

static void tell_wrong(struct doctor *d, struct finding *f, const struct containerd_settings *s,
		       const struct containerd_found *found, size_t i, const char *costs)
{
	char fix[TEXT_MAX];

	f->state = FINDING_OFF;
	if (found->states[i] == SETTING_MISSING)
		snprintf(f->text, sizeof(f->text), "%s: [%s] %s is not set", d->containerd_config,
			 s->want[i].table, s->want[i].key);
	else
		snprintf(f->text, sizeof(f->text), "%s:%zu: %s is not %s", d->containerd_config,
			 found->lines[i], s->want[i].key, s->want[i].value);
	snprintf(fix, sizeof(fix), MERGE, i < s->plugin_n ? "" : " --cri", d->containerd_config);
	finding_advice(f, costs, fix);
}

/* What a running containerd says of its plugin weighs more than a file. */
static void tell_plugin(struct doctor *d, const struct containerd_settings *s,
			const struct containerd_found *found)
{
	enum finding_need need = d->containerd_version[0] ? NEED_NOTHING : NEED_USE;
	size_t i = first_wrong(found, 0, s->plugin_n);
	struct finding *f =
		finding(d, "config", FINDING_OK, need, "%s has the plugin", d->containerd_config);

	if (i < s->plugin_n)
		tell_wrong(d, f, s, found, i, "containerd cannot use firstlight");
}

static void tell_transfer(struct doctor *d, const struct containerd_found *found)
{
	char fix[TEXT_MAX];
	struct finding *f = finding(d, "config-pull", FINDING_OK, NEED_NOTHING,
				    "the transfer service may unpack with it");

	if (found->unpack == CONFIG_LIST_ELEMENT)
		return;
	f->state = FINDING_OFF;
	snprintf(f->text, sizeof(f->text), "%s: unpack_config has no element for firstlight",
		 d->containerd_config);
	snprintf(fix, sizeof(fix), MERGE, "", d->containerd_config);
	finding_advice(f, "pulls of ctr and CRI do not use it; firstlight pull does", fix);
}

static int on_key(void *arg, struct str table, struct str key, const struct toml_value *v,
		  struct err *err)
{
	bool *off = arg;

	(void)err;
	if (table.len || !v || v->type != TOML_ARRAY || !str_eq(key, STR("disabled_plugins")))
		return 0;
	for (size_t i = 0; i < v->items_n; i++)
		*off |= str_eq(v->items[i].string, STR("cri")) ||
			str_starts(v->items[i].string, STR("io.containerd.grpc.v1.cri"));
	return 0;
}

static void tell_cri(struct doctor *d, const struct containerd_settings *s,
		     const struct containerd_found *found, struct str text)
{
	bool off = false;
	size_t i = first_wrong(found, s->plugin_n, s->n);
	struct finding *f;

	(void)toml_parse("", text, on_key, &off, NULL); /* what it does not know comes later */
	f = finding(d, "config-cri", FINDING_OK, NEED_NOTHING, "%s",
		    off ? "CRI is switched off" : "pods use firstlight, and are lazy");
	if (!off && i < s->n)
		tell_wrong(d, f, s, found, i, "pods do not use it; ctr and nerdctl may");
}

static void look(struct doctor *d, struct containerd_settings *s, struct str text)
{
	struct containerd_found found = {.unpack = CONFIG_LIST_NONE};
	struct err err = ERR_INIT;
	struct finding *f;
	int r = containerd_settings_for(s, text, &err);

	if (r == 0 && containerd_settings_make(s) < 0)
		r = err_set(&err, -EINVAL, "no file can have such an address");
	if (r == 0)
		r = containerd_settings_look(s, d->containerd_config, text, &found, &err);
	if (r < 0) {
		f = finding(d, "config", FINDING_OFF, NEED_NOTHING, "%s: %s", d->containerd_config,
			    err_text(&err, r));
		finding_advice(f, "it cannot be told whether containerd knows firstlight", "");
		return;
	}
	tell_plugin(d, s, &found);
	if (s->unpack_n)
		tell_transfer(d, &found);
	tell_cri(d, s, &found, text);
}

void doctor_settings(void *arg)
{
	struct doctor *d = arg;
	struct containerd_settings s = {.address = d->address, .root = d->root, .cri = true};
	auto_buf struct buf text = BUF_INIT;
	struct err err = ERR_INIT;
	int r = file_read_all(d->containerd_config, CONFIG_EDIT_MAX, &text, &err);

	if (r < 0) {
		finding(d, "config", FINDING_SKIP,
			d->containerd_config_given ? NEED_USE : NEED_NOTHING, "%s: %s",
			d->containerd_config, err_text(&err, r));
		return;
	}
	if (containerd_version_parse(d->containerd_version, &s.version) < 0 &&
	    containerd_version_find(d->containerd, &s.version) < 0)
		s.version = (struct containerd_version){1, 6};
	look(d, &s, (struct str){(char *)text.data, text.len});
}
