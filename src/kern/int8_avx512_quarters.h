/*
 * int8_avx512_quarters.h - sixteen rows at once of Q2_K and Q3_K, against one token or a few.
 *
 * 64 bytes of a row hold four codes each, a quarter of 256 elements every two bits: in 128-bit lane
 * m of quarter q lies block 2 q + m, or 8 + 2 q + m - 2. Two rows are put side by side first, eight
 * bytes of a block each, so that two dot products leave sums of half a block in two lanes of either
 * row; those fit into 16 bits. Packed with those of two other rows, they are weighed by products of
 * words, which leave a lane per row.
 *
 * Codes are used where they lie, or where fewest shifts put them, as two to the quarter's power
 * times what they are; before a quarter of a higher power what the others left is shifted.
 */

#define QUARTERS(kind) ((kind) == Q2_K || (kind) == Q3_K)

/* Of a quarter; no higher than that sums of eight products, of codes up to 3 with Q2_K, of 4 either
 * way with Q3_K, fit into 16 bits. */
ALWAYS int power_of(enum kind kind, size_t q)
{
	return kind == Q2_K ? (q % 2 ? 2 : 0) : q == 0 ? 0 : q == 1 ? 2 : 3;
}

/* A token's activations as two rows side by side meet them: of quarter q those of the first eight
 * of each block to x[2 q], the others to the next. start: where sums start, with 4 taken off all
 * codes of Q3_K. xs: sums of even blocks and, 16 times, of odd ones, in each 128-bit lane. */
struct quarters { __m512i x[8], start[4], xs[2]; };

ALWAYS void quarters_begin(enum kind kind, const int8_t *x, const int16_t *xsum, struct quarters *o)
{
	const __m512i even = _mm512_broadcast_i32x4(_mm_setr_epi16(0, 2, 4, 6, 8, 10, 12, 14));
	const __m512i zero = _mm512_setzero_si512();
	__m512i v;

#pragma GCC unroll 4
	for (size_t q = 0; q < 4; q++) {
		const __m512i four = _mm512_set1_epi8((char)(4 << power_of(kind, q)));

		v = _mm512_loadu_si512(x + 64 * q);
		o->x[2 * q] = _mm512_unpacklo_epi64(v, v);
		o->x[2 * q + 1] = _mm512_unpackhi_epi64(v, v);
		v = _mm512_dpbusd_epi32(zero, four, o->x[2 * q]);
		v = _mm512_dpbusd_epi32(v, four, o->x[2 * q + 1]);
		o->start[q] = kind == Q3_K ? _mm512_sub_epi32(zero, v) : zero;
	}
	v = _mm512_castsi256_si512(load256(xsum));
	o->xs[0] = _mm512_permutexvar_epi16(even, v);
	o->xs[1] = _mm512_slli_epi16(_mm512_permutexvar_epi16(_mm512_add_epi16(even,
		_mm512_set1_epi16(1)), v), 4);
}

/* Scales of four rows, a byte each, 16 in a lane of v -> the four dwords of each lane are of one
 * row each, with the scales of quarters 2 i and 2 i + 1. */
ALWAYS __m512i two_quarters(__m512i v, int i)
{
	const __m512i at = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 2, 6, 10, 14, 2, 6, 10, 14);

	return _mm512_permutexvar_epi32(_mm512_add_epi32(at, _mm512_set1_epi32(i)), v);
}

/* Byte b of each dword of the lanes of blocks that are even, b + 1 of the odd ones, as the words
 * that weigh two sums of a row; of Q3_K, whose scales have a sign, 256 times as much. */
ALWAYS __m512i weights_of_quarter(enum kind kind, __m512i v, int b)
{
	const __m512i row = bytes16(0, 0x04040404, 0x08080808, 0x0c0c0c0c);
	const __m512i block = _mm512_setr_epi64(0, 0, W(0x0101), W(0x0101), 0, 0, W(0x0101), W(0x0101));
	const __m512i at = _mm512_add_epi8(_mm512_add_epi8(row, block), _mm512_set1_epi8((char)b));
	const __mmask64 bytes = kind == Q2_K ? 0x5555555555555555 : 0xaaaaaaaaaaaaaaaa;

	return _mm512_shuffle_epi8(v, _mm512_mask_blend_epi8(bytes, _mm512_set1_epi8(-1), at));
}

