/*
 * int8_avx512_decode.h - a row of weights against one token: integer sums with a lane per block.
 *
 * What several rows at once take (int8_avx512_across.h) and what leaves its sums in sixteen lanes
 * (int8_avx512_wide.h) comes below; here are the others. Where a weight is a bit, four bytes are a
 * block: eight dot products, each with the same bit of 64 bytes, leave a lane a block. Where it is
 * two, eight bytes are one, and they leave two. What was unpacked is taken 64 codes in their order.
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

/* Of one or two times 256 elements at p, 64 bytes: 4 where bit j is set. */
ALWAYS void bits_of(const uint8_t *p, size_t n256, __m512i out[8])
{
	__m512i v = _mm512_maskz_broadcast_i32x4(0x000f, load128(p + 2));

	v = _mm512_mask_broadcast_i32x4(v, 0x00f0, load128(p + 20));
	if (n256 > 1) {
		v = _mm512_mask_broadcast_i32x4(v, 0x0f00, load128(p + 38));
		v = _mm512_mask_broadcast_i32x4(v, 0xf000, load128(p + 56));
	}
#pragma GCC unroll 8
	for (unsigned j = 0; j < 8; j++)
		out[j] = _mm512_and_si512(j < 2 ? _mm512_slli_epi16(v, 2 - j) : _mm512_srli_epi16(v, j - 2),
			_mm512_set1_epi8(4));
}

/* Of one or two times 256 elements at p, 64 bytes each: twice what bits 2 j and 2 j + 1 are. */
ALWAYS void twos_of(const uint8_t *p, size_t n256, __m512i out[8])
{
#pragma GCC unroll 2
	for (size_t i = 0; i < n256; i++) {
		__m512i v = four16(p + 72 * i + 2, 18);

#pragma GCC unroll 4
		for (unsigned j = 0; j < 4; j++)
			out[4 * i + j] = _mm512_and_si512(j ? _mm512_srli_epi16(v, 2 * j - 1) :
				_mm512_slli_epi16(v, 1), _mm512_set1_epi8(6));
	}
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

/* Two lanes a block, those of v, then those of w. */
static inline __m512i pairs_of_lanes(__m512i v, __m512i w)
{
	const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
		30);
	const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));

	return _mm512_add_epi32(_mm512_permutex2var_epi32(v, even, w),
		_mm512_permutex2var_epi32(v, odd, w));
}

static inline __m512i dot(__m512i s, __m512i w, const void *x)
{
	return _mm512_dpbusd_epi32(s, w, _mm512_loadu_si512(x));
}

/* Codes of sixteen blocks: 512 elements in blocks of 32, of which n256 (1 or 2) times 256 are there, or
 * 256 in blocks of 16. They lie at p, or are unpacked at code. part: what comes later is asked for. */
struct sixteen { __m512i w[8]; struct scales f; };

ALWAYS void read_sixteen(enum kind kind, const uint8_t *p, const uint8_t *code, size_t n256,
	const struct part *part, struct asks *asks, struct sixteen *o)
{
	const size_t bytes = n256 * bytes256(kind);

	if (part)
		ahead(p, bytes, part->asked, part->end);
	ask_part(asks, bytes, 0, 1);
	if (kind == Q1_0) {
		bits_of(p, n256, o->w);
		return;
	}
	if (kind == Q2_0) {
		twos_of(p, n256, o->w);
		return;
	}
#pragma GCC unroll 8
	for (size_t j = 0; j < 4 * n256; j++)
		o->w[j] = _mm512_loadu_si512(code + 64 * j);
}

/* Their integer sums with the activations x, in order: of blocks of 32, the second 256 with those at
 * x1. */
ALWAYS __m512i sums_of(enum kind kind, const struct sixteen *o, size_t n256, const int8_t *x,
	const int8_t *x1)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i v[8];

	if (kind == Q1_0) { /* four bytes of bits are a block */
		v[0] = v[1] = zero;
#pragma GCC unroll 8
		for (size_t j = 0; j < 8; j++)
			v[j % 2] = dot(v[j % 2], o->w[j], x + 64 * j);
		return _mm512_add_epi32(v[0], v[1]);
	}
	if (kind == Q2_0) { /* two lanes a block */
#pragma GCC unroll 2
		for (size_t i = 0; i < 2; i++) {
			v[i] = zero;
#pragma GCC unroll 4
			for (size_t j = 0; j < 4; j++)
				if (i < n256)
					v[i] = dot(v[i], o->w[4 * i + j], x + 64 * (4 * i + j));
		}
		return pairs_of_lanes(v[0], v[1]);
	}
