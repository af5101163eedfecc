/*
 * int8_avx2_decode.h - a row of weights against a few tokens.
 *
 * Without VNNI the products of bytes are summed in pairs to 16 bits. Pairs are added there while
 * they cannot overflow (a pair is at most 254 times the largest code). Where scales are integers, one
 * vpmaddwd widens them and multiplies them by the scales; what is left are the sums of 256 elements.
 * Where scales are floats, they are brought to eight sums of blocks, a lane each.
 *
 * Kinds with blocks of 32 and codes of at most 5 bits, or looked up ("halves" below), put 16 codes
 * of the blocks i and i + 4 into one vector; their activations are arranged likewise, once a call.
 * Where a weight is a bit, or has a fifth one in another place, four bytes of them are a block: the
 * same bit of 32 bytes is taken at once, and eight products leave a lane a block. Where eight bytes
 * are one (of 32 elements in Q2_0, of 16 in NVFP4), they leave four words. The others take 32 codes
 * in their order.
 */

#define HALVES(kind) ((kind) >= Q4_0 && (kind) <= Q5_K)
#define FIFTHS(kind) ((kind) == Q5_0 || (kind) == Q5_1)
#define ARRANGED(kind) (FIFTHS(kind) ? 512u : HALVES(kind) || PLANES(kind) ? 256u : \
	(kind) == TQ1_0 ? 320u : 0u)

/* log2 of the off that sums are to be freed from */
ALWAYS int off_of(enum kind kind, const struct codes *c)
{
	switch (kind) {
	case B32: case B16: case I32: case I16: return OFF_LOG2(c);
	case Q4_0: return 3;
	case Q5_0: case MXFP4: case NVFP4: return 4;
	case Q6_K: return 5;
	case Q3_K: return 2;
	case Q1_0: case Q2_0: return 1;
	default: return 0;
	}
}

/* Where the codes of the first block of 32 begin, where blocks have bytes of their own. */
ALWAYS size_t codes_at(enum kind kind)
{
	return kind == MXFP4 ? 1 : kind == Q4_1 ? 4 : kind == Q5_0 ? 6 :
		kind == Q5_1 || kind == IQ4_XS ? 8 : 2;
}

static inline __m256i load256(const void *p) { return _mm256_loadu_si256(p); }
static inline __m128i load128(const void *p) { return _mm_loadu_si128(p); }

#include "kern/int8_points.h"

static inline int four_bytes(const uint8_t *p)
{
	return (int)rd32(p);
}

/* ---- scales ---- */

/* The 16-bit words at p, p + bytes, ... of eight blocks: each is loaded to where it belongs. */
ALWAYS __m128i block_words(const uint8_t *p, size_t bytes)
{
	__m128i v = load128(p);

	v = _mm_blend_epi16(v, load128(p + bytes - 2), 2);
	v = _mm_blend_epi16(v, load128(p + 2 * (bytes - 2)), 4);
	v = _mm_blend_epi16(v, load128(p + 3 * (bytes - 2)), 8);
	v = _mm_blend_epi16(v, load128(p + 4 * (bytes - 2)), 16);
	v = _mm_blend_epi16(v, load128(p + 5 * (bytes - 2)), 32);
	v = _mm_blend_epi16(v, load128(p + 6 * (bytes - 2)), 64);
	return _mm_blend_epi16(v, load128(p + 7 * (bytes - 2)), 128);
}

/* Eight exponents of MXFP4. */
ALWAYS __m256 mxfp4_scales(const uint8_t *p)
{
	const __m256i one = _mm256_set1_epi32(1);
	__m256i e = _mm256_cvtepu16_epi32(_mm_and_si128(block_words(p, 17), _mm_set1_epi16(255)));
	__m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), e);

	return _mm256_blendv_ps(_mm256_castsi256_ps(small),
		_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_sub_epi32(e, one), 23)),
		_mm256_castsi256_ps(_mm256_cmpgt_epi32(e, one)));
}

