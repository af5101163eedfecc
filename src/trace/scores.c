/*
 * scores.c - see scores.h.
 *
 * Decisions are taken TILE at a time, so that what one has to wait for is done beside the others.
 * Experts i, i + LANES, ... share a partial sum; the lanes are added in ascending order, decisions
 * to a sum in theirs. No product is fused with a sum: the wider instructions, where a processor
 * has them, give the same bits.
 */
#include "trace/scores.h"

#include <math.h>
#include <string.h>

#include "base/num.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LANES 8
#define TILE 8

struct tile {
	/* e^(logit - max), 0 behind the last up to a multiple of LANES. Rows of a power of two would
	 * meet in the same places of the cache. */
	float prob[TILE][MOE_MAX_EXPERT + 16];
	float max[TILE];
	double z[TILE][LANES], dot[TILE][LANES]; /* sums of prob, and of prob * (logit - max) */
	double inv[TILE];                        /* 1 / z, 0 = left out */
};

/* num_exp(x) for -110 <= x <= 0, and NaN for NaN, without a branch, so that lanes go together. */
static inline float exp_below(float x)
{
	float t = x * NUM_LOG2_E + NUM_TO_INT, n = t - NUM_TO_INT, p, s1, s2;
	uint32_t b1, b2; /* a NaN makes any number of these */
	int32_t i, h;

	p = num_exp_part(x, n);
	memcpy(&i, &t, 4);
	i -= NUM_TO_INT_BITS; /* what was added to it */
	h = i >> 1;
	b1 = ((uint32_t)h + 127) << 23;
	b2 = ((uint32_t)i - (uint32_t)h + 127) << 23;
	memcpy(&s1, &b1, 4);
	memcpy(&s2, &b2, 4);
	return p * s1 * s2;
}

static inline void lane_max(const float *x, size_t n, float *max)
{
	for (size_t j = 0; j < n; j++)
		max[j] = x[j] > max[j] ? x[j] : max[j];
}

/* What the softmax is made of. A barred expert, at -inf, has no part. */
static inline void lane_scores(const float *logit, float max, float *prob, double *z, double *dot)
{
	float d[LANES];

	for (size_t j = 0; j < LANES; j++)
		d[j] = logit[j] - max;
	for (size_t j = 0; j < LANES; j++)
		d[j] = d[j] < -110.0f ? -110.0f : d[j]; /* e^-110 is 0 */
	for (size_t j = 0; j < LANES; j++)
		prob[j] = exp_below(d[j]);
	for (size_t j = 0; j < LANES; j++)
		z[j] += (double)prob[j];
	for (size_t j = 0; j < LANES; j++)
		dot[j] += (double)prob[j] * (double)d[j];
}

/* The last n % LANES logits; what is missing to a whole group counts as barred. */
static inline void last_lanes(const float *logit, size_t n, float *rest)
{
	for (size_t j = 0; j < LANES; j++)
		rest[j] = -INFINITY;
	memcpy(rest, logit + n / LANES * LANES, n % LANES * sizeof *rest);
}

static inline float max_of(const float *logit, size_t n)
{
	float lane[LANES], rest[LANES];

	for (size_t j = 0; j < LANES; j++)
		lane[j] = -INFINITY;
	for (size_t i = 0; i + LANES <= n; i += LANES)
		lane_max(logit + i, LANES, lane);
	if (n % LANES) {
		last_lanes(logit, n, rest);
		lane_max(rest, LANES, lane);
	}
	lane_max(lane + 4, 4, lane);
	lane_max(lane + 2, 2, lane);
	return lane[1] > lane[0] ? lane[1] : lane[0];
}

static inline void score_row(const float *logit, size_t n, struct tile *o, size_t t)
{
	size_t whole = n / LANES * LANES;
	float rest[LANES], max = o->max[t];
	double z[LANES] = { 0 }, dot[LANES] = { 0 };

	for (size_t i = 0; i < whole; i += LANES)
		lane_scores(logit + i, max, o->prob[t] + i, z, dot);
	if (whole < n) {
		last_lanes(logit, n, rest);
		lane_scores(rest, max, o->prob[t] + whole, z, dot);
	}
	memcpy(o->z[t], z, sizeof z);
	memcpy(o->dot[t], dot, sizeof dot);
}

