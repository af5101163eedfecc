/*
 * kern.h - matrix products with quantised weights and float activations.
 *
 * The dot product of a weight row and an activation row is DEFINED, for every type and every
 * machine, as: element i goes to lane i % 16, each lane is a chain of fused multiply-adds in
 * ascending i, and the 16 lanes are added as a tree (lane l + lane l+8, then +4, +2, +1). Weights
 * enter as the exact single-precision value of their format. So a result does not depend on batch
 * size, thread count, tile shape or instruction set: all ISA rows give the same bits, and the
 * plain one is the reference that tests compare the others with.
 *
 * A last group of fewer than 16 elements is padded with zeros.
 *
 * kern_bf16 is for who allows rounded activations: weights of BF16 meet activations rounded to BF16 (to
 * nearest, ties to even). Elements 2 l and 2 l + 1 of each 32 go to lane l, the odd one first, each a
 * fused multiply-add; lanes are added as above. Subnormal weights, activations and results count as
 * zeros of their sign. That is the arithmetic of the CPUs that have such products, twice as fast as
 * single precision; the other rows compute the same bits.
 */
#ifndef KERN_KERN_H
#define KERN_KERN_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

#include "base/qtype.h"

struct kern_bf16 {
	/* Bytes of a row of n activations laid down for the products, and how one is. */
	size_t (*bytes)(size_t n);
	void (*lay)(const float *x, size_t n, void *laid);

	/* As gemm of struct kern; laid: n_tok rows, one behind the other, at a multiple of 64 bytes. */
	void (*gemm)(const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1, const void *laid,
		size_t n_tok, float *y, size_t ys);
};

struct kern {
	const char *name; /* "plain"; "avx2", "avx512", "amx"; "neon", "dotprod" */
	int (*supported)(void);

	/* One row of n elements of type -> float. n is a multiple of the type's block. */
	void (*to_float)(uint32_t type, const void *row, float *out, size_t n);

	/* y[t][r] = dot(row r, x[t]) for r0 <= r < r1, 0 <= t < n_tok.
	 * rows: first row of the matrix, row_bytes apart; x: [n_tok], xs floats apart; y: [n_tok],
	 * ys floats apart, indexed by r. scratch: kern_scratch(n) floats, the worker's own. */
	void (*gemm)(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
		const float *x, size_t xs, size_t n_tok, float *y, size_t ys, float *scratch);

	const struct kern_bf16 *(*bf16)(void);

	float (*dot)(const float *a, const float *b, size_t n);          /* any n */
	void (*axpy)(float a, const float *x, float *y, size_t n);       /* y = fma(a, x, y) */
	void (*silu_mul)(float *gate, const float *up, size_t n);        /* gate = silu(gate) * up */
	void (*exp_shift)(float *x, float shift, size_t n);              /* x = e^(x - shift) */
	float (*sum)(const float *x, size_t n);                          /* lanes and tree as dot */

	/* Attention: n rows of keys or values of dim elements in F32, F16 or Q8_0, row_bytes apart.
	 * att_dot: p[j*ps + i] = dot(row i, q[j]) for j < n_q, i < n; q [n_q][dim].
	 * att_mix: o[j][d] = fma(p[j*ps + i], row[i][d], o[j][d]) for i = 0 .. n-1 in turn; outputs are os
	 * floats apart. */
	void (*att_dot)(uint32_t type, const void *rows, size_t row_bytes, size_t dim, size_t n, const float *q,
		size_t n_q, float *p, size_t ps);
	void (*att_mix)(uint32_t type, const void *rows, size_t row_bytes, size_t dim, size_t n, const float *p,
		size_t ps, size_t n_q, float *o, size_t os);
	float (*max)(const float *x, size_t n, float least);             /* of x and least; a NaN is skipped */
	void (*to_f16)(const float *x, void *out, size_t n);             /* to nearest, ties to even */
	void (*to_q8_0)(const float *x, void *out, size_t n);            /* n: a multiple of 32 */
};

/* Floats of scratch that gemm needs for rows of n elements, at least n. */
size_t kern_scratch(size_t n);

/* 1 if rows of n elements of this type can be multiplied. */
int kern_type_ok(uint32_t type, size_t n);

/* The fastest row of the table that this CPU supports, or the one that `name` forces. NULL + e if
 * unknown or unsupported here. */
const struct kern *kern_pick(const char *name, struct moe_err *e);
const struct kern *kern_at(size_t i); /* the table, best first; NULL after the last */

#endif
