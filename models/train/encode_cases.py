"""Writes test vectors for the sample model's tokenizer: hex of the UTF-8 text, TAB, its ids.

	python3 encode_cases.py build/tok > cases.tsv		the vectors
	python3 encode_cases.py build/tok 20000 > fuzz.tsv	so many random texts instead

An encoder of its own, written from the definition and sharing nothing with bpe.c: the qwen2
pattern is matched by hand over unicodedata's categories, merges are applied one by one. Slow, and
meant to be read. Reads merges.txt only, and builds the ids from it by the rule in bpe.c's head.

Left out on purpose, because regular-expression engines differ there: U+017F after an apostrophe
(folds to s), U+180E (a space to some), code points assigned after Unicode 14.
"""
import random
import sys
import unicodedata

SPACE = set("\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000")
SPACE |= {chr(c) for c in range(0x2000, 0x200b)}	# the property White_Space
SUFFIX = ("s", "t", "re", "ve", "m", "ll", "d")


def letter(c):
	return unicodedata.category(c)[0] == "L"


def number(c):
	return unicodedata.category(c)[0] == "N"


def other(c):
	return c not in SPACE and not letter(c) and not number(c)


def run(text, at, pred):
	while at < len(text) and pred(text[at]):
		at += 1
	return at


def piece_end(text, at):
	"""End of the pre-token that starts at text[at]; one branch per alternative, in order."""
	c, after = text[at], text[at + 1:at + 2]
	if c == "'":
		for s in SUFFIX:
			t = text[at + 1:at + 1 + len(s)]
			if t.isascii() and t.lower() == s:
				return at + 1 + len(s)
	if letter(c):
		return run(text, at, letter)
	if c not in "\r\n" and not number(c) and after and letter(after):
		return run(text, at + 1, letter)
	if number(c):
		return at + 1
	start = at + 1 if c == " " and after and other(after) else at
	if other(text[start]):
		return run(text, run(text, start, other), lambda x: x in "\r\n")
	end = run(text, at, SPACE.__contains__)
	for i in range(end, at, -1):
		if text[i - 1] in "\r\n":
			return i
	if end < len(text) and end - at > 1:
		return end - 1		# the last space goes with what follows
	return end


class Bpe:
	def __init__(self, path):
		keep = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
		rest = [b for b in range(256) if b not in keep]
		self.char = {b: chr(b) for b in keep}
		self.char.update({b: chr(256 + i) for i, b in enumerate(rest)})
		self.id = {self.char[b]: i for i, b in enumerate(keep + rest)}
		self.rank = {}
		with open(path, encoding="utf-8", newline="\n") as f:
			for i, line in enumerate(f.read().split("\n")[:-1]):
				left, right = line.split(" ")
				self.rank[left, right] = i
				self.id[left + right] = 256 + i

	def word(self, text):
		parts = [self.char[b] for b in text.encode()]
		while len(parts) > 1:
			pairs = [(self.rank.get(p, len(self.rank)), i)
				for i, p in enumerate(zip(parts, parts[1:]))]
			rank, i = min(pairs)
			if rank == len(self.rank):
				break
			parts[i:i + 2] = [parts[i] + parts[i + 1]]
		return [self.id[p] for p in parts]

	def encode(self, text):
		at, out = 0, []
		while at < len(text):
			end = piece_end(text, at)
			out += self.word(text[at:end])
			at = end
		return out


