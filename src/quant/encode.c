/*
 * encode.c - see encode.h. Block layouts: src/kern/body.h.
 *
 * The search, for a group of elements that share a scale d (and a minimum m): a candidate for 1/d
 * gives integers q by rounding; for these q the d (and m) with the least squared error follow from
 * linear least squares; the best candidate wins. Scales that are stored in few bits are then
 * rounded and the integers made again with the scale that a reader will see.
 *
 * Sums are kept in four lanes, in vectors of four as every machine has them (an extension of gcc
 * and clang): the order of additions is part of the definition.
 */
#include "quant/encode.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/qtype.h"
#include "kern/half.h"

typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));

static inline F4 load(const float *p)
{
	F4 v;

	memcpy(&v, p, sizeof v);
	return v;
}

static inline F4 all(float f)
{
	return (F4){ f, f, f, f };
}

static inline float sum4(F4 s)
{
	return (s[0] + s[2]) + (s[1] + s[3]);
}

/* To the nearest integer, ties to even; |x| < 2^22. Two additions, which vectors have. */
static inline float nearest(float x)
{
	return (x + 12582912.0f) - 12582912.0f;
}

static inline float clip(float x, float lo, float hi)
{
	x = x < lo ? lo : x;
	return x > hi ? hi : x;
}

static inline F4 select4(I4 mask, F4 a, F4 b) /* mask ? a : b */
{
	return (F4)((mask & (I4)a) | (~mask & (I4)b));
}

/* The same on vectors, in one. */
static inline F4 nearest_clip(F4 x, F4 lo, F4 hi)
{
	x = select4(x < lo, lo, x);
	x = select4(x > hi, hi, x);
	return (x + 12582912.0f) - 12582912.0f;
}

static inline void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

/* Store d as half, without the sign of a zero; returns the value that is read back. */
static inline float put_half(uint8_t *p, float d)
{
	uint16_t h = half_from_float(d);

	h = h == 0x8000 ? 0 : h;
	put16(p, h);
	return half_to_float(h);
}

/* 1/d, and 0 for 0: then every integer is 0. A d so small that 1/d overflows counts as 0. */
static inline float inverse(float d)
{
	float id = d != 0 ? 1 / d : 0;

	return fabsf(id) <= FLT_MAX ? id : 0;
}

/* q = nearest(x * id + off) within lo..hi */
static inline void make_q(const float *x, int n, float id, float off, float lo, float hi, float *q)
{
	for (int i = 0; i < n; i++)
		q[i] = nearest(clip(x[i] * id + off, lo, hi));
}

/* The element of greatest magnitude, with its sign. */
static inline float extreme(const float *x, int n)
{
	float m = 0;

	for (int i = 0; i < n; i++)
		m = fabsf(x[i]) > fabsf(m) ? x[i] : m;
	return m;
}

/* ---- one scale: x = d * q, lo <= q <= hi ---- */

/* Candidates lay the extreme element at lo + from, in steps; half: d is stored as a half float. */
struct search { int steps; float from, step; int half; };

/* The d of least squared error that was found; 0 if all elements are. */
static float fit_scale(const float *x, int n, float lo, float hi, struct search how)
{
	float m = extreme(x, n), best = 0, d = 0;

	if (m == 0)
		return 0;
	for (int k = 0; k < how.steps; k++) {
		float id = (lo + how.from + how.step * (float)k) / m, sxq, sqq;
		F4 xq = all(0), qq = all(0);

		if (!(fabsf(id) <= FLT_MAX))
			continue;
		for (int i = 0; i < n; i += 4) {
			F4 v = load(x + i), q = nearest_clip(v * id, all(lo), all(hi));

			xq += v * q;
			qq += q * q;
		}
		sxq = sum4(xq);
		sqq = sum4(qq);
		if (sqq > 0) {
			float c = how.half ? half_to_float(half_from_float(sxq / sqq)) : sxq / sqq;
			float less = c * (2 * sxq - c * sqq); /* the error is sum x^2 minus this */

			if (less > best)
				best = less, d = c;
		}
	}
	return d != 0 ? d : m / lo; /* tiny elements, whose squares vanish */
}

/* ---- a scale and a minimum: x = d * q + m, 0 <= q <= hi ---- */

struct affine { float d, m; };

static float affine_error(const float *x, int n, float d, float m, float hi)
{
	float id = inverse(d);
	F4 s = all(0);

	for (int i = 0; i < n; i += 4) {
		F4 v = load(x + i), q = nearest_clip((v - m) * id, all(0), all(hi)), r = q * d + m - v;

		s += r * r;
	}
	return sum4(s);
}

/* d and m by least squares for the integers that a and the range give. neg:
 * m may not be above 0. */
