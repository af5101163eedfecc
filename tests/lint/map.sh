#!/bin/sh
# map.sh - docs/ARCHITECTURE.md agrees with the tree: every module is in its table of layers, with
# the includes that layers.sh enforces; every file that it names exists. And in every page that is
# part of the repository, links to files lead somewhere.
set -eu
cd "$(dirname "$0")/../.."
map=docs/ARCHITECTURE.md
bad=0

modules=$(find src tui reports -name '*.c' |
	sed -n -e 's/^\(src\/[^/]*\)\/.*/\1/p' -e 's/^\(tui\|reports\)\/.*/\1/p' | sort -u)
for m in $modules; do
	row=$(grep "^| \`$m\` |" $map || true)
	if [ -z "$row" ]; then
		echo "$map: no row for the module $m in the table of layers"
		bad=1
		continue
	fi
	[ "$m" != src/cmd ] || continue
	told=$(printf '%s' "$row" | cut -d'|' -f3 | sed 's/^ *//; s/ *$//; s/^-$//')
	rule=$(sed -n "s/^${m##*/}: *//p" tests/lint/layers.sh)
	if [ "$told" != "$rule" ]; then
		echo "$map: $m may include '$told', but tests/lint/layers.sh says '$rule'"
		bad=1
	fi
done

# What looks like a path: in backquotes, or in the drawing; folders end with a slash.
for f in $(grep -o '[A-Za-z0-9_.-]*\(/[A-Za-z0-9_.-]*\)*/[A-Za-z0-9_.-]*' $map | sed 's/[.,:;]$//' |
	grep '^\(src\|tui\|reports\|include\|docs\|tests\|models\|bench\|sample-traces\)/' | sort -u); do
	case $f in src/MODULE/) continue ;; esac
	[ -e "$f" ] || { echo "$map: $f does not exist"; bad=1; }
done

for page in $(find . -name '*.md' ! -path './.git/*' ! -path '*/build/*' | sed 's/^\.\///'); do
	dir=$(dirname "$page")
	for link in $(sed '/^```/,/^```/d' "$page" | grep -o '](\([^)]*\))' | sed 's/^](//; s/[)#].*//'); do
		case $link in http:* | https:* | mailto:*) continue ;; esac
		[ -e "$dir/$link" ] || { echo "$page: link to $link, which does not exist"; bad=1; }
	done
done
exit $bad
