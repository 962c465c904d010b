/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What commands print: failures, words from outside, sizes and times, tables, JSON. Everything that
 * was not written here passes out_escape() on its way to a terminal, or the JSON writer. One
 * thread.
 */
#ifndef FIRSTLIGHT_TOOLS_OUT_H
#define FIRSTLIGHT_TOOLS_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clean.h"

/* --- failures: one line "firstlight: COMMAND: cause" on stderr ----------------------------------
 */

/* Answers 1, the exit code; the same with 2, and with a hint at --help. command may be NULL. */
int out_fail(const char *command, const char *fmt, ...) printf_like(2, 3);
int out_misuse(const char *command, const char *fmt, ...) printf_like(2, 3);

/* "hint: …", behind a failure. */
void out_hint(const char *fmt, ...) printf_like(1, 2);

/* The hint behind a failure whose cause is a full disk; nothing behind others. */
void out_hint_room(const char *cause);

/* Before a command returns 0: what is still to be written is; 1 and a line if it cannot be. */
int out_done(const char *command);

/* --- words -------------------------------------------------------------------------------------
 */

/* Appends s with what could move a terminal's cursor or is not UTF-8 as \xNN or \u{N}; -ENOMEM. */
int out_escape(struct buf *b, const char *s, size_t len) must_check;

/* s escaped; runs of 64 hex digits cut to 12 if cut is set. The caller's; out of memory ends the
 * program. */
char *out_word(const char *s, bool cut) must_check;

/* Columns that valid UTF-8 without control characters takes. */
size_t out_columns(const char *s, size_t len);

#define OUT_NUMBER_MAX 32

/* All answer buf. Sizes in units of 1024: "0 B", "1.5 GiB", "512 MiB". */
const char *out_size(uint64_t bytes, char buf[OUT_NUMBER_MAX]);
/* "850 ms", "1.2 s", "4 m 05 s", "3 h 05 m", "12 d 04 h" */
const char *out_duration(uint64_t ms, char buf[OUT_NUMBER_MAX]);
/* Rounded down, so that "100 %" is all of it; "-" of nothing. */
const char *out_percent(uint64_t part, uint64_t whole, char buf[OUT_NUMBER_MAX]);
/* UTC, RFC 3339, of seconds since 1970; "-" for one that has no such form. */
const char *out_time(int64_t seconds, char buf[OUT_NUMBER_MAX]);

/* Columns of a terminal, or $COLUMNS; 80 where both are unknown. */
unsigned out_width_of(int fd);
/* The same of stdout, for tables: not less than they can use. */
unsigned out_width(void);
/* Lines of stdout's terminal; 24. */
unsigned out_height(void);

/* Is fd a terminal whose cursor can be moved? Not one that $TERM calls dumb, or does not name. */
bool out_terminal(int fd);

/* --- tables ------------------------------------------------------------------------------------
 */

enum {
	OUT_RIGHT = 1, /* numbers */
	OUT_GIVES = 2, /* is shortened in its middle where the line has no room */
};

struct out_column {
	const char *title;
	unsigned flags;
};

struct out_table;

/* columns stays the caller's. Nothing here fails: out of memory ends the program. */
struct out_table *out_table_new(const struct out_column *columns, size_t n, bool cut);

/* The next cell, row by row. Escaped; with cut, digests are shortened and rows fit the terminal. */
void out_cell(struct out_table *t, const char *text);
void out_cellf(struct out_table *t, const char *fmt, ...) printf_like(2, 3);

/* Prints what is there, and ends it. A table of very many rows is printed in parts before. */
void out_table_end(struct out_table *t);
void out_table_drop(struct out_table *t);

/* A list "name  value", names in one column: flushed by out_table_end(). */
struct out_table *out_facts_new(bool cut);
void out_fact(struct out_table *t, const char *name, const char *fmt, ...) printf_like(3, 4);

/* --- JSON (RFC 8259), compact --------------------------------------------------------------------
 */

#define OUT_JSON_DEPTH 16

struct out_json {
	unsigned depth;
	bool more[OUT_JSON_DEPTH + 1]; /* something stands before */
	char ends[OUT_JSON_DEPTH + 1]; /* the brackets that are missing */
};

#define OUT_JSON_INIT ((struct out_json){0})

/* To stdout. name is NULL in a list and at the top; there a document ends with a new line. */
void out_json_open(struct out_json *j, const char *name, char bracket); /* '{' or '[' */
void out_json_close(struct out_json *j, char bracket);                  /* '}' or ']' */
/* Closes all that is open, so that a document which ends early can be read. */
void out_json_end(struct out_json *j);
/* s may be NULL: null. What is not UTF-8 becomes U+FFFD. */
void out_json_text(struct out_json *j, const char *name, const char *s);
void out_json_uint(struct out_json *j, const char *name, uint64_t v);
void out_json_int(struct out_json *j, const char *name, int64_t v);
void out_json_bool(struct out_json *j, const char *name, bool v);
/* As out_time(), with the nanoseconds. */
void out_json_time(struct out_json *j, const char *name, int64_t seconds, int32_t nanos);

/* out of memory: says so and ends the program. */
_Noreturn void out_no_memory(void);

#endif
