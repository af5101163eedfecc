/* test_scores.c - what load keeps of the softmax, against the definitions; the same bits however
 * it is taken. */
#include "test_util.h"

#include <math.h>

#include "base/rng.h"
#include "trace/scores.h"

#define N 29 /* three whole tiles and a part of one */

static struct rng rng;
static float logits[N * MOE_MAX_EXPERT];
static uint16_t pick[N * 8];
static uint8_t flags[N];

/* Random decisions; some experts barred, some decisions not to be counted: a NaN, flagged or
 * not, all barred. */
static void make(size_t n_expert, size_t k)
{
	for (size_t t = 0; t < N; t++) {
		float *row = logits + t * n_expert;

		flags[t] = t % 7 == 3 ? MOE_EV_NAN : t % 5 == 1 ? MOE_EV_EDITED : 0;
		for (size_t i = 0; i < n_expert; i++)
			row[i] = t % 11 == 4 || rng_below(&rng,
				9) == 0 ? -INFINITY : (float)(40 * rng_unit(&rng) - 30);
		if (t % 13 == 6)
			row[rng_below(&rng, (uint32_t)n_expert)] = NAN;
		if (t % 4 == 2) /* far apart */
			row[rng_below(&rng, (uint32_t)n_expert)] = 500;
		for (size_t j = 0; j < k; j++)
			pick[t * k + j] = (uint16_t)rng_below(&rng, (uint32_t)n_expert);
	}
}

/* As METRICS.md says it. */
static void by_definition(size_t n_expert, size_t k, double *probs, struct scores *s)
{
	for (size_t t = 0; t < N; t++) {
		const float *row = logits + t * n_expert;
		double max = -INFINITY, z = 0;

		for (size_t i = 0; i < n_expert; i++)
			max = fmax(max, row[i]);
		for (size_t i = 0; i < n_expert; i++)
			z += exp(row[i] - max);
		if (flags[t] & MOE_EV_NAN || !isfinite(max) || isnan(z))
			continue;
		s->lse2 += (max + log(z)) * (max + log(z));
		for (size_t i = 0; i < n_expert; i++) {
			double p = exp(row[i] - max) / z;

			probs[i] += p;
			s->entropy -= p > 0 ? p * log(p) : 0;
			for (size_t j = 0; j < k; j++)
				s->confidence += pick[t * k + j] == i ? p : 0;
		}
	}
}

static void near(const char *what, size_t n_expert, double got, double want)
{
	if (!(fabs(got - want) <= 1e-6 * (1 + fabs(want))))
		fail_msg("%zu experts: %s is %.9g, not %.9g", n_expert, what, got, want);
}

static void test_scores(void **state)
{
	static const size_t experts[] = { 1, 2, 7, 8, 9, 16, 60, 64, 129, MOE_MAX_EXPERT };

	(void)state;
	rng_seed(&rng, 3);
	for (size_t x = 0; x < 10 * sizeof experts / sizeof *experts; x++) {
		size_t n = experts[x / 10], k = n < 8 ? 1 : 8;
		double probs[3][MOE_MAX_EXPERT] = { { 0 } };
		struct scores s[3] = { { 0, 0, 0 } };

		make(n, k);
		by_definition(n, k, probs[0], &s[0]);
		scores_pick(0)(logits, N, n, pick, k, flags, probs[1], &s[1]);
		scores_pick(1)(logits, N, n, pick, k, flags, probs[2], &s[2]);
		near("lse2", n, s[1].lse2, s[0].lse2);
		near("entropy", n, s[1].entropy, s[0].entropy);
		near("confidence", n, s[1].confidence, s[0].confidence);
		for (size_t i = 0; i < n; i++)
			near("a probability", n, probs[1][i], probs[0][i]);
		assert_memory_equal(&s[1], &s[2], sizeof s[1]);
		assert_memory_equal(probs[1], probs[2], sizeof probs[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_scores) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
