/*
 * int8_avx2_decode.h - a row of weights against a few tokens: sums of eight blocks, a lane each.
 *
 * Without VNNI the products of bytes are summed in pairs to 16 bits. Pairs are added there while
 * they cannot overflow (a pair is at most 254 times the largest code), and widened after that; the
 * last step often leaves the eight sums in their order at once.
 *
 * Kinds with blocks of 32 and codes of at most 5 bits, or looked up ("halves" below), put 16 codes
 * of the blocks i and i + 4 into one vector; their activations are arranged likewise, once a call.
 * The others take 32 codes in their order.
 */

/* How a row is read: unpacked first (elements that share a scale, with minimum or without), or as
 * it lies. */
enum kind { B32, B32_MIN, B16, B16_MIN, Q8_0, Q6_K, Q2_K, Q3_K,
	Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, IQ4_XS, MXFP4, Q4_K, Q5_K };
#define KINDS X(B32) X(B32_MIN) X(B16) X(B16_MIN) X(Q8_0) X(Q6_K) X(Q2_K) X(Q3_K) \
	X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(IQ4_NL) X(IQ4_XS) X(MXFP4) X(Q4_K) X(Q5_K)
#define UNPACKED(kind) ((kind) <= B16_MIN)
#define HALVES(kind) ((kind) >= Q4_0)
#define ARRANGED(kind) HALVES(kind)

ALWAYS size_t blk_of(enum kind kind)
{
	return kind == B16 || kind == B16_MIN || kind == Q6_K || kind == Q2_K || kind == Q3_K ? 16 : 32;
}

ALWAYS int min_of(enum kind kind)
{
	return kind == B32_MIN || kind == B16_MIN || kind == Q2_K || kind == Q4_1 || kind == Q5_1 ||
		kind == Q4_K || kind == Q5_K;
}

/* log2 of the off that sums are to be freed from */
ALWAYS int off_of(enum kind kind, const struct codes *c)
{
	switch (kind) {
	case B32: case B16: return OFF_LOG2(c);
	case Q4_0: return 3;
	case Q5_0: case MXFP4: return 4;
	case Q6_K: return 5;
	case Q3_K: return 2;
	default: return 0;
	}
}

static enum kind kind_of(uint32_t type, size_t len)
{
	static const enum kind direct[QT_MAX] = { [QT_Q8_0] = Q8_0, [QT_Q4_0] = Q4_0, [QT_Q5_0] = Q5_0,
		[QT_IQ4_NL] = IQ4_NL, [QT_MXFP4] = MXFP4, [QT_Q4_K] = Q4_K, [QT_Q5_K] = Q5_K, [QT_Q6_K] = Q6_K,
		[QT_Q4_1] = Q4_1, [QT_Q5_1] = Q5_1, [QT_IQ4_XS] = IQ4_XS, [QT_Q2_K] = Q2_K, [QT_Q3_K] = Q3_K };

	if (direct[type] && len >= 256)
		return direct[type];
	return codes[type].blk == 32 ? codes[type].has_min ? B32_MIN : B32 :
		codes[type].has_min ? B16_MIN : B16;
}

/* Bytes of 256 elements of the kinds that are read as they lie. */
ALWAYS size_t bytes256(enum kind kind)
{
	switch (kind) {
	case Q8_0: return 8 * 34;
	case Q4_0: case IQ4_NL: return 8 * 18;
	case Q4_1: return 8 * 20;
	case Q5_0: return 8 * 22;
	case Q5_1: return 8 * 24;
	case MXFP4: return 8 * 17;
	case IQ4_XS: return 136;
	case Q4_K: return 144;
	case Q5_K: return 176;
	case Q6_K: return 210;
	case Q2_K: return 84;
	case Q3_K: return 110;
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

/* d times eight signed bytes */
ALWAYS __m256 scaled(__m256 d, __m128i v)
{
	return _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)));
}

static inline __m256 half8(const uint8_t *p)
{
	return _mm256_set1_ps(half(rd16(p)));
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
ALWAYS __m256i iq4_xs_ints(const uint8_t *p)
{
	__m256i low, high = _mm256_set1_epi32(rd16(p) << 4);

	low = _mm256_srlv_epi32(_mm256_set1_epi32(four_bytes(p + 2)),
		_mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
	high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
	low = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)),
		_mm256_and_si256(high, _mm256_set1_epi32(0x30)));
	return _mm256_sub_epi32(low, _mm256_set1_epi32(32));
}

struct scales { __m256 sc, mn; };

