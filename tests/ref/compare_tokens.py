"""Compares bpe.py with llama.cpp's tokenizer on the texts below and those in tests/data.

    compare_tokens.py LLAMA_DUMP MODEL.gguf [CASES.tsv]

CASES.tsv: lines of "text TAB ids", the text with C escapes, ids separated by blanks; compared
three ways. Prints the number of texts and each difference; exit status 1 if there is one.
"""
import glob
import os
import random
import subprocess
import sys

from bpe import Tokenizer
from gguf_io import read_gguf

HERE = os.path.dirname(os.path.abspath(__file__))

TEXTS = [
    "", " ", "  ", "\n", " \n", "\n\n  x", "a", " a", "  a  ", "the router", "The Router's", "I'LL we've IT'S 'tis",
    "1234567 12 3", "x=1;y+=22", "don't 'S", "tab\there\r\nand\r", "naïve café — “quotes” … ‰",
    "Привет, мир! Договор № 5", "日本語のテキスト。１２３", "مرحبا ١٢٣", "e\u0301 a\u0308", "😀👩‍👩‍👧 🇫🇷",
    "\u00a0nbsp\u2003em\u3000wide", "a\u200bb\u2028c", "½ ² Ⅷ 五", "___ --- ***", "ſtraße ŉ ǅ ʰ",
    "   leading and trailing   ", "\t\t if (x) {\n\t\t\treturn;\n\t\t}\n", "!?.,;:\n\n\n", "\x01\x7f control",
    "'", "''s", "can't've", "#include <stdio.h>\r\n\r\nint main(void)", "100,000.00 USD", "\u1680\u180e\u0085x",
]


def random_texts(n):
    """Mixtures of the characters that the pre-tokenizers treat apart."""
    rng = random.Random(5)
    pool = list(" \n\r\t'sStTrReEvVmMlLdD019½²é字あЖα!?-_=/😀\u0301\u00a0\u3000ǅ")
    return ["".join(rng.choices(pool, k=rng.randint(1, 24))) for _ in range(n)]


def peer_ids(tool, gguf, texts):
    data = b"".join(str(len(b)).encode() + b"\n" + b for b in (t.encode("utf-8") for t in texts))
    out = subprocess.run([tool, "--tokenize-bos", gguf], input=data, stdout=subprocess.PIPE, check=True)
    lines = out.stdout.decode().split("\n")[:-1]
    assert len(lines) == len(texts), (len(lines), len(texts))
    return [[int(x) for x in line.split()] for line in lines]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    tool, gguf = sys.argv[1:3]
    texts = TEXTS + random_texts(400)
    for path in sorted(glob.glob(os.path.join(HERE, "..", "data", "models", "*.txt"))):
        texts.append(open(path, "rb").read().decode("utf-8"))
    wanted = [None] * len(texts)
    if len(sys.argv) > 3:
        for line in open(sys.argv[3], encoding="utf-8").read().split("\n"):
            if line and not line.startswith("#"):
                text, ids = line.split("\t")[:2]
                texts.append(text.encode("latin-1", "backslashreplace").decode("unicode_escape"))
                wanted.append([int(x) for x in ids.split()])
    tok, bad = Tokenizer(read_gguf(gguf).kv), 0
    for text, want, peer in zip(texts, wanted, peer_ids(tool, gguf, texts)):
        own = tok.encode(text)
        if own != peer or want not in (None, own):
            bad += 1
            print(f"{text!r}: bpe.py {own}, llama.cpp {peer}, file {want}")
    print(f"{'':24s} {len(texts)} texts tokenised, {bad} differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
