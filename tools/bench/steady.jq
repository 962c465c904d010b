# SPDX-License-Identifier: Apache-2.0
# The table of steady.sh from its samples (jq -s), at most 100 columns.

include "bench";

def ratio: (. * 1000 | round) / 1000 | tostring;

def title: {"read-4k": "sequential read, 4 KiB", "read-128k": "sequential read, 128 KiB",
	"randread-4k": "random read, 4 KiB", "randread-128k": "random read, 128 KiB",
	"mmap-4k": "mmap, sequential, 4 KiB", "fuse-read-4k": "passthrough, sequential, 4 KiB",
	"fuse-read-128k": "passthrough, sequential, 128 KiB", "fuse-randread-4k": "passthrough, random, 4 KiB",
	"find": "find, every inode", "stat": "stat, every file", "open": "open + close, every file",
	"slurp": "open, read, close, every file", "exec": "exec of small programs",
	"append": "first write to small files", "write-128k": "a new file, 128 KiB, synced"}[.] // .;
def unit: if test("4k|128k") then "MB/s" else "1/s" end;

def cell: (map(select(.on == "firstlight")) | sort_by(.round) | map(.rate)) as $f
	| (map(select(.on == "overlayfs")) | sort_by(.round) | map(.rate)) as $o
	| ([$f, $o] | transpose | map(.[0] / .[1])) as $r
	| "\($f | median | num | right(11)) \($o | median | num | right(11))  \(.[0].test | unit | left(5))"
	  + "\($r | median | ratio | right(7))  [\($r | min | ratio)-\($r | max | ratio)]";

. as $all
| ([$all[].test] | reduce .[] as $t ([]; if index([$t]) then . else . + [$t] end)) as $tests
| ("hot", "cold") as $cache
| "", "\("A complete lazy image, \($cache)" | left(36)) \("firstlight" | right(11)) \("overlayfs" | right(11))         ratio  [range]",
  ($tests[] as $t | $all | map(select(.test == $t and .cache == $cache)) | select(length > 0)
   | "\($t | title | left(36)) \(cell)"),
  (if $cache == "cold" then
	"", "Medians of \($all | map(.round) | max) rounds; ratio: firstlight/overlayfs of each round, more is better.",
	"Two files of \($large) MiB, \($files) of 1 to 16 KiB. Linux \($kernel), \($cpus) cpus, load at the end \($load)."
   else empty end)
