/*
 * load.c - building a tokenizer from a GGUF's metadata.
 *
 * Nothing of the file is trusted: ids are compared with the vocabulary, merges must join tokens
 * that exist, lengths of arrays must agree. What is merely odd has a defined meaning:
 *  - equal texts: the lowest id is the one that encoding gives;
 *  - an empty text is never produced by encoding and decodes to nothing;
 *  - a byte without a token becomes nothing in byte-level BPE, elsewhere the unknown token, if
 *    there is one: such a vocabulary does not round trip;
 *  - in byte-level BPE, "byte" tokens (<0x41>) are ordinary text; elsewhere, those that do not read
 *    like this are;
 *  - control tokens, unknown ones and bytes are never the result of a merge.
 *
 * To add a kind of tokenizer (a value of tokenizer.ggml.model): a row in kinds[]; if none of the
 * algorithms fits, one more in enum tok_algo, a module like chars.c, and a case in load_algo() and
 * in tok.c's encode_text().
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "tok/load.h"

#define TOKENS "tokenizer.ggml.tokens"
#define TYPES "tokenizer.ggml.token_type"
#define MERGES "tokenizer.ggml.merges"

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
	err_set(l->e, MOE_ERR_INPUT, "tokenizer.ggml.pre '%s' is not known; known are:%s and their "
		"aliases", show(pre).s, b.data ? b.data : "");
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
		return err_set(l->e, MOE_ERR_INPUT, "tokenizer.ggml.model '%s' is not supported; gpt2 "
			"(byte-level BPE), llama (SentencePiece), gemma4 and t5 (unigram) are", show(model).s);
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
		return err_set(l->e, MOE_ERR_INPUT, "key %s has %" PRIu64 " elements for %zu tokens", TYPES,
			n, l->t->n_vocab);
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

int load_merges(struct load *l, struct bpe *b)
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
			rc = err_set(l->e, MOE_ERR_INPUT, "merge %" PRIu64 " '%s' is not two texts with a "
				"space between", i, show(s).s);
		else if (id[0] < 0 || id[1] < 0 || id[2] < 0)
			rc = err_set(l->e, MOE_ERR_INPUT, "merge %" PRIu64 " '%s': its %s is not in the "
				"vocabulary", i, show(s).s,
				id[0] < 0 ? "left side" : id[1] < 0 ? "right side" : "result");
		else
			bpe_add(b, id[0], id[1], (uint32_t)i, id[2]);
	}
	free(room);
	return rc;
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
	return l->t->algo == TOK_BYTES ? load_bytes_bpe(l) : load_plain(l);
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
