/*
 * test_kern.c - kernels: exact dequantisation against tests/data/kernels.bin (NumPy), every ISA
 * bit for bit against the plain kernel, products against OpenBLAS, independence of tile shape, and
 * no weight read but those of the rows.
 */
#include "guarded.h"

#include <cblas.h>
#include <math.h>

#include "base/num.h"
#include "base/rng.h"
#include "kern/kern.h"

struct vec { char name[8]; uint32_t type, per_block, block_bytes, n_blocks; };

static float uniform(struct rng *r)
{
	return (float)(2 * rng_unit(r) - 1);
}

static void dequantisation_is_exact(void **state)
{
	size_t len, at = 12;
	unsigned char *data = read_file("tests/data/kernels.bin", &len);
	uint32_t n_types;

	(void)state;
	assert_memory_equal(data, "MOEKERN1", 8);
	memcpy(&n_types, data + 8, 4);
	assert_true(n_types >= 28);
	for (uint32_t i = 0; i < n_types; i++) {
		struct vec v;
		size_t n;
		float *out, *want, *x;
		double dot, absdot;

		memcpy(&v, data + at, sizeof v);
		at += sizeof v;
		n = (size_t)v.n_blocks * v.per_block;
		assert_int_equal(qtype_info(v.type)->bytes * v.per_block / qtype_info(v.type)->block, v.block_bytes);
		out = malloc(n * 4);
		want = malloc(n * 4);
		x = malloc(n * 4);
		memcpy(want, data + at + v.n_blocks * v.block_bytes, n * 4);
		memcpy(x, data + at + v.n_blocks * v.block_bytes + n * 4, n * 4);
		memcpy(&dot, data + at + v.n_blocks * v.block_bytes + n * 8, 8);
		memcpy(&absdot, data + at + v.n_blocks * v.block_bytes + n * 8 + 8, 8);
		for (size_t k = 0; kern_at(k); k++) {
			float y = 0, *scratch = malloc(kern_scratch(n) * 4);

			if (!kern_at(k)->supported()) {
				free(scratch);
				continue;
			}
			kern_at(k)->to_float(v.type, data + at, out, n);
			for (size_t j = 0; j < n; j++)
				if (memcmp(out + j, want + j, 4) && !(out[j] == 0 && want[j] == 0) &&
				    !(isnan(out[j]) && isnan(want[j])))
					fail_msg("%s %.8s element %zu: %a, expected %a", kern_at(k)->name, v.name, j,
						(double)out[j], (double)want[j]);
			if (n % 16 == 0 && isfinite(absdot)) {
				kern_at(k)->gemm(v.type, data + at, qtype_row_bytes(v.type, n), n, 0, 1, x, n, 1, &y, 1,
					scratch);
				assert_true(fabs(y - dot) <= 1e-6 * absdot + 1e-30);
			}
			free(scratch);
		}
		at += v.n_blocks * v.block_bytes + n * 8 + 16;
		free(out);
		free(want);
		free(x);
	}
	assert_int_equal(at, len);
	free(data);
}

/* A block of an IQ type whose point numbers are first, first + 1, ...; the scale is 1, no signs. */
static size_t points(uint32_t type, unsigned first, unsigned char *b)
{
	size_t per = type == QT_IQ3_XXS || type == QT_IQ3_S ? 64 : 32;

	memset(b, 0, qtype_info(type)->bytes);
	b[1] = 0x3c;
	for (unsigned j = 0; j < per; j++) {
		unsigned at = first + j, low = at & 255, high = at >> 8;

		switch (type) {
		case QT_IQ2_XXS: b[2 + 8 * (j / 4) + j % 4] = (unsigned char)low; break;
		case QT_IQ2_XS: b[2 + 2 * j] = (unsigned char)low, b[3 + 2 * j] = (unsigned char)high; break;
		default: b[2 + j] = (unsigned char)low; break;
		}
		if (type == QT_IQ2_S)
			b[66 + j / 4] |= (unsigned char)(high << 2 * (j % 4));
		if (type == QT_IQ3_S)
			b[66 + j / 8] |= (unsigned char)(high << j % 8);
		if (type == QT_IQ1_S) {
			b[34 + 2 * (j / 4)] |= (unsigned char)(high << 3 * (j % 4));
			b[35 + 2 * (j / 4)] |= (unsigned char)(high << 3 * (j % 4) >> 8);
		}
	}
	return per;
}

