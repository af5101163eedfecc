"""Remakes every expected value under tests/data: one command, nothing else writes there.

    make_vectors.py [SAMPLE_DIR]

models/NAME.txt, NAME.vec   text, and what forward.py makes of it, for each tests/data/models/*.gguf
models/NAME-f16kv.vec, -q8_0kv.vec   the same text with rounded keys and values
models/balanced.*, collapsed.*   the same for SAMPLE_DIR/{balanced,collapsed}.gguf
                            (default: models/ of the repository; skipped where absent)
encode.bin                  numbers, and the errors that gguf_io's plain encoders leave
kernels.bin                 blocks of every quantisation type and the values they stand for
router.txt, router_batch.txt   the pure routing function; routers of batches
metrics.txt, sim.txt        choice tables and their metrics; the simulators
whatif.txt                  what-if questions
The layouts are in tests/data/README.md.
"""
import glob
import os
import struct
import sys

import numpy as np

from bpe import Tokenizer
from forward import Model, write_vec
from gguf_io import CODEC, TYPES, dequantise, quantise
from metrics import make_metric_vectors
from router import make_batch_vectors, make_router_vectors
from simulate import make_sim_vectors
from whatif import make_whatif_vectors

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.normpath(os.path.join(HERE, "..", "data"))
SAMPLES = os.path.normpath(os.path.join(HERE, "..", "..", "models"))

TINY_TEXT = "Route 42 tokens: 'naïve' load; x[i] += 7\n"
SAMPLE_TEXT = ("The court held that the patient's claim, filed in 1984, was void: int main(void) "
               "{ return 0; } und der Vertrag bleibt in Kraft")
SAMPLE_TOKENS = 16                      # a vocabulary of 4096 makes long vectors


def model_vectors(gguf, text, limit=None):
    """Writes NAME.txt and NAME.vec; with a limit, as many whole words as fit in it."""
    name = os.path.splitext(os.path.basename(gguf))[0]
    model = Model(gguf)
    tok = Tokenizer(model.g.kv)
    while limit and len(tok.encode(text)) > limit:
        text = text.rsplit(" ", 1)[0]
    ids = tok.encode(text)
    logits, routing = model.forward(ids)
    stem = os.path.join(DATA, "models", name)
    with open(stem + ".txt", "wb") as f:
        f.write(text.encode("utf-8"))
    write_vec(stem + ".vec", ids, logits, model.layers, routing)
    least = min((float(m.min()) for *_, m in routing.values()), default=float("nan"))
    print(f"{name}: {model.arch}, {len(ids)} tokens, logit std {logits.std():.2f}, "
          f"least margin {least:.1e}, {os.path.getsize(stem + '.vec')} bytes")


KV_MODEL, KV_TYPES = "qwen3moe", ("F16", "Q8_0")


def kv_vector(kv, path=None):
    """The model KV_MODEL with its keys and values kept in a type."""
    stem = os.path.join(DATA, "models", KV_MODEL)
    model = Model(stem + ".gguf", kv)
    ids = Tokenizer(model.g.kv).encode(open(stem + ".txt", "rb").read().decode("utf-8"))
    logits, routing = model.forward(ids)
    write_vec(path or f"{stem}-{kv.lower()}kv.vec", ids, logits, model.layers, routing)


# Byte offsets of the half-precision fields in a block, for blocks of random bytes.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208], "Q1_0": [0], "Q2_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0],
          "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64]}


def kernel_blocks(kind, rng):
    """A few blocks as bytes: quantised values where there is a forward codec, then bytes at random,
    then zeros and extremes."""
    per, size = TYPES[kind][1:]
    if per == 1:
        x = np.concatenate([rng.standard_normal(59), [0, -0.0, 65504, 6e-8, -1.5e-5]])
        return quantise(x, kind)
    forward = CODEC[kind][0] is not None
    out = quantise(rng.standard_normal((4, per)), kind) if forward else b""
    b = rng.integers(0, 256, (4, size), dtype=np.uint8)
    for at in HALVES.get(kind, []):
        d = rng.standard_normal(4).astype("<f2")
        d[3] = 6e-6                                     # a subnormal half
        b[:, at:at + 2] = d.view(np.uint8).reshape(4, 2)
    if kind == "MXFP4":
        b[:, 0] = [120, 131, 1, 0]                      # 1 and 0: subnormal floats
    if kind == "NVFP4":
        b[:, :4] = [[0x38, 0x01, 0x7E, 0x00], [0x7F, 0x40, 0x07, 0x08], [0x80, 0xFF, 0x81, 0x30],
                    [0x2B, 0x51, 0x66, 0x15]]          # subnormal, greatest, NaN's code, top bit set
    if kind == "IQ1_M":                                 # d's nibbles: 1.0, -0.5, a subnormal, 6144
        d = np.array([0x3C00, 0xB800, 0x0064, 0x6E00], dtype=np.uint16)
        for i in range(4):
            b[:, 49 + 2 * i] = b[:, 49 + 2 * i] & 15 | (d >> 4 * i & 15).astype(np.uint8) << 4
    zero = quantise(np.zeros((1, per)), kind) if forward else bytes(size)
    return out + b.tobytes() + zero


