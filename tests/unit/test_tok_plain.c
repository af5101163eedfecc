/*
 * test_tok_plain.c - tokenizers over plain text (SentencePiece, Gemma 4, unigram), decoding and
 * text from outside, with vocabularies small enough to follow on paper. Larger ones: test_tok.c.
 */
#include "tok_try.h"

#include <math.h>

#define BLANK "\xe2\x96\x81"

/* type as in the format: 1 normal ... 6 byte */
struct word { const char *text; float score; int type; };

struct make {
	const char *model, *name;
	const struct word *words;          /* ends with text NULL */
	const char *const *merges;         /* ends with NULL; NULL = no such key */
	int bos, eos, add_bos, add_eos, prefix, squeeze; /* -1 = leave the key out */
	size_t n_scores;                   /* 0 = as many as words */
	const uint8_t *charsmap;
	size_t n_charsmap;
};

static const struct make plain = { .model = "llama", .bos = -1, .eos = -1, .add_bos = -1,
	.add_eos = -1, .prefix = -1, .squeeze = -1 };

static void flag(struct bytes *b, const char *key, int v)
{
	if (v >= 0)
		kv_raw(b, key, GGUF_BOOL, v ? "\1" : "\0", 1);
}

static void make_file(struct bytes *b, const struct make *m)
{
	size_t n = 0, i, n_merges = 0, n_scores;

	while (m->words[n].text)
		n++;
	n_scores = m->n_scores ? m->n_scores : n;
	while (m->merges && m->merges[n_merges])
		n_merges++;
	head(b, 3, 0, (uint64_t)(4 + (m->name != NULL) + (m->merges != NULL) + (m->bos >= 0) +
		(m->eos >= 0) + (m->add_bos >= 0) + (m->add_eos >= 0) + (m->prefix >= 0) +
		(m->squeeze >= 0) + (m->charsmap != NULL)));
	kv_str(b, "tokenizer.ggml.model", m->model);
	if (m->name)
		kv_str(b, "general.name", m->name);
	kv_array(b, "tokenizer.ggml.tokens", GGUF_STR, n);
	for (i = 0; i < n; i++)
		put_str(b, m->words[i].text);
	kv_array(b, "tokenizer.ggml.scores", GGUF_F32, n_scores);
	for (i = 0; i < n_scores; i++) {
		float s = m->words[i < n ? i : 0].score;

		put(b, &s, 4);
	}
	kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, n);
	for (i = 0; i < n; i++)
		put_u32(b, (uint32_t)m->words[i].type);
	if (m->merges) {
		kv_array(b, "tokenizer.ggml.merges", GGUF_STR, n_merges);
		for (i = 0; i < n_merges; i++)
			put_str(b, m->merges[i]);
	}
	if (m->bos >= 0)
		kv_u32(b, "tokenizer.ggml.bos_token_id", (uint32_t)m->bos);
	if (m->eos >= 0)
		kv_u32(b, "tokenizer.ggml.eos_token_id", (uint32_t)m->eos);
	flag(b, "tokenizer.ggml.add_bos_token", m->add_bos);
	flag(b, "tokenizer.ggml.add_eos_token", m->add_eos);
	flag(b, "tokenizer.ggml.add_space_prefix", m->prefix);
	flag(b, "tokenizer.ggml.remove_extra_whitespaces", m->squeeze);
	if (m->charsmap) {
		kv_array(b, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, m->n_charsmap);
		put(b, m->charsmap, m->n_charsmap);
	}
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

static void expect_around(const struct tok *t, const char *s, const struct tok_span *outside,
	size_t n_outside, unsigned flags, const char *want)
{
	char have[1024] = "";
	struct moe_err e;
	int32_t *ids;
	size_t n, used = 0;

	ok_or_fail(!tok_encode_around(t, s, strlen(s), outside, n_outside, flags, &ids, &n, &e), &e);
	for (size_t i = 0; i < n && used < sizeof have - 16; i++)
		used += (size_t)snprintf(have + used, sizeof have - used, "%s%d", i ? " " : "", ids[i]);
	free(ids);
	if (strcmp(have, want))
		fail_msg("'%s' gives %s, not %s", s, have, want);
}

static void expect(const struct tok *t, const char *s, unsigned flags, const char *want)
{
	expect_around(t, s, NULL, 0, flags, want);
}

