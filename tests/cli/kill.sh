#!/bin/sh
# kill.sh - the real program killed (-9) in the middle of `run` and `profile`: what was committed is
# whole, load equals what its chunks say, the next run works, marks the dead one failed and adds one
# recovery event. Ctrl-C, once or twice, and SIGTERM close the run as done, with nothing lost, exit
# 130.
. "$(dirname "$0")/check.inc"
command -v sqlite3 >/dev/null || { echo "no sqlite3 shell"; exit 77; }

# About 400,000 tokens in three domains: far more than the time that a run is given.
awk 'BEGIN {
	split("law math code", domain, " ")
	for (i = 0; i < 3000; i++) {
		text = ""
		for (j = 0; j < 30; j++)
			text = text " w" (i * 7 + j * j) % 97
		printf "{\"domain\": \"%s\", \"text\": \"%s\"}\n", domain[i % 3 + 1], text
	}
}' >texts.jsonl

# Counts of load (u64 little-endian, read with the shell) beside those of the chunks, cell by cell.
counts_of_load="WITH RECURSIVE e(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM e WHERE i < 7),
	b(i, v) AS (VALUES (1, 1), (2, 256), (3, 65536), (4, 16777216), (5, 4294967296)),
	c AS (SELECT run, domain, phase, layer, i AS expert, (SELECT sum(v *
		(instr('0123456789ABCDEF', substr(hex(substr(counts, e.i * 8 + b.i, 1)), 1, 1)) * 16 - 16 +
		instr('0123456789ABCDEF', substr(hex(substr(counts, e.i * 8 + b.i, 1)), 2, 1)) - 1))
		FROM b) AS n FROM load, e)
	SELECT run, domain, phase, layer, expert, sum(n) FROM c GROUP BY 1, 2, 3, 4, 5
	HAVING sum(n) > 0 ORDER BY 1, 2, 3, 4, 5"
counts_of_chunks="SELECT run, domain, phase, layer, expert, count(*) FROM routing
	GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"

check() { # what, database
	same "$1: integrity" "$(q "$2" 'PRAGMA integrity_check')" ok
	sqlite3 -csv "$2" "$counts_of_load" >load.csv
	q "$2" "$counts_of_chunks" >chunks.csv
	cmp -s load.csv chunks.csv || no "$1: load and chunks differ: $(diff load.csv chunks.csv | head -4)"
	same "$1: holes" "$(q "$2" "SELECT count(*) FROM (SELECT pos, lag(pos + n, 1, 0) OVER
		(PARTITION BY sequence ORDER BY pos) AS expected FROM chunk) WHERE pos <> expected")" 0
	same "$1: chunks without a sequence" "$(q "$2" "SELECT count(*) FROM chunk
		WHERE sequence NOT IN (SELECT id FROM sequence WHERE sequence.run = chunk.run)")" 0
	# Their number of tokens, whatever the experts: load, per layer, against the chunks.
	same "$1: tokens" "$(q "$2" "SELECT count(*) FROM (SELECT l.run, l.layer, l.t, c.t AS u FROM
		(SELECT run, layer, sum(tokens) AS t FROM load GROUP BY run, layer) l
		LEFT JOIN (SELECT run, sum(n) AS t FROM chunk GROUP BY run) c ON c.run = l.run
		WHERE l.t IS NOT u)")" 0
}

start() { # how, database: in the background
	case $1 in
	run) "$MOESCOPE" run "$tiny" 'Once upon a time' --db "$2" -n 16000000 --ctx 16000 --ignore-end --seed "$n" \
		--domain tale >/dev/null 2>err & ;;
	full) "$MOESCOPE" profile "$tiny" texts.jsonl --db "$2" --detail full --threads 2 -q 2>err & ;;
	*) "$MOESCOPE" profile "$tiny" texts.jsonl --db "$2" --generate 8 -q 2>err & ;;
	esac
	pid=$!
}

