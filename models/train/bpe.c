/*
 * bpe.c - trains the sample model's byte-level BPE and encodes the corpus with it.
 *
 *	bpe train  DIR_CORPUS DIR_TOK [-v VOCAB] [-m BYTES]	tokens.txt, merges.txt
 *	bpe encode DIR_CORPUS DIR_TOK				NAME.SPLIT.u16, stats.tsv
 *	bpe decode DIR_CORPUS DIR_TOK				checks the exact round trip
 *	bpe cases  FILE DIR_TOK					checks "hex TAB ids" lines
 *
 * Ids: 0..255 the bytes in GPT-2 order (the 188 printable ones first, then the other 68 by
 * value, spelt U+0100 up), then merges in the order of their creation, then the three specials.
 * A merge joins the adjacent pair with the highest count over all occurrences of all
 * pre-tokens; of equal counts the smaller left id wins, then the smaller right id.
 * Pre-tokenisation is the qwen2 pattern through PCRE2 (UTF and UCP): see PATTERN.
 * After Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", with
 * pair counts kept incrementally: only words that hold the merged pair are visited.
 *
 * Text is never looked at for specials: "<|im_end|>" in a document is ordinary text. A document
 * ends with <|endoftext|>. This is a build tool: it stops with a message at the first error
 * and leaves its memory to the system.
 *
 * Build: cc -O2 -std=c11 -Wall -Wextra -Wshadow -o bpe bpe.c -lpcre2-8
 */
#define _POSIX_C_SOURCE 200809L
#define PCRE2_CODE_UNIT_WIDTH 8
#include <dirent.h>
#include <errno.h>
#include <pcre2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char PATTERN[] =
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
	"| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static const char *const SPECIAL[] = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" };

enum {
	N_SPECIAL = 3,
	VOCAB_MAX = 65536,	/* ids are stored as uint16 */
	DOMAIN_MAX = 64,
};

static void
die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("bpe: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static void *
grow(void *p, size_t n, size_t each)
{
	if (each && n > SIZE_MAX / each)
		die("%zu items of %zu bytes do not fit the address space", n, each);
	p = realloc(p, n && each ? n * each : 1);
	if (!p)
		die("out of memory for %zu bytes", n * each);
	return p;
}

/* ---- files */

struct buf {
	unsigned char *p;
	size_t n;
};

static struct buf
file_read(const char *path)
{
	struct buf b = { NULL, 0 };
	size_t cap = 0;
	FILE *f = fopen(path, "rb");

	if (!f)
		die("opening %s: %s", path, strerror(errno));
	for (;;) {
		if (cap - b.n < 65536)
			b.p = grow(b.p, cap = cap ? cap * 2 : 1 << 20, 1);
		size_t got = fread(b.p + b.n, 1, cap - b.n, f);
		if (!got)
			break;
		b.n += got;
	}
	if (ferror(f))
		die("reading %s: %s", path, strerror(errno));
	fclose(f);
	return b;
}

static FILE *
file_create(const char *path)
{
	FILE *f = fopen(path, "wb");

	if (!f)
		die("creating %s: %s", path, strerror(errno));
	return f;
}

static void
file_close(FILE *f, const char *path)
{
	if (ferror(f) | (fclose(f) != 0))
		die("writing %s: %s", path, strerror(errno));
}

static const char *
path_of(char out[1024], const char *dir, const char *name, const char *ext)
{
	if (snprintf(out, 1024, "%s/%s%s", dir, name, ext) >= 1024)
		die("path too long: %s/%s%s", dir, name, ext);
	return out;
}

static int
name_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of the NAME.train files in dir, sorted; returns how many. */
static int
domains(const char *dir, char *name[DOMAIN_MAX])
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	if (!d)
		die("opening %s: %s", dir, strerror(errno));
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);
		if (len <= 6 || strcmp(e->d_name + len - 6, ".train"))
			continue;
		if (n == DOMAIN_MAX)
			die("%s holds more than %d domains", dir, DOMAIN_MAX);
		name[n] = strdup(e->d_name);
		if (!name[n])
			die("out of memory");
		name[n++][len - 6] = 0;
	}
	closedir(d);
	if (!n)
		die("%s holds no NAME.train file", dir);
	qsort(name, (size_t)n, sizeof name[0], name_order);
	return n;
}

