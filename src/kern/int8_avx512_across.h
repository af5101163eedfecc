/*
 * int8_avx512_across.h - sixteen rows at once against one token or a few: blocks of 32 codes with
 * scales in floating point, and NVFP4's four of 16 that lie together. What of all rows is one block
 * is read at a time, so that sums come out with a lane per row, as the chains of floats want them:
 * nothing is stored and turned between.
 *
 * A vector of codes holds 16 bytes each of four rows (Q8_0, NVFP4: 32 bytes of two): rows are read
 * in their order, in which the hardware follows them. Four such vectors (eight) leave their sums in
 * another, as the scales are; results are put in order at the end. A row may be of any number of
 * blocks.
 */

#define ACROSS(kind) (((kind) >= Q4_0 && (kind) <= MXFP4) || (kind) == NVFP4 || (kind) == Q8_0 || \
	SUPER(kind) || QUARTERS(kind) || LOOKED_UP(kind) || PIECES(kind))
#define ACROSS_KINDS X(Q8_0) X(Q6_K) X(Q2_K) X(Q3_K) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(IQ4_NL) \
	X(IQ4_XS) X(MXFP4) X(Q4_K) X(Q5_K) X(Q1_0) X(Q2_0) X(NVFP4) X(TQ1_0) X(TQ2_0) X(POINTS8) \
	X(POINTS4)
#define LOOKED_UP(kind) ((kind) == POINTS8 || (kind) == POINTS4) /* see int8_vbmi.h */

/* The kind to which a type of points belongs where they are looked up in registers. */
static enum kind points_here(enum kind kind)
{
	if (!POINTS(kind) || (SIGNED(kind) ? !int8_vbmi_supported() : !int8_vbmi_gathers()))
		return kind;
	return kind == IQ3_XXS || kind == IQ3_S ? POINTS4 : POINTS8;
}
#define HERE(kind) points_here(kind)

/* Goes from row to row. The compiler is not to know it, which would else work out, and keep on its
 * stack, where each of sixteen rows begins, whenever they are begun. */
ALWAYS void step_rows(const uint8_t **p, size_t bytes)
{
	*p += bytes;
	__asm__("" : "+r"(*p));
}

/* The k-th of n parts, in their order, of the next `bytes` bytes of each row, which are in the
 * second cache by now, to the first: of many lines that are missed there at once, memory's have to
 * wait. *p: the row's; *v as in ask_nth. */
ALWAYS void next_lines(const uint8_t **p, size_t row_bytes, size_t bytes, size_t k, size_t n,
	__m512i *v)
{
	const size_t lines = (bytes + 63) / 64, of_row = n / 16;

#pragma GCC unroll 8
	for (size_t i = k % of_row * lines / of_row; i < (k % of_row + 1) * lines / of_row; i++) {
		const size_t at = 64 * i + 63 < bytes ? 64 * i + 63 : bytes - 1;

		__asm__ volatile("prefetcht0 (%1)" : "+v"(*v) : "r"(*p + at));
	}
	if (k % of_row == of_row - 1)
		step_rows(p, row_bytes);
}

#define TWOS(kind) ((kind) == Q8_0 || (kind) == NVFP4) /* two rows are a vector */

/* The row of a lane of sums: 4 l + i is row l of the i-th four, or a row of the i-th two or of the
 * (4 + i)-th. */
ALWAYS size_t row_of(enum kind kind, size_t lane)
{
	const size_t l = lane / 4, i = lane % 4;

	return TWOS(kind) ? l / 2 * 8 + 2 * i + l % 2 : 4 * i + l;
}

#include "kern/int8_avx512_super.h"
#include "kern/int8_avx512_quarters.h"

/* ---- scales ---- */

/* What is read at a time: a block, or four of NVFP4. */
ALWAYS size_t blocks_of_256(enum kind kind)
{
	return kind == NVFP4 ? 4 : 8;
}

ALWAYS size_t block_bytes(enum kind kind)
{
	return bytes256(kind) / blocks_of_256(kind);
}

/* Where a block's codes begin. */
ALWAYS size_t block_codes(enum kind kind)
{
	return kind == MXFP4 ? 1 : kind == Q4_1 || kind == NVFP4 ? 4 : kind == Q5_0 ? 6 :
		kind == Q5_1 ? 8 : 2;
}

