/*
 * layout.h - where a layer's numbers lie in a token's row, and how long the blobs of a chunk are.
 *
 * One token's row over all MoE layers holds k_row picks (layer l at k_at[l]) and e_row logits or
 * experts (layer l at e_at[l]). Blobs on disk are arrays of such rows, little-endian; this program
 * reads them in place, so it is built for little-endian machines only.
 */
#ifndef TRACE_LAYOUT_H
#define TRACE_LAYOUT_H

#include <moescope/trace.h>

#include "trace/sqlite.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the trace store reads little-endian blobs in place: big-endian machines are not supported"
#endif

#define LAYOUT_CHUNK 128 /* most tokens of a chunk */
#define LAYOUT_CODEC 2 /* what is written; 1 is read too */

struct layout {
	size_t n; /* MoE layers, 1..MOE_MAX_LAYER */
	struct moe_layer_desc *layer; /* [n], ascending */
	size_t *k_at, *e_at;          /* [n] */
	size_t k_row, e_row;
};

/* Check bounds and order, and copy. On error nothing is held. */
int layout_init(struct layout *l, const struct moe_layer_desc *layer, size_t n,
	struct moe_err *e);
void layout_free(struct layout *l);

/* Fill in from the moe_layer rows of a model. */
int layout_load(struct layout *l, sqlite3 *db, int64_t model, struct moe_err *e);

/* Index of a layer, or -1. */
int layout_find(const struct layout *l, unsigned layer);

#endif
