/*
 * test_tok.c - the tokenizer. Expected ids come from tests/data/bpe_cases.tsv, written by an
 * independent encoder for the vocabulary in tests/data/vocab-4096.gguf; what is made by hand here
 * uses vocabularies small enough to follow on paper. llama.cpp's own vectors:
 * tests/ref/llama_vocab.sh.
 */
#include "tok_try.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/text.h"
#include "tok/bpe.h"
#include "tok/pre.h"

#define VOCAB "tests/data/vocab-4096.gguf"
#define CASES "tests/data/bpe_cases.tsv"

static struct gguf *open_named(const char *path, struct tok **t)
{
	struct moe_err e;
	struct gguf *g = gguf_open(path, &e);

	if (!g)
		fail_msg("%s", e.msg);
	*t = tok_load(g, &e);
	if (!*t)
		fail_msg("%s", e.msg);
	return g;
}

static struct gguf *open_vocab(struct tok **t)
{
	return open_named(VOCAB, t);
}

static int32_t *encode(const struct tok *t, const char *s, size_t len, unsigned flags, size_t *n)
{
	struct moe_err e;
	int32_t *ids = NULL;

	if (tok_encode(t, s, len, flags, &ids, n, &e))
		fail_msg("%s", e.msg);
	assert_non_null(ids);
	return ids;
}

/* The text's ids must be `want`, "1 2 3". */
static void expect(const struct tok *t, const char *s, size_t len, unsigned flags, const char *want)
{
	char have[4096] = "";
	size_t n, i, used = 0;
	int32_t *ids = encode(t, s, len, flags, &n);

	for (i = 0; i < n && used < sizeof have - 16; i++)
		used += (size_t)snprintf(have + used, sizeof have - used, "%s%d", i ? " " : "", ids[i]);
	free(ids);
	if (strcmp(have, want))
		fail_msg("'%.*s' gives %s, not %s", (int)len, s, have, want);
}

/* The bytes of the text's tokens must be the text. Returns how many tokens. */
static size_t round_trip(const struct tok *t, const char *s, size_t len, unsigned flags)
{
	size_t n, i, at = 0, k;
	int32_t *ids = encode(t, s, len, flags, &n);

	for (i = 0; i < n; i++) {
		const char *b = tok_bytes(t, ids[i], &k);

		assert_non_null(b);
		if (k > len - at || memcmp(b, s + at, k))
			fail_msg("token %zu (id %d) is not the text at byte %zu", i, ids[i], at);
		at += k;
	}
	assert_int_equal(at, len);
	free(ids);
	return n;
}

/* ---- vectors ---- */

static size_t unhex(const char *hex, size_t n, char *out)
{
	unsigned v;

	for (size_t i = 0; i + 1 < n; i += 2) {
		assert_int_equal(sscanf(hex + i, "%2x", &v), 1);
		out[i / 2] = (char)v;
	}
	return n / 2;
}

/* Every line of a file of cases; after each, `also` looks at the text. Returns how many. */
static size_t vectors(const char *path, const struct tok *t,
	void (*also)(const struct tok *t, const char *s, size_t n))
{
	static char line[1 << 20], text[1 << 19];
	FILE *f = fopen(path, "r");
	size_t cases = 0, n;

	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		char *tab = strchr(line, '\t');

		assert_non_null(tab);
		line[strcspn(line, "\n")] = 0;
		n = unhex(line, (size_t)(tab - line), text);
		expect(t, text, n, 0, tab + 1);
		also(t, text, n);
		cases++;
	}
	fclose(f);
	return cases;
}

static void comes_back(const struct tok *t, const char *s, size_t n)
{
	round_trip(t, s, n, TOK_SPECIAL);
	round_trip(t, s, n, TOK_BOS); /* this model asks for none */
}

static void test_vectors(void **state)
{
	struct gguf *g;
	struct tok *t;

	(void)state;
	g = open_vocab(&t);
	assert_true(vectors(CASES, t, comes_back) >= 281);
	tok_free(t);
	gguf_close(g);
}

static int is_utf8(const char *s, size_t n)
{
	uint32_t cp;
	size_t len;

	for (; n; s += len, n -= len) {
		len = text_decode(s, n, &cp);
		if (!len)
			return 0;
	}
	return 1;
}

