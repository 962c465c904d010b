#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
# Every command has a page, which has the options that --help has and no others; pages are clean and fit
# a terminal; completion offers what there is.
set -u
BUILD=$(realpath "${BUILD:-build}")
bad=0
say() { echo "$*"; bad=1; }
export PATH=$BUILD:$PATH COLUMNS=80 MANWIDTH=80

options() { grep -oE -- '(^|[ ,(])--[a-z][a-z-]+' | grep -oE -- '--[a-z-]+' | sort -u; }

page_options() { # those that begin a paragraph of OPTIONS or FLAGS
	sed -n '/^.SH \(OPTIONS\|FLAGS\)/,/^.SH EXIT\|^.SH SETTINGS/p' "$1" | sed 's/\\-/-/g; s/\\f.//g' |
		grep -A 1 -x '.TP' | grep -oE -- '--[a-z][a-z-]+' | sort -u
}

commands=$(firstlight --help | sed -n 's/^  \([a-z][a-z-]*\)  *.*/\1/p')
[ "$(echo "$commands" | wc -l)" -gt 10 ] || say "firstlight --help lists no commands"
for command in $commands; do
	page=tools/man/firstlight-$command.1
	[ -e "$page" ] || { say "no page for $command"; continue; }
	firstlight "$command" --help >/tmp/help.$$ || say "$command --help fails"
	has=$(sed -n '/^  /p' /tmp/help.$$ | options)
	told=$(page_options "$page")
	[ "$has" = "$told" ] || say "$page: options differ: $(diff <(echo "$has") <(echo "$told") | tr '\n' ' ')"
	grep -qF "firstlight\\-${command//-/\\-}" tools/man/firstlight.1 || say "firstlight.1 does not name $command"
	sed 's/…/./g' /tmp/help.$$ | awk -v c="$command" 'length > 80 { print c " --help: a line of " length; n++ } END { exit !n }' && bad=1
done
for page in tools/man/firstlight-*.1; do
	command=${page##*/firstlight-}
	grep -qx "${command%.1}" <<<"$commands" || say "$page: there is no such command"
done
has=$(firstlightd --help | options)
told=$(page_options tools/man/firstlightd.8)
[ "$has" = "$told" ] || say "firstlightd.8: flags differ: $(diff <(echo "$has") <(echo "$told") | tr '\n' ' ')"
while read -r key; do
	grep -q "^.B $key\$" tools/man/firstlightd.8 || say "firstlightd.8: no setting $key"
done < <(sed -n 's/^| `\([a-z]*\.[a-z_]*\)` .*/\1/p' README.md)
if type -P man >/dev/null && type -P groff >/dev/null; then
	for page in tools/man/*.[18]; do
		out=$(man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
		[ -z "$out" ] || say "$page: $out"
	done
else
	echo "note: no man here, warnings are not looked for"
fi
rm -f /tmp/help.$$

bash -n tools/completion/firstlight.bash || say "the completion does not parse"
. tools/completion/firstlight.bash
complete_words() {
	COMP_WORDS=("$@")
	COMP_CWORD=$(($# - 1))
	_firstlight
	echo "${COMPREPLY[*]}"
}
[ "$(complete_words firstlight pu)" = pull ] || say "completion of pu: $(complete_words firstlight pu)"
[[ "$(complete_words firstlight pull --pl)" = "--platform --plain-http" ]] || say "completion of --pl: $(complete_words firstlight pull --pl)"
[[ "$(complete_words firstlight pull --platform linux/am)" = linux/amd64 ]] || say "completion of linux/am"
[[ "$(complete_words firstlight events --kind read)" = read-failed ]] || say "completion of read"
[[ " $(complete_words firstlight help '') " = *" doctor "* ]] || say "completion of help"

# Names come from outside: none of them is run, expanded or offered where a shell would read more in it.
ran=/tmp/ran.$$
rm -f "$ran"
_firstlight_ask() { printf '[{"name":"$(touch %s)"},{"name":"*"},{"name":"k/1"}]\n' "$ran"; }
[ "$(complete_words firstlight inspect '')" = "k/1 k/1" ] || say "completion of keys: $(complete_words firstlight inspect '')"
[ ! -e "$ran" ] || say "completion has run a name"
rm -f "$ran"
exit $bad
