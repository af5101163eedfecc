/*
 * report_world.h - databases written through the public writer, as an engine would: struct world
 * says of what shape. Routing follows a rule, so that tests can count again what a view says.
 */
#ifndef REPORT_WORLD_H
#define REPORT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <moescope/trace.h>

struct world {
	unsigned n_layer, n_expert, k, n_doc, n_tok; /* tokens per document */
	enum moe_detail detail;
	const char *const *domain;  /* [n_domain] */
	unsigned n_domain;
	const char *model;          /* every string of the run */
};

static char db_path[] = "/tmp/test_report.XXXXXX";

/* A name of our own for db_path, for cmocka's set-up. */
static inline int world_set_up(void **state)
{
	int fd = mkstemp(db_path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

/* Domain d prefers expert d of each layer; the others go round. */
static inline void write_document(struct moe_hook *h, const struct world *w, unsigned doc)
{
	enum { N = 16 };
	static uint64_t seq[N];
	static uint32_t pos[N];
	static int32_t tok[N];
	static uint16_t experts[N * 8];
	static float weights[N * 8], margin[N], logits[N * 256];
	static uint8_t flags[N];
	unsigned d = w->n_domain ? doc % w->n_domain : 0;
	char name[128]; /* a document each: parts of one document count as one */
	struct moe_seq_info s = { .seq = doc + 1, .domain = w->n_domain ? w->domain[d] : NULL,
		.name = name, .n_prompt = w->n_tok };
	struct moe_seq_result r = { .seq = doc + 1, .n_prompt = w->n_tok, .n_scored = w->n_tok,
		.nll = w->n_tok * (1.5 + d), .n_bytes = w->n_tok * 4 };
	struct moe_err e = { 0 };

	snprintf(name, sizeof name, "%s %u", w->model, doc);
	assert_int_equal(h->seq_begin(h->ctx, &s, &e), 0);
	for (unsigned p0 = 0; p0 < w->n_tok; p0 += N) {
		unsigned n = w->n_tok - p0 < N ? w->n_tok - p0 : N;
		struct moe_batch_info b = { .seq = doc + 1, .pos0 = p0, .n_tok = n, .busy_ns = 1000000,
			.phase = p0 + n == w->n_tok ? MOE_DECODE : MOE_PREFILL };

		for (unsigned l = 0; l < w->n_layer; l++) {
			struct moe_route_view v = { .layer = (uint16_t)(l + 1), .n_expert =
				(uint16_t)w->n_expert,
				.k = (uint16_t)w->k, .phase = b.phase, .n_tok = n, .seq = seq, .pos = pos,
				.token = tok,
				.experts = experts, .weights = weights, .margin = margin, .logits = logits,
				.flags = flags };

			for (unsigned t = 0; t < n; t++) {
				unsigned first = (p0 + t) % 3 ? d % w->n_expert : (p0 + t + doc) % w->n_expert;

				seq[t] = doc + 1, pos[t] = p0 + t, tok[t] = (int32_t)(p0 + t), margin[t] = 0.25f;
				for (unsigned x = 0; x < w->n_expert; x++)
					logits[t * w->n_expert + x] = 0;
				for (unsigned i = 0; i < w->k; i++) {
					experts[t * w->k + i] = (uint16_t)((first + i) % w->n_expert);
					weights[t * w->k + i] = 1.0f / (float)w->k;
					logits[t * w->n_expert + experts[t * w->k + i]] = 2.0f - 0.01f * (float)i;
				}
			}
			assert_int_equal(h->route(h->ctx, &v, &e), 0);
		}
		assert_int_equal(h->batch_end(h->ctx, &b, &e), 0);
	}
	assert_int_equal(h->seq_end(h->ctx, &r, &e), 0);
}

static inline void write_db(const char *path, const struct world *w)
{
	struct moe_layer_desc layers[64];
	struct moe_trace_opt o = { .detail = w->detail };
	struct moe_run_desc d = { .command = w->model, .model_name = w->model, .model_path = w->model,
		.arch = w->model, .quant = w->model, .tokenizer = w->model, .router = w->model,
		.score = "softmax", .engine = w->model, .isa = w->model, .layers = layers,
		.n_moe_layer = w->n_layer, .n_layer = w->n_layer + 1, .n_vocab = 1000, .n_threads = 1 };
	struct moe_err e = { 0 };
	struct moe_trace *t;

	for (unsigned i = 0; i < w->n_layer; i++)
		layers[i] = (struct moe_layer_desc){ (uint16_t)(i + 1), (uint16_t)w->n_expert,
			(uint16_t)w->k };
	unlink(path);
	t = moe_trace_open(path, &o, &d, &e);
	if (!t)
		fail_msg("%s", e.msg);
	for (unsigned i = 0; i < w->n_doc; i++)
		write_document(moe_trace_hook(t), w, i);
	if (moe_trace_close(t, MOE_RUN_DONE, &e))
		fail_msg("%s", e.msg);
}

static inline void remove_db(const char *path)
{
	char side[80];

	unlink(path);
	snprintf(side, sizeof side, "%s-wal", path);
	unlink(side);
	snprintf(side, sizeof side, "%s-shm", path);
	unlink(side);
}

#endif
