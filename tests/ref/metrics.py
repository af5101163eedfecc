"""Independent recomputation of the metrics from plain arrays, and their test vectors.

Functions take the choices of one MoE layer, experts [T][k] in rank order, and where needed its
router logits [T][E], a sequence number [T] (tokens of one sequence stand in order) and a domain
[T]. Written from the formulas as they stand, without a thought for speed.

    metrics.py                      writes tests/data/metrics.txt
    metrics.py FILE.vec             prints the load and router metrics of a vector file

The layout of metrics.txt (text, tokens separated by white space, numbers for strtod):

    metrics 1
    uniform E K first any overlap jaccard coactivation      closed forms, one line per (E, K)
    table NAME TOKENS LAYERS E K HAS_LOGITS DOMAINS
    token SEQ DOMAIN IDS...         LAYERS * K ids, layer by layer, in rank order
    logits TOKEN LAYER NUMBERS...   E numbers, if HAS_LOGITS
    scalar NAME LAYER VALUE         an expected figure; layer -1: over all layers
    matrix NAME LAYER ROWS COLS VALUES...   row by row
    end                             of the table

Names are the JSON keys where the command line has one. MI and JSD are in bits; jsd_norm has none.
"""
import itertools
import math
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.normpath(os.path.join(HERE, "..", "data", "metrics.txt"))


# ---------------------------------------------------------------- load balance
def counts(experts, E):
    return np.array([(experts == e).sum() for e in range(E)], dtype=np.int64)


def entropy(p):
    """Nats; 0 ln 0 = 0."""
    p = np.asarray(p, dtype=np.float64).ravel()
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def gini(c):
    s, E = sorted(float(x) for x in c), len(c)
    return 2 * sum(i * x for i, x in enumerate(s, 1)) / (E * sum(s)) - (E + 1) / E


def coverage(c, share):
    """How many experts, largest first, it takes to reach this share of the picks."""
    total, need, got = int(sum(c)), 0, 0
    for x in sorted(c, reverse=True):
        if got >= share * total - 1e-9:
            break
        got, need = got + int(x), need + 1
    return need


def load(experts, E):
    T, k = experts.shape
    c = counts(experts, E)
    mean, p = T * k / E, c / (T * k)
    H = entropy(p)
    m = {
        "tokens": T, "experts": E, "k": k,
        "max_mean": c.max() / mean,
        "max_vio": c.max() / mean - 1,
        "cv": math.sqrt(sum((x - mean) ** 2 for x in c) / E) / mean,
        "gini": gini(c),
        "entropy_norm": H / math.log(E),
        "n_eff": math.exp(H),
        "n2": 1 / float((p ** 2).sum()),
        "dead": float((c == 0).mean()),
        "cold": float((c / mean < 0.1).mean()),
        "coverage90": coverage(c, 0.9),
        "top_expert": int(c.argmax()),              # ties: the lowest id
        "top_rate": c.max() / T,
        "share_top1": np.sort(c)[::-1][:1].sum() / (T * k),
        "share_top4": np.sort(c)[::-1][:4].sum() / (T * k),
        "p_zero_if_uniform": (1 - k / E) ** T,      # chance of no pick for one expert
    }
    assert abs(m["cv"] ** 2 - (E / m["n2"] - 1)) < 1e-9
    return m


def balancedness(count_rows, ranks):
    """Experts placed on ranks in contiguous runs. count_rows [layers][E] -> figures."""
    r = [np.asarray(c, dtype=np.float64).reshape(ranks, -1).sum(axis=1) for c in count_rows]
    per = [x.mean() / x.max() for x in r]
    return {
        "balancedness_sglang": sum((x.mean() + 1e-5) / (x.max() + 1e-5) for x in r) / len(r),
        "balancedness_vllm": sum(x.mean() for x in r) / sum(x.max() for x in r),
        "balancedness_vllm_min": min(per),
        "balancedness_vllm_avg": sum(per) / len(per),
    }


