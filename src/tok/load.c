/*
 * load.c - building a tokenizer from a GGUF's metadata.
 *
 * Nothing of the file is trusted: ids are compared with the vocabulary, merges must join tokens that
 * exist, lengths of arrays must agree. What is merely odd has a defined meaning:
 *  - equal texts: the lowest id is the one that encoding gives;
 *  - an empty text is never produced by encoding and decodes to nothing;
 *  - a byte without a token becomes nothing in byte-level BPE, elsewhere the unknown token, if there
 *    is one: such a vocabulary does not round trip;
 *  - in byte-level BPE, "byte" tokens (<0x41>) are ordinary text; elsewhere, those that do not read
 *    like this are;
 *  - control tokens, unknown ones and bytes are never the result of a merge.
 *
 * To add a kind of tokenizer (a value of tokenizer.ggml.model): a row in kinds[]; if none of the
 * algorithms fits, one more in enum tok_algo, a module like chars.c, and a case in load_algo() and in
 * tok.c's encode_text().
 */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "tok/internal.h"

#define TOKENS "tokenizer.ggml.tokens"
#define TYPES "tokenizer.ggml.token_type"
#define MERGES "tokenizer.ggml.merges"
#define SCORES "tokenizer.ggml.scores"

struct kind;

/* What only loading needs. */
struct load {
	const struct gguf *g;
	struct tok *t;
	struct gguf_str *text;  /* [n_vocab] as in the file, in its mapping */
	struct map by_text;
	const struct kind *kind;
	uint64_t seed;
	int has_types;
	struct moe_err *e;
};

static int missing(struct load *l, const char *key)
{
	return err_set(l->e, MOE_ERR_INPUT, "key %s is missing", key);
}

/* An array of the kind wanted: 1, or 0 if there is no such key. */
static int get_array(struct load *l, const char *key, int strings, uint64_t *n)
{
	enum gguf_kind kind;
	int rc = gguf_get_arr(l->g, key, &kind, n, l->e);

	if (rc > 0 && (strings ? kind != GGUF_STR : kind != GGUF_I32 && kind != GGUF_U32))
		return err_set(l->e, MOE_ERR_INPUT, "key %s is not an array of %s", key,
			strings ? "strings" : "32-bit integers");
	return rc;
}

/* A string from the file, escaped and cut, for an error message. */
struct shown { char s[128]; };

static struct shown show(struct gguf_str v)
{
	struct shown out = { "" };
	struct buf b;

	buf_init(&b, sizeof out.s - 1);
	text_escape(&b, v.s, v.n < 64 ? v.n : 64, TEXT_TERMINAL);
	if (b.len)
		memcpy(out.s, b.data, b.len);
	buf_free(&b);
	return out;
}

/* ---- which tokenizer ---- */

