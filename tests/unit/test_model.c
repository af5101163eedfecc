/*
 * test_model.c - the engine against the independent NumPy forward (tests/ref/forward.py): logits,
 * every router choice, weights and margins, for a model of each architecture row and of each
 * quantisation; then the same bits for any thread count, batch size and kernel row; hooks; refusals.
 */
#include "test_util.h"

#include <math.h>
#include <unistd.h>

#include "model/aware.h"
#include "model/model.h"

/* ---- expected values: tests/data/README.md, ".vec" ---- */

struct vec {
	uint32_t n_tok, n_vocab, n_layer, n_expert, k, n_moe;
	int32_t *tokens;
	float *logits;
	struct vec_layer { uint32_t layer; float *logits; int32_t *experts; float *weights, *margin; } *layer;
	unsigned char *file;
};

static void *next(unsigned char **p, size_t bytes)
{
	void *at = *p;

	*p += bytes;
	return at;
}

static void vec_load(const char *name, struct vec *v)
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

static void vec_free(struct vec *v)
{
	free(v->layer);
	free(v->file);
}

/* ---- what a run of the engine gave ---- */

struct got {
	uint32_t n_vocab, k, n_expert, n_tok;
	float *logits;     /* [n_tok][n_vocab] */
	float *rlogits;    /* [layer][n_tok][n_expert] */
	uint16_t *experts; /* [layer][n_tok][k] */
	float *weights, *margin;
	unsigned calls[MOE_MAX_LAYER], batches;
};

static int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct got *g = ctx;

	(void)e;
	memcpy(g->logits + (size_t)pos * g->n_vocab, row, g->n_vocab * 4ul);
	return 0;
}

static int on_route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
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

static int on_batch(void *ctx, const struct moe_batch_info *b, struct moe_err *e)
{
	(void)e;
	assert_true(b->n_tok > 0);
	((struct got *)ctx)->batches++;
	return 0;
}

static void got_init(struct got *g, const struct vec *v)
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

static void got_free(struct got *g)
{
	free(g->logits);
	free(g->rlogits);
	free(g->experts);
	free(g->weights);
	free(g->margin);
}

/* Run the tokens; the last n_decode of them one at a time. */
static void run(const struct model *m, const struct vec *v, struct got *g, struct session_opt opt,
	uint32_t n_decode)
{
	struct moe_hook h = { .name = "test", .ctx = g, .route = on_route, .batch_end = on_batch };
	struct session_want want = { 1, on_logits, g };
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

static double rms(const float *x, size_t n)
{
	double s = 0;

	for (size_t i = 0; i < n; i++)
		s += (double)x[i] * x[i];
	return sqrt(s / (double)n);
}

/* The largest difference of two sets of logits. */
static double apart(const float *a, const float *b, size_t n)
{
	double worst = 0;

	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)a[i] - b[i]);

		worst = d > worst ? d : worst;
	}
	return worst;
}

/* within: of the logits. Experts in rank order, except where two are as good as equal. */
static void compare(const struct vec *v, const struct got *g, const char *name, double within)
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

				if (g->experts[at * v->k + r] != l->experts[t * v->k + r] || !(fabsf(w - want) < within))
					fail_msg("%s layer %u token %u rank %u: expert %u weight %g, expected %d %g", name,
						l->layer, t, r, g->experts[at * v->k + r], (double)w, l->experts[t * v->k + r],
						(double)want);
			}
		}
	}
	printf("             %s: logits within %.1e of rms %.2f\n", name, worst, scale);
}

static struct gguf *open_file(const char *path, struct model **m)
{
	struct moe_err e = { 0 };
	struct gguf *g = gguf_open(path, &e);

	ok_or_fail(g != NULL, &e);
	*m = model_open(g, &e);
	ok_or_fail(*m != NULL, &e);
	return g;
}

static struct gguf *open_model(const char *name, struct model **m)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s.gguf",
		!strcmp(name, "balanced") || !strcmp(name, "collapsed") ? "models" : "tests/data/models", name);
	return open_file(path, m);
}

/* Every vector file of tests/data/models, with the largest difference of the logits that is allowed:
 * weights of F32 to single precision, quantised ones to the sums over more and larger numbers. */
static const struct of { const char *name; double within; } all[] = {
	{ "llama", 1e-4 }, { "mixtral", 1e-4 }, { "olmoe", 1e-4 }, { "qwen2moe", 1e-4 }, { "qwen3moe", 1e-4 },
	{ "deepseek2", 1e-4 }, { "deepseek2-lite", 1e-4 }, { "deepseek2-r1", 1e-4 }, { "deepseek2-v2", 1e-4 },
	{ "gpt-oss", 1e-4 }, { "gpt-oss-yarn", 1e-4 }, { "granitemoe", 1e-4 }, { "phimoe", 1e-4 },
	{ "phimoe-long", 1e-4 }, { "dbrx", 1e-4 }, { "glm4moe", 1e-4 }, { "glm4moe-air", 1e-4 },
	{ "ernie4_5-moe", 1e-4 }, { "llama4", 1e-4 }, { "llama4-128", 1e-4 }, { "arctic", 1e-4 },
	{ "grok", 1e-4 }, { "grok-2", 1e-4 }, { "bailingmoe", 1e-4 }, { "bailingmoe2", 1e-4 },
	{ "deepseek", 1e-4 }, { "hunyuan-moe", 1e-4 }, { "dots1", 1e-4 }, { "minimax-m2", 1e-4 },
	{ "llama3", 1e-4 }, { "llama-linear", 1e-4 }, { "mistral3", 1e-4 }, { "qwen2", 1e-4 },
	{ "qwen3", 1e-4 }, { "phi3", 1e-4 }, { "gemma", 1e-4 }, { "gemma2", 1e-4 }, { "gemma3", 1e-4 },
	{ "granite", 1e-4 }, { "granite-nope", 1e-4 }, { "granite-layers", 1e-4 }, { "qwen3vlmoe", 1e-4 },
	{ "deepseek2-temperature", 1e-4 }, { "mistral4", 1e-4 },
	{ "quant", 1e-3 }, { "lowbit", 1e-3 }, { "balanced", 1e-3 }, { "collapsed", 1e-3 },
};

