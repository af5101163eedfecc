/*
 * int8_avx512_pieces.h - sixteen rows at once of the types whose codes are bits, pairs of bits or
 * digits to base 3 (Q1_0, Q2_0, TQ1_0, TQ2_0), against one token or a few.
 *
 * A piece is 16 bytes of a row, a vector holds those of four rows. Each bit, pair or digit of its
 * bytes in turn meets 16 activations, which the four rows share; so what is left of a row's sums
 * are four lanes, the same for each piece. Row 4 j + l ends up in lane 4 l + j.
 */

#define PIECES(kind) ((kind) == Q1_0 || (kind) == Q2_0 || (kind) == TQ1_0 || (kind) == TQ2_0)

/* Where the next bytes of each four of sixteen rows lie, and how far from there those of others do.
 * The compiler is kept from having an address for each row, and from making masks anew. */
struct fours { const uint8_t *p[4]; size_t one, three; __mmask16 second, third, fourth; };

ALWAYS struct fours fours_at(const uint8_t *p, size_t row_bytes)
{
	struct fours f = { { p, p + 4 * row_bytes, p + 8 * row_bytes, p + 12 * row_bytes }, row_bytes,
		3 * row_bytes, 0x00f0, 0x0f00, 0xf000 };

	__asm__("" : "+r"(f.p[0]), "+r"(f.p[1]), "+r"(f.p[2]), "+r"(f.p[3]), "+r"(f.three));
	__asm__("" : "+Yk"(f.second), "+Yk"(f.third), "+Yk"(f.fourth));
	return f;
}

ALWAYS const uint8_t *row_at(const struct fours *f, size_t r)
{
	return f->p[r / 4] + (r % 4 == 3 ? f->three : r % 4 * f->one);
}

ALWAYS void go_on(struct fours *f, size_t bytes)
{
	for (size_t j = 0; j < 4; j++)
		f->p[j] += bytes;
}

/* 16 bytes of each of the four rows from row 4 j on, `at` behind where they are. */
ALWAYS __m512i piece(const struct fours *f, size_t j, size_t at)
{
	__m512i v = _mm512_broadcast_i32x4(load128(row_at(f, 4 * j) + at));

	v = _mm512_mask_broadcast_i32x4(v, f->second, load128(row_at(f, 4 * j + 1) + at));
	v = _mm512_mask_broadcast_i32x4(v, f->third, load128(row_at(f, 4 * j + 2) + at));
	return _mm512_mask_broadcast_i32x4(v, f->fourth, load128(row_at(f, 4 * j + 3) + at));
}

/* Asks again, which others than Intel's need, for what is read after the next `bytes` bytes, or
 * after the sixteen rows. n bytes of a row were read. */
ALWAYS void piece_again(const struct fours *f, size_t n, size_t bytes)
{
	const size_t next_rows = n + 2 * bytes < f->one ? 0 : 15 * f->one;
	const uint8_t *p = f->p[0];

	__asm__("" : "+r"(p));
	ask_again(p, f->one, (ptrdiff_t)(2 * bytes + next_rows), bytes);
}

/* 16 activations for each of four rows. */
ALWAYS __m512i for_four(const int8_t *x) { return _mm512_broadcast_i32x4(load128(x)); }

/* ---- bits, pairs of bits ---- */

/* Of each byte: twice bit f, or pair f. */
ALWAYS __m512i field(enum kind kind, __m512i v, const unsigned f)
{
#ifdef __GFNI__ /* row 7 - i of a matrix of bits says of which bits bit i is the sum */
	if (f != (kind == Q1_0))
		return _mm512_gf2p8affine_epi64_epi8(v, _mm512_set1_epi64(kind == Q1_0 ? 1ll << (48 + f) :
			1ll << (56 + 2 * f) | 1ll << (48 + 2 * f + 1)), 0);
#endif
	if (kind == Q1_0)
		return _mm512_and_si512(f ? _mm512_srli_epi16(v, f - 1) : _mm512_slli_epi16(v, 1),
			_mm512_set1_epi8(2));
	return _mm512_and_si512(_mm512_srli_epi16(v, 2 * f), _mm512_set1_epi8(3));
}

/* A piece v of each of four rows: on with their sums, s[t] with token t. x: 16 that belong to a
 * field, `apart` from those of the next. */
