#!/bin/sh
# audit.sh - `moescope audit` and moescope-verify from outside: keys, verdicts and exit codes, anchors and
# forks, proofs, redaction, retention and holds, encryption, export, explain. Replay: audit-replay.sh;
# mutations: audit-attack.sh; kill -9: audit-kill.sh.
. "${0%/*}/check.inc"
verify=$(dirname "$MOESCOPE")/moescope-verify
v() { # exit status, arguments of moescope-verify
	want=$1
	shift
	"$verify" "$@" >"$W/out" 2>"$W/err" </dev/null
	got=$?
	[ $got = "$want" ] || no "moescope-verify $*: exit $got, expected $want: $(head -c 600 "$W/out" "$W/err")"
	harmless "moescope-verify $*"
}
leaf() { sqlite3 "$1" "SELECT count(*) FROM audit_leaf WHERE kind = $2"; }
gen() { # what, arguments of `run`: its text may hold any bytes
	what=$1
	shift
	run_it run "$@"
	[ $got = 0 ] || no "$what: exit $got: $(cat "$W/err")"
}
mkdir keys

# ---- starting a log ----
refuse 2 'origin|key' audit init a.db
refuse 2 'directory of the database' audit init a.db --origin example.org/a --key k
refuse 2 'without blanks' audit init a.db --origin 'a b' --key keys/k
refuse 2 'no verb|init, verify' audit frobnicate a.db
refuse 3 'a.db' audit checkpoint a.db
ok init audit init a.db --origin example.org/a --key keys/k
same "mode of the key" "$(stat -c %a keys/k)" 600
refuse 3 'has an audit log already' audit init a.db --origin example.org/a --key keys/k
gen "a run" "$tiny" -d a.db -n 20 -s 1 --domain code --name '=1+1' "Once upon"
ok "a profile" profile "$tiny" "$root/models/texts/c.txt" -d a.db -q --max-tokens 300
[ "$(leaf a.db 6)" -gt 3 ] || no "no batches in the log"

# Adding a leaf makes no table (a NOT IN in the index would), and a search for rare leaves uses the index, also of a
# log that an earlier version made.
same "a leaf makes no table" "$(sqlite3 a.db "EXPLAIN INSERT INTO audit_leaf(idx, kind, run, seq, header) VALUES(?, ?, ?,
	?, ?)" | grep -c OpenEphemeral)" 0
for db in a.db "$root/tests/data/audit/first.db"; do
	sqlite3 "$db" "EXPLAIN QUERY PLAN SELECT payload FROM audit_leaf WHERE run = 1 AND kind = 2 AND
		$(grep -A 1 '^#define LOG_RARE' "$root/src/audit/log.h" | tr -d '\\\n\t' |
			sed 's/^#define LOG_RARE(kind) //; s/" kind "/kind/g; s/"//g')" >plan
	grep -q audit_leaf_record plan || no "rare leaves are searched for without an index in $db: $(cat plan)"
done

# ---- verdicts ----
v 2 -p keys/k.pub a.db --deep
says unanchored 'VALID|anchored outside: none|This cannot show|only a replay' out
ok anchor audit anchor a.db -o anchors
v 0 -p keys/k.pub a.db --deep --anchor anchors
run_it audit verify a.db --pubkey keys/k.pub --deep --anchor anchors --json
[ $got = 0 ] || no "audit verify: exit $got"
says json '"verdict": "VALID"|"anchored": true|nothing after the newest anchor' out
# What was written after the anchor can be cut off again: the verdict says how far the anchor reaches.
cp a.db later.db
gen "a run after the anchor" "$tiny" -d later.db -n 5 -s 1 Hello
v 2 -p keys/k.pub later.db --deep --anchor anchors
says "past the anchor" 'VALID|as good as without an anchor|nothing after the newest anchor was cut off' out
for how in "$verify -p keys/k.pub later.db" "$MOESCOPE audit verify later.db --pubkey keys/k.pub"; do
	$how --json --anchor anchors >out 2>err
	same "exit past the anchor" $? 2
	same "leaves past the anchor" "$(sqlite3 later.db "SELECT (SELECT count(*) FROM audit_leaf) - anchored,
		unanchored, status, verdict FROM (SELECT j ->> 'anchored_leaves' AS anchored, j ->> 'unanchored_leaves' AS
		unanchored, j ->> 'status' AS status, j ->> 'verdict' AS verdict FROM (SELECT CAST(readfile('out') AS TEXT) AS j))")" \
		"$(($(q later.db 'SELECT count(*) FROM audit_leaf') - $(q a.db 'SELECT count(*) FROM audit_leaf')))|$((
		$(q later.db 'SELECT count(*) FROM audit_leaf') - $(q a.db 'SELECT count(*) FROM audit_leaf')))|2|VALID"
