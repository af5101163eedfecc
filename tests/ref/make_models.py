"""Writes tests/data/models/*.gguf: tiny models with random weights, one per architecture row and two
of every quantisation type.

The weights mean nothing; their scales are chosen so that nothing is degenerate: logits have a
standard deviation near 2, the routers' choices differ between tokens and layers, norm weights
and biases are not 1 and 0. Run again it writes the same bytes.

    make_models.py [DIR]
"""
import collections
import os
import sys

import numpy as np

from bpe import byte_to_char, splitter
from gguf_io import CODEC, TYPES, Typed, dequantise, write_gguf

HERE = os.path.dirname(os.path.abspath(__file__))
DEFAULT_DIR = os.path.join(HERE, "..", "data", "models")

# Merges are learnt from this text (our own words).
TEXT = """The router of a mixture of experts chooses for every token which experts see it. There are
the experts that see the code, there are others that see the prose, and there is the router that
sends each token there. When the router sends the tokens to the same two experts then the others
learn nothing: the load is not balanced, and the model is smaller than the file. A profiler counts
what the router does, over all the layers and for all the domains, so that one can see the load.
for (int i = 0; i < n; i++) { sum += x[i] * y[i]; } return sum; /* the inner loop */
"""
N_MERGES = 56
SPECIAL = ["<|bos|>", "<|eos|>", "<|pad|>"]

# One row per model. d model width, heads, kv heads, hd head width, ff width of an expert (or of
# the dense FFN), e experts, k used, sh width of the shared expert, tied: no output matrix.
MODELS = {
    "llama": dict(arch="llama", pre="llama-bpe", bos=True, heads=4, kv=2, hd=16, ff=160, e=0, k=0,
                  base=500000.0, eps=1e-5),
    "mixtral": dict(arch="llama", pre="llama-bpe", bos=True, heads=4, kv=2, hd=16, ff=16, e=8, k=2,
                    base=1000000.0, eps=1e-5),
    "olmoe": dict(arch="olmoe", pre="olmo", bos=False, heads=4, kv=4, hd=16, ff=8, e=16, k=4,
                  base=10000.0, eps=1e-5, qk="vector"),
    "qwen2moe": dict(arch="qwen2moe", pre="qwen2", bos=False, heads=4, kv=2, hd=16, ff=16, e=8, k=2,
                     base=1000000.0, eps=1e-6, sh=24, qkv_bias=True),
    "qwen3moe": dict(arch="qwen3moe", pre="qwen2", bos=False, heads=4, kv=2, hd=32, ff=16, e=8, k=2,
                     base=1000000.0, eps=1e-6, qk="head", tied=True),
    # Rows of 256 so that every block type fits; each tensor below has its own type.
    "quant": dict(arch="qwen3moe", pre="qwen2", bos=False, heads=4, kv=2, hd=64, ff=256, e=4, k=2,
                  base=1000000.0, eps=1e-6, qk="head", d=256, layers=2, types={
                      "token_embd.weight": "F16", "output.weight": "Q6_K",
                      "blk.0.attn_q.weight": "F16", "blk.0.attn_k.weight": "BF16",
                      "blk.0.attn_v.weight": "F32", "blk.0.attn_output.weight": "Q4_1",
                      "blk.1.attn_q.weight": "Q5_1", "blk.1.attn_k.weight": "Q8_0",
                      "blk.1.attn_v.weight": "Q6_K", "blk.1.attn_output.weight": "Q4_K",
                      "blk.0.ffn_gate_exps.weight": "Q4_K", "blk.0.ffn_up_exps.weight": "Q5_K",
                      "blk.0.ffn_down_exps.weight": "Q6_K", "blk.1.ffn_gate_exps.weight": "Q8_0",
                      "blk.1.ffn_up_exps.weight": "Q4_0", "blk.1.ffn_down_exps.weight": "Q5_0"}),
    # Routers beyond softmax; kept small, d 32.
    "granitemoe": dict(arch="granitemoe", pre="qwen2", bos=False, d=32, heads=4, kv=2, hd=8, ff=16,
                       e=8, k=2, base=10000.0, eps=1e-6, sh=16, tied=True, keys={
                           "embedding_scale": 3.0, "residual_scale": 0.6, "attention.scale": 0.25,
                           "logit_scale": 1.25}),
    # 1 dense layer and 2 of 16 experts in 4 groups, of which 2; sigmoid, bias, scale; MLA
    "deepseek2": dict(arch="deepseek2", pre="llama-bpe", bos=True, d=32, heads=4, kv=1, hd=24, ff=8,
                      ff_dense=48, e=16, k=4, base=10000.0, eps=1e-6, sh=16, lead=1, rank=16,
                      q_rank=24, rot=8, nope=16, v=12, keys={
                          "expert_shared_count": 2, "expert_group_count": 4,
                          "expert_group_used_count": 2, "expert_gating_func": 2,
                          "expert_weights_norm": True, "expert_weights_scale": 2.5}),
    # softmax after top-k, biases everywhere, attention sinks, a window of 8 on even layers
    "gpt-oss": dict(arch="gpt-oss", pre="llama-bpe", bos=False, d=32, heads=4, kv=2, hd=16, ff=16, e=8,
                    k=2, base=150000.0, eps=1e-5, qkv_bias=True, oai=True,
                    keys={"attention.sliding_window": 8}),
    # Types that have no forward codec here: blocks of random bytes with a scale that fits.
    "lowbit": dict(seed=900, arch="qwen3moe", pre="qwen2", bos=False, heads=4, kv=2, hd=64, ff=256,
                   e=4, k=2, base=1000000.0, eps=1e-6, qk="head", d=256, layers=2, types={
                       "token_embd.weight": "Q2_K", "output.weight": "IQ4_XS",
                       "blk.0.attn_q.weight": "IQ3_S", "blk.0.attn_k.weight": "IQ4_NL",
                       "blk.0.attn_v.weight": "NVFP4", "blk.0.attn_output.weight": "Q3_K",
                       "blk.1.attn_q.weight": "IQ1_M", "blk.1.attn_k.weight": "Q1_0",
                       "blk.1.attn_v.weight": "Q2_0", "blk.1.attn_output.weight": "TQ1_0",
                       "blk.0.ffn_gate_exps.weight": "IQ2_XXS", "blk.0.ffn_up_exps.weight": "IQ2_XS",
                       "blk.0.ffn_down_exps.weight": "IQ2_S", "blk.1.ffn_gate_exps.weight": "IQ1_S",
                       "blk.1.ffn_up_exps.weight": "IQ3_XXS", "blk.1.ffn_down_exps.weight": "TQ2_0"}),
}