static void agrees(void **state)
{
	const struct of *of = *state;
	struct session_opt opt = { .n_threads = 2, .kv_type = SESSION_KV_F32,
		.activations = SESSION_ACT_F32 };
	struct model *m;
	struct gguf *f = open_model(of->name, &m);
	struct vec v;
	struct got g;

	vec_load(of->name, &v);
	assert_int_equal(model_info(m)->n_vocab, v.n_vocab);
	assert_int_equal(model_info(m)->n_layer, v.n_layer);
	assert_int_equal(model_info(m)->n_moe_layer, v.n_moe);
	for (uint32_t i = 0; i < v.n_moe; i++)
		assert_int_equal(model_info(m)->layers[i].layer, v.layer[i].layer);
	run(m, &v, &g, opt, 0);
	compare(&v, &g, of->name, of->within);
	got_free(&g);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

/* Threads, batch sizes, decode against prefill, kernel rows: equal bits everywhere. */
static void same_bits_kv(const char *name, int kv_type)
{
	static const struct { uint32_t threads, batch, decode; const char *isa; } how[] = {
		{ 1, 512, 0, NULL }, { 2, 512, 0, NULL }, { 3, 512, 0, NULL }, { 1, 1, 0, NULL },
		{ 2, 7, 0, NULL }, { 3, 1, 0, NULL }, { 2, 512, 9, NULL }, { 8, 7, 23, NULL },
		{ 2, 512, 3, "plain" }, { 1, 7, 0, "avx2" }, { 3, 7, 0, "avx512" },
		{ 1, 7, 0, "neon" }, { 3, 7, 0, "dotprod" },
	};
	struct model *m;
	struct gguf *f = open_model(name, &m);
	struct got first, g;
	struct vec v;

	vec_load(name, &v);
	for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
		struct session_opt opt = { .n_batch = how[i].batch, .n_threads = how[i].threads,
			.isa = how[i].isa, .kv_type = kv_type };
		size_t cells = (size_t)v.n_layer * v.n_tok;

		if (how[i].isa && !kern_pick(how[i].isa, NULL))
			continue;
		run(m, &v, i ? &g : &first, opt, how[i].decode);
		if (!i)
			continue;
		if (memcmp(first.logits, g.logits, 4ul * v.n_tok * v.n_vocab))
			fail_msg("%s: %u threads, batch %u, %u decoded, %s: other bits", name, how[i].threads,
				how[i].batch, how[i].decode, how[i].isa ? how[i].isa : "best");
		assert_memory_equal(first.experts, g.experts, cells * v.k * 2);
		assert_memory_equal(first.weights, g.weights, cells * v.k * 4);
		assert_memory_equal(first.rlogits, g.rlogits, cells * v.n_expert * 4);
		got_free(&g);
	}
	got_free(&first);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

static void same_bits(void **state)
{
	same_bits_kv(((const struct of *)*state)->name, SESSION_KV_F16);
}

static void same_bits_of_every_cache(void **state)
{
	(void)state;
	same_bits_kv("qwen3moe", SESSION_KV_Q8_0);
	same_bits_kv("balanced", SESSION_KV_Q8_0);
	same_bits_kv("balanced", SESSION_KV_F32);
	same_bits_kv("gemma3", SESSION_KV_F32);
}

/* ---- adapters ---- */

struct adapter { const char *name; double scale; };

/* The model with adapters, against the reference with their deltas merged into the weights. */
static void adapted(const char *vec, const struct adapter *a, size_t n)
{
	struct session_opt opt = { .n_threads = 2, .kv_type = SESSION_KV_F32,
		.activations = SESSION_ACT_F32 };
	struct model *m;
	struct gguf *f = open_model("qwen2moe", &m), *g[4];
	struct moe_err e = { 0 };
	struct vec v, plain;
	struct got got, again;

	for (size_t i = 0; i < n; i++) {
		char path[256];

		snprintf(path, sizeof path, "tests/data/lora/%s.gguf", a[i].name);
		g[i] = gguf_open(path, &e);
		ok_or_fail(g[i] != NULL, &e);
		ok_or_fail(!model_add_adapter(m, g[i], a[i].scale, &e), &e);
	}
	vec_load(vec, &v);
	vec_load("qwen2moe", &plain);
	run(m, &v, &got, opt, 0);
	compare(&v, &got, vec, 1e-4);
	assert_true(apart(plain.logits, v.logits, (size_t)v.n_tok * v.n_vocab) > 0.5);
	opt.n_batch = 5; /* and the same bits however run */
	opt.n_threads = 3;
	opt.isa = "plain";
	run(m, &v, &again, opt, 7);
	assert_memory_equal(got.logits, again.logits, 4ul * v.n_tok * v.n_vocab);
	got_free(&got);
	got_free(&again);
	vec_free(&v);
	vec_free(&plain);
	model_close(m);
	gguf_close(f);
	for (size_t i = 0; i < n; i++)
		gguf_close(g[i]);
}

static void adapters_are_added(void **state)
{
	(void)state;
	adapted("lora/plain", (struct adapter[]){ { "plain", 1 } }, 1);
	adapted("lora/both", (struct adapter[]){ { "plain", 0.5 }, { "types", -1.25 } }, 2);
}

/* plain.gguf with n_put bytes written `skip` behind the first `find` is refused by the model, with
 * `want`. */
static void bad_adapter(const char *model, const char *find, size_t skip, const void *put, size_t n_put,
	const char *want)
{
	size_t len, n = strlen(find), at;
	char *data = read_file("tests/data/lora/plain.gguf", &len);
	struct model *m;
	struct gguf *f = open_model(model, &m), *g;
	struct moe_err e = { 0 };

	for (at = 0; at + n + skip + n_put <= len && memcmp(data + at, find, n); at++)
		;
	assert_true(at + n + skip + n_put <= len);
	memcpy(data + at + skip, put, n_put);
	g = gguf_open_memory(data, len, "bad.gguf", &e);
	ok_or_fail(g != NULL, &e);
	assert_int_equal(model_add_adapter(m, g, 1, &e), -1);
	if (!strstr(e.msg, want))
		fail_msg("'%s' does not contain '%s'", e.msg, want);
	gguf_close(g);
	model_close(m);
	gguf_close(f);
	free(data);
}

static void bad_renamed(const char *model, const char *find, const char *put, const char *want)
{
	assert_int_equal(strlen(find), strlen(put));
	bad_adapter(model, find, 0, put, strlen(put), want);
}

static void bad_adapters_are_refused(void **state)
{
	(void)state;
	bad_renamed("qwen2moe", "general.type", "general.tYpe", "key general.type is missing: not an adapter");
	bad_renamed("qwen2moe", "lora", "xora", "adapter.type");
	bad_renamed("qwen3moe", "lora", "lora", "general.architecture is 'qwen2moe', expected 'qwen3moe'");
	bad_renamed("qwen2moe", "blk.0.attn_q.weight.lora_a", "blk.9.attn_q.weight.lora_a",
		"blk.9.attn_q.weight.lora_a has no lora_b");
	bad_renamed("qwen2moe", "blk.0.attn_q.weight.lora_b", "blk.9.attn_q.weight.lora_b",
		"blk.0.attn_q.weight.lora_a has no lora_b");
	bad_renamed("qwen2moe", "blk.0.attn_q.weight.lora_b", "blk.0.attn_q.weight.lora_c", "lora_b");
	bad_renamed("qwen2moe", "output.weight.lora_b", "output.weight.merged",
		"output.weight.lora_a has no lora_b");
	/* behind a name: u32 n_dims, u64 dimensions */
	bad_adapter("qwen2moe", "blk.0.attn_q.weight.lora_b", 26 + 4, "\2", 1,
		"blk.0.attn_q.weight.lora_a: dimension 1 is 4, lora_b says rank 2");
	bad_adapter("qwen2moe", "blk.0.attn_q.weight.lora_b", 26 + 12, "\40", 1,
		"blk.0.attn_q.weight.lora_b: dimension 1 is 32, the model's tensor has 64");
	bad_adapter("qwen2moe", "blk.0.ffn_up_exps.weight.lora_a", 31 + 20, "\1", 1,
		"lora_a: dimension 2 is 1, the model's tensor has 8");
	bad_adapter("qwen2moe", "adapter.lora.alpha", 18 + 4, "\0\0\200\177", 4, "adapter.lora.alpha = inf");
}

/* ---- the expert cache ---- */

/* However small the cache and whatever its policy: the bits of a session without one, and counts that
 * the choices explain. */
static void cached(const char *name, struct session_cache c, uint32_t batch, const struct got *plain,
	const struct vec *v, const struct model *m)
{
	struct session_opt opt = { .n_threads = 2, .n_batch = batch, .cache = &c };
	struct got g;
	size_t cells = (size_t)v->n_layer * v->n_tok;

	run(m, v, &g, opt, 6);
	if (memcmp(plain->logits, g.logits, 4ul * v->n_tok * v->n_vocab))
		fail_msg("%s: another result with a cache of %g %%, policy %d, batch %u", name, c.percent, c.policy,
			batch);
	assert_memory_equal(plain->experts, g.experts, cells * v->k * 2);
	assert_memory_equal(plain->weights, g.weights, cells * v->k * 4);
	got_free(&g);
}

static void a_cache_gives_the_same_bits(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		struct session_opt opt = { .n_threads = 2 };
		struct model *m;
		struct gguf *f = open_model(all[i].name, &m);
		double n = (double)model_info(m)->n_moe_layer * model_info(m)->route.n_expert;
		const double percent[] = { 100.1 / n, 100.1 * (model_info(m)->route.k + 1) / n, 50, 100 };
		uint64_t *heat = calloc((size_t)MOE_MAX_LAYER * MOE_MAX_EXPERT, sizeof *heat);
		struct vec v;
		struct got plain;

		vec_load(all[i].name, &v);
		for (size_t j = 0; j < (size_t)v.n_layer * v.n_expert; j++)
			heat[j] = j * 7 % 11;
		run(m, &v, &plain, opt, 6);
		for (size_t j = 0; n > 0 && j < 4; j++)
			for (int p = SESSION_LRU; p <= SESSION_STATIC; p++) {
				struct session_cache c = { .percent = percent[j], .policy = (enum session_policy)p,
					.heat = heat };

				cached(all[i].name, c, p == SESSION_LFU ? 0 : 3, &plain, &v, m);
			}
		free(heat);
		got_free(&plain);
		vec_free(&v);
		model_close(m);
		gguf_close(f);
	}
}