/* Sixteen scales of six bits, from the twelve bytes of Q3_K. */
ALWAYS __m128i q3_k_bytes(const uint8_t *p)
{
	__m128i s = _mm_loadl_epi64((const void *)p), h;

	s = _mm_and_si128(_mm_unpacklo_epi64(s, _mm_srli_epi16(s, 4)), _mm_set1_epi8(15));
	h = _mm_sllv_epi32(_mm_set1_epi32(four_bytes(p + 8)), _mm_setr_epi32(4, 2, 0, 0));
	h = _mm_and_si128(_mm_srlv_epi32(h, _mm_setr_epi32(0, 0, 0, 2)), _mm_set1_epi8(0x30));
	return _mm_sub_epi8(_mm_or_si128(s, h), _mm_set1_epi8(32));
}

/* Eight scales of IQ4_XS: low bits in four bytes, high ones in two. */
ALWAYS __m128i iq4_xs_bytes(const uint8_t *p)
{
	__m256i low, high = _mm256_set1_epi32(rd16(p) << 4);

	low = _mm256_srlv_epi32(_mm256_set1_epi32(four_bytes(p + 2)),
		_mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
	high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
	low = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)),
		_mm256_and_si256(high, _mm256_set1_epi32(0x30)));
	low = _mm256_sub_epi32(low, _mm256_set1_epi32(32));
	low = _mm256_packs_epi16(_mm256_packs_epi32(low, low), low);
	return _mm_unpacklo_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
}

/* Of 256 elements. k: integers of 16 bits where each() finds them; m: in the order of the blocks, minima
 * or, where there are none, the scales. sc, mn: floats; more: of the second eight blocks. */
struct scales { __m256i k, m; __m256 sc, mn, more; };

/* Those of one lane each: k[j] of both lanes of k, everywhere in its lane. */
ALWAYS __m256i each(__m256i k, size_t j)
{
	return _mm256_shuffle_epi8(k, _mm256_set1_epi16((short)(2 * j + 256 * (2 * j + 1))));
}

/* Eight bytes for vectors that hold the blocks j and j + 4 in their lanes. */
ALWAYS __m256i by_halves(__m128i v)
{
	return _mm256_cvtepi8_epi16(_mm_shuffle_epi32(v, 0x50));
}

/* Sixteen for vectors that hold the blocks 2 j and 2 j + 1. */
ALWAYS __m256i by_pairs(__m128i v)
{
	return _mm256_cvtepi8_epi16(_mm_shuffle_epi8(v, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9,
		11, 13, 15)));
}

static inline __m256i wide128(__m128i v)
{
	return _mm256_zextsi128_si256(v);
}

/* Of 256 elements at p. */
ALWAYS struct scales scales_at(enum kind kind, const uint8_t *p)
{
	const __m256 minus = _mm256_set1_ps(-0.0f);
	const __m128i low4 = _mm_set1_epi8(15);
	const size_t bytes = bytes256(kind) / 8;
	struct scales f = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_ps(),
		_mm256_setzero_ps(), _mm256_setzero_ps() };
	__m128i v;

	switch (kind) {
	case Q8_0: case Q4_0: case Q4_1: case Q5_0: case Q5_1: case IQ4_NL:
		f.sc = _mm256_cvtph_ps(block_words(p, bytes));
		if (kind == Q4_1 || kind == Q5_1)
			f.mn = _mm256_xor_ps(_mm256_cvtph_ps(block_words(p + 2, bytes)), minus);
		break;
	case MXFP4:
		f.sc = mxfp4_scales(p);
		break;
	case NVFP4:
		v = _mm_setr_epi32(four_bytes(p), four_bytes(p + 36), four_bytes(p + 72),
			four_bytes(p + 108));
		f.sc = e4m3_halves(v);
		f.more = e4m3_halves(_mm_unpackhi_epi64(v, v));
		break;
	case Q2_0: /* of two blocks each */
		v = _mm_setr_epi32(rd16(p), rd16(p + 18), rd16(p + 36), rd16(p + 54));
		v = _mm_or_si128(v, _mm_slli_epi32(v, 16));
		f.sc = _mm256_mul_ps(_mm256_set1_ps(0.5f), _mm256_cvtph_ps(v));
		break;
	case Q1_0: /* of four */
		v = _mm_unpacklo_epi64(_mm_set1_epi16((short)rd16(p)), _mm_set1_epi16((short)rd16(p + 18)));
		f.sc = _mm256_mul_ps(_mm256_set1_ps(0.5f), _mm256_cvtph_ps(v));
		break;
	case Q4_K: case Q5_K:
		v = k_bytes(p);
		f.k = by_halves(v);
		f.m = wide128(_mm_cvtepi8_epi16(_mm_unpackhi_epi64(v, v)));
		break;
	case IQ4_XS:
		v = iq4_xs_bytes(p + 2);
		f.k = by_halves(v);
		f.m = wide128(_mm_cvtepi8_epi16(v));
		break;
	case Q6_K: case Q3_K:
		v = kind == Q6_K ? load128(p + 192) : q3_k_bytes(p + 96);
		f.k = by_pairs(v);
		f.m = _mm256_cvtepi8_epi16(v);
		break;
	case Q2_K:
		v = load128(p);
		f.k = by_pairs(_mm_and_si128(v, low4));
		f.m = _mm256_cvtepi8_epi16(_mm_and_si128(_mm_srli_epi16(v, 4), low4));
		break;
	default:
		break;
	}
	return f;
}

