#!/bin/sh
# llama_vocab.sh - the tokenizer against llama.cpp's own vectors: every models/ggml-vocab-*.gguf of a
# llama.cpp checkout that has .inp and .out files beside it (they are too large to keep here).
# Usage: LLAMA_CPP=DIR tests/ref/llama_vocab.sh [BUILD]   (after make)
# Exit status 77 = skipped. SentencePiece, WordPiece and other models are passed over.
set -u
cd "$(dirname "$0")/../.."
build=${1:-build}
if [ -z "${LLAMA_CPP:-}" ] || ! ls "$LLAMA_CPP"/models/ggml-vocab-*.gguf >/dev/null 2>&1; then
	echo "skipped: set LLAMA_CPP to a checkout of llama.cpp"
	exit 77
fi
mkdir -p "$build/tests"
${CC:-cc} -std=c11 -D_DEFAULT_SOURCE -O2 -g ${SAN:+-fsanitize=address,undefined} -Iinclude -Isrc \
	tests/ref/tok_tool.c "$build/libmoescope.a" \
	$(pkg-config --libs libutf8proc libpcre2-8) -o "$build/tests/tok_tool" || exit 1
failed=0
for f in "$LLAMA_CPP"/models/ggml-vocab-*.gguf; do
	result=$("$build/tests/tok_tool" vectors "$f")
	case $? in
	0) echo "ok    $(basename "$f" .gguf): $result" ;;
	77) echo "skip  $(basename "$f" .gguf): $result" | sed 's/ beside .*//' ;;
	*)
		echo "FAIL  $(basename "$f" .gguf): $result"
		failed=1
		;;
	esac
done
exit $failed
