/*
 * lowbit.h - unpacking of the element types of few bits: Q2_K, Q3_K, the IQ family, ternary, NVFP4.
 * Part of body.h, which includes it: the same rules, the same vector of 16.
 *
 * The layouts are those of GGUF. A block has 256 elements unless its comment says otherwise; a
 * "group" is what shares a scale. Every product is of a scale that is exact in single precision and
 * a small integer, so it is rounded once at most, as in the definition of the type.
 */
#include "kern/grid.h"
#include "kern/half.h"

static inline uint32_t rd32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* d times 32 signed bytes that lie in four words, the first element in the lowest byte; the first
 * half with d0, the second with d1 */
static inline void put_points(const uint64_t w[4], float d0, float d1, float *out)
{
	int8_t q[32];

	memcpy(q, w, sizeof q);
	vstore(out, vmul(vset(d0), vi8(q)));
	vstore(out + 16, vmul(vset(d1), vi8(q + 16)));
}

/* scales u8[16] (low nibble: scale, high: minimum), q u8[64], d f16, dmin f16: groups of 16,
 * (d*sc)*q - (dmin*m); bits 2t of the bytes 32*b.. are elements 128*b + 32*t.. */
static void unpack_q2_k(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 84) {
		float d = half(rd16(p + 80)), dmin = half(rd16(p + 82));

		for (int t = 0; t < 8; t++) {
			const uint8_t *q = p + 16 + 32 * (t / 4), *s = p + 2 * t;
			float *o = out + i + 32 * (size_t)t;
			int8_t v[32];

			for (int l = 0; l < 32; l++)
				v[l] = q[l] >> 2 * (t & 3) & 3;
			for (int h = 0; h < 2; h++)
				vstore(o + 16 * h, vsub(vmul(vset(d * (float)(s[h] & 15)), vi8(v + 16 * h)),
					vset(dmin * (float)(s[h] >> 4))));
		}
	}
}

/* Six-bit scale of group j (0..15) in the 12 bytes of Q3_K, minus 32: nibbles of bytes 0..7 (low for
 * j < 8), and bits 2*(j/4) of byte 8 + j%4 on top. */
static inline int q3_scale(const uint8_t *s, int j)
{
	return ((j < 8 ? s[j] & 15 : s[j - 8] >> 4) | (s[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32;
}

/* h u8[32], q u8[64], scales u8[12], d f16: groups of 16, (d*sc)*(q2 + 4*h - 4); q as in Q2_K, bit t
 * of h[l] belongs to element 32*t + l */
static void unpack_q3_k(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 110) {
		float d = half(rd16(p + 108));

		for (int t = 0; t < 8; t++) {
			const uint8_t *q = p + 32 + 32 * (t / 4);
			float *o = out + i + 32 * (size_t)t;
			int8_t v[32];

			for (int l = 0; l < 32; l++)
				v[l] = (int8_t)((q[l] >> 2 * (t & 3) & 3) + (p[l] >> t & 1) * 4 - 4);
			for (int h = 0; h < 2; h++)
				vstore(o + 16 * h, vmul(vset(d * (float)q3_scale(p + 96, 2 * t + h)),
					vi8(v + 16 * h)));
		}
	}
}

/* ---- IQ: points of a grid ---- */

/* d f16, then for each group of 32: four point numbers u8, u32 of four times seven signs and a scale
 * s of four bits; d*(0.5+s)/4 */
static void unpack_iq2_xxs(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 66)
		for (int g = 0; g < 8; g++) {
			const uint8_t *q = p + 2 + 8 * g;
			uint32_t s = rd32(q + 4);
			float d = half(rd16(p)) * (0.5f + (float)(s >> 28)) * 0.25f;
			uint64_t w[4];

			for (int l = 0; l < 4; l++)
				w[l] = grid_sign(grid_iq2(kern_grid_iq2_xxs[q[l]]), grid_even(s >> 7 * l));
			put_points(w, d, d, out + i + 32 * (size_t)g);
		}
}

/* d f16, q u16[32]: point number of nine bits, seven signs; scales u8[8]: a nibble for 16 */
static void unpack_iq2_xs(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 74)
		for (int g = 0; g < 8; g++) {
			float d = half(rd16(p));
			int s = p[66 + g];
			uint64_t w[4];

			for (int l = 0; l < 4; l++) {
				uint16_t q = rd16(p + 2 + 8 * g + 2 * l);

				w[l] = grid_sign(grid_iq2(kern_grid_iq2_xs[q & 511]), grid_even(q >> 9));
			}
			put_points(w, d * (0.5f + (float)(s & 15)) * 0.25f, d * (0.5f + (float)(s >> 4)) * 0.25f,
				out + i + 32 * (size_t)g);
		}
}