ALWAYS void piece_sums(enum kind kind, __m512i v, const int8_t *x, size_t apart, size_t xp,
	size_t n_tok, __m512i s[GV_TOK][4], size_t j)
{
	const size_t n = kind == Q1_0 ? 8 : 4;
	__m512i w[8];

#pragma GCC unroll 8
	for (unsigned f = 0; f < n; f++)
		w[f] = field(kind, v, f);
	for (size_t t = 0; t < n_tok; t++)
#pragma GCC unroll 8
		for (size_t f = 0; f < n; f++)
			s[t][j] = _mm512_dpbusd_epi32(s[t][j], w[f], for_four(x + t * xp + f * apart));
}

/* ---- scales of blocks in floating point ---- */

/* Blocks of Q1_0 and Q2_0: a half float and a piece. */
#define PIECE_BLOCK 18

/* Of n blocks, up to four, of sixteen rows. */
ALWAYS void piece_scales(const struct fours *p, size_t n, __m512 sc[4])
{
	const __m512i at = _mm512_broadcast_i32x4(_mm_setr_epi16(0, 9, 18, 27, 0, 9, 18, 27));
	const __m512i apart = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
	const __mmask32 some = (1u << (n * PIECE_BLOCK / 2 & 31)) - 1;
	__m512i z[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() }, a[2], e[2];

#pragma GCC unroll 16
	for (size_t r = 0; r < 16; r++)
		z[r / 8] = _mm512_mask_permutexvar_epi16(z[r / 8], 15u << (8 * (r % 4) + r / 4 % 2 * 4), at,
			n == 4 ? _mm512_loadu_si512(row_at(p, r)) :
			_mm512_maskz_loadu_epi16(some, row_at(p, r)));
	words_in_turn(z[0], z[1], a); /* of rows 4 j + l in lane l: j 0 2, then 1 3 */
	words_in_turn(a[0], a[1], e);
	for (size_t i = 0; i < 2; i++) {
		e[i] = _mm512_permutexvar_epi64(apart, e[i]);
		sc[2 * i] = _mm512_cvtph_ps(_mm512_castsi512_si256(e[i]));
		sc[2 * i + 1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(e[i], 1));
	}
}

/* Minus the sums of the activations of a block's 32s, to lanes of these. */
ALWAYS __m512i minus_sums(enum kind kind, const int16_t *xsum)
{
	const __m128i v = kind == Q1_0 ? _mm_cvtepu16_epi32(_mm_loadl_epi64((const void *)xsum)) :
		_mm_cvtepu16_epi64(_mm_cvtsi32_si128((int)rd32((const uint8_t *)xsum)));

	return _mm512_broadcast_i32x4(_mm_madd_epi16(v, _mm_set1_epi16(-1)));
}

/* A row's sums of 32 elements lie in one lane (Q1_0), or in two -> of each 32 a lane per row. */
ALWAYS void sums_of_32s(enum kind kind, const __m512i s[4], __m512i out[4])
{
	__m512i a[2], b[2];

	if (kind == Q2_0) { /* of 32 products up to 3 x */
		even_odd(short_pairs(s[0], s[1]), short_pairs(s[2], s[3]), out);
		return;
	}
	dwords_in_turn(s[0], s[1], a);
	dwords_in_turn(s[2], s[3], b);
	for (size_t i = 0; i < 2; i++) {
		out[2 * i] = _mm512_unpacklo_epi64(a[i], b[i]);
		out[2 * i + 1] = _mm512_unpackhi_epi64(a[i], b[i]);
	}
}

/* The k-th block of sixteen rows, which begins with element i: on with the chains c. */
ALWAYS void piece_block(enum kind kind, const struct fours *p, size_t k, __m512 sc, size_t i,
	const struct gv_in *in, size_t n_tok, struct asks *asks, size_t lines, VI c[GV_TOK])
{
	__m512i s[GV_TOK][4], out[4];

#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
		for (size_t t = 0; t < n_tok; t++)
			s[t][j] = minus_sums(kind, in->sum + (t * in->np + i) / 32);
		piece_sums(kind, piece(p, j, k * PIECE_BLOCK + 2), in->x + i, 16, in->xp, n_tok, s, j);
		ask_nth(asks, lines, 4 * k + j, 16, &s[0][j]);
	}
	for (size_t t = 0; t < n_tok; t++) {
		sums_of_32s(kind, s[t], out);
#pragma GCC unroll 4
		for (size_t b = 0; b < 4; b++)
			if (kind == Q1_0 || b < 2)
				c[t] = vf_chain(c[t], out[b], BITS(sc));
	}
}