/* Eight integers as floats -> of 16 bits. */
static inline __m128i words_of(const float *p)
{
	__m256i v = _mm256_cvtps_epi32(_mm256_loadu_ps(p));

	return _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

/* Unpacked ones, of the blocks from b on. */
ALWAYS struct scales loaded(enum kind kind, struct part part, size_t b)
{
	const __m128i even = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
	struct scales f = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_ps(),
		_mm256_setzero_ps(), _mm256_setzero_ps() };
	__m128i v, w;

	if (!exact_of(kind))
		return f; /* they are where they are wanted */
	v = words_of(part.sc + b);
	f.k = _mm256_broadcastsi128_si256(v);
	f.m = wide128(min_of(kind) ? words_of(part.mn + b) : v);
	if (blk_of(kind) == 32)
		return f;
	w = words_of(part.sc + b + 8);
	f.m = min_of(kind) ? _mm256_set_m128i(words_of(part.mn + b + 8), words_of(part.mn + b)) :
		_mm256_set_m128i(w, v);
	v = _mm_shuffle_epi8(v, even);
	w = _mm_shuffle_epi8(w, even);
	f.k = _mm256_set_m128i(_mm_unpackhi_epi64(v, w), _mm_unpacklo_epi64(v, w));
	return f;
}

/* Those of a whole row of a kind that is read as it lies, as floats, for a tile. */
ALWAYS void scales(enum kind kind, const struct codes *c, const uint8_t *row, size_t len, float *sc,
	float *mn)
{
	size_t whole = len / 256 * 256, b = whole / blk_of(kind);

	for (size_t i = 0; i < whole; i += 256) {
		struct scales f = scales_at(kind, row + i / 256 * bytes256(kind));
		float *o = sc + i / blk_of(kind);

		if (!exact_of(kind)) {
			_mm256_storeu_ps(o, f.sc);
			_mm256_storeu_ps(mn + i / 32, f.mn);
			continue;
		}
		_mm256_storeu_ps(o, _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(f.m))));
		if (blk_of(kind) == 16)
			_mm256_storeu_ps(o + 8,
				_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(f.m, 1))));
	}
	if (whole < len) { /* fewer than eight blocks of 32 */
		uint8_t code[256];

		c->fn(row + whole / 256 * bytes256(kind), len - whole, code, sc + b, mn + b);
	}
}

/* What is not read as it lies: all, or what is behind the last 256 elements. Codes of eight bits become
 * signed. */
ALWAYS void prepare(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part)
{
	size_t whole = UNPACKED(kind) ? 0 : len / 256 * 256, b = whole / blk_of(kind);

	if (whole == len)
		return;
	c->fn(row + whole / 256 * bytes256(kind), len - whole, part.code + whole, part.sc + b, part.mn + b);
	for (size_t i = whole; c->off_log2 == BIG_LOG2 && i < len; i += 32)
		vi_store(part.code + i, _mm256_xor_si256(vi_load(part.code + i), _mm256_set1_epi8((char)0x80)));
}

/* ---- codes ---- */

ALWAYS __m256i two16(const uint8_t *p, const uint8_t *q)
{
	return _mm256_inserti128_si256(_mm256_castsi128_si256(load128(p)), load128(q), 1);
}

/* (v & mask) | w */
static inline __m256i and_or(__m256i v, __m256i mask, __m256i w)
{
	return _mm256_or_si256(_mm256_and_si256(v, mask), w);
}

