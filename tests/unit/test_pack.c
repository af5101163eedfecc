/* Codec 2: what comes out against what went in, the stated errors, and damaged bytes. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "trace/pack.h"

/* Layers of many shapes: one expert, k = n_expert, the widest ids,
 * ids that fill no power of two. */
static const struct moe_layer_desc shapes[] = { { 0, 1, 1 }, { 1, 2, 2 }, { 3, 128, 8 },
{ 4, 5, 3 },
	{ 7, 1024, 9 }, { 8, 256, 1 }, { 9, 100, 100 }, { 10, 1024, 1024 } };
static struct layout lay;
static struct rng rng;

static int setup(void **state)
{
	(void)state;
	rng_seed(&rng, 5);
	return layout_init(&lay, shapes, sizeof shapes / sizeof *shapes, NULL);
}

static int teardown(void **state)
{
	(void)state;
	layout_free(&lay);
	return 0;
}

/* Rows [n][row] as they are packed: layer by layer, room for n + 3 tokens, so that it is not what
 * counts. at [layers]: where a layer's part of a row begins, whose numbers are of `size` bytes. To
 * be freed. */
static void *by_layer(const void *rows, size_t n, size_t row, const size_t *at, size_t size)
{
	char *out = malloc((n + 3) * row * size);

	memset(out, 0xff, (n + 3) * row * size);
	for (size_t i = 0; i < lay.n; i++) {
		size_t len = ((i + 1 < lay.n ? at[i + 1] : row) - at[i]) * size;

		for (size_t t = 0; t < n; t++)
			memcpy(out + (n + 3) * at[i] * size + t * len, (const char *)rows + (t * row +
				at[i]) * size, len);
	}
	return out;
}

static void test_bits(void **state)
{
	static const unsigned want[][2] = { { 1, 1 }, { 2, 1 }, { 3, 2 }, { 4, 2 }, { 5, 3 },
		{ 128, 7 },
		{ 129, 8 }, { 256, 8 }, { 257, 9 }, { 1024, 10 } };

	(void)state;
	for (size_t i = 0; i < sizeof want / sizeof *want; i++)
		assert_int_equal(pack_bits(want[i][0]), want[i][1]);
}

/* Ids by hand: 3, 5, 7 of 8 in 3 bits, the first in the lowest bits: 0b111101011 = 0x1eb. */
static void test_ids_by_hand(void **state)
{
	static const struct moe_layer_desc d = { 0, 8, 3 };
	static const uint16_t rows[] = { 3, 5, 7 };
	unsigned char out[16];
	uint16_t back[3];
	struct layout l;

	(void)state;
	assert_int_equal(layout_init(&l, &d, 1, NULL), 0);
	assert_int_equal(pack_experts_bytes(&l, 1), 2);
	assert_int_equal(pack_experts(&l, 1, 1, rows, out), 2);
	assert_int_equal(out[0], 0xeb);
	assert_int_equal(out[1], 0x01);
	unpack_ids(out, 2, 3, 3, back);
	assert_memory_equal(back, rows, sizeof rows);
	layout_free(&l);
}

static void test_ids(void **state)
{
	static const size_t sizes[] = { 1, 2, 7, 100, 128 };

	(void)state;
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		size_t n = sizes[s], bytes = pack_experts_bytes(&lay, n);
		uint16_t *rows = malloc(n * lay.k_row * 2), *back = malloc(n * lay.k_row * 2);
		/* no byte more than it needs, so that a sanitizer sees one read too many */
		unsigned char *wide = malloc(bytes + 8), *out;
		uint16_t *ids;

		for (size_t t = 0; t < n; t++)
			for (size_t i = 0; i < lay.n; i++)
				for (size_t j = 0; j < lay.layer[i].k; j++)
					rows[t * lay.k_row + lay.k_at[i] + j] =
						(uint16_t)rng_below(&rng, lay.layer[i].n_expert);
		ids = by_layer(rows, n, lay.k_row, lay.k_at, sizeof *ids);
		assert_int_equal(pack_experts(&lay, n, n + 3, ids, wide), bytes);
		free(ids);
		out = malloc(bytes);
		memcpy(out, wide, bytes);
		unpack_experts(&lay, n, out, back);
		assert_memory_equal(back, rows, n * lay.k_row * 2);
		free(rows);
		free(back);
		free(wide);
		free(out);
	}
}

