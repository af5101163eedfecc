/*
 * int8_neon.h - 8-bit products for AArch64: four rows, eight tokens at a time. Private to
 * int8_neon.c and int8_dotprod.c, which name the table and say what CPU it needs.
 *
 * Codes are made signed as they are read (less their off, all fit in a signed byte), so nothing has
 * to be taken off a sum. Without SDOT products of bytes are added in pairs to 16 bits, once: two
 * times 128 * 127 is below 2^15, because activations are never -128. All kinds that int8_kinds.h
 * names are read as they lie, 16 codes at a time.
 */
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kern/int8.h"
#include "kern/table.h"

static inline float half(uint16_t h)
{
	__fp16 f;

	memcpy(&f, &h, 2);
	return f;
}

#include "kern/int8_codes.h"

#define R 4
#define GM_TOK 8
#define OFF_LOG2(c) ((void)(c), 0)
typedef int32x4_t VI;

static inline VI vi_load(const void *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
static inline void vi_store(void *p, VI v) { vst1q_u8(p, vreinterpretq_u8_s32(v)); }
static inline VI vf_zero(void) { return vdupq_n_s32(0); }

/* a's four integers, then b's: a tile multiplies minima of one block with a token's sum of it. */
static inline VI vi_pair(VI a, VI b)
{
	return vreinterpretq_s32_s16(vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}

#define PS(v) vreinterpretq_f32_s32(v)
#define BITS(v) vreinterpretq_s32_f32(v)

static inline VI vi_minus_shifted(const int16_t *p, int log2)
{
	(void)p, (void)log2; /* codes are signed */
	return vdupq_n_s32(0);
}

static inline VI vi_int(VI v) { return vcvtnq_s32_f32(PS(v)); }

static inline VI vf_exact(VI acc, VI s, VI d, float dx)
{
	return BITS(vaddq_f32(PS(acc), vmulq_f32(vcvtq_f32_s32(s), vmulq_n_f32(PS(d), dx))));
}

static inline VI vf_exact_min(VI acc, VI s, VI d, VI m, VI dmin, float dx)
{
	float32x4_t p = vmulq_f32(vcvtq_f32_s32(s), vmulq_n_f32(PS(d), dx));

	return BITS(vaddq_f32(PS(acc), vfmsq_f32(p, vcvtq_f32_s32(m), vmulq_n_f32(PS(dmin), dx))));
}

static inline VI vf_chain(VI t, VI s, VI sc)
{
	return BITS(vfmaq_f32(PS(t), vcvtq_f32_s32(s), PS(sc)));
}

static inline VI vf_chain_min(VI v, VI mn, float x)
{
	return BITS(vfmaq_n_f32(PS(v), PS(mn), x));
}

static inline VI vf_group(VI acc, VI t, float dx)
{
	return BITS(vaddq_f32(PS(acc), vmulq_n_f32(PS(t), dx)));
}

static inline VI vf_group_min(VI acc, VI t, VI v, float dx)
{
	return vf_group(acc, BITS(vsubq_f32(PS(t), PS(v))), dx);
}

static inline VI vf_halves(VI v, int by, float unit)
{
	uint16x4_t h = vmovn_u32(vreinterpretq_u32_s32(v) >> by);

	return BITS(vmulq_n_f32(vcvt_f32_f16(vreinterpret_f16_u16(h)), unit));
}

static inline void vf_store(float *y, VI v, size_t n)
{
	float lane[4];

	if (n == 4) {
		vi_store(y, v);
		return;
	}
	vi_store(lane, v);
	memcpy(y, lane, n * 4);
}

static inline void transpose(VI v[4])
{
	int64x2_t a = vreinterpretq_s64_s32(vtrn1q_s32(v[0], v[1]));
	int64x2_t b = vreinterpretq_s64_s32(vtrn2q_s32(v[0], v[1]));
	int64x2_t c = vreinterpretq_s64_s32(vtrn1q_s32(v[2], v[3]));
	int64x2_t d = vreinterpretq_s64_s32(vtrn2q_s32(v[2], v[3]));

	v[0] = vreinterpretq_s32_s64(vtrn1q_s64(a, c));
	v[1] = vreinterpretq_s32_s64(vtrn1q_s64(b, d));
	v[2] = vreinterpretq_s32_s64(vtrn2q_s64(a, c));
	v[3] = vreinterpretq_s32_s64(vtrn2q_s64(b, d));
}

/* Lane i of the result: lane i of acc, and the products of bytes 4i .. 4i + 3. */
static inline int32x4_t dot4(int32x4_t acc, int8x16_t w, int8x16_t x)
{
#ifdef __ARM_FEATURE_DOTPROD
	return vdotq_s32(acc, w, x);
#else
	int16x8_t lo = vmull_s8(vget_low_s8(w), vget_low_s8(x)), hi = vmull_high_s8(w, x);

	return vpadalq_s16(acc, vpaddq_s16(lo, hi));
#endif
}

/* The same with four bytes of x, its lane k, for every lane of w. */
#ifdef __ARM_FEATURE_DOTPROD
#define DOT4_LANE(acc, w, x, k) vdotq_laneq_s32(acc, w, x, k)
#else
#define DOT4_LANE(acc, w, x, k) dot4(acc, w, \
	vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), k)))
