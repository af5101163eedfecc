#!/bin/sh
# report: the command, its errors, without gnuplot, --keep, both formats.
set -eu
cd "$(dirname "$0")/../.."
bin=$(dirname "$MOESCOPE")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
feed=$bin/tests/feed
fail() { echo "report.sh: $*"; exit 1; }

# refused STATUS WORDS ARGUMENTS...: the command fails with that status and says those words
refused() {
	want=$1 words=$2
	shift 2
	set +e
	"$MOESCOPE" report "$@" >"$dir/out" 2>"$dir/err"
	got=$?
	set -e
	[ "$got" = "$want" ] || fail "report $*: exit $got, not $want: $(cat "$dir/err")"
	grep -q -- "$words" "$dir/err" || fail "report $* does not say '$words': $(cat "$dir/err")"
	[ "$(wc -l <"$dir/err")" = 1 ] || fail "report $*: the error is not one line"
}

cd "$dir"
"$feed" run.db --tokens 3000 --layers 2 --experts 8 >/dev/null
"$feed" run.db --tokens 2000 --layers 3 --experts 8 >/dev/null

# the default: report.html, newest run
"$MOESCOPE" report run.db 2>err
[ -s report.html ] || fail "no report.html"
grep -q '^Wrote report.html' err || fail "does not say what it wrote: $(cat err)"
grep -q 'moescope report run.db --run 2 -o report.html' report.html || fail "no command"
grep -q "Content-Security-Policy.*default-src 'none'" report.html || fail "no policy"
[ "$(ls)" = "$(printf 'err\nreport.html\nrun.db\nrun.db-shm\nrun.db-wal')" ] ||
	[ "$(ls)" = "$(printf 'err\nreport.html\nrun.db')" ] || fail "leaves files: $(ls)"

# the command on the page makes the page again
cp report.html before.html
"$MOESCOPE" report run.db --run 2 -o report.html 2>/dev/null
cmp -s before.html report.html || fail "the same command gives another page"

# another run, standard output, JSON
"$MOESCOPE" report run.db --run 1 -o - 2>/dev/null | grep -q 'run 1</title>' || fail "run 1"
"$MOESCOPE" report run.db --format json 2>/dev/null
[ -s report.json ] || fail "no report.json"
if command -v python3 >/dev/null; then
	"$MOESCOPE" report run.db --format json -o - | python3 -c '
import json, sys
r = json.load(sys.stdin)
assert r["run"] == 2, r["run"]
assert len(r["layers"]) == 3, r["layers"]
assert len(r["experts"]) == 24
assert sum(x["count"] for x in r["experts"]) == 2000 * 3 * 2
assert {"runs", "domains", "specialisation", "locality", "alarms"} <= set(r)
' || fail "JSON"
fi

# errors
refused 2 'one database' # none named
refused 2 'one database' run.db run.db
refused 2 'is a database' run.db -o run.db
refused 2 'is a directory' run.db -o "$dir"
refused 2 'not a regular file' run.db -o /dev/null
refused 2 'format' run.db --format docx
refused 2 'keep' run.db --format json --keep kept
refused 3 '99' run.db --run 99
set +e
"$MOESCOPE" report missing.db 2>err
[ $? -ge 3 ] || fail "missing.db: $(cat err)"
set -e
echo 'no database' >text.db
refused 3 'text.db' text.db
[ ! -e missing.db ] || fail "made missing.db"

# without gnuplot: tables and a note
mkdir empty
PATH=$dir/empty "$MOESCOPE" report run.db -o bare.html 2>err
grep -q 'gnuplot is not installed' bare.html || fail "no note on the page"
grep -q 'gnuplot is not installed' err || fail "no note on stderr"
grep -q '<svg' bare.html && fail "pictures without gnuplot"
grep -q '<details open>' bare.html || fail "tables are folded"