/* Experts of 3 x 8 held: what a least-recently-used cache of `slots` does with a token's experts at a
 * layer, told in sets. used[id]: when, 0 = not held; experts of one moment go by their id. */
static uint32_t lru_hits(uint32_t used[24], uint32_t slots, uint32_t layer, const int32_t *experts, uint32_t k,
	uint32_t now)
{
	uint32_t hits = 0, held, old;

	for (uint32_t r = 0; r < k; r++)
		hits += used[layer * 8 + (uint32_t)experts[r]] != 0;
	for (uint32_t r = 0; r < k; r++)
		used[layer * 8 + (uint32_t)experts[r]] = now * 8 + (uint32_t)experts[r];
	for (;;) {
		held = 0;
		old = 24;
		for (uint32_t id = 0; id < 24; id++) {
			held += used[id] != 0;
			if (used[id] && (old == 24 || used[id] < used[old]))
				old = id;
		}
		if (held <= slots)
			return hits;
		used[old] = 0;
	}
}

static void hits_are_counted(void **state)
{
	enum { SLOTS = 9 };
	struct model *m;
	struct gguf *f = open_model("qwen2moe", &m);
	struct session_cache c = { .percent = 100.1 * SLOTS / 24 };
	struct session_opt opt = { .n_threads = 1, .n_batch = 1, .cache = &c };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	struct session_cache_stat st;
	struct moe_seq_info info = { 0 };
	struct vec v;
	uint32_t hits = 0, used[24] = { 0 };

	(void)state;
	ok_or_fail(s != NULL, &e);
	vec_load("qwen2moe", &v);
	ok_or_fail(!session_begin(s, &info, &e) && !session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, NULL, &e), &e);
	for (uint32_t t = 0; t < v.n_tok; t++)
		for (uint32_t l = 0; l < 3; l++)
			hits += lru_hits(used, SLOTS, l, v.layer[l].experts + t * v.k, v.k, t * 3 + l + 1);
	assert_int_equal(session_cache_stat(s, &st), 1);
	assert_int_equal(st.slots, SLOTS);
	assert_int_equal(st.experts, 24);
	assert_int_equal(st.hits, hits);
	assert_int_equal(st.hits + st.misses, v.n_tok * 3 * v.k);
	assert_int_equal(st.read_bytes, st.misses * st.slot_bytes);
	for (int l = 0; l < 3; l++)
		for (int x = 0; x < 8; x++)
			assert_int_equal(session_holds(s, l, x), used[l * 8 + x] != 0);
	session_free(s);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