/* Blocks that begin in 64 bytes, and where the 64 begin that block b is taken from, of eight
 * blocks, behind which nothing is read. */
ALWAYS size_t heads_in_64(enum kind kind)
{
	return 64 / block_bytes(kind) + (64 % block_bytes(kind) >= block_codes(kind));
}

ALWAYS size_t heads_from(enum kind kind, size_t b)
{
	const size_t per = heads_in_64(kind), bytes = block_bytes(kind);
	const size_t at = b / per * per * bytes / 2 * 2, last = 8 * bytes - 64;

	return at < last ? at : last;
}

/* Where word i of block b lies in those 64 bytes, and dwords. */
#define WORD(b, i) (short)(((b) * block_bytes(kind) - heads_from(kind, b)) / 2 + (i))
#define DWORD(b) (int)(((b) * block_bytes(kind) - heads_from(kind, b)) / 4)

ALWAYS __m512i first_words(enum kind kind)
{
	return _mm512_broadcast_i32x4(_mm_setr_epi16(WORD(0, 0), WORD(1, 0), WORD(2, 0), WORD(3, 0),
		WORD(4, 0), WORD(5, 0), WORD(6, 0), WORD(7, 0)));
}

/* Of eight blocks of sixteen rows: scales, then minima, as half floats; of MXFP4 upper words of
 * floats, of two blocks in turn; of NVFP4 sixteen scales. fifth: of rows 4 j to 4 j + 3, and of
 * blocks 2 k and 2 k + 1 a quarter each of their first words, four rows' of the one, then of the
 * other: of Q5_0 scales and high bits, of Q5_1 minima between them. */
struct across { union { float sc[16][16]; uint16_t half[16][16]; uint16_t pair[4][16][2]; };
	uint64_t fifth[4][4][8]; };
#define MINIMA 8

/* What was stored is to be loaded: the compiler would take vectors apart instead, with operations
 * that are short. */
#define IN_MEMORY(v) __asm__("" : "+m"(v))

/* As they lie: words of eight blocks, of kinds with minima dwords of four from b0 on. Lane l of
 * z[j] is of row_of(4 l + j). What waits for what was put in before is what is not next to it. */
ALWAYS void scales_of_rows(enum kind kind, const uint8_t *p, size_t row_bytes, size_t b0,
	__m512i z[4], struct asks *asks, size_t lines)
{
	const size_t per = heads_in_64(kind);
	const __m512i words = first_words(kind), pairs = _mm512_broadcast_i32x4(
		_mm_setr_epi32(DWORD(b0), DWORD(b0 + 1), DWORD(b0 + 2), DWORD(b0 + 3)));

	for (size_t j = 0; j < 4; j++)
		z[j] = _mm512_setzero_si512();
#pragma GCC unroll 4
	for (size_t l = 0; l < 4; l++) {
#pragma GCC unroll 4
		for (size_t b = 0; b < 8; b += per) {
			const unsigned some = ((1u << per) - 1) << b & 0xff, four = some >> b0 & 15;

#pragma GCC unroll 4
			for (size_t j = 0; j < 4; j++) {
				const uint8_t *at = p + row_of(kind, 4 * l + j) * row_bytes + heads_from(kind, b);

				if (!min_of(kind))
					z[j] = _mm512_mask_permutexvar_epi16(z[j], (__mmask32)some << 8 * l, words,
						_mm512_loadu_si512(at));
				else if (four)
					z[j] = _mm512_mask_permutexvar_epi32(z[j], (__mmask16)(four << 4 * l), pairs,
						_mm512_loadu_si512(at));
			}
		}
		for (size_t j = 0; j < 4; j++)
			ask_nth(asks, lines, 4 * l + j, 16, &z[j]);
	}
}

/* Dwords k of the lanes of z[0] to z[3] -> e[k]. */
static inline void dwords_of_four(const __m512i z[4], __m512i e[4])
{
	__m512i a[2], b[2];

	dwords_in_turn(z[0], z[1], a);
	dwords_in_turn(z[2], z[3], b);
	for (size_t i = 0; i < 2; i++) {
		e[2 * i] = _mm512_unpacklo_epi64(a[i], b[i]);
		e[2 * i + 1] = _mm512_unpackhi_epi64(a[i], b[i]);
	}
}

