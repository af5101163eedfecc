"""Recomputes what `stat`, `whatif` and `diff` say from the arrays that `export --format npz` writes, with
metrics.py and simulate.py.

    npz_stat.py DIR

DIR has a.npz and b.npz of two runs over the same tokens; of the first one layers, experts, domains,
locality, coactivation, cross, vocabulary, npmi, specialisation and alarms.json (`stat --json` and its
options), capacity and cache.json (`whatif --json`; of capacity with the batches that the file says),
routing.csv (SELECT layer, expert, count(*) FROM routing GROUP BY 1, 2) and names.csv (SELECT id, name FROM
domain); and diff.json. What the program draws at random (bootstrap, shuffled labels) is drawn here by
other numbers and must agree as closely as two sets of 200 draws can. Prints how many figures agree; exit
status 1 and a line per disagreement if any does not.
"""
import csv
import json
import math
import os
import sys

import numpy as np

import metrics
import simulate

ROUNDS = 2000  # of the resamples here
bad = good = 0


def same(what, got, want, tolerance=1e-9, least=1e-12):
    global bad, good
    if want is None or (isinstance(want, float) and math.isnan(want)):
        fine = got is None
    else:
        fine = got is not None and math.isclose(got, want, rel_tol=tolerance, abs_tol=least)
    bad, good = bad + (not fine), good + fine
    if not fine:
        print(f"{what}: the program says {got}, recomputed {want}")


class Run:
    def __init__(self, path):
        z = self.z = np.load(path)
        self.shape = [(int(a), int(b), int(c)) for a, b, c in zip(z["layers"], z["n_expert"], z["k"])]
        self.at = np.concatenate([[0], np.cumsum(z["k"])])
        self.score_at = np.concatenate([[0], np.cumsum(z["n_expert"])])

    def picks(self, i):
        return self.z["experts"][:, self.at[i]:self.at[i + 1]]

    def weights(self, i):
        return self.z["weights"][:, self.at[i]:self.at[i + 1]].astype(np.float64)

    def scores(self, i):
        return self.z["logits"][:, self.score_at[i]:self.score_at[i + 1]] if "logits" in self.z else None


LOAD = ("tokens", "experts", "k", "max_mean", "max_vio", "cv", "gini", "entropy_norm", "n_eff", "n2", "dead",
        "cold", "coverage90", "top_expert", "top_rate")


def balance(name, row, x, logits, margins, E):
    m = metrics.load(x, E)
    for key in LOAD:
        same(f"{name} {key}", row[key], m[key])
    if logits is not None:
        r = metrics.router(x, logits)
        for key in ("aux_loss", "z_loss", "token_entropy", "mi_token", "confidence"):
            same(f"{name} {key}", row[key], r[key], 1e-5)
    same(f"{name} margin", row["margin"], margins.astype(np.float64).mean(), 1e-6)


def layers(run, t):
    for i, (layer, E, _) in enumerate(run.shape):
        balance(f"layer {layer}", t["layers"][i], run.picks(i), run.scores(i), run.z["margins"][:, i], E)


def domains(run, t, names):
    of = {v: k for k, v in names.items()}
    for row in t["domains"]:
        i = next(i for i, s in enumerate(run.shape) if s[0] == row["layer"])
        here = run.z["domain"] == of.get(row["domain"], 0)
        logits = run.scores(i)
        balance(f"{row['domain']} layer {row['layer']}", row, run.picks(i)[here],
                None if logits is None else logits[here], run.z["margins"][here, i], run.shape[i][1])
    same("rows by domain", len(t["domains"]), len(names) * len(run.shape))


def experts(run, t, routing):
    for i, (layer, E, _) in enumerate(run.shape):
        x, w = run.picks(i), run.weights(i)
        c = metrics.counts(x, E)
        for e in range(E):
            name = f"layer {layer} expert {e}"
            row = next(r for r in t["experts"] if r["layer"] == layer and r["expert"] == e)
            same(f"{name} count", row["count"], c[e])
            same(f"{name} rate", row["rate"], c[e] / len(x))
            same(f"{name} rel_load", row["rel_load"], c[e] * E / c.sum())
            same(f"{name} count in npz", int(run.z["counts"][i][e]), c[e])
            same(f"{name} count in routing", routing.get((layer, e), 0), c[e])
            same(f"{name} weight_sum", row["weight_sum"], w[x == e].sum(), 1e-8)
            same(f"{name} weight_sum in npz", run.z["weight_sums"][i][e], w[x == e].sum(), 1e-8)