/* ---- byte alphabet (GPT-2): id <-> byte <-> printable code point */

static uint8_t byte_of_id[256], id_of_byte[256];
static unsigned cp_of_byte[256];

static void
alphabet_init(void)
{
	int n = 0;

	for (int b = 0; b < 256; b++)
		if ((b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae) {
			cp_of_byte[b] = (unsigned)b;
			byte_of_id[n++] = (uint8_t)b;
		}
	for (int b = 0, up = 256; b < 256; b++)
		if (!cp_of_byte[b]) {
			cp_of_byte[b] = (unsigned)up++;
			byte_of_id[n++] = (uint8_t)b;
		}
	for (int i = 0; i < 256; i++)
		id_of_byte[byte_of_id[i]] = (uint8_t)i;
}

static void
spell(FILE *f, const unsigned char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned c = cp_of_byte[s[i]];
		if (c < 0x80) {
			fputc((int)c, f);
		} else {
			fputc((int)(0xc0 | c >> 6), f);
			fputc((int)(0x80 | (c & 0x3f)), f);
		}
	}
}

/* Reads one spelt token up to end; writes its bytes, returns how many. */
static size_t
unspell(unsigned char *out, const unsigned char *s, const unsigned char *end, const char *where)
{
	static int16_t byte_of_cp[512];
	size_t n = 0;

	if (!byte_of_cp['!'])
		for (int i = 0; i < 512; i++) {
			byte_of_cp[i] = -1;
			for (int b = 0; b < 256; b++)
				if (cp_of_byte[b] == (unsigned)i)
					byte_of_cp[i] = (int16_t)b;
		}
	while (s < end) {
		unsigned c = *s++;
		if (c >= 0x80 && s < end)
			c = (c & 0x1f) << 6 | (*s++ & 0x3f);
		if (c >= 512 || byte_of_cp[c] < 0)
			die("%s: code point %u is not in the byte alphabet", where, c);
		out[n++] = (unsigned char)byte_of_cp[c];
	}
	return n;
}

/* ---- vocabulary */

struct tok {
	const unsigned char *s;	/* bytes, owned by the process */
	uint32_t n;
	int32_t left, right;	/* the merge it came from, -1 for bytes and specials */
};

struct vocab {
	struct tok *tok;	/* [n] */
	int n, n_merge;
	uint64_t *pair;		/* open-addressed: left << 32 | right, plus 1; 0 is free */
	int32_t *joined;	/* id that the pair becomes; rank is id - 256 */
	size_t mask;
};

static uint64_t
mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

static uint64_t
pair_key(int32_t a, int32_t b)
{
	return ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) + 1;
}

static int32_t
vocab_join(const struct vocab *v, int32_t a, int32_t b)
{
	uint64_t k = pair_key(a, b);

	for (size_t i = mix(k) & v->mask; v->pair[i]; i = (i + 1) & v->mask)
		if (v->pair[i] == k)
			return v->joined[i];
	return -1;
}

static void
vocab_init(struct vocab *v)
{
	v->tok = grow(NULL, VOCAB_MAX, sizeof v->tok[0]);
	for (int i = 0; i < 256; i++)
		v->tok[i] = (struct tok){ &byte_of_id[i], 1, -1, -1 };
	v->n = 256;
	v->n_merge = 0;
	v->mask = (1 << 18) - 1;
	v->pair = grow(NULL, v->mask + 1, sizeof v->pair[0]);
	v->joined = grow(NULL, v->mask + 1, sizeof v->joined[0]);
	memset(v->pair, 0, (v->mask + 1) * sizeof v->pair[0]);
}

