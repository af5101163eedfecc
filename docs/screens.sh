#!/bin/sh
# screens.sh - remakes docs/img/top-*.png from the real program: tmux runs it, and key P of the dashboard
# saves what it shows. Needs tmux, a moescope built with cairo, and uses pngquant if it is there; only
# makers of documentation need them.
#
# Usage: docs/screens.sh [BALANCED_DB COLLAPSED_DB]
# Without databases it profiles the two sample models. top.png and most screens are of the first,
# the screens with alarms (top-alarms.png, top-collapsed.png) of the second.
# MOESCOPE names the program (build/moescope), SIZE the terminal (110x32), OUT the folder (docs/img),
# TOP_OPTIONS more options of the dashboard (--palette safe).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/img}
program=${MOESCOPE:-$here/../build/moescope}
case $program in /*) ;; *) program=$PWD/$program ;; esac
size=${SIZE:-110x32}
w=${size%x*} h=${size#*x}
tmp=$(mktemp -d)
session=0
tm() { LC_ALL=C.UTF-8 tmux -L "moescope-screens-$$-$session" -f /dev/null "$@"; }
trap 'tm kill-server 2>/dev/null || true; rm -rf "$tmp"' EXIT

# shoot DB KEY=NAME...: press each key and keep what the screen then shows as NAME.png.
shoot() {
	session=$((session + 1))
	db=$1
	shift
	mkdir -p "$tmp/$session"
	tm new-session -d -x "$w" -y "$h" -c "$tmp/$session" \
		"TERM=${SCREEN_TERM:-tmux-256color} '$program' top ${TOP_OPTIONS:-} '$db'"
	sleep "${SETTLE:-3}"
	for shot; do
		tm send-keys "${shot%%=*}"
		sleep "${SHOT_SETTLE:-3}"
		for _ in $(seq 120); do # until nothing is being computed
			tm capture-pane -p | grep -qE 'looking …|reading .*…|computing|replaying|larger one' ||
				break
			sleep 0.5
		done
		tm send-keys P
		name=${shot#*=}
		made=
		for _ in $(seq 50); do
			made=$(ls "$tmp/$session" 2>/dev/null | head -1)
			tm capture-pane -p | grep -q 'saved moescope-' && [ -n "$made" ] && break
			sleep 0.1
		done
		[ -n "$made" ] || { tm capture-pane -p | tail -1; echo "no picture of $name"; exit 1; }
		mv "$tmp/$session/$made" "$out/$name.png"
		! command -v pngquant >/dev/null || pngquant --force --ext .png 128 "$out/$name.png"
		echo "$out/$name.png: $(wc -c <"$out/$name.png") bytes"
		tm send-keys C-l # any key takes the note away
	done
	tm kill-server
}

mkdir -p "$out"
good=${1:-$tmp/balanced.db} bad=${2:-$tmp/collapsed.db}
case $good in /*) ;; *) good=$PWD/$good ;; esac
case $bad in /*) ;; *) bad=$PWD/$bad ;; esac
[ $# -ge 1 ] || "$program" profile --quiet --log-text --db "$good" sample:balanced
[ $# -ge 2 ] || "$program" profile --quiet --db "$bad" sample:collapsed
shoot "$good" 1=top 2=top-heatmap 3=top-layer 4=top-expert 5=top-domains 6=top-stream 7=top-whatif
shoot "$bad" 1=top-collapsed 8=top-alarms