def locality(run, t):
    for i, (layer, E, k) in enumerate(run.shape):
        row, uniform = t["locality"][i], metrics.uniform(E, k)
        for key, want in metrics.locality(run.picks(i), run.z["sequence"]).items():
            same(f"layer {layer} locality {key}", row[key], want)
            if key in uniform:
                same(f"layer {layer} locality {key}_uniform", row[key + "_uniform"], uniform[key])


def coactivation(run, t):
    for i, (layer, E, k) in enumerate(run.shape):
        x = run.picks(i)
        c, n = metrics.counts(x, E), metrics.coactivation(x, E)
        adjacent = metrics.coactivation(x, E, True)
        rows = [r for r in t["coactivation"] if r["layer"] == layer]
        same(f"layer {layer} pairs listed", len(rows), int((n > 0).sum()))
        for r in rows:
            name, a, b = f"layer {layer} pair {r['i']},{r['j']}", r["i"], r["j"]
            same(name, r["count"], n[a, b])
            same(f"{name} P", r["p_j_given_i"], n[a, b] / c[a])
            same(f"{name} adjacent", r["p_adjacent"], adjacent[a, b] / c[a])
            same(f"{name} uniform", r["p_uniform"], metrics.uniform(E, k)["coactivation"])


def cross(run, t):
    for i in range(len(run.shape) - 1):
        (layer, E, k), (_, E2, k2) = run.shape[i], run.shape[i + 1]
        a, b, row = run.picks(i), run.picks(i + 1), t["cross"][i]
        n = metrics.cross_layer(a, b, max(E, E2))[:E, :E2]
        name, T = f"layer {layer} to the next", len(a)
        same(f"{name}: mi", row["mi"], metrics.mutual_information(n))
        same(f"{name}: bias", row["mi_bias"], metrics.miller_madow(E, E2, T * k * k2))
        ca, cb = metrics.counts(a, E), metrics.counts(b, E2)
        lift = np.where(n >= 8, n * T / np.maximum(np.outer(ca, cb), 1), 0)
        i0, j0 = np.unravel_index(np.argmax(lift), lift.shape)
        if lift.max() > 0:
            same(f"{name}: largest lift", row["p_j_given_i"] / row["p_j"], lift[i0, j0])
            same(f"{name}: count", row["count"], n[row["i"], row["j"]])
            same(f"{name}: P(j|i)", row["p_j_given_i"], n[row["i"], row["j"]] / ca[row["i"]])
            same(f"{name}: P(j)", row["p_j"], cb[row["j"]] / T)


def followed(run):
    """Of every token: the id at the next position of its sequence, -1 = none."""
    z = run.z
    out = np.full(len(z["token"]), -1, dtype=np.int64)
    next_one = (z["sequence"][1:] == z["sequence"][:-1]) & (z["position"][1:] == z["position"][:-1] + 1)
    out[:-1][next_one] = z["token"][1:][next_one]
    return out


def vocabulary(run, t):
    seen, n = np.unique(run.z["token"], return_counts=True)
    kept = seen[n >= 8]
    for i, (layer, E, _) in enumerate(run.shape):
        row, x = t["vocabulary"][i], run.picks(i)
        for by, ids in (("", run.z["token"]), ("next_", followed(run))):
            here = [h for h in (ids == v for v in kept) if h.any()]
            among, name = np.isin(ids, kept), f"layer {layer} vocabulary {by}"
            same(f"{name}ids", row[by + "ids"], len(here))
            same(f"{name}tokens", row[by + "tokens"], int(among.sum()))
            for key, part in (("first", x[:, :1]), ("any", x)):
                share = [metrics.counts(part[h], E).max() / h.sum() for h in here]
                same(f"{name}{key}", row[by + key], float(np.mean(share)))
                same(f"{name}{key}_all", row[f"{by}{key}_all"],
                     metrics.counts(part[among], E).max() / among.sum())


def npmi(run, t, names):
    ids = [d for d, _ in sorted(names.items(), key=lambda p: p[1])]
    for i, (layer, E, _) in enumerate(run.shape):
        x, of = run.picks(i), run.z["domain"]
        n = np.array([metrics.counts(x[of == d], E) for d in ids])
        want = metrics.npmi(n)
        for a, d in enumerate(ids):
            here, risk = of == d, metrics.risk_difference(x, of, d, E)
            n1, n2 = here.sum(), (~here).sum()
            for r in (r for r in t["npmi"] if r["layer"] == layer and r["domain"] == names[d]):
                e, name = r["expert"], f"layer {layer} {names[d]} expert {r['expert']}"
                p1, p2 = n[a, e] / n1, (n[:, e].sum() - n[a, e]) / n2
                half = 1.959963984540054 * math.sqrt(p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2)
                same(f"{name} nPMI", r["npmi"], float(want[a, e]) if n[:, e].any() else math.nan)
                same(f"{name} risk", r["risk_difference"], risk[e], 1e-9, 1e-10)
                same(f"{name} risk from", r["risk_lo"], risk[e] - half, 1e-6, 1e-7)
                same(f"{name} risk to", r["risk_hi"], risk[e] + half, 1e-6, 1e-7)


