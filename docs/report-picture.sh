#!/bin/sh
# report-picture.sh - draw docs/img/report.png, the picture of the report in the README: profile the
# sample model (or MODEL), write its report, photograph the top of the page. Needs chromium.
# Usage, after `make`: docs/report-picture.sh [MODEL]
set -eu
cd "$(dirname "$0")/.."
model=${1:-sample:balanced}
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
	{ echo "report-picture.sh: no chromium here"; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
build/moescope profile -q --detail full -d "$dir/sample.db" "$model"
build/moescope report "$dir/sample.db" -o "$dir/report.html"
timeout 60 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
	--disable-background-networking --disable-component-update --disable-sync \
	--user-data-dir="$dir/browser" --hide-scrollbars --blink-settings=preferredColorScheme=1 \
	--window-size=1000,1540 --screenshot="$dir/report.png" "file://$dir/report.html" 2>/dev/null
mkdir -p docs/img
mv "$dir/report.png" docs/img/report.png
size=$(wc -c <docs/img/report.png)
echo "docs/img/report.png: $size bytes"
[ "$size" -le 250000 ] || { echo "report-picture.sh: larger than 250 kB"; exit 1; }
