"""Compares two vector files of the same model and tokens.

    compare.py A.vec B.vec

Prints the largest difference of the logits (absolute, and relative to A's standard deviation),
of the router logits and of the weights where the sets agree, how many (token, layer) choose
different sets, and A's largest margin among those. Exit status 0 if the logits agree within 1e-3
of their standard deviation and every differing set has a margin below 1e-5, else 1; 2 if the
files are not of the same tokens and shape.

From the first differing set on, a token's activations are another computation; a flip of a close
decision is told from an error by its margin, and then the logits need not agree.
"""
import sys

import numpy as np

from forward import Vec

LOGIT_REL, MARGIN = 1e-3, 1e-5


def compare(a, b):
    """Two Vec -> dict of figures."""
    if not np.array_equal(a.tokens, b.tokens) or a.logits.shape != b.logits.shape:
        raise ValueError("not the same tokens or vocabulary")
    if sorted(a.routing) != sorted(b.routing):
        raise ValueError(f"MoE layers {sorted(a.routing)} and {sorted(b.routing)}")
    r = {"abs": float(np.abs(a.logits - b.logits).max()), "router": 0.0, "weights": 0.0,
         "sets": 0, "order": 0, "decisions": 0, "margin": 0.0,
         "rms": float(np.sqrt(np.mean((a.logits.astype(float) - b.logits) ** 2)))}
    r["rel"] = r["abs"] / float(a.logits.std())
    for layer, (la, ea, wa, ma) in a.routing.items():
        lb, eb, wb, _ = b.routing[layer]
        differ = (np.sort(ea, axis=1) != np.sort(eb, axis=1)).any(axis=1)
        same = (ea == eb).all(axis=1)
        r["decisions"] += len(ea)
        r["sets"] += int(differ.sum())
        r["order"] += int((~same & ~differ).sum())
        r["router"] = max(r["router"], float(np.abs(la - lb).max()))
        if same.any():
            r["weights"] = max(r["weights"], float(np.abs(wa - wb)[same].max()))
        if differ.any():
            r["margin"] = max(r["margin"], float(ma[differ].max()))
    r["ok"] = (r["rel"] <= LOGIT_REL or r["sets"] > 0) and r["margin"] < MARGIN
    return r


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        r = compare(Vec(sys.argv[1]), Vec(sys.argv[2]))
    except ValueError as e:
        print(f"{sys.argv[1]}, {sys.argv[2]}: {e}", file=sys.stderr)
        sys.exit(2)
    print(f"logits max |d| {r['abs']:.2e} (rel {r['rel']:.2e}, rms {r['rms']:.2e})  "
          f"router {r['router']:.2e}  weights {r['weights']:.2e}  "
          f"sets {r['sets']}/{r['decisions']} differ, worst margin {r['margin']:.1e}, "
          f"{r['order']} only in order  {'ok' if r['ok'] else 'DIFFERENT'}")
    sys.exit(0 if r["ok"] else 1)


if __name__ == "__main__":
    main()