/* Lower words, then upper ones. */
static inline __m512i words_apart(__m512i v)
{
	const __m512i even = _mm512_setr_epi32(0x20000, 0x60004, 0xa0008, 0xe000c, 0x120010,
		0x160014, 0x1a0018, 0x1e001c, 0x30001, 0x70005, 0xb0009, 0xf000d, 0x130011, 0x170015,
		0x1b0019, 0x1f001d);

	return _mm512_permutexvar_epi16(even, v);
}

/* Of eight blocks of each row. */
ALWAYS void scales_across(enum kind kind, const uint8_t *p, size_t row_bytes, struct across *o,
	struct asks *asks, size_t lines)
{
	const __m512i bytes = bytes16((int)0x80038000, (int)0x80078004, (int)0x800b8008,
		(int)0x800f800c); /* of even blocks low ones, of the others high ones */
	__m512i z[4], e[4];

	scales_of_rows(kind, p, row_bytes, 0, z, asks, lines);
	dwords_of_four(z, e);
#pragma GCC unroll 4
	for (size_t i = 0; i < 4; i++)
		if (kind == MXFP4)
			vi_store(o->pair[i], mxfp4_tops(_mm512_shuffle_epi8(e[i], bytes)));
		else
			vi_store(o->half[2 * i], words_apart(e[i]));
}

/* The same of kinds with minima, of four blocks from b0 on. */
ALWAYS void pairs_across(enum kind kind, const uint8_t *p, size_t row_bytes, size_t b0,
	struct across *o, struct asks *asks, size_t lines)
{
	__m512i z[4], e[4];

	scales_of_rows(kind, p, row_bytes, b0, z, asks, lines);
	dwords_of_four(z, e);
#pragma GCC unroll 4
	for (size_t i = 0; i < 4; i++) {
		e[i] = words_apart(_mm512_xor_si512(e[i], _mm512_set1_epi32((int)0x80000000)));
		_mm256_storeu_si256((void *)o->half[b0 + i], _mm512_castsi512_si256(e[i]));
		_mm256_storeu_si256((void *)o->half[MINIMA + b0 + i], _mm512_extracti64x4_epi64(e[i], 1));
	}
}

/* Where Q5_0 and Q5_1 have the first of their high bits, among the words of a block. */
#define FIFTH_AT(kind) ((kind) == Q5_0 ? 1 : 2)

/* Word q of two blocks of o->fifth, 2 k and 2 k + 1, of all rows, lane after lane. */
ALWAYS __m512i halves_of_two(const struct across *o, size_t q, size_t k)
{
	const __m512i lanes = _mm512_setr_epi32(0x80000, 0x180010, 0x90001, 0x190011, 0xa0002,
		0x1a0012, 0xb0003, 0x1b0013, 0xc0004, 0x1c0014, 0xd0005, 0x1d0015, 0xe0006, 0x1e0016,
		0xf0007, 0x1f0017);
	const uint8_t *p = (const uint8_t *)&o->fifth[0][k][2 * q];

	return _mm512_permutexvar_epi16(lanes, four16(p, sizeof o->fifth[0]));
}

/* The same of Q5_0 and Q5_1, and their fifth bits. */
ALWAYS void fifth_across(enum kind kind, const uint8_t *p, size_t row_bytes, struct across *o,
	struct asks *asks, size_t lines)
{
	const size_t per = heads_in_64(kind);
	const __m512i words = _mm512_add_epi16(first_words(kind),
		_mm512_setr_epi64(0, 0, W(1), W(1), W(2), W(2), W(3), W(3)));

#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
		__m512i z[4], a[2], b[2], e[4];

#pragma GCC unroll 4
		for (size_t l = 0; l < 4; l++) {
			const uint8_t *row = p + (4 * j + l) * row_bytes;

			z[l] = _mm512_permutexvar_epi16(words, _mm512_loadu_si512(row));
#pragma GCC unroll 4
			for (size_t i = per; i < 8; i += per)
				z[l] = _mm512_mask_permutexvar_epi16(z[l],
					(__mmask32)((((1u << per) - 1) << i & 0xff) * 0x01010101), words,
					_mm512_loadu_si512(row + heads_from(kind, i)));
			ask_nth(asks, lines, 4 * j + l, 16, &z[l]);
		}
		words_in_turn(z[0], z[1], a);
		words_in_turn(z[2], z[3], b);
		for (size_t i = 0; i < 2; i++)
			dwords_in_turn(a[i], b[i], e + 2 * i);
		for (size_t k = 0; k < 4; k++)
			vi_store(o->fifth[j][k], e[k]);
	}
	IN_MEMORY(*o);
