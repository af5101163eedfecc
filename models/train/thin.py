#!/usr/bin/env python3
"""Thins a training log: the mean over each run of neighbouring rows, at most ROWS rows.

    thin.py LOG.tsv ROWS > OUT.tsv

step, tokens, seconds and lr are those of the last row of a run, everything else is averaged.
"""
import sys

with open(sys.argv[1], encoding="ascii") as f:
    head, *rows = [line.rstrip("\n").split("\t") for line in f]
per = -(-len(rows) // int(sys.argv[2]))
print("\t".join(head))
for i in range(0, len(rows), per):
    part = rows[i:i + per]
    means = [sum(float(r[c]) for r in part) / len(part) for c in range(4, len(head))]
    print("\t".join(part[-1][:4] + [f"{m:.4f}" for m in means]))
