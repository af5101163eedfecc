/*
 * ahead.h - which memory the loops of tile.h and dot16.h ask for while they work.
 *
 * Some rows are read side by side, each a few kilobytes: no pattern that the hardware sees in
 * time. So the rows that follow are asked for in the order of their addresses, one line for
 * each that is used: memory then delivers as fast as to a plain copy. What the processor drops
 * of that, as it does while its queues are full, is asked for again shortly before its use, in
 * the order of use. All goes to the second cache: in the first, long rows would drive each
 * other and the activations out, and what is asked for there holds up what is read. Where many
 * tokens share the rows, the same lines are spread over all their tiles, into the first cache.
 *
 * Not so Intel's processors, which drop nothing: an ask that memory must answer keeps one of the
 * few places that all reading has to pass. There rows are asked for once, no further ahead than
 * needed, and best one line at a time between other operations: of some at once, all but the first
 * wait, and what is done meanwhile waits with them. For one token rows go one by one there.
 */
#ifndef KERN_AHEAD_H
#define KERN_AHEAD_H

#include <stddef.h>
#include <stdint.h>

#define AHEAD_LEAST 8192 /* bytes between what is used and what is asked for */
#define AHEAD_AGAIN 2048 /* the same of a row, for what is asked for again */
#define AHEAD_ONCE 3072   /* the same where nothing is asked for twice */
#define AHEAD_EVEN 6144   /* the same where a line is asked for between some operations */
#define AHEAD_MORE 5120   /* the same besides as many rows as are read at once */
#define AHEAD_ROWS 2      /* side by side for one token, where memory is asked twice */
#define FEW_SUMS AHEAD_ROWS /* of so few, all lanes work at once: their chains would wait */
#define AHEAD_SHORT 512   /* elements of a row, which then goes beside as many as for more tokens */
#define AHEAD_SPREAD 4    /* from so many tiles on, lines are spread over them */

/* Asks the second cache for the line at p where this stands: the compiler moves what it knows. */
static inline void ask_here(const uint8_t *p)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetcht1 (%0)" : : "r"(p));
#else
	__builtin_prefetch(p, 0, 2);
#endif
}

/* A line of results that is no longer in the cache is fetched before it can be written: that holds
 * up reading as much as twenty lines of weights would. Where a call reads so many bytes, what it
 * makes goes past the caches. Who waits for it has it: the pool's locked operations order that. */
#define STORE_PAST ((size_t)64 << 10)

/* 1 if memory is to be asked but once. */
static inline int asks_once(void)
{
#if defined(__x86_64__)
	return __builtin_cpu_is("intel") != 0;
#else
	return 0;
#endif
}

/* At step g of a tile: `lines` lines from at + g * step on. chunk: bytes from a tile's to the next
 * one's. Again: lines at again + 64 g, `apart` from each other, and from step `turn` on `jump` behind
 * them. */
struct ahead {
	const uint8_t *at, *again;
	size_t step, lines, chunk, apart, turn, jump;
};

/* For nr rows that lie in `bytes` bytes from `rows` on, are used in `steps` steps by each of `tiles` tiles,
 * and have `left` bytes of rows behind them. */
static inline struct ahead ahead_of(const uint8_t *rows, size_t bytes, size_t nr, size_t steps, size_t tiles,
	size_t left)
{
	size_t far = (AHEAD_LEAST + bytes - 1) / bytes * bytes, chunk = (bytes + tiles) / (tiles ? tiles : 1);
	size_t most = asks_once() ? AHEAD_ONCE : AHEAD_AGAIN;
	size_t near = steps * 64 < most ? steps * 64 : most;

	if (tiles >= AHEAD_SPREAD && left >= bytes && steps)
		return (struct ahead){ rows + bytes, NULL, (chunk + steps - 1) / steps, 1, chunk, 0, 0, 0 };
	if (nr == 1 && asks_once())
		return (struct ahead){ rows + AHEAD_EVEN, NULL, 64, 1, 0, 0, 0, 0 };
	return (struct ahead){ rows + far, rows + near, 64 * nr,
		left >= far && !asks_once() ? nr : 0, 0, bytes / nr, steps - near / 64,
		bytes - 64 * steps };
}

/* Of the tile after the one of a. */
static inline struct ahead ahead_next(struct ahead a)
{
	a.at += a.chunk;
	a.lines = a.chunk ? a.lines : 0;
	a.again = NULL;
	return a;
}

/* Of the same rows `steps` steps later. */
static inline struct ahead ahead_later(struct ahead a, size_t steps)
{
	a.at += steps * a.step;
	a.again = a.again ? a.again + 64 * steps : NULL;
	a.turn = a.turn > steps ? a.turn - steps : 0;
	return a;
}

/* At step g; `most` is the number of rows. */
static inline __attribute__((always_inline)) void ahead_ask(struct ahead a, size_t g, size_t most)
{
	if (a.chunk)
		__builtin_prefetch(a.at + g * a.step, 0, 3);
	else if (a.lines)
		for (size_t i = 0; i < most; i++)
			__builtin_prefetch(a.at + g * a.step + 64 * i, 0, 2);
	if (a.again)
		for (size_t i = 0; i < most; i++)
			__builtin_prefetch(a.again + 64 * g + (g < a.turn ? 0 : a.jump) + a.apart * i, 0, 2);
}

#endif
