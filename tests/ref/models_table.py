"""The engine against llama.cpp as Markdown tables; models_table.sh builds what it calls.

    models_table.py ENGINE_DUMP TOOL_DIR [--update] [--only REGEX]

TOOL_DIR holds llama_dump and llama_quantize, and is where the temporary files go.

1. The families below, and which of them run.
2. Every model of tests/data/models in F32: the largest differences of the logits, choices of experts
   that differ, and 64 greedy tokens with weights in F16.
3. Both sample models as every type that llama.cpp's quantiser makes: perplexity of both engines on the
   held-out texts, their choices of experts, and the largest difference from llama.cpp's run on
   the weights as it dequantised them itself.
"""
import argparse
import glob
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bpe import Tokenizer
from compare import compare
from forward import MAGIC, Vec
from gguf_io import read_gguf
from make_vectors import DATA, SAMPLES

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.normpath(os.path.join(HERE, "..", "..", "docs", "MODELS.md"))
TEXTS = ["english", "c", "french", "legal"]
TEXT_TOKENS = 256
CLOSE = 1e-6                    # a decision with a smaller margin may fall either way
GREEDY = 64
CHUNK = 8192                    # Llama 4's, not a key of the file
# Largest difference of the logits, as a share of their standard deviation.
REL, REL_GELU = 1e-4, 1e-2      # llama.cpp rounds GELU to halves

# general.architecture: router, published models.
RENORM, RAW = "softmax, renormalised", "softmax, raw"
FAMILIES = {
    "llama": (RENORM, "Mixtral 8x7B, 8x22B; dense: Llama 2 to 3.3, Mistral 7B, Yi, SmolLM"),
    "qwen2moe": (RAW, "Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B"),
    "qwen3moe": (RENORM, "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder"),
    "qwen3vlmoe": (RENORM, "Qwen3-VL-30B-A3B, Qwen3-VL-235B-A22B (text)"),
    "olmoe": (RAW, "OLMoE-1B-7B"),
    "deepseek": (RAW + ", scaled", "DeepSeek-MoE-16B"),
    "deepseek2": ("softmax, or sigmoid + bias; groups; renormalised or raw, scaled",
                  "DeepSeek-V2, V2-Lite, V2.5, V3, V3.1, R1, Kimi K2, Moonlight, Mistral Large 3"),
    "mistral4": ("as the file says", "models of the Mistral 4 architecture"),
    "gpt-oss": ("softmax over the chosen", "gpt-oss-20b, gpt-oss-120b"),
    "glm4moe": ("sigmoid + bias, renormalised, scaled", "GLM-4.5, 4.5-Air, 4.6, 4.7"),
    "llama4": ("sigmoid, applied to the input", "Llama 4 Scout, Maverick"),
    "minimax-m2": ("sigmoid + bias, renormalised", "MiniMax-M2, M2.1"),
    "ernie4_5-moe": ("softmax + bias, renormalised", "ERNIE-4.5-21B-A3B, 300B-A47B"),
    "hunyuan-moe": (RENORM, "Hunyuan-A13B"),
    "bailingmoe": ("softmax, renormalised or raw, scaled", "Ling-lite, Ling-plus, Ling-Coder-lite"),
    "bailingmoe2": ("sigmoid + bias, groups, renormalised, scaled", "Ling and Ring 2.0, mini and flash"),
    "dots1": ("sigmoid + bias, renormalised, scaled", "dots.llm1"),
    "granitemoe": (RENORM, "Granite 3.0 and 3.1, 1B-A400M and 3B-A800M"),
    "phimoe": (RENORM, "Phi-3.5-MoE, Phi-mini-MoE, Phi-tiny-MoE"),
    "dbrx": (RENORM, "DBRX"),
    "arctic": (RENORM, "Snowflake Arctic"),
    "grok": (RENORM, "Grok-1, Grok-2"),
    "mistral3": ("none", "Ministral 3"),
    "granite": ("none", "Granite 3, dense"),
    "qwen2": ("none", "Qwen2, Qwen2.5, DeepSeek-R1-Distill-Qwen"),
    "qwen3": ("none", "Qwen3, 0.6B to 32B"),
    "gemma": ("none", "Gemma"),
    "gemma2": ("none", "Gemma 2"),
    "gemma3": ("none", "Gemma 3 (text)"),
    "phi3": ("none", "Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini"),
}


class Refused(Exception):
    pass


def call(*args):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode:
        lines = p.stderr.decode("utf-8", "replace").strip().split("\n")
        raise Refused(re.sub(r"^(loading|opening) \S+: ", "", lines[-1]))
    return p.stdout.decode()


