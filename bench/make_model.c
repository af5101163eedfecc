/*
 * make_model.c - a model file with random weights and the dimensions of a published one, to measure
 * speed with: few layers, everything else in its real size, the vocabulary too.
 *
 *	make_model olmoe|qwen3moe|deepseek2 LAYERS OUTPUT.gguf [TYPE]
 *	make_model olmoe|qwen3moe|deepseek2 LAYERS - [TYPE]     writes nothing, prints how many bytes
 *
 * Matrices are of TYPE, F16 if it is not given, with a deviation of 1 / sqrt(row); norms and
 * routers F32. F32, F16 and BF16 are normally distributed. A type of blocks gets random codes and
 * scales in a block and one scale for all blocks: fast, of normal size, nothing infinite, but not
 * what a quantiser makes of a normal distribution, which `moescope quantize` does. Of
 * DeepSeek-V2's 160 experts there are 16, and no dense layer before them: it is for latent
 * attention, 128 heads of it. Tokens are the strings of one to four small letters beside the 256
 * bytes, so that a text has a byte-pair encoding. Run again it writes the same bytes.
 */
#include <inttypes.h>
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
#include "kern/kern.h"

/* To add a model: a row; a further tensor: a line in all_tensors. */
static const struct dims {
	const char *arch, *name, *pre;
	uint32_t d, heads, kv, head, ff, experts, k, vocab, ctx;
	int head_norm;             /* norms of q and k: of each head, or of all together */
	float base, eps;
	/* latent attention: ranks, and what of a head is not rotated, is rotated, is a value; shared
	 * experts */
	uint32_t q_rank, kv_rank, nope, rot, value, shared;
} models[] = {
	{ "olmoe", "OLMoE-1B-7B", "olmo", 2048, 16, 16, 128, 1024, 64, 8, 50304, 32768, 0, 10000, 1e-5f,
	  0, 0, 0, 0, 0, 0 },
	{ "qwen3moe", "Qwen3-30B-A3B", "qwen2", 2048, 32, 4, 128, 768, 128, 8, 151936, 32768, 1,
	  1000000, 1e-6f, 0, 0, 0, 0, 0, 0 },
	{ "deepseek2", "DeepSeek-V2", "deepseek-llm", 5120, 128, 1, 576, 1536, 16, 6, 102400,
	  163840, 0, 10000, 1e-6f, 1536, 512, 128, 64, 128, 2 },
};

/* Types of blocks that random bytes become: where a block has its half-precision scale, and that of
 * the minimum, if any, which is `ratio` times the other so that weights are zero in the mean. -1:
 * scales of another form; put_scale() knows them. */
static const struct packing { uint32_t type; int scale, min; float ratio; } packings[] = {
	{ QT_Q4_0, 0, 0, 0 }, { QT_Q4_1, 0, 2, -7.5f }, { QT_Q5_0, 0, 0, 0 }, { QT_Q5_1, 0, 2, -15.5f },
	{ QT_Q8_0, 0, 0, 0 }, { QT_Q2_K, 80, 82, 1.5f }, { QT_Q3_K, 108, 0, 0 },
	{ QT_Q4_K, 0, 2, 7.5f }, { QT_Q5_K, 0, 2, 15.5f }, { QT_Q6_K, 208, 0, 0 },
	{ QT_IQ1_S, 0, 0, 0 }, { QT_IQ1_M, -1, 0, 0 }, { QT_IQ2_XXS, 0, 0, 0 }, { QT_IQ2_XS, 0, 0, 0 },
	{ QT_IQ2_S, 0, 0, 0 }, { QT_IQ3_XXS, 0, 0, 0 }, { QT_IQ3_S, 0, 0, 0 }, { QT_IQ4_NL, 0, 0, 0 },
	{ QT_IQ4_XS, 0, 0, 0 },
	{ QT_TQ1_0, 52, 0, 0 }, { QT_TQ2_0, 64, 0, 0 }, { QT_Q1_0, 0, 0, 0 }, { QT_Q2_0, 0, 0, 0 },
	{ QT_MXFP4, -1, 0, 0 }, { QT_NVFP4, -1, 0, 0 },
};

