"""Copies a GGUF file with every tensor dequantised to F32: the same model without any question
of how an engine multiplies quantised weights.

    to_f32.py IN.gguf OUT.gguf
"""
import sys

from gguf_io import Typed, read_gguf, write_gguf

if len(sys.argv) != 3:
    sys.exit(__doc__)
g = read_gguf(sys.argv[1])
kv = {k: Typed(g.kinds[k], v) for k, v in g.kv.items()}
if "general.file_type" in kv:
    kv["general.file_type"] = Typed("u32", 0)
write_gguf(sys.argv[2], kv, [(name, g.tensor(name), "F32") for name in g.tensors])