#endif

#include "kern/int8_kinds.h"

/* ---- scales ---- */

/* Integer scales and minima of 256 elements: the first 256 / blk are there. */
struct ints { int32x4_t sc[4]; int16x8_t mn[2]; };

ALWAYS void widen(int16x8_t v, int32x4_t out[2])
{
	out[0] = vmovl_s16(vget_low_s16(v));
	out[1] = vmovl_high_s16(v);
}

ALWAYS void widen_bytes(int8x16_t v, int32x4_t out[4])
{
	widen(vmovl_s8(vget_low_s8(v)), out);
	widen(vmovl_high_s8(v), out + 2);
}

ALWAYS int16x8_t eight_bytes(uint32_t b0, uint32_t b1)
{
	return vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(b0 | (uint64_t)b1 << 32)));
}

/* Four at a time in the bytes of a word. */
ALWAYS struct ints neon_k_scales(const uint8_t *p)
{
	const uint32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, top = 0x30303030;
	const uint32_t s[3] = { rd32(p + 4), rd32(p + 8), rd32(p + 12) };
	struct ints k;

	widen(eight_bytes(s[0] & six, (s[2] & four) | (s[0] >> 2 & top)), k.sc);
	k.mn[0] = eight_bytes(s[1] & six, (s[2] >> 4 & four) | (s[1] >> 2 & top));
	return k;
}

/* Low bits in four bytes, high ones in two. */
ALWAYS int16x8_t iq4_xs_scales(const uint8_t *p)
{
	static const int16_t down[8] = { 0, -2, -4, -6, -8, -10, -12, -14 };
	uint8x8_t low = vcreate_u8(rd32(p + 2));
	uint16x8_t high = vandq_u16(vshlq_u16(vdupq_n_u16(rd16(p)), vld1q_s16(down)), vdupq_n_u16(3));

	low = vzip1_u8(vand_u8(low, vdup_n_u8(15)), vshr_n_u8(low, 4));
	high = vorrq_u16(vmovl_u8(low), vshlq_n_u16(high, 4));
	return vsubq_s16(vreinterpretq_s16_u16(high), vdupq_n_s16(32));
}

/* Sixteen scales of six bits, in twelve bytes. */
ALWAYS int8x16_t q3_k_scales(const uint8_t *p)
{
	static const int32_t down[4] = { 0, -2, -4, -6 };
	uint8x8_t low = vld1_u8(p);
	uint32x4_t high = vshlq_u32(vdupq_n_u32(rd32(p + 8)), vld1q_s32(down));
	uint8x16_t s = vandq_u8(vreinterpretq_u8_u32(high), vdupq_n_u8(3));

	s = vorrq_u8(vshlq_n_u8(s, 4), vcombine_u8(vand_u8(low, vdup_n_u8(15)), vshr_n_u8(low, 4)));
	return vsubq_s8(vreinterpretq_s8_u8(s), vdupq_n_s8(32));
}

