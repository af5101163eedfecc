/*
 * pre.c - the table of pre-tokenizers and the cutting of text by them. See pre.h.
 *
 * To add one, do this: a row with the name that converters write to tokenizer.ggml.pre and the
 * expressions of the model's tokenizer.json ("pre_tokenizer", Split with behaviour "Isolated") in
 * their order. Write characters above 127 as \x{...}.
 *
 * Rules of the expressions:
 *  - steps are applied one inside the other: both what a step matches and what lies between its
 *    matches go to the next step as texts of their own, so that a lookahead ends there;
 *  - \s and \S mean the 25 characters with the property White_Space, as in the engines that the
 *    models were trained with; PCRE2's own \s adds U+180E;
 *  - a step that starts with "3:" cuts each of its matches into groups of three code points,
 *    counted from the right. (Written as a lookahead it would be quadratic.)
 *
 * If the engine gives up on a match (its memory is limited; no known text does this), the next
 * GIVE_UP bytes are one piece. So cutting cannot fail and always terminates.
 */
#include "tok/pre.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"

#define GIVE_UP 4096

#define SPACE "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
	"\\x{205f}\\x{3000}"

/* Parts that several rows share. */
#define SUFFIX "'s|'t|'re|'ve|'m|'ll|'d"
#define ANY_SUFFIX "(?i:" SUFFIX ")"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define SIGNS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define SIGNS_SLASH " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define BLANKS "\\s+(?!\\S)|\\s+"
#define LINES_BLANKS "\\s*[\\r\\n]+|" BLANKS
/* A capital starts a word within a word; S is an optional suffix. */
#define CAMEL(S) "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" S "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" \
	LOWER "*" S
#define GPT2 SUFFIX "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" BLANKS
#define QWEN2 ANY_SUFFIX "|" WORD "|\\p{N}|" SIGNS "|" LINES_BLANKS
#define LLAMA3 ANY_SUFFIX "|" WORD "|\\p{N}{1,3}|" SIGNS "|" LINES_BLANKS
#define DEEPSEEK3 "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|" \
	"[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES_BLANKS
#define HAN_KANA "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"
#define NOT_HAN(C) "(?:(?!\\p{Han})" C ")"
#define SENTENCE_WORD " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"

