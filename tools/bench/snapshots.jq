# SPDX-License-Identifier: Apache-2.0
# The table of tools/bench/snapshots.sh from its samples (jq -s), at most 100 columns.

include "bench";

def pairs($a; $b; f): [$a, $b] | map(sort_by(.round) | map(f)) | transpose | map(.[0] / .[1]);
# Cycles in a second when the drain after the load counts as work.
def charged: .rate * (.seconds + .warmup_s) / (.seconds + .warmup_s + .drain_s);

def cycles($used; $title):
	map(select(.part == "cycle" and .used == $used)) as $all
	| $title,
	  "Prepare + Commit + Remove on \($all[0].chain) layers, cycles in a second: median [range] of \($all | map(.round) | max) rounds",
	  "clients \("firstlight" | left(17)) \("overlayfs" | left(15)) \("ratio" | left(16)) p50 ms     p99 ms     drain s  ratio*",
	  ($all | group_by(.clients)[] | . as $c
	   | map(select(.server == "firstlight")) as $f | map(select(.server == "overlayfs")) as $o
	   | def both(f): "\($f | map(f) | median | num)/\($o | map(f) | median | num)";
	     "\($c[0].clients | right(7)) \($f | map(.rate) | spread | left(17)) \($o | map(.rate) | spread | left(15)) "
	     + "\(pairs($f; $o; .rate) | spread | left(16)) \(both(.latency.cycle.p50_us / 1000) | left(10)) "
	     + "\(both(.latency.cycle.p99_us / 1000) | left(10)) \(both(.drain_s) | left(8)) \(pairs($f; $o; charged) | median | num)");

def ops:
	map(select(.part == "ops")) as $all
	| def of($s; $n): $all | map(select(.server == $s and (if $n == $many then .present >= $many else .present < $many end)));
	  def columns($s; $op): of($s; $few) as $a | of($s; $many) as $b
		| "\($a | map(.latency[$op].p50_us) | median | num | right(9)) \($b | map(.latency[$op].p50_us) | median | num | right(9))   "
		  + (pairs($b; $a; .latency[$op].p50_us) | spread | left(19));
	  "", "One call at a time, p50 in us with \($few) and with \($many) snapshots present: median of rounds",
	  "\("" | left(11)) \("firstlight" | left(40)) overlayfs",
	  "\("" | left(11)) \($few | right(9)) \($many | right(9))   \("ratio" | left(19)) \($few | right(8)) \($many | right(9))   ratio",
	  (("Prepare", "View", "Commit", "Remove", "RemoveView", "Mounts", "Stat", "List", "ListRef")
	   | "\(. | left(11))\(columns("firstlight"; .))\(columns("overlayfs"; .))" | sub(" +$"; ""));

def mib: if . == null then "-" else . / 1024 | num end;
def memory:
	. as $all
	| def one($part; $s; $state): $all | map(select(.part == $part and .server == $s and .state == $state)) | .[0];
	  def row($title; $s; $state): one("memory"; $s; $state) as $m | one("idle"; $s; $state) as $i | one("start"; $s; $state) as $t
		| "\($title | left(38)) \($m.rss_kb | mib | right(8)) \($m.anon_kb | mib | right(8)) "
		  + "\($i.cpu_ms // null | if . == null then "-" else num end | right(10)) \($m.fds | right(5)) \($m.threads | right(8)) "
		  + "\($t.ready_ms // "-" | right(9))";
	  def each($s; $a; $b): (one("memory"; "\($s)-many"; $b).rss_kb - one("memory"; "\($s)-empty"; $a).rss_kb) * 1024 / $many | round;
	  "", "\("At rest" | left(38))  RSS MiB anon MiB  ms in \($all | map(select(.part == "idle"))[0].seconds) s   fds  threads  ready ms",
	  row("firstlight, empty root"; "firstlight-empty"; "empty"),
	  row("firstlight, empty, restarted"; "firstlight-empty"; "empty-restarted"),
	  row("firstlight, its keeper"; "firstlight-empty"; "keeper"),
	  row("firstlight, \($many), just filled"; "firstlight-many"; "filled"),
	  row("firstlight, \($many), after the calls"; "firstlight-many"; "worked"),
	  row("firstlight, \($many), restarted"; "firstlight-many"; "restarted"),
	  row("overlayfs, empty root"; "overlayfs-empty"; "empty"),
	  row("overlayfs, \($many), after the calls"; "overlayfs-many"; "worked"),
	  row("overlayfs, \($many), restarted"; "overlayfs-many"; "restarted"),
	  "bytes of memory a snapshot, caches included: firstlight \(each("firstlight"; "empty-restarted"; "restarted")) restarted, \(each("firstlight"; "empty-restarted"; "filled")) just filled";

def foot:
	$host[0] as $h
	| "", "ratio: firstlight/overlayfs of each round, median [range]. ratio*: the drain counts as work.",
	  "drain s: from the last answer until deletions and background writes are done (firstlight/overlayfs).",
	  "On disk at the answer. firstlight: its record (one fdatasync, shared by calls that arrive together),",
	  "and for Commit the layer's files (syncfs). overlayfs: its record (two fdatasyncs a call, one call at",
	  "a time); not the layer's files. overlayfs deletes inside Remove, firstlight after the answer.",
	  "firstlight \($h.firstlight) (\($h.commit)), containerd \($h.containerd), Linux \($h.kernel), \($h.cpus) cpus, \($h.fs),",
	  "a synced 4 KiB write \($h.sync_us) us, load at the start \($h.load), \($h.date)",
	  (if $h.load > 0.5 * $h.cpus then "THE MACHINE WAS BUSY when this began: trust the ratios only" else empty end);

cycles(false; "Calls only"), "", cycles(true; "Used: a file is written into every snapshot"), ops, memory, foot
