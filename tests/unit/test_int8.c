/*
 * test_int8.c - 8-bit products: rounding of activations against its definition in double precision,
 * products against the double-precision sum of exact weights and rounded activations, every
 * instruction set, batch and split of rows bit for bit against the plain kernel, and no weight read
 * but those of the rows.
 */
#include "guarded.h"

#include <math.h>

#include "base/rng.h"
#include "kern/int8.h"
#if defined(__x86_64__)
#include "kern/amx.h"
#endif

/* Types with integer codes, and where the half floats of a block lie (-1: none). */
static const struct row { uint32_t type; int half[2]; } rows[] = {
	{ QT_Q8_0, { 0, -1 } }, { QT_Q4_0, { 0, -1 } }, { QT_Q4_1, { 0, 2 } }, { QT_Q5_0, { 0, -1 } },
	{ QT_Q5_1, { 0, 2 } }, { QT_Q2_K, { 80, 82 } }, { QT_Q3_K, { 108, -1 } }, { QT_Q4_K, { 0, 2 } },
	{ QT_Q5_K, { 0, 2 } }, { QT_Q6_K, { 208, -1 } }, { QT_MXFP4, { -1, -1 } },
	{ QT_IQ4_NL, { 0, -1 } }, { QT_IQ4_XS, { 0, -1 } }, { QT_IQ2_XXS, { 0, -1 } },
	{ QT_IQ2_XS, { 0, -1 } }, { QT_IQ2_S, { 0, -1 } }, { QT_IQ3_XXS, { 0, -1 } },
	{ QT_IQ3_S, { 0, -1 } }, { QT_IQ1_S, { 0, -1 } }, { QT_IQ1_M, { -1, -1 } },
	{ QT_TQ1_0, { 52, -1 } }, { QT_TQ2_0, { 64, -1 } }, { QT_Q1_0, { 0, -1 } },
	{ QT_Q2_0, { 0, -1 } }, { QT_NVFP4, { -1, -1 } },
};
#define N_TYPES (sizeof rows / sizeof rows[0])

static void random_blocks(struct rng *r, const struct row *t, unsigned char *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (unsigned char)rng_u64(r);
	for (size_t b = 0; b < bytes; b += qtype_info(t->type)->bytes) {
		for (int h = 0; h < 2; h++)
			if (t->half[h] >= 0) /* modest, of either sign */
				p[b + (size_t)t->half[h] + 1] = (unsigned char)(0x20 + (rng_u64(r) & 0x87));
		if (t->type == QT_MXFP4)
			p[b] = (unsigned char)(120 + (p[b] & 7));
		if (t->type == QT_IQ1_M) /* the top nibbles of four words are a half float */
			p[b + 55] = (unsigned char)(0x20 + (p[b + 55] & 0x8f));
	}
}

static struct act8 act_new(size_t n, size_t n_tok, void **mem)
{
	if (posix_memalign(mem, 64, act8_bytes(n, n_tok)))
		fail_msg("no memory");
	return act8_lay(*mem, n, n_tok);
}

/* ---- rounding ---- */

/* What 256 rounded values have of fits must be so. */
static void sizes_are_as_said(const int8_t *q, unsigned fits)
{
	for (int b = 0; b < 8; b++) {
		int size[2] = { 0, 0 }, side[2] = { 0, 0 };

		for (int j = 0; j < 32; j++) {
			size[j / 16] += abs(q[32 * b + j]);
			side[q[32 * b + j] < 0] += abs(q[32 * b + j]);
		}
		assert_true(!(fits & ACT8_SUM16) || (size[0] <= 1023 && size[1] <= 1023));
		assert_true(!(fits & ACT8_SUM32) || size[0] + size[1] <= 2047);
		for (int i = 0; i < 2; i++) {
			assert_true(!(fits & ACT8_SIDE15) || 15 * side[i] <= 32767);
			assert_true(!(fits & ACT8_SIDE31) || 31 * side[i] <= 32767);
		}
	}
}

