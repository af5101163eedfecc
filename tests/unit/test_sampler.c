/*
 * test_sampler.c - from logits to tokens: each stage alone and all together.
 *
 * What should come out is computed here, in double precision and by another route (rank every
 * token, keep or drop it, normalise), and compared with 40,000 draws by Pearson's chi-square at
 * p = 0.0001; seeds are fixed, so a test that passes once passes always.
 */
#include "test_util.h"

#include <math.h>

#include "model/sampler.h"

#define MAX_VOCAB 300
#define DRAWS 40000

static struct sampler *new_sampler(const struct sampler_opt *o, uint32_t n)
{
	struct moe_err e = { 0 };
	struct sampler *s = sampler_new(o, n, &e);

	ok_or_fail(s != NULL, &e);
	return s;
}

/* ---- the expectation ---- */

struct expected { double p[MAX_VOCAB]; };

/* seen[i]: does the penalty apply to token i. */
static struct expected expect(const struct sampler_opt *o, const float *logits, size_t n,
	const unsigned char *seen)
{
	struct expected x = { { 0 } };
	double v[MAX_VOCAB], q[MAX_VOCAB], sum = 0, best = 0;
	size_t rank[MAX_VOCAB], k = o->top_k && o->top_k < n ? o->top_k : n;

	for (size_t i = 0; i < n; i++) {
		v[i] = logits[i];
		if (seen && seen[i])
			v[i] = v[i] > 0 ? v[i] / o->repeat_penalty : v[i] * o->repeat_penalty;
	}
	for (size_t i = 0; i < n; i++) { /* how many come before it */
		rank[i] = 0;
		for (size_t j = 0; j < n; j++)
			rank[i] += v[j] > v[i] || (v[j] == v[i] && j < i);
	}
	for (size_t i = 0; i < n; i++) {
		q[i] = rank[i] < k ? exp(v[i] / o->temperature) : 0;
		sum += q[i];
		best = q[i] > best ? q[i] : best;
	}
	for (size_t i = 0; i < n; i++) {
		double before = 0; /* probability of those that come before it */

		for (size_t j = 0; j < n; j++)
			before += rank[j] < rank[i] ? q[j] / sum : 0;
		x.p[i] = q[i] > 0 && (o->top_p >= 1 || before < o->top_p) &&
			q[i] >= o->min_p * best ? q[i] : 0;
	}
	sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += x.p[i];
	for (size_t i = 0; i < n; i++)
		x.p[i] /= sum;
	return x;
}

/* Value that chi-square with df degrees exceeds with p = 0.0001 (Wilson and Hilferty). */
static double critical(double df)
{
	double t = 1 - 2 / (9 * df) + 3.719 * sqrt(2 / (9 * df));

	return df * t * t * t;
}

static void check_draws(const struct sampler_opt *o, const float *logits, size_t n,
	const int32_t *history, size_t n_history)
{
	unsigned char seen[MAX_VOCAB] = { 0 };
	unsigned count[MAX_VOCAB] = { 0 };
	struct sampler *s = new_sampler(o, (uint32_t)n);
	struct expected x;
	double chi = 0, df = -1, rest = 0;
	unsigned rest_count = 0;

	for (size_t i = 0; i < n_history; i++) {
		sampler_seen(s, history[i]);
		if (n_history - i <= o->repeat_last)
			seen[history[i]] = 1;
	}
	x = expect(o, logits, n, seen);
	for (int i = 0; i < DRAWS; i++) {
		int32_t id = sampler_next(s, logits);

		assert_in_range(id, 0, n - 1);
		count[id]++;
	}
	sampler_free(s);
	for (size_t i = 0; i < n; i++) {
		double want = x.p[i] * DRAWS;

		if (x.p[i] == 0 && count[i])
			fail_msg("token %zu came %u times, it is cut off", i, count[i]);
		if (want < 5) { /* too few for the statistic: one cell together */
			rest += want;
			rest_count += count[i];
			continue;
		}
		chi += (count[i] - want) * (count[i] - want) / want;
		df++;
	}
	if (rest >= 5) {
		chi += (rest_count - rest) * (rest_count - rest) / rest;
		df++;
	}
	if (df > 0 && chi > critical(df))
		fail_msg("chi-square %.1f on %.0f degrees: above %.1f", chi, df, critical(df));
}

