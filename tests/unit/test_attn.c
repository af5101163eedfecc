/*
 * test_attn.c - the kernels of attention: every instruction set gives the sums that kern.h defines, for
 * every type, width and number of queries; rounding is the format's.
 */
#include "test_util.h"

#include <math.h>

#include "base/qtype.h"
#include "base/rng.h"
#include "kern/half.h"
#include "kern/kern.h"

enum { N = 141, Q = 19, DIM = 160 };

static const uint32_t types[] = { QT_F32, QT_F16, QT_Q8_0 };

static float uniform(struct rng *r)
{
	return (float)(2 * rng_unit(r) - 1);
}

/* N rows of a type and the same as floats, by the plain kernels' dequantisation (test_kern.c). */
static void make_rows(uint32_t type, size_t dim, uint8_t *rows, size_t row_bytes, float *same, struct rng *r)
{
	for (size_t i = 0; i < N; i++) {
		for (size_t d = 0; d < dim; d++)
			same[i * dim + d] = uniform(r);
		if (type == QT_F32)
			memcpy(rows + i * row_bytes, same + i * dim, 4 * dim);
		else if (type == QT_F16)
			kern_pick("plain", NULL)->to_f16(same + i * dim, rows + i * row_bytes, dim);
		else
			kern_pick("plain", NULL)->to_q8_0(same + i * dim, rows + i * row_bytes, dim);
		kern_pick("plain", NULL)->to_float(type, rows + i * row_bytes, same + i * dim, dim);
	}
}

/* kern.h's definition, spelt out. */
static float tree_dot(const float *a, const float *b, size_t n)
{
	float lane[16] = { 0 };

	for (size_t i = 0; i < n; i++)
		lane[i % 16] = fmaf(a[i], b[i], lane[i % 16]);
	for (size_t s = 8; s; s /= 2)
		for (size_t l = 0; l < s; l++)
			lane[l] += lane[l + s];
	return lane[0];
}

static void sums_are_those_of_the_definition(void **state)
{
	static float same[N * DIM], q[Q * DIM], p[Q * N], o[Q * DIM], want[Q * DIM];
	static uint8_t rows[N * (4 * DIM + 64)];
	struct rng r;

	(void)state;
	rng_seed(&r, 31);
	for (size_t t = 0; t < 3; t++)
		for (size_t dim = 1; dim <= DIM; dim += dim % 32 < 13 ? 13 : 32 - dim % 32) { /* also 32 k */
			size_t row_bytes;

			if (dim % qtype_info(types[t])->block)
				continue;
			row_bytes = qtype_row_bytes(types[t], dim);
			row_bytes += types[t] == QT_F32 ? 16 : 6; /* a value may be a part of its row */
			make_rows(types[t], dim, rows, row_bytes, same, &r);
			for (size_t i = 0; i < Q * DIM; i++)
				q[i] = uniform(&r);
			for (size_t k = 0; kern_at(k); k++) {
				const struct kern *kern = kern_at(k);
				size_t n = 1 + (size_t)rng_below(&r, N), n_q = 1 + (size_t)rng_below(&r, Q);

				n_q = n % 2 ? Q : n_q;
				if (!kern->supported())
					continue;
				kern->att_dot(types[t], rows, row_bytes, dim, n, q, n_q, p, N);
				for (size_t j = 0; j < n_q; j++)
					for (size_t i = 0; i < n; i++) {
						float dot = tree_dot(q + j * dim, same + i * dim, dim);

						assert_memory_equal(&dot, p + j * N + i, 4);
					}
				for (size_t i = 0; i < Q * DIM; i++)
					o[i] = want[i] = uniform(&r);
				kern->att_mix(types[t], rows, row_bytes, dim, n, p, N, n_q, o, DIM);
				for (size_t j = 0; j < n_q; j++)
					for (size_t i = 0; i < n; i++)
						for (size_t d = 0; d < dim; d++)
							want[j * DIM + d] = fmaf(p[j * N + i], same[i * dim + d], want[j * DIM + d]);
				assert_memory_equal(o, want, sizeof o);
			}
		}
}

static void the_largest_is_found(void **state)
{
	float x[70];
	struct rng r;

	(void)state;
	rng_seed(&r, 32);
	for (size_t k = 0; kern_at(k); k++)
		for (size_t n = 0; n <= 70 && kern_at(k)->supported(); n++) {
			float want = -0.5f;

			for (size_t i = 0; i < n; i++) {
				x[i] = i % 7 == 3 ? NAN : uniform(&r);
				want = x[i] > want ? x[i] : want;
			}
			assert_true(kern_at(k)->max(x, n, -0.5f) == want);
		}
}

/* Every exponent with the mantissas around a tie, both signs, and values that are not numbers. */
static void halves_are_rounded_to_nearest(void **state)
{
	static const uint32_t low[] = { 0, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x2fff, 0x3000, 0x3001, 0x7fefff,
		0x7ff000, 0x7fffff, 0x400000, 0x3fffff, 0x555555 };
	enum { LOW = sizeof low / sizeof low[0] };
	static float x[512 * LOW];
	static uint16_t got[512 * LOW];

	(void)state;
	for (uint32_t i = 0; i < 512 * LOW; i++) {
		uint32_t bits = (i / LOW) << 23 | low[i % LOW];

		memcpy(x + i, &bits, 4);
	}
	for (size_t k = 0; kern_at(k); k++) {
		if (!kern_at(k)->supported())
			continue;
		kern_at(k)->to_f16(x, got, 512 * LOW);
		for (size_t i = 0; i < 512 * LOW; i++)
			if (got[i] != half_from_float(x[i]))
				fail_msg("%s: %a becomes %04x, expected %04x", kern_at(k)->name, (double)x[i], got[i],
					half_from_float(x[i]));
	}
}

/* The format's rule with libm's roundf. */
static void q8_0_is_the_formats(void **state)
{
	float x[64];
	uint8_t got[68];
	struct rng r;

	(void)state;
	rng_seed(&r, 33);
	for (int round = 0; round < 2000; round++) {
		for (size_t i = 0; i < 64; i++) /* halves of steps among them */
			x[i] = i < 32 ? uniform(&r) : (float)((int)rng_below(&r, 509) - 254) / 2;
		x[40] = 127;
		for (size_t k = 0; kern_at(k); k++) {
			if (!kern_at(k)->supported())
				continue;
			kern_at(k)->to_q8_0(x, got, 64);
			for (size_t b = 0; b < 2; b++) {
				float max = 0, d;
				uint16_t h;

				for (size_t i = 32 * b; i < 32 * b + 32; i++)
					max = fmaxf(max, fabsf(x[i]));
				d = max / 127.0f;
				memcpy(&h, got + 34 * b, 2);
				assert_int_equal(h, half_from_float(d));
				for (size_t i = 0; i < 32; i++)
					assert_int_equal((int8_t)got[34 * b + 2 + i], (int)roundf(x[32 * b + i] * (1.0f / d)));
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_are_those_of_the_definition),
		cmocka_unit_test(the_largest_is_found),
		cmocka_unit_test(halves_are_rounded_to_nearest),
		cmocka_unit_test(q8_0_is_the_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