#pragma GCC unroll 8
	for (size_t j = 0; j < blk_of(kind) / 4; j++)
		v[j] = j / 4 >= n256 ? zero : dot(zero, o->w[j], (j / 4 ? x1 : x) + 64 * (j % 4));
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

ALWAYS void keep_scales(enum kind kind, const struct scales *f, struct part part, size_t b)
{
	if (exact_of(kind))
		return;
	vi_store(part.sc + b, f->sc);
	if (min_of(kind))
		vi_store(part.mn + b, f->mn);
}

#include "kern/int8_points.h"
#include "kern/int8_avx512_across.h"
#include "kern/int8_avx512_wide.h"

ALWAYS void sums_of_row(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part, const struct gv_in *in, size_t n_tok, int32_t *out, size_t os)
{
	const size_t blk = blk_of(kind), step = blk * 16, np = in->np, b256 = bytes256(kind);
	const enum kind rest = unpacked_of(kind);
	size_t whole = UNPACKED(kind) ? 0 : len / 256 * 256, i = 0, b = 0;
	struct asks asks = asks_now(*part.asks);
	struct sixteen o, u;

	for (; i + step <= whole; i += step, b += 16) {
		const uint8_t *p = row + i / 256 * b256;
		const size_t line = asks.step;

		ask_more(&asks, step / 256 * b256, b / 16);
		read_sixteen(kind, p, NULL, step / 256, &part, &asks, &o);
		o.f = scales_at(kind, p, p + b256, step / 256);
		keep_scales(kind, &o.f, part, b);
		for (size_t t = 0; t < n_tok; t++) {
			const int8_t *x = in->x + t * in->xp + i;

			put_sixteen(kind, c, sums_of(kind, &o, step / 256, x, x + 256), &o.f,
				load256(in->sum + t * np / blk + b), out + t * os + out_at(kind, b));
			asks.step = 0; /* for the first token */
		}
		asks.step = line;
	}
	*part.asks = asks;
	asks.step = 0;
	if (i < whole) { /* 256 in blocks of 32, and what was unpacked */
		const uint8_t *p = row + i / 256 * b256;

		read_sixteen(kind, p, NULL, 1, &part, &asks, &o);
		o.f = scales_at(kind, p, p, 1);
		if (whole < len) {
			u.f = loaded(rest, part, b);
			o.f.sc = _mm512_mask_mov_epi32(u.f.sc, 0xff, o.f.sc);
			o.f.mn = _mm512_mask_mov_epi32(u.f.mn, 0xff, o.f.mn);
			read_sixteen(rest, NULL, part.code + whole, 1, NULL, &asks, &u);
		}
		keep_scales(kind, &o.f, part, b);
		for (size_t t = 0; t < n_tok; t++) {
			const int8_t *x = in->x + t * in->xp + i, *q = in->q + t * np + whole;
			__m512i s = sums_of(kind, &o, 1, x, x);

			if (whole < len)
				s = _mm512_mask_permutexvar_epi32(s, 0xff00, _mm512_setr_epi32(8, 9, 10, 11, 12, 13, 14,
					15, 0, 1, 2, 3, 4, 5, 6, 7), sums_of(rest, &u, 1, q, q));
			put_sixteen(kind, c, s, &o.f, load256(in->sum + t * np / blk + b),
				out + t * os + out_at(kind, b));
		}
		i += step;
		b += 16;
	}
	for (; i < act8_pad(len); i += step, b += 16) { /* unpacked, then zeros */
		read_sixteen(rest, NULL, part.code + i, step / 256, NULL, &asks, &u);
		u.f = loaded(rest, part, b);
		for (size_t t = 0; t < n_tok; t++) {
			const int8_t *q = in->q + t * np + i;

			put_sixteen(rest, c, sums_of(rest, &u, step / 256, q, q + 256), &u.f,
				load256(in->sum + t * np / blk + b), out + t * os + out_at(kind, b));
		}
	}
}
