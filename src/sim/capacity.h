/*
 * capacity.h - what a limit of picks per expert does to one batch of one layer. Pure functions.
 *
 * A batch is n tokens with k picks each, in rank order: experts and weights [n][k]. Every expert
 * has room for `cap` picks of the batch. Where the literature leaves the order open: picks queue
 * token by token, within a token in rank order.
 */
#ifndef SIM_CAPACITY_H
#define SIM_CAPACITY_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

enum sim_drop {
	SIM_DROP_POSITION, /* first come, first served (Switch, arXiv 2101.03961; GShard) */
	SIM_DROP_WEIGHT,   /* the largest gate weights stay, ties by position ("probs" in Megatron) */
	SIM_DROP_REROUTE   /* as position; then each pick that found no room goes to its token's next
	                      best expert that has room and that the token has not got, if any */
};
enum sim_fate { SIM_KEPT, SIM_DROPPED, SIM_MOVED };

struct sim_batch {
	uint32_t n;
	unsigned k, n_expert;
	const uint16_t *experts; /* [n][k] */
	const float *weights;    /* [n][k] or NULL = all equal */
	const float *logits;     /* [n][n_expert] or NULL; what "next best" means for REROUTE: without
	                            scores it is the emptiest expert, the lowest id of equals */
};

/* Scratch for batches of at most n tokens. */
struct sim_room {
	uint32_t *order; /* [n * k] */
	uint64_t *used;  /* [n_expert] picks that each expert takes */
	size_t *start;   /* [n_expert + 1] */
};
int sim_room_init(struct sim_room *s, size_t n, unsigned k, size_t n_expert, struct moe_err *e);
void sim_room_free(struct sim_room *s);

/* fate [n][k] (enum sim_fate) and, where a pick moved, to [n][k] its new expert; elsewhere `to` is
 * the recorded expert. s->used holds the picks that every expert takes afterwards. */
void sim_capacity(const struct sim_batch *b, uint64_t cap, enum sim_drop policy,
	struct sim_room *s, uint8_t *fate, uint16_t *to);

const char *sim_drop_name(enum sim_drop p); /* "position", "probs", "reroute" */

#endif
