#!/bin/bash
# trace.sh - what the store costs, beside what people would use without it. Prints one table.
#
#	bench/trace.sh [TOKENS]     default 1000000: 48 layers x top-8 of 128 = 384 M picks
#
# A pick is one expert chosen for one token at one layer. "in" is from opening the database to closing
# it, the generator's own time included (it is also shown alone); "scan" is a whole `moescope stat`
# process with its printing. Peers get a share of the tokens, which they are told: their speed does not
# depend on it. Seconds of the clock, and of the processors where a program says them: on a busy machine
# only the latter mean something. Needs about 8 bytes per pick of free disk in TMPDIR.
set -eu
cd "$(dirname "$0")/.."
make --no-print-directory -j2 all bench-tools >/dev/null
moescope=$PWD/build/moescope trace=$PWD/build/bench/trace tokens=${1:-1000000}
python=${PYTHON:-/usr/bin/python3}
W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT
picks=$((tokens * 384))
row() { printf '%-34s %10s %10s %12s %9s %9s\n' "$@"; }
# seconds, processor seconds and peak KiB of a command, as $sec $cpu $kib
measure() {
	local before after
	before=$(date +%s.%N)
	"$python" - "$@" <<'PY' >"$W/usage"
import resource, subprocess, sys
r = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
if r.returncode:
    sys.exit(r.stderr.decode())
u = resource.getrusage(resource.RUSAGE_CHILDREN)
print(round(u.ru_utime + u.ru_stime, 3), u.ru_maxrss)
PY
	after=$(date +%s.%N)
	sec=$(echo "$after - $before" | bc)
	read -r cpu kib <"$W/usage"
}
rate() { awk -v n="$1" -v s="$2" 'BEGIN { printf "%.1f M/s", n / s / 1e6 }'; }

echo "$(git rev-parse --short HEAD), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg); $tokens tokens, $picks picks"
row what seconds cpu picks/s bytes/pick MiB
read -r _ n s _ _ _ c <<<"$("$trace" x --tokens "$tokens" --dry)"
row 'generator alone' "$s" "$c" "$(rate "$n" "$s")" '' ''
for w in none 8bit 16bit exact; do
	read -r _ n s _ _ b c <<<"$("$trace" "$W/$w.db" --tokens "$tokens" --weights $w)"
	row "in, weights $w" "$s" "$c" "$(rate "$n" "$s")" "$b" ''
	[ $w = 8bit ] || rm "$W/$w.db"
	[ $w = 8bit ] && ours_in=$s ours_b=$b
done
db=$W/8bit.db
for q in '' '--by expert' '--by domain' --alarms; do
	# shellcheck disable=SC2086
	measure "$moescope" stat "$db" --json $q
	row "stat $q" "$sec" "$cpu" '' '' "$((kib / 1024))"
done
for q in --locality --coactivation --specialisation; do
	measure "$moescope" stat "$db" --csv $q
	row "scan: stat $q" "$sec" "$cpu" "$(rate "$picks" "$sec")" '' "$((kib / 1024))"
	[ $q = --locality ] && ours_loc=$(awk "BEGIN { print $picks / $sec }")
done
measure "$moescope" sql "$db" 'SELECT layer, expert, count(*) FROM routing GROUP BY 1, 2'
row 'scan: routing GROUP BY' "$sec" "$cpu" "$(rate "$picks" "$sec")" '' "$((kib / 1024))"

part=$((tokens / 50 > 2000 ? tokens / 50 : 2000))
echo "peers, $part tokens:"
read -r _ n s _ _ b c <<<"$("$trace" "$W/rows.db" --tokens $part --rows)"
row 'SQLite, a row per pick: in' "$s" "$c" "$(rate "$n" "$s")" "$b" ''
sqlite_in=$(awk "BEGIN { print $n / $s }") sqlite_b=$b
measure sqlite3 "$W/rows.db" 'SELECT layer, expert, count(*) FROM decision GROUP BY 1, 2'
row 'SQLite: GROUP BY layer, expert' "$sec" "$cpu" "$(rate "$n" "$sec")" '' "$((kib / 1024))"
numpy_loc=
if "$python" -c 'import numpy' 2>/dev/null; then
	"$trace" "$W/part.db" --tokens $part --weights none >/dev/null
	"$moescope" export "$W/part.db" --format npz -o "$W/part.npz"
	"$python" - "$W/part.npz" "$W/rows.db" <<'PY' >"$W/numpy"
import sys, time
import numpy as np
z = np.load(sys.argv[1])
x, seq = np.ascontiguousarray(z["experts"].reshape(len(z["sequence"]), -1, 8)), z["sequence"]
t = time.time()
for l in range(x.shape[1]):
    np.bincount(x[:, l].ravel(), minlength=128)
print("count", time.time() - t)
t = time.time()
same = seq[1:] == seq[:-1]
for l in range(x.shape[1]):
    a, b = x[:-1, l][same], x[1:, l][same]
    hit = (a[:, :, None] == b[:, None, :]).any(axis=2)
    hit.sum(axis=1).mean(), hit.any(axis=1).mean()
print("locality", time.time() - t)
try:
    import duckdb
except ImportError:
    sys.exit(0)
T, L, K = x.shape
cols = {"seq": np.repeat(seq, L * K), "pos": np.repeat(z["position"], L * K),
        "layer": np.tile(np.repeat(np.arange(L, dtype=np.int32), K), T),
        "rank": np.tile(np.arange(K, dtype=np.int32), T * L), "expert": x.ravel(),
        "weight": np.zeros(T * L * K, dtype=np.float32)}
db = duckdb.connect(sys.argv[2] + ".duck")
t = time.time()
db.execute("CREATE TABLE d AS SELECT * FROM cols")
db.execute("CHECKPOINT")
print("duck-in", time.time() - t)
t = time.time()
db.execute("SELECT layer, expert, count(*) FROM d GROUP BY 1, 2").fetchall()
print("duck-group", time.time() - t)
PY
	while read -r what s; do
		case $what in
		count) what='NumPy in memory: counting' ;;
		locality) what='NumPy in memory: locality' numpy_loc=$(awk "BEGIN { print $part * 384 / $s }") ;;
		duck-in) what='DuckDB: in, from arrays' ;;
		duck-group) what='DuckDB: GROUP BY layer, expert' ;;
		esac
		row "$what" "$(printf %.3f "$s")" '' "$(rate $((part * 384)) "$s")" '' ''
	done <"$W/numpy"
	grep -q duck "$W/numpy" || echo 'DuckDB is not installed here'
else
	echo 'NumPy is not installed here'
fi
awk -v o="$ours_in" -v p="$picks" -v s="$sqlite_in" -v b="$ours_b" -v sb="$sqlite_b" -v l="${ours_loc:-0}" \
	-v nl="${numpy_loc:-0}" 'BEGIN {
	printf "ratios: in %.1f x SQLite rows; size 1/%.1f of SQLite rows", p / o / s, sb / b
	if (nl) printf "; locality from disk %.1f x NumPy in memory", l / nl
	print "" }'