static uint32_t matrix = QT_F16;      /* the type of all matrices but routers */
static const struct packing *packing; /* its row, NULL for F16, BF16 and F32 */
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
		{ "rope.dimension_count", m->rot ? m->rot : m->head }, { "vocab_size", m->vocab },
		{ "expert_count", m->experts }, { "expert_used_count", m->k },
		{ "expert_feed_forward_length", m->ff } };
	const struct { const char *key; uint32_t v; } latent[] = {
		{ "attention.q_lora_rank", m->q_rank }, { "attention.kv_lora_rank", m->kv_rank },
		{ "attention.key_length_mla", m->nope + m->rot },
		{ "attention.value_length_mla", m->value }, { "leading_dense_block_count", 0 },
		{ "expert_shared_count", m->shared }, { "expert_group_count", 1 },
		{ "expert_group_used_count", 1 } };
	char name[96];

	snprintf(name, sizeof name, "random weights, %s's dimensions, %u layers", m->name, layers);
	put_str("general.architecture", m->arch);
	put_str("general.name", name);
	need((matrix == QT_F16 && gguf_out_u32(out, "general.file_type", 1, &e)) ||
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

	fn("token_embd.weight", matrix, m->d, m->vocab, 1);
	for (uint32_t l = 0; l < layers; l++) {
		const struct row latent[] = {
			{ "attn_norm", QT_F32, { m->d, 1, 1 } },
			{ "attn_q_a", matrix, { m->d, m->q_rank, 1 } },
			{ "attn_q_a_norm", QT_F32, { m->q_rank, 1, 1 } },
			{ "attn_q_b", matrix, { m->q_rank, m->heads * (m->nope + m->rot), 1 } },
			{ "attn_kv_a_mqa", matrix, { m->d, m->kv_rank + m->rot, 1 } },
			{ "attn_kv_a_norm", QT_F32, { m->kv_rank, 1, 1 } },
			{ "attn_k_b", matrix, { m->nope, m->kv_rank, m->heads } },
			{ "attn_v_b", matrix, { m->kv_rank, m->value, m->heads } },
			{ "attn_output", matrix, { m->heads * m->value, m->d, 1 } },
			{ "ffn_gate_shexp", matrix, { m->d, m->shared * m->ff, 1 } },
			{ "ffn_up_shexp", matrix, { m->d, m->shared * m->ff, 1 } },
			{ "ffn_down_shexp", matrix, { m->shared * m->ff, m->d, 1 } },
		}, plain[] = {
			{ "attn_norm", QT_F32, { m->d, 1, 1 } },
			{ "attn_q", matrix, { m->d, q, 1 } },
			{ "attn_k", matrix, { m->d, kv, 1 } },
			{ "attn_v", matrix, { m->d, kv, 1 } },
			{ "attn_output", matrix, { q, m->d, 1 } },
			{ "attn_q_norm", QT_F32, { m->head_norm ? m->head : q, 1, 1 } },
			{ "attn_k_norm", QT_F32, { m->head_norm ? m->head : kv, 1, 1 } },
		}, experts[] = {
			{ "ffn_norm", QT_F32, { m->d, 1, 1 } },
			{ "ffn_gate_inp", QT_F32, { m->d, m->experts, 1 } },
			{ "ffn_gate_exps", matrix, { m->d, m->ff, m->experts } },
			{ "ffn_up_exps", matrix, { m->d, m->ff, m->experts } },
			{ "ffn_down_exps", matrix, { m->ff, m->d, m->experts } },
		};

		if (m->kv_rank)
			layer_rows(l, latent, sizeof latent / sizeof latent[0], fn);
		else
			layer_rows(l, plain, sizeof plain / sizeof plain[0], fn);
		layer_rows(l, experts, sizeof experts / sizeof experts[0], fn);
	}
	fn("output_norm.weight", QT_F32, m->d, 1, 1);
	fn("output.weight", matrix, m->d, m->vocab, 1);
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

/* The E4M3 number nearest to d, which is positive. */
static uint8_t e4m3(float d)
{
	uint8_t best = 1;

	for (uint8_t b = 2; b < 0x7f; b++)
		if (fabsf(2 * ue4m3_half(b) - d) < fabsf(2 * ue4m3_half(best) - d))
			best = b;
	return best;
}

/* d as the scale of all of a block. */
static void put_scale(uint8_t *block, float d)
{
	uint16_t h = half_from_float(d), min = half_from_float(packing->ratio * d);

	if (matrix == QT_MXFP4) { /* a power of two */
		block[0] = (uint8_t)(127 + lrintf(log2f(d)));
	} else if (matrix == QT_NVFP4) {
		memset(block, e4m3(d), 4);
	} else if (matrix == QT_IQ1_M) { /* the top nibbles of four words */
		for (int i = 0; i < 4; i++)
			block[49 + 2 * i] = (uint8_t)((block[49 + 2 * i] & 15) | (h >> 4 * i & 15) << 4);
	} else {
		memcpy(block + packing->scale, &h, 2);
		if (packing->min)
			memcpy(block + packing->min, &min, 2);
	}
}

/* n random blocks with this scale, without the codes that no quantiser makes. */
static void random_blocks(uint8_t *p, size_t n, float d)
{
	size_t bytes = qtype_info(matrix)->bytes;

	for (size_t i = 0; i < n * bytes; i += 8) { /* p has room for whole words */
		uint64_t r = rng_u64(&rng);

		memcpy(p + i, &r, 8);
	}
	for (size_t i = 0; i < n * bytes; i++) {
		if (matrix == QT_TQ2_0) /* two bits of 0 to 2 */
			p[i] &= (uint8_t)~(p[i] >> 1 & p[i] & 0x55);
		if (matrix == QT_Q8_0) /* -127 to 127 */
			p[i] = (uint8_t)(p[i] + (p[i] == 0x80));
	}
	for (size_t b = 0; b < n; b++)
		put_scale(p + b * bytes, d);
}

#define BLOCKS 4096
static uint8_t packed[BLOCKS * 256]; /* no block is larger */

/* The deviation of weights whose scale is 1. */
static double deviation(void)
{
	static float w[256];
	const struct kern *k = kern_pick(NULL, &e);
	const struct qtype_info *q = qtype_info(matrix);
	double sum = 0;

	need(!k);
	random_blocks(packed, BLOCKS, 1);
	for (size_t b = 0; b < BLOCKS; b++) {
		k->to_float(matrix, packed + b * q->bytes, w, q->block);
		for (size_t i = 0; i < q->block; i++)
			sum += (double)w[i] * (double)w[i];
	}
	return sqrt(sum / ((double)BLOCKS * q->block));
}

static void fill_blocks(uint64_t weights, float scale)
{
	const struct qtype_info *q = qtype_info(matrix);
	float d = scale / (float)deviation();

	for (uint64_t left = weights / q->block, n; left; left -= n) {
		n = left < BLOCKS ? left : BLOCKS;
		random_blocks(packed, n, d);
		need(gguf_out_data(out, packed, n * q->bytes, &e));
	}
}

static uint16_t bf16(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, 4);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); /* to nearest, ties to even */
}

