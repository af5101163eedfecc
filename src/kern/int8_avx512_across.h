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

/* Blocks whose scales lie in 64 bytes, and where the 64 begin that block b's are taken from, of
 * eight blocks, behind which nothing is read. */
ALWAYS size_t scales_in_64(enum kind kind)
{
	return 64 / block_bytes(kind) + (64 % block_bytes(kind) >= 4);
}

ALWAYS size_t scales_from(enum kind kind, size_t b)
{
	const size_t per = scales_in_64(kind), bytes = block_bytes(kind);
	const size_t at = b / per * per * bytes / 2 * 2, last = 8 * bytes - 64;

	return at < last ? at : last;
}

/* Words of eight blocks at p, to lane l of z. */
ALWAYS __m512i scale_words(enum kind kind, const uint8_t *p, size_t l, __m512i z)
{
	const size_t per = scales_in_64(kind);
#define AT(b) (short)(((b) * block_bytes(kind) - scales_from(kind, b)) / 2)
	const __m512i at = _mm512_broadcast_i32x4(_mm_setr_epi16(AT(0), AT(1), AT(2), AT(3), AT(4),
		AT(5), AT(6), AT(7)));
#undef AT

#pragma GCC unroll 4
	for (size_t b = 0; b < 8; b += per)
		z = _mm512_mask_permutexvar_epi16(z,
			(__mmask32)(((1u << per) - 1) << b & 0xff) << 8 * l, at,
			_mm512_loadu_si512(p + scales_from(kind, b)));
	return z;
}

/* Dwords of blocks b0 to b0 + 3, scale and minimum. */
ALWAYS __m512i scale_pairs(enum kind kind, const uint8_t *p, size_t b0, size_t l, __m512i z)
{
	const size_t per = scales_in_64(kind);
#define AT(i) (int)(((b0 + (i)) * block_bytes(kind) - scales_from(kind, b0 + (i))) / 4)
	const __m512i at = _mm512_broadcast_i32x4(_mm_setr_epi32(AT(0), AT(1), AT(2), AT(3)));
#undef AT

#pragma GCC unroll 4
	for (size_t b = 0; b < 8; b += per) {
		const unsigned some = ((1u << per) - 1) << b >> b0 & 15;

		if (some)
			z = _mm512_mask_permutexvar_epi32(z, (__mmask16)(some << 4 * l), at,
				_mm512_loadu_si512(p + scales_from(kind, b)));
	}
	return z;
}

/* Scales, or minima, of a block of sixteen rows as they lie -> floats. high: the byte that they are
 * of their words, of MXFP4. */
ALWAYS __m512 scale_floats(enum kind kind, __m256i w, const int high)
{
	__m512i e;

	if (kind != MXFP4)
		return _mm512_cvtph_ps(w);
	e = _mm512_cvtepu16_epi32(w);
	return mxfp4_floats(high ? _mm512_srli_epi32(e, 8) :
		_mm512_and_si512(e, _mm512_set1_epi32(255)));
}

/* Of eight blocks of sixteen rows: scales, then minima; of NVFP4 scales of sixteen. */
struct across { float sc[16][16]; };
#define MINIMA 8

/* Two vectors of words, lane by lane, or of dwords, one after the other. */
static inline void words_in_turn(__m512i v, __m512i w, __m512i o[2])
{
	o[0] = _mm512_unpacklo_epi16(v, w);
	o[1] = _mm512_unpackhi_epi16(v, w);
}

static inline void dwords_in_turn(__m512i v, __m512i w, __m512i o[2])
{
	o[0] = _mm512_unpacklo_epi32(v, w);
	o[1] = _mm512_unpackhi_epi32(v, w);
}

/* As they lie: words of eight blocks, of kinds with minima dwords of four from b0 on. */
ALWAYS void scales_of_rows(enum kind kind, const uint8_t *p, size_t row_bytes, size_t b0,
	__m512i z[4], struct asks *asks, size_t lines)
{
#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
		z[j] = _mm512_setzero_si512();
#pragma GCC unroll 4
		for (size_t l = 0; l < 4; l++) {
			const uint8_t *row = p + row_of(kind, 4 * l + j) * row_bytes;

			z[j] = min_of(kind) ? scale_pairs(kind, row, b0, l, z[j]) :
				scale_words(kind, row, l, z[j]);
			ask_nth(asks, lines, 4 * j + l, 16, &z[j]);
		}
	}
}

/* Of eight blocks of each row. */
ALWAYS void scales_across(enum kind kind, const uint8_t *p, size_t row_bytes, struct across *o,
	struct asks *asks, size_t lines)
{
	const __m512i apart = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
	__m512i z[4], a[2], b[2], e[4];

