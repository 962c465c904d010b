// SPDX-License-Identifier: Apache-2.0
/* The command of an image. Owns nothing. */
#include "image/command.h"

#include <string.h>

#include "base/json.h"

#include "base/banned.h"

#define USUAL_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static void put_word(struct command *c, struct str word)
{
	if (!word.len || word.p[0] == '-' || c->words_n == COMMAND_WORDS_MAX)
		return;
	for (size_t i = 0; i < c->words_n; i++) {
		if (str_eq(c->words[i], word))
			return;
	}
	c->words[c->words_n++] = word;
}

/* What a shell takes for the end of a word, or for part of one that names no file. */
static bool is_between(char c)
{
	return (unsigned char)c <= ' ' || strchr("|&;<>()$`\"'*?[]{}=#~,:\\", c);
}

static void put_argument(struct command *c, struct str s)
{
	size_t from = 0;

	for (size_t i = 0; i <= s.len; i++) {
		if (i < s.len && !is_between(s.p[i]))
			continue;
		put_word(c, (struct str){s.p + from, i - from});
		from = i + 1;
	}
}

static void put_list(struct command *c, const struct json *list)
{
	if (!list || list->type != JSON_LIST)
		return;
	for (const struct json *j = list->first; j; j = j->next) {
		if (j->type == JSON_STRING)
			put_argument(c, j->text);
	}
}

int command_parse(struct str config, struct arena *a, struct command *ret, struct err *err)
{
	const struct json *c, *env;
	struct json *doc;
	int r = json_tree(config, a, &doc, err);

	if (r < 0)
		return err_wrap(err, r, "image config");
	*ret = (struct command){.path = STR(USUAL_PATH)};
	c = json_get(doc, "config");
	put_list(ret, json_get(c, "Entrypoint"));
	put_list(ret, json_get(c, "Cmd"));
	env = json_get(c, "Env");
	if (!env || env->type != JSON_LIST)
		return 0;
	for (const struct json *j = env->first; j; j = j->next) {
		if (j->type == JSON_STRING && str_starts(j->text, STR("PATH=")))
			ret->path = (struct str){j->text.p + 5, j->text.len - 5};
	}
	return 0;
}
