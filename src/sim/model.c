/* model.c - see model.h. */
#include "sim/model.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

/*
 * Published configurations. To add one: a row; tests/unit/test_plan.c compares its size with the
 * published number. An expert is mats * d * width.
 */
static const struct sim_model models[] = {
	{ "mixtral-8x7b", "Mixtral 8x7B", "arXiv 2401.04088, table 1", NULL, .d = 4096, .n_layer = 32,
	  .n_head = 32, .n_head_kv = 8, .head_dim = 128, .ff_expert = 14336, .mats_expert = 3,
	  .n_expert = 8, .k = 2, .moe_every = 1, .vocab = 32000, .n_embed = 2,
	  .published_total = 46.7e9, .total_digit = .1e9, .published_active = 12.9e9,
	  .active_digit = .1e9 },
	{ "mixtral-8x22b", "Mixtral 8x22B", "configuration and announcement of April 2024", NULL,
	  .d = 6144, .n_layer = 56, .n_head = 48, .n_head_kv = 8, .head_dim = 128, .ff_expert = 16384,
	  .mats_expert = 3, .n_expert = 8, .k = 2, .moe_every = 1, .vocab = 32768, .n_embed = 2,
	  .published_total = 141e9, .total_digit = 1e9, .published_active = 39e9, .active_digit = 1e9 },
	{ "switch-1.6t", "Switch-C 1.6T", "arXiv 2101.03961, table 9",
	  "encoder and decoder of 15 layers each, every one with experts; cross-attention counted",
	  .d = 2080, .n_layer = 15, .n_encoder = 15, .n_head = 32, .n_head_kv = 32, .head_dim = 64,
	  .ff_expert = 6144, .mats_expert = 2, .n_expert = 2048, .k = 1, .moe_every = 1, .vocab = 32128,
	  .n_embed = 1, .published_total = 1571e9, .total_digit = 1e9 },
	{ "gshard-600b", "GShard 600B", "arXiv 2006.16668, MoE(2048E, 36L)",
	  "36 layers with experts in every other one; vocabulary of 64 k assumed; 600B is rounded: "
	  "18 layers of 2048 experts of 2 x 1024 x 8192 alone are 618B",
	  .d = 1024, .n_layer = 36, .n_head = 16, .n_head_kv = 16, .head_dim = 128, .ff_dense = 8192,
	  .ff_expert = 8192, .mats_dense = 2, .mats_expert = 2, .n_expert = 2048, .k = 2,
	  .moe_first = 1, .moe_every = 2, .vocab = 64000, .n_embed = 1, .published_total = 600e9,
	  .total_digit = 100e9 },
	{ "glam-1.2t", "GLaM 64B/64E", "arXiv 2112.06905, table 4",
	  "experts in every other layer; the dense FFNs are gated, the experts are not, as the "
	  "published active parameters imply; 1.2T is 1.16T rounded", .d = 8192,
	  .n_layer = 64, .n_head = 128, .n_head_kv = 128, .head_dim = 128, .ff_dense = 32768,
	  .ff_expert = 32768, .mats_dense = 3, .mats_expert = 2, .n_expert = 64, .k = 2, .moe_first = 1,
	  .moe_every = 2, .vocab = 256000, .n_embed = 1, .published_total = 1.2e12,
	  .total_digit = .1e12, .published_active = 96.6e9, .active_digit = .1e9 },
	{ "alexatm-20b", "AlexaTM 20B", "arXiv 2208.01448, table 1",
	  "dense; 46 encoder and 32 decoder layers; three embedding matrices of 150 k tokens assumed, "
	  "which is what the published total implies", .d = 4096, .n_layer = 32, .n_encoder = 46,
	  .n_head = 32, .n_head_kv = 32, .head_dim = 128, .ff_dense = 16384, .mats_dense = 2,
	  .vocab = 150000, .n_embed = 3, .published_total = 19.75e9, .total_digit = .01e9,
	  .published_active = 19.75e9, .active_digit = .01e9 },
	{ "megatron-530b", "Megatron-Turing NLG 530B", "arXiv 2201.11990",
	  "dense: the published Megatron model of 530B has no experts", .d = 20480, .n_layer = 105,
	  .n_head = 128, .n_head_kv = 128, .head_dim = 160, .ff_dense = 81920, .mats_dense = 2,
	  .vocab = 50257, .n_embed = 1, .published_total = 530e9, .total_digit = 1e9,
	  .published_active = 530e9, .active_digit = 1e9 },
	{ "deepseek-v3", "DeepSeek-V3", "arXiv 2412.19437, section 4.2",
	  "without the multi-token prediction module", .d = 7168, .n_layer = 61, .n_head = 128,
	  .n_head_kv = 128, .head_dim = 128, .mla = { 1536, 512, 128, 64, 128 }, .ff_dense = 18432,
	  .ff_expert = 2048, .ff_shared = 2048, .mats_dense = 3, .mats_expert = 3, .n_expert = 256,
	  .k = 8, .moe_first = 3, .moe_every = 1, .vocab = 129280, .n_embed = 2,
	  .published_total = 671e9, .total_digit = 1e9, .published_active = 37e9, .active_digit = 1e9,
	  .active_skips_embedding = 1 },
	{ "qwen3-235b", "Qwen3-235B-A22B", "arXiv 2505.09388, table 2", NULL, .d = 4096, .n_layer = 94,
	  .n_head = 64, .n_head_kv = 4, .head_dim = 128, .ff_expert = 1536, .mats_expert = 3,
	  .n_expert = 128, .k = 8, .moe_every = 1, .vocab = 151936, .n_embed = 2,
	  .published_total = 235e9, .total_digit = 1e9, .published_active = 22e9, .active_digit = 1e9 },
	{ "gpt-oss-120b", "gpt-oss-120b", "model card of August 2025, arXiv 2508.10925",
	  "with biases; half of the layers attend to a window of 128 tokens, which the cost of "
	  "attention here does not use", .d = 2880,
	  .n_layer = 36, .n_head = 64, .n_head_kv = 8, .head_dim = 64, .ff_expert = 2880,
	  .mats_expert = 3, .n_expert = 128, .k = 4, .moe_every = 1, .vocab = 201088, .n_embed = 2,
	  .bias = 1, .published_total = 116.83e9, .total_digit = .01e9, .published_active = 5.13e9,
	  .active_digit = .01e9, .active_skips_embedding = 1 },
	{ "kimi-k2", "Kimi-K2", "configuration of July 2025, arXiv 2507.20534",
	  "published as 1T; the report's table says 1.04T, which one more layer of experts would give; "
	  "active parameters include the input embedding",
	  .d = 7168, .n_layer = 61, .n_head = 64, .n_head_kv = 64, .head_dim = 128,
	  .mla = { 1536, 512, 128, 64, 128 }, .ff_dense = 18432, .ff_expert = 2048, .ff_shared = 2048,
	  .mats_dense = 3, .mats_expert = 3, .n_expert = 384, .k = 8, .moe_first = 1, .moe_every = 1,
	  .vocab = 163840, .n_embed = 2, .published_total = 1e12, .total_digit = 1e12,
	  .published_active = 32.6e9, .active_digit = .1e9 },
	{ "gpt-4", "GPT-4 (rumour)", "SemiAnalysis, July 2023; never confirmed by OpenAI",
	  "RUMOUR: 120 layers, 16 experts of 111B each over all layers, 2 per token, 55B shared; "
	  "shapes unknown, so no traffic and no KV cache", .rumour = 1, .n_layer = 120, .n_expert = 16,
	  .k = 2, .moe_every = 1, .stated_total = 1831e9, .stated_active = 277e9,
	  .published_total = 1.8e12, .total_digit = .1e12, .published_active = 280e9,
	  .active_digit = 10e9 },
};

