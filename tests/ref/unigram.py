"""Independent unigram encoder (tokenizer.ggml.model "t5"), for the token ids in
tests/data/unigram_cases.tsv, and a writer of the table of replacements in its file format."""
import struct

from spm import f32

BLANK = "\u2581"


class Unigram:
    def __init__(self, tokens, scores, unk, replace, prefix, squeeze):
        """tokens: texts, scores: of those that can be used, else None; replace: text -> text."""
        self.id = {t: i for i, t in enumerate(tokens) if scores[i] is not None}
        self.score = [None if s is None else f32(s) for s in scores]
        self.longest = max(map(len, self.id))
        self.unk, self.prefix, self.squeeze = unk, prefix, squeeze
        self.unk_score = f32(f32(min(s for s in self.score if s is not None)) - 10)
        self.replace = replace

    def normalise(self, text):
        out, at = "", 0
        while at < len(text):
            n = max((len(k) for k in self.replace if text.startswith(k, at)), default=0)
            out += self.replace[text[at:at + n]] if n else text[at]
            at += n or 1
        if self.squeeze:                        # one blank before each word, none behind the last
            return "".join(BLANK + w for w in out.split(" ") if w)
        if self.prefix and out.strip(" "):      # before the first word, after the blanks that are there
            n = len(out) - len(out.lstrip(" "))
            out = out[:n] + " " + out[n:]
        return out.replace(" ", BLANK)

    def encode(self, text):
        s = self.normalise(text)
        best = [(0.0, None, None)] + [None] * len(s)
        for i in range(len(s)):
            if best[i] is None:
                continue
            for j in range(i + 1, min(len(s), i + self.longest) + 1):
                t = self.id.get(s[i:j])
                if t is not None and (best[j] is None or best[i][0] + self.score[t] > best[j][0]):
                    best[j] = best[i][0] + self.score[t], i, t
            if s[i] not in self.id and (best[i + 1] is None or best[i][0] + self.unk_score > best[i + 1][0]):
                best[i + 1] = best[i][0] + self.unk_score, i, self.unk
        out, at = [], len(s)
        while at:
            _, back, t = best[at]
            if not (t == self.unk and out and out[-1] == self.unk):
                out.append(t)
            at = back
        return out[::-1]


def charsmap(replace):
    """precompiled_charsmap: u32 length of a double array, the array, NUL-terminated texts. A unit of
    the array has its label in bits 0..7, "a value follows" in bit 8, and from bit 10 what XOR leads
    from its place to the block of its children; a value is a unit with bit 31 set."""
    texts, where = b"", {}
    for v in sorted(set(replace.values())):
        where[v] = len(texts)
        texts += v.encode() + b"\0"
    trie = {}
    for key, value in replace.items():
        node = trie
        for b in key.encode():
            node = node.setdefault(b, {})
        node[0] = where[value]                  # no key has a NUL
    units, used, blocks = {}, {0}, set()
    queue = [(0, trie, 0)]
    while queue:
        place, node, label = queue.pop(0)
        block = 1                               # a block of its own: a unit does not know its parent
        while block in blocks or any((block ^ c) in used for c in node):
            block += 1
        blocks.add(block)
        used |= {block ^ c for c in node}
        assert place ^ block < 1 << 21
        units[place] = label | (0 in node) << 8 | (place ^ block) << 10
        for c, child in node.items():
            if c == 0:
                units[block] = child | 1 << 31
            else:
                queue.append((block ^ c, child, c))
    # An unused place must match no byte: its label has bit 31. A block may be looked at as a whole.
    size = (max(units) | 255) + 1
    array = b"".join(struct.pack("<I", units.get(i, 1 << 31)) for i in range(size))
    return struct.pack("<I", len(array)) + array + texts
