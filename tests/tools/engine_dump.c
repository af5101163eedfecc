/*
 * engine_dump.c - what the engine makes of a model and tokens, as a vector file, to be compared
 * with another engine's (tests/ref/models_table.sh).
 *
 *	build/tests/engine_dump MODEL.gguf TOKENS.vec OUT.vec ...	any number of pairs
 *	build/tests/engine_dump --greedy N MODEL.gguf TOKENS.vec	N tokens after those, the likeliest
 *									each time: id and lead on the second
 *
 * tests/ref/forward.py describes the files; of TOKENS.vec only the head and the ids are read. Exit
 * status 3 and the engine's message on stderr if it refuses the model.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

struct vec {
	uint32_t head[6]; /* tokens, vocabulary, layers, experts, k, MoE layers */
	int32_t *ids;
	float *logits;    /* [tokens][vocabulary] */
	struct seen {
		float *logits, *weights, *margin;
		int32_t *experts;
		int shown;
	} layer[MOE_MAX_LAYER];
};

static struct vec v;
static uint32_t best, second;
static float lead;

static void stop(int status, const char *what, const char *why)
{
	fprintf(stderr, "%s%s%s\n", what, *what ? ": " : "", why);
	exit(status);
}

static void *need(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size);

	if (!p)
		stop(4, "engine_dump", "out of memory");
	return p;
}

static void read_ids(const char *path)
{
	FILE *f = fopen(path, "rb");
	char magic[8];

	if (!f || fread(magic, 1, 8, f) != 8 || memcmp(magic, "MOEVEC1\n", 8) ||
		fread(v.head, 4, 6, f) != 6)
		stop(2, path, "not a vector file");
	v.ids = need(v.head[0], 4);
	if (fread(v.ids, 4, v.head[0], f) != v.head[0])
		stop(2, path, "ends within its tokens");
	fclose(f);
}

static int keep_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	(void)ctx;
	(void)e;
	memcpy(v.logits + (size_t)pos * v.head[1], row, v.head[1] * 4ul);
	return 0;
}

static int keep_best(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	(void)ctx;
	(void)pos;
	(void)e;
	best = 0;
	second = 1;
	if (row[1] > row[0])
		best = 1, second = 0;
	for (uint32_t i = 2; i < v.head[1]; i++) {
		if (row[i] > row[best])
			second = best, best = i;
		else if (row[i] > row[second])
			second = i;
	}
	lead = row[best] - row[second];
	return 0;
}

static int keep_route(void *ctx, const struct moe_route_view *r, struct moe_err *e)
{
	struct seen *l = &v.layer[r->layer];
	size_t n = v.head[0];

	(void)ctx;
	(void)e;
	if (!l->shown) {
		l->logits = need(n * r->n_expert, 4);
		l->experts = need(n * r->k, 4);
		l->weights = need(n * r->k, 4);
		l->margin = need(n, 4);
		l->shown = 1;
	}
	v.head[3] = r->n_expert;
	v.head[4] = r->k;
	for (uint32_t i = 0; i < r->n_tok; i++) {
		uint32_t pos = r->pos[i];

		memcpy(l->logits + (size_t)pos * r->n_expert, r->logits + (size_t)i * r->n_expert,
			r->n_expert * 4ul);
		memcpy(l->weights + (size_t)pos * r->k, r->weights + (size_t)i * r->k, r->k * 4ul);
		for (uint32_t j = 0; j < r->k; j++)
			l->experts[(size_t)pos * r->k + j] = r->experts[(size_t)i * r->k + j];
		l->margin[pos] = r->margin[i];
	}
	return 0;
}

static void put(FILE *f, const void *p, size_t n)
{
	if (fwrite(p, 4, n, f) != n)
		stop(4, "engine_dump", "writing failed");
}

static void write_vec(const char *path)
{
	FILE *f = fopen(path, "wb");
	size_t n = v.head[0];

	if (!f)
		stop(4, path, "cannot be written");
	v.head[5] = 0;
	for (uint32_t i = 0; i < MOE_MAX_LAYER; i++)
		v.head[5] += (uint32_t)v.layer[i].shown;
	put(f, "MOEVEC1\n", 2);
	put(f, v.head, 6);
	put(f, v.ids, n);
	put(f, v.logits, n * v.head[1]);
	for (uint32_t i = 0; i < MOE_MAX_LAYER; i++) {
		struct seen *l = &v.layer[i];

		if (!l->shown)
			continue;
		put(f, &i, 1);
		put(f, l->logits, n * v.head[3]);
		put(f, l->experts, n * v.head[4]);
		put(f, l->weights, n * v.head[4]);
		put(f, l->margin, n);
		free(l->logits);
		free(l->experts);
		free(l->weights);
		free(l->margin);
		l->shown = 0;
	}
	if (fclose(f))
		stop(4, path, "writing failed");
	free(v.logits);
	free(v.ids);
}

/* One sequence: the ids, then n_new more, each the likeliest. */
static void run(const struct model *m, uint32_t n_new, struct moe_err *e)
{
	/* whole 256s, as llama_dump: some models choose their RoPE factors by the context's length */
	struct session_opt opt = { .n_ctx = (v.head[0] + n_new + 255) / 256 * 256, .n_threads = 1,
		.kv_type = SESSION_KV_F32, .activations = SESSION_ACT_F32 };
	struct moe_hook hook = { .name = "dump", .route = keep_route };
	struct session_want want = { !n_new, n_new ? keep_best : keep_logits, NULL };
	struct moe_seq_info info = { .seq = 1 };
	struct moe_seq_result result = { .seq = 1 };
	struct session *s = session_new(m, &opt, e);

	if (!s || (!n_new && session_add_hook(s, &hook, e)) || session_begin(s, &info, e) ||
		session_eval(s, v.ids, v.head[0], MOE_PREFILL, &want, e))
		stop(3, "", e->msg);
	for (uint32_t i = 0; i < n_new; i++) {
		int32_t id = (int32_t)best;

		printf("%d %.9g\n", id, (double)lead);
		if (session_eval(s, &id, 1, MOE_DECODE, &want, e))
			stop(3, "", e->msg);
	}
	if (session_end(s, &result, e))
		stop(3, "", e->msg);
	session_free(s);
}

int main(int argc, char **argv)
{
	int n_new = argc == 5 && !strcmp(argv[1], "--greedy") ? atoi(argv[2]) : 0;
	struct moe_err e = { 0 };
	struct gguf *g;
	struct model *m;

	if (!n_new && (argc < 4 || argc % 2))
		stop(2, "usage", "engine_dump MODEL TOKENS.vec OUT.vec ... | --greedy N MODEL TOKENS.vec");
	g = gguf_open(argv[n_new ? 3 : 1], &e);
	m = g ? model_open(g, &e) : NULL;
	if (!m)
		stop(3, "", e.msg);
	for (int i = n_new ? 4 : 2; i < argc; i += 2) {
		read_ids(argv[i]);
		v.head[1] = model_info(m)->n_vocab;
		v.head[2] = model_info(m)->n_layer;
		v.head[3] = v.head[4] = 0;
		if (!n_new)
			v.logits = need((size_t)v.head[0] * v.head[1], 4);
		run(m, (uint32_t)n_new, &e);
		if (n_new)
			free(v.ids);
		else
			write_vec(argv[i + 1]);
	}
	model_close(m);
	gguf_close(g);
	return 0;
}
