#!/bin/sh
# errors.sh - bad input gives one clear line on stderr that names the thing and the numbers, and a
# documented exit code (src/cmd/main.c); what was there before is untouched.
. "$(dirname "$0")/check.inc"

# ---- model files ----
refuse 3 'nothere.gguf|No such file' inspect nothere.gguf
refuse 3 'nothere.gguf|No such file' run nothere.gguf hello --db run.db
mkdir dir
refuse 3 'dir|a directory' inspect dir
mkfifo fifo
refuse 3 'fifo|a FIFO' inspect fifo
refuse 3 '/dev/zero|a device' inspect /dev/zero
: >empty.gguf
refuse 3 'empty.gguf|0 bytes|24' inspect empty.gguf
head -c 23 "$tiny" >short.gguf
refuse 3 'short.gguf|23 bytes|24' inspect short.gguf
head -c 4096 /dev/zero >zeros.gguf
refuse 3 'zeros.gguf|00 00 00 00|47 47 55 46' inspect zeros.gguf
{ printf 'FUGG'; tail -c +5 "$tiny"; } >swapped.gguf
refuse 3 'swapped.gguf|big-endian' inspect swapped.gguf
{ head -c 4 "$tiny"; printf '\001'; tail -c +6 "$tiny"; } >v1.gguf
refuse 3 'v1.gguf|version 1|2 and 3' inspect v1.gguf
{ head -c 8 "$tiny"; printf '\377\377\377\377\377\377\377\377'; tail -c +17 "$tiny"; } >many.gguf
refuse 3 'many.gguf|18446744073709551615|tensors' inspect many.gguf

# Cut at about 200 places: denser in the metadata, up to the last byte.
size=$(wc -c <"$tiny")
at=0 n=0
while [ $at -lt "$size" ]; do
	head -c $at "$tiny" >cut.gguf
	refuse_only 3 'cut.gguf' inspect cut.gguf
	[ $((n % 20)) != 0 ] || refuse_only 3 'cut.gguf' run cut.gguf hello --db run.db
	n=$((n + 1))
	at=$((at + (at < 14000 ? 97 : (size - 14000) / 60)))
done
[ $n -gt 190 ] || no "only $n cuts"
head -c $((size - 1)) "$tiny" >cut.gguf
refuse 3 'cut.gguf|file has' inspect cut.gguf

# Other strings of the same length in their place.
swap() { sed "s/$1/$2/g" "$tiny" >swap.gguf; }
swap qwen3moe qwen9moe
refuse 3 "swap.gguf|'qwen9moe' is not supported|llama|qwen3moe" inspect swap.gguf
swap general.architecture general.architectura
refuse 3 'swap.gguf|general.architecture is missing' inspect swap.gguf
swap block_count block_coumt
refuse 3 'swap.gguf|qwen3moe.block_count is missing' inspect swap.gguf
swap expert_used_count expert_used_coumt
refuse 3 'swap.gguf|expert_used_count 0 of expert_count 8' inspect swap.gguf
swap blk.2.ffn_gate_inp blk.2.ffn_gate_onp
refuse 3 'swap.gguf|blk.2.ffn_gate_inp.weight is missing' inspect swap.gguf
refuse 3 'swap.gguf|blk.2.ffn_gate_inp.weight is missing' run swap.gguf hi --db run.db
swap token_embd.weight token_embt.weight
refuse 3 'swap.gguf|token_embd.weight is missing' inspect swap.gguf
swap tokenizer.ggml.merges tokenizer.ggml.mergas
refuse 3 'tokenizer|tokenizer.ggml.merges is missing' run swap.gguf hi --db run.db
swap tokenizer.ggml.tokens tokenizer.ggml.tokans
refuse 3 'tokenizer|tokenizer.ggml.tokens is missing' run swap.gguf hi --db run.db
[ ! -e run.db ] || no "a refused model left a database"

# ---- what is asked of a good model ----
long=$(head -c 3000 /dev/zero | tr '\0' 'x')
refuse 3 'context 32|tokens' run "$tiny" "$long" --ctx 32 --db long.db
grep -q 'the prompt has [0-9]* tokens' err || no "the prompt's length is not named"
refuse 4 "16777216|memory" run "$models/quant.gguf" hi --ctx 16777216 --batch 65536 --kv-type f32 --db long.db
refuse 2 'plain' run "$tiny" hi --isa nosuch --db long.db
refuse 2 'sample:nosuch' inspect sample:nosuch
refuse 3 'dense|no routers' profile "$models/llama.gguf" --db long.db
[ ! -e long.db ] || no "a refused run left a database"