static const struct pre_row rows[] = {
	{ "default", 0, { "[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" } },
	{ "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert mpt olmo "
	  "dolma jais trillion granite-docling exaone4 jina-v1-en jina-v2-code roberta-bpe", 0, { GPT2 } },
	{ "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano", PRE_WHOLE | PRE_BOS,
	  { LLAMA3 } },
	{ "dbrx smaug-bpe glm4 chatglm-bpe", 0, { LLAMA3 } },
	{ "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", 0, { QWEN2 } },
	{ "ufakzeka", 0, { WORD "|\\p{N}|" SIGNS "|" LINES_BLANKS } },
	{ "jais-2", 0, { ANY_SUFFIX "|" WORD "|\\p{N}{1,3}|" SIGNS "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|"
	  "\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|"
	  "\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s" } },
	{ "qwen35", 0, { ANY_SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|"
	  " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES_BLANKS } },
	{ "laguna", 0, { "[^\\n]+|[\\n]+", QWEN2 } },
	{ "gpt-4o llama4 kanana2 minimax-m2 talkie", 0,
	  { CAMEL(ANY_SUFFIX "?") "|\\p{N}{1,3}|" SIGNS_SLASH "|" LINES_BLANKS } },
	{ "granite-embed-multi-97m", PRE_WHOLE,
	  { CAMEL(ANY_SUFFIX "?") "|\\p{N}{1,3}|" SIGNS_SLASH "|" LINES_BLANKS } },
	{ "tekken", PRE_WHOLE | PRE_BOS, { CAMEL("") "|\\p{N}|" SIGNS_SLASH "|" LINES_BLANKS } },
	{ "tiny_aya cohere2moe", 0,
	  { "3:\\p{Nd}+", CAMEL(ANY_SUFFIX "?") "|\\p{N}{1,3}|" SIGNS_SLASH "|" LINES_BLANKS } },
	{ "youtu", PRE_WHOLE, { "[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{ff01}\\x{2026}\\x{201c}"
	  "\\x{201d}\\x{2018}\\x{2019}\\x{2014}\\x{ff1a}\\x{ff1b}\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-"
	  "\\x{fe4f}]+|[\\x{3105}-\\x{312f}]+|" HAN_KANA,
	  CAMEL(ANY_SUFFIX "?") "|\\p{N}|" SIGNS_SLASH "|" LINES_BLANKS } },
	{ "kimi-k2", 0, { "\\p{Han}+|[^\\r\\n\\p{L}\\p{N}]?" NOT_HAN(UPPER) "*" NOT_HAN(LOWER) "+"
	  ANY_SUFFIX "?|[^\\r\\n\\p{L}\\p{N}]?" NOT_HAN(UPPER) "+" NOT_HAN(LOWER) "*" ANY_SUFFIX
	  "?|\\p{N}{1,3}|" SIGNS "|" LINES_BLANKS } },
	{ "deepseek-v3 hunyuan-dense joyai-llm hy_v4", 0, { "\\p{N}{1,3}", HAN_KANA, DEEPSEEK3 } },
	{ "spark2_5", 0, { "\\p{N}{1,3}", HAN_KANA, "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
	  "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]|" BLANKS,
	  "\\p{N}" } },
	{ "afmoe", 0, { "3:\\p{Nd}+", "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{f900}-\\x{faff}"
	  "\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}\\x{ff65}-\\x{ff9f}\\x{2f00}-\\x{2fdf}\\x{e40}-\\x{e7f}"
	  "\\x{e80}-\\x{eff}\\x{1780}-\\x{17ff}\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}\\x{a9e0}-\\x{a9ff}"
	  "\\x{ac00}-\\x{d7af}\\x{1100}-\\x{11ff}]+", DEEPSEEK3 } },
	{ "deepseek-coder", 0, { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
	  "[\\x{800}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+", "\\p{N}" } },
	{ "deepseek-llm", 0, { "[\\r\\n]", "\\s?[A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-"
	  "\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}"
	  "\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"
	  "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"
	  "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}"
	  "\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"
	  "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-"
	  "\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}"
	  "\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}"
	  "\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}"
	  "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}"
	  "\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}"
	  "\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"
	  "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-"
	  "\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}"
	  "\\x{1e900}-\\x{1e943}]+",
	  "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
	  "\\s+$", "[\\x{800}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+", "\\p{N}+" } },
	{ "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", 0,
	  { "\\p{N}", GPT2 } },
	{ "falcon", 0, { "[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]" } },
	{ "poro-chat bloom gpt3-finnish", 0, { SENTENCE_WORD } },
	{ "viking", 0, { SENTENCE_WORD, "\\p{N}" } },
	{ "bailingmoe bailingmoe2 llada-moe", 0, { "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|"
	  "\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|" BLANKS } },
	{ "seed-coder", 0, { ANY_SUFFIX "|" WORD "|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" LINES_BLANKS } },
	{ "exaone-moe", 0, { ANY_SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|"
	  "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|" BLANKS } },
	{ "chameleon", PRE_BOS, { "<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", "\\p{N}",
	  "[\\p{P}!-/:-@\\[-`{-~]", GPT2 } },
	{ "superbpe", 0, { "3:\\p{N}+" } },
	{ "gemma4 granite-embed-multi-311m", PRE_CHARS | PRE_LINES | PRE_BOS, { 0 } },
	{ "sarvam-moe", PRE_CHARS, { 0 } },
	{ "minicpm5", PRE_WHOLE, { "\\p{N}{1,3}", ANY_SUFFIX "|" WORD "|\\p{N}+|" SIGNS "|" LINES_BLANKS } },
};

#define N_ROWS (sizeof rows / sizeof *rows)

const char *pre_names(size_t i)
{
	return i < N_ROWS ? rows[i].names : NULL;
}

const struct pre_row *pre_find(const char *name, size_t n)
{
	const char *p, *end;
	size_t i;

	if (!n)
		return NULL;
	for (i = 0; i < N_ROWS; i++)
		for (p = rows[i].names; *p; p = *end ? end + 1 : end) {
			end = p + strcspn(p, " ");
			if ((size_t)(end - p) == n && !memcmp(p, name, n))
				return &rows[i];
		}
	return NULL;
}

struct pre {
	size_t n;                    /* steps */
	pcre2_code *code[PRE_STEPS];
	int by_three[PRE_STEPS];     /* the step started with "3:" */
};

/* Write out \s and \S; inside a class only the members. */
static void expand(const char *re, struct buf *out)
{
	int in_class = 0;

	for (; *re; re++) {
		if (*re == '[')
			in_class = 1;
		else if (*re == ']')
			in_class = 0;
		if (*re != '\\') {
			buf_char(out, *re);
			continue;
		}
		re++;
		if (*re == 's' && in_class)
			buf_str(out, SPACE);
		else if (*re == 's')
			buf_str(out, "[" SPACE "]");
		else if (*re == 'S')
			buf_str(out, "[^" SPACE "]");
		else
			buf_printf(out, "\\%c", *re);
	}
}

static pcre2_code *compile(const char *re, struct moe_err *e)
{
	PCRE2_UCHAR why[128];
	pcre2_code *code = NULL;
	struct buf b;
	size_t at;
	int rc;

	buf_init(&b, 1 << 16);
	expand(re, &b);
	if (b.failed) {
		err_nomem(e, b.len, "a regular expression");
		goto out;
	}
	code = pcre2_compile((PCRE2_SPTR)b.data, b.len, PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY |
		PCRE2_NO_UTF_CHECK, &rc, &at, NULL);
	if (!code) {
		pcre2_get_error_message(rc, why, sizeof why);
		err_set(e, MOE_ERR_SYS, "this PCRE2 refuses the pre-tokenizer's expression at %zu: %s", at,
			(const char *)why);
		goto out;
	}
	pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* without it matching is only slower */
out:
	buf_free(&b);
	return code;
}

struct pre *pre_compile(const struct pre_row *row, struct moe_err *e)
{
	struct pre *p = calloc(1, sizeof *p);

	if (!p) {
		err_nomem(e, sizeof *p, "a pre-tokenizer");
		return NULL;
	}
	for (; p->n < PRE_STEPS && row->step[p->n]; p->n++) {
		const char *re = row->step[p->n];

		p->by_three[p->n] = !strncmp(re, "3:", 2);
		p->code[p->n] = compile(re + (p->by_three[p->n] ? 2 : 0), e);
		if (!p->code[p->n]) {
			pre_free(p);
			return NULL;
		}
	}
	return p;
}

void pre_free(struct pre *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++)
		pcre2_code_free(p->code[i]);
	free(p);
}

struct pre_match {
	pcre2_match_data *data;
	pcre2_match_context *context;
	int no_memory;
};

struct pre_match *pre_match_new(struct moe_err *e)
{
	struct pre_match *m = calloc(1, sizeof *m);

	if (m) {
		m->data = pcre2_match_data_create(1, NULL);
		m->context = pcre2_match_context_create(NULL);
	}
	if (!m || !m->data || !m->context) {
		pre_match_free(m);
		err_nomem(e, sizeof *m, "matching");
		return NULL;
	}
	/* Steps back are linear in these expressions, but not constant: the default is too few for a
	 * run of some million blanks. */
	pcre2_set_match_limit(m->context, UINT32_MAX);
	return m;
}

void pre_match_free(struct pre_match *m)
{
	if (!m)
		return;
	pcre2_match_context_free(m->context);
	pcre2_match_data_free(m->data);
	free(m);
}

/* The first match in s[from..n-1], or where the engine gave up: 1 and its bounds, not empty. */
static int next_match(const pcre2_code *code, struct pre_match *m, const char *s, size_t from,
	size_t n, size_t *start, size_t *end)
{
	const PCRE2_SIZE *at;
	int rc;

	while (from < n) {
		rc = pcre2_match(code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK, m->data, m->context);
		if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
			rc = pcre2_match(code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
				m->data, m->context);
		if (rc == PCRE2_ERROR_NOMATCH)
			return 0;
		if (rc < 0) {
			m->no_memory |= rc == PCRE2_ERROR_NOMEMORY;
			*start = from;
			*end = n - from > GIVE_UP ? from + GIVE_UP : n;
			while (*end < n && (s[*end] & 0xc0) == 0x80)
				++*end;
			return 1;
		}
		at = pcre2_get_ovector_pointer(m->data);
		*start = at[0];
		*end = at[1];
		if (*end > *start)
			return 1;
		for (from = *end + 1; from < n && (s[from] & 0xc0) == 0x80; from++)
			;
	}
	return 0;
}

struct split { const struct pre *p; struct pre_match *m; pre_piece *piece; void *arg; };

static void split_from(const struct split *x, size_t step, const char *s, size_t n);

/* Groups of three code points, the first one shorter. */
static void split_threes(const struct split *x, size_t step, const char *s, size_t n)
{
	size_t count = 0, i, start = 0;

	for (i = 0; i < n; i++)
		count += (s[i] & 0xc0) != 0x80;
	for (i = 0; i < n; i++) {
		if ((s[i] & 0xc0) == 0x80)
			continue;
		if (i > start && count % 3 == 0) {
			split_from(x, step, s + start, i - start);
			start = i;
		}
		count--;
	}
	split_from(x, step, s + start, n - start);
}

/* Depth is at most PRE_STEPS. */
static void split_from(const struct split *x, size_t step, const char *s, size_t n)
{
	size_t at = 0, start, end;

	if (!n)
		return;
	if (step == x->p->n) {
		x->piece(x->arg, s, n);
		return;
	}
	while (next_match(x->p->code[step], x->m, s, at, n, &start, &end)) {
		split_from(x, step + 1, s + at, start - at);
		if (x->p->by_three[step])
			split_threes(x, step + 1, s + start, end - start);
		else
			split_from(x, step + 1, s + start, end - start);
		at = end;
	}
	split_from(x, step + 1, s + at, n - at);
}

int pre_split(const struct pre *p, struct pre_match *m, const char *s, size_t n, pre_piece *piece,
	void *arg)
{
	struct split x = { p, m, piece, arg };
	size_t i = 0, len, start = 0;
	uint32_t cp;

	while (i < n) {
		len = text_decode(s + i, n - i, &cp);
		if (len) {
			i += len;
			continue;
		}
		split_from(&x, 0, s + start, i - start);
		piece(arg, s + i, 1);
		start = ++i;
	}
	split_from(&x, 0, s + start, n - start);
	return m->no_memory ? -1 : 0;
}
