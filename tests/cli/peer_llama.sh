#!/bin/sh
# The vector files agree with llama.cpp, where there is one.
exec "$(dirname "$0")/../ref/compare_llama.sh"
