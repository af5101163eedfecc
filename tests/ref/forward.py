r"""Independent forward pass in NumPy: from a GGUF file and token ids to logits and routing.

Weights are the file's, dequantised to float32; all arithmetic is float64. Covers the
architectures of the table ARCH; one sequence from position 0, no cache. What a key means where
several readings are possible is what llama.cpp makes of it (tests/ref/README.md).

    forward.py MODEL.gguf OUT.vec  ID ID ID ...   evaluate these token ids
    forward.py MODEL.gguf OUT.vec --text "TEXT"   tokenise first (bpe.py)
    forward.py MODEL.gguf OUT.vec --peer IN.vec   those of IN.vec, GELU rounded as llama.cpp does

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
    f32  weights[n_tokens][k]                   as they multiply the experts' outputs (Llama 4:
                                                their inputs)
    f32  margin[n_tokens]                       k-th minus (k+1)-th selection score
"""
import sys

import numpy as np

from bpe import Tokenizer
from gguf_io import dequantise, quantise, read_gguf
from router import route

MAGIC = b"MOEVEC1\n"

# One row per general.architecture. What a row may say:
#   rope     which elements of a head form a pair, (2i, 2i+1) or (i, i + n/2)
#   score    the router (router.py); absent: expert_gating_func, or `gating` where the key is absent
#   norm     of the weights; absent: as expert_weights_norm says
#   scaled   expert_weights_scale is obeyed (elsewhere llama.cpp does not read it)
#   act      silu(gate) * up unless said otherwise: gelu (tanh form), or OpenAI's clamped form
#   ffn_norm name of the norm before the FFN
#   window   n: of n layers all but the last see only attention.sliding_window positions;
#            local_base: their RoPE has its own base and no scaling
#   qk_norm  where q and k have norms: "head" (default), "vector", or "after" RoPE, per head
#   layernorm  norms subtract the mean
HALVES, ADJACENT = dict(rope="halves"), dict(rope="adjacent")
SOFTMAX_RENORM = dict(score="softmax", norm="renorm")
SOFTMAX_RAW = dict(score="softmax", norm="raw")
ARCH = {
    # dense
    "llama": {**ADJACENT, **SOFTMAX_RENORM},            # with experts: Mixtral
    "mistral3": {**ADJACENT, **SOFTMAX_RENORM},
    "qwen2": {**HALVES},
    "qwen3": {**HALVES},
    "phi3": {**HALVES},
    "granite": {**ADJACENT, **SOFTMAX_RENORM, "scales": "granite"},
    "gemma": {**HALVES, "act": "gelu", "root_embd": True},
    "gemma2": {**HALVES, "act": "gelu", "root_embd": True, "window": 2},
    "gemma3": {**HALVES, "act": "gelu", "root_embd": True, "window": 6, "local_base": 10000.0},
    # mixtures
    "olmoe": {**HALVES, **SOFTMAX_RAW, "qk_norm": "vector"},
    "qwen2moe": {**HALVES, **SOFTMAX_RAW},
    "qwen3moe": {**HALVES, **SOFTMAX_RENORM},
    "qwen3vlmoe": {**HALVES, **SOFTMAX_RENORM},         # with text only
    "granitemoe": {**ADJACENT, **SOFTMAX_RENORM, "scales": "granite"},
    "phimoe": {**HALVES, **SOFTMAX_RENORM},
    "dbrx": {**HALVES, **SOFTMAX_RENORM, "layernorm": True, "ffn_norm": "attn_output_norm"},
    "arctic": {**ADJACENT, **SOFTMAX_RENORM},
    "grok": {**HALVES, **SOFTMAX_RENORM, "act": "gelu", "scales": "grok"},
    "hunyuan-moe": {**HALVES, **SOFTMAX_RENORM, "qk_norm": "after"},
    "ernie4_5-moe": {**ADJACENT, **SOFTMAX_RENORM},
    "llama4": {**ADJACENT, "score": "none", "norm": "sigmoid", "chunk": 8192},
    "deepseek": {**ADJACENT, **SOFTMAX_RAW, "scaled": True},
    "deepseek2": {**ADJACENT, "gating": "softmax", "scaled": True},
    "mistral4": {**ADJACENT, "gating": "softmax", "scaled": True},
    "bailingmoe": {**ADJACENT, "score": "softmax", "scaled": True},
    "bailingmoe2": {**HALVES, "scaled": True},
    "dots1": {**HALVES, "scaled": True},
    "glm4moe": {**HALVES, "gating": "sigmoid", "scaled": True, "ffn_norm": "post_attention_norm"},
    "minimax-m2": {**HALVES, "norm": "renorm", "qk_norm": "vector"},
    "gpt-oss": {**HALVES, "score": "none", "norm": "softmax", "act": "oai", "window": 2,
                "ffn_norm": "post_attention_norm"},
}
LATENT = ("deepseek2", "mistral4")
GATING_FUNC = {1: "softmax", 2: "sigmoid", 4: "sqrtsoftplus"}


