#!/bin/sh
# stat.sh - `moescope stat` on small databases: keys, formats, exit codes, error texts.
# JSON is read back with SQLite's own JSON functions.
. "$(dirname "$0")/figures.inc"
db=$tmp/a.db

# keys FILE: the keys of the first row, in order
keys() { json "group_concat(k.key, ' ')" "$1" ", json_each(j.value) k WHERE j.key = 0"; }

"$feed" "$db" --detail full --tokens 12000 --prompt 80 --generate 20 --collapse 2 >/dev/null
"$feed" "$db" --detail counts --tokens 2000 --skew 0 >/dev/null

run() { # name, options...
	name=$1
	shift
	"$M" stat "$db" --run 1 "$@" --json >"$tmp/$name.json" 2>"$tmp/$name.err" ||
		fail "$*: $(cat "$tmp/$name.err")"
	sqlite3 :memory: "SELECT json_valid(readfile('$tmp/$name.json'))" | grep -q 1 ||
		fail "$name: not JSON"
	"$M" stat "$db" --run 1 "$@" >"$tmp/$name.txt" 2>/dev/null
	"$M" stat "$db" --run 1 "$@" --csv >"$tmp/$name.csv" 2>/dev/null
	n=$(json 'count(*)' "$tmp/$name.json" '')
	expect "$(wc -l <"$tmp/$name.txt")" $((n + 1)) "$name: lines of text"
	expect "$(wc -l <"$tmp/$name.csv")" $((n + 1)) "$name: lines of CSV"
	if grep -qi ': -\{0,1\}\(nan\|inf\)' "$tmp/$name.json"; then fail "$name: NaN in JSON"; fi
}

run layers
expect "$(keys "$tmp/layers.json")" "run domain phase layer tokens experts k max_mean max_vio cv gini \
entropy_norm n_eff n2 dead cold dead_chance coverage90 top_expert top_rate aux_loss z_loss \
token_entropy mi_token confidence margin" "keys of stat"
expect "$(json "count(*), sum(j.value->>'tokens')" "$tmp/layers.json" '')" "4|48000" "layers"
expect "$(json "count(*)" "$tmp/layers.json" \
	"WHERE abs(pow(j.value->>'cv', 2) - ((j.value->>'experts') / (j.value->>'n2') - 1)) < 1e-6")" 4 \
	"CV^2 = E/N2 - 1"
expect "$(json "sum(j.value->>'z_loss' IS NULL)" "$tmp/layers.json" '')" 0 "scores are there"

run experts --by expert
expect "$(keys "$tmp/experts.json")" "run domain phase layer expert count rate rel_load weight_sum" \
	"keys of --by expert"
expect "$(json "count(*), sum(j.value->>'count')" "$tmp/experts.json" '')" "64|96000" "picks"

run domains --by domain
expect "$(json "count(*), count(DISTINCT j.value->>'domain'), sum(j.value->>'tokens')" \
	"$tmp/domains.json" '')" "20|5|48000" "rows by domain"

run spec --specialisation
expect "$(keys "$tmp/spec.json" | cut -d' ' -f1-11)" \
	"run domain phase layer mi_domain mi_lo mi_hi nmi_domain null_mean null_p95 bias" \
	"keys of --specialisation"
expect "$(json "count(*)" "$tmp/spec.json" ", json_each(j.value) k WHERE k.key GLOB 'jsd[[]*/*]'")" 40 \
	"JSD of every pair of domains"
expect "$(json "min((j.value->>'mi_domain') > (j.value->>'null_p95'))" "$tmp/spec.json" '')" 1 \
	"MI beats null"

run locality --locality
expect "$(keys "$tmp/locality.json")" "run domain phase layer pairs first first_uniform any \
any_uniform overlap overlap_uniform jaccard jaccard_uniform" "keys of --locality"
expect "$(json "sum(j.value->>'pairs'), j.value->>'first_uniform'" "$tmp/locality.json" '')" \
	"47520|0.0625" "pairs" # 120 documents of 100 tokens, four layers

run coact --coactivation
expect "$(keys "$tmp/coact.json")" "run domain phase layer i j count p_j_given_i p_adjacent p_uniform" \
	"keys of --coactivation"
expect "$(json "sum(j.value->>'count')" "$tmp/coact.json" '')" 96000 "ordered pairs: one pair a token"