/* Of the 256 elements at p; unpacked: from the floats at sc and mn. */
ALWAYS struct ints ints_at(enum kind kind, const uint8_t *p, const float *sc, const float *mn)
{
	struct ints k;
	uint8x16_t v;

	switch (kind) {
	case Q4_K: case Q5_K:
		return neon_k_scales(p);
	case IQ4_XS:
		widen(iq4_xs_scales(p + 2), k.sc);
		break;
	case Q6_K:
		widen_bytes(vreinterpretq_s8_u8(vld1q_u8(p + 192)), k.sc);
		break;
	case Q2_K:
		v = vld1q_u8(p);
		widen_bytes(vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15))), k.sc);
		v = vshrq_n_u8(v, 4);
		k.mn[0] = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(v)));
		k.mn[1] = vreinterpretq_s16_u16(vmovl_high_u8(v));
		break;
	case Q3_K:
		widen_bytes(q3_k_scales(p + 96), k.sc);
		break;
	default:
		for (size_t i = 0; i < 64 / blk_of(kind); i++)
			k.sc[i] = vcvtnq_s32_f32(vld1q_f32(sc + 4 * i));
		for (size_t i = 0; min_of(kind) && i < 32 / blk_of(kind); i++)
			k.mn[i] = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(vld1q_f32(mn + 8 * i))),
				vmovn_s32(vcvtnq_s32_f32(vld1q_f32(mn + 8 * i + 4))));
	}
	return k;
}

/* Scales and minima in floating point, of the kinds that are read as they lie. */
ALWAYS void scales(enum kind kind, const struct codes *c, const uint8_t *row, size_t len, float *sc,
	float *mn)
{
	const size_t bytes = bytes256(kind) / 8;

	(void)c;
	if (UNPACKED(kind) || exact_of(kind))
		return;
	for (size_t b = 0; b < len / 32; b++, row += bytes) {
		sc[b] = kind == MXFP4 ? mxfp4_scale(row[0]) : half(rd16(row));
		if (min_of(kind))
			mn[b] = -half(rd16(row + 2));
	}
}

/* ---- codes ---- */

/* Unpacked codes less their off: signed from here on. */
static void make_signed(uint8_t *code, size_t n, unsigned off_log2)
{
	uint8x16_t off = vdupq_n_u8((uint8_t)(1u << off_log2));

	for (size_t i = 0; i < n; i += 16)
		vst1q_u8(code + i, vsubq_u8(vld1q_u8(code + i), off));
}

ALWAYS void prepare(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part)
{
	if (!UNPACKED(kind)) {
		scales(kind, c, row, len, part.sc, part.mn);
		return;
	}
	c->fn(row, len, part.code, part.sc, part.mn);
	if (!min_of(kind))
		make_signed(part.code, len, c->off_log2);
}

/* The low nibbles of 16 bytes, or the high ones. */
ALWAYS uint8x16_t nibble(const uint8_t *p, int high)
{
	uint8x16_t v = vld1q_u8(p);

	return high ? vshrq_n_u8(v, 4) : vandq_u8(v, vdupq_n_u8(15));
}

/* Bits n .. of 16 bytes, moved to bit `to` and masked. */
ALWAYS uint8x16_t some_bits(const uint8_t *p, int n, int to, uint8_t mask)
{
	uint8x16_t v = vld1q_u8(p);

	return vandq_u8(n > to ? v >> (n - to) : v << (to - n), vdupq_n_u8(mask));
}

/* 16 where bit j of the 16 at p is set */
ALWAYS uint8x16_t fifth_bit(const uint8_t *p)
{
	uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));

	return vandq_u8(vtstq_u8(vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1])), bit), vdupq_n_u8(16));
}

/* What nibbles stand for, less off. */
ALWAYS uint8x16_t looked_up16(const uint8_t table[16], uint8_t off, uint8x16_t v)
{
	return vqtbl1q_u8(vsubq_u8(vld1q_u8(table), vdupq_n_u8(off)), v);
}

