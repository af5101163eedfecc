#!/bin/sh
# energy: a made-up machine whose counter moves by 0.3 J from one look to the next, however long that takes,
# and begins again at 0 on the way; stat, the report and bench must say what it moved by. And the reasons where
# there is nothing.
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

# A pipe that is always full: a look opens it, reads 4096 bytes and takes the first line, so the next one
# finds the next step. The writer's end stays open: no look meets an end of file.
mkfifo "$zone/energy_uj"
python3 -c 'import os, sys
fd, at = os.open(sys.argv[1], os.O_RDWR), 0
while True:
    at = (at + 300000) % 6100000
    os.write(fd, b"%07d\n" % at * 512)' "$zone/energy_uj" &
mover=$!
MOESCOPE_POWERCAP=$tree "$MOESCOPE" run -n 200 --ignore-end -d e.db sample:balanced 'The cell' >/dev/null 2>err
"$MOESCOPE" stat e.db --energy --json >e.json
python3 - <<'PY' || fail "the figures: $(cat e.json)"
import json
rows = json.load(open("e.json"))
assert [r["phase"] for r in rows] == ["prefill", "decode"], rows
assert rows[1]["tokens"] in (199, 200), rows
looks = [1, rows[1]["tokens"]] # a look a batch: one of the prompt, one a token
for r, n in zip(rows, looks):
    assert abs(r["joule"] - 0.3 * n) < 1e-9, r
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
rm "$zone/energy_uj"
echo 5 >"$zone/energy_uj"

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