	scales_of_rows(kind, p, row_bytes, 0, z, asks, lines);
	words_in_turn(z[0], z[1], a);
	words_in_turn(z[2], z[3], b);
	for (size_t i = 0; i < 2; i++)
		dwords_in_turn(a[i], b[i], e + 2 * i);
	for (size_t i = 0; i < 4; i++) {
		e[i] = _mm512_permutexvar_epi64(apart, e[i]);
		_mm512_storeu_ps(o->sc[2 * i], scale_floats(kind, _mm512_castsi512_si256(e[i]), 0));
		_mm512_storeu_ps(o->sc[2 * i + 1],
			scale_floats(kind, _mm512_extracti64x4_epi64(e[i], 1), 1));
	}
}

static inline __m512 minus(__m512 v)
{
	return _mm512_xor_ps(_mm512_set1_ps(-0.0f), v);
}

/* The same of kinds with minima, of four blocks from b0 on. */
ALWAYS void pairs_across(enum kind kind, const uint8_t *p, size_t row_bytes, size_t b0,
	struct across *o, struct asks *asks, size_t lines)
{
	const __m512i even = _mm512_set1_epi32(0x00020000);
	const __m512i from = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25,
		29);
	const __m512i halves = _mm512_add_epi16(even, _mm512_or_si512(from,
		_mm512_slli_epi32(from, 16)));
	__m512i z[4], a[2], b[2], e[4];

	scales_of_rows(kind, p, row_bytes, b0, z, asks, lines);
	dwords_in_turn(z[0], z[1], a);
	dwords_in_turn(z[2], z[3], b);
	for (size_t i = 0; i < 2; i++) {
		e[2 * i] = _mm512_unpacklo_epi64(a[i], b[i]);
		e[2 * i + 1] = _mm512_unpackhi_epi64(a[i], b[i]);
	}
	for (size_t i = 0; i < 4; i++) { /* words of scales, then of minima */
		e[i] = _mm512_permutexvar_epi16(halves, e[i]);
		_mm512_storeu_ps(o->sc[b0 + i], _mm512_cvtph_ps(_mm512_castsi512_si256(e[i])));
		_mm512_storeu_ps(o->sc[MINIMA + b0 + i],
			minus(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(e[i], 1))));
	}
}

/* Words of E4M3's seven bits, where half floats have them -> 256ths of what they are. */
ALWAYS void store_e4m3(float *even, float *odd, __m512i v)
{
	const __m512i even_words = _mm512_setr_epi32(0x20000, 0x60004, 0xa0008, 0xe000c, 0x120010,
		0x160014, 0x1a0018, 0x1e001c, 0x30001, 0x70005, 0xb0009, 0xf000d, 0x130011, 0x170015,
		0x1b0019, 0x1f001d);

	v = _mm512_permutexvar_epi16(even_words, _mm512_and_si512(v, _mm512_set1_epi16(0x3f80)));
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
	const size_t bytes = block_bytes(kind);

	for (size_t b = 0; b < n_blk; b++) {
		uint16_t sc[16], mn[16];

		for (size_t r = 0; r < 16; r++) {
			const uint8_t *at = p + row_of(kind, r) * row_bytes + b * bytes;

			sc[r] = kind == MXFP4 ? *at : rd16(at);
			mn[r] = min_of(kind) ? rd16(at + 2) : 0;
		}
		_mm512_storeu_ps(o->sc[b], scale_floats(kind, load256(sc), 0));
		_mm512_storeu_ps(o->sc[MINIMA + b], minus(_mm512_cvtph_ps(load256(mn))));
	}
}

/* ---- codes ---- */

/* Where a block's codes begin. */
ALWAYS size_t block_codes(enum kind kind)
{
	return kind == MXFP4 ? 1 : kind == Q4_1 || kind == NVFP4 ? 4 : kind == Q5_0 ? 6 :
		kind == Q5_1 ? 8 : 2;
}

/* Of Q5_0 and Q5_1, four rows' blocks whose high bits lie at p: adds them to the low ones. The
 * scalar ports put masks together: those of vectors have enough to do. */
ALWAYS void add_fifth(const uint8_t *p, size_t step, __m512i w[2])
{
#pragma GCC unroll 2
	for (size_t h = 0; h < 2; h++, p += 2) {
		const __mmask64 set = rd16(p) | (uint64_t)rd16(p + step) << 16 |
			(uint64_t)rd16(p + 2 * step) << 32 | (uint64_t)rd16(p + 3 * step) << 48;

		w[h] = _mm512_mask_add_epi8(w[h], set, w[h], _mm512_set1_epi8(16));
	}
}

/* Of the block at p: those of low nibbles, then of high ones, for i < 4, or of two rows for i < 8;
 * of Q8_0 bytes. */
ALWAYS void codes_across(enum kind kind, const uint8_t *p, size_t row_bytes, size_t i, __m512i w[2])
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
		add_fifth(p - 4, row_bytes, w);
	if (kind == IQ4_NL || kind == MXFP4 || kind == NVFP4)
		for (size_t h = 0; h < 2; h++)
			w[h] = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(kind == IQ4_NL ? iq4_table :
				mxfp4_codes)), w[h]);
}

