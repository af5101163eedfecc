/*
 * test_sim.c - src/sim against tests/data/sim.txt and whatif.txt (independent NumPy programs), and
 * what must hold for any input.
 */
#include "named.h"

#include <math.h>

#include <moescope/event.h>

#include "base/rng.h"
#include "metrics/capacity.h"
#include "sim/cache.h"
#include "sim/capacity.h"
#include "sim/place.h"
#include "sim/stack.h"

static struct moe_err err;

#define OK(call) ok_or_fail((call) == 0, &err)

static void near(double got, double want)
{
	if (!(fabs(got - want) <= 1e-9 * fmax(1, fabs(want))))
		fail_msg("got %.17g, want %.17g", got, want);
}

/* ---- tests/data/sim.txt ---- */

static double number(FILE *f)
{
	double x;

	assert_int_equal(fscanf(f, "%lf", &x), 1);
	return x;
}

static void word(FILE *f, const char *want)
{
	char got[32];

	assert_int_equal(fscanf(f, "%31s", got), 1);
	assert_string_equal(got, want);
}

static void check_drops(FILE *f, const uint16_t *ids, const float *w, uint32_t T, unsigned E,
	unsigned k, uint32_t batch, double cf, enum sim_drop policy)
{
	struct sim_room room;
	uint8_t *fate = malloc(T * k);
	uint16_t *to = malloc(T * k * sizeof *to);
	double lost = 0, picks = 0, decile[10] = { 0 }, of[10] = { 0 };

	OK(sim_room_init(&room, batch, k, E, &err));
	for (uint32_t t = 0; t < T; t += batch) {
		struct sim_batch b = { .n = T - t < batch ? T - t : batch, .k = k, .n_expert = E,
			.experts = ids + t * k, .weights = w + t * k };

		sim_capacity(&b, metrics_capacity(b.n, E, k, cf), policy, &room, fate + t * k, to + t * k);
	}
	for (uint32_t t = 0; t < T; t++) {
		unsigned n = 0;

		for (unsigned r = 0; r < k; r++)
			n += fate[t * k + r] == SIM_DROPPED;
		picks += n;
		lost += n == k;
		decile[10 * t / T] += n;
		of[10 * t / T] += k;
	}
	word(f, "drop");
	word(f, sim_drop_name(policy));
	near(picks, number(f));
	near(lost, number(f));
	near(picks / (T * k), number(f));
	for (int d = 0; d < 10; d++)
		near(decile[d] / of[d], number(f));
	sim_room_free(&room);
	free(fate);
	free(to);
}

static void vectors_capacity(FILE *f)
{
	uint32_t T = (uint32_t)number(f);
	unsigned E = (unsigned)number(f), k = (unsigned)number(f);
	uint32_t batch = (uint32_t)number(f);
	double cf = number(f);
	uint16_t *ids = malloc(T * k * sizeof *ids);
	float *w = malloc(T * k * sizeof *w);

	word(f, "choices");
	for (uint32_t i = 0; i < T * k; i++)
		ids[i] = (uint16_t)number(f);
	word(f, "weights");
	for (uint32_t i = 0; i < T * k; i++)
		w[i] = (float)number(f);
	check_drops(f, ids, w, T, E, k, batch, cf, SIM_DROP_POSITION);
	check_drops(f, ids, w, T, E, k, batch, cf, SIM_DROP_WEIGHT);
	free(ids);
	free(w);
}

