#!/bin/sh
# bench.sh - what `bench` prints holds together: rates and limits are positive, parts add up to the whole,
# the bytes of keys and values grow with the depth as the model says. Speed itself is not tested.
. "$(dirname "$0")/check.inc"
command -v python3 >/dev/null || { echo "no python3"; exit 77; }

run_it bench "$tiny" --pairs 1 --prefill 40 --decode 5 --depth 60 --threads 2 --parts --json
same "bench --json: $(head -c 200 err)" $got 0
python3 - out <<'EOF' || no "bench --json: figures do not hold together"
import json, sys
d = json.load(open(sys.argv[1]))
assert d["threads"] == 2 and d["start_s"] > 0 and d["file_bytes"] > 0, d
assert d["peak_bytes"] > 1 << 20, d
for key in ("read_bytes_per_s", "int8_macs_per_s", "bf16_macs_per_s", "float_macs_per_s"):
    assert d[key] > 1e8, (key, d[key])
pre, dec = d["phases"]
assert (pre["phase"], pre["tokens"]) == ("prefill", 40), pre
assert (dec["phase"], dec["tokens"], dec["behind"]) == ("decode", 5, 60), dec
for p in d["phases"]:
    assert p["q1"] <= p["tokens_per_s"] <= p["q3"] and p["limit"] > 0, p
    assert abs(p["of_limit"] - p["tokens_per_s"] / p["limit"]) < 1e-3 * (1 + p["of_limit"]), p
    assert [l["detail"] for l in p["logging"]] == ["routes", "full"], p
    assert all(0 < l["q1"] <= l["ratio"] <= l["q3"] for l in p["logging"]), p
    assert all(0 < l["low"] <= l["ratio"] <= l["high"] for l in p["logging"]), p
    assert all(0 < l["cpu_low"] <= l["cpu_ratio"] <= l["cpu_high"] for l in p["logging"]), p
    assert 0 < p["same"]["cpu_low"] <= p["same"]["cpu_ratio"] <= p["same"]["cpu_high"], p
    assert 0 < p["same"]["q1"] <= p["same"]["ratio"] <= p["same"]["q3"], p
    assert abs(sum(p["parts"].values()) - 1) < 1e-3, p
    assert p["parts"]["attention"] > 0 and p["parts"]["experts"] > 0 and p["parts"]["output head"] > 0, p
    assert p["parts"]["dense FFN"] == 0, p
EOF
run_it bench "$tiny" --pairs 2 --prefill 8 --decode 3 --detail counts --threads 1
same "bench: $(head -c 200 err)" $got 0
has 'bench' 'same    prefill  |counts  decode   |processor time of all threads|start to first token|peak memory|GB/s read' "$(cat out)"
run_it bench "$tiny" --pairs 1 --prefill 4 --decode 2 --no-log
same "bench --no-log: $(head -c 200 err)" $got 0
grep -q 'cost of' out && no 'bench --no-log speaks of logging'
for detail in counts routes full both; do # a log's cost, beside a side that ran before it had a trace; it ends
	timeout -s KILL 60 "$MOESCOPE" bench --audit "$tiny" --detail $detail --pairs 2 --prefill 8 --decode 3 --json \
		>out 2>err </dev/null
	same "bench --audit at $detail: $(head -c 200 err)" $? 0
	python3 - $detail out <<'EOF' || no "bench --audit at $detail: not a comparison for each level"
import json, sys
want = ["routes", "full"] if sys.argv[1] == "both" else [sys.argv[1]]
for p in json.load(open(sys.argv[2]))["phases"]:
    assert [x["detail"] for x in p["logging"]] == want, p
    for x in p["logging"]:
        assert x["audit"] and x["cpu_q1"] <= x["cpu_ratio"] <= x["cpu_q3"] and x["ratio"] > 0, x
EOF
done
timeout -s KILL 60 "$MOESCOPE" bench --audit "$tiny" --pairs 1 --prefill 4 --decode 2 >out 2>err </dev/null
same "bench --audit: $(head -c 200 err)" $? 0
has "bench --audit" "cost of an audit log beside logging" "$(cat out)"
same "bench --audit: lines of a level" "$(grep -cE '^  (routes|full) +(prefill|decode) ' out)" 4
refuse 2 '100000|does not fit in a context of 128' bench "$tiny" --depth 100000 --no-log
finish
