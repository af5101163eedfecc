/*
 * num.h - elementary functions whose bits are the same on every machine.
 *
 * libm's expf differs between libraries and versions; replay needs one definition. These use only
 * IEEE additions, multiplications and integer operations in a fixed order, so that a compiler may
 * vectorise them without changing a bit (contraction is off).
 */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* What e^x is made of, for those who spell it out in vectors as well: see num_exp. */
#define NUM_LOG2_E 1.44269504f
#define NUM_TO_INT 12582912.0f      /* 1.5 * 2^23: adding it rounds to an integer */
#define NUM_TO_INT_BITS 0x4b400000  /* its bits */
#define NUM_LN2_HIGH 0.693359375f   /* of nine bits: its product with n is exact */
#define NUM_LN2_OVER 2.12194440e-4f /* what that is more than ln2 */
static const float num_exp_taylor[8] = { 1.98412698e-4f, 1.38888889e-3f, 8.33333333e-3f,
	4.16666667e-2f, 1.66666667e-1f, 0.5f, 1.0f, 1.0f }; /* 1/7!, 1/6!, ..., 1/0! */

/* e^r of r = x - n ln2, |r| <= ln2/2: see num_exp. */
static inline float num_exp_part(float x, float n)
{
	float r = x - n * NUM_LN2_HIGH, p = num_exp_taylor[0];

	r = r + n * NUM_LN2_OVER;
	p = p * r + num_exp_taylor[1];
	p = p * r + num_exp_taylor[2];
	p = p * r + num_exp_taylor[3];
	p = p * r + num_exp_taylor[4];
	p = p * r + num_exp_taylor[5];
	p = p * r + num_exp_taylor[6];
	p = p * r + num_exp_taylor[7];
	return p;
}

/*
 * e^x in single precision: x = n ln2 + r, |r| <= ln2/2, ln2 in two parts, e^r by its Taylor
 * polynomial of degree 7 (truncation below 2^-27), 2^n through the exponent bits in two steps.
 * Largest error 1.2 ulp. x <= -103.97 gives 0 and x >= 88.73 gives +inf; NaN stays NaN.
 */
static inline float num_exp(float x)
{
	float c = x < -104.0f ? -104.0f : x > 89.0f ? 89.0f : x;
	float t = c * NUM_LOG2_E + NUM_TO_INT, n = t - NUM_TO_INT, p, s1, s2;
	int32_t i, h;
	uint32_t b1, b2;

	p = num_exp_part(c, n);
	i = (int32_t)(n == n ? n : 0);
	h = i >> 1;
	b1 = (uint32_t)(h + 127) << 23;
	b2 = (uint32_t)(i - h + 127) << 23;
	memcpy(&s1, &b1, 4);
	memcpy(&s2, &b2, 4);
	return p * s1 * s2;
}

static inline float num_sigmoid(float x)
{
	return 1.0f / (1.0f + num_exp(-x));
}

static inline float num_silu(float x)
{
	return x / (1.0f + num_exp(-x));
}

/* tanh x: below 0.625 by five terms of its continued fraction (error below 2^-30 of the value),
 * above through e^2x. Largest error 2.6e-7 of the value. */
static inline float num_tanh(float x)
{
	float z = x * x, e = num_exp(2.0f * x);
	float small = x * (945.0f + z * (105.0f + z)) / (945.0f + z * (420.0f + 15.0f * z));
	float large = 1.0f - 2.0f / (1.0f + e);

	return z < 0.390625f ? small : large;
}

/* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), which is x times a sigmoid of twice the argument.
 * Largest error 5.2e-7. */
static inline float num_gelu(float x)
{
	return x * num_sigmoid(1.59576912f * x * (1.0f + 0.044715f * x * x));
}

/* The gate of OpenAI's clamped SwiGLU: min(x, 7) * sigmoid(1.702 min(x, 7)); its partner is
 * num_oai_up. NaN stays NaN. */
static inline float num_oai_gate(float x)
{
	float g = x > 7.0f ? 7.0f : x;

	return g / (1.0f + num_exp(-1.702f * g));
}

static inline float num_oai_up(float x)
{
	return (x > 7.0f ? 7.0f : x < -7.0f ? -7.0f : x) + 1.0f;
}

/* ln(1 + e^x) without overflow. Double libm inside: used by routers only, one value an expert. */
static inline float num_softplus(float x)
{
	return x > 20.0f ? x : (float)log1p(exp((double)x));
}

#endif
