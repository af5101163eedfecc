#!/bin/sh
# diff.sh - `moescope diff`: exit status by limit, keys, one database with two runs, refusals.
set -eu
cd "$(dirname "$0")/../.."
M=${MOESCOPE:-build/moescope}
feed=$(dirname "$M")/tests/feed
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

fail() { echo "FAIL: $*"; exit 1; }
expect() { [ "$1" = "$2" ] || fail "$3: got '$1', want '$2'"; }
json() { sqlite3 :memory: "SELECT $1 FROM json_each(CAST(readfile('$2') AS TEXT)) j $3"; }
status() { # want, words on stderr, arguments
	want=$1 words=$2
	shift 2
	set +e
	"$M" diff "$@" >"$tmp/out" 2>"$tmp/err"
	got=$?
	set -e
	expect "$got" "$want" "exit status of diff $*"
	[ -z "$words" ] || grep -q -- "$words" "$tmp/err" || fail "diff $*: '$(cat "$tmp/err")' lacks '$words'"
}

a="$tmp/a.db" b="$tmp/b.db"
"$feed" "$a" --tokens 2000 --layers 2 --prompt 80 --generate 20 >/dev/null
"$feed" "$a" --tokens 2000 --layers 2 --prompt 80 --generate 20 --seed 9 >/dev/null
"$feed" "$b" --tokens 2000 --layers 2 --prompt 80 --generate 20 >/dev/null
"$feed" "$tmp/c.db" --tokens 500 --layers 3 >/dev/null

status 0 "" "$a" "$b" --run 1 --max-mismatch 0 --max-tokens 0 --max-shift 0 --min-saturation 1
grep -q '^0.00 % of the decisions' "$tmp/out" || fail "the same run twice: $(cat "$tmp/out")"
# Another seed is another model on other tokens: loads move, sets cannot be compared.
status 1 "shift of a layer's load is" "$a" --run 1 --run-b 2 --max-shift 0.0001
"$feed" "$tmp/d.db" --tokens 500 --layers 2 --detail counts >/dev/null
status 1 "cannot be told, so the limit of 0 is not met" "$a" "$tmp/d.db" --run 1 --max-mismatch 0
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

status 3 "2 MoE layers, run 1 has 3" "$a" "$tmp/c.db" --run 1
status 2 "two databases are needed" "$a"
status 2 "no run 7; there are: 1, 2" "$a" --run-b 7
status 2 "either --json or --csv" "$a" "$b" --json --csv
echo ok
