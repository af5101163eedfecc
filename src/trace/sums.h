/*
 * sums.h - the load table in memory: what every expert did, summed, for the writer's thread.
 *
 * One struct sums per (domain, phase, bucket), all layers. Pure arithmetic: no database. Sums run
 * in token order, so the same decisions in the same chunks give the same bits.
 */
#ifndef TRACE_SUMS_H
#define TRACE_SUMS_H

#include "trace/block.h"

struct sums {
	int64_t domain, bucket;
	uint8_t phase;
	uint8_t dirty;         /* differs from what is committed */
	uint64_t *tokens;      /* [layers]; so are the next ones */
	uint64_t *n_margin, *n_nan, *n_edited;
	double *lse2, *entropy, *confidence, *margin;
	uint64_t *counts;      /* [e_row] */
	double *weights;       /* [e_row] */
	double *probs;         /* [e_row] */
};

/* All zero; NULL when out of memory. */
struct sums *sums_new(const struct layout *l);
void sums_free(struct sums *s);
size_t sums_bytes(const struct layout *l); /* of the struct and the arrays behind it */

/* Add the n tokens of a chunk. -1 when an expert id is not below its layer's n_expert: nothing is
 * added then. */
int sums_add(struct sums *s, const struct block_shape *shape, struct block_head *h,
	struct moe_err *e);

#endif
