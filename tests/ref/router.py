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

    router.py                       writes tests/data/router_batch.txt (format: named.py)

No vector depends on how a sum was rounded: scores that decide something are either equal by
construction (equal logits and biases) or apart by 1e-5 of their size.
"""
import itertools
import math
import os
import sys

import numpy as np

import named

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


# ---------------------------------------------------------------- routers that look at a batch
# Written from the papers (numbers in include/moescope/route.h). What is drawn comes from
# xoshiro256** seeded by splitmix64 (Blackman and Vigna), so that draws are the same everywhere.
MASK = (1 << 64) - 1
BATCH_OUT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data",
                                          "router_batch.txt"))


def split(x):
    """One output of splitmix64 whose state is x."""
    x = (x + 0x9e3779b97f4a7c15) & MASK
    x = ((x ^ (x >> 30)) * 0xbf58476d1ce4e5b9) & MASK
    x = ((x ^ (x >> 27)) * 0x94d049bb133111eb) & MASK
    return x ^ (x >> 31)


class Xoshiro:
    def __init__(self, seed):
        self.s = [split((seed + i * 0x9e3779b97f4a7c15) & MASK) for i in range(4)]

    def unit(self):
        def turn(x, k):
            return ((x << k) | (x >> (64 - k))) & MASK
        s = self.s
        out = (turn((s[1] * 5) & MASK, 7) * 9) & MASK
        t = (s[1] << 17) & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = turn(s[3], 45)
        return (out >> 11) * 2.0 ** -53

    def normal(self):
        while True:
            u, v = 2 * self.unit() - 1, 2 * self.unit() - 1
            r = u * u + v * v
            if 0 < r < 1:
                return u * math.sqrt(-2 * math.log(r) / r)


def softmax_rows(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def best(row, k):
    return [int(i) for i in np.argsort(-row, kind="stable")[:k]]


def queue(picks, E, cap):
    """First choices of all tokens, then second ones: which picks find room."""
    used, sent = [0] * E, {}
    for r in range(max((len(p) for p in picks), default=0)):
        for t, p in enumerate(picks):
            if r < len(p) and p[r] is not None:
                sent[t, r] = used[p[r]] < cap
                used[p[r]] += sent[t, r]
    return sent


def switch(z, E, k, cf=1.25):
    p = softmax_rows(z)
    picks = [best(row, 1) for row in p]
    sent = queue(picks, E, math.ceil(len(z) / E * cf - 1e-9))
    return picks, [[p[t, e] for e in row] for t, row in enumerate(picks)], \
        [[0 if sent[t, 0] else 1] for t in range(len(z))]


def top2(z, E, cf, random_second, rng):
    p, T = softmax_rows(z), len(z)
    picks = [best(row, 2) for row in p]
    gates = [[p[t, a] / (p[t, a] + p[t, b]), p[t, b] / (p[t, a] + p[t, b])]
             for t, (a, b) in enumerate(picks)]
    drawn = [not random_second or 2 * g[1] > rng.unit() for g in gates]
    sent = queue([[a, b if d else None] for (a, b), d in zip(picks, drawn)], E,
                 math.ceil(2 * T / E * cf - 1e-9))
    fate = [[0 if sent[t, 0] else 1, 2 if not drawn[t] else 0 if sent[t, 1] else 1] for t in range(T)]
    return picks, gates, fate


def noisy(z, k, std, rng):
    picks, gates = [], []
    for row in z:
        h = row + np.array([std * rng.normal() for _ in row])
        picks.append(best(h, k))
        e = np.exp(h[picks[-1]] - h.max())
        gates.append(e / e.sum())
    return picks, gates, [[0] * k for _ in z]


def two_level(z, k, groups, used):
    picks, gates = [], []
    for row in z:
        p = np.exp(row - row.max()).reshape(groups, -1)
        mass, ids, w = p.sum(axis=1), [], []
        for g in best(mass, used):
            inside = best(p[g], k // used)
            ids += [g * p.shape[1] + i for i in inside]
            w += list(mass[g] * p[g][inside] / p[g][inside].sum())
        chosen = best(mass, used)
        picks.append(ids)
        gates.append(np.array(w) / mass[chosen].sum())
    return picks, gates, [[0] * k for _ in z]


def sinkhorn(z, k, tol=1e-4, eps=1e-8):
    cost, (T, E) = np.exp(z - z.max(axis=1, keepdims=True)), z.shape
    d1 = np.ones(E)
    for _ in range(1000):
        d0 = 1 / T / ((cost * d1).sum(axis=1) + eps)
        new = 1 / E / ((d0[:, None] * cost).sum(axis=0) + eps)
        moved, d1 = np.abs(new - d1).mean(), new
        if moved <= tol:
            break
    plan, p = cost * d1, softmax_rows(z)
    picks = [best(row, k) for row in plan]
    return picks, [p[t][row] for t, row in enumerate(picks)], [[0] * k for _ in z]


def assign(cost):
    """Column of each row [n][m], n <= m, for the least sum: Kuhn's Hungarian method with potentials."""
    n, m = cost.shape
    u, v, row_of, way = np.zeros(n + 1), np.zeros(m + 1), np.zeros(m + 1, int), np.zeros(m + 1, int)
    for i in range(1, n + 1):
        row_of[0], j0 = i, 0
        least, used = np.full(m + 1, np.inf), np.zeros(m + 1, bool)
        while True:
            used[j0] = True
            here = cost[row_of[j0] - 1] - u[row_of[j0]] - v[1:]
            better = ~used[1:] & (here < least[1:])
            least[1:][better], way[1:][better] = here[better], j0
            j1 = 1 + int(np.argmin(np.where(used[1:], np.inf, least[1:])))
            delta = least[j1]
            np.add.at(u, row_of[used], delta)
            v[used] -= delta
            least[~used] -= delta
            j0 = j1
            if row_of[j0] == 0:
                break
        while j0:
            row_of[j0], j0 = row_of[way[j0]], way[j0]
    out = np.zeros(n, int)
    for j in range(1, m + 1):
        if row_of[j]:
            out[row_of[j] - 1] = j - 1
    return out