/* What a file that says nothing else means; ids beyond the vocabulary count as none. */
struct kind { const char *model; enum tok_algo algo; int bos, eos, unk, add_bos, add_eos, prefix; };
static const struct kind kinds[] = {
	{ "gpt2", TOK_BYTES, -1, -1, -1, 0, 0, 0 },
	{ "llama", TOK_CHARS, 1, 2, 0, 1, 0, 1 },
	{ "gemma4", TOK_CHARS, -1, -1, -1, 1, 0, 0 },
	{ "t5", TOK_UNIGRAM, -1, 1, 2, 0, 1, 0 },
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

static const struct kind *find_kind(struct gguf_str model)
{
	for (size_t i = 0; i < N_KINDS; i++)
		if (strlen(kinds[i].model) == model.n && !memcmp(kinds[i].model, model.s, model.n))
			return &kinds[i];
	return NULL;
}

static int unknown_pre(struct load *l, struct gguf_str pre)
{
	struct buf b;
	const char *names;

	buf_init(&b, 4096);
	for (size_t i = 0; (names = pre_names(i)); i++) {
		buf_char(&b, ' ');
		buf_add(&b, names, strcspn(names, " "));
	}
	err_set(l->e, MOE_ERR_INPUT, "tokenizer.ggml.pre '%s' is not known; known are:%s and their aliases",
		show(pre).s, b.data ? b.data : "");
	buf_free(&b);
	return -1;
}

/* The pre-tokenizer; it can turn byte-level BPE into merges over characters. */
static int load_pre(struct load *l, struct gguf_str pre)
{
	struct tok *t = l->t;

	t->row = pre_find(pre.s, pre.n);
	if (!t->row)
		return unknown_pre(l, pre);
	if (t->row->flags & PRE_CHARS) {
		t->algo = TOK_CHARS;
		t->chars.flags = CHARS_LINES | (t->row->flags & PRE_LINES ? CHARS_WHOLE : 0);
		return 0;
	}
	t->pre = pre_compile(t->row, l->e);
	return t->pre ? 0 : -1;
}

static int load_kind(struct load *l)
{
	struct gguf_str model, pre = { "default", 7 };
	int rc = gguf_get_str(l->g, "tokenizer.ggml.model", &model, l->e);

	if (rc < 0)
		return -1;
	if (!rc)
		return missing(l, "tokenizer.ggml.model");
	l->kind = find_kind(model);
	if (!l->kind)
		return err_set(l->e, MOE_ERR_INPUT, "tokenizer.ggml.model '%s' is not supported; gpt2 (byte-level "
			"BPE), llama (SentencePiece), gemma4 and t5 (unigram) are", show(model).s);
	l->t->algo = l->kind->algo;
	snprintf(l->t->describe, sizeof l->t->describe, "%s", l->kind->model);
	if (!strcmp(l->kind->model, "gemma4"))
		return load_pre(l, (struct gguf_str){ "gemma4", 6 });
	if (l->t->algo != TOK_BYTES)
		return 0;
	if (gguf_get_str(l->g, "tokenizer.ggml.pre", &pre, l->e) < 0 || load_pre(l, pre))
		return -1;
	snprintf(l->t->describe, sizeof l->t->describe, "gpt2/%s", show(pre).s);
	return 0;
}

/* ---- vocabulary ---- */

static int load_texts(struct load *l)
{
	struct tok *t = l->t;
	uint64_t n, bytes = 0, i;
	int rc = get_array(l, TOKENS, 1, &n);

	if (rc < 0)
		return -1;
	if (!rc)
		return missing(l, TOKENS);
	if (!n || n > INT32_MAX)
		return err_set(l->e, MOE_ERR_INPUT, "key %s has %" PRIu64 " tokens", TOKENS, n);
	t->n_vocab = n;
	l->text = calloc(n, sizeof *l->text);
	t->word = calloc(n, sizeof *t->word);
	t->type = calloc(n, 1);
	t->end = calloc(n, 1);
	t->strip = calloc(n, 1);
	if (!l->text || !t->word || !t->type || !t->end || !t->strip)
		return err_nomem(l->e, n * (2 * sizeof *t->word + 3), "the vocabulary");
	for (i = 0; i < n; i++) {
		gguf_arr_str(l->g, TOKENS, i, &l->text[i]);
		bytes += l->text[i].n;
	}
	t->arena = malloc(bytes + 1);
	if (!t->arena)
		return err_nomem(l->e, bytes + 1, "the vocabulary");
	if (map_init(&l->by_text, l->text, n, l->seed, l->e))
		return -1;
	for (i = 0; i < n; i++)
		if (l->text[i].n)
			map_add(&l->by_text, (int32_t)i);
	return 0;
}

static int load_types(struct load *l)
{
	uint64_t n, i;
	double v;

	memset(l->t->type, TOK_NORMAL, l->t->n_vocab);
	l->has_types = get_array(l, TYPES, 0, &n);
	if (l->has_types <= 0)
		return l->has_types;
	if (n != l->t->n_vocab)
		return err_set(l->e, MOE_ERR_INPUT, "key %s has %" PRIu64 " elements for %zu tokens", TYPES, n,
			l->t->n_vocab);
	for (i = 0; i < n; i++) {
		gguf_arr_f64(l->g, TYPES, i, &v);
		if (v < 0 || v > TOK_BYTE)
			return err_set(l->e, MOE_ERR_INPUT, "token %" PRIu64 " has type %.0f, not 0..%d", i, v,
				TOK_BYTE);
		l->t->type[i] = v ? (uint8_t)v : TOK_NORMAL;
	}
	return 0;
}

/* GPT-2's alphabet: each byte has a printable code point. The 188 printable ones of Latin-1 stand
 * for themselves, the others are U+0100.. in order. */
struct alphabet { uint16_t of_byte[256]; int16_t of_code[0x144]; };

static struct alphabet make_alphabet(void)
{
	struct alphabet a;
	uint16_t next = 0x100;
	int i;

	memset(a.of_code, 0xff, sizeof a.of_code);
	for (i = 0; i < 256; i++) {
		int printable = (i >= '!' && i <= '~') || (i >= 0xa1 && i <= 0xac) || i >= 0xae;

		a.of_byte[i] = printable ? (uint16_t)i : next++;
		a.of_code[a.of_byte[i]] = (int16_t)i;
	}
	return a;
}

/* Write the bytes that a normal token's text stands for to out (at least text.n bytes); what is not
 * in the alphabet stands for itself. Returns how many; *clean = all were in the alphabet. */
static size_t decode_text(const struct alphabet *a, struct gguf_str text, char *out, int *clean)
{
	size_t i, len, n = 0;
	uint32_t cp;

	*clean = 1;
	for (i = 0; i < text.n; i += len) {
		len = text_decode(text.s + i, text.n - i, &cp);
		if (len && cp < 0x144 && a->of_code[cp] >= 0) {
			out[n++] = (char)a->of_code[cp];
			continue;
		}
		*clean = 0;
		len = len ? len : 1;
		memcpy(out + n, text.s + i, len);
		n += len;
	}
	return n;
}

static int load_words(struct load *l, const struct alphabet *a)
{
	struct tok *t = l->t;
	char *out = t->arena;
	size_t i;
	int clean;

	if ((t->row->flags & PRE_WHOLE) && map_init(&t->whole, t->word, t->n_vocab, l->seed, l->e))
		return -1;
	for (i = 0; i < t->n_vocab; i++) {
		t->word[i].s = out;
		if (t->type[i] == TOK_NORMAL) {
			t->word[i].n = decode_text(a, l->text[i], out, &clean);
		} else {
			t->word[i].n = l->text[i].n;
			memcpy(out, l->text[i].s, l->text[i].n);
			clean = 0;
		}
		out += t->word[i].n;
		if (clean && t->word[i].n > t->longest)
			t->longest = t->word[i].n;
		if (t->whole.slot && clean && t->word[i].n)
			map_add(&t->whole, (int32_t)i);
	}
	return 0;
}

static void load_bytes(struct load *l, const struct alphabet *a)
{
	char code[4];
	int i;

	for (i = 0; i < 256; i++)
		l->t->byte_id[i] = map_find(&l->by_text, code, text_encode(a->of_byte[i], code));
}

/* ---- vocabularies of plain text ---- */

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
		rc = err_set(l->e, MOE_ERR_INPUT, "key %s has %" PRIu64 " elements for %zu tokens", SCORES, n,
			n_vocab);
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

static int load_merges(struct load *l, struct bpe *b);

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
	if (!rc && gguf_get_bool(l->g, "tokenizer.ggml.remove_extra_whitespaces", &u->squeeze, l->e) < 0)
		rc = -1;
	u->prefix = t->space_prefix;
	free(score);
	free(use);
	return rc;
}

