#!/bin/sh
# The engine against llama.cpp, model by model and type by type, as the tables of docs/MODELS.md.
#
#	LLAMA_CPP=DIR tests/ref/models_table.sh [--update] [--only REGEX]
#
# DIR has include/ and lib/ (tests/ref/README.md says how to get it). Prints the tables; with --update
# puts them into docs/MODELS.md. --only: rows whose name matches. What the engine refuses is a row with
# its message. Exit status 1 if the engine computes something else than llama.cpp: logits of F32
# weights apart by more than rounding explains, or experts chosen differently where it was not close.
set -u
cd "$(dirname "$0")/../.." || exit 1
if [ -z "${LLAMA_CPP:-}" ]; then
	echo "LLAMA_CPP is not set (tests/ref/README.md)"
	exit 77
fi
export OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
make -s build/tests/engine_dump >&2 || exit 1
tests/ref/llama_build.sh "$tmp" || exit 1
"${PYTHON:-/usr/bin/python3}" tests/ref/models_table.py build/tests/engine_dump "$tmp" "$@"
