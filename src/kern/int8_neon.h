/*
 * int8_neon.h - 8-bit products for AArch64: four rows, eight tokens at a time. Private to int8_neon.c
 * and int8_dotprod.c, which name the table and say what CPU it needs.
 *
 * Codes are made signed as they are read (less their off, all fit in a signed byte), so nothing has
 * to be taken off a sum. Without SDOT products of bytes are added in pairs to 16 bits, once: two
 * times 128 * 127 is below 2^15, because activations are never -128.
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

/* How a row is read: unpacked first (elements that share a scale, with minimum or without), or as it
 * lies, 16 codes at a time. */
enum kind { B32, B32_MIN, B16, B16_MIN, Q8_0, Q4_0, Q4_1, IQ4_NL, MXFP4, Q4_K, Q5_K, Q6_K };
#define KINDS X(B32) X(B32_MIN) X(B16) X(B16_MIN) X(Q8_0) X(Q4_0) X(Q4_1) X(IQ4_NL) X(MXFP4) \
	X(Q4_K) X(Q5_K) X(Q6_K)
#define UNPACKED(kind) ((kind) <= B16_MIN)
#define BLOCK(kind) ((kind) == B16 || (kind) == B16_MIN || (kind) == Q6_K ? 16 : 32)
#define HAS_MIN(kind) ((kind) == B32_MIN || (kind) == B16_MIN || (kind) == Q4_1 || (kind) == Q4_K || \
	(kind) == Q5_K)

static inline VI vi_load(const void *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
static inline void vi_store(void *p, VI v) { vst1q_u8(p, vreinterpretq_u8_s32(v)); }
static inline VI vf_zero(void) { return vdupq_n_s32(0); }

static inline VI vf_add(VI a, VI b)
{
	return vreinterpretq_s32_f32(vaddq_f32(vreinterpretq_f32_s32(a), vreinterpretq_f32_s32(b)));
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
	return vpadalq_s16(acc, vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x)));
#endif
}

/* The same with four bytes of x, its lane k, for every lane of w. */
#ifdef __ARM_FEATURE_DOTPROD
#define DOT4_LANE(acc, w, x, k) vdotq_laneq_s32(acc, w, x, k)
#else
#define DOT4_LANE(acc, w, x, k) dot4(acc, w, \
	vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), k)))
#endif

/* ---- reading rows ---- */

static enum kind kind_of(uint32_t type, size_t len)
{
	static const enum kind direct[QT_MAX] = { [QT_Q8_0] = Q8_0, [QT_Q4_0] = Q4_0, [QT_Q4_1] = Q4_1,
		[QT_IQ4_NL] = IQ4_NL, [QT_MXFP4] = MXFP4, [QT_Q4_K] = Q4_K, [QT_Q5_K] = Q5_K, [QT_Q6_K] = Q6_K };

	(void)len;
	if (direct[type])
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
	case MXFP4: return 8 * 17;
	case Q4_K: return 144;
	case Q5_K: return 176;
	case Q6_K: return 210;
	default: return 0;
	}
}

static inline void eight_floats(float *out, float d, uint32_t b0, uint32_t b1)
{
	uint16x8_t v = vmovl_u8(vcreate_u8(b0 | (uint64_t)b1 << 32));

	vst1q_f32(out, vmulq_n_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(v))), d));
	vst1q_f32(out + 4, vmulq_n_f32(vcvtq_f32_u32(vmovl_high_u16(v)), d));
}

/* The eight scales and minima of Q4_K and Q5_K, four at a time in the bytes of a word. */
static inline void neon_k_scales(const uint8_t *p, float *sc, float *mn)
{
	const uint32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, top = 0x30303030;
	uint32_t s[3];

	memcpy(s, p + 4, 12);
	eight_floats(sc, half(rd16(p)), s[0] & six, (s[2] & four) | (s[0] >> 2 & top));
	eight_floats(mn, half(rd16(p + 2)), s[1] & six, (s[2] >> 4 & four) | (s[1] >> 2 & top));
}

static inline void q6_scales(const uint8_t *p, float *sc)
{
	float d = half(rd16(p + 208));
	int8x16_t s = vreinterpretq_s8_u8(vld1q_u8(p + 192));
	int16x8_t lo = vmovl_s8(vget_low_s8(s)), hi = vmovl_high_s8(s);

	vst1q_f32(sc, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), d));
	vst1q_f32(sc + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(lo)), d));
	vst1q_f32(sc + 8, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), d));
	vst1q_f32(sc + 12, vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(hi)), d));
}

/* Unpacked codes less their off: signed from here on. */
static void make_signed(uint8_t *code, size_t n, unsigned off_log2)
{
	uint8x16_t off = vdupq_n_u8((uint8_t)(1u << off_log2));

	for (size_t i = 0; i < n; i += 16)
		vst1q_u8(code + i, vsubq_u8(vld1q_u8(code + i), off));
}