static int32_t
vocab_merge(struct vocab *v, int32_t a, int32_t b)
{
	const struct tok *l = &v->tok[a], *r = &v->tok[b];
	unsigned char *s = grow(NULL, l->n + r->n, 1);
	uint64_t k = pair_key(a, b);
	size_t i;

	if (v->n >= VOCAB_MAX - N_SPECIAL)
		die("more than %d tokens", VOCAB_MAX);
	memcpy(s, l->s, l->n);
	memcpy(s + l->n, r->s, r->n);
	v->tok[v->n] = (struct tok){ s, l->n + r->n, a, b };
	for (i = mix(k) & v->mask; v->pair[i]; i = (i + 1) & v->mask)
		if (v->pair[i] == k)
			die("the pair %d %d is merged twice", a, b);
	v->pair[i] = k;
	v->joined[i] = v->n;
	v->n_merge++;
	return v->n++;
}

static void
vocab_finish(struct vocab *v)
{
	for (int i = 0; i < N_SPECIAL; i++)
		v->tok[v->n++] = (struct tok){ (const unsigned char *)SPECIAL[i],
			(uint32_t)strlen(SPECIAL[i]), -1, -1 };
}

static void
vocab_write(const struct vocab *v, const char *dir)
{
	char path[1024];
	FILE *f = file_create(path_of(path, dir, "tokens", ".txt"));

	for (int i = 0; i < v->n; i++) {
		if (i >= v->n - N_SPECIAL)
			fputs((const char *)v->tok[i].s, f);
		else
			spell(f, v->tok[i].s, v->tok[i].n);
		fputc('\n', f);
	}
	file_close(f, path);

	f = file_create(path_of(path, dir, "merges", ".txt"));
	for (int i = 256; i < 256 + v->n_merge; i++) {
		const struct tok *l = &v->tok[v->tok[i].left], *r = &v->tok[v->tok[i].right];
		spell(f, l->s, l->n);
		fputc(' ', f);
		spell(f, r->s, r->n);
		fputc('\n', f);
	}
	file_close(f, path);
}

static int32_t
vocab_find(const struct vocab *v, const unsigned char *s, size_t n)
{
	/* Linear: used once per merge when a vocabulary is loaded. */
	for (int i = 0; i < v->n; i++)
		if (v->tok[i].n == n && !memcmp(v->tok[i].s, s, n))
			return i;
	return -1;
}

/* Rebuilds the vocabulary from merges.txt alone; tokens.txt must agree with it. */
static void
vocab_read(struct vocab *v, const char *dir)
{
	char path[1024];
	unsigned char lb[4096], rb[4096];
	struct buf m = file_read(path_of(path, dir, "merges", ".txt"));
	int line = 0;

	vocab_init(v);
	for (unsigned char *p = m.p, *end = m.p + m.n; p < end; ) {
		unsigned char *nl = memchr(p, '\n', (size_t)(end - p));
		unsigned char *sp = nl ? memchr(p, ' ', (size_t)(nl - p)) : NULL;
		line++;
		if (!sp || nl - p > 4096)
			die("%s, line %d: not two tokens", path, line);
		int32_t a = vocab_find(v, lb, unspell(lb, p, sp, path));
		int32_t b = vocab_find(v, rb, unspell(rb, sp + 1, nl, path));
		if (a < 0 || b < 0)
			die("%s, line %d: a part is not a token yet", path, line);
		vocab_merge(v, a, b);
		p = nl + 1;
	}
	vocab_finish(v);
	free(m.p);

	struct buf t = file_read(path_of(path, dir, "tokens", ".txt"));
	unsigned char *p = t.p, *end = t.p + t.n;
	for (int i = 0; i < v->n; i++) {
		unsigned char *nl = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
		size_t n = 0;
		if (!nl || nl - p > 4096)
			die("%s: %d lines, %d tokens expected", path, i, v->n);
		if (i >= v->n - N_SPECIAL)
			memcpy(lb, p, n = (size_t)(nl - p));
		else
			n = unspell(lb, p, nl, path);
		if (n != v->tok[i].n || memcmp(lb, v->tok[i].s, n))
			die("%s, line %d does not agree with merges.txt", path, i + 1);
		p = nl + 1;
	}
	if (p != end)
		die("%s: more lines than the %d tokens", path, v->n);
	free(t.p);
}