/* Codes 16 j .. 16 j + 15 (j < 16) of 256 that lie at p, or unpacked at code. */
ALWAYS VI fetch(enum kind kind, const uint8_t *p, const uint8_t *code, size_t j)
{
	const size_t b = j / 2, h = j % 2; /* block of 32, its half */
	const int t = (int)(j % 8 / 2);    /* its number in 128 */
	uint8x16_t v;

	switch (kind) {
	case Q8_0:
		v = vld1q_u8(p + 34 * b + 2 + 16 * h);
		break;
	case Q4_0:
		v = vsubq_u8(nibble(p + 18 * b + 2, h), vdupq_n_u8(8));
		break;
	case Q4_1:
		v = nibble(p + 20 * b + 4, h);
		break;
	case Q5_0:
		v = vorrq_u8(nibble(p + 22 * b + 6, h), fifth_bit(p + 22 * b + 2 + 2 * h));
		v = vsubq_u8(v, vdupq_n_u8(16));
		break;
	case Q5_1:
		v = vorrq_u8(nibble(p + 24 * b + 8, h), fifth_bit(p + 24 * b + 4 + 2 * h));
		break;
	case IQ4_NL:
		v = looked_up16(iq4_table, 128, nibble(p + 18 * b + 2, h));
		break;
	case IQ4_XS:
		v = looked_up16(iq4_table, 128, nibble(p + 8 + 16 * b, h));
		break;
	case MXFP4:
		v = looked_up16(mxfp4_codes, 16, nibble(p + 17 * b + 1, h));
		break;
	case Q4_K:
		v = nibble(p + 16 + 32 * (b / 2) + 16 * h, b % 2);
		break;
	case Q5_K:
		v = vorrq_u8(nibble(p + 48 + 32 * (b / 2) + 16 * h, b % 2),
			some_bits(p + 16 + 16 * h, (int)b, 4, 16));
		break;
	case Q6_K:
		v = vorrq_u8(nibble(p + 64 * (j / 8) + 32 * (t % 2) + 16 * h, t >= 2),
			some_bits(p + 128 + 32 * (j / 8) + 16 * h, 2 * t, 4, 0x30));
		v = vsubq_u8(v, vdupq_n_u8(32));
		break;
	case Q2_K:
		v = some_bits(p + 16 + 32 * (j / 8) + 16 * h, 2 * t, 0, 3);
		break;
	case Q3_K:
		v = vorrq_u8(some_bits(p + 32 + 32 * (j / 8) + 16 * h, 2 * t, 0, 3),
			some_bits(p + 16 * h, (int)(j / 8) * 4 + t, 2, 4));
		v = vsubq_u8(v, vdupq_n_u8(4));
		break;
	default:
		v = vld1q_u8(code + 16 * j);
	}
	return vreinterpretq_s32_u8(v);
}

/* ---- decode ---- */

/* Integer sums of four blocks of each * 16 elements. */
ALWAYS int32x4_t four(size_t each, const int8x16_t *w, const int8_t *x)
{
	int32x4_t s[4];

#pragma GCC unroll 4
	for (size_t b = 0; b < 4; b++) {
		s[b] = vdupq_n_s32(0);
#pragma GCC unroll 2
		for (size_t k = each * b; k < each * (b + 1); k++)
			s[b] = dot4(s[b], w[k], vld1q_s8(x + 16 * k));
	}
	return vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
}

/* Elements i .. i + 255 of a row, of which n times 16 are there, with each token. */
ALWAYS void group(enum kind kind, const uint8_t *row, struct part part, size_t i, size_t n,
	const struct gv_in *in, size_t n_tok, int32_t *out, size_t os)
{
	const size_t blk = blk_of(kind), b = i / blk, np = in->np;
	const uint8_t *p = row + i / 256 * bytes256(kind);
	struct ints k;
	int8x16_t w[16];

#pragma GCC unroll 16
	for (size_t j = 0; j < 16; j++)
		w[j] = j < n ? vreinterpretq_s8_s32(fetch(kind, p, part.code + i, j)) : vdupq_n_s8(0);
	if (exact_of(kind))
		k = ints_at(kind, p, part.sc + b, part.mn + b);
	for (size_t t = 0; t < n_tok; t++) {
		const int16_t *xsum = in->sum + t * np / blk + b;
		int32x4_t s = vdupq_n_s32(0), m = s;

#pragma GCC unroll 4
		for (size_t g = 0; g < 64 / blk; g++) {
			int32x4_t v = four(blk / 16, w + g * blk / 4, in->q + t * np + i + 4 * g * blk);

			if (exact_of(kind))
				s = vmlaq_s32(s, v, k.sc[g]);
			else
				vst1q_s32(out + t * os + b + 4 * g, v);
		}
		if (!exact_of(kind))
			continue;
		for (size_t g = 0; min_of(kind) && g < 32 / blk; g++) {
			int16x8_t xs = vld1q_s16(xsum + 8 * g);

			m = vmlal_s16(m, vget_low_s16(k.mn[g]), vget_low_s16(xs));
			m = vmlal_high_s16(m, k.mn[g], xs);
		}
		s = vpaddq_s32(s, m);
		vst1_s32(out + t * os + i / 128, vget_low_s32(vpaddq_s32(s, s)));
	}
}

