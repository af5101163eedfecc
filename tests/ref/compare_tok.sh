#!/bin/sh
# compare_tok.sh - the tokenizer against llama.cpp's on random texts (tests/ref/compare_tok.c).
#
#	LLAMA_CPP=DIR LLAMA_SRC=DIR tests/ref/compare_tok.sh [TEXTS [BUILD]]
#
# LLAMA_CPP has include/ and lib/ (tests/ref/README.md says how to get it), LLAMA_SRC is a checkout of
# llama.cpp: its models/ggml-vocab-*.gguf are compared, and with the sample models' vocabulary each
# pre-tokenizer that it names. Exit status 77 = skipped, 1 = an unexpected difference.
set -u
cd "$(dirname "$0")/../.." || exit 1
texts=${1:-500}
build=${2:-build}
seed=${SEED:-1}
if [ -z "${LLAMA_CPP:-}" ]; then
	echo "LLAMA_CPP is not set (tests/ref/README.md)"
	exit 77
fi
if [ ! -f "${LLAMA_SRC:-}/src/llama-vocab.cpp" ]; then
	echo "LLAMA_SRC is not set to a checkout of llama.cpp (tests/ref/README.md)"
	exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
python=${PYTHON:-/usr/bin/python3}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
${CC:-cc} -std=c11 -D_DEFAULT_SOURCE -O2 -Iinclude -Isrc -I"$LLAMA_CPP/include" tests/ref/compare_tok.c \
	"$build/libmoescope.a" $(pkg-config --libs libutf8proc libpcre2-8) "$LLAMA_CPP"/lib/libllama.*so \
	"$LLAMA_CPP"/lib/libggml.*so "$LLAMA_CPP"/lib/libggml-base.*so -Wl,-rpath,"$LLAMA_CPP/lib" -lm \
	-o "$tmp/compare_tok" || exit 1
bad=0

# Known differences, each with the text that it needs; docs/MODELS.md says why.
for f in "$LLAMA_SRC"/models/ggml-vocab-*.gguf; do
	[ -f "$f" ] || continue
	without=
	case $f in
	*bert-bge*) continue ;;			# WordPiece is not read
	*qwen2.gguf | *qwen35.gguf) without='</s>' ;;	# an ordinary word there
	esac
	printf '%-16s ' "$(basename "$f" .gguf | sed 's/ggml-vocab-//')"
	"$tmp/compare_tok" "$f" "$texts" "$seed" ${without:+"$without"} >"$tmp/out"
	rc=$?
	cat "$tmp/out"
	[ $rc = 0 ] && continue
	case $f in
	*deepseek*) ;;			# blanks beyond ASCII in a class of the expression
	*command-r* | *qwen2.gguf | *qwen35.gguf)	# pieces that are not in byte form; </s>: no text differs
		grep -q ' texts, 0 differ' "$tmp/out" || bad=1
		;;
	*) bad=1 ;;
	esac
done

# Every name, with one vocabulary. In those below llama.cpp's expressions are not the models' own:
# for information. (afmoe, cohere2moe and tiny_aya: what stands before a number is not cut off from it;
# deepseek-*: blanks beyond ASCII; the others: cases and marks of scripts beyond ASCII.)
approximate=' gpt-4o llama4 kanana2 talkie minimax-m2 granite-embed-multi-97m tekken youtu kimi-k2 '
approximate="$approximate afmoe cohere2moe tiny_aya deepseek-llm deepseek-coder "
for name in $(sed -n '/"whitespace"/d;s/.*tokenizer_pre == "\([^"]*\)".*/\1/p' "$LLAMA_SRC/src/llama-vocab.cpp" | sort -u); do
	printf '%-26s ' "$name"
	"$python" tests/ref/with_pre.py tests/data/vocab-4096.gguf "$name" "$tmp/v.gguf" || exit 1
	"$tmp/compare_tok" "$tmp/v.gguf" "$texts" "$seed" >"$tmp/out"
	rc=$?
	case $approximate in
	*" $name "*) tail -1 "$tmp/out"; continue ;;
	esac
	[ $rc = 0 ] && tail -1 "$tmp/out" || { cat "$tmp/out"; bad=1; }
done
exit $bad