/* ---- pre-tokenisation */

static pcre2_code *re;
static pcre2_match_data *re_match;

static void
split_init(void)
{
	int code;
	PCRE2_SIZE at;

	re = pcre2_compile((PCRE2_SPTR)PATTERN, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
		&code, &at, NULL);
	if (!re)
		die("compiling the pattern: error %d at %zu", code, at);
	pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);	/* without it: slower, same result */
	re_match = pcre2_match_data_create_from_pattern(re, NULL);
	if (!re_match)
		die("out of memory");
}

/* Calls word() for each pre-token of the valid UTF-8 text s, in order, nothing left out. */
static void
split(const unsigned char *s, size_t n, void (*word)(void *, const unsigned char *, size_t),
	void *arg)
{
	size_t at = 0;
	uint32_t opt = 0;	/* the first match checks that s is valid UTF-8 */

	while (at < n) {
		int rc = pcre2_match(re, s, n, at, opt, re_match, NULL);
		if (rc < 0)
			die("matching at byte %zu of %zu: PCRE2 error %d", at, n, rc);
		const PCRE2_SIZE *o = pcre2_get_ovector_pointer(re_match);
		if (o[0] != at || o[1] <= at)
			die("the pattern leaves a gap at byte %zu", at);
		word(arg, s + at, o[1] - at);
		at = o[1];
		opt = PCRE2_NO_UTF_CHECK;
	}
}

/* Calls doc() for each NUL-separated document of b. */
static void
documents(struct buf b, void (*doc)(void *, const unsigned char *, size_t), void *arg)
{
	for (size_t at = 0; at < b.n; ) {
		const unsigned char *nul = memchr(b.p + at, 0, b.n - at);
		size_t n = nul ? (size_t)(nul - (b.p + at)) : b.n - at;
		doc(arg, b.p + at, n);
		at += n + 1;
	}
}

/* ---- table of distinct pre-tokens */

struct word {
	const unsigned char *s;
	uint32_t n;
	uint32_t n_id;
	uint64_t count;
	int32_t *id;		/* [n_id] current segmentation; while training -1 marks holes */
};

struct words {
	struct word *w;		/* [n] */
	size_t n, cap;
	uint32_t *slot;		/* [mask + 1] index + 1 into w, 0 is free */
	size_t mask;
};

static void
words_init(struct words *t)
{
	memset(t, 0, sizeof *t);
	t->mask = (1 << 22) - 1;
	t->slot = grow(NULL, t->mask + 1, sizeof t->slot[0]);
	memset(t->slot, 0, (t->mask + 1) * sizeof t->slot[0]);
}

/* Finds or adds a word; the bytes are copied. The pointer lives until the next call. */
static struct word *
words_get(struct words *t, const unsigned char *s, size_t n)
{
	uint64_t h = n;
	size_t i;

	for (size_t k = 0; k < n; k++)
		h = (h ^ s[k]) * 0x100000001b3ULL;
	for (i = mix(h) & t->mask; t->slot[i]; i = (i + 1) & t->mask) {
		struct word *w = &t->w[t->slot[i] - 1];
		if (w->n == n && !memcmp(w->s, s, n))
			return w;
	}
	if (t->n > t->mask / 2)
		die("more than %zu distinct pre-tokens", t->n);
	if (t->n == t->cap)
		t->w = grow(t->w, t->cap = t->cap ? t->cap * 2 : 4096, sizeof t->w[0]);
	struct word *w = &t->w[t->n++];
	unsigned char *copy = grow(NULL, n, 1);
	memcpy(copy, s, n);
	*w = (struct word){ copy, (uint32_t)n, (uint32_t)n, 0, grow(NULL, n, sizeof w->id[0]) };
	for (size_t k = 0; k < n; k++)
		w->id[k] = id_of_byte[s[k]];
	t->slot[i] = (uint32_t)t->n;
	return w;
}

