"""Write a copy of a GGUF's metadata, without tensors, with another pre-tokenizer.

usage: with_pre.py IN.gguf NAME OUT.gguf
"""
import sys

from gguf_io import Typed, read_gguf, write_gguf


def main():
    g = read_gguf(sys.argv[1])
    kv = {k: Typed(g.kinds[k], v) for k, v in g.kv.items()}
    kv["tokenizer.ggml.pre"] = sys.argv[2]
    write_gguf(sys.argv[3], kv, [])


if __name__ == "__main__":
    main()
