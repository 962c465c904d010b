// SPDX-License-Identifier: Apache-2.0
/* firstlight top: status again and again, with rates, and the images that are being fetched. Owns
 * the terminal's mode while it runs. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "loop/io.h"
#include "options.h"
#include "out.h"
#include "status.h"

#include "base/banned.h"

#define SCREEN_ON  "\033[?1049h\033[?25l" /* the other screen, no cursor (xterm) */
#define SCREEN_OFF "\033[?25h\033[?1049l"
#define HOME       "\033[H"
#define REST_GONE  "\033[J"
#define IMAGES_MAX 64
#define NAME_MAX_  200

struct row {
	char name[NAME_MAX_];
	uint64_t bytes, local;
	bool complete;
};

struct top {
	uint64_t seconds, count; /* count 0: for ever */
	bool json, screen;
	Flc__StatusResponse *last;
	struct row rows[IMAGES_MAX];
	size_t n;
	struct termios old;
};

/* --- the terminal ----------------------------------------------------------------------------- */

static void screen_on(struct top *t)
{
	struct termios raw;

	if (!t->screen || tcgetattr(STDIN_FILENO, &t->old) < 0) {
		t->screen = false;
		return;
	}
	raw = t->old;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VSUSP] = raw.c_cc[VQUIT] = _POSIX_VDISABLE; /* would leave the screen so */
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	fputs(SCREEN_ON, stdout);
}

static void screen_off(struct top *t)
{
	if (!t->screen)
		return;
	fputs(SCREEN_OFF, stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSANOW, &t->old);
}

/* Sleeps; true: q was typed. */
static may_suspend bool pause_or_quit(struct top *t)
{
	unsigned ms = (unsigned)t->seconds * 1000;
	char c = 0;

	if (!t->screen)
		return task_sleep_ms(ms) < 0;
	if (io_poll(STDIN_FILENO, POLLIN, ms) > 0 && read(STDIN_FILENO, &c, 1) == 1)
		return c == 'q' || c == 'Q' || c == 4;
	return task_cancelled();
}

/* --- one picture ------------------------------------------------------------------------------ */

static int on_images(void *arg, void *msg)
{
	const Flc__ImagesResponse *m = msg;
	struct top *t = arg;

	for (size_t i = 0; i < m->n_images && t->n < IMAGES_MAX; i++) {
		const Flc__Image *im = m->images[i];
		struct row *r = &t->rows[t->n];

		if (!im->lazy)
			continue;
		snprintf(r->name, sizeof(r->name), "%s", im->name);
		r->bytes = im->bytes;
		r->local = im->bytes_local;
		r->complete = im->complete;
		t->n++;
	}
	return 0;
}

static void print_images(const struct top *t)
{
	static const struct out_column columns[] = {
		{"IMAGE", OUT_GIVES}, {"SIZE", OUT_RIGHT}, {"LOCAL", OUT_RIGHT}};
	struct out_table *table;
	unsigned room = out_height() > 16 ? out_height() - 16 : 4;
	size_t shown = 0;

	if (!t->n)
		return;
	table = out_table_new(columns, array_size(columns), true);
	for (int complete = 0; complete < 2; complete++) { /* those under way first */
		for (size_t i = 0; i < t->n && (!t->screen || shown < room); i++) {
			char size[OUT_NUMBER_MAX], local[OUT_NUMBER_MAX];

			if (t->rows[i].complete != complete)
				continue;
			out_cell(table, t->rows[i].name);
			out_cell(table, out_size(t->rows[i].bytes, size));
			out_cell(table, out_percent(t->rows[i].local, t->rows[i].bytes, local));
			shown++;
		}
	}
	printf("\n");
	out_table_end(table);
}

static void picture(struct top *t, const Flc__StatusResponse *s)
{
	uint64_t ms = t->last && s->uptime_ms > t->last->uptime_ms
			      ? s->uptime_ms - t->last->uptime_ms
			      : 0;
	struct out_table *facts;

	if (t->json) {
		status_json(s);
		return;
	}
	if (t->screen)
		fputs(HOME REST_GONE, stdout);
	facts = out_facts_new(false);
	status_facts(facts, s, ms ? t->last : NULL, ms);
	out_table_end(facts);
	print_images(t);
	if (!t->screen)
		printf("\n");
}

/* Without containerd there are no images to tell of. */
static may_suspend int look(struct client *c, struct top *t)
{
	Flc__ImagesRequest images = FLC__IMAGES_REQUEST__INIT;
	Flc__Empty req = FLC__EMPTY__INIT;
	Flc__StatusResponse *s;
	int r = client_call(c, CONTROL_METHOD("Status"), &req, &flc__status_response__descriptor,
			    CLIENT_TIMEOUT_MS, &s);

	if (r < 0)
		return r;
	t->n = 0;
	if (!t->json &&
	    client_stream(c, CONTROL_METHOD("Images"), &images, &flc__images_response__descriptor,
			  CLIENT_TIMEOUT_MS, on_images, t) < 0)
		t->n = 0;
	picture(t, s);
	fflush(stdout);
	client_free(t->last);
	t->last = s;
	return ferror(stdout) ? client_fail(c, -EPIPE, "the output cannot be written") : 0;
}

static may_suspend int run(struct client *c, void *arg)
{
	struct top *t = arg;
	int r = 0;

	screen_on(t);
	for (uint64_t i = 0; r == 0 && (!t->count || i < t->count); i++) {
		if (i && pause_or_quit(t))
			break;
		r = client_reconnect(c);
		if (r == 0)
			r = look(c, t);
	}
	screen_off(t);
	client_free(t->last);
	return r;
}

int cmd_top(int argc, char **argv)
{
	const char *address = options_address();
	struct top t = {.seconds = 1};
	const struct option_spec specs[] = {
		{"interval", 'i', OPTION_NUMBER, &t.seconds, "SECONDS", "between two looks (1)"},
		{"count", 'c', OPTION_NUMBER, &t.count, "N", "end after N looks"},
		OPTION_ADDRESS(&address),
		OPTION_JSON(&t.json),
	};
	const struct options o = {
		.command = "top",
		.text = "Shows the daemon's status live, with rates; q ends it. Not on a\n"
			"terminal it prints one block after the other.",
		.specs = specs,
		.n = array_size(specs),
	};
	int r = options_parse(&o, argc, argv);

	if (r != OPTIONS_GO)
		return r;
	if (t.seconds > 3600)
		return out_misuse("top", "--interval is 3600 at most");
	t.screen = isatty(STDIN_FILENO) && out_terminal(STDOUT_FILENO) && !t.json;
	return client_run("top", address, run, &t);
}