/* ---- training */

struct stat {
	uint64_t key;		/* pair_key, 0 is free */
	int64_t count;
	uint32_t *in;		/* [n_in] words that held the pair when it was counted */
	uint32_t n_in, cap_in;
	int32_t pushed;		/* id of the merge after which it was pushed last */
};

struct entry {
	int64_t count;
	uint64_t key;
};

struct trainer {
	struct words words;
	struct stat *stat;	/* open-addressed, never shrinks */
	size_t mask, n_stat;
	struct entry *heap;	/* lazy: an entry is stale when its count is not stat's */
	size_t n_heap, cap_heap;
};

static struct stat *
stat_get(struct trainer *t, uint64_t key)
{
	if (t->n_stat > t->mask / 2) {
		struct stat *old = t->stat;
		size_t n = t->mask + 1;
		t->mask = n * 2 - 1;
		t->stat = grow(NULL, n * 2, sizeof old[0]);
		memset(t->stat, 0, n * 2 * sizeof old[0]);
		for (size_t k = 0; k < n; k++) {
			if (!old[k].key)
				continue;
			size_t i = mix(old[k].key) & t->mask;
			while (t->stat[i].key)
				i = (i + 1) & t->mask;
			t->stat[i] = old[k];
		}
		free(old);
	}
	size_t i = mix(key) & t->mask;
	while (t->stat[i].key && t->stat[i].key != key)
		i = (i + 1) & t->mask;
	if (!t->stat[i].key) {
		t->stat[i].key = key;
		t->n_stat++;
	}
	return &t->stat[i];
}

/* Higher count first, then the smaller key: left id, then right id. */
static int
entry_before(struct entry a, struct entry b)
{
	return a.count != b.count ? a.count > b.count : a.key < b.key;
}

