/*
 * body.h - the kernels, written once over a 16-lane vector and compiled for each ISA.
 *
 * The including file defines `V` (16 floats) and, as static inline functions:
 *	vzero() vset(float) vload(const float *) vstore(float *, V)
 *	vfma(a, b, c) = a*b+c fused; vmul vsub; vsum(V) = the tree of kern.h
 *	vi8(const int8_t *): 16 bytes to floats
 *	vlo vhi(const uint8_t *): low, high nibbles of 16 bytes to floats
 *	vlotab vhitab(const uint8_t *, const int8_t[16]): the table's numbers that they name
 *	vf16(const void *): 16 half floats; half(uint16_t): one
 *	TILE_R, TILE_T: rows (at most 4) and tokens of the register tile
 * and KERN_NAME, KERN_TABLE, KERN_SUPPORTED. Where it can do better than the portable code below, it
 * defines HAVE_VBF16 and vbf16(const void *), HAVE_VSUM8 and vsum8(v, out) = the trees of eight vectors
 * in memory, HAVE_VSOME and vsome(v, bits, a) = v + a in the lanes whose bits are set, what tile.h,
 * dot16.h and attn.h name, and KERN_BF16, the whole of dot16.h. Block layouts are those of GGUF: offsets
 * below.
 */
#include <string.h>

#include "base/num.h"
#include "kern/kern.h"

static inline uint16_t rd16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

#ifndef HAVE_VBF16
static inline V vbf16(const uint8_t *p)
{
	float f[16];

	for (int i = 0; i < 16; i++) {
		uint32_t u = (uint32_t)rd16(p + 2 * i) << 16;

		memcpy(f + i, &u, 4);
	}
	return vload(f);
}
#endif

#ifndef HAVE_VSUM8
static inline void vsum8(const float (*v)[16], float out[8])
{
	for (int i = 0; i < 8; i++)
		out[i] = vsum(vload(v[i]));
}
#endif

/* The last n < 16 elements of a row, zeros behind them: a fused 0*0 changes no lane. */
static inline V vtail(const float *p, size_t n)
{
	float t[16] = { 0 };

	memcpy(t, p, n * 4);
	return vload(t);
}

/* ---- one function per type: n elements (a multiple of the block) to floats ---- */

static void unpack_f32(const uint8_t *p, float *out, size_t n)
{
	memcpy(out, p, n * 4);
}

static void unpack_f16(const uint8_t *p, float *out, size_t n)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		vstore(out + i, vf16(p + 2 * i));
	for (; i < n; i++)
		out[i] = half(rd16(p + 2 * i));
}

static void unpack_bf16(const uint8_t *p, float *out, size_t n)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		vstore(out + i, vbf16(p + 2 * i));
	for (; i < n; i++) {
		uint32_t u = (uint32_t)rd16(p + 2 * i) << 16;

		memcpy(out + i, &u, 4);
	}
}

/* d f16, q i8[32]: d*q */
static void unpack_q8_0(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 32, p += 34) {
		V d = vset(half(rd16(p)));

		vstore(out + i, vmul(d, vi8((const int8_t *)p + 2)));
		vstore(out + i + 16, vmul(d, vi8((const int8_t *)p + 18)));
	}
}

/* d f16, q u8[16]: elements 0..15 are the low nibbles, 16..31 the high ones; d*(q-8) */
static void unpack_q4_0(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 32, p += 18) {
		V d = vset(half(rd16(p))), eight = vset(8);

		vstore(out + i, vmul(d, vsub(vlo(p + 2), eight)));
		vstore(out + i + 16, vmul(d, vsub(vhi(p + 2), eight)));
	}
}

/* d f16, m f16, q u8[16]: d*q + m, product rounded first */
static void unpack_q4_1(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 32, p += 20) {
		V d = vset(half(rd16(p))), m = vset(-half(rd16(p + 2)));

		vstore(out + i, vsub(vmul(d, vlo(p + 4)), m));
		vstore(out + i + 16, vsub(vmul(d, vhi(p + 4)), m));
	}
}

/* Five-bit values, minus `off`: nibbles of q[16]; bit j of the 32 in h is the fifth of element j. */
static inline void five_bits(const uint8_t *q, const uint8_t *h, V *lo, V *hi, int off)
{
	uint32_t b = h[0] | (uint32_t)h[1] << 8 | (uint32_t)h[2] << 16 | (uint32_t)h[3] << 24;
#ifdef HAVE_VSOME
	*lo = vsub(vsome(vlo(q), b, 16), vset((float)off));
	*hi = vsub(vsome(vhi(q), b >> 16, 16), vset((float)off));
#else
	int8_t l[16], u[16];

	for (int j = 0; j < 16; j++) {
		l[j] = (int8_t)((q[j] & 15) + (int)(b >> j & 1) * 16 - off);
		u[j] = (int8_t)((q[j] >> 4) + (int)(b >> (j + 16) & 1) * 16 - off);
	}
	*lo = vi8(l);
	*hi = vi8(u);
#endif
}

