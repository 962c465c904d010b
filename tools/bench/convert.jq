# SPDX-License-Identifier: Apache-2.0
# The table of convert.sh from its runs (jq -s), at most 100 columns.
include "bench";

def cell: {
	s: (map(.seconds) | median), least: (map(.seconds) | min), most: (map(.seconds) | max),
	cpu: (map(.cpu_seconds) | median), size: (map(.size) | median), peak: (map(.peak_kb) | median)};

def row($image; $by; $c; $ratio): "  " + ($image | left(10)) + ($by | left(12)) + ($c.s | fixed(2) | right(8)) + "  "
	+ (($c.least | fixed(2)) + "-" + ($c.most | fixed(2)) | left(13)) + ($c.cpu | fixed(2) | right(8))
	+ ($c.size / 1e6 | fixed(1) | right(9)) + ($c.peak / 1024 | fixed(0) | right(9)) + ($ratio | right(20));

# Of each run: how many times as long the other took.
def ratios($format; $image): map(select(.format == $format and .image == $image))
	| group_by(.run) | map((map(select(.by == "ctr-remote"))[0].seconds) / (map(select(.by == "firstlight"))[0].seconds));

. as $all
| ($all | map(.format) | uniq)[] as $format
| ($all | map(.image) | uniq) as $images
| "\nConversion to \($format), medians of \($all | map(.run) | max) runs",
  "  " + ("image" | left(10)) + ("by" | left(12)) + ("seconds" | right(8)) + "  " + ("range" | left(13)) + ("cpu s" | right(8))
	+ ("MB" | right(9)) + ("peak MiB" | right(9)) + ("times as fast" | right(20)),
  ($images[] as $image
   | ($all | ratios($format; $image)) as $r
   | ["ctr-remote", "firstlight"][] as $by
   | row($image; $by; ($all | map(select(.format == $format and .image == $image and .by == $by)) | cell);
	if $by == "firstlight" then "\($r | median | fixed(2)) [\($r | min | fixed(2))-\($r | max | fixed(2))]" else "" end)),
  "  geometric mean: \($images | map(. as $image | $all | ratios($format; $image) | median | log) | add / length | exp | fixed(2))",
  (if $format == ($all | map(.format) | uniq)[-1]
   then "", "Linux \($kernel), \($cpus) cpus, load at the end \($load)." else empty end)