static struct affine solve(const float *x, int n, struct affine a, float hi, int neg)
{
	float id = inverse(a.d), sq, sqq, sx, sxq, det;
	F4 q1 = all(0), q2 = all(0), x1 = all(0), xq = all(0);

	for (int i = 0; i < n; i += 4) {
		F4 v = load(x + i), q = nearest_clip((v - a.m) * id, all(0), all(hi));

		q1 += q;
		q2 += q * q;
		x1 += v;
		xq += v * q;
	}
	sq = sum4(q1), sqq = sum4(q2), sx = sum4(x1), sxq = sum4(xq);
	det = (float)n * sqq - sq * sq;
	if (!(det > 0))
		return a;
	a.d = ((float)n * sxq - sx * sq) / det;
	a.m = (sqq * sx - sq * sxq) / det;
	if (neg && a.m > 0) {
		a.m = 0;
		a.d = sxq / sqq;
	}
	return a;
}

/* Candidates: the range itself, then least squares from the range divided into hi - 1 to hi + 0.7
 * steps. half: d and m are stored as half floats and compared as such. */
static struct affine fit_affine(const float *x, int n, float hi, int neg, int half)
{
	float min = x[0], max = x[0], best = FLT_MAX;
	struct affine found;

	for (int i = 1; i < n; i++) {
		min = x[i] < min ? x[i] : min;
		max = x[i] > max ? x[i] : max;
	}
	if (neg && min > 0)
		min = 0;
	found = (struct affine){ (max - min) / hi, min };
	if (!(max > min) || !(max - min <= FLT_MAX))
		return found;
	for (int k = -1; k < 18; k++) {
		struct affine a = { (max - min) / (k < 0 ? hi : hi - 1 + 0.1f * (float)k), min };
		float err;

		if (k >= 0) {
			a = solve(x, n, a, hi, neg);
			a = solve(x, n, a, hi, neg);
		}
		if (half) {
			a.d = half_to_float(half_from_float(a.d));
			a.m = half_to_float(half_from_float(a.m));
		}
		err = affine_error(x, n, a.d, a.m, hi);
		if ((k < 0 || a.d > 0) && err < best) {
			best = err;
			found = a;
		}
	}
	return found;
}

/* ---- the types ---- */

static size_t put_f32(const float *x, uint8_t *p)
{
	memcpy(p, x, 4);
	return 1;
}

static size_t put_f16(const float *x, uint8_t *p)
{
	uint16_t h = half_from_float(*x);

	put16(p, h);
	return (h & 0x7c00) != 0x7c00;
}

static size_t put_bf16(const float *x, uint8_t *p)
{
	uint32_t u;

	memcpy(&u, x, 4);
	u = (u + 0x7fff + (u >> 16 & 1)) >> 16;
	put16(p, (uint16_t)u);
	return (u & 0x7f80) != 0x7f80;
}

/* The index of an element that the half in p cannot scale: it became infinite. */
static size_t half_ok(const uint8_t *p, size_t n, const float *x)
{
	float m = extreme(x, (int)n);
	size_t at = 0;

	if ((p[1] & 0x7c) != 0x7c)
		return n;
	while (x[at] != m)
		at++;
	return at;
}

static size_t put_q8_0(const float *x, uint8_t *p)
{
	float d = put_half(p, fabsf(extreme(x, 32)) / 127), q[32];

	make_q(x, 32, inverse(d), 0, -127, 127, q);
	for (int i = 0; i < 32; i++)
		p[2 + i] = (uint8_t)(int8_t)q[i];
	return half_ok(p, 32, x);
}

static void put_nibbles(const float q[32], uint8_t *p)
{
	for (int i = 0; i < 16; i++)
		p[i] = (uint8_t)(((int)q[i] & 15) | ((int)q[i + 16] & 15) << 4);
}

static void put_fifth(const float q[32], uint8_t *p)
{
	uint32_t h = 0;

	for (int i = 0; i < 32; i++)
		h |= (uint32_t)((int)q[i] >> 4 & 1) << i;
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(h >> 8 * i);
}

static size_t put_q4_0(const float *x, uint8_t *p)
{
	float d = put_half(p, fit_scale(x, 32, -8, 7, (struct search){ 16, -0.9f, 0.2f, 1 })), q[32];

	make_q(x, 32, inverse(d), 8, 0, 15, q);
	put_nibbles(q, p + 2);
	return half_ok(p, 32, x);
}

static size_t put_q5_0(const float *x, uint8_t *p)
{
	float d = put_half(p, fit_scale(x, 32, -16, 15, (struct search){ 16, -0.9f, 0.2f, 1 })), q[32];

	make_q(x, 32, inverse(d), 16, 0, 31, q);
	put_fifth(q, p + 2);
	put_nibbles(q, p + 6);
	return half_ok(p, 32, x);
}