/* Every point of every grid. The hashes (FNV-1a over the values) are of what gguf-py, the reference
 * package of the format, makes of the same blocks. */
static void grids_are_those_of_the_format(void **state)
{
	static const struct { uint32_t type; unsigned n; uint64_t hash; } grids[] = {
		{ QT_IQ2_XXS, 256, 0x46517a669988c524 }, { QT_IQ2_XS, 512, 0xb0bac8d309e90875 },
		{ QT_IQ2_S, 1024, 0x7581f179a8807754 }, { QT_IQ3_XXS, 256, 0xa8c0b9dda58ef3c8 },
		{ QT_IQ3_S, 512, 0x0ae8de7c1f3091e5 }, { QT_IQ1_S, 2048, 0x3d4d20df29ea6c02 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof grids / sizeof grids[0]; i++) {
		uint64_t hash = 0xcbf29ce484222325;

		for (unsigned at = 0; at < grids[i].n;) {
			unsigned char block[128], bytes[1024];
			float v[256];

			at += (unsigned)points(grids[i].type, at, block);
			kern_pick(NULL, NULL)->to_float(grids[i].type, block, v, 256);
			memcpy(bytes, v, sizeof v);
			for (size_t k = 0; k < sizeof bytes; k++)
				hash = (hash ^ bytes[k]) * 0x100000001b3;
		}
		if (hash != grids[i].hash)
			fail_msg("%s: %llx", qtype_info(grids[i].type)->name, (unsigned long long)hash);
	}
}

/* Random rows of a type: random bytes, with scales made tame (half floats of modest size). */
static void random_rows(struct rng *r, uint32_t type, unsigned char *p, size_t bytes)
{
	const struct qtype_info *q = qtype_info(type);
	size_t half_at[2] = { 0, SIZE_MAX };
	static const struct { uint32_t type; size_t at, at2; } halves[] = {
		{ QT_Q6_K, 208, SIZE_MAX }, { QT_Q4_1, 0, 2 }, { QT_Q5_1, 0, 2 }, { QT_Q4_K, 0, 2 },
		{ QT_Q5_K, 0, 2 }, { QT_Q2_K, 80, 82 }, { QT_Q3_K, 108, SIZE_MAX },
		{ QT_TQ1_0, 52, SIZE_MAX }, { QT_TQ2_0, 64, SIZE_MAX }, { QT_NVFP4, SIZE_MAX, SIZE_MAX },
	};

	for (size_t i = 0; i < bytes; i++)
		p[i] = (unsigned char)rng_u64(r);
	if (type == QT_F32 || type == QT_F16 || type == QT_BF16) {
		for (size_t i = 0; i + q->bytes <= bytes; i += q->bytes) {
			float f = uniform(r);

			if (type == QT_F32)
				memcpy(p + i, &f, 4);
			else
				p[i + 1] = (unsigned char)(type == QT_F16 ? 0x2c + (p[i + 1] & 0x83) : 0x3c + (p[i + 1] & 0x81));
		}
		return;
	}
	if (type == QT_MXFP4) {
		for (size_t b = 0; b < bytes; b += q->bytes)
			p[b] = (unsigned char)(120 + (p[b] & 7));
		return;
	}
	if (type == QT_IQ1_M) { /* the half's nibbles are the tops of four words */
		for (size_t b = 0; b < bytes; b += q->bytes)
			p[b + 55] = (unsigned char)(0x20 + (p[b + 55] & 15));
		return;
	}
	for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++)
		if (halves[i].type == type)
			half_at[0] = halves[i].at, half_at[1] = halves[i].at2;
	for (size_t b = 0; b < bytes; b += q->bytes)
		for (int h = 0; h < 2; h++)
			if (half_at[h] != SIZE_MAX)
				p[b + half_at[h] + 1] = (unsigned char)(0x20 + (p[b + half_at[h] + 1] & 7));
}

