/*
 * stack.h - the hits of expert caches of several sizes at once, as the accesses come. Pure
 * functions.
 *
 * The policies of cache.h, and the same hits to the last one, but in one pass and in memory that
 * does not grow with the trace: the future is not needed, not even for Belady's bound.
 *
 * lru, lfu, lfu-aged: what a policy would evict follows from an order of all keys that does not
 * depend on the cache's size, so a smaller cache always holds a part of what a larger one holds.
 * One list has them all: the first c keys are what a cache of c slots holds (Mattson, Gecsei,
 * Slutz, Traiger, "Evaluation techniques for storage hierarchies", 1970).
 *
 * belady: an access can be a hit if the key is kept since its last access, which takes a slot at
 * every access in between, and each of these needs one for itself. Keeping whatever fits, as the
 * accesses come, gives the most hits (largest set of intervals with at most c - 1 over any point,
 * taken by right end); so a count per point of time of what is kept over it is enough (OPTgen in
 * Jain and Lin, "Back to the future", ISCA 2016, whose caches may bypass; these may not). Points
 * between two neighbouring last accesses of keys are only ever asked together: one number for all
 * of them.
 */
#ifndef SIM_STACK_H
#define SIM_STACK_H

#include "sim/cache.h"

enum { SIM_STACK_SIZES = 16 };

struct sim_stack;
/* n caches of slots [n] (each >= 1) over keys 0..n_key-1; n <= SIM_STACK_SIZES, n_key <= 65535. */
struct sim_stack *sim_stack_new(size_t n_key, const unsigned *slots, size_t n, struct moe_err *e);
void sim_stack_free(struct sim_stack *s);
void sim_stack_add(struct sim_stack *s, const uint16_t *keys, size_t n);
uint64_t sim_stack_accesses(const struct sim_stack *s);
/* Hits of the i-th size so far. */
uint64_t sim_stack_hits(const struct sim_stack *s, enum sim_cache_policy p, size_t i);

#endif