/* Weights of n tokens: falling by rank, or (rise) not; some of them 0. */
static void make_weights(float *rows, size_t n, double top, int rise)
{
	for (size_t t = 0; t < n; t++)
		for (size_t i = 0; i < lay.n; i++) {
			double x = top * (0.2 + 0.8 * rng_unit(&rng));

			for (size_t j = 0; j < lay.layer[i].k; j++) {
				rows[t * lay.k_row + lay.k_at[i] + j] = (float)(rise ? x * rng_unit(&rng) : x);
				x *= rng_unit(&rng);
			}
		}
}

/* The largest weight of a layer. */
static float most_of(const float *rows, size_t n, size_t i)
{
	float most = 0;

	for (size_t t = 0; t < n; t++)
		for (size_t j = 0; j < lay.layer[i].k; j++)
			most = fmaxf(most, rows[t * lay.k_row + lay.k_at[i] + j]);
	return most;
}

static void check_weights(const float *rows, size_t n, enum pack_form form)
{
	size_t most = pack_weights_most(&lay, n), len, bytes = n * lay.k_row * sizeof(float);
	unsigned char *out = malloc(most), *exact;
	float *back = malloc(bytes), *w = by_layer(rows, n, lay.k_row, lay.k_at, sizeof *w);

	len = pack_weights(&lay, n, n + 3, w, form, out);
	free(w);
	assert_true(len <= most);
	exact = malloc(len);
	memcpy(exact, out, len);
	assert_int_equal(unpack_weights(&lay, n, exact, len, back), 0);
	for (size_t i = 0; i < lay.n; i++) {
		float top = most_of(rows, n, i), unit = 1;
		int wide = lay.n > 0 && lay.layer[lay.n - 1].k > 64; /* then 8 bits are 16 */

		while (unit < top)
			unit *= 2;
		while (unit / 2 >= top && top > 0)
			unit /= 2;
		for (size_t t = 0; t < n; t++)
			for (size_t j = 0; j < lay.layer[i].k; j++) {
				size_t at = t * lay.k_row + lay.k_at[i] + j;
				float most_off = form == PACK_F32 ? 0 : form == PACK_F16 || wide ?
					fmaxf(rows[at] * 0x1p-11f, 0x1p-25f) : unit / 510 * 1.0001f;

				if (!(fabsf(back[at] - rows[at]) <= most_off))
					fail_msg("form %d layer %zu: %g became %g", (int)form, i, rows[at], back[at]);
			}
	}
	/* Any byte changed, any cut: an error or numbers, never a read beyond (sanitizers watch). */
	for (int i = 0; i < 300; i++) {
		size_t at = rng_below(&rng, len), cut = rng_below(&rng, len);
		unsigned char was = exact[at], *part = malloc(cut + 1);

		exact[at] = (unsigned char)rng_below(&rng, 256);
		unpack_weights(&lay, n, exact, len, back);
		exact[at] = was;
		memcpy(part, exact, cut);
		assert_int_equal(unpack_weights(&lay, n, part, cut, back), -1);
		free(part);
	}
	free(out);
	free(exact);
	free(back);
}

static void weights_of(const struct moe_layer_desc *d, size_t layers)
{
	static const size_t sizes[] = { 1, 5, 128 };
	static const double tops[] = { 1, 0.37, 2.5, 1e-6, 0 };
	struct layout saved = lay;
	float *rows;

	assert_int_equal(layout_init(&lay, d, layers, NULL), 0);
	for (size_t s = 0; s < 3; s++)
		for (size_t x = 0; x < 5; x++)
			for (int rise = 0; rise < 2; rise++) {
				rows = malloc(sizes[s] * lay.k_row * sizeof *rows);
				make_weights(rows, sizes[s], tops[x], rise);
				for (int form = PACK_F32; form <= PACK_U8; form++)
					check_weights(rows, sizes[s], (enum pack_form)form);
				free(rows);
			}
	layout_free(&lay);
	lay = saved;
}

