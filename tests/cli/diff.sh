#!/bin/sh
# diff.sh - `moescope diff`: exit status by limit, keys, one database with two runs, refusals.
. "$(dirname "$0")/figures.inc"


a="$tmp/a.db" b="$tmp/b.db"
"$feed" "$a" --tokens 2000 --layers 2 --prompt 80 --generate 20 >/dev/null
"$feed" "$a" --tokens 2000 --layers 2 --prompt 80 --generate 20 --seed 9 >/dev/null
"$feed" "$b" --tokens 2000 --layers 2 --prompt 80 --generate 20 >/dev/null
"$feed" "$tmp/c.db" --tokens 500 --layers 3 >/dev/null

exits 0 "" diff "$a" "$b" --run 1 --max-mismatch 0 --max-tokens 0 --max-shift 0 --min-saturation 1
grep -q '^0.00 % of the decisions' "$tmp/out" || fail "the same run twice: $(cat "$tmp/out")"
# Another seed is another model on other tokens: loads move, sets cannot be compared.
exits 1 "shift of a layer's load is" diff "$a" --run 1 --run-b 2 --max-shift 0.0001
"$feed" "$tmp/d.db" --tokens 500 --layers 2 --detail counts >/dev/null
exits 1 "cannot be told, so the limit of 0 is not met" diff "$a" "$tmp/d.db" --run 1 --max-mismatch 0
"$M" diff "$a" --run 1 --run-b 2 --json >"$tmp/j" 2>/dev/null
expect "$(json "group_concat(k.key, ' ')" "$tmp/j" ", json_each(j.value) k WHERE j.key = 0")" \
	"run_a run_b layer tokens_a tokens_b jsd jsd_null_p95 p_value l1 top_expert top_shift compared mismatch \
mismatch_lo mismatch_hi saturation explained margin_flips margin_all matched token_mismatch first_layer \
first_mean" "keys"
expect "$(json "count(*)" "$tmp/j" '')" 3 "a row per layer and one for all"
"$M" diff "$a" --run 1 --run-b 2 --experts --csv >"$tmp/c" 2>/dev/null
expect "$(wc -l <"$tmp/c")" 33 "a row per expert"
if grep -qi 'nan\|inf' "$tmp/j" "$tmp/c"; then fail "NaN printed"; fi
# The loads against SQL.
want=$("$M" sql "$a" "SELECT count(*) FROM routing WHERE run = 2 AND layer = 1 AND expert = 5" --csv | sed 1d | tr -d '\r')
expect "$(awk -F, '$3 == 1 && $4 == 5 { printf "%.0f", $6 * 2000 }' "$tmp/c")" "$want" "rate of an expert in B"

exits 3 "2 MoE layers, run 1 has 3" diff "$a" "$tmp/c.db" --run 1
exits 2 "two databases are needed" diff "$a"
exits 2 "no run 7; there are: 1, 2" diff "$a" --run-b 7
exits 2 "either --json or --csv" diff "$a" "$b" --json --csv
echo ok
