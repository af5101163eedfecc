"""Recomputes what `stat` says from the arrays that `export --format npz` writes, with metrics.py.

    npz_stat.py FILE.npz LAYERS.json EXPERTS.json LOCALITY.json COACTIVATION.json ROUTING.csv

The JSON files are `stat --json` without more, --by expert, --locality and --coactivation; ROUTING.csv is
SELECT layer, expert, count(*) FROM routing GROUP BY 1, 2. Prints how many figures agree; exit status 1
and a line per disagreement if any does not.
"""
import csv
import json
import math
import sys

import numpy as np

import metrics

bad = good = 0


def same(what, got, want, tolerance=1e-9):
    global bad, good
    if got is None or not math.isclose(got, want, rel_tol=tolerance, abs_tol=1e-12):
        print(f"{what}: the program says {got}, recomputed {want}")
        bad += 1
    else:
        good += 1


def main():
    z = np.load(sys.argv[1])
    layers, experts, locality, coact = (json.load(open(p)) for p in sys.argv[2:6])
    routing = {(int(r[0]), int(r[1])): int(r[2]) for r in list(csv.reader(open(sys.argv[6])))[1:]}
    at = elogit = 0
    for i, (layer, E, k) in enumerate(zip(z["layers"], z["n_expert"], z["k"])):
        E, k = int(E), int(k)
        x, w = z["experts"][:, at:at + k], z["weights"][:, at:at + k].astype(np.float64)
        m = metrics.load(x, E)
        name = f"layer {layer}"
        c = metrics.counts(x, E)
        for key in ("tokens", "experts", "k", "max_mean", "max_vio", "cv", "gini", "entropy_norm", "n_eff",
                    "n2", "dead", "cold", "coverage90", "top_expert", "top_rate"):
            same(f"{name} {key}", layers[i][key], m[key])
        if "logits" in z:
            r = metrics.router(x, z["logits"][:, elogit:elogit + E])
            for key in ("aux_loss", "z_loss", "token_entropy", "mi_token", "confidence"):
                same(f"{name} {key}", layers[i][key], r[key], 1e-5)
        same(f"{name} margin", layers[i]["margin"], z["margins"][:, i].astype(np.float64).mean(), 1e-6)
        for e in range(E):
            row = next(r for r in experts if r["layer"] == layer and r["expert"] == e)
            same(f"{name} expert {e} count", row["count"], c[e])
            same(f"{name} expert {e} count in npz", int(z["counts"][i][e]), c[e])
            same(f"{name} expert {e} count in routing", routing.get((layer, e), 0), c[e])
            same(f"{name} expert {e} weight_sum", row["weight_sum"], w[x == e].sum(), 1e-8)
            same(f"{name} expert {e} weight_sum in npz", z["weight_sums"][i][e], w[x == e].sum(), 1e-8)
        loc = metrics.locality(x, z["sequence"])
        for key, want in loc.items():
            same(f"{name} locality {key}", locality[i][key], want)
        n, adjacent = metrics.coactivation(x, E), metrics.coactivation(x, E, True)
        rows = [r for r in coact if r["layer"] == layer]
        same(f"{name} pairs listed", len(rows), int((n > 0).sum()))
        for r in rows:
            same(f"{name} pair {r['i']},{r['j']}", r["count"], n[r["i"], r["j"]])
            same(f"{name} P({r['j']}|{r['i']})", r["p_j_given_i"], n[r["i"], r["j"]] / c[r["i"]])
            same(f"{name} adjacent {r['i']},{r['j']}", r["p_adjacent"],
                 adjacent[r["i"], r["j"]] / c[r["i"]])
        at, elogit = at + k, elogit + E
    print(f"{good} figures agree")
    return bad > 0


sys.exit(main())
