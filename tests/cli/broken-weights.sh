#!/bin/sh
# broken-weights.sh - numbers that are none in a model's weights: it runs to the end, every decision
# that could not be made is counted (load.n_nan) and the first of a layer is an event; every way of
# looking at the run works. And a model that is cut while it runs: one line, exit 3.
. "$(dirname "$0")/check.inc"
poke=$(dirname "$MOESCOPE")/tests/poke
text='The quick brown fox jumps over the lazy dog.'
nan=0000c07f inf=0000807f minus=000080ff huge=ffff7f7f

look() { # what: at the newest run of n.db
	for f in '' --json --csv; do
		for c in '' '--by expert' '--by domain' '--specialisation' '--locality' '--coactivation' '--alarms' '--runs'; do
			# shellcheck disable=SC2086
			ok "$1: stat $c $f" stat n.db $c $f
			if [ "$f" = --json ]; then
				grep -iqE '[:,[] *-?(nan|inf)' out && no "$1: stat $c --json has numbers that JSON lacks"
			fi
		done
	done
	ok "$1: report" report n.db --format json -o -
	grep -iqE '[:,[] *-?(nan|inf)' out && no "$1: the report's JSON has numbers that JSON lacks"
	ok "$1: report" report n.db -o n.html
	ok "$1: sql" sql n.db --json 'SELECT layer, expert, count(*), sum(weight), avg(margin) FROM routing GROUP BY 1, 2'
	same "$1: integrity" "$(q n.db 'PRAGMA integrity_check')" ok
}

try() { # tensor, bytes, layers with NaN decisions in order, tokens of them: all or none
	what="$1 of $2"
	"$poke" "$tiny" "$1" "$2" broken.gguf || no "$what: poke failed"
	rm -f n.db*
	run_it run broken.gguf "$text" --db n.db -n 30 --seed 1 --detail full --ignore-end --domain d
	same "$what: exit of run: $(head -c 200 err)" $got 0
	same "$what: layers with NaN" "$(q n.db 'SELECT group_concat(layer, " ") FROM (SELECT layer FROM load
		GROUP BY layer HAVING sum(n_nan) > 0 ORDER BY layer)' | tr -d '"')" "$3"
	same "$what: decisions with NaN" "$(q n.db 'SELECT count(*) FROM (SELECT 1 FROM load GROUP BY layer
		HAVING sum(n_nan) NOT IN (0, sum(tokens)))')" 0
	same "$what: events" "$(q n.db "SELECT group_concat(layer, ' ') FROM (SELECT layer FROM event WHERE kind = 'nan'
		ORDER BY layer)" | tr -d '"')" "$3"
	same "$what: state" "$(q n.db 'SELECT state FROM run')" done
	rm -f p.db*
	printf '{"domain": "a", "text": "%s"}\n{"domain": "b", "text": "%s"}\n' "$text" "$text" >t.jsonl
	ok "$what: profile" profile broken.gguf t.jsonl --db p.db --generate 4
	[ "$3" = '' ] || look "$what"
}

try blk.1.ffn_gate_inp.weight $nan '1'
try blk.0.ffn_gate_inp.weight $inf '0'
try blk.2.ffn_gate_inp.weight $minus '2'
try blk.0.ffn_down_exps.weight $nan '1 2'
try token_embd.weight $nan '0 1 2'
try blk.1.attn_q.weight $nan '1 2'
try output_norm.weight $nan ''
try blk.0.attn_norm.weight $huge '0 1 2'

# ---- cut while it is mapped ----
cp "$tiny" cut.gguf
"$MOESCOPE" run cut.gguf "$text" --db cut.db -n 16000000 --ctx 16000 --ignore-end --seed 1 >/dev/null 2>err &
pid=$!
i=0
while [ $i -lt 100 ] && [ "$(q cut.db 'SELECT count(*) > 2 FROM chunk' 2>/dev/null)" != 1 ]; do
	sleep 0.1
	i=$((i + 1))
done
: >cut.gguf
wait $pid
same 'a model cut under way: exit' $? 3
same 'a model cut under way: lines' "$(grep -vc 'warning: --ctx' err)" 1
says 'a model cut under way' 'moescope|cut.gguf|was cut' err
same 'a model cut under way: integrity' "$(q cut.db 'PRAGMA integrity_check')" ok
[ "$(q cut.db 'SELECT count(*) FROM chunk')" -gt 2 ] || no 'a model cut under way: its chunks are gone'
run_it run "$tiny" "$text" --db cut.db -n 3 --seed 1
same 'a model cut under way: the next run' $got 0
same 'a model cut under way: states' "$(q cut.db 'SELECT group_concat(state) FROM run' | tr -d '"')" failed,done
finish
