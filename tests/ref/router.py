"""The routing function by itself, in float64, and its test vectors (tests/data/router.txt).

Steps, as GGUF models mean them: score over all experts; selection score = score + bias; with
groups, keep the groups whose two best selection scores have the largest sum; the k largest
selection scores, ties to the lowest id (also between groups); weights from the unbiased scores.

The file is text, tokens separated by white space, numbers as C's %a:

    router N_CASES
    case SCORE BIAS NORM N_GROUP N_GROUP_USED SCALE E K N_TOKENS
        SCORE  softmax | sigmoid | sqrtsoftplus | none
        BIAS   1: a line "bias" + E numbers follows, added for selection only
        NORM   raw | renorm (divided by max(sum, 2^-14)) | softmax (over the k weights) | sigmoid (of
               each, which with the score none is how Llama 4 routes)
        SCALE  factor of the weights after NORM
    then per token:
    logits  E numbers      float32 exactly
    experts K ids          rank order
    weights K numbers
    margin  number         K-th minus (K+1)-th selection score among the groups kept; inf if K is
                           all that is left

No vector depends on how a sum was rounded: scores that decide something are either equal by
construction (equal logits and biases) or apart by 1e-5 of their size.
"""
import numpy as np

CLAMP = 2.0 ** -14

# score, bias, norm, groups limited, scale; the models that route so.
SPECS = [
    ("softmax", 0, "renorm", 0, 1.0),           # Mixtral, Qwen3-MoE
    ("softmax", 0, "raw", 0, 1.0),              # OLMoE, Qwen2-MoE
    ("softmax", 0, "raw", 1, 16.0),             # DeepSeek-V2
    ("softmax", 1, "renorm", 0, 1.0),           # Ernie 4.5
    ("sigmoid", 1, "renorm", 1, 2.5),           # DeepSeek-V3
    ("sigmoid", 1, "renorm", 0, 1.0),           # GLM-4.5, MiniMax-M2
    ("sigmoid", 0, "raw", 0, 1.0),
    ("none", 0, "softmax", 0, 1.0),             # gpt-oss
    ("none", 1, "softmax", 0, 1.0),             # the same with a selection bias
    ("sqrtsoftplus", 1, "renorm", 0, 1.5),      # DeepSeek-V4
    ("sqrtsoftplus", 0, "raw", 1, 1.0),
]
# E, k, groups and groups kept where the specification limits them, tokens
SIZES = [(8, 2, 4, 2, 7), (16, 2, 4, 2, 6), (64, 8, 8, 4, 5), (128, 8, 8, 4, 4), (256, 8, 8, 4, 4)]


def score_of(logits, score):
    x = np.asarray(logits, dtype=np.float64)
    if score == "softmax":
        e = np.exp(x - x.max())
        return e / e.sum()
    if score == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if score == "sqrtsoftplus":
        return np.sqrt(np.log1p(np.exp(x)))
    assert score == "none"
    return x


def group_sums(sel, n_group):
    """Sum of the two best selection scores of each group (of the one, in groups of one)."""
    return np.sort(sel.reshape(n_group, -1), axis=1)[:, -2:].sum(axis=1)