# ---- options ----
refuse 2 "--nosuch" run "$tiny" hi --nosuch
refuse 2 "-Z" run "$tiny" hi -Z
refuse 2 '--db needs FILE' run "$tiny" hi --db
refuse 2 "--predict 'many'|not a whole number" run "$tiny" hi -n many
refuse 2 '--predict -1|0 to' run "$tiny" hi -n -1
refuse 2 '--threads 0|1 to 256' run "$tiny" hi --threads 0
refuse 2 '--threads 257|1 to 256' run "$tiny" hi --threads 257
refuse 2 "--ctx '99999999999999999999'|not a whole number" run "$tiny" hi --ctx=99999999999999999999
refuse 2 '--ctx' run "$tiny" hi --ctx 0
refuse 2 '--batch' run "$tiny" hi --batch 65537
refuse 2 "--top-p 'x'|not a number" run "$tiny" hi --top-p x
refuse 2 '--top-p 1.5|0 to 1' run "$tiny" hi --top-p 1.5
refuse 2 "--temperature 'nan'" run "$tiny" hi --temperature nan
refuse 2 "--detail 'most'|counts|routes|full" run "$tiny" hi --detail most
refuse 2 '--no-log takes no value' run "$tiny" hi --no-log=1
refuse 2 '3 operands' run "$tiny" hi there
refuse 2 'one model' inspect "$tiny" "$tiny"
refuse 2 "no command 'nosuch'" nosuch
refuse 2 "no command 'nosuch'" help nosuch
refuse 2 'one database' stat
refuse 2 'one database' report
run_it
[ $got = 2 ] || no "no command: exit $got"

# ---- the database ----
for seed in 1 2; do # its text goes to a pipe as it is, so not through `ok`
	run_it run "$tiny" 'Hello world, this is a test.' --db good.db -n 20 --seed $seed --domain plain
	same 'a good run' $got 0
done
sum=$(cksum <good.db)
refuse 4 'no/such/x.db' run "$tiny" hi --db no/such/x.db
refuse 3 'dir|a directory' run "$tiny" hi --db dir
refuse 3 'fifo|not a regular file' run "$tiny" hi --db fifo
refuse 2 'empty' run "$tiny" hi --db ''
echo 'These are my notes; please do not overwrite them. They are longer than one hundred bytes, to be read.' >notes.txt
before=$(cksum <notes.txt)
refuse 3 'notes.txt|not a SQLite database|54 68 65 73' run "$tiny" hi --db notes.txt
refuse 3 'notes.txt|not a SQLite database' profile "$tiny" notes.txt --db notes.txt
refuse 3 'notes.txt|not a SQLite database' stat notes.txt
refuse 3 'notes.txt|not a SQLite database' sql notes.txt 'SELECT 1'
refuse 3 'notes.txt|not a SQLite database' report notes.txt
same 'notes.txt' "$(cksum <notes.txt)" "$before"
sqlite3 foreign.db 'CREATE TABLE t(x); INSERT INTO t VALUES(1)'
before=$(cksum <foreign.db)
refuse 3 'foreign.db|not of moescope|application_id 0x00000000' run "$tiny" hi --db foreign.db
refuse 3 'foreign.db|not of moescope' stat foreign.db
refuse 3 'foreign.db|not of moescope' sql foreign.db 'SELECT 1'
same 'foreign.db' "$(cksum <foreign.db)" "$before"
for left in foreign.db-* notes.txt-*; do
	[ ! -e "$left" ] || no "$left was left"
done
refuse 3 'nothere.db|no such file' stat nothere.db
refuse 3 'nothere.db|no such file' sql nothere.db 'SELECT 1'
refuse 3 'nothere.db|no such file' report nothere.db
[ ! -e nothere.db ] || no "reading made nothere.db"
: >empty.db
refuse 3 'empty.db|empty' stat empty.db
refuse 2 'no run 99|1, 2' stat good.db --run 99
refuse 2 "no domain 'legal'|'plain'" stat good.db --domain legal
refuse 3 'no run 99' report good.db --run 99 -o r.html
refuse 2 'allowed' stat good.db --run 0
cp good.db future.db
sqlite3 future.db 'PRAGMA user_version = 99'
refuse 3 'future.db|schema version 99|newer' stat future.db
refuse 3 'future.db|schema version 99|newer' run "$tiny" hi --db future.db
# Broken inside: a page of it overwritten.
cp good.db torn.db
dd if=/dev/urandom of=torn.db bs=4096 seek=1 count=3 conv=notrunc 2>/dev/null
refuse 3 'torn.db' stat torn.db
head -c 5000 good.db >half.db
refuse 3 'half.db' stat half.db
# Blobs of the wrong length, experts that do not exist.
cp good.db odd.db
sqlite3 odd.db "UPDATE load SET counts = x'00'"
refuse 3 'load of layer 0|8 experts take 64' stat odd.db
sqlite3 odd.db "UPDATE chunk SET experts = zeroblob(3)"
refuse 3 'experts has 3 bytes' sql odd.db 'SELECT count(expert), avg(weight) FROM routing'
cp good.db odd.db
sqlite3 odd.db "UPDATE moe_layer SET n_expert = 60000"
refuse 3 '60000 experts' stat odd.db
refuse 3 'syntax error' sql good.db 'SELEKT 1'
refuse 3 'no such table: nosuch' sql good.db 'SELECT * FROM nosuch'
same 'good.db' "$(cksum <good.db)" "$sum"