/* Parameters of one attention block, and what it adds to the cache per token. */
static double attention(const struct sim_model *m, double *kv)
{
	double d = m->d, h = m->n_head;

	if (m->mla.kv) {
		double q = m->mla.q, c = m->mla.kv, qk = m->mla.nope + m->mla.rope;

		*kv = c + m->mla.rope;
		return d * q + q * h * qk + d * (c + m->mla.rope) + c * h * (m->mla.nope + m->mla.v) +
			h * m->mla.v * d;
	}
	*kv = 2.0 * m->n_head_kv * m->head_dim;
	return d * h * m->head_dim * 2 + d * *kv +
		(m->bias ? h * m->head_dim + *kv + d + h : 0); /* q, k, v, out; a sink per head */
}

static void add_layer(const struct sim_model *m, unsigned layer, struct sim_size *o)
{
	double d = m->d;

	o->norm += 2 * d;
	if (m->n_expert && layer >= m->moe_first && (layer - m->moe_first) % m->moe_every == 0) {
		o->n_moe++;
		o->experts += o->expert * m->n_expert;
		o->shared += 3 * d * m->ff_shared;
		o->router += d * m->n_expert + (m->bias ? m->n_expert : 0);
	} else {
		o->dense += (double)m->mats_dense * d * m->ff_dense;
	}
}

