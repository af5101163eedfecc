"""What-if questions, computed the slow and obvious way, and their vectors (tests/data/whatif.txt):
re-routing of picks that find no room, aged LFU and global caches, max-rank routing, placements that
are not EPLB (simulate.py has that), ranks and nodes that a token reaches, differences of two runs.

    whatif.py                       writes tests/data/whatif.txt (format: named.py)

Rules, where the literature leaves them open, are in src/sim/*.h; this file follows those words, not
that code.
"""
import math
import os

import numpy as np

import named
from simulate import cache_hits, dropped_picks, eplb, pack

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.normpath(os.path.join(HERE, "..", "data", "whatif.txt"))


# ---------------------------------------------------------------- capacity with re-routing
def rerouted(choices, logits, E, cap):
    """(fate, where): 0 kept, 1 dropped, 2 moved, of one batch. First every pick in order of position
    takes its place; then the left-over ones look, in the same order, for the token's best expert with
    room (without logits: the emptiest)."""
    T, k = choices.shape
    fate, where, used = np.zeros((T, k), int), choices.copy(), [0] * E
    for t in range(T):
        for r in range(k):
            if used[choices[t, r]] < cap:
                used[choices[t, r]] += 1
            else:
                fate[t, r] = 1
    for t in range(T):
        for r in range(k):
            if fate[t, r] != 1:
                continue
            free = [e for e in range(E) if used[e] < cap and e not in where[t]]
            if not free:
                continue
            key = (lambda e: (-logits[t, e], e)) if logits is not None else (lambda e: (used[e], e))
            best = min(free, key=key)
            fate[t, r], where[t, r] = 2, best
            used[best] += 1
    return fate, where