#pragma GCC unroll 4
	for (size_t k = 0; k < 4; k++) {
		vi_store(o->half[2 * k], halves_of_two(o, 0, k));
		if (min_of(kind))
			vi_store(o->half[MINIMA + 2 * k], _mm512_xor_si512(halves_of_two(o, 1, k),
				_mm512_set1_epi16((short)0x8000)));
	}
}

/* Words of E4M3's seven bits, where half floats have them -> 256ths of what they are. */
ALWAYS void store_e4m3(float *even, float *odd, __m512i v)
{
	v = words_apart(_mm512_and_si512(v, _mm512_set1_epi16(0x3f80)));
	_mm512_storeu_ps(even, _mm512_cvtph_ps(_mm512_castsi512_si256(v)));
	_mm512_storeu_ps(odd, _mm512_cvtph_ps(_mm512_extracti64x4_epi64(v, 1)));
}
#define E4M3_TIMES 128 /* codes being twice the values */

/* The same of NVFP4, of n64 times 64 elements that begin with their scales. */
ALWAYS void nvfp4_across(const uint8_t *p, size_t row_bytes, size_t n64, struct across *o,
	struct asks *asks, size_t lines)
{
#pragma GCC unroll 4
	for (size_t k = 0; k < n64; k++, p += 36) {
		__m512i head[4], v;

		for (size_t j = 0; j < 4; j++) {
			head[j] = four16_at(p + row_of(NVFP4, j) * row_bytes,
				p + row_of(NVFP4, 4 + j) * row_bytes, p + row_of(NVFP4, 8 + j) * row_bytes,
				p + row_of(NVFP4, 12 + j) * row_bytes);
			ask_nth(asks, lines, 4 * k + j, 16, &head[j]);
		}
		v = dwords_of(head, 0);
		v = _mm512_maskz_mov_epi8(_mm512_cmpneq_epi8_mask(v, _mm512_set1_epi8(0x7f)), v); /* NaN */
		store_e4m3(o->sc[4 * k], o->sc[4 * k + 2], _mm512_slli_epi32(v, 7));
		store_e4m3(o->sc[4 * k + 1], o->sc[4 * k + 3], _mm512_srli_epi32(v, 1));
	}
}

/* The same of fewer blocks, one by one. */
ALWAYS void scales_of_some(enum kind kind, const uint8_t *p, size_t row_bytes, size_t n_blk,
	struct across *o)
{
	memset(o->fifth, 0, sizeof o->fifth);
	for (size_t b = 0; b < n_blk; b++) {
		for (size_t r = 0; r < 16; r++) {
			const size_t row = row_of(kind, r), at = FIFTH_AT(kind);
			const uint8_t *h = p + row * row_bytes + b * block_bytes(kind);
			const float f = mxfp4_scale(*h);
			uint32_t bits;

			memcpy(&bits, &f, 4);
			if (kind == MXFP4)
				o->pair[b / 2][r][b % 2] = (uint16_t)(bits >> 16);
			else
				o->half[b][r] = rd16(h);
			if (min_of(kind))
				o->half[MINIMA + b][r] = rd16(h + 2) ^ 0x8000;
			for (size_t i = at; i < at + 2 && (kind == Q5_0 || kind == Q5_1); i++)
				o->fifth[row / 4][b / 2][2 * i + b % 2] |=
					(uint64_t)rd16(h + 2 * i) << row % 4 * 16;
		}
	}
}

/* The floats of block b, or its minima; of NVFP4 those of 16. */
ALWAYS VI scale_of(enum kind kind, const struct across *o, size_t b)
{
	const VI v = vi_load(kind == MXFP4 ? (const void *)o->pair[b / 2] : o->sc[b]);

	if (kind == NVFP4)
		return v;
	if (kind == MXFP4)
		return b % 2 ? _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000)) :
			_mm512_slli_epi32(v, 16);
	return BITS(_mm512_cvtph_ps(load256(o->half[b])));
}

/* ---- codes ---- */

