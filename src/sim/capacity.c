/* capacity.c - see capacity.h. */
#include "sim/capacity.h"

#include <stdlib.h>
#include <string.h>

#include <moescope/event.h>

#include "base/err.h"

int sim_room_init(struct sim_room *s, size_t n, unsigned k, size_t n_expert, struct moe_err *e)
{
	s->used = malloc((n_expert + 1) * sizeof *s->used);
	s->place = malloc((n * k + 1) * sizeof *s->place);
	s->key = malloc((n * k + 1) * sizeof *s->key);
	s->swap = malloc((n * k + 1) * sizeof *s->swap);
	if (s->used && s->place && s->key && s->swap)
		return 0;
	sim_room_free(s);
	return err_nomem(e, (n * k + 1) * 2 * sizeof *s->key, "a batch's picks");
}

void sim_room_free(struct sim_room *s)
{
	free(s->used);
	free(s->place);
	free(s->key);
	free(s->swap);
	memset(s, 0, sizeof *s);
}

/* ---- places ---- */

/* A float's bits so that larger numbers have smaller keys; -0 and 0 are one. */
static uint32_t falling(float w)
{
	uint32_t u;

	w += 0.0f;
	memcpy(&u, &w, sizeof u);
	return u >> 31 ? u : ~(u | UINT32_C(0x80000000));
}

/* Picks by falling weight, equals in order: a radix sort of the upper halves of (weight, pick). */
static const uint64_t *sort(const struct sim_batch *b, struct sim_room *s)
{
	enum { BITS = 11, CELLS = 1 << BITS };
	size_t n = (size_t)b->n * b->k;
	uint32_t at[3][CELLS] = { { 0 } };
	uint64_t *from = s->key, *to = s->swap;

	for (size_t i = 0; i < n; i++) {
		uint32_t w = falling(b->weights[i]);

		from[i] = (uint64_t)w << 32 | i;
		at[0][w & (CELLS - 1)]++;
		at[1][w >> BITS & (CELLS - 1)]++;
		at[2][w >> 2 * BITS]++;
	}
	for (int pass = 0; pass < 3; pass++) {
		unsigned shift = 32 + BITS * (unsigned)pass;
		uint32_t sum = 0;
		uint64_t *t;

		for (size_t c = 0; c < CELLS; c++) {
			uint32_t here = at[pass][c];

			at[pass][c] = sum;
			sum += here;
		}
		for (size_t i = 0; i < n; i++)
			to[at[pass][from[i] >> shift & (CELLS - 1)]++] = from[i];
		t = from, from = to, to = t;
	}
	return from;
}

void sim_queue(const struct sim_batch *b, enum sim_drop order, struct sim_room *s)
{
	size_t n = (size_t)b->n * b->k;

	memset(s->used, 0, b->n_expert * sizeof *s->used);
	if (order == SIM_DROP_WEIGHT && b->weights) {
		const uint64_t *p = sort(b, s);

		for (size_t i = 0; i < n; i++) {
			uint32_t pick = (uint32_t)p[i];

			s->place[pick] = s->used[b->experts[pick]]++;
		}
	} else {
		for (size_t i = 0; i < n; i++)
			s->place[i] = s->used[b->experts[i]]++;
	}
}

/* ---- other experts ---- */

/* The best expert with room that is not the token's own, or -1. z: its logits. */
static int next_best(const struct sim_batch *b, const float *z, uint64_t cap, const uint32_t *used,
	const uint8_t *own)
{
	int best = -1;

	for (unsigned e = 0; e < b->n_expert; e++)
		if (used[e] < cap && !own[e] && (best < 0 || z[e] > z[best]))
			best = (int)e;
	return best;
}

/* The experts that take fewest picks, and how many that is; all others take more. */
struct emptiest { uint64_t bit[MOE_MAX_EXPERT / 64]; uint32_t used; int any; };

