#!/bin/sh
# check.sh - `moescope check`: exit status, rules files, evidence that runs, what cannot be checked.
. "$(dirname "$0")/figures.inc"


"$feed" "$tmp/bad.db" --tokens 8000 --layers 3 --collapse 1 >/dev/null
"$feed" "$tmp/good.db" --tokens 8000 --layers 3 --skew 0.1 >/dev/null
"$feed" "$tmp/empty.db" --tokens 1 --layers 1 >/dev/null

exits 1 "FAILED: " check "$tmp/bad.db"
grep -q '^alarm *collapse *1 ' "$tmp/out" || fail "no collapse of layer 1: $(cat "$tmp/out")"
exits 0 "passed: 0 of " check "$tmp/good.db"

# A long tail of 256 experts is uneven, not collapsed: the busiest 26 take less than half of the picks.
"$feed" "$tmp/tail.db" --tokens 3000 --layers 2 --experts 256 --k 8 >/dev/null
sum="SELECT max(t) < 12000 AND min(m) > 281 FROM (SELECT sum(n) AS t, max(n) AS m FROM (SELECT layer,
	count(*) AS n, row_number() OVER (PARTITION BY layer ORDER BY count(*) DESC) AS i FROM routing
	GROUP BY layer, expert) WHERE i <= 26 GROUP BY layer)"
[ "$("$M" sql "$tmp/tail.db" "$sum" --csv | tail -1)" = 1 ] || fail "the tail is no such tail"
"$M" check "$tmp/tail.db" --fail alarm >"$tmp/out" 2>/dev/null || true
grep -q '^warning *collapse *1 ' "$tmp/out" || fail "uneven layers draw no warning: $(cat "$tmp/out")"
! grep -q '^alarm *collapse' "$tmp/out" || fail "uneven layers are called collapsed: $(cat "$tmp/out")"

printf '# ours\ncollapse alarm off\ncollapse warning off\nrising warning off\n' >"$tmp/rules"
exits 0 "passed" check "$tmp/bad.db" --rules "$tmp/rules"
exits 1 "FAILED" check "$tmp/bad.db" --rules "$tmp/rules" --set "collapse alarm 2"
exits 1 "FAILED" check "$tmp/good.db" --set "collapse note 1" --fail note
exits 3 "rules, line 1: no rule 'x'" check "$tmp/bad.db" --rules "$(printf 'x y 1\n' >"$tmp/rules" && echo "$tmp/rules")"
exits 2 "is not note, warning or alarm" check "$tmp/bad.db" --set "collapse worst 1"
exits 3 "No such file" check "$tmp/bad.db" --rules "$tmp/none"
exits 3 "nothing to check" check "$tmp/empty.db" --phase decode
exits 2 "one database is needed" check
"$M" check --list --json >"$tmp/out"
sqlite3 :memory: "SELECT count(*) >= 13 FROM json_each(CAST(readfile('$tmp/out') AS TEXT))" | grep -q 1 ||
	fail "list of rules: $(cat "$tmp/out")"

# Every piece of evidence is SQL that runs and shows something.
set +e
"$M" check "$tmp/bad.db" --json >"$tmp/j" 2>/dev/null
set -e
n=$(sqlite3 :memory: "SELECT count(*) FROM json_each(CAST(readfile('$tmp/j') AS TEXT))")
[ "$n" -gt 0 ] || fail "no findings"
i=0
while [ $i -lt "$n" ]; do
	q=$(sqlite3 :memory: "SELECT value->>'sql' FROM json_each(CAST(readfile('$tmp/j') AS TEXT)) WHERE key = $i")
	[ "$("$M" sql "$tmp/bad.db" "$q" --csv | wc -l)" -gt 1 ] || fail "no rows: $q"
	i=$((i + 1))
done
echo ok
