#!/bin/sh
# context.sh - a context beyond the trained one: one warning, whichever command runs the model, with
# both numbers and the RoPE scaling that tests/ref/make_models.py gave it; none up to that length.
. "$(dirname "$0")/check.inc"

echo 'One text.' >one.txt
start() { # command, model, options
	cmd=$1 model=$2
	shift 2
	case $cmd in
	run) run_it run "$model" Hello -n 2 --no-log --seed 1 "$@" ;;
	profile) run_it profile "$model" one.txt --db p.db -q "$@" ;;
	bench) run_it bench --pairs 1 --prefill 2 --decode 1 "$@" "$model" ;;
	esac
	[ $got = 0 ] || no "$cmd $model $*: exit $got: $(head -c 300 err)"
}
told() { # command, model, context, trained, scaling
	start "$1" "$2" --ctx "$3"
	same "$1 $2 --ctx $3: warnings" "$(grep -c 'warning' err)" 1
	says "$1 $2 --ctx $3" "--ctx $3 |the $4 tokens|RoPE scaling: $5)" err
}
silent() { # command, model, options
	start "$@"
	grep -q 'warning' err && no "$*: $(grep warning err)"
}

for cmd in run profile bench; do
	told $cmd "$tiny" 129 128 none
	silent $cmd "$tiny" --ctx 128
	silent $cmd "$tiny"
	silent $cmd sample:balanced --ctx 256
done
told run "$models/llama-linear.gguf" 4000 128 'linear, factor 4'
told run "$models/llama3.gguf" 200 128 'a factor for each pair'
told run "$models/gpt-oss-yarn.gguf" 200 128 'YaRN, factor 32, from 16 tokens'
told run "$models/deepseek2-r1.gguf" 200 128 'YaRN, factor 40, from 16 tokens'
told run "$models/phimoe-long.gguf" 200 128 'LongRoPE, from 64 tokens'
ok 'inspect' inspect "$models/gpt-oss-yarn.gguf"
says 'inspect' '128 tokens in training; RoPE scaling: YaRN, factor 32, from 16 tokens' out
ok 'inspect --json' inspect --json "$models/llama-linear.gguf"
says 'inspect --json' '"rope_scaling": "linear, factor 4"' out
finish