# ---------------------------------------------------------------- router
def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def router(experts, logits):
    """Metrics of a softmax router. Margin and confidence are on the softmax scores."""
    T, k = experts.shape
    logits = np.asarray(logits, dtype=np.float64)
    E, p = logits.shape[1], softmax(logits)
    f = counts(experts, E) / (T * k)
    top = logits.max(axis=1)
    lse = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    ranked = -np.sort(-p, axis=1)
    margin = ranked[:, k - 1] - ranked[:, k]
    each = sum(entropy(row) for row in p) / T
    return {
        "aux_loss": E * float((f * p.mean(axis=0)).sum()),
        "z_loss": float((lse ** 2).mean()),
        "token_entropy": each / math.log(E),
        "mi_token": (entropy(p.mean(axis=0)) - each) / math.log(2),
        "confidence": float(np.take_along_axis(p, experts, 1).sum(axis=1).mean()),
        "margin": float(margin.mean()),
        "margin_rel": float((margin / ranked[:, k - 1]).mean()),
        "margin_min": float(margin.min()),
    }


def bias_update(c, u, bias=0.0):
    """Loss-free balancing: one step."""
    return bias + u * np.sign(np.mean(c) - np.asarray(c))


# ---------------------------------------------------------------- locality
def locality(experts, seq):
    k, n = experts.shape[1], 0
    first = some = overlap = jaccard = 0.0
    for t in range(1, len(experts)):
        if seq[t] != seq[t - 1]:
            continue
        a, b = set(experts[t - 1].tolist()), set(experts[t].tolist())
        n += 1
        first += experts[t - 1][0] == experts[t][0]
        some += bool(a & b)
        overlap += len(a & b) / k
        jaccard += len(a & b) / len(a | b)
    return {"pairs": n, "first": first / n, "any": some / n, "overlap": overlap / n,
            "jaccard": jaccard / n}


def uniform(E, k):
    """What locality and co-activation are when every set of k is equally likely."""
    sets = math.comb(E, k)
    shared = [math.comb(k, j) * math.comb(E - k, k - j) / sets for j in range(k + 1)]
    return {"first": 1 / E, "any": 1 - shared[0], "overlap": k / E,
            "jaccard": sum(p * j / (2 * k - j) for j, p in enumerate(shared)),
            "coactivation": (k - 1) / (E - 1)}


# ---------------------------------------------------------------- co-activation
def coactivation(experts, E, adjacent=False):
    """N_ij [E][E], symmetric, diagonal 0: tokens that chose both (adjacent: in neighbouring ranks)."""
    n = np.zeros((E, E), dtype=np.int64)
    for row in experts:
        pairs = zip(row, row[1:]) if adjacent else itertools.combinations(row, 2)
        for i, j in pairs:
            n[i, j] += 1
            n[j, i] += 1
    return n


def rows_over(n, c):
    """N_ij / N_i, 0 where N_i is."""
    c = np.asarray(c, dtype=np.float64)[:, None]
    return np.divide(n, c, out=np.zeros(n.shape), where=c > 0)


def cross_layer(a, b, E):
    """N_ij: tokens that chose i in layer a and j in layer b."""
    n = np.zeros((E, E), dtype=np.int64)
    for x, y in zip(a, b):
        n[np.ix_(x, y)] += 1
    return n


def mutual_information(n):
    """Bits, of a table of counts."""
    p = np.asarray(n, dtype=np.float64) / np.sum(n)
    out, px, py = 0.0, p.sum(axis=1), p.sum(axis=0)
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            if p[i, j] > 0:
                out += p[i, j] * math.log2(p[i, j] / (px[i] * py[j]))
    return out


# ---------------------------------------------------------------- domains
def domain_counts(experts, domain, E, D, first_only=False):
    """Picks [D][E]."""
    chosen = experts[:, :1] if first_only else experts
    return np.array([counts(chosen[domain == d], E) for d in range(D)])


def jsd(p, q):
    """(bits, normalised): the second is nats over its largest value for these entropies."""
    m = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    return m / math.log(2), m / (math.log(len(p)) - (entropy(p) + entropy(q)) / 2)