/* The text comes back, but for U+2581, which is a blank to this vocabulary. */
static void decodes(const struct tok *t, const char *s, size_t n)
{
	char *want = malloc(n + 1), *have;
	size_t i, k = 0, len, n_ids;
	struct moe_err e;
	int32_t *ids = encode(t, s, n, TOK_BOS | TOK_EOS, &n_ids);

	assert_non_null(want);
	for (i = 0; is_utf8(s, n) && i < n; i++) {
		if (n - i >= 3 && !memcmp(s + i, "\xe2\x96\x81", 3)) {
			want[k++] = ' ';
			i += 2;
		} else {
			want[k++] = s[i];
		}
	}
	assert_int_equal(tok_decode(t, ids, n_ids, 0, &have, &len, &e), 0);
	if (is_utf8(s, n) && (len != k || memcmp(have, want, k)))
		fail_msg("'%.*s' comes back as '%.*s'", (int)k, want, (int)len, have);
	free(have);
	free(want);
	free(ids);
}

static void nothing_more(const struct tok *t, const char *s, size_t n)
{
	(void)t, (void)s, (void)n;
}

static void test_spm_vectors(void **state)
{
	struct gguf *g;
	struct tok *t;

	(void)state;
	g = open_named("tests/data/vocab-spm.gguf", &t);
	assert_true(vectors("tests/data/spm_cases.tsv", t, decodes) >= 268);
	assert_int_equal(tok_bos(t), 1);
	assert_int_equal(tok_eos(t), 2);
	expect(t, "", 0, TOK_BOS | TOK_EOS, "1");
	tok_free(t);
	gguf_close(g);
}

static void test_unigram_vectors(void **state)
{
	struct gguf *g;
	struct tok *t;

	(void)state;
	g = open_named("tests/data/vocab-unigram.gguf", &t);
	assert_true(vectors("tests/data/unigram_cases.tsv", t, nothing_more) >= 208);
	expect(t, "", 0, TOK_BOS | TOK_EOS, "1"); /* this kind ends a text, and begins none */
	tok_free(t);
	gguf_close(g);
}

static void test_vocabulary(void **state)
{
	struct gguf *g;
	struct tok *t;
	const char *s;
	size_t n;

	(void)state;
	g = open_vocab(&t);
	gguf_close(g); /* the tokenizer keeps nothing of it */
	assert_string_equal(tok_describe(t), "gpt2/qwen2, 4096 tokens");
	assert_int_equal(tok_n_vocab(t), 4096);
	assert_int_equal(tok_bos(t), 4093);
	assert_int_equal(tok_eos(t), 4095);
	assert_true(tok_is_end(t, 4093));
	assert_true(tok_is_end(t, 4095));
	assert_false(tok_is_end(t, 4094));
	assert_false(tok_is_end(t, -1));
	assert_false(tok_is_end(t, 4096));
	assert_true(tok_is_special(t, 4094));
	assert_false(tok_is_special(t, 0));
	assert_false(tok_is_special(t, INT32_MIN));
	s = tok_bytes(t, 4094, &n);
	assert_int_equal(n, 12);
	assert_memory_equal(s, "<|im_start|>", 12);
	s = tok_bytes(t, 220, &n); /* the space, U+0120 in the file */
	assert_int_equal(n, 1);
	assert_memory_equal(s, " ", 1);
	assert_null(tok_bytes(t, 4096, &n));
	assert_null(tok_bytes(t, -1, &n));
	tok_free(t);
	tok_free(NULL);
}

/* ---- round trips ---- */

static void test_random_bytes(void **state)
{
	struct gguf *g;
	struct tok *t;
	struct rng r;
	char s[300];

	(void)state;
	g = open_vocab(&t);
	rng_seed(&r, 1);
	for (int i = 0; i < 20000; i++) {
		size_t n = rng_below(&r, sizeof s), k;

		for (k = 0; k < n; k++) /* often few different bytes, so that merges and sequences occur */
			s[k] = (char)(i % 2 ? rng_below(&r, 256) : (uint64_t)"\xe2\x80\xa8 "
				"\n'sa1\xf0\xc3\xa9\xff" [rng_below(&r, 13)]);
		round_trip(t, s, n, i % 3 ? 0 : TOK_SPECIAL);
	}
	tok_free(t);
	gguf_close(g);
}

