# bash completion for firstlight                                        -*- shell-script -*-
# SPDX-License-Identifier: Apache-2.0
#
# Commands and options are what the program's own --help says; images, snapshots and namespaces are
# asked of the daemon, which has a second to answer.

_firstlight_ask() {
	timeout 1 firstlight "$@" 2>/dev/null
}

_firstlight_commands() {
	firstlight --help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\)  *.*/\1/p'
}

_firstlight_options() {
	firstlight "$1" --help 2>/dev/null | grep -oE -- '^ +(-[a-z], )?--[a-z-]+' | grep -oE -- '--[a-z-]+'
}

_firstlight_images() {
	_firstlight_ask images --json | grep -oE '"name":"[^"]*"' | cut -d '"' -f 4
}

_firstlight_keys() {
	_firstlight_ask snapshots --json | grep -oE '"name":"[^"]*"' | cut -d '"' -f 4
}

_firstlight_profiles() {
	_firstlight_ask profile list --json | grep -oE '"(repository|executable)":"[^"]*"' | cut -d '"' -f 4 | sort -u
}

_firstlight_namespaces() {
	_firstlight_ask images --json | grep -oE '"namespace":"[^"]*"' | cut -d '"' -f 4 | sort -u
	echo default k8s.io
}

_firstlight() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]-} words=""
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		words="$(_firstlight_commands) help --help --version"
	else
		case $before in
		--address | -a | --containerd | --root | --merge | --check | --output | --config | --containerd-config)
			[[ $command = containerd-config && $before = --containerd ]] || {
				mapfile -t COMPREPLY < <(compgen -f -- "$word")
				return
			}
			words="1.6 1.7 2.0 2.1"
			;;
		--namespace | -n) words=$(_firstlight_namespaces) ;;
		--platform) words="all linux/amd64 linux/arm64 linux/arm/v7 linux/386 linux/ppc64le linux/s390x linux/riscv64" ;;
		--format) words="zstd:chunked estargz" ;;
		--kind | -k) words="layer-lazy layer-ordinary layer-complete layer-removed read-failed pull-ready pull-failed" ;;
		*)
			if [[ $word = -* ]]; then
				words=$(_firstlight_options "$command")
			else
				case $command in
				help) words=$(_firstlight_commands) ;;
				pull | record) words=$(_firstlight_images) ;;
				profile)
					words="list show export import rm"
					((COMP_CWORD < 3)) || words=$(_firstlight_profiles)
					;;
				inspect) words="$(_firstlight_images) $(_firstlight_keys)" ;;
				snapshots) words="kind==active kind==view kind==committed" ;;
				esac
			fi
			;;
		esac
	fi
	# Not compgen -W: it expands its words, and names come from outside. Those that a shell would
	# not take as they are, are not offered.
	mapfile -t COMPREPLY < <(tr -s ' ' '\n' <<<"$words" | grep -xE -- '[A-Za-z0-9._/:@=+,-]+' |
		while IFS= read -r name; do
			[[ $name != "$word"* ]] || printf '%s\n' "$name"
		done)
	# Names hold colons, which end words here.
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$word"
	fi
}

complete -F _firstlight firstlight
