#!/bin/sh
# same-bits.sh - one seed gives one text and one trace: the same bytes of tokens, experts, weights,
# margins and logits for any number of threads, batch size and kernels that this CPU has.
. "$(dirname "$0")/check.inc"
command -v sqlite3 >/dev/null || { echo "no sqlite3 shell"; exit 77; }

prompt='The quick brown fox jumps over the lazy dog; 1234 + 5678 = 6912. Was it there? Yes, it was.'

# Chunks are cut where batches end, and are packed, so rows are compared, a line each: picks with the
# nine digits that tell floats apart, and the bytes of a token's logits.
picks="SELECT pos, phase, token, layer, rank, expert, printf('%.9g %.9g', weight, margin) FROM routing
	ORDER BY pos, layer, rank"
logits="WITH RECURSIVE t(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM t WHERE i < 127)
	SELECT pos + i, hex(substr(logits, i * (length(logits) / n) + 1, length(logits) / n))
	FROM chunk, t WHERE i < n ORDER BY 1"

run_one() { # label, model, options
	label=$1 model=$2
	shift 2
	rm -f b.db
	"$MOESCOPE" run "$model" "$prompt" --seed 1 --temperature 0.7 -n 60 --ctx 256 --ignore-end --detail full \
		--db b.db "$@" >"text.$label" 2>err || no "$label: exit $?: $(cat err)"
	"$MOESCOPE" sql b.db --csv "$picks" >"trace.$label"
	sqlite3 b.db "$logits" >>"trace.$label"
}

compare() { # label, reference
	cmp -s "text.$1" "text.$2" || no "$(basename "$model" .gguf) $1: another text than $2"
	cmp -s "trace.$1" "trace.$2" || no "$(basename "$model" .gguf) $1: another trace than $2: $(diff "trace.$1" "trace.$2" |
		head -2 | cut -c 1-200)"
}

isas=
for isa in plain avx2 avx512 amx neon dotprod; do
	if "$MOESCOPE" run "$tiny" x -n 0 --no-log --isa $isa >/dev/null 2>err; then
		isas="$isas $isa"
	else
		grep -q 'does not have\|no kernels' err || no "--isa $isa: $(cat err)"
	fi
done

for name in qwen3moe quant lowbit; do
	model=$models/$name.gguf
	run_one first "$model" --threads 1 --batch 1
	n=$(grep -c '|' trace.first)
	[ "$n" -gt 90 ] || no "$name: only $n tokens in the trace"
	same "$name: tokens without logits" "$(grep -c '|$' trace.first)" 0
	same "$name: tokens with picks" "$(grep -v '|' trace.first | sed 1d | cut -d, -f1 | sort -u | wc -l)" "$n"
	for threads in 1 2 3; do
		for batch in 1 7 512; do
			run_one other "$model" --threads $threads --batch $batch
			label="$threads threads, batch $batch"
			mv text.other "text.$label"
			mv trace.other "trace.$label"
			compare "$label" first
		done
	done
	for isa in $isas; do
		run_one "$isa" "$model" --threads 2 --batch 7 --isa "$isa"
		compare "$isa" first
	done
done
# And another seed gives another text, or the comparison would mean nothing.
cp text.first text.one
"$MOESCOPE" run "$model" "$prompt" --seed 2 --temperature 0.7 -n 60 --ctx 256 --ignore-end --no-log >text.two 2>/dev/null
cmp -s text.one text.two && no 'seed 2 gives the text of seed 1'
echo "kernels:$isas"
finish