# ---------------------------------------------------------------- caches
def lfu_aged_hits(accesses, n_key, slots, every=16):
    held, hits, last, uses = set(), 0, {}, [0] * n_key
    for i, a in enumerate(accesses):
        uses[a] += 1
        if a in held:
            hits += 1
        else:
            if len(held) == slots:
                held.remove(min(held, key=lambda e: (uses[e], last[e])))
            held.add(a)
        last[a] = i
        if (i + 1) % (every * n_key) == 0:
            uses = [u // 2 for u in uses]
    return hits


def max_rank(choices, logits, slots, j, m):
    """LRU cache; the ranking of a token: its recorded choice, then the rest by logit. Returns the
    chosen sets, hits, and the mean KL(softmax renormalised on the set || softmax), nats."""
    T, k = choices.shape
    E = logits.shape[1]
    held, hits, out, kl = [], 0, [], []             # held: least recently used first
    for t in range(T):
        rest = sorted(set(range(E)) - set(choices[t].tolist()), key=lambda e: (-logits[t, e], e))
        rank = choices[t].tolist() + rest
        first = rank[:j]
        first += [e for e in rank[j:m] if e in held][:k - len(first)]
        first += [e for e in rank if e not in first][:k - len(first)]
        for e in first:
            if e in held:
                hits += 1
                held.remove(e)
            elif len(held) == slots:
                held.pop(0)
            held.append(e)
        p = np.exp(logits[t] - logits[t].max())
        p /= p.sum()
        out.append(first)
        kl.append(-math.log(p[first].sum()))
    return np.array(out), hits, float(np.mean(kl))


# ---------------------------------------------------------------- placement
def greedy(load, ranks):
    slots = [None] * len(load)
    room = len(load) // ranks
    for e, (rank, place) in enumerate(pack(list(load), ranks)):
        slots[rank * room + place] = e
    return slots


def round_robin(E, ranks):
    return [e for r in range(ranks) for e in range(E) if e % ranks == r]


def coactive(load, together, ranks, slack=1.1):
    E, members, weight = len(load), [[] for _ in range(ranks)], [0.0] * ranks
    limit = slack * sum(load) / ranks
    for e in sorted(range(E), key=lambda e: (-load[e], e)):
        free = [r for r in range(ranks) if len(members[r]) < E // ranks]
        fits = [r for r in free if weight[r] + load[e] <= limit]
        ties = {r: sum(together[e][x] for x in members[r]) for r in fits}
        best = max(fits, key=lambda r: (ties[r], -r)) if fits else None
        if best is None or ties[best] == 0:
            best = min(free, key=lambda r: (weight[r], r))
        members[best].append(e)
        weight[best] += load[e]
    return [e for m in members for e in m]


def reach(choices, where, ranks, nodes):
    """Mean distinct ranks and nodes of a token; the i-th token of the trace takes replica i mod n."""
    room, n_rank, n_node = len(where) // ranks, 0, 0
    for t, row in enumerate(choices):
        got = set()
        for e in row:
            copies = [i for i, x in enumerate(where) if x == e]
            got.add(copies[t % len(copies)] // room)
        n_rank += len(got)
        n_node += len({r // (ranks // nodes) for r in got})
    return n_rank / len(choices), n_node / len(choices)


# ---------------------------------------------------------------- the vector file
def trace(T, E, k, skew, rng):
    """Choices by rank and coarse logits without ties."""
    z = rng.gumbel(size=(T, E)) - skew * np.log(np.arange(1, E + 1))[rng.permutation(E)]
    z = np.argsort(np.argsort(z, axis=1), axis=1) / 8 + np.rint(z * 2) / 4
    return np.argsort(-z, axis=1, kind="stable")[:, :k], z


def make_cases():
    rng, out = np.random.default_rng(47), []
    for T, E, k, cf in ((40, 8, 2, 1.0), (64, 16, 4, 1.25), (24, 4, 1, 1.0), (12, 8, 2, .5)):
        ids, z = trace(T, E, k, 1, rng)
        cap = math.ceil(T * k / E * cf - 1e-9)
        for name, logits in (("scores", z), ("blind", None)):
            fate, where = rerouted(ids, logits, E, cap)
            out.append((f"reroute_{name}", {"shape": [T, E, k, cap], "choices": ids, "logits": z,
                                            "fate": fate, "to": where}))
    for T, E, k, slots, skew in ((200, 8, 2, 3, 1), (300, 16, 4, 6, .5), (150, 4, 1, 1, .2)):
        ids, z = trace(T, E, k, skew, rng)
        flat = ids.ravel()
        out.append(("cache", {"shape": [T, E, k, slots], "keys": flat, "hits": [
            cache_hits(flat, E, slots, "lru"), cache_hits(flat, E, slots, "lfu"),
            lfu_aged_hits(flat, E, slots), cache_hits(flat, E, slots, "static"),
            cache_hits(flat, E, slots, "belady")]}))
        for j, m in ((0, k), (1, min(E, 2 * k)), (k, E), (0, E)):
            sets, hits, kl = max_rank(ids, z, max(slots, k), j, m)
            out.append(("max_rank", {"shape": [T, E, k, max(slots, k), j, m], "choices": ids,
                                     "logits": z, "sets": sets, "hits": [hits], "kl": [kl]}))
    for T, E, k, ranks, nodes, skew in ((80, 16, 2, 4, 2, 1), (60, 32, 4, 8, 2, .5), (50, 8, 2, 8, 4, 1)):
        ids, _ = trace(T, E, k, skew, rng)
        load = np.bincount(ids.ravel(), minlength=E)
        together = np.zeros((E, E), int)
        for row in ids:
            for a in row:
                for b in row:
                    together[a, b] += a != b
        arrays = {"shape": [T, E, k, ranks, nodes], "choices": ids}
        for name, where in (("round_robin", round_robin(E, ranks)), ("contiguous", list(range(E))),
                            ("greedy", greedy(load, ranks)),
                            ("coactive", coactive(load, together, ranks))):
            assert sorted(where) == list(range(E))
            per = load[np.array(where)].reshape(ranks, -1).sum(axis=1)
            arrays[name] = where
            arrays[name + "_figures"] = [per.max() / per.mean(), *reach(ids, where, ranks, nodes)]
        where = eplb(load.tolist(), E + ranks, 1, 1, ranks)
        share = np.array([load[e] / where.count(e) for e in where]).reshape(ranks, -1).sum(axis=1)
        arrays["eplb"] = where
        arrays["eplb_figures"] = [share.max() / share.mean(), *reach(ids, where, ranks, nodes)]
        out.append(("placement", arrays))
    return out


def self_check():
    ids, z = trace(200, 8, 2, 1, np.random.default_rng(5))
    # Keeping all k is the recorded routing; a cache that holds everything only misses once each.
    sets, hits, _ = max_rank(ids, z, 4, 2, 8)
    assert np.array_equal(sets, ids) and hits == cache_hits(ids.ravel(), 8, 4, "lru")
    assert max_rank(ids, z, 8, 0, 2)[1] == ids.size - len(set(ids.ravel().tolist()))
    # With room for everything nothing moves; without any, all that finds no room is dropped.
    fate, where = rerouted(ids, z, 8, 400)
    assert not fate.any() and np.array_equal(where, ids)
    fate, _ = rerouted(ids, z, 8, 10)
    assert (fate != 1).sum() == 80
    assert ((fate > 0) == dropped_picks(ids, None, 8, 200, 10 * 8 / 400, "position")).all()
    assert lfu_aged_hits(ids.ravel(), 8, 8) == ids.size - len(set(ids.ravel().tolist()))


def make_whatif_vectors(path=OUT):
    named.write(path, make_cases())


if __name__ == "__main__":
    self_check()
    make_whatif_vectors()
