/*
 * model_run.h - runs of the engine on test models, beside what the independent NumPy forward
 * (tests/ref/forward.py) expects of them: logits, every router choice, weights and margins.
 */
#ifndef MODEL_RUN_H
#define MODEL_RUN_H

#include "test_util.h"

#include <math.h>
#include <unistd.h>

#include "model/model.h"

/* ---- expected values: tests/data/README.md, ".vec" ---- */

struct vec {
	uint32_t n_tok, n_vocab, n_layer, n_expert, k, n_moe;
	int32_t *tokens;
	float *logits;
	struct vec_layer {
		uint32_t layer;
		float *logits;
		int32_t *experts;
		float *weights, *margin;
	} *layer;
	unsigned char *file;
};

static inline void *next(unsigned char **p, size_t bytes)
{
	void *at = *p;

	*p += bytes;
	return at;
}

static inline void vec_load(const char *name, struct vec *v)
{
	char path[256];
	size_t len;
	unsigned char *p;

	snprintf(path, sizeof path, "tests/data/%s%s.vec", strchr(name, '/') ? "" : "models/", name);
	v->file = p = read_file(path, &len);
	assert_memory_equal(next(&p, 8), "MOEVEC1\n", 8);
	memcpy(&v->n_tok, next(&p, 24), 24);
	v->tokens = next(&p, 4 * v->n_tok);
	v->logits = next(&p, 4ul * v->n_tok * v->n_vocab);
	v->layer = calloc(v->n_moe + 1, sizeof *v->layer);
	for (uint32_t i = 0; i < v->n_moe; i++) {
		v->layer[i].layer = *(uint32_t *)next(&p, 4);
		v->layer[i].logits = next(&p, 4ul * v->n_tok * v->n_expert);
		v->layer[i].experts = next(&p, 4ul * v->n_tok * v->k);
		v->layer[i].weights = next(&p, 4ul * v->n_tok * v->k);
		v->layer[i].margin = next(&p, 4ul * v->n_tok);
	}
	assert_int_equal(p - v->file, len);
}

static inline void vec_free(struct vec *v)
{
	free(v->layer);
	free(v->file);
}

/* Every vector file of tests/data/models, with the largest difference of the logits that is
 * allowed: weights of F32 to single precision, quantised ones to the sums over more and larger
 * numbers. */
static const struct of { const char *name; double within; } vectors[] __attribute__((unused)) = {
	{ "llama", 1e-4 }, { "mixtral", 1e-4 }, { "olmoe", 1e-4 }, { "qwen2moe", 1e-4 },
	{ "qwen3moe", 1e-4 },
	{ "deepseek2", 1e-4 }, { "deepseek2-lite", 1e-4 }, { "deepseek2-r1", 1e-4 },
	{ "deepseek2-v2", 1e-4 },
	{ "gpt-oss", 1e-4 }, { "gpt-oss-yarn", 1e-4 }, { "granitemoe", 1e-4 }, { "phimoe", 1e-4 },
	{ "phimoe-long", 1e-4 }, { "dbrx", 1e-4 }, { "glm4moe", 1e-4 }, { "glm4moe-air", 1e-4 },
	{ "ernie4_5-moe", 1e-4 }, { "llama4", 1e-4 }, { "llama4-128", 1e-4 }, { "arctic", 1e-4 },
	{ "grok", 1e-4 }, { "grok-2", 1e-4 }, { "bailingmoe", 1e-4 }, { "bailingmoe2", 1e-4 },
	{ "deepseek", 1e-4 }, { "hunyuan-moe", 1e-4 }, { "dots1", 1e-4 }, { "minimax-m2", 1e-4 },
	{ "llama3", 1e-4 }, { "llama-linear", 1e-4 }, { "mistral3", 1e-4 }, { "qwen2", 1e-4 },
	{ "qwen3", 1e-4 }, { "phi3", 1e-4 }, { "gemma", 1e-4 }, { "gemma2", 1e-4 }, { "gemma3", 1e-4 },
	{ "granite", 1e-4 }, { "granite-nope", 1e-4 }, { "granite-layers", 1e-4 },
	{ "qwen3vlmoe", 1e-4 },
	{ "deepseek2-temperature", 1e-4 }, { "mistral4", 1e-4 },
	{ "quant", 1e-3 }, { "lowbit", 1e-3 }, { "balanced", 1e-3 }, { "collapsed", 1e-3 },
};

/* ---- what a run of the engine gave ---- */

struct got {
	uint32_t n_vocab, k, n_expert, n_tok;
	float *logits;     /* [n_tok][n_vocab] */
	float *rlogits;    /* [layer][n_tok][n_expert] */
	uint16_t *experts; /* [layer][n_tok][k] */
	float *weights, *margin;
	unsigned calls[MOE_MAX_LAYER], batches;
};

static inline int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct got *g = ctx;

	(void)e;
	memcpy(g->logits + (size_t)pos * g->n_vocab, row, g->n_vocab * 4ul);
	return 0;
}

static inline int on_route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct got *g = ctx;

	(void)e;
	for (uint32_t i = 0; i < v->n_tok; i++) {
		size_t at = (size_t)v->layer * g->n_tok + v->pos[i];

		memcpy(g->experts + at * g->k, v->experts + i * g->k, g->k * 2ul);
		memcpy(g->weights + at * g->k, v->weights + i * g->k, g->k * 4ul);
		memcpy(g->rlogits + at * g->n_expert, v->logits + i * g->n_expert, g->n_expert * 4ul);
		g->margin[at] = v->margin[i];
		g->calls[v->layer]++;
	}
	return 0;
}

