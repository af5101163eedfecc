/*
 * chars.h - tokenizers whose merges start at characters: SentencePiece BPE, and BPE over plain
 * UTF-8.
 *
 * A blank of the text is U+2581 in the vocabulary. The text starts as its characters; neighbours
 * whose texts together are a token merge, the best score (or the lowest rank) first, the leftmost
 * of equals (T. Kudo, J. Richardson, SentencePiece, 2018). A character without a token becomes its
 * bytes' tokens "<0xE9>". A character is as long as its first byte says, also in broken UTF-8,
 * which comes back but for a blank among its bytes.
 *
 * Merges are done within pieces: two characters that no token has side by side can never become
 * part of one token, so the text is cut between them. That changes no result and keeps pieces
 * as short as words.
 */
#ifndef TOK_CHARS_H
#define TOK_CHARS_H

#include "tok/bpe.h"
#include "tok/map.h"

#define CHARS_BLANK "\xe2\x96\x81" /* U+2581 */
#define CHARS_LONGEST 1024         /* bytes of a token's text, at most */

enum chars_flag {
	CHARS_LINES = 1, /* runs of line feeds are cut off */
	CHARS_WHOLE = 2  /* and taken whole, where a token is such a run */
};

struct chars {
	unsigned flags;
	struct map by_text;  /* the texts that merging can give */
	struct bpe bpe;
	uint64_t *beside;    /* bits: a hash of two characters that some token has side by side */
	int32_t ascii[128];  /* by_text of one byte */
	int32_t byte_id[256];
	int32_t unk;         /* for a byte without a token; -1 = such a byte is dropped */
};

/* Texts in text[0..n-1], of those with use[i] != 0; by_text and beside are built from them. They
 * must live as long as c. Refuses a text longer than CHARS_LONGEST. */
int chars_init(struct chars *c, const struct gguf_str *text, const uint8_t *use, size_t n,
	uint64_t seed, struct moe_err *e);
/* After chars_init, for vocabularies with scores: every way to put a token together from two is a
 * merge, the higher its score the earlier. score[n], no NaN. */
int chars_merges_from_scores(struct chars *c, const float *score, size_t n, uint64_t seed,
	struct moe_err *e);
void chars_free(struct chars *c);

/* Tokens of s[0..n-1], in which U+2581 stands for every blank; ids has room for n. Returns how
 * many, or -1 for want of memory. */
int64_t chars_encode(const struct chars *c, const char *s, size_t n, int32_t *ids);

/* Bytes of the character at s[0]: what its first byte says, but no more than n. */
static inline size_t chars_len(const char *s, size_t n)
{
	static const uint8_t len[16] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4 };
	size_t k = len[(unsigned char)s[0] >> 4];

	return k < n ? k : n;
}

#endif
