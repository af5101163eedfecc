/*
 * cache.h - an expert cache: which accesses find their expert in the fast memory. Pure functions.
 *
 * Keys are experts, 0..n_key-1 (of one layer, or of all layers numbered through for a global
 * budget). Accesses come one by one, token after token, ranks in order; a miss loads at once
 * (demand loads, no bypass); the cache is empty at first.
 *
 *	lru       evicts the least recently used
 *	lfu       counts every access since the start, also to experts not held; evicts the least
 *	          counted, among these the least recently used
 *	lfu-aged  the same with all counts halved, rounded down, after every SIM_AGE * n_key accesses
 *	static    holds the most used experts of the whole trace (ties: lowest id), never loads: what a
 *	          perfect offline choice would give
 *	belady    evicts what is needed latest: no policy with demand loads can have more hits
 */
#ifndef SIM_CACHE_H
#define SIM_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

#define SIM_AGE 16

enum sim_cache_policy { SIM_LRU, SIM_LFU, SIM_LFU_AGED, SIM_STATIC, SIM_BELADY, SIM_N_CACHE };
const char *sim_cache_name(enum sim_cache_policy p);

/* A cache that is stepped access by access (not for static and belady, which need the future). */
struct sim_cache;
struct sim_cache *sim_cache_new(enum sim_cache_policy p, size_t n_key, size_t slots,
	struct moe_err *e); /* slots >= 1 */
void sim_cache_free(struct sim_cache *c);
int sim_cache_has(const struct sim_cache *c, uint32_t key);
int sim_cache_access(struct sim_cache *c, uint32_t key); /* 1 = hit; loads otherwise */

/* Hits of a whole trace: keys [n], each < n_key; n < UINT32_MAX. -1 without memory. */
int sim_cache_run(enum sim_cache_policy p, const uint32_t *keys, size_t n, size_t n_key,
	size_t slots, uint64_t *hits, struct moe_err *e);

/*
 * Cache-aware routing, max-rank (arXiv 2412.00099): of the ranking rank [n_expert] (best first)
 * keep the first j, then take experts within rank m that the cache holds, in rank order, and fill
 * up with the best of the rest until there are k. out [k] in that order. j <= k <= m <= n_expert.
 */
void sim_max_rank(const struct sim_cache *c, const uint16_t *rank, size_t n_expert, unsigned k,
	unsigned j, unsigned m, uint32_t key0, uint16_t *out);

#endif
