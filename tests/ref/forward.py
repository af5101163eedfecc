r"""Independent forward pass in NumPy: from a GGUF file and token ids to logits and routing.

Weights are the file's, dequantised to float32; all arithmetic is float64. Covers the
architectures of the table ARCH (llama is dense and Mixtral), without YaRN or other scaling of
RoPE; one sequence from position 0, no cache.

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
    f32  router_logits[n_tokens][n_expert]      before softmax or sigmoid, with their bias if any
    i32  experts[n_tokens][k]                   in rank order
    f32  weights[n_tokens][k]                   as they multiply the experts' outputs
    f32  margin[n_tokens]                       k-th minus (k+1)-th selection score
"""
import sys

import numpy as np

from bpe import Tokenizer
from gguf_io import dequantise, quantise, read_gguf
from router import route

MAGIC = b"MOEVEC1\n"

# rope: which elements of a head form a pair, (2i, 2i+1) or (i, i + n/2).
# score, norm: the router (router.py); None: as the file's keys say.
# act: silu(gate) * up, or OpenAI's clamped form. window: every second layer, from the first,
# sees only the last attention.sliding_window positions.
ARCH = {
    "llama": dict(rope="adjacent", score="softmax", norm="renorm"),
    "olmoe": dict(rope="halves", score="softmax", norm="raw"),
    "qwen2moe": dict(rope="halves", score="softmax", norm="raw"),
    "qwen3moe": dict(rope="halves", score="softmax", norm="renorm"),
    "granitemoe": dict(rope="adjacent", score="softmax", norm="renorm"),
    "deepseek2": dict(rope="adjacent", score=None, norm=None),
    "gpt-oss": dict(rope="halves", score="none", norm="softmax", act="oai", window=True),
}
GATING_FUNC = {0: "softmax", 1: "softmax", 2: "sigmoid", 4: "sqrtsoftplus"}


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


def swiglu_oai(gate, up):
    gate, up = np.minimum(gate, 7), np.clip(up, -7, 7)
    return gate * sigmoid(1.702 * gate) * (up + 1)


