/*
 * sha.c - see sha.h. The rounds follow FIPS 180-4; the instructions take two rounds each, with the
 * state as the words (A B E F) and (C D G H).
 */
#include "audit/sha.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>

static const uint32_t k256[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

__attribute__((target("sha,sse4.1,ssse3"))) static void blocks(uint32_t h[8],
	const unsigned char *p, size_t n)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
	__m128i dcba = _mm_loadu_si128((const void *)h), hgfe = _mm_loadu_si128((const void *)(h + 4));
	__m128i cdab = _mm_shuffle_epi32(dcba, 0xb1), efgh = _mm_shuffle_epi32(hgfe, 0x1b);
	__m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);

	for (; n; n--, p += 64) {
		__m128i was0 = abef, was1 = cdgh, w[4];

		for (int i = 0; i < 4; i++)
			w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(p + 16 * i)), swap);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			__m128i t = _mm_add_epi32(w[i & 3], _mm_loadu_si128((const void *)(k256 + 4 * i)));

			cdgh = _mm_sha256rnds2_epu32(cdgh, abef, t);
			abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(t, 0x0e));
			if (i < 12) { /* w[i & 3] becomes the four words that are used four steps later */
				t = _mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]);
				t = _mm_add_epi32(t, _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
				w[i & 3] = _mm_sha256msg2_epu32(t, w[(i + 3) & 3]);
			}
		}
		abef = _mm_add_epi32(abef, was0);
		cdgh = _mm_add_epi32(cdgh, was1);
	}
	cdab = _mm_shuffle_epi32(abef, 0x1b); /* f e b a, high word first: a b e f reversed */
	efgh = _mm_shuffle_epi32(cdgh, 0xb1);
	_mm_storeu_si128((void *)h, _mm_blend_epi16(cdab, efgh, 0xf0));
	_mm_storeu_si128((void *)(h + 4), _mm_alignr_epi8(efgh, cdab, 8));
}

static int have(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
		return 0;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}
#else
static void blocks(uint32_t h[8], const unsigned char *p, size_t n)
{
	(void)h, (void)p, (void)n;
}

static int have(void)
{
	return 0;
}
#endif

static int fast = -1; /* not asked yet; every thread finds the same answer */

static int is_fast(void)
{
	int f = __atomic_load_n(&fast, __ATOMIC_RELAXED);

	if (f < 0) {
		f = have();
		__atomic_store_n(&fast, f, __ATOMIC_RELAXED);
	}
	return f;
}

int sha_fast(int allow)
{
	__atomic_store_n(&fast, allow ? have() : 0, __ATOMIC_RELAXED);
	return is_fast();
}

static const uint32_t first[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
	0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

void sha_init(struct sha *s)
{
	s->len = 0;
	memcpy(s->h, first, sizeof first);
	if (!is_fast())
		crypto_hash_sha256_init(&s->plain);
}

void sha_add(struct sha *s, const void *data, size_t n)
{
	const unsigned char *p = data;
	size_t have_now = s->len & 63, take;

	if (!is_fast()) {
		crypto_hash_sha256_update(&s->plain, p, n);
		return;
	}
	s->len += n;
	if (have_now) {
		take = n < 64 - have_now ? n : 64 - have_now;
		memcpy(s->block + have_now, p, take);
		p += take;
		n -= take;
		if (have_now + take < 64)
			return;
		blocks(s->h, s->block, 1);
	}
	if (n >= 64)
		blocks(s->h, p, n / 64);
	memcpy(s->block, p + (n & ~(size_t)63), n & 63);
}

static void put_words(const uint32_t h[8], unsigned char out[SHA_BYTES])
{
	for (int i = 0; i < 8; i++) {
		uint32_t be = __builtin_bswap32(h[i]);

		memcpy(out + 4 * i, &be, 4);
	}
}

void sha_end(struct sha *s, unsigned char out[SHA_BYTES])
{
	size_t n = s->len & 63;
	uint64_t bits = __builtin_bswap64(s->len * 8);
	unsigned char tail[128] = { 0 };

	if (!is_fast()) {
		crypto_hash_sha256_final(&s->plain, out);
		return;
	}
	memcpy(tail, s->block, n);
	tail[n] = 0x80;
	memcpy(tail + (n < 56 ? 56 : 120), &bits, 8);
	blocks(s->h, tail, n < 56 ? 1 : 2);
	put_words(s->h, out);
}

void sha_of(const void *p, size_t n, unsigned char out[SHA_BYTES])
{
	struct sha s;

	sha_init(&s);
	sha_add(&s, p, n);
	sha_end(&s, out);
}

int sha_file(struct sha *s, const char *path, uint64_t *bytes,
	int (*tick)(void *ctx, struct moe_err *e), void *ctx, struct moe_err *e)
{
	unsigned char piece[65536];
	FILE *f = fopen(path, "rb");
	size_t n;
	int bad = 0;

	if (!f)
		return err_errno(e, "%s", path);
	while (!bad && (n = fread(piece, 1, sizeof piece, f)) > 0) {
		sha_add(s, piece, n);
		*bytes += n;
		bad = tick ? tick(ctx, e) : 0;
	}
	if (!bad && ferror(f))
		bad = err_errno(e, "reading %s", path);
	fclose(f);
	return bad;
}