/* Of 256 elements at p: eight blocks of 32, or two times eight of 16. */
ALWAYS void scales_at(enum kind kind, const uint8_t *p, struct scales f[2])
{
	const __m256 minus = _mm256_set1_ps(-0.0f);
	const __m128i low4 = _mm_set1_epi8(15);
	const size_t bytes = bytes256(kind) / 8;
	__m128i a, b;
	__m256 d;

	f[0].sc = f[0].mn = _mm256_setzero_ps();
	f[1] = f[0];
	switch (kind) {
	case Q8_0: case Q4_0: case Q4_1: case Q5_0: case Q5_1: case IQ4_NL:
		f[0].sc = _mm256_cvtph_ps(block_words(p, bytes));
		if (kind == Q4_1 || kind == Q5_1)
			f[0].mn = _mm256_xor_ps(_mm256_cvtph_ps(block_words(p + 2, bytes)), minus);
		break;
	case MXFP4:
		f[0].sc = mxfp4_scales(p);
		break;
	case Q4_K: case Q5_K:
		a = k_bytes(p);
		f[0].sc = scaled(half8(p), a);
		f[0].mn = scaled(half8(p + 2), _mm_unpackhi_epi64(a, a));
		break;
	case IQ4_XS:
		f[0].sc = _mm256_mul_ps(half8(p), _mm256_cvtepi32_ps(iq4_xs_ints(p + 2)));
		break;
	case Q6_K: case Q3_K:
		a = kind == Q6_K ? load128(p + 192) : q3_k_bytes(p + 96);
		d = half8(p + (kind == Q6_K ? 208 : 108));
		f[0].sc = scaled(d, a);
		f[1].sc = scaled(d, _mm_unpackhi_epi64(a, a));
		break;
	case Q2_K:
		a = _mm_and_si128(load128(p), low4);
		b = _mm_and_si128(_mm_srli_epi16(load128(p), 4), low4);
		d = half8(p + 80);
		f[0].sc = scaled(d, a);
		f[1].sc = scaled(d, _mm_unpackhi_epi64(a, a));
		d = half8(p + 82);
		f[0].mn = scaled(d, b);
		f[1].mn = scaled(d, _mm_unpackhi_epi64(b, b));
		break;
	default:
		break;
	}
}

/* What is not read as it lies: all, or what is behind the last 256 elements. */
ALWAYS void prepare(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part)
{
	size_t whole = UNPACKED(kind) ? 0 : len / 256 * 256, b = whole / blk_of(kind);

	if (whole < len)
		c->fn(row + whole / 256 * bytes256(kind), len - whole, part.code + whole, part.sc + b,
			part.mn + b);
}

/* ---- codes ---- */

static const uint8_t mxfp4_codes[16] = { 16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8,
	4 };

ALWAYS __m256i two16(const uint8_t *p, const uint8_t *q)
{
	return _mm256_inserti128_si256(_mm256_castsi128_si256(load128(p)), load128(q), 1);
}

/* (v & mask) | w */
static inline __m256i and_or(__m256i v, __m256i mask, __m256i w)
{
	return _mm256_or_si256(_mm256_and_si256(v, mask), w);
}

/* 16 where a bit is set: bits 16 j .. 16 j + 15 of a lane's words. */
ALWAYS __m256i fifths(__m256i bits, size_t j)
{
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
	const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0, 0x0101010101010101);

	bits = _mm256_shuffle_epi8(bits, _mm256_add_epi8(spread, _mm256_set1_epi8((char)(2 * j))));
	bits = _mm256_cmpeq_epi8(_mm256_and_si256(bits, bit), bit);
	return _mm256_and_si256(bits, _mm256_set1_epi8(16));
}

/* Of 256 elements at p: w[2 i + j] holds the codes 16 j .. 16 j + 15 of the blocks i and i + 4.
 * Those of IQ4 are signed. */
ALWAYS void read_halves(enum kind kind, const uint8_t *p, __m256i w[8])
{
	const __m256i low4 = _mm256_set1_epi8(15), bit5 = _mm256_set1_epi8(16);
	const size_t step = kind == IQ4_XS ? 16 : bytes256(kind) / 8;
	const size_t at = codes_at(kind);
	const void *table = kind == MXFP4 ? mxfp4_codes : iq4_table;

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
		if (kind == Q5_0 || kind == Q5_1) {
			__m256i h = _mm256_blend_epi32(_mm256_set1_epi32(four_bytes(a + at - 4)),
				_mm256_set1_epi32(four_bytes(b + at - 4)), 0xf0);

			w[2 * i] = _mm256_or_si256(w[2 * i], fifths(h, 0));
			w[2 * i + 1] = _mm256_or_si256(w[2 * i + 1], fifths(h, 1));
		}
		if (kind == IQ4_NL || kind == IQ4_XS || kind == MXFP4) {
			__m256i t = _mm256_broadcastsi128_si256(load128(table));

			if (kind != MXFP4)
				t = _mm256_xor_si256(t, _mm256_set1_epi8((char)0x80));
			w[2 * i] = _mm256_shuffle_epi8(t, w[2 * i]);
			w[2 * i + 1] = _mm256_shuffle_epi8(t, w[2 * i + 1]);
		}
	}
}

