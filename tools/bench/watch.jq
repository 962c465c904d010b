# SPDX-License-Identifier: Apache-2.0
# The table of watch.sh from its samples (jq -s).

include "bench";

def ratio: (. * 10000 | round) / 10000 | tostring;

def title: {"randread-4k": "random read of an object, 4 KiB", "other-4k": "random read of another file, 4 KiB",
	"exec": "exec of small programs", "first-read": "first read of small objects"}[.] // .;

# Mean and its standard error.
def mean_error: length as $n | (add / $n) as $m
	| "\($m | ratio)±\((map(. - $m | . * .) | add / $n / ([$n - 1, 1] | max) | sqrt) | ratio)";

def of($mode): map(select(.mode == $mode)) | sort_by(.round) | map(.rate);

def against($base; $mode): [of($base), of($mode)] | transpose | map(.[1] / .[0])
	| "\(mean_error | right(14)), \(median | ratio | right(7)) [\(sort | .[length / 4 | floor] | ratio)-\(sort | .[length * 3 / 4 | floor] | ratio)]";

. as $all
| "", "\("Watching accesses, in a second" | left(34)) \("before" | right(9)) \("off" | right(9)) \("on" | right(9))   off/before, on/before: mean, median [middle half]",
  ([$all[].test] | uniq[] as $t | $all | map(select(.test == $t))
   | "\($t | title | left(34)) \(of("before") | median | num | right(9)) \(of("off") | median | num | right(9))"
	+ " \(of("on") | median | num | right(9))  \(against("before"; "off"))  \(against("before"; "on"))"),
  "", "\($all | map(.round) | max) rounds; ratios of each round, more is better.",
  "Linux \($kernel), \($cpus) cpus, load at the end \($load)."
