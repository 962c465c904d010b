/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's profiles, kept in the database (space "profiles"): one for each image repository and
 * executable. What is known of each, but not its uses, is in memory too. PROFILES_MAX of them and
 * PROFILES_BYTES_MAX bytes at most: then the one goes that was longest not used, by a start or a
 * look-up. Loop thread; any number of calls at once.
 */
#ifndef FIRSTLIGHT_PREDICT_PROFILES_H
#define FIRSTLIGHT_PREDICT_PROFILES_H

#include "predict/extents.h"
#include "predict/profile.h"
#include "store/meta.h"

struct profiles;

/* Reads all that is there. Records that are damaged or newer are deleted, with a line in the log: a
 * profile is learnt again. -ENOMEM, -EIO. meta stays the caller's. */
may_suspend int profiles_new(struct meta *meta, struct profiles **ret, struct err *err) must_check;
/* No call may be running. */
void profiles_free(struct profiles *p);

/* That of the executable. All of it lives in a. -ENOENT, -EIO, -EBADMSG, -ENOMEM. */
may_suspend int profiles_get(struct profiles *p, struct str repository, struct str executable,
			     struct arena *a, struct profile *ret, struct err *err) must_check;

/* Is there any of the repository? */
bool profiles_any(const struct profiles *p, struct str repository);

/* Those of a repository, whatever the executable, most starts first, max at most: for when it is
 * not known what will run. Answers how many; -EIO, -ENOMEM. */
may_suspend int profiles_of(struct profiles *p, struct str repository, struct arena *a,
			    struct profile *ret, size_t max, struct err *err) must_check;

/* Merges one start, of profile_build(), into what is there; durable when 0 is returned. Two at once
 * lose nothing. One without uses changes nothing. -ECANCELED, -EINVAL: profile_check(); -EIO,
 * -ENOSPC: not written, and nothing more will be (meta_commit()); -ENOMEM. */
may_suspend int profiles_put(struct profiles *p, const struct profile *start,
			     struct err *err) must_check;

/* Where a start of that program lies in the blobs of its image; takes the place of what is there.
 * They go with their profile, and when another one is imported. -ENOENT: there is no such profile;
 * else as profiles_put(). */
may_suspend int profiles_put_extents(struct profiles *p, struct str repository,
				     struct str executable, const struct extents *e,
				     struct err *err) must_check;
/* Those of the programs of a repository, most starts first, max at most; none if those of one are
 * not known. All lives in a. Answers how many; -EIO, -ENOMEM, -ECANCELED. */
may_suspend int profiles_extents(struct profiles *p, struct str repository, struct arena *a,
				 struct extents *ret, size_t max);

/* A document of profile_json() takes the place of what is there. Answers as profiles_put(), or
 * -ENOTSUP; ret (may be NULL) says which it is, its strings live in a. */
may_suspend int profiles_import(struct profiles *p, struct str document, struct arena *a,
				struct profile *ret, struct err *err) must_check;

/* executable NULL: all of the repository; else that one. Answers how many there were. -ECANCELED,
 * -EIO, -ENOSPC, -ENOMEM. */
may_suspend int profiles_remove(struct profiles *p, struct str repository,
				const struct str *executable, struct err *err) must_check;

struct profile_info {
	struct str repository, executable; /* until a call suspends */
	uint32_t starts, whole;
	int64_t last_ns;
	uint32_t span_us;
	uint32_t paths_n, uses_n;
	uint64_t content; /* bytes that its uses are, in whole units */
	size_t bytes;     /* of its record */
};

/* Calls fn for each, in no order, until it answers not 0; that is answered. fn must not suspend. */
int profiles_each(struct profiles *p, int (*fn)(void *arg, const struct profile_info *info),
		  void *arg);

struct profiles_stats {
	size_t n, bytes;
	uint64_t merged, evicted; /* starts; profiles that had to go, since this began */
};
void profiles_stats(const struct profiles *p, struct profiles_stats *ret);

#endif