/* The order of activations that goes with it. */
static void arrange(const int8_t *q, size_t n, int8_t *out)
{
	const uint8_t *p = (const uint8_t *)q;

	for (size_t i = 0; i < n; i += 256, p += 256, out += 256)
		for (size_t k = 0; k < 8; k++)
			vi_store(out + 32 * k, two16(p + 16 * k, p + 16 * k + 128));
}

/* Codes of eight blocks in their order, w[j] those from 32 j on: unpacked at code, or at p (of
 * blocks of 16, half h of the 256 there). Those of Q8_0 are signed. */
ALWAYS void read_in_order(enum kind kind, const uint8_t *p, const uint8_t *code, size_t h,
	__m256i w[8])
{
	const __m256i low4 = _mm256_set1_epi8(15), high2 = _mm256_set1_epi8(0x30);
	const __m256i two = _mm256_set1_epi8(3), bit3 = _mm256_set1_epi8(4);
	__m256i a, b;

	switch (kind) {
	case Q8_0:
		for (size_t j = 0; j < 8; j++)
			w[j] = load256(p + 34 * j + 2);
		break;
	case Q6_K:
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
		break;
	case Q2_K: case Q3_K:
		a = load256(p + (kind == Q2_K ? 16 : 32) + 32 * h);
		for (int j = 0; j < 4; j++)
			w[j] = _mm256_and_si256(_mm256_srli_epi16(a, 2 * j), two);
		if (kind == Q2_K)
			break;
		a = h ? _mm256_srli_epi16(load256(p), 4) : load256(p);
		w[0] = and_or(_mm256_slli_epi16(a, 2), bit3, w[0]);
		w[1] = and_or(_mm256_slli_epi16(a, 1), bit3, w[1]);
		w[2] = and_or(a, bit3, w[2]);
		w[3] = and_or(_mm256_srli_epi16(a, 1), bit3, w[3]);
		break;
	default:
		for (size_t j = 0; j < blk_of(kind) / 4; j++)
			w[j] = load256(code + 32 * j);
	}
}

/* ---- sums ---- */

static inline __m256i widened(__m256i v)
{
	return _mm256_madd_epi16(v, _mm256_set1_epi16(1));
}

/* Products of signed codes, pairs of which fit into 16 bits. */
static inline __m256i signed_dot(__m256i w, __m256i x)
{
	return widened(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)));
}

/* The same of unpacked codes. */
ALWAYS __m256i unpacked_dot(const struct codes *c, __m256i w, __m256i x)
{
	if (c->off_log2 == BIG_LOG2)
		return signed_dot(_mm256_xor_si256(w, _mm256_set1_epi8((char)0x80)), x);
	return widened(_mm256_maddubs_epi16(w, x));
}

/* Halves of v[0] .. v[3], each summed up: those of the low lanes, then those of the high ones. v
 * holds sums of 16 bits, two of which can be added once (times: 1) or twice (2), or of 32 bits (0). */
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
	return times == 2 ? widened(_mm256_add_epi16(a, b)) : _mm256_add_epi32(a, b);
}

/* Of eight blocks with the activations x, in order. */
ALWAYS __m256i sums_of(enum kind kind, const struct codes *c, const __m256i w[8], const int8_t *x)
{
	__m256i v[8];

	if (kind == IQ4_NL || kind == IQ4_XS) {
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++)
			v[i] = _mm256_add_epi32(signed_dot(w[2 * i], load256(x + 64 * i)),
				signed_dot(w[2 * i + 1], load256(x + 64 * i + 32)));
		return sums_of_halves(v, 0);
	}
	if (HALVES(kind)) {
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++)
			v[i] = _mm256_add_epi16(_mm256_maddubs_epi16(w[2 * i], load256(x + 64 * i)),
				_mm256_maddubs_epi16(w[2 * i + 1], load256(x + 64 * i + 32)));
		return sums_of_halves(v, kind == Q4_0 || kind == Q4_1 || kind == Q4_K ? 2 : 1);
	}
	if (blk_of(kind) == 16) {
#pragma GCC unroll 4
		for (size_t j = 0; j < 4; j++)
			v[j] = UNPACKED(kind) ? unpacked_dot(c, w[j], load256(x + 32 * j)) :
				_mm256_maddubs_epi16(w[j], load256(x + 32 * j));
		return _mm256_permutevar8x32_epi32(sums_of_halves(v, UNPACKED(kind) ? 0 :
			kind == Q6_K ? 1 : 2), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
	}
#pragma GCC unroll 8
	for (size_t j = 0; j < 8; j++)
		v[j] = kind == Q8_0 ? signed_dot(w[j], load256(x + 32 * j)) :
			unpacked_dot(c, w[j], load256(x + 32 * j));
	for (size_t i = 0; i < 4; i++)
		v[i] = _mm256_add_epi32(_mm256_blend_epi32(v[i], v[i + 4], 0xf0),
			_mm256_permute2x128_si256(v[i], v[i + 4], 0x21));
	return sums_of_halves(v, 0);
}

