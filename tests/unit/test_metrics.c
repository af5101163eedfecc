/*
 * test_metrics.c - the figures of src/metrics against closed forms, values worked out by hand, and
 * slow definitions written another way (all pairs, all sets, logarithms of ratios).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "metrics/balance.h"
#include "metrics/capacity.h"
#include "metrics/domain.h"
#include "metrics/router.h"
#include "metrics/sets.h"

static void near(double got, double want, double tol)
{
	if (!(fabs(got - want) <= tol))
		fail_msg("got %.12g, want %.12g +- %g", got, want, tol);
}

/* ---- balance ---- */

static void test_uniform_is_perfect(void **state)
{
	uint64_t c[16], s[16];
	struct metrics_balance b;

	(void)state;
	for (size_t i = 0; i < 16; i++)
		c[i] = 1000;
	metrics_balance(c, 16, s, &b);
	near(b.max_mean, 1, 0);
	near(b.max_vio, 0, 0);
	near(b.cv, 0, 0);
	near(b.gini, 0, 1e-12);
	near(b.entropy_norm, 1, 1e-12);
	near(b.n_eff, 16, 1e-9);
	near(b.n2, 16, 1e-9);
	near(b.dead, 0, 0);
	near(b.cold, 0, 0);
	assert_int_equal(b.coverage90, 15); /* 14 experts take 87.5 % */
	assert_int_equal(b.top_expert, 0);
}

static void test_one_takes_all(void **state)
{
	uint64_t c[8] = { 0, 0, 0, 500 }, s[8];
	struct metrics_balance b;

	(void)state;
	metrics_balance(c, 8, s, &b);
	near(b.max_mean, 8, 0);
	near(b.cv, sqrt(7), 1e-12);
	near(b.gini, 1 - 1 / 8.0, 1e-12);
	near(b.entropy_norm, 0, 0);
	near(b.n_eff, 1, 1e-12);
	near(b.n2, 1, 1e-12);
	near(b.dead, 7 / 8.0, 0);
	assert_int_equal(b.n_dead, 7);
	assert_int_equal(b.n_cold, 7);
	assert_int_equal(b.coverage90, 1);
	assert_int_equal(b.top_expert, 3);
}

static void test_balance_by_hand(void **state)
{
	/* S = 10, mean 2.5; deviations -1.5 -.5 .5 1.5: variance 1.25. Gini by pairs: sum of
	 * |ci - cj| over ordered pairs = 20, / (2 E S) = .25. Entropy 1.27985 nats. */
	uint64_t c[4] = { 4, 1, 3, 2 }, s[4];
	struct metrics_balance b;
	double h = -(.4 * log(.4) + .1 * log(.1) + .3 * log(.3) + .2 * log(.2));

	(void)state;
	metrics_balance(c, 4, s, &b);
	near(b.max_mean, 1.6, 1e-12);
	near(b.max_vio, .6, 1e-12);
	near(b.cv, sqrt(1.25) / 2.5, 1e-12);
	near(b.gini, .25, 1e-12);
	near(b.entropy_norm, h / log(4), 1e-12);
	near(b.n_eff, 3.596, 1e-3);
	near(b.n2, 1 / .3, 1e-12);
	assert_int_equal(b.coverage90, 3);
	assert_int_equal(s[0], 1);
	assert_int_equal(s[3], 4);
	near(metrics_top_share(s, 4, 2), .7, 1e-12);
	near(metrics_top_share(s, 4, 9), 1, 1e-12);
}

static void test_identities_on_random_counts(void **state)
{
	struct metrics_balance b;
	uint64_t c[64], s[64];
	struct rng r;

	(void)state;
	rng_seed(&r, 7);
	for (int round = 0; round < 200; round++) {
		size_t e = 2 + rng_below(&r, 63);
		double pairs = 0, sum = 0, rel[64], total = 0;

		for (size_t i = 0; i < e; i++)
			sum += (double)(c[i] = rng_below(&r, 1 + rng_below(&r, 100000)));
		c[0]++, sum++;
		metrics_balance(c, e, s, &b);
		near(b.cv * b.cv, (double)e / b.n2 - 1, 1e-8);
		for (size_t i = 0; i < e; i++)
			for (size_t j = 0; j < e; j++)
				pairs += fabs((double)c[i] - (double)c[j]);
		near(b.gini, pairs / (2 * (double)e * sum), 1e-10);
		metrics_rel_load(c, e, rel);
		for (size_t i = 0; i < e; i++)
			total += rel[i];
		near(total, (double)e, 1e-8);
		near(rel[b.top_expert], b.max_mean, 1e-10);
		assert_true(b.n2 <= b.n_eff + 1e-9 && b.n_eff <= (double)e + 1e-9);
	}
}

