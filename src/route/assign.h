/*
 * assign.h - tokens shared out evenly over experts for the largest total score: the balanced
 * assignment of BASE layers (Lewis et al., arXiv 2103.16716, eq. 2), exactly. Pure function.
 */
#ifndef ROUTE_ASSIGN_H
#define ROUTE_ASSIGN_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

/* score [n][m], finite or -inf; every expert takes at most ceil(n / m) tokens. skip [n]: 1 = this
 * token takes no part; it still counts in n. Experts go to out [n]. -1 only without memory. */
int route_assign(const float *score, const uint8_t *skip, size_t n, size_t m, uint16_t *out,
	struct moe_err *e);

#endif
