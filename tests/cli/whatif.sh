#!/bin/sh
# whatif.sh - `moescope whatif` and `plan`: figures recounted in SQL from the same database, formats,
# and what cannot be answered.
. "$(dirname "$0")/figures.inc"
db=$tmp/a.db

sql() { "$M" sql "$db" "$1" --csv | sed 1d | tr -d '\r'; }
# Two numbers, or lists of them, alike to six digits.
alike() {
	awk -v a="$1" -v b="$2" 'BEGIN {
		n = split(a, x, /[|,]/)
		if (n != split(b, y, /[|,]/) || !n) exit 1
		for (i = 1; i <= n; i++) if (x[i] - y[i] > 1e-6 || y[i] - x[i] > 1e-6) exit 1
	}' || fail "$3: got '$1', want '$2'"
}

"$feed" "$db" --detail full --tokens 3000 --experts 16 --k 2 --layers 2 --prompt 80 --generate 20 >/dev/null
ask() { # name, options: into $tmp/name.json; text and CSV must have as many rows
	name=$1
	shift
	"$M" whatif "$db" "$@" --json >"$tmp/$name.json" 2>"$tmp/$name.err" || fail "$*: $(cat "$tmp/$name.err")"
	"$M" whatif "$db" "$@" --csv >"$tmp/$name.csv" 2>/dev/null
	"$M" whatif "$db" "$@" --layers >"$tmp/$name.txt" 2>/dev/null
	n=$(json 'count(*)' "$tmp/$name.json" '')
	[ "$n" -gt 0 ] || fail "$name: no rows"
	expect "$(wc -l <"$tmp/$name.txt")" $((n + 1)) "$name: lines of text"
	expect "$(wc -l <"$tmp/$name.csv")" $((n + 1)) "$name: lines of CSV"
	if grep -qi '[: ]-\{0,1\}\(nan\|inf\)\b' "$tmp/$name.json" "$tmp/$name.txt"; then fail "$name: NaN"; fi
}

# Decisions numbered through in the log's order, for the recounts.
numbered="WITH t AS (SELECT row_number() OVER (ORDER BY seq, pos) - 1 AS i, seq, pos FROM
	(SELECT DISTINCT seq, pos FROM routing)),
	d AS (SELECT t.i, r.layer, r.rank, r.expert, r.weight FROM routing r JOIN t USING (seq, pos))"

ask capacity --capacity --batch 100 --factors 1
want=$(sql "$numbered, q AS (SELECT layer, weight, row_number() OVER (PARTITION BY layer, i/100, expert
	ORDER BY i, rank) > 13 AS lost FROM d)
	SELECT avg(lost), sum(weight*lost)/sum(weight) FROM q GROUP BY layer ORDER BY layer" | tr '\n' ',')
alike "$(json "group_concat((j.value->>'dropped') || ',' || (j.value->>'lost_weight'))" \
	"$tmp/capacity.json" "WHERE j.value->>'policy' = 'position' AND j.value->>'layer' IS NOT NULL")" \
	"${want%,}" "dropped by position: C = ceil(100 * 2 / 16) = 13"
want=$(sql "$numbered, q AS (SELECT layer, weight, row_number() OVER (PARTITION BY layer, i/100, expert
	ORDER BY weight DESC, i, rank) > 13 AS lost FROM d)
	SELECT avg(lost), sum(weight*lost)/sum(weight) FROM q")
alike "$(json "(j.value->>'dropped') || ',' || (j.value->>'lost_weight')" "$tmp/capacity.json" \
	"WHERE j.value->>'policy' = 'probs' AND j.value->>'layer' IS NULL")" "$want" "dropped by weight"
expect "$(json "count(*)" "$tmp/capacity.json" "WHERE j.value->>'policy' = 'reroute' AND
	j.value->>'dropped' > 0.01")" 0 "re-routing finds room nearly always"

ask topk --topk --k 1
alike "$(json "j.value->>'lost_weight'" "$tmp/topk.json" "WHERE j.value->>'layer' IS NULL")" \
	"$(sql "SELECT sum(weight*(rank>0))/sum(weight) FROM routing")" "weight of the second choices"

