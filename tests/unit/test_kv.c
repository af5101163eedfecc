/*
 * test_kv.c - the key/value cache by itself: what comes back is what was written, rounded as IEEE
 * 754 and the format say; a ring gives the last positions; sums are those of the kernels.
 */
#include "test_util.h"

#include <math.h>

#include "base/rng.h"
#include "model/arch.h"
#include "model/kv.h"

#define N_HEAD 3u
#define DIM 64u
#define WIDTH (N_HEAD * DIM)

static struct model model_of(uint32_t dim)
{
	static struct layer layer[2];
	struct model m = { 0 };

	m.hp.n_layer = 2;
	m.hp.head_dim = dim;
	m.layer = layer;
	layer[0].n_head_kv = layer[1].n_head_kv = N_HEAD;
	layer[0].window = layer[1].window = 0;
	return m;
}

static struct kv *make(enum kv_type type, uint32_t n_ctx)
{
	struct model m = model_of(DIM);
	struct moe_err e = { 0 };
	struct kv *c = kv_new(&m, kern_pick(NULL, NULL), type, n_ctx, 1, &e);

	ok_or_fail(c != NULL, &e);
	return c;
}

/* Element i of a head's value at a position: a sum over that position alone. */
static void value_at(const struct kv *c, size_t head, uint32_t pos, float out[DIM])
{
	const float one = 1;
	const struct kv_query q = { 0, 1, out };

	memset(out, 0, DIM * sizeof *out);
	kv_mix(c, 1, head, pos, &q, 1, DIM, &one, 1);
}

/* The nearest half by search, ties to the even one: the definition, not an algorithm. */
static float nearest_half(float x)
{
	double best = INFINITY, d;
	float at = 0;

	for (uint32_t h = 0; h < 0x7c00; h++) {
		double v = h < 1024 ? ldexp(h, -24) : ldexp(1024 + (h & 1023), (int)(h >> 10) - 25);

		d = fabs(fabs((double)x) - v);
		if (d < best || (d == best && !(h & 1))) {
			best = d;
			at = (float)v;
		}
	}
	return fabsf(x) >= 65520 ? copysignf(INFINITY, x) : copysignf(at, x);
}

static void halves_are_the_nearest(void **state)
{
	static const float edge[] = { 0, 1, 1 + 0x1p-11f, 1 + 3 * 0x1p-11f, 0x1p-24f, 0x1p-25f,
		0x1.8p-24f, 0x1.000002p-25f, 0x1p-14f, 0x1.ffep-15f, 0x1.fffp-15f, 65504, 65519, 65520,
		1e9f, 0.1f, 3.14159f };
	struct kv *c = make(KV_F16, 4);
	float row[WIDTH], got[DIM];
	struct rng r;

	(void)state;
	rng_seed(&r, 3);
	for (size_t i = 0; i < WIDTH; i++) {
		row[i] = i < sizeof edge / sizeof edge[0] ? edge[i]
			: (float)ldexp(2 * rng_unit(&r) - 1, (int)rng_below(&r, 40) - 28);
		row[i] = i & 1 ? -row[i] : row[i];
	}
	kv_write(c, 1, 2, 1, row, row);
	for (size_t h = 0; h < N_HEAD; h++) {
		value_at(c, h, 2, got);
		for (size_t i = 0; i < DIM; i++) {
			float want = nearest_half(row[h * DIM + i]);

			if (got[i] != want)
				fail_msg("%a came back as %a, expected %a", (double)row[h * DIM + i],
					(double)got[i], (double)want);
		}
	}
	kv_free(c);
}

static void q8_0_is_within_half_a_step(void **state)
{
	struct kv *c = make(KV_Q8_0, 4);
	float row[WIDTH], got[DIM], max;
	struct rng r;

	(void)state;
	rng_seed(&r, 4);
	for (size_t i = 0; i < WIDTH; i++)
		row[i] = i < 32 ? 0 : (float)(2 * rng_unit(&r) - 1);
	kv_write(c, 1, 0, 1, row, row);
	for (size_t h = 0; h < N_HEAD; h++) {
		value_at(c, h, 0, got);
		for (size_t b = 0; b < DIM; b += 32) {
			max = 0;
			for (size_t i = b; i < b + 32; i++)
				max = fmaxf(max, fabsf(row[h * DIM + i]));
			for (size_t i = b; i < b + 32; i++) /* and the scale is a half: 2^-11 of 127 steps */
				assert_true(fabsf(got[i] - row[h * DIM + i]) <= max / 127 *
					(0.5f + 127 * 0x1p-11f));
		}
	}
	kv_free(c);
}

/* A context of 5 positions; the products are dot and axpy of the kernels, in order. */
static void products_are_the_kernels(void **state)
{
	const struct kern *k = kern_pick(NULL, NULL);
	struct kv *c = make(KV_F32, 5);
	float keys[5 * WIDTH], values[5 * WIDTH], q[DIM], p[5], o[DIM] = { 0 }, want[DIM] = { 0 };
	const struct kv_query all = { 0, 4, o };
	struct rng r;

	(void)state;
	rng_seed(&r, 5);
	for (size_t i = 0; i < 5 * WIDTH; i++) {
		keys[i] = (float)rng_unit(&r) - 0.5f;
		values[i] = (float)rng_unit(&r) - 0.5f;
	}
	for (size_t i = 0; i < DIM; i++)
		q[i] = (float)rng_unit(&r) - 0.5f;
	kv_write(c, 0, 0, 2, keys, values);
	kv_write(c, 0, 2, 3, keys + 2 * WIDTH, values + 2 * WIDTH);
	kv_dot(c, 0, 2, 1, 4, q, 1, p, 4);
	kv_mix(c, 0, 2, 1, &all, 1, DIM, p, 4);
	for (size_t i = 0; i < 4; i++) {
		float dot = k->dot(q, keys + (i + 1) * WIDTH + 2 * DIM, DIM);

		assert_memory_equal(&dot, &p[i], 4);
		k->axpy(p[i], values + (i + 1) * WIDTH + 2 * DIM, want, DIM);
	}
	assert_memory_equal(o, want, sizeof o);
	kv_free(c);
}