/* Rumours give sums only: experts are what inactive ones leave. */
static void stated(const struct sim_model *m, struct sim_size *o)
{
	o->total = m->stated_total;
	o->active = o->matmul = m->stated_active;
	o->n_moe = m->n_layer;
	o->expert = (o->total - o->active) / (m->n_expert - m->k) / m->n_layer;
	o->experts = o->expert * m->n_expert * m->n_layer;
	o->kv_per_token = o->attention_flops = NAN;
}

void sim_model_size(const struct sim_model *m, struct sim_size *o)
{
	double one, kv;

	memset(o, 0, sizeof *o);
	o->n_expert = m->n_expert, o->k = m->k, o->d = m->d, o->n_layer = m->n_layer + m->n_encoder;
	if (m->stated_total > 0) {
		stated(m, o);
		return;
	}
	o->expert = (double)m->mats_expert * m->d * m->ff_expert +
		(m->bias ? 2.0 * m->ff_expert + m->d : 0);
	one = attention(m, &kv);
	for (unsigned l = 0; l < m->n_encoder; l++)
		add_layer(m, l, o);
	for (unsigned l = 0; l < m->n_layer; l++)
		add_layer(m, l, o);
	/* the decoder of a pair attends to the encoder, too */
	o->attention = one * (m->n_encoder + m->n_layer * (m->n_encoder ? 2.0 : 1.0));
	o->kv_per_token = kv * m->n_layer * (m->n_encoder ? 2 : 1);
	/* q k' and the weighted sum of v, a multiplication and an addition each */
	o->attention_flops = 2.0 * m->n_layer * m->n_head *
		(m->mla.kv ? m->mla.nope + m->mla.rope + m->mla.v : 2.0 * m->head_dim);
	o->embedding = (double)m->n_embed * m->vocab * m->d;
	o->total = o->embedding + o->attention + o->dense + o->experts + o->shared + o->router +
		o->norm;
	o->active = o->total - (m->n_expert ? (double)(m->n_expert - m->k) * o->expert * o->n_moe : 0);
	o->matmul = o->active - (m->n_embed > 1 ? (double)(m->n_embed - 1) * m->vocab * m->d : 0);
}

const struct sim_model *sim_model_at(size_t i)
{
	return i < sizeof models / sizeof *models ? models + i : NULL;
}

const struct sim_model *sim_model_find(const char *name, struct moe_err *e)
{
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		if (!strcmp(models[i].name, name))
			return models + i;
	err_set(e, MOE_ERR_USAGE, "no preset '%.40s'; `plan --list` lists them", name);
	return NULL;
}

int sim_model_agrees(double computed, double published, double digit)
{
	double most = fmax(.01 * published, fmin(digit / 2, .05 * published));

	return fabs(computed - published) <= most;
}

double sim_distinct(const double *rate, unsigned n_expert, unsigned k, double n)
{
	double sum = 0;

	for (unsigned e = 0; e < n_expert; e++) {
		double r = rate ? fmin(rate[e], 1) : (double)k / n_expert;

		sum += r < 1 ? -expm1(n * log1p(-r)) : n > 0;
	}
	return sum;
}

static double log_choose(double n, double k)
{
	return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1);
}

double sim_ranks_uniform(unsigned n_expert, unsigned k, unsigned ranks)
{
	double e = n_expert, others = e - e / ranks;

	if (others < k)
		return ranks;
	return ranks * -expm1(log_choose(others, k) - log_choose(e, k));
}