def mi_rows(tables):
    """MI in bits of each of tables [rounds][D][E]."""
    p = tables / tables.sum(axis=(1, 2), keepdims=True)
    q = p.sum(axis=2, keepdims=True) * p.sum(axis=1, keepdims=True)
    return np.where(p > 0, p * np.log2(np.where(p > 0, p, 1) / np.where(q > 0, q, 1)), 0).sum(axis=(1, 2))


def near(what, got, want, spread, often):
    """Within `often` standard errors of a figure that 200 draws of this spread give."""
    same(what, got, want, 0, often * spread / math.sqrt(200))


def specialisation(run, t, names):
    rng = np.random.default_rng(5)
    z = run.z
    ids = [d for d, _ in sorted(names.items(), key=lambda p: p[1])]
    label = {d: i for i, d in enumerate(ids)}
    docs = np.unique(z["document"])
    of = np.array([label[int(z["domain"][z["document"] == d][0])] for d in docs])
    D = len(ids)
    for i, (layer, E, k) in enumerate(run.shape):
        x, row, name = run.picks(i), t["specialisation"][i], f"layer {layer}"
        c = np.array([metrics.counts(x[z["document"] == d], E) for d in docs])
        n = np.array([c[of == d].sum(axis=0) for d in range(D)])
        mi = metrics.mutual_information(n)
        same(f"{name} mi_domain", row["mi_domain"], mi)
        same(f"{name} nmi_domain", row["nmi_domain"],
             mi * math.log(2) / metrics.entropy(n.sum(axis=1) / n.sum()))
        same(f"{name} bias", row["bias"], metrics.miller_madow(D, E, n.sum()))
        p = n / n.sum(axis=1, keepdims=True)
        for a in range(D):
            for b in range(a + 1, D):
                same(f"{name} JSD {a},{b}", row[f"jsd[{names[ids[a]]}/{names[ids[b]]}]"],
                     metrics.jsd(p[a], p[b])[0], 1e-8)
        # Bootstrap: documents with replacement inside their domain.
        boot = np.zeros((ROUNDS, D, E))
        for d in range(D):
            mine = np.flatnonzero(of == d)
            draw = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), ROUNDS)
            boot[:, d] = draw @ c[mine]
        drawn = mi_rows(boot)
        shift, sd = drawn.mean() - mi, drawn.std()
        near(f"{name} mi_lo", row["mi_lo"], max(0, np.quantile(drawn, .025) - shift), sd, 14)
        near(f"{name} mi_hi", row["mi_hi"], np.quantile(drawn, .975) - shift, sd, 14)
        # Labels shuffled over whole documents.
        null = np.zeros((ROUNDS, D, E))
        for r in range(ROUNDS):
            np.add.at(null[r], rng.permutation(of), c)
        shuffled = mi_rows(null)
        near(f"{name} null_mean", row["null_mean"], shuffled.mean(), shuffled.std(), 5)
        near(f"{name} null_p95", row["null_p95"], np.quantile(shuffled, .95), shuffled.std(), 12)
        # The strongest cell: its expert, its interval, what the strongest of shuffled labels reaches.
        d, e = [names[v] for v in ids].index(row["strongest_domain"]), row["strongest_expert"]
        same(f"{name} strongest expert", e, int(np.argmax(n[d])))
        same(f"{name} rel_load", row["rel_load"], p[d, e] * E)
        rel = boot[:, d, e] * E / boot[:, d].sum(axis=1)
        near(f"{name} rel_lo", row["rel_lo"], np.quantile(rel, .025), rel.std(), 14)
        near(f"{name} rel_hi", row["rel_hi"], np.quantile(rel, .975), rel.std(), 14)
        top = null[:, d].max(axis=1) * E / null[:, d].sum(axis=1)
        near(f"{name} rel_null_p95", row["rel_null_p95"], np.quantile(top, .95), top.std(), 12)
        # Token-matched: ids that other domains have too.
        here, chose = z["domain"] == ids[d], (x == e).sum(axis=1)
        shared = here & np.isin(z["token"], z["token"][~here])
        same(f"{name} token_share", row["token_share"], shared.sum() / here.sum())
        same(f"{name} token_rel", row["token_rel"], chose[shared].sum() * E / (shared.sum() * k))
        expect = sum((z["token"][shared] == v).sum() * chose[~here & (z["token"] == v)].mean()
                     for v in np.unique(z["token"][shared]))
        same(f"{name} token_control", row["token_control"], expect * E / (shared.sum() * k))