/* A file that is cut behind the session's back: an error that says so, whenever it is met, and no hang. */
static void a_cut_file_is_an_error(void **state)
{
	static const char path[] = "/tmp/moescope-test-cut.gguf";
	size_t len;
	unsigned char *data = read_file("tests/data/models/qwen3moe.gguf", &len);
	struct session_cache c = { .percent = 30 };
	struct session_opt opt = { .n_threads = 2, .cache = &c };
	struct moe_seq_info info = { 0 };
	struct moe_err e = { 0 };
	struct model *m;
	struct session *s;
	struct gguf *f;
	struct vec v;
	FILE *out = fopen(path, "wb");

	(void)state;
	assert_int_equal(fwrite(data, 1, len, out), len);
	fclose(out);
	free(data);
	f = open_file(path, &m);
	s = session_new(m, &opt, &e);
	ok_or_fail(s != NULL, &e);
	vec_load("qwen3moe", &v);
	/* what lies behind the last layer's experts is not needed without logits */
	assert_int_equal(truncate(path, (off_t)(gguf_tensor_find(f, "blk.2.ffn_down_exps.weight")->offset + 100)), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(session_begin(s, &info, &e), 0);
		assert_int_equal(session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, NULL, &e), -1);
		if (!strstr(e.msg, "layer 2, expert ") || !strstr(e.msg, "the file was cut"))
			fail_msg("'%s'", e.msg);
	}
	session_free(s);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
	unlink(path);
}

static void impossible_caches_are_refused(void **state)
{
	struct model *m, *dense;
	struct gguf *f = open_model("qwen2moe", &m), *g = open_model("llama", &dense);
	struct session_cache c = { .bytes = 100 };
	struct session_opt opt = { .n_threads = 1, .cache = &c };
	struct moe_err e = { 0 };

	(void)state;
	assert_null(session_new(m, &opt, &e));
	assert_string_equal(e.msg, "an expert cache of 100 bytes: one expert takes 12288, all 24 of them 294912");
	assert_null(session_new(dense, &opt, &e));
	assert_string_equal(e.msg, "an expert cache for a model without experts");
	model_close(m);
	model_close(dense);
	gguf_close(f);
	gguf_close(g);
}

/* Rounded keys and values: the reference rounds its own, in double precision, so a value that lies
 * at a tie may go the other way; but it must be far nearer than a cache without rounding. */