static void score_tile(const float *logits, size_t n_tok, size_t n_expert, struct tile *o)
{
	for (size_t t = 0; t < n_tok; t++)
		o->max[t] = max_of(logits + t * n_expert, n_expert);
	for (size_t t = 0; t < n_tok; t++)
		score_row(logits + t * n_expert, n_expert, o, t);
}

static void add_probs(const struct tile *o, size_t n_tok, size_t from, size_t n_expert,
	double *probs)
{
	for (size_t t = 0; t < n_tok; t++)
		for (size_t i = from; i < n_expert; i++)
			probs[i] += (double)o->prob[t][i] * o->inv[t];
}

static void probs_tile(const struct tile *o, size_t n_tok, size_t n_expert, double *probs)
{
	add_probs(o, n_tok, 0, n_expert, probs);
}

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2"))) static

/* exp_below() of each. */
AVX2 inline __m256 exp_avx2(__m256 x)
{
	const __m256 to_int = _mm256_set1_ps(NUM_TO_INT);
	__m256 t = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(NUM_LOG2_E)), to_int);
	__m256 n = _mm256_sub_ps(t, to_int), r, p = _mm256_set1_ps(num_exp_taylor[0]);
	__m256i i = _mm256_castps_si256(t), h, one;

	r = _mm256_sub_ps(x, _mm256_mul_ps(n, _mm256_set1_ps(NUM_LN2_HIGH)));
	r = _mm256_add_ps(r, _mm256_mul_ps(n, _mm256_set1_ps(NUM_LN2_OVER)));
	p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(num_exp_taylor[1]));
	p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(num_exp_taylor[2]));
	p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(num_exp_taylor[3]));
	p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(num_exp_taylor[4]));
	p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(num_exp_taylor[5]));
	p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(num_exp_taylor[6]));
	p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(num_exp_taylor[7]));
	i = _mm256_sub_epi32(i, _mm256_set1_epi32(NUM_TO_INT_BITS));
	one = _mm256_set1_epi32(127);
	h = _mm256_srai_epi32(i, 1);
	i = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, h), one), 23);
	h = _mm256_slli_epi32(_mm256_add_epi32(h, one), 23);
	return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(h)), _mm256_castsi256_ps(i));
}

/* LANES logits from i on; what is missing counts as barred. */
AVX2 inline __m256 load_avx2(const float *logit, size_t i, size_t n)
{
	float rest[LANES];

	if (i + LANES <= n)
		return _mm256_loadu_ps(logit + i);
	last_lanes(logit, n, rest);
	return _mm256_loadu_ps(rest);
}

AVX2 inline float max_avx2(const float *logit, size_t n)
{
	__m256 max = _mm256_set1_ps(-INFINITY);
	__m128 m;

	for (size_t i = 0; i < n; i += LANES) /* of a NaN and another max takes the second */
		max = _mm256_max_ps(load_avx2(logit, i, n), max);
	m = _mm_max_ps(_mm256_extractf128_ps(max, 1), _mm256_castps256_ps128(max));
	m = _mm_max_ps(m, _mm_movehl_ps(m, m));
	return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

AVX2 inline void row_avx2(const float *logit, size_t n, struct tile *o, size_t t)
{
	const __m256 max = _mm256_set1_ps(o->max[t]), least = _mm256_set1_ps(-110.0f);
	__m256d z0 = _mm256_setzero_pd(), z1 = z0, dot0 = z0, dot1 = z0;

	for (size_t i = 0; i < n; i += LANES) {
		__m256 d = _mm256_max_ps(least, _mm256_sub_ps(load_avx2(logit, i, n), max)),
			p = exp_avx2(d);
		__m256d p0 = _mm256_cvtps_pd(_mm256_castps256_ps128(p)),
			p1 = _mm256_cvtps_pd(_mm256_extractf128_ps(p, 1));
		__m256d d0 = _mm256_cvtps_pd(_mm256_castps256_ps128(d)),
			d1 = _mm256_cvtps_pd(_mm256_extractf128_ps(d, 1));

		_mm256_storeu_ps(o->prob[t] + i, p);
		z0 = _mm256_add_pd(z0, p0);
		z1 = _mm256_add_pd(z1, p1);
		dot0 = _mm256_add_pd(dot0, _mm256_mul_pd(p0, d0));
		dot1 = _mm256_add_pd(dot1, _mm256_mul_pd(p1, d1));
	}
	_mm256_storeu_pd(o->z[t], z0);
	_mm256_storeu_pd(o->z[t] + 4, z1);
	_mm256_storeu_pd(o->dot[t], dot0);
	_mm256_storeu_pd(o->dot[t] + 4, dot1);
}

AVX2 void score_avx2(const float *logits, size_t n_tok, size_t n_expert, struct tile *o)
{
	for (size_t t = 0; t < n_tok; t++)
		o->max[t] = max_avx2(logits + t * n_expert, n_expert);
	for (size_t t = 0; t < n_tok; t++)
		row_avx2(logits + t * n_expert, n_expert, o, t);
}

AVX2 void probs_avx2(const struct tile *o, size_t n_tok, size_t n_expert, double *probs)
{
	size_t i = 0;

	for (; i + LANES <= n_expert; i += LANES) {
		__m256d s0 = _mm256_loadu_pd(probs + i), s1 = _mm256_loadu_pd(probs + i + 4);

		for (size_t t = 0; t < n_tok; t++) {
			__m256d inv = _mm256_set1_pd(o->inv[t]);

			s0 = _mm256_add_pd(s0, _mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(o->prob[t] + i)),
				inv));
			s1 = _mm256_add_pd(s1, _mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(o->prob[t] + i + 4)),
				inv));
		}
		_mm256_storeu_pd(probs + i, s0);
		_mm256_storeu_pd(probs + i + 4, s1);
	}
	if (i < n_expert)
		add_probs(o, n_tok, i, n_expert, probs);
}
#endif