/* The 32 bits at p, p + bytes, ... of eight blocks. */
ALWAYS __m256i block_dwords(const uint8_t *p, size_t bytes)
{
	__m256i v = load256(p);

	v = _mm256_blend_epi32(v, load256(p + bytes - 4), 2);
	v = _mm256_blend_epi32(v, load256(p + 2 * (bytes - 4)), 4);
	v = _mm256_blend_epi32(v, load256(p + 3 * (bytes - 4)), 8);
	v = _mm256_blend_epi32(v, load256(p + 4 * (bytes - 4)), 16);
	v = _mm256_blend_epi32(v, load256(p + 5 * (bytes - 4)), 32);
	v = _mm256_blend_epi32(v, load256(p + 6 * (bytes - 4)), 64);
	return _mm256_blend_epi32(v, load256(p + 7 * (bytes - 4)), 128);
}

/* Of 256 elements at p: w[2 i + j] holds the codes 16 j .. 16 j + 15 of the blocks i and i + 4;
 * those of Q5_0 and Q5_1 without their fifth bits, which are in w[8]. Those of IQ4 are signed. */
ALWAYS void read_halves(enum kind kind, const uint8_t *p, __m256i w[9])
{
	const __m256i low4 = _mm256_set1_epi8(15), bit5 = _mm256_set1_epi8(16);
	const size_t step = kind == IQ4_XS ? 16 : bytes256(kind) / 8;
	const size_t at = codes_at(kind);
	const void *table = kind == MXFP4 ? mxfp4_codes : iq4_table;

	if (FIFTHS(kind))
		w[8] = block_dwords(p + at - 4, step);

	if (kind == Q4_K || kind == Q5_K) { /* nibbles of two blocks in 32 bytes */
		const uint8_t *q = p + (kind == Q4_K ? 16 : 48);

#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++) {
			size_t half = 32 * (i / 2) + 16 * (i % 2), k = 4 * (i / 2) + i % 2;
			__m256i v = two16(q + half, q + half + 64);

			w[k] = _mm256_and_si256(v, low4);
			w[k + 2] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low4);
			if (kind == Q5_K) { /* bit b of a byte is block b's */
				__m256i h = _mm256_broadcastsi128_si256(load128(p + 16 + 16 * (i % 2)));

				h = _mm256_srlv_epi32(h, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
				w[k] = and_or(_mm256_slli_epi16(h, i / 2 ? 2 : 4), bit5, w[k]);
				w[k + 2] = and_or(_mm256_slli_epi16(h, i / 2 ? 1 : 3), bit5, w[k + 2]);
			}
		}
		return;
	}
#pragma GCC unroll 4
	for (size_t i = 0; i < 4; i++) {
		const uint8_t *a = p + i * step, *b = a + 4 * step;
		__m256i v = two16(a + at, b + at);

		w[2 * i] = _mm256_and_si256(v, low4);
		w[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low4);
		if (kind == IQ4_NL || kind == IQ4_XS || kind == MXFP4) {
			__m256i t = _mm256_broadcastsi128_si256(load128(table));

			if (kind != MXFP4)
				t = _mm256_xor_si256(t, _mm256_set1_epi8((char)0x80));
			w[2 * i] = _mm256_shuffle_epi8(t, w[2 * i]);
			w[2 * i + 1] = _mm256_shuffle_epi8(t, w[2 * i + 1]);
		}
	}
}

/* Of 256 activations: those that belong to bit 0 of 32 bytes of bits, then to bit 1, and so on. */
static void arrange_bits(const int8_t *q, int8_t *out)
{
	const __m256i pair = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12,
		5, 13, 6, 14, 7, 15));
	__m256i v[8];

	for (size_t k = 0; k < 8; k++) { /* lane j: byte j of each of four eights */
		__m256i t = _mm256_shuffle_epi8(load256(q + 32 * k), pair);
		__m128i a = _mm256_castsi256_si128(t), b = _mm256_extracti128_si256(t, 1);

		v[k] = _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b));
	}
	transpose(v);
	for (size_t j = 0; j < 8; j++)
		vi_store(out + 32 * j, v[j]);
}

