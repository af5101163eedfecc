"""Writes tests/data/lora: two adapters for tests/data/models/qwen2moe.gguf with random weights, in the
form of llama.cpp's convert_lora_to_gguf, and what the merged weights give (forward.py).

plain.gguf   rank 4, alpha 6, F32: every kind of matrix of the model, embedding and output included
types.gguf   rank 32, no alpha: F16, BF16 and Q8_0
plain.vec    plain at scale 1; both.vec: plain at 0.5, then types at -1.25

    make_lora.py          write them
    make_lora.py check    compare with what is there
"""
import os
import sys

import numpy as np

from bpe import Tokenizer
from forward import Model, write_vec
from gguf_io import read_gguf, write_gguf

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "data", "models")
LORA = os.path.normpath(os.path.join(HERE, "..", "data", "lora"))
BASE = os.path.join(MODELS, "qwen2moe.gguf")
VECTORS = {"plain": [("plain", 1.0)], "both": [("plain", 0.5), ("types", -1.25)]}


def pairs_of(names, rank, types, rng):
    """One pair for each tensor; the deltas are about a third of the weights."""
    g, out = read_gguf(BASE), []
    for i, name in enumerate(names):
        w = g.tensor(name)
        shape, n_out, n_in = w.shape[:-2], (w.shape[-2] if w.ndim > 1 else 1), w.shape[-1]
        size = 0.3 * w.std() / np.sqrt(rank)
        a = rng.standard_normal((*shape, rank, n_in))
        b = rng.standard_normal((*shape, n_out, rank)) * size
        if name == "token_embd.weight":                     # turned: it is read by rows
            a, b = rng.standard_normal((n_out, rank)), rng.standard_normal((n_in, rank)) * size
        ta, tb = types[i % len(types)]
        out += [(name + ".lora_a", a, ta), (name + ".lora_b", b, tb)]
    return out


def write_adapter(name, names, rank, types, alpha, seed):
    kv = {"general.architecture": "qwen2moe", "general.type": "adapter", "adapter.type": "lora"}
    if alpha is not None:
        kv["adapter.lora.alpha"] = float(alpha)
    path = os.path.join(LORA, name + ".gguf")
    write_gguf(path, kv, pairs_of(names, rank, types, np.random.default_rng(seed)))
    print(f"{path}: {os.path.getsize(path)} bytes")


def write_adapters():
    every = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps",
             "ffn_down_exps", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"]
    names = [f"blk.{i}.{n}.weight" for i in (0, 2) for n in every]
    write_adapter("plain", ["token_embd.weight", "output.weight"] + names, 4, [("F32", "F32")], 6, 1)
    names = ["blk.1.attn_q.weight", "blk.1.attn_output.weight", "blk.2.ffn_gate_exps.weight",
             "blk.1.ffn_up_shexp.weight", "blk.2.attn_v.weight"]
    write_adapter("types", names, 32, [("F16", "Q8_0"), ("BF16", "F16"), ("F32", "BF16"), ("Q8_0", "F32")],
                  None, 2)


def vector(name):
    """tokens, logits, number of layers, routing of the model with adapters."""
    model = Model(BASE)
    for adapter, scale in VECTORS[name]:
        model.adapt(os.path.join(LORA, adapter + ".gguf"), scale)
    ids = Tokenizer(model.g.kv).encode(open(BASE[:-5] + ".txt", "rb").read().decode("utf-8"))
    logits, routing = model.forward(ids)
    return ids, logits, model.layers, routing


def stale(scratch):
    """Names of the vectors that are not what the reference makes."""
    out = []
    for name in VECTORS:
        write_vec(scratch, *vector(name))
        with open(scratch, "rb") as f, open(os.path.join(LORA, name + ".vec"), "rb") as g:
            if f.read() != g.read():
                out.append(name)
    return out


def main():
    if sys.argv[1:] == ["check"]:
        sys.exit(", ".join(stale(os.path.join(LORA, "scratch"))))
    os.makedirs(LORA, exist_ok=True)
    write_adapters()
    for name in VECTORS:
        write_vec(os.path.join(LORA, name + ".vec"), *vector(name))


if __name__ == "__main__":
    main()