static void test_balance_without_data(void **state)
{
	uint64_t c[4] = { 0 }, one = 9, s[4];
	struct metrics_balance b;
	double rel[4];

	(void)state;
	metrics_balance(c, 4, s, &b);
	assert_true(isnan(b.max_mean) && isnan(b.max_vio) && isnan(b.cv) && isnan(b.gini) &&
		isnan(b.entropy_norm) && isnan(b.n_eff) && isnan(b.n2) && isnan(b.dead) &&
		isnan(b.cold));
	assert_int_equal(b.n_dead, 0);
	metrics_rel_load(c, 4, rel);
	assert_true(isnan(rel[0]));
	assert_true(isnan(metrics_top_share(s, 4, 1)));
	metrics_balance(&one, 1, s, &b); /* one expert: even, but an entropy cannot be normalised */
	near(b.max_mean, 1, 0);
	near(b.n_eff, 1, 0);
	assert_true(isnan(b.entropy_norm));
}

static void test_chance(void **state)
{
	double want = 1;

	(void)state;
	for (int i = 0; i < 100; i++)
		want *= 1 - 2 / 16.0;
	near(metrics_dead_chance(100, 16, 2), want, 1e-15);
	near(metrics_dead_chance(0, 16, 2), 1, 0);
	near(metrics_dead_chance(5, 8, 8), 0, 0);
	/* The bound lies above the exact binomial tail and is not absurdly loose. */
	for (unsigned least = 20; least <= 60; least += 10) {
		double exact = 0, bound = metrics_load_chance(least, 100, 16, 2, 1);

		for (unsigned x = least; x <= 100; x++)
			exact += exp(lgamma(101) - lgamma(x + 1) - lgamma(101 - x) + x * log(.125) +
				(100 - x) * log(.875));
		assert_true(bound >= fmin(1, 16 * exact) || bound == 1);
		assert_true(bound <= 16 * exact * 20 + 1e-300 || bound == 1);
	}
	near(metrics_load_chance(10, 100, 16, 2, 1), 1, 0);
	assert_true(metrics_load_chance(0, 1000, 16, 2, -1) < 1e-50);
	near(metrics_load_chance(0, 10, 16, 2, -1), 1, 0);
	near(metrics_load_chance(200, 0, 16, 2, 1), 1, 0);
}

static void test_balancedness(void **state)
{
	const double x[2][4] = { { 1, 1, 1, 1 }, { 0, 0, 0, 4 } };

	(void)state;
	near(metrics_balancedness_sglang(x[0], 2, 4), (1 + (1 + 1e-5) / (4 + 1e-5)) / 2, 1e-12);
	near(metrics_balancedness_pooled(x[0], 2, 4), 2 / 5.0, 1e-12);
	assert_true(isnan(metrics_balancedness_sglang(x[0], 0, 4)));
	assert_true(isnan(metrics_balancedness_pooled(x[0], 0, 4)));
}

/* ---- router ---- */

static void test_router_uniform(void **state)
{
	uint64_t c[8];
	double p[8];
	struct metrics_router_sums s = { .n_expert = 8, .counts = c, .probs = p, .lse2 = 100 * 9.0,
		.entropy = 100 * log(8), .confidence = 25, .margin = 3, .n_margin = 60 };
	struct metrics_router r;

	(void)state;
	for (int i = 0; i < 8; i++)
		c[i] = 25, p[i] = 12.5;
	metrics_router(&s, &r);
	near(r.scored, 100, 1e-9);
	near(r.aux_loss, 1, 1e-12);
	near(r.z_loss, 9, 1e-12);
	near(r.token_entropy, 1, 1e-12);
	near(r.mi_token, 0, 1e-12);
	near(r.confidence, .25, 1e-12);
	near(r.margin, .05, 1e-12);
}

