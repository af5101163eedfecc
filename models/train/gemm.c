/* gemm.c - see gemm.h. The bfloat16 kernel holds 6 rows by 64 columns of C in 24 registers; each
 * step takes one pair of k: four loads of packed B and six broadcasts from A. A is converted to
 * row-major bfloat16 in blocks that stay in the second-level cache.
 */
#define _GNU_SOURCE
#include "gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

void *gemm_alloc(size_t bytes)
{
	size_t huge = (size_t)2 << 20;
	size_t size = (bytes + huge - 1) / huge * huge;
	void *p = NULL;
	if (posix_memalign(&p, huge, size ? size : huge)) {
		fprintf(stderr, "no memory for %zu bytes\n", size);
		exit(1);
	}
	madvise(p, size, MADV_HUGEPAGE);
	memset(p, 0, size);
	return p;
}

/* Scratch that grows and belongs to one thread. */
struct scratch {
	void *p;
	size_t size;
};

static inline void *scratch_get(struct scratch *s, size_t bytes)
{
	if (bytes > s->size) {
		free(s->p);
		s->p = gemm_alloc(bytes);
		s->size = bytes;
	}
	return s->p;
}

static _Thread_local struct scratch scratch_b;

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && !defined(REAL_DOUBLE) && !defined(USE_BLAS)

#include <immintrin.h>

const char gemm_backend[] = "avx512-bf16";

enum { KC = 256, MC = 192, NR = 64, MR = 6 };

static _Thread_local struct scratch scratch_a;

static inline size_t round_up(size_t x, size_t to)
{
	return (x + to - 1) / to * to;
}

static inline __mmask16 mask16(size_t n)
{
	return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}

/* 16 pairs along k from one row of 32 consecutive floats, of which `left` exist. */
static inline __m512i pairs_along(const float *p, size_t left)
{
	__m512 lo, hi;
	if (left >= 32) {
		lo = _mm512_loadu_ps(p);
		hi = _mm512_loadu_ps(p + 16);
	} else {
		lo = _mm512_maskz_loadu_ps(mask16(left), p);
		hi = _mm512_maskz_loadu_ps(left > 16 ? mask16(left - 16) : 0, p + 16);
	}
	return (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
}

/* Pairs (k, k+1) of 16 neighbouring columns; `rows` of the two rows exist, `cols` columns. */
static inline __m512i pairs_across(const float *p, size_t ld, size_t rows, size_t cols)
{
	static const uint16_t order[32] __attribute__((aligned(64))) = {
		0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
		8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31,
	};
	__mmask16 m = mask16(cols);
	__m512 lo = _mm512_maskz_loadu_ps(rows > 0 ? m : 0, p);
	__m512 hi = _mm512_maskz_loadu_ps(rows > 1 ? m : 0, p + ld);
	__m512i v = (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
	return _mm512_permutexvar_epi16(_mm512_load_si512(order), v);
}

/* Transposes a 16 by 16 matrix of 32-bit words held in 16 registers. */
static inline void transpose16(__m512i r[16])
{
	__m512i t[16];
	for (int i = 0; i < 8; i++) {
		t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
		t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
	}
	for (int i = 0; i < 4; i++) {
		r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
		r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
		r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
		r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
	}
	for (int i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
	}
	for (int i = 0; i < 4; i++) {
		r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
		r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
		r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
		r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
	}
}

size_t gemm_packed_size(size_t k, size_t n)
{
	return round_up(k, 32) * round_up(n, NR) * 2;
}

/* One block of kc rows of op(B), to [panel][k pair][64]. */
static void pack_b_block(int tb, size_t kc, size_t n, const float *b, size_t ldb, uint32_t *out)
{
	size_t kp = round_up(kc, 32) / 2;
	for (size_t n0 = 0; n0 < n; n0 += NR) {
		uint32_t *panel = out + n0 * kp;
		for (size_t g = 0; g < NR; g += 16) {
			size_t cols = n > n0 + g ? n - n0 - g : 0;
			if (!tb) {
				const float *src = b + n0 + g;
				for (size_t p = 0; p < kp; p++) {
					size_t rows = kc > 2 * p ? kc - 2 * p : 0;
					_mm512_store_si512(panel + p * NR + g,
						pairs_across(src + 2 * p * ldb, ldb, rows, cols));
				}
				continue;
			}
			for (size_t p = 0; p < kp; p += 16) {
				__m512i r[16];
				for (size_t i = 0; i < 16; i++)
					r[i] = i < cols
						? pairs_along(b + (n0 + g + i) * ldb + 2 * p,
							      kc - 2 * p)
						: _mm512_setzero_si512();
				transpose16(r);
				for (size_t i = 0; i < 16; i++)
					_mm512_store_si512(panel + (p + i) * NR + g, r[i]);
			}
		}
	}
}

void gemm_pack(int tb, size_t k, size_t n, const real *b, size_t ldb, void *out)
{
	uint32_t *dst = out;
	for (size_t k0 = 0; k0 < k; k0 += KC) {
		size_t kc = k - k0 < KC ? k - k0 : KC;
		pack_b_block(tb, kc, n, tb ? b + k0 : b + k0 * ldb, ldb, dst);
		dst += round_up(kc, 32) / 2 * round_up(n, NR);
	}
}

/* mc rows by kc of op(A) to row-major pairs, padded with zero rows to a multiple of 16. */
static void pack_a_block(int ta, size_t mc, size_t kc, const float *a, size_t lda, uint32_t *out)
{
	size_t kp = round_up(kc, 32) / 2;
	if (!ta) {
		for (size_t i = 0; i < mc; i++)
			for (size_t p = 0; p < kp; p += 16)
				_mm512_store_si512(out + i * kp + p,
					pairs_along(a + i * lda + 2 * p, kc - 2 * p));
		return;
	}
	for (size_t i = 0; i < mc; i += 16)
		for (size_t p = 0; p < kp; p += 16) {
			__m512i r[16];
			for (size_t j = 0; j < 16; j++) {
				size_t k = 2 * (p + j);
				r[j] = pairs_across(a + k * lda + i, lda, kc > k ? kc - k : 0,
						    mc - i);
			}
			transpose16(r);
			for (size_t j = 0; j < 16; j++)
				_mm512_store_si512(out + (i + j) * kp + p, r[j]);
		}
}

/* C[rows][cols] for one 6 by 64 tile; a: [6][kp] pairs, b: [kp][64] pairs. */
static void kernel(size_t kp, const uint32_t *a, const uint32_t *b, float *c, size_t ldc,
		   size_t rows, size_t cols, int acc)
{
	__m512 s[MR][4];
#pragma GCC unroll 6
	for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			s[i][j] = _mm512_setzero_ps();
	for (size_t p = 0; p < kp; p++) {
		__m512bh v[4];
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			v[j] = (__m512bh)_mm512_load_si512(b + p * NR + 16 * j);
#pragma GCC unroll 6
		for (size_t i = 0; i < MR; i++) {
			__m512bh x = (__m512bh)_mm512_set1_epi32((int)a[i * kp + p]);
#pragma GCC unroll 4
			for (int j = 0; j < 4; j++)
				s[i][j] = _mm512_dpbf16_ps(s[i][j], x, v[j]);
		}
	}
#pragma GCC unroll 6
	for (size_t i = 0; i < MR; i++) {
		if (i >= rows)
			break;
#pragma GCC unroll 4
		for (size_t j = 0; j < 4; j++) {
			float *to = c + i * ldc + 16 * j;
			__mmask16 m = cols > 16 * j ? mask16(cols - 16 * j) : 0;
			__m512 v = s[i][j];
			if (acc)
				v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, to));
			_mm512_mask_storeu_ps(to, m, v);
		}
	}
}