static inline int on_batch(void *ctx, const struct moe_batch_info *b, struct moe_err *e)
{
	(void)e;
	assert_true(b->n_tok > 0);
	((struct got *)ctx)->batches++;
	return 0;
}

static inline void got_init(struct got *g, const struct vec *v)
{
	size_t cells = (size_t)(v->n_layer ? v->n_layer : 1) * v->n_tok;

	memset(g, 0, sizeof *g);
	g->n_vocab = v->n_vocab;
	g->k = v->k;
	g->n_expert = v->n_expert;
	g->n_tok = v->n_tok;
	g->logits = calloc((size_t)v->n_tok * v->n_vocab, 4);
	g->rlogits = calloc(cells * v->n_expert + 1, 4);
	g->experts = calloc(cells * v->k + 1, 2);
	g->weights = calloc(cells * v->k + 1, 4);
	g->margin = calloc(cells, 4);
}

static inline void got_free(struct got *g)
{
	free(g->logits);
	free(g->rlogits);
	free(g->experts);
	free(g->weights);
	free(g->margin);
}

/* Run the tokens; the last n_decode of them one at a time. all: as struct session_want's. */
static inline void run_for(const struct model *m, const struct vec *v, struct got *g,
	struct session_opt opt, uint32_t n_decode, int all)
{
	struct moe_hook h = { .name = "test", .ctx = g, .route = on_route, .batch_end = on_batch };
	struct session_want want = { all, on_logits, g };
	struct moe_seq_info info = { .seq = 5 };
	struct moe_seq_result res = { .seq = 5 };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	uint32_t n = n_decode < v->n_tok ? v->n_tok - n_decode : 1;

	got_init(g, v);
	ok_or_fail(s != NULL, &e);
	ok_or_fail(!session_add_hook(s, &h, &e), &e);
	ok_or_fail(!session_begin(s, &info, &e), &e);
	ok_or_fail(!session_eval(s, v->tokens, n, MOE_PREFILL, &want, &e), &e);
	for (; n < v->n_tok; n++)
		ok_or_fail(!session_eval(s, v->tokens + n, 1, MOE_DECODE, &want, &e), &e);
	ok_or_fail(!session_end(s, &res, &e), &e);
	session_free(s);
}

static inline void run(const struct model *m, const struct vec *v, struct got *g,
	struct session_opt opt, uint32_t n_decode)
{
	run_for(m, v, g, opt, n_decode, 1);
}

static inline double rms(const float *x, size_t n)
{
	double s = 0;

	for (size_t i = 0; i < n; i++)
		s += (double)x[i] * x[i];
	return sqrt(s / (double)n);
}

/* The largest difference of two sets of logits. */
static inline double apart(const float *a, const float *b, size_t n)
{
	double worst = 0;

	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)a[i] - b[i]);

		worst = d > worst ? d : worst;
	}
	return worst;
}

/* within: of the logits. Experts in rank order, except where two are as good as equal. */
static inline void compare(const struct vec *v, const struct got *g, const char *name,
	double within)
{
	size_t n = (size_t)v->n_tok * v->n_vocab;
	double scale = rms(v->logits, n), worst = apart(g->logits, v->logits, n);

	if (!(worst <= within))
		fail_msg("%s: logits differ by %g, rms %g", name, worst, scale);
	for (uint32_t i = 0; i < v->n_moe; i++) {
		const struct vec_layer *l = &v->layer[i];

		assert_int_equal(g->calls[l->layer], v->n_tok);
		for (uint32_t t = 0; t < v->n_tok; t++) {
			size_t at = (size_t)l->layer * v->n_tok + t;

			if (l->margin[t] < 1e-6f)
				continue;
			if (!(fabsf(g->margin[at] - l->margin[t]) < within))
				fail_msg("%s layer %u token %u: margin %g, expected %g", name, l->layer, t,
					(double)g->margin[at], (double)l->margin[t]);
			for (uint32_t r = 0; r < v->k; r++) {
				float w = g->weights[at * v->k + r], want = l->weights[t * v->k + r];

				if (g->experts[at * v->k + r] != l->experts[t * v->k + r] ||
				    !(fabsf(w - want) < within))
					fail_msg("%s layer %u token %u rank %u: expert %u weight %g, expected %d %g",
						name, l->layer, t, r, g->experts[at * v->k + r], (double)w,
						l->experts[t * v->k + r], (double)want);
			}
		}
	}
	printf("             %s: logits within %.1e of rms %.2f\n", name, worst, scale);
}

static inline struct gguf *open_file(const char *path, struct model **m)
{
	struct moe_err e = { 0 };
	struct gguf *g = gguf_open(path, &e);

	ok_or_fail(g != NULL, &e);
	*m = model_open(g, &e);
	ok_or_fail(*m != NULL, &e);
	return g;
}

static inline struct gguf *open_model(const char *name, struct model **m)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s.gguf",
		!strcmp(name, "balanced") || !strcmp(name, "collapsed") ? "models" : "tests/data/models",
		name);
	return open_file(path, m);
}

#endif