/* Tokens drawn at random, every figure computed again token by token. */
static void test_router_from_tokens(void **state)
{
	enum { T = 300, E = 6, K = 2 };
	static double prob[T][E];
	uint64_t c[E] = { 0 };
	double sum[E] = { 0 }, lse2 = 0, ent = 0, conf = 0, aux = 0, mi = 0;
	struct metrics_router_sums s = { .n_expert = E, .counts = c, .probs = sum };
	struct metrics_router m;
	struct rng r;

	(void)state;
	rng_seed(&r, 3);
	for (int t = 0; t < T; t++) {
		double z[E], lse = 0;
		int a = 0, b = -1;

		for (int e = 0; e < E; e++)
			lse += exp(z[e] = 4 * rng_unit(&r) - 1 + (e == 2));
		for (int e = 0; e < E; e++)
			prob[t][e] = exp(z[e]) / lse, sum[e] += prob[t][e];
		for (int e = 1; e < E; e++)
			a = z[e] > z[a] ? e : a;
		for (int e = 0; e < E; e++)
			if (e != a && (b < 0 || z[e] > z[b]))
				b = e;
		c[a]++, c[b]++;
		lse2 += log(lse) * log(lse);
		conf += prob[t][a] + prob[t][b];
		for (int e = 0; e < E; e++)
			ent += prob[t][e] * log(1 / prob[t][e]);
	}
	s.lse2 = lse2, s.entropy = ent, s.confidence = conf;
	metrics_router(&s, &m);
	for (int e = 0; e < E; e++)
		aux += E * ((double)c[e] / (T * K)) * (sum[e] / T);
	for (int t = 0; t < T; t++) /* MI as the mean divergence from the mean, in bits */
		for (int e = 0; e < E; e++)
			mi += prob[t][e] / T * log2(prob[t][e] / (sum[e] / T));
	near(m.aux_loss, aux, 1e-10);
	near(m.mi_token, mi, 1e-10);
	near(m.z_loss, lse2 / T, 1e-10);
	near(m.confidence, conf / T, 1e-10);
	near(m.token_entropy, ent / T / log(E), 1e-10);
	assert_true(isnan(m.margin));
}

static void test_router_without_scores(void **state)
{
	uint64_t c[4] = { 1, 2, 3, 4 };
	double p[4] = { 0 }, bias[4] = { 0 };
	struct metrics_router_sums s = { .n_expert = 4, .counts = c, .probs = p };
	struct metrics_router r;

	(void)state;
	metrics_router(&s, &r);
	assert_true(isnan(r.aux_loss) && isnan(r.z_loss) && isnan(r.token_entropy) &&
		isnan(r.mi_token) && isnan(r.confidence) && isnan(r.margin));
	metrics_bias_step(c, 4, .5, bias); /* mean 2.5 */
	near(bias[0], .5, 0);
	near(bias[1], .5, 0);
	near(bias[2], -.5, 0);
	near(bias[3], -.5, 0);
}

/* ---- locality and co-activation ---- */

static void test_uniform_table(void **state)
{
	static const struct { size_t e; unsigned k; double first, any, overlap, jaccard, coact; }
	row[] = { { 8, 2, .1250, .464286, .2500, .17857, .1429 },
		{ 64, 8, .0156, .679069, .1250, .07054, .1111 },
		{ 128, 8, .0078, .412282, .0625, .03427, .0551 },
		{ 256, 8, .0039, .227087, .0312, .01690, .0275 } };
	struct metrics_locality_rates u;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		metrics_locality_uniform(row[i].e, row[i].k, &u);
		near(u.first, row[i].first, 5.1e-5);
		near(u.any, row[i].any, 5.1e-7);
		near(u.overlap, row[i].overlap, 5.1e-5);
		near(u.jaccard, row[i].jaccard, 5.1e-6);
		near(metrics_coact_uniform(row[i].e, row[i].k), row[i].coact, 5.1e-5);
	}
	metrics_locality_uniform(5, 5, &u); /* k = E: always the same set */
	near(u.any, 1, 1e-12);
	near(u.overlap, 1, 1e-12);
	near(u.jaccard, 1, 1e-12);
	near(u.first, .2, 1e-12);
	metrics_locality_uniform(5, 4, &u); /* three at least in common */
	near(u.any, 1, 1e-12);
	near(u.overlap, .8, 1e-12);
	metrics_locality_uniform(1, 1, &u);
	near(u.first, 1, 0);
	near(u.any, 1, 1e-12);
	assert_true(isnan(metrics_coact_uniform(1, 1)));
}

