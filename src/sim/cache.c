/*
 * cache.c - see cache.h.
 *
 * Held experts sit in an indexed binary heap, worst candidate to keep on top: `heap` holds keys,
 * `where` a key's place + 1 (0 = not held). A key's rank in the heap is (score, last): last access
 * for LRU, (count, last access) for LFU, next use (largest first) for Belady. An access costs
 * O(log slots).
 */
#include "sim/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

struct sim_cache {
	enum sim_cache_policy policy;
	size_t n_key, slots, n;
	uint32_t *heap, *where;
	uint64_t *count, *last; /* [n_key]; Belady: last is the next use, ~0 = never */
	uint64_t clock;
};

const char *sim_cache_name(enum sim_cache_policy p)
{
	static const char *const name[] = { "lru", "lfu", "lfu-aged", "static", "belady" };

	return name[p];
}

struct sim_cache *sim_cache_new(enum sim_cache_policy p, size_t n_key, size_t slots,
	struct moe_err *e)
{
	struct sim_cache *c = calloc(1, sizeof *c);

	if (c) {
		c->policy = p;
		c->n_key = n_key;
		c->slots = slots < n_key ? slots : n_key;
		c->heap = malloc((c->slots + 1) * sizeof *c->heap);
		c->where = calloc(n_key + 1, sizeof *c->where);
		c->count = calloc(n_key + 1, sizeof *c->count);
		c->last = calloc(n_key + 1, sizeof *c->last);
		if (c->heap && c->where && c->count && c->last)
			return c;
	}
	sim_cache_free(c);
	err_nomem(e, n_key * (sizeof *c->where + sizeof *c->count + sizeof *c->last),
		"an expert cache");
	return NULL;
}

void sim_cache_free(struct sim_cache *c)
{
	if (!c)
		return;
	free(c->heap);
	free(c->where);
	free(c->count);
	free(c->last);
	free(c);
}

int sim_cache_has(const struct sim_cache *c, uint32_t key)
{
	return c->where[key] != 0;
}

/* Does key a go before key b? */
static int worse(const struct sim_cache *c, uint32_t a, uint32_t b)
{
	if (c->policy == SIM_BELADY)
		return c->last[a] != c->last[b] ? c->last[a] > c->last[b] : a < b;
	if (c->policy != SIM_LRU && c->count[a] != c->count[b])
		return c->count[a] < c->count[b];
	return c->last[a] < c->last[b];
}

static void put(struct sim_cache *c, size_t i, uint32_t key)
{
	c->heap[i] = key;
	c->where[key] = (uint32_t)i + 1;
}

static void up(struct sim_cache *c, size_t i)
{
	uint32_t key = c->heap[i];

	while (i > 0 && worse(c, key, c->heap[(i - 1) / 2])) {
		put(c, i, c->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	put(c, i, key);
}

static void down(struct sim_cache *c, size_t i)
{
	uint32_t key = c->heap[i];

	for (;;) {
		size_t k = 2 * i + 1;

		if (k >= c->n)
			break;
		if (k + 1 < c->n && worse(c, c->heap[k + 1], c->heap[k]))
			k++;
		if (!worse(c, c->heap[k], key))
			break;
		put(c, i, c->heap[k]);
		i = k;
	}
	put(c, i, key);
}

static void age(struct sim_cache *c)
{
	for (size_t k = 0; k < c->n_key; k++)
		c->count[k] /= 2;
	for (size_t i = c->n / 2; i-- > 0;)
		down(c, i);
}

/* `stamp`: time of this access, or of the next one for Belady. */
static int access_at(struct sim_cache *c, uint32_t key, uint64_t stamp)
{
	int hit = c->where[key] != 0;

	c->count[key]++;
	c->last[key] = stamp;
	if (hit) {
		size_t i = c->where[key] - 1u;

		up(c, i); /* Belady's next use moves away, others' ranks rise: one of the two is idle */
		down(c, c->where[key] - 1u);
	} else if (c->n < c->slots) {
		put(c, c->n++, key);
		up(c, c->n - 1);
	} else {
		c->where[c->heap[0]] = 0;
		put(c, 0, key);
		down(c, 0);
	}
	return hit;
}

int sim_cache_access(struct sim_cache *c, uint32_t key)
{
	int hit = access_at(c, key, ++c->clock);

	if (c->policy == SIM_LFU_AGED && c->clock % (SIM_AGE * c->n_key) == 0)
		age(c);
	return hit;
}

/* The most used `slots` keys hold from the start. */
static int run_static(const uint32_t *keys, size_t n, size_t n_key, size_t slots, uint64_t *hits,
	struct moe_err *e)
{
	uint64_t *count = calloc(n_key + 1, sizeof *count);

	if (!count)
		return err_nomem(e, n_key * sizeof *count, "counts of accesses");
	for (size_t i = 0; i < n; i++)
		count[keys[i]]++;
	for (size_t s = 0; s < slots && s < n_key; s++) {
		size_t best = 0;

		for (size_t k = 1; k < n_key; k++)
			best = count[k] > count[best] ? k : best;
		*hits += count[best];
		count[best] = 0;
	}
	free(count);
	return 0;
}

/* next [n]: index of the same key's next access, n = never; by one walk from the end. */
static int run_belady(const uint32_t *keys, size_t n, size_t n_key, size_t slots, uint64_t *hits,
	struct moe_err *e)
{
	struct sim_cache *c = sim_cache_new(SIM_BELADY, n_key, slots, e);
	uint32_t *next = malloc((n + 1) * sizeof *next), *seen = malloc((n_key + 1) * sizeof *seen);
	int status = -1;

	if (!c)
		goto out;
	if (!next || !seen) {
		err_nomem(e, n * sizeof *next, "next uses");
		goto out;
	}
	memset(seen, 0xff, n_key * sizeof *seen);
	for (size_t i = n; i-- > 0;) {
		next[i] = seen[keys[i]];
		seen[keys[i]] = (uint32_t)i;
	}
	for (size_t i = 0; i < n; i++)
		*hits += (uint64_t)access_at(c, keys[i], next[i]);
	status = 0;
out:
	sim_cache_free(c);
	free(next);
	free(seen);
	return status;
}

int sim_cache_run(enum sim_cache_policy p, const uint32_t *keys, size_t n, size_t n_key,
	size_t slots, uint64_t *hits, struct moe_err *e)
{
	struct sim_cache *c;

	*hits = 0;
	if (p == SIM_STATIC)
		return run_static(keys, n, n_key, slots, hits, e);
	if (p == SIM_BELADY)
		return run_belady(keys, n, n_key, slots, hits, e);
	c = sim_cache_new(p, n_key, slots, e);
	if (!c)
		return -1;
	for (size_t i = 0; i < n; i++)
		*hits += (uint64_t)sim_cache_access(c, keys[i]);
	sim_cache_free(c);
	return 0;
}

void sim_max_rank(const struct sim_cache *c, const uint16_t *rank, size_t n_expert, unsigned k,
	unsigned j, unsigned m, uint32_t key0, uint16_t *out)
{
	unsigned n = 0;

	for (size_t i = 0; i < n_expert && n < k; i++)
		if (i < j || (i < m && sim_cache_has(c, key0 + rank[i])))
			out[n++] = rank[i];
	for (size_t i = j; i < n_expert && n < k; i++)
		if (i >= m || !sim_cache_has(c, key0 + rank[i]))
			out[n++] = rank[i];
}
