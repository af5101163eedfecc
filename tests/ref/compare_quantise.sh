#!/bin/sh
# Compares `moescope quantize` with llama.cpp: the error of each element type, the type that each tensor
# gets, and whether llama.cpp loads what we write and routes as the reference does.
#
#	LLAMA_CPP=DIR tests/ref/compare_quantise.sh
#
# DIR as for compare_llama.sh (tests/ref/README.md). The last part is for information but for loading:
# llama.cpp also rounds activations.
set -u
cd "$(dirname "$0")/../.." || exit 1
if [ -z "${LLAMA_CPP:-}" ]; then
	echo "LLAMA_CPP is not set (tests/ref/README.md)"
	exit 77
fi
export OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
python=${PYTHON:-/usr/bin/python3}		# Debian's, which has its NumPy
moescope=${MOESCOPE:-build/moescope}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
llama="$LLAMA_CPP/lib/libllama.*so $LLAMA_CPP/lib/libggml.*so $LLAMA_CPP/lib/libggml-base.*so"
cc -std=c11 -O2 -D_DEFAULT_SOURCE -Isrc -Iinclude -I"$LLAMA_CPP/include" tests/ref/quantise_peer.c \
	"$(dirname "$moescope")/libmoescope.a" $(echo $llama) -Wl,-rpath,"$LLAMA_CPP/lib" -lutf8proc -lm -pthread \
	-o "$tmp/peer" || exit 1
cc -std=c11 -O2 -I"$LLAMA_CPP/include" tests/ref/llama_dump.c $(echo $llama) \
	-Wl,-rpath,"$LLAMA_CPP/lib" -lm -o "$tmp/llama_dump" || exit 1
bad=0
"$moescope" quantize --type F32 models/balanced.gguf "$tmp/balanced.gguf" 2>"$tmp/err" || exit 1
"$tmp/peer" rmse "$tmp/balanced.gguf" || bad=1
for mix in Q8_0 Q6_K Q5_K_M Q5_0 Q4_K_M Q4_0 MXFP4_MOE BF16 F16 F32; do
	for model in "$tmp/balanced.gguf" tests/data/models/*.gguf; do
		case $model in */quant.gguf | */lowbit.gguf) continue ;; esac
		"$tmp/peer" types $mix "$model" "$tmp/peer.gguf" || bad=1
	done
done
vec=tests/data/models/balanced.vec
for mix in F32 BF16 F16 Q8_0 Q6_K Q5_K_M Q5_0 Q4_K_M Q4_0 MXFP4_MOE; do
	"$moescope" quantize --force --type $mix "$tmp/balanced.gguf" "$tmp/q.gguf" 2>"$tmp/err" || bad=1
	"$python" tests/ref/forward.py "$tmp/q.gguf" "$tmp/ref.vec" --text "$(cat tests/data/models/balanced.txt)" || bad=1
	"$tmp/llama_dump" "$tmp/q.gguf" "$vec" "$tmp/llama.vec" || { bad=1; continue; }
	printf '%-10s llama.cpp beside the reference: ' $mix
	"$python" tests/ref/compare.py "$tmp/ref.vec" "$tmp/llama.vec"
	printf '%-10s beside the weights before:      ' $mix
	"$python" tests/ref/compare.py "$vec" "$tmp/ref.vec"
done
exit $bad
