#!/bin/sh
# audit-import.sh - files of other programs in a database with an audit log: leaves say where they came from and
# that they were not recorded here; rows are compared with leaves all the same; nothing of it is replayed.
. "${0%/*}/check.inc"
verify=$(dirname "$MOESCOPE")/moescope-verify
v() { # exit status, words, database
	"$verify" -p keys/k.pub --anchor anchors --deep "$3" >"$W/out" 2>"$W/err" </dev/null
	got=$?
	[ $got = "$1" ] || no "verify $3: exit $got, expected $1: $(head -c 800 "$W/out" "$W/err")"
	says "verify $3" "$2" out
	harmless "verify $3"
}
mkdir keys
ok init audit init a.db --origin example.org/a --key keys/k
ok "a run of our own" profile "$tiny" "$root/models/texts/c.txt" -d a.db -q --max-tokens 200
printf 'layer_id,expert_id,count\n0,0,5\n0,1,7\n3,1,2\n3,2,8\n' >counts.csv
cat >'rows =1+1.csv' <<'END'
sequence,position,token,layer,experts,weights,domain,phase
0,0,5,0,1 2,0.75 0.25,code,prefill
0,0,5,4,0 3,0.5 0.5,code,prefill
0,1,6,0,2 0,0.625 0.375,code,prefill
0,1,6,4,1 3,0.9 0.1,code,prefill
7,0,9,0,3 0,0.5 0.5,law,decode
7,0,9,4,3 1,0.5 0.5,law,decode
END
ok counts import counts.csv --top-k 1 -d a.db --operator alice
ok decisions import 'rows =1+1.csv' -d a.db
ok "8 bits" import 'rows =1+1.csv' -d a.db --weights 8bit --domain other
ok anchor audit anchor a.db -o anchors
v 0 'VALID|run 2: imported from counts.csv (counts-csv|run 3: imported from rows =1+1.csv (csv, SHA-256|imported runs 3' a.db
says "the file's hash" "$(sha256sum counts.csv | cut -c 1-64)" out
says "the other file's hash" "$(sha256sum 'rows =1+1.csv' | cut -c 1-64)" out
sqlite3 a.db "SELECT CAST(payload AS TEXT) FROM audit_leaf WHERE kind = 2 AND run = 2" >desc
says "what a leaf says" 'witnessed no|not recorded here|who alice (uid' desc

# ---- never replayed, but to be proved and explained as what it is ----
run_it audit replay a.db 3 --model "$tiny" --unlogged
[ $got = 2 ] || no "replay of an import: exit $got: $(cat err)"
says "replay of an import" '2 NOT_COMPARABLE|not recorded here' out
run_it audit replay a.db 3 --model "$tiny" --unlogged --anyway
[ $got = 2 ] || no "replay of an import, anyway: exit $got"
ok prove audit prove a.db 0 1 --run 3 -o p.json
"$verify" -p keys/k.pub --proof p.json >out 2>err || no "proof of sequence 0: $(cat out err)"
says "proof of sequence 0" 'VALID|position 1, token 6, layer 4: E1 (0.9000) E3' out
ok explain audit explain a.db 0 1 --run 3
says explain 'imported from a file of another program|layer 4' out
refuse 2 'imported' audit explain a.db 0 1 --run 3 --model "$tiny"
ok export audit export a.db 3 -o bundle
grep -q '^"*[0-9]*,session-start.*not recorded here' bundle/records.csv || no "the bundle does not say that it was imported"
same "rows of the bundle" "$(sed 1d bundle/decisions.csv | wc -l)" 12

# ---- what was imported is held to its leaves ----
edited() { # what, SQL, words
	cp a.db b.db
	sqlite3 b.db "$2"
	cmp -s a.db b.db && no "$1: nothing was edited"
	v 1 "TAMPERED|$3" b.db
}
edited "a count" "UPDATE load SET counts = CAST(x'0600000000000000' || substr(counts, 9) AS BLOB) WHERE run = 2 AND
	layer = 0" "does not have the sums"
edited "tokens" "UPDATE load SET tokens = 9 WHERE run = 2 AND layer = 3" "does not have the sums"
edited "an expert" "UPDATE chunk SET experts = CAST(x'00' || substr(experts, 2) AS BLOB) WHERE run = 3 AND id =
	(SELECT min(id) FROM chunk WHERE run = 3)" "payload was changed"
edited "the source" "UPDATE run SET source = 'csv: other.csv' WHERE id = 3" "source in the table"
edited "a run that says it was ours" "UPDATE run SET source = NULL, command = 'profile' WHERE id = 3" "command in the table"
edited "the domain" "UPDATE domain SET name = 'art' WHERE name = 'law'" "domain in the table"

# ---- other policies: sums only, encrypted; a file that is none changes nothing ----
n=$(sqlite3 a.db 'SELECT count(*) FROM audit_leaf')
refuse 3 'expert' import 'rows =1+1.csv' -d a.db --experts 3
same "leaves after a refusal" "$(sqlite3 a.db 'SELECT count(*) FROM audit_leaf')" "$n"
ok sums audit init sums.db --origin example.org/sums --key keys/sums --detail sums
ok "sums of decisions" import 'rows =1+1.csv' -d sums.db
ok "sums of counts" import counts.csv --top-k 1 -d sums.db
same "decisions at sums" "$(q sums.db 'SELECT count(*) FROM chunk')" 0
"$verify" -p keys/sums.pub --deep sums.db >out 2>err
[ $? = 2 ] || no "sums: $(cat out err)"
says sums 'VALID|imported runs 2' out
ok sealed audit init sealed.db --origin example.org/sealed --key keys/sealed --seal keys/seal
ok "a sealed import" import 'rows =1+1.csv' -d sealed.db
ok "sealed counts" import counts.csv --top-k 1 -d sealed.db
same "decisions of a sealed import" "$(q sealed.db 'SELECT count(*) FROM chunk')" 0
"$verify" -p keys/sealed.pub --deep sealed.db >out 2>err
[ $? = 2 ] || no "sealed: $(cat out err)"
says sealed 'VALID|imported runs 2' out
ok unseal audit unseal sealed.db 7 0 --run 1 --seal keys/seal
says unseal 'position 0, token 9, layer 4: E3' out
finish