def base(z):
    """BASE: at most ceil(T/E) tokens for each expert, the largest sum of logits."""
    T, E = z.shape
    room = math.ceil(T / E)
    picks = assign(np.repeat(-z, room, axis=1)) // room
    return ([[int(e)] for e in picks], [[1 / (1 + math.exp(-z[t, e]))] for t, e in enumerate(picks)],
            [[0] for _ in z])


def expert_choice(z, k, cf=1.0):
    p, (T, E) = softmax_rows(z), z.shape
    cap = min(T, math.ceil(T * k / E * cf - 1e-9))
    chosen = [[] for _ in range(T)]
    for e in range(E):
        for t in best(p[:, e], cap):
            chosen[t].append(e)
    picks = [sorted(row, key=lambda e, t=t: (-p[t, e], e)) for t, row in enumerate(chosen)]
    return picks, [[p[t, e] for e in row] for t, row in enumerate(picks)], [[0] * len(r) for r in picks]


def hashed(tokens, E, seed):
    """The first output of splitmix64 from (seed xor id)."""
    picks = [[split(seed ^ t) % E] for t in tokens]
    return picks, [[1.0] for _ in picks], [[0] for _ in picks]


def sigmoid_top(z, k, bias, groups=1, used=1):
    rows = [route(row, k, "sigmoid", bias, "renorm", groups, used) for row in z]
    return [list(map(int, r[0])) for r in rows], [r[1] for r in rows], [[0] * k for _ in z]