static void
heap_push(struct trainer *t, struct entry e)
{
	if (t->n_heap == t->cap_heap)
		t->heap = grow(t->heap, t->cap_heap = t->cap_heap ? t->cap_heap * 2 : 1 << 16,
			sizeof t->heap[0]);
	size_t i = t->n_heap++;
	while (i && entry_before(e, t->heap[(i - 1) / 2])) {
		t->heap[i] = t->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	t->heap[i] = e;
}

static struct entry
heap_pop(struct trainer *t)
{
	struct entry top = t->heap[0], e = t->heap[--t->n_heap];
	size_t i = 0;

	for (;;) {
		size_t c = 2 * i + 1;
		if (c >= t->n_heap)
			break;
		if (c + 1 < t->n_heap && entry_before(t->heap[c + 1], t->heap[c]))
			c++;
		if (!entry_before(t->heap[c], e))
			break;
		t->heap[i] = t->heap[c];
		i = c;
	}
	t->heap[i] = e;
	return top;
}

static void
stat_add(struct trainer *t, int32_t a, int32_t b, int64_t count, uint32_t word)
{
	struct stat *s = stat_get(t, pair_key(a, b));

	s->count += count;
	if (count < 0 || (s->n_in && s->in[s->n_in - 1] == word))
		return;
	if (s->n_in == s->cap_in)
		s->in = grow(s->in, s->cap_in = s->cap_in ? s->cap_in * 2 : 4, sizeof s->in[0]);
	s->in[s->n_in++] = word;
}

/* Joins every a b in the word to c, left to right; corrects the counts of the pairs around. */
static void
word_merge(struct trainer *t, uint32_t at, int32_t a, int32_t b, int32_t c)
{
	struct word *w = &t->words.w[at];
	int64_t n = (int64_t)w->count;
	uint32_t out = 0, hit = 0;

	for (uint32_t i = 0; i + 1 < w->n_id && !hit; i++)
		hit = w->id[i] == a && w->id[i + 1] == b;
	if (!hit)
		return;
	for (uint32_t i = 0; i + 1 < w->n_id; i++)
		stat_add(t, w->id[i], w->id[i + 1], -n, at);
	for (uint32_t i = 0; i < w->n_id; i++) {
		if (i + 1 < w->n_id && w->id[i] == a && w->id[i + 1] == b) {
			w->id[out++] = c;
			i++;
		} else {
			w->id[out++] = w->id[i];
		}
	}
	w->n_id = out;
	for (uint32_t i = 0; i + 1 < out; i++) {
		int32_t l = w->id[i], r = w->id[i + 1];
		struct stat *s = stat_get(t, pair_key(l, r));
		if (l == c || r == c)
			stat_add(t, l, r, n, at);
		else
			s->count += n;	/* the word is in this pair's list already */
	}
}

static void
count_word(void *arg, const unsigned char *s, size_t n)
{
	words_get(arg, s, n)->count++;
}

static void
count_doc(void *arg, const unsigned char *s, size_t n)
{
	split(s, n, count_word, arg);
}

static void
train(const char *corpus, const char *tok, int n_vocab, size_t bytes)
{
	static struct trainer t;
	struct vocab v;
	char *name[DOMAIN_MAX], path[1024];
	int n = domains(corpus, name);

	words_init(&t.words);
	for (int i = 0; i < n; i++) {
		struct buf b = file_read(path_of(path, corpus, name[i], ".train"));
		if (b.n > bytes) {	/* whole documents only */
			b.n = bytes;
			while (b.n && b.p[b.n])
				b.n--;
		}
		documents(b, count_doc, &t.words);
		free(b.p);
	}
	fprintf(stderr, "bpe: %d domains, %zu distinct pre-tokens\n", n, t.words.n);

	t.mask = (1 << 20) - 1;
	t.stat = grow(NULL, t.mask + 1, sizeof t.stat[0]);
	memset(t.stat, 0, (t.mask + 1) * sizeof t.stat[0]);
	for (size_t i = 0; i < t.words.n; i++) {
		const struct word *w = &t.words.w[i];
		for (uint32_t k = 0; k + 1 < w->n_id; k++)
			stat_add(&t, w->id[k], w->id[k + 1], (int64_t)w->count, (uint32_t)i);
	}
	for (size_t i = 0; i <= t.mask; i++)
		if (t.stat[i].key)
			heap_push(&t, (struct entry){ t.stat[i].count, t.stat[i].key });

	/*
	 * Only pairs with the new token can grow, and they are pushed after each merge. A count
	 * that fell is found when its stale entry is popped, and pushed again as it is now.
	 */
	vocab_init(&v);
	while (v.n < n_vocab - N_SPECIAL && t.n_heap) {
		struct entry e = heap_pop(&t);
		struct stat *s = stat_get(&t, e.key);
		if (s->count != e.count) {
			if (s->count > 0 && s->count < e.count)
				heap_push(&t, (struct entry){ s->count, e.key });
			continue;
		}
		if (e.count < 2)
			break;
		int32_t a = (int32_t)((e.key - 1) >> 32), b = (int32_t)((e.key - 1) & 0xffffffff);
		int32_t c = vocab_merge(&v, a, b);
		uint32_t *in = s->in, n_in = s->n_in;
		s->in = NULL;
		s->n_in = s->cap_in = 0;
		for (uint32_t k = 0; k < n_in; k++)
			word_merge(&t, in[k], a, b, c);
		for (uint32_t k = 0; k < n_in; k++) {
			const struct word *w = &t.words.w[in[k]];
			for (uint32_t i = 0; i + 1 < w->n_id; i++) {
				if (w->id[i] != c && w->id[i + 1] != c)
					continue;
				struct stat *p = stat_get(&t, pair_key(w->id[i], w->id[i + 1]));
				if (p->pushed == c)
					continue;
				heap_push(&t, (struct entry){ p->count, p->key });
				p->pushed = c;
			}
		}
		free(in);
		if (v.n % 500 == 0)
			fprintf(stderr, "bpe: %d tokens, last pair seen %lld times\n", v.n,
				(long long)e.count);
	}
	if (v.n < n_vocab - N_SPECIAL)
		die("the text gives only %d of %d tokens", v.n + N_SPECIAL, n_vocab);
	vocab_finish(&v);
	vocab_write(&v, tok);
}

/* ---- encoding */

struct encoder {
	const struct vocab *v;
	struct words cache;	/* words whose count is 1 hold their final ids */
	uint16_t *id;
	size_t n, cap, docs;
};

static void
encode_word(void *arg, const unsigned char *s, size_t n)
{
	struct encoder *e = arg;
	struct word *w = words_get(&e->cache, s, n);

	/* Join the lowest-ranked pair, the leftmost of them first, until none is left. */
	while (!w->count) {
		int32_t best = INT32_MAX;
		uint32_t at = 0;
		for (uint32_t i = 0; i + 1 < w->n_id; i++) {
			int32_t c = vocab_join(e->v, w->id[i], w->id[i + 1]);
			if (c >= 0 && c < best) {
				best = c;
				at = i;
			}
		}
		if (best == INT32_MAX) {
			w->count = 1;
			break;
		}
		w->id[at] = best;
		memmove(&w->id[at + 1], &w->id[at + 2], (w->n_id - at - 2) * sizeof w->id[0]);
		w->n_id--;
	}
	if (e->cap - e->n < w->n_id + 1)
		e->id = grow(e->id, e->cap = (e->cap + w->n_id + 1) * 2, sizeof e->id[0]);
	for (uint32_t i = 0; i < w->n_id; i++)
		e->id[e->n++] = (uint16_t)w->id[i];
}

static void
encode_doc(void *arg, const unsigned char *s, size_t n)
{
	struct encoder *e = arg;

	split(s, n, encode_word, e);
	if (e->n == e->cap)
		e->id = grow(e->id, e->cap = (e->cap + 1) * 2, sizeof e->id[0]);
	e->id[e->n++] = (uint16_t)(e->v->n - N_SPECIAL);
	e->docs++;
}

static const char *const SPLIT[] = { ".train", ".held" };

static void
encode(const char *corpus, const char *tok)
{
	static struct encoder e;
	struct vocab v;
	char *name[DOMAIN_MAX], path[1024], ext[32];
	int n = domains(corpus, name);
	FILE *stats;

	vocab_read(&v, tok);
	e.v = &v;
	words_init(&e.cache);
	stats = file_create(path_of(path, tok, "stats", ".tsv"));
	fputs("domain\tsplit\tdocuments\tbytes\ttokens\tbytes_per_token\n", stats);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < 2; k++) {
			struct buf b = file_read(path_of(path, corpus, name[i], SPLIT[k]));
			e.n = e.docs = 0;
			documents(b, encode_doc, &e);
			snprintf(ext, sizeof ext, "%s.u16", SPLIT[k]);
			FILE *f = file_create(path_of(path, tok, name[i], ext));
			for (size_t j = 0; j < e.n; j++) {
				fputc(e.id[j] & 0xff, f);
				fputc(e.id[j] >> 8, f);
			}
			file_close(f, path);
			/* without the separators, which are not text */
			size_t text = b.n - (e.docs - 1), ids = e.n - e.docs;
			fprintf(stats, "%s\t%s\t%zu\t%zu\t%zu\t%.4f\n", name[i], SPLIT[k] + 1,
				e.docs, text, ids, (double)text / (double)ids);
			free(b.p);
		}
	file_close(stats, "stats.tsv");
}