def capacity(run, rows):
    """First come and largest weight first, in batches; tenths are those of a batch."""
    for factor, policy in sorted({(r["factor"], r["policy"]) for r in rows if r["policy"] != "reroute"}):
        mine = {r["layer"]: r for r in rows if (r["factor"], r["policy"]) == (factor, policy)}
        picks = lost = all_lost = tokens = weight = weight_lost = 0
        share = {}
        for i, (layer, E, k) in enumerate(run.shape):
            x, w, row, name = run.picks(i), run.weights(i), mine[layer], f"capacity {factor} {policy} layer {layer}"
            out = simulate.dropped_picks(x, w, E, row["batch"], factor, policy)
            start = np.arange(len(x)) // row["batch"] * row["batch"]
            tenth = 10 * (np.arange(len(x)) - start) // np.minimum(row["batch"], len(x) - start)
            same(f"{name} dropped", row["dropped"], out.mean())
            same(f"{name} tokens lost", row["tokens_lost"], out.all(axis=1).mean())
            same(f"{name} weight lost", row["lost_weight"], w[out].sum() / w.sum(), 1e-6)
            for d in range(10):
                same(f"{name} tenth {d}", row[f"decile{d}"], out[tenth == d].mean())
            share[layer] = out.mean()
            picks, lost, tokens = picks + out.size, lost + out.sum(), tokens + len(x)
            all_lost += out.all(axis=1).sum()
            weight, weight_lost = weight + w.sum(), weight_lost + w[out].sum()
        row, name = mine[None], f"capacity {factor} {policy} pooled"
        same(f"{name} dropped", row["dropped"], lost / picks)
        same(f"{name} tokens lost", row["tokens_lost"], all_lost / tokens)
        same(f"{name} weight lost", row["lost_weight"], weight_lost / weight, 1e-6)
        same(f"{name} worst layer", row["worst_dropped"], max(share.values()))
        same(f"{name} of which", share[row["worst_layer"]], max(share.values()))


def nearer(keys):
    """Of every access: how many other keys were used since the last one of its own; inf at the first."""
    last, out = {}, []
    for i, key in enumerate(keys):
        out.append(len(set(keys[last[key] + 1:i])) if key in last else math.inf)
        last[key] = i
    return np.array(out)


def cache(run, rows):
    """LRU by its stack distance: a hit where fewer other keys than slots came between. And static."""
    pooled = {}
    for i, (layer, E, k) in enumerate(run.shape):
        keys = run.picks(i).ravel().tolist()
        distance, often = nearer(keys), np.sort(metrics.counts(run.picks(i), E))[::-1]
        for row in (r for r in rows if r["layer"] == layer and r["policy"] in ("lru", "static")):
            name = f"cache {row['policy']} {row['slots']} of layer {layer}"
            hits = (distance < row["slots"]).sum() if row["policy"] == "lru" else often[:row["slots"]].sum()
            same(f"{name}: hits", row["hits"], hits)
            same(f"{name}: hit rate", row["hit_rate"], hits / len(keys))
            same(f"{name}: misses per token", row["misses_per_token"], (len(keys) - hits) * k / len(keys))
            same(f"{name}: uniform", row["uniform"], row["slots"] / E)
            key = row["policy"], row["slots"] * len(run.shape)
            pooled[key] = pooled.get(key, 0) + hits
    for row in (r for r in rows if r["layer"] is None and r["policy"] in ("lru", "static")):
        same(f"cache {row['policy']} {row['slots']} of all: hits", row["hits"],
             pooled[row["policy"], row["slots"]])


def coins(a, q):
    """KL between two coins, nats."""
    return sum(x * math.log(x / y) for x, y in ((a, q), (1 - a, 1 - q)) if x > 0)