/* Every pair of 2-sets of 5 experts, in both rank orders: exact means, no sampling. */
static void test_locality_enumerated(void **state)
{
	struct metrics_locality s = { 0 };
	struct metrics_locality_rates got, want;
	uint16_t a[2], b[2];

	(void)state;
	for (a[0] = 0; a[0] < 5; a[0]++)
		for (a[1] = 0; a[1] < 5; a[1]++)
			for (b[0] = 0; a[0] != a[1] && b[0] < 5; b[0]++)
				for (b[1] = 0; b[1] < 5; b[1]++)
					if (b[0] != b[1])
						metrics_locality_add(&s, a, b, 2);
	assert_int_equal(s.pairs, 400);
	metrics_locality_rates(&s, &got);
	metrics_locality_uniform(5, 2, &want);
	near(got.first, want.first, 1e-12);
	near(got.any, want.any, 1e-12);
	near(got.overlap, want.overlap, 1e-12);
	near(got.jaccard, want.jaccard, 1e-12);
	memset(&s, 0, sizeof s);
	metrics_locality_rates(&s, &got);
	assert_true(isnan(got.first) && isnan(got.any) && isnan(got.overlap) && isnan(got.jaccard));
}

/* Many sets at once: the sums of one pair after another, for sets of one, two and many words. */
static void test_locality_run(void **state)
{
	static const struct { size_t e; unsigned k; } shape[] = { { 2, 1 }, { 5, 5 }, { 64, 8 },
		{ 65, 6 },
		{ 128, 8 }, { 129, 3 }, { 256, 8 }, { 1024, 16 } };
	uint16_t set[50 * 16];
	uint32_t x = 12345;

	(void)state;
	for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
		struct metrics_locality one = { 0 }, many = { 0 };
		unsigned k = shape[i].k;

		for (size_t t = 0; t < 50; t++)
			for (unsigned j = 0; j < k;) {
				unsigned seen = 0;

				x = x * 1664525 + 1013904223;
				set[t * k + j] = (uint16_t)((x >> 16) %
					(t % 3 ? shape[i].e : k + k / 2 < shape[i].e ?
					k + k / 2 : shape[i].e)); /* some sets from few experts, so that they meet */
				for (unsigned h = 0; h < j; h++)
					seen |= set[t * k + h] == set[t * k + j];
				j += !seen;
			}
		for (size_t t = 1; t < 50; t++)
			metrics_locality_add(&one, set + (t - 1) * k, set + t * k, k);
		metrics_locality_run(&many, NULL, set, 20, shape[i].e, k);
		metrics_locality_run(&many, set + 19 * k, set + 20 * k, 30, shape[i].e, k);
		assert_int_equal(many.pairs, 49);
		assert_int_equal(many.first, one.first);
		assert_int_equal(many.any, one.any);
		near(many.overlap, one.overlap, 1e-12 * 49);
		near(many.jaccard, one.jaccard, 1e-12 * 49);
	}
}

static void test_overlap(void **state)
{
	const uint16_t a[4] = { 0, 63, 64, 1023 }, b[4] = { 1023, 5, 0, 65 }, c[4] = { 5, 5, 5, 5 };

	(void)state;
	assert_int_equal(metrics_overlap(a, b, 4), 2);
	assert_int_equal(metrics_overlap(a, a, 4), 4);
	assert_int_equal(metrics_overlap(b, c, 4), 1);
	assert_int_equal(metrics_overlap(a, c, 4), 0);
}

