/* place.c - see place.h. Ties go to the lowest index everywhere. */
#include "sim/place.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

const char *sim_place_name(enum sim_place p)
{
	static const char *const name[] = { "round-robin", "contiguous", "greedy", "eplb", "eplb-nodes",
		"coactive" };

	return name[p];
}

int sim_cluster_check(const struct sim_cluster *c, struct moe_err *e)
{
	if (!c->ranks || !c->nodes || !c->groups)
		return err_set(e, MOE_ERR_USAGE, "at least one rank, node and group is needed");
	if (c->ranks % c->nodes)
		return err_set(e, MOE_ERR_USAGE, "%zu ranks do not divide into %zu nodes", c->ranks,
			c->nodes);
	if (c->n_expert % c->groups)
		return err_set(e, MOE_ERR_USAGE, "%zu experts do not divide into %zu groups", c->n_expert,
			c->groups);
	if (c->physical < c->n_expert)
		return err_set(e, MOE_ERR_USAGE, "%zu slots cannot hold %zu experts", c->physical,
			c->n_expert);
	if (c->physical % c->ranks)
		return err_set(e, MOE_ERR_USAGE, "%zu slots do not divide into %zu ranks", c->physical,
			c->ranks);
	return 0;
}

static int is_eplb(enum sim_place p)
{
	return p == SIM_EPLB || p == SIM_EPLB_NODES;
}

size_t sim_place_slots(const struct sim_cluster *c, enum sim_place p)
{
	if (is_eplb(p))
		return c->physical;
	return c->n_expert % c->ranks ? 0 : c->n_expert;
}

/* Indices by descending value, equal ones in order: insertion into a short list would be O(n^2), so
 * a stable merge. tmp [n]. */
static void descending(const double *v, size_t *idx, size_t *tmp, size_t n)
{
	size_t half = n / 2, a = 0, b = half, at = 0;

	if (n < 2)
		return;
	descending(v, idx, tmp, half);
	descending(v, idx + half, tmp, n - half);
	while (a < half && b < n)
		tmp[at++] = v[idx[b]] > v[idx[a]] ? idx[b++] : idx[a++];
	while (a < half)
		tmp[at++] = idx[a++];
	memcpy(idx, tmp, at * sizeof *idx);
}

/* n items to n / room packs of `room` each, heaviest first to the lightest with room: place [n] =
 * pack * room + place in it. */
static int pack(const double *w, size_t n, size_t packs, size_t *place, struct moe_err *e)
{
	size_t room = n / packs, *idx = malloc((2 * n + packs + 1) * sizeof *idx), *items;
	double *load = calloc(packs + 1, sizeof *load);

	if (!idx || !load) {
		free(idx);
		free(load);
		return err_nomem(e, 2 * n * sizeof *idx, "packing");
	}
	items = idx + 2 * n;
	memset(items, 0, packs * sizeof *items);
	for (size_t i = 0; i < n; i++)
		idx[i] = place[i] = i;
	if (room > 1) { /* with one item a pack there is nothing to decide */
		descending(w, idx, idx + n, n);
		for (size_t i = 0; i < n; i++) {
			size_t p = packs;

			for (size_t q = 0; q < packs; q++)
				if (items[q] < room && (p == packs || load[q] < load[p]))
					p = q;
			place[idx[i]] = p * room + items[p]++;
			load[p] += w[idx[i]];
		}
	}
	free(idx);
	free(load);
	return 0;
}

/* Spare slots go to the expert with the largest load per replica: ids [slots], count [n]. */
static void replicate(const double *w, size_t n, size_t slots, size_t *ids, size_t *count)
{
	for (size_t i = 0; i < n; i++)
		ids[i] = i, count[i] = 1;
	for (size_t s = n; s < slots; s++) {
		size_t best = 0;

		for (size_t i = 1; i < n; i++)
			if (w[i] / (double)count[i] > w[best] / (double)count[best])
				best = i;
		ids[s] = best;
		count[best]++;
	}
}