/* ---- merges ---- */

/* "left right" -> the ids of left, right and leftright; room is a scratch of at least s.n bytes. */
static int merge_ids(struct load *l, struct gguf_str s, char *room, int32_t id[3])
{
	const char *space = s.n > 2 ? memchr(s.s + 1, ' ', s.n - 2) : NULL;
	size_t left;

	if (!space)
		return 0;
	left = (size_t)(space - s.s);
	memcpy(room, s.s, left);
	memcpy(room + left, space + 1, s.n - left - 1);
	id[0] = map_find(&l->by_text, s.s, left);
	id[1] = map_find(&l->by_text, space + 1, s.n - left - 1);
	id[2] = map_find(&l->by_text, room, s.n - 1);
	return 1;
}

static int load_merges(struct load *l, struct bpe *b)
{
	uint64_t n, i, longest = 0;
	struct gguf_str s;
	char *room = NULL;
	int32_t id[3];
	int rc = get_array(l, MERGES, 1, &n);

	if (rc < 0)
		return -1;
	if (!rc)
		return missing(l, MERGES);
	for (i = 0; i < n; i++) {
		gguf_arr_str(l->g, MERGES, i, &s);
		longest = s.n > longest ? s.n : longest;
	}
	room = malloc(longest + 1);
	if (!room)
		return err_nomem(l->e, longest + 1, "merges");
	rc = bpe_init(b, n, l->seed, l->e);
	for (i = 0; !rc && i < n; i++) {
		gguf_arr_str(l->g, MERGES, i, &s);
		if (!merge_ids(l, s, room, id))
			rc = err_set(l->e, MOE_ERR_INPUT, "merge %" PRIu64 " '%s' is not two texts with a space "
				"between", i, show(s).s);
		else if (id[0] < 0 || id[1] < 0 || id[2] < 0)
			rc = err_set(l->e, MOE_ERR_INPUT, "merge %" PRIu64 " '%s': its %s is not in the vocabulary",
				i, show(s).s, id[0] < 0 ? "left side" : id[1] < 0 ? "right side" : "result");
		else
			bpe_add(b, id[0], id[1], (uint32_t)i, id[2]);
	}
	free(room);
	return rc;
}

