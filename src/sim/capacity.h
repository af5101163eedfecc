/*
 * capacity.h - what a limit of picks per expert does to one batch of one layer. Pure functions.
 *
 * A batch is n tokens with k picks each, in rank order: experts and weights [n][k]. Every expert
 * has room for `cap` picks of the batch. Where the literature leaves the order open: picks queue
 * token by token, within a token in rank order.
 *
 * A pick's place is how many picks stand before it in the queue of its expert: it finds room if
 * that is below the limit. So one sim_queue() answers for every limit.
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
	uint32_t *used;  /* [n_expert] picks of each expert: all of them after sim_queue(), those
	                    that it takes after sim_capacity() and sim_reroute() */
	uint32_t *place; /* [n * k] */
	uint64_t *key, *swap; /* [n * k] for sorting */
};
int sim_room_init(struct sim_room *s, size_t n, unsigned k, size_t n_expert, struct moe_err *e);
void sim_room_free(struct sim_room *s);

/* s->place of every pick, in the order of POSITION or of WEIGHT; s->used. */
void sim_queue(const struct sim_batch *b, enum sim_drop order, struct sim_room *s);

/* With the places of POSITION in s->place and s->used the number of picks that each expert takes:
 * send the picks that found no room elsewhere. fate and to as below, filled in for all picks. */
void sim_reroute(const struct sim_batch *b, uint64_t cap, struct sim_room *s, uint8_t *fate,
	uint16_t *to);

/* fate [n][k] (enum sim_fate) and, where a pick moved, to [n][k] its new expert; elsewhere `to` is
 * the recorded expert. s->used holds the picks that every expert takes afterwards. */
void sim_capacity(const struct sim_batch *b, uint64_t cap, enum sim_drop policy,
	struct sim_room *s, uint8_t *fate, uint16_t *to);

const char *sim_drop_name(enum sim_drop p); /* "position", "probs", "reroute" */

#endif