def miller_madow(D, E, n):
    """Bias of the MI of n independent samples, bits."""
    return (D - 1) * (E - 1) / (2 * n * math.log(2))


def npmi(n):
    """Of each (domain, expert); -1 where they never meet."""
    p = np.asarray(n, dtype=np.float64) / np.sum(n)
    px, py = p.sum(axis=1), p.sum(axis=0)
    out = -np.ones(p.shape)
    for i, j in zip(*np.nonzero(p)):
        out[i, j] = math.log2(p[i, j] / (px[i] * py[j])) / -math.log2(p[i, j])
    return out


def risk_difference(experts, domain, d, E):
    """Share of domain d's tokens that chose each expert, less that of all other tokens."""
    here, rest = experts[domain == d], experts[domain != d]
    return counts(here, E) / len(here) - counts(rest, E) / len(rest)


def doc_labels(seq, domain):
    docs = sorted(set(seq.tolist()))
    return docs, [int(domain[seq == s][0]) for s in docs]


def null_mi(experts, seq, domain, E, D):
    """MI(domain; expert) of every distinct way to deal the labels to the documents, ascending."""
    docs, labels = doc_labels(seq, domain)
    out = []
    for deal in sorted(set(itertools.permutations(labels))):
        of = dict(zip(docs, deal))
        shuffled = np.array([of[s] for s in seq.tolist()])
        out.append(mutual_information(domain_counts(experts, shuffled, E, D)))
    return sorted(out)


def bootstrap_mi(experts, seq, domain, E, D, n, rng):
    """MI of n resamples of the documents, with replacement within a domain; sorted."""
    docs, labels = doc_labels(seq, domain)
    out = []
    for _ in range(n):
        total = np.zeros((D, E))
        for d in range(D):
            mine = [s for s, x in zip(docs, labels) if x == d]
            for s in rng.choice(mine, len(mine)):
                total[d] += counts(experts[seq == s], E)
        out.append(mutual_information(total))
    return sorted(out)


# ---------------------------------------------------------------- two runs
def difference(a, b):
    """a, b [T][L][k], the same tokens. Saturation (mean overlap/k) and where sets differ."""
    T, L, k = a.shape
    same = np.array([[set(a[t, i].tolist()) == set(b[t, i].tolist()) for i in range(L)]
                     for t in range(T)])
    overlap = [[len(set(a[t, i].tolist()) & set(b[t, i].tolist())) / k for i in range(L)]
               for t in range(T)]
    first = [int(np.argmin(row)) for row in same if not row.all()]
    return {"saturation": np.mean(overlap, axis=0), "mismatch": 1 - same.mean(axis=0),
            "mismatch_all": 1 - same.mean(), "tokens_differing": 1 - same.all(axis=1).mean(),
            "first_divergent": min(first) if first else -1}


# ---------------------------------------------------------------- the vector file
def top_k(logits, k):
    return np.argsort(-softmax(logits.astype(np.float64)), axis=1, kind="stable")[:, :k]