static void decodes(const struct tok *t, const int32_t *ids, size_t n, unsigned flags,
	const char *want)
{
	struct moe_err e;
	size_t len;
	char *s;

	ok_or_fail(!tok_decode(t, ids, n, flags, &s, &len, &e), &e);
	if (len != strlen(want) || memcmp(s, want, len))
		fail_msg("'%.*s', not '%s'", (int)len, s, want);
	free(s);
}

/*                             0        1       2        3          4          5          6 */
static const struct word spm[] = { { "<unk>", 0, 2 }, { "<s>", 0, 3 }, { "</s>", 0, 3 },
	{ "a", -10, 1 },
	{ "b", -11, 1 }, { "ab", -2, 1 }, { "ba", -2, 1 },
/*	  7                8              9               10                  11                 12 */
	{ "aba", -1, 1 }, { BLANK, -9, 1 }, { BLANK "a", -3, 1 }, { "<0x0A>", 0, 6 },
	{ "<0xC3>", 0, 6 }, { "<u>", 0, 4 },
/*	  13               14                      15              16              17 */
	{ "<0xA9>", 0, 6 }, { BLANK BLANK, -4, 1 }, { "<0xZZ>", 0, 6 }, { "<", -9, 1 }, { "s", -9, 1 },
/*	  18               19 */
	{ ">", -9, 1 }, { "<s", -1, 1 }, { NULL, 0, 0 } };

static void test_spm(void **state)
{
	struct make m = plain;
	struct tok *t;

	(void)state;
	m.words = spm;
	m.prefix = 0;
	t = load(&m);
	assert_string_equal(tok_describe(t), "llama, 20 tokens");
	expect(t, "ab", 0, "5");
	expect(t, "abab", 0, "7 4");       /* ab.ab, then ab+a: -1; or ab first of equals, leftmost */
	expect(t, "bab", 0, "6 4");        /* ba and ab are equal: the left one */
	expect(t, "a b", 0, "3 8 4");
	expect(t, " a", 0, "9");
	expect(t, "   ", 0, "14 8");       /* the left two */
	expect(t, "\n\xc3\xa9", 0, "10 11 13");
	expect(t, "c", 0, "0");            /* no such byte: unknown */
	expect(t, "a<u>b", 0, "3 12 4");   /* user-defined, always */
	expect(t, "a</s>b", TOK_SPECIAL, "3 2 4");
	expect(t, "<s>", 0, "19 18");      /* control tokens do not come of merges: 1 is not given */
	expect(t, "<s>", TOK_SPECIAL, "1");
	expect(t, "<0x0A>", 0, "16 0 0 0 0 18"); /* nor bytes: "0", "x" are unknown */
	expect(t, "", TOK_BOS | TOK_EOS, "1");
	expect(t, "a", TOK_BOS | TOK_EOS, "1 3");
	tok_free(t);
	m.add_eos = 1;
	m.add_bos = 0;
	m.prefix = -1;                     /* is asked for unless the file says no */
	t = load(&m);
	expect(t, "a", TOK_BOS | TOK_EOS, "9 2");
	expect(t, "a", TOK_CONTINUE, "3");
	/* and after every special token */
	expect(t, "a</s>a<u>a", TOK_SPECIAL | TOK_CONTINUE, "3 2 9 12 9");
	expect(t, "</s>", TOK_SPECIAL, "2");
	expect(t, "", 0, "");
	tok_free(t);
}

static void test_decoding(void **state)
{
	static const int32_t text[] = { 1, 9, 14, 4, 2 }, two[] = { 9, 9 },
		bytes[] = { 11, 13, 10, 12, 0, 15, 99, -1 };
	struct tok_stream s = { { 0 }, 0 };
	struct make m = plain;
	struct tok *t;
	char out[16];

	(void)state;
	m.words = spm;
	t = load(&m);
	decodes(t, text, 5, 0, "a  b");           /* the first blank was put there by encoding */
	decodes(t, text, 5, TOK_SPECIAL, "<s>a  b</s>");
	decodes(t, text, 5, TOK_CONTINUE, " a  b");
	decodes(t, two, 2, 0, "a a");
	decodes(t, bytes, 8, 0, "\xc3\xa9\n<u><0xZZ>");
	decodes(t, bytes, 8, TOK_SPECIAL, "\xc3\xa9\n<u><unk><0xZZ>");
	decodes(t, NULL, 0, 0, "");
	/* Token by token: half a character waits; what cannot be one comes at once. */
	assert_int_equal(tok_stream_next(&s, t, 11, out), 0);
	assert_int_equal(tok_stream_next(&s, t, 13, out), 2);
	assert_memory_equal(out, "\xc3\xa9", 2);
	assert_int_equal(tok_stream_next(&s, t, 13, out), 1);
	assert_int_equal(tok_stream_next(&s, t, 11, out), 0);
	assert_int_equal(tok_stream_next(&s, t, 3, out), 2);
	assert_memory_equal(out, "\xc3" "a", 2);
	assert_int_equal(tok_stream_next(&s, t, 2, out), 0); /* a control token says nothing */
	assert_int_equal(tok_stream_next(&s, t, 11, out), 0);
	assert_int_equal(tok_stream_next(&s, t, -1, out), 1);
	assert_int_equal(out[0], (char)0xc3);
	assert_int_equal(tok_stream_next(&s, t, -1, out), 0);
	tok_free(t);
}