static void test_coactivation(void **state)
{
	const uint16_t set[4] = { 3, 1, 0, 4 };
	uint64_t all[25] = { 0 }, adj[25] = { 0 }, n = 0, m = 0;

	(void)state;
	metrics_coact_add(all, 5, set, 4);
	metrics_coact_add_adjacent(adj, 5, set, 4);
	for (int i = 0; i < 5; i++)
		for (int j = 0; j < 5; j++) {
			assert_int_equal(all[i * 5 + j], all[j * 5 + i]);
			assert_int_equal(all[i * 5 + j], i != j && i != 2 && j != 2);
			n += all[i * 5 + j];
			m += adj[i * 5 + j];
		}
	assert_int_equal(n, 12);
	assert_int_equal(m, 6); /* k/2 = 2 times fewer */
	assert_int_equal(adj[3 * 5 + 1], 1);
	assert_int_equal(adj[0 * 5 + 1], 1);
	assert_int_equal(adj[3 * 5 + 0], 0);
}

/* Both counts in one cell are those of the plain definitions, whatever the sets. */
static void test_coactivation_both(void **state)
{
	const uint16_t set[4][4] = { { 3, 1, 0, 4 }, { 1, 3, 2, 0 }, { 4, 3, 2, 1 }, { 3, 1, 4, 0 } };
	uint64_t both[25] = { 0 }, low[25], high[25], all[25] = { 0 }, adj[25] = { 0 };

	(void)state;
	for (int t = 0; t < 4; t++) {
		metrics_coact_add_both(both, 5, set[t], 4);
		metrics_coact_add(all, 5, set[t], 4);
		metrics_coact_add_adjacent(adj, 5, set[t], 4);
	}
	for (int i = 0; i < 25; i++)
		low[i] = (uint32_t)both[i], high[i] = both[i] >> 32;
	metrics_coact_mirror(low, 5);
	metrics_coact_mirror(high, 5);
	assert_memory_equal(low, all, sizeof all);
	assert_memory_equal(high, adj, sizeof adj);
	assert_int_equal(low[3 * 5 + 1], 4);  /* every set has 1 and 3 */
	assert_int_equal(high[3 * 5 + 1], 3); /* in the third, 2 is between them */
	memset(both, 0, sizeof both);
	metrics_coact_add_both(both, 5, set[0], 1);
	for (int i = 0; i < 25; i++)
		assert_int_equal(both[i], 0);
}

/* ---- capacity ---- */

static void test_capacity(void **state)
{
	const uint64_t even[4] = { 8, 8, 8, 8 }, skew[4] = { 20, 4, 4, 4 }, none[4] = { 0 };

	(void)state;
	assert_int_equal(metrics_capacity(16, 4, 2, 1.25), 10);
	assert_int_equal(metrics_capacity(17, 4, 2, 1.25), 11); /* 10.625 */
	assert_int_equal(metrics_capacity(10, 1, 1, 1.1), 11); /* 11.000000000000002 in binary */
	assert_int_equal(metrics_capacity(0, 4, 2, 1.25), 0);
	near(metrics_dropped(even, 4, 16, 2, 1), 0, 0);
	near(metrics_dropped(skew, 4, 16, 2, 1), 12 / 32.0, 1e-12);
	near(metrics_dropped(skew, 4, 16, 2, 1.25), 10 / 32.0, 1e-12);
	/* C = 160 of 1024 picks: KL = .15625 ln 1.25 + .84375 ln (.84375/.875) = .004180980, q =
	 * .01382435; KL(.5 || q) = .5 ln(.5/q) + .5 ln(.5/(1-q)) = 1.4544750 */
	near(metrics_late_chance(.5, 1, 512, 8, 2, 1.25), exp(-1.4544750), 1e-7);
	near(metrics_late_chance(.5, 4, 512, 8, 2, 1.25), exp(-4 * 1.4544750), 1e-9);
	near(metrics_late_chance(.0138, 1000, 512, 8, 2, 1.25), 1, 0); /* chance alone may do that */
	/* factor 1: half of the experts are full */
	near(metrics_late_chance(.5, 10, 512, 8, 2, 1), 1, 0);
	/* room for more picks than there are */
	near(metrics_late_chance(.1, 10, 512, 2, 2, 2.5), 0, 0);
	near(metrics_late_chance(.5, 10, 512, 1, 1, 1.25), 1, 0);
	assert_true(isnan(metrics_dropped(none, 4, 0, 2, 1.25)));
}

