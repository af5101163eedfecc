/*
 * load.c - building a tokenizer from a GGUF's metadata.
 *
 * Nothing of the file is trusted: ids are compared with the vocabulary, merges must join tokens that
 * exist, lengths of arrays must agree. What is merely odd has a defined meaning:
 *  - equal texts: the lowest id is the one that encoding gives;
 *  - an empty text is never produced by encoding and decodes to nothing;
 *  - a byte without a token becomes the unknown token, or nothing if there is none: only such a
 *    vocabulary does not round trip;
 *  - "byte" tokens (<0x41>) belong to SentencePiece; here they are ordinary text.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "tok/internal.h"

#define TOKENS "tokenizer.ggml.tokens"
#define TYPES "tokenizer.ggml.token_type"
#define MERGES "tokenizer.ggml.merges"

/* What only loading needs. */
struct load {
	const struct gguf *g;
	struct tok *t;
	struct gguf_str *text;  /* [n_vocab] as in the file, in its mapping */
	struct map by_text;
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

static int load_kind(struct load *l)
{
	struct gguf_str model, pre = { "default", 7 };
	int rc = gguf_get_str(l->g, "tokenizer.ggml.model", &model, l->e);

	if (rc < 0)
		return -1;
	if (!rc)
		return missing(l, "tokenizer.ggml.model");
	if (model.n != 4 || memcmp(model.s, "gpt2", 4))
		return err_set(l->e, MOE_ERR_INPUT, "tokenizer.ggml.model '%s' is not supported; gpt2 "
			"(byte-level BPE) is", show(model).s);
	if (gguf_get_str(l->g, "tokenizer.ggml.pre", &pre, l->e) < 0)
		return -1;
	l->t->row = pre_find(pre.s, pre.n);
	if (!l->t->row)
		return err_set(l->e, MOE_ERR_INPUT, "tokenizer.ggml.pre '%s' is not known; known are: %s",
			show(pre).s, pre_names());
	l->t->pre = pre_compile(l->t->row, l->e);
	if (!l->t->pre)
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
	if (!l->text || !t->word || !t->type || !t->end)
		return err_nomem(l->e, n * (2 * sizeof *t->word + 2), "the vocabulary");
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

static int load_merges(struct load *l)
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
	rc = bpe_init(&l->t->bpe, n, l->seed, l->e);
	for (i = 0; !rc && i < n; i++) {
		gguf_arr_str(l->g, MERGES, i, &s);
		if (!merge_ids(l, s, room, id))
			rc = err_set(l->e, MOE_ERR_INPUT, "merge %" PRIu64 " '%s' is not two texts with a space "
				"between", i, show(s).s);
		else if (id[0] < 0 || id[1] < 0 || id[2] < 0)
			rc = err_set(l->e, MOE_ERR_INPUT, "merge %" PRIu64 " '%s': its %s is not in the vocabulary",
				i, show(s).s, id[0] < 0 ? "left side" : id[1] < 0 ? "right side" : "result");
		else
			bpe_add(&l->t->bpe, id[0], id[1], (uint32_t)i, id[2]);
	}
	free(room);
	return rc;
}

/* ---- special tokens ---- */

static int load_id(struct load *l, const char *key, int32_t *id)
{
	uint64_t v;
	int rc = gguf_get_u64(l->g, key, &v, l->e);

	*id = -1;
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
	{ "<|repo_name|>", 0 }, { "<|file_sep|>", 0 },
	{ "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>", 0 },
	{ "<end_of_turn>", 0 }, { "<end_of_utterance>", 0 }, { "</s>", 1 }, { "<eos>", 1 },
	{ "<EOT>", 1 }, { "_<EOT>", 1 }, { "[EOT]", 1 }, { "[EOS]", 1 }, { "[e~[", 1 },
};

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
		/* Converters have left such tokens normal; as text they would never be recognised. */
		if (t->type[id] == TOK_NORMAL)
			t->type[id] = TOK_CONTROL;
	}
	/* In these two families <|end|> ends one message of several. */
	end = find_text(l, "<|end|>");
	call = find_text(l, "<|call|>") >= 0 ? find_text(l, "<|call|>") : find_text(l, "<|calls|>");
	flush = find_text(l, "<|flush|>");
	if (end >= 0 && call >= 0 && (find_text(l, "<|return|>") >= 0 || flush >= 0))
		t->end[end] = 0;
	if (t->eos >= 0)
		t->end[t->eos] = 1;
	if (t->eot >= 0)
		t->end[t->eot] = 1;
	if (t->eom >= 0)
		t->end[t->eom] = 1;
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

	if (load_id(l, "tokenizer.ggml.bos_token_id", &t->bos) ||
	    load_id(l, "tokenizer.ggml.eos_token_id", &t->eos) ||
	    load_id(l, "tokenizer.ggml.eot_token_id", &t->eot) ||
	    load_id(l, "tokenizer.ggml.eom_token_id", &t->eom) ||
	    load_id(l, "tokenizer.ggml.unknown_token_id", &t->unk))
		return -1;
	t->add_bos = (t->row->flags & PRE_BOS) != 0;
	if (gguf_get_bool(l->g, "tokenizer.ggml.add_bos_token", &t->add_bos, l->e) < 0)
		return -1;
	mark_ends(l);
	return list_specials(l);
}

static int load_all(struct load *l)
{
	struct alphabet a = make_alphabet();
	size_t used = 0;

	if (load_kind(l) || load_texts(l) || load_types(l) || load_specials(l) || load_words(l, &a))
		return -1;
	load_bytes(l, &a);
	if (load_merges(l))
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
	free(t->special);
	free(t->end);
	free(t->type);
	free(t->word);
	free(t->arena);
	free(t);
}
