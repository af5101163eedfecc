#!/bin/sh
# screens.sh - remakes docs/img/top-*.png from the real program: tmux runs it, chromium draws what
# the terminal showed. Needs tmux and chromium, and uses pngquant if it is there;
# only makers of documentation need them.
#
# Usage: docs/screens.sh DB [OUTDIR]      (OUTDIR is docs/img unless given)
# MOESCOPE names the program (build/moescope), SIZE the terminal (120x36), KEYS the screens (12345).
set -eu
db=$1
out=${2:-$(dirname "$0")/img}
program=${MOESCOPE:-$(dirname "$0")/../build/moescope}
size=${SIZE:-120x36}
w=${size%x*} h=${size#*x}
tmp=$(mktemp -d)
tm() { LC_ALL=C.UTF-8 tmux -L "moescope-screens-$$" -f /dev/null "$@"; }
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

mkdir -p "$out"
tm new-session -d -x "$w" -y "$h" "TERM=${SCREEN_TERM:-tmux-256color} '$program' top '$db'"
sleep "${SETTLE:-3}"
for key in $(printf '%s' "${KEYS:-12345}" | sed 's/./& /g'); do
	tm send-keys "$key"
	sleep 0.4
	tm capture-pane -p -e -N | to_html >"$tmp/$key.html"
	name=$(printf 'x\noverview\nheatmap\nlayer\ndomains\nalarms' | sed -n "$((key + 1))p")
	chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
		--disable-background-networking --disable-component-update --disable-sync \
		--user-data-dir="$tmp/chromium" --hide-scrollbars \
		--window-size="$((w * 843 / 100 + 16)),$((h * 17 + 16))" \
		--screenshot="$out/top-$name.png" "file://$tmp/$key.html" >/dev/null 2>&1
	! command -v pngquant >/dev/null || pngquant --force --ext .png 128 "$out/top-$name.png"
	echo "$out/top-$name.png"
done
