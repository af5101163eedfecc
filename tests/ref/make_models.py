"""Writes tests/data/models/*.gguf: tiny models with random weights, one or more per architecture and
two of every quantisation type. llama.cpp loads them all (compare_llama.sh).

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

def yarn(factor, original):
    return {"rope.scaling.type": "yarn", "rope.scaling.factor": factor,
            "rope.scaling.original_context_length": original}


def longrope(original, attn_factor):
    return {"rope.scaling.type": "longrope", "rope.scaling.original_context_length": original,
            "rope.scaling.attn_factor": attn_factor}


# What several models share. For heads of 8, four frequencies.
LONGROPE = {"rope_factors_long": (1.1, 2.4, 7.9, 12.5), "rope_factors_short": (1.0, 1.05, 1.4, 1.8)}
PHIMOE = dict(arch="phimoe", pre="llama-bpe", bos=True, d=32, heads=4, kv=2, hd=8, ff=16, e=8, k=2,
              base=10000.0, eps=1e-5, layers=2, qkv_bias=True, all_bias=True, factors=LONGROPE)
DENSE = dict(pre="llama-bpe", bos=True, d=32, heads=4, kv=2, hd=8, ff=80, e=0, k=0)
GRANITE = {"embedding_scale": 3.0, "residual_scale": 0.6, "attention.scale": 0.25, "logit_scale": 1.25}
MLA = dict(arch="deepseek2", pre="llama-bpe", bos=True, d=32, heads=4, kv=1, hd=24, ff=8, ff_dense=48,
           base=10000.0, eps=1e-6, sh=16, lead=1, rank=16, q_rank=24, rot=8, nope=16, v=12, layers=3)

# One row per model; new ones go to the end, because a row's place is its seed where it has none. d model width, heads,
# kv heads, hd head width, ff width of an expert (or of the dense FFN), e experts, k used, sh width
# of the shared expert, tied: no output matrix. keys: what the file says beyond that, without the
# architecture's prefix. The other words name tensors; weights() below has them.
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
                       e=8, k=2, base=10000.0, eps=1e-6, sh=16, tied=True, keys=GRANITE),
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

    # ---- deepseek2 in its forms: V2-Lite (q in one step, softmax, weights raw, YaRN with its
    # mscale), R1 and Kimi (no groups, YaRN, gate and up in one tensor), V2 in older files (k and v
    # of all heads in one tensor, groups with softmax) ----
    "deepseek2-lite": dict(MLA, e=8, k=2, q_rank=0, gated=False, keys={
        "expert_shared_count": 2, "expert_weights_scale": 1.0, "attention.q_lora_rank": 0,
        **yarn(40.0, 16), "rope.scaling.yarn_log_multiplier": 0.0707}),
    "deepseek2-r1": dict(MLA, e=12, k=3, merged_exps=True, keys={
        "expert_shared_count": 1, "expert_gating_func": 2, "expert_weights_norm": True,
        "expert_weights_scale": 2.5, "expert_group_count": 1, "expert_group_used_count": 1,
        **yarn(40.0, 16), "rope.scaling.yarn_log_multiplier": 0.1}, sh=8),
    "deepseek2-v2": dict(MLA, kv=4, e=12, k=3, legacy_kv=True, gated=False, keys={
        "expert_shared_count": 2, "expert_weights_scale": 16.0, "expert_group_count": 4,
        "expert_group_used_count": 2}),

    "gpt-oss-yarn": dict(arch="gpt-oss", pre="llama-bpe", bos=False, d=32, heads=4, kv=2, hd=16, ff=8,
                         e=8, k=2, base=150000.0, eps=1e-5, qkv_bias=True, oai=True,
                         keys={"attention.sliding_window": 8, **yarn(32.0, 16)}),

    # ---- mixtures, one idea each that the others do not have ----
    # norms with biases, long and short RoPE factors; which ones depends on the context's length
    "phimoe": dict(PHIMOE, keys={"context_length": 512, **longrope(512, 1.19)}),
    "phimoe-long": dict(PHIMOE, keys=longrope(64, 1.19)),
    # LayerNorm, q k v in one matrix and clamped
    "dbrx": dict(arch="dbrx", pre="llama-bpe", bos=False, d=32, heads=4, kv=2, hd=8, ff=16, e=8, k=4,
                 base=500000.0, eps=1e-5, layernorm=True, fused_qkv=True, ffn_norm="attn_output_norm",
                 layers=2, keys={"attention.clamp_kqv": 1.5}),
    # half of a head rotated, a prediction layer at the end that is not of the model
    "glm4moe": dict(arch="glm4moe", pre="llama-bpe", bos=True, d=32, heads=4, kv=2, hd=12, rot=6, ff=8,
                    ff_dense=48, e=12, k=3, base=1000000.0, eps=1e-5, qkv_bias=True, qk="head", sh=8,
                    lead=1, sel_bias=True, ffn_norm="post_attention_norm", nextn=1, layers=4, keys={
                        "expert_shared_count": 1, "expert_gating_func": 2, "expert_weights_norm": True,
                        "expert_weights_scale": 2.5, "nextn_predict_layers": 1}),
    # the same without norms of q and k, without the key of the gating, scale 1
    "glm4moe-air": dict(arch="glm4moe", pre="llama-bpe", bos=True, d=32, heads=4, kv=2, hd=12, rot=6,
                        ff=8, ff_dense=48, e=8, k=2, base=1000000.0, eps=1e-5, qkv_bias=True, sh=8,
                        lead=1, sel_bias=True, ffn_norm="post_attention_norm", layers=3, keys={
                            "expert_shared_count": 1, "expert_weights_norm": True,
                            "expert_weights_scale": 1.0}),
    # softmax with a selection bias
    "ernie4_5-moe": dict(arch="ernie4_5-moe", pre="llama-bpe", bos=True, d=32, heads=4, kv=2, hd=8,
                         ff=8, ff_dense=48, e=12, k=3, base=500000.0, eps=1e-5, lead=1, sh=16,
                         sel_bias=True, keys={"interleave_moe_layer_step": 1}),
    # experts in every second layer, weights on their inputs, no positions in layer 3; norms of q
    # and k without weights unless there are 128 experts
    "llama4": dict(arch="llama4", pre="llama-bpe", bos=True, d=32, heads=4, kv=2, hd=8, ff=8,
                   ff_dense=48, e=8, k=2, base=500000.0, eps=1e-5, sh=8, step=2, layers=4, router_gain=0.7,
                   keys={"interleave_moe_layer_step": 2}),
    "llama4-128": dict(arch="llama4", pre="llama-bpe", bos=True, d=32, heads=4, kv=2, hd=8, ff=2,
                       ff_dense=48, e=128, k=1, base=500000.0, eps=1e-5, sh=2, step=2, layers=4,
                       router_gain=0.7, keys={"interleave_moe_layer_step": 2}),
    # a dense FFN, and experts that read the layer's input
    "arctic": dict(arch="arctic", pre="llama-bpe", bos=True, d=32, heads=4, kv=2, hd=8, ff=12, e=8,
                   k=2, base=10000.0, eps=1e-5, arctic=True),
    # multipliers, a soft cap on attention, norms after each branch, GELU
    "grok": dict(arch="grok", pre="llama-bpe", bos=False, d=32, heads=4, kv=2, hd=8, ff=16, e=8, k=2,
                 base=10000.0, eps=1e-5, grok="layer_output_norm", layers=2, keys={
                     "embedding_scale": 3.0, "logit_scale": 0.7, "attention.output_scale": 0.5,
                     "attn_logit_softcapping": 4.0, "router_logit_softcapping": 1.0}),
    # Grok 2: a dense FFN beside the experts, a soft cap on the logits, YaRN
    "grok-2": dict(arch="grok", pre="llama-bpe", bos=False, d=32, heads=4, kv=2, hd=8, ff=8,
                   ff_dense=40, e=8, k=2, base=10000.0, eps=1e-5, grok="post_ffw_norm", dense_too=True,
                   keys={"embedding_scale": 3.0, "logit_scale": 0.7, "attention.output_scale": 0.5,
                         "attn_logit_softcapping": 4.0, "router_logit_softcapping": 1.0,
                         "final_logit_softcapping": 5.0, **yarn(16.0, 16),
                         "rope.scaling.yarn_ext_factor": 1.0, "rope.scaling.yarn_attn_factor": 1.0,
                         "rope.scaling.yarn_beta_fast": 8.0, "rope.scaling.yarn_beta_slow": 1.0}),
    "bailingmoe": dict(arch="bailingmoe", pre="llama-bpe", bos=False, d=32, heads=4, kv=2, hd=12, ff=8,
                       e=12, k=3, base=600000.0, eps=1e-6, sh=16, keys={
                           "expert_shared_count": 2, "expert_weights_scale": 1.0,
                           "expert_weights_norm": True, "leading_dense_block_count": 0}),
    "bailingmoe2": dict(arch="bailingmoe2", pre="llama-bpe", bos=False, d=32, heads=4, kv=2, hd=8,
                        rot=4, ff=8, ff_dense=48, e=16, k=4, base=600000.0, eps=1e-6, sh=8, lead=1,
                        fused_qkv=True, qk="head", sel_bias=True, keys={
                            "expert_shared_count": 1, "expert_gating_func": 2,
                            "expert_weights_norm": True, "expert_weights_scale": 2.5,
                            "expert_group_count": 4, "expert_group_used_count": 2}),
    "deepseek": dict(arch="deepseek", pre="llama-bpe", bos=True, d=32, heads=4, kv=4, hd=8, ff=8,
                     ff_dense=48, e=12, k=3, base=10000.0, eps=1e-6, sh=16, lead=1, keys={
                         "expert_shared_count": 2, "expert_weights_scale": 1.0,
                         "rope.scaling.type": "none"}),
    # norms of q and k after the rotation
    "hunyuan-moe": dict(arch="hunyuan-moe", pre="llama-bpe", bos=True, d=32, heads=4, kv=2, hd=8,
                        ff=12, e=8, k=2, base=11158840.0, eps=1e-5, sh=16, qk="head", tied=True),
    "dots1": dict(arch="dots1", pre="llama-bpe", bos=False, d=32, heads=4, kv=4, hd=8, ff=8,
                  ff_dense=48, e=12, k=3, base=10000000.0, eps=1e-6, sh=16, lead=1, qk="head",
                  sel_bias=True, keys={"expert_shared_count": 2, "expert_gating_func": 2,
                                       "expert_weights_norm": True, "expert_weights_scale": 2.5}),
    "minimax-m2": dict(arch="minimax-m2", pre="llama-bpe", bos=False, d=32, heads=4, kv=2, hd=12, rot=6,
                       ff=12, e=8, k=2, base=5000000.0, eps=1e-6, qk="vector", sel_bias=True,
                       keys={"expert_gating_func": 2}),

    # ---- dense ----
    "llama3": dict(DENSE, arch="llama", base=500000.0, eps=1e-5, factors={
        "rope_freqs": (1.0, 1.0, 2.6, 8.0)}),
    "llama-linear": dict(DENSE, arch="llama", base=10000.0, eps=1e-5, qkv_bias=True, keys={
        "rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    "mistral3": dict(DENSE, arch="mistral3", base=1000000.0, eps=1e-5, keys={
        **yarn(16.0, 8), "rope.scaling.yarn_beta_fast": 32.0, "rope.scaling.yarn_beta_slow": 1.0,
        "rope.scaling.yarn_log_multiplier": 1.0, "attention.temperature_scale": 0.1}),
    "qwen2": dict(DENSE, arch="qwen2", base=1000000.0, eps=1e-6, qkv_bias=True, tied=True),
    "qwen3": dict(DENSE, arch="qwen3", hd=16, base=1000000.0, eps=1e-6, qk="head"),
    "gemma": dict(DENSE, arch="gemma", hd=16, kv=1, base=10000.0, eps=1e-6, tied=True),
    "gemma2": dict(DENSE, arch="gemma2", hd=16, base=10000.0, eps=1e-6, tied=True, post=True, keys={
        "attention.sliding_window": 8, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 5.0}),
    # every sixth layer sees all, with its own base and scaling
    "gemma3": dict(DENSE, arch="gemma3", hd=16, kv=1, ff=48, base=1000000.0, eps=1e-6, tied=True,
                   post=True, qk="head", layers=7, keys={
                       "attention.sliding_window": 8, "rope.scaling.type": "linear",
                       "rope.scaling.factor": 8.0}),
    # llama.cpp wants certain tokens of a model with phi3 in its name
    "phi3": dict(DENSE, arch="phi3", title="phi 3", base=10000.0, eps=1e-5, fused_qkv=True, merged_ffn=True, keys={
        "attention.sliding_window": 8, **longrope(64, 1.19)}, factors=LONGROPE),

    "granite": dict(DENSE, arch="granite", base=10000.0, eps=1e-5, tied=True, keys=GRANITE),
    "granite-nope": dict(DENSE, arch="granite", base=10000.0, eps=1e-5, tied=True, keys={
        **GRANITE, "rope.scaling.finetuned": False}),       # no positions
    "qwen3vlmoe": dict(arch="qwen3vlmoe", pre="qwen2", bos=False, d=32, heads=4, kv=2, hd=16, ff=8, e=12,
                       k=3, base=5000000.0, eps=1e-6, qk="head", keys={
                           "rope.dimension_sections": [4, 2, 2, 0], "n_deepstack_layers": 0}),
    # Mistral Large 3: attention temperature
    "deepseek2-temperature": dict(MLA, e=8, k=2, gated=False, keys={
        "expert_shared_count": 1, "expert_weights_norm": True, "expert_weights_scale": 1.0,
        "attention.temperature_scale": 0.1, "attention.temperature_length": 8, **yarn(16.0, 16),
        "rope.scaling.yarn_log_multiplier": 0.1}, sh=8),

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
    # DeepSeek's architecture but for what YaRN's logarithm multiplies
    "mistral4": dict(MLA, seed=903, arch="mistral4", e=8, k=2, gated=False, keys={
        "expert_shared_count": 1, "expert_weights_norm": True, "expert_weights_scale": 1.0,
        **yarn(40.0, 16), "rope.scaling.yarn_log_multiplier": 0.0707}, sh=8),
    # one number for each layer
    "granite-layers": dict(DENSE, seed=902, arch="granite", base=10000.0, eps=1e-6, tied=True, keys={
        **GRANITE, "attention.head_count": Typed("arr:i32", [4, 4, 4]),
        "attention.head_count_kv": Typed("arr:i32", [2, 2, 2]),
        "feed_forward_length": Typed("arr:i32", [80, 80, 80])}),
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


# Families whose experts are as wide as feed_forward_length says.
NO_EXPERT_FF = ("llama", "olmoe", "granitemoe", "phimoe", "dbrx", "arctic")


def metadata(name, m):
    a = m["arch"]
    tokens, merges, kinds = vocabulary(m["pre"])
    kv = {
        "general.architecture": a,
        "general.name": f"moescope test model {m.get('title', name)}",
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
    if m["e"] and a not in NO_EXPERT_FF:
        kv[f"{a}.expert_feed_forward_length"] = m["ff"]
    if "sh" in m and "expert_shared_count" not in m["keys"]:
        kv[f"{a}.expert_shared_feed_forward_length"] = m["sh"]
    if m.get("layernorm"):
        kv[f"{a}.attention.layer_norm_epsilon"] = kv.pop(f"{a}.attention.layer_norm_rms_epsilon")
    if "rank" in m:
        whole, split = m["nope"] + m["rot"], not m.get("legacy_kv")
        kv.update({f"{a}.attention.kv_lora_rank": m["rank"], f"{a}.attention.q_lora_rank": m["q_rank"],
                   f"{a}.attention.key_length": m["rank"] + m["rot"] if split else whole,
                   f"{a}.attention.value_length": m["rank"] if split else m["v"]})
        if split:
            kv.update({f"{a}.attention.key_length_mla": whole,
                       f"{a}.attention.value_length_mla": m["v"]})
    if "lead" in m:
        kv[f"{a}.leading_dense_block_count"] = m["lead"]
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

    def norm(name):
        vector(name + ".weight", d)
        if m.get("all_bias"):
            vector(name + ".bias", d, 0, 0.2)

    def projections(b):
        if m.get("fused_qkv"):
            matrix(b + "attn_qkv.weight", nq + 2 * nk, d, gain=1.3)
            return
        for x, n in (("q", nq), ("k", nk), ("v", nk)):
            matrix(b + f"attn_{x}.weight", n, d, gain=1.3)
            if m.get("qkv_bias"):
                vector(b + f"attn_{x}.bias", n, 0, 0.3)

    def latent_projections(b):
        whole = m["nope"] + m["rot"]
        if m["q_rank"]:
            matrix(b + "attn_q_a.weight", m["q_rank"], d)
            vector(b + "attn_q_a_norm.weight", m["q_rank"])
            matrix(b + "attn_q_b.weight", m["heads"] * whole, m["q_rank"], gain=1.5)
        else:
            matrix(b + "attn_q.weight", m["heads"] * whole, d, gain=1.5)
        matrix(b + "attn_kv_a_mqa.weight", m["rank"] + m["rot"], d, gain=1.5)
        vector(b + "attn_kv_a_norm.weight", m["rank"])
        if m.get("legacy_kv"):
            matrix(b + "attn_kv_b.weight", m["heads"] * (m["nope"] + m["v"]), m["rank"], gain=1.5)
        else:
            matrix(b + "attn_k_b.weight", m["heads"], m["rank"], m["nope"])
            matrix(b + "attn_v_b.weight", m["heads"], m["v"], m["rank"], gain=1.5)

    def ffn(b, wide, suffix=""):
        if not m.get("merged_ffn"):
            matrix(b + f"ffn_gate{suffix}.weight", wide, d, gain=1.5)
        matrix(b + f"ffn_up{suffix}.weight", wide * (2 if m.get("merged_ffn") else 1), d, gain=1.5)
        matrix(b + f"ffn_down{suffix}.weight", d, wide)

    def experts(b):
        matrix(b + "ffn_gate_inp.weight", e, d, gain=m.get("router_gain", 1.5))
        if m.get("merged_exps"):
            matrix(b + "ffn_gate_up_exps.weight", e, 2 * ff, d, gain=1.5)
        else:
            matrix(b + "ffn_gate_exps.weight", e, ff, d, gain=1.5)
            matrix(b + "ffn_up_exps.weight", e, ff, d, gain=1.5)
        matrix(b + "ffn_down_exps.weight", e, d, ff, gain=1.5)
        if m.get("oai"):
            vector(b + "ffn_gate_inp.bias", e, 0, 0.5)
            for x, n in (("gate", ff), ("up", ff), ("down", d)):
                w = rng.standard_normal((e, n)) * 0.3
                out.append((b + f"ffn_{x}_exps.bias", w.astype(np.float32)))
        if m.get("sel_bias", "rank" in m and m.get("gated", True)):
            vector(b + "exp_probs_b.bias", e, 0, 0.1)
        if "sh" in m:
            if m["arch"] == "qwen2moe":
                vector(b + "ffn_gate_inp_shexp.weight", d, 0, 1.5 / np.sqrt(d))
            ffn(b, m["sh"], "_shexp")

    matrix("token_embd.weight", n_vocab, d, gain=2.0 if m.get("tied") else np.sqrt(d))
    for name, values in m.get("factors", {}).items():
        out.append((name + ".weight", np.array(values, np.float32)))
    for i in range(m["layers"]):
        b = f"blk.{i}."
        norm(b + "attn_norm")
        if "rank" in m:
            latent_projections(b)
            nq = m["heads"] * m["v"]
        else:
            projections(b)
        if "qk" in m:
            vector(b + "attn_q_norm.weight", nq if m["qk"] == "vector" else hd, 1.3)
            vector(b + "attn_k_norm.weight", nk if m["qk"] == "vector" else hd, 1.3)
        matrix(b + "attn_output.weight", d, nq)
        if m.get("oai") or m.get("all_bias"):
            vector(b + "attn_output.bias", d, 0, 0.3)
        if m.get("oai"):
            vector(b + "attn_sinks.weight", m["heads"], 1, 1)
        if "grok" in m:
            vector(b + "attn_output_norm.weight", d)
        if m.get("post"):
            vector(b + "post_attention_norm.weight", d)
        norm(b + m.get("ffn_norm", "post_attention_norm" if m.get("oai") else "ffn_norm"))
        dense = not e or i < m.get("lead", 0) or (i + 1) % m.get("step", 1)
        if dense or m.get("dense_too") or m.get("arctic"):
            ffn(b, d if m.get("arctic") else m.get("ff_dense", ff))
        if m.get("arctic"):
            vector(b + "ffn_norm_exps.weight", d)
        if not dense:
            experts(b)
        if "grok" in m:
            vector(b + m["grok"] + ".weight", d)
        if m.get("post"):
            vector(b + "post_ffw_norm.weight", d)
        if i >= m["layers"] - m.get("nextn", 0):
            matrix(b + "nextn.eh_proj.weight", d, 2 * d)
            for x in ("enorm", "hnorm", "shared_head_norm"):
                vector(b + f"nextn.{x}.weight", d)
    norm("output_norm")
    if not m.get("tied"):
        matrix("output.weight", n_vocab, d, gain=2.0)
    if m.get("all_bias"):
        vector("output.bias", n_vocab, 0, 0.5)
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
