#!/bin/sh
# Builds the programs that call llama.cpp: llama_build.sh DIR puts llama_dump and llama_quantize there.
# LLAMA_CPP has include/ and lib/ (tests/ref/README.md).
here=$(cd "$(dirname "$0")" && pwd)
for tool in llama_dump llama_quantize; do
	cc -std=c11 -O2 -Wall -Wextra -isystem "$LLAMA_CPP/include" "$here/$tool.c" -o "$1/$tool" \
		"$LLAMA_CPP"/lib/libllama.*so "$LLAMA_CPP"/lib/libggml.*so "$LLAMA_CPP"/lib/libggml-base.*so \
		-Wl,-rpath,"$LLAMA_CPP/lib" -lm || exit 1
done