# Recounted in SQL.
sql() { "$M" sql "$db" "$1" --csv | sed 1d | tr -d '\r'; }
alike() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a != "" && d < 1e-6 && d > -1e-6) }' || fail "$3: $1, $2"; }
run cross --cross-layer
expect "$(keys "$tmp/cross.json")" "run domain phase layer next_layer tokens mi mi_bias i j count p_j_given_i \
p_j" "keys of --cross-layer"
alike "$(json "j.value->>'mi'" "$tmp/cross.json" "WHERE j.key = 0")" "$(sql "WITH n AS (SELECT a.expert AS i,
	b.expert AS j, count(*) AS c FROM routing a JOIN routing b USING (run, seq, pos) WHERE run = 1 AND
	a.layer = 0 AND b.layer = 1 GROUP BY 1, 2), s AS (SELECT sum(c)*1.0 AS t FROM n),
	x AS (SELECT i, sum(c) AS c FROM n GROUP BY 1), y AS (SELECT j, sum(c) AS c FROM n GROUP BY 1)
	SELECT sum(n.c/t * log2(n.c*t/(x.c*y.c))) AS mi FROM n JOIN x USING (i) JOIN y USING (j), s")" \
	"information between layers 0 and 1"
run vocab --vocabulary
expect "$(keys "$tmp/vocab.json")" "run domain phase layer ids tokens first first_all any any_all next_ids next_tokens next_first next_first_all next_any next_any_all" \
	"keys of --vocabulary"
alike "$(json "j.value->>'first'" "$tmp/vocab.json" "WHERE j.key = 0")" "$(sql "WITH x AS (SELECT token,
	expert, count(*) AS c FROM routing WHERE run = 1 AND layer = 0 AND rank = 0 GROUP BY 1, 2),
	y AS (SELECT max(c)*1.0/sum(c) AS share FROM x GROUP BY token HAVING sum(c) >= 8)
	SELECT avg(share) AS first FROM y")" "vocabulary specialisation"
run npmi --npmi
expect "$(keys "$tmp/npmi.json")" "run domain phase layer expert count npmi risk_difference risk_lo risk_hi" \
	"keys of --npmi"
alike "$(json "j.value->>'npmi'" "$tmp/npmi.json" "WHERE j.value->>'domain' = 'law' AND j.value->>'layer' = 1
	AND j.value->>'expert' = 3")" "$(sql "WITH n AS (SELECT domain AS d, expert AS x, count(*) AS c FROM routing
	WHERE run = 1 AND layer = 1 GROUP BY 1, 2), s AS (SELECT sum(c)*1.0 AS t FROM n), l AS (SELECT id FROM domain
	WHERE name = 'law'), p AS (SELECT sum(c*(d = id AND x = 3))/t AS both, sum(c*(d = id))/t AS pd,
	sum(c*(x = 3))/t AS px FROM n, s, l) SELECT log2(both/(pd*px))/-log2(both) AS npmi FROM p")" "nPMI"
"$M" stat "$db" --run 2 --npmi --domain law >"$tmp/out" 2>"$tmp/err"
grep -q "nothing to compare it with" "$tmp/err" || fail "one domain: $(cat "$tmp/err")"
"$M" stat "$db" --run 2 --cross-layer >"$tmp/out" 2>"$tmp/err"
grep -q 'logged at detail' "$tmp/err" || fail "counts have no routes: $(cat "$tmp/err")"

run alarms --alarms
expect "$(keys "$tmp/alarms.json")" "severity kind layer since value threshold text sql" \
	"keys of --alarms"
expect "$(json "count(*)" "$tmp/alarms.json" \
	"WHERE j.value->>'severity' = 'alarm' AND j.value->>'kind' = 'collapse' AND j.value->>'layer' = 2")" \
	1 "collapse of layer 2"

run decode --phase decode
expect "$(json "DISTINCT j.value->>'phase' || (j.value->>'tokens')" "$tmp/decode.json" '')" \
	decode2400 "phase"
run law --domain law
expect "$(json "DISTINCT j.value->>'domain' || (j.value->>'tokens')" "$tmp/law.json" '')" \
	law2400 "domain"

"$M" stat "$db" --runs --json >"$tmp/runs.json"
expect "$(json "group_concat((j.value->>'run') || (j.value->>'detail'))" "$tmp/runs.json" '')" \
	"1full,2counts" "runs"
"$M" stat "$db" --json >"$tmp/newest.json" 2>/dev/null
expect "$(json "DISTINCT j.value->>'run'" "$tmp/newest.json" '')" 2 "the newest run is the default"
"$M" stat "$db" --locality >"$tmp/out" 2>"$tmp/err"
grep -q 'logged at detail' "$tmp/err" || fail "no reason on stderr for a run with counts only"

wrong() { # status, words, options...
	want=$1 words=$2
	shift 2
	exits "$want" "$words" stat "$@"
	[ ! -s "$tmp/out" ] || fail "stat $*: wrote to stdout"
}
wrong 2 "no run 9; there are: 1, 2" "$db" --run 9
wrong 2 "no domain 'x'; run 1 has: 'code', 'finance', 'law', 'medicine', 'poetry'" "$db" --run 1 \
	--domain x
wrong 2 "one database is needed"
wrong 2 "choose one of layer|expert|domain" "$db" --by token
wrong 2 "at a time" "$db" --locality --by expert
wrong 2 "either --json or --csv" "$db" --json --csv
wrong 3 "" "$0"
echo ok