class Table:
    """choices [T][L][k]; logits [T][L][E] or None; seq, domain [T]."""

    def __init__(self, name, choices, E, seq, domain, logits=None):
        self.name, self.choices, self.E, self.logits = name, choices, E, logits
        self.seq, self.domain = np.asarray(seq), np.asarray(domain)

    def lines(self):
        T, L, k = self.choices.shape
        D = int(self.domain.max()) + 1
        yield f"table {self.name} {T} {L} {self.E} {k} {int(self.logits is not None)} {D}"
        for t in range(T):
            ids = " ".join(map(str, self.choices[t].ravel()))
            yield f"token {self.seq[t]} {self.domain[t]} {ids}"
        if self.logits is not None:
            for t, i in itertools.product(range(T), range(L)):
                yield f"logits {t} {i} " + " ".join(f"{x:g}" for x in self.logits[t, i])
        for name, layer, value in self.expected(D):
            value = np.asarray(value, dtype=np.float64)
            if value.ndim == 0:
                yield f"scalar {name} {layer} {value:.17g}"
            else:
                value = np.atleast_2d(value)
                yield (f"matrix {name} {layer} {value.shape[0]} {value.shape[1]} "
                       + " ".join(f"{x:.17g}" for x in value.ravel()))
        yield "end"

    def expected(self, D):
        E, (T, L, k) = self.E, self.choices.shape
        layers = [self.choices[:, i] for i in range(L)]
        all_counts = [counts(x, E) for x in layers]
        for i, x in enumerate(layers):
            c = all_counts[i]
            yield "count", i, c
            yield "rate", i, c / T
            yield "rel_load", i, c * E / (T * k)
            yield from ((n, i, v) for n, v in load(x, E).items())
            if self.logits is not None:
                yield from ((n, i, v) for n, v in router(x, self.logits[:, i]).items())
            yield "bias_update_0.001", i, bias_update(c, 0.001)
            yield from ((n, i, v) for n, v in locality(x, self.seq).items())
            n = coactivation(x, E)
            yield "coactivation_count", i, n
            yield "coactivation", i, rows_over(n, c)
            yield "coactivation_adjacent", i, rows_over(coactivation(x, E, True), c)
            if i + 1 < L:
                n = cross_layer(x, layers[i + 1], E)
                yield "cross_count", i, n           # from layer i to i + 1
                yield "cross", i, rows_over(n, c)   # P(j in the next layer's set | i in this one's)
                yield "cross_mi", i, mutual_information(n)
            if D > 1:
                yield from self.domain_figures(i, x, D)
        for ranks in (2, 4):
            for n, v in balancedness(all_counts, ranks).items():
                yield f"{n}_{ranks}", -1, v

    def domain_figures(self, i, x, D):
        E, (T, k) = self.E, x.shape
        n = domain_counts(x, self.domain, E, D)
        tokens = np.array([(self.domain == d).sum() for d in range(D)])
        mi = mutual_information(n)
        null = null_mi(x, self.seq, self.domain, E, D)
        yield "domain_count", i, n
        yield "specialisation_all", i, rows_over(n, tokens)
        yield "specialisation_1", i, rows_over(domain_counts(x, self.domain, E, D, True), tokens)
        yield "mi_domain", i, mi
        yield "nmi_domain", i, mi / (entropy(n.sum(axis=1) / n.sum()) / math.log(2))
        yield "miller_madow", i, miller_madow(D, E, T * k)      # N = picks
        yield "null_exact", i, null
        yield "null_exact_mean", i, sum(null) / len(null)
        yield "npmi", i, npmi(n)
        p = n / n.sum(axis=1, keepdims=True)
        pairs = list(itertools.combinations(range(D), 2))
        yield "jsd", i, [jsd(p[a], p[b])[0] for a, b in pairs]          # pairs 01 02 .. 12 ..
        yield "jsd_norm", i, [jsd(p[a], p[b])[1] for a, b in pairs]
        for d in range(D):
            yield f"risk_difference_{d}", i, risk_difference(x, self.domain, d, E)


