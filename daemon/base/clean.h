/* SPDX-License-Identifier: Apache-2.0 */
/* Cleanup of locals at the end of their scope, and moves out of them. */
#ifndef FIRSTLIGHT_BASE_CLEAN_H
#define FIRSTLIGHT_BASE_CLEAN_H

#include <dirent.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define cleanup(fn)       __attribute__((cleanup(fn)))
#define auto_free         cleanup(clean_free_)
#define auto_close        cleanup(clean_close_)
#define auto_closedir     cleanup(clean_closedir_)
#define must_check        __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))

static inline void clean_free_(void *p)
{
	free(*(void **)p);
}

static inline void clean_close_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void clean_closedir_(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Moves a file descriptor out of a variable, leaving -1. */
static inline int take_fd(int *fd)
{
	int r = *fd;

	*fd = -1;
	return r;
}

/* Moves a pointer out of a variable, leaving NULL. */
#define take_ptr(p)                                                                                \
	({                                                                                         \
		__auto_type take_pp_ = &(p);                                                       \
		__auto_type take_v_ = *take_pp_;                                                   \
		*take_pp_ = NULL;                                                                  \
		take_v_;                                                                           \
	})

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define array_size(a)                   (sizeof(a) / sizeof((a)[0]))

#endif