/* d f16, q u8[32], signs u8[32], h u8[8]: bits 8 and 9 of four point numbers; scales u8[8] */
static void unpack_iq2_s(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 82)
		for (int g = 0; g < 8; g++) {
			float d = half(rd16(p));
			int s = p[74 + g];
			uint64_t w[4];

			for (int l = 0; l < 4; l++) {
				unsigned at = p[2 + 4 * g + l] | (unsigned)(p[66 + g] >> 2 * l & 3) << 8;

				w[l] = grid_sign(grid_iq2(kern_grid_iq2_s[at]), p[34 + 4 * g + l]);
			}
			put_points(w, d * (0.5f + (float)(s & 15)) * 0.25f, d * (0.5f + (float)(s >> 4)) * 0.25f,
				out + i + 32 * (size_t)g);
		}
}

/* d f16, q u8[64]: points of four; u32[8]: signs and scale as in IQ2_XXS; d*(0.5+s)/2 */
static void unpack_iq3_xxs(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 98)
		for (int g = 0; g < 8; g++) {
			const uint8_t *q = p + 2 + 8 * g;
			uint32_t s = rd32(p + 66 + 4 * g);
			float d = half(rd16(p)) * (0.5f + (float)(s >> 28)) * 0.5f;
			uint64_t w[4];

			for (int l = 0; l < 4; l++)
				w[l] = grid_sign(grid_iq3_xxs(kern_grid_iq3_xxs[q[2 * l]],
					kern_grid_iq3_xxs[q[2 * l + 1]]), grid_even(s >> 7 * l));
			put_points(w, d, d, out + i + 32 * (size_t)g);
		}
}

/* d f16, q u8[64]: points of four; h u8[8]: their ninth bits; signs u8[32]; scales u8[4]: a nibble s
 * for 32; d*(1+2*s) */
static void unpack_iq3_s(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 110)
		for (int g = 0; g < 8; g++) {
			const uint8_t *q = p + 2 + 8 * g;
			unsigned h = p[66 + g];
			float d = half(rd16(p)) * (float)(1 + 2 * (p[106 + g / 2] >> 4 * (g & 1) & 15));
			uint64_t w[4];

			for (int l = 0; l < 4; l++)
				w[l] = grid_sign(grid_iq3_s(kern_grid_iq3_s[q[2 * l] | (h >> 2 * l & 1) << 8],
					kern_grid_iq3_s[q[2 * l + 1] | (h >> (2 * l + 1) & 1) << 8]), p[74 + 4 * g + l]);
			put_points(w, d, d, out + i + 32 * (size_t)g);
		}
}

/* An iq1 point's coordinates (-1, 0, 1) plus or minus 1/8, times eight. The additions are modulo 2^64;
 * the bytes are made signed by the xor around them. */
static inline uint64_t iq1_point(unsigned at, int minus)
{
	const uint64_t top = 0x80 * (uint64_t)GRID_ONES;
	uint64_t v = 8 * grid_spread2(kern_grid_iq1[at]);

	return (v + top - (minus ? 9 : 7) * (uint64_t)GRID_ONES) ^ top;
}

/* d f16, q u8[32], h u16[8]: for each group of 32 three high bits of four point numbers, a scale s of
 * three bits, the sign of the shift; d*(2s+1) */
static void unpack_iq1_s(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 50)
		for (int g = 0; g < 8; g++) {
			unsigned h = rd16(p + 34 + 2 * g);
			float d = half(rd16(p)) * (float)(2 * (h >> 12 & 7) + 1) * 0.125f;
			uint64_t w[4];

			for (int l = 0; l < 4; l++)
				w[l] = iq1_point(p[2 + 4 * g + l] | (h >> 3 * l & 7) << 8, (int)(h >> 15));
			put_points(w, d, d, out + i + 32 * (size_t)g);
		}
}

/* q u8[32], h u8[16]: a nibble for each point, three high bits and the sign of the shift; u16[4]: four
 * scales of three bits for 16 each, their top nibbles are d as f16 */
static void unpack_iq1_m(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 56) {
		const uint8_t *s = p + 48;
		float d = half((uint16_t)(s[1] >> 4 | (s[3] & 0xf0) | (s[5] & 0xf0) << 4 |
			(s[7] & 0xf0) << 8)) * 0.125f;

		for (int g = 0; g < 8; g++) {
			unsigned sc = (unsigned)rd16(s + 2 * (g / 2)) >> 6 * (g & 1);
			uint64_t w[4];

			for (int l = 0; l < 4; l++) {
				unsigned h = (unsigned)p[32 + 2 * g + l / 2] >> 4 * (l & 1);

				w[l] = iq1_point(p[4 * g + l] | (h & 7) << 8, (int)(h >> 3 & 1));
			}
			put_points(w, d * (float)(2 * (sc & 7) + 1), d * (float)(2 * (sc >> 3 & 7) + 1),
				out + i + 32 * (size_t)g);
		}
	}
}

static const int8_t iq4_value[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69,
	89, 113 };