/* d and m of Q4_1 and Q5_1 as halves, and the integers. */
static size_t put_affine(const float *x, float hi, uint8_t *p, float q[32])
{
	struct affine a = fit_affine(x, 32, hi, 0, 1);

	a.d = put_half(p, a.d);
	a.m = put_half(p + 2, a.m);
	for (int i = 0; i < 32; i++)
		q[i] = nearest(clip((x[i] - a.m) * inverse(a.d), 0, hi));
	return half_ok(p, 32, x) < 32 ? half_ok(p, 32, x) : half_ok(p + 2, 32, x);
}

static size_t put_q4_1(const float *x, uint8_t *p)
{
	float q[32];
	size_t ok = put_affine(x, 15, p, q);

	put_nibbles(q, p + 4);
	return ok;
}

static size_t put_q5_1(const float *x, uint8_t *p)
{
	float q[32];
	size_t ok = put_affine(x, 31, p, q);

	put_fifth(q, p + 4);
	put_nibbles(q, p + 8);
	return ok;
}

/* Six-bit scales and minimums into the 12 bytes of Q4_K and Q5_K: k_scale of body.h backwards. */
static void put_k_scales(const int sc[8], const int mn[8], uint8_t *p)
{
	for (int j = 0; j < 4; j++) {
		p[j] = (uint8_t)(sc[j] | (sc[j + 4] >> 4) << 6);
		p[j + 4] = (uint8_t)(mn[j] | (mn[j + 4] >> 4) << 6);
		p[j + 8] = (uint8_t)((sc[j + 4] & 15) | (mn[j + 4] & 15) << 4);
	}
}

/* Scale and minimum of a sub-block in units of d and dmin, the best of the nine next to where they
 * would lie if they were not integers. */
static void round_pair(const float *x, struct affine a, float d, float dmin, float hi, int *sc,
	int *mn)
{
	int s0 = (int)nearest(clip(a.d * inverse(d), 0, 63));
	int m0 = (int)nearest(clip(-a.m * inverse(dmin), 0, 63));
	float best = FLT_MAX;

	*sc = s0, *mn = m0;
	for (int s = s0 > 0 ? s0 - 1 : 0; s <= s0 + 1 && s < 64; s++)
		for (int m = m0 > 0 ? m0 - 1 : 0; m <= m0 + 1 && m < 64; m++) {
			float err = affine_error(x, 32, d * (float)s, -(dmin * (float)m), hi);

			if (err < best) {
				best = err;
				*sc = s, *mn = m;
			}
		}
}

/* d, dmin, scales to p[16]; the integers to q[256]. */
static size_t put_k(const float *x, float hi, uint8_t *p, float *q)
{
	struct affine a[8];
	float d = 0, dmin = 0;
	int sc[8], mn[8];

	for (int j = 0; j < 8; j++) {
		a[j] = fit_affine(x + 32 * j, 32, hi, 1, 0);
		d = a[j].d > d ? a[j].d : d;
		dmin = -a[j].m > dmin ? -a[j].m : dmin;
	}
	d = put_half(p, d / 63);
	dmin = put_half(p + 2, dmin / 63);
	for (int j = 0; j < 8; j++) {
		const float *xs = x + 32 * j;
		float id, m;

		round_pair(xs, a[j], d, dmin, hi, &sc[j], &mn[j]);
		id = inverse(d * (float)sc[j]);
		m = -(dmin * (float)mn[j]);
		for (int i = 0; i < 32; i++)
			q[32 * j + i] = nearest(clip((xs[i] - m) * id, 0, hi));
	}
	put_k_scales(sc, mn, p + 4);
	return half_ok(p, 256, x) < 256 ? half_ok(p, 256, x) : half_ok(p + 2, 256, x);
}

/* Sub-blocks 2j and 2j+1 share 32 bytes: low and high nibbles. */
static void put_k_nibbles(const float *q, uint8_t *p)
{
	for (int j = 0; j < 4; j++)
		for (int i = 0; i < 32; i++)
			p[32 * j + i] = (uint8_t)(((int)q[64 * j + i] & 15) | ((int)q[64 * j + 32 + i] & 15) <<
				4);
}

static size_t put_q4_k(const float *x, uint8_t *p)
{
	float q[256];
	size_t ok = put_k(x, 15, p, q);

	put_k_nibbles(q, p + 16);
	return ok;
}

static size_t put_q5_k(const float *x, uint8_t *p)
{
	float q[256];
	size_t ok = put_k(x, 31, p, q);

	memset(p + 16, 0, 32);
	for (int i = 0; i < 256; i++)
		p[16 + i % 32] |= (uint8_t)(((int)q[i] >> 4 & 1) << i / 32);
	put_k_nibbles(q, p + 48);
	return ok;
}

