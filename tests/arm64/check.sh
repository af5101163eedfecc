#!/bin/sh
# check.sh [all] - the tree compiled for AArch64 and run by qemu: tests of the kernels on a CPU with
# SDOT and on one without (all: every unit test), then whole runs of models whose texts, decisions
# and logits must have the bits that this machine's own program gives. Exits with 77 and says why
# where a tool is missing. The first time it fetches libraries (sysroot.sh).
set -eu
cd "$(dirname "$0")/../.."
dir=build/arm64
sysroot=$dir/sysroot libs=$dir/sysroot/usr/lib/aarch64-linux-gnu
native=${MOESCOPE:-build/moescope}
without='cortex-a57' with='neoverse-n1' # CPUs without and with SDOT

[ "$(uname -m)" != aarch64 ] || { echo "this is such a machine: the other tests say it all"; exit 77; }
for tool in aarch64-linux-gnu-gcc qemu-aarch64 pkg-config; do
	command -v $tool >/dev/null || { echo "no $tool (packages gcc-aarch64-linux-gnu, qemu-user, pkg-config)"; exit 77; }
done
libraries=$(sed -n 's/^\(lib[^ ]*-dev\): .*/\1:arm64/p' install-deps.sh)
[ "$(cat $sysroot/complete 2>/dev/null)" = "$libraries" ] || sh tests/arm64/sysroot.sh $sysroot

unset MAKEFLAGS MFLAGS MAKELEVEL SAN
cross() { # targets
	PKG_CONFIG_SYSROOT_DIR=$sysroot PKG_CONFIG_LIBDIR=$libs/pkgconfig:$libs/openblas-pthread/pkgconfig \
		make --no-print-directory -j2 BUILD=$dir CC="aarch64-linux-gnu-gcc --sysroot=$sysroot" "$@"
}
on() { # cpu, program, arguments
	cpu=$1
	shift
	qemu-aarch64 -L $sysroot -cpu "$cpu" -E "LD_LIBRARY_PATH=$libs:$libs/openblas-pthread" "$@"
}
unit='test_kern test_int8'
[ "${1:-}" != all ] || unit=$(basename -s .c tests/unit/test_*.c)

W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT
built=$dir/moescope
for t in $unit; do built="$built $dir/tests/$t"; done
# shellcheck disable=SC2086
cross $built >"$W/log" 2>&1 || { tail -30 "$W/log"; echo "it does not build for AArch64"; exit 1; }
bad=0
no() { echo "$*"; bad=$((bad + 1)); }

for t in $unit; do
	for cpu in $with $without; do
		case $cpu:$t in
		$without:test_kern | $without:test_int8 | $with:*) ;;
		*) continue ;;
		esac
		if CMOCKA_MESSAGE_OUTPUT=stdout on $cpu $dir/tests/"$t" >"$W/log" 2>&1; then
			echo "$cpu: $t: $(grep -c '^\[       OK' "$W/log" || :) tests passed"
		else
			grep -v '^\[ RUN\|^\[       OK' "$W/log" | tail -20
			no "$cpu: $t failed"
		fi
	done
done

# Rows of a run, one for a pick and one for the logits of a token: chunks are cut by the clock, too.
picks="SELECT seq, pos, phase, token, layer, rank, expert, printf('%.9g %.9g', weight, margin) FROM routing
	ORDER BY seq, pos, layer, rank"
logits="WITH RECURSIVE t(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM t WHERE i < 127)
	SELECT sequence, pos + i, hex(substr(logits, i * (length(logits) / n) + 1, length(logits) / n))
	FROM chunk, t WHERE i < n ORDER BY 1, 2"
scores="SELECT seq, name, n_prompt, n_generated, printf('%.17g', nll), n_scored FROM sequence ORDER BY seq"
dump() { # database, text
	$native sql "$1" --csv "$picks"
	$native sql "$1" --csv "$logits"
	$native sql "$1" --csv "$scores"
	cat "$2"
}
check() { # label, words of the command line; native first, then each kind of kernels
	label=$1
	shift
	rm -f "$W"/*.db
	$native "$@" --db "$W/here.db" >"$W/text" 2>"$W/err" || { no "$label: $(tail -1 "$W/err")"; return; }
	dump "$W/here.db" "$W/text" >"$W/here"
	[ "$(wc -l <"$W/here")" -gt 300 ] || no "$label: only $(wc -l <"$W/here") lines to compare"
	for row in $with:dotprod $with:neon $without:neon $without:plain; do
		rm -f "$W/there.db"
		on "${row%:*}" $dir/moescope "$@" --isa "${row#*:}" --db "$W/there.db" >"$W/text" 2>"$W/err" ||
			{ no "$label, $row: $(tail -1 "$W/err")"; continue; }
		dump "$W/there.db" "$W/text" >"$W/there"
		isa=$($native sql "$W/there.db" --csv 'SELECT isa FROM run' | tail -1)
		[ "${isa%% *}" = "${row#*:}" ] || no "$label: the run says '$isa', not ${row#*:}"
		if cmp -s "$W/here" "$W/there"; then
			echo "$label, $row: the same $(wc -c <"$W/here") bytes"
		else
			no "$label, $row: other bits than here: $(diff "$W/here" "$W/there" | cut -c 1-150 | head -3)"
		fi
	done
}
prompt='The quick brown fox jumps over the lazy dog; 1234 + 5678 = 6912.'
for m in qwen3moe quant lowbit; do
	check "$m" run tests/data/models/$m.gguf "$prompt" --seed 1 --temperature 0.7 -n 24 --ctx 256 --ignore-end \
		--detail full
done
check 'sample model' profile sample:balanced --max-tokens 60 --detail full -q
[ $bad = 0 ] || { echo "$bad checks failed"; exit 1; }
