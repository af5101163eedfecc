/*
 * compare_tok.c - this tokenizer against llama.cpp's, on random texts.
 *
 *	compare_tok VOCAB.gguf N SEED [WITHOUT]
 *
 * Both load the same file and tokenise N texts, each four ways: special tokens in the text as such
 * or not, with and without the BOS and EOS that the model asks for. Texts mix what tokenizers treat
 * apart: random code points, scripts, runs of blanks and line feeds, digits, punctuation, combining
 * marks, emoji, words, special tokens written out, and for "llama" vocabularies any bytes. Also
 * compared: the bytes of every token, and which tokens end a generation. Texts that have WITHOUT in
 * them are left out, for known differences. Prints what differs, and a line that counts; exit
 * status 1 if ids or bytes differ.
 *
 * Elsewhere broken UTF-8 is left out: llama.cpp replaces it by U+FFFD, this tokenizer keeps it.
 * tests/ref/compare_tok.sh builds and runs this.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/text.h"
#include "ggml-backend.h"
#include "llama.h"
#include "tok/tok.h"

#define MOST 4096

static struct rng r;
static int any_bytes;

static size_t below(size_t n)
{
	return (size_t)rng_below(&r, n);
}

static size_t put(char *out, const char *s)
{
	size_t n = strlen(s);

	memcpy(out, s, n);
	return n;
}

static size_t code_point(char *out)
{
	static const uint32_t range[][2] = { { 0x20, 0x7f }, { 0x80, 0x24f }, { 0x300, 0x370 },
		{ 0x370, 0x600 }, { 0x600, 0x700 }, { 0x900, 0x980 }, { 0xe00, 0xe80 }, { 0x2000, 0x2070 },
		{ 0x20a0, 0x2200 }, { 0x3000, 0x3100 }, { 0x4e00, 0x9fff }, { 0xac00, 0xd7a4 },
		{ 0xfe00, 0xffef }, { 0x1f300, 0x1f700 }, { 0x20, 0x10ffff }, { 0, 0x3000 } };
	size_t k = below(sizeof range / sizeof *range);
	uint32_t c;

	do
		c = range[k][0] + (uint32_t)below(range[k][1] - range[k][0]);
	while ((c >= 0xd800 && c < 0xe000) || c == 0);
	return text_encode(c, out);
}

static size_t unit(char *out, const struct tok *t)
{
	static const char *const fixed[] = { " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "'s",
		"'LL", "'", "the", " The", " and", "hello", "World", "0", "12", "345", "6789", "3.14",
		"...", "!?", "(", ")", "_", "--", "\xc3\xa9", "\xcc\x81", "\xc2\xa0", "\xe3\x80\x80",
		"\xe2\x80\x8b", "\xd0\x9f\xd1\x80\xd0\xb8", "\xe4\xb8\xad\xe6\x96\x87", "\xe3\x81\x82",
		"\xed\x95\x9c", "\xd9\xa3", "\xe0\xb8\x81", "\xf0\x9f\x98\x80",
		"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7", "\xe2\x96\x81", "\xc7\x85", "\xca\xb0",
		"\xc2\xbd", "http://", "#include <", "</s>", "<s>", "<unk>", "<|im_start|>", "<|end",
		"<0x41>", "[INST]", "aaaaaaaa", "        ", "==", "\xef\xbf\xbd", "\xf0\x9d\x94\xb8" };
	size_t n = 0, k, len;
	const char *p;

	switch (below(10)) {
	case 0: case 1: case 2:
		return put(out, fixed[below(sizeof fixed / sizeof *fixed)]);
	case 3: /* a run */
		p = fixed[below(sizeof fixed / sizeof *fixed)];
		for (k = 1 + below(12); k; k--)
			n += put(out + n, p);
		return n;
	case 4: /* any token's bytes, if they are UTF-8 */
		p = tok_bytes(t, (int32_t)below(tok_n_vocab(t)), &len);
		if (!p || len > 200)
			return 0;
		for (k = 0; k < len; k += n) {
			uint32_t c;

			n = text_decode(p + k, len - k, &c);
			if (!n || !c)
				return 0;
		}
		memcpy(out, p, len);
		return len;
	case 5: /* letters */
		for (k = 1 + below(12); k; k--)
			out[n++] = (char)("etaoinshrdluETAOIN"[below(18)]);
		return n;
	case 6:
		if (any_bytes && below(4) == 0) {
			for (k = 1 + below(5); k; k--)
				out[n++] = (char)(1 + below(255));
			return n;
		}
		return code_point(out);
	default:
		return code_point(out);
	}
}