static float scale_error(const float *x, float d)
{
	float id = inverse(d);
	F4 s = all(0);

	for (int i = 0; i < 16; i += 4) {
		F4 v = load(x + i), r = nearest_clip(v * id, all(-32), all(31)) * d - v;

		s += r * r;
	}
	return sum4(s);
}

static size_t put_q6_k(const float *x, uint8_t *p)
{
	float s[16], d, q[256];
	uint8_t u[256];

	for (int j = 0; j < 16; j++)
		s[j] = fit_scale(x + 16 * j, 16, -32, 31, (struct search){ 16, -0.8f, 0.1f, 0 });
	d = put_half(p + 208, extreme(s, 16) / -128);
	for (int j = 0; j < 16; j++) {
		float r = nearest(clip(s[j] * inverse(d), -128, 127)), best = FLT_MAX, sc = r;

		for (float t = r - 1; t <= r + 1; t++) {
			float err = t < -128 || t > 127 ? FLT_MAX : scale_error(x + 16 * j, d * t);

			if (err < best)
				best = err, sc = t;
		}
		p[192 + j] = (uint8_t)(int8_t)sc;
		make_q(x + 16 * j, 16, inverse(d * sc), 32, 0, 63, q + 16 * j);
	}
	for (int i = 0; i < 256; i++)
		u[i] = (uint8_t)q[i];
	for (int b = 0; b < 2; b++)
		for (int i = 0; i < 32; i++) {
			const uint8_t *v = u + 128 * b + i;

			p[64 * b + i] = (uint8_t)((v[0] & 15) | (v[64] & 15) << 4);
			p[64 * b + 32 + i] = (uint8_t)((v[32] & 15) | (v[96] & 15) << 4);
			p[128 + 32 * b + i] = (uint8_t)(v[0] >> 4 | v[32] >> 4 << 2 | v[64] >> 4 << 4 | v[96] >>
				4 << 6);
		}
	return half_ok(p + 208, 256, x);
}

/* The code of the E2M1 number nearest to a, which is in units of half its smallest step; a tie goes
 * to the smaller. */
static inline int e2m1(float a)
{
	float m = fabsf(a);
	int c = (m > 0.5f) + (m > 1.5f) + (m > 2.5f) + (m > 3.5f) + (m > 5) + (m > 7) + (m > 10);

	return c && a < 0 ? c + 8 : c;
}

static size_t put_mxfp4(const float *x, uint8_t *p)
{
	static const float twice[8] = { 0, 1, 2, 3, 4, 6, 8, 12 };
	float m = fabsf(extreme(x, 32)), best = FLT_MAX;
	int e0 = 0, pick = 0;

	if (m > 0)
		frexpf(m, &e0); /* m < 2^e0; 4 to 6 is where the largest numbers lie */
	e0 += -3 + 127;
	for (int e = m > 0 ? e0 - 1 : 0; m > 0 && e <= e0 + 1; e++) {
		float d = ldexpf(1, e - 128), id = ldexpf(1, 128 - e), s = 0;

		if (e < 2 || e > 254) /* subnormal scales: only as a last resort below */
			continue;
		for (int i = 0; i < 32; i++) {
			float r = d * twice[e2m1(x[i] * id) & 7] - fabsf(x[i]);

			s += r * r;
		}
		if (s < best)
			best = s, pick = e;
	}
	p[0] = (uint8_t)pick;
	for (int i = 0; i < 16; i++) {
		float id = pick ? ldexpf(1, 128 - pick) : 0;

		p[1 + i] = (uint8_t)(e2m1(x[i] * id) | e2m1(x[i + 16] * id) << 4);
	}
	return 32;
}

/* To add a type: a function from a block of floats to its bytes, which returns the block's length
 * or the index of an element that it cannot hold; and a row. */
static size_t (*const put_block[QT_MAX])(const float *, uint8_t *) = {
	[QT_F32] = put_f32, [QT_F16] = put_f16, [QT_BF16] = put_bf16, [QT_Q8_0] = put_q8_0,
	[QT_Q4_0] = put_q4_0, [QT_Q4_1] = put_q4_1, [QT_Q5_0] = put_q5_0, [QT_Q5_1] = put_q5_1,
	[QT_Q4_K] = put_q4_k, [QT_Q5_K] = put_q5_k, [QT_Q6_K] = put_q6_k, [QT_MXFP4] = put_mxfp4,
};

int quant_can(uint32_t type)
{
	return type < QT_MAX && put_block[type];
}

size_t quant_encode(uint32_t type, const float *x, size_t n, uint8_t *out)
{
	const struct qtype_info *q = qtype_info(type);

	for (size_t i = 0; i < n; i++)
		if (!(fabsf(x[i]) <= FLT_MAX))
			return i;
	for (size_t i = 0; i < n; i += q->block, out += q->bytes) {
		size_t ok = put_block[type](x + i, out);

		if (ok < q->block)
			return i + ok;
	}
	return n;
}