static void rounded_keys_and_values(void **state)
{
	static const struct { const char *vec; int type; } how[] = {
		{ "qwen3moe-f16kv", SESSION_KV_F16 }, { "qwen3moe-q8_0kv", SESSION_KV_Q8_0 },
	};
	struct model *m;
	struct gguf *f = open_model("qwen3moe", &m);
	struct vec exact;
	size_t n;

	(void)state;
	vec_load("qwen3moe", &exact);
	n = (size_t)exact.n_tok * exact.n_vocab;
	for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
		struct session_opt opt = { .n_threads = 1, .kv_type = how[i].type };
		struct vec v;
		struct got g;
		double own, other;

		vec_load(how[i].vec, &v);
		run(m, &v, &g, opt, 5);
		own = apart(g.logits, v.logits, n);
		other = apart(exact.logits, v.logits, n);
		printf("             %s: logits within %.1e; F32 is %.1e away\n", how[i].vec, own, other);
		assert_true(other > 1e-3 && own < other / 3);
		got_free(&g);
		vec_free(&v);
	}
	vec_free(&exact);
	model_close(m);
	gguf_close(f);
}

/* ---- hooks ---- */

static int mask_expert(void *ctx, int layer, uint64_t seq, uint32_t pos, int32_t token, float *logits,
	int n, struct moe_err *e)
{
	(void)layer, (void)seq, (void)pos, (void)token, (void)e;
	assert_in_range(*(int *)ctx, 0, n - 1);
	logits[*(int *)ctx] = -INFINITY;
	return 1;
}

static int only_layer_1(void *ctx, int layer)
{
	(void)ctx;
	return layer == 1;
}

struct seen { int masked, edited, changed, calls; };

static int check_edit(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct seen *s = ctx;
	struct moe_event ev;

	(void)e;
	assert_string_equal(v->editor, "mask");
	for (uint32_t i = 0; i < v->n_tok; i++) {
		moe_event_at(v, i, &ev);
		s->calls++;
		s->edited += !!(ev.flags & MOE_EV_EDITED);
		assert_int_equal(!!(ev.flags & MOE_EV_EDITED), v->layer == 1);
		if (!ev.before) {
			assert_int_not_equal(v->layer, 1);
			continue;
		}
		s->changed += memcmp(ev.before, ev.experts, ev.k * sizeof *ev.experts) != 0;
		if (v->layer == 1)
			for (int r = 0; r < ev.k; r++)
				assert_int_not_equal(ev.experts[r], s->masked);
	}
	return 0;
}

static void an_editing_hook_is_declared_and_seen(void **state)
{
	struct model *m;
	struct gguf *f = open_model("qwen3moe", &m);
	struct seen seen = { .masked = 3 };
	struct moe_hook mask = { .name = "mask", .ctx = &seen.masked, .wants = only_layer_1,
		.edit = mask_expert };
	struct moe_hook watch = { .name = "watch", .ctx = &seen, .route = check_edit };
	struct session_opt opt = { .n_threads = 1 };
	struct moe_seq_info info = { 0 };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	struct vec v;

	(void)state;
	vec_load("qwen3moe", &v);
	ok_or_fail(s && !session_add_hook(s, &mask, &e) && !session_add_hook(s, &watch, &e), &e);
	ok_or_fail(!session_begin(s, &info, &e), &e);
	ok_or_fail(!session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, NULL, &e), &e);
	assert_int_equal(seen.calls, v.n_tok * v.n_moe);
	assert_int_equal(seen.edited, v.n_tok);
	assert_true(seen.changed > 0 && seen.changed <= (int)v.n_tok);
	session_free(s);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

/* ---- cache-aware routing ---- */

struct watch { const struct session *s; uint32_t keep, within; int seen, edited; };

/* The rule of aware.h, told over sets: of the logits' ranking (softmax keeps it) the best `keep`, then
 * held ones up to `within`, then the best of the others. Nothing was read yet for this layer. */
static int check_aware(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct watch *w = ctx;

	(void)e;
	for (uint32_t t = 0; t < v->n_tok; t++) {
		const float *z = v->logits + (size_t)t * v->n_expert;
		uint8_t in[MOE_MAX_EXPERT] = { 0 };
		uint32_t n = 0, differs = 0;
		double sum = 0;

		for (int pass = 0; pass < 3; pass++)
			for (uint32_t r = 0; r < v->n_expert && n < v->k; r++)
				for (uint32_t x = 0; x < v->n_expert && n < v->k; x++) {
					uint32_t rank = 0;

					for (uint32_t y = 0; y < v->n_expert; y++)
						rank += z[y] > z[x] || (z[y] == z[x] && y < x);
					if (rank != r || in[x] || (pass == 0 && rank >= w->keep) || (pass == 1 &&
						(rank >= w->within || !session_holds(w->s, v->layer, (int)x))))
						continue;
					in[x] = 1;
					n++;
					differs |= rank >= v->k;
				}
		for (uint32_t r = 0; r < v->k; r++) {
			if (!in[v->experts[t * v->k + r]])
				fail_msg("layer %u token %u: expert %u was not to be chosen", v->layer, t,
					v->experts[t * v->k + r]);
			sum += exp((double)z[v->experts[t * v->k + r]]);
		}
		for (uint32_t r = 0; r < v->k; r++) /* weights: what the logits say of those chosen */
			assert_true(fabs((double)v->weights[t * v->k + r] -
				exp((double)z[v->experts[t * v->k + r]]) / sum) < 1e-5);
		assert_int_equal((v->flags[t] & MOE_EV_EDITED) != 0, differs);
		w->edited += differs != 0;
		w->seen++;
	}
	return 0;
}