static uint32_t random_scalar(struct rng *r)
{
	static const uint32_t top[] = { 0x80, 0x800, 0x3100, 0x10000, 0x20000, 0x110000 };
	uint32_t cp;

	do
		cp = (uint32_t)rng_below(r, top[rng_below(r, sizeof top / sizeof *top)]);
	while (cp >= 0xd800 && cp < 0xe000);
	return cp;
}

static void test_random_unicode(void **state)
{
	char s[1200];
	struct gguf *g;
	struct tok *t;
	struct rng r;

	(void)state;
	g = open_vocab(&t);
	rng_seed(&r, 2);
	for (int i = 0; i < 10000; i++) {
		size_t count = rng_below(&r, 300), n = 0;

		while (count--)
			n += text_encode(random_scalar(&r), s + n);
		round_trip(t, s, n, 0);
	}
	tok_free(t);
	gguf_close(g);
}

static void test_every_token(void **state)
{
	struct gguf *g;
	struct tok *t;

	(void)state;
	g = open_vocab(&t);
	for (int32_t id = 0; id < 4096; id++) {
		size_t n;
		const char *s = tok_bytes(t, id, &n);

		assert_non_null(s);
		round_trip(t, s, n, 0);
		assert_true(n > 0);
		if (tok_is_special(t, id))
			assert_int_equal(round_trip(t, s, n, TOK_SPECIAL), 1);
	}
	assert_int_equal(round_trip(t, "", 0, TOK_SPECIAL | TOK_BOS), 0);
	tok_free(t);
	gguf_close(g);
}

static void repeat(char *out, size_t n, const char *unit)
{
	size_t k = strlen(unit), i;

	for (i = 0; i < n; i++)
		out[i] = unit[i % k];
}

/* 1 MB without a place to cut: linear, or n log n, but never quadratic. Steps are counted: short
 * pieces take at most their length squared, long ones two per byte. */
static void test_long_runs(void **state)
{
	static const char *const unit[] = { "a", " ", "\n", "0", "A", "Aa", "'", "-", "\t ", " \n",
		"e\xcc\x81", "\xe4\xb8\x80", "\xff", "\xf0", "<|im_start|>", "<|im_start|", "in the",
		"\xe2\x96\x81" };
	static const char *const vocab[] = { VOCAB, "tests/data/vocab-spm.gguf",
		"tests/data/vocab-unigram.gguf" };
	static char s[1 << 20];
	struct gguf *g;
	struct tok *t;
	size_t n;

	(void)state;
	for (size_t v = 0; v < sizeof vocab / sizeof *vocab; v++) {
		g = open_named(vocab[v], &t);
		for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
			repeat(s, sizeof s, unit[i]);
			bpe_steps = 0;
			if (v == 0)
				round_trip(t, s, sizeof s, TOK_SPECIAL);
			else
				free(encode(t, s, sizeof s, TOK_SPECIAL, &n));
			if (bpe_steps > 48 * (uint64_t)sizeof s)
				fail_msg("1 MB of '%s' takes %llu steps", unit[i], (unsigned long long)bpe_steps);
		}
		tok_free(t);
		gguf_close(g);
	}
}

/* ---- merges ---- */

/* Merge by the definition: again and again the leftmost pair of the lowest rank. */
static size_t naive_merge(const struct bpe *b, int32_t *ids, size_t n)
{
	for (;;) {
		const struct bpe_merge *best = NULL;
		size_t at = 0, i;

		for (i = 0; i + 1 < n; i++) {
			const struct bpe_merge *m = bpe_find(b, ids[i], ids[i + 1]);

			if (m && (!best || m->rank < best->rank)) {
				best = m;
				at = i;
			}
		}
		if (!best)
			return n;
		ids[at] = best->id;
		memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
		n--;
	}
}

