#!/bin/sh
# memory.sh - options that decide what is in memory: adapters, the type of keys and values, the expert
# cache, cache-aware routing. What they promise about results, what the database says, what is refused.
. "$(dirname "$0")/check.inc"
command -v sqlite3 >/dev/null || { echo "no sqlite3 shell"; exit 77; }
base=$models/qwen2moe.gguf
lora=$root/tests/data/lora
prompt='The quick brown fox jumps over the lazy dog.'
say="run $base --seed 3 --temperature 0.7 -n 40 --ignore-end --detail full"

text() { # file, options
	out=$1
	shift
	rm -f "$out.db"
	# shellcheck disable=SC2086
	"$MOESCOPE" $say "$prompt" --db "$out.db" "$@" >"$out" 2>"$out.err" || no "$*: $(cat "$out.err")"
}
picks() { q "$1" "SELECT pos, layer, rank, expert, weight, margin FROM routing ORDER BY 1, 2, 3" | cksum; }

# ---- a cache of any size and policy gives the same text and the same decisions
text plain
for how in '--expert-cache 10%' '--expert-cache 20K --batch 3' '--expert-cache 40% --expert-policy lfu' \
	'--expert-cache 30% --expert-policy static:plain.db --threads 1' '--expert-cache 100%'; do
	# shellcheck disable=SC2086
	text cached $how
	cmp -s plain cached || no "$how: another text"
	same "$how: decisions" "$(picks cached.db)" "$(picks plain.db)"
done

# ---- nor does it matter where the weights are
for how in '--load copy' '--load map' '--load auto' '--load copy --expert-cache 20%'; do
	# shellcheck disable=SC2086
	text where $how
	cmp -s plain where || no "$how: another text"
done
refuse 2 '--load|auto|map|copy' run "$base" --load disk x

# ---- its figures: decoding needs k experts of each layer for a token
text cached --expert-cache 30%
same "accesses of decoding" "$("$MOESCOPE" stat cached.db --cache --csv 2>/dev/null | tr -d '\r' |
	awk -F, '$2 == "decode" { print $4 + $5 }')" \
	"$(sqlite3 cached.db "SELECT sum(l.tokens * m.k) FROM load l JOIN moe_layer m USING (layer) WHERE phase = 1")"
[ "$(q plain.db 'SELECT count(*) FROM routing')" -gt 300 ] || no 'too few decisions to compare'
same "bytes read" "$(sqlite3 cached.db 'SELECT sum(bytes) = 12288 * sum(misses) AND sum(misses) > 0 FROM cache')" 1
says "the run's last lines" 'expert cache: 7 of 24 experts|found' cached.err
ok 'settings' stat cached.db --settings
says 'settings' 'expert cache|7 of 24 experts, 12288 bytes each, lru|kv type|f16' "$W/out"
ok 'dashboard' top cached.db --once --json
says 'dashboard' '"cache_hit_rate":0.|"cache_read_bytes":' "$W/out"
ok 'no cache' stat plain.db --cache
says 'no cache' 'used no expert cache' "$W/err"

# ---- cache-aware routing says what it did
text aware --expert-cache 30% --cache-aware 1,6
edited=$(sqlite3 aware.db 'SELECT sum(n_edited) FROM load')
[ "$edited" -gt 20 ] || no "cache-aware: only $edited decisions were changed"
says 'cache-aware' "cache-aware routing changed $edited of" aware.err
same "event" "$(sqlite3 aware.db "SELECT text FROM event WHERE kind = 'edit'")" cache-aware
ok 'aware' stat aware.db
says 'aware' "a hook changed $edited of these" "$W/err"
ok 'aware settings' stat aware.db --settings
says 'aware settings' '1,6: keep, highest rank; choices depend on what the expert cache held' "$W/out"
same "the router's own choice" "$(sqlite3 aware.db 'SELECT count(before) > 0 FROM chunk')" 1
same "of a run without it" "$(sqlite3 cached.db 'SELECT count(before) FROM chunk')" 0

# ---- adapters
text none --lora "$lora/plain.gguf:0"
cmp -s plain none || no 'an adapter times 0 gives another text'
text adapted --lora "$lora/plain.gguf" --lora "$lora/types.gguf:-0.5"
cmp -s plain adapted && no 'adapters give the same text'
same "adapters" "$(sqlite3 adapted.db "SELECT value FROM setting WHERE key LIKE 'adapter%' ORDER BY key")" \
	"1 $(sha256sum <"$lora/plain.gguf" | cut -d' ' -f1) $lora/plain.gguf
-0.5 $(sha256sum <"$lora/types.gguf" | cut -d' ' -f1) $lora/types.gguf"
text both --lora "$lora/plain.gguf" --lora "$lora/types.gguf:-0.5" --expert-cache 20% --batch 2
cmp -s adapted both || no 'adapters and a cache: another text than without the cache'

# ---- types of keys and values
for type in f32 q8_0; do
	"$MOESCOPE" run "$tiny" "$prompt" --seed 3 -n 20 --ignore-end --kv-type $type --db "$type.db" >"$type" 2>err ||
		no "$type: $(cat err)"
	same "$type" "$(sqlite3 "$type.db" "SELECT value FROM setting WHERE key = 'kv type'")" $type
done

# ---- refused
refuse 2 "--expert-cache: '0' is no size" run "$base" x --expert-cache 0
refuse 2 "'12X' is no size" run "$base" x --expert-cache 12X
refuse 2 "'101%' is no size" run "$base" x --expert-cache 101%
refuse 2 "'-1G' is no size" run "$base" x --expert-cache -1G
refuse 2 "'nan' is no size" run "$base" x --expert-cache nan
refuse 2 'an expert cache of 1024 bytes|one expert takes 12288|all 24 of them 294912' run "$base" x --expert-cache 1K
refuse 2 'a model without experts' run "$models/llama.gguf" x --expert-cache 1G
refuse 2 "'fifo' is none of lru, lfu, static:TRACE" run "$base" x --expert-cache 1M --expert-policy fifo
refuse 2 '--expert-policy needs --expert-cache' run "$base" x --expert-policy lru
refuse 2 '--cache-aware needs --expert-cache' run "$base" x --cache-aware 1,4
refuse 2 "'1' is not KEEP,RANK" run "$base" x --expert-cache 1M --cache-aware 1
refuse 2 'top-2 of 8 experts|keep may be 0 to 1|rank 2 to 8' run "$base" x --expert-cache 1M --cache-aware 2,4
refuse 3 'static:no.db|no.db' run "$base" x --expert-cache 1M --expert-policy static:no.db
"$MOESCOPE" run "$models/olmoe.gguf" x -n 1 --db other.db >/dev/null 2>&1
refuse 3 'static:other.db|16 experts at layer 0, this one 8' run "$base" x --expert-cache 1M --expert-policy static:other.db
refuse 3 "general.architecture is 'qwen2moe', expected 'olmoe'" run "$models/olmoe.gguf" x --lora "$lora/plain.gguf"
refuse 3 'adapter|general.type is missing' run "$base" x --lora "$base"
refuse 3 'nothing.gguf' run "$base" x --lora nothing.gguf:2
head -c 50000 "$lora/plain.gguf" >cut.gguf
refuse 3 'cut.gguf' run "$base" x --lora cut.gguf
refuse 2 'heads of layer 0 have 16|f16 or f32' run "$base" x --kv-type q8_0
finish
