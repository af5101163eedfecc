#!/bin/sh
# screens.sh - remakes docs/img/top-*.png from the real program: tmux runs it, chromium draws what
# the terminal showed. Needs tmux and chromium, and uses pngquant if it is there;
# only makers of documentation need them.
#
# Usage: docs/screens.sh [BALANCED_DB COLLAPSED_DB]
# Without databases it profiles the two sample models. top.png and most screens are of the first,
# the screens with alarms (top-alarms.png, top-collapsed.png) of the second.
# MOESCOPE names the program (build/moescope), SIZE the terminal (110x32), OUT the folder (docs/img).
set -eu
here=$(dirname "$0")
out=${OUT:-$here/img}
program=${MOESCOPE:-$here/../build/moescope}
size=${SIZE:-110x32}
w=${size%x*} h=${size#*x}
tmp=$(mktemp -d)
session=0
tm() { LC_ALL=C.UTF-8 tmux -L "moescope-screens-$$-$session" -f /dev/null "$@"; }
trap 'tm kill-server 2>/dev/null || true; rm -rf "$tmp"' EXIT

# Terminal text with colours (capture-pane -e) to HTML. Colours of the 256-colour cube and greys.
to_html() {
	awk '
	function hex(n,  l, r, g, b) {
		if (n < 16) return base[n]
		if (n > 231) { l = 8 + (n - 232) * 10; return sprintf("#%02x%02x%02x", l, l, l) }
		n -= 16; r = int(n / 36); g = int(n / 6) % 6; b = n % 6
		return sprintf("#%02x%02x%02x", r ? 55 + 40 * r : 0, g ? 55 + 40 * g : 0, b ? 55 + 40 * b : 0)
	}
	function sgr(s,  p, n, i) {
		n = split(s == "" ? "0" : s, p, /[;:]/)
		for (i = 1; i <= n; i++) {
			if (p[i] == 0) fg = bg = bold = rev = under = ""
			else if (p[i] == 1) bold = 1
			else if (p[i] == 4) under = 1
			else if (p[i] == 7) rev = 1
			else if (p[i] == 22) bold = ""
			else if (p[i] == 24) under = ""
			else if (p[i] == 27) rev = ""
			else if (p[i] == 39) fg = ""
			else if (p[i] == 49) bg = ""
			else if (p[i] == 38) { fg = hex(p[i + 2]); i += 2 }
			else if (p[i] == 48) { bg = hex(p[i + 2]); i += 2 }
			else if (p[i] >= 30 && p[i] < 38) fg = hex(p[i] - 30)
			else if (p[i] >= 40 && p[i] < 48) bg = hex(p[i] - 40)
			else if (p[i] >= 90 && p[i] < 98) fg = hex(p[i] - 82)
		}
	}
	function piece(s,  f, b) {
		if (s == "") return
		gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s)
		f = fg == "" ? "#d0d0d0" : fg; b = bg == "" ? "#16181d" : bg
		if (rev) { t = f; f = b; b = t }
		printf "<span style=\"color:%s;background:%s%s%s\">%s</span>", f, b, \
			bold ? ";font-weight:bold" : "", under ? ";text-decoration:underline" : "", s
	}
	BEGIN {
		split("#000000 #cc3333 #33aa33 #bb9922 #3377cc #aa33aa #22aaaa #cccccc " \
			"#555555 #ff5555 #55ff55 #ffff55 #5599ff #ff55ff #55ffff #ffffff", c, " ")
		for (i = 0; i < 16; i++) base[i] = c[i + 1]
		print "<!doctype html><meta charset=utf-8><style>body{margin:0;background:#16181d}" \
			"pre{margin:8px;font:14px/17px \"DejaVu Sans Mono\",monospace;width:max-content}" \
			"span{display:inline-block;height:17px;white-space:pre;vertical-align:top}</style><pre>"
	}
	{
		line = $0
		while (match(line, /\033\[[0-9;:]*m/)) {
			piece(substr(line, 1, RSTART - 1))
			sgr(substr(line, RSTART + 2, RLENGTH - 3))
			line = substr(line, RSTART + RLENGTH)
		}
		piece(line)
		print ""
	}
	END { print "</pre>" }'
}

# shoot DB KEY=NAME...: press each key and keep what the screen then shows as NAME.png.
shoot() {
	session=$((session + 1))
	tm new-session -d -x "$w" -y "$h" "TERM=${SCREEN_TERM:-tmux-256color} '$program' top '$1'"
	sleep "${SETTLE:-3}"
	shift
	for shot; do
		tm send-keys "${shot%%=*}"
		sleep "${SHOT_SETTLE:-3}"
		name=${shot#*=}
		tm capture-pane -p -e -N | to_html >"$tmp/$name.html"
		chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
			--disable-background-networking --disable-component-update --disable-sync \
			--user-data-dir="$tmp/chromium" --hide-scrollbars \
			--window-size="$((w * 843 / 100 + 16)),$((h * 17 + 16))" \
			--screenshot="$out/$name.png" "file://$tmp/$name.html" >/dev/null 2>&1
		! command -v pngquant >/dev/null || pngquant --force --ext .png 128 "$out/$name.png"
		echo "$out/$name.png: $(wc -c <"$out/$name.png") bytes"
	done
	tm kill-server
}

mkdir -p "$out"
good=${1:-$tmp/balanced.db} bad=${2:-$tmp/collapsed.db}
[ $# -ge 1 ] || "$program" profile --quiet --log-text --db "$good" sample:balanced
[ $# -ge 2 ] || "$program" profile --quiet --db "$bad" sample:collapsed
shoot "$good" 1=top 2=top-heatmap 3=top-layer 4=top-expert 5=top-domains 6=top-stream 7=top-whatif
shoot "$bad" 1=top-collapsed 8=top-alarms