/* All shapes and all ISAs give the bits of the plain kernel computed one row and token at a time. */
static void one_type(struct rng *r, uint32_t type, size_t n)
{
	enum { ROWS = 11, TOK = 71 };
	size_t rb = qtype_row_bytes(type, n);
	unsigned char *w = malloc(ROWS * rb);
	float *x = malloc(TOK * n * 4), *scratch = malloc(kern_scratch(n) * 4);
	static float want[TOK][ROWS], got[TOK][ROWS];
	const struct kern *plain = NULL;

	assert_true(kern_type_ok(type, n));
	random_rows(r, type, w, ROWS * rb);
	for (size_t i = 0; i < TOK * n; i++)
		x[i] = uniform(r);
	for (size_t k = 0; kern_at(k); k++)
		plain = kern_at(k);
	for (size_t t = 0; t < TOK; t++)
		for (size_t i = 0; i < ROWS; i++)
			plain->gemm(type, w, rb, n, i, i + 1, x + t * n, n, 1, want[t], ROWS, scratch);
	for (size_t k = 0; kern_at(k); k++) {
		static const size_t toks[] = { 1, 2, 3, 4, 7, 64, 65, 71 };

		if (!kern_at(k)->supported())
			continue;
		for (size_t i = 0; i < sizeof toks / sizeof toks[0]; i++) {
			memset(got, 0xff, sizeof got);
			kern_at(k)->gemm(type, w, rb, n, 0, 6, x, n, toks[i], got[0], ROWS, scratch);
			kern_at(k)->gemm(type, w, rb, n, 6, ROWS, x, n, toks[i], got[0], ROWS, scratch);
			if (memcmp(got, want, toks[i] * sizeof got[0]))
				fail_msg("%s %s, %zu tokens: bits differ from plain", kern_at(k)->name,
					qtype_info(type)->name, toks[i]);
		}
	}
	free(w);
	free(x);
	free(scratch);
}

static void every_isa_and_shape_gives_the_same_bits(void **state)
{
	struct rng r;
	int types = 0;

	(void)state;
	rng_seed(&r, 7);
	for (uint32_t t = 0; t < QT_MAX; t++)
		if (kern_type_ok(t, 256)) {
			one_type(&r, t, 512);
			if (qtype_info(t)->block == 1) {
				one_type(&r, t, 8);
				one_type(&r, t, 300);
				one_type(&r, t, 1040); /* so long, rows of one token have loops of their own */
				one_type(&r, t, 1030);
			}
			types++;
		}
	assert_int_equal(types, 28);
}

/* ---- BF16 weights, rounded activations ---- */

static float from_bits(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, 4);
	return fpclassify(f) == FP_SUBNORMAL ? copysignf(0, f) : f;
}

static uint32_t to_bits(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, 4);
	return bits;
}

static float normal_or_0(float f)
{
	return from_bits(to_bits(f));
}

/* The nearer of the two neighbours in BF16, at a tie the even one. */
static float to_bf16(float f)
{
	uint32_t down = to_bits(f) & 0xffff0000, up = down + 0x10000, left = to_bits(f) - down;

	if (isnan(f) || isinf(f))
		return f;
	return from_bits(left > 0x8000 || (left == 0x8000 && down & 0x10000) ? up : down);
}

/* As kern.h defines it. */
static float bf16_dot(const uint16_t *w, const float *x, size_t n)
{
	float lane[16] = { 0 };

	for (size_t i = 0; i < (n + 31) / 32 * 32; i++) {
		size_t at = i ^ 1; /* the odd one first */

		lane[at / 2 % 16] = normal_or_0(fmaf(from_bits(at < n ? (uint32_t)w[at] << 16 : 0),
			at < n ? to_bf16(normal_or_0(x[at])) : 0, lane[at / 2 % 16]));
	}
	for (int s = 8; s; s /= 2)
		for (int l = 0; l < s; l++)
			lane[l] = normal_or_0(lane[l] + lane[l + s]);
	return lane[0];
}

/* Random numbers: of one size, of any exponent up to 2^60 (infinities and NaN too if `wild` is 3), or
 * many whose products are subnormal. */
static uint32_t any_float(struct rng *r, int wild)
{
	uint32_t bits = (uint32_t)rng_u64(r), sign = bits & 0x80000000, mantissa = bits & 0x7fffff;

	if (wild == 0)
		return to_bits(uniform(r));
	if (wild == 3 && rng_below(r, 40) == 0)
		return sign | 0x7f800000 | (mantissa & 0x400000);
	if (rng_below(r, 8) == 0) /* ties of the rounding */
		mantissa = (mantissa & 0x7f0000) | 0x8000;
	return sign | (uint32_t)(wild == 2 ? rng_below(r, 2) * 55 + rng_below(r, 9) : rng_below(r, 188)) << 23 | mantissa;
}

