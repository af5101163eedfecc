#!/usr/bin/python3
"""Writes a trainer's checkpoint as a GGUF v3 file that llama.cpp loads as qwen3moe.

    export.py CKPT TOK_DIR OUT.gguf --name NAME [--rest TYPE] [--experts TYPE] [--context N]
              [--check OUT.ckpt]

TOK_DIR holds tokens.txt and merges.txt. --rest is the type of the embedding and the attention
matrices, --experts that of the experts; norms and routers stay F32. --context is the longest
window of the training. --check also writes the dequantised weights as a checkpoint, so that
`evaluate` can measure what the quantisation costs. The checkpoint's layout is in ckpt.h.
"""
import argparse
import os
import struct
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/ref"))
from gguf_io import read_gguf, write_gguf  # noqa: E402

CONFIG = "layers dim heads kv_heads head_dim experts expert_dim picks vocab".split()
SPECIALS = 3            # the last ids of the vocabulary
EOT = 4093
# values of general.file_type, by the type most weights have
FILE_TYPE = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K": 15, "Q6_K": 18, "BF16": 32}


def read_ckpt(path):
    """-> config dict, state dict, {name: float32 array [count][rows][cols]}, raw head, offsets"""
    with open(path, "rb") as f:
        head = f.read(72)
        magic, count, _ = struct.unpack("<8sII", head[:16])
        assert magic == b"MOECKPT1", f"{path} is no checkpoint"
        cfg = dict(zip(CONFIG, struct.unpack("<9i", head[16:52])))
        cfg["rope_base"], cfg["eps"] = struct.unpack("<2f", head[52:60])
        state_bytes = f.read(64)
        step, tokens, _, seed = struct.unpack("<4Q", state_bytes[:32])
        table = f.read(72 * count)
        (size,) = struct.unpack("<Q", f.read(8))
        w = np.fromfile(f, dtype="<f4", count=size)
    assert len(w) == size, f"{path} is cut short"
    tensors = {}
    for i in range(count):
        name, off, n, rows, cols = struct.unpack("<40s4Q", table[72 * i:72 * i + 72])
        part = w[off:off + n * rows * cols].reshape(n, rows, cols)   # a view: writes go to w
        tensors[name.rstrip(b"\0").decode()] = part
    frame = head[:12] + b"\0\0\0\0" + head[16:] + state_bytes + table + struct.pack("<Q", size)
    return cfg, {"step": step, "tokens": tokens, "seed": seed}, tensors, frame, w


def gguf_tensors(cfg, t):
    """-> list of (GGUF name, view of the checkpoint, kind): the views cover every weight once."""
    q, kv = cfg["heads"] * cfg["head_dim"], cfg["kv_heads"] * cfg["head_dim"]
    f = cfg["expert_dim"]
    out = [("token_embd.weight", t["token_embd"][0], "rest"),
           ("output_norm.weight", t["output_norm"][0, 0], "F32")]
    for l in range(cfg["layers"]):
        b = f"blk.{l}."
        qkv, gu = t[b + "attn_qkv"][0], t[b + "ffn_gate_up_exps"]
        for name, view, kind in [
                ("attn_norm", t[b + "attn_norm"][0, 0], "F32"),
                ("attn_q", qkv[:q], "rest"),
                ("attn_k", qkv[q:q + kv], "rest"),
                ("attn_v", qkv[q + kv:], "rest"),
                ("attn_q_norm", t[b + "attn_q_norm"][0, 0], "F32"),
                ("attn_k_norm", t[b + "attn_k_norm"][0, 0], "F32"),
                ("attn_output", t[b + "attn_output"][0], "rest"),
                ("ffn_norm", t[b + "ffn_norm"][0, 0], "F32"),
                ("ffn_gate_inp", t[b + "ffn_gate_inp"][0], "F32"),
                ("ffn_gate_exps", gu[:, :f], "experts"),
                ("ffn_up_exps", gu[:, f:], "experts"),
                ("ffn_down_exps", t[b + "ffn_down_exps"], "experts")]:
            out.append((b + name + ".weight", view, kind))
    return out


def lines(path):
    with open(path, encoding="utf-8", newline="\n") as f:
        return f.read().rstrip("\n").split("\n")


def metadata(cfg, tok_dir, name, file_type, context):
    tokens = lines(os.path.join(tok_dir, "tokens.txt"))
    merges = [m for m in lines(os.path.join(tok_dir, "merges.txt")) if m]
    assert len(tokens) == cfg["vocab"] and tokens[EOT] == "<|endoftext|>"
    assert len(set(tokens)) == len(tokens), "two tokens with one spelling"
    assert all(m.count(" ") == 1 for m in merges)
    normal = len(tokens) - SPECIALS
    p = "qwen3moe."
    return {
        "general.architecture": "qwen3moe",
        "general.name": name,
        "general.description": "Sample model of moescope for looking at routing; see MODELS.md",
        "general.license": "mit",
        "general.file_type": FILE_TYPE[file_type],
        "general.quantization_version": 2,
        p + "block_count": cfg["layers"],
        p + "context_length": context,
        p + "embedding_length": cfg["dim"],
        p + "feed_forward_length": cfg["expert_dim"],
        p + "attention.head_count": cfg["heads"],
        p + "attention.head_count_kv": cfg["kv_heads"],
        p + "attention.key_length": cfg["head_dim"],
        p + "attention.value_length": cfg["head_dim"],
        p + "attention.layer_norm_rms_epsilon": float(np.float32(cfg["eps"])),
        p + "rope.freq_base": float(cfg["rope_base"]),
        p + "expert_count": cfg["experts"],
        p + "expert_used_count": cfg["picks"],
        p + "expert_feed_forward_length": cfg["expert_dim"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * normal + [3] * SPECIALS,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": EOT,
        "tokenizer.ggml.padding_token_id": EOT,
        "tokenizer.ggml.add_bos_token": False,
    }


def main():
    a = argparse.ArgumentParser()
    a.add_argument("ckpt")
    a.add_argument("tok_dir")
    a.add_argument("out")
    a.add_argument("--name", required=True)
    a.add_argument("--rest", default="Q8_0", choices=FILE_TYPE)
    a.add_argument("--experts", default="Q8_0", choices=FILE_TYPE)
    a.add_argument("--context", type=int, default=256)
    a.add_argument("--check")
    o = a.parse_args()
    cfg, state, tensors, frame, w = read_ckpt(o.ckpt)
    views = gguf_tensors(cfg, tensors)
    kinds = {"F32": "F32", "rest": o.rest, "experts": o.experts}
    tmp = o.out + ".new"
    write_gguf(tmp, metadata(cfg, o.tok_dir, o.name, o.experts, o.context),
               [(name, view, kinds[kind]) for name, view, kind in views])
    os.replace(tmp, o.out)
    if o.check:
        g = read_gguf(o.out)
        for name, view, _ in views:
            view[...] = g.tensor(name).reshape(view.shape)
        with open(o.check, "wb") as f:
            f.write(frame)
            w.tofile(f)
    print(f"{o.out}: {os.path.getsize(o.out)} bytes, step {state['step']}, "
          f"{state['tokens']} tokens, seed {state['seed']}")


main()
