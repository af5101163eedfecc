"""Independent byte-level BPE tokenizer, for the token ids in the test vectors.

Covers what the test models and the sample models use: tokenizer.ggml.model "gpt2" with the
pre-tokenizers "llama-bpe", "qwen2", and the GPT-2 one ("olmo", "gpt-2", "default"). Python's
`re` knows no \\p{L}, so the character classes are spelled out from `unicodedata`.
"""
import functools
import re
import sys
import unicodedata

SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"


def byte_to_char():
    """GPT-2's printable stand-in for each byte: itself if printable, else 256, 257, ..."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 256
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b], extra = chr(extra), extra + 1
    return table


@functools.lru_cache(None)
def _class(letter):
    """The code points of a general category, as ranges for a character class."""
    out, start = [], None
    for c in range(sys.maxunicode + 2):
        inside = c <= sys.maxunicode and unicodedata.category(chr(c))[0] == letter
        if inside and start is None:
            start = c
        elif not inside and start is not None:
            out.append(f"\\U{start:08x}-\\U{c - 1:08x}")
            start = None
    return "".join(out)


@functools.lru_cache(None)
def splitter(pre):
    L, N, S = _class("L"), _class("N"), SPACE
    if pre in ("olmo", "gpt-2", "default"):
        return re.compile(f"'s|'t|'re|'ve|'m|'ll|'d| ?[{L}]+| ?[{N}]+| ?[^{S}{L}{N}]+"
                          f"|[{S}]+(?![^{S}])|[{S}]+")
    digits = {"qwen2": f"[{N}]", "llama-bpe": f"[{N}]{{1,3}}"}[pre]
    return re.compile("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
                      f"|[^\\r\\n{L}{N}]?[{L}]+|{digits}| ?[^{S}{L}{N}]+[\\r\\n]*"
                      f"|[{S}]*[\\r\\n]+|[{S}]+(?![^{S}])|[{S}]+")


class Tokenizer:
    def __init__(self, kv):
        """kv: the metadata of a GGUF file."""
        assert kv["tokenizer.ggml.model"] == "gpt2", kv["tokenizer.ggml.model"]
        self.tokens = kv["tokenizer.ggml.tokens"]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.rank = {tuple(m.split(" ")): i for i, m in enumerate(kv["tokenizer.ggml.merges"])}
        pre = kv.get("tokenizer.ggml.pre", "default")
        self.split = splitter(pre)
        self.whole_words = pre == "llama-bpe"       # a word that is a token is taken unmerged
        self.bytes = byte_to_char()
        # Absent, add_bos_token is what the pre-tokenizer implies.
        add = kv.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe")
        self.bos = [kv["tokenizer.ggml.bos_token_id"]] if add else []

    def _word(self, word):
        parts = [self.bytes[b] for b in word.encode("utf-8")]
        if self.whole_words and "".join(parts) in self.ids:
            return ["".join(parts)]
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda p: self.rank.get(p, 1 << 30))
            if best not in self.rank:
                break
            i = next(i for i in range(len(parts) - 1) if (parts[i], parts[i + 1]) == best)
            parts[i:i + 2] = ["".join(best)]
        return parts

    def encode(self, text, special=True):
        """Ids of the text; BOS in front if the model asks for it. No special tokens in the text."""
        out = list(self.bos) if special else []
        for m in self.split.finditer(text):
            out += [self.ids[p] for p in self._word(m.group())]
        return out