static void activations_are_rounded_as_defined(void **state)
{
	static const size_t lengths[] = { 1, 15, 16, 17, 31, 32, 33, 64, 100, 511, 512, 513, 2048 };
	struct rng r;

	(void)state;
	rng_seed(&r, 11);
	for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++)
		for (size_t k = 0; int8_at(k); k++) {
			size_t n = lengths[l], np = act8_pad(n);
			float *x = malloc(3 * n * sizeof *x);
			void *mem;
			struct act8 a;

			if (!int8_at(k)->supported()) {
				free(x);
				continue;
			}
			a = act_new(n, 3, &mem);
			memset(mem, 0x55, act8_bytes(n, 3));
			memset(a.fits, 0, 3 * np / 256);
			for (size_t i = 0; i < 3 * n; i++)
				x[i] = (float)((rng_unit(&r) - (i / n ? 0.5 : 0.1)) *
					exp2(rng_unit(&r) * (i % 512 < 256 ? 40 : 2) - 20));
			if (n > 300)
				memset(x, 0, 256 * sizeof *x);
			int8_at(k)->round(x, n, n, 0, 3, a);
			for (size_t t = 0; t < 3; t++)
				for (size_t g = 0; g < np / 256; g++) {
					double amax = 0;
					int sum[16] = { 0 };

					for (size_t j = 0; j < 256 && 256 * g + j < n; j++)
						amax = fmax(amax, fabs((double)x[t * n + 256 * g + j]));
					assert_true(fabs(a.d[t * np / 256 + g] - amax / 127) <= 1e-7 * amax);
					for (size_t j = 0; j < 256; j++) {
						int8_t q = a.q[t * np + 256 * g + j];
						double v = 256 * g + j < n ? (double)x[t * n + 256 * g + j] : 0;

						assert_true(q >= -127);
						if (amax == 0)
							assert_int_equal(q, 0);
						else /* half a step, and the two roundings of the scale */
							assert_true(fabs(q - v * 127 / amax) <= 0.5 + 127 * 3e-7);
						sum[j / 16] += q;
					}
					for (size_t b = 0; b < 16; b++)
						assert_int_equal(a.sum16[t * np / 16 + 16 * g + b], sum[b]);
					for (size_t b = 0; b < 8; b++)
						assert_int_equal(a.sum32[t * np / 32 + 8 * g + b], sum[2 * b] + sum[2 * b + 1]);
					sizes_are_as_said(a.q + t * np + 256 * g, a.fits[t * np / 256 + g]);
				}
			free(mem);
			free(x);
		}
}

static void all_round_to_the_same_bits(void **state)
{
	enum { N = 544 };
	static const float odd[] = { 0.5f, 1.5f, -2.5f, 127, -127, 63.5f, 1e-40f, 1e-31f, 0 };
	struct rng r;
	float x[N];

	(void)state;
	rng_seed(&r, 5);
	for (int round = 0; round < 200; round++) {
		void *mem0, *mem;
		struct act8 want, got;
		size_t n = 1 + (size_t)rng_below(&r, N);
		size_t bytes = act8_bytes(n, 1) - ACT8_SLACK - act8_pad(n) / 256;

		for (size_t i = 0; i < n; i++) /* many ties: multiples of half a step */
			x[i] = round & 1 ? odd[rng_below(&r, 9)] : (float)(rng_unit(&r) - 0.5);
		if (round % 10 == 1)
			x[rng_below(&r, n)] = INFINITY;
		if (round % 10 == 2)
			x[rng_below(&r, n)] = NAN;
		want = act_new(n, 1, &mem0);
		for (size_t k = 0; int8_at(k); k++)
			if (!strcmp(int8_at(k)->name, "plain"))
				int8_at(k)->round(x, n, n, 0, 1, want);
		for (size_t k = 0; int8_at(k); k++) {
			if (!int8_at(k)->supported())
				continue;
			got = act_new(n, 1, &mem);
			int8_at(k)->round(x, n, n, 0, 1, got);
			for (size_t b = 0; b < act8_pad(n) / 256; b++)
				if (isnan(want.d[b])) {
					assert_true(isnan(got.d[b]));
					got.d[b] = want.d[b];
				}
			if (memcmp(mem0, mem, bytes))
				fail_msg("%s rounds %zu values differently", int8_at(k)->name, n);
			free(mem);
		}
		free(mem0);
	}
}

/* ---- products ---- */

static const struct int8_kern *plain(void)
{
	size_t i = 0;

	while (strcmp(int8_at(i)->name, "plain"))
		i++;
	return int8_at(i);
}