class Tools:
    """The programs, and a folder of its own for temporary files."""

    def __init__(self, engine, tools, where):
        self.engine, self.where = engine, os.path.join(tools, where)
        self.llama, self.quantiser = (os.path.join(tools, x) for x in ("llama_dump", "llama_quantize"))
        os.mkdir(self.where)

    def path(self, name):
        return os.path.join(self.where, name)

    def quantise(self, gguf, kind, name=None):
        out = self.path(name or f"{kind}.gguf")
        call(self.quantiser, gguf, out, kind)
        return out

    def kinds(self):
        return call(self.quantiser, "--list").split()

    def evaluate(self, tool, gguf, inputs):
        outs = [self.path(f"out{i}.vec") for i in range(len(inputs))]
        call(tool, gguf, *[x for pair in zip(inputs, outs) for x in pair])
        return [Vec(o) for o in outs]

    def greedy(self, tool, gguf, tokens):
        rows = [x.split() for x in call(tool, "--greedy", str(GREEDY), gguf, tokens).splitlines()]
        return [(int(i), float(lead)) for i, lead in rows]


def write_tokens(path, ids):
    with open(path, "wb") as f:
        f.write(MAGIC)
        np.array([len(ids), 0, 0, 0, 0, 0], "<u4").tofile(f)
        np.asarray(ids, "<i4").tofile(f)


def number(x):
    return "0" if x == 0 else re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{x:.1e}").replace("e+", "e")


def flips(a, b):
    """Choices of other sets, (with a margin above CLOSE, below it), and of how many. The margins are
    the engine's, a."""
    far = near = all_ = 0
    for layer, (_, ea, _, margin) in a.routing.items():
        differ = (np.sort(ea, axis=1) != np.sort(b.routing[layer][1], axis=1)).any(axis=1)
        far += int((differ & (margin > CLOSE)).sum())
        near += int((differ & (margin <= CLOSE)).sum())
        all_ += len(differ)
    return far, near, all_


def sets(a, b):
    if not a.routing:
        return "–"
    far, near, all_ = flips(a, b)
    return f"{far} + {near} of {all_}"