static void
decode(const char *corpus, const char *tok)
{
	struct vocab v;
	char *name[DOMAIN_MAX], path[1024], ext[32];
	int n = domains(corpus, name);

	vocab_read(&v, tok);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < 2; k++) {
			struct buf text = file_read(path_of(path, corpus, name[i], SPLIT[k]));
			snprintf(ext, sizeof ext, "%s.u16", SPLIT[k]);
			struct buf ids = file_read(path_of(path, tok, name[i], ext));
			size_t at = 0;
			if (ids.n % 2)
				die("%s: odd size %zu", path, ids.n);
			for (size_t j = 0; j < ids.n; j += 2) {
				int id = ids.p[j] | ids.p[j + 1] << 8;
				if (id >= v.n)
					die("%s: id %d of %d at %zu", path, id, v.n, j / 2);
				const unsigned char *s = v.tok[id].s;
				size_t len = v.tok[id].n;
				if (id == v.n - N_SPECIAL) {	/* end of a document */
					s = (const unsigned char *)"";
					len = j + 2 < ids.n;
				}
				if (len > text.n - at || memcmp(text.p + at, s, len))
					die("%s: token %zu differs from the text at byte %zu", path,
						j / 2, at);
				at += len;
			}
			if (at != text.n)
				die("%s: ends at byte %zu of %zu", path, at, text.n);
			free(text.p);
			free(ids.p);
		}
	printf("round trip exact: %d domains\n", n);
}

