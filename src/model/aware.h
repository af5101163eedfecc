/*
 * aware.h - cache-aware routing: an editing hook that prefers experts which are in memory.
 *
 * For each token the best `keep` experts by the router's own ranking stay. The rest of the k come, in
 * rank order, from those of rank at most `within` that the expert cache holds when the layer starts;
 * what is still missing is filled by rank. Gate weights stay what the router's logits say of the chosen
 * ones. This is the max-rank rule of "Mixture of Cache-Conditional Experts", arXiv 2412.00099.
 *
 * It changes the model's results, and makes them depend on the batch size and on what ran before:
 * every changed decision is marked MOE_EV_EDITED with the choice before.
 */
#ifndef MODEL_AWARE_H
#define MODEL_AWARE_H

#include "model/model.h"

struct aware;

/* For a session with an expert cache, which must outlive its use. Refuses keep >= k, within < k or
 * above the number of experts, and routers that choose groups first. */
struct aware *aware_new(const struct session *s, const struct model *m, uint32_t keep, uint32_t within,
	struct moe_err *e);
void aware_free(struct aware *a);

/* The hook to add to the session; lives as long as a. */
struct moe_hook *aware_hook(struct aware *a);

/* Decisions seen, and how many of them were changed. */
void aware_counts(const struct aware *a, uint64_t *seen, uint64_t *changed);

#endif
