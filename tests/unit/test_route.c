/*
 * test_route.c - the router against tests/data/router.txt (an independent NumPy computation in
 * double precision, format in tests/ref/router.py) and its refusals.
 */
#include "named.h"

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
	assert_int_equal(fscanf(f, "%31s %d %31s %u %u %31s %u %u %d", score, &c->has_bias, weight,
		&groups, &used, scale, &experts, &k, &c->n), 9);
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

/* tests/data/router_batch.txt: routers that look at a batch, from the papers
 * (tests/ref/router.py). */
static void check_batch(const struct named *c)
{
	const double *s = named_get(c, "shape", NULL), *want = named_get(c, "n_pick", NULL), *b;
	size_t n = (size_t)s[0], m = (size_t)s[1], slots, at = 0;
	const double *experts = named_get(c, "experts", NULL), *weights = named_get(c, "weights", NULL);
	const double *fate = named_get(c, "fate", NULL), *tokens = named_get(c, "tokens", NULL);
	float *z = named_floats(c, "logits"), bias[64] = { 0 };
	int32_t *token = malloc(n * sizeof *token);
	struct moe_batch_spec spec;
	struct moe_err err;
	struct moe_batch_in in = { n, (uint64_t)s[4], z, token };
	struct moe_batch_out out;

	for (size_t t = 0; t < n; t++)
		token[t] = (int32_t)tokens[t];
	ok_or_fail(!moe_batch_preset(c->name, (unsigned)m, (unsigned)s[2], &spec, &err), &err);
	spec.seed = (uint64_t)s[3];
	slots = moe_batch_slots(&spec);
	out.n_pick = malloc(n * sizeof *out.n_pick);
	out.experts = malloc(n * slots * sizeof *out.experts);
	out.weights = malloc(n * slots * sizeof *out.weights);
	out.fate = malloc(n * slots);
	ok_or_fail(!moe_route_batch(&spec, &in, bias, &out, &err), &err);
	for (size_t t = 0; t < n; t++) {
		assert_int_equal(out.n_pick[t], want[t]);
		for (size_t r = 0; r < out.n_pick[t]; r++, at++) {
			if (out.experts[t * slots + r] != experts[at] || out.fate[t * slots + r] != fate[at])
				fail_msg("%s: token %zu, rank %zu is expert %d (fate %d), not %g (%g)", c->name, t,
					r, out.experts[t * slots + r], out.fate[t * slots + r], experts[at], fate[at]);
			assert_true(fabs(out.weights[t * slots + r] - weights[at]) <= 2e-6);
		}
	}
	if (!strcmp(c->name, "loss-free")) {
		b = named_get(c, "bias", NULL);
		for (size_t i = 0; i < m; i++)
			assert_true(fabs(bias[i] - b[i]) < 1e-9);
	}
	free(out.n_pick);
	free(out.experts);
	free(out.weights);
	free(out.fate);
	free(token);
	free(z);
}

static void batch_vectors(void **state)
{
	FILE *f = fopen("tests/data/router_batch.txt", "r");
	struct named c = { .n = 0 };
	int n = 0;

	(void)state;
	assert_non_null(f);
	for (; named_next(f, &c); n++)
		check_batch(&c);
	assert_true(n > 40);
	fclose(f);
}

/* The largest weights stay (by hand), and a token with a NaN picks nothing. */
static void batch_by_hand(void **state)
{
	/* four tokens like expert 0 by 1, 3, 2 and 4; factor 1 leaves room for two */
	float z[10] = { 1, 0, 3, 0, 2, 0, 4, 0, NAN, 0 }, w[5];
	uint16_t n[5], e[5];
	uint8_t fate[5];
	struct moe_batch_spec s = { .route = { .n_expert = 2, .k = 1 }, .over = MOE_OVER_WEIGHT,
		.factor = 1 };
	struct moe_batch_in in = { 4, 0, z, NULL };
	struct moe_batch_out out = { n, e, w, fate };
	struct moe_err err;

	(void)state;
	assert_int_equal(moe_batch_check(&s, &err), 0);
	assert_int_equal(moe_route_batch(&s, &in, NULL, &out, &err), 0);
	for (int t = 0; t < 4; t++)
		assert_int_equal(fate[t], t == 1 || t == 3 ? MOE_SENT : MOE_DROPPED);
	in.n = 5;
	assert_int_equal(moe_route_batch(&s, &in, NULL, &out, &err), 0);
	assert_int_equal(n[4], 0);
	s.over = MOE_OVER_POSITION; /* room for ceil(5 / 2) = 3 */
	assert_int_equal(moe_route_batch(&s, &in, NULL, &out, &err), 0);
	assert_int_equal(fate[2], MOE_SENT);
	assert_int_equal(fate[3], MOE_DROPPED);
	s.factor = 0;
	assert_int_equal(moe_batch_check(&s, &err), -1);
	assert_int_equal(moe_batch_preset("two-level", 3, 2, &s, &err), -1);
	assert_non_null(strstr(err.msg, "3 experts have no groups"));
	assert_int_equal(moe_batch_preset("gshard", 1, 1, &s, &err), -1);
	assert_int_equal(moe_batch_preset("nonsense", 8, 2, &s, &err), -1);
	assert_int_equal(moe_batch_preset("mixtral", 8, 2, &s, &err), 0);
	assert_int_equal(s.over, MOE_OVER_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors),
		cmocka_unit_test(nan_is_an_event),
		cmocka_unit_test(all_selected_has_infinite_margin),
		cmocka_unit_test(impossible_specifications),
		cmocka_unit_test(presets_are_named),
		cmocka_unit_test(batch_vectors),
		cmocka_unit_test(batch_by_hand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