/* ---- cases ---- */

static const float ten[10] = { 1.0f, 2.5f, -1.0f, 0.0f, 2.0f, -3.0f, 1.5f, 0.5f, -0.5f, 2.25f };
static const struct sampler_opt open_all = { .temperature = 1, .top_p = 1, .repeat_penalty = 1,
	.seed = 42 };

static void test_greedy_takes_the_best_and_the_lowest_of_equals(void **state)
{
	static const float tie[5] = { 1, 3, 2, 3, 3 }, same[4] = { 0, 0, 0, 0 },
		low[3] = { -9, -8, -8 };
	struct sampler_opt o = open_all;
	struct sampler *s;

	(void)state;
	o.temperature = 0;
	s = new_sampler(&o, 10);
	assert_int_equal(sampler_next(s, ten), 1);
	sampler_free(s);
	s = new_sampler(&o, 5);
	assert_int_equal(sampler_next(s, tie), 1);
	sampler_free(s);
	s = new_sampler(&o, 4);
	assert_int_equal(sampler_next(s, same), 0);
	sampler_free(s);
	s = new_sampler(&o, 3);
	assert_int_equal(sampler_next(s, low), 1);
	sampler_free(s);
	o.temperature = 1e-300; /* 0 in single precision: as near to greedy as can be */
	s = new_sampler(&o, 10);
	for (int i = 0; i < 100; i++)
		assert_int_equal(sampler_next(s, ten), 1);
	sampler_free(s);
	o.temperature = 1e-30;
	s = new_sampler(&o, 10);
	for (int i = 0; i < 100; i++)
		assert_int_equal(sampler_next(s, ten), 1);
	sampler_free(s);
	sampler_free(NULL);
}

static void test_temperature_flattens_and_sharpens(void **state)
{
	static const double t[] = { 0.1, 0.5, 0.7, 1, 2, 100 };
	struct sampler_opt o = open_all;

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		o.temperature = t[i];
		check_draws(&o, ten, 10, NULL, 0);
	}
}

static void test_top_k_keeps_k_and_the_lower_of_equals(void **state)
{
	static const float tie[6] = { 1, 2, 1, 1, 0, 1 };
	struct sampler_opt o = open_all;

	(void)state;
	for (o.top_k = 0; o.top_k <= 12; o.top_k++)
		check_draws(&o, ten, 10, NULL, 0);
	for (o.top_k = 1; o.top_k <= 6; o.top_k++)
		check_draws(&o, tie, 6, NULL, 0);
}

static void test_top_p_keeps_the_fewest_that_reach_it(void **state)
{
	static const double p[] = { 0, 0.01, 0.3, 0.5, 0.77, 0.9, 0.99, 1 };
	struct sampler_opt o = open_all;

	(void)state;
	for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
		o.top_p = p[i];
		check_draws(&o, ten, 10, NULL, 0);
		o.temperature = 0.6; /* the sum is taken at the temperature */
		check_draws(&o, ten, 10, NULL, 0);
		o.temperature = 1;
	}
}

static void test_min_p_drops_what_is_far_below_the_best(void **state)
{
	static const double p[] = { 0, 0.003, 0.05, 0.3, 0.6, 0.79, 1 };
	struct sampler_opt o = open_all;

	(void)state;
	for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
		o.min_p = p[i];
		check_draws(&o, ten, 10, NULL, 0);
	}
}

static void test_penalty_weakens_recent_tokens(void **state)
{
	static const int32_t history[] = { 5, 1, 9, 1, 2, 2, 4 };
	struct sampler_opt o = open_all;

	(void)state;
	o.repeat_penalty = 1.7;
	for (o.repeat_last = 0; o.repeat_last <= 8; o.repeat_last++)
		check_draws(&o, ten, 10, history, 7);
	o.repeat_penalty = 0.5; /* below 1 it encourages */
	check_draws(&o, ten, 10, history, 7);
	o.repeat_last = 1000000; /* more than is kept: no harm */
	check_draws(&o, ten, 10, history, 7);
}