static void aware_routing_follows_its_rule(void **state)
{
	static const uint32_t how[][2] = { { 0, 8 }, { 1, 4 }, { 1, 2 }, { 0, 5 } };
	struct model *m;
	struct gguf *f = open_model("qwen3moe", &m);
	struct session_cache c = { .percent = 60 };
	struct session_opt opt = { .n_threads = 1, .n_batch = 1, .cache = &c };
	struct moe_err e = { 0 };
	struct vec v;

	(void)state;
	vec_load("qwen3moe", &v);
	for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
		struct session *s = session_new(m, &opt, &e);
		struct aware *a = aware_new(s, m, how[i][0], how[i][1], &e);
		struct watch w = { s, how[i][0], how[i][1], 0, 0 };
		struct moe_hook watch = { .name = "watch", .ctx = &w, .route = check_aware };
		struct moe_seq_info info = { 0 };
		uint64_t seen, changed;

		ok_or_fail(a && !session_add_hook(s, aware_hook(a), &e) && !session_add_hook(s, &watch, &e), &e);
		ok_or_fail(!session_begin(s, &info, &e), &e);
		ok_or_fail(!session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, NULL, &e), &e);
		aware_counts(a, &seen, &changed);
		assert_int_equal(seen, v.n_tok * v.n_moe);
		assert_int_equal(w.seen, seen);
		assert_int_equal(w.edited, changed);
		printf("             keep %u, rank %u: %llu of %llu changed\n", w.keep, w.within,
			(unsigned long long)changed, (unsigned long long)seen);
		assert_true(i == 2 ? !changed : changed > 5);
		session_free(s);
		aware_free(a);
	}
	opt.cache = NULL;
	{
		struct session *s = session_new(m, &opt, &e);

		assert_null(aware_new(s, m, 1, 4, &e));
		assert_string_equal(e.msg, "cache-aware routing needs an expert cache");
		session_free(s);
		opt.cache = &c;
		s = session_new(m, &opt, &e);
		assert_null(aware_new(s, m, 2, 4, &e));
		assert_non_null(strstr(e.msg, "of top-2 of 8 experts, keep may be 0 to 1, the rank 2 to 8"));
		assert_null(aware_new(s, m, 0, 9, &e));
		session_free(s);
	}
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

static int fail_at_3(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	(void)ctx;
	if (v->pos[0] >= 3) {
		snprintf(e->msg, sizeof e->msg, "disk full");
		e->code = MOE_ERR_SYS;
		return -1;
	}
	return 0;
}

static void a_failing_hook_stops_the_engine(void **state)
{
	struct model *m;
	struct gguf *f = open_model("mixtral", &m);
	struct moe_hook h = { .name = "writer", .route = fail_at_3 };
	struct session_opt opt = { .n_threads = 1, .n_batch = 1 };
	struct moe_seq_info info = { 0 };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	struct vec v;

	(void)state;
	vec_load("mixtral", &v);
	ok_or_fail(s && !session_add_hook(s, &h, &e) && !session_begin(s, &info, &e), &e);
	assert_int_equal(session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, NULL, &e), -1);
	assert_string_equal(e.msg, "hook writer: disk full");
	assert_int_equal(e.code, MOE_ERR_SYS);
	assert_int_equal(session_pos(s), 3);
	assert_int_equal(session_eval(s, v.tokens, 1, MOE_PREFILL, NULL, &e), -1);
	session_free(s);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

/* ---- refusals ---- */

static void bad_input_is_refused(void **state)
{
	struct model *m;
	struct gguf *f = open_model("mixtral", &m);
	struct session_opt opt = { .n_ctx = 8, .n_threads = 1 };
	struct session_want none = { 0 };
	struct moe_seq_info info = { 0 };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	int32_t ids[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };

	(void)state;
	(void)none;
	ok_or_fail(s != NULL, &e);
	assert_int_equal(session_eval(s, ids, 1, MOE_PREFILL, NULL, &e), -1);
	assert_int_equal(session_begin(s, &info, &e), 0);
	assert_int_equal(session_eval(s, ids, 9, MOE_PREFILL, NULL, &e), -1);
	assert_string_equal(e.msg, "9 tokens at position 0 do not fit in a context of 8");
	ids[2] = 1 << 20;
	assert_int_equal(session_eval(s, ids, 4, MOE_PREFILL, NULL, &e), -1);
	assert_non_null(strstr(e.msg, "1048576"));
	ids[2] = -1;
	assert_int_equal(session_eval(s, ids, 4, MOE_PREFILL, NULL, &e), -1);
	session_free(s);
	opt.isa = "riscv";
	assert_null(session_new(m, &opt, &e));
	opt.isa = NULL;
	opt.n_threads = 1000;
	assert_null(session_new(m, &opt, &e));
	model_close(m);
	gguf_close(f);
}

/* What inspect says of the weights, by the names of the tensors: an expert's count k times of
 * n_expert, a prediction layer's not at all, and the embedding's bytes only for a row. */
struct counts { uint64_t all, active, bytes; };

static void counts_are(const struct gguf *f, const struct model_info *in)
{
	struct counts c = { 0, 0, 0 };
	int tied = gguf_tensor_find(f, "output.weight") == NULL;

	for (size_t i = 0; i < gguf_n_tensors(f); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(f, i);
		uint64_t n = t->ne[0] * t->ne[1] * t->ne[2], read = t->n_bytes, active = n;
		unsigned layer;

		if (sscanf(t->name, "blk.%u.", &layer) == 1 && layer >= in->n_layer)
			continue;
		if (strstr(t->name, "_exps.") && !strstr(t->name, "norm_exps.")) {
			active = n * in->route.k / in->route.n_expert;
			read = t->n_bytes * in->route.k / in->route.n_expert;
		}
		if (!strcmp(t->name, "token_embd.weight") && !tied)
			read = t->n_bytes / t->ne[1];
		c.all += n;
		c.active += active;
		c.bytes += read;
	}
	if (in->n_params != c.all || in->n_params_active != c.active || in->bytes_per_token != c.bytes)
		fail_msg("%s: %lu parameters, %lu active, %lu bytes; expected %lu, %lu, %lu", gguf_path(f),
			(unsigned long)in->n_params, (unsigned long)in->n_params_active,
			(unsigned long)in->bytes_per_token, (unsigned long)c.all, (unsigned long)c.active,
			(unsigned long)c.bytes);
}

