/* half.h - IEEE half precision to single, exactly, and back, rounded; E4M3 to single. */
#ifndef KERN_HALF_H
#define KERN_HALF_H

#include <stdint.h>
#include <string.h>

static inline float half_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 1023, bits;
	float f;

	if (exp == 31) {
		bits = sign | 0x7f800000 | man << 13 | (man ? 0x400000 : 0); /* quiet NaN */
	} else if (exp) {
		bits = sign | (exp + 112) << 23 | man << 13;
	} else { /* zero or subnormal: man * 2^-24 is exact */
		f = (float)man * 0x1p-24f;
		memcpy(&bits, &f, 4);
		bits |= sign;
	}
	memcpy(&f, &bits, 4);
	return f;
}

/* To nearest, ties to even; what is beyond 65504 by half a step or more becomes infinite. */
static inline uint16_t half_from_float(float f)
{
	uint32_t bits, sign, man, odd;
	int shift;

	memcpy(&bits, &f, 4);
	sign = bits >> 16 & 0x8000;
	bits &= 0x7fffffff;
	if (bits > 0x7f800000)
		return (uint16_t)(sign | 0x7e00);
	if (bits >= 0x47800000) /* 65536 */
		return (uint16_t)(sign | 0x7c00);
	if (bits >= 0x38800000) { /* 2^-14: normal; a carry into the exponent is what it should be */
		odd = bits >> 13 & 1;
		return (uint16_t)(sign | ((bits + 0xfff + odd - 0x38000000) >> 13));
	}
	if (bits < 0x33000000) /* below 2^-25 */
		return (uint16_t)sign;
	shift = 126 - (int)(bits >> 23); /* the mantissa counts 2^-24 after a shift of 14..24 */
	man = (bits & 0x7fffff) | 0x800000;
	odd = man >> shift & 1;
	return (uint16_t)(sign | ((man + (1u << (shift - 1)) - 1 + odd) >> shift));
}

/* Half of an E4M3 number without sign; the format's NaN stands for 0. Bit 7 is ignored, but in the
 * test for NaN. */
static inline float ue4m3_half(uint8_t b)
{
	int e = b >> 3 & 15, m = b & 7;

	if (b == 0x7f)
		return 0;
	return e ? (float)(8 + m) * (float)(1u << e) * 0x1p-11f : (float)m * 0x1p-10f;
}

#endif