done
ok "an anchor of the rest" audit anchor later.db -o later.anchors
v 0 -p keys/k.pub later.db --anchor later.anchors
v 3 -p keys/k.pub nothing.db
v 3 -p keys/k a.db # a private key is no public one
v 3 a.db
v 3 -p keys/k.pub "$tiny"
run_it audit verify a.db
[ $got = 3 ] || no "verify without a key: exit $got"
cp a.db bad.db
sqlite3 bad.db "UPDATE chunk SET margins = zeroblob(length(margins)) WHERE id = 2"
v 1 -p keys/k.pub bad.db --deep --anchor anchors
says "an edited row" 'TAMPERED|leaf' out
chmod 644 keys/k
refuse 3 'others may read' run "$tiny" -d a.db -n 5 Hello
chmod 600 keys/k
mv keys/k keys/away
refuse 4 'strict|missing' run "$tiny" -d a.db -n 5 Hello
mv keys/away keys/k

# ---- proofs ----
ok prove audit prove a.db 1 7 --run 1 -o p.json
v 0 -p keys/k.pub --proof p.json
says "what it shows" 'VALID|position 7|layer 0|margin' out
ok closed audit prove a.db 1 7 --run 1 --closed -o closed.json
[ "$(wc -c <closed.json)" -le 2048 ] || no "a closed proof has $(wc -c <closed.json) bytes"
v 0 -p keys/k.pub --proof closed.json
says closed 'not shown' out
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do # a character of the proof changes
	awk -v at=$((i * 157)) '{ s = s $0 "\n" } END { c = substr(s, at, 1); d = c == "A" ? "B" : "A";
		printf "%s%s%s", substr(s, 1, at - 1), d, substr(s, at + 1) }' p.json >bad.json
	"$verify" -p keys/k.pub --proof bad.json >out 2>err && no "a proof with byte $((i * 157)) changed is VALID"
done
: >empty.json
v 3 -p keys/k.pub --proof empty.json
sizes=$(sqlite3 a.db "SELECT min(size) || ' ' || max(size) FROM audit_checkpoint")
ok consistency audit prove a.db --from "${sizes% *}" --to "${sizes#* }" -o c.json
v 0 -p keys/k.pub --proof c.json
says consistency "first ${sizes% *} of its ${sizes#* } leaves" out
refuse 2 'no checkpoint of 2 leaves' audit prove a.db --from 2 --to "${sizes#* }"
refuse 2 'no decision for run' audit prove a.db 1 100000 --run 1

# ---- a fork: two copies go their own ways under one key ----
cp a.db b.db
gen "one way" "$tiny" -d a.db -n 4 -s 1 Hello
ok "its anchor" audit anchor a.db -o fork_anchors
gen "another way" "$tiny" -d b.db -n 40 -s 2 Hello
gen "and on" "$tiny" -d b.db -n 40 -s 3 Hello
v 2 -p keys/k.pub b.db
v 1 -p keys/k.pub b.db --anchor fork_anchors
run_it audit verify b.db --pubkey keys/k.pub --anchor fork_anchors -o fork.json
[ $got = 1 ] || no "fork: exit $got"
says fork 'FORK|signed two different' out
v 0 -p keys/k.pub --proof fork.json
says "fork evidence" 'FORK: of log' out
v 0 -p keys/k.pub a.db --anchor fork_anchors
v 1 -p keys/k.pub b.db --anchor fork_anchors --json
says "fork as JSON" '"verdict": "TAMPERED"|"fork": {"format": "moescope-proof/1", "kind": "fork"' out
sqlite3 :memory: "SELECT json_extract(CAST(readfile('out') AS TEXT), '\$.fork')" >fork2.json
v 0 -p keys/k.pub --proof fork2.json
v 3 -p keys/k.pub nothing.db --json
says "an error as JSON" '"verdict": "ERROR", "status": 3, "error": "' out
run_it audit verify nothing.db --pubkey keys/k.pub --json
[ $got = 3 ] || no "audit verify of nothing: exit $got"
says "the same error" '"verdict": "ERROR", "status": 3, "error": "' out