static void vectors_cache(FILE *f)
{
	static const enum sim_cache_policy order[] = { SIM_LRU, SIM_LFU, SIM_BELADY, SIM_STATIC };
	size_t T = (size_t)number(f), E = (size_t)number(f), k = (size_t)number(f);
	size_t slots = (size_t)number(f);
	uint32_t *keys = malloc(T * k * sizeof *keys);
	uint16_t *same = malloc(T * k * sizeof *same);
	unsigned sizes[] = { 1, (unsigned)slots };
	struct sim_stack *all = sim_stack_new(E, sizes, 2, &err);
	uint64_t hits;

	assert_non_null(all);
	word(f, "choices");
	for (size_t i = 0; i < T * k; i++)
		same[i] = (uint16_t)(keys[i] = (uint32_t)number(f));
	sim_stack_add(all, same, T * k);
	word(f, "hits");
	for (int p = 0; p < 4; p++) {
		double want = number(f);

		OK(sim_cache_run(order[p], keys, T * k, E, slots, &hits, &err));
		assert_int_equal(hits, want);
		assert_int_equal(sim_stack_hits(all, order[p], 1), want);
	}
	sim_stack_free(all);
	free(same);
	free(keys);
}

/* One pass for all sizes gives the hits of simulating each cache by itself, however the accesses
 * are cut into pieces; long enough for last accesses to be numbered anew. */
static void check_stack(size_t n_key, size_t n, double skew, uint64_t seed)
{
	static const unsigned slots[] = { 1, 2, 3, 7, 12, 40, 90, 2000 };
	const size_t n_size = sizeof slots / sizeof *slots;
	uint32_t *keys = malloc(n * sizeof *keys);
	uint16_t *same = malloc(n * sizeof *same);
	struct sim_stack *all = sim_stack_new(n_key, slots, n_size, &err);
	struct rng r;
	uint64_t hits;

	assert_non_null(all);
	rng_seed(&r, seed);
	for (size_t i = 0; i < n; i++) { /* bursts of what was there before, else by popularity */
		double u = (double)rng_below(&r, 1 << 20) / (1 << 20);

		keys[i] = i > 20 && !rng_below(&r, 3) ? keys[i - 1 - rng_below(&r, 20)] :
			(uint32_t)(pow(u, skew) * (double)n_key);
		same[i] = (uint16_t)keys[i];
	}
	for (size_t i = 0, m; i < n; i += m) {
		m = 1 + rng_below(&r, 1000);
		m = m < n - i ? m : n - i;
		sim_stack_add(all, same + i, m);
	}
	assert_int_equal(sim_stack_accesses(all), n);
	for (size_t s = 0; s < n_size; s++)
		for (int p = 0; p < SIM_N_CACHE; p++) {
			OK(sim_cache_run((enum sim_cache_policy)p, keys, n, n_key, slots[s], &hits, &err));
			assert_int_equal(sim_stack_hits(all, (enum sim_cache_policy)p, s), hits);
		}
	sim_stack_free(all);
	free(same);
	free(keys);
}

static void caches_of_all_sizes(void **state)
{
	(void)state;
	check_stack(1, 50, 1, 1);
	check_stack(2, 500, 1, 2);
	check_stack(8, 3000, 2, 3);
	check_stack(61, 20000, 1, 4);
	check_stack(128, 30000, 3, 5);
	check_stack(1000, 20000, 2, 6);
	check_stack(16, (1 << 20) + 200000, 2, 7);
}

static double balance(const struct sim_cluster *c, const uint16_t *map, size_t n,
	const double *load)
{
	unsigned replicas[MOE_MAX_EXPERT];
	double rank[MOE_MAX_EXPERT], sum = 0, max = 0;

	sim_rank_load(c, map, n, load, replicas, rank);
	for (size_t r = 0; r < c->ranks; r++) {
		sum += rank[r];
		max = fmax(max, rank[r]);
	}
	return sum / (double)c->ranks / max;
}

static void vectors_eplb(FILE *f)
{
	struct sim_cluster c;
	double load[MOE_MAX_EXPERT];
	uint16_t map[MOE_MAX_EXPERT];

	c.n_expert = (size_t)number(f);
	c.physical = (size_t)number(f);
	c.groups = (size_t)number(f);
	c.nodes = (size_t)number(f);
	c.ranks = (size_t)number(f);
	word(f, "weights");
	for (size_t i = 0; i < c.n_expert; i++)
		load[i] = number(f);
	OK(sim_cluster_check(&c, &err));
	OK(sim_place(&c, SIM_EPLB_NODES, load, NULL, map, &err));
	word(f, "map");
	for (size_t i = 0; i < c.physical; i++)
		assert_int_equal(map[i], number(f));
	word(f, "balance");
	near(balance(&c, map, c.physical, load), number(f));
}