/* Scales and minima of the kinds that are read as they lie. */
ALWAYS void scales(enum kind kind, const struct codes *c, const uint8_t *row, size_t len, float *sc,
	float *mn)
{
	(void)c;
	switch (kind) {
	case Q8_0: case Q4_0: case IQ4_NL:
		for (size_t b = 0; b < len / 32; b++)
			sc[b] = half(rd16(row + bytes256(kind) / 8 * b));
		break;
	case Q4_1:
		for (size_t b = 0; b < len / 32; b++) {
			sc[b] = half(rd16(row + 20 * b));
			mn[b] = -half(rd16(row + 20 * b + 2));
		}
		break;
	case MXFP4:
		for (size_t b = 0; b < len / 32; b++)
			sc[b] = mxfp4_scale(row[17 * b]);
		break;
	case Q4_K: case Q5_K:
		for (size_t i = 0; i < len / 256; i++)
			neon_k_scales(row + i * bytes256(kind), sc + 8 * i, mn + 8 * i);
		break;
	case Q6_K:
		for (size_t i = 0; i < len / 256; i++)
			q6_scales(row + 210 * i, sc + 16 * i);
		break;
	default:
		break;
	}
}

ALWAYS void prepare(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part)
{
	if (!UNPACKED(kind)) {
		scales(kind, c, row, len, part.sc, part.mn);
		return;
	}
	c->fn(row, len, part.code, part.sc, part.mn);
	if (!HAS_MIN(kind))
		make_signed(part.code, len, c->off_log2);
}

/* The low nibbles of 16 bytes, or the high ones. */
ALWAYS uint8x16_t nibble(const uint8_t *p, int high)
{
	uint8x16_t v = vld1q_u8(p);

	return high ? vshrq_n_u8(v, 4) : vandq_u8(v, vdupq_n_u8(15));
}

/* Bits n .. of 16 bytes, moved to bit 4 and masked. */
ALWAYS uint8x16_t upper_bits(const uint8_t *p, size_t n, uint8_t mask)
{
	return vandq_u8(vshlq_u8(vld1q_u8(p), vdupq_n_s8((int8_t)(4 - (int)n))), vdupq_n_u8(mask));
}

/* Codes 16 j .. 16 j + 15 (j < 16) of 256 that lie at p, or unpacked at code. */
ALWAYS VI fetch(enum kind kind, const uint8_t *p, const uint8_t *code, size_t j)
{
	static const uint8_t mxfp4[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, 255, 254, 253, 252, 250, 248, 244 };
	const size_t b = j / 2, h = j % 2, t = j % 8 / 2; /* block of 32, its half; its number in 128 */
	uint8x16_t v = vdupq_n_u8(0);

	switch (kind) {
	case B32: case B32_MIN: case B16: case B16_MIN:
		v = vld1q_u8(code + 16 * j);
		break;
	case Q8_0:
		v = vld1q_u8(p + 34 * b + 2 + 16 * h);
		break;
	case Q4_0:
		v = vsubq_u8(nibble(p + 18 * b + 2, h), vdupq_n_u8(8));
		break;
	case Q4_1:
		v = nibble(p + 20 * b + 4, h);
		break;
	case IQ4_NL:
		v = vsubq_u8(vqtbl1q_u8(vld1q_u8(iq4_table), nibble(p + 18 * b + 2, h)), vdupq_n_u8(128));
		break;
	case MXFP4:
		v = vqtbl1q_u8(vld1q_u8(mxfp4), nibble(p + 17 * b + 1, h));
		break;
	case Q4_K:
		v = nibble(p + 16 + 32 * (b / 2) + 16 * h, b % 2);
		break;
	case Q5_K:
		v = vorrq_u8(nibble(p + 48 + 32 * (b / 2) + 16 * h, b % 2), upper_bits(p + 16 + 16 * h, b, 16));
		break;
	case Q6_K:
		v = vorrq_u8(nibble(p + 64 * (j / 8) + 32 * (t % 2) + 16 * h, t >= 2),
			upper_bits(p + 128 + 32 * (j / 8) + 16 * h, 2 * t, 0x30));
		v = vsubq_u8(v, vdupq_n_u8(32));
		break;
	}
	return vreinterpretq_s32_u8(v);
}

/* ---- decode ---- */

