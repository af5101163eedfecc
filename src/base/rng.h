/* rng.h - xoshiro256** (Blackman and Vigna, public domain algorithm): small, seedable, the same
 * everywhere. Not for secrets. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng { uint64_t s[4]; };

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
double rng_unit(struct rng *r);                 /* [0, 1), 53 bits */
uint64_t rng_below(struct rng *r, uint64_t n);  /* 0..n-1 without bias; n > 0 */

#endif