/* Activations as the products want them; the caller frees. */
static void *lay_bf16(const struct kern_bf16 *b, const float *x, size_t n, size_t n_tok)
{
	char *laid = aligned_alloc(64, b->bytes(n) * n_tok);

	for (size_t t = 0; t < n_tok; t++)
		b->lay(x + t * n, n, laid + t * b->bytes(n));
	return laid;
}

static void bf16_shape(struct rng *r, size_t n, size_t n_tok, int wild)
{
	enum { ROWS = 7 };
	size_t ys = ROWS + 2;
	uint16_t *w = malloc(ROWS * n * 2);
	float *x = malloc(n_tok * n * 4);
	float *want = malloc(n_tok * ys * 4), *got = malloc(n_tok * ys * 4);

	for (size_t i = 0; i < ROWS * n; i++)
		w[i] = (uint16_t)(any_float(r, wild) >> 16);
	for (size_t i = 0; i < n_tok * n; i++) {
		uint32_t bits = any_float(r, wild);

		memcpy(x + i, &bits, 4);
	}
	memset(want, 0x77, n_tok * ys * 4);
	for (size_t t = 0; t < n_tok; t++)
		for (size_t i = 0; i < ROWS; i++)
			want[t * ys + i] = bf16_dot(w + i * n, x + t * n, n);
	for (size_t k = 0; kern_at(k); k++) {
		const struct kern_bf16 *b;
		void *laid;

		if (!kern_at(k)->supported())
			continue;
		b = kern_at(k)->bf16();
		laid = lay_bf16(b, x, n, n_tok);
		memset(got, 0x77, n_tok * ys * 4);
		b->gemm(w, n * 2, n, 0, 5, laid, n_tok, got, ys);
		b->gemm(w, n * 2, n, 5, ROWS, laid, n_tok, got, ys);
		free(laid);
		for (size_t i = 0; i < n_tok * ys; i++)
			if (to_bits(got[i]) != to_bits(want[i]) && !(isnan(got[i]) && isnan(want[i])))
				fail_msg("%s, %zu elements, %zu tokens: %a, expected %a", kern_at(k)->name, n, n_tok,
					(double)got[i], (double)want[i]);
	}
	free(w);
	free(x);
	free(want);
	free(got);
}

static void bf16_products_are_as_defined(void **state)
{
	struct rng r;

	(void)state;
	rng_seed(&r, 31);
	for (int wild = 0; wild < 4; wild++) {
		for (size_t n = 1; n <= 100; n += n < 34 ? 1 : 7)
			bf16_shape(&r, n, 1 + n % 9, wild);
		bf16_shape(&r, 544, 71, wild);
		bf16_shape(&r, 4128, 3, wild);
		bf16_shape(&r, 4096, 23, wild); /* more than one part, all tiles whole but the last */
		bf16_shape(&r, 2048, 1, wild);
	}
}

/* Rounding costs what BF16 loses: a relative 2^-9 of every product. */
static void bf16_products_are_near(void **state)
{
	enum { N = 2048 };
	static uint16_t w[N];
	static float x[N];
	const struct kern_bf16 *b = kern_pick(NULL, NULL)->bf16();
	struct rng r;
	float y;

	(void)state;
	rng_seed(&r, 32);
	for (int round = 0; round < 20; round++) {
		double sum = 0, size = 0;
		void *laid;

		for (size_t i = 0; i < N; i++) {
			w[i] = (uint16_t)(to_bits(uniform(&r)) >> 16);
			x[i] = uniform(&r);
			sum += (double)x[i] * (double)from_bits((uint32_t)w[i] << 16);
			size += fabs((double)x[i] * (double)from_bits((uint32_t)w[i] << 16));
		}
		laid = lay_bf16(b, x, N, 1);
		b->gemm(w, N * 2, N, 0, 1, laid, 1, &y, 1);
		free(laid);
		assert_true(fabs(y - sum) <= 0x1p-9 * size);
		assert_true(fabs(y - sum) <= 0x1p-9 * size / sqrt(N) * 6); /* and of either sign */
	}
}