# --keep: data and scripts that gnuplot can run again
if command -v gnuplot >/dev/null; then
	"$MOESCOPE" report run.db -o kept.html --keep kept 2>/dev/null
	[ -s kept/load.gp ] && [ -s kept/load.dat ] && [ -s kept/load.svg ] || fail "kept: $(ls kept)"
	grep -q '<svg' kept.html || fail "no pictures"
	(cd kept && cp load.svg old.svg && gnuplot -d load.gp && cmp -s old.svg load.svg) ||
		fail "kept/load.gp does not draw load.svg"
	grep -l 'LABEL[0-9]' kept/*.gp && fail "kept scripts have no names"
	for f in kept/*.gp; do
		(cd kept && gnuplot -d "${f#kept/}" 2>&1) || fail "$f does not run"
	done
fi

# every figure is that of stat, whatif and diff
if command -v python3 >/dev/null; then
	MOESCOPE=$MOESCOPE python3 - <<'PY' || fail "figures differ"
import json, os, re, subprocess
m = os.environ["MOESCOPE"]
def ask(*a):
    return json.loads(subprocess.run((m,) + a, check=True, stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL).stdout)
r = ask("report", "run.db", "--baseline", "1", "--format", "json", "-o", "-")
same = {"layers": ("stat",), "experts": ("stat", "--by", "expert"), "domains": ("stat", "--by", "domain"),
        "locality": ("stat", "--locality"), "cross_layer": ("stat", "--cross-layer"),
        "vocabulary": ("stat", "--vocabulary"), "settings": ("stat", "--settings"),
        "specialisation": ("stat", "--specialisation"), "prune": ("whatif", "--prune"),
        "capacity": ("whatif", "--capacity", "--factors", "1,1.25,1.5,2,2.5,3")}
for key, cmd in same.items():
    want = ask(cmd[0], "run.db", *cmd[1:], "--json")
    assert r[key] == want, (key, r[key][:1], want[:1])
    assert want or key in ("settings", "specialisation"), key
pooled = [x for x in ask("whatif", "run.db", "--cache", "--json") if x["layer"] is None]
assert r["caches"] == pooled and pooled
for ranks in (2, 4, 8):
    want = [x for x in ask("whatif", "run.db", "--placement", "--ranks", str(ranks), "--json")
            if x["layer"] is None]
    assert [x for x in r["placement"] if x["ranks"] == ranks] == want and want, ranks
assert r["cache_routing"] == ask("whatif", "run.db", "--cache-routing", "--json")
assert r["energy"] == ask("stat", "run.db", "--energy", "--json")
assert r["cache"] == ask("stat", "run.db", "--cache", "--json")
b = r["baseline"]
for key, cmd in same.items():
    if key in ("layers", "experts", "domains", "specialisation"):
        continue
    want = ask(cmd[0], "run.db", "--run", "1", *cmd[1:], "--json")
    assert b[key] == want and (want or key == "settings"), key
assert b["run"] == 1 and b["layers"] == ask("stat", "run.db", "--run", "1", "--json")
page = open("report.html", encoding="utf-8").read()
figure = lambda i: float(re.search('<data id="%s" value="([^"]*)"' % i, page).group(1))
assert figure("fig-max-mean") == max(x["max_mean"] for x in r["layers"])
assert abs(figure("fig-effective") - min(x["n_eff"] for x in r["layers"])) < 1e-9
assert figure("fig-dead") == sum(x["count"] == 0 for x in r["experts"])
PY
fi

# beside a baseline: runs of different shapes are compared as far as they go
"$MOESCOPE" report run.db --baseline 1 -o base.html 2>/dev/null
grep -q 'Compared with the baseline' base.html && grep -q 'cannot be compared' base.html ||
	fail "runs of different shapes"
"$feed" run.db --tokens 2000 --layers 3 --experts 8 >/dev/null
"$MOESCOPE" report run.db --baseline 2 -o base.html 2>/dev/null
grep -q 'fig-shift' base.html || fail "no shift of the load"
grep -q -- '--baseline 2 -o base.html' base.html || fail "no command with the baseline"
"$MOESCOPE" report run.db --baseline run.db:2 -o base2.html 2>/dev/null
grep -q 'fig-shift' base2.html || fail "DB:RUN"
refused 3 'baseline' run.db --baseline 99
refused 3 'baseline' run.db --baseline text.db

# the audit pages: without a log, with one, with a key, after an edit
"$MOESCOPE" report run.db --audit -o audit.html 2>/dev/null
grep -q 'There is no audit log' audit.html || fail "no word on the missing log"
mkdir keys
"$MOESCOPE" audit init log.db --origin example.org/a --key keys/k >/dev/null 2>&1
"$MOESCOPE" profile -q --max-tokens 600 -d log.db sample:balanced 2>/dev/null
"$MOESCOPE" report log.db --audit -o audit.html 2>/dev/null
grep -q 'Not verified' audit.html || fail "a log without a key counts as verified"
"$MOESCOPE" report log.db --audit --pubkey keys/k.pub -o audit.html 2>/dev/null
grep -q '<b>VALID</b>' audit.html && grep -q 'example.org/a' audit.html || fail "a good log"
grep -qi 'is compliant\|fully compliant' audit.html && fail "claims compliance"
cp log.db bad.db
sqlite3 bad.db 'UPDATE chunk SET pos = pos + 1 WHERE id = 1' 2>/dev/null ||
	fail "sqlite3 cannot edit the copy"
"$MOESCOPE" report bad.db --audit --pubkey keys/k.pub -o audit.html 2>/dev/null
grep -q '<b>TAMPERED</b>' audit.html || fail "an edited log is not found out"
refused 2 'for --audit' run.db --pubkey keys/k.pub

# Markdown: the same words, no HTML, pictures only where they were kept
"$MOESCOPE" report run.db -o r.md 2>/dev/null
grep -q '^# ' r.md && grep -q '^## Capacity' r.md || fail "no headings in Markdown"
grep -q '^| *[0-9]* |' r.md || fail "no tables in Markdown"
grep -Eq '<[a-z/]|!\[' r.md && fail "HTML or pictures in Markdown: $(grep -En '<[a-z/]|!\[' r.md | head -2)"
awk '/^\|/ { n = gsub(/\\\|/, ""); n = gsub(/\|/, ""); if (t && n != t) exit 1; t = n; next } { t = 0 }' r.md ||
	fail "rows of a Markdown table have different numbers of cells"

# PDF by a browser, or a message that says what is missing
if command -v chromium >/dev/null; then
	"$MOESCOPE" report run.db -o r.pdf 2>/dev/null
	[ "$(head -c 5 r.pdf)" = %PDF- ] || fail "no PDF"
fi
set +e
PATH=$dir/empty "$MOESCOPE" report run.db -o none.pdf 2>err
got=$?
set -e
[ $got = 4 ] && grep -q 'Chromium' err && [ ! -e none.pdf ] || fail "PDF without a browser: $got $(cat err)"

# Ctrl-C while a picture is drawn: no directory is left, nothing is written
mkdir slow tmp
printf '#!/bin/sh\nexec sleep 20\n' >slow/gnuplot
chmod +x slow/gnuplot
TMPDIR=$dir/tmp PATH=$dir/slow:$PATH "$MOESCOPE" report run.db -o cut.html 2>/dev/null &
pid=$!
n=0
while [ -z "$(ls tmp)" ] && [ $n -lt 200 ]; do sleep 0.1; n=$((n + 1)); done
[ -n "$(ls tmp)" ] || fail "no picture was begun"
kill -TERM $pid
set +e
wait $pid
got=$?
set -e
[ $got = 143 ] || fail "after SIGTERM: status $got"
[ -z "$(ls tmp)" ] && [ ! -e cut.html ] || fail "an interrupted report leaves $(ls tmp cut.html 2>&1)"