# ---- keys ----
ok rotate audit rotate a.db --new-key keys/k2
gen "a run under the new key" "$tiny" -d a.db -n 4 -s 1 Hello
v 2 -p keys/k.pub a.db --deep --anchor anchors # what came after the anchor is not anchored
ok "an anchor by the new key" audit anchor a.db -o anchors
v 0 -p keys/k.pub a.db --deep --anchor anchors
v 0 -p keys/k2.pub a.db --deep --anchor anchors
ok "somebody else's key" audit init other.db --origin example.org/a --key keys/other
v 1 -p keys/other.pub a.db
refuse 3 'signed by' audit checkpoint a.db --key keys/k

# ---- redaction, holds, retention ----
refuse 2 'basis' audit redact a.db 1
ok hold audit hold a.db 1 --basis "case 7"
refuse 2 'legal hold' audit redact a.db 1 1 --basis "asked for"
ok release audit hold a.db 1 --release --basis "case closed"
ok redact audit redact a.db 1 1 --basis "asked for"
says redact 'REDACTED' out
same "decisions left" "$(q a.db 'SELECT count(*) FROM chunk WHERE run = 1')" 0
grep -aq '=1+1' a.db && no "the redacted name is still in the file"
ok "anchor again" audit anchor a.db -o anchors
v 0 -p keys/k.pub a.db --deep --anchor anchors
says redacted 'VALID|REDACTED(' out
refuse 3 'redacted or pruned' audit prove a.db 1 7 --run 1
refuse 2 'promised' audit retain a.db --days 5
ok retain audit retain a.db
# ---- what is logged: sums only, encrypted ----
ok "sums" audit init sums.db --origin example.org/sums --key keys/sums --detail sums
gen "a run of sums" "$tiny" -d sums.db -n 20 -s 1 Hello
same "decisions at sums" "$(q sums.db 'SELECT count(*) FROM chunk')" 0
v 2 -p keys/sums.pub sums.db --deep
says sums 'VALID' out
sqlite3 sums.db "UPDATE load SET tokens = tokens + 1"
v 1 -p keys/sums.pub sums.db --deep
ok "sealed" audit init sealed.db --origin example.org/sealed --key keys/sealed --seal keys/seal --detail full
same "mode of the sealing key" "$(stat -c %a keys/seal)" 600
gen "a sealed run" "$tiny" -d sealed.db -n 20 -s 1 --name "patient 12" Hello
same "decisions of a sealed run" "$(q sealed.db 'SELECT count(*) FROM chunk')" 0
v 2 -p keys/sealed.pub sealed.db --deep
says sealed 'VALID|sealed ' out
refuse 3 'encrypted' audit explain sealed.db 1 3
ok "unsealing" audit unseal sealed.db 1 3 --seal keys/seal
says unsealed 'position 3|layer 2' out
ok "replaying what is encrypted" audit replay sealed.db 1 --model "$tiny" --seal keys/seal -t 2 -b 3
says "replaying what is encrypted" '1 BIT_EXACT' out
run_it audit replay sealed.db 1 --model "$tiny"
[ $got = 2 ] || no "replay without the key: exit $got: $(cat out err)"
says "replay without the key" 'NOT_COMPARABLE|encrypted (--seal)' out
ok "forgetting" audit redact sealed.db 1 1 --basis "asked for"
same "the subject's key" "$(sqlite3 sealed.db 'SELECT count(*) FROM audit_subject WHERE key IS NOT NULL')" 0
grep -aq 'patient 12' sealed.db && no "the name of an erased subject is still in the file"
gen "the subject comes back" "$tiny" -d sealed.db -n 5 -s 1 --name "patient 12" Hello
ok "unsealing what came after" audit unseal sealed.db 1 1 --seal keys/seal
gen "and again" "$tiny" -d sealed.db -n 5 -s 1 --name "patient 12" Hello
ok "holding one of them" audit hold sealed.db 2 1 --basis "case 9"
refuse 2 "key also opens run 2, sequence 1|legal hold" audit redact sealed.db 3 1 --basis "asked for"
ok "what is held still opens" audit unseal sealed.db 1 1 --run 2 --seal keys/seal
ok "releasing it" audit hold sealed.db 2 1 --release --basis "over"
ok "forgetting both" audit redact sealed.db 3 1 --basis "asked for"
refuse 3 '' audit unseal sealed.db 1 1 --run 2 --seal keys/seal
v 2 -p keys/sealed.pub sealed.db --deep
refuse 3 '' audit unseal sealed.db 1 3 --seal keys/seal
ok "best effort" audit init effort.db --origin example.org/e --key keys/e --loss best-effort
mv keys/e keys/gone
gen "without its key" "$tiny" -d effort.db -n 4 -s 1 Hello
says "a warning" 'will not be signed' err
v 2 -p keys/e.pub effort.db --deep
says "unsigned" 'INCOMPLETE|under no signature' out