/* ---- special tokens ---- */

static int load_id(struct load *l, const char *key, int otherwise, int32_t *id)
{
	uint64_t v;
	int rc = gguf_get_u64(l->g, key, &v, l->e);

	*id = otherwise < (int64_t)l->t->n_vocab ? otherwise : -1;
	if (rc <= 0)
		return rc;
	if (v >= l->t->n_vocab)
		return err_set(l->e, MOE_ERR_INPUT, "key %s is %" PRIu64 ", the vocabulary has %zu tokens", key,
			v, l->t->n_vocab);
	*id = (int32_t)v;
	return 0;
}

/* Texts that end a generation, whatever the keys say. Plain ones count only if the token is not
 * normal: "</s>" may be an ordinary piece of HTML. */
static const struct { const char *text; int plain; } ends[] = {
	{ "<|im_end|>", 0 }, { "<|eot_id|>", 0 }, { "<|eom_id|>", 0 }, { "<|endoftext|>", 0 },
	{ "<|end_of_text|>", 0 }, { "<|end|>", 0 }, { "<|return|>", 0 }, { "<|call|>", 0 },
	{ "<|calls|>", 0 }, { "<|flush|>", 0 }, { "<|eot|>", 0 }, { "<|fim_pad|>", 0 },
	{ "<fim-pad>", 0 }, { "<fim_pad>", 0 }, { "<|repo_name|>", 0 }, { "<|fim_repo|>", 0 },
	{ "<fim-repo>", 0 }, { "<|file_sep|>", 0 },
	{ "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>", 0 },
	{ "<end_of_turn>", 0 }, { "<end_of_utterance>", 0 }, { "<turn|>", 0 }, { "<|tool_response>", 0 },
	{ "</s>", 1 }, { "<eos>", 1 }, { "<EOT>", 1 }, { "_<EOT>", 1 }, { "[EOT]", 1 }, { "[EOS]", 1 },
	{ "[e~[", 1 }, { "<PAD>", 1 }, { "[PAD]", 1 }, { "<REPO>", 1 }, { "<reponame>", 1 },
};

/* Marks of fill-in-the-middle: control tokens, also where a file has them as user-defined. */
static const char *const controls[] = { "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>",
	"\xe2\x96\x81<PRE>", "<|code_prefix|>", "<|prefix|>", "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>",
	"<SUF>", "\xe2\x96\x81<SUF>", "<|code_suffix|>", "<|suffix|>", "<|fim_middle|>", "<fim-middle>",
	"<fim_middle>", "<MID>", "\xe2\x96\x81<MID>", "<|code_middle|>", "<|middle|>",
	"<\xef\xbd\x9c" "fim\xe2\x96\x81" "begin\xef\xbd\x9c>", "<\xef\xbd\x9c" "fim\xe2\x96\x81hole\xef\xbd\x9c>",
	"<\xef\xbd\x9c" "fim\xe2\x96\x81" "end\xef\xbd\x9c>" };

