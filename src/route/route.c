/*
 * route.c - the router as a pure function; see moescope/route.h for the stages.
 *
 * Sums run over ascending expert ids (or ranks) in single precision; exponentials come from
 * base/num.h. So a choice can be recomputed bit for bit, anywhere, from the logits alone.
 */
#include <moescope/route.h>

#include <moescope/event.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"

#define NORM_FLOOR 6.103515625e-5f /* 2^-14: smallest sum that weights are divided by */

static const char *const score_names[] = { "softmax", "sigmoid", "sqrt_softplus", "none" };

/*
 * Presets: the choice of stages that a family of models makes. To add one: a row. n_expert, k and
 * groups belong to the model and are not part of a preset.
 */
static const struct {
	const char *name;
	enum moe_score score;
	enum moe_weight weight;
	float scale; /* the family's usual routed scaling factor, 0 = none */
} presets[] = {
	{ "mixtral", MOE_SCORE_SOFTMAX, MOE_WEIGHT_NORM, 0 },
	{ "qwen3moe", MOE_SCORE_SOFTMAX, MOE_WEIGHT_NORM, 0 },
	{ "qwen2moe", MOE_SCORE_SOFTMAX, MOE_WEIGHT_RAW, 0 },
	{ "olmoe", MOE_SCORE_SOFTMAX, MOE_WEIGHT_RAW, 0 },
	{ "switch", MOE_SCORE_SOFTMAX, MOE_WEIGHT_RAW, 0 },
	{ "deepseek", MOE_SCORE_SOFTMAX, MOE_WEIGHT_RAW, 0 },
	{ "deepseek-v2", MOE_SCORE_SOFTMAX, MOE_WEIGHT_RAW, 16.0f },
	{ "deepseek-v3", MOE_SCORE_SIGMOID, MOE_WEIGHT_NORM, 2.5f },
	{ "glm4moe", MOE_SCORE_SIGMOID, MOE_WEIGHT_NORM, 0 },
	{ "minimax-m2", MOE_SCORE_SIGMOID, MOE_WEIGHT_NORM, 0 },
	{ "gpt-oss", MOE_SCORE_NONE, MOE_WEIGHT_SOFTMAX, 0 },
	{ "llama4", MOE_SCORE_NONE, MOE_WEIGHT_SIGMOID, 0 },
};

int moe_route_check(const struct moe_route_spec *s, struct moe_err *e)
{
	if (s->n_expert < 1 || s->n_expert > MOE_MAX_EXPERT)
		return err_set(e, MOE_ERR_INPUT, "%u experts: allowed are 1 to %d", s->n_expert,
			MOE_MAX_EXPERT);
	if (s->k < 1 || s->k > s->n_expert)
		return err_set(e, MOE_ERR_INPUT, "top-%u of %u experts is not possible", s->k, s->n_expert);
	if (!isfinite(s->scale) || s->scale < 0)
		return err_set(e, MOE_ERR_INPUT, "weight scale %g: must be finite and not negative",
			(double)s->scale);
	if (s->n_group > 1) {
		unsigned size = s->n_expert / s->n_group;

		if (s->n_expert % s->n_group)
			return err_set(e, MOE_ERR_INPUT, "%u experts do not divide into %u groups",
				s->n_expert, s->n_group);
		if (s->n_group_used < 1 || s->n_group_used > s->n_group)
			return err_set(e, MOE_ERR_INPUT, "%u of %u groups used is not possible",
				s->n_group_used, s->n_group);
		if (size * s->n_group_used < s->k)
			return err_set(e, MOE_ERR_INPUT, "%u groups of %u experts cannot give top-%u",
				s->n_group_used, size, s->k);
	}
	return 0;
}

static void softmax(const float *x, size_t n, float *out)
{
	float max = x[0], sum = 0;

	for (size_t i = 1; i < n; i++)
		max = x[i] > max ? x[i] : max;
	for (size_t i = 0; i < n; i++) {
		out[i] = num_exp(x[i] - max);
		sum += out[i];
	}
	for (size_t i = 0; i < n; i++)
		out[i] /= sum;
}

void moe_route_scores(const struct moe_route_spec *s, const float *logits, float *scores)
{
	size_t n = s->n_expert;

	switch (s->score) {
	case MOE_SCORE_SOFTMAX:
		softmax(logits, n, scores);
		break;
	case MOE_SCORE_SIGMOID:
		for (size_t i = 0; i < n; i++)
			scores[i] = num_sigmoid(logits[i]);
		break;
	case MOE_SCORE_SQRT_SOFTPLUS:
		for (size_t i = 0; i < n; i++)
			scores[i] = sqrtf(num_softplus(logits[i]));
		break;
	case MOE_SCORE_NONE:
		memcpy(scores, logits, n * sizeof *scores);
		break;
	}
}

/* Keep the n_group_used groups with the largest sum of their two best selection scores; the
 * others' scores become -inf. Ties keep the lower group. */
