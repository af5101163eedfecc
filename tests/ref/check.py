"""Checks that the reference agrees with itself and that no vector file is stale: each one under
tests/data/models is recomputed from its model and text.

    check.py        exit status 0 and "N vectors agree", or a line per disagreement and 1
"""
import glob
import os
import sys
import tempfile

import make_lora
import metrics
import router
import simulate
import test_gguf_io
import whatif
from bpe import Tokenizer
from compare import compare
from forward import Model, Vec, write_vec
from make_vectors import DATA, KV_TYPES, SAMPLES, kv_vector


def model_of(name):
    for where in (os.path.join(DATA, "models"), SAMPLES):
        path = os.path.join(where, name + ".gguf")
        if os.path.exists(path):
            return path
    return None


def main():
    test_gguf_io.main()
    metrics.self_check()
    router.batch_self_check()
    simulate.self_check()
    whatif.self_check()
    bad, stems = 0, sorted(glob.glob(os.path.join(DATA, "models", "*.vec")))
    scratch = os.path.join(tempfile.gettempdir(), f"check{os.getpid()}.vec")
    for path in stems:
        stem = path[:-4]
        rounded = [kv for kv in KV_TYPES if stem.endswith(f"-{kv.lower()}kv")]
        if rounded:
            kv_vector(rounded[0], scratch)
            if open(scratch, "rb").read() != open(path, "rb").read():
                print(f"{path} is stale")
                bad += 1
            continue
        gguf = model_of(os.path.basename(stem))
        if gguf is None:
            print(f"{path}: no model of that name")
            bad += 1
            continue
        model = Model(gguf)
        ids = Tokenizer(model.g.kv).encode(open(stem + ".txt", "rb").read().decode("utf-8"))
        logits, routing = model.forward(ids)
        write_vec(scratch, ids, logits, model.layers, routing)
        try:
            r = compare(Vec(scratch), Vec(path))
        except ValueError as e:
            r = {"ok": False, "why": str(e)}
        if not r["ok"]:
            print(f"{path} is not of {gguf}: {r}")
            bad += 1
    for name in make_lora.stale(scratch):
        print(f"tests/data/lora/{name}.vec is stale")
        bad += 1
    if stems:
        os.unlink(scratch)
    print(f"{len(stems) - bad} of {len(stems)} vectors agree")
    sys.exit(bad > 0 or not stems)


if __name__ == "__main__":
    main()
