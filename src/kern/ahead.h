/*
 * ahead.h - which memory the loops of tile.h and dot16.h ask for while they work.
 *
 * Some rows are read side by side, each a few kilobytes: no pattern that the hardware sees in time. So the
 * rows that follow are asked for in the order of their addresses, one line for each that is used: memory
 * then delivers as fast as to a plain copy. They go to the second cache: in the first, long rows would
 * drive each other and the activations out, and what is asked for there holds up what is read. Where many
 * tokens share the rows, the same lines are spread over all their tiles, into the first cache.
 */
#ifndef KERN_AHEAD_H
#define KERN_AHEAD_H

#include <stddef.h>
#include <stdint.h>

#define AHEAD_LEAST 8192 /* bytes between what is used and what is asked for */
#define AHEAD_ROWS 2      /* side by side for one token */
#define FEW_SUMS AHEAD_ROWS /* of so few, all lanes work at once: their chains would wait */
#define AHEAD_SHORT 512   /* elements of a row, which then goes beside as many as for more tokens */
#define AHEAD_SPREAD 4    /* from so many tiles on, lines are spread over them */

/* At step g of a tile: `lines` lines from at + g * step on. chunk: bytes from a tile's to the next one's. */
struct ahead { const uint8_t *at; size_t step, lines, chunk; };

/* For nr rows that lie in `bytes` bytes from `rows` on, are used in `steps` steps by each of `tiles` tiles,
 * and have `left` bytes of rows behind them. */
static inline struct ahead ahead_of(const uint8_t *rows, size_t bytes, size_t nr, size_t steps, size_t tiles,
	size_t left)
{
	size_t far = (AHEAD_LEAST + bytes - 1) / bytes * bytes, chunk = (bytes + tiles) / (tiles ? tiles : 1);

	if (tiles >= AHEAD_SPREAD && left >= bytes && steps)
		return (struct ahead){ rows + bytes, (chunk + steps - 1) / steps, 1, chunk };
	return (struct ahead){ rows + far, 64 * nr, left >= far ? nr : 0, 0 };
}

/* Of the tile after the one of a. */
static inline struct ahead ahead_next(struct ahead a)
{
	a.at += a.chunk;
	a.lines = a.chunk ? a.lines : 0;
	return a;
}

/* At step g; `most` is the number of rows. */
static inline __attribute__((always_inline)) void ahead_ask(struct ahead a, size_t g, size_t most)
{
	if (a.lines == 1)
		__builtin_prefetch(a.at + g * a.step, 0, 3);
	else if (a.lines)
		for (size_t i = 0; i < most; i++)
			__builtin_prefetch(a.at + g * a.step + 64 * i, 0, 2);
}

#endif
