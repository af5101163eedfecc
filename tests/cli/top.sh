#!/bin/sh
# top.sh - `moescope top`: --once as text and JSON, and the real screen in tmux, keys in, screen out.
# Without tmux the second half is skipped (exit 77); tests/unit/test_tui_term.c covers the terminal.
set -eu
build=$(dirname "$MOESCOPE")
tmp=$(mktemp -d)
feed=
n=0 # a new server for each session: one that is ending would refuse it
tm() { LC_ALL=C.UTF-8 tmux -L "moescope-test-$$-$n" -f /dev/null "$@"; }
finish() {
	[ -z "$feed" ] || kill "$feed" 2>/dev/null || true
	! command -v tmux >/dev/null || tm kill-server 2>/dev/null || true
	rm -rf "$tmp"
}
trap finish EXIT
db=$tmp/run.db
fail() { echo "$1"; [ ! -e "$tmp/screen" ] || cat "$tmp/screen"; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: got '$2', expected '$3'"; }

# The texts of the domain and of the model are hostile.
"$build/tests/feed" "$db" --layers 6 --experts 16 --tokens 30000 --collapse 3 >/dev/null
sqlite3 "$db" "UPDATE domain SET name = char(27) || '[2J' || name || char(155, 7, 8238) WHERE id = 1;
	UPDATE model SET name = 'mo' || char(27) || ']0;pwn' || char(7) || 'del';"

# ---- --once ----
for size in 80x24 120x40 200x60 40x10 20x6; do
	LC_ALL=C.UTF-8 "$MOESCOPE" top "$db" --once --text --width "${size%x*}" --height "${size#*x}" \
		>"$tmp/text"
	same "lines at $size" "$(wc -l <"$tmp/text")" "${size#*x}"
	! LC_ALL=C tr -d '\n' <"$tmp/text" | LC_ALL=C grep -q '[[:cntrl:]]' ||
		fail "control characters at $size"
	same "widest line at $size" "$(LC_ALL=C.UTF-8 awk -v m="${size%x*}" \
		'{ gsub(/[\200-\277]/, "") } length($0) > m' "$tmp/text")" ""
done
LC_ALL=C "$MOESCOPE" top "$db" --once >"$tmp/text"
! LC_ALL=C grep -q '[^ -~]' "$tmp/text" || fail "not ASCII in the C locale"
grep -q 'max/mean' "$tmp/text" || fail "no balance"

"$MOESCOPE" top "$db" --once --json >"$tmp/top.json"
! LC_ALL=C tr -d '\n' <"$tmp/top.json" | LC_ALL=C grep -q '[[:cntrl:]]' || fail "control bytes in JSON"
sql() { sqlite3 :memory: "SELECT $1 FROM (SELECT readfile('$tmp/top.json') AS j)"; }
# The figures must be those of the database, computed here from its tables alone.
same valid "$(sql 'json_valid(j)')" 1
same tokens "$(sql "json_extract(j, '\$.summary.tokens')")" \
	"$(sqlite3 "$db" "SELECT sum(n) FROM chunk")"
same decisions "$(sql "json_extract(j, '\$.summary.decisions')")" \
	"$(sqlite3 "$db" "SELECT 6 * sum(n) FROM chunk")"
same layers "$(sql "json_array_length(j, '\$.layers')")" 6
same domains "$(sql "json_array_length(j, '\$.domains')")" 30
same model "$(sql "json_extract(j, '\$.summary.model')")" "$(sqlite3 "$db" 'SELECT name FROM model')"
same "max/mean of layer 3" \
	"$(sql "printf('%.4f', json_extract(j, '\$.layers[3].max_mean'))")" \
	"$("$MOESCOPE" sql "$db" --csv "SELECT printf('%.4f', max(c) * 16.0 / sum(c)) AS x FROM (SELECT
		count(*) AS c FROM routing WHERE layer = 3 GROUP BY expert)" | tail -1 | tr -d '"\r')"
same alarm "$(sql "json_extract(j, '\$.alarms[0].layer')")" 3

status=0
"$MOESCOPE" top "$tmp/none.db" --once >"$tmp/out" 2>&1 || status=$?
same "status without a file" "$status" 3
status=0
"$MOESCOPE" top "$db" --text >"$tmp/out" 2>&1 || status=$?
same "status of --text alone" "$status" 2
status=0
"$MOESCOPE" top "$db" </dev/null >"$tmp/out" 2>&1 || status=$?
same "status without a terminal" "$status" 4
grep -q -- '--once --text' "$tmp/out" || fail "no hint: $(cat "$tmp/out")"

# ---- in tmux ----
if ! command -v tmux >/dev/null; then
	echo "tmux is not installed: the screen was not driven"
	exit 77
fi
grab() { tm capture-pane -p >"$tmp/screen"; }
see() { # wait for a text on the screen: a writer counts as gone after ten seconds
	for _ in $(seq 250); do
		grab
		! grep -qF -- "$1" "$tmp/screen" || return 0
		sleep 0.1
	done
	fail "'$1' did not appear"
}
leave() { # quit, and wait until the shell is back: what is typed before is lost
	tm send-keys q
	for _ in $(seq 50); do
		grab
		grep -qE 'help|quit' "$tmp/screen" || return 0
		sleep 0.1
	done
	fail "q does not quit"
}
tell() { # a text on the first line that holds another
	grep -F -- "$1" "$tmp/screen" | head -1
}
for size in 80x24 120x40; do
	tm new-session -d -x "${size%x*}" -y "${size#*x}" "TERM=tmux-256color sh"
	tm send-keys "'$MOESCOPE' top '$db'; echo status=\$? \$(stty -a | tr ' ;' '\n\n' | grep -xc 'echo\|icanon')" Enter
	see 'max/mean'
	see 'Overview'
	case $(tell 'max/mean') in *Balance*) ;; *) fail "the balance has no title" ;; esac
	! grep -q ']0;pwn$' "$tmp/screen" || fail "raw name on the screen"
	see '\x1b]0;'
	tm send-keys 2
	see 'layer 0, expert 0:'
	tm send-keys Down Down Down l
	see 'layer 3, expert 1:'
	tm send-keys 3
	see 'Layer 3'
	see 'capacity 1.25'
	tm send-keys o
	see 'by number'
	tm send-keys Enter
	see 'of layer 3'
	see 'Tokens it is picked for'
	see 'partners'
	tm send-keys Tab
	see 'Strongest expert of each domain'
	tm send-keys Right j
	see 'Expert'
	tm send-keys 6
	see 'top expert at layer'
	see 'token text was not logged'
	tm send-keys 7
	see 'busiest device / mean'
	see 'LRU'
	tm send-keys t
	see 'up to 00:00'
	tm send-keys Escape
	tm send-keys / l2 Space e5 Enter 4
	see 'Expert 5 of layer 2'
	tm send-keys 8
	see 'Evidence'
	see 'SELECT'
	tm send-keys d
	see 'domain'
	tm send-keys w
	see 'window'
	tm send-keys '?'
	see 'any key closes'
	tm send-keys x 1
	see 'Balance'
	tm resize-window -x 40 -y 10
	see 'max/mean'
	tm send-keys 5
	see 'needs 50'
	tm resize-window -x 100 -y 30
	see 'Strongest expert'
	tm send-keys q
	see 'status=0 2'
	tm kill-server
	n=$((n + 1))
