/*
 * pool.h - a small fork-join pool of threads for the engine's kernels.
 *
 * pool_run calls fn(ctx, unit) for every unit in 0..n-1; the calling thread works too. Each thread
 * has neighbouring units, in order, and then takes others' last ones: a unit's result must not
 * depend on who computes it or when.
 * One thread owns a pool and calls pool_run; pools do not nest.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

struct pool;
/* `worker` is 0..n_threads-1 and names the thread's own scratch. */
typedef void pool_fn(void *ctx, size_t unit, int worker);

struct pool *pool_new(int n_threads, struct moe_err *e); /* 1..256 */
void pool_free(struct pool *p);
int pool_threads(const struct pool *p);
void pool_run(struct pool *p, pool_fn *fn, void *ctx, size_t n); /* n below 2^32 */
/* Called by a unit: the one that its worker gets next, if no other takes it; SIZE_MAX: none of its
 * own. */
size_t pool_then(const struct pool *p, int worker);
/* The first unit of a worker, of n. */
size_t pool_first(const struct pool *p, int worker, size_t n);

/* What a thread with nothing to do asks memory for meanwhile: POOL_AHEAD bytes from `at` on, where the
 * next run will find them in its cache; NULL for nothing. It need not be right, nor mapped. Holds for the
 * waiting after the runs that follow; workers beyond the first POOL_HINTS have none. The owner's only. */
#define POOL_AHEAD 65536
#define POOL_HINTS 16
void pool_ahead(struct pool *p, int worker, const void *at);

/* Processors that this process may run on. */
int pool_default_threads(void);

#endif