/* An order of activations: what the digits of TQ1_0's 52 bytes belong to, then twelve zeros. */
static void arrange_digits(const int8_t *q, int8_t *out)
{
	for (size_t t = 0; t < 5; t++, out += 64) {
		memset(out + 48, 0, 16);
		memcpy(out, q + 32 * t, 32);
		memcpy(out + 32, q + 160 + 16 * t, 16);
		if (t < 4)
			memcpy(out + 48, q + 240 + 4 * t, 4);
	}
}

/* The orders of activations: that of read_halves, what belongs to fifth bits behind it; of the
 * digits of TQ1_0; of the bits of a byte, or of each two; eights that are low or high nibbles of
 * the same bytes. */
static void arrange(enum kind kind, const int8_t *q, size_t n, int8_t *out)
{
	const uint8_t *p = (const uint8_t *)q;

	for (size_t i = 0; i < n; i += 256, p += 256, out += ARRANGED(kind)) {
		if (kind == Q1_0 || FIFTHS(kind))
			arrange_bits(q + i, out + (kind == Q1_0 ? 0 : 256));
		for (size_t t = 0; t < 8 && kind == Q2_0; t++)
			for (size_t l = 0; l < 32; l++)
				out[32 * t + l] = q[i + 128 * (t / 4) + 4 * l + t % 4];
		for (size_t t = 0; t < 32 && kind == NVFP4; t++)
			memcpy(out + 64 * (t / 8) + 32 * (t % 2) + t % 8 / 2 * 8, p + 8 * t, 8);
		for (size_t k = 0; k < 8 && HALVES(kind); k++)
			vi_store(out + 32 * k, two16(p + 16 * k, p + 16 * k + 128));
		if (kind == TQ1_0)
			arrange_digits(q + i, out);
	}
}

/* 256 codes in their order, w[j] those from 32 j on: unpacked at code, or at p. Those of Q8_0 are signed,
 * as unpacked ones of eight bits. */
ALWAYS void read_in_order(enum kind kind, const uint8_t *p, const uint8_t *code, __m256i w[9])
{
	const __m256i low4 = _mm256_set1_epi8(15), high2 = _mm256_set1_epi8(0x30);
	const __m256i two = _mm256_set1_epi8(3), bit3 = _mm256_set1_epi8(4);
	__m256i a, b;

	if (kind == Q6_K || kind == Q2_K || kind == Q3_K) {
#pragma GCC unroll 2
		for (size_t h = 0; h < 2; h++, w += 4) {
			if (kind == Q6_K) {
				a = load256(p + 64 * h);
				b = load256(p + 64 * h + 32);
				w[0] = _mm256_and_si256(a, low4);
				w[1] = _mm256_and_si256(b, low4);
				w[2] = _mm256_and_si256(_mm256_srli_epi16(a, 4), low4);
				w[3] = _mm256_and_si256(_mm256_srli_epi16(b, 4), low4);
				a = load256(p + 128 + 32 * h);
				w[0] = and_or(_mm256_slli_epi16(a, 4), high2, w[0]);
				w[1] = and_or(_mm256_slli_epi16(a, 2), high2, w[1]);
				w[2] = and_or(a, high2, w[2]);
				w[3] = and_or(_mm256_srli_epi16(a, 2), high2, w[3]);
				continue;
			}
			a = load256(p + (kind == Q2_K ? 16 : 32) + 32 * h);
			for (int j = 0; j < 4; j++)
				w[j] = _mm256_and_si256(_mm256_srli_epi16(a, 2 * j), two);
			if (kind == Q2_K)
				continue;
			a = h ? _mm256_srli_epi16(load256(p), 4) : load256(p);
			w[0] = and_or(_mm256_slli_epi16(a, 2), bit3, w[0]);
			w[1] = and_or(_mm256_slli_epi16(a, 1), bit3, w[1]);
			w[2] = and_or(a, bit3, w[2]);
			w[3] = and_or(_mm256_srli_epi16(a, 1), bit3, w[3]);
		}
		return;
	}
	for (size_t j = 0; j < 8; j++)
		w[j] = kind == Q8_0 ? load256(p + 34 * j + 2) : load256(code + 32 * j);
}

