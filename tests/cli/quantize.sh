#!/bin/sh
# quantize.sh - moescope quantize: round trips, the same bytes for any number of threads, refusals that
# leave nothing behind, split models in and whole ones out.
. "$(dirname "$0")/check.inc"
tools=$(dirname "$MOESCOPE")/tests
big=$root/models/balanced.gguf

types() { # FILE: name and type of each tensor, sorted
	"$MOESCOPE" inspect "$1" --tensors | sed -n '/^tensor  .*shape/,$p' | sed 1d | awk '{ print $1, $2 }' | sort
}
alone() { # what, files that may be there: no unfinished file was left
	for f in *.part; do
		[ "$f" = '*.part' ] || no "$1: $f was left"
	done
}

# What is decoded and encoded again is what it was: Q8_0 holds what came out of Q8_0.
ok 'to F32' quantize "$big" f32.gguf --type F32
ok 'to Q8_0' quantize f32.gguf q8.gguf --type Q8_0
ok 'to F32 again' quantize q8.gguf again.gguf --type F32
cmp f32.gguf again.gguf || no 'F32 to Q8_0 to F32 changed something'
types q8.gguf >a
types "$big" >b
cmp a b || no 'the types of Q8_0 are not those of the sample model'
says 'summary' 'quantize: 50 tensors, 29 converted: F32 29;|MB' err
[ ! -s out ] || no 'quantize wrote to standard output'

# Same bytes for any number of threads; the result runs.
ok 'one thread' quantize f32.gguf one.gguf --threads 1
for t in 2 5; do
	ok "$t threads" quantize f32.gguf many.gguf --type Q4_K_M --force -t $t
	cmp one.gguf many.gguf || no "$t threads: other bytes than one"
done
ok 'Q4_K is Q4_K_M' quantize f32.gguf many.gguf --type Q4_K --force
cmp one.gguf many.gguf || no 'Q4_K is not Q4_K_M'
ok 'inspect' inspect one.gguf
says 'inspect' 'Q4_K+Q6_K|50 tensors' out
ok 'run' run one.gguf 'The court' -n 3 --seed 1 --no-log
for t in Q6_K Q5_K_M Q5_K Q5_0 Q4_0 MXFP4_MOE MXFP4 BF16 F16; do
	ok "$t" quantize "$models/mixtral.gguf" m.gguf --type $t --force
	run_it run m.gguf 'Hello' -n 2 --seed 1 --no-log # random weights: any bytes may come
	same "run $t: $(head -c 300 err)" $got 0
done

# Eight experts, rows of 64 and 16 elements: llama-quantize's exceptions and fallbacks.
ok 'mixtral' quantize "$models/mixtral.gguf" mixtral.gguf --type Q4_K_M
types mixtral.gguf >a
for want in 'blk.0.attn_k.weight Q8_0' 'blk.0.attn_v.weight Q8_0' 'blk.0.attn_q.weight Q5_0' \
	'blk.0.attn_output.weight Q5_1' 'blk.0.ffn_gate_inp.weight F32' 'blk.0.ffn_norm.weight F32' \
	'blk.0.ffn_down_exps.weight F16' 'blk.0.ffn_up_exps.weight Q5_0' 'output.weight Q8_0'; do
	grep -qx "$want" a || no "mixtral as Q4_K_M: not $want, but $(grep "^${want% *} " a)"
done

# Metadata: all but what says the type, which says the new one.
for f in "$models/mixtral.gguf" mixtral.gguf; do
	ok 'metadata' inspect "$f"
	sed -n '/^$/q; /^\(name\|architecture\|context\|vocabulary\|router\|experts\) /p' out >meta.${n:=1}
	n=$((n + 1))
done
cmp meta.1 meta.2 || no 'metadata changed'
[ "$(wc -l <meta.1)" = 6 ] || no 'metadata: not six lines'
grep -aq 'general.quantization_version' mixtral.gguf || no 'general.quantization_version is missing'