# Where the half-precision scales of a block lie, for random blocks.
SCALES = {"Q2_K": [80, 82], "Q3_K": [108], "TQ1_0": [52], "TQ2_0": [64]}


def random_blocks(kind, w, rng):
    """Bytes for as many values as w has, random but for the scales: its standard deviation is w's."""
    _, per, size = TYPES[kind]
    b = rng.integers(0, 256, (w.size // per, size), dtype=np.uint8)
    if kind == "Q2_K":                  # smaller minimums, so that the mean is near 0
        b[:, :16] = b[:, :16] & 15 | (b[:, :16] >> 2 & 48) + 16

    def set_scale(x):
        if kind == "NVFP4":             # four E4M3 of one power of two
            b[:, :4] = int(np.clip(np.rint(np.log2(x)) + 7, 1, 14)) << 3 | b[:, :4] & 7
            return
        h = np.array([x], dtype="<f2").view(np.uint8)
        if kind == "IQ1_M":
            for i in range(4):
                nibble = h[i // 2] >> 4 * (i % 2) & 15
                b[:, 49 + 2 * i] = b[:, 49 + 2 * i] & 15 | nibble << 4
            return
        for at in SCALES.get(kind, [0]):
            b[:, at:at + 2] = h

    set_scale(1.0)
    set_scale(float(w.std() / dequantise(b.tobytes(), kind).std()))
    return b.tobytes()


def vocabulary(pre):
    """Byte tokens, merged tokens and specials: (tokens, merges, token types)."""
    table = byte_to_char()
    words = collections.Counter(tuple(table[b] for b in m.group().encode())
                                for m in splitter(pre).finditer(TEXT))
    merges = []
    while len(merges) < N_MERGES:
        pairs = collections.Counter()
        for w, n in words.items():
            for p in zip(w, w[1:]):
                pairs[p] += n
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        joined = collections.Counter()
        for w, n in words.items():
            out, i = [], 0
            while i < len(w):
                step = 2 if w[i:i + 2] == best else 1
                out.append("".join(w[i:i + step]))
                i += step
            joined[tuple(out)] += n
        words = joined
    tokens = sorted(table.values()) + ["".join(p) for p in merges] + SPECIAL
    return tokens, [" ".join(p) for p in merges], [1] * (len(tokens) - 3) + [3] * 3


def metadata(name, m):
    a = m["arch"]
    tokens, merges, kinds = vocabulary(m["pre"])
    kv = {
        "general.architecture": a,
        "general.name": f"moescope test model {name}",
        "general.file_type": 0,
        "general.quantization_version": 2,
        f"{a}.context_length": 128,
        f"{a}.embedding_length": m["d"],
        f"{a}.block_count": m["layers"],
        f"{a}.feed_forward_length": m.get("ff_dense", m["ff"]),
        f"{a}.attention.head_count": m["heads"],
        f"{a}.attention.head_count_kv": m["kv"],
        f"{a}.attention.key_length": m["hd"],
        f"{a}.attention.value_length": m["hd"],
        f"{a}.attention.layer_norm_rms_epsilon": m["eps"],
        f"{a}.rope.freq_base": m["base"],
        f"{a}.rope.dimension_count": m.get("rot", m["hd"]),
        f"{a}.vocab_size": len(tokens),
    }
    if m["e"]:
        kv[f"{a}.expert_count"] = m["e"]
        kv[f"{a}.expert_used_count"] = m["k"]
    if a.startswith("qwen") or a in ("deepseek2", "gpt-oss"):
        kv[f"{a}.expert_feed_forward_length"] = m["ff"]
    if "sh" in m and "rank" not in m:
        kv[f"{a}.expert_shared_feed_forward_length"] = m["sh"]
    if "rank" in m:
        kv.update({f"{a}.attention.kv_lora_rank": m["rank"], f"{a}.attention.q_lora_rank": m["q_rank"],
                   f"{a}.attention.key_length": m["rank"] + m["rot"],
                   f"{a}.attention.value_length": m["rank"],
                   f"{a}.attention.key_length_mla": m["nope"] + m["rot"],
                   f"{a}.attention.value_length_mla": m["v"],
                   f"{a}.leading_dense_block_count": m["lead"]})
    kv.update({f"{a}.{key}": v for key, v in m["keys"].items()})
    n = len(tokens)
    kv.update({
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": m["pre"],
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": Typed("arr:i32", kinds),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": n - 3,
        "tokenizer.ggml.eos_token_id": n - 2,
        "tokenizer.ggml.padding_token_id": n - 1,
        "tokenizer.ggml.add_bos_token": m["bos"],
    })
    return kv


def weights(m, n_vocab, rng):
    """[(name, array)] in the order of the file."""
    d, ff, e, hd = m["d"], m["ff"], m["e"], m["hd"]
    nq, nk = m["heads"] * hd, m["kv"] * hd
    out = []

    def matrix(name, *shape, gain=1.0):             # [..., out, in], std gain / sqrt(in)
        w = rng.standard_normal(shape) * gain / np.sqrt(shape[-1])
        out.append((name, w.astype(np.float32)))

    def vector(name, n, mean=1.0, std=0.2):
        out.append((name, (mean + std * rng.standard_normal(n)).astype(np.float32)))

    matrix("token_embd.weight", n_vocab, d, gain=2.0 if m.get("tied") else np.sqrt(d))
    for i in range(m["layers"]):
        b = f"blk.{i}."
        vector(b + "attn_norm.weight", d)
        if "rank" in m:
            matrix(b + "attn_q_a.weight", m["q_rank"], d)
            vector(b + "attn_q_a_norm.weight", m["q_rank"])
            matrix(b + "attn_q_b.weight", m["heads"] * (m["nope"] + m["rot"]), m["q_rank"], gain=1.5)
            matrix(b + "attn_kv_a_mqa.weight", m["rank"] + m["rot"], d, gain=1.5)
            vector(b + "attn_kv_a_norm.weight", m["rank"])
            matrix(b + "attn_k_b.weight", m["heads"], m["rank"], m["nope"])
            matrix(b + "attn_v_b.weight", m["heads"], m["v"], m["rank"], gain=1.5)
            nq = m["heads"] * m["v"]
        else:
            for x, n in (("q", nq), ("k", nk), ("v", nk)):
                matrix(b + f"attn_{x}.weight", n, d, gain=1.3)
                if m.get("qkv_bias"):
                    vector(b + f"attn_{x}.bias", n, 0, 0.3)
        if "qk" in m:
            vector(b + "attn_q_norm.weight", nq if m["qk"] == "vector" else hd, 1.3)
            vector(b + "attn_k_norm.weight", nk if m["qk"] == "vector" else hd, 1.3)
        matrix(b + "attn_output.weight", d, nq)
        if m.get("oai"):
            vector(b + "attn_output.bias", d, 0, 0.3)
            vector(b + "attn_sinks.weight", m["heads"], 1, 1)
            vector(b + "post_attention_norm.weight", d)
        else:
            vector(b + "ffn_norm.weight", d)
        if not e or i < m.get("lead", 0):
            wide = m.get("ff_dense", ff)
            matrix(b + "ffn_gate.weight", wide, d, gain=1.5)
            matrix(b + "ffn_up.weight", wide, d, gain=1.5)
            matrix(b + "ffn_down.weight", d, wide)
            continue
        matrix(b + "ffn_gate_inp.weight", e, d, gain=1.5)
        matrix(b + "ffn_gate_exps.weight", e, ff, d, gain=1.5)
        matrix(b + "ffn_up_exps.weight", e, ff, d, gain=1.5)
        matrix(b + "ffn_down_exps.weight", e, d, ff, gain=1.5)
        if m.get("oai"):
            vector(b + "ffn_gate_inp.bias", e, 0, 0.5)
            for x, n in (("gate", ff), ("up", ff), ("down", d)):
                w = rng.standard_normal((e, n)) * 0.3
                out.append((b + f"ffn_{x}_exps.bias", w.astype(np.float32)))
        if "rank" in m:
            vector(b + "exp_probs_b.bias", e, 0, 0.1)
        if "sh" in m:
            if m["arch"] == "qwen2moe":
                vector(b + "ffn_gate_inp_shexp.weight", d, 0, 1.5 / np.sqrt(d))
            matrix(b + "ffn_gate_shexp.weight", m["sh"], d, gain=1.5)
            matrix(b + "ffn_up_shexp.weight", m["sh"], d, gain=1.5)
            matrix(b + "ffn_down_shexp.weight", d, m["sh"])
    vector("output_norm.weight", d)
    if not m.get("tied"):
        matrix("output.weight", n_vocab, d, gain=2.0)
    return out


def main():
    where = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_DIR
    os.makedirs(where, exist_ok=True)
    for seed, (name, row) in enumerate(MODELS.items(), 1):
        m = {"d": 64, "layers": 3, "types": {}, "keys": {}, **row}
        kv = metadata(name, m)
        rng = np.random.default_rng(m.get("seed", 1000 + seed))
        tensors = weights(m, len(kv["tokenizer.ggml.tokens"]), rng)
        unused = set(m["types"]) - {n for n, _ in tensors}
        assert not unused, unused
        path = os.path.join(where, name + ".gguf")
        typed = []
        for n, w in tensors:
            kind = m["types"].get(n, "F32")
            data = w if CODEC[kind][0] else random_blocks(kind, w, rng)
            typed.append((n, data, kind, w.shape))
        write_gguf(path, kv, typed)
        print(f"{path}: {os.path.getsize(path)} bytes, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