/* One node: its experts mine [n] to map [slots]. */
static int fill_node(const size_t *mine, size_t n, const double *load, size_t slots, size_t ranks,
	uint16_t *map, struct moe_err *e)
{
	size_t *ids = malloc((2 * slots + n + 1) * sizeof *ids), *place, *count;
	double *w = malloc((n + slots + 1) * sizeof *w), *share;
	int status = -1;

	if (!ids || !w) {
		err_nomem(e, slots * sizeof *ids, "a node's experts");
		goto out;
	}
	place = ids + slots, count = place + slots, share = w + n;
	for (size_t i = 0; i < n; i++)
		w[i] = load[mine[i]];
	replicate(w, n, slots, ids, count);
	for (size_t s = 0; s < slots; s++)
		share[s] = w[ids[s]] / (double)count[ids[s]];
	if (pack(share, slots, ranks, place, e))
		goto out;
	for (size_t s = 0; s < slots; s++)
		map[place[s]] = (uint16_t)mine[ids[s]];
	status = 0;
out:
	free(ids);
	free(w);
	return status;
}

static int eplb(const struct sim_cluster *c, size_t groups, size_t nodes, const double *load,
	uint16_t *map, struct moe_err *e)
{
	size_t size, per_node, slots, *mine, *place;
	double *w;
	int status = -1;

	if (groups % nodes)
		groups = nodes = 1;
	size = c->n_expert / groups, per_node = c->n_expert / nodes, slots = c->physical / nodes;
	mine = malloc((c->n_expert + groups + 1) * sizeof *mine);
	w = calloc(groups + 1, sizeof *w);
	if (!mine || !w) {
		err_nomem(e, c->n_expert * sizeof *mine, "expert groups");
		goto out;
	}
	place = mine + c->n_expert;
	for (size_t i = 0; i < c->n_expert; i++)
		w[i / size] += load[i];
	if (pack(w, groups, nodes, place, e))
		goto out;
	for (size_t i = 0; i < c->n_expert; i++)
		mine[place[i / size] * size + i % size] = i;
	for (size_t k = 0; k < nodes; k++)
		if (fill_node(mine + k * per_node, per_node, load, slots, c->ranks / nodes, map + k * slots,
		    e))
			goto out;
	status = 0;
out:
	free(mine);
	free(w);
	return status;
}

/* The rank for expert i: most co-activated among those with room and slack, else the lightest. */
static size_t friend_of(const struct sim_cluster *c, const uint64_t *together, const uint16_t *map,
	const size_t *items, const double *rank_load, double own, double limit, size_t i)
{
	size_t room = c->n_expert / c->ranks, best = c->ranks, light = c->ranks;
	uint64_t best_pairs = 0;

	for (size_t r = 0; r < c->ranks; r++) {
		uint64_t pairs = 0;

		if (items[r] == room)
			continue;
		if (light == c->ranks || rank_load[r] < rank_load[light])
			light = r;
		if (rank_load[r] + own > limit)
			continue;
		for (size_t s = 0; s < items[r]; s++)
			pairs += together[i * c->n_expert + map[r * room + s]];
		if (pairs > best_pairs)
			best = r, best_pairs = pairs;
	}
	return best < c->ranks ? best : light;
}

static int coactive(const struct sim_cluster *c, const double *load, const uint64_t *together,
	uint16_t *map, struct moe_err *e)
{
	size_t n = c->n_expert, room = n / c->ranks;
	size_t *idx = malloc((2 * n + c->ranks) * sizeof *idx), *items;
	double *rank_load = calloc(c->ranks + 1, sizeof *rank_load), sum = 0;

	if (!idx || !rank_load) {
		free(idx);
		free(rank_load);
		return err_nomem(e, 2 * n * sizeof *idx, "packing");
	}
	items = idx + 2 * n;
	memset(items, 0, c->ranks * sizeof *items);
	for (size_t i = 0; i < n; i++)
		idx[i] = i, sum += load[i];
	descending(load, idx, idx + n, n);
	for (size_t i = 0; i < n; i++) {
		size_t r = friend_of(c, together, map, items, rank_load, load[idx[i]],
			SIM_SLACK * sum / (double)c->ranks, idx[i]);

		map[r * room + items[r]++] = (uint16_t)idx[i];
		rank_load[r] += load[idx[i]];
	}
	free(idx);
	free(rank_load);
	return 0;
}

