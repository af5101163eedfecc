/* real.h - the number type of the trainer and the exponential that goes with it.
 *
 * The trainer is built in float. The gradient check builds the very same sources in double
 * (-DREAL_DOUBLE), where GEMM is a plain loop and exp() is libm's, so that what it checks is the
 * derivation and not the rounding.
 */
#ifndef REAL_H
#define REAL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef REAL_DOUBLE
typedef double real;
static inline real real_exp(real x)
{
	return exp(x);
}
static inline real real_sqrt(real x)
{
	return sqrt(x);
}
static inline real real_log(real x)
{
	return log(x);
}
#else
typedef float real;
/* e^x to about 2 ulp: 2^n times a degree-6 polynomial of the remainder. It has no branches, so
 * that the compiler vectorises loops over it. Arguments are clamped to [-87, 88]. */
static inline real real_exp(real x)
{
	x = x < -87.0f ? -87.0f : x;
	x = x > 88.0f ? 88.0f : x;
	float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;	/* round to nearest */
	float r = x - n * 0.693359375f;
	r = r + n * 2.12194440e-4f;
	float p = 1.3888889e-3f;
	p = p * r + 8.3333333e-3f;
	p = p * r + 4.1666667e-2f;
	p = p * r + 1.6666667e-1f;
	p = p * r + 0.5f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	int32_t bits = ((int32_t)n + 127) * (1 << 23);
	float scale;
	memcpy(&scale, &bits, sizeof scale);
	return p * scale;
}
static inline real real_sqrt(real x)
{
	return sqrtf(x);
}
static inline real real_log(real x)
{
	return logf(x);
}
#endif

#endif