static void sim_vectors(void **state)
{
	FILE *f = fopen("tests/data/sim.txt", "r");
	char what[32];
	int n = 0;

	(void)state;
	assert_non_null(f);
	word(f, "sim");
	number(f);
	while (fscanf(f, "%31s", what) == 1 && strcmp(what, "end")) {
		if (!strcmp(what, "capacity"))
			vectors_capacity(f);
		else if (!strcmp(what, "cache"))
			vectors_cache(f);
		else if (!strcmp(what, "eplb"))
			vectors_eplb(f);
		else
			fail_msg("unknown word %s", what);
		n++;
	}
	assert_int_equal(n, 11);
	fclose(f);
}

/* ---- tests/data/whatif.txt ---- */

static void check_reroute(const struct named *c)
{
	const double *s = named_get(c, "shape", NULL), *want;
	uint16_t *ids = named_ids(c, "choices"), *to = named_ids(c, "to"), *got;
	float *z = named_floats(c, "logits");
	struct sim_batch b = { .n = (uint32_t)s[0], .n_expert = (unsigned)s[1], .k = (unsigned)s[2],
		.experts = ids, .logits = strstr(c->name, "blind") ? NULL : z };
	size_t n = (size_t)b.n * b.k;
	struct sim_room room;
	uint8_t *fate = malloc(n);
	uint64_t taken = 0;

	got = malloc(n * sizeof *got);
	OK(sim_room_init(&room, b.n, b.k, b.n_expert, &err));
	sim_capacity(&b, (uint64_t)s[3], SIM_DROP_REROUTE, &room, fate, got);
	want = named_get(c, "fate", NULL);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(fate[i], want[i]);
		assert_int_equal(got[i], to[i]);
		taken += fate[i] != SIM_DROPPED;
	}
	for (unsigned e = 0; e < b.n_expert; e++) {
		assert_true(room.used[e] <= (uint64_t)s[3]);
		taken -= room.used[e];
	}
	assert_int_equal(taken, 0);
	sim_room_free(&room);
	free(fate);
	free(got);
	free(ids);
	free(to);
	free(z);
}

static void check_cache(const struct named *c)
{
	const double *s = named_get(c, "shape", NULL), *want = named_get(c, "hits", NULL), *keys;
	uint64_t hits;
	uint32_t *k;
	size_t n = 0;

	keys = named_get(c, "keys", &n);
	k = malloc(n * sizeof *k);
	for (size_t i = 0; i < n; i++)
		k[i] = (uint32_t)keys[i];
	for (int p = 0; p < SIM_N_CACHE; p++) {
		OK(sim_cache_run((enum sim_cache_policy)p, k, n, (size_t)s[1], (size_t)s[3], &hits, &err));
		assert_int_equal(hits, want[p]);
	}
	free(k);
}

/* Ranking: the recorded choice, then the others by logit. */
static void rank_of(const uint16_t *set, unsigned k, const float *z, unsigned E, uint16_t *rank)
{
	unsigned n = k;

	memcpy(rank, set, k * sizeof *rank);
	for (unsigned e = 0; e < E; e++) {
		unsigned at = n, has = 0;

		for (unsigned r = 0; r < k; r++)
			has |= set[r] == e;
		if (has)
			continue;
		for (; at > k && z[e] > z[rank[at - 1]]; at--)
			rank[at] = rank[at - 1];
		rank[at] = (uint16_t)e;
		n++;
	}
}

