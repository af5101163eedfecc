#!/bin/sh
# serve.sh - `moescope serve` from outside: answers are what `run` generates, streams are the same text in
# pieces, every request is a sequence of its domain that verifies and replays, clients that leave, crowd,
# dawdle or talk nonsense do no harm, and signals end it properly.
. "${0%/*}/check.inc"
http=$(dirname "$MOESCOPE")/tests/http
verify=$(dirname "$MOESCOPE")/moescope-verify
pid=
cleanup() {
	[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
	rm -rf "$W"
}

start() { # options...
	rm -f log
	"$MOESCOPE" serve sample:balanced --port 0 "$@" 2>log &
	pid=$!
	i=0
	until grep -q '^serving' log 2>/dev/null; do
		i=$((i + 1))
		[ $i -lt 300 ] && kill -0 $pid 2>/dev/null || { no "serve $*: $(cat log)"; finish; }
		sleep 0.1
	done
	port=$(sed -n 's/^serving .*:\([0-9]*\), run .*/\1/p' log)
}
stop() { # signal, status
	kill "-$1" $pid 2>/dev/null
	wait $pid
	got=$?
	pid=
	[ $got = "$2" ] || no "$1: exit $got, expected $2: $(cat log)"
	grep -q 'Sanitizer\|runtime error' log && no "$1: $(grep -A5 'Sanitizer\|runtime error' log)"
}
ask() { # status, options and path of http...
	want=$1
	shift
	for last in "$@"; do :; done
	n=$(($# - 1))
	i=0
	for a in "$@"; do # all but the last, the port, the last
		[ $i -gt 0 ] || set --
		i=$((i + 1))
		[ $i -gt $n ] || set -- "$@" "$a"
	done
	"$http" "$@" "$port" "$last" >body 2>head || { [ "$want" = any ] || no "$last: no answer: $(head -c 1000 head) $(head -c 500 body)"; }
	status=$(sed -n '1s/^HTTP\/1.1 \([0-9]*\).*/\1/p' head)
	[ "$status" = "$want" ] || [ "$want" = any ] || no "$* $last: status $status, expected $want: $(head -c 600 body)"
}
chat=/v1/chat/completions text=/v1/completions
# A field of a body, as it is written; the first of that name.
field() { sed -n "s/.*\"$1\": \(\"\([^\"\\\\]\|\\\\.\)*\"\|[^,}]*\).*/\1/p" "${2:-body}" | head -1; }
unquote() { sed -e 's/^"//' -e 's/"$//' -e 's/\\n/\n/g' -e 's/\\t/\t/g' -e 's/\\"/"/g' -e 's/\\\\/\\/g'; }
# The text of a stream.
pieces() { sed -n 's/^data: .*"content": "\(\([^"\\]\|\\.\)*\)"}, "logprobs.*/\1/p' body | tr -d '\n' | sed 's/^/"/;s/$/"/'; }
metric() { "$http" "$port" /metrics 2>/dev/null | sed -n "s/^moescope_$1 //p"; }

# ---- answers: those of `run` ----
mkdir keys
ok init audit init a.db --origin example.org/a --key keys/k --loss best-effort
start -d a.db --chat-template chatml -s 100 --domains 2 --domain web --ctx 1024
ask 200 -d '{"prompt": "int main", "max_tokens": 24, "temperature": 0}' $text
printf '%s\n' "$(field text)" | unquote >served
"$MOESCOPE" run sample:balanced 'int main' -n 24 -T 0 --no-log 2>err | tr -d '\r' >ran
printf '\n' >>ran
cmp -s ran served || no "greedy: '$(cat served)', run says '$(cat ran)'"
same "seq in body" "$(field seq)" 1
same "seq in head" "$(sed -n 's/^X-Moescope-Seq: //p' head | tr -d '\r')" 1
same "default domain" "$(field domain)" '"web"'
same usage "$(field prompt_tokens) $(field completion_tokens) $(field total_tokens)" "2 24 26"
same finish "$(field finish_reason)" '"length"'
ask 200 -d '{"prompt": "int main", "max_tokens": 24, "seed": 5}' $text
printf '%s\n' "$(field text)" | unquote >served
"$MOESCOPE" run sample:balanced 'int main' -n 24 -s 5 --no-log 2>err >ran
printf '\n' >>ran
cmp -s ran served || no "seed 5: '$(cat served)', run says '$(cat ran)'"
hello='"messages": [{"role": "user", "content": "Hello there"}]'
ask 200 -d "{$hello, \"max_tokens\": 30, \"temperature\": 0}" $chat
whole=$(field content)
echo 'Hello there' | "$MOESCOPE" run --chat sample:balanced --chat-template chatml -n 30 -T 0 --no-log 2>err >ran
printf '%s\n' "$whole" | unquote >served
cmp -s ran served || no "chat: '$(cat served)', run says '$(cat ran)'"
ask 200 -d "{$hello, \"max_tokens\": 30, \"temperature\": 0, \"stream\": true, \"stream_options\": {\"include_usage\": true}}" $chat
same "the stream's text" "$(pieces)" "$whole"
same "the stream's end" "$(tail -c 14 body)" 'data: [DONE]'
same "usage of a stream" "$(grep -c '"completion_tokens": 30' body)" 1
grep -qi '^Content-Type: text/event-stream' head || no "type of a stream: $(cat head)"
# Log probabilities: of the model, so temperature changes nothing; the best is what greedy takes.
score() { sed -n 's/.*"logprobs": {"content": \[{"token": "\([^"]*\)", "logprob": \([-0-9.e]*\), .*"top_logprobs": \[{"token": "\([^"]*\)", "logprob": \([-0-9.e]*\),.*/\1 \2 \3 \4/p' body; }
lp="\"max_tokens\": 1, \"logprobs\": true, \"top_logprobs\": 1"
ask 200 -d "{$hello, $lp, \"temperature\": 0}" $chat
greedy=$(score)
[ -n "$greedy" ] && [ "${greedy#* * }" = "${greedy% * *}" ] || no "log probabilities, greedy: '$greedy' $(cat body)"
ask 200 -d "{$hello, $lp, \"temperature\": 5, \"top_k\": 0, \"min_p\": 0, \"seed\": 9}" $chat
hot=$(score)
same "log probabilities, hot: the best" "${hot#* * }" "${greedy% * *}"
[ "${hot% * *}" != "${hot#* * }" ] || no "a hot sample took the best token: choose another seed"
ask 200 -d "{$hello, \"max_tokens\": 30, \"temperature\": 0, \"logprobs\": true, \"stream\": true}" $chat
same "tokens of a stream" "$(grep -o '{"token": ' body | wc -l)" 30
# And they sum to what `profile` measures of the same text by other code.
ask 200 -d '{"prompt": "int", "max_tokens": 3, "temperature": 0, "logprobs": 0}' $text
sed -n 's/.*"token_logprobs": \[\([^]]*\)\].*/\1/p' body | tr ',' '\n' | awk '{ s -= $1 } END { printf "%.4f\n", s }' >sum
printf '{"domain": "d", "text": "int%s"}\n' "$(field text | unquote)" >text.jsonl
ok profile profile sample:balanced text.jsonl -d nll.db -q
same "log probabilities and profile" "$(cat sum) of 3" "$(q nll.db "SELECT printf('%.4f of %d', nll, n_scored) FROM sequence")"
# A text that stops: what comes before it, whole or in a stream.
stop_at=$(printf '%s' "$whole" | cut -c 8-10)
before=${whole%%"$stop_at"*}
ask 200 -d "{$hello, \"max_tokens\": 30, \"temperature\": 0, \"stop\": [\"$stop_at\", \"never said\"]}" $chat
same "stop" "$(field content) $(field finish_reason)" "$before\" \"stop\""
ask 200 -d "{$hello, \"max_tokens\": 30, \"temperature\": 0, \"stream\": true, \"stop\": \"$stop_at\"}" $chat
same "stop in a stream" "$(pieces)" "$before\""
ask 200 -d '{"prompt": "x", "max_tokens": 0}' $text
same "nothing generated" "$(field text) $(field completion_tokens) $(field finish_reason)" '"" 0 "length"'
ask 200 -d '{"prompt": [5, 6, 7], "max_tokens": 100000, "ignore_eos": true, "temperature": 0}' $text
same "cut to the context" "$(field total_tokens) $(field finish_reason)" '1025 "length"'

# ---- domains ----
ask 200 -H 'X-Moescope-Domain: code' -d '{"prompt": "a", "max_tokens": 2, "moescope_domain": "x"}' $text
same "header's domain" "$(field domain)" '"code"'
ask 200 -d '{"prompt": "a", "max_tokens": 2, "moescope_domain": "law", "metadata": {"domain": "y"}}' $text
same "field's domain" "$(field domain)" '"law"'
ask 200 -d '{"prompt": "a", "max_tokens": 2, "metadata": {"domain": "code"}, "user": "secret-user"}' $text
same "metadata's domain" "$(field domain)" '"code"'
ask 200 -d '{"prompt": "a", "max_tokens": 2, "metadata": {"domain": "third"}}' $text
same "one domain too many" "$(field domain)" '"web"'
grep -q '"note": "this run has no room' body || no "no note on a domain that did not fit: $(cat body)"
printf 'GET /health HTTP/1.1\r\nHost: x\r\nX: y\r\n\r\n' >raw
ask 400 -H "X-Moescope-Domain: a$(printf '\302\205')b" -d '{"prompt": "a"}' $text
same "a domain that acts" "$(field code)" '"invalid_domain"'
ask 400 -d '{"prompt": "a", "moescope_domain": "\u001b[2J"}' $text
ask 400 -d "{\"prompt\": \"a\", \"moescope_domain\": \"$(printf %064d 0)\"}" $text

# ---- what is refused ----
refused() { # status, code, words, options and path...
	st=$1 code=$2 words=$3
	shift 3
	ask "$st" "$@"
	same "$* (code)" "$(field code)" "\"$code\""
	has "$*" "$words" "$(field message)"
	same "$* (shape)" "$(grep -c '^{"error": {"message": ".*", "type": ".*", "param": .*, "code": .*}}$' body)" 1
}
refused 400 invalid_json 'empty' -d '' $chat
refused 400 invalid_json 'byte' -d '{"messages": [' $chat
refused 400 invalid_value 'expected system' -d '{"messages": [{"role": "root", "content": "x"}]}' $chat
refused 400 unsupported_value 'n is 2' -d "{$hello, \"n\": 2}" $chat
refused 400 invalid_utf8 'byte' -d "{\"prompt\": \"$(printf '\377')\"}" $text
refused 404 unknown_url '/v1/embeddings' -d '{}' /v1/embeddings
refused 404 unknown_url 'no such path' /v1/models%00
refused 404 unknown_url 'no such path' /../../etc/passwd
refused 404 model_not_found "'other'" /v1/models/other
refused 405 method_not_allowed 'POST' $chat
grep -q '^Allow: POST' head || no "no Allow: $(cat head)"
refused 403 cross_origin 'Origin' -H 'Origin: http://example.org' -d '{"prompt": "a"}' $text
head -c 5000000 /dev/zero | tr '\0' x >big
refused 413 body_too_large '5000000' -D big $text
refused 413 body_too_large '4194304' --chunked -D big $text
awk 'BEGIN { printf "{\"prompt\": \""; for (i = 0; i < 3000; i++) printf "word%d ", i; printf "\"}" }' >long
refused 400 context_length_exceeded 'the context 1024' -D long $text
ask 200 /v1/models
same "the model" "$(field id)" '"sample:balanced"'
ask 200 /v1/models/sample:balanced
ask 200 /health
ask 200 -X HEAD /health

# ---- clients that leave, and that come together ----
long='"messages": [{"role": "user", "content": "go on"}], "ignore_eos": true'
"$http" --leave 400 -d "{$long, \"stream\": true}" "$port" $chat >body 2>head
seq_left=$(field seq)
i=0
until [ "$(metric 'requests_total{status="499",domain="web"}')" = 1 ]; do
	i=$((i + 1))
	[ $i -lt 100 ] || { no "a client that left is not noticed: $("$http" "$port" /metrics | grep requests)"; break; }
	sleep 0.1
done
i=0
while [ $i -lt 8 ]; do
	"$http" -d "{$hello, \"max_tokens\": 30, \"temperature\": 0}" "$port" $chat >c$i 2>h$i &
	clients="$clients $!"
	i=$((i + 1))
done
# shellcheck disable=SC2086
wait $clients
for i in 0 1 2 3 4 5 6 7; do
	same "client $i" "$(field content c$i)" "$whole"
	field seq c$i >>seqs
done
same "sequences of eight clients" "$(sort -u seqs | wc -l)" 8

# ---- many small requests, good and bad ----
refused=$(metric 'requests_total{status="400",domain=""}')
i=0
while [ $i -lt 40 ]; do
	for b in '{"prompt": "p", "max_tokens": 2}' '{"prompt": "p", "max_tokens": 3, "stream": true}' \
		'{"prompt": 7}' '{"prompt": "p", "max_tokens": 1, "stop": ["e", " t"]}'; do
		"$http" -H 'X-Moescope-Domain: law' -d "$b" "$port" $text >body 2>head
	done
	i=$((i + 1))
done
same "refused of many" "$(metric 'requests_total{status="400",domain=""}')" $((refused + 40))
same "answered of many" "$(metric 'requests_total{status="200",domain="law"}')" 121
same "domains" "$(metric domains)" 3
"$http" "$port" /metrics >metrics 2>/dev/null
grep -q 'secret-user\|nan\|inf$' metrics && no "/metrics says what it should not: $(grep 'secret-user\|nan\|inf$' metrics)"
for name in $(sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' metrics); do
	grep -q "$name" "$root/docs/SERVE.md" || no "docs/SERVE.md does not name the figure $name"
done
for name in $(sed -n 's/^	{ "\([a-z_]*\)", \(CHAT\|TEXT\|BOTH\),.*/\1/p' "$root/src/serve/request.c"); do
	grep -q "\`[^\`]*$name[^\`]*\`" "$root/docs/SERVE.md" || no "docs/SERVE.md does not name the field $name"
	fields=$((fields + 1))
done
[ "${fields:-0}" -ge 30 ] || no "${fields:-0} fields found in src/serve/request.c"
grep -q '^moescope_layer_load_cv{layer="3"} [0-9]' metrics || no "no balance: $(cat metrics)"
i=0
until [ "$(metric tokens_committed_total)" = "$(metric tokens_evaluated_total)" ]; do
	i=$((i + 1))
	[ $i -lt 50 ] || { no "committed $(metric tokens_committed_total) of $(metric tokens_evaluated_total)"; break; }
	sleep 0.1
done
ok "top beside it" top a.db --once --json
says "top beside it" '"serve"' out

# ---- a signal in the middle of a stream ----
: >cut
"$http" -d "{$long, \"stream\": true}" "$port" $chat >cut 2>cut-head &
client=$!
until [ "$(grep -c content cut)" -gt 3 ]; do sleep 0.1; done
stop TERM 0
wait $client
tail -n 2 cut >cut-end
says "a stream that was cut" 'shutting_down' cut-end
grep -q DONE cut && no "a stream that was cut says it was whole"
same "the run" "$(q a.db "SELECT state || ' ' || command FROM run")" 'done serve'
same "open sequences" "$(q a.db 'SELECT count(*) FROM sequence WHERE ended IS NULL')" 0
same "domains kept" "$(q a.db "SELECT group_concat(name, ' ') FROM (SELECT name FROM domain ORDER BY name)")" 'code law web'
same "a note on domains" "$(q a.db "SELECT count(*) FROM event WHERE kind = 'domains'")" 1
same "names of sequences" "$(q a.db 'SELECT count(name) FROM sequence')" 0
grep -aq 'secret-user' a.db && no "the field user is stored"
left=$(q a.db "SELECT n_generated FROM sequence WHERE seq = $seq_left")
[ "$left" -gt 0 ] && [ "$left" -lt 900 ] || no "the answer to a client that left has $left tokens"
q a.db "SELECT text FROM event WHERE kind = 'request' AND text LIKE '%seq 2:%'" >note
says "how a request was sampled" 'completion, temperature 0.8, top_k 40|seed 5, at most 24|2 read, 24 generated, length' note
ok anchor audit anchor a.db -o anchors
"$verify" -p keys/k.pub a.db --deep --anchor anchors >out 2>err || no "verify: exit $?: $(cat out err)"
run_it audit replay a.db 1 --unlogged --model sample:balanced --ctx 1100
[ $got = 0 ] || no "replay: exit $got: $(tail -3 out err)"
n=$(q a.db 'SELECT count(*) FROM sequence')
[ "$n" -gt 140 ] || no "$n sequences"
says replay "run 1: $n sequences, $n BIT_EXACT" "$(tail -1 out >last; echo last)"

ok explain audit explain a.db 2 10 --run 1 --layer 0
says explain 'position 10' out

# ---- keys, names of users, a strict log; the seed counts the requests ----
ok init audit init s.db --origin example.org/s --key keys/s
printf 'k-one\n' >keyfile
start -d s.db --chat-template chatml -s 100 --api-key-file keyfile --log-user
refused 401 invalid_api_key 'Bearer' -d '{"prompt": "a"}' $text
refused 401 invalid_api_key 'Bearer' -H 'Authorization: Bearer k-on' /metrics
ask 200 /health
key='Authorization: Bearer k-one'
ask 200 -H "$key" -d '{"prompt": "int main", "max_tokens": 24, "user": "u1"}' $text
same "the seed" "$(field seed)" 101
"$MOESCOPE" run sample:balanced 'int main' -n 24 -s 101 --no-log 2>err >ran
printf '\n' >>ran
printf '%s\n' "$(field text)" | unquote >served
cmp -s ran served || no "seed 101: '$(cat served)', run says '$(cat ran)'"
# What is shown is committed.
same "committed before it is shown" "$(sqlite3 "file:s.db?mode=ro" 'SELECT sum(n) FROM chunk')" 25
ask 200 -H "$key" -d "{$hello, \"max_tokens\": 30, \"temperature\": 0, \"stream\": true}" $chat
same "a stream of a strict log" "$(pieces)" "$whole"
ask 200 -H "$key" -d "{$hello, \"max_tokens\": 30, \"temperature\": 0, \"stop\": \"$stop_at\"}" $chat
same "stop with a strict log" "$(field content)" "$before\""
# ---- kill -9 in the middle; the next writer tidies up ----
: >cut
"$http" -H "$key" -d "{$long, \"stream\": true}" "$port" $chat >cut 2>cut-head &
client=$!
until [ "$(grep -c content cut)" -gt 1 ]; do sleep 0.1; done
kill -9 $pid
wait $pid 2>/dev/null
wait $client
start -d s.db --api-key-file keyfile --timeout 1 --queue 1 --connections 8 --ctx 2048
same "the killed run" "$(sqlite3 "file:s.db?mode=ro" 'SELECT state FROM run WHERE id = 1')" failed
same "the user's name" "$(sqlite3 "file:s.db?mode=ro" 'SELECT name FROM sequence WHERE run = 1 AND seq = 1')" u1
refused 400 no_chat_template 'template' -H "$key" -d "{$hello}" $chat

# ---- a queue of one; clients that dawdle ----
more='"prompt": "go", "ignore_eos": true, "max_tokens": 2000'
: >one
"$http" -H "$key" -d "{$more, \"stream\": true}" "$port" $text >one 2>one-head &
one=$!
until [ "$(grep -c data: one)" -gt 0 ]; do sleep 0.1; done
"$http" -H "$key" -d '{"prompt": "b", "max_tokens": 1}' "$port" $text >two 2>two-head &
two=$!
i=0
until [ $i -ge 50 ] || "$http" -H "$key" "$port" /metrics 2>/dev/null | grep -q '^moescope_queue_length 1'; do
	i=$((i + 1))
	sleep 0.05
done
refused 429 queue_full '1 requests' -H "$key" -d '{"prompt": "c", "max_tokens": 1}' $text
grep -q '^Retry-After: [1-9]' head || no "no Retry-After: $(cat head)"
began=$(date +%s)
"$http" --drip 150 -H "$key" -H "X: $(printf %0300d 0)" "$port" /health >body 2>head && no "a head in drops was waited for"
"$http" --drip 150 -H "$key" -d "$(printf %0300d 0)" "$port" $text >body 2>head && no "a body in drops was waited for"
[ $(($(date +%s) - began)) -lt 30 ] || no "clients that dawdle were waited for for $(($(date +%s) - began)) s"
kill $one 2>/dev/null
wait $one 2>/dev/null
wait $two || no "the one that waited: $(cat two two-head)"
same "the one that waited" "$(field completion_tokens two)" 1
# A time limit on clients is none on answers.
"$http" -H "$key" -d "{$more}" "$port" $text >body 2>head || no "an answer that takes long: $(cat head body)"
same "an answer that takes long" "$(field completion_tokens)" 2000
# ---- nonsense: whatever comes back, the server goes on ----
nonsense() { # bytes as printf's format
	# shellcheck disable=SC2059
	printf "$1" >raw
	"$http" --raw raw "$port" >body 2>head
	kill -0 $pid 2>/dev/null || no "the server died of: $1"
}
nonsense 'GET\r\n\r\n'
nonsense '\000\001\002\003\r\n\r\n'
nonsense 'GET / HTTP/9.9\r\nHost: x\r\n\r\n'
nonsense 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n'
nonsense 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n'
nonsense 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n'
nonsense 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nx'
nonsense "GET /$(printf %09000d 0) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
nonsense 'GET /health HTTP/1.1\r\nNo-Host: x\r\nConnection: close\r\n\r\n'
ask 200 /health

stop INT 0
ok anchor audit anchor s.db -o anchors-s
"$verify" -p keys/s.pub s.db --deep --anchor anchors-s >out 2>err || no "verify s: exit $?: $(cat out err)"

# ---- two signals, the second while a client is waited for: the run is closed ----
start -d twice.db
"$http" --drip 10 -d "$(printf %03000d 0)" "$port" $text >/dev/null 2>&1 & # a head of two seconds
one=$!
sleep 4
kill -INT $pid
sleep 1
kill -INT $pid
wait $pid
got=$?
pid=
[ $got = 0 ] || [ $got = 130 ] || no "two signals: exit $got: $(cat log)"
same "two signals" "$(q twice.db 'SELECT state FROM run')" 'done'
start -d twice.db
kill -INT $pid
sleep 0.02
stop INT 0
same "two signals at once" "$(q twice.db 'SELECT state FROM run ORDER BY id DESC LIMIT 1')" 'done'
kill $one 2>/dev/null
wait $one 2>/dev/null

# ---- an encrypted log: users are the subjects ----
ok init audit init e.db --origin example.org/e --key keys/e --seal keys/e-seal
start -d e.db --log-user -s 1
for u in u1 u2 u1 u3 u1; do
	ask 200 -d "{\"prompt\": \"int main\", \"max_tokens\": 6, \"user\": \"$u\"}" $text
done
stop INT 0
ok anchor audit anchor e.db -o anchors-e
"$verify" -p keys/e.pub e.db --deep --anchor anchors-e >out 2>err || no "verify e: exit $?: $(cat out err)"
run_it audit replay e.db 1 --unlogged --model sample:balanced --seal keys/e-seal
[ $got = 0 ] || no "replay of an encrypted log: exit $got: $(cat out err)"
says "replay of an encrypted log" 'run 1: 5 sequences, 5 BIT_EXACT' out
same "subjects" "$(sqlite3 e.db 'SELECT count(*) FROM audit_subject')" 3

# ---- a full disk: the client is told, the server ends and says why ----
rm -f log
(ulimit -f 1600 && exec "$MOESCOPE" serve sample:balanced --port 0 -d full.db --detail full 2>log) &
pid=$!
i=0
until grep -q '^serving' log 2>/dev/null || [ $i -ge 300 ]; do
	i=$((i + 1))
	sleep 0.1
done
port=$(sed -n 's/^serving .*:\([0-9]*\), run .*/\1/p' log)
i=0 status=200
while [ "$status" = 200 ] && [ $i -lt 40 ]; do
	i=$((i + 1))
	ask any -d '{"prompt": "int main", "max_tokens": 250, "ignore_eos": true}' $text
done
same "a full disk" "$status $(field code)" '500 "engine_failed"'
grep -q 'full.db' body && no "a client is told of the server's files: $(cat body)"
wait $pid
got=$?
pid=
[ $got = 4 ] || no "a full disk: exit $got: $(cat log)"
says "a full disk" 'moescope serve: |full.db' log
[ "$(q full.db 'SELECT count(*) FROM sequence')" -ge 1 ] || no "what was committed before the disk was full is lost"

# ---- wrong starts ----
refuse 2 '--host|nowhere.invalid' serve --host nowhere.invalid --port 0
refuse 4 'no-such-file' serve --api-key-file no-such-file --port 0
refuse 2 'one model is expected' serve a.gguf b.gguf
refuse 2 'chat template|none-such' serve sample:balanced --chat-template none-such --port 0
[ ! -e moescope.db ] || no "a start that failed left a database"
start -d p.db
ask 200 -d '{"prompt": "int main", "max_tokens": 20}' $text
once=$(field text)
ask 200 -d "{\"prompt\": \"int main\", \"max_tokens\": 20, \"seed\": $(field seed)}" $text
same "the seed that was told" "$(field text)" "$once"
refuse 4 "listening on 127.0.0.1 port $port" serve sample:balanced --port "$port" -d q.db
[ ! -e q.db ] || no "a start that failed left a database"
stop INT 0
finish