# ---- a bundle ----
gen "a run with a formula for a name" "$tiny" -d a.db -n 10 -s 1 --name '=cmd|1' "Once upon"
refuse 2 'out DIRECTORY' audit export a.db 2
last=$(q a.db 'SELECT max(id) FROM run')
ok export audit export a.db "$last" -o bundle
for p in bundle/proofs/*.json; do
	"$verify" -p keys/k2.pub --proof "$p" >out 2>err || no "$p: $(cat out err)"
done
grep -q "\"'=cmd|1\"" bundle/records.csv || no "a formula is not disarmed: $(grep cmd bundle/records.csv)"
same "rows of decisions" "$(sed 1d bundle/decisions.csv | wc -l)" \
	"$(q a.db "SELECT count(*) FROM routing WHERE run = $last")"
sed 1d bundle/records.csv | cut -d, -f4 | tr -d '"\r' | sed 's/^setting_.*/setting_/' | sort -u >keys_used
[ "$(wc -l <keys_used)" -gt 30 ] || no "only $(wc -l <keys_used) keys in the bundle's records"
while read -r key; do
	grep -q "[ ,]$key\([ ,*]\|\$\)" bundle/FIELDS.txt || no "the field dictionary does not say what '$key' is"
done <keys_used
grep -q 'moescope-verify' bundle/VERIFY.txt || no "no instructions"
refuse 4 'bundle' audit export a.db "$last" -o bundle
same "exports in the log" "$(leaf a.db 16)" 1

# ---- who looked ----
before=$(leaf a.db 17)
ok explain audit explain a.db 1 3 --operator alice
says explain 'layer 0|chosen|margin|traceability|not a cause' out
same "the access is in the log" "$(leaf a.db 17)" $((before + 1))
sqlite3 a.db "SELECT CAST(payload AS TEXT) FROM audit_leaf WHERE kind = 17 ORDER BY idx DESC LIMIT 1" |
	grep -q '^who alice (uid' || no "the operator is not in the log"
ok unlogged audit explain a.db 1 3 --unlogged --json
says "explain as JSON" '"layers"|"margin_below"|"rows_match_leaf": true' out
ok "explain with the model" audit explain a.db 1 3 --model "$tiny" --layer 1
says "explain with the model" 'layer 1|next |would have come|masked|nats' out
grep -q '^layer 0' out && no "--layer is not heeded"
ok "explain as a page" audit explain a.db 1 3 --model "$tiny" --html page.html
grep -q 'Content-Security-Policy' page.html || no "the page has no policy"
refuse 2 'no router there' audit explain a.db 1 3 --layer 99
refuse 2 'not a whole number' audit explain a.db 1 x
v 2 -p keys/k2.pub a.db --deep

# ---- time stamps ----
if command -v openssl >/dev/null; then
	ok request audit anchor a.db --request req.tsq
	mkdir tsa
	cat >tsa/conf <<'END'
[tsa]
default_tsa = one
[one]
serial = tsa/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
[req]
distinguished_name = dn
[dn]
[ext]
extendedKeyUsage = critical,timeStamping
END
	echo 01 >tsa/serial
	if openssl req -x509 -newkey rsa:2048 -nodes -keyout tsa/key -out tsa/cert -days 2 -subj /CN=tsa \
		-config tsa/conf -extensions ext >tsa/log 2>&1 && openssl ts -reply -config tsa/conf -section one \
		-queryfile req.tsq -signer tsa/cert -inkey tsa/key -out resp.tsr >>tsa/log 2>&1; then
		ok "keeping a time stamp" audit anchor a.db --stamp resp.tsr --ca tsa/cert
		says stamp 'time stamp kept' out
		cp resp.tsr broken.tsr
		printf X | dd of=broken.tsr bs=1 seek=200 conv=notrunc 2>/dev/null
		refuse 3 'none of the last' audit anchor a.db --stamp broken.tsr --ca tsa/cert
	else
		no "a time stamp authority of our own: $(tail -3 tsa/log)"
	fi
fi
finish