/* The chains c end a group of 256 elements, of which i is one. */
ALWAYS void piece_group(const struct gv_in *in, size_t i, size_t n_tok, VI c[GV_TOK],
	VI acc[GV_TOK])
{
	for (size_t t = 0; t < n_tok; t++) {
		acc[t] = vf_group(acc[t], c[t], in->d[(t * in->np + i) / 256]);
		c[t] = vf_zero();
	}
}

/* Rows of blocks. */
ALWAYS void piece_blocks(enum kind kind, struct fours p, size_t len, const struct gv_in *in,
	size_t n_tok, int twice, struct asks *asks, VI acc[GV_TOK])
{
	const size_t blk = kind == Q1_0 ? 128 : 64, bytes = 4 * PIECE_BLOCK;
	size_t i = 0, at = 0, n;
	__m512 sc[4];
	VI c[GV_TOK];

	for (size_t t = 0; t < n_tok; t++)
		c[t] = vf_zero();
	for (; i + 4 * blk <= len; go_on(&p, bytes), at += bytes) {
		if (twice)
			piece_again(&p, at, bytes);
		piece_scales(&p, 4, sc);
#pragma GCC unroll 4
		for (size_t k = 0; k < 4; k++, i += blk) {
			piece_block(kind, &p, k, sc[k], i, in, n_tok, asks, bytes / 4, c);
			if ((k + 1) * blk % 256 == 0)
				piece_group(in, i, n_tok, c, acc);
		}
	}
	n = (len - i) / blk;
	if (n)
		piece_scales(&p, n, sc);
	for (size_t k = 0; k < n; k++, i += blk) {
		piece_block(kind, &p, k, sc[k], i, in, n_tok, asks, 0, c);
		if ((k + 1) * blk % 256 == 0 || k + 1 == n)
			piece_group(in, i, n_tok, c, acc);
	}
}

/* ---- ternary ---- */

/* The last two 32-bit words of each of sixteen rows' 256 elements. */
ALWAYS void last_words(const struct fours *p, size_t bytes, __m512i out[2])
{
	__m512i v[4], a, b;

#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++)
		v[j] = piece(p, j, bytes - 16);
	a = _mm512_unpackhi_epi32(v[0], v[1]);
	b = _mm512_unpackhi_epi32(v[2], v[3]);
	out[0] = _mm512_unpacklo_epi64(a, b);
	out[1] = _mm512_unpackhi_epi64(a, b);
}

/* The sum of 256 activations n times, in four lanes of each row. */
ALWAYS __m512i sums_times(const int16_t *xsum, int n)
{
	return _mm512_broadcast_i32x4(_mm_madd_epi16(load128(xsum), _mm_set1_epi16((short)n)));
}

/* TQ2_0. */
ALWAYS void pair_sums(const struct fours *p, size_t i, const struct gv_in *in, size_t n_tok,
	struct asks *asks, __m512i sum[GV_TOK])
{
	__m512i s[GV_TOK][4];

#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
		for (size_t t = 0; t < n_tok; t++)
			s[t][j] = sums_times(in->sum + (t * in->np + i) / 32, -1);
#pragma GCC unroll 4
		for (size_t k = 0; k < 4; k++) {
			piece_sums(TQ2_0, piece(p, j, 16 * k), in->q + i + 128 * (k / 2) + 16 * (k % 2), 32,
				in->np, n_tok, s, j);
			ask_nth(asks, bytes256(TQ2_0) / 4, 4 * j + k, 16, &s[0][j]);
		}
	}
	for (size_t t = 0; t < n_tok; t++)
		sum[t] = sums_of_four(s[t]);
}

/* Five digits to base 3 in a byte b as a fraction of 256, which the first comes out of as the whole
 * part of 3 b, and the others likewise of what is left: a digit is (3 b - left) / 256. What is to
 * be added up, of b and of what is left. */
struct digits { __m512i b, left; };

