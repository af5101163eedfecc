/*
 * load_plain.c - vocabularies whose tokens are plain text: SentencePiece, Gemma 4, unigram. See
 * load.h; what is odd in a file is listed in load.c.
 */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/load.h"

#define SCORES "tokenizer.ggml.scores"

/* "<0x41>" -> 0x41, or -1. */
static int byte_of(struct gguf_str s)
{
	static const char hex[] = "0123456789abcdef0123456789ABCDEF";
	const char *high, *low;

	if (s.n != 6 || memcmp(s.s, "<0x", 3) || s.s[5] != '>' || !s.s[3] || !s.s[4])
		return -1;
	high = strchr(hex, s.s[3]);
	low = strchr(hex, s.s[4]);
	return high && low ? (int)((high - hex) % 16 * 16 + (low - hex) % 16) : -1;
}

/* What a token stands for: U+2581 of ordinary ones is a blank. out has room for text.n. */
static size_t plain_word(struct gguf_str text, int type, char *out)
{
	size_t i, n = 0;
	int byte = type == TOK_BYTE ? byte_of(text) : -1;

	if (byte >= 0) {
		*out = (char)byte;
		return 1;
	}
	for (i = 0; i < text.n; i++) {
		if (type != TOK_NORMAL && type != TOK_UNUSED)
			out[n++] = text.s[i];
		else if (text.n - i >= 3 && !memcmp(text.s + i, CHARS_BLANK, 3))
			out[n++] = ' ', i += 2;
		else
			out[n++] = text.s[i];
	}
	return n;
}

static int load_plain_words(struct load *l)
{
	struct tok *t = l->t;
	size_t i, bytes = 0;
	char *out = t->arena, *copy;

	for (i = 0; i < t->n_vocab; i++)
		bytes += l->text[i].n;
	t->text = calloc(t->n_vocab, sizeof *t->text);
	t->texts = copy = malloc(bytes + 1);
	if (!t->text || !t->texts)
		return err_nomem(l->e, bytes + t->n_vocab * sizeof *t->text, "the vocabulary");
	for (i = 0; i < t->n_vocab; i++) {
		t->text[i] = (struct gguf_str){ copy, l->text[i].n };
		if (l->text[i].n)
			memcpy(copy, l->text[i].s, l->text[i].n);
		copy += l->text[i].n;
		t->word[i] = (struct gguf_str){ out, plain_word(l->text[i], t->type[i], out) };
		out += t->word[i].n;
	}
	return 0;
}

/* Tokens that a text can become without being written out as special: use[n_vocab], malloced. */
static uint8_t *usable(struct load *l)
{
	struct tok *t = l->t;
	uint8_t *use = malloc(t->n_vocab);

	if (!use) {
		err_nomem(l->e, t->n_vocab, "the vocabulary");
		return NULL;
	}
	for (size_t i = 0; i < t->n_vocab; i++)
		use[i] = t->type[i] == TOK_NORMAL || t->type[i] == TOK_USER || t->type[i] == TOK_UNUSED ||
			(t->type[i] == TOK_BYTE && byte_of(l->text[i]) < 0);
	return use;
}

/* score[n_vocab], malloced; all 0 if the file has none. */
static float *load_scores(struct load *l)
{
	size_t n_vocab = l->t->n_vocab;
	float *score = calloc(n_vocab, sizeof *score);
	enum gguf_kind kind;
	uint64_t n;
	double v;
	int rc;

	if (!score) {
		err_nomem(l->e, n_vocab * sizeof *score, "scores");
		return NULL;
	}
	rc = gguf_get_arr(l->g, SCORES, &kind, &n, l->e);
	if (rc > 0 && kind != GGUF_F32 && kind != GGUF_I32)
		rc = err_set(l->e, MOE_ERR_INPUT, "key %s is not an array of 32-bit numbers", SCORES);
	else if (rc > 0 && n != n_vocab)
		rc = err_set(l->e, MOE_ERR_INPUT, "key %s has %" PRIu64 " elements for %zu tokens", SCORES,
			n, n_vocab);
	for (size_t i = 0; rc > 0 && i < n_vocab; i++) {
		gguf_arr_f64(l->g, SCORES, i, &v);
		if (!isfinite(v))
			rc = err_set(l->e, MOE_ERR_INPUT, "token %zu has the score %g", i, v);
		score[i] = (float)v;
	}
	if (rc >= 0)
		return score;
	free(score);
	return NULL;
}

