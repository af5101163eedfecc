/*
 * int8.h - products of quantised weights with activations rounded to 8 bits.
 *
 * Weights are read as small integers with a scale (and for some types a minimum) per block of 32 or
 * 16 elements; activations are rounded to int8 with a scale per 256. Integer sums are exact, so only
 * the order of the sums in floating point matters, and it is DEFINED, for every machine, by groups g of
 * 256 elements (the last padded with zeros):
 *
 *	y = ((0 + p_0) + p_1) + ...        groups in ascending order
 *
 * Types whose blocks have integer scales k_b (and minima m_b) under a scale d (and dmin) of the group:
 *
 *	p_g = float(S) * (d * dx)                                   without minimum
 *	p_g = fma(-float(M), dmin * dx, the above)                  with minimum
 *	S = sum_b k_b sum_b(w x), M = sum_b m_b sum_b(x)            integers; weight = d k_b w - dmin m_b
 *
 * Types whose blocks have a scale d_b (and a minimum m_b) in floating point:
 *
 *	p_g = T * dx, or (T - V) * dx with minimum                  weight = d_b w - m_b
 *	T = fma(float(sum_b(w x)), d_b, T) from 0, V = fma(m_b, float(sum_b(x)), V) from 0, b ascending
 *
 * where activation = dx * x. So a result does not depend on batch size, thread count, tile shape or
 * instruction set: all rows of the table give the bits of the plain one.
 *
 * Activations: per 256 elements, dx = amax / 127, x = round to nearest even of (127 / amax) * value.
 * A group whose amax is below 2^-100 becomes zeros; one that holds a NaN or an infinity gets
 * dx = NaN, which then reaches every output.
 */
#ifndef KERN_INT8_H
#define KERN_INT8_H

#include "kern/kern.h"

#define ACT8_PAD 512 /* rows are padded to a multiple of this with zeros */
#define ACT8_SLACK 32 /* bytes behind the last sums that may be read */

/* Rounded rows of n activations. np = act8_pad(n); strides are np, np/256, np/16, np/32. */
struct act8 {
	int8_t *q;       /* [rows][np] */
	float *d;        /* [rows][np/256] */
	int16_t *sum16;  /* [rows][np/16]: sums of q */
	int16_t *sum32;  /* [rows][np/32] */
	uint8_t *fits;   /* [rows][np/256]: what is known of sizes; 0, as act8_lay has it: nothing */
};

/* Bits of fits: of all 16, or all 32, consecutive q the sizes add up to at most 1023, or 2047; of
 * all 32 the positive q, and the negative ones, to at most 32767 / 15, or 32767 / 31. Products
 * whose sums then need but 16 bits may be faster, and are the same. */
#define ACT8_SUM16 1
#define ACT8_SUM32 2
#define ACT8_SIDE15 4
#define ACT8_SIDE31 8

static inline size_t act8_pad(size_t n)
{
	return (n + ACT8_PAD - 1) / ACT8_PAD * ACT8_PAD;
}

/* Bytes of `rows` rows of n, and their parts laid into mem (64-byte aligned). */
size_t act8_bytes(size_t n, size_t rows);
struct act8 act8_lay(void *mem, size_t n, size_t rows);
/* Rows t.. of a. */
struct act8 act8_at(struct act8 a, size_t n, size_t t);

struct int8_kern {
	const char *name;
	int (*supported)(void);
	/* Round rows r0..r1-1 of x (xs floats apart) into a. */
	void (*round)(const float *x, size_t xs, size_t n, size_t r0, size_t r1, struct act8 a);
	/* y[t*ys + r] for r0 <= r < r1, t < n_tok; rows: first row of the matrix. next: where that
	 * begins which is read after row r1 - 1, if it is known, or NULL: memory may be asked early.
	 * scratch: INT8_SCRATCH bytes, 64-byte aligned, the worker's own. The type must have
	 * int8_type_ok. */
	void (*gemm)(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
		struct act8 a, size_t n_tok, float *y, size_t ys, const void *next, void *scratch);
};

#define INT8_ROWS 48           /* rows of a tile, at most: units of work should be multiples */
#define INT8_SCRATCH ((size_t)384 << 10)

/* 1 if rows of n elements of this type have integer codes here. */
int int8_type_ok(uint32_t type, size_t n);

/* The row that goes with a row of the float kernels: the same name, or the best below it that this
 * CPU supports. */
const struct int8_kern *int8_for(const struct kern *k);
const struct int8_kern *int8_at(size_t i); /* the table, best first; NULL after the last */

#endif