static void test_gemma4(void **state)
{
	static const struct word words[] = { { "<pad>", 0, 3 }, { "<eos>", 0, 3 }, { "<bos>", 0, 3 },
		{ "a", 0, 1 },
		{ "b", 0, 1 }, { "\n", 0, 1 }, { "\n\n", 0, 1 }, { BLANK, 0, 1 }, { BLANK "a", 0, 1 },
		{ "ab", 0, 1 },
		{ "<0xE9>", 0, 6 }, { "\n\n\n", 0, 1 }, { "a\n", 0, 1 }, { NULL, 0, 0 } };
	static const char *const merges[] = { "a b", BLANK " a", "\n \n", "a \n", NULL };
	struct make m = plain;
	struct tok *t;

	(void)state;
	m.model = "gemma4";
	m.words = words;
	m.merges = merges;
	m.bos = 2;
	m.eos = 1;
	m.add_bos = 0; /* by mistake, in files there are: the model needs it */
	t = load(&m);
	expect(t, "a", TOK_BOS, "2 3");
	expect(t, " ab", 0, "7 9");      /* the first merge wins over the second */
	expect(t, " a\n", 0, "8 5");     /* "a\n" is a token, but lines are apart */
	expect(t, "\n\n\n", 0, "11");    /* whole, though no merge leads there */
	expect(t, "\n\n\n\n", 0, "6 6"); /* no such token: by merges */
	expect(t, "\xe9", 0, "10");
	expect(t, "c", 0, "");           /* no token, no byte, no unknown */
	tok_free(t);
	m.merges = NULL;
	refused(&m, "tokenizer.ggml.merges is missing");
}

static void test_unigram(void **state)
{
	static const struct word words[] = { { "<pad>", 0, 3 }, { "</s>", 0, 3 }, { "<unk>", 0, 2 },
		{ BLANK, -2, 1 },
		{ "a", -3, 1 }, { "b", -3, 1 }, { "ab", -5, 1 }, { "abb", -8.5f, 1 }, { BLANK "a", -4, 1 },
		{ "<u>", -50, 4 },
		{ NULL, 0, 0 } };
	struct make m = plain;
	struct tok *t;

	(void)state;
	m.model = "t5";
	m.words = words;
	t = load(&m);
	expect(t, "ab", 0, "6");         /* -5, a b is -6 */
	expect(t, "abb", 0, "6 5");      /* -8; abb is -8.5 */
	expect(t, "a  b", 0, "4 3 3 5");
	expect(t, "axyb", 0, "4 2 5");   /* a run of unknown characters is one */
	expect(t, "x<u>y", 0, "2 9 2");
	expect(t, "a", TOK_BOS | TOK_EOS, "4 1");
	tok_free(t);
	m.prefix = 1;
	m.squeeze = 1;
	t = load(&m);
	expect(t, "  a   b ", 0, "8 3 5");
	expect(t, "   ", 0, "");
	tok_free(t);
}

/* A double array for "x" -> "ab" by hand: the root's children are in block 'y', so that x is at
 * 'y' ^ 'x' = 1; its value is in block 2. */