static void check_max_rank(const struct named *c)
{
	const double *s = named_get(c, "shape", NULL);
	uint16_t *ids = named_ids(c, "choices"), *want = named_ids(c, "sets"), rank[64], got[64];
	float *z = named_floats(c, "logits");
	unsigned T = (unsigned)s[0], E = (unsigned)s[1], k = (unsigned)s[2];
	struct sim_cache *cache = sim_cache_new(SIM_LRU, E, (size_t)s[3], &err);
	uint64_t hits = 0;

	assert_non_null(cache);
	for (unsigned t = 0; t < T; t++) {
		rank_of(ids + t * k, k, z + t * E, E, rank);
		sim_max_rank(cache, rank, E, k, (unsigned)s[4], (unsigned)s[5], 0, got);
		for (unsigned r = 0; r < k; r++) {
			assert_int_equal(got[r], want[t * k + r]);
			hits += (uint64_t)sim_cache_access(cache, got[r]);
		}
	}
	assert_int_equal(hits, named_get(c, "hits", NULL)[0]);
	sim_cache_free(cache);
	free(ids);
	free(want);
	free(z);
}

static void check_reach(const struct sim_cluster *cl, const uint16_t *map, const uint16_t *ids,
	size_t T, size_t k, const double *want)
{
	struct sim_where w;
	double sum[2] = { 0 };
	unsigned r, n;

	OK(sim_where_init(&w, cl, map, cl->physical, &err));
	for (size_t t = 0; t < T; t++) {
		sim_reach(&w, ids + t * k, (unsigned)k, t, &r, &n);
		sum[0] += r;
		sum[1] += n;
	}
	near(sum[0] / (double)T, want[1]);
	near(sum[1] / (double)T, want[2]);
	sim_where_free(&w);
}

static void check_placement(const struct named *c)
{
	static const struct { enum sim_place p; const char *key; } policy[] = {
		{ SIM_ROUND_ROBIN, "round_robin" }, { SIM_CONTIGUOUS, "contiguous" },
		{ SIM_GREEDY, "greedy" }, { SIM_COACTIVE, "coactive" },
	};
	const double *s = named_get(c, "shape", NULL);
	size_t T = (size_t)s[0], E = (size_t)s[1], k = (size_t)s[2];
	struct sim_cluster cl = { E, E, 1, (size_t)s[4], (size_t)s[3] };
	uint16_t *ids = named_ids(c, "choices"), map[MOE_MAX_EXPERT];
	uint64_t *pairs = calloc(E * E, sizeof *pairs);
	double load[MOE_MAX_EXPERT] = { 0 };

	OK(sim_cluster_check(&cl, &err));
	for (size_t t = 0; t < T; t++)
		for (size_t i = 0; i < k; i++) {
			load[ids[t * k + i]]++;
			for (size_t j = 0; j < k; j++)
				pairs[ids[t * k + i] * E + ids[t * k + j]] += i != j;
		}
	for (size_t p = 0; p < 4; p++) {
		const double *want = named_get(c, policy[p].key, NULL), *fig;
		char key[64];

		OK(sim_place(&cl, policy[p].p, load, pairs, map, &err));
		for (size_t i = 0; i < E; i++)
			assert_int_equal(map[i], want[i]);
		snprintf(key, sizeof key, "%s_figures", policy[p].key);
		fig = named_get(c, key, NULL);
		near(1 / balance(&cl, map, E, load), fig[0]);
		check_reach(&cl, map, ids, T, k, fig);
	}
	{ /* the same with replicas */
		struct sim_cluster more = { E, E + cl.ranks, 1, cl.nodes, cl.ranks };
		const double *want = named_get(c, "eplb", NULL), *fig = named_get(c, "eplb_figures", NULL);

		OK(sim_place(&more, SIM_EPLB, load, NULL, map, &err));
		for (size_t i = 0; i < more.physical; i++)
			assert_int_equal(map[i], want[i]);
		near(1 / balance(&more, map, more.physical, load), fig[0]);
		check_reach(&more, map, ids, T, k, fig);
	}
	free(ids);
	free(pairs);
}

