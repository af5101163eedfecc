/*
 * fuzz_tok.c - the tokenizer with any vocabulary and any text. See fuzz.h.
 *
 * The first byte says what the rest is. Even: a GGUF file; if it carries a tokenizer, that encodes
 * TEXT. Odd: a text, encoded with a small vocabulary that has all bytes; it must come back. The
 * plain vocabularies (SentencePiece, Gemma 4, unigram) encode every text too, whole and with a
 * stretch from outside, in which no control token may be found.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "fuzz.h"
#include "tok/tok.h"

#define TEXT "It's <s>12345</s>  <|im_end|>\n\n aab abab \xc3\xa9\xff \xe4\xb8\xad\xe6\x96\x87"

static const char *const pres[] = { "qwen2", "llama-bpe", "gpt-2", "gpt-4o", "deepseek-v3",
"kimi-k2",
	"deepseek-llm", "afmoe" };
#define N_PRES (sizeof pres / sizeof *pres)

static void check(int ok)
{
	if (!ok)
		abort();
}

/* A vocabulary of the 256 bytes, some merges and specials. */
static void vocabulary(struct bytes *b, const char *pre, int with_bytes)
{
	static const char *const token[] = { "ab", "abab", "aa", "\xc4\xa0\xc4\xa0", "<s>", "</s>",
		"<u>" };
	static const char *const merge[] = { "a b", "ab ab", "a a", "\xc4\xa0 \xc4\xa0" };
	size_t n = sizeof token / sizeof *token, i;
	uint32_t next = 0x100, cp;
	char s[4];

	head(b, 3, 0, 8);
	kv_str(b, "tokenizer.ggml.model", "gpt2");
	kv_str(b, "tokenizer.ggml.pre", pre);
	kv_array(b, "tokenizer.ggml.tokens", GGUF_STR, n + (with_bytes ? 256 : 2));
	for (i = 0; i < n; i++)
		put_str(b, token[i]);
	for (i = 0; with_bytes && i < 256; i++) {
		cp = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174 ? (uint32_t)i : next++;
		put_strn(b, s, text_encode(cp, s));
	}
	if (!with_bytes) {
		put_str(b, "a");
		put_str(b, "b");
	}
	kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, n + (with_bytes ? 256 : 2));
	for (i = 0; i < n + (with_bytes ? 256 : 2); i++)
		put_u32(b, i == 4 || i == 5 ? 3 : i == 6 ? 4 : 1);
	kv_array(b, "tokenizer.ggml.merges", GGUF_STR, with_bytes ? 4 : 3);
	for (i = 0; i < (with_bytes ? 4 : 3); i++)
		put_str(b, merge[i]);
	kv_u32(b, "tokenizer.ggml.bos_token_id", 4);
	kv_u32(b, "tokenizer.ggml.eos_token_id", 5);
	kv_raw(b, "tokenizer.ggml.add_bos_token", GGUF_BOOL, "\1", 1);
}

/* One over plain text: bytes, a few tokens, scores and merges for whom they concern. */
static void plain_vocabulary(struct bytes *b, unsigned kind)
{
	static const char *const model[] = { "llama", "gemma4", "t5" };
	static const char *const token[] = { "<unk>", "<s>", "</s>", "a", "b", "ab", "\xe2\x96\x81",
		"\xe2\x96\x81" "a", "\n\n", "\n", "<u>", "s", "<", ">", "<s", "\xe4\xb8\xad",
		"\xe2\x96\x81\xe2\x96\x81" };
	static const char *const merge[] = { "a b", "\xe2\x96\x81 a", "\n \n",
		"\xe2\x96\x81 \xe2\x96\x81" };
	static const uint32_t map[] = { 16, 'y' << 10, 'x' | 1 << 8 | 3 << 10, 1u << 31 | 1, 0,
		0x00626100 };
	size_t n = sizeof token / sizeof *token, i;
	char byte[8];

	head(b, 3, 0, 9);
	kv_str(b, "tokenizer.ggml.model", model[kind]);
	kv_u32(b, "tokenizer.ggml.unknown_token_id", 0);
	kv_array(b, "tokenizer.ggml.tokens", GGUF_STR, n + 256);
	for (i = 0; i < n; i++)
		put_str(b, token[i]);
	for (i = 0; i < 256; i++) {
		snprintf(byte, sizeof byte, "<0x%02X>", (unsigned)i);
		put_str(b, byte);
	}
	kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, n + 256);
	for (i = 0; i < n + 256; i++)
		put_u32(b, i >= n ? 6 : i == 0 ? 2 : i < 3 ? 3 : i == 10 ? 4 : 1);
	kv_array(b, "tokenizer.ggml.scores", GGUF_F32, n + 256);
	for (i = 0; i < n + 256; i++) {
		float score = -(float)(i % 7);

		put(b, &score, 4);
	}
	kv_array(b, "tokenizer.ggml.merges", GGUF_STR, 4);
	for (i = 0; i < 4; i++)
		put_str(b, merge[i]);
	kv_array(b, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, sizeof map);
	put(b, map, sizeof map);
	kv_str(b, "general.name", kind ? "x" : "phi-3");
	kv_raw(b, "tokenizer.ggml.remove_extra_whitespaces", GGUF_BOOL, "\1", 1);
}

