/*
 * bpe.h - byte-pair merges over token ids.
 *
 * A piece starts as the tokens of its bytes. As long as two neighbours have a merge, the pair with
 * the lowest rank (the leftmost of equals) becomes one token. Merges are pairs of ids: the loader
 * checked that both sides and the result are tokens.
 */
#ifndef TOK_BPE_H
#define TOK_BPE_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

#define BPE_NONE UINT32_MAX

struct bpe_merge { uint64_t pair; uint32_t rank; int32_t id; }; /* pair = left << 32 | right */

struct bpe {
	struct bpe_merge *slot; /* [mask + 1]; rank BPE_NONE = empty */
	size_t mask;
	uint64_t seed;
};

int bpe_init(struct bpe *b, size_t n_merges, uint64_t seed, struct moe_err *e);
void bpe_free(struct bpe *b);
/* A pair that is there already keeps its lower rank. */
void bpe_add(struct bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id);
const struct bpe_merge *bpe_find(const struct bpe *b, int32_t left, int32_t right);

/* Merge ids[0..n-1] in place; returns how many are left, or 0 for want of memory (n > 0).
 * Ids < 0 merge with nothing. Time n log n, memory 32 n bytes while it runs (none if n is
 * small). */
size_t bpe_merge(const struct bpe *b, int32_t *ids, size_t n);

/* Steps that this thread's merges have taken, for tests: at most 2 per id of a long piece (heap
 * entries, log n each), at most 48 squared for a short one. */
extern _Thread_local uint64_t bpe_steps;

#endif