static void whatif_vectors(void **state)
{
	FILE *f = fopen("tests/data/whatif.txt", "r");
	struct named c = { .n = 0 };
	int n = 0;

	(void)state;
	assert_non_null(f);
	for (; named_next(f, &c); n++) {
		if (!strncmp(c.name, "reroute", 7))
			check_reroute(&c);
		else if (!strcmp(c.name, "cache"))
			check_cache(&c);
		else if (!strcmp(c.name, "max_rank"))
			check_max_rank(&c);
		else if (!strcmp(c.name, "placement"))
			check_placement(&c);
		else
			fail_msg("unknown case %s", c.name);
	}
	assert_true(n > 20);
	fclose(f);
}

/* ---- what must hold ---- */

/* Uniform access over N experts with c slots hits c / N under any policy without knowledge. */
static void uniform_cache(void **state)
{
	enum { N = 400000, E = 32, C = 8 };
	uint32_t *keys = malloc(N * sizeof *keys);
	struct rng r;
	uint64_t hits, best;

	(void)state;
	rng_seed(&r, 3);
	for (int i = 0; i < N; i++)
		keys[i] = (uint32_t)rng_below(&r, E);
	OK(sim_cache_run(SIM_BELADY, keys, N, E, C, &best, &err));
	for (int p = SIM_LRU; p <= SIM_STATIC; p++) {
		OK(sim_cache_run((enum sim_cache_policy)p, keys, N, E, C, &hits, &err));
		assert_true(fabs((double)hits / N - (double)C / E) < 0.005);
		assert_true(p == SIM_STATIC || hits <= best);
	}
	OK(sim_cache_run(SIM_LRU, keys, N, E, E + 5, &hits, &err)); /* more slots than experts */
	assert_int_equal(hits, N - E);
	OK(sim_cache_run(SIM_BELADY, keys, 0, E, C, &hits, &err));
	assert_int_equal(hits, 0);
	free(keys);
}

static void one_expert(void **state)
{
	struct sim_cluster c = { 1, 1, 1, 1, 1 };
	uint16_t map[4], ids[3] = { 0, 0, 0 }, to[3];
	struct sim_batch b = { 3, 1, 1, ids, NULL, NULL };
	double load = 7;
	uint64_t pair = 0;
	struct sim_room room;
	uint8_t fate[3];

	(void)state;
	for (int p = 0; p < SIM_N_PLACE; p++) {
		map[0] = 9;
		OK(sim_place(&c, (enum sim_place)p, &load, &pair, map, &err));
		assert_int_equal(map[0], 0);
	}
	OK(sim_room_init(&room, 3, 1, 1, &err));
	sim_capacity(&b, 2, SIM_DROP_REROUTE, &room, fate, to);
	assert_int_equal(fate[0], SIM_KEPT);
	assert_int_equal(fate[1], SIM_KEPT);
	assert_int_equal(fate[2], SIM_DROPPED);
	sim_capacity(&b, 2, SIM_DROP_WEIGHT, &room, fate, to); /* no weights: by position */
	assert_int_equal(fate[2], SIM_DROPPED);
	sim_room_free(&room);
}

static void impossible_clusters(void **state)
{
	static const struct { struct sim_cluster c; const char *words; } bad[] = {
		{ { 8, 8, 1, 1, 3 }, "8 slots do not divide into 3 ranks" },
		{ { 8, 8, 3, 1, 4 }, "8 experts do not divide into 3 groups" },
		{ { 8, 4, 1, 1, 4 }, "4 slots cannot hold 8 experts" },
		{ { 8, 8, 1, 3, 4 }, "4 ranks do not divide into 3 nodes" },
		{ { 8, 8, 1, 1, 0 }, "at least one rank" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(sim_cluster_check(&bad[i].c, &err), -1);
		assert_non_null(strstr(err.msg, bad[i].words));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sim_vectors),
		cmocka_unit_test(caches_of_all_sizes),
		cmocka_unit_test(whatif_vectors),
		cmocka_unit_test(uniform_cache),
		cmocka_unit_test(one_expert),
		cmocka_unit_test(impossible_clusters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
