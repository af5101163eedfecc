#!/bin/sh
# The tokenizers agree with llama.cpp on random texts, where there is one (a few per vocabulary; by hand
# as many as one likes).
exec "$(dirname "$0")/../ref/compare_tok.sh" 40 "$(dirname "$MOESCOPE")"
