#!/bin/sh
# exchange.sh - export, import and back: the same decisions, the same figures; what a file must not say
# gives one line with file and line, and changes nothing.
. "$(dirname "$0")/check.inc"
feed=$(dirname "$MOESCOPE")/tests/feed

# ---- there and back ----
"$feed" a.db --full --tokens 1500 --experts 12 --k 3 --layers 3 --first-layer 2 >/dev/null || no "feed"
for f in csv jsonl; do
	ok "export $f" export a.db --format $f -o a.$f
	same "$f: lines" "$(grep -c prefill a.$f)" "$(q a.db 'SELECT 3 * sum(n) FROM chunk WHERE phase = 0')"
	ok "import $f" import a.$f --db $f.db
	says "import $f" "run 1 of $f.db|4500 rows|1500 tokens|3 MoE layers" err
	ok "export again" export $f.db --format $f -o b.$f
	cmp -s a.$f b.$f || no "$f: export, import, export is not the same file"
	same "$f: state and source" "$(q $f.db "SELECT state, detail, weights, source FROM run")" \
		"imported,routes,exact,$f: a.$f"
	for what in "" "--by expert" "--by domain" --locality --coactivation --specialisation; do
		# What a text does not say (scores, margins) is left out on both sides.
		for db in a $f; do
			# shellcheck disable=SC2086
			"$MOESCOPE" stat $db.db $what --csv 2>/dev/null | if [ -z "$what" ] || [ "$what" = "--by domain" ]
				then cut -d, -f1-20; else cat; fi >$db.stat
		done
		cmp -s a.stat $f.stat || no "$f: stat $what differs: $(diff a.stat $f.stat | head -4)"
	done
	same "$f: routing" "$(q $f.db 'SELECT seq, pos, token, phase, layer, rank, expert, weight FROM routing' |
		sha256sum)" "$(q a.db 'SELECT seq, pos, token, phase, layer, rank, expert, weight FROM routing' | sha256sum)"
	same "$f: margins are not known" "$(q $f.db 'SELECT count(margin) FROM routing')" 0
done
# A plain file, no log beside it.
[ ! -e csv.db-wal ] && [ ! -e csv.db-lock ] || no "import left files beside the database"

ok "counts" export a.db --format counts-csv -o c.csv
ok "counts in" import c.csv --db c.db --top-k 3 --domain some
"$MOESCOPE" stat a.db --csv 2>/dev/null | cut -d, -f4-20 >a.stat
"$MOESCOPE" stat c.db --csv 2>/dev/null | cut -d, -f4-20 >c.stat
cmp -s a.stat c.stat || no "counts: stat differs: $(diff a.stat c.stat | head -4)"
same "counts: domain" "$("$MOESCOPE" stat c.db --by domain --csv 2>/dev/null | sed -n 2p | cut -d, -f2)" some
same "counts: weights are not known" "$("$MOESCOPE" stat c.db --by expert --json | grep -o '"weight_sum": *null' | wc -l)" 36
ok "counts out" export c.db --format counts-csv -o d.csv
cmp -s c.csv d.csv || no "counts: not the same file"
ok "a second run" import a.csv --db c.db --domain other --model m --experts 20 --weights 8bit
same "second run" "$(q c.db 'SELECT count(*), max(weights) FROM run')" "2,8bit"
same "given experts" "$(q c.db 'SELECT DISTINCT n_expert FROM moe_layer WHERE model = 2')" 20
ok "one domain" export a.db --domain law --format csv -o law.csv
same "one domain" "$(sed 1d law.csv | cut -d, -f8 | sort -u)" '"law"'

# ---- forms ----
# BOM, CR LF, quotes, columns in another order, no weights, runs to choose from, decode, gaps, turns.
printf '\357\273\277layer,experts,"position",sequence,phase,run,domain\r\n%s\r\n%s\r\n%s\r\n\r\n%s\r\n%s\r\n%s' \
	'5,"3 1",0,8,prefill,2,"a ""b"", c"' '5,2 0,0,9,prefill,2,"x"' '5,0 1,4,8,decode,2,"a ""b"", c"' \
	'5,0 1,0,1,prefill,3,x' '5,0 1,5,8,decode,2,"a ""b"", c"' '5,7 1,1,9,prefill,2,x' >odd.csv
