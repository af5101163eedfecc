r"""Independent forward pass in NumPy: from a GGUF file and token ids to logits and routing.

Weights are the file's, dequantised to float32; all arithmetic is float64. Covers the
architectures llama (dense and Mixtral), olmoe, qwen2moe and qwen3moe, one sequence from
position 0, no cache.

    forward.py MODEL.gguf OUT.vec  ID ID ID ...   evaluate these token ids
    forward.py MODEL.gguf OUT.vec --text "TEXT"   tokenise first (bpe.py)

Vector file (.vec), little endian, no padding:

    char magic[8]            "MOEVEC1\n"
    u32  n_tokens, n_vocab, n_layer, n_expert, k, n_moe_layer
                             n_expert = k = n_moe_layer = 0 for a dense model
    i32  tokens[n_tokens]
    f32  logits[n_tokens][n_vocab]              every position
    then for each MoE layer, ascending:
    u32  layer                                  index in the model
    f32  router_logits[n_tokens][n_expert]      before softmax
    i32  experts[n_tokens][k]                   in rank order
    f32  weights[n_tokens][k]                   as they multiply the experts' outputs
    f32  margin[n_tokens]                       k-th minus (k+1)-th selection score
"""
import sys

import numpy as np

from bpe import Tokenizer
from gguf_io import read_gguf

MAGIC = b"MOEVEC1\n"
NORM_CLAMP = 6.103515625e-5             # smallest normal half: floor of the sum when renormalising

# rope: which elements of a head form a pair, (2i, 2i+1) or (i, i + n/2).
# renorm: the k weights are divided by their sum.
ARCH = {
    "llama": dict(rope="adjacent", renorm=True),
    "olmoe": dict(rope="halves", renorm=False),
    "qwen2moe": dict(rope="halves", renorm=False),
    "qwen3moe": dict(rope="halves", renorm=True),
}


