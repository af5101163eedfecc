/*
 * assign.c - see assign.h.
 *
 * Tokens come one by one, and what is assigned is the best for those that are there: a new one
 * takes the cheapest way to an expert with room, on which each full expert hands one of its tokens
 * on to the next (successive shortest paths). `loss` is what handing on costs: from each expert to
 * each other, the least over its tokens.
 */
#include "route/assign.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define FAR 1e30 /* what stands for -inf: sums of it stay finite */
#define NONE UINT16_MAX

struct assign {
	const float *score;
	size_t n, m, room;        /* room: tokens that an expert takes */
	uint32_t *held;           /* [m][room] tokens of each expert */
	size_t *count;            /* [m] */
	double *loss;             /* [m][m] of full experts */
	uint32_t *who;            /* [m][m] the token whose loss it is */
	double *dist;             /* [m] */
	uint16_t *from;           /* [m] the expert before it on the way; NONE = the token itself */
};

static double score(const struct assign *a, size_t t, size_t e)
{
	float s = a->score[t * a->m + e];

	return s > -FAR ? (double)s : -FAR;
}

/* What it costs the full expert e to hand a token on; the lowest token of equals. */
static void losses(struct assign *a, size_t e)
{
	for (size_t o = 0; o < a->m; o++) {
		double least = INFINITY;
		uint32_t who = 0;

		for (size_t i = 0; i < a->room; i++) {
			uint32_t t = a->held[e * a->room + i];
			double loss = score(a, t, e) - score(a, t, o);

			if (loss < least || (loss == least && t < who))
				least = loss, who = t;
		}
		a->loss[e * a->m + o] = least;
		a->who[e * a->m + o] = who;
	}
}

/* Cheapest ways from token t to every expert. As what is there is the best, no round trip gains
 * anything, so m - 1 rounds are enough; rounding must not make it more. */
static void ways(struct assign *a, size_t t)
{
	int more = 1;

	for (size_t e = 0; e < a->m; e++) {
		a->dist[e] = -score(a, t, e);
		a->from[e] = NONE;
	}
	for (size_t round = 1; more && round < a->m; round++) {
		more = 0;
		for (size_t e = 0; e < a->m; e++) {
			const double *loss = a->loss + e * a->m;

			for (size_t o = 0; a->count[e] == a->room && o < a->m; o++)
				if (a->dist[e] + loss[o] < a->dist[o] - 1e-12 && o != e) {
					a->dist[o] = a->dist[e] + loss[o];
					a->from[o] = (uint16_t)e;
					more = 1;
				}
		}
	}
}

/* Put `in` where `out` was, or at the end where the expert has room. */
static void put(struct assign *a, size_t e, uint32_t in, uint32_t out)
{
	uint32_t *held = a->held + e * a->room;
	size_t i = 0;

	if (a->count[e] < a->room) {
		held[a->count[e]++] = in;
	} else {
		while (held[i] != out)
			i++;
		held[i] = in;
	}
	if (a->count[e] == a->room)
		losses(a, e);
}

static void insert(struct assign *a, uint32_t t)
{
	size_t best = a->m, e, steps = 0;
	uint32_t out = 0;

	ways(a, t);
	for (e = 0; e < a->m; e++)
		if (a->count[e] < a->room && (best == a->m || a->dist[e] < a->dist[best]))
			best = e;
	for (e = best; a->from[e] != NONE && steps < a->m; steps++) { /* backwards along the way */
		size_t p = a->from[e];
		uint32_t moved = a->who[p * a->m + e];

		put(a, e, moved, out);
		out = moved;
		e = p;
	}
	put(a, e, t, out);
}

int route_assign(const float *scores, const uint8_t *skip, size_t n, size_t m, uint16_t *out,
	struct moe_err *e)
{
	struct assign a = { .score = scores, .n = n, .m = m, .room = (n + m - 1) / m };
	int status = -1;

	a.held = malloc((m * a.room + 1) * sizeof *a.held);
	a.count = calloc(m + 1, sizeof *a.count);
	a.loss = malloc((m * m + 1) * sizeof *a.loss);
	a.who = malloc((m * m + 1) * sizeof *a.who);
	a.dist = malloc((m + 1) * sizeof *a.dist);
	a.from = malloc((m + 1) * sizeof *a.from);
	if (!a.held || !a.count || !a.loss || !a.who || !a.dist || !a.from) {
		err_nomem(e, m * m * (sizeof *a.loss + sizeof *a.who), "a balanced assignment");
		goto done;
	}
	for (size_t t = 0; t < n; t++)
		if (!skip[t])
			insert(&a, (uint32_t)t);
	for (size_t x = 0; x < m; x++)
		for (size_t i = 0; i < a.count[x]; i++)
			out[a.held[x * a.room + i]] = (uint16_t)x;
	status = 0;
done:
	free(a.held);
	free(a.count);
	free(a.loss);
	free(a.who);
	free(a.dist);
	free(a.from);
	return status;
}