static struct tok *load(const void *p, size_t n)
{
	struct moe_err e = { 0 };
	struct gguf *g = gguf_open_memory(p, n, "fuzz", &e);
	struct tok *t = g ? tok_load(g, &e) : NULL;

	check(t || (e.code != MOE_OK && e.msg[0]));
	gguf_close(g);
	return t;
}

static void fuzz_vocabulary(const uint8_t *p, size_t size)
{
	struct tok *t = load(p, size);
	struct moe_err e;
	int32_t *ids;
	size_t n, i, k;

	if (!t)
		return;
	check(!tok_encode(t, TEXT, sizeof TEXT - 1, TOK_SPECIAL | TOK_BOS, &ids, &n, &e));
	for (i = 0; i < n; i++)
		check(tok_bytes(t, ids[i], &k) != NULL);
	free(ids);
	for (i = 0; i < tok_n_vocab(t) && i < 1024; i++) {
		check(tok_bytes(t, (int32_t)i, &k) != NULL);
		tok_is_end(t, (int32_t)i);
		tok_is_special(t, (int32_t)i);
	}
	tok_free(t);
}

/* Any text: encoding and decoding end, and its middle, if from outside, holds no control token. */
static void fuzz_plain(const struct tok *t, const char *s, size_t size)
{
	struct tok_span middle = { size / 3, size - size / 4 };
	struct moe_err e;
	int32_t *ids;
	size_t n, len, before;
	char *back;

	check(!tok_encode(t, s, size, TOK_SPECIAL | TOK_BOS | TOK_EOS, &ids, &n, &e));
	check(n <= 3 * size + 5);
	check(!tok_decode(t, ids, n, TOK_SPECIAL, &back, &len, &e));
	free(back);
	free(ids);
	if (middle.end <= middle.start)
		return;
	check(!tok_encode_around(t, s, size, &(struct tok_span){ 0, size }, 1, TOK_SPECIAL, &ids, &n,
		&e));
	for (size_t i = 0; i < n; i++)
		check(!tok_is_special(t, ids[i]));
	free(ids);
	check(!tok_encode_around(t, s, size, &middle, 1, TOK_SPECIAL, &ids, &before, &e));
	free(ids);
}

static void fuzz_text(const struct tok *t, unsigned flags, const char *s, size_t size)
{
	struct moe_err e;
	int32_t *ids;
	size_t n, i, k, at = 0;

	check(!tok_encode(t, s, size, flags, &ids, &n, &e));
	for (i = 0; i < n; i++) {
		const char *b = tok_bytes(t, ids[i], &k);

		check(b && k <= size - at && !memcmp(b, s + at, k));
		at += k;
	}
	check(at == size);
	free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tok *small[N_PRES], *plain[3];
	size_t i;

	for (i = 0; i < N_PRES && !small[i]; i++) {
		struct bytes b = { 0 };

		vocabulary(&b, pres[i], 1);
		small[i] = load(b.p, b.n);
		check(small[i] != NULL);
		free(b.p);
	}
	for (i = 0; i < 3 && !plain[i]; i++) {
		struct bytes b = { 0 };

		plain_vocabulary(&b, (unsigned)i);
		plain[i] = load(b.p, b.n);
		check(plain[i] != NULL);
		free(b.p);
	}
	if (!size)
		return 0;
	for (i = 0; data[0] % 2 && i < 3; i++)
		fuzz_plain(plain[i], (const char *)data + 1, size - 1);
	if (data[0] % 2)
		fuzz_text(small[data[0] / 4 % N_PRES], data[0] & 2 ? TOK_SPECIAL : 0,
			(const char *)data + 1, size - 1);
	else
		fuzz_vocabulary(data + 1, size - 1);
	return 0;
}

int fuzz_seed(unsigned i, struct bytes *b)
{
	if (i < N_PRES) { /* texts */
		uint8_t first = (uint8_t)(4 * i + 3);

		put(b, &first, 1);
		put(b, TEXT, sizeof TEXT - 1);
		return 1;
	}
	if (i < 2 * N_PRES) { /* vocabularies */
		put(b, "\0", 1);
		vocabulary(b, pres[i - N_PRES], i % 4 == 0);
		return 1;
	}
	if (i < 2 * N_PRES + 3) {
		put(b, "\0", 1);
		plain_vocabulary(b, i - 2 * (unsigned)N_PRES);
		return 1;
	}
	return 0;
}