/* Q3_K's scales of four rows, in order: sixteen of six bits, from twelve bytes behind two. */
static inline __m512i q3_k_bytes_of_four(__m512i v)
{
	__m512i s = _mm512_shuffle_epi8(v, bytes16(0x05040302, 0x09080706, 0x05040302, 0x09080706));
	__m512i h = _mm512_shuffle_epi8(v, bytes16(0x0d0c0b0a, 0x0d0c0b0a, 0x0d0c0b0a, 0x0d0c0b0a));

	s = _mm512_and_si512(_mm512_srlv_epi32(s, bytes16(0, 0, 4, 4)), _mm512_set1_epi8(15));
	h = _mm512_rolv_epi32(h, bytes16(4, 2, 0, 30));
	return _mm512_sub_epi8(and_or(h, _mm512_set1_epi8(0x30), s), _mm512_set1_epi8(32));
}

/* Of two rows side by side: low bits of their codes v, high ones h. */
ALWAYS void quarters_of(enum kind kind, __m512i v, __m512i h, __m512i w[4])
{
	const __m512i by2 = _mm512_setr_epi64(2, 2, 2, 2, 62, 62, 62, 62);
	const __m512i by3 = _mm512_setr_epi64(3, 3, 3, 3, 63, 63, 63, 63);
	const __m512i low = _mm512_set1_epi8(3), second = _mm512_set1_epi8(12);
	__m512i r;

	w[0] = _mm512_and_si512(v, low);
	w[1] = _mm512_and_si512(v, second);
	if (kind == Q2_K) {
		v = _mm512_srli_epi16(v, 4);
		w[2] = _mm512_and_si512(v, low);
		w[3] = _mm512_and_si512(v, second);
		return;
	}
	w[2] = _mm512_and_si512(_mm512_srli_epi16(v, 1), _mm512_set1_epi8(24));
	w[3] = _mm512_and_si512(_mm512_srli_epi16(v, 3), _mm512_set1_epi8(24));
	r = _mm512_rolv_epi64(h, by2);
	h = _mm512_rolv_epi64(h, by3);
	w[0] = and_or(r, _mm512_set1_epi8(4), w[0]);
	w[1] = and_or(h, _mm512_set1_epi8(16), w[1]);
	w[2] = and_or(h, _mm512_set1_epi8(32), w[2]);
	w[3] = and_or(r, _mm512_set1_epi8(32), w[3]);
}

/* Sums of the quarters of the two rows at p. k: of the 16 places where sixteen rows ask for others,
 * the first of two. */
ALWAYS void two_rows(enum kind kind, const uint8_t *p, size_t row_bytes, size_t k,
	const struct quarters *in, size_t n_tok, __m512i s[GV_TOK][4], struct asks *asks,
	const uint8_t **next)
{
	const size_t at = kind == Q2_K ? 16 : 32;
	__m512i a = _mm512_loadu_si512(p + at), b = _mm512_loadu_si512(p + row_bytes + at);
	__m512i c = _mm512_setzero_si512(), d = c, w[4];

	LOADED(a);
	LOADED(b);
	if (kind == Q3_K) {
		c = _mm512_broadcast_i64x4(load256(p));
		d = _mm512_broadcast_i64x4(load256(p + row_bytes));
		LOADED(c);
		LOADED(d);
	}
#pragma GCC unroll 2
	for (size_t i = 0; i < 2; i++) {
		if (i)
			quarters_of(kind, _mm512_unpackhi_epi64(a, b), _mm512_unpackhi_epi64(c, d), w);
		else
			quarters_of(kind, _mm512_unpacklo_epi64(a, b), _mm512_unpacklo_epi64(c, d), w);
		for (size_t t = 0; t < n_tok; t++)
#pragma GCC unroll 4
			for (size_t q = 0; q < 4; q++) {
				s[t][q] = _mm512_dpbusd_epi32(i ? s[t][q] : in[t].start[q], w[q],
					in[t].x[2 * q + i]);
				if (t == 0 && q % 2)
					ask_nth(asks, bytes256(kind) / 4, 4 * k + 2 * i + q / 2, 32, &s[t][q]);
				else if (t == 0)
					next_lines(next, row_bytes, bytes256(kind), 4 * k + 2 * i + q / 2, 32,
						&s[t][q]);
			}
	}
}

