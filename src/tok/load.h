/*
 * load.h - what only loading a tokenizer needs, shared by load.c (kinds, texts, byte-level BPE),
 * load_plain.c (the other vocabularies) and load_special.c (special tokens). Each fills in l->t and
 * returns 0, or -1 with l->e filled in.
 */
#ifndef TOK_LOAD_H
#define TOK_LOAD_H

#include "tok/internal.h"

/* What a file that says nothing else means; ids beyond the vocabulary count as none. */
struct kind { const char *model; enum tok_algo algo; int bos, eos, unk, add_bos, add_eos, prefix; };

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

/* The merges of the file; their sides and results must be tokens. */
int load_merges(struct load *l, struct bpe *b);
/* The words of a vocabulary of plain text, and what chars.h or unigram.h need of it. */
int load_plain(struct load *l);
/* Ids, flags, what ends a generation, what is looked for in a text; before words are made. */
int load_specials(struct load *l);

#endif