/* Adds the fifth bits of block b of four rows, of vector j. */
ALWAYS void add_fifth(enum kind kind, const struct across *o, size_t b, size_t j, __m512i w[2])
{
#pragma GCC unroll 2
	for (size_t h = 0; h < 2; h++)
		w[h] = _mm512_mask_add_epi8(w[h],
			o->fifth[j][b / 2][2 * (FIFTH_AT(kind) + h) + b % 2], w[h], _mm512_set1_epi8(16));
}

/* Of the block at p, b of its eight: those of low nibbles, then of high ones, for i < 4, or of two
 * rows for i < 8; of Q8_0 bytes. */
ALWAYS void codes_across(enum kind kind, const uint8_t *p, size_t row_bytes, const struct across *o,
	size_t b, size_t i, __m512i w[2])
{
	const __m512i low4 = _mm512_set1_epi8(15);
	__m512i v;

	p += (TWOS(kind) ? 2 : 4) * i * row_bytes + block_codes(kind);
	v = TWOS(kind) ?
		_mm512_inserti64x4(_mm512_castsi256_si512(load256(p)), load256(p + row_bytes), 1) :
		four16(p, row_bytes);
	if (kind == Q8_0) {
		w[0] = _mm512_xor_si512(v, _mm512_set1_epi8((char)0x80));
		return;
	}
	w[0] = _mm512_and_si512(v, low4);
	w[1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low4);
	if (kind == Q5_0 || kind == Q5_1)
		add_fifth(kind, o, b, i, w);
	if (kind == IQ4_NL || kind == MXFP4 || kind == NVFP4)
		for (size_t h = 0; h < 2; h++)
			w[h] = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(kind == IQ4_NL ? iq4_table :
				mxfp4_codes)), w[h]);
}

/* ---- sums ---- */

/* The sums of a block's products, which v holds in parts, a lane per row. */
ALWAYS __m512i sums_across(enum kind kind, const __m512i v[8])
{
	__m512i s, t, half[2];

	if (kind == Q8_0)
		return lanes_of_two(sums_of_four(v), sums_of_four(v + 4));
	if (kind == IQ4_NL)
		return sums_of_four(v);
	s = short_pairs(v[0], v[1]);
	t = short_pairs(v[2], v[3]);
	if (kind == Q4_0 || kind == Q4_1) /* those of pairs fit as well */
		return short_pairs(s, t);
	even_odd(s, t, half);
	return _mm512_add_epi32(half[0], half[1]);
}

/* The same of four blocks of NVFP4. */
ALWAYS void four_sums(const __m512i v[8], __m512i sum[4])
{
	__m512i s[2][2];

#pragma GCC unroll 2
	for (size_t i = 0; i < 2; i++)
		even_odd(short_pairs(v[4 * i], v[4 * i + 1]),
			short_pairs(v[4 * i + 2], v[4 * i + 3]), s[i]);
#pragma GCC unroll 4
	for (size_t b = 0; b < 4; b++)
		sum[b] = b / 2 ? _mm512_shuffle_i32x4(s[0][b % 2], s[1][b % 2], 0xdd) :
			_mm512_shuffle_i32x4(s[0][b % 2], s[1][b % 2], 0x88);
}

/* Where they start: half of what is taken off in each of the two lanes of a block. Sums of products
 * fit into 16 bits still: one of eight is 20 * 127 * 8 at most, or 8 * 127 * 8 of the others. */
ALWAYS __m512i four_starts(const int16_t *xsum)
{
	const __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1);
	const __m512i half = bytes16(0x0000fff8, 0x0000fff8, (int)0xfff80000, (int)0xfff80000);
	const __m512i x = _mm512_castsi128_si512(_mm_loadl_epi64((const void *)xsum));

	return _mm512_madd_epi16(_mm512_permutexvar_epi32(lanes, x), half);
}

/* Of the blocks of 256 activations: what is taken off for `off`, or sums, of each token. */
union xsums { int32_t off[GV_TOK][8]; float sum[GV_TOK][8]; };

ALWAYS void xsums_of_group(enum kind kind, const int16_t *xsum, size_t step, size_t n_tok,
	union xsums *o)
{
	for (size_t t = 0; t < n_tok; t++) {
		const __m256i v = _mm256_cvtepi16_epi32(load128(xsum + t * step));

		if (min_of(kind))
			_mm256_storeu_ps(o->sum[t], _mm256_cvtepi32_ps(v));
		else if (off_of(kind))
			_mm256_storeu_si256((void *)o->off[t],
				_mm256_slli_epi32(v, __builtin_ctz((unsigned)off_of(kind))));
	}
	IN_MEMORY(*o);
}