done

# A live run, and SIGTERM: the shell's screen is back, with echo and line editing.
"$build/tests/feed" "$tmp/live.db" --rate 2000 --tokens 0 >/dev/null 2>&1 &
feed=$!
tm new-session -d -x 100 -y 30 "TERM=tmux-256color sh"
tm send-keys "'$MOESCOPE' top --wait '$tmp/live.db' & top=\$!; fg" Enter
see 'live'
see 'max/mean'
tm send-keys 5
see 'u renews, as of'
tm send-keys u
see 'is being computed again'
tm send-keys 1
see 'max/mean'
grab
first=$(grep -o 'tokens [0-9,]*' "$tmp/screen" | tr -dc 0-9)
sleep 2
grab
second=$(grep -o 'tokens [0-9,]*' "$tmp/screen" | tr -dc 0-9)
[ "$second" -gt "$first" ] || fail "a live run stands still: $first, then $second tokens"
tm send-keys p
see 'paused'
tm send-keys C-z
see 'topped'
tm send-keys fg Enter
see 'paused'
kill -9 "$feed"
feed=
tm send-keys p
see 'stopped without closing'
tm send-keys C-z
see 'topped'
tm send-keys "kill -TERM \$top; fg; echo over=\$(stty -a | tr ' ;' '\n\n' | grep -xc 'echo\|icanon')" Enter
see 'over=2'
tm kill-server
n=$((n + 1))

# A second run beside an earlier one in the same file: the earlier one is never shown.
"$MOESCOPE" run sample:balanced 'The judge' -n 4 --ignore-end -T 0 --db "$tmp/twice.db" >/dev/null 2>&1
tm new-session -d -x 100 -y 30 "TERM=tmux-256color sh"
tm send-keys "'$MOESCOPE' run sample:balanced 'The judge' -n 60 --ignore-end -T 0 --live --db '$tmp/twice.db'" Enter
for _ in $(seq 100); do
	grab
	! grep -q 'run 1 ' "$tmp/screen" || fail "the run before is shown"
	! grep -q 'run 2 of 2' "$tmp/screen" || break
	sleep 0.05
done
see 'run 2 of 2'
see 'the inference has finished'
tm send-keys q
sleep 0.5
tm kill-server
n=$((n + 1))