def route(logits, k, score="softmax", bias=None, norm="renorm", n_group=1, n_used=1, scale=1.0):
    """One token: experts [k] in rank order, weights [k], margin, selection scores [E]."""
    p = score_of(logits, score)
    sel = p if bias is None else p + np.asarray(bias, dtype=np.float64)
    if n_group > 1:
        best = np.argsort(-group_sums(sel, n_group), kind="stable")[:n_used]
        kept = np.zeros(n_group, dtype=bool)
        kept[best] = True
        sel = np.where(np.repeat(kept, len(p) // n_group), sel, -np.inf)
    order = np.argsort(-sel, kind="stable")
    experts, w = order[:k], p[order[:k]]
    margin = sel[order[k - 1]] - sel[order[k]] if k < len(p) else np.inf
    if norm == "renorm":
        w = w / max(w.sum(), CLAMP)
    elif norm == "softmax":
        w = np.exp(w - w.max()) / np.exp(w - w.max()).sum()
    elif norm == "sigmoid":
        w = 1 / (1 + np.exp(-w))
    return experts, w * scale, margin, sel


def robust(logits, bias, k, score, n_group, n_used):
    """Whether float32 arithmetic decides as float64 does."""
    p = score_of(logits, score)
    b = np.zeros_like(p) if bias is None else np.asarray(bias, dtype=np.float64)

    def clear(scores, sizes, ids, n):
        order = np.argsort(-scores, kind="stable")[:n + 1]
        for i, j in zip(order, order[1:]):
            gap = scores[i] - scores[j]
            if not np.array_equal(ids[i], ids[j]) and gap < 1e-5 * max(sizes[i], sizes[j]):
                return False
        return True

    size = np.abs(p) + np.abs(b)
    pairs = np.stack([np.asarray(logits, dtype=np.float64), b], axis=1)
    *_, sel = route(logits, k, score, bias, "raw", n_group, n_used)
    if not clear(sel, size, pairs, k):
        return False
    if n_group == 1:
        return True
    top = np.argsort(-(p + b).reshape(n_group, -1), axis=1, kind="stable")[:, :2]
    ids = np.stack([pairs.reshape(n_group, -1, 2)[g, top[g]].reshape(-1) for g in range(n_group)])
    return clear(group_sums(p + b, n_group), size.reshape(n_group, -1).max(axis=1) * 2, ids, n_used)


def draw(kind, e, k, rng):
    """Logits of one token. Coarse ones tie by themselves."""
    if kind == "fine":
        return (rng.standard_normal(e) * 2).astype(np.float32)
    if kind == "coarse":
        return (np.rint(rng.standard_normal(e) * 8) / 4).astype(np.float32)
    if kind == "equal":
        return np.full(e, 0.75, dtype=np.float32)
    if kind == "boundary":                      # ranks k-1 .. k+2 tie
        x = (np.rint(rng.standard_normal(e) * 64) / 32).astype(np.float32)
        order = np.argsort(-x, kind="stable")
        x[order[k - 1:k + 2]] = x[order[k - 1]]
        return x
    if kind == "low":                           # the sum of k sigmoids is below the clamp
        return (np.rint(rng.standard_normal(e) * 64) / 64 - 16).astype(np.float32)
    assert kind == "wide"                       # one expert takes nearly all
    x = (np.rint(rng.standard_normal(e) * 32) / 4).astype(np.float32)
    x[rng.integers(e)] = 40
    return x


KINDS = ["fine", "boundary", "coarse", "equal", "low", "wide", "coarse"]


def hexf(x):
    """C's %a, without trailing zeros."""
    s = float(x).hex()
    if "." in s:
        head, exp = s.split("p")
        s = head.rstrip("0").rstrip(".") + "p" + exp
    return s


def make_router_vectors(path):
    rng = np.random.default_rng(11)
    cases = [(spec, size) for spec in SPECS for size in SIZES]
    cases.append((("softmax", 0, "renorm", 0, 1.0), (8, 8, 1, 1, 3)))       # every expert chosen
    cases.append((("softmax", 0, "renorm", 0, 1.0), (8, 1, 1, 1, 3)))       # weight always 1
    cases += [(("none", 0, "sigmoid", 0, 1.0), size) for size in SIZES]     # Llama 4
    lines = [f"router {len(cases)}"]
    for (score, has_bias, norm, limited, scale), (e, k, ng, nu, tokens) in cases:
        ng, nu = (ng, nu) if limited else (1, 1)
        bias = (np.rint(rng.standard_normal(e) * 8) / 64).astype(np.float32) if has_bias else None
        lines.append(f"case {score} {has_bias} {norm} {ng} {nu} {hexf(scale)} {e} {k} {tokens}")
        if has_bias:
            lines.append("bias " + " ".join(map(hexf, bias)))
        for t in range(tokens):
            x = draw(KINDS[t], e, k, rng)
            tries = 0
            while not robust(x, bias, k, score, ng, nu):
                tries += 1
                x = draw("fine" if tries > 50 else KINDS[t], e, k, rng)
                assert tries < 1000, (score, norm, e, KINDS[t])
            experts, w, margin, _ = route(x, k, score, bias, norm, ng, nu, scale)
            lines += ["logits " + " ".join(map(hexf, x)), "experts " + " ".join(map(str, experts)),
                      "weights " + " ".join(hexf(np.float32(v)) for v in w),
                      "margin " + hexf(np.float32(margin))]
    text = "\n".join(lines) + "\n"
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    print(f"{path}: {len(text)} bytes, {len(cases)} cases")