ALWAYS __m512i next_digit(__m512i b, __m512i x, struct digits *o)
{
	o->b = _mm512_dpbusd_epi32(o->b, b, x);
	b = _mm512_add_epi8(b, _mm512_add_epi8(b, b));
	o->left = _mm512_dpbusd_epi32(o->left, b, x);
	return b;
}

ALWAYS __m512i digits_of(const struct digits *o)
{
	return _mm512_sub_epi32(_mm512_add_epi32(o->b, _mm512_add_epi32(o->b, o->b)), o->left);
}

/* TQ1_0: three pieces of five digits; of the last four bytes, those of all rows in a vector, four
 * digits each. x: activations of a token. */
ALWAYS __m512i digit_sums(const struct fours *p, __m512i last, const int8_t *x,
	const int16_t *xsum, struct asks *asks)
{
	const __m512i zero = _mm512_setzero_si512(), first = sums_times(xsum, 256);
	struct digits o[4] = { { zero, first }, { zero, first }, { zero, first }, { zero, first } };
	struct digits end = { zero, zero };
	__m512i b[4];

#pragma GCC unroll 3
	for (size_t k = 0; k < 3; k++) {
#pragma GCC unroll 4
		for (size_t j = 0; j < 4; j++)
			b[j] = piece(p, j, 16 * k);
#pragma GCC unroll 5
		for (size_t d = 0; d < 5; d++) {
			const __m512i v = for_four(x + (k < 2 ? 32 * d + 16 * k : 160 + 16 * d));

#pragma GCC unroll 4
			for (size_t j = 0; j < 4; j++)
				b[j] = next_digit(b[j], v, &o[j]);
			ask_nth(asks, bytes256(TQ1_0) / 4, 5 * k + d, 15, &b[3]);
		}
	}
#pragma GCC unroll 4
	for (size_t d = 0; d < 4; d++)
		last = next_digit(last,
			_mm512_set1_epi32((int)rd32((const uint8_t *)x + 240 + 4 * d)), &end);
	for (size_t j = 0; j < 4; j++)
		b[j] = digits_of(&o[j]);
	return _mm512_srai_epi32(_mm512_add_epi32(sums_of_four(b), digits_of(&end)), 8);
}

/* Rows of 256 elements with a d. */
ALWAYS void piece_supers(enum kind kind, struct fours p, size_t len, const struct gv_in *in,
	size_t n_tok, int twice, struct asks *asks, VI acc[GV_TOK])
{
	const size_t bytes = bytes256(kind), np = in->np;

	for (size_t i = 0; i < len; i += 256, go_on(&p, bytes)) {
		__m512i sum[GV_TOK], last[2], d;

		if (twice)
			piece_again(&p, i / 256 * bytes, bytes);
		last_words(&p, bytes, last);
		d = vf_halves(last[1], 16, 0.5f);
		if (kind == TQ2_0)
			pair_sums(&p, i, in, n_tok, asks, sum);
		last[0] = _mm512_or_si512(_mm512_srli_epi32(last[0], 16), _mm512_slli_epi32(last[1], 16));
		for (size_t t = 0; t < n_tok; t++) {
			if (kind == TQ1_0) {
				sum[t] = digit_sums(&p, last[0], in->q + t * np + i,
					in->sum + (t * np + i) / 32, asks);
				asks->step = t + 1 < n_tok ? 0 : asks->step;
			}
			sum[t] = _mm512_add_epi32(sum[t], sum[t]); /* because d is a half of what lies there */
			acc[t] = vf_exact(acc[t], sum[t], d, in->d[(t * np + i) / 256]);
		}
	}
}

/* All of sixteen rows. */
ALWAYS void pieces_across(enum kind kind, const uint8_t *p, size_t row_bytes, size_t len,
	const struct gv_in *in, size_t n_tok, int twice, struct asks *all, VI acc[GV_TOK])
{
	struct asks asks = asks_now(*all);

	if (kind == Q1_0 || kind == Q2_0)
		piece_blocks(kind, fours_at(p, row_bytes), len, in, n_tok, twice, &asks, acc);
	else
		piece_supers(kind, fours_at(p, row_bytes), len, in, n_tok, twice, &asks, acc);
	for (size_t t = 0; t < n_tok; t++)
		acc[t] = by_fours(acc[t]);
	*all = asks;
}
