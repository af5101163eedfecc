/*
 * test_route.c - the router against tests/data/router.txt (an independent NumPy computation in
 * double precision, format in tests/ref/router.py) and its refusals.
 */
#include "test_util.h"

#include <math.h>

#include <moescope/event.h>
#include <moescope/route.h>

struct rcase {
	struct moe_route_spec s;
	int has_bias, n;
	float bias[MOE_MAX_EXPERT], logits[MOE_MAX_EXPERT];
	int experts[MOE_MAX_EXPERT];
	float weights[MOE_MAX_EXPERT], margin;
};

static void word(FILE *f, const char *want)
{
	char got[32];

	assert_int_equal(fscanf(f, "%31s", got), 1);
	assert_string_equal(got, want);
}

static void floats(FILE *f, float *out, int n)
{
	char tok[64];

	for (int i = 0; i < n; i++) {
		assert_int_equal(fscanf(f, "%63s", tok), 1);
		out[i] = strtof(tok, NULL);
	}
}

static int index_of(const char *w, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(w, names[i]))
			return i;
	fail_msg("unknown word %s", w);
	return -1;
}

static void read_case(FILE *f, struct rcase *c)
{
	static const char *const scores[] = { "softmax", "sigmoid", "sqrtsoftplus", "none" };
	static const char *const weights[] = { "raw", "renorm", "softmax", "sigmoid" };
	char score[32], weight[32], scale[32];
	unsigned groups, used, experts, k;

	word(f, "case");
	assert_int_equal(fscanf(f, "%31s %d %31s %u %u %31s %u %u %d", score, &c->has_bias, weight, &groups,
		&used, scale, &experts, &k, &c->n), 9);
	memset(&c->s, 0, sizeof c->s);
	c->s.score = (enum moe_score)index_of(score, scores, 4);
	c->s.weight = (enum moe_weight)index_of(weight, weights, 4);
	c->s.scale = strtof(scale, NULL);
	c->s.n_group = (uint16_t)groups;
	c->s.n_group_used = (uint16_t)used;
	c->s.n_expert = (uint16_t)experts;
	c->s.k = (uint16_t)k;
	if (c->has_bias) {
		word(f, "bias");
		floats(f, c->bias, c->s.n_expert);
	}
}

static void check_token(FILE *f, struct rcase *c)
{
	uint16_t experts[MOE_MAX_EXPERT];
	float weights[MOE_MAX_EXPERT], scratch[2 * MOE_MAX_EXPERT];
	struct moe_choice got = { experts, weights, 0, 0 };

	word(f, "logits");
	floats(f, c->logits, c->s.n_expert);
	word(f, "experts");
	for (int i = 0; i < c->s.k; i++)
		assert_int_equal(fscanf(f, "%d", &c->experts[i]), 1);
	word(f, "weights");
	floats(f, c->weights, c->s.k);
	word(f, "margin");
	floats(f, &c->margin, 1);

	moe_route(&c->s, c->logits, c->has_bias ? c->bias : NULL, scratch, &got);
	assert_int_equal(got.flags, 0);
	if (isinf(c->margin))
		assert_true(isinf(got.margin));
	else
		assert_true(fabsf(got.margin - c->margin) <= 1e-5f * (1 + fabsf(c->margin)));
	for (int i = 0; i < c->s.k; i++) {
		assert_int_equal(got.experts[i], c->experts[i]);
		assert_true(fabsf(got.weights[i] - c->weights[i]) <= 2e-6f * (1 + fabsf(c->weights[i])));
	}
}

static void vectors(void **state)
{
	FILE *f = fopen("tests/data/router.txt", "r");
	struct rcase *c = malloc(sizeof *c);
	int cases, tokens = 0;

	(void)state;
	assert_non_null(f);
	assert_non_null(c);
	word(f, "router");
	assert_int_equal(fscanf(f, "%d", &cases), 1);
	for (int i = 0; i < cases; i++) {
		read_case(f, c);
		for (int t = 0; t < c->n; t++, tokens++)
			check_token(f, c);
	}
	assert_true(cases > 50 && tokens > 100);
	free(c);
	fclose(f);
}

static void nan_is_an_event(void **state)
{
	struct moe_route_spec s = { .n_expert = 4, .k = 2 };
	float logits[4] = { 1, NAN, 3, 2 }, scratch[8], weights[2];
	uint16_t experts[2];
	struct moe_choice c = { experts, weights, 1, 0 };

	(void)state;
	moe_route(&s, logits, NULL, scratch, &c);
	assert_int_equal(c.flags, MOE_EV_NAN);
	assert_int_equal(experts[0], 0);
	assert_int_equal(experts[1], 1);
	assert_true(weights[0] == 0 && weights[1] == 0 && c.margin == 0);
}

static void all_selected_has_infinite_margin(void **state)
{
	struct moe_route_spec s = { .n_expert = 3, .k = 3 };
	float logits[3] = { 1, 5, 3 }, scratch[6], weights[3];
	uint16_t experts[3];
	struct moe_choice c = { experts, weights, 0, 0 };

	(void)state;
	moe_route(&s, logits, NULL, scratch, &c);
	assert_true(isinf(c.margin));
	assert_int_equal(experts[0], 1);
	assert_int_equal(experts[1], 2);
	assert_int_equal(experts[2], 0);
}

static void impossible_specifications(void **state)
{
	static const struct moe_route_spec bad[] = {
		{ .n_expert = 0, .k = 1 }, { .n_expert = 1025, .k = 1 }, { .n_expert = 8, .k = 0 },
		{ .n_expert = 8, .k = 9 }, { .n_expert = 8, .k = 2, .n_group = 3, .n_group_used = 1 },
		{ .n_expert = 8, .k = 2, .n_group = 4, .n_group_used = 0 },
		{ .n_expert = 8, .k = 2, .n_group = 4, .n_group_used = 5 },
		{ .n_expert = 8, .k = 5, .n_group = 4, .n_group_used = 2 },
		{ .n_expert = 8, .k = 2, .scale = -1 }, { .n_expert = 8, .k = 2, .scale = NAN },
	};
	struct moe_err e;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		e.msg[0] = 0;
		assert_int_equal(moe_route_check(&bad[i], &e), -1);
		assert_true(strlen(e.msg) > 10);
	}
}

static void presets_are_named(void **state)
{
	struct moe_route_spec s = { .n_expert = 256, .k = 8, .n_group = 8, .n_group_used = 4 };
	struct moe_err e;
	char text[160];

	(void)state;
	for (size_t i = 0; moe_route_preset_name(i); i++) {
		assert_int_equal(moe_route_preset(moe_route_preset_name(i), &s, &e), 0);
		assert_int_equal(moe_route_check(&s, &e), 0);
	}
	assert_int_equal(moe_route_preset("deepseek-v3", &s, &e), 0);
	moe_route_describe(&s, text, sizeof text);
	assert_string_equal(text, "sigmoid > best 4 of 8 groups > top-8 of 256 > renormalised x 2.5");
	assert_int_equal(moe_route_preset("nonsense", &s, &e), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors),
		cmocka_unit_test(nan_is_an_event),
		cmocka_unit_test(all_selected_has_infinite_margin),
		cmocka_unit_test(impossible_specifications),
		cmocka_unit_test(presets_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
