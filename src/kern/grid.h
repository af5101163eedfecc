/*
 * grid.h - the point sets of the IQ element types (grid.c) and how a packed point becomes bytes.
 *
 * Codes stand for: iq1: -1, 0, 1; iq2: 8, 25, 43; iq3_xxs: 4, 12, 20, 28, 36, 44, 52, 62;
 * iq3_s: 1, 3, 5, ... 15. All coordinates of a point are worked on at once, a byte each.
 */
#ifndef KERN_GRID_H
#define KERN_GRID_H

#include <stdint.h>

extern const uint16_t kern_grid_iq2_xxs[256], kern_grid_iq2_xs[512], kern_grid_iq2_s[1024];
extern const uint16_t kern_grid_iq1[2048];
extern const uint16_t kern_grid_iq3_xxs[256], kern_grid_iq3_s[512];

#define GRID_ONES 0x0101010101010101u /* a one in every byte */

/* Eight two-bit codes to eight bytes. */
static inline uint64_t grid_spread2(uint64_t v)
{
	v = (v | v << 24) & 0x000000ff000000ff;
	v = (v | v << 12) & 0x000f000f000f000f;
	return (v | v << 6) & 0x0303030303030303;
}

/* Two points of four nibbles to eight bytes. */
static inline uint64_t grid_spread4(uint16_t a, uint16_t b)
{
	uint64_t v = a | (uint64_t)b << 32;

	v = (v | v << 8) & 0x00ff00ff00ff00ff;
	return (v | v << 4) & 0x0f0f0f0f0f0f0f0f;
}

/* The bytes' values; none leaves its byte. 8 + 17 c + c/2 is 8, 25, 43; an iq3_xxs code of 7 gets two
 * more than 4 + 8 c. */
static inline uint64_t grid_iq2(uint16_t point)
{
	uint64_t c = grid_spread2(point);

	return 8 * GRID_ONES + 17 * c + (c >> 1 & GRID_ONES);
}

static inline uint64_t grid_iq3_xxs(uint16_t a, uint16_t b)
{
	uint64_t c = grid_spread4(a, b);

	return 4 * GRID_ONES + 8 * c + 2 * (c & c >> 1 & c >> 2 & GRID_ONES);
}

static inline uint64_t grid_iq3_s(uint16_t a, uint16_t b)
{
	return GRID_ONES + 2 * grid_spread4(a, b);
}

/* Negate byte j where bit j of signs is set. Bytes are 1..127. */
static inline uint64_t grid_sign(uint64_t v, uint8_t signs)
{
	uint64_t bit = signs * GRID_ONES & 0x8040201008040201;       /* bit j alone in byte j */
	uint64_t one = (bit + 0x7f7f7f7f7f7f7f7f) >> 7 & GRID_ONES;  /* 1 where it is set */

	return (v ^ one * 255) + one;
}

/* The eighth sign of a group that stores seven: it makes their number even. */
static inline uint8_t grid_even(uint32_t seven)
{
	uint32_t s = seven & 127;

	return (uint8_t)(s | (0x6996u >> ((s ^ s >> 4) & 15) & 1) << 7);
}

/* All points as bytes: the values of iq2 and iq3, eight times the codes of iq1. Filled before main(). */
struct grid_bytes {
	uint64_t iq2_xxs[256], iq2_xs[512], iq2_s[1024], iq1[2048];
	uint32_t iq3_xxs[256], iq3_s[512];
};
extern struct grid_bytes kern_grid_bytes;

/* The same packed, the lower byte of each point and the upper one: codes of two bits, or of four,
 * where 15 is 7 of iq3_xxs. */
struct grid_halves {
	uint8_t iq2_xxs[2][256], iq2_xs[2][512], iq2_s[2][1024], iq3_xxs[2][256], iq3_s[2][512];
	uint32_t iq1[2048]; /* lower | upper << 16 */
};
extern struct grid_halves kern_grid_halves;

#endif
