/* SPDX-License-Identifier: Apache-2.0 */
/* Circular doubly linked list, links inside the elements. A head names its element in a comment. */
#ifndef FIRSTLIGHT_BASE_LIST_H
#define FIRSTLIGHT_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/clean.h"

struct list {
	struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/* Puts n at the end of head. */
static inline void list_push(struct list *head, struct list *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}

static inline void list_push_front(struct list *head, struct list *n)
{
	list_push(head->next, n);
}

/* Takes n out of its list; n is then an empty list, so a second call does no harm. */
static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

/* Takes the first element; NULL if there is none. */
static inline struct list *list_pop(struct list *head)
{
	struct list *n = head->next;

	if (n == head)
		return NULL;
	list_del(n);
	return n;
}

/* Moves all elements of from to the end of to. */
static inline void list_splice(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define list_for_each_safe(it, tmp, head)                                                          \
	for (it = (head)->next, tmp = it->next; it != (head); it = tmp, tmp = it->next)

#endif
