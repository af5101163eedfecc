#!/bin/sh
# embed.sh - writes a C file that carries the sample models and the default corpus inside the
# program, for the Makefile: embed.sh > build/gen/embed.c. Run from the repository's root.
set -eu
echo '/* made by src/cmd/embed.sh */'
echo '#include "cmd/load.h"'
section() { # table name, files
	table=$1
	shift
	list=
	for f in "$@"; do
		[ -e "$f" ] || continue
		name=$(basename "${f%.*}")
		printf '__asm__(".section .rodata\\n.balign 64\\n.hidden %s_%s\\n%s_%s:\\n.incbin \\"%s\\"\\n.hidden %s_%s_end\\n%s_%s_end:\\n.byte 0\\n.previous\\n");\n' \
			"$table" "$name" "$table" "$name" "$f" "$table" "$name" "$table" "$name"
		printf 'extern const unsigned char %s_%s[], %s_%s_end[];\n' "$table" "$name" "$table" "$name"
		list="$list { \"$name\", ${table}_$name, ${table}_${name}_end },"
	done
	printf 'const struct embedded %s[] = {%s { 0 } };\n' "$table" "$list"
}
section embed_models models/*.gguf
section embed_texts models/texts/*.txt
