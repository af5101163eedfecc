/*
 * fuzz_model.c - any metadata and any tensor records in front of weights: the model, its tokenizer
 * or a session on it are refused with a message, or a few tokens run through it. See fuzz.h.
 *
 * An input is the file up to its first tensor's data; the weights behind it are made here and
 * always the same. So mutations fall on what is parsed. Every other input also has one
 * hyperparameter replaced by a number that tends to break sizes: which one follows from the input's
 * bytes.
 *
 * Bounds: a case may take 20 seconds (alarm), and a refused one 64 MiB of memory beside the file.
 * Run from the repository's root.
 */
#define _GNU_SOURCE /* memmem */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/rng.h"
#include "fuzz.h"
#include "model/model.h"
#include "tok/tok.h"

#define WEIGHTS (720u << 10) /* the largest seed needs 700 kB */

static void check(int ok)
{
	if (!ok)
		abort();
}

static void said(const struct moe_err *e)
{
	check(e->code != MOE_OK && e->msg[0] && memchr(e->msg, 0, sizeof e->msg));
	check(!strpbrk(e->msg, "\n\033"));
}

/* One number behind a key, if the input's bytes say so. */
static void change_key(uint8_t *p, size_t n)
{
	static const char *const keys[] = { "block_count", "context_length", "embedding_length",
		"feed_forward_length", "attention.head_count", "attention.head_count_kv",
		"attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon",
		"rope.freq_base", "rope.dimension_count", "expert_count", "expert_used_count",
		"expert_feed_forward_length", "expert_shared_feed_forward_length", "bos_token_id",
		"eos_token_id", "general.alignment", "expert_group_count", "expert_group_used_count",
		"expert_gating_func", "expert_weights_scale", "expert_shared_count",
		"leading_dense_block_count", "interleave_moe_layer_step", "nextn_predict_layers",
		"attention.kv_lora_rank", "attention.q_lora_rank", "attention.key_length_mla",
		"attention.value_length_mla", "attention.sliding_window", "attention.clamp_kqv",
		"attention.temperature_scale", "attention.output_scale", "attn_logit_softcapping",
		"final_logit_softcapping", "embedding_scale", "logit_scale", "residual_scale",
		"rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.attn_factor",
		"rope.scaling.yarn_log_multiplier", "rope.scaling.yarn_beta_fast" };
	static const uint32_t values[] = { 0, 1, 2, 3, 7, 8, 9, 16, 64, 127, 128, 255, 256, 512, 513,
		1024, 1025, 4096, 65535, 65536, 1 << 20, 1 << 24, (1 << 24) + 1, 0x7fffffff, 0x80000000,
		0xffffffff, 0x7f800000, 0x7fc00000, 0xff800000 };
	uint64_t hash = 1469598103934665603u;
	struct rng r;
	const char *key;
	uint8_t *at;

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ p[i]) * 1099511628211u;
	rng_seed(&r, hash);
	for (uint64_t some = rng_below(&r, 3); some; some--) {
		key = keys[rng_below(&r, sizeof keys / sizeof *keys)];
		at = memmem(p, n, key, strlen(key));
		if (!at || (size_t)(p + n - at) < strlen(key) + 8)
			continue;
		at += strlen(key) + 4; /* behind the kind of the value */
		memcpy(at, &values[rng_below(&r, sizeof values / sizeof *values)], 4);
	}
}

static int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	(void)pos, (void)e;
	*(float *)ctx += row[0];
	return 0;
}

static int on_route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	(void)ctx, (void)e;
	for (size_t i = 0; i < (size_t)v->n_tok * v->k; i++)
		check(v->experts[i] < v->n_expert);
	return 0;
}