# A second writer; the first one is held by a FIFO on its standard output.
cp good.db busy.db
mkfifo hold
"$MOESCOPE" run "$tiny" Hello --db busy.db -n 2000 --ctx 4096 --ignore-end >hold 2>first.err &
first=$!
exec 3<hold
i=0
while [ ! -e busy.db-lock ] && [ $i -lt 100 ]; do
	sleep 0.1
	i=$((i + 1))
done
refuse 3 "busy.db|another writer|process $first" run "$tiny" hi --db busy.db
cat <&3 >/dev/null
exec 3<&-
wait $first || no "the first writer failed: $(cat first.err)"
same 'runs after a second writer' "$(q busy.db "SELECT group_concat(state) FROM run")" '"done,done,done"'

# ---- permissions: not as root, to whom they do not apply ----
as=
if [ "$(id -u)" = 0 ]; then
	as='setpriv --reuid=65534 --regid=65534 --clear-groups'
	chmod 755 "$W"
	$as test -x "$MOESCOPE" 2>/dev/null && $as test -r "$tiny" || as=none
fi
if [ "$as" != none ]; then
	real=$MOESCOPE
	printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$as" "$real" >as.sh
	chmod 755 as.sh
	MOESCOPE=$W/as.sh
	mkdir locked
	cp good.db locked/r.db
	cp good.db plain.db
	chmod 444 locked/r.db plain.db
	chmod 555 locked
	refuse 4 'locked/new.db' run "$tiny" hi --db locked/new.db
	refuse 4 'locked/r.db|permission' run "$tiny" hi --db locked/r.db
	refuse 4 'plain.db|permission' run "$tiny" hi --db plain.db
	ok 'reading in a folder that cannot be written' stat locked/r.db
	refuse 4 'locked/r.html' report locked/r.db -o locked/r.html
	cp "$tiny" secret.gguf
	chmod 000 secret.gguf
	refuse 4 'secret.gguf|Permission denied' inspect secret.gguf
	chmod 755 locked
	MOESCOPE=$real
fi

# ---- reports ----
before=$(cksum <busy.db)
refuse 2 'busy.db|a database|not overwritten' report good.db -o busy.db
refuse 2 'good.db|a database|not overwritten' report good.db -o good.db
same 'busy.db' "$(cksum <busy.db)" "$before"
refuse 2 'dir|a directory' report good.db -o dir
refuse 2 'fifo|not a regular file' report good.db -o fifo
refuse 4 'no/such/r.html' report good.db -o no/such/r.html
refuse 2 "--format 'docx'" report good.db --format docx

# ---- standard output that is closed or full ----
for c in "inspect $tiny" "stat good.db" "help"; do
	"$MOESCOPE" $c >/dev/full 2>err
	same "$c on a full device" $? 4
	says "$c" 'standard output' err
done

# ---- texts ----
printf '{"domain": "a", "text": "one"}\n\n{"domain": "b"}\n' >bad.jsonl
refuse 3 'bad.jsonl line 3|expected' profile "$tiny" bad.jsonl --db t.db
printf '{"domain": "a", "text": "one"}\nnot json\n' >bad.jsonl
refuse 3 'bad.jsonl line 2' profile "$tiny" bad.jsonl --db t.db
printf '{"domain": "a", "text": "one"} more\n' >bad.jsonl
refuse 3 'bad.jsonl line 1' profile "$tiny" bad.jsonl --db t.db
printf '{"domain": 1, "text": "one"}\n' >bad.jsonl
refuse 3 'bad.jsonl line 1' profile "$tiny" bad.jsonl --db t.db
{ head -c 100000 /dev/zero | tr '\0' '['; echo; } >bad.jsonl
refuse 3 'bad.jsonl line 1' profile "$tiny" bad.jsonl --db t.db
refuse 3 'nothere.txt|No such file' profile "$tiny" nothere.txt --db t.db
refuse 3 'fifo|not a regular file' profile "$tiny" fifo --db t.db
mkdir void
: >void/empty.txt
echo hidden >void/.hidden.txt
refuse 3 'no documents' profile "$tiny" void --db t.db
[ ! -e t.db ] || no "a refused corpus left a database"
# Folders are domains; hidden and empty files are not documents; a separator splits.
mkdir -p texts/math texts/law/sub texts/.git
echo 'one plus one' >texts/math/a.txt
printf 'first\n<|endoftext|>\nsecond\n<|endoftext|>\n' >texts/law/sub/b.txt
: >texts/law/empty.txt
echo 'not a text' >texts/.git/config
echo 'not a text' >texts/law/.swp
ln -s ../math/a.txt texts/law/link.txt
ok 'a corpus of folders' profile "$tiny" texts --db t.db
same 'domains and documents' "$(q t.db "SELECT group_concat(x, ' ') FROM (SELECT d.name || ':' || count(*) AS x
	FROM sequence s JOIN domain d ON d.id = s.domain GROUP BY d.name ORDER BY d.name)")" 'law:2 math:1'