def make_tables():
    rng = np.random.default_rng(21)
    out = []
    # Small enough to check by hand: three sequences of four tokens, two layers, 4 experts, top-2.
    hand = np.array([[[0, 1], [2, 0]], [[1, 0], [2, 3]], [[0, 2], [0, 2]], [[0, 1], [1, 2]],
                     [[3, 0], [3, 1]], [[3, 1], [1, 3]], [[2, 3], [0, 1]], [[3, 2], [2, 1]],
                     [[0, 3], [2, 0]], [[0, 1], [0, 2]], [[1, 0], [2, 0]], [[1, 2], [3, 2]]])
    out.append(Table("hand", hand, 4, [0] * 4 + [1] * 4 + [2] * 4, [0] * 4 + [1] * 4 + [0] * 4))
    # With logits: 6 documents of 5 tokens in 2 domains, the second leaning to the upper experts.
    T, L, E, k = 30, 2, 8, 2
    seq, domain = np.repeat(np.arange(6), 5), np.repeat([0, 1, 0, 1, 1, 0], 5)
    lean = np.where(domain[:, None, None] == 1, np.linspace(-1, 1, E), np.linspace(1, -1, E))
    logits = np.rint((rng.standard_normal((T, L, E)) * 1.5 + lean * [[0.5], [1.5]]) * 16) / 16
    out.append(Table("mixed", np.stack([top_k(logits[:, i], k) for i in range(L)], 1), E, seq,
                     domain, logits))
    # Wider sets, three domains, uneven documents, no logits.
    sizes, labels = [3, 7, 5, 4, 6], [0, 1, 2, 0, 1]
    E, k, T = 16, 4, sum(sizes)
    z = rng.standard_normal((T, 3, E)) + rng.standard_normal(E)
    out.append(Table("wide", np.stack([top_k(z[:, i], k) for i in range(3)], 1), E,
                     np.repeat(np.arange(5), sizes), np.repeat(labels, sizes)))
    # The extremes: everything to two experts; a perfect round robin.
    out.append(Table("collapsed", np.tile([[[5, 2]]], (20, 1, 1)), 8, [0] * 20, [0] * 20))
    robin = np.array([[[(2 * t) % 8, (2 * t + 1) % 8]] for t in range(20)])
    out.append(Table("balanced", robin, 8, [0] * 20, [0] * 20))
    return out


def make_metric_vectors(path=OUT):
    lines = ["metrics 1"]
    for E, k in ((8, 2), (16, 2), (16, 4), (64, 8), (128, 8), (256, 8)):
        lines.append(f"uniform {E} {k} " + " ".join(f"{v:.17g}" for v in uniform(E, k).values()))
    for table in make_tables():
        lines += table.lines()
    text = "\n".join(lines) + "\n"
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    print(f"{path}: {len(text)} bytes, {len(make_tables())} tables")


def self_check():
    """Identities, and the published closed forms."""
    want = {(8, 2): (.1250, .464286, .2500, .17857, .1429), (64, 8): (.0156, .679069, .1250, .07054, .1111),
            (128, 8): (.0078, .412282, .0625, .03427, .0551), (256, 8): (.0039, .227087, .0312, .01690, .0275)}
    for (E, k), row in want.items():
        for got, w in zip(uniform(E, k).values(), row):
            assert abs(got - w) <= 0.51 * 10 ** -len(f"{w:.6f}".rstrip("0")[2:]) + 5e-5, (E, k, got, w)
    # Uniform routing, simulated, comes out at the closed forms.
    rng = np.random.default_rng(0)
    x = np.argsort(rng.random((20000, 8)), axis=1)[:, :2]
    u, m = uniform(8, 2), locality(x, np.zeros(20000))
    assert all(abs(m[key] - u[key]) < 0.01 for key in ("first", "any", "overlap", "jaccard"))
    assert abs(rows_over(coactivation(x, 8), counts(x, 8))[0, 1] - u["coactivation"]) < 0.01
    eye = np.eye(4, dtype=int)
    assert abs(mutual_information(eye) - 2) < 1e-12 and abs(jsd(eye[0], eye[1])[0] - 1) < 1e-12
    assert abs(jsd(eye[0], eye[1])[1] - math.log(2) / math.log(4)) < 1e-12
    assert load(np.tile([[0, 1]], (9, 1)), 8)["max_mean"] == 4


def print_vec(path):
    from forward import Vec
    v = Vec(path)
    for layer, (logits, experts, _, _) in v.routing.items():
        figures = {**load(experts, logits.shape[1]), **router(experts, logits)}
        print(f"layer {layer}: " + " ".join(f"{k}={x:.6g}" for k, x in figures.items()))


def main():
    self_check()
    if len(sys.argv) > 1:
        print_vec(sys.argv[1])
    else:
        make_metric_vectors()


if __name__ == "__main__":
    main()
