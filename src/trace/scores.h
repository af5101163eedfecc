/*
 * scores.h - the softmax over all logits of a layer's decisions, and what load keeps of it. Pure
 * arithmetic, the same bits on every machine.
 */
#ifndef TRACE_SCORES_H
#define TRACE_SCORES_H

#include <moescope/event.h>

/* Sums over decisions: logsumexp^2 (ST-MoE's z-loss), entropy in nats, softmax mass of the
 * picked. */
struct scores { double lse2, entropy, confidence; };

/* n decisions of one layer, in order. logits [n][n_expert], pick [n][k], ids below n_expert; flags
 * [n]. One that is flagged NaN is left out, as is one whose logits have no finite maximum or a NaN
 * among them. probs [n_expert] gets the softmax, s the rest. */
typedef void scores_add(const float *logits, size_t n, size_t n_expert, const uint16_t *pick,
	size_t k, const uint8_t *flags, double *probs, struct scores *s);
/* The fastest that this processor has, or the one that all have. */
scores_add *scores_pick(int plain);

#endif