ok "odd forms" import odd.csv --db odd.db --run 2
same "odd forms" "$(q odd.db "SELECT seq, pos, phase, expert, domain.name FROM routing JOIN domain
	ON domain.id = routing.domain WHERE rank = 0 ORDER BY 1, 2" | tr '\n' ' ')" \
	'8,0,0,3,"a ""b"", c" 8,4,1,0,"a ""b"", c" 8,5,1,0,"a ""b"", c" 9,0,0,2,x 9,1,0,7,x '
same "odd forms: weights" "$(q odd.db 'SELECT count(weight) FROM routing')" 0
same "odd forms: tokens" "$(q odd.db 'SELECT n_prompt, n_generated FROM sequence ORDER BY seq' | tr '\n' ' ')" '1,2 2,0 '
printf '%s\n%s\n' '{"sequence":1,"position":0,"layer":0,"experts":[1,0]}' \
	'{"experts":[2,1],"layer":0,"position":1,"sequence":1,"weights":null}' >odd.jsonl
ok "short objects" import odd.jsonl --db odd.db
printf '%s\n' '=1+1,x' >/dev/null
printf 'layer_id,expert_id,count\n0,0,1000000000000000\n0,3,1000000000000000\n' >big.csv
ok "10^15" import big.csv --db big.db --top-k 2
same "10^15" "$(q big.db 'SELECT tokens FROM load')" 1000000000000000