static void test_merge_orders(void **state)
{
	int32_t want[400], have[400];
	struct moe_err e;
	struct rng r;
	struct bpe b;

	(void)state;
	rng_seed(&r, 3);
	for (int round = 0; round < 300; round++) {
		int32_t n_ids = 4;
		uint32_t rank;

		assert_int_equal(bpe_init(&b, 60, rng_u64(&r), &e), 0);
		for (rank = 0; rank < 60; rank++) { /* few symbols: pairs overlap and compete */
			int32_t left = (int32_t)rng_below(&r, (uint64_t)n_ids);
			int32_t right = (int32_t)rng_below(&r, (uint64_t)n_ids);

			bpe_add(&b, left, right, rank, n_ids++);
		}
		for (int k = 0; k < 20; k++) {
			size_t n = 1 + rng_below(&r, 400), got;

			for (size_t i = 0; i < n; i++)
				want[i] = have[i] = (int32_t)rng_below(&r, 5) - (rng_below(&r, 40) == 0 ? 5 : 0);
			got = bpe_merge(&b, have, n);
			assert_int_equal(got, naive_merge(&b, want, n));
			assert_memory_equal(have, want, got * sizeof *have);
		}
		bpe_free(&b);
	}
}

/* ---- pre-tokenizers ---- */

struct pieces { char s[4096]; size_t n, bytes; };

static void add_piece(void *arg, const char *s, size_t n)
{
	struct pieces *p = arg;

	assert_true(n > 0);
	if (p->n + n + 2 < sizeof p->s) {
		if (p->n)
			p->s[p->n++] = '#';
		memcpy(p->s + p->n, s, n);
		p->n += n;
		p->s[p->n] = 0;
	}
	p->bytes += n;
}

static struct pieces split(const struct pre *p, const char *s, size_t n)
{
	struct pieces out = { "", 0, 0 };
	struct moe_err e;
	struct pre_match *m = pre_match_new(&e);

	assert_non_null(m);
	assert_int_equal(pre_split(p, m, s, n, add_piece, &out), 0);
	pre_match_free(m);
	return out;
}

static struct pre *compile(const char *name)
{
	const struct pre_row *row = pre_find(name, strlen(name));
	struct moe_err e;
	struct pre *p;

	if (!row)
		fail_msg("no row %s", name);
	p = pre_compile(row, &e);
	if (!p)
		fail_msg("%s: %s", name, e.msg);
	return p;
}

