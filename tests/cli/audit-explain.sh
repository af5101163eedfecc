#!/bin/sh
# audit-explain.sh - what `audit explain` says of a token is what the database and the model say: scores, choice,
# margin, next, shares, the masked run; as text, JSON and page, with hostile names, and with another model.
. "${0%/*}/check.inc"
mkdir keys
ok init audit init a.db --origin example.org/a --key keys/k --detail full
cat >texts.jsonl <<'END'
{"domain": "</pre><script>alert(1)</script>", "text": "<img src=x onerror=alert(2)> & 'once' \"upon\" a time\nthere was"}
{"domain": "\u001b[31m\u202e=1+1", "text": "a second text, a little longer than the first one was"}
END
head -c 900 "$root/models/texts/c.txt" >c.txt
ok profile profile sample:balanced c.txt texts.jsonl -d a.db -q
json() { sqlite3 :memory: "SELECT $1 FROM (SELECT CAST(readfile('out') AS TEXT) AS j)"; }
r() { sqlite3 -cmd ".load $(dirname "$MOESCOPE")/moescope_routing" a.db "$1"; }
ok explain audit explain a.db 1 20 --unlogged --json --model sample:balanced
cp out full.json
for l in 0 1 2 3; do
	layer="(SELECT value FROM json_each(j, '\$.layers') WHERE value ->> 'layer' = $l)"
	same "layer $l: chosen" "$(json "(SELECT group_concat(c.value ->> 'expert', ' ') FROM json_each($layer, '\$.chosen') c)")" \
		"$(r "SELECT group_concat(expert, ' ') FROM (SELECT expert FROM routing WHERE seq = 1 AND pos = 20 AND
		layer = $l ORDER BY rank)")"
	# The best scores are the chosen ones, then comes the next; the margin is the difference.
	same "layer $l: by score" "$(json "(SELECT group_concat(key, ' ') FROM (SELECT s.key FROM json_each($layer,
		'\$.scores') s ORDER BY s.value DESC LIMIT 3))")" \
		"$(json "(SELECT group_concat(c.value ->> 'expert', ' ') FROM json_each($layer, '\$.chosen') c) || ' ' ||
		($layer ->> 'next')")"
	same "layer $l: sum of scores" "$(json "round((SELECT sum(s.value) FROM json_each($layer, '\$.scores') s), 5)")" 1.0
	same "layer $l: margin" "$(json "abs(($layer ->> '\$.chosen[1].score') - ($layer ->> 'next_score') -
		($layer ->> 'margin')) < 1e-7")" 1
	same "layer $l: the masked one's place" "$(json "$layer ->> '\$.masked[0].in_place'")" "$(json "$layer ->> 'next'")"
	same "layer $l: masked" "$(json "($layer ->> '\$.masked[0].expert') = ($layer ->> '\$.chosen[0].expert') AND
		($layer ->> '\$.masked[0].kl_nats') > 0")" 1
	same "layer $l: smaller margins" "$(json "round($layer ->> 'margin_below', 6)")" \
		"$(r "SELECT round(avg(margin < (SELECT margin FROM routing WHERE seq = 1 AND pos = 20 AND layer = $l AND
		rank = 0)), 6) FROM routing WHERE layer = $l AND rank = 0")"
	for k in 0 1; do
		same "layer $l, rank $k: share" "$(json "round($layer ->> '\$.chosen[$k].share_run', 6)")" \
			"$(r "SELECT round(1.0 * sum(expert = (SELECT expert FROM routing WHERE seq = 1 AND pos = 20 AND layer = $l AND
			rank = $k)) / count(DISTINCT seq || ' ' || pos), 6) FROM routing WHERE layer = $l")"
		same "layer $l, rank $k: share of the domain" "$(json "round($layer ->> '\$.chosen[$k].share_domain', 6)")" \
			"$(r "SELECT round(1.0 * sum(expert = (SELECT expert FROM routing WHERE seq = 1 AND pos = 20 AND layer = $l AND
			rank = $k)) / count(DISTINCT seq || ' ' || pos), 6) FROM routing WHERE layer = $l AND domain IN (SELECT id FROM domain WHERE name LIKE 'c%'
			UNION SELECT name FROM domain WHERE name LIKE 'c%')")"
	done