/* Of 256 elements at p, twice 32 bytes: twice what bits 2 j and 2 j + 1 are. */
ALWAYS void read_twos(const uint8_t *p, __m256i w[9])
{
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++, p += 36) {
		__m256i v = two16(p + 2, p + 20);

#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			w[4 * i + j] = _mm256_and_si256(j ? _mm256_srli_epi16(v, 2 * j - 1) :
				_mm256_slli_epi16(v, 1), _mm256_set1_epi8(6));
	}
}

/* Of 256 elements of NVFP4, blocks of 64 whose four 16s have eight bytes each: those that are low
 * nibbles, then high ones. */
ALWAYS void read_nibbles(const uint8_t *p, __m256i w[9])
{
	const __m256i t = _mm256_broadcastsi128_si256(load128(mxfp4_codes));
	const __m256i low4 = _mm256_set1_epi8(15);

#pragma GCC unroll 4
	for (size_t i = 0; i < 4; i++, p += 36) {
		__m256i v = load256(p + 4);

		w[2 * i] = _mm256_shuffle_epi8(t, _mm256_and_si256(v, low4));
		w[2 * i + 1] = _mm256_shuffle_epi8(t, _mm256_and_si256(_mm256_srli_epi16(v, 4), low4));
	}
}

/* 256 codes: those of a kind that is read as it lies at p, others at code. */
ALWAYS void read_codes(enum kind kind, const uint8_t *p, const uint8_t *code, __m256i w[9])
{
	if (HALVES(kind))
		read_halves(kind, p, w);
	else if (kind == Q1_0)
		w[8] = two16(p + 2, p + 20);
	else if (kind == Q2_0)
		read_twos(p, w);
	else if (kind == NVFP4)
		read_nibbles(p, w);
	else
		read_in_order(kind, p, code, w);
}

/* ---- sums ---- */

static inline __m256i widened(__m256i v)
{
	return _mm256_madd_epi16(v, _mm256_set1_epi16(1));
}

/* Pairs of products of 32 codes, signed or not; signed ones leave no room to add two. */
ALWAYS __m256i pairs_of(enum kind kind, const struct codes *c, __m256i w, const int8_t *x)
{
	if (kind == Q8_0 || kind == IQ4_NL || kind == IQ4_XS || (UNPACKED(kind) && c->off_log2 == BIG_LOG2))
		return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(load256(x), w));
	return _mm256_maddubs_epi16(w, load256(x));
}

/* Halves of v[0] .. v[3], each summed up: those of the low lanes, then those of the high ones. v
 * holds sums of 16 bits, two of which can be added once (times: 1) or twice (2), or of 32 bits (0); or what
 * comes out are two sums of 16 bits (16). */
ALWAYS __m256i sums_of_halves(const __m256i v[4], const int times)
{
	__m256i s[2], a, b;
	__m256 f, g;

	for (int i = 0; i < 2; i++) {
		a = _mm256_unpacklo_epi64(v[2 * i], v[2 * i + 1]);
		b = _mm256_unpackhi_epi64(v[2 * i], v[2 * i + 1]);
		s[i] = times ? _mm256_add_epi16(a, b) : _mm256_add_epi32(a, b);
		if (times == 1)
			s[i] = widened(s[i]);
	}
	f = _mm256_castsi256_ps(s[0]);
	g = _mm256_castsi256_ps(s[1]);
	a = _mm256_castps_si256(_mm256_shuffle_ps(f, g, 0x88));
	b = _mm256_castps_si256(_mm256_shuffle_ps(f, g, 0xdd));
	if (times < 2)
		return _mm256_add_epi32(a, b);
	return times == 2 ? widened(_mm256_add_epi16(a, b)) : _mm256_add_epi16(a, b);
}

static inline __m256i in_turn(__m256i v)
{
	return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* Sums of eight blocks of 32 bits each with activations, of which those that belong to bit 0 of all
 * bytes come first: a bit counts 2^log2, at most 16, so that words hold the sums of eight pairs. */
ALWAYS __m256i bit_sums(__m256i bits, const int log2, const int8_t *x)
{
	const __m256i one = _mm256_set1_epi8((char)(1 << log2));
	__m256i s[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };

#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
		__m256i v = j < log2 ? _mm256_slli_epi16(bits, log2 - j) :
			_mm256_srli_epi16(bits, j - log2);

		s[j % 2] = _mm256_add_epi16(s[j % 2],
			_mm256_maddubs_epi16(_mm256_and_si256(v, one), load256(x + 32 * j)));
	}
	return widened(_mm256_add_epi16(s[0], s[1]));
}

