#!/bin/sh
# audit-replay.sh - recorded runs give the same bits again for any threads, batch and instruction set; and
# the negative controls: one flipped bit in a used expert and in the gate is caught, in an unused expert
# the model's hash differs although the routes match; other precision and other rows are caught.
. "${0%/*}/check.inc"
poke=$(dirname "$MOESCOPE")/tests/poke
gen() { # what, arguments of `run`: its text may hold any bytes
	what=$1
	shift
	run_it run "$@"
	[ $got = 0 ] || no "$what: exit $got: $(cat "$W/err")"
}
mkdir keys
ok init audit init a.db --origin example.org/a --key keys/k
gen "a run" -d a.db -n 30 -s 5 -t 1 -b 7 "$tiny" "Once upon a time there was"
ok "a profile" profile "$tiny" "$root/models/texts/c.txt" "$root/models/texts/french.txt" -d a.db -q --max-tokens 400 \
	--generate 8
r() { # exit status, words, arguments
	want=$1 words=$2
	shift 2
	run_it audit replay a.db --unlogged "$@"
	[ $got = "$want" ] || no "replay $*: exit $got, expected $want: $(head -c 600 "$W/out" "$W/err")"
	says "replay $*" "$words" out
	harmless "replay $*"
}
for t in 1 2 3 8; do
	for b in 1 7 32 512; do
		r 0 '1 BIT_EXACT' 1 --model "$tiny" -t $t -b $b
		grep -q 'DIVERGED\|ROUTE\|NOT_' out && no "threads $t, batch $b: $(cat out)"
	done
done
for isa in plain avx2 avx512 amx neon dotprod; do
	"$MOESCOPE" bench --isa $isa --pairs 1 --prefill 1 --decode 1 --no-log "$tiny" >/dev/null 2>&1 || continue
	r 0 'BIT_EXACT' 2 --model "$tiny" --isa $isa
	grep -q 'DIVERGED\|ROUTE\|NOT_' out && no "isa $isa: $(cat out)"
done

# ---- negative controls; tensors are F32, [expert][row][column] ----
k() { sqlite3 -cmd ".load $(dirname "$MOESCOPE")/moescope_routing" a.db "$1"; }
used=$(k "SELECT expert FROM routing WHERE run = 1 AND layer = 1 GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")
bytes=$("$MOESCOPE" inspect "$tiny" --tensors | awk '$1 == "blk.1.ffn_down_exps.weight" { print $3 * $5 * 4 }')
[ "${bytes:-0}" -gt 0 ] || no "no shape of blk.1.ffn_down_exps.weight: $("$MOESCOPE" inspect "$tiny" --tensors | tail -5)"
"$poke" "$tiny" blk.1.ffn_down_exps.weight "@$((used * bytes + 2)):6" used.gguf || no "poke"
r 2 'NOT_COMPARABLE|model_sha256' 1 --model used.gguf
r_caught() { # model, run: anything but bit exact
	run_it audit replay a.db "$2" --unlogged --anyway --model "$1"
	[ $got -le 1 ] || no "$1: exit $got: $(cat "$W/err")"
	grep -q '^sequence .*BIT_EXACT' out && no "$1 is not caught: $(cat out)"
	says "$1" 'not as recorded: model_sha256' out
}
r_caught used.gguf 1
"$poke" "$tiny" blk.0.ffn_gate_inp.weight "@$(( $(k "SELECT expert FROM routing WHERE run = 1 AND layer = 0 AND
	rank = 0 GROUP BY 1 ORDER BY count(*) DESC LIMIT 1") * 64 * 4 + 2)):6" gate.gguf || no "poke"
