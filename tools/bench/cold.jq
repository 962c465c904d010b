# SPDX-License-Identifier: Apache-2.0
# The table of cold.sh from its runs.

def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor]
	else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def pad($n): tostring | . + (" " * ([$n - length, 0] | max));
def lpad($n): tostring | (" " * ([$n - length, 0] | max)) + .;
def fixed($digits): pow(10; $digits) as $p | (. * $p | round) as $n
	| if $digits == 0 then $n | tostring
	  else ($n / $p | floor | tostring) + "." + ($n % $p | tostring | ("0" * ($digits - length)) + .) end;

def cell: {
	first: (map(.first_line_ms) | median), pulled: (map(.pulled_ms) | median),
	least: (map(.first_line_ms) | min), most: (map(.first_line_ms) | max),
	bytes: (map(.received_bytes) | median), n: length,
	remote: (map(.remote) | min), layers: (.[0].layers | length)};

def row($image; $mode; $c; $base): "  " + ($image | pad(12)) + ($mode | pad(17))
	+ ($c.first / 1000 | fixed(2) | lpad(8)) + "  "
	+ (($c.least / 1000 | fixed(2)) + "-" + ($c.most / 1000 | fixed(2)) | pad(13))
	+ ($c.pulled / 1000 | fixed(2) | lpad(8)) + ($c.bytes / 1e6 | fixed(1) | lpad(9))
	+ ("\($c.remote)/\($c.layers)" | lpad(8))
	+ (if $base then ($base.first / $c.first | fixed(2)) + "x" else "" end | lpad(9));

def mean_row($mode; $ratios): "  " + ("geom. mean" | pad(12)) + ($mode | pad(17))
	+ ((($ratios | map(log) | add / length | exp) | fixed(2)) + "x" | lpad(63 - 8));

group_by(.link)[] | . as $runs
| ([$runs[].mode] | reduce .[] as $m ([]; if index([$m]) then . else . + [$m] end)) as $modes
| ([$runs[].image] | reduce .[] as $i ([]; if index([$i]) then . else . + [$i] end)) as $images
| (reduce ($runs | group_by([.image, .mode])[]) as $g ({}; .[$g[0].image][$g[0].mode] = ($g | cell))) as $cells
| "\nCold start, link \($runs[0].link | sub(":"; " ms, ")) Mbit/s (measured: \($runs[0].measured)), medians of \([$cells[][].n] | min)",
  "  " + ("image" | pad(12)) + ("mode" | pad(17)) + ("first" | lpad(8)) + "  " + ("range (s)" | pad(13))
	+ ("pulled" | lpad(8)) + ("MB" | lpad(9)) + ("remote" | lpad(8)) + ("faster" | lpad(9)),
  ($images[] as $i | $modes[] as $m | select($cells[$i][$m]) | row($i; $m; $cells[$i][$m]; $cells[$i][$base])),
  ($modes[] as $m | select($m != $base)
	| mean_row($m; [$images[] | select($cells[.][$m] and $cells[.][$base]) | $cells[.][$base].first / $cells[.][$m].first]))