/* c goes on with block b, or four of NVFP4, whose products v holds. off: see union xsums. */
ALWAYS VI chain_across(enum kind kind, const __m512i v[8], const struct across *o, size_t b,
	int32_t off, VI c)
{
	__m512i s[4];

	if (kind == NVFP4) {
		four_sums(v, s);
		for (size_t k = 0; k < 4; k++)
			c = vf_chain(c, s[k], scale_of(kind, o, 4 * b + k));
		return c;
	}
	s[0] = sums_across(kind, v);
	if (off_of(kind))
		s[0] = _mm512_sub_epi32(s[0], _mm512_set1_epi32(off));
	return vf_chain(c, s[0], scale_of(kind, o, b));
}

/* Block b of those from element i on of the sixteen rows, at p: on with the chains of n_tok tokens.
 * lines, next: what eight blocks ask for. */
ALWAYS void block_across(enum kind kind, const uint8_t *p, size_t row_bytes, size_t b,
	const struct across *o, size_t i, const struct gv_in *in, const union xsums *xsums,
	size_t n_tok, VI c[GV_TOK], VI m[GV_TOK], struct asks *asks, size_t lines,
	const uint8_t **next)
{
	const size_t n = TWOS(kind) ? 8 : 4, all = n * blocks_of_256(kind);
	const size_t xp = kind == NVFP4 ? in->xp : in->np;
	const int8_t *x = (kind == NVFP4 ? in->x : in->q) + i + 256 / blocks_of_256(kind) * b;
	const int16_t *xsum = in->sum + i / blk_of(kind);
	__m512i w[8][2];

#pragma GCC unroll 8
	for (size_t j = 0; j < n && n_tok > 1; j++)
		codes_across(kind, p, row_bytes, o, b, j, w[j]);
	for (size_t t = 0; t < n_tok; t++, x += xp, xsum += in->np / blk_of(kind)) {
		const __m512i start = kind == NVFP4 ? four_starts(xsum + 4 * b) : _mm512_setzero_si512();
		__m512i v[8], xs[2];

		if (TWOS(kind)) {
			xs[0] = _mm512_broadcast_i64x4(load256(x));
			xs[1] = _mm512_broadcast_i64x4(load256(kind == Q8_0 ? x : x + 32));
		} else {
			xs[0] = _mm512_broadcast_i32x4(load128(x));
			xs[1] = _mm512_broadcast_i32x4(load128(x + 16));
		}
#pragma GCC unroll 8
		for (size_t j = 0; j < n; j++) {
			if (n_tok == 1)
				codes_across(kind, p, row_bytes, o, b, j, w[j]);
			if (t == 0)
				ask_nth(asks, lines, b * n + j, all, &w[j][0]);
			v[j] = _mm512_dpbusd_epi32(start, w[j][0], xs[0]);
			if (kind != Q8_0)
				v[j] = _mm512_dpbusd_epi32(v[j], w[j][1], xs[1]);
			if (t == 0)
				next_lines(next, row_bytes, bytes256(kind), b * n + j, all, &v[j]);
		}
		c[t] = chain_across(kind, v, o, b, off_of(kind) ? xsums->off[t][b] : 0, c[t]);
		if (min_of(kind))
			m[t] = vf_chain_min(m[t], scale_of(kind, o, MINIMA + b), xsums->sum[t][b]);
	}
}

/* Scales of a group of n_blk blocks. */
ALWAYS void scales_of_group(enum kind kind, const uint8_t *p, size_t row_bytes, size_t n_blk,
	struct across *o, struct asks *asks, size_t lines)
{
	if (kind == NVFP4) {
		nvfp4_across(p, row_bytes, n_blk, o, asks, lines);
	} else if (n_blk < 8) {
		scales_of_some(kind, p, row_bytes, n_blk, o);
	} else if (kind == Q5_0 || kind == Q5_1) {
		fifth_across(kind, p, row_bytes, o, asks, lines);
	} else if (min_of(kind)) {
		pairs_across(kind, p, row_bytes, 0, o, asks, lines / 2);
		pairs_across(kind, p, row_bytes, 4, o, asks, lines / 2);
	} else {
		scales_across(kind, p, row_bytes, o, asks, lines);
	}
	IN_MEMORY(*o);
}

