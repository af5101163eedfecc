"""Write tests/data/vocab-4096.gguf: a byte-level BPE vocabulary and no tensors.

usage: make_vocab.py TOKENS.txt MERGES.txt OUT.gguf

TOKENS has one token per line in GPT-2's alphabet, the line's number is the id; the tokens from
<|endoftext|> on are control tokens. MERGES has "left right" per line, lowest rank first. The vectors
in tests/data/bpe_cases.tsv belong to this vocabulary and the pre-tokenizer "qwen2".
"""
import sys

from gguf_io import Typed, write_gguf

CONTROL, NORMAL = 3, 1


def lines(path):
    with open(path, encoding="utf-8", newline="\n") as f:
        return f.read().removesuffix("\n").split("\n")


def main():
    tokens, merges = lines(sys.argv[1]), lines(sys.argv[2])
    first_control = tokens.index("<|endoftext|>")
    types = [CONTROL if i >= first_control else NORMAL for i in range(len(tokens))]
    write_gguf(sys.argv[3], {
        "general.architecture": "qwen3moe",
        "general.name": "test vocabulary",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": Typed("arr:str", tokens),
        "tokenizer.ggml.token_type": Typed("arr:i32", types),
        "tokenizer.ggml.merges": Typed("arr:str", merges),
        "tokenizer.ggml.bos_token_id": first_control,
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.add_bos_token": False,
    }, [])


if __name__ == "__main__":
    main()
