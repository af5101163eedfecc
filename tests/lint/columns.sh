#!/bin/sh
# columns.sh - no line of C is wider than 100 columns, a tab being 4 (CONTRIBUTING.md).
#
# A string alone on its line that ends in \n is a line that somebody is shown as it stands, and counts
# for nothing. columns.txt has how many wide lines a file may have and why: those that are to be wrapped
# yet, and tables whose rows are to be read as rows. Its numbers may only shrink.
#	columns.sh --list      prints the wide lines, to be wrapped
#	columns.sh --update    writes smaller numbers to columns.txt; never larger ones
#	columns.sh --accept    writes larger ones, too: after a merge of work that began before this lint
set -eu
cd "$(dirname "$0")/../.."
mode=${1:-check}
git ls-files -co --exclude-standard '*.c' '*.h' | grep -v '^build/' | LC_ALL=C awk -v mode="$mode" '
function width(s,    i, n, c) {
	gsub(/[\200-\277]/, "", s) # a character of UTF-8 is one column
	if (length(s) + 3 * gsub(/\t/, "\t", s) <= 100)
		return 0
	for (i = 1; i <= length(s); i++) {
		c = substr(s, i, 1)
		n += c == "\t" ? 4 - n % 4 : 1
	}
	return n
}
BEGIN {
	while ((getline line < "tests/lint/columns.txt") > 0) {
		row[++rows] = line
		if (line !~ /^#/ && split(line, f, " ") > 1)
			may[path[rows] = f[2]] = f[1]
	}
	close("tests/lint/columns.txt")
}
{
	file = $0
	n = at = 0
	while ((getline line < file) > 0) {
		at++
		if (width(line) > 100 && line !~ /^[ \t]*"([^"\\]|\\.)*\\n"[,;]?$/) {
			n++
			if (mode == "--list")
				print file ":" at ": " width(line) " columns"
		}
	}
	close(file)
	known = file in may
	if (mode == "--accept" && n != may[file]) {
		if (!known)
			path[++rows] = file
		may[file] = n
	} else if (n > may[file]) {
		print file ": " n " lines are wider than 100 columns, " may[file] + 0 " may be"
		bad = 1
	} else if (n < may[file] && mode == "--update") {
		may[file] = n
	} else if (n < may[file]) {
		print file ": " n " lines are wider than 100 columns, no longer " may[file] ": --update"
		bad = 1
	}
	seen[file] = 1
}
END {
	for (file in may)
		if (!(file in seen)) {
			print "tests/lint/columns.txt: " file " is no file of C"
			bad = 1
		}
	if (mode == "--update" || mode == "--accept") {
		for (i = 1; i <= rows; i++)
			if (row[i] ~ /^#/ || may[path[i]])
				print(row[i] ~ /^#/ ? row[i] : may[path[i]] " " path[i]) > "tests/lint/columns.txt"
	}
	exit bad
}'
