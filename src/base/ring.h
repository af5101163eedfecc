/*
 * ring.h - hand-over of fixed-size blocks from one producer thread to one consumer thread.
 *
 *	producer: p = ring_reserve(r, 0, 1); fill p; ring_publish(r);
 *	      or: p = ring_spare(r); fill p; if (ring_reserve(r, 0, 1)) p = ring_swap(r, p);
 *	consumer: n = ring_wait(r, 1, ns); for i < n: ring_at(r, i); ring_release(r, n);
 *
 * Blocks arrive in the order they were published. A block belongs to the producer from reserve to
 * publish, to the ring and the consumer until release. Waiting sleeps on a condition variable, and
 * who sleeps is woken once what it waits for is there; the lock is held only while an index moves,
 * never while a block is filled or read.
 */
#ifndef BASE_RING_H
#define BASE_RING_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

struct ring;

/* n_block >= 2 blocks of block_bytes, each aligned for any type. NULL on error. */
struct ring *ring_new(size_t block_bytes, size_t n_block, struct moe_err *e);
void ring_free(struct ring *r); /* no thread may use it any more; NULL is fine */

/* ---- producer ---- */

/* The next free block, as long as more than `keep` blocks are free (a reserve for what must get
 * through). Otherwise waits when `wait` is set, or returns NULL. NULL also once ring_stop() was
 * called. Reserving again without publishing returns the same block. */
void *ring_reserve(struct ring *r, size_t keep, int wait);
void ring_publish(struct ring *r); /* hands over the block that was reserved last */
/* One block more, which is the producer's for as long as it likes. It goes with the ring. NULL
 * on error. */
void *ring_spare(struct ring *r, struct moe_err *e);
/* Hands over a spare block in place of the one that was reserved last, which is a spare one from
 * now on. */
void *ring_swap(struct ring *r, void *spare);
void ring_close(struct ring *r);   /* nothing more will be published; wakes the consumer */
/* on: waits until the consumer has done what it owes and is in ring_wait(), and keeps it there
 * until ring_hold(r, 0) or ring_close(). Who publishes meanwhile may wait for ever, once it is
 * full. */
void ring_hold(struct ring *r, int on);

/* ---- consumer ---- */

/* Waits until `want` blocks are published, the ring is closed or `ns` nanoseconds have passed.
 * Returns how many can be read with ring_at(); may be more or fewer than `want`. */
size_t ring_wait(struct ring *r, size_t want, int64_t ns);
void *ring_at(struct ring *r, size_t i);      /* i-th oldest published block, 0 = oldest */
void ring_release(struct ring *r, size_t n);  /* the n oldest are free again */
/* the consumer gives up; the producer stops waiting */
void ring_stop(struct ring *r);

/* ---- either ---- */

int ring_closed(struct ring *r);
size_t ring_blocks(const struct ring *r);

#endif
