# SPDX-License-Identifier: Apache-2.0
# The table of convert.sh from its runs (jq -s), at most 100 columns.

def median: sort | if length % 2 == 1 then .[length / 2 | floor]
	else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def pad($n): tostring | . + (" " * ([$n - length, 0] | max));
def lpad($n): tostring | (" " * ([$n - length, 0] | max)) + .;
def fixed($digits): pow(10; $digits) as $p | (. * $p | round) as $n
	| if $digits == 0 then $n | tostring
	  else ($n / $p | floor | tostring) + "." + ($n % $p | tostring | ("0" * ($digits - length)) + .) end;
def words: reduce .[] as $w ([]; if index([$w]) then . else . + [$w] end);

def cell: {
	s: (map(.seconds) | median), least: (map(.seconds) | min), most: (map(.seconds) | max),
	cpu: (map(.cpu_seconds) | median), size: (map(.size) | median), peak: (map(.peak_kb) | median)};

def row($image; $by; $c; $ratio): "  " + ($image | pad(10)) + ($by | pad(12)) + ($c.s | fixed(2) | lpad(8)) + "  "
	+ (($c.least | fixed(2)) + "-" + ($c.most | fixed(2)) | pad(13)) + ($c.cpu | fixed(2) | lpad(8))
	+ ($c.size / 1e6 | fixed(1) | lpad(9)) + ($c.peak / 1024 | fixed(0) | lpad(9)) + ($ratio | lpad(20));

# Of each run: how many times as long the other took.
def ratios($format; $image): map(select(.format == $format and .image == $image))
	| group_by(.run) | map((map(select(.by == "ctr-remote"))[0].seconds) / (map(select(.by == "firstlight"))[0].seconds));

. as $all
| ($all | map(.format) | words)[] as $format
| ($all | map(.image) | words) as $images
| "\nConversion to \($format), medians of \($all | map(.run) | max) runs",
  "  " + ("image" | pad(10)) + ("by" | pad(12)) + ("seconds" | lpad(8)) + "  " + ("range" | pad(13)) + ("cpu s" | lpad(8))
	+ ("MB" | lpad(9)) + ("peak MiB" | lpad(9)) + ("times as fast" | lpad(20)),
  ($images[] as $image
   | ($all | ratios($format; $image)) as $r
   | ["ctr-remote", "firstlight"][] as $by
   | row($image; $by; ($all | map(select(.format == $format and .image == $image and .by == $by)) | cell);
	if $by == "firstlight" then "\($r | median | fixed(2)) [\($r | min | fixed(2))-\($r | max | fixed(2))]" else "" end)),
  "  geometric mean: \($images | map(. as $image | $all | ratios($format; $image) | median | log) | add / length | exp | fixed(2))",
  (if $format == ($all | map(.format) | words)[-1]
   then "", "Linux \($kernel), \($cpus) cpus, load at the end \($load)." else empty end)