def make_kernels(path):
    rng = np.random.default_rng(7)
    with open(path, "wb") as f:
        f.write(b"MOEKERN1" + struct.pack("<I", len(CODEC)))
        for kind in CODEC:
            ident, per, size = TYPES[kind]
            raw = kernel_blocks(kind, rng)
            y = dequantise(raw, kind)
            x = rng.standard_normal(len(y)).astype("<f4")
            terms = y.astype(np.float64) * x
            f.write(struct.pack("<8sIIII", kind.encode(), ident, per, size, len(raw) // size))
            f.write(raw + y.astype("<f4").tobytes() + x.tobytes())
            f.write(struct.pack("<dd", terms.sum(), np.abs(terms).sum()))
    print(f"{path}: {os.path.getsize(path)} bytes, {len(CODEC)} types")


def make_encode(path):
    """Blocks of 256 of all sorts, and for each type the squared error of each block."""
    rng = np.random.default_rng(21)
    x = rng.standard_normal((24, 256)).astype("<f4")
    x[4:8] *= rng.uniform(0.01, 10, (4, 256))           # uneven
    x[8] = rng.uniform(-1, 1, 256)
    x[9] = np.abs(x[9])                                 # one sign
    x[10] = -np.abs(x[10])
    x[11] = 0
    x[12] = 0
    x[12, 77] = -3.5                                    # a lone number
    x[13] = 0.3                                         # all the same
    x[14] = -7
    x[15] *= 1e-3
    x[16] *= 1e-6                                       # subnormal scales
    x[17] *= 3e3
    x[18] = 5 + 0.01 * x[18]                            # far from 0
    x[19] = np.round(x[19] * 4)                         # few values
    x[20] = rng.standard_t(3, 256)                      # heavy tails
    x[21] = rng.laplace(size=256)
    kinds = [k for k in CODEC if CODEC[k][0]]
    with open(path, "wb") as f:
        f.write(b"MOEENC01" + struct.pack("<II", len(x), len(kinds)) + x.tobytes())
        for kind in kinds:
            y = dequantise(quantise(x, kind), kind, x.shape).astype(np.float64)
            f.write(struct.pack("<8sI", kind.encode(), TYPES[kind][0]))
            f.write(((y - x) ** 2).sum(axis=1).astype("<f8").tobytes())
    print(f"{path}: {os.path.getsize(path)} bytes")


def main():
    samples = sys.argv[1] if len(sys.argv) > 1 else SAMPLES
    for gguf in sorted(glob.glob(os.path.join(DATA, "models", "*.gguf"))):
        model_vectors(gguf, TINY_TEXT)
    for kv in KV_TYPES:
        kv_vector(kv)
    for name in ("balanced", "collapsed"):
        gguf = os.path.join(samples, name + ".gguf")
        if os.path.exists(gguf):
            model_vectors(gguf, SAMPLE_TEXT, SAMPLE_TOKENS)
        else:
            print(f"{gguf}: absent, skipped")
    make_encode(os.path.join(DATA, "encode.bin"))
    make_kernels(os.path.join(DATA, "kernels.bin"))
    make_router_vectors(os.path.join(DATA, "router.txt"))
    make_metric_vectors(os.path.join(DATA, "metrics.txt"))
    make_sim_vectors(os.path.join(DATA, "sim.txt"))
    make_batch_vectors(os.path.join(DATA, "router_batch.txt"))
    make_whatif_vectors(os.path.join(DATA, "whatif.txt"))


if __name__ == "__main__":
    main()