def rms_norm(x, w, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * w


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))


def half_gelu(x):
    """From a table of halves between -10 and 10, as llama.cpp's CPU kernels have it."""
    y = gelu(x.astype(np.float32).astype(np.float16).astype(np.float64)).astype(np.float16)
    return np.where(x >= 10, x, np.where(x <= -10, 0, y))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def soft_cap(x, cap):
    return cap * np.tanh(x / cap) if cap else x


def swiglu_oai(gate, up):
    gate, up = np.minimum(gate, 7), np.clip(up, -7, 7)
    return gate * sigmoid(1.702 * gate) * (up + 1)


class Rope:
    """Rotation of the first n_rot elements of each head by its position. A frequency is
    base^(-2i/n_rot) over the model's factor i where it has factors; linear scaling multiplies it
    by 1/factor; YaRN does so for the slow ones only, with a ramp between the dimensions that turn
    beta_fast and beta_slow times within the original context. `gain` multiplies what is rotated."""

    def __init__(self, n_rot, base, pairs, scale=1.0, factors=None, yarn=None, gain=1.0):
        i = np.arange(n_rot // 2)
        freq = base ** (-2.0 * i / n_rot) / (1 if factors is None else factors)
        mix = 0.0
        if yarn:
            def turns(n):
                return n_rot * np.log(yarn["ctx"] / (n * 2 * np.pi)) / (2 * np.log(base))
            low = max(0.0, np.floor(turns(yarn["fast"])))
            high = min(n_rot - 1.0, np.ceil(turns(yarn["slow"])))
            mix = yarn["ext"] * (1 - np.clip((i - low) / max(0.001, high - low), 0, 1))
        self.freq = freq * (scale * (1 - mix) + mix)
        self.n_rot, self.pairs, self.gain = n_rot, pairs, gain

    def __call__(self, x):
        """x [T][heads][hd]"""
        angle = np.arange(x.shape[0])[:, None] * self.freq
        c, s = self.gain * np.cos(angle)[:, None], self.gain * np.sin(angle)[:, None]
        n = self.n_rot
        lo = np.arange(0, n, 2) if self.pairs == "adjacent" else np.arange(n // 2)
        hi = lo + (1 if self.pairs == "adjacent" else n // 2)
        y = x.copy()
        y[..., lo] = x[..., lo] * c - x[..., hi] * s
        y[..., hi] = x[..., lo] * s + x[..., hi] * c
        return y


class Model:
    def __init__(self, path, kv_type="F32"):
        self.g = read_gguf(path)
        self.merged = {}                # weights that adapters changed
        self.kv_type = kv_type          # what the cache keeps rows of keys and values in
        kv = self.g.kv
        self.arch = kv["general.architecture"]
        self.row = ARCH[self.arch]
        self.cache, self.gelu = {}, gelu

        def key(name, default=None):
            v = kv.get(f"{self.arch}.{name}", default)
            if v is None:
                raise KeyError(f"{path}: no {self.arch}.{name}")
            return v

        def one(name, default=None):                        # a number, or the same for each layer
            return int(np.unique(key(name, default)).item())

        self.d = key("embedding_length")
        self.layers = key("block_count") - key("nextn_predict_layers", 0)
        self.heads = one("attention.head_count")
        self.kv_heads = one("attention.head_count_kv", self.heads)
        self.hd = key("attention.key_length", self.d // self.heads)
        self.eps = float(key("attention.layer_norm_rms_epsilon", 0) or
                         key("attention.layer_norm_epsilon"))
        self.window = key("attention.sliding_window", 4096 if self.arch == "gemma2" else 0)
        if not self.window:
            self.row = {**self.row, "window": 0}
        self.clamp = float(key("attention.clamp_kqv", 0.0))
        if self.arch in LATENT:
            self.kv_rank = key("attention.kv_lora_rank")
            self.hd_mla = key("attention.key_length_mla", self.hd)
            self.hd_v = key("attention.value_length_mla", 0) or key("attention.value_length")
        self.set_scales(key)
        self.set_rope(key)
        self.set_router(key)

    def set_scales(self, key):
        """Factors of the embedding, of each branch, of q.k and of the logits; soft caps."""
        kind = self.row.get("scales")
        self.embd_scale, self.branch_scale, self.logit_scale = 1.0, 1.0, 1.0
        self.qk_scale = 1 / np.sqrt(self.hd)
        self.attn_cap, self.logit_cap = 0.0, float(key("final_logit_softcapping", 0.0))
        if kind == "granite":
            self.embd_scale = float(key("embedding_scale", 1.0))
            self.branch_scale = float(key("residual_scale", 1.0))
            self.logit_scale = 1 / float(key("logit_scale"))
            self.qk_scale = float(key("attention.scale", 0.0)) or self.qk_scale
        elif kind == "grok":
            self.embd_scale = float(key("embedding_scale", 78.38367176906169))
            self.logit_scale = float(key("logit_scale", 0.5773502691896257))
            self.qk_scale = float(key("attention.output_scale", 0.08838834764831845))
            self.attn_cap = float(key("attn_logit_softcapping", 30.0))
        if self.row.get("root_embd"):
            self.embd_scale = np.sqrt(self.d)
        if self.arch == "gemma2":
            self.attn_cap = float(key("attn_logit_softcapping", 50.0))
            self.logit_cap = self.logit_cap or 30.0
            if self.layers == 46:                           # the 27B model
                self.qk_scale = 1 / np.sqrt(self.d // self.heads)
        if self.arch == "gemma3" and self.layers == 62:     # likewise
            self.qk_scale = 1 / np.sqrt(self.d // self.heads)
        # q at position p times 1 + temp ln(1 + floor((p + shift) / floor))
        self.temp, self.temp_floor, self.temp_shift = 0.0, 1, 0
        if self.arch == "llama4" and key("attention.sliding_window", 1) != 0:
            self.temp, self.temp_floor, self.temp_shift = 0.1, 8192, 1
        elif self.arch == "mistral3":
            self.temp = float(key("attention.temperature_scale", 0.0))
            self.temp_floor = key("rope.scaling.original_context_length", key("context_length"))
        elif self.arch in LATENT:
            self.temp = float(key("attention.temperature_scale", 0.0))
            self.temp_floor = key("attention.temperature_length", 1)

    def set_rope(self, key):
        n_rot = key("rope.dimension_count", self.hd)
        base = float(key("rope.freq_base", 10000.0))
        context = key("context_length")
        original = key("rope.scaling.original_context_length", context)
        kind = key("rope.scaling.type", "linear")
        factor = float(key("rope.scaling.factor", 0.0) or key("rope.scale_linear", 0.0)) or 1.0
        factor = 1.0 if kind == "none" else factor
        gain = float(key("rope.scaling.attn_factor", 1.0))
        yarn, ln = None, np.log(factor)
        if kind == "yarn":
            fast = {"grok": 8.0}.get(self.arch, 32.0)
            own = self.arch in ("grok", "mistral3")         # others: the keys are not read
            yarn = {"ctx": original, "ext": 1.0, "slow": 1.0, "fast": fast}
            if own:
                yarn["fast"] = float(key("rope.scaling.yarn_beta_fast", fast))
                yarn["slow"] = float(key("rope.scaling.yarn_beta_slow", 1.0))
            if self.arch == "grok":
                yarn["ext"] = float(key("rope.scaling.yarn_ext_factor", 1.0))
            # m(x) = 1 + 0.1 x ln(factor): DeepSeek's file says 0.1 x, Mistral's x
            m_all = float(key("rope.scaling.yarn_log_multiplier", 0.0))
            if self.arch in LATENT:
                m_all /= 0.1
            m = m_all if self.arch == "deepseek2" and m_all != 1 else 1.0
            gain *= 1 + 0.1 * (m if m_all else 1.0) * ln
            if m_all:
                gain /= 1 + 0.1 * m_all * ln
            if self.arch in LATENT:
                self.yarn_qk = (gain * (1 + 0.1 * m_all * ln)) ** 2
        factors = None
        longer = "rope_factors_long" if context > original else "rope_factors_short"
        for name in ("rope_freqs", longer):
            if factors is None and name + ".weight" in self.g.tensors:
                factors = self.w(name + ".weight")
        pairs = self.row["rope"]
        self.rope = Rope(n_rot, base, pairs, 1 / factor, factors, yarn, gain)
        self.local_rope = self.rope
        if "local_base" in self.row and self.row.get("window"):
            local = float(key("rope.freq_base_swa", self.row["local_base"]))
            self.local_rope = Rope(n_rot, local, pairs, 1.0, factors, yarn, gain)
        self.n_rot = n_rot
        if self.arch == "qwen3vlmoe":
            # Pairs take turns in time, height, width; what is left over reads a fourth coordinate,
            # which llama.cpp sets to 0 for text.
            sections = [int(x) for x in key("rope.dimension_sections")]
            sector = np.arange(n_rot // 2) % sum(sections)
            self.rope.freq = np.where(sector >= 3 * np.array(sections)[sector % 3], 0, self.rope.freq)
        if self.arch == "granite" and not key("rope.scaling.finetuned", True):
            self.rope = self.local_rope = None              # llama.cpp's sign for no positions

    def set_router(self, key):
        row = self.row
        self.experts, self.k = key("expert_count", 0), key("expert_used_count", 0)
        if not self.experts:
            return
        score = row.get("score") or GATING_FUNC.get(key("expert_gating_func", 0)) or row["gating"]
        norm = row.get("norm") or ("renorm" if key("expert_weights_norm", False) else "raw")
        scale = float(key("expert_weights_scale", 0.0)) if row.get("scaled") else 0.0
        self.spec = {"score": score, "norm": norm, "scale": scale or 1.0}
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
        if name in self.merged:
            return self.merged[name]
        if name not in self.cache:
            self.cache[name] = self.g.tensor(name).astype(np.float64)
        return self.cache[name]

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

    def norm(self, x, name):
        if self.row.get("layernorm"):
            x = x - x.mean(axis=-1, keepdims=True)
        y = rms_norm(x, self.w(name + ".weight"), self.eps)
        return y + self.w(name + ".bias") if self.has(name + ".bias") else y

    def norm_if(self, x, name):
        return self.norm(x, name) if self.has(name + ".weight") else x

    def is_local(self, i):
        """Whether layer i sees only a window or chunk."""
        n = 4 if "chunk" in self.row else self.row.get("window")
        return bool(n) and i % n < n - 1

    def attend(self, score, value, i, sink=None):
        """score [T][T] before masking, value [T][n]. A sink takes a share of the softmax."""
        T = len(score)
        now, then = np.arange(T)[:, None], np.arange(T)[None, :]
        hidden = then > now
        if self.is_local(i):
            if "chunk" in self.row:
                hidden |= then < now // self.row["chunk"] * self.row["chunk"]
            else:
                hidden |= now - then >= self.window
        score = np.where(hidden, -np.inf, soft_cap(score, self.attn_cap))
        if sink is None:
            return softmax(score) @ value
        return softmax(np.concatenate([score, np.full((T, 1), sink)], axis=1))[:, :T] @ value

    def qkv(self, x, b):
        if self.has(b + "attn_qkv.weight"):
            n = self.kv_heads * self.hd
            qkv = np.split(self.linear(x, b + "attn_qkv"), [self.heads * self.hd,
                                                            self.heads * self.hd + n], axis=1)
        else:
            qkv = [self.linear(x, b + f"attn_{n}") for n in "qkv"]
        return [np.clip(y, -self.clamp, self.clamp) if self.clamp else y for y in qkv]

    def warmth(self, T):
        """[T][1][1], what the queries are multiplied by."""
        turns = np.floor((np.arange(T) + self.temp_shift) / self.temp_floor)
        return (np.log(turns + 1) * self.temp + 1)[:, None, None]

    def attention(self, x, b, i):
        """x [T][d], normalised -> [T][d]."""
        T, when = len(x), self.row.get("qk_norm", "head")
        q, k, v = self.qkv(x, b)
        if when == "vector":
            q, k = self.norm_if(q, b + "attn_q_norm"), self.norm_if(k, b + "attn_k_norm")
        q, k = (y.reshape(T, -1, self.hd) for y in (q, k))
        v = v.reshape(T, self.kv_heads, -1)
        if when == "head":
            q, k = self.norm_if(q, b + "attn_q_norm"), self.norm_if(k, b + "attn_k_norm")
        rotate = self.local_rope if self.is_local(i) else self.rope
        if self.arch == "llama4" and (i + 1) % 4 == 0:      # a layer without positions
            rotate = None
        if rotate:
            q, k = rotate(q), rotate(k)
            if self.arch == "llama4" and self.experts != 128:
                q, k = rms_norm(q, 1, self.eps), rms_norm(k, 1, self.eps)
        if when == "after":
            q, k = self.norm(q, b + "attn_q_norm"), self.norm(k, b + "attn_k_norm")
        if not (self.arch == "llama4" and rotate):
            q = q * self.warmth(T)
        k, v = self.cached(k), self.cached(v)
        sinks = self.w(b + "attn_sinks.weight") if self.has(b + "attn_sinks.weight") else None
        out = []
        for h in range(self.heads):
            g = h * self.kv_heads // self.heads             # the KV head that this head reads
            out.append(self.attend(q[:, h] @ k[:, g].T * self.qk_scale, v[:, g], i,
                                   None if sinks is None else sinks[h]))
        return self.linear(np.concatenate(out, axis=1), b + "attn_output")

    def latent_attention(self, x, b, i):
        """DeepSeek's MLA: keys and values of all heads from one latent vector c [T][rank]."""
        T, nope = len(x), self.hd_mla - self.n_rot
        if self.has(b + "attn_q_a.weight"):
            a = self.norm(self.linear(x, b + "attn_q_a"), b + "attn_q_a_norm")
            q = self.linear(a, b + "attn_q_b")
        else:
            q = self.linear(x, b + "attn_q")
        q = q.reshape(T, self.heads, self.hd_mla) * self.warmth(T)
        kv = self.linear(x, b + "attn_kv_a_mqa")
        c = self.norm(kv[:, :self.kv_rank], b + "attn_kv_a_norm")
        k_rot = self.rope(kv[:, None, self.kv_rank:])[:, 0]
        q_rot = self.rope(q[:, :, nope:])
        row = self.cached(np.concatenate([c, k_rot], axis=1))
        c, k_rot = row[:, :self.kv_rank], row[:, self.kv_rank:]
        if self.has(b + "attn_kv_b.weight"):                # older files: both in one, per head
            kv_b = self.w(b + "attn_kv_b.weight").reshape(self.heads, nope + self.hd_v, -1)
            k_b, v_b = kv_b[:, :nope].transpose(0, 2, 1), kv_b[:, nope:]
        else:                                               # [H][rank][nope] and [H][v][rank]
            k_b, v_b = self.w(b + "attn_k_b.weight"), self.w(b + "attn_v_b.weight")
        scale = getattr(self, "yarn_qk", 1.0) / np.sqrt(self.hd_mla)
        out = []
        for h in range(self.heads):
            k = c @ k_b[h]
            score = (q[:, h, :nope] @ k.T + q_rot[:, h] @ k_rot.T) * scale
            out.append(self.attend(score, c @ v_b[h].T, i))
        return self.linear(np.concatenate(out, axis=1), b + "attn_output")

    def activation(self, gate, up):
        act = self.row.get("act", "silu")
        if act == "oai":
            return swiglu_oai(gate, up)
        return (silu(gate) if act == "silu" else self.gelu(gate)) * up

    def ffn(self, x, b, suffix=""):
        up = self.linear(x, b + "ffn_up" + suffix)
        if self.has(b + "ffn_gate" + suffix + ".weight"):
            gate = self.linear(x, b + "ffn_gate" + suffix)
        else:                                               # both in one, the gate first
            gate, up = np.split(up, 2, axis=1)
        return self.linear(self.activation(gate, up), b + "ffn_down" + suffix)

    def expert_weights(self, b):
        w = {"down": self.w(b + "ffn_down_exps.weight")}
        if self.has(b + "ffn_gate_up_exps.weight"):         # [E][2 ff][d], the gates first
            w["gate"], w["up"] = np.split(self.w(b + "ffn_gate_up_exps.weight"), 2, axis=1)
        else:
            w["gate"], w["up"] = (self.w(b + f"ffn_{n}_exps.weight") for n in ("gate", "up"))
        return w

    def moe(self, x, b):
        """x [T][d], normalised -> [T][d], and (logits, experts, weights, margin)."""
        logits = self.linear(x, b + "ffn_gate_inp")
        bias = self.w(b + "exp_probs_b.bias") if self.has(b + "exp_probs_b.bias") else None
        routed = [route(row, self.k, bias=bias, **self.spec)[:3] for row in logits]
        experts, weights, margin = (np.array(col) for col in zip(*routed))
        w = self.expert_weights(b)
        add = {n: self.w(b + f"ffn_{n}_exps.bias") if self.has(b + f"ffn_{n}_exps.bias")
               else np.zeros(w[n].shape[:2]) for n in w}
        y = np.zeros_like(x)
        for e in range(self.experts):
            t, r = np.nonzero(experts == e)
            if len(t):
                share = weights[t, r][:, None]
                given = x[t] * share if self.arch == "llama4" else x[t]
                gate, up = (given @ w[n][e].T + add[n][e] for n in ("gate", "up"))
                h = self.activation(gate, up) @ w["down"][e].T + add["down"][e]
                y[t] += h if self.arch == "llama4" else share * h
        if self.has(b + "ffn_up_shexp.weight"):
            shared = self.ffn(x, b, "_shexp")
            if self.has(b + "ffn_gate_inp_shexp.weight"):
                gate = x @ self.w(b + "ffn_gate_inp_shexp.weight").reshape(-1)
                shared = sigmoid(gate)[:, None] * shared
            y += shared
        if self.arch == "grok" and self.has(b + "ffn_up.weight"):
            y = (y + self.ffn(x, b)) * np.sqrt(0.5)
        return y, (logits, experts, weights, margin)

    def layer(self, x, i):
        """x [T][d] -> [T][d], and the routing or None."""
        b, routing, before = f"blk.{i}.", None, x
        attention = self.latent_attention if self.arch in LATENT else self.attention
        y = attention(self.norm(x, b + "attn_norm"), b, i)
        if self.arch.startswith("gemma"):
            y = self.norm_if(y, b + "post_attention_norm")
        elif self.arch == "grok":
            y = self.norm(y, b + "attn_output_norm")
        x = x + y * self.branch_scale
        h = self.norm(x, b + self.row.get("ffn_norm", "ffn_norm"))
        if self.arch == "arctic":                           # dense, and experts on the layer's input
            x = x + self.ffn(h, b)
            h = self.norm(before, b + "ffn_norm_exps")
        if self.has(b + "ffn_gate_inp.weight"):
            y, routing = self.moe(h, b)
        else:
            y = self.ffn(h, b)
        for name in ("layer_output_norm", "post_ffw_norm"):
            y = self.norm_if(y, b + name)
        return x + y * self.branch_scale, routing

    def forward(self, tokens):
        """-> logits [T][V] float64, {layer: (router logits, experts, weights, margin)}."""
        embd = self.w("token_embd.weight")
        x, routing = embd[np.asarray(tokens)] * self.embd_scale, {}
        for i in range(self.layers):
            x, r = self.layer(x, i)
            if r:
                routing[i] = r
        x = self.norm(x, "output_norm")
        head = self.w("output.weight") if self.has("output.weight") else embd
        y = x @ head.T * self.logit_scale
        if self.has("output.bias"):
            y = y + self.w("output.bias")
        return soft_cap(y, self.logit_cap), routing


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
    if sys.argv[3] == "--text":
        ids = Tokenizer(model.g.kv).encode(sys.argv[4])
    elif sys.argv[3] == "--peer":
        ids, model.gelu = Vec(sys.argv[4]).tokens, half_gelu
    else:
        ids = [int(x) for x in sys.argv[3:]]
    logits, routing = model.forward(ids)
    write_vec(sys.argv[2], ids, logits, model.layers, routing)


if __name__ == "__main__":
    main()