static void test_weights(void **state)
{
	(void)state;
	weights_of(shapes, 6); /* k up to 9 */
	weights_of(shapes, 7); /* k = 100 */
}

/* What a form cannot hold comes back bit for bit: NaN, negative, infinite.
 * A whole weight of 1 is 1. */
static void test_odd_weights(void **state)
{
	static const struct moe_layer_desc d = { 0, 8, 4 };
	static const float odd[][4] = { { NAN, 1, 0, 0 }, { -1, 1, .5f, 0 }, { INFINITY, 1, 1, 1 },
		{ 1e30f, 0, 0, 0 }, { 1, 1, 1, 1 }, { 0, 0, 0, 0 } };
	unsigned char out[64];
	struct layout l;
	float back[4];

	(void)state;
	assert_int_equal(layout_init(&l, &d, 1, NULL), 0);
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
		for (int form = PACK_F32; form <= PACK_U8; form++) {
			size_t len = pack_weights(&l, 1, 1, odd[i], (enum pack_form)form, out);

			assert_int_equal(unpack_weights(&l, 1, out, len, back), 0);
			assert_memory_equal(back, odd[i], sizeof back);
		}
	layout_free(&l);
}

static void test_margins(void **state)
{
	static const float odd[] = { 0, INFINITY, 1, 0x1p-22f, 1e-9f, 832, 0x1p33f, 7e4f, NAN, 0.125f };
	size_t n = 128, len, most = pack_margins_most(&lay, n);
	float *rows = malloc(n * lay.n * sizeof *rows), *back = malloc(n * lay.n * sizeof *back), *m;
	unsigned char *out = malloc(most);
	size_t one[sizeof shapes / sizeof *shapes];

	(void)state;
	for (size_t i = 0; i < lay.n; i++)
		one[i] = i;
	for (int form = PACK_F32; form <= PACK_U8; form++)
		for (int kind = 0; kind < 3; kind++) {
			for (size_t i = 0; i < n * lay.n; i++)
				rows[i] = kind == 2 ? odd[i % (sizeof odd / sizeof *odd)] : kind ? INFINITY :
					(float)exp(-12 * rng_unit(&rng));
			m = by_layer(rows, n, lay.n, one, sizeof *m);
			len = pack_margins(&lay, n, n + 3, m, (enum pack_form)form, out);
			free(m);
			assert_true(len <= most);
			assert_int_equal(unpack_margins(&lay, n, out, len, back), 0);
			for (size_t i = 0; i < n * lay.n; i++) {
				float off = form == PACK_F32 || kind == 2 ? 0 : form == PACK_F16 ?
					fmaxf(rows[i] / 2048, 0x1p-25f) : rows[i] / 8;

				if (isinf(rows[i]) || isnan(rows[i]))
					assert_memory_equal(&back[i], &rows[i], 4);
				else if (!(fabsf(back[i] - rows[i]) <= off))
					fail_msg("form %d: %g became %g", form, rows[i], back[i]);
			}
			for (int i = 0; i < 300; i++) {
				size_t cut = rng_below(&rng, len), at = rng_below(&rng, len);
				unsigned char *part = malloc(cut + 1), was = out[at];

				memcpy(part, out, cut);
				assert_int_equal(unpack_margins(&lay, n, part, cut, back), -1);
				free(part);
				out[at] = (unsigned char)rng_below(&rng, 256);
				unpack_margins(&lay, n, out, len, back);
				out[at] = was;
			}
		}
	free(rows);
	free(back);
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_bits),
		cmocka_unit_test(test_ids_by_hand), cmocka_unit_test(test_ids),
		cmocka_unit_test(test_weights), cmocka_unit_test(test_odd_weights),
		cmocka_unit_test(test_margins) };

	return cmocka_run_group_tests(tests, setup, teardown);
}