TEXTS = [
	"", " ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\n\n\n\n", " \n", "\n ", " \n \n ",
	"\t\t\tx", "  x", "   x", "x ", "x  ", "x   y", "x\ty", "x \t y", "x\n", "x\n\ny", "x \n y",
	"x\r\ny\r\n", "x\n\r\ny", "    if (a)\n\t\treturn b;\n", "a\x0bb\x0cc", "a\u0085b",
	"a\xa0b",
	"a \xa0 b", "\u3000x\u3000\u3000y", "a\u2028b\u2029c", "a\u200ab", "\u2003\u2003 z",
	" \u3000",
	"\u1680a", "\u202fb", "\u205f c", "a\u200bb", "a\ufeffb", "\ufeffBOM first",
	"Hello, world!", "hello", " hello", "HELLO", "Hello Hello hello", "The quick brown fox.",
	"don't", "DON'T", "I'm we'll they've you're he'd it's",
	"I'M WE'LL THEY'VE YOU'RE HE'D IT'S",
	"'s", "'S", "''s", "'sx", "'tis", "'re'", "'ll 'LL", "o'clock", "rock'n'roll", "it\u2019s",
	"d'accord, l'article", "'", "''", "'\n", "' s",
	"0", "7", "42", "1234567890", "3.14159", "1,000,000.00", "-17", "1e-9", "0x1F", "a1b2c3",
	"2024-02-29T23:59:60Z", "192.168.0.1:8080", "½ ¾ ²³", "Ⅳ Ⅷ", "٣٤٥", "१२३", "𝟙𝟚𝟛",
	"①②③", "一二三", "v1.2.3-rc4", "100%", "$5.99", "€12", "£3 ¥400", "№ 7",
	"a+b=c", "x != y && z <= 0 || !w", "i++; --j;", "p->q[i]", "foo(bar, baz);",
	"#include <stdio.h>",
	"/* comment */", "// comment\n", "\"quoted\"", "`code`", "a_b_c", "__init__",
	"snake_case_name",
	"camelCaseName", "path/to/file.txt", "C:\\dir\\file", "name@example.org",
	"https://example.org/a?b=c&d=e#f",
	"...", "…", "!!!???", "---", "—", "–", "«guillemets»", "„Anführung“", "¿Qué? ¡Sí!",
	" ,", " .\n", "\n.", ".\n\n", " ...\r\n\r\nx", "-\n-\n", "()\n{}", "} // end\n\n\t}",
	"def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; i++)\n\ta[i] = i;\n",
	"SELECT * FROM t WHERE id = 1;", "{\"key\": [1, 2.5, null, true]}",
	"<p class=\"x\">text</p>",
	"$( Comment. $) ax-1 $a |- ( ph -> ( ps -> ph ) ) $.", "( A i^i B ) C_ ( A u. B )",
	"Größe, Straße, Übermaß, ÄÖÜ", "ça va où être naïve cœur", "El niño comió piñas",
	"Привет, мир! Ёлка.", "съешь ещё этих мягких французских булок", "Привет123мир",
	"日本語のテキスト", "これはペンです。", "漢字かな交じり文、句読点。", "カタカナ ひらがな",
	"中文字符测试", "繁體中文", "한국어 텍스트", "ไทย ภาษา", "हिन्दी में", "العربية نص",
	"עברית",
	"Ελληνικά κείμενο", "ქართული", "Հայերեն", "አማርኛ", "Tiếng Việt", "Zażółć gęślą jaźń",
	"日本\n語", "日本 語", "a日b本c", "日1本2", "「引用」『書名』", "ＡＢＣ１２３", "ﾊﾝｶｸ",
	"e\u0301", "a\u0308o\u0308u\u0308", "n\u0303", "\u0301", " \u0301", "x\u0301\u0302\u0303y",
	"क्षि", "กำ", "\u0627\u064e\u0644", "Z\u0351\u036b\u0343algo", "\u1112\u1161\u11ab", "ｶﾞ",
	"😀", "😀😃😄", "hi 😀!", "👍🏽", "👩‍👩‍👧‍👦", "🇫🇷🇩🇪", "❤️", "☃\n☃", " 🚀 launch", "a😀b",
	"🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "✓ ✗ → ⇒ ∀x∈ℝ", "∑∫√∞≠≤≥",
	"\u0000", "a\u0000b", "\u0001\u0002", "\u001b[31mred\u001b[0m", "\u007f", "\u0080\u009f",
	"\u001c\u001d\u001e\u001f", "\ufffd", "\ufffd\ufffd bytes", "\ufffe\uffff", "\U0010ffff",
	"\ue000\uf8ff", "\U000f0000", "\u2060", "\u00ad", "soft\u00adhyphen", "\u202etxet",
	"Ã©tÃ©", "â€™", "ÿþ", "Ġ", "Ċ", "ĠĊĉ", "ĠHello", "\u0100\u0143",
	"ﬁ ﬂ ﬃ", "ß ẞ", "ŉ", "ǅ", "İ ı", "ª º", "µ Ω", "ʰ ʼ", "ↀↁ", "𝒜𝒷𝒸", "𐍈", "𠮷野家",
	"<|endoftext|>", "<|im_start|>user\nHi<|im_end|>\n", "<|im_end|", "a<|endoftext|>b",
	"a" * 40, "ab" * 40, " " * 40 + "x", "\n" * 9, "=" * 33, "ha" * 15 + "!", "." * 17 + "\n",
	"1" * 12, "\t" * 9 + "\n", " \t" * 6, "the the the the",
	"Supercalifragilisticexpialidocious",
]


def from_corpus(build, per_domain=3):
	"""A few pieces of held-out text of every domain, from its first documents."""
	out = []
	for name in ("c", "english", "finance", "french", "german", "japanese", "legal", "legal_fr",
			"math", "medical", "python", "russian", "spanish"):
		path = "%s/../corpus/%s.held" % (build, name)
		with open(path, encoding="utf-8", newline="") as f:
			docs = f.read().split("\0")
		for i in range(per_domain):
			d = docs[i]
			at = len(d) // 3
			out.append(d[at:at + 60 + 50 * i])
	return out


def fuzz(count):
	rng = random.Random(1)
	pool = [t for t in TEXTS if t]
	odd = [" ", "  ", "\n", "\r", "\t", "'", "'s", "'LL", "\u3000", "\x85", "\u0301", "😀",
		"1", "٣", "a", "Z", "é", "я", "日", "、", ".", "->", "\u200d", "\ufffd", "\0"]
	for _ in range(count):
		parts = []
		for _ in range(rng.randrange(1, 12)):
			if rng.random() < 0.7:
				parts.append(rng.choice(odd))
			else:
				parts.append(rng.choice(pool)[:rng.randrange(1, 9)])
		yield "".join(parts)


def main():
	bpe = Bpe(sys.argv[1] + "/merges.txt")
	texts = fuzz(int(sys.argv[2])) if len(sys.argv) > 2 else TEXTS + from_corpus(sys.argv[1])
	for t in texts:
		print(t.encode().hex() + "\t" + " ".join(map(str, bpe.encode(t))))


if __name__ == "__main__":
	main()