/* Bytes of characters that are no tokens: "<0x0A>", or the byte itself. */
static void load_char_bytes(struct load *l)
{
	struct chars *c = &l->t->chars;
	char text[8], byte;

	for (int i = 0; i < 256; i++) {
		byte = (char)i;
		snprintf(text, sizeof text, "<0x%02X>", i);
		c->byte_id[i] = map_find(&l->by_text, text, 6);
		if (c->byte_id[i] < 0)
			c->byte_id[i] = map_find(&c->by_text, &byte, 1);
	}
	c->unk = l->t->unk;
}

static int load_chars(struct load *l)
{
	struct tok *t = l->t;
	uint8_t *use = usable(l);
	float *score = NULL;
	int rc = use ? 0 : -1;

	if (!rc)
		rc = chars_init(&t->chars, t->text, use, t->n_vocab, l->seed, l->e);
	if (!rc)
		load_char_bytes(l);
	if (!rc && t->row) {
		rc = load_merges(l, &t->chars.bpe);
	} else if (!rc) {
		score = load_scores(l);
		rc = score ? chars_merges_from_scores(&t->chars, score, t->n_vocab, l->seed, l->e) : -1;
	}
	free(score);
	free(use);
	return rc;
}

static int load_charsmap(struct load *l)
{
	static const char key[] = "tokenizer.ggml.precompiled_charsmap";
	enum gguf_kind kind;
	uint64_t n;
	uint8_t *blob;
	double v;
	int rc = gguf_get_arr(l->g, key, &kind, &n, l->e);

	if (rc <= 0)
		return rc;
	if (kind != GGUF_U8 && kind != GGUF_I8)
		return err_set(l->e, MOE_ERR_INPUT, "key %s is not an array of bytes", key);
	blob = malloc(n + 1);
	if (!blob)
		return err_nomem(l->e, n, key);
	for (uint64_t i = 0; i < n; i++) {
		gguf_arr_f64(l->g, key, i, &v);
		blob[i] = (uint8_t)(int)v;
	}
	rc = unigram_charsmap(&l->t->unigram, blob, n, l->e);
	free(blob);
	return rc;
}

static int load_unigram(struct load *l)
{
	struct tok *t = l->t;
	struct unigram *u = &t->unigram;
	uint8_t *use = usable(l);
	float *score = use ? load_scores(l) : NULL, lowest = FLT_MAX;
	int rc = score ? 0 : -1;

	u->unk = t->unk;
	for (size_t i = 0; !rc && i < t->n_vocab; i++) {
		if (t->type[i] == TOK_NORMAL && score[i] < lowest)
			lowest = score[i];
		if (t->type[i] == TOK_USER)
			score[i] = 0;
	}
	if (!rc)
		rc = unigram_init(u, t->text, use, score, t->n_vocab, lowest, l->e);
	if (!rc)
		rc = load_charsmap(l);
	if (!rc && gguf_get_bool(l->g, "tokenizer.ggml.remove_extra_whitespaces", &u->squeeze, l->e) <
	    0)
		rc = -1;
	u->prefix = t->space_prefix;
	free(score);
	free(use);
	return rc;
}

int load_plain(struct load *l)
{
	if (load_plain_words(l))
		return -1;
	return l->t->algo == TOK_CHARS ? load_chars(l) : load_unigram(l);
}