static void test_charsmap(void **state)
{
	static const struct word words[] = { { "<unk>", 0, 2 }, { "a", -3, 1 }, { "b", -3, 1 },
		{ "x", -3, 1 },
		{ NULL, 0, 0 } };
	uint8_t map[4 + 4 * 4 + 4] = { 16 };
	uint32_t unit[4] = { 'y' << 10, 'x' | 1 << 8 | (1 ^ 2) << 10, 1u << 31 | 1, 0 };
	struct make m = plain;
	struct tok *t;

	(void)state;
	m.model = "t5";
	m.words = words;
	memcpy(map + 4, unit, sizeof unit);
	memcpy(map + 20, "\0ab", 4);
	m.charsmap = map;
	m.n_charsmap = sizeof map;
	t = load(&m);
	expect(t, "xa", 0, "1 2 1");
	tok_free(t);
	unit[2] = 1u << 31 | 77; /* beyond the texts: no replacement */
	memcpy(map + 4, unit, sizeof unit);
	t = load(&m);
	expect(t, "xa", 0, "3 1");
	tok_free(t);
	unit[0] = 0x3fffffu << 10; /* beyond the array */
	memcpy(map + 4, unit, sizeof unit);
	t = load(&m);
	expect(t, "xa", 0, "3 1");
	tok_free(t);
	map[0] = 20; /* no room for texts */
	refused(&m, "precompiled_charsmap of 24 bytes: an array of 20 bytes");
	map[0] = 18;
	refused(&m, "an array of 18 bytes");
	map[3] = 255;
	refused(&m, "precompiled_charsmap of 24 bytes");
	map[0] = 16, map[3] = 0, map[23] = 'c';
	refused(&m, "NUL-terminated");
	m.n_charsmap = 3;
	refused(&m, "precompiled_charsmap has 3 bytes");
}

static void test_refusals(void **state)
{
	static char longest[1026];
	struct word words[] = { { "<unk>", 0, 2 }, { "a", 0, 1 }, { NULL, 0, 0 } };
	struct make m = plain;

	(void)state;
	m.words = words;
	words[1].score = NAN;
	refused(&m, "token 1 has the score nan");
	words[1].score = -INFINITY;
	refused(&m, "token 1 has the score -inf");
	words[1].score = 0;
	m.n_scores = 1;
	refused(&m, "tokenizer.ggml.scores has 1 elements for 2 tokens");
	m.n_scores = 0;
	m.bos = 2;
	refused(&m, "bos_token_id is 2, the vocabulary has 2 tokens");
	m.bos = -1; /* 1 is the default */
	tok_free(load(&m));
	memset(longest, 'a', sizeof longest - 1);
	words[1].text = longest;
	refused(&m, "token 1 has 1025 bytes, at most 1024");
	m.model = "t5";
	refused(&m, "token 1 has 1025 bytes, at most 1024");
}

/* White space after Phi-3's special tokens is not shown to the model. */
static void test_stripping(void **state)
{
	static const struct word words[] = { { "<unk>", 0, 2 }, { "<s>", 0, 3 }, { "<|end|>", 0, 3 },
		{ "a", 0, 1 },
		{ BLANK, 0, 1 }, { "<0x0A>", 0, 6 }, { NULL, 0, 0 } };
	struct make m = plain;
	struct tok *t;

	(void)state;
	m.words = words;
	m.prefix = 0;
	t = load(&m);
	expect(t, "<s> a<|end|> \n a", TOK_SPECIAL, "1 4 3 2 4 5 4 3");
	tok_free(t);
	m.name = "My Phi3 model";
	t = load(&m);
	expect(t, "<s> a<|end|> \n a", TOK_SPECIAL, "1 4 3 2 3");
	expect(t, "a <|end|> ", TOK_SPECIAL, "3 4 2");
	tok_free(t);
}

/* In a stretch from outside no control token is found, nor one that reaches into it; user-defined
 * ones are words, unless the text around uses them. */
static void test_outside(void **state)
{
	struct make m = plain;
	const struct tok_span all = { 0, 4 }, tail = { 2, 5 };
	struct tok *t;

	(void)state;
	m.words = spm;
	m.prefix = 0;
	t = load(&m);
	expect_around(t, "</s>", &all, 1, TOK_SPECIAL, "16 0 17 18");
	expect_around(t, "</s>ab", &tail, 1, TOK_SPECIAL, "16 0 17 18 5"); /* half of it is theirs */
	expect_around(t, "a</s>b", &(struct tok_span){ 0, 1 }, 1, TOK_SPECIAL, "3 2 4");
	expect_around(t, "a<u>b", &(struct tok_span){ 0, 5 }, 1, TOK_SPECIAL, "3 12 4");
	expect_around(t, "<u>a<u>b", &(struct tok_span){ 3, 8 }, 1, TOK_SPECIAL, "12 3 16 0 18 4");
	expect_around(t, "ab", NULL, 0, TOK_SPECIAL, "5");
	tok_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spm),
		cmocka_unit_test(test_decoding),
		cmocka_unit_test(test_gemma4),
		cmocka_unit_test(test_unigram),
		cmocka_unit_test(test_charsmap),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_stripping),
		cmocka_unit_test(test_outside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
