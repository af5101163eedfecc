/*
 * pool.c - see pool.h. A run's units are shared out evenly; a share is taken from its beginning by
 * its own worker and from its end by the others. So a worker reads memory that is one piece, which
 * is what memory is fast at.
 *
 * A run is announced by opening `gate`; workers spin for a moment, then sleep on a condition
 * variable: decode makes dozens of short runs a token, and a futex round trip for each would cost
 * more than the work, while a pool that idles must not burn a core.
 *
 * A worker joins a run by counting itself into the open gate. When the owner finds no more units
 * it closes the gate and waits only for those inside: a worker that the scheduler has not let run
 * yet finds the gate closed and has missed nothing, so a busy machine does not stall the owner.
 * While the gate is closed and empty only the owner touches fn, ctx and shares. Who waits uses the
 * time to ask memory for what it was told will be read next.
 */
#define _GNU_SOURCE /* sched_getaffinity */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/err.h"

#define SPIN 4000 /* about 20-60 us */

#define INSIDE 0xffffull        /* gate: workers inside */
#define CLOSED 0x10000ull
#define RUN(gate) ((gate) >> 17)

struct worker {
	struct pool *pool;
	pthread_t thread;
	int id;
};

/* Units that are left of a worker's: the first one in the lower half, the end in the upper one. */
struct share { _Alignas(64) atomic_ullong left; };

#define FIRST(left) ((size_t)((left) & 0xffffffff))
#define END(left) ((size_t)((left) >> 32))
#define ONE_END (1ull << 32)

struct pool {
	int n;                   /* threads, the owner included */
	struct worker *workers;  /* [n - 1] */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_ullong gate;      /* run number, CLOSED, workers inside */
	atomic_int sleepers;
	struct share *shares;    /* [n] */
	atomic_int stop;
	_Atomic(const char *) ahead[POOL_HINTS]; /* by worker: asked for while it waits, or NULL */
	pool_fn *fn;             /* written before the gate opens */
	void *ctx;
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb"); /* a short pause; most of these CPUs ignore "yield" */
#endif
}

/* One of the things to do while waiting: a piece of what is needed next, or, where all of it is on its
 * way, a pause. */
struct waiting { const char *at; size_t left; };

static struct waiting wait_begin(struct pool *p, int id)
{
	const char *at = id < POOL_HINTS ? atomic_load_explicit(&p->ahead[id], memory_order_relaxed) : NULL;

	return (struct waiting){ at, at ? POOL_AHEAD : 0 };
}

static inline void wait_step(struct waiting *w)
{
	if (!w->left) {
		relax();
		return;
	}
	for (int i = 0; i < 4; i++)
		__builtin_prefetch(w->at + 64 * i, 0, 2);
	w->at += 256;
	w->left -= 256;
}

/* One of a share's units, its first one or its last; SIZE_MAX if none is left. */
static size_t take(struct share *s, int last)
{
	unsigned long long left = atomic_load_explicit(&s->left, memory_order_relaxed);

	while (FIRST(left) < END(left))
		if (atomic_compare_exchange_weak_explicit(&s->left, &left, last ? left - ONE_END : left + 1,
			    memory_order_relaxed, memory_order_relaxed))
			return last ? END(left) - 1 : FIRST(left);
	return SIZE_MAX;
}

static void take_units(struct pool *p, int id)
{
	size_t u;

	for (int i = 0; i < p->n; i++)
		while ((u = take(&p->shares[(id + i) % p->n], i > 0)) != SIZE_MAX)
			p->fn(p->ctx, u, id);
}

size_t pool_then(const struct pool *p, int worker)
{
	unsigned long long left = atomic_load_explicit(&p->shares[worker].left, memory_order_relaxed);

	return FIRST(left) < END(left) ? FIRST(left) : SIZE_MAX;
}

size_t pool_first(const struct pool *p, int worker, size_t n)
{
	return (n * (size_t)worker + (size_t)p->n - 1) / (size_t)p->n;
}

static void share_out(struct pool *p, size_t n)
{
	for (int i = 0; i < p->n; i++) {
		unsigned long long end = pool_first(p, i + 1, n);

		atomic_store_explicit(&p->shares[i].left, end << 32 | pool_first(p, i, n),
			memory_order_relaxed);
	}
}

/* Count this worker into a run after number `seen`, if one is open now. */
static int join(struct pool *p, unsigned long long *seen)
{
	unsigned long long g = atomic_load(&p->gate);

	while (RUN(g) != *seen && !(g & CLOSED))
		if (atomic_compare_exchange_weak_explicit(&p->gate, &g, g + 1, memory_order_acq_rel,
			    memory_order_acquire)) {
			*seen = RUN(g);
			return 1;
		}
	return 0;
}

static void wait_and_join(struct pool *p, int id, unsigned long long *seen)
{
	struct waiting w = wait_begin(p, id);

	for (int i = 0; i < SPIN; i++) {
		if (join(p, seen))
			return;
		wait_step(&w);
	}
	pthread_mutex_lock(&p->lock);
	atomic_fetch_add(&p->sleepers, 1);
	while (!join(p, seen))
		pthread_cond_wait(&p->wake, &p->lock);
	atomic_fetch_sub(&p->sleepers, 1);
	pthread_mutex_unlock(&p->lock);
}

/* Open the gate for run RUN(gate) + 1. Sequentially consistent, like the sleepers' count: either
 * the owner sees the sleeper or the sleeper sees the open gate. */
static void announce(struct pool *p)
{
	atomic_store(&p->gate, (RUN(atomic_load(&p->gate)) + 1) << 17);
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
	unsigned long long seen = 0;

	for (;;) {
		wait_and_join(p, w->id, &seen);
		if (atomic_load(&p->stop))
			return NULL;
		take_units(p, w->id);
		atomic_fetch_sub_explicit(&p->gate, 1, memory_order_acq_rel);
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
	if (!p || !(p->workers = calloc((size_t)n, sizeof *p->workers)) ||
	    !(p->shares = aligned_alloc(_Alignof(struct share), (size_t)n * sizeof *p->shares))) {
		free(p ? p->workers : NULL);
		free(p);
		err_nomem(e, sizeof *p, "thread pool");
		return NULL;
	}
	atomic_store(&p->gate, CLOSED);
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
	free(p->shares);
	free(p->workers);
	free(p);
}

int pool_threads(const struct pool *p)
{
	return p->n;
}

void pool_ahead(struct pool *p, int worker, const void *at)
{
	if (worker < POOL_HINTS)
		atomic_store_explicit(&p->ahead[worker], at, memory_order_relaxed);
}

void pool_run(struct pool *p, pool_fn *fn, void *ctx, size_t n)
{
	struct waiting w;

	p->fn = fn;
	p->ctx = ctx;
	share_out(p, n);
	if (p->n == 1 || n < 2) {
		take_units(p, 0);
		return;
	}
	announce(p);
	take_units(p, 0);
	atomic_fetch_or_explicit(&p->gate, CLOSED, memory_order_acq_rel);
	w = wait_begin(p, 0);
	for (int i = 0; atomic_load_explicit(&p->gate, memory_order_acquire) & INSIDE; i++) {
		wait_step(&w);
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