/* d f16, h u32, q u8[16]: d*(q5-16) */
static void unpack_q5_0(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 32, p += 22) {
		V d = vset(half(rd16(p))), lo, hi;

		five_bits(p + 6, p + 2, &lo, &hi, 16);
		vstore(out + i, vmul(d, lo));
		vstore(out + i + 16, vmul(d, hi));
	}
}

/* d f16, m f16, h u32, q u8[16]: d*q5 + m */
static void unpack_q5_1(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 32, p += 24) {
		V d = vset(half(rd16(p))), m = vset(-half(rd16(p + 2))), lo, hi;

		five_bits(p + 8, p + 4, &lo, &hi, 0);
		vstore(out + i, vsub(vmul(d, lo), m));
		vstore(out + i + 16, vsub(vmul(d, hi), m));
	}
}

/* Six-bit scale and minimum of sub-block j (0..7) out of the 12 packed bytes of Q4_K and Q5_K:
 * the first four keep their low 6 bits in bytes 0-3 and 4-7; the last four have low nibbles in
 * bytes 8-11 and their two high bits on top of bytes 0-3 and 4-7. */
static inline void k_scale(const uint8_t *s, int j, int *scale, int *min)
{
	if (j < 4) {
		*scale = s[j] & 63;
		*min = s[j + 4] & 63;
	} else {
		*scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
		*min = s[j + 4] >> 4 | (s[j] >> 6) << 4;
	}
}

/* d f16, dmin f16, scales u8[12], q u8[128]: 8 sub-blocks of 32, (d*sc)*q - (dmin*m); sub-blocks
 * 2j and 2j+1 share 32 bytes: low and high nibbles */
static void unpack_q4_k(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 144) {
		float d = half(rd16(p)), dmin = half(rd16(p + 2));

		for (int j = 0; j < 8; j++) {
			const uint8_t *q = p + 16 + 32 * (j / 2);
			float *o = out + i + 32 * (size_t)j;
			int sc, mn;
			V vd, vm;

			k_scale(p + 4, j, &sc, &mn);
			vd = vset(d * (float)sc);
			vm = vset(dmin * (float)mn);
			vstore(o, vsub(vmul(vd, j & 1 ? vhi(q) : vlo(q)), vm));
			vstore(o + 16, vsub(vmul(vd, j & 1 ? vhi(q + 16) : vlo(q + 16)), vm));
		}
	}
}

/* d f16, dmin f16, scales u8[12], h u8[32], q u8[128]: as Q4_K with bit j of h[l] as fifth bit */
static void unpack_q5_k(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 176) {
		float d = half(rd16(p)), dmin = half(rd16(p + 2));

		for (int j = 0; j < 8; j++) {
			const uint8_t *q = p + 48 + 32 * (j / 2), *h = p + 16;
			int8_t v[32];
			int sc, mn;
			V vd, vm;

			k_scale(p + 4, j, &sc, &mn);
			vd = vset(d * (float)sc);
			vm = vset(dmin * (float)mn);
			for (int l = 0; l < 32; l++)
				v[l] = (int8_t)((j & 1 ? q[l] >> 4 : q[l] & 15) | (h[l] >> j & 1) << 4);
			vstore(out + i + 32 * (size_t)j, vsub(vmul(vd, vi8(v)), vm));
			vstore(out + i + 32 * (size_t)j + 16, vsub(vmul(vd, vi8(v + 16)), vm));
		}
	}
}

/* ql u8[128], qh u8[64], scales i8[16], d f16: (d*sc)*(q6-32). Each half of 128 elements uses 64
 * bytes of ql and 32 of qh; its quarter t takes low (t<2) or high nibbles of ql[32*(t&1)..] and
 * bits 2t of qh; 16 elements share a scale. */
static void unpack_q6_k(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 210) {
		float d = half(rd16(p + 208));
		const int8_t *sc = (const int8_t *)p + 192;

		for (int b = 0; b < 2; b++)
			for (int t = 0; t < 4; t++) {
				const uint8_t *ql = p + 64 * b + 32 * (t & 1), *qh = p + 128 + 32 * b;
				float *o = out + i + 128 * (size_t)b + 32 * (size_t)t;
				int8_t v[32];

				for (int l = 0; l < 32; l++)
					v[l] = (int8_t)(((t < 2 ? ql[l] & 15 : ql[l] >> 4) |
						(qh[l] >> 2 * t & 3) << 4) - 32);
				vstore(o, vmul(vset(d * (float)sc[8 * b + 2 * t]), vi8(v)));
				vstore(o + 16, vmul(vset(d * (float)sc[8 * b + 2 * t + 1]), vi8(v + 16)));
			}
	}
}

