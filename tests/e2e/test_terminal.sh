#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# The command on a terminal of 80 columns and 24 lines: the password that is not shown, the bar, the live
# view, and what is left when a signal ends them: status, echo, cursor, screen, and nothing under way.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"
. "$(dirname "$0")/faults.sh"

FIRSTLIGHT=$BUILD/firstlight
export FIRSTLIGHT_ADDRESS=$FIRSTLIGHT_SOCKET
need jq tmux curl
[[ -x $BUILD/go/badregistry ]] || fail "$BUILD/go/badregistry is not built"

export TMUX_TMPDIR=$T
terminals=0

tm() {
	tmux -L "t$terminals" -f /dev/null "$@"
}

# open_terminal [NAME=VALUE...]: a shell at which `firstlight` is ours.
open_terminal() {
	((terminals == 0)) || tm kill-server
	((++terminals)) # a server that ends still has its socket
	tm new-session -d -x 80 -y 24 "env PATH=$BUILD:$PATH $* PS1=READY: bash --norc --noprofile -i"
	wait_until 10 shows '^READY:' || fail "no shell in the terminal"
}

screen() {
	tm capture-pane -p
}

shows() {
	screen | grep -q -- "$1"
}

typed() {
	tm send-keys -l -- "$1"
	tm send-keys Enter
}

# ends_with STATUS: what runs there ends so, and the terminal echoes, shows its cursor, and is no other screen.
ends_with() {
	wait_until 20 shows "^status=$1\$" || fail "no status $1: $(screen)"
	[[ $(tm display-message -p '#{cursor_flag} #{alternate_on}') == "1 0" ]] || fail "no cursor, or another screen"
	tm send-keys -R
	tm clear-history
	typed 'clear; stty -a | grep -o " -*\(echo\|icanon\)\( \|$\)" | tr -d "\n"; echo .'
	wait_until 5 shows '^ icanon .* *echo .*\.$' || fail "the terminal's mode is changed: $(screen)"
	typed clear
	wait_until 5 not shows icanon || fail "the screen is not cleared"
}

# signal_it NAME PATTERN: to the one process below the terminal whose command line matches.
signal_it() {
	local pid
	pid=$(pgrep -f -- "^firstlight $2") || fail "nothing runs as $2: $(screen)"
	kill "-$1" "$pid"
}

# bar_fits COLUMNS: it is whole, and the last column is free.
bar_fits() {
	local line
	line=$(screen | grep '^layers ' | tail -n 1)
	((${#line} < $1)) && [[ $line =~ ^layers\ \ .*\ of\ .*[BsKMG]i?B?(/s)?(\ left)?.*$ ]]
}

nothing_pulled() {
	[[ $("$FIRSTLIGHT" status --json | jq .pulls) == 0 ]]
}

start_registry
start_badregistry
hosts "$BAD" "$BAD"
firstlightd_args+=(--containerd "$CONTAINERD_SOCKET")
start_firstlightd
start_containerd
push_image "$(lazy_image small esgz)" t/lazy:1
push_image "$(lazy_image sink org)" t/slow:1

say "the password"
open_terminal
for signal in C-c TERM HUP C-z; do
	typed "firstlight pull --user me $BAD/t/lazy:1; echo status=\$?"
	wait_until 10 shows '^Password of me:$' || fail "no prompt: $(screen)"
	tm send-keys -l sesame
	case $signal in
	C-c) tm send-keys C-c; status=130 ;;
	TERM) signal_it TERM "pull --user me"; status=143 ;;
	HUP) signal_it HUP "pull --user me"; status=129 ;;
	C-z) tm send-keys C-z Enter; status=0 ;; # a letter of the password; the registry asks for none
	esac
	if [[ $signal != C-z ]]; then
		shows sesame && fail "the password is shown"
	else
		wait_until 20 shows 'ready after' || fail "no pull after the password: $(screen)"
	fi
	ends_with $status
done

say "the bar"
faulty "mode=ok&rate=200000" >/dev/null
typed "firstlight pull $BAD/t/slow:1; echo status=\$?"
wait_until 20 shows '^layers  \[[#.]*\]  .* of ' || fail "no bar: $(screen)"
screen | grep -c '^layers  ' | grep -qx 1 || fail "more than one bar: $(screen)"
tm resize-window -x 40 -y 24
wait_until 10 bar_fits 40 || fail "no whole bar in 40 columns: $(screen)" # what was drawn before is folded
for ((i = 0; i < 10; i++)); do
	bar_fits 40 || bar_fits 40 || fail "the bar in 40 columns says: $(screen)" # once it may be half drawn
	sleep 0.15
done
tm resize-window -x 80 -y 24
tm send-keys C-c
ends_with 130
wait_until 20 nothing_pulled || fail "the daemon goes on with the pull"
typed "firstlight pull $BAD/t/slow:1; echo status=\$?"
wait_until 20 shows '^layers  ' || fail "no bar: $(screen)"
signal_it TERM "pull $BAD"
ends_with 143
wait_until 20 nothing_pulled || fail "the daemon goes on with the pull"
faulty "mode=ok" >/dev/null
typed "firstlight pull $BAD/t/slow:1; echo status=\$?"
wait_until 60 shows 'ready after' || fail "no pull after it was interrupted: $(screen)"
screen | grep -q '^layers ' && fail "the bar is left: $(screen)"
ends_with 0

say "the live view"
for signal in q C-c TERM HUP C-z; do
	typed "firstlight top; echo status=\$?"
	wait_until 10 shows '^up .*resident' || fail "top shows: $(screen)"
	[[ $(tm display-message -p '#{cursor_flag} #{alternate_on}') == "0 1" ]] || fail "top is not on another screen"
	case $signal in
	C-z) tm send-keys C-z q; status=0 ;;
	TERM) signal_it TERM top; status=143 ;;
	HUP) signal_it HUP top; status=129 ;;
	C-c) tm send-keys C-c; status=130 ;;
	q) tm send-keys q; status=0 ;;
	esac
	ends_with $status
done

say "a terminal that can do nothing"
open_terminal TERM=dumb
typed "firstlight top --count 2; echo status=\$?"
wait_until 20 shows '^status=0' || fail "top on a dumb terminal: $(screen)"
tm pipe-pane "cat >$T/piped"
typed "firstlight pull $BAD/t/slow:1; firstlight doctor --root $FIRSTLIGHT_ROOT --containerd $CONTAINERD_SOCKET; echo status=\$?"
wait_until 60 grep -q '^status=' "$T/piped" || fail "no end on a dumb terminal: $(screen)"
tm pipe-pane
sed '1d' "$T/piped" | grep -v READY | grep -q $'\033' && fail "escapes on a dumb terminal: $(cat -v "$T/piped")"
open_terminal NO_COLOR=1
tm pipe-pane "cat >$T/piped"
typed "firstlight doctor --root $FIRSTLIGHT_ROOT --containerd $CONTAINERD_SOCKET; echo status=\$?"
wait_until 60 grep -q '^status=' "$T/piped" || fail "doctor does not end: $(screen)"
tm pipe-pane
grep -q $'\033\[3[123]m' "$T/piped" && fail "colours in spite of NO_COLOR"
tm kill-server
stop_firstlightd
