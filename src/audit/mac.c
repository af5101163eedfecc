/*
 * mac.c - see mac.h. Numbers below 2^130 - 5 are five limbs of 26 bits, so that a product's limbs
 * are sums of five products below 2^58. Limbs of the accumulator may be a little above 26 bits
 * between steps; only finish() reduces them all the way.
 *
 * The message is a polynomial in r, a block a coefficient. Lane j of a vector has the blocks j, j +
 * 4, ... as a polynomial in r^4; at the end each lane is multiplied by the power of r that is left
 * to it, and the lanes are added.
 */
#include "audit/mac.h"

#include <stdint.h>
#include <string.h>

#include <sodium.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define LIMB UINT64_C(0x3ffffff)
#define GROUP 64 /* bytes: four blocks */

static uint64_t le64(const unsigned char *p)
{
	uint64_t x;

	memcpy(&x, p, 8);
	return x;
}

/* The limbs of lo + 2^64 hi + 2^128 top. */
static void limbs_of(uint64_t lo, uint64_t hi, uint64_t top, uint64_t h[5])
{
	h[0] = lo & LIMB;
	h[1] = lo >> 26 & LIMB;
	h[2] = (lo >> 52 | hi << 12) & LIMB;
	h[3] = hi >> 14 & LIMB;
	h[4] = hi >> 40 | top << 24;
}

static void carry(uint64_t d[5])
{
	uint64_t c = 0;

	for (int i = 0; i < 5; i++) {
		d[i] += c;
		c = d[i] >> 26;
		d[i] &= LIMB;
	}
	d[0] += 5 * c;
	d[1] += d[0] >> 26;
	d[0] &= LIMB;
}

/* h = h r mod 2^130 - 5, not fully reduced. */
static void mul(uint64_t h[5], const uint64_t r[5])
{
	uint64_t d[5] = { 0 };

	for (int i = 0; i < 5; i++)
		for (int j = 0; j < 5; j++) /* 2^130 is 5 */
			d[(i + j) % 5] += h[i] * r[j] * (i + j < 5 ? 1 : 5);
	carry(d);
	memcpy(h, d, sizeof d);
}

/* What four blocks of 16 bytes are, block 0 2 1 3, in limbs. */
__attribute__((target("avx2"))) static inline void load(const unsigned char *p, __m256i m[5])
{
	const __m256i mask = _mm256_set1_epi64x((long long)LIMB);
	__m256i a = _mm256_loadu_si256((const void *)p), b = _mm256_loadu_si256((const void *)(p + 32));
	__m256i lo = _mm256_unpacklo_epi64(a, b), hi = _mm256_unpackhi_epi64(a, b);

	m[0] = _mm256_and_si256(lo, mask);
	m[1] = _mm256_and_si256(_mm256_srli_epi64(lo, 26), mask);
	m[2] = _mm256_and_si256(
		_mm256_or_si256(_mm256_srli_epi64(lo, 52), _mm256_slli_epi64(hi, 12)), mask);
	m[3] = _mm256_and_si256(_mm256_srli_epi64(hi, 14), mask);
	m[4] = _mm256_or_si256(_mm256_srli_epi64(hi, 40), _mm256_set1_epi64x(1 << 24));
}

/* h = h r in each lane; s = 5 r. */
__attribute__((target("avx2"))) static inline void mul4(__m256i h[5], const __m256i r[5],
	const __m256i s[5])
{
	const __m256i mask = _mm256_set1_epi64x((long long)LIMB);
	__m256i d[5], c, c2;

#pragma GCC unroll 5
	for (int k = 0; k < 5; k++) {
		d[k] = _mm256_mul_epu32(h[0], r[k]);
#pragma GCC unroll 4
		for (int i = 1; i < 5; i++)
			d[k] = _mm256_add_epi64(d[k], _mm256_mul_epu32(h[i], i <= k ? r[k - i] : s[k - i + 5]));
	}
	c = _mm256_srli_epi64(d[0], 26), c2 = _mm256_srli_epi64(d[3], 26);
	d[1] = _mm256_add_epi64(d[1], c), d[4] = _mm256_add_epi64(d[4], c2);
	h[0] = _mm256_and_si256(d[0], mask), h[3] = _mm256_and_si256(d[3], mask);
	c = _mm256_srli_epi64(d[1], 26), c2 = _mm256_srli_epi64(d[4], 26);
	d[2] = _mm256_add_epi64(d[2], c);
	h[0] = _mm256_add_epi64(h[0], _mm256_add_epi64(c2, _mm256_slli_epi64(c2, 2)));
	h[1] = _mm256_and_si256(d[1], mask), h[4] = _mm256_and_si256(d[4], mask);
	c = _mm256_srli_epi64(d[2], 26), c2 = _mm256_srli_epi64(h[0], 26);
	h[2] = _mm256_and_si256(d[2], mask), h[0] = _mm256_and_si256(h[0], mask);
	h[3] = _mm256_add_epi64(h[3], c), h[1] = _mm256_add_epi64(h[1], c2);
	c = _mm256_srli_epi64(h[3], 26);
	h[3] = _mm256_and_si256(h[3], mask), h[4] = _mm256_add_epi64(h[4], c);
}

__attribute__((target("avx2"))) static inline void spread(const uint64_t x[5], __m256i r[5],
	__m256i s[5])
{
	for (int i = 0; i < 5; i++) {
		r[i] = _mm256_set1_epi64x((long long)x[i]);
		s[i] = _mm256_set1_epi64x((long long)x[i] * 5);
	}
}