/* Four products, blocks 4 g .. 4 g + 3 of 256 elements at p, of which n are there. */
ALWAYS float32x4_t four(enum kind kind, const uint8_t *p, const uint8_t *code, size_t g, size_t n,
	const float *sc, const float *mn, const int8_t *q, const float *d, const int32_t *sum)
{
	const size_t each = BLOCK(kind) / 16;
	float32x4_t dx, y;
	int32x4_t s[4];

#pragma GCC unroll 4
	for (size_t b = 0; b < 4; b++) {
		s[b] = vdupq_n_s32(0);
		if (b >= n)
			continue;
#pragma GCC unroll 2
		for (size_t k = each * b; k < each * (b + 1); k++)
			s[b] = dot4(s[b], vreinterpretq_s8_s32(fetch(kind, p, code, 4 * each * g + k)),
				vld1q_s8(q + 16 * k));
	}
	s[0] = vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
	if (BLOCK(kind) == 32) {
		dx = vld1q_f32(d);
	} else {
		float32x2_t two = vld1_f32(d);

		dx = vcombine_f32(vdup_lane_f32(two, 0), vdup_lane_f32(two, 1));
	}
	y = vmulq_f32(vcvtq_f32_s32(s[0]), vmulq_f32(vld1q_f32(sc), dx));
	if (HAS_MIN(kind))
		y = vfmsq_f32(y, vld1q_f32(mn), vmulq_f32(vcvtq_f32_s32(vld1q_s32(sum)), dx));
	return y;
}

ALWAYS void products(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part, const int8_t *q, const float *d, const int32_t *sum, float *out)
{
	const size_t blk = BLOCK(kind), groups = 256 / (4 * blk);
	size_t i = 0, b = 0;

	(void)c;
	for (; i + 256 <= len; i += 256)
#pragma GCC unroll 4
		for (size_t g = 0; g < groups; g++, b += 4)
			vst1q_f32(out + b, four(kind, row + i / 256 * bytes256(kind), part.code + i, g, 4,
				part.sc + b, part.mn + b, q + blk * b, d + blk * b / 32, sum + b));
	for (; i < len; i += 4 * blk, b += 4) { /* the rest of a row, then zeros */
		size_t n = (len - i) / blk < 4 ? (len - i) / blk : 4;

		vst1q_f32(out + b, four(kind, row + i / 256 * bytes256(kind), part.code + i / 256 * 256,
			i % 256 / (4 * blk), n, part.sc + b, part.mn + b, q + i, d + i / 32, sum + b));
	}
	memset(out + b, 0, (act8_pad(len) / blk - b) * 4);
}

/* ---- prefill ---- */

#define FILL_RAW
#define FILLED_CODES 1
#define FILLED_SCALES 2

/* The codes of four rows of len elements, turned to a lane per row; 0: they must be unpacked first. */
ALWAYS int fill_raw(enum kind kind, const uint8_t *const row[R], size_t len, uint8_t (*tile)[R][4],
	float (*sct)[R], float (*mnt)[R])
{
	(void)sct, (void)mnt;
	if (UNPACKED(kind))
		return 0;
	for (size_t i = 0; i < len; i += 256) {
#pragma GCC unroll 16
		for (size_t j = 0; j < 16; j++) {
			VI v[R];

			if (i + 16 * j >= len)
				break;
			for (size_t r = 0; r < R; r++)
				v[r] = fetch(kind, row[r] + i / 256 * bytes256(kind), NULL, j);
			transpose(v);
			for (size_t k = 0; k < R; k++)
				vi_store(tile[i / 4 + R * j + k], v[k]);
		}
	}
	return FILLED_CODES;
}

#include "kern/int8_body.h"

/* nt tokens against the tile: y[t][0..3] continues its sum (from 0 if first). */
ALWAYS void tile(const size_t nt, const size_t blk, const int min, const struct gm *g, size_t n_block,
	const int8_t *q, const float *d, const float *sx, size_t sxs, size_t np, float *y, size_t ys,
	size_t nr, int first)
{
	float32x4_t acc[GM_TOK];

	for (size_t t = 0; t < nt; t++) {
		float was[4] = { 0 };

		if (!first)
			memcpy(was, y + t * ys, nr * 4);
		acc[t] = vld1q_f32(was);
	}
	for (size_t b = 0; b < n_block; b++) {
		const uint8_t (*w)[1][R][4] = g->tile + b * (blk / 4);
		const int8_t *qb = q + b * blk;
		float32x4_t sc = vld1q_f32(g->sct[b][0]), mn = min ? vld1q_f32(g->mnt[b][0]) : sc;
		int32x4_t s[GM_TOK];

		for (size_t t = 0; t < nt; t++)
			s[t] = vdupq_n_s32(0);
		for (size_t j = 0; j < blk / 4; j += 4) {
			int8x16_t w0 = vreinterpretq_s8_s32(vi_load(w[j])), w1 = vreinterpretq_s8_s32(vi_load(w[j + 1]));
			int8x16_t w2 = vreinterpretq_s8_s32(vi_load(w[j + 2])), w3 = vreinterpretq_s8_s32(vi_load(w[j + 3]));

			for (size_t t = 0; t < nt; t++) {
				int8x16_t x = vld1q_s8(qb + t * np + 4 * j);

				s[t] = DOT4_LANE(s[t], w0, x, 0);
				s[t] = DOT4_LANE(s[t], w1, x, 1);
				s[t] = DOT4_LANE(s[t], w2, x, 2);
				s[t] = DOT4_LANE(s[t], w3, x, 3);
			}
		}
		for (size_t t = 0; t < nt; t++) {
			float32x4_t dx = vdupq_n_f32(d[t * (np / 32) + b * blk / 32]);
			float32x4_t p = vmulq_f32(vcvtq_f32_s32(s[t]), vmulq_f32(sc, dx));

			if (min)
				p = vfmsq_f32(p, mn, vdupq_n_f32(sx[t * sxs + b]));
			acc[t] = vaddq_f32(acc[t], p);
		}
	}
	for (size_t t = 0; t < nt; t++)
		vf_store(y + t * ys, vreinterpretq_s32_f32(acc[t]), nr);
}