/* Sums of eight blocks with the activations x, in order: of all of w, or of blocks of 16 in half of it. */
ALWAYS __m256i block_sums(enum kind kind, const struct codes *c, const __m256i *w,
	const int8_t *x)
{
	__m256i v[8], s;

	if (kind == Q1_0)
		return bit_sums(w[8], 2, x);
	if (kind == Q2_0 || kind == NVFP4) { /* four words a block, then two */
		const size_t n = kind == Q2_0 ? 4 : 2;

#pragma GCC unroll 2
		for (size_t i = 0; i < 2; i++) {
			v[i] = pairs_of(kind, c, w[n * i], x + 32 * n * i);
#pragma GCC unroll 4
			for (size_t j = n * i + 1; j < n * i + n; j++)
				v[i] = _mm256_add_epi16(v[i], pairs_of(kind, c, w[j], x + 32 * j));
		}
		v[2] = _mm256_add_epi16(BITS(_mm256_shuffle_ps(PS(v[0]), PS(v[1]), 0x88)),
			BITS(_mm256_shuffle_ps(PS(v[0]), PS(v[1]), 0xdd)));
		return _mm256_permute4x64_epi64(widened(v[2]), 0xd8);
	}
	if (kind == IQ4_NL) {
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++)
			v[i] = _mm256_add_epi32(widened(pairs_of(kind, c, w[2 * i], x + 64 * i)),
				widened(pairs_of(kind, c, w[2 * i + 1], x + 64 * i + 32)));
		return sums_of_halves(v, 0);
	}
	if (HALVES(kind)) {
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++)
			v[i] = _mm256_add_epi16(pairs_of(kind, c, w[2 * i], x + 64 * i),
				pairs_of(kind, c, w[2 * i + 1], x + 64 * i + 32));
		s = sums_of_halves(v, kind == Q4_0 || kind == Q4_1 || FIFTHS(kind) ? 2 : 1);
		return FIFTHS(kind) ? _mm256_add_epi32(s, bit_sums(w[8], 4, x + 256)) : s;
	}
#pragma GCC unroll 8
	for (size_t j = 0; j < blk_of(kind) / 4; j++)
		v[j] = widened(pairs_of(kind, c, w[j], x + 32 * j));
	if (blk_of(kind) == 16)
		return in_turn(sums_of_halves(v, 0));
	for (size_t i = 0; i < 4; i++)
		v[i] = _mm256_add_epi32(_mm256_blend_epi32(v[i], v[i + 4], 0xf0),
			_mm256_permute2x128_si256(v[i], v[i + 4], 0x21));
	return sums_of_halves(v, 0);
}

/* Sums of 256 products weighed by k, to be added up. */
ALWAYS __m256i weighed_sums(enum kind kind, const struct codes *c, const __m256i *w, __m256i k,
	const int8_t *x)
{
	__m256i s = _mm256_setzero_si256();

#pragma GCC unroll 8
	for (size_t j = 0; j < 8; j++) {
		__m256i v = pairs_of(kind, c, w[j], x + 32 * j), kj = each(k, HALVES(kind) ? j / 2 : j);

		if (kind == Q4_K || kind == Q5_K) {
			v = _mm256_add_epi16(v, pairs_of(kind, c, w[j + 1], x + 32 * j + 32));
			j++;
		}
		s = _mm256_add_epi32(s, _mm256_madd_epi16(v, kj));
	}
	return s;
}

/* Codes of 256 elements with activations x, whose blocks have the sums xsum: sums of the blocks, freed
 * from off; or S and M of all, where scales are integers. */