/* Derived by hand from the expressions that the models publish. */
static void test_pieces(void **state)
{
	static const struct { const char *pre, *text, *pieces; } cases[] = {
		{ "gpt-2", "it's  1234 a\t\tb ", "it#'s# # 1234# a#\t#\t#b# " },
		{ "gpt-2", "IT'S", "IT#'#S" },
		{ "olmo", "x\n\n y!?", "x#\n\n# y#!?" },
		{ "llama-bpe", "IT'S 12345 a.b\n\n  c", "IT#'S# #123#45# a#.b#\n\n# # c" },
		{ "qwen2", "12 it'll\r\n  z  ", "1#2# it#'ll#\r\n# # z#  " },
		{ "qwen2", "a !!\n\n", "a# !!\n\n" },
		{ "qwen2", "\xc2\xa0x\xe1\xa0\x8e y", "\xc2\xa0x#\xe1\xa0\x8e# y" },
		{ "qwen35", "e\xcc\x81t\xcc\x81", "e\xcc\x81t\xcc\x81" },
		{ "qwen2", "e\xcc\x81t", "e#\xcc\x81t" },
		{ "gpt-4o", "HelloWorld it's a/b/\n 1234", "Hello#World# it's# a#/b#/\n# #123#4" },
		{ "gpt-4o", "\xd0\x94\xd0\xb0\xd0\x94\xd0\xb0", "\xd0\x94\xd0\xb0#\xd0\x94\xd0\xb0" },
		{ "tekken", "HelloWorld 12 it's", "Hello#World# #1#2# it#'s" },
		{ "deepseek-v3", "a1234b \xe4\xb8\xad\xe6\x96\x87x",
			"a#123#4#b# #\xe4\xb8\xad\xe6\x96\x87#x" },
		{ "deepseek-v3", "foo.bar (x)", "foo#.bar# (#x#)" },
		{ "deepseek-coder", "a 12\nb;c", "a# #1#2#\n#b#;#c" },
		{ "deepseek-llm", "a 12\nb;c  ", "a# #12#\n#b#;#c#  " },
		{ "starcoder", "x 12 y", "x# #1#2# y" },
		{ "default", "1234 a=b", "123#4# a#=#b" },
		{ "falcon", "1234 a=b", "123#4# a#=#b" },
		{ "afmoe", "1234567 12 x", "1#234#567# #12# x" },
		{ "kimi-k2", "ab\xe4\xb8\xad\xe6\x96\x87" "Cd12345",
			"ab#\xe4\xb8\xad\xe6\x96\x87#Cd#123#45" },
		{ "bailingmoe", "a\n\nb 12", "a#\n\n#b# #1#2" },
		{ "bloom", "a, b", "a#,# b" },
		{ "qwen2", "a\xff\xfe" "b\xc3", "a#\xff#\xfe#b#\xc3" },
		{ "qwen2", " \xff ", " #\xff# " },
		{ "laguna", "a \nb", "a# #\n#b" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pre *p = compile(cases[i].pre);
		struct pieces have = split(p, cases[i].text, strlen(cases[i].text));

		if (strcmp(have.s, cases[i].pieces))
			fail_msg("%s cuts '%s' into '%s', not '%s'", cases[i].pre, cases[i].text, have.s,
				cases[i].pieces);
		pre_free(p);
	}
	assert_null(pre_find("", 0));
	assert_null(pre_find("qwen", 4));
	assert_null(pre_find("qwen2 deepseek-r1-qwen", 22));
}

/* Every row: compiles, loses no byte, and is not quadratic on long runs. */
static void test_all_rows(void **state)
{
	static const char *const unit[] = { "a", " ", "\n", "1", "A", "Aa", ".", "\xe4\xb8\x80", " a",
		"\t\n", "e\xcc\x81" };
	static char s[1 << 17];
	char names[2048] = "", *name, *save = NULL;
	int n_names = 0;
	struct rng r;

	(void)state;
	for (size_t row = 0; pre_names(row); row++)
		snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", row ? " " : "",
			pre_names(row));
	rng_seed(&r, 4);
	for (name = strtok_r(names, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
		struct pre *p;
		size_t i, n;

		if (pre_find(name, strlen(name))->flags & PRE_CHARS)
			continue;
		n_names++;
		p = compile(name);
		for (i = 0; i < 300; i++) {
			for (n = 0; n < 400;)
				n += text_encode(random_scalar(&r), s + n);
			assert_int_equal(split(p, s, n).bytes, n);
		}
		for (i = 0; i < sizeof unit / sizeof *unit; i++) {
			int64_t start = clock_mono();

			repeat(s, sizeof s, unit[i]);
			assert_int_equal(split(p, s, sizeof s).bytes, sizeof s);
			if (clock_mono() - start > 2000000000)
				fail_msg("%s: 128 KB of '%s' takes %.1f s", name, unit[i],
					(double)(clock_mono() - start) / 1e9);
		}
		pre_free(p);
	}
	assert_true(n_names > 80);
}

/* ---- hand-made vocabularies ---- */

/* A model file from parts; NULL or a negative number = leave the key out. */
struct make {
	const char *model, *pre;
	const char *const *tokens; /* NULL-terminated; after them, if bytes, the 256 of the alphabet */
	const int *types;          /* of the tokens; the 256 are normal */
	const char *const *merges;
	int bytes, n_types, bos, eos, unk, add_bos;
};

static const struct make plain = { .model = "gpt2", .pre = "qwen2", .bytes = 1, .n_types = -1,
	.bos = -1, .eos = -1, .unk = -1, .add_bos = -1 };

static void put_alphabet(struct bytes *b)
{
	uint32_t next = 0x100, cp;
	char s[4];

	for (int i = 0; i < 256; i++) {
		cp = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174 ? (uint32_t)i : next++;
		put_strn(b, s, text_encode(cp, s));
	}
}

static size_t count(const char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

static void make_file(struct bytes *b, const struct make *m)
{
	size_t n = count(m->tokens), total = n + (m->bytes ? 256 : 0), i;
	uint64_t n_kv = (m->model != NULL) + (m->pre != NULL) + (total > 0) + (m->types != NULL) +
		(m->merges != NULL) + (m->bos >= 0) + (m->eos >= 0) + (m->unk >= 0) + (m->add_bos >= 0);

	head(b, 3, 0, n_kv);
	if (m->model)
		kv_str(b, "tokenizer.ggml.model", m->model);
	if (m->pre)
		kv_str(b, "tokenizer.ggml.pre", m->pre);
	if (total) {
		kv_array(b, "tokenizer.ggml.tokens", GGUF_STR, total);
		for (i = 0; i < n; i++)
			put_str(b, m->tokens[i]);
		if (m->bytes)
			put_alphabet(b);
	}
	if (m->types) {
		size_t n_types = m->n_types >= 0 ? (size_t)m->n_types : total;

		kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, n_types);
		for (i = 0; i < n_types; i++)
			put_u32(b, i < n ? (uint32_t)m->types[i] : 1);
	}
	if (m->merges) {
		kv_array(b, "tokenizer.ggml.merges", GGUF_STR, count(m->merges));
		for (i = 0; i < count(m->merges); i++)
			put_str(b, m->merges[i]);
	}
	if (m->bos >= 0)
		kv_u32(b, "tokenizer.ggml.bos_token_id", (uint32_t)m->bos);
	if (m->eos >= 0)
		kv_u32(b, "tokenizer.ggml.eos_token_id", (uint32_t)m->eos);
	if (m->unk >= 0)
		kv_u32(b, "tokenizer.ggml.unknown_token_id", (uint32_t)m->unk);
	if (m->add_bos >= 0)
		kv_raw(b, "tokenizer.ggml.add_bos_token", GGUF_BOOL, m->add_bos ? "\1" : "\0", 1);
}

static struct tok *try_load(const struct make *m, struct moe_err *e)
{
	struct bytes b = { 0 };

	make_file(&b, m);
	return tok_of(&b, e);
}

static struct tok *load(const struct make *m)
{
	struct moe_err e;
	struct tok *t = try_load(m, &e);

	ok_or_fail(t != NULL, &e);
	return t;
}

static void refused(const struct make *m, const char *want)
{
	struct moe_err e;
	struct tok *t = try_load(m, &e);

	tok_refused(t, &e, want);
}

static const char *const no_merges[] = { NULL };

static void test_refusals(void **state)
{
	static const char *const models[] = { "bert", "rwkv", "plamo2", "no_vocab", "", "gpt2x",
		"GPT2" };
	static const char *const broken[][2] = { { "ab" }, { "a" }, { "" }, { " b" }, { "a " },
		{ " " } };
	static const char *const unknown[][2] = { { "zz b" }, { "b zz" }, { "b c" } };
	static const char *const two[] = { "ab", "x", NULL };
	static const int bad_types[] = { 7, 1 }, negative[] = { -1, 1 }, fine[] = { 1, 1 };
	struct make m = plain;
	size_t i;

	(void)state;
	m.tokens = two;
	m.merges = no_merges;
	for (i = 0; i < sizeof models / sizeof *models; i++) {
		m.model = models[i];
		refused(&m, "is not supported; gpt2 (byte-level BPE), llama (SentencePiece), gemma4 and "
			"t5");
	}
	m.model = NULL;
	refused(&m, "tokenizer.ggml.model is missing");
	m.model = "gpt2";
	m.pre = "no-such";
	refused(&m, "tokenizer.ggml.pre 'no-such' is not known; known are: default gpt-2 ");
	m.pre = "\033[2J";
	refused(&m, "'\\x1b[2J' is not known");
	m.pre = "qwen2";
	m.merges = NULL;
	refused(&m, "tokenizer.ggml.merges is missing");
	for (i = 0; i < sizeof broken / sizeof *broken; i++) {
		m.merges = broken[i];
		refused(&m, "is not two texts with a space between");
	}
	for (i = 0; i < sizeof unknown / sizeof *unknown; i++) {
		static const char *const what[] = { "left side", "right side", "result" };

		m.merges = unknown[i];
		refused(&m, what[i]);
	}
	m.merges = no_merges;
	m.types = bad_types;
	refused(&m, "token 0 has type 7");
	m.types = negative;
	refused(&m, "token 0 has type -1");
	m.types = fine;
	m.n_types = 257;
	refused(&m, "257 elements for 258 tokens");
	m.types = NULL;
	m.bos = 258;
	refused(&m, "tokenizer.ggml.bos_token_id is 258, the vocabulary has 258 tokens");
	m.bos = -1;
	m.eos = INT32_MAX;
	refused(&m, "tokenizer.ggml.eos_token_id is 2147483647");
	m.eos = -1;
	m.tokens = NULL;
	m.bytes = 0;
	refused(&m, "tokenizer.ggml.tokens is missing");
}

/* Vocabularies that miss what a vocabulary should have: defined, and never a crash. */
static void test_poor_vocabularies(void **state)
{
	static const char *const one[] = { "a", NULL };
	static const char *const odd[] = { "", "", "<0x-1>", "<0xZZ>", "<0x100>", "<0x41>", "ab", "ab",
		"\xff\xfe", "a", "b", NULL };
	static const char *const merge[] = { "a b", "a b", NULL };
	struct make m = plain;
	struct tok *t;
	size_t n;

	(void)state;
	m.tokens = one;
	m.bytes = 0;
	m.merges = no_merges;
	t = load(&m);
	expect(t, "abca", 4, TOK_SPECIAL | TOK_BOS, "0 0"); /* what has no token is dropped */
	expect(t, "\xff", 1, 0, "");
	tok_free(t);
	m.unk = 0; /* here too: models of this kind have no use for it */
	t = load(&m);
	expect(t, "abc", 3, 0, "0");
	tok_free(t);
	m = plain;
	m.tokens = odd;
	m.merges = merge;
	t = load(&m);
	expect(t, "ab", 2, 0, "6"); /* the lowest of equal texts; the first of equal merges */
	round_trip(t, "<0x41> \xff\xfe <0x-1>", 16, TOK_SPECIAL);
	assert_string_equal(tok_bytes(t, 0, &n) ? "" : "null", "");
	assert_int_equal(n, 0);
	assert_memory_equal(tok_bytes(t, 8, &n), "\xff\xfe", 2);
	tok_free(t);
}

static void test_whole_pieces(void **state)
{
	static const char *const tokens[] = { "hello", "ab", "bc", "abc", "<s>", NULL };
	static const int types[] = { 1, 1, 1, 1, 3 };
	static const char *const merges[] = { "b c", "a b", "a bc", NULL };
	struct make m = plain;
	struct tok *t;

	(void)state;
	m.tokens = tokens;
	m.types = types;
	m.merges = merges;
	t = load(&m);
	expect(t, "hello", 5, 0, "109 106 113 113 116"); /* bytes, at 5 and on; no merge */
	expect(t, "abc", 3, 0, "3");
	expect(t, "ab", 2, 0, "1");
	tok_free(t);
	m.pre = "llama-bpe";
	t = load(&m);
	expect(t, "hello", 5, 0, "0"); /* no merge leads there, but the piece is a token */
	expect(t, "xhello", 6, 0, "125 109 106 113 113 116");
	tok_free(t);
}

static void test_special_tokens(void **state)
{
	static const char *const tokens[] = { "<a>", "<a><b>", "<b>", "<u>", "<unk>", "  ", "b><",
		"<dead>", NULL };
	static const int types[] = { 3, 3, 3, 4, 2, 4, 3, 5 };
	static const char *const merges[] = { NULL };
	struct make m = plain;
	struct tok *t;

	(void)state;
	m.tokens = tokens;
	m.types = types;
	m.merges = merges;
	t = load(&m);
	expect(t, "<a><b>", 6, TOK_SPECIAL, "1"); /* the longest first */
	expect(t, "<a><a>", 6, TOK_SPECIAL, "0 0");
	expect(t, "<b><a>", 6, TOK_SPECIAL, "2 0");
	expect(t, "<b><a><b>", 9, TOK_SPECIAL, "2 1"); /* although <b> and b>< start earlier */
	expect(t, "<u><unk>", 8, TOK_SPECIAL, "3 4");
	expect(t, "    ", 4, TOK_SPECIAL, "5 5");
	/* Without the flag only user-defined tokens are seen. Bytes are at 8 and on. */
	expect(t, "<a><u>  ", 8, 0, "68 105 70 3 5");
	expect(t, "<dead>", 6, TOK_SPECIAL, "68 108 109 105 108 70");
	expect(t, "<a", 2, TOK_SPECIAL, "68 105");
	expect(t, "<<a>>", 5, TOK_SPECIAL, "68 0 70");
	assert_true(tok_is_special(t, 0));
	assert_false(tok_is_special(t, 3));
	tok_free(t);
}

static void test_bos_and_ends(void **state)
{
	static const char *const tokens[] = { "<s>", "</s>", "<|im_end|>", "<|eot_id|>", "<|end|>",
		"stop", "<|return|>", "<|call|>", NULL };
	static const int types[] = { 3, 3, 1, 3, 3, 1, 1, 1 };
	static const int normal[] = { 1, 1, 1, 1, 1, 1, 1, 1 };
	struct make m = plain;
	struct tok *t;

	(void)state;
	m.tokens = tokens;
	m.types = types;
	m.merges = no_merges;
	m.eos = 5;
	t = load(&m);
	assert_int_equal(tok_bos(t), -1);
	assert_int_equal(tok_eos(t), 5);
	expect(t, "", 0, TOK_BOS, "");
	for (int32_t id = 0; id < 8; id++)
		/* <|end|> beside <|return|>, <|call|> */
		assert_int_equal(tok_is_end(t, id), id != 0 && id != 4);
	expect(t, "<|im_end|>", 10, TOK_SPECIAL, "2"); /* normal in the file, taken as control */
	assert_true(tok_is_special(t, 2));
	tok_free(t);
	m.types = normal;
	t = load(&m);
	assert_false(tok_is_end(t, 1)); /* "</s>" may be HTML */
	tok_free(t);
	m.bos = 0;
	t = load(&m);
	expect(t, "", 0, TOK_BOS, ""); /* qwen2 asks for none */
	tok_free(t);
	m.pre = "llama-bpe";
	t = load(&m);
	expect(t, "", 0, TOK_BOS, "0");
	expect(t, "", 0, 0, "");
	tok_free(t);
	m.add_bos = 0;
	t = load(&m);
	expect(t, "", 0, TOK_BOS, "");
	tok_free(t);
	m.pre = "qwen2";
	m.add_bos = 1;
	t = load(&m);
	expect(t, "", 0, TOK_BOS, "0");
	tok_free(t);
}

/* ---- threads ---- */

struct job { const struct tok *t; size_t sum; };

static void *encode_much(void *arg)
{
	struct job *j = arg;
	char s[64];
	size_t n;
	struct moe_err e;
	int32_t *ids;

	for (int i = 0; i < 3000; i++) {
		int len = snprintf(s, sizeof s, "call %d of the <|im_start|> test\n", i);

		if (tok_encode(j->t, s, (size_t)len, TOK_SPECIAL, &ids, &n, &e))
			return NULL;
		for (size_t k = 0; k < n; k++)
			j->sum = j->sum * 31 + (size_t)ids[k];
		free(ids);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct job job[3] = { { 0 } };
	pthread_t thread[3];
	struct gguf *g;
	struct tok *t;
	int i;

	(void)state;
	g = open_vocab(&t);
	for (i = 0; i < 3; i++) {
		job[i].t = t;
		assert_int_equal(pthread_create(&thread[i], NULL, encode_much, &job[i]), 0);
	}
	for (i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	assert_true(job[0].sum != 0);
	assert_int_equal(job[0].sum, job[1].sum);
	assert_int_equal(job[0].sum, job[2].sum);
	tok_free(t);
	gguf_close(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_spm_vectors),
		cmocka_unit_test(test_unigram_vectors),
		cmocka_unit_test(test_vocabulary),
		cmocka_unit_test(test_random_bytes),
		cmocka_unit_test(test_random_unicode),
		cmocka_unit_test(test_every_token),
		cmocka_unit_test(test_long_runs),
		cmocka_unit_test(test_merge_orders),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_all_rows),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_poor_vocabularies),
		cmocka_unit_test(test_whole_pieces),
		cmocka_unit_test(test_special_tokens),
		cmocka_unit_test(test_bos_and_ends),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
