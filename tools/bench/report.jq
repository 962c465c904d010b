# SPDX-License-Identifier: Apache-2.0
# The page of tools/bench/report: $groups[0] by groups.jq, all samples as input (jq -s).
include "bench";

def cell_text: "\(.median | num)" + (if .min < .max then " [\(.min | num)–\(.max | num)]" else "" end)
	+ (if .ratio then " **\(.ratio | num)×**\(if .overlap then " ≈" else "" end)" else "" end);

def means: . as $g | .modes | map(. as $m
	| [$g.lines[].cells[] | select(.mode == $m and .ratio and .ratio > 0) | .ratio] | mean_of_ratios);

def count_text: [.lines[].cells[] | select(.mode | startswith("(") | not) | .n] | if min == max then "\(min)" else "\(min) to \(max)" end;

def table:
	. as $g | [.lines[].cells[] | select(.overlap)] as $near | means as $means
	| "\n### \($g.title)\(if $g.unit != "" then ", \($g.unit)" else "" end)\n",
	  (if $g.plot then "![\($g.title)](\($g.slug).svg)\n" else empty end),
	  "| | \($g.modes | join(" | ")) |", "|---\($g.modes | map("|---") | join(""))|",
	  ($g.lines[] | . as $l | "| \(.item) | " + ([$g.modes[] as $m | ($l.cells | map(select(.mode == $m)) | .[0]) // null
		| if . then cell_text else "–" end] | join(" | ")) + " |"),
	  (if ($means | map(select(.)) | length) > 0 and ($g.lines | length) > 1 then
		"| *geometric mean* | " + ($means | map(if . then "**\(num)×**" else "" end) | join(" | ")) + " |" else empty end),
	  "\nMedians of \(count_text); \($g.better) is better." + (if ($near | length) > 0 then
		" Ranges overlap in \($near | length) of \([$g.lines[].cells[] | select(has("overlap"))] | length) comparisons (≈): no difference is shown there." else "" end);

def loss_text: "\(.item) \(.ratio | num)×\(if .overlap then " ≈" else "" end)";

def losses:
	[$groups[0][] | . as $g | .modes[] as $m
	 | [$g.lines[] | .item as $item | .cells[] | select(.mode == $m and .better) | {$item, ratio: (.ratio // 0), overlap}]
	 | select(length > 0)
	 | "- \($g.title): \($m) is better in \(length) of \([$g.lines[].cells[] | select(.mode == $m and has("overlap"))] | length): "
		+ (sort_by(.ratio) | map(loss_text) | join(", "))] | if length == 0 then "Nowhere in these samples." else .[] end;

def host: "- \(.at): \(.cpus) processors (\(.cpu)), \(.memory_kb / 1048576 | num) GiB, Linux \(.kernel), \(.fs), a synced write of 4 KiB in \(.sync_us) us, "
	+ "load \(.load) at the start\(if .load > 0.5 * .cpus then " (**busy**: trust the ratios only)" else "" end); firstlight \(.firstlight) (\(.commit)), containerd \(.containerd), "
	+ "runc \(.runc), stargz-snapshotter \(.stargz), docker-registry \(.registry), TCP with \(.tcp // "unknown")"
	+ (if (.erofs_containerd // "none") != "none" then "; erofs by containerd \(.erofs_containerd)" else "" end);

def mb: . / 1e6 | num;
. as $all
| "# What was measured\n",
  "Made by tools/bench/report from \([$all[] | select(.bench != "host")] | length) samples; it tells, and does not judge. A cell is the median [smallest–largest], and in the columns of the peers",
  "how many times better \($reference) is (below 1×: worse), by the medians; ≈ says that the ranges overlap.\n",
  ($all[] | select(.bench == "host") | host),
  ([$all[] | select(.bench == "cold" and .measured) | "\(.link) measured as \(.measured)"] | unique[] | "- link (ms:Mbit/s) \(.)"),
  (if any($all[]; .bench == "images" and .layers) then "\n## Images\n",
	"| | before the update (v1) | after it (v2) | MB | MB of the update | ready |", "|---|---|---|---|---|---|",
	([$all[] | select(.bench == "images" and .layers)] | group_by(.image)[] | (map(select(.version == "v1")) | last) as $a | (map(select(.version == "v2")) | last) as $b
	 | select($a and $b)
	 | "| \($a.image) | \($a.packages) | \(if $a.packages == $b.packages then "the same; the application changed" else $b.packages end) | \($b.bytes | mb) | \([$b.layers[]
		| select(.digest | IN($a.layers[].digest) | not) | .size] | add // 0 | mb) | \($b.ready) |") else empty end),
  ([$groups[0][].section] | uniq[] as $s | "\n## \($s)", ($groups[0][] | select(.section == $s) | table)),
  "\n## Where firstlight loses\n",
  "Every comparison in which a peer's median is better; ≈ where the ranges overlap.\n", losses,
  ([$all[] | select(.failed)] | if length > 0 then "\n## Samples that failed\n",
	(group_by([.bench, .mode, .image, .failed])[] | "- \(.[0].bench) \([.[0] | .mode, .image, .fault, .link | select(.)] | join(" ")): \(length) times: \(.[0].failed | gsub("[|<>`\n]"; " "))")
	else "\nNo sample failed." end)