int sim_place(const struct sim_cluster *c, enum sim_place p, const double *load,
	const uint64_t *together, uint16_t *map, struct moe_err *e)
{
	struct sim_cluster plain = *c;
	size_t room = c->n_expert / c->ranks;

	switch (p) {
	case SIM_ROUND_ROBIN:
		for (size_t i = 0; i < c->n_expert; i++)
			map[i % c->ranks * room + i / c->ranks] = (uint16_t)i;
		return 0;
	case SIM_CONTIGUOUS:
		for (size_t i = 0; i < c->n_expert; i++)
			map[i] = (uint16_t)i;
		return 0;
	case SIM_GREEDY:
		plain.physical = c->n_expert;
		return eplb(&plain, 1, 1, load, map, e);
	case SIM_EPLB:
		return eplb(c, 1, 1, load, map, e);
	case SIM_EPLB_NODES:
		return eplb(c, c->groups, c->nodes, load, map, e);
	default:
		return coactive(c, load, together, map, e);
	}
}

void sim_rank_load(const struct sim_cluster *c, const uint16_t *map, size_t n, const double *load,
	unsigned *replicas, double *out)
{
	memset(replicas, 0, c->n_expert * sizeof *replicas);
	memset(out, 0, c->ranks * sizeof *out);
	for (size_t s = 0; s < n; s++)
		replicas[map[s]]++;
	for (size_t s = 0; s < n; s++)
		out[s / (n / c->ranks)] += load[map[s]] / replicas[map[s]];
}

int sim_where_init(struct sim_where *w, const struct sim_cluster *c, const uint16_t *map, size_t n,
	struct moe_err *e)
{
	if (c->ranks > SIM_RANKS_MOST)
		return err_set(e, MOE_ERR_USAGE, "%zu ranks: at most %d", c->ranks, SIM_RANKS_MOST);
	w->words = (c->ranks + 63) / 64;
	w->start = calloc(c->n_expert + 2, sizeof *w->start);
	w->rank = malloc((n + 1) * sizeof *w->rank);
	w->node = malloc((n + 1) * sizeof *w->node);
	if (!w->start || !w->rank || !w->node) {
		sim_where_free(w);
		return err_nomem(e, n * 2 * sizeof *w->rank, "where experts are");
	}
	for (size_t s = 0; s < n; s++) /* counting sort; start moves one expert on while filling */
		w->start[map[s] + 2]++;
	for (size_t i = 2; i < c->n_expert + 2; i++)
		w->start[i] += w->start[i - 1];
	for (size_t s = 0; s < n; s++)
		w->rank[w->start[map[s] + 1]++] = (uint32_t)(s / (n / c->ranks));
	for (size_t s = 0; s < n; s++)
		w->node[s] = (uint32_t)(w->rank[s] / (c->ranks / c->nodes));
	return 0;
}

void sim_where_free(struct sim_where *w)
{
	free(w->start);
	free(w->rank);
	free(w->node);
	memset(w, 0, sizeof *w);
}

static unsigned mark(uint64_t *set, uint32_t x)
{
	uint64_t bit = UINT64_C(1) << x % 64, was = set[x / 64] & bit;

	set[x / 64] |= bit;
	return !was;
}

void sim_reach(const struct sim_where *w, const uint16_t *set, unsigned k, uint64_t turn,
	unsigned *ranks, unsigned *nodes)
{
	uint64_t rank[SIM_RANKS_MOST / 64], node[SIM_RANKS_MOST / 64];

	for (size_t i = 0; i < w->words; i++)
		rank[i] = node[i] = 0;
	*ranks = *nodes = 0;
	for (unsigned i = 0; i < k; i++) {
		uint32_t a = w->start[set[i]], n = w->start[set[i] + 1] - a;
		uint32_t at = n == 1 ? a : a + (uint32_t)(turn % n);

		*ranks += mark(rank, w->rank[at]);
		*nodes += mark(node, w->node[at]);
	}
}