ALWAYS void groups(enum kind kind, const uint8_t *row, size_t len, struct part part,
	const struct gv_in *in, size_t n_tok, int32_t *out, size_t os)
{
	size_t i = 0, b;

	for (; i + 256 <= len; i += 256)
		group(kind, row, part, i, 16, in, n_tok, out, os);
	if (exact_of(kind))
		return;
	if (i < len) {
		group(kind, row, part, i, (len - i) / 16, in, n_tok, out, os);
		i += 256;
	}
	b = i / blk_of(kind);
	for (size_t t = 0; t < n_tok; t++)
		memset(out + t * os + b, 0, (act8_pad(len) / blk_of(kind) - b) * 4);
}

ALWAYS void sums_of_row(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part, const struct gv_in *in, size_t n_tok, int32_t *out, size_t os)
{
	(void)c;
	if (n_tok == 1) /* without a loop over tokens nothing is kept for the next one */
		groups(kind, row, len, part, in, 1, out, os);
	else
		groups(kind, row, len, part, in, n_tok, out, os);
}

/* ---- prefill ---- */


/* Integer scales and minima of 256 elements at `at` of four rows, turned to a lane per row. */
ALWAYS void fill_ints(enum kind kind, const uint8_t *const row[R], size_t at, float (*sct)[R],
	int16_t (*mpt)[R][2])
{
	struct ints k[R];

	for (size_t r = 0; r < R; r++)
		k[r] = ints_at(kind, row[r] + at, NULL, NULL);
	for (size_t i = 0; i < 64 / blk_of(kind); i++) {
		VI v[R] = { k[0].sc[i], k[1].sc[i], k[2].sc[i], k[3].sc[i] };

		transpose(v);
		for (size_t j = 0; j < R; j++)
			vi_store(sct[R * i + j], v[j]);
	}
	for (size_t i = 0; min_of(kind) && i < 32 / blk_of(kind); i++) {
		VI v[R];

		for (size_t r = 0; r < R; r++)
			v[r] = vreinterpretq_s32_s16(k[r].mn[i]);
		transpose(v);
		for (size_t j = 0; j < R; j++)
			vi_store(mpt[R * i + j], vi_pair(v[j], vshrq_n_s32(v[j], 16)));
	}
}

/* What of a tile could be filled, of four rows of len elements. */
ALWAYS int fill_raw(enum kind kind, const uint8_t *const row[R], size_t len, uint8_t (*tile)[R][4],
	float (*sct)[R], float (*mnt)[R], int16_t (*mpt)[R][2], uint32_t (*halves)[R])
{
	const size_t per = 256 / blk_of(kind);

	(void)mnt, (void)halves;
	if (UNPACKED(kind))
		return 0;
	for (size_t i = 0; i < len; i += 256) {
		const size_t at = i / 256 * bytes256(kind);

#pragma GCC unroll 16
		for (size_t j = 0; j < 16; j++) {
			VI v[R];

			if (i + 16 * j >= len)
				break;
			for (size_t r = 0; r < R; r++)
				v[r] = fetch(kind, row[r] + at, NULL, j);
			transpose(v);
			for (size_t k = 0; k < R; k++)
				vi_store(tile[i / 4 + R * j + k], v[k]);
		}
		if (exact_of(kind))
			fill_ints(kind, row, at, sct + i / 256 * per, mpt + i / 256 * per / 2);
	}
	return exact_of(kind) ? FILLED_CODES | FILLED_SCALES : FILLED_CODES;
}

#include "kern/int8_body.h"
#include "kern/int8_few.h"