static void products_are_right(void **state)
{
	const struct int8_kern *k = plain();
	struct rng r;

	(void)state;
	rng_seed(&r, 3);
	for (size_t i = 0; i < N_TYPES; i++) {
		enum { ROWS = 5, N = 2304, TOK = 3 };

		if (!kern_type_ok(rows[i].type, N))
			continue;
		size_t rb = qtype_row_bytes(rows[i].type, N), np = act8_pad(N);
		unsigned char *w = malloc(ROWS * rb);
		float *x = malloc(TOK * N * sizeof *x), *f = malloc(N * sizeof *f), y[TOK][ROWS];
		void *mem, *scratch;
		struct act8 a = act_new(N, TOK, &mem);

		assert_true(int8_type_ok(rows[i].type, N));
		assert_int_equal(posix_memalign(&scratch, 64, INT8_SCRATCH), 0);
		random_blocks(&r, &rows[i], w, ROWS * rb);
		for (size_t j = 0; j < TOK * N; j++)
			x[j] = (float)(2 * rng_unit(&r) - 1);
		k->round(x, N, N, 0, TOK, a);
		k->gemm(rows[i].type, w, rb, N, 0, ROWS, a, TOK, y[0], ROWS, NULL, scratch);
		for (size_t t = 0; t < TOK; t++)
			for (size_t o = 0; o < ROWS; o++) {
				double sum = 0, size = 0;

				kern_at(0)->to_float(rows[i].type, w + o * rb, f, N);
				for (size_t j = 0; j < N; j++) {
					double p = (double)f[j] * a.q[t * np + j] * a.d[t * np / 256 + j / 256];

					sum += p;
					size += fabs(p);
				}
				if (!(fabs(y[t][o] - sum) <= 2e-6 * size))
					fail_msg("%s: %.9g, expected %.9g", qtype_info(rows[i].type)->name, (double)y[t][o], sum);
			}
		free(w);
		free(x);
		free(f);
		free(mem);
		free(scratch);
	}
}

static void one_shape(struct rng *r, const struct row *t, size_t n, size_t n_row, size_t n_tok)
{
	size_t rb = qtype_row_bytes(t->type, n), ys = n_row + 3;
	unsigned char *w = malloc(n_row * rb);
	float *x = malloc(n_tok * n * sizeof *x), *want = malloc(n_tok * ys * 4), *got = malloc(n_tok * ys * 4);
	void *mem, *own_mem, *scratch;
	struct act8 a = act_new(n, n_tok, &mem), own = act_new(n, n_tok, &own_mem);
	double least = rng_below(r, 3) ? -1 : 0; /* one-sided ones have the largest sums */

	assert_int_equal(posix_memalign(&scratch, 64, INT8_SCRATCH), 0);
	random_blocks(r, t, w, n_row * rb);
	for (size_t j = 0; j < n_tok * n; j++) {
		double u = rng_unit(r);

		x[j] = (float)((j / 256 % 5 ? u : u * u * u) * (1 - least) + least);
	}
	plain()->round(x, n, n, 0, n_tok, a);
	memset(want, 0x77, n_tok * ys * 4);
	plain()->gemm(t->type, w, rb, n, 0, n_row, a, n_tok, want, ys, NULL, scratch);
	for (size_t k = 0; int8_at(k); k++) {
		size_t cut = (size_t)rng_below(r, n_row + 1);

		if (!int8_at(k)->supported())
			continue;
		int8_at(k)->round(x, n, n, 0, n_tok, own);
		for (int i = 0; i < 2; i++) { /* as the plain one rounded, and as it does itself */
			memset(scratch, 0xff, INT8_SCRATCH); /* NaN where something stale is read */
			memset(got, 0x77, n_tok * ys * 4);
			int8_at(k)->gemm(t->type, w, rb, n, 0, cut, i ? own : a, n_tok, got, ys,
				w + cut * rb, scratch);
			int8_at(k)->gemm(t->type, w, rb, n, cut, n_row, i ? own : a, n_tok, got, ys,
				i ? w : NULL, scratch);
			if (memcmp(want, got, n_tok * ys * 4))
				fail_msg("%s %s: %zu elements, %zu rows cut at %zu, %zu tokens: other bits",
					int8_at(k)->name, qtype_info(t->type)->name, n, n_row, cut, n_tok);
		}
	}
	free(w);
	free(x);
	free(want);
	free(got);
	free(mem);
	free(own_mem);
	free(scratch);
}

