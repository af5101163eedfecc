#!/bin/sh
# report-hostile: names, settings, notes and token texts that try to be something else stay text, in every
# format and in what --keep leaves; kept scripts run with gnuplot alone.
set -eu
cd "$(dirname "$0")/../.."
bin=$(dirname "$MOESCOPE")
feed=$bin/tests/feed
command -v python3 >/dev/null || { echo "report-hostile.sh: no python3 here"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "report-hostile.sh: $*"; exit 1; }
cd "$dir"

"$feed" h.db --tokens 6000 --layers 3 --experts 8 --domains 11 --full --text >/dev/null
cat >evil.py <<'PY'
EVIL = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "| a | b |\n|---|---|\n# head",
        "`id` ``` $(touch owned) ![x](http://evil/x.png) [l](javascript:1) http://evil.example www.evil.example",
        "'; system('touch owned') #", "_x^{2}@y&{z} /Times {/*9 big} %s %d $0 LABEL000 LABEL001",
        "\x1b]0;x\x07\x9b2J\x7f", "\u202eevil\u202c \u200b\ufeff\u2028x", "X" * 10000,
        "</style></svg></title><base href=//evil>", "\\' \"\"' \\n \\\\ '' -- \"`touch owned`\""]
if __name__ == "__main__":
    import sqlite3
    c = sqlite3.connect("h.db")
    for i, (id,) in enumerate(c.execute("SELECT id FROM domain ORDER BY id").fetchall()):
        c.execute("UPDATE domain SET name = ? WHERE id = ?", (EVIL[i % len(EVIL)], id))
    every = " ".join(EVIL)
    c.execute("UPDATE model SET name=?, path=?, arch=?, quant=?, tokenizer=?, router=?, score=?, hash=?",
              (every, EVIL[0], EVIL[1], EVIL[2], EVIL[3], EVIL[5], EVIL[4], EVIL[9]))
    c.execute("UPDATE run SET command=?, engine=?, isa=?", (EVIL[1], EVIL[3], EVIL[9]))
    c.execute("UPDATE sequence SET name = ?", (EVIL[8],))
    for i, (id,) in enumerate(c.execute("SELECT id FROM token").fetchall()):
        c.execute("UPDATE token SET bytes = ? WHERE id = ?", (EVIL[i % len(EVIL)].encode(), id))
    for i in range(0, len(EVIL) - 1, 2):
        c.execute("INSERT INTO setting VALUES (1, ?, ?)", (EVIL[i], EVIL[i + 1]))
    c.execute("INSERT INTO event (run, time, kind, text) VALUES (1, 1, 'energy', ?)",
              ("unavailable: " + EVIL[0] + EVIL[3],))
    c.commit()
PY
python3 evil.py
for out in h.html h.md h.json; do
	"$MOESCOPE" report h.db --baseline h.db:1 -o $out 2>err || fail "$out: $(cat err)"
done
mkdir nothing
PATH=$dir/nothing "$MOESCOPE" report h.db -o bare.html 2>/dev/null
[ ! -e owned ] || fail "a name was run as a command"

cat >check.py <<'PY'
import html.parser, json, re, sys, glob, xml.etree.ElementTree as ET
from evil import EVIL
BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
TAGS = set("""html head meta title style body main header h1 h2 h3 h4 p div span a b i sup sub small data code pre br
    ul li dl dt dd nav section figure figcaption details summary table caption thead tbody tr th td svg g path
    polygon polyline rect circle line text tspan image""".split())
class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.text = []
    def handle_starttag(self, tag, attrs):
        assert tag in TAGS, tag
        for k, v in attrs:
            assert not k.startswith("on") and k not in ("src", "action", "srcset"), (tag, k, v)
            if k == "href":
                assert v.startswith("#") or v.startswith("data:text/csv;base64,") or \
                    tag == "image" and v.startswith("data:image/png;base64,"), (tag, v[:80])
    def handle_data(self, d):
        self.text.append(d)
for name in ("h.html", "bare.html"):
    page = open(name, encoding="utf-8").read()
    assert not BAD.search(page), (name, BAD.search(page))
    p = Page()
    p.feed(page)
    text = "".join(p.text)
    for want in (EVIL[0], EVIL[1], "$(touch owned)", "LABEL000 LABEL001", "\\u202eevil"):
        assert want in text, (name, want)
    assert not re.search(">[^<]*LABEL00[0-9][^<]*</text>", page.replace(EVIL[5], ""))
md = open("h.md", encoding="utf-8").read()
assert not BAD.search(md), BAD.search(md)
fence = False
for n, line in enumerate(md.split("\n"), 1):
    if line.startswith("```") and not re.search("`", line.lstrip("`")):
        fence = not fence
        continue
    if fence:
        continue
    bare = re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", line)   # code spans are text
    assert not re.search(r"(?<!\\)<[A-Za-z/!]", bare), (n, line[:200])
    assert not re.search(r"(?<!\\)!\[|(?<!\\)\]\((?!#)", bare), (n, line[:200])
    assert not re.search(r"https?://|www\.", bare.replace("https://moescope", "")), (n, line[:200])
assert not fence
r = json.load(open("h.json"))
names = {x["domain"] for x in r["domains"]}
assert EVIL[0] in names and EVIL[2] in names and EVIL[5] in names, names
PY
python3 check.py || fail "text is more than text"

if command -v gnuplot >/dev/null; then
	"$MOESCOPE" report h.db -o kept.html --keep kept 2>/dev/null
	cat >kept.py <<'PY'
import glob, re, xml.etree.ElementTree as ET
from evil import EVIL
n = 0
for f in glob.glob("kept/*.svg"):
    for e in ET.parse(f).iter():
        assert e.tag.rsplit("}")[-1] in ("svg", "title", "desc", "defs", "g", "path", "polygon", "polyline", "rect",
            "circle", "line", "text", "tspan", "use", "image", "filter", "feFlood", "feComposite", "symbol",
            "linearGradient", "stop", "pattern"), (f, e.tag)
        assert not any(k.startswith("on") for k in e.attrib), (f, e.attrib)
        assert not re.fullmatch(r"\s*LABEL\d+\s*", e.text or ""), (f, e.text)
    n += 1
assert n >= 20, n
for f in glob.glob("kept/*.gp"):
    s = open(f, encoding="utf-8").read()
    assert "`" not in s, f
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", s), f
    quoteless = re.sub("'(?:[^']|'')*'", "", s)                       # what is not in single quotes is ours
    assert "system" not in quoteless and "touch" not in quoteless, f
for f in glob.glob("kept/*.dat"):
    assert re.fullmatch(r"[-+0-9.eE \nNa]*", open(f).read()), f
PY
	python3 kept.py || fail "what is kept"
	mkdir again
	for f in kept/*.gp; do
		name=$(basename "$f" .gp)
		cp "kept/$name.gp" "kept/$name.dat" again
		(cd again && env -i PATH="$PATH" gnuplot -d "$name.gp") >err 2>&1 || fail "$f does not run alone: $(cat err)"
		cmp -s "kept/$name.svg" "again/$name.svg" || fail "$f draws another picture"
	done
	[ ! -e again/owned ] && [ ! -e kept/owned ] && [ ! -e owned ] || fail "a kept script ran a name"
fi

if command -v chromium >/dev/null && command -v pdftotext >/dev/null; then
	"$MOESCOPE" report h.db -o h.pdf 2>/dev/null
	pdftotext -layout h.pdf h.txt
	grep -q '<script>alert(1)' h.txt || fail "the PDF has not the name as text"
fi