/* ---- domains ---- */

static void test_mi_closed_forms(void **state)
{
	const double same[2][4] = { { 1, 2, 3, 4 }, { 10, 20, 30, 40 } };
	const double apart[2][4] = { { 5, 5, 0, 0 }, { 0, 0, 5, 5 } };
	const double uneven[2][2] = { { 3, 0 }, { 0, 1 } };
	const double empty[4] = { 0 };

	(void)state;
	near(metrics_mi(same[0], 2, 4), 0, 1e-12);
	near(metrics_mi(apart[0], 2, 4), 1, 1e-12);
	near(metrics_domain_entropy(apart[0], 2, 4), 1, 1e-12);
	near(metrics_mi(uneven[0], 2, 2), 2 - .75 * log2(3), 1e-12); /* = H(1/4) */
	near(metrics_domain_entropy(uneven[0], 2, 2), 2 - .75 * log2(3), 1e-12);
	assert_true(isnan(metrics_mi(empty, 2, 2)));
	near(metrics_jsd(same[0], same[1], 4), 0, 1e-12);
	near(metrics_jsd(apart[0], apart[1], 4), 1, 1e-12);
	near(metrics_jsd_norm(apart[0], apart[1], 4), 1, 1e-12); /* two bits less one */
	assert_true(isnan(metrics_jsd(empty, same[0], 4)));
	near(metrics_npmi(uneven[0], 2, 2, 1, 1), 1, 1e-12);
	near(metrics_npmi(same[0], 2, 4, 0, 1), 0, 1e-12);
	near(metrics_npmi(apart[0], 2, 4, 0, 3), -1, 0);
	assert_true(isnan(metrics_npmi(empty, 2, 2, 0, 1)));
	near(metrics_mi_bias(8, 16, 1000), 105 / (2000 * log(2)), 1e-12);
	assert_true(isnan(metrics_mi_bias(8, 16, 0)));
}

/* MI and JSD as sums of p log(p/q), on random tables. */
static void test_mi_by_definition(void **state)
{
	enum { D = 3, E = 7 };
	double t[D][E], n, pd[D], pe[E], mi, js;
	struct rng r;

	(void)state;
	rng_seed(&r, 11);
	for (int round = 0; round < 50; round++) {
		n = mi = js = 0;
		memset(pd, 0, sizeof pd);
		memset(pe, 0, sizeof pe);
		for (int d = 0; d < D; d++)
			for (int e = 0; e < E; e++) {
				t[d][e] = (double)rng_below(&r, 50) + (d == e);
				n += t[d][e], pd[d] += t[d][e], pe[e] += t[d][e];
			}
		for (int d = 0; d < D; d++)
			for (int e = 0; e < E; e++)
				if (t[d][e] > 0)
					mi += t[d][e] / n * log2(t[d][e] * n / (pd[d] * pe[e]));
		near(metrics_mi(t[0], D, E), mi, 1e-10);
		for (int e = 0; e < E; e++) {
			double p = t[0][e] / pd[0], q = t[1][e] / pd[1];

			js += p > 0 ? p / 2 * log2(2 * p / (p + q)) : 0;
			js += q > 0 ? q / 2 * log2(2 * q / (p + q)) : 0;
		}
		near(metrics_jsd(t[0], t[1], E), js, 1e-10);
	}
}

/* Independent picks of an unspecialised model: mean MI is the Miller-Madow bias. */
static void test_miller_madow_is_the_mean(void **state)
{
	enum { D = 4, E = 16, N = 4000, ROUNDS = 200 };
	double mean = 0;
	struct rng r;

	(void)state;
	rng_seed(&r, 5);
	for (int round = 0; round < ROUNDS; round++) {
		double t[D * E] = { 0 };

		for (int i = 0; i < N; i++)
			t[rng_below(&r, D) * E + rng_below(&r, E)]++;
		mean += metrics_mi(t, D, E) / ROUNDS;
	}
	near(mean / metrics_mi_bias(D, E, N), 1, .05);
}