def rms_norm(x, w, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * w


def silu(x):
    return x / (1 + np.exp(-x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rope(x, n_rot, base, pairs):
    """x [T][heads][hd]: rotate the first n_rot elements of each head by its position."""
    angle = np.arange(x.shape[0])[:, None] * base ** (-np.arange(0, n_rot, 2) / n_rot)
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    lo = np.arange(0, n_rot, 2) if pairs == "adjacent" else np.arange(n_rot // 2)
    hi = lo + (1 if pairs == "adjacent" else n_rot // 2)
    y = x.copy()
    y[..., lo] = x[..., lo] * c - x[..., hi] * s
    y[..., hi] = x[..., lo] * s + x[..., hi] * c
    return y


def route(logits, k, renorm):
    """logits [T][E] -> experts [T][k] in rank order, weights [T][k], margin [T]."""
    p = softmax(logits)
    order = np.argsort(-p, axis=1, kind="stable")           # ties to the lowest id
    experts = order[:, :k]
    w = np.take_along_axis(p, experts, 1)
    ranked = np.take_along_axis(p, order, 1)
    margin = ranked[:, k - 1] - ranked[:, k] if k < p.shape[1] else np.full(len(p), np.inf)
    if renorm:
        w = w / np.maximum(w.sum(axis=1, keepdims=True), NORM_CLAMP)
    return experts, w, margin


class Model:
    def __init__(self, path):
        self.g = read_gguf(path)
        kv = self.g.kv
        self.arch = kv["general.architecture"]
        self.row = ARCH[self.arch]

        def key(name, default=None):
            v = kv.get(f"{self.arch}.{name}", default)
            if v is None:
                raise KeyError(f"{path}: no {self.arch}.{name}")
            return v

        self.d, self.layers = key("embedding_length"), key("block_count")
        self.heads = key("attention.head_count")
        self.kv_heads = key("attention.head_count_kv", self.heads)
        self.hd = key("attention.key_length", self.d // self.heads)
        self.n_rot = key("rope.dimension_count", self.hd)
        self.base = float(key("rope.freq_base", 10000.0))
        self.eps = float(key("attention.layer_norm_rms_epsilon"))
        self.experts, self.k = key("expert_count", 0), key("expert_used_count", 0)

    def w(self, name):
        return self.g.tensor(name).astype(np.float64)

    def has(self, name):
        return name in self.g.tensors

    def attention(self, x, b):
        """x [T][d], normalised -> [T][d]."""
        T = len(x)
        q, k, v = (x @ self.w(b + f"attn_{n}.weight").T for n in "qkv")
        if self.has(b + "attn_q.bias"):
            q, k, v = (y + self.w(b + f"attn_{n}.bias") for y, n in zip((q, k, v), "qkv"))
        if self.has(b + "attn_q_norm.weight"):
            wq, wk = self.w(b + "attn_q_norm.weight"), self.w(b + "attn_k_norm.weight")
            if self.arch == "olmoe":                        # over the whole vector
                q, k = rms_norm(q, wq, self.eps), rms_norm(k, wk, self.eps)
            else:                                           # per head
                q = rms_norm(q.reshape(T, -1, self.hd), wq, self.eps)
                k = rms_norm(k.reshape(T, -1, self.hd), wk, self.eps)
        q, k = (rope(y.reshape(T, -1, self.hd), self.n_rot, self.base, self.row["rope"])
                for y in (q, k))
        v = v.reshape(T, self.kv_heads, -1)
        future = np.triu(np.ones((T, T), dtype=bool), 1)
        out = []
        for h in range(self.heads):
            g = h * self.kv_heads // self.heads             # the KV head that this head reads
            s = q[:, h] @ k[:, g].T / np.sqrt(self.hd)
            out.append(softmax(np.where(future, -np.inf, s)) @ v[:, g])
        return np.concatenate(out, axis=1) @ self.w(b + "attn_output.weight").T

    def ffn(self, x, gate, up, down):
        return (silu(x @ gate.T) * (x @ up.T)) @ down.T

    def moe(self, x, b):
        """x [T][d], normalised -> [T][d], and (logits, experts, weights, margin)."""
        logits = x @ self.w(b + "ffn_gate_inp.weight").T
        experts, weights, margin = route(logits, self.k, self.row["renorm"])
        gate, up, down = (self.w(b + f"ffn_{n}_exps.weight") for n in ("gate", "up", "down"))
        y = np.zeros_like(x)
        for e in range(self.experts):
            t, r = np.nonzero(experts == e)
            if len(t):
                y[t] += weights[t, r][:, None] * self.ffn(x[t], gate[e], up[e], down[e])
        if self.arch == "qwen2moe":
            shared = (self.w(b + f"ffn_{n}_shexp.weight") for n in ("gate", "up", "down"))
            open_ = sigmoid(x @ self.w(b + "ffn_gate_inp_shexp.weight").reshape(-1))
            y += open_[:, None] * self.ffn(x, *shared)
        return y, (logits, experts, weights, margin)

    def forward(self, tokens):
        """-> logits [T][V] float64, {layer: (router logits, experts, weights, margin)}."""
        embd = self.w("token_embd.weight")
        x, routing = embd[np.asarray(tokens)], {}
        for i in range(self.layers):
            b = f"blk.{i}."
            x = x + self.attention(rms_norm(x, self.w(b + "attn_norm.weight"), self.eps), b)
            h = rms_norm(x, self.w(b + "ffn_norm.weight"), self.eps)
            if self.has(b + "ffn_gate_inp.weight"):
                y, routing[i] = self.moe(h, b)
            else:
                y = self.ffn(h, *(self.w(b + f"ffn_{n}.weight") for n in ("gate", "up", "down")))
            x = x + y
        x = rms_norm(x, self.w("output_norm.weight"), self.eps)
        head = self.w("output.weight") if self.has("output.weight") else embd
        return x @ head.T, routing


def write_vec(path, tokens, logits, n_layer, routing):
    e = next(iter(routing.values()))[0].shape[1] if routing else 0
    k = next(iter(routing.values()))[1].shape[1] if routing else 0
    with open(path, "wb") as f:
        f.write(MAGIC)
        np.array([len(tokens), logits.shape[1], n_layer, e, k, len(routing)], "<u4").tofile(f)
        np.asarray(tokens, "<i4").tofile(f)
        logits.astype("<f4").tofile(f)
        for layer in sorted(routing):
            rl, experts, weights, margin = routing[layer]
            np.array([layer], "<u4").tofile(f)
            rl.astype("<f4").tofile(f)
            experts.astype("<i4").tofile(f)
            weights.astype("<f4").tofile(f)
            margin.astype("<f4").tofile(f)


class Vec:
    """A vector file read back: tokens, logits, n_layer, routing as write_vec takes them."""

    def __init__(self, path):
        data = open(path, "rb").read()
        if data[:8] != MAGIC:
            raise ValueError(f"{path}: not a MOEVEC1 file")
        pos = 8

        def take(dtype, *shape):
            nonlocal pos
            n = int(np.prod(shape))
            a = np.frombuffer(data, dtype, n, pos).reshape(shape)
            pos += a.nbytes
            return a

        t, v, self.n_layer, e, k, m = (int(x) for x in take("<u4", 6))
        self.tokens, self.logits, self.routing = take("<i4", t), take("<f4", t, v), {}
        for _ in range(m):
            layer = int(take("<u4", 1)[0])
            self.routing[layer] = (take("<f4", t, e), take("<i4", t, k), take("<f4", t, k),
                                   take("<f4", t))
        if pos != len(data):
            raise ValueError(f"{path}: {len(data) - pos} bytes left over")


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    model = Model(sys.argv[1])
    ids = (Tokenizer(model.g.kv).encode(sys.argv[4]) if sys.argv[3] == "--text"
           else [int(x) for x in sys.argv[3:]])
    logits, routing = model.forward(ids)
    write_vec(sys.argv[2], ids, logits, model.layers, routing)


if __name__ == "__main__":
    main()
