/*
 * place.h - which rank (GPU) holds which experts of a layer. Pure functions.
 *
 * A placement maps `physical` slots to logical experts, rank by rank: rank r has the slots
 * r * physical / ranks and on. Replicas of an expert share its load evenly; tokens take them in
 * turn. Slots beyond the number of experts are replicas, which only EPLB uses.
 *
 *	round-robin   expert e on rank e mod ranks
 *	contiguous    experts in order, equal shares; what engines do by default
 *	greedy        heaviest first, each to the lightest rank that has room
 *	eplb          DeepSeek's Expert Parallelism Load Balancer, global: replicate the expert with the
 *	              largest load per replica, then pack as greedy does
 *	eplb-nodes    the same, hierarchical: expert groups packed to nodes first, replicas stay in the
 *	              node. groups % nodes != 0: global
 *	coactive      heaviest first, each to the rank whose experts it is most often picked with,
 *	              as long as that rank stays within SIM_SLACK of the mean load (else the
 *	              lightest): fewer ranks per token
 */
#ifndef SIM_PLACE_H
#define SIM_PLACE_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

#define SIM_SLACK 1.1
#define SIM_RANKS_MOST 4096

enum sim_place { SIM_ROUND_ROBIN, SIM_CONTIGUOUS, SIM_GREEDY, SIM_EPLB, SIM_EPLB_NODES,
	SIM_COACTIVE, SIM_N_PLACE };
const char *sim_place_name(enum sim_place p);

struct sim_cluster {
	size_t n_expert, physical; /* physical >= n_expert slots */
	size_t groups;             /* expert groups, for eplb-nodes; divides n_expert */
	size_t nodes, ranks;       /* nodes divides ranks, ranks divides physical */
};
/* Says with numbers what does not divide. */
int sim_cluster_check(const struct sim_cluster *c, struct moe_err *e);
/* Slots that a policy fills: only EPLB has replicas. n_expert must divide by ranks for the others;
 * 0 if it does not. */
size_t sim_place_slots(const struct sim_cluster *c, enum sim_place p);

/* load [n_expert] -> map [sim_place_slots]; together [n_expert][n_expert] symmetric counts of
 * pairs, for coactive only. */
int sim_place(const struct sim_cluster *c, enum sim_place p, const double *load,
	const uint64_t *together, uint16_t *map, struct moe_err *e);

/* Load of each rank under a map of n slots: out [ranks]; replicas [n_expert] scratch. */
void sim_rank_load(const struct sim_cluster *c, const uint16_t *map, size_t n, const double *load,
	unsigned *replicas, double *out);

/* Where each expert's replicas are, for counting what a token reaches. */
struct sim_where {
	size_t words;      /* of a set of ranks */
	uint32_t *start;   /* [n_expert + 1] */
	uint32_t *rank;    /* [slots] rank of each replica, expert by expert */
	uint32_t *node;    /* [slots] its node */
};
int sim_where_init(struct sim_where *w, const struct sim_cluster *c, const uint16_t *map, size_t n,
	struct moe_err *e);
void sim_where_free(struct sim_where *w);
/* Distinct ranks and nodes that hold the set [k] of the turn-th token: it takes replica turn mod
 * replicas of each expert. */
void sim_reach(const struct sim_where *w, const uint16_t *set, unsigned k, uint64_t turn,
	unsigned *ranks, unsigned *nodes);

#endif
