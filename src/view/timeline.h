/*
 * timeline.h - the load of every expert over the whole run, in slots of equal time. From load sums
 * only, so that the cost does not grow with the tokens.
 */
#ifndef VIEW_TIMELINE_H
#define VIEW_TIMELINE_H

#include "view/view.h"

struct view_slot {
	int64_t bucket0, bucket1;  /* buckets bucket0 <= b < bucket1 */
	uint64_t tokens;           /* of the busiest layer; 0 = nothing was seen */
	double worst;              /* largest max/mean of a layer; NAN without tokens */
	uint16_t layer;            /* that layer (index into the layers) */
};

struct view_timeline {
	size_t n, n_layer;
	int64_t bucket_ns, started;
	struct view_slot *slot;    /* [n] */
	struct moe_layer_desc *layers; /* [n_layer] */
	size_t *e_at;              /* [n_layer + 1] where a layer's experts are in a row of counts */
	float *rel;                /* [n][e_at[n_layer]] relative load, NAN without tokens */
	uint64_t *tokens;          /* [n][n_layer] */
};

/* At most n_most slots of whole buckets; the filter's own buckets are ignored. An empty run gives
 * n = 0. */
int view_timeline(struct reader *r, const struct load_filter *f, size_t n_most,
	struct view_timeline *out, struct moe_err *e);
void view_timeline_free(struct view_timeline *v);

#endif
