/*
 * encode.h - floats to the blocks of an element type: the inverse of kern's to_float, as near as
 * the type allows.
 *
 * F16 and BF16 round to nearest, ties to even. The block types look for scales that make the sum of
 * squared errors small; all weights of a block count alike. Pure functions of their input: a
 * block's bytes depend on its own elements only, so that any split between threads gives the same
 * file, and on nothing but IEEE single-precision arithmetic, so that every machine does.
 */
#ifndef QUANT_ENCODE_H
#define QUANT_ENCODE_H

#include <stddef.h>
#include <stdint.h>

/* Can this type be written? F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K MXFP4. */
int quant_can(uint32_t type);

/* n elements, a multiple of the type's block, to out. Returns n; or, with out undefined, the index
 * of the first element that is not finite or too large for the type. */
size_t quant_encode(uint32_t type, const float *x, size_t n, uint8_t *out);

#endif
