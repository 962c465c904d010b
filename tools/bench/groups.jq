# SPDX-License-Identifier: Apache-2.0
# Samples (jq -s) to groups: what is told in one table. A part of the benchmark is added by a function that
# makes rows of its samples: section, group (the table), unit, better (less or more), item (the table's
# line), mode (its column), value; plot, if there shall be one.
include "bench";

def row($section; $group; $unit; $better; $item; $mode; $value; $plot):
	select($value != null) | {$section, $group, $unit, $better, $item, $mode, $value, $plot};

def cold_rows:
	. as $s | "\(.link | sub(":"; " ms, ")) Mbit/s, \(.start)" as $g
	| def one($what; $unit; $value; $plot): row("Cold starts"; "\($g): \($what)"; $unit; "less"; $s.image; $s.mode; $value; $plot);
	  one("pull to ready"; "s"; .ready_ms / 1000; true),
	  one("pull to first line"; "s"; if .first_line_ms then .first_line_ms / 1000 else null end; false),
	  one("received until ready"; "MB"; .received_bytes / 1e6; false),
	  (select(.mode | startswith("curl") | not) | .mode = "needed" | row("Cold starts"; "\($g): received until ready"; "MB"; "less"; $s.image;
		"(needed)"; if .needed then .needed / 1e6 else null end; false)),
	  one("requests answered until ready"; ""; .requests; false),
	  one("processor time of daemons and client until ready"; "s"; if .cpu_ms then .cpu_ms / 1000 else null end; false),
	  one("memory of the daemons when ready (PSS)"; "MiB"; if .pss_kb then .pss_kb / 1024 else null end; false);

def steady_rows:
	row("All is here"; "complete image, \(.cache) caches, rates"; "MB/s or 1/s"; "more"; .test; .on; .rate; false);

def density_rows:
	. as $s
	| def one($what; $unit; $better; $value; $plot):
		row("Many containers"; "\(if $s.images == 1 then "one image" else "\($s.images) images" end): \($what)"; $unit; $better;
			"\($s.containers)"; $s.mode; $value; $plot);
	  one("memory of snapshotter and containerd (PSS)"; "MiB"; "less"; .pss_kb / 1024; true),
	  one("page cache, what is shared once"; "MiB"; "less"; .cache_kb / 1024; true),
	  one("kernel memory (inodes, dentries)"; "MiB"; "less"; .kernel_kb / 1024; false),
	  one("mounts"; ""; "less"; .mounts; false),
	  one("open files of the daemons"; ""; "less"; .fds; false),
	  one("starts a second"; "1/s"; "more"; .rate; false);

def snapshot_rows:
	. as $s
	| if .part == "cycle" then
		(if .used then "files written into each" else "calls only" end) as $how
		| row("Snapshots"; "Prepare, Commit, Remove: cycles a second, \($how)"; "1/s"; "more"; "\(.clients) clients"; .server; .rate; .used | not),
		  row("Snapshots"; "slowest of 100 cycles, \($how)"; "ms"; "less"; "\(.clients) clients"; .server; .latency.cycle.p99_us / 1000; false)
	  elif .part == "ops" then
		("Prepare", "View", "Commit", "Remove", "Mounts", "Stat", "List") as $op
		| row("Snapshots"; "one call at a time, \(if .present >= 1000 then "many" else "few" end) snapshots present"; "us"; "less"; $op; .server;
			$s.latency[$op].p50_us; false)
	  else empty end;

def chaos_rows:
	. as $s
	| def one($what; $unit; $value): row("Bad days"; $what; $unit; "less"; $s.fault; $s.mode; $value; false);
	  one("failed reads (no pull: all of them)"; ""; .failed_reads),
	  one("wrong reads"; ""; .wrong_reads),
	  one("longest read"; "ms"; if .bytes > 0 then .longest_ms else null end),
	  one("from the pull until all is read"; "s"; if .failed_reads == 0 then .seconds else null end);

def convert_rows:
	. as $s
	| def one($what; $unit; $value): row("Conversion"; "\($s.format): \($what)"; $unit; "less"; $s.image; $s.by; $value; false);
	  one("from a local image to a local image"; "s"; .seconds),
	  one("processor time"; "s"; .cpu_seconds),
	  one("size"; "MB"; .size / 1e6),
	  one("peak memory"; "MiB"; .peak_kb / 1024);

# Of all samples: how much slower than in the same round before the programs were loaded.
def watch_rows:
	[.[] | select(.bench == "watch" and (.failed | not))] | group_by([.test, .round])[]
	| (map(select(.mode == "before")) | .[0].rate) as $before | select($before)
	| .[] | select(.mode != "before")
	| row("Watching accesses"; "slower than with nothing loaded"; "%"; "less"; {"randread-4k": "random reads of an object, 4 KiB",
		"other-4k": "random reads of another file, 4 KiB", "exec": "exec of small programs", "first-read": "first reads of small objects"}[.test] // .test;
		{off: "loaded", on: "watching"}[.mode]; (1 - .rate / $before) * 100; false);

def rows:
	select(.failed | not)
	| if .bench == "cold" then cold_rows elif .bench == "steady" then steady_rows elif .bench == "density" then density_rows
	  elif .bench == "snapshots" then snapshot_rows elif .bench == "chaos" then chaos_rows
	  elif .bench == "convert" then convert_rows else empty end;

# A mode that does not start anything is a floor: it is shown, and not compared.
def is_floor: startswith("curl") or startswith("(");

# compared: the cell with ratio (above 1: firstlight is better; none where one would divide by nothing), whether
# the ranges overlap, and whether the peer is better.
def compared($base; $better):
	if $base == null or (.mode | is_floor) or .mode == $base.mode then .
	else . + {overlap: (.min <= $base.max and $base.min <= .max),
		better: (if $better == "less" then .median < $base.median else .median > $base.median end),
		ratio: (if $base.median == .median then 1
			elif ($better == "less" and $base.median == 0) or ($better == "more" and .median == 0) then null
			elif $better == "less" then .median / $base.median else $base.median / .median end)} end;

def cell: {mode: .[0].mode, n: length, median: (map(.value) | median), min: (map(.value) | min), max: (map(.value) | max)};

def line($better):
	{item: .[0].item, cells: [group_by(.mode)[] | cell]}
	| (.cells | map(select(.mode == $reference)) | .[0]) as $base
	| .cells |= map(compared($base; $better));

[(.[] | rows), watch_rows] | sort_by(.section as $s
	| ["Cold starts", "All is here", "Many containers", "Snapshots", "Bad days", "Conversion", "Watching accesses"] | index([$s])) as $rows
| [$rows[].group] | uniq | map(. as $g | [$rows[] | select(.group == $g)] as $of
	| $of[0].better as $better
	| {section: $of[0].section, title: $g, unit: $of[0].unit, better: $better, plot: $of[0].plot,
	   slug: ($g | ascii_downcase | gsub("[^a-z0-9]+"; "-") | rtrimstr("-")),
	   modes: ([$of[].mode] | uniq | sort_by((. != $reference), is_floor)),
	   lines: ([$of[].item] | uniq | map(. as $i | [$of[] | select(.item == $i)] | line($better)))})