#include "kern/lowbit.h"

/* e u8, q u8[16]: an E2M1 float per nibble times 2^(e-127) */
static void unpack_mxfp4(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 32, p += 17) {
		uint32_t bits = p[0] < 2 ? 0x200000u << p[0] : (uint32_t)(p[0] - 1) << 23; /* 2^(e-128) */
		float d;

		memcpy(&d, &bits, 4);
		vstore(out + i, vmul(vset(d), vlotab(p + 1, e2m1_twice)));
		vstore(out + i + 16, vmul(vset(d), vhitab(p + 1, e2m1_twice)));
	}
}

/* To add a type: its function above, its row here, and its vector in tests/data/kernels.bin and its
 * name in kern_type_ok (kern.c). */
static void (*const unpack[QT_MAX])(const uint8_t *, float *, size_t) = {
	[QT_F32] = unpack_f32, [QT_F16] = unpack_f16, [QT_BF16] = unpack_bf16,
	[QT_Q8_0] = unpack_q8_0, [QT_Q4_0] = unpack_q4_0, [QT_Q4_1] = unpack_q4_1,
	[QT_Q5_0] = unpack_q5_0, [QT_Q5_1] = unpack_q5_1, [QT_Q4_K] = unpack_q4_k,
	[QT_Q5_K] = unpack_q5_k, [QT_Q6_K] = unpack_q6_k,
	[QT_MXFP4] = unpack_mxfp4, [QT_NVFP4] = unpack_nvfp4, [QT_Q2_K] = unpack_q2_k,
	[QT_Q3_K] = unpack_q3_k, [QT_IQ2_XXS] = unpack_iq2_xxs, [QT_IQ2_XS] = unpack_iq2_xs,
	[QT_IQ2_S] = unpack_iq2_s, [QT_IQ3_XXS] = unpack_iq3_xxs, [QT_IQ3_S] = unpack_iq3_s,
	[QT_IQ1_S] = unpack_iq1_s, [QT_IQ1_M] = unpack_iq1_m, [QT_IQ4_NL] = unpack_iq4_nl,
	[QT_IQ4_XS] = unpack_iq4_xs, [QT_TQ1_0] = unpack_tq1_0, [QT_TQ2_0] = unpack_tq2_0,
	[QT_Q1_0] = unpack_q1_0, [QT_Q2_0] = unpack_q2_0,
};

static void body_to_float(uint32_t type, const void *row, float *out, size_t n)
{
	unpack[type](row, out, n);
}

/* ---- products ---- */

#include "kern/tile.h"
#ifndef KERN_BF16
#ifndef DOT_R
#define DOT_R TILE_R
#define DOT_T TILE_T
#endif
#include "kern/dot16.h"
#define KERN_BF16 dot_row

static const struct kern_bf16 *dot_row(void)
{
	static const struct kern_bf16 row = { dot_bytes, dot_lay, dot_gemm };

	return &row;
}
#endif

/* ---- vectors ---- */

static float body_dot(const float *a, const float *b, size_t n)
{
	V acc = vzero();
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		acc = vfma(vload(a + i), vload(b + i), acc);
	if (i < n)
		acc = vfma(vtail(a + i, n - i), vtail(b + i, n - i), acc);
	return vsum(acc);
}

static float body_sum(const float *x, size_t n)
{
	float lane[16] = { 0 };
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		for (int l = 0; l < 16; l++)
			lane[l] += x[i + (size_t)l];
	for (size_t l = 0; i < n; i++, l++)
		lane[l] += x[i];
	return vsum(vload(lane));
}

static void body_axpy(float a, const float *x, float *y, size_t n)
{
	V va = vset(a);
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		vstore(y + i, vfma(va, vload(x + i), vload(y + i)));
	if (i < n) {
		float last[16];

		vstore(last, vfma(va, vtail(x + i, n - i), vtail(y + i, n - i)));
		memcpy(y + i, last, (n - i) * 4);
	}
}

static void body_silu_mul(float *gate, const float *up, size_t n)
{
	for (size_t i = 0; i < n; i++)
		gate[i] = num_silu(gate[i]) * up[i];
}

static void body_exp_shift(float *x, float shift, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = num_exp(x[i] - shift);
}

#include "kern/attn.h"

#define KERN_ROW(name, supported) { \
	name, supported, body_to_float, body_gemm, KERN_BF16, body_dot, body_axpy, body_silu_mul, \
	body_exp_shift, body_sum, body_att_dot, body_att_mix, body_max, body_to_f16, body_to_q8_0, \
}

const struct kern KERN_TABLE = KERN_ROW(KERN_NAME, KERN_SUPPORTED);
