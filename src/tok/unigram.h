/*
 * unigram.h - SentencePiece's unigram model: of all ways to cut a text into tokens, the one with
 * the largest sum of scores (T. Kudo, Subword Regularization, 2018), found by dynamic programming.
 *
 * Before that the text is normalised by the model's table of replacements (precompiled_charsmap: a
 * double array that maps byte sequences to offsets in a list of strings), blanks become U+2581, and
 * runs of them one, if the model says so. What the text was cannot be told from the tokens then.
 * A character that no token covers is the unknown token, a run of such one.
 */
#ifndef TOK_UNIGRAM_H
#define TOK_UNIGRAM_H

#include "tok/map.h"

#define UNIGRAM_LONGEST 1024 /* bytes of a token's text, at most */

struct unigram {
	/* The texts as a trie, breadth first: the children of node v are first[v]..first[v + 1] - 1, in
	 * order of their bytes. Node 0 is the root. */
	uint32_t *first; /* [n_node + 1] */
	uint8_t *byte;   /* [n_node] the byte that leads to the node */
	int32_t *token;  /* [n_node] the token that ends here, -1 = none */
	size_t n_node;
	float *score;    /* [n_vocab]; of user-defined tokens 0 */
	float unk_score; /* 10 below the lowest of the normal ones */
	int32_t unk;     /* -1 = a character that no token covers is dropped */
	int prefix, squeeze; /* a blank in front; runs of blanks are one, none at the ends */
	uint32_t *map;   /* [n_map] the double array */
	char *text;      /* [n_text] NUL-terminated replacements */
	size_t n_map, n_text;
};

/* Tokens with use[i] != 0 can be found; score is copied. lowest = of the normal tokens' scores. */
int unigram_init(struct unigram *u, const struct gguf_str *text, const uint8_t *use,
	const float *score, size_t n, float lowest, struct moe_err *e);
/* blob: precompiled_charsmap. Refuses one whose sizes do not fit. */
int unigram_charsmap(struct unigram *u, const uint8_t *blob, size_t n, struct moe_err *e);
void unigram_free(struct unigram *u);

/* Tokens of s[0..n-1], malloced, also if there are none; -1 for want of memory. */
int unigram_encode(const struct unigram *u, const char *s, size_t n, int32_t **ids, size_t *n_ids);

#endif
