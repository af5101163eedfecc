#!/bin/sh
# This engine and llama.cpp, one model of OLMoE's dimensions for each element type: a table.
#
#	LLAMA_CPP=DIR bench/types.sh [peer's options] [TYPE...]     default: every type that both run
#
# Two layers of random weights (bench/make_model.c says which), all matrices of that type but the
# routers; bench/peer.c says what is measured and what its options are. A model is made in TMPDIR,
# measured and removed before the next is made. "A token reads" is the weights that decoding one
# token needs, "of reading" the share of their rate of reading that `moescope bench`, which is run
# next, reaches in decoding; with -c there is none, as that rate is one of the clock.
set -u
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
arch=olmoe layers=2 opts='' cpu='' threads=2
while [ $# -gt 0 ]; do
	case $1 in
	-s) echo "types.sh: -s measures the start, which bench/peer.sh does" >&2; exit 2 ;;
	-c) cpu=1 opts="$opts $1"; shift ;;
	-q | -m) opts="$opts $1"; shift ;;
	-?) [ $# -gt 1 ] || { echo "types.sh: $1 needs a value" >&2; exit 2; }
		[ "$1" = -t ] && threads=$2
		opts="$opts $1 $2"; shift 2 ;;
	*) break ;;
	esac
done
[ $# -gt 0 ] || set -- Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS \
	IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS TQ1_0 TQ2_0 Q1_0 Q2_0 MXFP4 NVFP4 F16 BF16 F32
make --no-print-directory -s -C "$root" build/moescope build/bench/make_model >&2 || exit 4
"$root/bench/peer.sh" || exit # no model: builds build/peer
make_model=$root/build/bench/make_model

most=0
for type; do
	n=$("$make_model" $arch $layers - "$type") || exit
	[ "$n" -gt "$most" ] && most=$n
done
tmp=${TMPDIR:-/tmp}
free=$(df -Pk "$tmp" | awk 'NR == 2 { print $4 }')
[ -n "$free" ] || exit 4
need=$((most / 1024 + 20480)) # the vocabulary and the trace, too
echo "types.sh: the largest of $# models takes $((need / 1024)) MiB in $tmp, $((free / 1024)) are free," \
	"and about three times as much memory with what the engines copy" >&2
if [ "$need" -gt "$free" ]; then
	echo "types.sh: too little room; TMPDIR names another place" >&2
	exit 4
fi

# Children run behind `wait`, which a signal ends, so that they end before their files go.
child=''
dir=$(mktemp -d "$tmp/moescope-types-XXXXXX") || exit 4
trap 'rm -rf "$dir"' EXIT
trap 'stop 130' INT
trap 'stop 143' TERM HUP
stop() {
	trap '' INT TERM HUP
	[ -z "$child" ] || { kill "$child"; wait "$child"; } 2>/dev/null
	exit "$1"
}
run() {
	TMPDIR=$dir "$@" >"$dir/out" &
	child=$!
	wait "$child"
	status=$?
	child=''
	return $status
}
field() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" "$dir/out"; }

echo "| weights | prefill | | ratio | decode | | ratio | a token reads | of reading |"
echo "|---|---|---|---|---|---|---|---|---|"
failed=0
for type; do
	model=$dir/$type.gguf
	run "$make_model" $arch $layers "$model" "$type" || exit
	run "$root/build/moescope" inspect --json "$model" || exit
	bytes=$(field bytes_per_token)
	# shellcheck disable=SC2086
	if run "$root/build/peer" $opts "$model" "$LLAMA_CPP/lib"; then
		mv "$dir/out" "$dir/speed"
		limit=0 reached=0
		if [ -z "$cpu" ] && run "$root/build/moescope" bench --json --no-log -n 5 --prefill 8 \
			-t "$threads" "$model"; then
			limit=$(field read_bytes_per_s)
			reached=$(field of_limit) # the line's last one: of decoding
		fi
		awk -v type="$type" -v bytes="$bytes" -v limit="$limit" -v reached="$reached" '
			{
				gsub(/[(),]|\/s/, "")
				for (i = 1; i < NF; i++)
					v[$1, $i] = $(i + 1)
				for (i = 2; i < NF; i++)
					if ($i == "quartiles")
						range[$1] = sprintf("%.2f – %.2f", $(i + 1), $(i + 3))
			}
			function row(k) {
				if (!((k, "ratio") in v))
					return " | | |"
				return sprintf(" %.4g | %.4g | %.2f (%s) |", v[k, "moescope"], v[k, "llama.cpp"],
					v[k, "ratio"], range[k])
			}
			END {
				printf "| %s |%s%s %.1f MB |", type, row("prefill"), row("decode"), bytes / 1e6
				if (limit > 0)
					printf " %.0f %% of %.1f GB/s", reached * 100, limit / 1e9
				print " |"
			}' "$dir/speed"
	else
		echo "| $type | failed | | | | | | | |"
		failed=1
	fi
	rm -f "$model"
done
exit $failed
