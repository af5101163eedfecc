/*
 * test_attention.c - attention over more than one tile of the cache: a plain softmax in double precision
 * over everything that a query sees gives the same; and the bits do not depend on threads or batches.
 *
 * The models give their layers' forms: shared heads, windows and sinks, chunks, a soft cap, latent vectors.
 */
#include "test_util.h"

#include <math.h>

#include "base/rng.h"
#include "model/forward.h"

#define N_POS 600u /* positions: tiles of 256, the last one not full */

struct inputs { float *q, *k, *v; size_t qw, kw, vw; struct attend a; };

/* Of layer il: what its queries, keys and values look like, all random. */
static struct inputs inputs_of(const struct model *m, size_t il, uint64_t seed)
{
	const struct layer *l = &m->layer[il];
	int latent = (l->features & F_MLA) != 0;
	size_t k_dim = latent ? m->hp.kv_rank + m->hp.n_rot : m->hp.head_dim;
	size_t v_dim = latent ? m->hp.kv_rank : m->hp.head_dim, n_kv = latent ? 1 : l->n_head_kv;
	struct inputs in = { .qw = l->n_head * k_dim, .kw = n_kv * k_dim, .vw = n_kv * v_dim,
		.a = { NULL, NULL, l->n_head, n_kv, k_dim, v_dim } };
	float **of[] = { &in.q, &in.k, &in.v };
	size_t width[] = { in.qw, in.kw, in.vw };
	struct rng r;

	rng_seed(&r, seed);
	for (int i = 0; i < 3; i++) {
		*of[i] = malloc(N_POS * width[i] * sizeof(float));
		for (size_t j = 0; j < N_POS * width[i]; j++) /* steep, so that tiles differ in their largest score */
			(*of[i])[j] = (float)((2 * rng_unit(&r) - 1) * (i == 0 ? 4 : 1));
	}
	return in;
}

static int seen(const struct model *m, const struct layer *l, uint32_t pos, uint32_t j)
{
	if (j > pos)
		return 0;
	if (!l->window)
		return 1;
	return m->arch->window == WINDOW_CHUNK ? j / l->window == pos / l->window : pos - j < l->window;
}

/* What the papers say: softmax of the scaled scores, with a sink as one more. */
static void plain(const struct model *m, size_t il, const struct inputs *in, uint32_t pos, size_t head,
	double *out)
{
	const struct layer *l = &m->layer[il];
	size_t kd = in->a.k_dim, vd = in->a.v_dim, kv = head / (in->a.n_head / in->a.n_head_kv);
	const float *q = in->q + pos * in->qw + head * kd;
	double score[N_POS], max = l->sinks ? (double)l->sinks[head] : -INFINITY, sum, cap = m->hp.attn_cap;

	for (uint32_t j = 0; j <= pos; j++) {
		double s = 0;

		for (size_t d = 0; d < kd; d++)
			s += (double)q[d] * (double)in->k[j * in->kw + kv * kd + d];
		s *= (double)m->attn_scale;
		s = cap != 0 ? cap * tanh(s / cap) : s;
		score[j] = seen(m, l, pos, j) ? s : -INFINITY;
		max = fmax(max, score[j]);
	}
	sum = l->sinks ? exp((double)l->sinks[head] - max) : 0;
	memset(out, 0, vd * sizeof *out);
	for (uint32_t j = 0; j <= pos; j++) {
		const float *v = m->layer[il].features & F_MLA ? in->k + j * in->kw : in->v + j * in->vw + kv * vd;
		double p = exp(score[j] - max);

		sum += p;
		for (size_t d = 0; d < vd; d++)
			out[d] += p * (double)v[d];
	}
	for (size_t d = 0; d < vd; d++)
		out[d] /= sum;
}

static float *attended(const struct model *m, size_t il, const struct inputs *in, uint32_t threads,
	uint32_t batch, const char *isa)
{
	struct session_opt opt = { .n_ctx = N_POS, .n_batch = batch, .n_threads = threads, .isa = isa,
		.kv_type = SESSION_KV_F32 };
	size_t ow = in->a.n_head * in->a.v_dim;
	float *o = malloc(N_POS * ow * sizeof *o);
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);

	ok_or_fail(s != NULL, &e);
	for (uint32_t pos = 0, n; pos < N_POS; pos += n) {
		struct attend a = in->a;

		n = N_POS - pos < batch ? N_POS - pos : batch;
		a.q = in->q + pos * in->qw;
		a.o = o + pos * ow;
		s->pos = pos;
		kv_write(s->kv, il, pos, n, in->k + pos * in->kw, in->v + pos * in->vw);
		attend_all(s, il, n, a);
	}
	session_free(s);
	return o;
}

static void compare(const struct model *m, size_t il, const struct inputs *in, const float *o, const char *name)
{
	size_t vd = in->a.v_dim;
	double want[256];

	assert_true(vd <= 256);
	for (uint32_t pos = 0; pos < N_POS; pos += pos > 3 ? 31 : 1)
		for (size_t head = 0; head < in->a.n_head; head++) {
			plain(m, il, in, pos, head, want);
			for (size_t d = 0; d < vd; d++) {
				double got = (double)o[(pos * in->a.n_head + head) * vd + d];

				if (!(fabs(got - want[d]) < 2e-5))
					fail_msg("%s, layer %zu, position %u, head %zu: %g, expected %g", name, il, pos, head,
						got, want[d]);
			}
		}
}

static void tiles_give_the_whole_softmax(void **state)
{
	static const struct { uint32_t threads, batch; const char *isa; } ways[] = { { 1, 1, NULL }, { 2, 1, NULL },
		{ 3, 7, NULL }, { 8, 2, NULL }, { 2, 300, NULL }, { 8, 512, NULL }, { 2, 3, "plain" }, { 2, 64, "avx2" } };
	const char *name = *state;
	struct moe_err e = { 0 };
	char path[256];
	struct gguf *g;
	struct model *m;

	snprintf(path, sizeof path, "tests/data/models/%s.gguf", name);
	g = gguf_open(path, &e);
	ok_or_fail(g != NULL, &e);
	m = model_open(g, &e);
	ok_or_fail(m != NULL, &e);
	for (size_t il = 0; il < m->hp.n_layer; il++) {
		struct inputs in = inputs_of(m, il, 40 + il);
		float *first = attended(m, il, &in, 1, 100, NULL);
		size_t bytes = N_POS * in.a.n_head * in.a.v_dim * sizeof *first;

		compare(m, il, &in, first, name);
		for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
			float *o;

			if (ways[w].isa && !kern_pick(ways[w].isa, &e))
				continue;
			o = attended(m, il, &in, ways[w].threads, ways[w].batch, ways[w].isa);
			if (memcmp(o, first, bytes))
				fail_msg("%s, layer %zu: other bits with %u threads, batches of %u", name, il, ways[w].threads,
					ways[w].batch);
			free(o);
		}
		free(first);
		free(in.q);
		free(in.k);
		free(in.v);
	}
	model_close(m);
	gguf_close(g);
}

int main(void)
{
	static char *const models[] = { "qwen3moe", "gpt-oss", "gemma3", "llama4", "grok", "deepseek2", "glm4moe" };
	struct CMUnitTest tests[sizeof models / sizeof models[0]];

	for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
		tests[i] = (struct CMUnitTest){ models[i], tiles_give_the_whole_softmax, NULL, NULL, models[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