# ---- kill -9, on one database ----
# Moments drawn from the clock; they are said when something fails.
seed=$(date +%s)
moments=$(awk -v s="$seed" 'BEGIN { srand(s); for (i = 0; i < 6; i++) printf "%.2f ", 0.15 + rand() * 0.9 }')
n=0 dead=0 wrote=0
for ms in $moments; do
	case $((n % 3)) in 0) how=run ;; 1) how=profile ;; 2) how=full ;; esac
	before=$(q k.db 'SELECT max(id) FROM run' 2>/dev/null)
	start $how k.db
	sleep "$ms"
	kill -9 $pid 2>/dev/null || no "$how ended before it was killed: $(cat err)"
	wait $pid 2>/dev/null
	n=$((n + 1))
	[ -s k.db ] && [ "$(q k.db 'SELECT max(id) FROM run')" != "$before" ] || continue # too early
	dead=$((dead + 1))
	same "$how killed after $ms: its state" "$(q k.db 'SELECT state FROM run ORDER BY id DESC LIMIT 1')" live
	check "$how killed after $ms" k.db
	[ "$(q k.db 'SELECT count(*) FROM chunk WHERE run = (SELECT max(id) FROM run)')" -gt 0 ] && wrote=$((wrote + 1))
	same "$how killed after $ms: earlier runs" \
		"$(q k.db "SELECT count(*) FROM run WHERE state <> 'failed' AND id < (SELECT max(id) FROM run)")" 0
done
[ $dead -ge 3 ] || no "only $dead of 6 runs had begun when they were killed ($moments)"
[ $wrote -ge 2 ] || no "only $wrote of 6 runs had written when they were killed ($moments)"
run_it run "$tiny" 'And then' --db k.db -n 50 --seed 1
same 'the run after the kills' $got 0
check 'after the kills' k.db
[ "$(wc -l <chunks.csv)" -gt 40 ] || no "too few cells: $(wc -l <chunks.csv)"
same 'runs failed' "$(q k.db "SELECT count(*) FROM run WHERE state = 'failed' AND ended IS NOT NULL")" $dead
same 'recovery events' "$(q k.db "SELECT count(*) || ' ' || count(DISTINCT run) FROM event WHERE kind = 'recovery'")" \
	"$dead $dead"
same 'the last run' "$(q k.db 'SELECT state FROM run ORDER BY id DESC LIMIT 1')" done
for left in k.db-*; do
	[ ! -e "$left" ] || no "$left is left after a clean end"
done

# ---- the polite ways ----
for how in run profile full; do
	for signal in INT TERM twice; do
		db=$how-$signal.db
		start $how $db
		i=0
		while [ $i -lt 100 ] && [ "$(q $db 'SELECT count(*) > 2 FROM chunk' 2>/dev/null)" != 1 ]; do
			sleep 0.1
			i=$((i + 1))
		done
		if [ $signal = twice ]; then # the second one before the run is closed
			kill -INT $pid
			sleep 0.001
			kill -INT $pid
		else
			kill -$signal $pid
		fi
		wait $pid
		same "$how after SIG$signal: exit" $? 130
		check "$how after SIG$signal" $db
		same "$how after SIG$signal: state" "$(q $db 'SELECT state FROM run')" done
		same "$how after SIG$signal: open sequences" "$(q $db 'SELECT count(*) FROM sequence WHERE ended IS NULL')" 0
		# Every token that the engine says it took is in the chunks.
		same "$how after SIG$signal: tokens" "$(q $db 'SELECT sum(n_prompt + n_generated) FROM sequence')" \
			"$(q $db 'SELECT sum(n) FROM chunk')"
		same "$how after SIG$signal: events" "$(q $db "SELECT count(*) FROM event WHERE kind <> 'energy'")" 0
		for left in "$db"-*; do
			[ ! -e "$left" ] || no "$left is left after SIG$signal"
		done
	done
done

# ---- nobody reads the text any more ----
mkfifo text
"$MOESCOPE" run "$tiny" 'Once upon a time' --db pipe.db -n 16000000 --ctx 16000 --ignore-end --seed 1 >text 2>err &
pid=$!
head -c 2000 text >/dev/null
wait $pid
same 'a closed pipe: exit' $? 4
same 'a closed pipe: state' "$(q pipe.db 'SELECT state FROM run')" done
same 'a closed pipe: tokens' "$(q pipe.db 'SELECT n_prompt + n_generated FROM sequence')" \
	"$(q pipe.db 'SELECT sum(n) FROM chunk')"
grep -q 'standard output' err || no "a closed pipe: $(cat err)"
check 'a closed pipe' pipe.db
finish
