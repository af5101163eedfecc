#!/bin/sh
# Compares the vectors under tests/data/models with llama.cpp, and the token ids of its tokenizer.
#
#	LLAMA_CPP=DIR tests/ref/compare_llama.sh [SAMPLE_DIR]
#
# DIR has include/ and lib/ (tests/ref/README.md says how to get it). SAMPLE_DIR holds
# balanced.gguf and collapsed.gguf (default: models/). Quantised models are compared twice: with
# their weights dequantised to F32, which must agree, and as they are, where llama.cpp also rounds
# the activations to 8 bits, for information. So are models with GELU: with the reference's rounded
# the way llama.cpp's is, which must agree, and as it is.
set -u
cd "$(dirname "$0")/../.." || exit 1
if [ -z "${LLAMA_CPP:-}" ]; then
	echo "LLAMA_CPP is not set (tests/ref/README.md)"
	exit 77
fi
export OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
python=${PYTHON:-/usr/bin/python3}		# Debian's, which has its NumPy
samples=${1:-models}
ref=tests/ref
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
$ref/llama_build.sh "$tmp" || exit 1

bad=0
# against LABEL GGUF VEC: evaluate and compare; the label says where a difference is expected
against()
{
	printf '%-24s ' "$1"
	"$tmp/llama_dump" "$2" "$3" "$tmp/peer.vec" && "$python" $ref/compare.py "$3" "$tmp/peer.vec"
}
for vec in tests/data/models/*.vec; do
	name=$(basename "$vec" .vec)
	case $name in *kv) continue ;; esac	# rounded keys and values: llama.cpp stores them otherwise
	gguf=tests/data/models/$name.gguf
	[ -f "$gguf" ] || gguf=$samples/$name.gguf
	[ -f "$gguf" ] || { echo "$name: no model, skipped"; continue; }
	case $name in
	quant | lowbit | balanced | collapsed)
		"$python" $ref/to_f32.py "$gguf" "$tmp/f32.gguf" || bad=1
		against "$name, as F32" "$tmp/f32.gguf" "$vec" || bad=1
		against "$name, for information" "$gguf" "$vec" || :
		;;
	gemma* | grok*)			# llama.cpp takes GELU from a table of half-precision numbers
		"$python" $ref/forward.py "$gguf" "$tmp/half.vec" --peer "$vec" || bad=1
		against "$name, GELU as halves" "$gguf" "$tmp/half.vec" || bad=1
		against "$name, for information" "$gguf" "$vec" || :
		;;
	*)
		against "$name" "$gguf" "$vec" || bad=1
		;;
	esac
	cases=
	case $name in			# the cases are of the sample models' vocabulary
	balanced | collapsed) [ -f tests/data/bpe_cases.tsv ] && cases=tests/data/bpe_cases.tsv ;;
	esac
	"$python" $ref/compare_tokens.py "$tmp/llama_dump" "$gguf" $cases || bad=1
done
printf '%-24s ' 'qwen2moe, adapter'
"$tmp/llama_dump" --lora tests/data/lora/plain.gguf 1 tests/data/models/qwen2moe.gguf \
	tests/data/lora/plain.vec "$tmp/peer.vec" && "$python" $ref/compare.py tests/data/lora/plain.vec "$tmp/peer.vec" || bad=1
exit $bad
