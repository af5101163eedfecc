/* capacity.c - see capacity.h. */
#include "sim/capacity.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

int sim_room_init(struct sim_room *s, size_t n, unsigned k, size_t n_expert, struct moe_err *e)
{
	s->order = malloc((n * k + 1) * sizeof *s->order);
	s->used = malloc((n_expert + 1) * sizeof *s->used);
	s->start = malloc((n_expert + 1) * sizeof *s->start);
	if (s->order && s->used && s->start)
		return 0;
	sim_room_free(s);
	return err_nomem(e, (n * k + 1) * sizeof *s->order, "a batch's picks");
}

void sim_room_free(struct sim_room *s)
{
	free(s->order);
	free(s->used);
	free(s->start);
	memset(s, 0, sizeof *s);
}

static void by_position(const struct sim_batch *b, uint64_t cap, struct sim_room *s, uint8_t *fate)
{
	size_t n = (size_t)b->n * b->k;

	for (size_t i = 0; i < n; i++) {
		uint64_t *u = s->used + b->experts[i];

		fate[i] = *u < cap ? SIM_KEPT : SIM_DROPPED;
		*u += fate[i] == SIM_KEPT;
	}
}

/* Picks of one expert: is a before b? Larger weight first, then the earlier one. */
static int before(const float *w, uint32_t a, uint32_t b)
{
	return w[a] > w[b] || (w[a] == w[b] && a < b);
}

/* Heap order: the pick that would go first on top. */
static void sift(const float *w, uint32_t *p, size_t i, size_t n)
{
	for (;;) {
		size_t c = 2 * i + 1;
		uint32_t t;

		if (c >= n)
			return;
		if (c + 1 < n && before(w, p[c], p[c + 1]))
			c++;
		if (!before(w, p[i], p[c]))
			return;
		t = p[i], p[i] = p[c], p[c] = t;
		i = c;
	}
}

static void by_weight(const struct sim_batch *b, uint64_t cap, struct sim_room *s, uint8_t *fate)
{
	size_t n = (size_t)b->n * b->k, at = 0;

	for (size_t i = 0; i < n; i++)
		s->used[b->experts[i]]++;
	for (size_t e = 0; e < b->n_expert; e++) {
		s->start[e] = at;
		at += s->used[e];
		s->used[e] = 0;
	}
	for (size_t i = 0; i < n; i++) {
		unsigned e = b->experts[i];

		s->order[s->start[e] + s->used[e]++] = (uint32_t)i;
		fate[i] = SIM_KEPT;
	}
	for (size_t e = 0; e < b->n_expert; e++) {
		uint32_t *p = s->order + s->start[e];
		size_t have = s->used[e];

		for (size_t i = have / 2; have > cap && i-- > 0;)
			sift(b->weights, p, i, have);
		while (s->used[e] > cap) { /* the heap gives the least first */
			fate[p[0]] = SIM_DROPPED;
			p[0] = p[--s->used[e]];
			sift(b->weights, p, 0, s->used[e]);
		}
	}
}

/* The best expert with room that token t has not got, or -1. */
static int next_best(const struct sim_batch *b, uint32_t t, uint64_t cap, const struct sim_room *s,
	const uint16_t *own)
{
	const float *z = b->logits ? b->logits + (size_t)t * b->n_expert : NULL;
	int best = -1;

	for (unsigned e = 0; e < b->n_expert; e++) {
		int has = 0;

		if (s->used[e] >= cap)
			continue;
		if (best >= 0 && (z ? !(z[e] > z[best]) : s->used[e] >= s->used[best]))
			continue;
		for (unsigned r = 0; r < b->k; r++)
			has |= own[r] == e;
		best = has ? best : (int)e;
	}
	return best;
}

static void reroute(const struct sim_batch *b, uint64_t cap, struct sim_room *s, uint8_t *fate,
	uint16_t *to)
{
	for (uint32_t t = 0; t < b->n; t++)
		for (unsigned r = 0; r < b->k; r++) {
			size_t i = (size_t)t * b->k + r;
			int e;

			if (fate[i] != SIM_DROPPED)
				continue;
			e = next_best(b, t, cap, s, to + (size_t)t * b->k);
			if (e < 0)
				continue;
			fate[i] = SIM_MOVED;
			to[i] = (uint16_t)e;
			s->used[e]++;
		}
}

void sim_capacity(const struct sim_batch *b, uint64_t cap, enum sim_drop policy,
	struct sim_room *s, uint8_t *fate, uint16_t *to)
{
	memset(s->used, 0, b->n_expert * sizeof *s->used);
	memcpy(to, b->experts, (size_t)b->n * b->k * sizeof *to);
	if (policy == SIM_DROP_WEIGHT && b->weights)
		by_weight(b, cap, s, fate);
	else
		by_position(b, cap, s, fate);
	if (policy == SIM_DROP_REROUTE)
		reroute(b, cap, s, fate, to);
}

const char *sim_drop_name(enum sim_drop p)
{
	static const char *const name[] = { "position", "probs", "reroute" };

	return name[p];
}