static void vector_kernels_give_the_same_bits(void **state)
{
	static float a[300], b[300], c[2][300];
	const struct kern *plain = NULL;
	struct rng r;

	(void)state;
	rng_seed(&r, 11);
	for (size_t k = 0; kern_at(k); k++)
		plain = kern_at(k);
	for (size_t n = 0; n <= 300; n++) {
		for (size_t i = 0; i < n; i++)
			a[i] = 8 * uniform(&r), b[i] = uniform(&r);
		for (size_t k = 0; kern_at(k); k++) {
			const struct kern *q = kern_at(k);
			float d[2] = { plain->dot(a, b, n), q->supported() ? q->dot(a, b, n) : 0 };
			float s[2] = { plain->sum(a, n), q->supported() ? q->sum(a, n) : 0 };

			if (!q->supported())
				continue;
			assert_memory_equal(&d[0], &d[1], 4);
			assert_memory_equal(&s[0], &s[1], 4);
#define BOTH(stmt) do { for (int z = 0; z < 2; z++) { const struct kern *K = z ? q : plain; \
	memcpy(c[z], b, sizeof b); stmt; } assert_memory_equal(c[0], c[1], n * 4); } while (0)
			BOTH(K->axpy(0.3f, a, c[z], n));
			BOTH(K->silu_mul(c[z], a, n));
			BOTH(K->exp_shift(c[z], 0.5f, n));
#undef BOTH
		}
	}
}

static void products_agree_with_blas(void **state)
{
	enum { M = 33, N = 29, K = 640 };
	static float w[M * K], x[N * K], got[N * M], want[N * M];
	float *scratch = malloc(kern_scratch(K) * 4);
	struct moe_err e;
	struct rng r;

	(void)state;
	rng_seed(&r, 3);
	for (int i = 0; i < M * K; i++)
		w[i] = uniform(&r);
	for (int i = 0; i < N * K; i++)
		x[i] = uniform(&r);
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, N, M, K, 1, x, K, w, K, 0, want, M);
	kern_pick(NULL, &e)->gemm(QT_F32, w, K * 4, K, 0, M, x, K, N, got, M, scratch);
	for (int i = 0; i < N * M; i++)
		assert_true(fabsf(got[i] - want[i]) < 1e-4f);
	free(scratch);
}

static void exponential_is_accurate(void **state)
{
	double worst = 0;

	(void)state;
	for (float x = -86; x < 88; x += 0.00137f) {
		double want = exp((double)x), err = fabs((double)num_exp(x) - want) / want;

		worst = err > worst ? err : worst;
	}
	assert_true(worst < 2.5e-7); /* about two units in the last place */
	assert_true(num_exp(-200) == 0 && num_exp(-INFINITY) == 0);
	assert_true(isinf(num_exp(100)) && isinf(num_exp(INFINITY)));
	assert_true(isnan(num_exp(NAN)));
	assert_true(num_exp(0) == 1);
}

/* The largest errors over [-20, 20] of tanh, of GELU in its tanh form and of OpenAI's gate, against
 * libm in double precision. */
static void activations_are_accurate(void **state)
{
	double tanh_rel = 0, gelu_abs = 0, gelu_rel = 0, oai = 0;

	(void)state;
	for (float x = -20; x < 20; x += 0.00173f) {
		double d = (double)x, c = d > 7 ? 7 : d, gate = c / (1 + exp(-1.702 * c));
		double t = tanh(d), g = 0.5 * d * (1 + tanh(sqrt(2 / 3.14159265358979323846) *
			(d + 0.044715 * d * d * d)));

		tanh_rel = fmax(tanh_rel, fabs((double)num_tanh(x) - t) / fabs(t));
		gelu_abs = fmax(gelu_abs, fabs((double)num_gelu(x) - g));
		if (x > -3)
			gelu_rel = fmax(gelu_rel, fabs((double)num_gelu(x) - g) / fabs(g));
		oai = fmax(oai, fabs((double)num_oai_gate(x) - gate) / fabs(gate));
	}
	assert_true(tanh_rel < 3e-7 && gelu_abs < 1e-6 && gelu_rel < 2e-6 && oai < 3e-6);
	assert_true(num_tanh(0) == 0 && num_tanh(INFINITY) == 1 && num_tanh(-INFINITY) == -1);
	assert_true(num_tanh(1e-30f) == 1e-30f && isnan(num_tanh(NAN)) && isnan(num_gelu(NAN)));
	assert_true(num_gelu(30) == 30 && num_gelu(-30) == 0 && num_gelu(0) == 0);
	assert_true(num_oai_up(3) == 4 && num_oai_up(9) == 8 && num_oai_up(-9) == -6);
	assert_true(isnan(num_oai_up(NAN)) && isnan(num_oai_gate(NAN)) && num_oai_gate(0) == 0);
}