/* How a tile weighs its blocks' sums: by integers, with integer minima or without, or by floats. */
enum by { INTS, INTS_MIN, FLOATS, FLOATS_MIN };

/* m + the products of eight blocks' minima, as vi_pair lays them, with sums of activations */
ALWAYS int32x4_t eight_minima(int32x4_t m, const int16_t (*mp)[1][R][2], int16x8_t xs)
{
	int16x8_t p[4];

	for (size_t i = 0; i < 4; i++)
		p[i] = vreinterpretq_s16_s32(vi_load(mp[i]));
	m = vmlal_laneq_s16(m, vget_low_s16(p[0]), xs, 0);
	m = vmlal_high_laneq_s16(m, p[0], xs, 1);
	m = vmlal_laneq_s16(m, vget_low_s16(p[1]), xs, 2);
	m = vmlal_high_laneq_s16(m, p[1], xs, 3);
	m = vmlal_laneq_s16(m, vget_low_s16(p[2]), xs, 4);
	m = vmlal_high_laneq_s16(m, p[2], xs, 5);
	m = vmlal_laneq_s16(m, vget_low_s16(p[3]), xs, 6);
	return vmlal_high_laneq_s16(m, p[3], xs, 7);
}

/* acc continues with group k of token t, of which u holds S, or T. */
ALWAYS VI one_group(enum by by, size_t blk, const struct gm *g, size_t k, const struct gm_in *in,
	size_t t, VI u, VI acc)
{
	const size_t per = 256 / blk, b = k * per;
	const float dx = in->d[t * (in->np / 256) + k];
	VI d, m = vf_zero();

	if (by == FLOATS)
		return vf_group(acc, u, dx);
	if (by == FLOATS_MIN) {
		for (size_t i = b; i < b + per; i++)
			m = vf_chain_min(m, vi_load(g->mnt[i][0]), g->sx[t][i]);
		return vf_group_min(acc, u, m, dx);
	}
	d = vi_load(g->dt[k][0]);
	if (by == INTS)
		return vf_exact(acc, u, d, dx);
	for (size_t i = b; i < b + per; i += 8)
		m = eight_minima(m, g->mpt + i / 2, vld1q_s16(in->sum + t * (in->np / blk) + i));
	return vf_exact_min(acc, u, d, m, vi_load(g->dmt[k][0]), dx);
}

/* nt tokens against the tile: y[t][0..3] continues its sum (from 0 if first). */
ALWAYS void tile(const size_t nt, const size_t blk, const enum by by, const struct gm *g,
	size_t n256, const struct gm_in *in, float *y, size_t ys, size_t nr, int first)
{
	const size_t np = in->np, per = 256 / blk;
	VI acc[GM_TOK];

	for (size_t t = 0; t < nt; t++) {
		float was[4] = { 0 };

		if (!first)
			memcpy(was, y + t * ys, nr * 4);
		acc[t] = vi_load(was);
	}
	for (size_t k = 0; k < n256; k++) {
		VI u[GM_TOK];

		for (size_t t = 0; t < nt; t++)
			u[t] = vdupq_n_s32(0);
		for (size_t b = k * per; b < (k + 1) * per; b++) {
			const uint8_t (*w)[1][R][4] = g->tile + b * (blk / 4);
			const int8_t *q = in->q + b * blk;
			VI sc = vi_load(g->sct[b][0]), s[GM_TOK];

			for (size_t t = 0; t < nt; t++)
				s[t] = vdupq_n_s32(0);
			for (size_t j = 0; j < blk / 4; j += 4) {
				int8x16_t w0 = vreinterpretq_s8_s32(vi_load(w[j]));
				int8x16_t w1 = vreinterpretq_s8_s32(vi_load(w[j + 1]));
				int8x16_t w2 = vreinterpretq_s8_s32(vi_load(w[j + 2]));
				int8x16_t w3 = vreinterpretq_s8_s32(vi_load(w[j + 3]));

				for (size_t t = 0; t < nt; t++) {
					int8x16_t x = vld1q_s8(q + t * np + 4 * j);

					s[t] = DOT4_LANE(s[t], w0, x, 0);
					s[t] = DOT4_LANE(s[t], w1, x, 1);
					s[t] = DOT4_LANE(s[t], w2, x, 2);
					s[t] = DOT4_LANE(s[t], w3, x, 3);
				}
			}
			for (size_t t = 0; t < nt; t++)
				u[t] = by >= FLOATS ? vf_chain(u[t], s[t], sc) : vmlaq_s32(u[t], s[t], sc);
		}
		for (size_t t = 0; t < nt; t++)
			acc[t] = one_group(by, blk, g, k, in, t, u[t], acc[t]);
	}
	for (size_t t = 0; t < nt; t++)
		vf_store(y + t * ys, acc[t], nr);
}

