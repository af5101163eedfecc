/*
 * ring.c - see ring.h.
 *
 * head counts blocks published, tail blocks released, both for ever: head - tail blocks are full.
 * Only the producer moves head, only the consumer moves tail, both under the lock. The lock is
 * also what orders a block's bytes between the threads.
 *
 * Free blocks are a stack: what was released last is filled next, so that as few blocks are in use
 * as there are full ones at once. They stay in the processor's cache, and memory that nobody needs
 * is never touched.
 */
#include "base/ring.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

struct ring {
	pthread_mutex_t lock;
	pthread_cond_t freed, filled; /* on CLOCK_MONOTONIC */
	uint64_t head, tail;
	int closed, stopped;
	int waits, held;  /* the consumer is in ring_wait(); it is to stay there */
	int asked;        /* the producer waits for it to come there */
	size_t want;      /* blocks that it waits for */
	int64_t until;    /* or for this time; ns */
	size_t block_bytes, n_block;
	void **slot;        /* [n_block] full blocks: of mem, or spare ones that came in their place */
	void **unused;      /* [n_unused] free ones but next, which the producer reserved */
	size_t n_unused;
	void *next;
	unsigned char *mem; /* [n_block][block_bytes] */
	void **spare;       /* [n_spare] that were allocated on their own, wherever they are now */
	size_t n_spare;
};

static void free_blocks(struct ring *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_spare; i++)
		free(r->spare[i]);
	free(r->spare);
	free(r->unused);
	free(r->slot);
	free(r->mem);
	free(r);
}

struct ring *ring_new(size_t block_bytes, size_t n_block, struct moe_err *e)
{
	struct ring *r = calloc(1, sizeof *r);
	pthread_condattr_t attr;
	size_t pages;

	block_bytes = (block_bytes + 63) / 64 * 64;
	pages = (block_bytes * n_block + MEM_HUGE_PAGE - 1) / MEM_HUGE_PAGE;
	if (r && n_block >= 2 && block_bytes && n_block <= SIZE_MAX / block_bytes) {
		r->mem = aligned_alloc(MEM_HUGE_PAGE, pages * MEM_HUGE_PAGE);
		r->slot = malloc(n_block * sizeof *r->slot);
		r->unused = malloc(n_block * sizeof *r->unused);
	}
	if (!r || !r->mem || !r->slot || !r->unused) {
		free_blocks(r);
		err_nomem(e, (unsigned long long)block_bytes * n_block, "the ring of blocks");
		return NULL;
	}
	for (size_t i = n_block; i-- > 0;)
		r->unused[r->n_unused++] = r->mem + i * block_bytes;
	(void)madvise(r->mem, pages * MEM_HUGE_PAGE, MADV_HUGEPAGE); /* the engine touches it first */
	r->block_bytes = block_bytes;
	r->n_block = n_block;
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->freed, &attr);
	pthread_cond_init(&r->filled, &attr);
	pthread_condattr_destroy(&attr);
	return r;
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	pthread_cond_destroy(&r->filled);
	pthread_cond_destroy(&r->freed);
	pthread_mutex_destroy(&r->lock);
	free_blocks(r);
}

static void **slot(const struct ring *r, uint64_t i)
{
	return &r->slot[(size_t)(i % r->n_block)];
}

void *ring_reserve(struct ring *r, size_t keep, int wait)
{
	void *p = NULL;

	pthread_mutex_lock(&r->lock);
	while (!r->stopped && r->head - r->tail + keep >= r->n_block && wait)
		pthread_cond_wait(&r->freed, &r->lock);
	if (!r->stopped && r->head - r->tail + keep < r->n_block)
		p = r->next = r->next ? r->next : r->unused[--r->n_unused];
	pthread_mutex_unlock(&r->lock);
	return p;
}

void *ring_spare(struct ring *r, struct moe_err *e)
{
	void **list = realloc(r->spare, (r->n_spare + 1) * sizeof *list), *p;

	if (list)
		r->spare = list;
	p = list ? aligned_alloc(64, r->block_bytes) : NULL;
	if (!p) {
		err_nomem(e, r->block_bytes, "a block");
		return NULL;
	}
	return r->spare[r->n_spare++] = p;
}

void *ring_swap(struct ring *r, void *spare)
{
	void *was = r->next;

	r->next = spare;
	ring_publish(r);
	return was;
}

void ring_publish(struct ring *r)
{
	pthread_mutex_lock(&r->lock);
	*slot(r, r->head++) = r->next;
	r->next = NULL;
	if (r->waits && r->head - r->tail >= r->want)
		pthread_cond_signal(&r->filled);
	pthread_mutex_unlock(&r->lock);
}

void ring_close(struct ring *r)
{
	pthread_mutex_lock(&r->lock);
	r->closed = 1;
	pthread_cond_signal(&r->filled);
	pthread_mutex_unlock(&r->lock);
}

/* The consumer has something to do. */
static int is_due(const struct ring *r)
{
	return r->closed || r->head - r->tail >= r->want || clock_mono() >= r->until;
}

void ring_hold(struct ring *r, int on)
{
	pthread_mutex_lock(&r->lock);
	r->asked = on;
	while (on && !r->closed && !r->stopped && (!r->waits || is_due(r)))
		pthread_cond_wait(&r->freed, &r->lock);
	r->asked = 0;
	r->held = on;
	if (!on && r->waits && is_due(r))
		pthread_cond_signal(&r->filled);
	pthread_mutex_unlock(&r->lock);
}

size_t ring_wait(struct ring *r, size_t want, int64_t ns)
{
	size_t n;

	pthread_mutex_lock(&r->lock);
	r->want = want;
	r->until = clock_mono() + (ns > 0 ? ns : 0);
	r->waits = 1;
	if (r->asked)
		pthread_cond_signal(&r->freed);
	while (!r->closed && (r->held || !is_due(r))) {
		struct timespec t = { (time_t)(r->until / 1000000000), (long)(r->until % 1000000000) };

		if (r->held)
			pthread_cond_wait(&r->filled, &r->lock);
		else
			pthread_cond_timedwait(&r->filled, &r->lock, &t);
	}
	r->waits = 0;
	n = (size_t)(r->head - r->tail);
	pthread_mutex_unlock(&r->lock);
	return n;
}

/* tail moves only in the thread that calls this, so it may be read without the lock. */
void *ring_at(struct ring *r, size_t i)
{
	return *slot(r, r->tail + i);
}

void ring_release(struct ring *r, size_t n)
{
	pthread_mutex_lock(&r->lock);
	for (size_t i = n; i-- > 0;)
		r->unused[r->n_unused++] = *slot(r, r->tail + i);
	r->tail += n;
	pthread_cond_signal(&r->freed);
	pthread_mutex_unlock(&r->lock);
}

void ring_stop(struct ring *r)
{
	pthread_mutex_lock(&r->lock);
	r->stopped = 1;
	pthread_cond_signal(&r->freed);
	pthread_mutex_unlock(&r->lock);
}

int ring_closed(struct ring *r)
{
	int c;

	pthread_mutex_lock(&r->lock);
	c = r->closed;
	pthread_mutex_unlock(&r->lock);
	return c;
}

size_t ring_blocks(const struct ring *r)
{
	return r->n_block;
}
