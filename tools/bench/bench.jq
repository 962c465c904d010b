# SPDX-License-Identifier: Apache-2.0
# What the tables of the benchmarks share: jq -L tools/bench, include "bench";

def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor]
	else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def mean_of_ratios: if length == 0 then null else (map(log) | add / length | exp) end;
# The values' own order.
def uniq: reduce .[] as $v ([]; if index([$v]) then . else . + [$v] end);
def right($n): tostring | if length < $n then " " * ($n - length) + . else . end;
def left($n): tostring | if length < $n then . + " " * ($n - length) else . end;
def fixed($digits): if . < 0 then "-" + (-. | fixed($digits)) else
	pow(10; $digits) as $p | (. * $p | round) as $n
	| if $digits == 0 then $n | tostring
	  else ($n / $p | floor | tostring) + "." + ($n % $p | tostring | ("0" * ($digits - length)) + .) end end;
# Three digits, as people write them.
def num: if . >= 100 then round | tostring
	elif . >= 10 then (. * 10 | round) / 10 | tostring
	else (. * 100 | round) / 100 | tostring end;
def range: "\(min | num)-\(max | num)";
def spread: "\(median | num) [\(range)]";