static void all_give_the_same_bits(void **state)
{
	static const size_t ff[] = { 768, 1408, 2880 }; /* experts' widths, not whole 512s */
	struct rng r;

	(void)state;
	rng_seed(&r, 7);
	for (size_t i = 0; i < N_TYPES; i++) {
		size_t blk = qtype_info(rows[i].type)->block;

		for (size_t tok = 1; tok <= 31; tok += tok < 16 ? 1 : 5)
			one_shape(&r, &rows[i], blk * (1 + (size_t)rng_below(&r, 9)), 1 + (size_t)rng_below(&r, 40), tok);
		for (size_t tok = 32; tok <= 160; tok += 7 + tok / 2) /* tiles of many, and their rests */
			one_shape(&r, &rows[i], blk * (1 + (size_t)rng_below(&r, 9)) + (tok % 2 ? 2048 : 0),
				1 + (size_t)rng_below(&r, 100), tok);
		one_shape(&r, &rows[i], 8192 + 256, 19, 1);
		one_shape(&r, &rows[i], 8192 + 256, 17, 13);
		for (size_t tok = 1; tok <= 7; tok += 2) /* whole 256s and a rest, where blocks allow one */
			one_shape(&r, &rows[i], 8192 + 256 + (blk < 256 ? 3 * blk % 256 : 256),
				tok < 5 ? 21 : 11, tok);
		for (size_t k = 0; k < sizeof ff / sizeof ff[0]; k++)
			for (size_t tok = 1; tok <= 3 && ff[k] % blk == 0; tok += 2)
				one_shape(&r, &rows[i], ff[k], 37, tok);
		one_shape(&r, &rows[i], 32768, 18, 4); /* more activations than decode arranges */
	}
}

/* The largest codes everywhere, and the largest x: of all elements, or so many that sums just fit
 * 16 bits, or one more: of four-bit codes, of six-bit ones in blocks of 16, of five-bit ones. */
static void extremes_do_not_overflow(void **state)
{
	enum { N = 512, ROWS = 9, TOK = 38 };
	static float x[TOK * N], want[TOK * ROWS], got[TOK * ROWS];
	void *mem, *own_mem, *scratch;
	struct act8 a = act_new(N, TOK, &mem), own = act_new(N, TOK, &own_mem);

	(void)state;
	assert_int_equal(posix_memalign(&scratch, 64, INT8_SCRATCH), 0);
	for (size_t i = 0; i < N_TYPES; i++)
		for (int fill = 0; fill < 28; fill++) {
			static const unsigned char bytes[] = { 0x00, 0xff, 0x80, 0x77 };
			static const size_t of[][2] = { { 32, 32 }, { 17, 32 }, { 18, 32 }, { 8, 16 },
				{ 9, 16 }, { 8, 32 }, { 9, 32 } };
			size_t rb = qtype_row_bytes(rows[i].type, N), blk = qtype_info(rows[i].type)->bytes;
			unsigned char *w = malloc(ROWS * rb);

			memset(w, bytes[fill % 4], ROWS * rb);
			for (size_t b = 0; b < ROWS * rb; b += blk)
				for (int h = 0; h < 2; h++)
					if (rows[i].half[h] >= 0)
						memcpy(w + b + rows[i].half[h], "\x00\x3c", 2); /* 1.0 */
					else if (rows[i].type == QT_MXFP4)
						w[b] = 127;
					else if (rows[i].type == QT_IQ1_M)
						for (int k = 0; k < 4; k++)
							w[b + 49 + 2 * (size_t)k] = (unsigned char)((w[b + 49 + 2 * (size_t)k] & 15) | "\0\0\xc0\x30"[k]);
			for (size_t j = 0; j < TOK * N; j++)
				x[j] = j % of[fill / 4][1] >= of[fill / 4][0] ? 0 : j / N % 2 ? 127 : -127;
			plain()->round(x, N, N, 0, TOK, a);
			plain()->gemm(rows[i].type, w, rb, N, 0, ROWS, a, TOK, want, ROWS, NULL, scratch);
			for (size_t k = 0; int8_at(k); k++)
				for (size_t tok = 1; int8_at(k)->supported() && tok <= TOK; tok += TOK - 1) {
					int8_at(k)->round(x, N, N, 0, TOK, own);
					int8_at(k)->gemm(rows[i].type, w, rb, N, 0, ROWS, own, tok, got, ROWS, NULL,
						scratch);
					assert_memory_equal(want, got, tok * ROWS * 4);
				}
			free(w);
		}
	free(mem);
	free(own_mem);
	free(scratch);
}

struct product {
	const struct int8_kern *k;
	uint32_t type;
	const unsigned char *w;
	size_t n, n_row, n_tok;
	struct act8 a;
	float *y;
	void *scratch;
};

/* As the last rows, and as if others came next: those may be asked for, but not read. */
static void multiply(const void *ctx)
{
	const struct product *p = ctx;
	const size_t bytes = qtype_row_bytes(p->type, p->n);

	p->k->gemm(p->type, p->w, bytes, p->n, 0, p->n_row, p->a, p->n_tok, p->y, p->n_row, NULL,
		p->scratch);
	p->k->gemm(p->type, p->w, bytes, p->n, 0, p->n_row, p->a, p->n_tok, p->y, p->n_row,
		p->w + p->n_row * bytes, p->scratch);
}