ask prune --prune --n 4
want=$(sql "WITH c AS (SELECT layer, expert, count(*) AS n FROM routing GROUP BY 1, 2),
	cold AS (SELECT layer, expert FROM (SELECT *, row_number() OVER (PARTITION BY layer ORDER BY n, expert)
	AS r FROM c) WHERE r <= 4), x AS (SELECT layer, seq, pos, weight, (layer, expert) IN cold AS gone
	FROM routing), y AS (SELECT max(gone) AS g FROM x GROUP BY layer, seq, pos)
	SELECT avg(gone), sum(weight*gone)/sum(weight), (SELECT avg(g) FROM y) AS touched FROM x")
alike "$(json "(j.value->>'lost_picks') || ',' || (j.value->>'lost_weight') || ',' ||
	(j.value->>'tokens_touched')" "$tmp/prune.json" "WHERE j.value->>'layer' IS NULL")" "$want" "pruned"
expect "$(json "sum(j.value->>'mass' BETWEEN 0.1 AND 1)" "$tmp/prune.json" '')" 3 "mass kept"

ask cache --cache --slots 16,2
expect "$(json "group_concat(DISTINCT j.value->>'misses_per_token' < 0.02)" "$tmp/cache.json" \
	"WHERE j.value->>'slots' = 16 AND j.value->>'layer' IS NOT NULL")" 1 "all fit: each loads once"
expect "$(json "count(*)" "$tmp/cache.json" ", json_each(CAST(readfile('$tmp/cache.json') AS TEXT)) b
	WHERE b.value->>'policy' = 'belady' AND j.value->>'policy' IN ('lru', 'lfu', 'lfu-aged')
	AND j.value->>'slots' = b.value->>'slots' AND j.value->>'layer' IS b.value->>'layer'
	AND j.value->>'hits' > b.value->>'hits'")" 0 "nobody beats Belady"
ask global --cache --slots 4 --global --expert-bytes 1000
expect "$(json "DISTINCT (j.value->>'slots') || '|' || (j.value->>'experts') || '|' || (j.value->>'cache_bytes')" \
	"$tmp/global.json" '')" "8|32|8000" "global budget"

ask aware --cache-routing --slots 6 --rank 2,4,16 --keep 1
expect "$(json "group_concat((j.value->>'agreement') = 1 AND (j.value->>'kl') = (j.value->>'kl_recorded'))" \
	"$tmp/aware.json" "WHERE j.value->>'rank' = 2")" "1,1,1" "M = k changes nothing"
expect "$(json "group_concat(h, '<') FROM (SELECT j.value->>'hit_rate' AS h" "$tmp/aware.json" \
	"WHERE j.value->>'layer' IS NULL ORDER BY j.value->>'rank')" | tr '<' '\n' | sort -n -c && echo up)" up \
	"hit rate rises with M"

ask place --placement --ranks 4 --nodes 2 --width 64
alike "$(json "(j.value->>'ranks_per_token') || ',' || (j.value->>'nodes_per_token')" "$tmp/place.json" \
	"WHERE j.value->>'layer' IS NULL AND j.value->>'policy' = 'contiguous'")" \
	"$(sql "WITH x AS (SELECT count(DISTINCT expert/4) AS r, count(DISTINCT expert/8) AS n FROM routing
	GROUP BY layer, seq, pos) SELECT avg(r), avg(n) FROM x")" "distinct ranks, distinct nodes"
alike "$(json "j.value->>'a2a_bytes_per_token'" "$tmp/place.json" \
	"WHERE j.value->>'layer' IS NULL AND j.value->>'policy' = 'contiguous'")" \
	"$(sql "WITH x AS (SELECT count(DISTINCT expert/4) AS r FROM routing GROUP BY layer, seq, pos)
	SELECT 2*avg(r) * 2*64*2*0.75 FROM x")" "bytes of the all-to-all"
want=$(sql "WITH x AS (SELECT layer, expert/4 AS r, count(*) AS n FROM routing GROUP BY 1, 2), y AS
	(SELECT max(n)*1.0/avg(n) AS m FROM x GROUP BY layer ORDER BY layer) SELECT group_concat(m) FROM y" |
	tr -d '"')
alike "$(json "group_concat(j.value->>'max_mean')" "$tmp/place.json" \
	"WHERE j.value->>'layer' IS NOT NULL AND j.value->>'policy' = 'contiguous'")" "$want" "balance of ranks"

ask reroute --reroute --preset mixtral,switch,expert-choice
expect "$(json "(j.value->>'same_set') || '|' || (j.value->>'changed')" "$tmp/reroute.json" \
	"WHERE j.value->>'layer' IS NULL AND j.value->>'preset' = 'mixtral'")" "1|0" \
	"the router that was recorded"
# 3000 tokens in batches of 512: five times ceil(512 * 2 / 16) = 64 and once 55 picks for 16 experts
alike "$(json "j.value->>'picks_per_token'" "$tmp/reroute.json" \
	"WHERE j.value->>'layer' IS NULL AND j.value->>'preset' = 'expert-choice'")" 2 "experts choose k a token"
expect "$(json "j.value->>'dropped'" "$tmp/reroute.json" \
	"WHERE j.value->>'layer' IS NULL AND j.value->>'preset' = 'expert-choice'")" 0 "and drop nothing"

# Without a question all are answered, and what cannot be is said.
"$M" whatif "$db" >"$tmp/all.txt"
expect "$(grep -c 'cannot be answered' "$tmp/all.txt" || true)" 0 "all can be answered at detail full"
"$feed" "$tmp/c.db" --detail counts --tokens 500 --layers 2 >/dev/null
"$M" whatif "$tmp/c.db" >"$tmp/c.txt"
expect "$(grep -c 'cannot be answered.*detail .counts' "$tmp/c.txt")" 5 "counts cannot say"
"$feed" "$tmp/r.db" --detail routes --tokens 500 --layers 1 --experts 4 --k 4 >/dev/null
"$M" whatif "$tmp/r.db" --ranks 4 >"$tmp/r.txt"
"$feed" "$tmp/one.db" --detail full --tokens 1 --layers 1 --experts 1 --k 1 --domains 1 --prompt 1 --generate 0 >/dev/null
"$M" whatif "$tmp/one.db" >"$tmp/one.txt"
grep -q 'nothing can be pruned' "$tmp/one.txt" || fail "one expert: $(cat "$tmp/one.txt")"
"$M" whatif "$tmp/one.db" --ranks 1 --placement --cache --cache-routing --reroute >>"$tmp/one.txt"
if grep -qiw 'nan\|inf\|-nan' "$tmp/all.txt" "$tmp/c.txt" "$tmp/r.txt" "$tmp/one.txt"; then fail "NaN printed"; fi

exits 2 "one table: choose one of" whatif "$db" --json
exits 2 "16 slots do not divide into 3 ranks" whatif "$db" --placement --ranks 3
"$feed" "$tmp/six.db" --tokens 500 --experts 6 >/dev/null
exits 2 "6 slots do not divide into 8 ranks; without --ranks it is 8 ranks" whatif "$tmp/six.db" --placement
exits 0 "" whatif "$tmp/six.db" --placement --ranks 3
exits 2 "no router preset 'nonsense'" whatif "$db" --preset nonsense
exits 2 "'x' is not a list of numbers" whatif "$db" --capacity --factors x
exits 2 "--k: 1.5 is not a whole number" whatif "$db" --topk --k 1.5
exits 2 "one database is needed" whatif
exits 2 "no domain 'x'" whatif "$db" --domain x

# The same figures from one thread as from all. (One processor: the same thing twice.)
for q in --capacity --topk --prune --cache --cache-routing --placement --reroute; do
	"$M" whatif "$db" $q --json --batch 77 >"$tmp/all.json" 2>&1
	taskset -c "$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')" "$M" whatif "$db" $q --json --batch 77 >"$tmp/one.json" 2>&1
	cmp -s "$tmp/all.json" "$tmp/one.json" || fail "$q: the number of threads changes the figures"
done

# plan: the page of the sample model with a trace, and refusals.
"$M" plan --preset mixtral-8x7b --json >"$tmp/plan.json" 2>/dev/null
alike "$(json "j.value->>'value'" "$tmp/plan.json" "WHERE j.value->>'item' = 'parameters_total' AND
	j.value->>'basis' = 'published'")" 46700000000 "published size"
"$M" plan sample:balanced sample-traces/balanced-routes.db --json --cache-mem 0.012 >"$tmp/plan.json" 2>/dev/null
expect "$(json "count(*) > 5" "$tmp/plan.json" "WHERE j.value->>'basis' = 'trace'")" 1 "the trace's skew"
"$M" inspect sample:balanced --json >"$tmp/inspect.json"
expect "$(json "j.value->>'value'" "$tmp/plan.json" "WHERE j.value->>'item' = 'parameters_active'" | cut -d. -f1)" \
	"$(json "j.value->>'parameters_active'" "$tmp/inspect.json" '')" "plan and inspect agree"
"$M" plan --list --csv >"$tmp/list.csv"
expect "$(wc -l <"$tmp/list.csv")" 13 "presets"
grep -q '^gpt-4,.*RUMOUR' "$tmp/list.csv" || fail "GPT-4 is not marked as a rumour"
exits 3 "the trace has 4 MoE layers, the model 32" plan --preset mixtral-8x7b sample-traces/balanced-routes.db
exits 2 "a dense model has no routing" plan --preset alexatm-20b sample-traces/balanced-routes.db
exits 2 "no preset 'x'" plan --preset x
exits 2 "no format 'x'" plan --preset mixtral-8x7b --quant x
exits 2 "are needed, or --preset" plan
echo ok