void gemm_packed(int ta, size_t m, size_t n, size_t k, const real *a, size_t lda, const void *bp,
		 real *c, size_t ldc, int acc)
{
	uint32_t *abuf = scratch_get(&scratch_a, (MC + 16) * KC * 2);
	const uint32_t *bblock = bp;
	if (k == 0 && !acc)
		for (size_t i = 0; i < m; i++)
			memset(c + i * ldc, 0, n * sizeof *c);
	for (size_t k0 = 0; k0 < k; k0 += KC) {
		size_t kc = k - k0 < KC ? k - k0 : KC;
		size_t kp = round_up(kc, 32) / 2;
		for (size_t m0 = 0; m0 < m; m0 += MC) {
			size_t mc = m - m0 < MC ? m - m0 : MC;
			const float *src = ta ? a + k0 * lda + m0 : a + m0 * lda + k0;
			pack_a_block(ta, mc, kc, src, lda, abuf);
			for (size_t n0 = 0; n0 < n; n0 += NR)
				for (size_t i = 0; i < mc; i += MR)
					kernel(kp, abuf + i * kp, bblock + n0 * kp,
					       c + (m0 + i) * ldc + n0, ldc, mc - i, n - n0,
					       acc || k0 > 0);
		}
		bblock += kp * round_up(n, NR);
	}
}

#else

size_t gemm_packed_size(size_t k, size_t n)
{
	return k * n * sizeof(real);
}

void gemm_pack(int tb, size_t k, size_t n, const real *b, size_t ldb, void *out)
{
	real *dst = out;
	for (size_t i = 0; i < k; i++)
		for (size_t j = 0; j < n; j++)
			dst[i * n + j] = tb ? b[j * ldb + i] : b[i * ldb + j];
}

#ifdef REAL_DOUBLE

const char gemm_backend[] = "plain double";

void gemm_packed(int ta, size_t m, size_t n, size_t k, const real *a, size_t lda, const void *bp,
		 real *c, size_t ldc, int acc)
{
	const real *b = bp;
	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < n; j++) {
			real s = acc ? c[i * ldc + j] : 0;
			for (size_t p = 0; p < k; p++)
				s += (ta ? a[p * lda + i] : a[i * lda + p]) * b[p * n + j];
			c[i * ldc + j] = s;
		}
}

#else

#include <cblas.h>

const char gemm_backend[] = "openblas";

void gemm_packed(int ta, size_t m, size_t n, size_t k, const real *a, size_t lda, const void *bp,
		 real *c, size_t ldc, int acc)
{
	if (!m || !n)
		return;
	if (!k) {
		for (size_t i = 0; !acc && i < m; i++)
			memset(c + i * ldc, 0, n * sizeof *c);
		return;
	}
	cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, CblasNoTrans, (int)m, (int)n,
		    (int)k, 1.0f, a, (int)lda, bp, (int)n, acc ? 1.0f : 0.0f, c, (int)ldc);
}

#endif
#endif

void gemm(int ta, int tb, size_t m, size_t n, size_t k, const real *a, size_t lda,
	  const real *b, size_t ldb, real *c, size_t ldc, int acc)
{
	void *bp = scratch_get(&scratch_b, gemm_packed_size(k, n));
	gemm_pack(tb, k, n, b, ldb, bp);
	gemm_packed(ta, m, n, k, a, lda, bp, c, ldc, acc);
}