/* n_row rows of n elements, other floats, activations laid for products with BF16. */
struct reading {
	const struct kern *k;
	uint32_t type;
	const unsigned char *w;
	size_t n, n_row;
	float *x, *o, *scratch;
	void *laid;
};

/* All that reads rows. */
static void read_rows(const void *ctx)
{
	const struct reading *a = ctx;
	const struct kern *k = a->k;
	size_t n = a->n, rb = qtype_row_bytes(a->type, n);

	for (size_t i = 0; i < a->n_row; i++)
		k->to_float(a->type, a->w + i * rb, a->o, n);
	for (size_t t = 1; t <= a->n_row; t += 4)
		k->gemm(a->type, a->w, rb, n, 0, a->n_row, a->x, n, t, a->o, a->n_row, a->scratch);
	if (a->type == QT_F32 || a->type == QT_F16 || a->type == QT_Q8_0) {
		k->att_dot(a->type, a->w, rb, n, a->n_row, a->x, 3, a->o, a->n_row);
		k->att_mix(a->type, a->w, rb, n, a->n_row, a->x, a->n_row, 3, a->o, n);
	}
	for (size_t t = 1; t <= a->n_row && a->type == QT_BF16; t += 4)
		k->bf16()->gemm(a->w, rb, n, 0, a->n_row, a->laid, t, a->o, a->n_row);
}

static void nothing_beside_rows_is_read(void **state)
{
	enum { N = 2048, ROWS = 9 };
	static float x[ROWS * N], o[ROWS * N];
	float *scratch = malloc(kern_scratch(N) * 4);
	struct guarded g;
	struct rng r;

	(void)state;
	rng_seed(&r, 13);
	guarded_new(&g, ROWS * N * 4);
	for (size_t i = 0; i < ROWS * N; i++)
		x[i] = uniform(&r);
	for (size_t k = 0; kern_at(k); k++) {
		void *laid;

		if (!kern_at(k)->supported())
			continue;
		laid = lay_bf16(kern_at(k)->bf16(), x, N, ROWS);
		for (uint32_t t = 0; t < QT_MAX; t++) {
			size_t blk = kern_type_ok(t, 256) ? qtype_info(t)->block : 0;
			size_t lengths[] = { blk > 1 ? blk : 8, blk > 1 ? 256 + blk : 300, N };

			for (size_t l = 0; blk && l < 6; l++) {
				size_t bytes = qtype_row_bytes(t, lengths[l / 2]) * ROWS;
				unsigned char *w = l % 2 ? g.lo : g.hi - bytes;
				struct reading a = { kern_at(k), t, w, lengths[l / 2], ROWS, x, o, scratch, laid };

				random_rows(&r, t, w, bytes);
				if (!guarded_run(read_rows, &a))
					fail_msg("%s %s: reads %s rows of %zu elements", a.k->name, qtype_info(t)->name,
						l % 2 ? "before" : "behind", a.n);
			}
		}
		free(laid);
	}
	guarded_free(&g);
	free(scratch);
}

static void kernels_are_chosen_by_name(void **state)
{
	struct moe_err e;

	(void)state;
	assert_non_null(kern_pick(NULL, &e));
	assert_string_equal(kern_pick("plain", &e)->name, "plain");
	assert_null(kern_pick("mmx", &e));
	assert_non_null(strstr(e.msg, "mmx"));
	assert_false(kern_type_ok(QT_Q4_K, 128));
	assert_false(kern_type_ok(QT_Q8_0, 24));
	assert_false(kern_type_ok(QT_IQ1_S, 128));
	assert_false(kern_type_ok(QT_Q8_K, 256)); /* never in a model: a type of activations */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dequantisation_is_exact),
		cmocka_unit_test(grids_are_those_of_the_format),
		cmocka_unit_test(every_isa_and_shape_gives_the_same_bits),
		cmocka_unit_test(bf16_products_are_as_defined),
		cmocka_unit_test(bf16_products_are_near),
		cmocka_unit_test(vector_kernels_give_the_same_bits),
		cmocka_unit_test(products_agree_with_blas),
		cmocka_unit_test(exponential_is_accurate),
		cmocka_unit_test(activations_are_accurate),
		cmocka_unit_test(nothing_beside_rows_is_read),
		cmocka_unit_test(kernels_are_chosen_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
