"""Write tests/data/vocab-spm.gguf and vocab-unigram.gguf, small vocabularies trained on the texts in
models/texts, and their cases spm_cases.tsv and unigram_cases.tsv: hex of the text, TAB, ids without
BOS and EOS. With --check: only that the cases in the repository are those that would be written.
"""
import collections
import glob
import math
import os
import random
import sys

from compare_tokens import TEXTS
from gguf_io import Typed, write_gguf
from spm import BYTE, CONTROL, NORMAL, UNKNOWN, USER, Spm
from unigram import Unigram, charsmap

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DATA = os.path.join(ROOT, "tests", "data")
BLANK = "\u2581"
REPLACE = {"\ufb01": "fi", "\uff21": "A", "e\u0301": "\u00e9", "\u3000": " ", "\t": " ", "\n": " ", "\r\n": " ",
           "\u2026": "...", "\u00ad": "", "\u2460": "1", "\u00bd": "1/2", "\u212b": "\u00c5", "\ufb03": "ffi"}


def corpus():
    texts = [open(p, encoding="utf-8").read()[:2500] for p in sorted(glob.glob(f"{ROOT}/models/texts/*.txt"))]
    words = collections.Counter()
    for t in texts:
        words.update((BLANK + w for w in t.replace("\n", " ").split(" ") if w))
    return texts, words


def train_spm(words, n_merges):
    """Tokens and scores: BPE by counts; two merges in a row share a score, so that ties occur."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + ["<tool>", "<|im_start|>"]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [USER, CONTROL]
    split = {w: tuple(w) for w in words}
    merges = []
    for _ in range(n_merges):
        pairs = collections.Counter()
        for w, parts in split.items():
            for p in zip(parts, parts[1:]):
                pairs[p] += words[w]
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append("".join(best))
        for w, parts in split.items():
            out, i = [], 0
            while i < len(parts):
                if parts[i:i + 2] == best:
                    out.append(merges[-1])
                    i += 2
                else:
                    out.append(parts[i])
                    i += 1
            split[w] = tuple(out)
    merges = list(dict.fromkeys(merges))
    count = collections.Counter()
    for w, n in words.items():
        for c in w:
            count[c] += n
    singles = [c for c, n in count.most_common() if n > 3]
    known = set(singles)
    merges = [m for m in merges if set(m) <= known] + [BLANK * 2, BLANK * 4]
    tokens += merges + singles
    types += [NORMAL] * (len(merges) + len(singles))
    scores = [0.0] * 261 + [-float(i // 2) for i in range(len(merges) + len(singles))]
    return tokens, scores, types


def train_unigram(words, n_tokens):
    """No EM: the logarithm of a substring's share is score enough to have something to choose from."""
    count = collections.Counter()
    for w, n in words.items():
        for i in range(len(w)):
            for j in range(i + 1, min(len(w), i + 8) + 1):
                count[w[i:j]] += n
    best = sorted((t for t in count if len(t) > 1), key=lambda t: (-count[t] * len(t), t))[:n_tokens]
    best += sorted(t for t in count if len(t) == 1 and count[t] > 3)
    total = sum(count[t] for t in best)
    tokens = ["<pad>", "</s>", "<unk>"] + best
    return tokens, [0.0] * 3 + [math.log(count[t] / total) for t in best], [CONTROL, CONTROL, UNKNOWN] + [NORMAL] * len(best)


def case_texts(texts):
    rng = random.Random(9)
    pool = list(" \n\r\t's019é字あЖα!?-_=/😀\u0301\u00a0\u3000ǅﬁＡ…½①Å\u2581") + ["the", " and", "  ", "    ", "ffi", "e\u0301"]
    out = list(TEXTS)
    for t in texts:
        at = rng.randrange(len(t) - 200)
        out.append(t[at:at + 180])
    out += ["".join(rng.choices(pool, k=rng.randint(1, 30))) for _ in range(150)]
    out += ["a" * 200, " " * 60, "\u2581\u2581 \u2581", "in the the in" * 5, "<tool", "</s>", "<s>", "<0x41>"]
    return out


def broken_texts():
    rng = random.Random(10)
    return [bytes(rng.choice(b"\xe2\x96\x81 a\xff\xc3\xa9\xf0\x9f\x00t") for _ in range(rng.randint(1, 25))) for _ in range(60)]


def lines(cases):
    return "".join(f"{t.hex()}\t{' '.join(map(str, ids))}\n" for t, ids in cases)


def common(model, tokens, scores, types):
    return {"general.architecture": "llama", "general.name": "test vocabulary", "llama.context_length": 256,
            "llama.embedding_length": 64, "llama.block_count": 1, "llama.feed_forward_length": 64,
            "llama.attention.head_count": 4, "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "tokenizer.ggml.model": model, "tokenizer.ggml.tokens": Typed("arr:str", tokens),
            "tokenizer.ggml.scores": Typed("arr:f32", scores), "tokenizer.ggml.token_type": Typed("arr:i32", types)}


def main():
    texts, words = corpus()
    cases = case_texts(texts)
    tokens, scores, types = train_spm(words, 700)
    spm = Spm([t.encode() for t in tokens], scores, types)
    spm_lines = lines([(t, spm.encode(t)) for t in [c.encode() for c in cases] + broken_texts()])
    u_tokens, u_scores, u_types = train_unigram(words, 1200)
    usable = [s if k == NORMAL else None for s, k in zip(u_scores, u_types)]
    uni = Unigram(u_tokens, usable, 2, REPLACE, True, True)
    uni_lines = lines([(t.encode(), uni.encode(t)) for t in cases])
    if "--check" in sys.argv:
        bad = [n for n, s in (("spm", spm_lines), ("unigram", uni_lines))
               if open(f"{DATA}/{n}_cases.tsv", encoding="ascii").read() != s]
        print(f"{spm_lines.count(chr(10)) + uni_lines.count(chr(10))} cases, stale: {bad or 'none'}")
        sys.exit(bool(bad))
    open(f"{DATA}/spm_cases.tsv", "w", encoding="ascii").write(spm_lines)
    open(f"{DATA}/unigram_cases.tsv", "w", encoding="ascii").write(uni_lines)
    write_gguf(f"{DATA}/vocab-spm.gguf", common("llama", tokens, scores, types), [])
    kv = common("t5", u_tokens, u_scores, u_types)
    kv["tokenizer.ggml.precompiled_charsmap"] = Typed("arr:i8", [b - 256 if b > 127 else b for b in charsmap(REPLACE)])
    kv["tokenizer.ggml.add_space_prefix"] = True
    kv["tokenizer.ggml.remove_extra_whitespaces"] = True
    write_gguf(f"{DATA}/vocab-unigram.gguf", kv, [])


if __name__ == "__main__":
    main()