/* d f16, q u8[16] of 32 elements: nibbles as in Q4_0, each a number in the table */
static void unpack_iq4_nl(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 32, p += 18) {
		V d = vset(half(rd16(p)));

		vstore(out + i, vmul(d, vlotab(p + 2, iq4_value)));
		vstore(out + i + 16, vmul(d, vhitab(p + 2, iq4_value)));
	}
}

/* d f16, h u16, l u8[4]: scales of eight groups, nibbles in l and two bits in h; q u8[128]: groups of
 * 32 as in IQ4_NL; d*(s-32) */
static void unpack_iq4_xs(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 136)
		for (int g = 0; g < 8; g++) {
			int s = (p[4 + g / 2] >> 4 * (g & 1) & 15) | (rd16(p + 2) >> 2 * g & 3) << 4;
			V d = vset(half(rd16(p)) * (float)(s - 32));
			const uint8_t *q = p + 8 + 16 * g;
			float *o = out + i + 32 * (size_t)g;

			vstore(o, vmul(d, vlotab(q, iq4_value)));
			vstore(o + 16, vmul(d, vhitab(q, iq4_value)));
		}
}

/* ---- ternary and binary ---- */

/* Digit t of a byte that holds five (or four) base-3 digits as a fraction of 256: the first is the
 * integer part of three times the fraction, and so on. Minus one. */
static inline int8_t trit(uint8_t byte, int t)
{
	static const uint8_t pow3[5] = { 1, 3, 9, 27, 81 };

	return (int8_t)(((uint8_t)(byte * pow3[t]) * 3 >> 8) - 1);
}

/* q u8[48], h u8[4], d f16: digit t of q[0..31] is elements 32t.., of q[32..47] elements 160 + 16t..,
 * of h (four digits) elements 240 + 4t.. */
static void unpack_tq1_0(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 54) {
		V d = vset(half(rd16(p + 52)));
		int8_t v[256];

		for (int t = 0; t < 5; t++) {
			for (int l = 0; l < 32; l++)
				v[32 * t + l] = trit(p[l], t);
			for (int l = 0; l < 16; l++)
				v[160 + 16 * t + l] = trit(p[32 + l], t);
		}
		for (int l = 0; l < 16; l++)
			v[240 + l] = trit(p[48 + l % 4], l / 4);
		for (size_t l = 0; l < 256; l += 16)
			vstore(out + i + l, vmul(d, vi8(v + l)));
	}
}

/* q u8[64], d f16: d*(q-1), bits as in Q2_K */
static void unpack_tq2_0(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 256, p += 66) {
		V d = vset(half(rd16(p + 64)));

		for (int t = 0; t < 8; t++) {
			const uint8_t *q = p + 32 * (t / 4);
			float *o = out + i + 32 * (size_t)t;
			int8_t v[32];

			for (int l = 0; l < 32; l++)
				v[l] = (int8_t)((q[l] >> 2 * (t & 3) & 3) - 1);
			vstore(o, vmul(d, vi8(v)));
			vstore(o + 16, vmul(d, vi8(v + 16)));
		}
	}
}

/* d f16, q u8[16] of 128 elements: a bit each, d or -d */
static void unpack_q1_0(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 128, p += 18) {
		float d = half(rd16(p));
		uint64_t w[16];

		for (int l = 0; l < 16; l++)
			w[l] = grid_sign(GRID_ONES, (uint8_t)~p[2 + l]);
		for (size_t l = 0; l < 4; l++)
			put_points(w + 4 * l, d, d, out + i + 32 * l);
	}
}

/* d f16, q u8[16] of 64 elements: two bits each, in order; d*(q-1) */
static void unpack_q2_0(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 64, p += 18) {
		const uint64_t top = 0x80 * (uint64_t)GRID_ONES;
		float d = half(rd16(p));
		uint64_t w[8];

		for (int l = 0; l < 8; l++) /* the top bit keeps the subtractions in their bytes */
			w[l] = (grid_spread2(rd16(p + 2 + 2 * l)) + top - GRID_ONES) ^ top;
		put_points(w, d, d, out + i);
		put_points(w + 4, d, d, out + i + 32);
	}
}

/* ---- four-bit floats ---- */

/* An E2M1 float per nibble, held doubled. */
static const int8_t e2m1_twice[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

/* d u8[4] (E4M3), q u8[32] of 64 elements: groups of 16 share a scale and eight bytes, low nibbles
 * first */
static void unpack_nvfp4(const uint8_t *p, float *out, size_t n)
{
	for (size_t i = 0; i < n; i += 64, p += 36)
		for (int g = 0; g < 4; g++) {
			uint8_t q[16]; /* low nibbles count; the second eight bytes are the first, shifted */
			uint64_t w;

			memcpy(&w, p + 4 + 8 * g, 8);
			memcpy(q, &w, 8);
			w >>= 4;
			memcpy(q + 8, &w, 8);
			vstore(out + i + 16 * (size_t)g, vmul(vset(ue4m3_half(p[g])), vlotab(q, e2m1_twice)));
		}
}