#define T(nt, blk, by) tile(nt, blk, by, g, n256, in, y, ys, nr, first)
#define TILE(nt) \
static void tile##nt(const struct codes *c, const struct gm *g, size_t n256, \
	const struct gm_in *in, float *y, size_t ys, size_t nr, int first) \
{ \
	if (c->blk == 32 && exact(c)) { \
		if (c->has_min) \
			T(nt, 32, INTS_MIN); \
		else \
			T(nt, 32, INTS); \
	} else if (c->blk == 32) { \
		if (c->has_min) \
			T(nt, 32, FLOATS_MIN); \
		else \
			T(nt, 32, FLOATS); \
	} else if (exact(c)) { \
		if (c->has_min) \
			T(nt, 16, INTS_MIN); \
		else \
			T(nt, 16, INTS); \
	} else { \
		T(nt, 16, FLOATS); \
	} \
}
TILE(8)
TILE(4)
TILE(2)
TILE(1)

static void gemm(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
	struct act8 a, size_t n_tok, float *y, size_t ys, const void *next,
	void *scratch)
{
	static const struct tile tiles[] = { { 8, tile8, 1 }, { 4, tile4, 1 }, { 2, tile2, 1 },
		{ 1, tile1, 1 } };

	gemm_body(tiles, type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, next, scratch);
}

/* ---- activations ---- */

/* 256 values */
static void round_group(const float *x, int8_t *q, float *d, int16_t *sum16, int16_t *sum32)
{
	const uint32x4_t mask = vdupq_n_u32(0x7fffffff);
	uint32x4_t top = vdupq_n_u32(0);
	uint32_t bits;
	float amax, inv = 0; /* times which everything is 0 or a NaN, and has no code */

	for (size_t i = 0; i < 256; i += 4)
		top = vmaxq_u32(top, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), mask));
	bits = vmaxvq_u32(top);
	memcpy(&amax, &bits, 4);
	*d = bits >= 0x7f800000 ? NAN : 0;
	if (bits < 0x7f800000 && amax >= 0x1p-100f) {
		*d = amax / 127.0f;
		inv = 127.0f / amax;
	}
	for (size_t b = 0; b < 16; b++, x += 16) {
		int32x4_t i[4];
		int16x8_t lo, hi;

		for (size_t j = 0; j < 4; j++) /* to nearest even; of a NaN: 0 */
			i[j] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * j), inv));
		lo = vcombine_s16(vmovn_s32(i[0]), vmovn_s32(i[1]));
		hi = vcombine_s16(vmovn_s32(i[2]), vmovn_s32(i[3]));
		vst1q_s8(q + 16 * b, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
		sum16[b] = vaddvq_s16(vaddq_s16(lo, hi));
	}
	for (size_t b = 0; b < 8; b++)
		sum32[b] = (int16_t)(sum16[2 * b] + sum16[2 * b + 1]);
}

static void round_rows(const float *x, size_t xs, size_t n, size_t r0, size_t r1, struct act8 a)
{
	size_t np = act8_pad(n);

	for (size_t r = r0; r < r1; r++) {
		struct act8 o = act8_at(a, n, r);

		for (size_t i = 0; i < np; i += 256) {
			const float *from = x + r * xs + (i < n ? i : 0);
			float last[256];

			if (i + 256 > n) { /* zeros behind a row that ends in here, or before */
				memset(last, 0, sizeof last);
				memcpy(last, from, i < n ? (n - i) * 4 : 0);
				from = last;
			}
			round_group(from, o.q + i, o.d + i / 256, o.sum16 + i / 16, o.sum32 + i / 32);
		}
	}
}

const struct int8_kern INT8_TABLE = { INT8_NAME, supported, round_rows, gemm };