static void parameters_are_counted(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		struct model *m;
		struct gguf *f = open_model(all[i].name, &m);

		counts_are(f, model_info(m));
		model_close(m);
		gguf_close(f);
	}
}

static void layers_are_described(void **state)
{
	struct model *m;
	struct gguf *f = open_model("glm4moe", &m);
	const struct model_info *in = model_info(m);

	(void)state;
	assert_int_equal(in->n_layer, 3); /* of 4: the last one predicts */
	assert_int_equal(in->n_nextn, 1);
	assert_int_equal(in->n_unused, 23);
	assert_int_equal(in->n_dense_layer, 1);
	assert_int_equal(in->n_ff, 48);
	assert_int_equal(in->n_moe_layer, 2);
	assert_int_equal(in->layers[0].layer, 1);
	assert_int_equal(in->layers[1].layer, 2);
	assert_int_equal(in->n_ff_shared, 8);
	assert_false(in->shared_gated);
	model_close(m);
	gguf_close(f);
	f = open_model("llama4", &m);
	in = model_info(m);
	assert_int_equal(in->n_moe_layer, 2);
	assert_int_equal(in->layers[0].layer, 1);
	assert_int_equal(in->layers[1].layer, 3);
	assert_int_equal(in->n_window_layer, 3);
	assert_int_equal(in->window, 8192);
	assert_int_equal(in->route.weight, MOE_WEIGHT_SIGMOID);
	model_close(m);
	gguf_close(f);
	f = open_model("deepseek2", &m);
	in = model_info(m);
	assert_int_equal(in->kv_rank, 16);
	assert_int_equal(in->route.n_group, 4);
	assert_int_equal(in->route.n_group_used, 2);
	assert_int_equal(in->route.score, MOE_SCORE_SIGMOID);
	assert_true(in->route.scale == 2.5f);
	model_close(m);
	gguf_close(f);
}

/* The model file with `put` written `skip` bytes after the first `find` must be refused, with `want`
 * in the message. */
static void patched_model(const char *model, const char *find, size_t skip, const void *put,
	size_t n_put, const char *want)
{
	size_t len, n = strlen(find), at;
	char path[256], *data;
	struct moe_err e = { 0 };
	struct gguf *g;

	snprintf(path, sizeof path, "tests/data/models/%s.gguf", model);
	data = read_file(path, &len);

	for (at = 0; at + n + skip + n_put <= len && memcmp(data + at, find, n); at++)
		;
	assert_true(at + n + skip + n_put <= len);
	memcpy(data + at + skip, put, n_put);
	g = gguf_open_memory(data, len, "patched.gguf", &e);
	ok_or_fail(g != NULL, &e);
	if (model_open(g, &e))
		fail_msg("%s: was not refused with '%s'", model, want);
	if (!strstr(e.msg, want))
		fail_msg("'%s' does not contain '%s'", e.msg, want);
	gguf_close(g);
	free(data);
}

static void patched(const char *find, size_t skip, const void *put, size_t n_put, const char *want)
{
	patched_model("qwen3moe", find, skip, put, n_put, want);
}

/* A u32 value follows its key and the four bytes of its type. */
static void patched_u32(const char *key, uint32_t value, const char *want)
{
	patched(key, strlen(key) + 4, &value, 4, want);
}

static void impossible_models_are_refused(void **state)
{
	(void)state;
	patched("qwen3moe", 0, "qwen9moe", 8, "'qwen9moe' is not supported; supported are llama, olmoe");
	patched_u32("qwen3moe.block_count", 0, "block_count = 0");
	patched_u32("qwen3moe.block_count", 513, "block_count = 513");
	patched_u32("qwen3moe.block_count", 0xffffffff, "block_count = 4294967295");
	patched_u32("qwen3moe.block_count", 4, "blk.3.attn_norm.weight is missing");
	patched_u32("qwen3moe.block_count", 2, "tensor blk.2.");
	patched_u32("qwen3moe.block_count", 2, "is not part of architecture qwen3moe (12 of 38 tensors");
	patched_u32("qwen3moe.expert_count", 0, "expert_count is missing or 0");
	patched_u32("qwen3moe.expert_count", 9, "the hyperparameters say 9");
	patched_u32("qwen3moe.expert_used_count", 0, "expert_used_count 0");
	patched_u32("qwen3moe.expert_used_count", 9, "expert_used_count 9 of expert_count 8");
	patched_u32("qwen3moe.attention.head_count", 0, "head_count = 0");
	patched_u32("qwen3moe.attention.head_count", 5, "5 heads cannot share");
	patched_u32("qwen3moe.attention.key_length", 64, "key length 64 and value length 32");
	patched_u32("qwen3moe.embedding_length", 128, "the hyperparameters say 128");
}

static void refused(const char *model, const char *key, uint32_t value, const char *want)
{
	patched_model(model, key, strlen(key) + 4, &value, 4, want);
}

static void refused_f32(const char *model, const char *key, float value, const char *want)
{
	patched_model(model, key, strlen(key) + 4, &value, 4, want);
}

