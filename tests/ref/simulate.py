"""Independent simulators, and their test vectors (tests/data/sim.txt): capacity of one batch,
expert caches, placement of experts on ranks.

    simulate.py                     writes tests/data/sim.txt

Rules, where the literature leaves them open:
  capacity   C = ceil(T k / E * CF) for each batch of at most B tokens, T its own token count; every
             expert keeps C of its picks and drops the rest: `position` keeps the earliest tokens,
             `probs` those of the greatest weight (ties: the earliest).
  cache      of one layer, accesses one by one, token after token, ranks in order, demand loads, no
             bypass; empty at first. LRU; LFU counts every access since the start, also of experts
             not held, and evicts the least counted, among these the least recently used; Belady
             evicts the one needed latest (never again: latest of all; ties: the lowest id); static
             holds the most used experts (ties: the lowest id) from the start, and never loads.
  EPLB       as DeepSeek published it; ties to the lowest index.

The file (text, white space between tokens, numbers for strtod):
    sim 1
    capacity T E K B CF
      choices IDS... weights NUMBERS...             T * K of each, rank order
      drop POLICY dropped tokens_all_lost fraction decile0 .. decile9
                  decile d: share of the picks dropped of the tokens with 10 t / T in [d, d + 1)
    cache T E K SLOTS
      choices IDS...
      hits LRU LFU BELADY STATIC                    of T * K accesses
    eplb E PHYSICAL GROUPS NODES GPUS
      weights NUMBERS...
      map IDS...                                    physical -> logical, PHYSICAL of them
      balance mean/max                              of the GPUs' loads
    end
"""
import math
import os

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.normpath(os.path.join(HERE, "..", "data", "sim.txt"))


# ---------------------------------------------------------------- capacity
def dropped_picks(choices, weights, E, batch, cf, policy):
    """bool [T][k]: the picks that find their expert full."""
    T, k = choices.shape
    out = np.zeros((T, k), dtype=bool)
    for start in range(0, T, batch):
        n = min(batch, T - start)
        cap = math.ceil(n * k / E * cf - 1e-9)
        for e in range(E):
            picks = [(t, r) for t in range(start, start + n) for r in range(k) if choices[t, r] == e]
            if policy == "probs":
                picks.sort(key=lambda p: -weights[p])       # stable: earlier tokens first
            for p in picks[cap:]:
                out[p] = True
    return out