r_caught gate.gguf 1
"$poke" "$tiny" blk.0.ffn_down_exps.weight '~' bf16.gguf || no "poke"
r_caught bf16.gguf 1
# An expert that a short run did not use.
gen "a short run" -d a.db -n 1 -s 5 "$tiny" "x"
short=$(q a.db 'SELECT max(id) FROM run')
unused=$(k "WITH RECURSIVE e(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM e WHERE i < 7) SELECT i FROM e WHERE i NOT IN
	(SELECT expert FROM routing WHERE run = $short AND layer = 1) LIMIT 1")
[ -n "$unused" ] || no "all experts were used"
"$poke" "$tiny" blk.1.ffn_down_exps.weight "@$((unused * bytes + 2)):6" unused.gguf || no "poke"
r 0 'not as recorded: model_sha256|1 BIT_EXACT' "$short" --anyway --model unused.gguf
# ---- the same model in other precision: the verdict names it ----
ok quantize quantize "$tiny" q8.gguf --type Q8_0
r 2 'NOT_COMPARABLE|model_sha256: recorded|quant: recorded F32, given Q8_0' 1 --model q8.gguf
r_caught q8.gguf 1
grep -q 'DIVERGED\|ROUTE_E' out || no "another quantisation: $(cat out)"
gen "a quantised run" -d a.db -n 20 -s 2 q8.gguf "Once upon a time there was"
quantised=$(q a.db 'SELECT max(id) FROM run')
r 0 '1 BIT_EXACT' "$quantised" --model q8.gguf -t 3 -b 1
big=sample:balanced # its rows are long enough to be rounded
gen "with usual arithmetic" -d a.db -n 20 -s 2 $big "Once upon a time"
r 2 "NOT_COMPARABLE|arithmetic: recorded|now |--activations" 0 --model $big --activations f32
r 2 "NOT_COMPARABLE|arithmetic: recorded|kv:f32|--kv-type" 0 --model $big --kv-type f32
r_differs() { # words, arguments: compared in spite of it, never bit exact, and it says what differs
	words=$1
	shift
	run_it audit replay a.db --unlogged --anyway "$@"
	[ $got -le 1 ] || no "replay --anyway $*: exit $got: $(cat err)"
	grep -q '^sequence .*BIT_EXACT' out && no "replay --anyway $*: $(cat out)"
	says "replay --anyway $*" "not as recorded: $words" out
}
r_differs arithmetic --model $big --activations f32
r_differs arithmetic --model $big --kv-type q8_0
gen "with other arithmetic" -d a.db -n 20 -s 2 $big "Once upon a time" --activations f32 --kv-type q8_0
r 0 '1 BIT_EXACT' --model $big --activations f32 --kv-type q8_0
r 2 'arithmetic: recorded' --model $big

# ---- adapters: which, in which order, at which scale ----
base=$models/qwen2moe.gguf
one=$root/tests/data/lora/plain.gguf two=$root/tests/data/lora/types.gguf
gen "adapted" -d a.db -n 20 -s 2 "$base" "x y z" --lora "$one:0.1" --lora "$two:-0.5"
r 0 '1 BIT_EXACT' --model "$base" --lora "$one:0.1" --lora "$two:-0.5"
cp "$one" moved.gguf
r 0 '1 BIT_EXACT' --model "$base" --lora "moved.gguf:0.1" --lora "$two:-0.5"
r 2 'NOT_COMPARABLE|adapter 1: recorded 0.1 of|adapter 2: recorded -0.5 of|now none (--lora)' --model "$base"
r 2 'adapter 2: recorded -0.5 of|now none' --model "$base" --lora "$one:0.1"
r 2 'adapter 1: recorded 0.1 of|now 0.10000001 of' --model "$base" --lora "$one:0.10000001" --lora "$two:-0.5"
r 2 'adapter 1: recorded|adapter 2: recorded' --model "$base" --lora "$two:-0.5" --lora "$one:0.1"
r_differs 'adapter 1' --model "$base"
gen "not adapted" -d a.db -n 8 -s 2 "$base" "x y z"
r 2 'adapter 1: recorded none, now 1 of' --model "$base" --lora "$one"

# ---- the expert cache changes no bit; routing that heeds it cannot be run again ----
gen "with a cache" -d a.db -n 8 -s 2 "$base" "x y z" --expert-cache 30%
r 0 '1 BIT_EXACT' --model "$base"
r 0 '1 BIT_EXACT' --model "$base" --expert-cache 20% --expert-policy lfu
r 2 'cache-aware routing: recorded off, now on' --model "$base" --expert-cache 30% --cache-aware 1,6
gen "cache-aware" -d a.db -n 8 -s 2 "$base" "x y z" --expert-cache 30% --cache-aware 1,6
r 2 'NOT_COMPARABLE|cache-aware routing' --model "$base"
r_differs 'cache-aware' --model "$base"

# ---- rounded weights: choices and logits are compared all the same, weights where they are exact ----
for w in exact 16bit 8bit none; do
	gen "weights $w" -d a.db -n 12 -s 4 "$tiny" "Once upon a time" --weights $w
	r 0 '1 BIT_EXACT' --model "$tiny" -t 2
	run_it audit replay a.db --unlogged --model used.gguf --anyway
	grep -q '^sequence .*BIT_EXACT' out && no "weights $w: a flipped bit is not caught"
done
"$(dirname "$MOESCOPE")/moescope-verify" -p keys/k.pub --deep a.db >out 2>err
[ $? = 2 ] || no "a log of rounded weights: $(cat out err)"
for sql in "UPDATE setting SET value = replace(value, '0.1 ', '0.2 ') WHERE key = 'adapter 1'" \
	"DELETE FROM setting WHERE key = 'adapter 2'" "INSERT INTO setting VALUES(1, 'adapter 1', '1 x y')" \
	"UPDATE run SET weights = 'none' WHERE weights = '8bit'"; do
	cp a.db b.db
	sqlite3 b.db "$sql"
	"$(dirname "$MOESCOPE")/moescope-verify" -p keys/k.pub --deep b.db >out 2>err
	[ $? = 1 ] || no "$sql: $(head -c 500 out)"
done
cp a.db b.db
sqlite3 b.db "UPDATE chunk SET weights = CAST(x'0000' || substr(weights, 3) AS BLOB) WHERE run = 1 AND id =
	(SELECT min(id) FROM chunk WHERE run = 1)"
run_it audit replay b.db 1 --unlogged --model "$tiny"
[ $got = 0 ] || no "a changed weight: exit $got: $(cat out err)"
says "a changed weight" 'ROUTE_EXACT|weights or margins of 1 decisions' out
# A recorded choice that was changed afterwards.
cp a.db b.db
sqlite3 b.db "UPDATE chunk SET experts = CAST(x'0000' || substr(experts, 3) AS BLOB) WHERE run = 1 AND
	substr(experts, 1, 2) <> x'0000' AND id = (SELECT min(id) FROM chunk WHERE run = 1)"
if [ "$(sqlite3 b.db 'SELECT changes()')" != 0 ] || ! cmp -s a.db b.db; then
	run_it audit replay b.db 1 --unlogged --model "$tiny"
	[ $got = 1 ] || no "a changed choice: exit $got: $(cat out err)"
	says "a changed choice" 'DIVERGED|position 0, layer 0' out
fi
ok redact audit redact a.db 1 --basis test
r 2 'NOT_COMPARABLE|redacted' 1 --model "$tiny"
refuse 2 'model FILE' audit replay a.db 1
r 2 'NOT_COMPARABLE|routers: other layers' 1 --anyway --model sample:collapsed
finish