#define T(nt, blk, min) tile(nt, blk, min, g, n_block, q, d, sx, sxs, np, y, ys, nr, first)
#define TILE(nt) \
static void tile##nt(const struct codes *c, const struct gm *g, size_t n_block, const int8_t *q, \
	const float *d, const float *sx, size_t sxs, size_t np, float *y, size_t ys, size_t nr, int first) \
{ \
	if (c->blk == 32 && !c->has_min) \
		T(nt, 32, 0); \
	else if (c->blk == 32) \
		T(nt, 32, 1); \
	else if (!c->has_min) \
		T(nt, 16, 0); \
	else \
		T(nt, 16, 1); \
}
TILE(8)
TILE(4)
TILE(2)
TILE(1)

static void gemm(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
	struct act8 a, size_t n_tok, float *y, size_t ys, void *scratch)
{
	static const struct tile tiles[] = { { 8, tile8, 1 }, { 4, tile4, 1 }, { 2, tile2, 1 },
		{ 1, tile1, 1 } };

	gemm_body(tiles, type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, scratch);
}

/* ---- activations ---- */

/* 32 values; those of a row that ends earlier are zeros. */
static void round_block(const float *x, int8_t *q, float *d, int32_t *sum16, int32_t *sum32, float *s32)
{
	const uint32x4_t mask = vdupq_n_u32(0x7fffffff);
	uint32x4_t top = vdupq_n_u32(0);
	int16x8_t half16[4];
	int32x4_t i[8];
	uint32_t bits;
	float amax, inv = 0;

	for (int j = 0; j < 8; j++)
		top = vmaxq_u32(top, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + 4 * j)), mask));
	bits = vmaxvq_u32(top);
	memcpy(&amax, &bits, 4);
	*d = bits >= 0x7f800000 ? NAN : 0;
	if (bits < 0x7f800000 && amax >= 0x1p-100f) {
		*d = amax / 127.0f;
		inv = 127.0f / amax;
	}
	for (int j = 0; j < 8; j++) /* to nearest even; a block without a scale has no codes */
		i[j] = inv > 0 ? vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * j), inv)) : vdupq_n_s32(0);
	for (int j = 0; j < 4; j++)
		half16[j] = vcombine_s16(vmovn_s32(i[2 * j]), vmovn_s32(i[2 * j + 1]));
	vst1q_s8(q, vcombine_s8(vmovn_s16(half16[0]), vmovn_s16(half16[1])));
	vst1q_s8(q + 16, vcombine_s8(vmovn_s16(half16[2]), vmovn_s16(half16[3])));
	sum16[0] = vaddlvq_s16(vaddq_s16(half16[0], half16[1]));
	sum16[1] = vaddlvq_s16(vaddq_s16(half16[2], half16[3]));
	*sum32 = sum16[0] + sum16[1];
	*s32 = (float)*sum32 * *d;
}

static void round_rows(const float *x, size_t xs, size_t n, size_t r0, size_t r1, struct act8 a)
{
	size_t np = act8_pad(n);

	for (size_t r = r0; r < r1; r++) {
		struct act8 o = act8_at(a, n, r);

		for (size_t i = 0; i < np; i += 32) {
			float last[32] = { 0 };
			const float *from = last;

			if (i + 32 <= n)
				from = x + r * xs + i;
			else if (i < n)
				memcpy(last, x + r * xs + i, (n - i) * 4);
			round_block(from, o.q + i, o.d + i / 32, o.sum16 + i / 16, o.sum32 + i / 32, o.s32 + i / 32);
		}
	}
}

const struct int8_kern INT8_TABLE = { INT8_NAME, supported, round_rows, gemm };