/* z and dot of decision t, and whether they count. */
static int add_lanes(struct tile *o, size_t t, double *z, double *dot)
{
	*z = *dot = 0;
	for (size_t j = 0; j < LANES; j++) {
		*z += o->z[t][j];
		*dot += o->dot[t][j];
	}
	return isfinite(o->max[t]) && isfinite(*z);
}

typedef void score_fn(const float *logits, size_t n_tok, size_t n_expert, struct tile *o);
typedef void probs_fn(const struct tile *o, size_t n_tok, size_t n_expert, double *probs);

static inline void add(const float *logits, size_t n, size_t n_expert, const uint16_t *pick,
	size_t k, const uint8_t *flags, double *probs, struct scores *s, score_fn *score,
	probs_fn *add_up)
{
	struct tile o;

	for (size_t at = 0, m; at < n; at += m, logits += m * n_expert) {
		m = n - at < TILE ? n - at : TILE;
		score(logits, m, n_expert, &o);
		for (size_t t = 0; t < m; t++) {
			double z, dot, log_z, mass = 0;

			if (!add_lanes(&o, t, &z, &dot) || flags[at + t] & MOE_EV_NAN) {
				o.inv[t] = 0;
				memset(o.prob[t], 0, (n_expert + LANES - 1) / LANES * LANES * sizeof *o.prob[t]);
				continue;
			}
			o.inv[t] = 1 / z;
			for (size_t i = 0; i < k; i++)
				mass += o.prob[t][pick[(at + t) * k + i]] * o.inv[t];
			log_z = log(z);
			s->lse2 += (o.max[t] + log_z) * (o.max[t] + log_z);
			s->entropy += log_z - dot * o.inv[t];
			s->confidence += mass;
		}
		add_up(&o, m, n_expert, probs);
	}
}

static void add_plain(const float *logits, size_t n, size_t n_expert, const uint16_t *pick,
	size_t k, const uint8_t *flags, double *probs, struct scores *s)
{
	add(logits, n, n_expert, pick, k, flags, probs, s, score_tile, probs_tile);
}

#if defined(__x86_64__)
static void add_avx2(const float *logits, size_t n, size_t n_expert, const uint16_t *pick, size_t k,
	const uint8_t *flags, double *probs, struct scores *s)
{
	add(logits, n, n_expert, pick, k, flags, probs, s, score_avx2, probs_avx2);
}
#endif

scores_add *scores_pick(int plain)
{
#if defined(__x86_64__)
	if (!plain && __builtin_cpu_supports("avx2"))
		return add_avx2;
#endif
	(void)plain;
	return add_plain;
}
