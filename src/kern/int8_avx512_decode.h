/*
 * int8_avx512_decode.h - a row of weights against one token: integer sums with a lane per block.
 *
 * What several rows at once take (int8_avx512_across.h, int8_avx512_pieces.h) and what leaves its
 * sums in sixteen lanes (int8_avx512_wide.h) comes below; here are rows that were unpacked.
 */

/* ---- codes ---- */

/* 16 bytes at each of four places: broadcasts under a mask, which need no shuffle */
ALWAYS __m512i four16_at(const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, const uint8_t *p3)
{
	__m512i v = _mm512_broadcast_i32x4(load128(p0));

	v = _mm512_mask_broadcast_i32x4(v, 0x00f0, load128(p1));
	v = _mm512_mask_broadcast_i32x4(v, 0x0f00, load128(p2));
	return _mm512_mask_broadcast_i32x4(v, 0xf000, load128(p3));
}

ALWAYS __m512i four16(const uint8_t *p, size_t step)
{
	return four16_at(p, p + step, p + 2 * step, p + 3 * step);
}

/* ---- sums ---- */

/* Of each half: lanes 4 l + i -> 2 i + l. */
static inline __m512i by_twos(__m512i v)
{
	return _mm512_permutexvar_epi32(
		_mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15), v);
}

/* Lane l of each of eight vectors: four-element sums. -> sums of blocks of 32, in order. */
static inline __m512i sums32(const __m512i v[8])
{
	return by_twos(lanes_of_two(sums_of_four(v), sums_of_four(v + 4)));
}

static inline __m512i dot(__m512i s, __m512i w, const void *x)
{
	return _mm512_dpbusd_epi32(s, w, _mm512_loadu_si512(x));
}

/* Integer sums of 16 blocks' codes with the activations x, in order. */
ALWAYS __m512i sums_of(enum kind kind, const uint8_t *code, const int8_t *x)
{
	__m512i v[8];

#pragma GCC unroll 8
	for (size_t j = 0; j < blk_of(kind) / 4; j++)
		v[j] = dot(_mm512_setzero_si512(), _mm512_loadu_si512(code + 64 * j), x + 64 * j);
	if (blk_of(kind) == 32)
		return sums32(v);
	return by_fours(sums_of_four(v));
}

/* What becomes of the sums s of 16 blocks with activations whose sums are xsum. Blocks with integer
 * scales: S and M of each group of 256 to out; others: the sums themselves. */
ALWAYS void put_sixteen(enum kind kind, const struct codes *c, __m512i s, const struct scales *f,
	__m256i xsum, int32_t *out)
{
	__m512i xs = _mm512_cvtepi16_epi32(xsum), m;

	if (!min_of(kind) && c->off_log2)
		s = _mm512_sub_epi32(s, _mm512_slli_epi32(xs, c->off_log2));
	if (!exact_of(kind)) {
		vi_store(out, s);
		return;
	}
	s = _mm512_mullo_epi32(s, f->sc);
	if (min_of(kind)) { /* then S and M in turn */
		m = _mm512_madd_epi16(f->mn, xs); /* both fit into 16 bits, and one of their upper halves is 0 */
		s = _mm512_add_epi32(_mm512_unpacklo_epi32(s, m), _mm512_unpackhi_epi32(s, m));
	} else {
		s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, _MM_PERM_CDAB));
	}
	s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, _MM_PERM_BADC));
	s = _mm512_add_epi32(s, _mm512_shuffle_i64x2(s, s, 0xb1));
	if (blk_of(kind) == 16)
		s = _mm512_add_epi32(s, _mm512_shuffle_i64x2(s, s, 0x4e));
	else
		_mm_storel_epi64((__m128i *)(out + 2), _mm512_extracti32x4_epi32(s, 2));
	_mm_storel_epi64((__m128i *)out, _mm512_castsi512_si128(s));
}

/* Where the results of block b go. */
ALWAYS size_t out_at(enum kind kind, size_t b)
{
	return exact_of(kind) ? b * blk_of(kind) / 256 * 2 : b;
}

/* Unpacked scales: floats, which may have to become integers. */
ALWAYS struct scales loaded(enum kind kind, struct part part, size_t b)
{
	__m512 sc = _mm512_loadu_ps(part.sc + b), mn = _mm512_loadu_ps(part.mn + b);

	if (!exact_of(kind))
		return (struct scales){ _mm512_castps_si512(sc), _mm512_castps_si512(mn) };
	return (struct scales){ _mm512_cvtps_epi32(sc), _mm512_cvtps_epi32(mn) };
}

#include "kern/int8_points.h"
#include "kern/int8_avx512_across.h"
#include "kern/int8_avx512_wide.h"

ALWAYS void sums_of_row(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part, const struct gv_in *in, size_t n_tok, int32_t *out, size_t os)
{
	const size_t blk = blk_of(kind), step = blk * 16;

	(void)row;
	for (size_t i = 0, b = 0; i < act8_pad(len); i += step, b += 16) {
		const struct scales f = loaded(kind, part, b);

		for (size_t t = 0; t < n_tok; t++)
			put_sixteen(kind, c, sums_of(kind, part.code + i, in->q + t * in->np + i), &f,
				load256(in->sum + t * in->np / blk + b), out + t * os + out_at(kind, b));
	}
}
