#!/bin/sh
# layers.sh - a module includes only the modules that its line names (docs/ARCHITECTURE.md).
# Prints each breach and fails if there is one.
set -eu
cd "$(dirname "$0")/../.."
rules='
base:
gguf: base
kern: base
route: base event
event: base
quant: base gguf kern
tok: base gguf
model: base gguf kern route event
trace: base event
metrics: base event
sim: base event
exchange: base event trace
audit: base event route trace
verify: base audit trace
view: base event trace metrics sim route
tui: base view trace
reports: base view trace
serve: base event tok model metrics
'
# The public headers and the module that each belongs to.
owner() {
	case $1 in
	moescope/err.h) echo base ;;
	moescope/event.h | moescope/hook.h) echo event ;;
	moescope/route.h) echo route ;;
	moescope/trace.h) echo trace ;;
	moescope/model.h) echo model ;;
	*) echo "${1%%/*}" ;;
	esac
}
bad=0
for f in $(git ls-files -co --exclude-standard 'src/*.[ch]' 'tui/*.[ch]' 'reports/*.[ch]'); do
	case $f in
	src/cmd/*) continue ;;
	src/*) mod=${f#src/} mod=${mod%%/*} ;;
	*) mod=${f%%/*} ;;
	esac
	allowed=$(printf '%s' "$rules" | sed -n "s/^$mod://p")
	if ! printf '%s' "$rules" | grep -q "^$mod:"; then
		echo "$f: module '$mod' has no line in tests/lint/layers.sh"
		bad=1
		continue
	fi
	for inc in $(sed -n 's/^#[ \t]*include[ \t]*["<]\([a-z]*\/[^">]*\)[">].*/\1/p' "$f"); do
		case $inc in sys/* | netinet/* | arpa/* | openblas/* | cjson/*) continue ;; esac
		o=$(owner "$inc")
		[ "$o" = "$mod" ] && continue
		case " $allowed " in *" $o "*) continue ;; esac
		echo "$f: includes $inc ($o), but $mod may include only:$allowed"
		bad=1
	done
	if [ "$f" != tui/draw.c ] && grep -q '^#[ \t]*include[ \t]*<n\?curses' "$f"; then
		echo "$f: only tui/draw.c includes ncurses"
		bad=1
	fi
	if [ "$f" != src/serve/http.c ] && grep -q '^#[ \t]*include[ \t]*<microhttpd' "$f"; then
		echo "$f: only src/serve/http.c includes libmicrohttpd"
		bad=1
	fi
done
exit $bad