ALWAYS void put_sums(enum kind kind, const struct codes *c, const __m256i *w,
	const struct scales *f, const int8_t *x, const int16_t *xsum, int32_t *out)
{
	const int off = off_of(kind, c);
	__m256i s, m;
	__m128i t;

	for (size_t h = 0; !exact_of(kind) && h < 32 / blk_of(kind); h++) {
		s = block_sums(kind, c, w + 4 * h, x + 128 * h);
		if (off)
			s = _mm256_sub_epi32(s, _mm256_slli_epi32(_mm256_cvtepi16_epi32(load128(xsum + 8 * h)), off));
		vi_store(out + 8 * h, s);
	}
	if (!exact_of(kind))
		return;
	s = weighed_sums(kind, c, w, f->k, x);
	m = _mm256_madd_epi16(f->m, blk_of(kind) == 32 ? wide128(load128(xsum)) : load256(xsum));
	if (min_of(kind)) /* then S and M in turn */
		s = _mm256_add_epi32(_mm256_unpacklo_epi32(s, m), _mm256_unpackhi_epi32(s, m));
	else if (off)
		s = _mm256_sub_epi32(s, _mm256_slli_epi32(m, off));
	t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
	if (!min_of(kind))
		t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1));
	_mm_storel_epi64((__m128i *)out, _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e)));
}

#include "kern/int8_avx2_wide.h"

/* Zeros behind n. */
ALWAYS __m256 first_of(__m256 v, size_t n)
{
	__m256i i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), i)));
}

/* The whole 256s of a row of a kind that is read as it lies, and what is left if it LIES. */
ALWAYS void whole_sums(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part, const struct gv_in *in, size_t n_tok, int32_t *out, size_t os)
{
	const size_t blk = blk_of(kind), np = in->np, per = exact_of(kind) ? 2 : 256 / blk;
	const size_t xb = ARRANGED(kind) ? ARRANGED(kind) : 256;
	const size_t n256 = (len + (LIES(kind) ? 255 : 0)) / 256;
	struct asks asks = asks_now(*part.asks);
	uint8_t room[8 * 34];
	__m256i w[9];

	for (size_t i = 0; i < n256; i++, row += bytes256(kind)) {
		size_t left = len - 256 * i;
		struct scales f;

		ahead(row, bytes256(kind), part.asked, part.end);
		ask_part(&asks, bytes256(kind), 0, 2);
		ask_more(&asks, bytes256(kind), i);
		if (LIES(kind) && left < 256)
			row = readable(row, left * bytes256(kind) / 256, bytes256(kind), part.end, room);
		read_codes(kind, row, NULL, w);
		f = scales_at(kind, row);
		if (LIES(kind) && left < 256) {
			f.sc = first_of(f.sc, left / blk);
			f.mn = first_of(f.mn, left / blk);
			f.more = first_of(f.more, left / 16 > 8 ? left / 16 - 8 : 0);
		}
		if (!exact_of(kind))
			_mm256_storeu_ps(part.sc + 256 / blk * i, f.sc);
		if (!exact_of(kind) && blk == 16)
			_mm256_storeu_ps(part.sc + 16 * i + 8, f.more);
		if (!exact_of(kind) && min_of(kind))
			_mm256_storeu_ps(part.mn + 8 * i, f.mn);
		for (size_t t = 0; t < n_tok; t++)
			put_sums(kind, c, w, &f, in->x + t * in->xp + xb * i,
				in->sum + (t * np + 256 * i) / blk, out + t * os + i * per);
		ask_part(&asks, bytes256(kind), 1, 2);
	}
	*part.asks = asks;
}


ALWAYS void sums_of_row(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part, const struct gv_in *in, size_t n_tok, int32_t *out, size_t os)
{
	const size_t blk = blk_of(kind), np = in->np, per = exact_of(kind) ? 2 : 256 / blk;
	const enum kind rest = unpacked_of(kind);
	const size_t whole = UNPACKED(kind) ? 0 : len / 256;
	const size_t all = LIES(kind) ? 0 : exact_of(kind) ? len / 256 : (len + 255) / 256;
	__m256i w[9];

	if (n_tok == 1) /* the commonest: codes need not be kept */
		whole_sums(kind, c, row, UNPACKED(kind) ? 0 : len, part, in, 1, out, os);
	else
		whole_sums(kind, c, row, UNPACKED(kind) ? 0 : len, part, in, n_tok, out, os);
	for (size_t i = whole; i < all; i++) { /* unpacked, with zeros behind */
		struct scales f = loaded(rest, part, i * 256 / blk);

		read_codes(rest, NULL, part.code + 256 * i, w);
		for (size_t t = 0; t < n_tok; t++)
			put_sums(rest, c, w, &f, in->q + t * np + 256 * i, in->sum + (t * np + 256 * i) / blk,
				out + t * os + i * per);
	}
}