def clear_columns(z, k):
    """Do float32 and float64 agree on which tokens an expert takes?"""
    p, (T, E) = softmax_rows(z), z.shape
    cap = min(T, math.ceil(T * k / E - 1e-9))
    order = np.sort(-p, axis=0)
    return cap >= T or bool((np.abs(order[cap - 1] - order[cap]) > 1e-5 * np.abs(order[cap])).all())


def make_batch_cases():
    rng, out = np.random.default_rng(83), []
    for T, E, k in ((24, 8, 2), (30, 16, 4), (17, 4, 1), (20, 32, 2)):
        lean = np.rint(rng.standard_normal(E) * 12) / 16
        while True:
            z = (rng.standard_normal((T, E)) * 1.5 + lean).astype(np.float32).astype(np.float64)
            if clear_columns(z, k) and np.diff(np.sort(z, axis=1), axis=1).min() > 1e-6:
                break
        tokens = rng.integers(0, 50000, T)
        groups = max(g for g in range(2, int(math.sqrt(E)) + 1) if E % g == 0 and E // g >= 2)
        for seed, number in ((1, 0), (7, 3)):
            def draws():
                return Xoshiro(split(seed) ^ number)
            cases = {
                "switch": switch(z, E, 1), "gshard": top2(z, E, 1.0, True, draws()),
                "glam": top2(z, E, 2.0, False, None), "noisy": noisy(z, k, math.log(2), draws()),
                "base": base(z), "sinkhorn": sinkhorn(z, k), "expert-choice": expert_choice(z, k),
                "hash": hashed(tokens.tolist(), E, seed),
                "loss-free": sigmoid_top(z, k, np.zeros(E)),
                "two-level": two_level(z, k, groups, 1 if k % 2 else 2),
            }
            if E >= 16:
                limit = max(g for g in range(2, 9) if E % g == 0 and E // g >= 2)
                cases["group-limited"] = sigmoid_top(z, k, None, limit, limit // 2)
            for name, (picks, gates, fate) in cases.items():
                if number and name not in ("gshard", "noisy", "hash"):
                    continue                            # nothing is drawn: the same again
                arrays = {"shape": [T, E, k, seed, number], "logits": z, "tokens": tokens,
                          "n_pick": [len(r) for r in picks], "experts": sum((list(r) for r in picks), []),
                          "weights": np.float32(np.concatenate([np.asarray(g, float) for g in gates])),
                          "fate": sum((list(f) for f in fate), [])}
                if name == "loss-free":
                    c = np.bincount(np.ravel(picks), minlength=E)
                    arrays["bias"] = 0.001 * np.sign(c.mean() - c)
                out.append((name, arrays))
    return out


def batch_self_check():
    z = np.random.default_rng(2).standard_normal((64, 8))
    picks, _, _ = expert_choice(z, 2)
    assert np.bincount(sum(picks, []), minlength=8).tolist() == [16] * 8    # balanced by construction
    skewed = z + np.linspace(0, 3, 8)
    assert np.bincount(np.ravel(base(skewed)[0]), minlength=8).tolist() == [8] * 8
    few = np.random.default_rng(3).standard_normal((6, 3))
    best_sum = max(sum(few[t, e] for t, e in enumerate(p)) for p in itertools.product(range(3), repeat=6)
                   if max(np.bincount(p)) <= 2)
    assert math.isclose(sum(few[t, e[0]] for t, e in enumerate(base(few)[0])), best_sum)
    plain = np.bincount(np.argmax(skewed, axis=1), minlength=8).max()
    assert np.bincount(np.ravel(sinkhorn(skewed, 1)[0]), minlength=8).max() < plain / 2
    # splitmix64's published first outputs for seed 1234567
    assert [split(1234567 + i * 0x9e3779b97f4a7c15 & MASK) for i in range(3)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423]


def make_batch_vectors(path=BATCH_OUT):
    named.write(path, make_batch_cases())


if __name__ == "__main__":
    batch_self_check()
    make_batch_vectors(*sys.argv[1:])