# The inference beside the dashboard: text of its tokens on the screen, its output afterwards; q and
# Ctrl-C both leave a run that was closed properly and a terminal as it was.
tm new-session -d -x 100 -y 30 "TERM=tmux-256color sh"
tm send-keys "'$MOESCOPE' run sample:balanced 'The judge' -n 60 --ignore-end -T 0 --log-text --live " \
	"--db '$tmp/beside.db'; echo status=\$? \$(stty -a | tr ' ;' '\n\n' | grep -xc 'echo\|icanon')" Enter
see 'the inference has finished'
tm send-keys 6
see ' The judge'
tm send-keys q
see 'status=0 2'
see 'run 1 logged to'
same "state after --live" "$(sqlite3 "$tmp/beside.db" 'SELECT state FROM run')" done
tm send-keys "clear; '$MOESCOPE' profile --live -g 200 --db '$tmp/beside2.db'; echo status=\$?" Enter
see '● live'
tm send-keys C-c
see 'status=130'
same "state after Ctrl-C" "$(sqlite3 "$tmp/beside2.db" 'SELECT state FROM run')" done
# A model that is not there: the dashboard closes by itself, the error is that of the inference.
tm send-keys "clear; '$MOESCOPE' run '$tmp/none.gguf' --live --db '$tmp/beside3.db'; echo status=\$?" Enter
see 'status=3'
see 'No such file'
# Saving: new files with numbers of their own, CSV that a parser reads, nothing written over.
tm send-keys "clear; cd '$tmp' && '$MOESCOPE' top '$db' --baseline 1" Enter
see 'baseline run 1'
tm send-keys s
see 'saved moescope-overview-1.txt'
tm send-keys s
see 'saved moescope-overview-2.txt'
tm send-keys 2 S
see 'saved moescope-heatmap-1.csv'
tm send-keys q
same "rows of the CSV" "$(wc -l <"$tmp/moescope-heatmap-1.csv")" 97
same "picks in the CSV" "$(tail -n +2 "$tmp/moescope-heatmap-1.csv" | awk -F, '{ n += $3 } END { print n }')" \
	"$(sqlite3 "$db" 'SELECT 12 * sum(n) FROM chunk')"
grep -q 'max/mean' "$tmp/moescope-overview-1.txt" || fail "the saved screen is empty"
# A picture: a PNG of 10 x 20 pixels a character, if this program was built with cairo.
tm send-keys "clear; '$MOESCOPE' top --palette safe '$db'" Enter
see 'max/mean'
tm send-keys c P
for _ in $(seq 50); do
	grab
	! grep -q -e 'saved moescope-overview-1.png' -e libcairo2-dev "$tmp/screen" || break
	sleep 0.1
done
if grep -q 'saved moescope-overview-1.png' "$tmp/screen"; then
	same "a PNG of 1000 x 600" "$(od -A n -t x1 -N 24 "$tmp/moescope-overview-1.png" | tr -d ' \n')" \
		89504e470d0a1a0a0000000d49484452000003e800000258
	[ "$(wc -c <"$tmp/moescope-overview-1.png")" -gt 10000 ] || fail "the picture is empty"
fi
# One request alone: its tokens are those of its chunks, on screens that follow it; elsewhere that is said.
tm send-keys / '#3' Enter
see 'only request 3'
same "tokens of request 3" "$(grep -o 'tokens [0-9,]*' "$tmp/screen" | head -1 | tr -dc 0-9)" \
	"$(sqlite3 "$db" "SELECT sum(n) FROM chunk JOIN sequence s ON s.id = sequence WHERE seq = 3")"
tm send-keys N
see 'only request 2'
tm send-keys 5
see 'not filtered by request here'
tm send-keys o
see 'clearest first'
tm send-keys / '#99999' Enter
see 'has no request 99999'
tm send-keys a 1
see 'Balance'
leave
# A baseline in another file, and runs of another shape.
cp "$db" "$tmp/other.db"
"$build/tests/feed" "$tmp/small.db" --layers 2 --experts 8 --tokens 2000 >/dev/null
tm send-keys "clear; '$MOESCOPE' top '$db' --baseline '$tmp/other.db:1'" Enter
see 'baseline other.db run 1'
tm send-keys 6
see 'baseline: another top expert for 0 of'
tm send-keys 7
see 'baseline'
tm send-keys 8
see 'against the baseline: 0 new, 0 gone'
tm send-keys b
see 'Evidence'
leave
tm send-keys "clear; '$MOESCOPE' top '$db' --baseline '$tmp/small.db'" Enter
see 'has a model of another shape'
leave
status=0
"$MOESCOPE" top "$db" --baseline "$tmp/nowhere.db" --once >"$tmp/out" 2>&1 || status=$?
same "status of a baseline that is not there" "$status" 3
grep -q "nowhere.db" "$tmp/out" || fail "the baseline is not named: $(cat "$tmp/out")"
status=0
"$MOESCOPE" run sample:balanced x --live --db "$tmp/beside4.db" >"$tmp/out" 2>&1 </dev/null || status=$?
same "status of --live without a terminal" "$status" 2
