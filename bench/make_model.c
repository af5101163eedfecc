/*
 * make_model.c - a model file with random weights and the dimensions of a published one, to measure
 * speed with: few layers, everything else in its real size, the vocabulary too.
 *
 *	make_model olmoe|qwen3moe|deepseek2 LAYERS OUTPUT.gguf
 *
 * Matrices are F16, normally distributed with a deviation of 1 / sqrt(row), norms and routers F32;
 * `moescope quantize` makes the other types. Of DeepSeek-V2's 160 experts there are 16, and no dense layer
 * before them: it is for latent attention, 128 heads of it. Tokens are the strings of one to four small letters beside
 * the 256 bytes, so that a text has a byte-pair encoding. Run again it writes the same bytes.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/qtype.h"
#include "base/rng.h"
#include "gguf/gguf.h"
#include "gguf/write.h"
#include "kern/half.h"

/* To add a model: a row; a further tensor: a line in all_tensors. */
static const struct dims {
	const char *arch, *name, *pre;
	uint32_t d, heads, kv, head, ff, experts, k, vocab, ctx;
	int head_norm;             /* norms of q and k: of each head, or of all together */
	float base, eps;
	/* latent attention: ranks, and what of a head is not rotated, is rotated, is a value; shared experts */
	uint32_t q_rank, kv_rank, nope, rot, value, shared;
} models[] = {
	{ "olmoe", "OLMoE-1B-7B", "olmo", 2048, 16, 16, 128, 1024, 64, 8, 50304, 32768, 0, 10000, 1e-5f, 0, 0, 0, 0, 0, 0 },
	{ "qwen3moe", "Qwen3-30B-A3B", "qwen2", 2048, 32, 4, 128, 768, 128, 8, 151936, 32768, 1, 1000000, 1e-6f, 0, 0, 0, 0, 0, 0 },
	{ "deepseek2", "DeepSeek-V2", "deepseek-llm", 5120, 128, 1, 576, 1536, 16, 6, 102400, 163840, 0, 10000, 1e-6f,
	  1536, 512, 128, 64, 128, 2 },
};

static struct gguf_out *out;
static struct moe_err e;

static void need(int failed)
{
	if (!failed)
		return;
	fprintf(stderr, "make_model: %s\n", e.msg);
	gguf_out_free(out);
	exit(4);
}

/* ---- metadata ---- */

static void add(struct buf *b, uint64_t v, size_t bytes)
{
	buf_add(b, &v, bytes);
}

static void put_raw(const char *key, struct buf *b)
{
	need(gguf_out_kv(out, key, b->data, b->len, &e));
	buf_free(b);
}

static void put_str(const char *key, const char *s)
{
	struct buf b;

	buf_init(&b, 4096);
	add(&b, GGUF_STR, 4);
	add(&b, strlen(s), 8);
	buf_str(&b, s);
	put_raw(key, &b);
}

static void put_f32(const char *key, float f)
{
	struct buf b;

	buf_init(&b, 8);
	add(&b, GGUF_F32, 4);
	buf_add(&b, &f, 4);
	put_raw(key, &b);
}

static const char *key_of(const struct dims *m, const char *end)
{
	static char key[64];

	snprintf(key, sizeof key, "%s.%s", m->arch, end);
	return key;
}

static void hyperparameters(const struct dims *m, uint32_t layers)
{
	const struct { const char *key; uint32_t v; } numbers[] = { { "context_length", m->ctx },
		{ "embedding_length", m->d }, { "block_count", layers }, { "feed_forward_length", m->ff },
		{ "attention.head_count", m->heads }, { "attention.head_count_kv", m->kv },
		{ "attention.key_length", m->head },
		{ "attention.value_length", m->kv_rank ? m->kv_rank : m->head },
		{ "rope.dimension_count", m->rot ? m->rot : m->head }, { "vocab_size", m->vocab }, { "expert_count", m->experts },
		{ "expert_used_count", m->k }, { "expert_feed_forward_length", m->ff } };
	const struct { const char *key; uint32_t v; } latent[] = { { "attention.q_lora_rank", m->q_rank },
		{ "attention.kv_lora_rank", m->kv_rank }, { "attention.key_length_mla", m->nope + m->rot },
		{ "attention.value_length_mla", m->value }, { "leading_dense_block_count", 0 },
		{ "expert_shared_count", m->shared }, { "expert_group_count", 1 }, { "expert_group_used_count", 1 } };
	char name[96];

	snprintf(name, sizeof name, "random weights, %s's dimensions, %u layers", m->name, layers);
	put_str("general.architecture", m->arch);
	put_str("general.name", name);
	need(gguf_out_u32(out, "general.file_type", 1, &e) ||
		gguf_out_u32(out, "general.quantization_version", 2, &e));
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		need(gguf_out_u32(out, key_of(m, numbers[i].key), numbers[i].v, &e));
	for (size_t i = 0; m->kv_rank && i < sizeof latent / sizeof latent[0]; i++)
		need(gguf_out_u32(out, key_of(m, latent[i].key), latent[i].v, &e));
	if (m->kv_rank)
		put_f32(key_of(m, "expert_weights_scale"), 1);
	put_f32(key_of(m, "attention.layer_norm_rms_epsilon"), m->eps);
	put_f32(key_of(m, "rope.freq_base"), m->base);
}