/* Checks the ids of hex TAB id id ... lines, written by encode_cases.py. */
static void
cases(const char *file, const char *tok)
{
	static struct encoder e;
	struct vocab v;
	struct buf b = file_read(file);
	int line = 0, bad = 0;

	vocab_read(&v, tok);
	e.v = &v;
	words_init(&e.cache);
	for (unsigned char *p = b.p, *end = b.p + b.n; p < end; ) {
		unsigned char *nl = memchr(p, '\n', (size_t)(end - p));
		unsigned char *tab = nl ? memchr(p, '\t', (size_t)(nl - p)) : NULL;
		line++;
		if (!tab)
			die("%s, line %d: no TAB", file, line);
		size_t n = (size_t)(tab - p) / 2, k = 0;
		unsigned char *s = grow(NULL, n, 1);
		for (size_t i = 0; i < n; i++) {
			char hex[3] = { (char)p[2 * i], (char)p[2 * i + 1], 0 };
			s[i] = (unsigned char)strtoul(hex, NULL, 16);
		}
		*nl = 0;
		e.n = 0;
		split(s, n, encode_word, &e);
		int ok = 1;
		for (char *q = (char *)tab + 1; *q; k++) {
			long id = strtol(q, &q, 10);
			ok &= k < e.n && e.id[k] == id;
			while (*q == ' ')
				q++;
		}
		if (!ok || k != e.n) {
			fprintf(stderr, "%s, line %d: ids differ\n", file, line);
			bad++;
		}
		free(s);
		p = nl + 1;
	}
	printf("%d passed, %d failed\n", line - bad, bad);
	if (bad)
		exit(1);
}

int
main(int argc, char **argv)
{
	int n_vocab = 4096;
	size_t bytes = 2000000;

	if (argc < 4)
		die("usage: bpe train|encode|decode CORPUS TOK, bpe cases FILE TOK");
	for (int i = 4; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "-v"))
			n_vocab = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "-m"))
			bytes = strtoull(argv[i + 1], NULL, 10);
		else
			die("unknown option %s", argv[i]);
	}
	if (n_vocab < 256 + N_SPECIAL || n_vocab > VOCAB_MAX)
		die("vocabulary %d is not within %d..%d", n_vocab, 256 + N_SPECIAL, VOCAB_MAX);
	alphabet_init();
	split_init();
	if (!strcmp(argv[1], "train"))
		train(argv[2], argv[3], n_vocab, bytes);
	else if (!strcmp(argv[1], "encode"))
		encode(argv[2], argv[3]);
	else if (!strcmp(argv[1], "decode"))
		decode(argv[2], argv[3]);
	else if (!strcmp(argv[1], "cases"))
		cases(argv[2], argv[3]);
	else
		die("unknown command %s", argv[1]);
	return 0;
}
