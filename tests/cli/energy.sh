#!/bin/sh
# energy: counters of a made-up machine move while the program runs, and begin again at 0 on the way; what
# stat, the report and bench say must be what they moved by. And the reasons where there is nothing.
set -eu
dir=$(mktemp -d)
mover=
trap 'test -z "$mover" || kill $mover 2>/dev/null; rm -rf "$dir"' EXIT
fail() { echo "energy.sh: $*"; exit 1; }
cd "$dir"

tree=$dir/tree zone=$dir/tree/intel-rapl:0
mkdir -p "$zone" "$tree/intel-rapl:0:0"
echo package-0 >"$zone/name"
echo core >"$tree/intel-rapl:0:0/name"
echo 5 >"$tree/intel-rapl:0:0/energy_uj"
echo 6100000 >"$zone/max_energy_range_uj"

# 0.3 J every hundredth of a second or so, round and round: it begins again at 6.1 J
(
	at=0 n=0
	while :; do
		at=$(((at + 300000) % 6100000)) n=$((n + 1))
		echo $at >"$zone/next" && mv "$zone/next" "$zone/energy_uj"
		echo $n >"$dir/moved.tmp" && mv "$dir/moved.tmp" "$dir/moved"
		sleep 0.01
	done
) &
mover=$!
while [ ! -s moved ]; do sleep 0.05; done
before=$(cat moved)
MOESCOPE_POWERCAP=$tree "$MOESCOPE" run -n 200 --ignore-end -d e.db sample:balanced 'The cell' >/dev/null 2>err
after=$(cat moved)
"$MOESCOPE" stat e.db --energy --json >e.json
python3 - $((after - before)) <<'PY' || fail "the figures: $(cat e.json), steps $before to $after"
import json, sys
rows = json.load(open("e.json"))
assert [r["phase"] for r in rows] == ["prefill", "decode"], rows
joule = sum(r["joule"] for r in rows)
assert 0 < joule <= 0.3 * (int(sys.argv[1]) + 2) + 1e-9, joule     # no wrap counts as a jump back or ahead
n = joule / 0.3
assert abs(n - round(n)) < 1e-6, joule                             # whole steps: nothing lost at a wrap
assert rows[1]["tokens"] in (199, 200), rows
for r in rows:
    assert abs(r["joule_per_token"] * r["tokens"] - r["joule"]) < 1e-9
    assert r["counters"] == "package-0"
PY
"$MOESCOPE" report e.db -o e.html 2>/dev/null
grep -q 'J per token. This is what the processor packages of the whole machine' e.html || fail "the report"
"$MOESCOPE" report e.db --format json -o - 2>/dev/null >r.json
python3 -c 'import json
assert json.load(open("r.json"))["energy"] == json.load(open("e.json"))' || fail "report and stat differ"
MOESCOPE_POWERCAP=$tree "$MOESCOPE" bench -n 2 --prefill 64 --decode 32 --json sample:balanced >b.json
python3 -c 'import json
r = json.load(open("b.json"))["phases"]
assert all(x["joule_per_token"] >= 0 for x in r) and any(x["joule_per_token"] > 0 for x in r), r' || fail "bench"
MOESCOPE_POWERCAP=$tree "$MOESCOPE" profile -q --max-tokens 300 -d p.db sample:balanced
"$MOESCOPE" stat p.db --energy | grep -q 'prefill.*package-0' || fail "profile: $("$MOESCOPE" stat p.db --energy)"
kill $mover
wait $mover 2>/dev/null || :
mover=

# none DIRECTORY WORDS: no figure, and the reason
none() {
	MOESCOPE_POWERCAP=$1 "$MOESCOPE" run -n 3 -d none.db sample:balanced x >/dev/null 2>&1
	[ "$("$MOESCOPE" stat none.db --energy --json 2>err)" = "[]" ] || fail "figures without counters"
	grep -q "unavailable: $2" err || fail "$1: $(cat err)"
	"$MOESCOPE" report none.db -o none.html 2>/dev/null
	grep -q "Energy per token is unavailable: $2" none.html || fail "the report on $1"
}
none "$dir/nothing" 'this system has no powercap tree'
none "$tree" 'the counters did not move'
mkdir empty
none "$dir/empty" '.* has no counter of a processor package'
rm "$zone/energy_uj"
none "$tree" '.*energy_uj: No such file'
MOESCOPE_POWERCAP=$tree "$MOESCOPE" bench -n 1 --prefill 16 --decode 8 --no-log sample:balanced |
	grep -q 'energy: unavailable: .*energy_uj' || fail "bench without a counter"
if [ "$(id -u)" != 0 ]; then
	echo 5 >"$zone/energy_uj"
	chmod 0 "$zone/energy_uj"
	none "$tree" '.*energy_uj: Permission denied'
fi