/* A byte as byte-level encodings write it: itself if it can be seen,
 * else a character from 256 on. */
static void byte_token(struct buf *b, int c)
{
	int seen = (c >= '!' && c <= '~') || (c >= 0xa1 && c <= 0xac) || c >= 0xae, n = 0;

	for (int i = 0; i < c && !seen; i++)
		n += !((i >= '!' && i <= '~') || (i >= 0xa1 && i <= 0xac) || i >= 0xae);
	c = seen ? c : 256 + n;
	if (c < 0x80) {
		add(b, 1, 8);
		add(b, (uint64_t)c, 1);
	} else {
		add(b, 2, 8);
		add(b, 0xc0u | (unsigned)c >> 6, 1);
		add(b, 0x80u | ((unsigned)c & 63), 1);
	}
}

/* Word i of two letters, then of three, then of four, into s; its length. */
static size_t word(uint32_t i, char s[5])
{
	size_t n = 2;

	for (uint32_t of = 26 * 26; i >= of; of *= 26, n++)
		i -= of;
	for (size_t j = n; j--; i /= 26)
		s[j] = (char)('a' + i % 26);
	s[n] = 0;
	return n;
}

static void vocabulary(const struct dims *m)
{
	static const char *const special[] = { "<|bos|>", "<|eos|>", "<|pad|>" };
	static const char *const id[] = { "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
		"tokenizer.ggml.padding_token_id" };
	uint32_t words = m->vocab - 256 - 3;
	struct buf tok, kind, merge;
	char s[5];

	buf_init(&tok, 1 << 24);
	buf_init(&kind, 1 << 24);
	buf_init(&merge, 1 << 24);
	add(&tok, GGUF_ARR | (uint64_t)GGUF_STR << 32, 8);
	add(&tok, m->vocab, 8);
	add(&kind, GGUF_ARR | (uint64_t)GGUF_I32 << 32, 8);
	add(&kind, m->vocab, 8);
	add(&merge, GGUF_ARR | (uint64_t)GGUF_STR << 32, 8);
	add(&merge, words, 8);
	for (int c = 0; c < 256; c++)
		byte_token(&tok, c);
	for (uint32_t i = 0; i < words; i++) {
		size_t n = word(i, s);

		add(&tok, n, 8);
		buf_add(&tok, s, n);
		add(&merge, n + 1, 8);
		buf_add(&merge, s, n - 1);
		buf_str(&merge, " ");
		buf_add(&merge, s + n - 1, 1);
	}
	for (int i = 0; i < 3; i++) {
		add(&tok, strlen(special[i]), 8);
		buf_str(&tok, special[i]);
		need(gguf_out_u32(out, id[i], m->vocab - 3 + (uint32_t)i, &e));
	}
	for (uint32_t i = 0; i < m->vocab; i++)
		add(&kind, i < m->vocab - 3 ? 1 : 3, 4); /* ordinary, control */
	put_str("tokenizer.ggml.model", "gpt2");
	put_str("tokenizer.ggml.pre", m->pre);
	put_raw("tokenizer.ggml.tokens", &tok);
	put_raw("tokenizer.ggml.token_type", &kind);
	put_raw("tokenizer.ggml.merges", &merge);
}

/* ---- tensors ---- */

typedef void tensor_fn(const char *name, uint32_t type, uint64_t n0, uint64_t n1, uint64_t n2);

struct row { const char *name; uint32_t type; uint64_t ne[3]; };

static void layer_rows(uint32_t layer, const struct row *rows, size_t n, tensor_fn *fn)
{
	char name[64];

	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof name, "blk.%u.%s.weight", layer, rows[i].name);
		fn(name, rows[i].type, rows[i].ne[0], rows[i].ne[1], rows[i].ne[2]);
	}
}