class Model:
    def __init__(self, path, kv_type="F32"):
        self.g = read_gguf(path)
        self.merged = {}                # weights that adapters changed
        self.kv_type = kv_type          # what the cache keeps rows of keys and values in
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
        self.window = key("attention.sliding_window") if self.row.get("window") else 0
        # Granite: factors of the embedding, of each branch, of q.k, and a divisor of the logits.
        granite = self.arch == "granitemoe"
        self.embd_scale = float(key("embedding_scale", 1.0)) if granite else 1.0
        self.branch_scale = float(key("residual_scale", 1.0)) if granite else 1.0
        self.logit_div = float(key("logit_scale")) if granite else 1.0
        self.qk_scale = float(key("attention.scale", 0.0)) if granite else 0.0

        self.experts, self.k = key("expert_count", 0), key("expert_used_count", 0)
        self.spec = {"score": self.row["score"], "norm": self.row["norm"]}
        if self.arch == "deepseek2":
            self.spec = {"score": GATING_FUNC[key("expert_gating_func", 0)],
                         "norm": "renorm" if key("expert_weights_norm", False) else "raw",
                         "scale": float(key("expert_weights_scale", 0.0)) or 1.0}
            self.hd_mla = key("attention.key_length_mla")
            self.kv_rank = key("attention.kv_lora_rank")
        if key("expert_group_count", 0) > 1:
            self.spec["n_group"] = key("expert_group_count")
            self.spec["n_used"] = key("expert_group_used_count")

    def adapt(self, path, scale):
        """Merge a low-rank adapter into the weights: W += scale * alpha / rank * B A."""
        g = read_gguf(path)
        alpha = float(g.kv.get("adapter.lora.alpha", 0.0))
        for name in g.tensors:
            if name.endswith(".lora_a"):
                a, b = (g.tensor(name[:-1] + x).astype(np.float64) for x in "ab")
                by = scale * alpha / b.shape[-1] if alpha else scale
                base = name[:-len(".lora_a")]
                delta = a @ b.T if base == "token_embd.weight" else b @ a
                self.merged[base] = self.w(base) + by * delta.reshape(self.w(base).shape)

    def w(self, name):
        return self.merged[name] if name in self.merged else self.g.tensor(name).astype(np.float64)

    def has(self, name):
        return name in self.g.tensors

    def linear(self, x, name):
        """x [T][in] -> [T][out], with NAME.bias where the file has one."""
        y = x @ self.w(name + ".weight").T
        return y + self.w(name + ".bias") if self.has(name + ".bias") else y

    def cached(self, x):
        """x [..., n] as it comes back from the cache."""
        if self.kv_type == "F32":
            return x
        raw = quantise(x.astype(np.float32), self.kv_type)
        return dequantise(raw, self.kv_type).reshape(x.shape).astype(np.float64)

    def attend(self, score, value, i, sink=None):
        """score [T][T] before masking, value [T][n]. A sink takes a share of the softmax."""
        T = len(score)
        past = np.arange(T)[:, None] - np.arange(T)[None, :]
        hidden = past < 0
        if self.window and i % 2 == 0:
            hidden |= past >= self.window
        score = np.where(hidden, -np.inf, score)
        if sink is None:
            return softmax(score) @ value
        return softmax(np.concatenate([score, np.full((T, 1), sink)], axis=1))[:, :T] @ value

    def attention(self, x, b, i):
        """x [T][d], normalised -> [T][d]."""
        T = len(x)
        q, k, v = (self.linear(x, b + f"attn_{n}") for n in "qkv")
        if self.has(b + "attn_q_norm.weight"):
            wq, wk = self.w(b + "attn_q_norm.weight"), self.w(b + "attn_k_norm.weight")
            if self.arch == "olmoe":                        # over the whole vector
                q, k = rms_norm(q, wq, self.eps), rms_norm(k, wk, self.eps)
            else:                                           # per head
                q = rms_norm(q.reshape(T, -1, self.hd), wq, self.eps)
                k = rms_norm(k.reshape(T, -1, self.hd), wk, self.eps)
        q, k = (rope(y.reshape(T, -1, self.hd), self.n_rot, self.base, self.row["rope"])
                for y in (q, k))
        k, v = self.cached(k), self.cached(v.reshape(T, self.kv_heads, -1))
        scale = self.qk_scale or 1 / np.sqrt(self.hd)
        sinks = self.w(b + "attn_sinks.weight") if self.has(b + "attn_sinks.weight") else None
        out = []
        for h in range(self.heads):
            g = h * self.kv_heads // self.heads             # the KV head that this head reads
            out.append(self.attend(q[:, h] @ k[:, g].T * scale, v[:, g], i,
                                   None if sinks is None else sinks[h]))
        return self.linear(np.concatenate(out, axis=1), b + "attn_output")

    def latent_attention(self, x, b, i):
        """DeepSeek's MLA: keys and values of all heads from one latent vector c [T][rank]."""
        T, nope = len(x), self.hd_mla - self.n_rot
        if self.has(b + "attn_q_a.weight"):
            a = rms_norm(self.linear(x, b + "attn_q_a"), self.w(b + "attn_q_a_norm.weight"), self.eps)
            q = self.linear(a, b + "attn_q_b")
        else:
            q = self.linear(x, b + "attn_q")
        q = q.reshape(T, self.heads, self.hd_mla)
        kv = self.linear(x, b + "attn_kv_a_mqa")
        c = rms_norm(kv[:, :self.kv_rank], self.w(b + "attn_kv_a_norm.weight"), self.eps)
        k_rot = rope(kv[:, None, self.kv_rank:], self.n_rot, self.base, self.row["rope"])[:, 0]
        q_rot = rope(q[:, :, nope:], self.n_rot, self.base, self.row["rope"])
        k_b, v_b = self.w(b + "attn_k_b.weight"), self.w(b + "attn_v_b.weight")
        out = []
        for h in range(self.heads):
            k = c @ k_b[h]                                  # k_b [H][rank][nope], v_b [H][v][rank]
            score = (q[:, h, :nope] @ k.T + q_rot[:, h] @ k_rot.T) / np.sqrt(self.hd_mla)
            out.append(self.attend(score, c @ v_b[h].T, i))
        return self.linear(np.concatenate(out, axis=1), b + "attn_output")

    def activation(self, gate, up):
        return swiglu_oai(gate, up) if self.row.get("act") == "oai" else silu(gate) * up

    def ffn(self, x, b, suffix=""):
        h = self.activation(self.linear(x, b + "ffn_gate" + suffix),
                            self.linear(x, b + "ffn_up" + suffix))
        return self.linear(h, b + "ffn_down" + suffix)

    def moe(self, x, b):
        """x [T][d], normalised -> [T][d], and (logits, experts, weights, margin)."""
        logits = self.linear(x, b + "ffn_gate_inp")
        bias = self.w(b + "exp_probs_b.bias") if self.has(b + "exp_probs_b.bias") else None
        routed = [route(row, self.k, bias=bias, **self.spec)[:3] for row in logits]
        experts, weights, margin = (np.array(col) for col in zip(*routed))
        w = {n: self.w(b + f"ffn_{n}_exps.weight") for n in ("gate", "up", "down")}
        add = {n: self.w(b + f"ffn_{n}_exps.bias") if self.has(b + f"ffn_{n}_exps.bias")
               else np.zeros(w[n].shape[:2]) for n in w}
        y = np.zeros_like(x)
        for e in range(self.experts):
            t, r = np.nonzero(experts == e)
            if len(t):
                gate, up = (x[t] @ w[n][e].T + add[n][e] for n in ("gate", "up"))
                h = self.activation(gate, up) @ w["down"][e].T + add["down"][e]
                y[t] += weights[t, r][:, None] * h
        if self.has(b + "ffn_up_shexp.weight"):
            shared = self.ffn(x, b, "_shexp")
            if self.has(b + "ffn_gate_inp_shexp.weight"):
                gate = x @ self.w(b + "ffn_gate_inp_shexp.weight").reshape(-1)
                shared = sigmoid(gate)[:, None] * shared
            y += shared
        return y, (logits, experts, weights, margin)

    def forward(self, tokens):
        """-> logits [T][V] float64, {layer: (router logits, experts, weights, margin)}."""
        embd = self.w("token_embd.weight")
        attention = self.latent_attention if self.arch == "deepseek2" else self.attention
        ffn_norm = "post_attention_norm" if self.arch == "gpt-oss" else "ffn_norm"
        x, routing = embd[np.asarray(tokens)] * self.embd_scale, {}
        for i in range(self.layers):
            b = f"blk.{i}."
            h = rms_norm(x, self.w(b + "attn_norm.weight"), self.eps)
            x = x + attention(h, b, i) * self.branch_scale
            h = rms_norm(x, self.w(b + ffn_norm + ".weight"), self.eps)
            if self.has(b + "ffn_gate_inp.weight"):
                y, routing[i] = self.moe(h, b)
            else:
                y = self.ffn(h, b)
            x = x + y * self.branch_scale
        x = rms_norm(x, self.w("output_norm.weight"), self.eps)
        head = self.w("output.weight") if self.has("output.weight") else embd
        return x @ head.T / self.logit_div, routing


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
