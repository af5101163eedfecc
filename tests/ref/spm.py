"""Independent SentencePiece BPE encoder (tokenizer.ggml.model "llama"), for the token ids in
tests/data/spm_cases.tsv. Merges by the definition, one at a time over the whole text; slow."""
import struct

BLANK = "\u2581".encode()
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def chars(data):
    """A character is as long as its first byte says, broken ones too."""
    out, at = [], 0
    while at < len(data):
        b = data[at]
        n = 4 if b >= 0xf0 else 3 if b >= 0xe0 else 2 if b >= 0xc0 else 1
        out.append(data[at:at + n])
        at += n
    return out


class Spm:
    def __init__(self, tokens, scores, types, add_space_prefix=True):
        """tokens: bytes each."""
        self.id = {t: i for i, t in enumerate(tokens) if types[i] in (NORMAL, USER, UNUSED)}
        self.byte = {t: i for i, t in enumerate(tokens) if types[i] == BYTE}
        self.score = [f32(s) for s in scores]
        self.prefix = add_space_prefix

    def encode(self, data):
        if not data:
            return []
        parts = chars(((b" " if self.prefix else b"") + data).replace(b" ", BLANK))
        while True:
            best = None
            for i in range(len(parts) - 1):
                t = self.id.get(parts[i] + parts[i + 1])
                if t is not None and (best is None or self.score[t] > best[0]):
                    best = self.score[t], i
            if best is None:
                break
            i = best[1]
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        out = []
        for p in parts:
            if p in self.id:
                out.append(self.id[p])
            else:
                out += [self.byte[b"<0x%02X>" % b] for b in p]
        return out