/* All tensors in the order of the file. */
static void all_tensors(const struct dims *m, uint32_t layers, tensor_fn *fn)
{
	uint32_t q = m->heads * m->head, kv = m->kv * m->head;

	fn("token_embd.weight", QT_F16, m->d, m->vocab, 1);
	for (uint32_t l = 0; l < layers; l++) {
		const struct row latent[] = {
			{ "attn_norm", QT_F32, { m->d, 1, 1 } },
			{ "attn_q_a", QT_F16, { m->d, m->q_rank, 1 } },
			{ "attn_q_a_norm", QT_F32, { m->q_rank, 1, 1 } },
			{ "attn_q_b", QT_F16, { m->q_rank, m->heads * (m->nope + m->rot), 1 } },
			{ "attn_kv_a_mqa", QT_F16, { m->d, m->kv_rank + m->rot, 1 } },
			{ "attn_kv_a_norm", QT_F32, { m->kv_rank, 1, 1 } },
			{ "attn_k_b", QT_F16, { m->nope, m->kv_rank, m->heads } },
			{ "attn_v_b", QT_F16, { m->kv_rank, m->value, m->heads } },
			{ "attn_output", QT_F16, { m->heads * m->value, m->d, 1 } },
			{ "ffn_gate_shexp", QT_F16, { m->d, m->shared * m->ff, 1 } },
			{ "ffn_up_shexp", QT_F16, { m->d, m->shared * m->ff, 1 } },
			{ "ffn_down_shexp", QT_F16, { m->shared * m->ff, m->d, 1 } },
		}, plain[] = {
			{ "attn_norm", QT_F32, { m->d, 1, 1 } },
			{ "attn_q", QT_F16, { m->d, q, 1 } },
			{ "attn_k", QT_F16, { m->d, kv, 1 } },
			{ "attn_v", QT_F16, { m->d, kv, 1 } },
			{ "attn_output", QT_F16, { q, m->d, 1 } },
			{ "attn_q_norm", QT_F32, { m->head_norm ? m->head : q, 1, 1 } },
			{ "attn_k_norm", QT_F32, { m->head_norm ? m->head : kv, 1, 1 } },
		}, experts[] = {
			{ "ffn_norm", QT_F32, { m->d, 1, 1 } },
			{ "ffn_gate_inp", QT_F32, { m->d, m->experts, 1 } },
			{ "ffn_gate_exps", QT_F16, { m->d, m->ff, m->experts } },
			{ "ffn_up_exps", QT_F16, { m->d, m->ff, m->experts } },
			{ "ffn_down_exps", QT_F16, { m->ff, m->d, m->experts } },
		};

		if (m->kv_rank)
			layer_rows(l, latent, sizeof latent / sizeof latent[0], fn);
		else
			layer_rows(l, plain, sizeof plain / sizeof plain[0], fn);
		layer_rows(l, experts, sizeof experts / sizeof experts[0], fn);
	}
	fn("output_norm.weight", QT_F32, m->d, 1, 1);
	fn("output.weight", QT_F16, m->d, m->vocab, 1);
}

static void describe(const char *name, uint32_t type, uint64_t n0, uint64_t n1, uint64_t n2)
{
	uint64_t ne[3] = { n0, n1, n2 };

	need(gguf_out_tensor(out, name, type, n1 == 1 ? 1 : n2 == 1 ? 2 : 3, ne, &e));
}

#define SAMPLES 65536
static float normal[SAMPLES]; /* that weights are drawn from */
static struct rng rng;

static void draw_samples(void)
{
	for (size_t i = 0; i < SAMPLES; i++) /* Box and Muller */
		normal[i] = (float)(sqrt(-2 * log(1 - rng_unit(&rng))) *
			cos(6.283185307179586 * rng_unit(&rng)));
}

static void fill(const char *name, uint32_t type, uint64_t n0, uint64_t n1, uint64_t n2)
{
	static uint16_t scaled[SAMPLES], block[1 << 20];
	static float vector[1 << 20];
	float scale = 1 / sqrtf((float)n0), mean = n1 == 1 ? 1 : 0;

	(void)name;
	for (uint64_t left = n0 * n1 * n2, n; left; left -= n) {
		n = left < 1 << 20 ? left : 1 << 20;
		if (type == QT_F32) {
			for (uint64_t i = 0; i < n; i++)
				vector[i] = mean + (mean > 0 ? 0.2f : scale) * normal[rng_below(&rng, SAMPLES)];
			need(gguf_out_data(out, vector, n * 4, &e));
			continue;
		}
		if (left == n0 * n1 * n2)
			for (size_t i = 0; i < SAMPLES; i++)
				scaled[i] = half_from_float(normal[i] * scale);
		for (uint64_t i = 0; i < n; i += 4) { /* rows are multiples of four */
			uint64_t r = rng_u64(&rng);

			for (int j = 0; j < 4; j++, r >>= 16)
				block[i + (uint64_t)j] = scaled[r & 65535];
		}
		need(gguf_out_data(out, block, n * 2, &e));
	}
}

int main(int argc, char **argv)
{
	const struct dims *m = NULL;
	long layers = argc == 4 ? strtol(argv[2], NULL, 10) : 0;

	for (size_t i = 0; argc == 4 && i < sizeof models / sizeof models[0]; i++)
		if (!strcmp(models[i].arch, argv[1]))
			m = &models[i];
	if (!m || layers < 1 || layers > 512) {
		fprintf(stderr, "usage: make_model olmoe|qwen3moe|deepseek2 LAYERS OUTPUT.gguf\n");
		return 2;
	}
	rng_seed(&rng, 1);
	draw_samples();
	need(!(out = gguf_out_new(32, &e)));
	hyperparameters(m, (uint32_t)layers);
	vocabulary(m);
	all_tensors(m, (uint32_t)layers, describe);
	need(gguf_out_open(out, argv[3], 1, &e));
	all_tensors(m, (uint32_t)layers, fill);
	need(gguf_out_close(out, &e));
	gguf_out_free(out);
	return 0;
}