static int32_t find_text(const struct load *l, const char *s)
{
	return map_find(&l->by_text, s, strlen(s));
}

static void mark_ends(struct load *l)
{
	struct tok *t = l->t;
	int32_t id, end, call, flush;
	size_t i;

	for (i = 0; i < sizeof ends / sizeof *ends; i++) {
		id = find_text(l, ends[i].text);
		if (id < 0 || (ends[i].plain && l->has_types && t->type[id] == TOK_NORMAL))
			continue;
		t->end[id] = 1;
		/* Converters have left such tokens normal or user-defined: the first would never be
		 * recognised, the second in anybody's text. */
		if (t->type[id] == TOK_NORMAL || t->type[id] == TOK_USER)
			t->type[id] = TOK_CONTROL;
	}
	for (i = 0; i < sizeof controls / sizeof *controls; i++) {
		id = find_text(l, controls[i]);
		if (id >= 0 && t->type[id] == TOK_USER)
			t->type[id] = TOK_CONTROL;
	}
	/* In these two families <|end|> ends one message of several. */
	end = find_text(l, "<|end|>");
	call = find_text(l, "<|call|>") >= 0 ? find_text(l, "<|call|>") : find_text(l, "<|calls|>");
	flush = find_text(l, "<|flush|>");
	if (end >= 0 && call >= 0 && (find_text(l, "<|return|>") >= 0 || flush >= 0))
		t->end[end] = 0;
	/* Gemma 4 has "</s>" as text. */
	end = find_text(l, "</s>");
	if (end >= 0 && find_text(l, "<|tool_response>") >= 0) {
		t->end[end] = 0;
		t->type[end] = TOK_NORMAL;
	}
	if (t->eos >= 0)
		t->end[t->eos] = 1;
	if (t->eot >= 0)
		t->end[t->eot] = 1;
	if (t->eom >= 0)
		t->end[t->eom] = 1;
}

/* s has a word, in any case. */
static int has_word(struct gguf_str s, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= s.n; i++)
		if (!strncasecmp(s.s + i, word, n))
			return 1;
	return 0;
}

/* White space that the model was never shown beside a special token. Files do not say it, so it goes
 * by the model's name and architecture, as in llama.cpp. */
static void mark_strips(struct load *l)
{
	struct tok *t = l->t;
	struct gguf_str name = { "", 0 }, arch = { "", 0 }, pre = { "", 0 };
	struct moe_err e;
	int32_t id;

	(void)gguf_get_str(l->g, "general.name", &name, &e);
	(void)gguf_get_str(l->g, "general.architecture", &arch, &e);
	(void)gguf_get_str(l->g, "tokenizer.ggml.pre", &pre, &e);
	if (has_word(pre, "jina-v2-") || has_word(arch, "nomic-bert-moe") || has_word(arch, "jina-bert-v3")) {
		id = find_text(l, "<mask>");
		if (id >= 0)
			t->strip[id] = TOK_STRIP_BEFORE;
	} else if (has_word(name, "phi-3") || has_word(name, "phi3")) {
		for (size_t i = 0; i < t->n_vocab; i++)
			if (t->type[i] == TOK_CONTROL || t->type[i] == TOK_USER || t->type[i] == TOK_UNKNOWN)
				t->strip[i] = TOK_STRIP_AFTER;
		for (size_t i = 0; i < 3; i++) {
			id = find_text(l, i == 0 ? "<unk>" : i == 1 ? "<s>" : "<|endoftext|>");
			if (id >= 0)
				t->strip[id] = 0;
		}
	}
}

struct by_length { size_t n; int32_t id; };