/* Sums of the quarters of two rows, s, and of the two behind them, u, weighed: to lane 4 l + i a
 * part of that of row i, 4 times as much of Q2_K. scales: of the four, a byte each, in order. */
ALWAYS __m512i weighed(enum kind kind, __m512i scales, const __m512i s[4], const __m512i u[4])
{
	const __m512i a = two_quarters(scales, 0), b = two_quarters(scales, 1);
	__m512i v = _mm512_setzero_si512();
	int power = 0;

#pragma GCC unroll 4
	for (size_t i = 0; i < 4; i++) {
		const size_t q = kind == Q2_K ? i % 2 * 2 + i / 2 : i; /* lower powers first */
		const __m512i k = weights_of_quarter(kind, q / 2 ? b : a, q % 2 * 2);

		if (power_of(kind, q) != power)
			v = _mm512_slli_epi32(v, (unsigned)(power_of(kind, q) - power));
		power = power_of(kind, q);
		v = _mm512_dpwssd_epi32(v, _mm512_packs_epi32(s[q], u[q]), k);
	}
	return kind == Q2_K ? v : _mm512_srai_epi32(v, 8 + 3);
}

/* 256 elements of the sixteen rows at p with those of n_tok tokens, added to acc. */
ALWAYS void quarters_across(enum kind kind, const uint8_t *p, size_t row_bytes, size_t i,
	const struct gv_in *in, size_t n_tok, VI acc[GV_TOK], struct asks *asks, const uint8_t **next)
{
	struct quarters x[GV_TOK];
	__m512i m[GV_TOK][4], b[GV_TOK][4];
	__m512 halves[2], d, dmin;
	uint32_t end[16]; /* of each row what is last: in halves, shuffled, the order of its sums */

	for (size_t t = 0; t < n_tok; t++)
		quarters_begin(kind, in->x + t * in->xp + i, in->sum + (t * in->np + i) / 16, &x[t]);
#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
		__m512i v = four16(p + (kind == Q2_K ? 0 : 94), row_bytes), s[2][GV_TOK][4];

		for (size_t l = 0; l < 4; l++)
			end[8 * (j / 2) + 2 * l + j % 2] = rd32(p + l * row_bytes + bytes256(kind) - 4);
		for (size_t t = 0; t < n_tok && kind == Q2_K; t++)
			m[t][j] = _mm512_dpwssd_epi32(_mm512_madd_epi16(x[t].xs[0],
				_mm512_and_si512(v, _mm512_set1_epi16(0xf0))),
				x[t].xs[1], _mm512_srli_epi16(v, 12));
		v = kind == Q2_K ? _mm512_and_si512(v, _mm512_set1_epi8(15)) : q3_k_bytes_of_four(v);
#pragma GCC unroll 2
		for (size_t l = 0; l < 2; l++) {
			two_rows(kind, p, row_bytes, 2 * j + l, x, n_tok, s[l], asks, next);
			step_rows(&p, 2 * row_bytes);
		}
		for (size_t t = 0; t < n_tok; t++)
			b[t][j] = weighed(kind, v, s[0][t], s[1][t]);
	}
	for (size_t j = 0; j < 2; j++)
		halves[j] = _mm512_cvtph_ps(load256(end + 8 * j));
	d = _mm512_shuffle_ps(halves[0], halves[1], kind == Q2_K ? 0x88 : 0xdd);
	dmin = _mm512_shuffle_ps(halves[0], halves[1], 0xdd);
	for (size_t t = 0; t < n_tok; t++) {
		const float dx = in->d[(t * in->np + i) / 256];
		const __m512i sum = by_fours(lanes_of_four(b[t]));

		if (kind == Q2_K)
			acc[t] = vf_exact_min(acc[t], _mm512_srai_epi32(sum, 2), BITS(d),
				_mm512_srai_epi32(sums_of_four(m[t]), 4), BITS(dmin), dx);
		else
			acc[t] = vf_exact(acc[t], sum, BITS(d), dx);
	}
}