/* v = v r + the group at p. */
__attribute__((target("avx2"))) static inline void step(__m256i v[5], const __m256i r[5],
	const __m256i s[5], const unsigned char *p)
{
	__m256i m[5];

	mul4(v, r, s);
	load(p, m);
	for (int i = 0; i < 5; i++)
		v[i] = _mm256_add_epi64(v[i], m[i]);
}

/* The n > 0 groups at p into h, which is 0. Even and odd groups are two polynomials in r^8, as long
 * as there are pairs: either waits for its own products only. */
__attribute__((target("avx2"))) static void groups(uint64_t h[5], const uint64_t r[5],
	const unsigned char *p, size_t n)
{
	__m256i v[5], odd[5], r4[5], s4[5], r8[5], s8[5];
	uint64_t pow[4][5], eight[5], lane[4];
	size_t g = 1;

	memcpy(pow[0], r, sizeof pow[0]);
	for (int i = 1; i < 4; i++) {
		memcpy(pow[i], pow[i - 1], sizeof pow[i]);
		mul(pow[i], r);
	}
	memcpy(eight, pow[3], sizeof eight);
	mul(eight, pow[3]);
	spread(pow[3], r4, s4);
	spread(eight, r8, s8);
	load(p, v);
	if (n > 1) {
		load(p + GROUP, odd);
		for (g = 2; g + 1 < n; g += 2) {
			step(v, r8, s8, p + GROUP * g);
			step(odd, r8, s8, p + GROUP * (g + 1));
		}
		mul4(v, r4, s4);
		for (int i = 0; i < 5; i++)
			v[i] = _mm256_add_epi64(v[i], odd[i]);
	}
	if (g < n)
		step(v, r4, s4, p + GROUP * g);
	for (int i = 0; i < 5; i++) { /* lanes hold the blocks 0 2 1 3 */
		r4[i] = _mm256_setr_epi64x((long long)pow[3][i], (long long)pow[1][i], (long long)pow[2][i],
			(long long)pow[0][i]);
		s4[i] = _mm256_add_epi64(r4[i], _mm256_slli_epi64(r4[i], 2));
	}
	mul4(v, r4, s4);
	for (int i = 0; i < 5; i++) {
		_mm256_storeu_si256((void *)lane, v[i]);
		h[i] = lane[0] + lane[1] + lane[2] + lane[3];
	}
	carry(h);
}

/* The tag: h mod 2^130 - 5, plus the key's second half mod 2^128. */
static void finish(uint64_t h[5], const unsigned char pad[16], unsigned char tag[MAC_BYTES])
{
	uint64_t g[5], lo, hi, add = le64(pad);
	int above;

	carry(h);
	carry(h);
	memcpy(g, h, sizeof g);
	g[0] += 5; /* h + 5 - 2^130, if that is not negative */
	for (int i = 0; i < 4; i++) {
		g[i + 1] += g[i] >> 26;
		g[i] &= LIMB;
	}
	above = g[4] >> 26 != 0;
	g[4] &= LIMB;
	if (above)
		memcpy(h, g, sizeof g);
	lo = h[0] | h[1] << 26 | h[2] << 52;
	hi = h[2] >> 12 | h[3] << 14 | h[4] << 40;
	lo += add;
	hi += le64(pad + 8) + (lo < add);
	memcpy(tag, &lo, 8);
	memcpy(tag + 8, &hi, 8);
}

static void with_avx2(const unsigned char *p, size_t n, const unsigned char key[MAC_KEY],
	unsigned char tag[MAC_BYTES])
{
	uint64_t r[5], h[5] = { 0 }, m[5];
	size_t whole = n / GROUP * GROUP;

	limbs_of(le64(key) & UINT64_C(0x0ffffffc0fffffff),
		le64(key + 8) & UINT64_C(0x0ffffffc0ffffffc), 0, r);
	if (whole)
		groups(h, r, p, n / GROUP);
	for (size_t at = whole; at < n; at += 16) {
		unsigned char block[17] = { 0 };
		size_t len = n - at < 16 ? n - at : 16;

		memcpy(block, p + at, len);
		block[len] = 1;
		limbs_of(le64(block), le64(block + 8), block[16], m);
		for (int i = 0; i < 5; i++)
			h[i] += m[i];
		mul(h, r);
	}
	finish(h, key + 16, tag);
}

static int have(void)
{
	return __builtin_cpu_supports("avx2") != 0;
}
#else
static void with_avx2(const unsigned char *p, size_t n, const unsigned char key[MAC_KEY],
	unsigned char tag[MAC_BYTES])
{
	(void)p, (void)n, (void)key, (void)tag;
}

static int have(void)
{
	return 0;
}
#endif

static int fast = -1; /* not asked yet; every thread finds the same answer */

int mac_fast(int allow)
{
	__atomic_store_n(&fast, allow ? have() : 0, __ATOMIC_RELAXED);
	return __atomic_load_n(&fast, __ATOMIC_RELAXED);
}

void mac_of(const void *p, size_t n, const unsigned char key[MAC_KEY], unsigned char tag[MAC_BYTES])
{
	int f = __atomic_load_n(&fast, __ATOMIC_RELAXED);

	if (f < 0)
		f = mac_fast(1);
	if (f)
		with_avx2(p, n, key, tag);
	else
		crypto_onetimeauth(tag, p, n, key);
}