def divergence(a, b):
    """Index of the first token that differs, or None."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x[0] != y[0]), None)


def greedy_cell(t, gguf, tokens):
    half = t.quantise(gguf, "F16")
    ours, theirs = t.greedy(t.engine, half, tokens), t.greedy(t.llama, half, tokens)
    i = divergence(ours, theirs)
    if i is None:
        return f"{len(ours)}"
    exact = divergence(ours, t.greedy(t.llama, t.quantise(half, "F32", "back.gguf"), tokens))
    return (f"{i}, then leads of {number(ours[i][1])} and {number(theirs[i][1])}; unrounded "
            f"{len(ours) if exact is None else exact}")


class Page:
    def __init__(self):
        self.lines, self.bad = [], []
        self.outcome = {}       # family -> [what became of each of its test models]

    def row(self, *cells):
        self.lines.append("| " + " | ".join(cells) + " |")
        print(self.lines[-1], file=sys.stderr)

    def head(self, *cells):
        self.row(*cells)
        self.lines.append("|" + "---|" * len(cells))


def architecture_row(t, page, name, gguf, tokens, reference):
    arch = read_gguf(gguf).kv["general.architecture"]
    outcome = page.outcome.setdefault(arch, [])
    theirs = t.evaluate(t.llama, gguf, [tokens])[0]
    try:
        ours = t.evaluate(t.engine, gguf, [tokens])[0]
    except Refused as e:
        page.row(name, f"refused: {e}", "", "", "", "")
        outcome.append(f"refused: {e}")
        return
    r = compare(ours, theirs)
    exact = number(compare(reference, ours)["abs"]) if reference else "–"
    far = flips(ours, theirs)[0]
    if far or r["rel"] > (REL_GELU if re.match("gemma|grok", arch) else REL):
        page.bad.append(f"{name}: logits {r['rel']:.1e} of their deviation, {far} sets")
        outcome.append("differs")
    else:
        outcome.append("runs")
    page.row(name, number(r["abs"]), number(r["rel"]), exact, sets(ours, theirs),
             greedy_cell(t, gguf, tokens) if reference else "–")


def architectures(t, page, wanted):
    page.head("model", "logits", "of their σ", "logits, from float64", "other sets",
              f"greedy, F16, of {GREEDY}")
    for gguf in sorted(glob.glob(os.path.join(DATA, "models", "*.gguf"))):
        name = os.path.splitext(os.path.basename(gguf))[0]
        if name in ("quant", "lowbit") or not wanted(name):
            continue
        vec = gguf[:-5] + ".vec"
        architecture_row(t, page, name, gguf, vec, Vec(vec))
    name = f"llama4, {CHUNK + 64} tokens"
    if wanted(name):
        ids = np.random.default_rng(3).integers(0, 300, CHUNK + 64)
        write_tokens(t.path("long.vec"), ids)
        gguf = os.path.join(DATA, "models", "llama4.gguf")
        architecture_row(t, page, name, gguf, t.path("long.vec"), None)


def families(page, outcome):
    """What became of every family: the worst of its test models."""
    page.head("architecture", "router", "published models", "moescope")
    for arch, (router, models) in FAMILIES.items():
        got = outcome.get(arch)
        if got:
            worst = next((x for x in got if x.startswith("refused")), None) or \
                ("differs" if "differs" in got else f"runs, as {len(got)} test models" if len(got) > 1
                 else "runs")
            page.row(f"`{arch}`", router, models, worst)


def perplexity(vecs):
    nll = []
    for v in vecs:
        x = v.logits.astype(np.float64)
        x -= x.max(axis=1, keepdims=True)
        x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
        nll.append(-x[np.arange(len(x) - 1), v.tokens[1:]])
    return float(np.exp(np.concatenate(nll).mean()))


def same_by_layer(a, b):
    """Share of tokens with the same set of experts, per layer."""
    out = []
    for layer in sorted(a[0].routing):
        same = [(np.sort(x.routing[layer][1], axis=1) == np.sort(y.routing[layer][1], axis=1))
                .all(axis=1) for x, y in zip(a, b)]
        out.append(f"{100 * float(np.concatenate(same).mean()):.1f}")
    return " ".join(out)


def type_row(t, page, kind, base, inputs):
    try:
        gguf = t.quantise(base, kind)
        theirs = t.evaluate(t.llama, gguf, inputs)
    except Refused as e:
        page.row(kind, f"llama.cpp: {e}", "", "", "", "", "")
        return
    peer = perplexity(theirs)
    try:
        ours = t.evaluate(t.engine, gguf, inputs)
    except Refused as e:
        page.row(kind, f"refused: {e}", f"{peer:.3f}", "", "", "", "")
        os.unlink(gguf)
        return
    same = same_by_layer(ours, theirs)
    own = perplexity(ours)
    exact = t.evaluate(t.llama, t.quantise(gguf, "F32", "back.gguf"), inputs)
    worst = max(compare(a, b)["abs"] for a, b in zip(ours, exact))
    counts = np.sum([flips(a, b) for a, b in zip(ours, exact)], axis=0)
    rel = max(compare(a, b)["rel"] for a, b in zip(ours, exact))
    if counts[0] or (not counts[1] and rel > REL):
        page.bad.append(f"{kind}: logits {rel:.1e} of their deviation, {counts[0]} sets")
    page.row(kind, f"{own:.3f}", f"{peer:.3f}", f"{100 * (own / peer - 1):+.2f} %", same, number(worst),
             f"{counts[0]} + {counts[1]} of {counts[2]}")
    os.unlink(gguf)


def types(t, page, sample, wanted):
    kinds = [k for k in t.kinds() if wanted(k)]
    if not kinds:
        return
    gguf = os.path.join(SAMPLES, sample + ".gguf")
    base = t.path(sample + ".f32.gguf")
    call(sys.executable, os.path.join(HERE, "to_f32.py"), gguf, base)
    tok, inputs = Tokenizer(read_gguf(gguf).kv), []
    for name in TEXTS:
        with open(os.path.join(SAMPLES, "texts", name + ".txt"), "rb") as f:
            ids = tok.encode(f.read(TEXT_TOKENS * 8).decode("utf-8", "ignore"))[:TEXT_TOKENS]
        inputs.append(t.path(f"{name}.vec"))
        write_tokens(inputs[-1], ids)
    page.lines += ["", f"**{sample}**, {len(inputs)} texts of {TEXT_TOKENS} tokens:", ""]
    page.head("type", "perplexity", "llama.cpp's", "difference", "same set, % by layer",
              "logits, same weights", "other sets, same weights")
    for kind in kinds:
        type_row(t, page, kind, base, inputs)
    os.unlink(base)


def update(part, lines):
    with open(PAGE, encoding="utf-8") as f:
        text = f.read()
    first, last = (f"<!-- models_table {part}: {x} -->\n" for x in ("begin", "end"))
    at, to = text.index(first) + len(first), text.index(last)
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(text[:at] + "\n" + "\n".join(lines).strip() + "\n\n" + text[to:])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("engine")
    p.add_argument("where")
    p.add_argument("--update", action="store_true")
    p.add_argument("--only", default=".")
    o = p.parse_args()
    start, bad, samples = time.time(), [], ("balanced", "collapsed")

    def wanted(name):
        return re.search(o.only, name)

    parts = {name: Page() for name in ("families", "architectures", "types")}
    pages = [Page() for _ in samples]
    with ThreadPoolExecutor() as pool:          # side by side, for the time that programs take
        work = [pool.submit(types, Tools(o.engine, o.where, sample), page, sample, wanted)
                for sample, page in zip(samples, pages)]
        architectures(Tools(o.engine, o.where, "models"), parts["architectures"], wanted)
        for w in work:
            w.result()
    families(parts["families"], parts["architectures"].outcome)
    for page in pages:
        parts["types"].lines += page.lines
        bad += page.bad
    for part, page in parts.items():
        bad += page.bad
        if o.update:
            update(part, page.lines)
        else:
            print("\n".join(page.lines), flush=True)
    print(f"{time.time() - start:.0f} s", file=sys.stderr)
    for line in bad:
        print(f"DIFFERENT {line}", file=sys.stderr)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
