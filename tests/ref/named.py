"""Writes files of named arrays, which tests/unit/named.h reads:

    case NAME
    array NAME COUNT NUMBERS...
    end
"""
import numpy as np


def number(x):
    """Exactly, and shortly where single precision holds it."""
    return f"{x:.9g}" if float(np.float32(x)) == x else f"{x:.17g}"


def text_of(cases):
    """cases: (name, {array name: numbers})."""
    lines = []
    for name, arrays in cases:
        lines.append(f"case {name}")
        for key, value in arrays.items():
            flat = np.asarray(value, dtype=np.float64).ravel()
            lines.append(f"array {key} {len(flat)} " + " ".join(map(number, flat)))
        lines.append("end")
    return "\n".join(lines) + "\n"


def write(path, cases):
    text = text_of(cases)
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    print(f"{path}: {len(text)} bytes, {len(cases)} cases")