/* Rows that begin where memory does, then rows that end there. */
static void nothing_beside_rows_is_read(void **state)
{
	enum { N = 8192 + 256, ROWS = 50, TOK = 37 };
	static const size_t n_rows[] = { 1, 2, 16, 33, ROWS }, n_toks[] = { 1, 2, 7, TOK };
	static float x[TOK * N], y[TOK * ROWS];
	void *mem, *scratch;
	struct guarded g;
	struct rng r;

	(void)state;
	rng_seed(&r, 13);
	assert_int_equal(posix_memalign(&scratch, 64, INT8_SCRATCH), 0);
	guarded_new(&g, qtype_row_bytes(QT_Q8_0, N) * ROWS);
	for (size_t j = 0; j < TOK * N; j++)
		x[j] = (float)(2 * rng_unit(&r) - 1);
	for (size_t i = 0; i < N_TYPES; i++) {
		size_t blk = qtype_info(rows[i].type)->block, lengths[] = { blk, 256, 256 + blk, 2048, N };

		random_blocks(&r, &rows[i], g.lo, (size_t)(g.hi - g.lo) / qtype_info(rows[i].type)->bytes *
			qtype_info(rows[i].type)->bytes);
		for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
			struct act8 a = act_new(lengths[l], TOK, &mem);

			plain()->round(x, lengths[l], lengths[l], 0, TOK, a);
			for (size_t k = 0; int8_at(k); k++)
				for (size_t j = 0; j < 2 * 5 * 4 && int8_at(k)->supported(); j++) {
					size_t n_row = n_rows[j / 2 % 5];
					const unsigned char *w = j % 2 ? g.lo :
						g.hi - n_row * qtype_row_bytes(rows[i].type, lengths[l]);
					struct product p = { int8_at(k), rows[i].type, w, lengths[l], n_row,
						n_toks[j / 10], a, y, scratch };

					if (!guarded_run(multiply, &p))
						fail_msg("%s %s: reads %s %zu rows of %zu elements, %zu tokens", p.k->name,
							qtype_info(p.type)->name, j % 2 ? "before" : "behind", p.n_row, p.n,
							p.n_tok);
				}
			free(mem);
		}
	}
	guarded_free(&g);
	free(scratch);
}

/* Another library in the process may have set the shapes of this thread's matrix registers once. */
static void registers_stay_as_they_were(void **state)
{
#if defined(__x86_64__)
	enum { N = 256, TOK = 40 };
	static float x[TOK * N], y[TOK];
	unsigned char w[144];
	struct shapes before, after;
	void *mem, *scratch;
	struct act8 a;

	(void)state;
	if (!kern_pick("amx", NULL))
		skip();
	a = act_new(N, TOK, &mem);
	assert_int_equal(posix_memalign(&scratch, 64, INT8_SCRATCH), 0);
	memset(w, 0, sizeof w);
	plain()->round(x, N, N, 0, TOK, a);
	set_shapes(2, 32, 7);
	before = shapes_now();
	int8_for(kern_pick("amx", NULL))->gemm(QT_Q4_K, w, sizeof w, N, 0, 1, a, TOK, y, 1, NULL,
		scratch);
	after = shapes_now();
	__asm__ volatile("tilerelease");
	assert_int_equal(before.rows[0], 7);
	assert_memory_equal(&before, &after, sizeof before);
	free(mem);
	free(scratch);
#else
	(void)state;
	skip();
#endif
}

static void every_float_row_has_one(void **state)
{
	(void)state;
	for (size_t i = 0; kern_at(i); i++)
		if (kern_at(i)->supported())
			assert_true(int8_for(kern_at(i))->supported());
	assert_string_equal(int8_for(kern_pick("plain", NULL))->name, "plain");
	assert_false(int8_type_ok(QT_F32, 32));
	assert_false(int8_type_ok(QT_Q4_K, 128));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(activations_are_rounded_as_defined),
		cmocka_unit_test(all_round_to_the_same_bits),
		cmocka_unit_test(products_are_right),
		cmocka_unit_test(all_give_the_same_bits),
		cmocka_unit_test(extremes_do_not_overflow),
		cmocka_unit_test(nothing_beside_rows_is_read),
		cmocka_unit_test(registers_stay_as_they_were),
		cmocka_unit_test(every_float_row_has_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