static void emptiest_find(struct emptiest *m, const uint32_t *used, unsigned n)
{
	m->used = UINT32_MAX;
	for (unsigned e = 0; e < n; e++)
		m->used = used[e] < m->used ? used[e] : m->used;
	memset(m->bit, 0, sizeof m->bit);
	for (unsigned e = 0; e < n; e++)
		m->bit[e / 64] |= (uint64_t)(used[e] == m->used) << e % 64;
	m->any = 1;
}

/* The emptiest one that is not the token's own, the lowest id of equals, or -1. */
static int emptiest(struct emptiest *m, const struct sim_batch *b, uint64_t cap,
	const uint32_t *used, const uint8_t *own)
{
	uint64_t any = 0;
	int best = -1;

	for (unsigned i = 0; i < (b->n_expert + 63) / 64; i++) {
		for (uint64_t bits = m->bit[i]; bits && m->any && m->used < cap; bits &= bits - 1) {
			unsigned e = i * 64 + (unsigned)__builtin_ctzll(bits);

			if (own[e])
				continue;
			m->bit[i] &= ~(UINT64_C(1) << e % 64);
			return (int)e;
		}
		any |= m->bit[i];
	}
	if (!any) { /* all of that many have taken one more, or nobody looked yet */
		emptiest_find(m, used, b->n_expert);
		return m->used < cap ? emptiest(m, b, cap, used, own) : -1;
	}
	for (unsigned e = 0; e < b->n_expert; e++) /* the emptiest ones are all its own */
		if (used[e] < cap && !own[e] && (best < 0 || used[e] < used[best]))
			best = (int)e;
	return best;
}

void sim_reroute(const struct sim_batch *b, uint64_t cap, struct sim_room *s, uint8_t *fate,
	uint16_t *to)
{
	uint8_t own[MOE_MAX_EXPERT] = { 0 };
	struct emptiest m = { .any = 0 };

	memcpy(to, b->experts, (size_t)b->n * b->k * sizeof *to);
	for (uint32_t t = 0; t < b->n; t++) {
		size_t at = (size_t)t * b->k;
		const float *z = b->logits ? b->logits + (size_t)t * b->n_expert : NULL;
		int any = 0;

		for (unsigned r = 0; r < b->k; r++)
			any |= fate[at + r] = s->place[at + r] < cap ? SIM_KEPT : SIM_DROPPED;
		if (!any)
			continue;
		for (unsigned r = 0; r < b->k; r++)
			own[to[at + r]] = 1;
		for (unsigned r = 0; r < b->k; r++) {
			int e;

			if (fate[at + r] == SIM_KEPT)
				continue;
			e = z ? next_best(b, z, cap, s->used, own) : emptiest(&m, b, cap, s->used, own);
			if (e < 0)
				continue;
			fate[at + r] = SIM_MOVED;
			own[to[at + r]] = 0; /* the one it could not have is no longer among its own */
			to[at + r] = (uint16_t)e;
			own[e] = 1;
			s->used[e]++;
		}
		for (unsigned r = 0; r < b->k; r++)
			own[to[at + r]] = 0;
	}
}

void sim_capacity(const struct sim_batch *b, uint64_t cap, enum sim_drop policy,
	struct sim_room *s, uint8_t *fate, uint16_t *to)
{
	sim_queue(b, policy, s);
	for (unsigned e = 0; e < b->n_expert; e++)
		s->used[e] = s->used[e] < cap ? s->used[e] : (uint32_t)cap;
	if (policy == SIM_DROP_REROUTE) {
		sim_reroute(b, cap, s, fate, to);
		return;
	}
	memcpy(to, b->experts, (size_t)b->n * b->k * sizeof *to);
	for (size_t i = 0; i < (size_t)b->n * b->k; i++)
		fate[i] = s->place[i] < cap ? SIM_KEPT : SIM_DROPPED;
}

const char *sim_drop_name(enum sim_drop p)
{
	static const char *const name[] = { "position", "probs", "reroute" };

	return name[p];
}
