/*
 * kern_neon.h - AArch64's Advanced SIMD: 16 lanes in four registers. Private to kern_neon.c and
 * kern_dotprod.c, which name the row and say what CPU it needs: one for each kind of 8-bit kernels
 * (int8_neon.h), so that --isa can force either.
 */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

typedef struct { float32x4_t a, b, c, d; } V; /* four lanes each */

/* A quarter of it, for the tiles of products. */
#define HAVE_LANES
#define LANES 4
typedef float32x4_t L;

static inline L lzero(void) { return vdupq_n_f32(0); }
static inline L lload(const float *p) { return vld1q_f32(p); }
static inline void lstore(float *p, L v) { vst1q_f32(p, v); }
static inline L lfma(L x, L y, L z) { return vfmaq_f32(z, x, y); }
static inline L lf16(const uint8_t *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }

static inline L lbf16(const uint8_t *p)
{
	return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

static inline V vset(float f) { float32x4_t q = vdupq_n_f32(f); return (V){ q, q, q, q }; }
static inline V vzero(void) { return vset(0); }

static inline V vload(const float *p)
{
	return (V){ vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12) };
}

static inline void vstore(float *p, V v)
{
	vst1q_f32(p, v.a);
	vst1q_f32(p + 4, v.b);
	vst1q_f32(p + 8, v.c);
	vst1q_f32(p + 12, v.d);
}

static inline V vfma(V x, V y, V z)
{
	return (V){ vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
		vfmaq_f32(z.d, x.d, y.d) };
}

static inline V vmul(V x, V y)
{
	return (V){ vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d) };
}

static inline V vsub(V x, V y)
{
	return (V){ vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b), vsubq_f32(x.c, y.c), vsubq_f32(x.d, y.d) };
}

static inline V vsigned(int8x16_t b)
{
	int16x8_t lo = vmovl_s8(vget_low_s8(b)), hi = vmovl_high_s8(b);

	return (V){ vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_high_s16(lo)),
		vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_high_s16(hi)) };
}

static inline uint8x16_t low4(const uint8_t *p) { return vandq_u8(vld1q_u8(p), vdupq_n_u8(15)); }
static inline uint8x16_t high4(const uint8_t *p) { return vshrq_n_u8(vld1q_u8(p), 4); }

static inline V vi8(const int8_t *p) { return vsigned(vld1q_s8(p)); }
static inline V vlo(const uint8_t *p) { return vsigned(vreinterpretq_s8_u8(low4(p))); }
static inline V vhi(const uint8_t *p) { return vsigned(vreinterpretq_s8_u8(high4(p))); }

static inline V vlotab(const uint8_t *p, const int8_t *t)
{
	return vsigned(vqtbl1q_s8(vld1q_s8(t), low4(p)));
}

static inline V vhitab(const uint8_t *p, const int8_t *t)
{
	return vsigned(vqtbl1q_s8(vld1q_s8(t), high4(p)));
}

static inline V vf16(const uint8_t *p)
{
	float16x8_t a = vreinterpretq_f16_u8(vld1q_u8(p)), b = vreinterpretq_f16_u8(vld1q_u8(p + 16));

	return (V){ vcvt_f32_f16(vget_low_f16(a)), vcvt_high_f32_f16(a), vcvt_f32_f16(vget_low_f16(b)),
		vcvt_high_f32_f16(b) };
}

static inline V vbf16(const uint8_t *p) { return (V){ lbf16(p), lbf16(p + 8), lbf16(p + 16), lbf16(p + 24) }; }

static inline float half(uint16_t h)
{
	__fp16 f;

	memcpy(&f, &h, 2);
	return f;
}

/* Lanes l and l+8 are two registers apart, l and l+4 one. */
static inline float vsum(V v)
{
	float32x4_t q = vaddq_f32(vaddq_f32(v.a, v.c), vaddq_f32(v.b, v.d));
	float32x2_t d = vadd_f32(vget_low_f32(q), vget_high_f32(q));

	return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}

/* The same of eight in memory, two and two in a register for the last steps. */
static inline void vsum8(const float (*v)[16], float out[8])
{
	float32x4_t two[4];

	for (int i = 0; i < 4; i++) {
		float32x4_t q[2];
		float64x2_t x, y;

		for (int j = 0; j < 2; j++) {
			const float *p = v[2 * i + j];

			q[j] = vaddq_f32(vaddq_f32(vld1q_f32(p), vld1q_f32(p + 8)),
				vaddq_f32(vld1q_f32(p + 4), vld1q_f32(p + 12)));
		}
		x = vreinterpretq_f64_f32(q[0]);
		y = vreinterpretq_f64_f32(q[1]);
		two[i] = vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(x, y)), vreinterpretq_f32_f64(vzip2q_f64(x, y)));
	}
	vst1q_f32(out, vpaddq_f32(two[0], two[1]));
	vst1q_f32(out + 4, vpaddq_f32(two[2], two[3]));
}

#define HAVE_VBF16
#define HAVE_VSUM8
#define TILE_R 4
#define TILE_T 5
#define DOT_R 2
#define DOT_T 4
#include "kern/table.h"
#include "kern/body.h"