/* ---- sums ---- */

/* Of each four lanes those that are even, of v, then of w; and the odd ones. */
ALWAYS void even_odd(__m512i v, __m512i w, __m512i o[2])
{
	o[0] = BITS(_mm512_shuffle_ps(PS(v), PS(w), 0x88));
	o[1] = BITS(_mm512_shuffle_ps(PS(v), PS(w), 0xdd));
}

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

/* The sum of the activations of block b, which are 16-bit words, times n, in all lanes. */
ALWAYS __m512i xsum_times(const int16_t *xsum, size_t b, int n)
{
	const __m512i both = _mm512_set1_epi32((int)rd32((const uint8_t *)(xsum + b / 2 * 2)));

	return _mm512_madd_epi16(both, _mm512_set1_epi32(b % 2 ? n * 65536 : n));
}

/* c goes on with block b, or four of NVFP4, whose products v holds. */
ALWAYS VI chain_across(enum kind kind, const __m512i v[8], const struct across *o, size_t b,
	const int16_t *xsum, VI c)
{
	__m512i s[4];

	if (kind == NVFP4) {
		four_sums(v, s);
		for (size_t k = 0; k < 4; k++)
			c = vf_chain(c, s[k], vi_load(o->sc[4 * b + k]));
		return c;
	}
	s[0] = sums_across(kind, v);
	if (off_of(kind))
		s[0] = _mm512_sub_epi32(s[0], xsum_times(xsum, b, off_of(kind)));
	return vf_chain(c, s[0], vi_load(o->sc[b]));
}

/* Block b of those from element i on of the sixteen rows, at p: on with the chains of n_tok tokens.
 * lines, next: what eight blocks ask for. */
ALWAYS void block_across(enum kind kind, const uint8_t *p, size_t row_bytes, size_t b,
	const struct across *o, size_t i, const struct gv_in *in, size_t n_tok, VI c[GV_TOK],
	VI m[GV_TOK], struct asks *asks, size_t lines, const uint8_t **next)
{
	const size_t n = TWOS(kind) ? 8 : 4, all = n * blocks_of_256(kind);
	const size_t xp = kind == NVFP4 ? in->xp : in->np;
	const int8_t *x = (kind == NVFP4 ? in->x : in->q) + i + 256 / blocks_of_256(kind) * b;
	const int16_t *xsum = in->sum + i / blk_of(kind);
	__m512i w[8][2];

#pragma GCC unroll 8
	for (size_t j = 0; j < n && n_tok > 1; j++)
		codes_across(kind, p, row_bytes, j, w[j]);
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
				codes_across(kind, p, row_bytes, j, w[j]);
			if (t == 0)
				ask_nth(asks, lines, b * n + j, all, &w[j][0]);
			v[j] = _mm512_dpbusd_epi32(start, w[j][0], xs[0]);
			if (kind != Q8_0)
				v[j] = _mm512_dpbusd_epi32(v[j], w[j][1], xs[1]);
			if (t == 0)
				next_lines(next, row_bytes, bytes256(kind), b * n + j, all, &v[j]);
		}
		c[t] = chain_across(kind, v, o, b, xsum, c[t]);
		if (min_of(kind))
			m[t] = vf_chain(m[t], xsum_times(xsum, b, 1), vi_load(o->sc[MINIMA + b]));
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
	} else if (min_of(kind)) {
		pairs_across(kind, p, row_bytes, 0, o, asks, lines / 2);
		pairs_across(kind, p, row_bytes, 4, o, asks, lines / 2);
	} else {
		scales_across(kind, p, row_bytes, o, asks, lines);
	}
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
		pieces_across(kind, p, row_bytes, len, in, n_tok, twice, all, acc);
		return;
	}
	for (size_t i = 0; i < len; i += 256, p += b256) {
		const size_t n_blk = len - i < 256 ? (len - i) / (256 / per) : per;
		const uint8_t *next = p + (i + 256 < len ? (ptrdiff_t)b256 : next_rows - (ptrdiff_t)b256);
		VI sum[GV_TOK], m[GV_TOK];

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
		if (n_blk == per) {
			scales_of_group(kind, p, row_bytes, per, &o, &asks, lines - in_blocks);
#pragma GCC unroll 8
			for (size_t b = 0; b < per; b++)
				block_across(kind, p + b * bytes, row_bytes, b, &o, i, in, n_tok, sum, m, &asks,
					in_blocks, &next);
		} else {
			scales_of_group(kind, p, row_bytes, n_blk, &o, &asks, 0);
			for (size_t b = 0; b < n_blk; b++)
				block_across(kind, p + b * bytes, row_bytes, b, &o, i, in, n_tok, sum, m, &asks,
					in_blocks, &next);
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