static void fill(const char *name, uint32_t type, uint64_t n0, uint64_t n1, uint64_t n2)
{
	static uint16_t scaled[SAMPLES], block[1 << 20];
	static float vector[1 << 20];
	float scale = 1 / sqrtf((float)n0), mean = n1 == 1 ? 1 : 0;

	(void)name;
	if (type == matrix && packing) {
		fill_blocks(n0 * n1 * n2, scale);
		return;
	}
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
				scaled[i] = type == QT_BF16 ? bf16(normal[i] * scale) :
					half_from_float(normal[i] * scale);
		for (uint64_t i = 0; i < n; i += 4) { /* rows are multiples of four */
			uint64_t r = rng_u64(&rng);

			for (int j = 0; j < 4; j++, r >>= 16)
				block[i + (uint64_t)j] = scaled[r & 65535];
		}
		need(gguf_out_data(out, block, n * 2, &e));
	}
}

static uint64_t all_bytes;

static void count(const char *name, uint32_t type, uint64_t n0, uint64_t n1, uint64_t n2)
{
	(void)name;
	all_bytes += qtype_row_bytes(type, n0) * n1 * n2;
}

/* 0 if there is no such type. */
static int find_type(const char *name)
{
	for (matrix = 0; matrix < QT_MAX; matrix++)
		if (qtype_info(matrix) && !strcmp(qtype_info(matrix)->name, name))
			break;
	for (size_t i = 0; i < sizeof packings / sizeof packings[0]; i++)
		if (packings[i].type == matrix)
			packing = &packings[i];
	return packing || matrix == QT_F32 || matrix == QT_F16 || matrix == QT_BF16;
}

static void usage(void)
{
	fprintf(stderr, "usage: make_model olmoe|qwen3moe|deepseek2 LAYERS OUTPUT.gguf|- [TYPE]\n"
		"TYPE: F32, F16, BF16");
	for (size_t i = 0; i < sizeof packings / sizeof packings[0]; i++)
		fprintf(stderr, ", %s", qtype_info(packings[i].type)->name);
	fprintf(stderr, "\n");
	exit(2);
}

int main(int argc, char **argv)
{
	const struct dims *m = NULL;
	int enough = argc == 4 || argc == 5;
	long layers = enough ? strtol(argv[2], NULL, 10) : 0;

	for (size_t i = 0; enough && i < sizeof models / sizeof models[0]; i++)
		if (!strcmp(models[i].arch, argv[1]))
			m = &models[i];
	if (!m || layers < 1 || layers > 512 || (argc == 5 && !find_type(argv[4])))
		usage();
	if (!strcmp(argv[3], "-")) {
		all_tensors(m, (uint32_t)layers, count);
		printf("%" PRIu64 "\n", all_bytes);
		return 0;
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