static void limit_groups(const struct moe_route_spec *s, float *sel)
{
	float sum[MOE_MAX_EXPERT];
	unsigned char keep[MOE_MAX_EXPERT] = { 0 };
	size_t size = s->n_expert / s->n_group;

	for (size_t g = 0; g < s->n_group; g++) {
		float a = -INFINITY, b = -INFINITY; /* best, second */

		for (size_t i = g * size; i < (g + 1) * size; i++) {
			if (sel[i] > a)
				b = a, a = sel[i];
			else if (sel[i] > b)
				b = sel[i];
		}
		sum[g] = size > 1 ? a + b : a;
	}
	for (size_t used = 0; used < s->n_group_used; used++) {
		size_t best = s->n_group;

		for (size_t g = 0; g < s->n_group; g++)
			if (!keep[g] && (best == s->n_group || sum[g] > sum[best]))
				best = g;
		keep[best] = 1;
	}
	for (size_t i = 0; i < s->n_expert; i++)
		if (!keep[i / size])
			sel[i] = -INFINITY;
}

/* The k largest of sel[n] in descending order, ties to the lowest id, by insertion into a short
 * sorted list. Returns the margin between ranks k and k+1. */
static float top_k(const float *sel, size_t n, size_t k, uint16_t *out)
{
	size_t have = 0;
	float next = -INFINITY; /* best of those not selected */

	for (size_t i = 0; i < n; i++) {
		size_t j;

		if (have == k && !(sel[i] > sel[out[k - 1]])) {
			next = sel[i] > next ? sel[i] : next;
			continue;
		}
		if (have == k)
			next = sel[out[k - 1]] > next ? sel[out[k - 1]] : next;
		else
			have++;
		for (j = have - 1; j > 0 && sel[i] > sel[out[j - 1]]; j--)
			out[j] = out[j - 1];
		out[j] = (uint16_t)i;
	}
	if (next == -INFINITY)
		return INFINITY; /* nothing was left to choose from */
	return sel[out[k - 1]] - next;
}

static void gate_weights(const struct moe_route_spec *s, const float *scores, struct moe_choice *c)
{
	float sum = 0, max = -INFINITY;
	size_t k = s->k;

	for (size_t i = 0; i < k; i++) {
		c->weights[i] = scores[c->experts[i]];
		max = c->weights[i] > max ? c->weights[i] : max;
	}
	if (s->weight == MOE_WEIGHT_SOFTMAX)
		for (size_t i = 0; i < k; i++)
			c->weights[i] = num_exp(c->weights[i] - max);
	if (s->weight == MOE_WEIGHT_SIGMOID)
		for (size_t i = 0; i < k; i++)
			c->weights[i] = num_sigmoid(c->weights[i]);
	if (s->weight == MOE_WEIGHT_NORM || s->weight == MOE_WEIGHT_SOFTMAX) {
		for (size_t i = 0; i < k; i++)
			sum += c->weights[i];
		sum = sum > NORM_FLOOR ? sum : NORM_FLOOR;
		for (size_t i = 0; i < k; i++)
			c->weights[i] /= sum;
	}
	if (s->scale != 0 && s->scale != 1)
		for (size_t i = 0; i < k; i++)
			c->weights[i] *= s->scale;
}

static void refuse_nan(const struct moe_route_spec *s, struct moe_choice *c)
{
	for (size_t i = 0; i < s->k; i++) {
		c->experts[i] = (uint16_t)i;
		c->weights[i] = 0;
	}
	c->margin = 0;
	c->flags = MOE_EV_NAN;
}

void moe_route(const struct moe_route_spec *s, const float *logits, const float *bias,
	float *scratch, struct moe_choice *out)
{
	size_t n = s->n_expert;
	float *scores = scratch, *sel = scratch + n;
	int nan = 0;

	for (size_t i = 0; i < n; i++)
		nan |= logits[i] != logits[i] || logits[i] == INFINITY;
	if (nan) {
		refuse_nan(s, out);
		return;
	}
	moe_route_scores(s, logits, scores);
	for (size_t i = 0; i < n; i++)
		sel[i] = bias ? scores[i] + bias[i] : scores[i];
	if (s->n_group > 1)
		limit_groups(s, sel);
	out->flags = 0;
	out->margin = top_k(sel, n, s->k, out->experts);
	gate_weights(s, scores, out);
}

int moe_route_describe(const struct moe_route_spec *s, char *out, size_t size)
{
	static const char *const weight_names[] = { "raw weights", "renormalised", "softmax of the k",
		"sigmoid of the k" };
	char group[64] = "", scale[32] = "";

	if (s->n_group > 1)
		snprintf(group, sizeof group, " > best %u of %u groups", s->n_group_used, s->n_group);
	if (s->scale != 0 && s->scale != 1)
		snprintf(scale, sizeof scale, " x %g", (double)s->scale);
	return snprintf(out, size, "%s%s > top-%u of %u > %s%s",
		s->score == MOE_SCORE_NONE ? "logits" : score_names[s->score], group, s->k, s->n_expert,
		weight_names[s->weight], scale);
}

const char *moe_route_score_name(enum moe_score s)
{
	return score_names[s];
}

int moe_route_preset(const char *name, struct moe_route_spec *s, struct moe_err *e)
{
	for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
		if (!strcmp(presets[i].name, name)) {
			s->score = presets[i].score;
			s->weight = presets[i].weight;
			s->scale = presets[i].scale;
			return 0;
		}
	return err_set(e, MOE_ERR_USAGE, "no router preset '%s'", name);
}

const char *moe_route_preset_name(size_t i)
{
	return i < sizeof presets / sizeof presets[0] ? presets[i].name : NULL;
}