done
same "the model" "$(json "j ->> '\$.rerun.recorded_model', j ->> '\$.rerun.layers_that_differ'" | tr '|' ' ')" "1 0"
# From the log alone: the same scores and the same next.
ok "without the model" audit explain a.db 1 20 --unlogged --json
scores="(SELECT group_concat(l.value ->> 'scores') || group_concat(l.value ->> 'next') FROM json_each(j, '\$.layers') l)"
log=$(json "$scores")
cp full.json out
same "scores of the log and of the model" "$(json "$scores")" "$log"
# Every chosen expert is masked where one layer is asked for.
ok "one layer" audit explain a.db 1 20 --unlogged --json --model sample:balanced --layer 2
same "masked experts" "$(json "json_array_length(j, '\$.layers'), json_array_length(j, '\$.layers[0].masked')" | tr '|' ' ')" "1 2"

# ---- text and page; names are hostile ----
seq_of() { q a.db "SELECT s.seq FROM sequence s JOIN domain d ON d.id = s.domain WHERE d.name LIKE '$1'"; }
hostile=$(seq_of '</pre>%') last=$(seq_of '%[31m%')
for seq in $hostile "$last"; do
	ok "text $seq" audit explain a.db $seq 3 --unlogged --model sample:balanced
	says "text $seq" 'chosen|scores|would have come|margin|least common|masked|traceability|not a cause' out
	ok "page $seq" audit explain a.db $seq 3 --unlogged --model sample:balanced --html page.html
	[ ! -s out ] || no "a page also writes to standard output"
	grep -Eq '<(script|img|pre|iframe|link|base)|onerror=[^a]|javascript:|https?:' page.html && no "page $seq: $(grep -En \
		'<(script|img|pre)' page.html | head -2)"
	cp page.html out
	: >err
	harmless "page $seq"
	says "page $seq" "default-src 'none'; style-src 'sha256-|viewport|Masked|Margin|not a cause|leaf |gate weight" page.html
	same "page $seq: columns that are called weight" "$(grep -o '<tr><th>.*' page.html | head -1 | grep -o weight | wc -l)" 1
	# The policy's hash is that of the one style.
	want=$(sed -n 's/.*<style>\(.*\)<\/style>.*/\1/p' page.html | tr -d '\n' | openssl dgst -sha256 -binary | base64)
	grep -qF "sha256-$want'" page.html || no "page $seq: the policy does not allow its style"
	grep -q 'style="' page.html && no "page $seq: a style that the policy forbids"
done
ok "page with a hostile domain" audit explain a.db $hostile 3 --unlogged --html page.html
says "the name is text" '&#60;/pre&#62;&#60;script&#62;alert(1)' page.html

# Only the first of two is masked, which text and page say; not where each one is.
only='only the first is masked (--layer L masks'
ok "which are masked" audit explain a.db $hostile 3 --unlogged --model sample:balanced
says "which are masked" "$only" out
ok "each is masked" audit explain a.db $hostile 3 --unlogged --model sample:balanced --layer 2
grep -qF "$only" out && no "each is masked, and the text says that only the first is: $(cat out)"
ok "page of what is masked" audit explain a.db $hostile 3 --unlogged --model sample:balanced --html page.html
says "page of what is masked" "$only" page.html
ok "page of one layer" audit explain a.db $hostile 3 --unlogged --model sample:balanced --html page.html --layer 2
grep -qF "$only" page.html && no "each is masked, and the page says that only the first is"
same "masked on the page of one layer" "$(grep -c '<dt>Masked' page.html)" 2
ok "page from the log alone" audit explain a.db $hostile 3 --unlogged --html page.html
grep -qF "$only" page.html && no "nothing is masked, and the page says that the first is"

# ---- another model is named; a prefix with a hole is not run ----
"$(dirname "$MOESCOPE")/tests/poke" "$tiny" blk.1.ffn_down_exps.weight '@2:6' other.gguf || no poke
run_it run -d a.db "$tiny" -n 4 -s 1 Hello --log-text
ok "another model" audit explain a.db 1 2 --unlogged --model other.gguf --layer 0
says "another model" 'ANOTHER MODEL' out
ok "text of tokens from the log" audit explain a.db 1 2 --unlogged --layer 0
grep -q "^run 2, .*: token [0-9]* '" out || no "no text of the token: $(head -1 out)"
refuse 3 'routers are not those' audit explain a.db 1 2 --model sample:balanced
cp a.db b.db
sqlite3 b.db "DELETE FROM chunk WHERE run = 2 AND phase = 0"
at=$(q a.db 'SELECT pos FROM chunk WHERE run = 2 AND phase = 1 LIMIT 1')
refuse 3 'redacted, pruned or dropped' audit explain b.db 1 "$at" --model "$tiny"
# A selection bias: scores alone do not say who is next, the model does.
bias=$models/deepseek.gguf
run_it run -d a.db "$bias" -n 2 -s 1 Hello
ok "explained" audit explain a.db 1 1 --unlogged --json --model "$bias"
same "next, as the masked run has it" "$(json "(SELECT sum(l.value ->> 'next' IS NOT (l.value ->> '\$.masked[0].in_place') AND
	l.value ->> 'next' IS NOT NULL AND json_array_length(l.value, '\$.chosen') = 1) FROM json_each(j, '\$.layers') l)")" 0