# ---- mistakes ----
cp c.db before.db
mistake() { # words, text, options: the file is made of the text
	words=$1 text=$2
	shift 2
	printf "$text" >bad.txt
	refuse 3 "$words" import bad.txt --db c.db "$@"
	cmp -s c.db before.db || no "$words: the database has changed"
	rm -f new.db
	refuse 3 "$words" import bad.txt --db new.db "$@"
	[ ! -e new.db ] || no "$words: a database was made"
}
h='sequence,position,layer,experts,weights\n'
mistake 'bad.txt|no format' ''
mistake 'bad.txt|no format' 'hello\nworld\n'
mistake 'bad.txt|no decision' "$h"
mistake "bad.txt:1|column 'wieghts' is unknown" 'sequence,position,layer,experts,wieghts\n1,0,0,1,1\n'
mistake "bad.txt:1|column 'layer' twice" 'sequence,position,layer,layer,experts\n'
mistake "bad.txt:2|4 fields, the head line has 5" "${h}1,0,0,1 2\n"
mistake "bad.txt:2|position 'x' is not a whole number" "${h}1,x,0,1 2,.5 .5\n"
mistake "bad.txt:2|layer 512 is outside 0 to 511" "${h}1,0,512,1 2,.5 .5\n"
mistake "bad.txt:2|expert 1024 is outside 0 to 1023" "${h}1,0,0,1 1024,.5 .5\n"
mistake "bad.txt:2|expert -1 is outside" "${h}1,0,0,1 -1,.5 .5\n"
mistake "bad.txt:3|expert 8 is outside 0 to 7" "${h}1,0,0,1 7,.5 .5\n1,1,0,1 8,.5 .5\n" --experts 8
mistake "bad.txt:2|expert 1 is picked twice" "${h}1,0,0,1 1,.5 .5\n"
mistake "bad.txt:2|2 experts and 1 weights" "${h}1,0,0,1 2,.5\n"
mistake "bad.txt:2|weight 'nan' is not a finite number" "${h}1,0,0,1 2,.5 nan\n"
mistake "bad.txt:2|weight '1e999' is not a finite number" "${h}1,0,0,1 2,.5 1e999\n"
mistake "bad.txt:3|no weights" "${h}1,0,0,1 2,.5 .5\n1,1,0,1 2,\n"
mistake "bad.txt:3|layer 0 picks 1 experts, 2 before" "${h}1,0,0,1 2,.5 .5\n1,1,0,1,.5\n"
mistake "bad.txt:3|position 0 of sequence 1 a second time" "${h}1,0,0,1 2,.5 .5\n1,0,0,1 2,.5 .5\n2,0,0,1 2,1 1\n"
mistake "bad.txt:4|position 0 of sequence 1 comes after a later one" "${h}1,0,0,1 2,.5 .5\n1,1,0,1 2,.5 .5\n1,0,0,1 2,.5 .5\n"
mistake "bad.txt:4|layer 1, expected 0" "${h}1,0,0,1,1\n1,0,1,1,1\n1,1,1,1,1\n"
mistake "bad.txt:5|position 1 of sequence 1 before it has 1 of 2 layers" "${h}1,0,0,1,1\n1,0,1,1,1\n1,1,0,1,1\n1,2,0,1,1\n"
mistake "bad.txt:4|position 1 of sequence 1 before it has 1 of 2 layers" "${h}1,0,0,1,1\n1,0,1,1,1\n1,1,0,1,1\n"
mistake "bad.txt:2|a quoted field does not end" "${h}1,0,0,\"1 2,.5 .5\n"
mistake "bad.txt:2|behind a quoted field" "${h}1,0,0,\"1\"x,1\n"
mistake "bad.txt:2|a NUL byte" "${h}1,0,0\000,1,1\n"
mistake "bad.txt:2|no expert" "${h}1,0,0,,\n"
mistake "bad.txt:2|sequence -4 is negative" "${h}-4,0,0,1,1\n"
mistake "bad.txt:2|position 4294967295 is outside" "${h}1,4294967295,0,1,1\n"
mistake "bad.txt|no decision of run 7" "${h}1,0,0,1,1\n" --run 7
mistake "bad.txt:3|run 2 after run 1" "run,${h}1,1,0,0,1,1\n2,1,1,0,1,1\n"
mistake "bad.txt:2|not a JSON object" '{"sequence":1,"position":0,"layer":0,"experts":[1]}\n{"sequence":1,\n'
mistake "bad.txt:1|not a JSON object" '{"sequence":1,"position":0,"layer":0,"experts":[1],"weights":[NaN]}\n'
mistake "bad.txt:1|not a JSON object" '{"sequence":1} trailing\n'
mistake "bad.txt:1|key 'expert' is unknown" '{"sequence":1,"position":0,"layer":0,"expert":[1]}\n'
mistake "bad.txt:1|key 'layer' twice" '{"sequence":1,"position":0,"layer":0,"layer":0,"experts":[1]}\n'
mistake "bad.txt:1|no key 'position'" '{"sequence":1,"layer":0,"experts":[1]}\n'
mistake "bad.txt:1|position is not a whole number" '{"sequence":1,"position":0.5,"layer":0,"experts":[1]}\n'
mistake "bad.txt:1|an expert is not a whole number" '{"sequence":1,"position":0,"layer":0,"experts":["1"]}\n'
mistake "bad.txt:1|phase is neither" '{"sequence":1,"position":0,"layer":0,"experts":[1],"phase":"x"}\n'
k='layer_id,expert_id,count\n'
mistake "bad.txt|a head line and no counts" "$k" --top-k 1
mistake "bad.txt:2|2 fields, expected 3" "${k}0,0\n" --top-k 1
mistake "bad.txt:2|count 1000000000000001 is outside" "${k}0,0,1000000000000001\n" --top-k 1
mistake "bad.txt:2|count 99999999999999999999 is outside" "${k}0,0,99999999999999999999\n" --top-k 1
mistake "bad.txt:2|count '-0x1' is not" "${k}0,0,-0x1\n" --top-k 1
mistake "bad.txt:3|layer 0, expert 0 a second time" "${k}0,0,1\n0,0,1\n" --top-k 1
mistake "bad.txt|layer 0 has 3 picks|no multiple of --top-k 2" "${k}0,0,1\n0,1,2\n" --top-k 2
mistake "bad.txt|expert 1 has 3 picks|there were 2 tokens" "${k}0,0,1\n0,1,3\n" --top-k 2
mistake "bad.txt|layer 0 has 1 experts, --top-k says 2" "${k}0,0,4\n" --top-k 2
mistake "bad.txt:2|expert 9 is outside 0 to 7" "${k}0,9,4\n" --top-k 2 --experts 8
{ printf "$h"; head -c 1100000 /dev/zero | tr '\0' 1; } >long.csv
refuse 3 'long.csv:2|more than 1048576 bytes' import long.csv --db c.db
cmp -s c.db before.db || no "a long line: the database has changed"

