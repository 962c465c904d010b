#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
#
# Damaged database files: the daemon refuses to start, says why, and destroys nothing; or it serves all
# that it has acknowledged.
#
# Not here, because RocksDB takes them for a write that was cut short: a manifest that ends after one of
# its records, a log that does, and a damaged length of a record in the log's last 32 KiB. The last is
# noticed where the records that were lost had directories with files.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"

say "a root with tables and a log"
start
snaps fill a 20 100 >"$T/acks"
stop
start
snaps fill b 20 100 >>"$T/acks"
snaps prepare full >>"$T/acks"
dirs=("$ROOT"/snapshots/*/fs)
for dir in "${dirs[@]}"; do
	[[ $dir -ot ${newest_dir-$dir} ]] || newest_dir=$dir
done
echo "what a client has written" >"$newest_dir/file"
snaps commit layer full >>"$T/acks"
kill -KILL "$keeper" "$(worker)"
wait_until 5 not running "$keeper"
rm -f "$SOCKET"
umount -l "$ROOT/fill" || true # a dead keeper leaves it
mv "$ROOT" "$T/good"
DB=$ROOT/db

# newest PATTERN: a file of the database, by its number.
newest() {
	local all
	mapfile -t all < <(find "$T/good/db" -name "$1" -size +0 | sort)
	((${#all[@]} > 0)) || fail "no $1 in the database: nothing is tested"
	echo "$DB/${all[-1]##*/}"
}

# garble FILE OFFSET BYTES
garble() { head -c "$3" /dev/zero | tr '\0' Z | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

size() { stat -c %s "$1"; }

half() { truncate -s $(($(size "$1") / 2)) "$1"; }

garble_half() { garble "$1" $(($(size "$1") / 2)) 64; }

# try EXPECTED NAME COMMAND…: damages a copy of the root. EXPECTED: refuses or serves.
try() {
	local expected=$1 name=$2 outcome
	shift 2
	rm -rf "$ROOT"
	cp -a "$T/good" "$ROOT"
	"$@"
	: >"$LOG"
	launch
	wait_until 30 over || fail "$name: neither ready nor ended"
	if is_ready 1; then
		outcome=serves
		snaps check <"$T/acks" 2>"$T/check" || fail "$name: $(cat "$T/check")"
		stop
	else
		outcome=refuses
		ended_badly 1
		grep -q ' error worker: cannot .* error="' "$LOG" || fail "$name: no clear error"
		untouched "$name"
	fi
	say "$name: $outcome: $(sed -n 's/.* cannot .* error="\(.*\)"$/\1/p' "$LOG" | tail -n 1)"
	[[ $expected == "$outcome" ]] || fail "$name: $outcome, not $expected"
}

over() { is_ready 1 || not running "$keeper"; }

# untouched NAME: with its good database the root serves everything again.
untouched() {
	rm -rf "$DB"
	cp -a "$T/good/db" "$DB"
	start
	snaps check <"$T/acks" 2>"$T/check" || fail "$1: something was destroyed: $(cat "$T/check")"
	[[ -z $(ls -A "$ROOT/trash") ]] || fail "$1: something was moved to the trash"
	stop
}

try serves "nothing" true
try refuses "CURRENT is gone" rm "$DB/CURRENT"
try refuses "CURRENT is empty" truncate -s 0 "$DB/CURRENT"
try refuses "CURRENT is garbage" garble "$DB/CURRENT" 0 16
try refuses "the database is gone" rm -r "$DB"
try refuses "the database is empty" find "$DB" -type f -delete
manifest=$(newest 'MANIFEST-*') table=$(newest '*.sst') log=$(newest '*.log')
try refuses "the manifest is garbled" garble_half "$manifest"
try refuses "the manifest is gone" rm "$manifest"
try refuses "a table is cut" half "$table"
try refuses "a table is garbled" garble "$table" 20 64
try refuses "a table is gone" rm "$table"
try refuses "the log is garbled" garble_half "$log"
try refuses "the log's first record is garbled" garble "$log" 20 20
long_record() { printf '\377\377' | dd of="$log" bs=1 seek=4 conv=notrunc status=none; }
try refuses "the log's first record has a wrong length" long_record
try refuses "the log's last record is garbled" garble "$log" $(($(size "$T/good/db/${log##*/}") - 20)) 10
try serves "the log has a torn record at its end" garble "$log" "$(size "$T/good/db/${log##*/}")" 200
try serves "the log has zeros at its end" truncate -s +5000 "$log"
say "done"