static void test_penalty_ignores_ids_that_do_not_exist(void **state)
{
	struct sampler_opt o = open_all;
	struct sampler *s;

	(void)state;
	o.temperature = 0;
	o.repeat_penalty = 10;
	o.repeat_last = 4;
	s = new_sampler(&o, 10);
	sampler_seen(s, -1);
	sampler_seen(s, 10);
	sampler_seen(s, INT32_MAX);
	assert_int_equal(sampler_next(s, ten), 1);
	sampler_seen(s, 1);
	assert_int_equal(sampler_next(s, ten), 9);
	sampler_free(s);
}

static void test_all_stages_together(void **state)
{
	float many[MAX_VOCAB];
	int32_t history[40];
	struct sampler_opt o = { 0.8, 40, 0.95, 0.05, 1.1, 64, 7 };
	unsigned x = 1;

	(void)state;
	for (size_t i = 0; i < MAX_VOCAB; i++) {
		x = x * 1103515245u + 12345u;
		many[i] = (float)(x >> 16 & 0x7fff) / 5000 - 3;
	}
	for (size_t i = 0; i < 40; i++)
		history[i] = (int32_t)(i * 7);
	check_draws(&o, many, MAX_VOCAB, history, 40);
	o.top_k = 0;
	check_draws(&o, many, MAX_VOCAB, history, 40);
	o.temperature = 1.5;
	o.min_p = 0;
	check_draws(&o, many, MAX_VOCAB, history, 40);
}

static void test_a_seed_fixes_the_draws(void **state)
{
	struct sampler_opt o = open_all;
	struct sampler *a = new_sampler(&o, 10), *b = new_sampler(&o, 10), *c;
	int differ = 0;

	(void)state;
	o.seed++;
	c = new_sampler(&o, 10);
	for (int i = 0; i < 1000; i++) {
		int32_t id = sampler_next(a, ten);

		assert_int_equal(sampler_next(b, ten), id);
		differ += sampler_next(c, ten) != id;
	}
	assert_true(differ > 500);
	sampler_free(a);
	sampler_free(b);
	sampler_free(c);
}

/* NaN and infinities: never a crash, never an id outside, never the worst choice. */
static void test_what_is_no_number(void **state)
{
	float x[10], none[10], inf[10], low[10];
	struct sampler_opt all[] = { open_all, { 0, 0, 1, 0, 1, 0, 1 },
		{ 0.8, 4, 0.9, 0.05, 1.2, 8, 1 } };

	(void)state;
	for (int i = 0; i < 10; i++) {
		x[i] = i % 2 ? NAN : ten[i];
		none[i] = i % 3 ? NAN : -NAN;
		inf[i] = i == 3 || i == 7 ? INFINITY : ten[i];
		low[i] = i == 6 ? 0 : -INFINITY;
	}
	for (size_t v = 0; v < 3; v++) {
		struct sampler *s = new_sampler(&all[v], 10);

		for (int i = 0; i < 500; i++) {
			int32_t id = sampler_next(s, x);

			assert_true(id >= 0 && id < 10 && id % 2 == 0);
			assert_int_equal(sampler_next(s, none), 0);
			assert_int_equal(sampler_next(s, inf), 3);
			assert_int_equal(sampler_next(s, low), 6);
		}
		sampler_free(s);
	}
}

static void test_a_vocabulary_of_one(void **state)
{
	struct sampler_opt o;
	struct sampler *s;
	float one = -5;

	(void)state;
	sampler_defaults(&o);
	s = new_sampler(&o, 1);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(sampler_next(s, &one), 0);
		sampler_seen(s, 0);
	}
	sampler_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greedy_takes_the_best_and_the_lowest_of_equals),
		cmocka_unit_test(test_temperature_flattens_and_sharpens),
		cmocka_unit_test(test_top_k_keeps_k_and_the_lower_of_equals),
		cmocka_unit_test(test_top_p_keeps_the_fewest_that_reach_it),
		cmocka_unit_test(test_min_p_drops_what_is_far_below_the_best),
		cmocka_unit_test(test_penalty_weakens_recent_tokens),
		cmocka_unit_test(test_penalty_ignores_ids_that_do_not_exist),
		cmocka_unit_test(test_all_stages_together),
		cmocka_unit_test(test_a_seed_fixes_the_draws),
		cmocka_unit_test(test_what_is_no_number),
		cmocka_unit_test(test_a_vocabulary_of_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