static size_t random_text(char *s, const struct tok *t)
{
	size_t n = 0, units = 1 + below(below(20) ? 24 : 200);

	while (units-- && n < MOST - 256)
		n += unit(s + n, t);
	return n;
}

static void show(const char *s, size_t n)
{
	struct buf b;

	buf_init(&b, 1 << 16);
	text_escape(&b, s, n, TEXT_TERMINAL);
	printf("'%s'", b.data ? b.data : "");
	buf_free(&b);
}

static int compare(const struct tok *t, const struct llama_vocab *v, const char *s, size_t n,
	int way)
{
	static llama_token want[4 * MOST];
	int special = way & 1, add = way >> 1;
	struct moe_err e;
	int32_t *have, n_want;
	size_t n_have, i;
	int same;

	n_want = llama_tokenize(v, s, (int32_t)n, want, 4 * MOST, add, special);
	if (tok_encode(t, s, n, (special ? TOK_SPECIAL : 0) | (add ? TOK_BOS | TOK_EOS : 0), &have,
	    &n_have,
		&e)) {
		printf("%s\n", e.msg);
		return 1;
	}
	same = n_want >= 0 && (size_t)n_want == n_have && !memcmp(want, have, n_have * sizeof *have);
	if (!same) {
		static int shown;

		if (shown++ < 8) {
			printf("differs%s%s: ", special ? ", special" : "", add ? ", BOS" : "");
			show(s, n);
			printf("\n  llama.cpp");
			for (i = 0; n_want > 0 && i < (size_t)n_want && i < 60; i++)
				printf(" %d", want[i]);
			printf("\n  here     ");
			for (i = 0; i < n_have && i < 60; i++)
				printf(" %d", have[i]);
			printf("\n");
		}
	}
	free(have);
	return !same;
}

/* The bytes of every token, and the ends. */
static size_t compare_tokens(const struct tok *t, const struct llama_vocab *v, size_t *ends)
{
	char piece[65536];
	size_t bad = 0, len;

	for (int32_t id = 0; (size_t)id < tok_n_vocab(t); id++) {
		const char *p = tok_bytes(t, id, &len);
		int n = llama_token_to_piece(v, id, piece, sizeof piece, 0, true);

		/* 0: unused */
		if (n && (n < 0 || (size_t)n != len || memcmp(p, piece, len)) && bad++ < 5) {
			printf("token %d is ", id);
			show(p, len);
			printf(", in llama.cpp ");
			show(piece, n > 0 ? (size_t)n : 0);
			printf("\n");
		}
		if (!tok_is_end(t, id) != !llama_vocab_is_eog(v, id)) {
			printf("token %d ", id);
			show(p, len);
			printf(tok_is_end(t, id) ? " ends a generation here only\n" :
				" ends a generation in llama.cpp only\n");
			++*ends;
		}
	}
	return bad;
}

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
	(void)user;
	if (level == GGML_LOG_LEVEL_ERROR)
		fputs(text, stderr);
}

int main(int argc, char **argv)
{
	struct llama_model_params mp = llama_model_default_params();
	size_t bad = 0, bad_tokens, ends = 0, texts, i;
	const struct llama_vocab *v;
	struct llama_model *m;
	static char s[MOST];
	struct moe_err e = { 0 };
	struct gguf *g;
	struct tok *t;

	if (argc < 4)
		return 2;
	llama_log_set(quiet, NULL);
	texts = strtoul(argv[2], NULL, 10);
	rng_seed(&r, strtoull(argv[3], NULL, 10));
	mp.vocab_only = true;
	m = llama_model_load_from_file(argv[1], mp);
	g = gguf_open(argv[1], &e);
	t = g ? tok_load(g, &e) : NULL;
	if (!m || !t) {
		printf("not loaded: %s\n", t ? "by llama.cpp" : e.msg);
		return m ? 77 : 1;
	}
	v = llama_model_get_vocab(m);
	any_bytes = llama_vocab_type(v) == LLAMA_VOCAB_TYPE_SPM;
	bad_tokens = compare_tokens(t, v, &ends);
	for (i = 0; i < texts; i++) {
		size_t n;

		do
			n = random_text(s, t), s[n] = 0;
		while (argc > 4 && strstr(s, argv[4]));
		for (int way = 0; way < 4; way++)
			if (compare(t, v, s, n, way)) {
				bad++;
				break;
			}
	}
	printf("%s: %zu texts, %zu differ; of %zu tokens %zu have other bytes, %zu other ends\n",
		tok_describe(t), texts, bad, tok_n_vocab(t), bad_tokens, ends);
	tok_free(t);
	gguf_close(g);
	llama_model_free(m);
	return bad || bad_tokens;
}