#include "kern/int8_avx512_pieces.h"

/* Groups of 256 of sixteen rows, the last of which may be of fewer blocks. */
ALWAYS void groups_across(enum kind kind, const struct codes *c, const uint8_t *p, size_t row_bytes,
	size_t len, const struct gv_in *in, size_t n_tok, int twice, struct asks *all, VI acc[GV_TOK])
{
	const size_t b256 = bytes256(kind), lines = b256 / 4, per = blocks_of_256(kind);
	const size_t bytes = block_bytes(kind), most = kind == Q8_0 ? 64 : 32;
	const size_t in_blocks = lines * 4 / 5 < most ? lines * 4 / 5 : most;
	const ptrdiff_t next_rows = (ptrdiff_t)(16 * row_bytes) - ((ptrdiff_t)(len + 255) / 256 - 2) *
		(ptrdiff_t)b256;
	struct asks asks = asks_now(*all);
	struct across o;

	if (LOOKED_UP(kind)) {
		int8_vbmi_rows((uint32_t)(c - codes), p, row_bytes, len, in, n_tok, twice, all, acc);
		return;
	}
	if (PIECES(kind)) {
		if (kind == TQ1_0 || !int8_gfni_supported())
			pieces_across(kind, p, row_bytes, len, in, n_tok, twice, all, acc);
		else if (n_tok == 1)
			int8_gfni_pieces[kind][0](p, row_bytes, len, in, 1, twice, all, acc);
		else
			int8_gfni_pieces[kind][1](p, row_bytes, len, in, n_tok, twice, all, acc);
		return;
	}
	for (size_t i = 0; i < len; i += 256, p += b256) {
		const size_t n_blk = len - i < 256 ? (len - i) / (256 / per) : per;
		const uint8_t *next = p + (i + 256 < len ? (ptrdiff_t)b256 : next_rows - (ptrdiff_t)b256);
		VI sum[GV_TOK], m[GV_TOK];
		union xsums xsums;

		if (twice)
			ask_again(p, row_bytes, i + 512 < len ? 2 * (ptrdiff_t)b256 : next_rows, b256);
		if (kind == IQ4_XS) {
			iq4_xs_across(p, row_bytes, i, in, n_tok, acc, &asks, &next);
			continue;
		}
		if (QUARTERS(kind)) {
			quarters_across(kind, p, row_bytes, i, in, n_tok, acc, &asks, &next);
			continue;
		}
		if (SUPER(kind)) {
			super_across(kind, p, row_bytes, i, in, n_tok, acc, &asks, &next);
			continue;
		}
		for (size_t t = 0; t < n_tok; t++)
			sum[t] = m[t] = vf_zero();
		xsums_of_group(kind, in->sum + i / blk_of(kind), in->np / blk_of(kind), n_tok, &xsums);
		if (n_blk == per) {
			scales_of_group(kind, p, row_bytes, per, &o, &asks, lines - in_blocks);
#pragma GCC unroll 8
			for (size_t b = 0; b < per; b++)
				block_across(kind, p + b * bytes, row_bytes, b, &o, i, in, &xsums, n_tok, sum, m,
					&asks, in_blocks, &next);
		} else {
			scales_of_group(kind, p, row_bytes, n_blk, &o, &asks, 0);
			for (size_t b = 0; b < n_blk; b++)
				block_across(kind, p + b * bytes, row_bytes, b, &o, i, in, &xsums, n_tok, sum, m,
					&asks, in_blocks, &next);
		}
		for (size_t t = 0; t < n_tok; t++) {
			float d = in->d[t * in->np / 256 + i / 256];

			if (kind == NVFP4)
				sum[t] = BITS(_mm512_mul_ps(PS(sum[t]), _mm512_set1_ps(E4M3_TIMES)));
			acc[t] = min_of(kind) ? vf_group_min(acc[t], sum[t], m[t], d) :
				vf_group(acc[t], sum[t], d);
		}
	}
	for (size_t t = 0; t < n_tok; t++)
		acc[t] = TWOS(kind) ? by_twos(acc[t]) : by_fours(acc[t]);
	*all = asks;
}