static void test_risk_difference(void **state)
{
	struct metrics_interval d = metrics_risk_difference(30, 100, 10, 100);

	(void)state;
	near(d.value, .2, 1e-12);
	near(d.hi - d.value, 1.959964 * sqrt(.21 / 100 + .09 / 100), 1e-6);
	near(d.value - d.lo, d.hi - d.value, 1e-12);
	assert_true(isnan(metrics_risk_difference(1, 0, 1, 5).value));
}

static void test_quantile(void **state)
{
	const double x[5] = { 1, 2, 4, 8, 16 };

	(void)state;
	near(metrics_quantile(x, 5, 0), 1, 0);
	near(metrics_quantile(x, 5, .5), 4, 0);
	near(metrics_quantile(x, 5, .625), 6, 1e-12);
	near(metrics_quantile(x, 5, 1), 16, 0);
	near(metrics_quantile(x, 1, .95), 1, 0);
	assert_true(isnan(metrics_quantile(x, 0, .5)));
}

static void test_resampling(void **state)
{
	uint32_t label[7] = { 0, 1, 0, 2, 1, 0, 0 }, w[7], again[7], perm[7];
	const uint32_t docs[7][2] = { { 1, 0 }, { 2, 0 }, { 3, 1 }, { 4, 0 }, { 5, 0 }, { 6, 0 },
		{ 7, 2 } };
	size_t start[4], order[7], moved = 0;
	double t[3][2];
	struct rng r;

	(void)state;
	metrics_group(label, 7, 3, start, order);
	assert_int_equal(start[1], 4);
	assert_int_equal(start[3], 7);
	for (uint64_t seed = 0; seed < 50; seed++) {
		uint32_t per[3] = { 0 }, n[3] = { 0 };

		rng_seed(&r, seed);
		metrics_draw(&r, start, order, 3, w, 7);
		for (int i = 0; i < 7; i++)
			per[label[i]] += w[i];
		assert_int_equal(per[0], 4);
		assert_int_equal(per[1], 2);
		assert_int_equal(per[2], 1);
		rng_seed(&r, seed);
		metrics_draw(&r, start, order, 3, again, 7);
		assert_memory_equal(w, again, sizeof w);
		memcpy(perm, label, sizeof perm);
		metrics_shuffle(&r, perm, 7);
		for (int i = 0; i < 7; i++)
			n[perm[i]]++, moved += perm[i] != label[i];
		assert_int_equal(n[0], 4);
		assert_int_equal(n[1], 2);
	}
	/* A shuffle keeps a label in place with probability (16 + 4 + 1)/49. */
	near((double)moved / 350, 28 / 49.0, .08);
	metrics_tabulate(docs[0], 7, 2, label, NULL, 3, t[0]);
	near(t[0][0], 17, 0);
	near(t[0][1], 3, 0);
	near(t[1][0], 7, 0);
	memset(w, 0, sizeof w);
	w[6] = 3;
	metrics_tabulate(docs[0], 7, 2, label, w, 3, t[0]);
	near(t[0][0], 21, 0);
	near(t[0][1], 6, 0);
	near(t[1][0], 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uniform_is_perfect),
		cmocka_unit_test(test_one_takes_all),
		cmocka_unit_test(test_balance_by_hand),
		cmocka_unit_test(test_identities_on_random_counts),
		cmocka_unit_test(test_balance_without_data),
		cmocka_unit_test(test_chance),
		cmocka_unit_test(test_balancedness),
		cmocka_unit_test(test_router_uniform),
		cmocka_unit_test(test_router_from_tokens),
		cmocka_unit_test(test_router_without_scores),
		cmocka_unit_test(test_uniform_table),
		cmocka_unit_test(test_locality_enumerated),
		cmocka_unit_test(test_locality_run),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_coactivation),
		cmocka_unit_test(test_coactivation_both),
		cmocka_unit_test(test_capacity),
		cmocka_unit_test(test_mi_closed_forms),
		cmocka_unit_test(test_mi_by_definition),
		cmocka_unit_test(test_miller_madow_is_the_mean),
		cmocka_unit_test(test_risk_difference),
		cmocka_unit_test(test_quantile),
		cmocka_unit_test(test_resampling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