static int longer_first(const void *a, const void *b)
{
	const struct by_length *x = a, *y = b;

	if (x->n != y->n)
		return x->n > y->n ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

static int list_specials(struct load *l)
{
	struct tok *t = l->t;
	struct by_length *list = calloc(t->n_vocab, sizeof *list);
	size_t i, n = 0;

	if (!list)
		return err_nomem(l->e, t->n_vocab * sizeof *list, "special tokens");
	for (i = 0; i < t->n_vocab; i++)
		if ((t->type[i] == TOK_CONTROL || t->type[i] == TOK_USER || t->type[i] == TOK_UNKNOWN) &&
		    l->text[i].n)
			list[n++] = (struct by_length){ l->text[i].n, (int32_t)i };
	qsort(list, n, sizeof *list, longer_first);
	t->special = calloc(n + 1, sizeof *t->special);
	for (i = 0; t->special && i < n; i++)
		t->special[i] = list[i].id;
	t->n_special = n;
	free(list);
	return t->special ? 0 : err_nomem(l->e, n * sizeof *t->special, "special tokens");
}

static int load_specials(struct load *l)
{
	struct tok *t = l->t;

	if (load_id(l, "tokenizer.ggml.bos_token_id", l->kind->bos, &t->bos) ||
	    load_id(l, "tokenizer.ggml.eos_token_id", l->kind->eos, &t->eos) ||
	    load_id(l, "tokenizer.ggml.eot_token_id", -1, &t->eot) ||
	    load_id(l, "tokenizer.ggml.eom_token_id", -1, &t->eom) ||
	    load_id(l, "tokenizer.ggml.unknown_token_id", l->kind->unk, &t->unk))
		return -1;
	t->add_bos = t->row ? (t->row->flags & PRE_BOS) != 0 : l->kind->add_bos;
	t->add_eos = l->kind->add_eos;
	t->space_prefix = l->kind->prefix;
	if (gguf_get_bool(l->g, "tokenizer.ggml.add_bos_token", &t->add_bos, l->e) < 0 ||
	    gguf_get_bool(l->g, "tokenizer.ggml.add_eos_token", &t->add_eos, l->e) < 0 ||
	    gguf_get_bool(l->g, "tokenizer.ggml.add_space_prefix", &t->space_prefix, l->e) < 0)
		return -1;
	if (t->row && (t->row->flags & PRE_CHARS))
		t->space_prefix = 0;
	if (t->row && (t->row->flags & PRE_LINES)) /* Gemma 4: files have said no by mistake */
		t->add_bos = 1;
	mark_ends(l);
	mark_strips(l);
	return list_specials(l);
}

static int load_bytes_bpe(struct load *l)
{
	struct alphabet a = make_alphabet();

	if (load_words(l, &a))
		return -1;
	load_bytes(l, &a);
	return load_merges(l, &l->t->bpe);
}

static int load_algo(struct load *l)
{
	if (l->t->algo == TOK_BYTES)
		return load_bytes_bpe(l);
	if (load_plain_words(l))
		return -1;
	return l->t->algo == TOK_CHARS ? load_chars(l) : load_unigram(l);
}

static int load_all(struct load *l)
{
	size_t used;

	if (load_kind(l) || load_texts(l) || load_types(l) || load_specials(l) || load_algo(l))
		return -1;
	used = strlen(l->t->describe);
	snprintf(l->t->describe + used, sizeof l->t->describe - used, ", %zu tokens", l->t->n_vocab);
	return 0;
}

struct tok *tok_load(const struct gguf *g, struct moe_err *e)
{
	struct load l = { .g = g, .e = e, .seed = map_seed() };
	int rc = -1;

	l.t = calloc(1, sizeof *l.t);
	if (!l.t) {
		err_nomem(e, sizeof *l.t, "a tokenizer");
		return NULL;
	}
	rc = load_all(&l);
	map_free(&l.by_text);
	free(l.text);
	if (rc) {
		tok_free(l.t);
		err_wrap(e, "tokenizer");
		return NULL;
	}
	return l.t;
}

void tok_free(struct tok *t)
{
	if (!t)
		return;
	pre_free(t->pre);
	bpe_free(&t->bpe);
	map_free(&t->whole);
	chars_free(&t->chars);
	unigram_free(&t->unigram);
	free(t->special);
	free(t->text);
	free(t->texts);
	free(t->strip);
	free(t->end);
	free(t->type);
	free(t->word);
	free(t->arena);
	free(t);
}