def drop_figures(out):
    T, k = out.shape
    decile = [10 * t // T for t in range(T)]
    share = [out[[t for t in range(T) if decile[t] == d]].mean() for d in range(10)]
    return [int(out.sum()), int(out.all(axis=1).sum()), out.sum() / (T * k), *share]


# ---------------------------------------------------------------- expert cache
def cache_hits(accesses, E, slots, policy):
    accesses = list(accesses)
    if policy == "static":
        held = sorted(range(E), key=lambda e: (-accesses.count(e), e))[:slots]
        return sum(a in held for a in accesses)
    held, hits, last, uses = set(), 0, {}, [0] * E
    for i, a in enumerate(accesses):
        uses[a] += 1
        if a in held:
            hits += 1
        else:
            if len(held) == slots:
                held.remove(victim(held, policy, last, uses, accesses, i))
            held.add(a)
        last[a] = i
    return hits


def victim(held, policy, last, uses, accesses, now):
    if policy == "lru":
        return min(held, key=lambda e: last[e])
    if policy == "lfu":
        return min(held, key=lambda e: (uses[e], last[e]))

    def next_use(e):
        return next((i for i in range(now + 1, len(accesses)) if accesses[i] == e), math.inf)
    return min(held, key=lambda e: (-next_use(e), e))


# ---------------------------------------------------------------- placement
def pack(weights, packs):
    """Heaviest first, each to the lightest pack with room: (pack, place in it) of each item."""
    room = len(weights) // packs
    if room == 1:
        return [(i, 0) for i in range(len(weights))]
    load, items, out = [0.0] * packs, [0] * packs, [None] * len(weights)
    for i in sorted(range(len(weights)), key=lambda i: -weights[i]):
        p = min((p for p in range(packs) if items[p] < room), key=lambda p: load[p])
        out[i] = (p, items[p])
        load[p] += weights[i]
        items[p] += 1
    return out


def replicate(weights, physical):
    """Experts with the largest load per replica get the spare places: (logical ids, replicas)."""
    count, ids = [1] * len(weights), list(range(len(weights)))
    while len(ids) < physical:
        best = max(range(len(weights)), key=lambda e: weights[e] / count[e])
        count[best] += 1
        ids.append(best)
    return ids, count


def eplb(weights, physical, groups, nodes, gpus):
    """Physical -> logical map of one layer, GPU by GPU."""
    if groups % nodes:
        groups, nodes = 1, 1
    E = len(weights)
    size, per_node = E // groups, groups // nodes
    where = pack([sum(weights[g * size:(g + 1) * size]) for g in range(groups)], nodes)
    local = [[None] * (E // nodes) for _ in range(nodes)]   # the logical experts of each node
    for g, (node, place) in enumerate(where):
        assert place < per_node
        local[node][place * size:(place + 1) * size] = range(g * size, (g + 1) * size)
    out = []
    for mine in local:
        ids, count = replicate([weights[e] for e in mine], physical // nodes)
        share = [weights[mine[i]] / count[i] for i in ids]
        slots = [None] * len(ids)
        room = len(ids) // (gpus // nodes)
        for i, (gpu, place) in enumerate(pack(share, gpus // nodes)):
            slots[gpu * room + place] = mine[ids[i]]
        out += slots
    return out


def gpu_balance(weights, where, gpus):
    load = [weights[e] / where.count(e) for e in where]
    per = np.array(load).reshape(gpus, -1).sum(axis=1)
    return per.mean() / per.max()


# ---------------------------------------------------------------- the vector file
def choices_of(T, E, k, rng, skew):
    z = rng.gumbel(size=(T, E)) - skew * np.log(np.arange(1, E + 1))[rng.permutation(E)]
    ids = np.argsort(-z, axis=1)[:, :k]
    w = np.exp(np.take_along_axis(z, ids, 1))
    return ids, np.rint(w / w.sum(axis=1, keepdims=True) * 4096) / 4096


def numbers(a):
    return " ".join(f"{float(x):.17g}" for x in np.ravel(a))


def make_sim_vectors(path=OUT):
    rng = np.random.default_rng(31)
    lines = ["sim 1"]
    for T, E, k, batch, cf, skew in ((40, 8, 2, 40, 1.0, 1), (40, 8, 2, 16, 1.25, 1),
                                     (64, 16, 4, 32, 1.0, .7), (30, 8, 1, 30, 0.5, 1)):
        ids, w = choices_of(T, E, k, rng, skew)
        lines += [f"capacity {T} {E} {k} {batch} {cf}", "choices " + " ".join(map(str, ids.ravel())),
                  "weights " + numbers(w)]
        for policy in ("position", "probs"):
            lines.append(f"drop {policy} "
                         + numbers(drop_figures(dropped_picks(ids, w, E, batch, cf, policy))))
    for T, E, k, slots, skew in ((60, 8, 2, 3, 1), (60, 16, 4, 6, .5), (100, 16, 2, 8, 0)):
        ids, _ = choices_of(T, E, k, rng, skew)
        hits = [cache_hits(ids.ravel(), E, slots, p) for p in ("lru", "lfu", "belady", "static")]
        assert hits[2] == max(hits[:3])
        lines += [f"cache {T} {E} {k} {slots}", "choices " + " ".join(map(str, ids.ravel())),
                  "hits " + " ".join(map(str, hits))]
    published = [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86]
    for weights, shape in ((published, (16, 4, 2, 8)), (published, (16, 1, 1, 8)),
                           (rng.integers(1, 1000, 64).tolist(), (80, 8, 4, 16)),
                           (rng.integers(1, 1000, 32).tolist(), (32, 4, 1, 8))):
        where = eplb(weights, *shape)
        assert set(where) == set(range(len(weights)))
        lines += [f"eplb {len(weights)} " + " ".join(map(str, shape)), "weights " + numbers(weights),
                  "map " + " ".join(map(str, where)),
                  f"balance {gpu_balance(weights, where, shape[-1]):.17g}"]
    text = "\n".join(lines + ["end"]) + "\n"
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    print(f"{path}: {len(text)} bytes")


def self_check():
    """The published example, and uniform access: any policy hits c / N."""
    w = [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86]
    where = eplb(w, 16, 4, 2, 8)
    assert where == [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1], where
    assert abs(gpu_balance(w, where, 8) - .827724) < 1e-6, gpu_balance(w, where, 8)
    x = np.random.default_rng(1).integers(0, 16, 20000)
    for policy in ("lru", "lfu"):
        assert abs(cache_hits(x, 16, 4, policy) / len(x) - 4 / 16) < 0.01


if __name__ == "__main__":
    self_check()
    make_sim_vectors()