static void impossible_blocks_are_refused(void **state)
{
	(void)state;
	refused("deepseek2", "attention.kv_lora_rank", 0, "kv_lora_rank = 0");
	refused("deepseek2", "attention.kv_lora_rank", 17, "attn_kv_a_mqa.weight: dimension 1 is 24, the "
		"hyperparameters say 25");
	refused("deepseek2", "attention.key_length_mla", 0, "key_length_mla (0) and value_length_mla (12)");
	refused("deepseek2", "attention.key_length_mla", 8, "rope.dimension_count 8: must be below");
	refused("deepseek2", "attention.value_length_mla", 13, "attn_v_b.weight: dimension 1 is 12");
	refused("deepseek2", "attention.q_lora_rank", 25, "attn_q_a.weight: dimension 1 is 24");
	refused("deepseek2", "expert_group_count", 3, "16 experts do not divide into 3 groups");
	refused("deepseek2", "expert_group_used_count", 0, "0 of 4 groups used is not possible");
	refused("deepseek2", "expert_gating_func", 3, "expert_gating_func = 3 is not supported");
	refused("deepseek2", "expert_gating_func", 5, "expert_gating_func = 5: allowed are 0 to 4");
	refused("deepseek2", "expert_shared_count", 3, "ffn_gate_shexp.weight: dimension 1 is 16");
	refused("deepseek2", "leading_dense_block_count", 2, "blk.1.ffn_gate.weight is missing");
	refused("deepseek2", "leading_dense_block_count", 3, "none of 3 layers has experts");
	refused_f32("deepseek2", "expert_weights_scale", -1, "expert_weights_scale = -1");
	refused_f32("deepseek2", "expert_weights_scale", NAN, "expert_weights_scale = ");
	refused("llama4", "interleave_moe_layer_step", 0, "interleave_moe_layer_step = 0");
	refused("llama4", "interleave_moe_layer_step", 1, "blk.0.ffn_gate_inp.weight is missing");
	refused("glm4moe", "nextn_predict_layers", 4, "4 of 4 layers predict further tokens");
	refused("glm4moe", "nextn_predict_layers", 0, "blk.3.nextn.");
	refused("glm4moe", "nextn_predict_layers", 0, "is not part of architecture glm4moe (4 of 78");
	refused("gpt-oss", "attention.sliding_window", 0, "attention.sliding_window is missing or 0");
	patched_model("gpt-oss", "blk.1.attn_sinks", 0, "blk.1.attn_stink", 16, "attn_sinks.weight is missing");
	patched_model("gpt-oss", "blk.2.ffn_down_exps.bias", 20, "boss", 4, "ffn_down_exps.bias is missing");
	patched_model("gpt-oss-yarn", "rope.scaling.type", 17 + 12, "warn", 4, "rope.scaling.type = 'warn' is not supported; "
		"supported are none, linear, yarn, longrope");
	refused_f32("gpt-oss-yarn", "rope.scaling.factor", INFINITY, "rope.scaling.factor = inf");
	patched_model("minimax-m2", "blk.1.exp_probs_b", 0, "blk.1.exp_probs_c", 17, "exp_probs_b.bias is missing");
	refused_f32("granitemoe", "logit_scale", 0, "logit_scale = 0");
	refused_f32("grok", "attn_logit_softcapping", 0, "attn_logit_softcapping = 0");
	refused("qwen2", "feed_forward_length", 0, "feed_forward_length is missing or 0");
	/* one number for each layer: u32 kind, u64 count, then the values */
	refused("granite-layers", "block_count", 2, "head_count has 3 values for 2 layers");
	patched_model("granite-layers", "attention.head_count", 20 + 16, "\0", 1, "head_count = 0 in layer 0");
	patched_model("granite-layers", "feed_forward_length", 19 + 16, "\120\0\0\0\121", 5,
		"blk.1.ffn_gate.weight: dimension 1 is 80, the hyperparameters say 81");
	patched_model("qwen3vlmoe", "rope.dimension_sections", 23 + 16, "\5", 1, "9 pairs of 8");
}

int main(void)
{
	enum { N = sizeof all / sizeof all[0] };
	static const struct CMUnitTest others[] = {
		cmocka_unit_test(same_bits_of_every_cache),
		cmocka_unit_test(adapters_are_added),
		cmocka_unit_test(bad_adapters_are_refused),
		cmocka_unit_test(a_cache_gives_the_same_bits),
		cmocka_unit_test(hits_are_counted),
		cmocka_unit_test(a_cut_file_is_an_error),
		cmocka_unit_test(impossible_caches_are_refused),
		cmocka_unit_test(aware_routing_follows_its_rule),
		cmocka_unit_test(rounded_keys_and_values),
		cmocka_unit_test(an_editing_hook_is_declared_and_seen),
		cmocka_unit_test(a_failing_hook_stops_the_engine),
		cmocka_unit_test(bad_input_is_refused),
		cmocka_unit_test(parameters_are_counted),
		cmocka_unit_test(layers_are_described),
		cmocka_unit_test(impossible_models_are_refused),
		cmocka_unit_test(impossible_blocks_are_refused),
	};
	struct CMUnitTest tests[2 * N + sizeof others / sizeof others[0]];

	for (int i = 0; i < N; i++) {
		tests[i] = (struct CMUnitTest){ all[i].name, agrees, NULL, NULL, (void *)&all[i] };
		tests[N + i] = (struct CMUnitTest){ "same bits", same_bits, NULL, NULL, (void *)&all[i] };
	}
	memcpy(tests + 2 * N, others, sizeof others);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