/* Queries that see different ranges, together: each gets the bits that it gets alone. */
static void queries_do_not_meet(void **state)
{
	enum { N = 100, Q = 11 };
	struct kv *c = make(KV_F16, N);
	static float rows[2 * N * WIDTH], q[Q * DIM], p[Q * N], alone[N], o[Q * DIM], want[DIM];
	struct kv_query see[Q];
	struct rng r;

	(void)state;
	rng_seed(&r, 9);
	for (size_t i = 0; i < 2 * N * WIDTH; i++)
		rows[i] = (float)rng_unit(&r) - 0.5f;
	for (size_t i = 0; i < Q * DIM; i++)
		q[i] = (float)rng_unit(&r) - 0.5f;
	kv_write(c, 1, 0, N, rows, rows + N * WIDTH);
	for (int round = 0; round < 30; round++) {
		memset(o, 0, sizeof o);
		for (size_t j = 0; j < Q; j++) {
			see[j].lo = round % 3 ? (size_t)rng_below(&r, 50) : 0;
			see[j].hi = see[j].lo + 1 + (size_t)rng_below(&r, N - see[j].lo);
			see[j].o = o + j * DIM;
		}
		kv_dot(c, 1, 1, 0, N, q, Q, p, N);
		kv_mix(c, 1, 1, 0, see, Q, DIM, p, N);
		for (size_t j = 0; j < Q; j++) {
			memset(want, 0, sizeof want);
			kv_dot(c, 1, 1, 0, N, q + j * DIM, 1, alone, N);
			assert_memory_equal(alone, p + j * N, sizeof alone);
			for (size_t i = see[j].lo; i < see[j].hi; i++) {
				float v[DIM];

				value_at(c, 1, (uint32_t)i, v);
				kern_pick(NULL, NULL)->axpy(alone[i], v, want, DIM);
			}
			assert_memory_equal(want, o + j * DIM, sizeof want);
		}
	}
	kv_free(c);
}

/* A layer with a window keeps it and a batch: what is read there is what was written last. */
static void a_window_is_a_ring(void **state)
{
	struct model m = model_of(DIM);
	struct moe_err e = { 0 };
	struct kv *c;
	float row[2 * WIDTH], got[DIM], q[DIM] = { 1 }, p[4];

	(void)state;
	m.layer[1].window = 4;
	c = kv_new(&m, kern_pick(NULL, NULL), KV_F32, 100, 2, &e);
	ok_or_fail(c != NULL, &e);
	assert_int_equal(kv_bytes(&m, KV_F32, 100, 2), (100ul + 6) * 2 * WIDTH * 4);
	for (uint32_t pos = 0; pos < 50; pos += 2) {
		for (size_t i = 0; i < 2 * WIDTH; i++)
			row[i] = (float)(pos + i / WIDTH) + (float)(i % WIDTH) / 1024;
		kv_write(c, 1, pos, 2, row, row);
		for (uint32_t t = pos; t < pos + 2 && pos >= 4; t++) {
			kv_dot(c, 1, 2, t - 3, 4, q, 1, p, 4);
			for (uint32_t i = 0; i < 4; i++)
				assert_true(p[i] == (float)(t - 3 + i) + 2 * DIM / 1024.0f);
			value_at(c, 1, t - 3, got);
			assert_true(got[5] == (float)(t - 3) + (DIM + 5) / 1024.0f);
		}
	}
	m.layer[1].window = 0;
	kv_free(c);
}

static void memory_is_counted(void **state)
{
	struct model m = model_of(DIM), odd = model_of(40);
	struct moe_err e = { 0 };

	(void)state;
	assert_int_equal(kv_bytes(&m, KV_F32, 1000, 7), 2ul * 1000 * 2 * WIDTH * 4);
	assert_int_equal(kv_bytes(&m, KV_F16, 1000, 7), 2ul * 1000 * 2 * WIDTH * 2);
	assert_int_equal(kv_bytes(&m, KV_Q8_0, 1000, 7), 2ul * 1000 * 2 * WIDTH / 32 * 34);
	assert_null(kv_new(&odd, kern_pick(NULL, NULL), KV_Q8_0, 8, 1, &e));
	assert_string_equal(e.msg, "a cache of type q8_0 has blocks of 32 elements, the heads of layer "
		"0 have 40: take f16 or f32");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(halves_are_the_nearest),
		cmocka_unit_test(q8_0_is_within_half_a_step),
		cmocka_unit_test(products_are_the_kernels),
		cmocka_unit_test(queries_do_not_meet),
		cmocka_unit_test(a_window_is_a_ring),
		cmocka_unit_test(memory_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
