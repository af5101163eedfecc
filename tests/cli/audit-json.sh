#!/bin/sh
# audit-json.sh - every verb of `audit` that does something prints one JSON object with --json, with the fields that
# the manual names, and what they say is what is in the database and in the files. Names are hostile.
. "${0%/*}/check.inc"
mkdir keys
name='a"b\c'
# The result is one JSON object; prints an expression of it, j.
json() { sqlite3 :memory: "SELECT CASE WHEN json_valid(j) AND json_type(j) = 'object' THEN $1 ELSE 'not an object' END
	FROM (SELECT CAST(readfile('out') AS TEXT) AS j)"; }
keys() { json "(SELECT group_concat(key) FROM json_each(j))"; }
leaves() { q "$1" 'SELECT count(*) FROM audit_leaf'; }
note() { # of the newest checkpoint
	sqlite3 "$1" 'SELECT note FROM audit_checkpoint ORDER BY id DESC LIMIT 1'
}
say() { # verb, the fields it has, arguments: the result stays in out
	what=$1 fields=$2
	shift 2
	ok "$what --json" audit "$@" --json
	same "fields of $what" "$(keys)" "$fields"
}
say init action,database,origin,key,public_key_file,public_key,seal init a.db --origin example.org/j --key "keys/$name" \
	--seal keys/seal
same "public key" "$(json "j ->> 'public_key'")" "$(cat "keys/$name.pub")"
same "key" "$(json "j ->> 'key'")" "keys/$name"
say "init without encryption" action,database,origin,key,public_key_file,public_key,seal init b.db \
	--origin example.org/j --key "keys/$name"
same "no sealing key" "$(json "j ->> 'seal' IS NULL")" 1
for db in a b; do
	run_it run "$tiny" -d $db.db -n 5 -s 1 --name "$name" Hello
done
say checkpoint action,origin,leaves,root,epoch,note,file checkpoint b.db
same "checkpoint" "$(json "(j ->> 'leaves') || ' ' || (j ->> 'epoch') || ' ' || (j ->> 'origin')")" \
	"$(leaves b.db) 0 example.org/j"
same "its note" "$(json "j ->> 'note'")" "$(note b.db)"
same "its root" "$(json "upper(j ->> 'root')")" \
	"$(note b.db | sed -n 3p | base64 -d | od -An -tx1 | tr -d ' \n' | tr a-f A-F)"
say "checkpoint into a file" action,origin,leaves,root,epoch,note,file checkpoint b.db --out note
same "file" "$(json "(j ->> 'file') || ' ' || ((j ->> 'note') = CAST(readfile('note') AS TEXT))")" "note 1"
say anchor action,origin,leaves,root,epoch,note,file,request anchor b.db --out "$name" --request q.tsq
same "anchor" "$(json "(j ->> 'leaves') || ' ' || (j ->> 'file') || ' ' || (j ->> 'request')")" \
	"$(leaves b.db) $name q.tsq"
[ -s q.tsq ] && grep -q example.org/j "$name" || no "anchor --json does not write its files"
ok "anchor to standard output" audit anchor b.db --out -
same "that is the note" "$(cat out)" "$(note b.db)"
[ ! -e ./- ] || no "a file is called -"
say prove action,kind,file,bytes prove b.db 1 2 --out p.json
same "prove" "$(json "(j ->> 'kind') || ' ' || (j ->> 'bytes')")" "inclusion $(wc -c <p.json)"
ok "a proof is JSON itself" audit prove b.db 1 2 --json
same "a proof's format" "$(json "j ->> 'format'")" moescope-proof/1
say "a proof of consistency" action,kind,file,bytes prove b.db --from 1 --to "$(q b.db \
	'SELECT max(size) FROM audit_checkpoint')" --out c.json
same "consistency" "$(json "j ->> 'kind'")" consistency
say explain run,sequence,position,token,phase,leaf,rows_match_leaf,sealed,domain,imported,layers,note explain b.db 1 2
say unseal sequence,position,token,phase,layers unseal a.db 1 2 --seal keys/seal
cp out unsealed
ok "explain" audit explain a.db 1 2 --seal keys/seal --json
same "unseal and explain" "$(sqlite3 :memory: "SELECT (SELECT group_concat(c.value ->> 'expert' || ' ' ||
	round(c.value ->> 'weight', 6)) FROM json_each(a, '\$.layers') l, json_each(l.value, '\$.chosen') c) =
	(SELECT group_concat(c.value ->> 'expert' || ' ' || round(c.value ->> 'weight', 6)) FROM json_each(b, '\$.layers') l,
	json_each(l.value, '\$.chosen') c) FROM (SELECT CAST(readfile('out') AS TEXT) AS a, CAST(readfile('unsealed') AS
	TEXT) AS b)")" 1
say hold action,run,sequence,basis hold b.db 1 1 --basis "$name"
same "hold" "$(json "(j ->> 'action') || ' ' || (j ->> 'run') || ' ' || (j ->> 'sequence') || ' ' || (j ->> 'basis')")" \
	"hold 1 1 $name"
run_it audit redact b.db 1 --basis x --json
same "what is held" $got 2
[ ! -s out ] || no "a refusal prints: $(cat out)"
say release action,run,sequence,basis hold b.db 1 1 --release --basis x
same "release" "$(json "(j ->> 'action') || ' ' || (j ->> 'sequence')")" "release 1"
refuse 2 'run 1, sequence 1 is not held' audit hold b.db 1 1 --release --basis x
refuse 2 'run 1 is not held' audit hold b.db 1 --release --basis x
refuse 2 'nothing of run 9' audit hold b.db 9 --basis x
refuse 2 'nothing of run 1, sequence 9' audit hold b.db 1 9 --basis x
ok "a whole run" audit hold b.db 1 --basis x
refuse 2 'not held itself, its run is' audit hold b.db 1 1 --release --basis x
ok "released" audit hold b.db 1 --release --basis x
say export action,directory,leaves export b.db 1 --out bundle
same "export" "$(json "j ->> 'leaves'")" "$(ls bundle/proofs | wc -l)"
say redact action,run,sequence,basis,payloads redact b.db 1 --basis "$name"
same "the whole run" "$(json "j ->> 'sequence' IS NULL")" 1
same "redact" "$(json "j ->> 'payloads'")" "$(q b.db 'SELECT count(*) FROM audit_leaf WHERE salt IS NULL')"
say retain action,payloads,days retain b.db
same "retain" "$(json "(j ->> 'payloads') || ' ' || (j ->> 'days')")" "0 183"
say rotate action,database,key,public_key_file,public_key rotate b.db --new-key keys/new
same "rotate" "$(json "(j ->> 'public_key') || ' ' || (j ->> 'key')")" "$(cat keys/new.pub) keys/new"
for what in "verify b.db --pubkey keys/new.pub" "replay a.db 1 --model $tiny --seal keys/seal"; do
	run_it audit $what --json
	same "audit $what: JSON" "$(sqlite3 :memory: "SELECT json_valid(CAST(readfile('out') AS TEXT))")" 1
done
finish