refuse 2 '--top-k K is needed' import c.csv --db c.db
refuse 2 '--top-k is for counts' import a.csv --db c.db --top-k 3
refuse 2 "no format 'xml'" import a.csv --db c.db --format xml
refuse 2 'can only be exported' import a.csv --db c.db --format npz
refuse 2 'one file is needed' import
refuse 3 'nothere.csv|No such file' import nothere.csv
mkdir -p dir
refuse 3 'dir|not a regular file' import dir
refuse 3 'a.csv|not a SQLite database' import b.csv --db a.csv
refuse 2 "no format 'xml' to export" export a.db --format xml
refuse 2 'npz needs --output' export a.db --format npz
refuse 2 "no domain 'nope'" export a.db --domain nope
refuse 3 'no run 9' export a.db --run 9
refuse 3 'counts only' export c.db --run 1
refuse 3 'dir|not a regular file' export a.db -o dir
refuse 3 'nothere.db|no such file' export nothere.db

# ---- NumPy recomputes what stat says ----
python=${PYTHON:-/usr/bin/python3}
if "$python" -c 'import numpy' 2>/dev/null; then
	for args in '' '--experts 32 --skew 4 --k 2'; do # even; a collapse, and experts that nobody picks
		rm -rf n.db m.db n
		mkdir n
		# shellcheck disable=SC2086
		"$feed" n.db --full --tokens 900 --prompt 30 --generate 15 --vocab 60 --experts 11 --k 3 --layers 2 $args >/dev/null
		# shellcheck disable=SC2086
		"$feed" m.db --full --tokens 900 --prompt 30 --generate 15 --vocab 60 --experts 11 --k 3 --layers 2 --noise 0.2 $args >/dev/null
		ok "npz" export n.db --format npz -o n/a.npz
		ok "npz" export m.db --format npz -o n/b.npz
		for what in layers: experts:--by=expert domains:--by=domain locality:--locality \
			coactivation:--coactivation cross:--cross-layer vocabulary:--vocabulary npmi:--npmi \
			specialisation:--specialisation alarms:--alarms; do
			# shellcheck disable=SC2086
			"$MOESCOPE" stat n.db ${what#*:} --json >"n/${what%%:*}.json" 2>/dev/null
		done
		"$MOESCOPE" whatif n.db --capacity --batch 64 --factors 1,1.25,2 --json >n/capacity.json 2>/dev/null
		"$MOESCOPE" whatif n.db --cache --json >n/cache.json 2>/dev/null
		"$MOESCOPE" diff n.db m.db --json >n/diff.json 2>/dev/null
		"$MOESCOPE" sql n.db --csv 'SELECT layer, expert, count(*) FROM routing GROUP BY 1, 2' >n/routing.csv
		"$MOESCOPE" sql n.db --csv 'SELECT id, name FROM domain' >n/names.csv
		PYTHONDONTWRITEBYTECODE=1 "$python" "$root/tests/ref/npz_stat.py" n >npz.out 2>&1 ||
			no "npz: $(head -5 npz.out)"
	done
	[ "$(cut -d' ' -f1 npz.out)" -gt 3000 ] || no "npz: only $(cat npz.out)"
else
	echo "NumPy is not installed: npz was not read back"
fi
finish