def alarms(run, rows):
    """The rules about a layer's load and about a batch's end: which fire, and with which value."""
    want = {}
    for i, (layer, E, k) in enumerate(run.shape):
        x = run.picks(i)
        c, T, q = metrics.counts(x, E), len(x), k / E
        few, cold = max(k, math.ceil(E / 10 - 1e-9)), [n for n in c if n / c.mean() < 0.1]
        if c.max() / c.mean() >= 2 and E * math.exp(-T * coins(c.max() / T, q)) <= 1e-3:
            most = np.sort(c)[::-1][:few].sum() >= c.sum() / 2 and c.max() / c.mean() >= 3
            want["collapse", layer] = "alarm" if most else "warning", c.max() / c.mean()
        if (c == 0).any() and E * (1 - q) ** T <= 1e-3:
            want["dead", layer] = "alarm" if (c == 0).mean() >= .1 else "warning", (c == 0).mean()
        if len(cold) > (c == 0).sum() and E * math.exp(-T * coins(max(cold) / T, q)) <= 1e-3:
            want["cold", layer] = "note", len(cold) - (c == 0).sum()
        full = x[:T // 512 * 512]
        if len(full):
            out = simulate.dropped_picks(full, None, E, 512, 1.25, "position")
            tenth = np.arange(len(full)) % 512 * 10 // 512
            first, last = out[tenth == 0].mean(), out[tenth == 9].mean()
            full_by_chance = math.exp(-512 * k * coins(math.ceil(512 * q * 1.25 - 1e-9) / (512 * k), 1 / E))
            chance = (tenth == 9).sum() * coins(last, full_by_chance) if last > full_by_chance else 0
            if last - first >= .5 and math.exp(-chance) <= 1e-3:
                want["tail", layer] = "warning" if last - first >= .75 else "note", last - first
    got = {(r["kind"], r["layer"]): r for r in rows}
    for key in got.keys() | want.keys():
        severity, value = want.get(key, ("none", math.nan))
        name = f"alarm {key[0]} of layer {key[1]}"
        same(f"{name}: severity is {severity}", float(severity == got.get(key, {}).get("severity")), 1)
        same(f"{name}: value", got.get(key, {}).get("value"), value)


def diff(a, b, rows):
    key = [{(s, p): i for i, (s, p) in enumerate(zip(r.z["sequence"].tolist(), r.z["position"].tolist()))}
           for r in (a, b)]
    both = [(i, key[1][w]) for w, i in key[0].items() if w in key[1] and
            a.z["token"][i] == b.z["token"][key[1][w]]]
    ia, ib = np.array(both).T
    last, L = rows[-1], len(a.shape)
    want = metrics.difference(*(np.stack([r.picks(i)[at] for i in range(L)], axis=1)
                                for r, at in ((a, ia), (b, ib))))
    same("diff matched", last["matched"], len(both))
    same("diff mismatch of all", last["mismatch"], want["mismatch_all"])
    same("diff tokens touched", last["token_mismatch"], want["tokens_differing"])
    same("diff first layer", last["first_layer"], a.shape[want["first_divergent"]][0])
    for i, (layer, E, _) in enumerate(a.shape):
        ca, cb = metrics.counts(a.picks(i), E), metrics.counts(b.picks(i), E)
        p, q = ca / ca.sum(), cb / cb.sum()
        same(f"diff {layer} jsd", rows[i]["jsd"], metrics.jsd(p, q)[0], 1e-8)
        same(f"diff {layer} l1", rows[i]["l1"], np.abs(p - q).sum())
        same(f"diff {layer} mismatch", rows[i]["mismatch"], want["mismatch"][i])
        same(f"diff {layer} saturation", rows[i]["saturation"], want["saturation"][i])
        moved = cb / len(b.picks(i)) - ca / len(a.picks(i))
        same(f"diff {layer} shift", abs(rows[i]["top_shift"]), np.abs(moved).max())


def main():
    here = sys.argv[1]
    names = ("layers", "experts", "domains", "locality", "coactivation", "cross", "vocabulary", "npmi",
             "specialisation", "alarms", "capacity", "cache", "diff")
    t = {n: json.load(open(os.path.join(here, n + ".json"))) for n in names}
    table = {n: list(csv.reader(open(os.path.join(here, n + ".csv"))))[1:] for n in ("routing", "names")}
    run, other = (Run(os.path.join(here, n + ".npz")) for n in "ab")
    domain = {int(a): b for a, b in table["names"]}
    layers(run, t)
    domains(run, t, domain)
    experts(run, t, {(int(r[0]), int(r[1])): int(r[2]) for r in table["routing"]})
    locality(run, t)
    coactivation(run, t)
    cross(run, t)
    vocabulary(run, t)
    npmi(run, t, domain)
    specialisation(run, t, domain)
    alarms(run, t["alarms"])
    capacity(run, t["capacity"])
    cache(run, t["cache"])
    diff(run, other, t["diff"])
    print(f"{good} figures agree")
    return bad > 0


sys.exit(main())