# Split in, whole out; from any part; the model's identity is of all bytes.
"$tools/split" f32.gguf parts 3 || no 'split failed'
ok 'split in' quantize parts-00002-of-00003.gguf whole.gguf
cmp one.gguf whole.gguf || no 'a split model gives another file'
ok 'inspect split' inspect parts-00003-of-00003.gguf
says 'inspect split' '3 parts|50 tensors|parts-00001-of-00003.gguf' out
"$tools/split" "$big" q8parts 4 || no 'split failed'
for f in "$big" q8parts-00001-of-00004.gguf q8parts-00004-of-00004.gguf; do
	ok "run $f" run "$f" 'The court held' -n 5 --seed 3 --no-log
	cp out "text.$(printf %s "$f" | tail -c 12)"
done
set -- text.*
for f; do
	cmp "$1" "$f" || no "$f: a split model says something else"
done
if command -v sha256sum >/dev/null; then
	ok 'logged' run q8parts-00002-of-00004.gguf 'The court' -n 2 --seed 1 --db s.db
	same 'hash' "$(q s.db 'SELECT hash FROM model')" "$(cat q8parts-*.gguf | sha256sum | cut -d ' ' -f 1)"
fi
mv q8parts-00003-of-00004.gguf away
refuse 3 'part 3 of 4: opening q8parts-00003-of-00004.gguf: No such file' inspect q8parts-00001-of-00004.gguf
cp q8parts-00002-of-00004.gguf q8parts-00003-of-00004.gguf
refuse 3 'q8parts-00003-of-00004.gguf: split.no is 1, by its place it must be 2' inspect q8parts-00001-of-00004.gguf
rm -f parts-* q8parts-*

# Refusals; what was there stays, what was begun goes.
refuse 2 'two operands are needed|0 were given' quantize
refuse 2 'two operands are needed|1 was given' quantize f32.gguf
refuse 2 "no type 'Q9'; there are Q8_0, Q6_K|F16, F32" quantize f32.gguf x.gguf --type Q9
refuse 2 "no type 'Q5'" quantize f32.gguf x.gguf --type Q5
echo keep >there
refuse 2 'there is there already; --force replaces it' quantize f32.gguf there
same 'there' "$(cat there)" keep
mkdir folder
refuse 2 'folder is there and is not a regular file' quantize f32.gguf folder --force
refuse 4 'no/x.gguf' quantize f32.gguf no/x.gguf
refuse 3 'opening missing.gguf' quantize missing.gguf x.gguf
refuse 2 'token_embd.weight is Q8_0 already|--allow-requantize' quantize "$big" x.gguf --type Q4_0
ok 'requantize' quantize "$big" x.gguf --type Q4_0 --allow-requantize
ok 'replace' quantize f32.gguf there --type F32 --force
cmp there f32.gguf || no '--force did not replace'
ok 'in place' quantize there there --type Q4_K_M --force
cmp there one.gguf || no 'a file replaced by itself is another'
for none in 0000c07f:nan 0000807f:inf; do
	"$tools/poke" "$tiny" blk.1.ffn_up_exps.weight "${none%:*}" broken.gguf || no 'poke failed'
	refuse 3 "tensor blk.1.ffn_up_exps.weight: element 0 is ${none#*:}|cannot hold" quantize broken.gguf y.gguf --type Q8_0
	[ ! -e y.gguf ] || no "${none#*:}: y.gguf is there"
done
( ulimit -f 200 && refuse 4 'writing z.gguf, after' quantize "$tiny" z.gguf --type F32; exit $bad ) || bad=$((bad + 1))
[ ! -e z.gguf ] || no 'a file too large for the limit is there'
alone 'after refusals'

# Interrupted: exit 130, nothing left.
"$MOESCOPE" quantize f32.gguf cut.gguf --threads 1 2>err &
pid=$!
n=0
while [ $n -lt 500 ]; do
	set -- cut.gguf.*.part
	[ ! -e "$1" ] || break
	sleep 0.01
	n=$((n + 1))
done
kill -TERM $pid
wait $pid
same 'interrupted: exit' $? 130
[ ! -e cut.gguf ] || no 'interrupted: cut.gguf is there'
alone 'interrupted'
finish
