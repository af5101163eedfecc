/* rng.h - the trainer's random numbers: splitmix64 (Steele, Lea, Flood 2014), 64 bits of state. */
#ifndef RNG_H
#define RNG_H

#include <math.h>
#include <stdint.h>

static inline uint64_t rng_next(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Uniform in [0, 1). */
static inline double rng_unit(uint64_t *s)
{
	return (double)(rng_next(s) >> 11) / 9007199254740992.0;
}

/* Standard normal (Box-Muller, the sine half thrown away). */
static inline double rng_normal(uint64_t *s)
{
	double u = ((double)(rng_next(s) >> 11) + 1) / 9007199254740993.0;
	return sqrt(-2 * log(u)) * cos(6.283185307179586 * rng_unit(s));
}

#endif
