"""Self-check of gguf_io: every codec's error is within its step, and a file reads back as written."""
import os
import tempfile

import numpy as np

from gguf_io import CODEC, TYPES, Typed, dequantise, quantise, read_gguf, write_gguf

# Largest relative error (of the block's absolute maximum) that a sensible quantiser leaves.
BOUND = {"F32": 0, "F16": 5e-4, "BF16": 4e-3, "Q8_0": 5e-3, "Q4_0": .13, "Q4_1": .07, "Q5_0": .065,
         "Q5_1": .035, "Q4_K": .09, "Q5_K": .06, "Q6_K": .04, "MXFP4": .26}


def main():
    rng = np.random.default_rng(1)
    both = [k for k in CODEC if CODEC[k][0]]
    for kind in both:
        x = rng.standard_normal((4, 512)).astype(np.float32)
        x[3] = 0
        b = quantise(x, kind)
        y = dequantise(b, kind, x.shape)
        err = np.abs(x - y).max() / np.abs(x).max()
        assert err <= BOUND[kind] and not y[3].any(), (kind, err)
        print(f"{kind:6s} {len(b) * 8 / x.size:6.3f} bits/value, max error {err:.5f} of the range")
    kv = {"a": 1, "b": 1.5, "c": True, "d": "text é", "e": [1, -2], "f": [.5], "g": ["x", ""],
          "h": Typed("u64", 2**63), "i": Typed("arr:u8", [1, 255]), "j": Typed("i8", -3)}
    w = rng.standard_normal((3, 4, 256)).astype(np.float32)
    fd, path = tempfile.mkstemp(suffix=".gguf")
    os.close(fd)
    write_gguf(path, kv, [(k, w, k) for k in both] + [("one", w[0, 0, :5], "F32")])
    g = read_gguf(path)
    assert g.kv["h"] == 2**63 and g.kv["j"] == -3 and g.kv["g"] == ["x", ""] and g.kv["d"] == "text é"
    assert list(g.kv["e"]) == [1, -2] and g.kv["c"] is True and list(g.kv["i"]) == [1, 255]
    for k in both:
        assert g.tensors[k].dims == (256, 4, 3)
        assert np.array_equal(g.tensor(k), dequantise(quantise(w, k), k, w.shape))
    assert np.array_equal(g.tensor("one"), w[0, 0, :5])
    os.unlink(path)
    print("ok")


if __name__ == "__main__":
    main()
