/*
 * pool.c - see pool.h. A run is announced by raising `epoch`; workers spin for a moment, then
 * sleep on a condition variable: decode makes hundreds of short runs a token, and a futex round
 * trip for each would cost more than the work, while a pool that idles must not burn a core.
 *
 * Every worker takes part in every run and says so through `left`, so no worker can still be
 * inside run N when run N+1 begins.
 */
#define _GNU_SOURCE /* sched_getaffinity */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/err.h"

#define SPIN 4000 /* about 20-60 us */

struct worker {
	struct pool *pool;
	pthread_t thread;
	int id;
};

struct pool {
	int n;                   /* threads, the owner included */
	struct worker *workers;  /* [n - 1] */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_uint epoch;       /* number of runs announced */
	atomic_int sleepers;
	atomic_int left;         /* workers that have not finished this run */
	atomic_size_t next;      /* next unit to hand out */
	atomic_int stop;
	pool_fn *fn;             /* written before epoch is raised */
	void *ctx;
	size_t units;
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

static void take_units(struct pool *p, int id)
{
	size_t u;

	while ((u = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->units)
		p->fn(p->ctx, u, id);
}

/* Returns when epoch is no longer `seen`. */
static unsigned wait_epoch(struct pool *p, unsigned seen)
{
	unsigned now;

	for (int i = 0; i < SPIN; i++) {
		now = atomic_load_explicit(&p->epoch, memory_order_acquire);
		if (now != seen)
			return now;
		relax();
	}
	pthread_mutex_lock(&p->lock);
	atomic_fetch_add(&p->sleepers, 1);
	while ((now = atomic_load(&p->epoch)) == seen)
		pthread_cond_wait(&p->wake, &p->lock);
	atomic_fetch_sub(&p->sleepers, 1);
	pthread_mutex_unlock(&p->lock);
	return now;
}

static void announce(struct pool *p)
{
	atomic_fetch_add(&p->epoch, 1);
	if (atomic_load(&p->sleepers)) {
		pthread_mutex_lock(&p->lock);
		pthread_cond_broadcast(&p->wake);
		pthread_mutex_unlock(&p->lock);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;
	unsigned seen = 0;

	for (;;) {
		seen = wait_epoch(p, seen);
		if (atomic_load(&p->stop))
			return NULL;
		take_units(p, w->id);
		atomic_fetch_sub_explicit(&p->left, 1, memory_order_acq_rel);
	}
}

struct pool *pool_new(int n, struct moe_err *e)
{
	struct pool *p;

	if (n < 1 || n > 256) {
		err_set(e, MOE_ERR_USAGE, "%d threads: allowed are 1 to 256", n);
		return NULL;
	}
	p = calloc(1, sizeof *p);
	if (!p || !(p->workers = calloc((size_t)n, sizeof *p->workers))) {
		free(p);
		err_nomem(e, sizeof *p, "thread pool");
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	for (p->n = 1; p->n < n; p->n++) {
		struct worker *w = &p->workers[p->n - 1];

		w->pool = p;
		w->id = p->n;
		if (pthread_create(&w->thread, NULL, work, w)) {
			err_set(e, MOE_ERR_SYS, "starting thread %d of %d failed", p->n + 1, n);
			pool_free(p);
			return NULL;
		}
	}
	return p;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	atomic_store(&p->stop, 1);
	announce(p);
	for (int i = 0; i + 1 < p->n; i++)
		pthread_join(p->workers[i].thread, NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p->workers);
	free(p);
}

int pool_threads(const struct pool *p)
{
	return p->n;
}

void pool_run(struct pool *p, pool_fn *fn, void *ctx, size_t n)
{
	if (p->n == 1 || n < 2) {
		for (size_t u = 0; u < n; u++)
			fn(ctx, u, 0);
		return;
	}
	p->fn = fn;
	p->ctx = ctx;
	p->units = n;
	atomic_store_explicit(&p->next, 0, memory_order_relaxed);
	atomic_store_explicit(&p->left, p->n - 1, memory_order_relaxed);
	announce(p);
	take_units(p, 0);
	for (int i = 0; atomic_load_explicit(&p->left, memory_order_acquire); i++) {
		relax();
		if (i > SPIN)
			sched_yield();
	}
}

int pool_default_threads(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof set, &set))
		return 1;
	n = CPU_COUNT(&set);
	return n < 1 ? 1 : n > 256 ? 256 : n;
}
