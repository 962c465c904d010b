/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What containerd's settings have to say for firstlight, by containerd's version; and what its file
 * and those that it imports say of that. One thread, no loop beside it.
 */
#ifndef FIRSTLIGHT_TOOLS_CONTAINERD_SETTINGS_H
#define FIRSTLIGHT_TOOLS_CONTAINERD_SETTINGS_H

#include "config_edit.h"

struct containerd_version {
	unsigned major, minor;
};

/* "1.6", "v2.1.4", "2.x"; -EINVAL. */
int containerd_version_parse(const char *s, struct containerd_version *ret);

/* Of the containerd that answers at socket, else of the one that is installed; -ENOENT. Waits for a
 * few seconds at most. */
int containerd_version_find(const char *socket, struct containerd_version *ret);

bool containerd_at_least(const struct containerd_version *v, unsigned major, unsigned minor);

#define SETTINGS_WORD 512 /* bytes of an address or a root, with its quotes */

struct containerd_settings {
	/* asked for */
	struct containerd_version version;
	unsigned format; /* of the file: 2 or 3; 0: what is usual for the version */
	bool cri;        /* also those that make it the snapshotter of CRI */
	bool local_pull; /* CRI pulls by itself, as before 2.1 */
	bool old_cri;    /* 2.0 and later: CRI's settings of version 2 are taken over, and win */
	const char *address, *root;

	/* made of it; refers to itself: not to be copied */
	struct setting want[CONFIG_EDIT_SETTINGS];
	size_t n, plugin_n;          /* plugin_n: of the plugin itself; they come first */
	struct setting unpack[3];    /* of an element of a list of tables, */
	struct setting overlayfs[3]; /* and of the one that is there when the list is not */
	size_t unpack_n;             /* 0: no such list; else 3 */
	char address_value[SETTINGS_WORD], root_value[SETTINGS_WORD], platform[64];
};

/* -EINVAL: an address or a root that cannot be written there. */
int containerd_settings_make(struct containerd_settings *s);

/* Sets format, local_pull and old_cri from the file's text. -EINVAL: it is not understood;
 * -ENOTSUP: such a file cannot be for that version of containerd, or is too old; err says why. */
int containerd_settings_for(struct containerd_settings *s, struct str text, struct err *err);

struct containerd_found {
	enum setting_state states[CONFIG_EDIT_SETTINGS];
	size_t lines[CONFIG_EDIT_SETTINGS]; /* of the file; 0: not in it */
	int unpack;                         /* CONFIG_LIST_… */
};

/*
 * What the file at path, which holds text, and what it imports say. -EEXIST: an imported file has
 * another value, which would win; -EINVAL: not understood; err says which file and line.
 */
int containerd_settings_look(const struct containerd_settings *s, const char *path, struct str text,
			     struct containerd_found *ret, struct err *err);

#endif