/* Prefill, then two decoded tokens. */
static void use(const struct model *m, const struct tok *t)
{
	const struct session_opt opt = { .n_ctx = 16, .n_batch = 5, .n_threads = 1 };
	struct moe_hook hook = { .name = "fuzz", .route = on_route };
	struct moe_seq_info info = { .seq = 1 };
	struct moe_seq_result res = { .seq = 1 };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	uint32_t n_vocab = model_info(m)->n_vocab;
	struct session_want want = { 1, on_logits, NULL };
	float sum = 0;
	int32_t *ids, few[9];
	size_t n;

	if (!s) {
		said(&e);
		return;
	}
	want.ctx = &sum;
	for (size_t i = 0; i < 9; i++)
		few[i] = (int32_t)(i * 31 % n_vocab);
	check(!session_add_hook(s, &hook, &e));
	check(!session_begin(s, &info, &e));
	check(!session_eval(s, few, session_ctx(s) < 9 ? session_ctx(s) : 9, MOE_PREFILL, &want, &e));
	if (t && tok_n_vocab(t) <= n_vocab &&
	    !tok_encode(t, "fuzz <|x|> \xff", 12, TOK_BOS, &ids, &n, &e)) {
		n = n < session_ctx(s) - session_pos(s) ? n : session_ctx(s) - session_pos(s);
		check(!session_eval(s, ids, n, MOE_DECODE, &want, &e));
		free(ids);
	}
	check(!session_end(s, &res, &e));
	session_free(s);
}

static long peak_kib(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_maxrss;
}

static void one_case(const uint8_t *file, size_t size)
{
	struct moe_err e = { 0 };
	struct gguf *g = gguf_open_memory(file, size, "fuzz", &e);
	struct model *m = g ? model_open(g, &e) : NULL;
	struct tok *t;

	if (!m) {
		said(&e);
	} else {
		memset(&e, 0, sizeof e);
		t = tok_load(g, &e);
		if (!t)
			said(&e);
		use(m, t);
		tok_free(t);
	}
	model_close(m);
	gguf_close(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *file = malloc(size + WEIGHTS);
	long before = peak_kib(), grown;
	float w;

	if (!file)
		return 0;
	if (size)
		memcpy(file, data, size);
	for (size_t i = 0; i + 4 <= WEIGHTS; i += 4) {
		w = (float)((i * 2654435761u >> 8 & 0xff) / 512.0 - 0.25);
		memcpy(file + size + i, &w, 4);
	}
	if (size)
		change_key(file, size);
	alarm(20);
	one_case(file, size + WEIGHTS);
	alarm(0);
	free(file);
	grown = peak_kib() - before;
	(void)grown;
#ifndef __SANITIZE_ADDRESS__
	check(grown < (64 << 10) + (long)((size + WEIGHTS) >> 10));
#endif
	return 0;
}

/* The models of tests/data up to their weights, of every architecture: those that the engine does
 * not have are refused by name. */
int fuzz_seed(unsigned i, struct bytes *b)
{
	static const char *const names[] = { "qwen3moe", "mixtral", "olmoe", "qwen2moe", "llama",
		"granitemoe", "deepseek2", "deepseek2-lite", "deepseek2-r1", "deepseek2-v2", "gpt-oss",
		"gpt-oss-yarn", "phimoe", "dbrx", "glm4moe", "ernie4_5-moe", "llama4", "arctic", "grok",
		"grok-2", "bailingmoe", "bailingmoe2", "deepseek", "hunyuan-moe", "dots1", "minimax-m2",
		"llama3", "llama-linear", "mistral3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3",
		"qwen3vlmoe", "granite" };
	uint64_t end = UINT64_MAX;
	char path[128];
	struct moe_err e;
	struct gguf *g;

	if (i >= sizeof names / sizeof *names)
		return 0;
	snprintf(path, sizeof path, "tests/data/models/%s.gguf", names[i]);
	g = gguf_open(path, &e);
	if (!g) {
		fprintf(stderr, "%s\n", e.msg);
		exit(4);
	}
	for (size_t k = 0; k < gguf_n_tensors(g); k++)
		if (gguf_tensor_at(g, k)->offset < end)
			end = gguf_tensor_at(g, k)->offset;
	put(b, (const uint8_t *)gguf_tensor_at(g, 0)->data - gguf_tensor_at(g, 0)->offset, end);
	gguf_close(g);
	return 1;
}