/* Products of the sums s of eight blocks with scales f. */
ALWAYS void eight_products(enum kind kind, const struct codes *c, __m256i s, const struct scales *f,
	const float *d, const int32_t *sum, float *out)
{
	const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
	__m256i xs = load256(sum);
	__m256 dx, y;

	dx = blk_of(kind) == 32 ? _mm256_loadu_ps(d) :
		_mm256_permutevar_ps(_mm256_broadcast_ps((const __m128 *)d), twice);
	if (off_of(kind, c))
		s = _mm256_sub_epi32(s, _mm256_slli_epi32(xs, off_of(kind, c)));
	y = _mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_mul_ps(f->sc, dx));
	if (min_of(kind))
		y = _mm256_fnmadd_ps(f->mn, _mm256_mul_ps(_mm256_cvtepi32_ps(xs), dx), y);
	_mm256_storeu_ps(out, y);
}

/* Codes of eight blocks: those of 256 elements at p, or of half h of them. */
ALWAYS void read_eight(enum kind kind, const uint8_t *p, size_t h, __m256i w[8])
{
	if (HALVES(kind))
		read_halves(kind, p, w);
	else
		read_in_order(kind, p, NULL, h, w);
}

/* The whole 256s of a row of a kind that is read as it lies. */
ALWAYS void whole_products(enum kind kind, const struct codes *c, const uint8_t *p, size_t n256,
	const uint8_t *end, const struct gv_in *in, size_t n_tok, float *out, size_t os)
{
	const size_t blk = blk_of(kind), eight = 8 * blk, np = in->np;
	struct scales f[2];
	__m256i w[8];

	for (size_t i = 0; i < n256; i++, p += bytes256(kind)) {
		ahead(p, bytes256(kind), end);
		scales_at(kind, p, f);
		for (size_t h = 0; h < 256 / eight; h++) {
			read_eight(kind, p, h, w);
			for (size_t t = 0; t < n_tok; t++) {
				size_t b = 256 * i + h * eight, at = t * np + b;

				eight_products(kind, c, sums_of(kind, c, w, in->x + at), &f[h], in->d + at / 32,
					in->sum + at / blk, out + t * os + b / blk);
			}
		}
	}
}

/* The same for one token, the commonest: codes need not be kept until the scales are known. */
ALWAYS void whole_of_one(enum kind kind, const struct codes *c, const uint8_t *p, size_t n256,
	const uint8_t *end, const struct gv_in *in, float *out)
{
	const size_t n_eight = 32 / blk_of(kind), n_block = 8 * n_eight;
	struct scales f[2];
	__m256i w[8], s[2];

	for (size_t i = 0; i < n256; i++, p += bytes256(kind)) {
		ahead(p, bytes256(kind), end);
#pragma GCC unroll 2
		for (size_t h = 0; h < n_eight; h++) {
			read_eight(kind, p, h, w);
			s[h] = sums_of(kind, c, w, in->x + 256 * i + 128 * h);
		}
		scales_at(kind, p, f);
#pragma GCC unroll 2
		for (size_t h = 0; h < n_eight; h++)
			eight_products(kind, c, s[h], &f[h], in->d + 8 * i + 4 * h, in->sum + n_block * i + 8 * h,
				out + n_block * i + 8 * h);
	}
}

#define MANY_TOKENS

ALWAYS void products_of(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part, const struct gv_in *in, size_t n_tok, float *out, size_t os)
{
	const size_t blk = blk_of(kind), np = in->np;
	const enum kind rest = blk == 32 ? min_of(kind) ? B32_MIN : B32 :
		min_of(kind) ? B16_MIN : B16;
	size_t i = UNPACKED(kind) ? 0 : len / 256 * 256;

	if (n_tok == 1)
		whole_of_one(kind, c, row, i / 256, part.end, in, out);
	else
		whole_products(kind, c, row, i / 256, part.end, in, n_tok, out, os);
	for (; i < act8_pad(len); i += 8 * blk) { /* unpacked, then zeros */
		size_t b = i / blk;
		struct scales f = { _mm256_loadu_ps(part.sc + b), _mm256_loadu_ps(part.mn + b) };
		__m256i w[8];

		read_in_order(rest, NULL, part.code + i, 0, w);
		for (size_t t = 0; t < n_tok; t++) {
			size_t at = t * np + i;

			eight_products(rest, c, sums_of(rest, c, w, in->q + at), &f, in->d + at / 32,
				in->sum + at / blk, out + t * os + b);
		}
	}
}