# ---- an encrypted run: the same as of an open one, with its key; margins among its own sequence's ----
ok "sealed" audit init s.db --origin example.org/s --key keys/s --seal keys/seal --detail full
ok "open" audit init o.db --origin example.org/s --key keys/s --detail full
ok "another key" audit init other.db --origin example.org/s --key keys/s --seal keys/seal2
for db in s o; do
	ok "run $db" run -d $db.db sample:balanced -n 12 -s 3 --name "patient 12" --domain story "Once upon a time"
	ok "another sequence in $db" run -d $db.db sample:balanced -n 4 -s 4 --name "patient 7" --domain story "He was"
done
for pos in 2 9; do
	for db in s o; do
		seal=; [ $db = o ] || seal="--seal keys/seal"
		ok "explain $db" audit explain $db.db 1 $pos --run 1 --json --model sample:balanced $seal
		cp out $db.json
	done
	for db in s o; do
		cp $db.json out
		json "(SELECT group_concat(json_remove(value, '\$.margin_below', '\$.margin_below_domain',
			'\$.margin_below_sequence'), char(10)) FROM json_each(j, '\$.layers'))" >$db.layers
		json "j ->> 'token', j ->> 'phase', j ->> 'domain', j ->> 'rows_match_leaf', j ->> '\$.rerun.recorded_model',
			j ->> '\$.rerun.layers_that_differ'" >>$db.layers
	done
	[ -s s.layers ] && cmp s.layers o.layers || no "what was encrypted is explained in another way"
	cp s.json out
	same "sealed" "$(json "j ->> 'sealed', j ->> '\$.layers[1].margin_below'")" "1|"
	same "margins of the sequence" "$(json "round(j ->> '\$.layers[1].margin_below_sequence', 6)")" \
		"$(sqlite3 -cmd ".load $(dirname "$MOESCOPE")/moescope_routing" o.db "SELECT round(avg(margin < (SELECT margin FROM
		routing WHERE run = 1 AND pos = $pos AND layer = 1 AND rank = 0)), 6) FROM routing WHERE run = 1 AND layer = 1
		AND rank = 0")"
done
ok "sealed, as text" audit explain s.db 1 2 --run 1 --seal keys/seal
says "sealed, as text" "opened here; what was encrypted is what|sequence's decisions" out
ok "sealed, as a page" audit explain s.db 1 2 --run 1 --seal keys/seal --html page.html
says "sealed, as a page" "encrypted, opened for this page|what was encrypted is what it commits to" page.html
refuse 3 'encrypted (--seal FILE' audit explain s.db 1 2 --run 1
refuse 3 "does not open the key of subject 'patient 12'" audit explain s.db 1 2 --run 1 --seal keys/seal2
cp keys/s.pub nokey
chmod 600 nokey
refuse 3 'not a sealing key' audit explain s.db 1 2 --run 1 --seal nokey
chmod 644 keys/seal2
refuse 3 'others may read' audit explain s.db 1 2 --run 1 --seal keys/seal2
ok "a second run of the subject" run -d s.db sample:balanced -n 3 -s 3 --name "patient 12" "Once"
same "accesses are logged" "$(sqlite3 s.db "SELECT count(*) FROM audit_leaf WHERE kind = 17 AND CAST(payload AS TEXT) LIKE '%explain%'")" 4
ok "redaction" audit redact s.db 1 1 --basis "asked for"
refuse 3 'redacted or pruned' audit explain s.db 1 2 --run 1 --seal keys/seal
refuse 3 "no key for subject 'patient 12'" audit explain s.db 1 0 --run 3 --seal keys/seal
ok "what is left" audit explain s.db 1 2 --run 2 --seal keys/seal
run_it audit replay s.db 3 --model sample:balanced --seal keys/seal
same "replay of what a destroyed key had sealed" $got 2
says "replay of what a destroyed key had sealed" 'NOT_COMPARABLE|1 sequences' out
finish
