/* int8_avx512.h - vectors of sixteen lanes, as the loops of int8_body.h want them. */
#include <immintrin.h>
#include <math.h>

#include "kern/int8.h"
#include "kern/table.h"

static inline float half(uint16_t h)
{
	return _cvtsh_ss(h);
}

#include "kern/int8_codes.h"

#define R 16
#define PAIRS 1
#define OFF_LOG2(c) ((c)->off_log2)
typedef __m512i VI;

static inline VI vi_load(const void *p) { return _mm512_loadu_si512(p); }
static inline void vi_store(void *p, VI v) { _mm512_storeu_si512(p, v); }
static inline VI vf_zero(void) { return _mm512_setzero_si512(); }

/* Lanes of two 16-bit integers. */
static inline VI vi_pair(VI a, VI b)
{
	return _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16));
}

static inline VI vi_minus_shifted(const int16_t *p, unsigned log2)
{
	__m512i v = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)p));

	return log2 ? _mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), v), log2) :
		_mm512_setzero_si512();
}

static inline VI vi_int(VI v) { return _mm512_cvtps_epi32(_mm512_castsi512_ps(v)); }

#define PS(v) _mm512_castsi512_ps(v)
#define BITS(v) _mm512_castps_si512(v)

static inline VI vf_exact(VI acc, VI s, VI d, float dx)
{
	return BITS(_mm512_add_ps(PS(acc), _mm512_mul_ps(_mm512_cvtepi32_ps(s), _mm512_mul_ps(PS(d),
		_mm512_set1_ps(dx)))));
}

static inline VI vf_exact_min(VI acc, VI s, VI d, VI m, VI dmin, float dx)
{
	__m512 p = _mm512_mul_ps(_mm512_cvtepi32_ps(s), _mm512_mul_ps(PS(d), _mm512_set1_ps(dx)));

	p = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(m), _mm512_mul_ps(PS(dmin), _mm512_set1_ps(dx)), p);
	return BITS(_mm512_add_ps(PS(acc), p));
}

static inline VI vf_chain(VI t, VI s, VI sc)
{
	return BITS(_mm512_fmadd_ps(_mm512_cvtepi32_ps(s), PS(sc), PS(t)));
}

static inline VI vf_chain_min(VI v, VI mn, float x)
{
	return BITS(_mm512_fmadd_ps(PS(mn), _mm512_set1_ps(x), PS(v)));
}

static inline VI vf_group(VI acc, VI t, float dx)
{
	return BITS(_mm512_add_ps(PS(acc), _mm512_mul_ps(PS(t), _mm512_set1_ps(dx))));
}

static inline VI vf_group_min(VI acc, VI t, VI v, float dx)
{
	return vf_group(acc, BITS(_mm512_sub_ps(PS(t), PS(v))), dx);
}

static inline void vf_store(float *y, VI v, size_t n)
{
	_mm512_mask_storeu_ps(y, (__mmask16)((1u << n) - 1), _mm512_castsi512_ps(v));
}

/* All of them past the caches, to the beginning of a line. */
static inline void vf_store_past(float *y, VI v)
{
	_mm512_stream_ps(y, _mm512_castsi512_ps(v));
}

static inline void transpose(__m512i v[16])
{
	__m512i t[16];

	for (int i = 0; i < 16; i += 2) {
		t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
	}
	for (int i = 0; i < 16; i += 4) {
		v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (int i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
	}
	for (int i = 0; i < 8; i++) {
		v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
		v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
	}
}

static inline VI vf_halves(VI v, unsigned by, float unit)
{
	__m512 f = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(v, by)));

	return BITS(_mm512_mul_ps(f, _mm512_set1_ps(unit)));
}