printf '{"domain": "a", "text": "one", "name": "n1"}\r\n\r\n{"text": "two \\ud83d\\ude00", "domain": "b", "x": [1]}' >good.jsonl
ok 'JSON lines' profile "$tiny" good.jsonl --db j.db
same 'documents' "$(q j.db "SELECT group_concat(coalesce(s.name, '') || '/' || d.name, ' ') FROM sequence s
	JOIN domain d ON d.id = s.domain")" 'n1/a good.jsonl:3/b'

# ---- names that try to act on the terminal ----
evil=$(printf 'e\033[2J\033]0;x\007\302\2332J\342\200\256y')
sed "s/moescope test model/$(printf 'm\033[2J\033]0;x\007\302\2332Jabcd')/" "$tiny" >"$evil.gguf"
same 'size of the hostile model' "$(wc -c <"$evil.gguf")" "$size"
ok 'a hostile model' inspect "$evil.gguf"
says 'a hostile model' 'm\x1b[2J' out
ok 'a hostile model' inspect --json "$evil.gguf"
ok 'a hostile model' inspect --tensors "$evil.gguf"
printf '{"domain": "%s", "text": "one two three"}\n' 'd\u001b[2J\u009b2J\u202ez' >evil.jsonl
printf '{"domain": "%s", "text": "two three four", "name": "%s"}\n' 'd\u001b[2J\u009b2J\u202ez' 'n\u001b[2J' >>evil.jsonl
printf '{"domain": "plain", "text": "one two three"}\n{"domain": "plain", "text": "four"}\n' >>evil.jsonl
ok 'a hostile profile' profile "$evil.gguf" evil.jsonl --db "$evil.db" --detail full
run_it run "$evil.gguf" hello --db "$evil.db" --domain "$evil" --name "$evil" -n 0
same 'a hostile run' $got 0
harmless 'a hostile run'
for c in '' '--by expert' '--by domain' '--specialisation' '--locality' '--coactivation' '--alarms' '--runs'; do
	for f in '' --json --csv; do
		# shellcheck disable=SC2086
		ok "stat $c $f of a hostile database" stat "$evil.db" --run 1 $c $f
	done
done
ok 'report of a hostile database' report "$evil.db" --run 1 -o -
ok 'report of a hostile database' report "$evil.db" --run 1 -o "$evil.html"
ok 'report of a hostile database' report "$evil.db" --run 1 --format json -o -
names='SELECT name FROM domain UNION SELECT name FROM model UNION SELECT name FROM sequence'
ok 'sql on a hostile database' sql "$evil.db" "$names"
ok 'sql --json on a hostile database' sql "$evil.db" --json "$names"
# CSV is for programs and keeps every byte, but not on a terminal.
if script -qec true /dev/null >/dev/null 2>&1; then
	cp "$evil.db" evil.db
	: >err
	script -qec "'$MOESCOPE' sql evil.db --csv '$names'" /dev/null </dev/null >out
	says 'sql --csv on a terminal' 'x1b[2J' out
	harmless 'sql --csv on a terminal'
fi
refuse 3 'such' inspect "nothere-$evil"
refuse 3 'such' stat "nothere-$evil"
refuse 2 'no command' "$evil"
refuse 2 'option' run "--$evil"
refuse 2 'no domain' stat "$evil.db" --run 1 --domain "$evil"
sed "s/qwen3moe/q$(printf '\033[2J\302\233')a/g" "$tiny" >arch.gguf
refuse 3 'is not supported' inspect arch.gguf
sed "s/tokenizer.ggml.pre/tokenizer.ggml.prx/; s/qwen3moe.block_count/qwen3moe.$(printf '\033[2J')k_count/" "$tiny" >key.gguf
refuse 3 'block_count is missing' inspect key.gguf

# ---- the dashboard without a terminal ----
if "$MOESCOPE" help top >/dev/null 2>&1; then
	run_it top good.db
	[ $got = 2 ] || [ $got = 4 ] || no "top without a terminal: exit $got"
	[ "$(wc -l <err)" = 1 ] || no "top without a terminal: $(cat err)"
	says 'top without a terminal' 'terminal' err
	harmless 'top without a terminal'
	ok 'top --once' top "$evil.db" --once
fi
finish
