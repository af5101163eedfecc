/*
 * attn.h - products of attention over rows of keys and values that stay in their own type (F32, F16,
 * Q8_0): included by body.h, compiled for each instruction set.
 *
 * A row is converted in registers and serves several queries at once. Sums are those of kern.h: a score
 * is its dot product; an element of an output is a chain of fused multiply-adds over ascending rows.
 * Rows lie one behind another and are used once in a long context, so the bytes ATT_AHEAD further on
 * are asked for while these are worked on, and once more those ATT_NEAR further on.
 *
 * The including file may define ATT_ACC, the vectors that sums are kept in (4 or 16); ATT_LOOPS;
 * HAVE_VSUM16 with vsum16(const V a[16]): lane i is the tree sum of a[i]; HAVE_VMAX with vmax(a, b):
 * a > b ? a : b; VKEEP(v): v stays in a register, rather than being read again wherever it is used;
 * ATT_MANY, the queries from which on values are turned to floats once for all of them.
 */
#ifndef ATT_ACC
#define ATT_ACC 4
#endif

#ifndef ATT_MANY
#define ATT_MANY SIZE_MAX
#endif
#ifndef VKEEP
#define VKEEP(v) ((void)0)
#endif

#define ATT_BLOCK 32   /* rows that all queries use before the next: they stay in the L1 cache */
#define ATT_AHEAD 16384
#define ATT_NEAR 2048
#define ATT_STRIP 32   /* elements and rows that are turned to floats at a time */
#define ATT_ROWS 64

/* ATT_LOOPS: where a vector is a loop itself, constants spread into every call make compiling take
 * minutes and the code no faster. */
#ifdef ATT_LOOPS
#define FORCE static inline
#define UNROLL
#else
#define FORCE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#endif

FORCE void att_ahead(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i += 64) {
		__builtin_prefetch(p + ATT_AHEAD + i, 0, 2);
		__builtin_prefetch(p + ATT_NEAR + i, 0, 2);
	}
}

/* Elements i .. i + 15 of a row; i is a multiple of 16. */
FORCE V att_vec(uint32_t type, const uint8_t *row, size_t i)
{
	const uint8_t *block = row + i / 32 * 34;

	if (type == QT_F16)
		return vf16(row + 2 * i);
	if (type == QT_Q8_0)
		return vmul(vset(half(rd16(block))), vi8((const int8_t *)block + 2 + (i & 16)));
	return vload((const float *)(const void *)row + i);
}

/* The last n < 16 from i on, zeros behind them. Q8_0 has none. */
FORCE V att_tail(uint32_t type, const uint8_t *row, size_t i, size_t n)
{
	float t[16] = { 0 };

	for (size_t j = 0; type == QT_F16 && j < n; j++)
		t[j] = half(rd16(row + 2 * (i + j)));
	if (type == QT_F32)
		memcpy(t, row + 4 * i, 4 * n);
	return vload(t);
}

/* ---- scores ---- */

FORCE void att_sums(const V *acc, size_t nr, size_t nq, float *p, size_t ps)
{
#ifdef HAVE_VSUM16
	float s[16];

	if (nr * nq == 16) {
		vstore(s, vsum16(acc));
		for (size_t j = 0; j < nq; j++)
			memcpy(p + j * ps, s + j * nr, nr * sizeof *s);
		return;
	}
#endif
	for (size_t j = 0; j < nq; j++)
		for (size_t r = 0; r < nr; r++)
			p[j * ps + r] = vsum(acc[j * nr + r]);
}

/* Sixteen elements, from i on, of nr rows and nq queries. */
FORCE void att_dot_step(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t nr, const float *q,
	size_t dim, size_t nq, size_t i, V *acc)
{
	V w[ATT_ACC];

	UNROLL
	for (size_t r = 0; r < nr; r++)
		w[r] = att_vec(type, rows + r * row_bytes, i);
	UNROLL
	for (size_t j = 0; j < nq; j++) {
		V x = vload(q + j * dim + i);

		VKEEP(x);
		UNROLL
		for (size_t r = 0; r < nr; r++)
			acc[j * nr + r] = vfma(w[r], x, acc[j * nr + r]);
	}
}

/* nr rows against nq queries; both are constants at every call. */
FORCE void att_dot_tile(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t dim, size_t nr,
	const float *q, size_t nq, float *p, size_t ps)
{
	V acc[ATT_ACC];
	size_t i = 0;

	UNROLL
	for (size_t k = 0; k < nr * nq; k++)
		acc[k] = vzero();
	for (; i + 16 <= dim; i += 16)
		att_dot_step(type, rows, row_bytes, nr, q, dim, nq, i, acc);
	for (size_t k = 0; i < dim && k < nr * nq; k++)
		acc[k] = vfma(att_tail(type, rows + k % nr * row_bytes, i, dim - i),
			vtail(q + k / nr * dim + i, dim - i), acc[k]);
	att_sums(acc, nr, nq, p, ps);
}

FORCE void att_dot_rows(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t dim, size_t n,
	const float *q, size_t nq, float *p, size_t ps)
{
	enum { ACC = ATT_ACC };
	size_t nr = ACC / nq, i = 0;

	for (; i + nr <= n; i += nr)
		att_dot_tile(type, rows + i * row_bytes, row_bytes, dim, nr, q, nq, p + i, ps);
	for (; i < n; i++)
		att_dot_tile(type, rows + i * row_bytes, row_bytes, dim, 1, q, nq, p + i, ps);
}

FORCE void att_dot_type(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t dim, size_t n,
	const float *q, size_t n_q, float *p, size_t ps)
{
	for (size_t b = 0; b < n; b += ATT_BLOCK, rows += ATT_BLOCK * row_bytes, p += ATT_BLOCK) {
		size_t len = n - b < ATT_BLOCK ? n - b : ATT_BLOCK, j = 0;

		att_ahead(rows, len * row_bytes);
		for (; ATT_ACC >= 8 && j + 8 <= n_q; j += 8)
			att_dot_rows(type, rows, row_bytes, dim, len, q + j * dim, ATT_ACC >= 8 ? 8 : 1, p + j * ps, ps);
		for (; j + 4 <= n_q; j += 4)
			att_dot_rows(type, rows, row_bytes, dim, len, q + j * dim, 4, p + j * ps, ps);
		for (; j + 2 <= n_q; j += 2)
			att_dot_rows(type, rows, row_bytes, dim, len, q + j * dim, 2, p + j * ps, ps);
		for (; j < n_q; j++)
			att_dot_rows(type, rows, row_bytes, dim, len, q + j * dim, 1, p + j * ps, ps);
	}
}

static void body_att_dot(uint32_t type, const void *rows, size_t row_bytes, size_t dim, size_t n,
	const float *q, size_t n_q, float *p, size_t ps)
{
	if (type == QT_F16)
		att_dot_type(QT_F16, rows, row_bytes, dim, n, q, n_q, p, ps);
	else if (type == QT_Q8_0)
		att_dot_type(QT_Q8_0, rows, row_bytes, dim, n, q, n_q, p, ps);
	else
		att_dot_type(QT_F32, rows, row_bytes, dim, n, q, n_q, p, ps);
}

/* ---- outputs ---- */

/* nq outputs, nd vectors from element d on; both are constants at every call. */
FORCE void att_mix_tile(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t d, size_t n,
	const float *p, size_t ps, size_t nq, float *o, size_t os, size_t nd)
{
	V acc[ATT_ACC];

	UNROLL
	for (size_t j = 0; j < nq; j++)
		UNROLL
		for (size_t k = 0; k < nd; k++)
			acc[j * nd + k] = vload(o + j * os + d + 16 * k);
	for (size_t i = 0; i < n; i++) {
		V x[ATT_ACC];

		UNROLL
		for (size_t k = 0; k < nd; k++) {
			x[k] = att_vec(type, rows + i * row_bytes, d + 16 * k);
			VKEEP(x[k]);
		}
		UNROLL
		for (size_t j = 0; j < nq; j++) {
			V w = vset(p[j * ps + i]);

			VKEEP(w);
			UNROLL
			for (size_t k = 0; k < nd; k++)
				acc[j * nd + k] = vfma(w, x[k], acc[j * nd + k]);
		}
	}
	UNROLL
	for (size_t j = 0; j < nq; j++)
		UNROLL
		for (size_t k = 0; k < nd; k++)
			vstore(o + j * os + d + 16 * k, acc[j * nd + k]);
}

/* The last n_d < 16 elements, from d on. */
FORCE void att_mix_tail(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t d, size_t n_d, size_t n,
	const float *p, float *o)
{
	V acc = vtail(o + d, n_d);
	float last[16];

	for (size_t i = 0; i < n; i++)
		acc = vfma(vset(p[i]), att_tail(type, rows + i * row_bytes, d, n_d), acc);
	vstore(last, acc);
	memcpy(o + d, last, n_d * sizeof *last);
}

FORCE void att_mix_rows(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t dim, size_t n,
	const float *p, size_t ps, size_t nq, float *o, size_t os)
{
	enum { ACC = ATT_ACC };
	size_t nd = nq == 1 && ACC > 8 ? 8 : ACC / nq, d = 0; /* eight chains are enough for one query */

	for (; d + 16 * nd <= dim; d += 16 * nd)
		att_mix_tile(type, rows, row_bytes, d, n, p, ps, nq, o, os, nd);
	for (; nd > 4 && d + 64 <= dim; d += 64)
		att_mix_tile(type, rows, row_bytes, d, n, p, ps, nq, o, os, nd > 4 ? 4 : 1);
	for (; d + 16 <= dim; d += 16)
		att_mix_tile(type, rows, row_bytes, d, n, p, ps, nq, o, os, 1);
	for (size_t j = 0; d < dim && j < nq; j++)
		att_mix_tail(type, rows, row_bytes, d, dim - d, n, p + j * ps, o + j * os);
}

/* The elements of a strip, as floats. */
FORCE void att_floats(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t n, size_t d,
	float *out)
{
	for (size_t r = 0; r < n; r++)
		for (size_t k = 0; k < ATT_STRIP; k += 16)
			vstore(out + r * ATT_STRIP + k, att_vec(type, rows + r * row_bytes, d + k));
}

FORCE void att_mix_block(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t dim, size_t n,
	const float *p, size_t ps, size_t n_q, float *o, size_t os)
{
	size_t j = 0;

	for (; ATT_ACC >= 8 && j + 8 <= n_q; j += 8)
		att_mix_rows(type, rows, row_bytes, dim, n, p + j * ps, ps, ATT_ACC >= 8 ? 8 : 1, o + j * os,
			os);
	for (; j + 4 <= n_q; j += 4)
		att_mix_rows(type, rows, row_bytes, dim, n, p + j * ps, ps, 4, o + j * os, os);
	for (; j + 2 <= n_q; j += 2)
		att_mix_rows(type, rows, row_bytes, dim, n, p + j * ps, ps, 2, o + j * os, os);
	for (; j < n_q; j++)
		att_mix_rows(type, rows, row_bytes, dim, n, p + j * ps, ps, 1, o + j * os, os);
}

static void att_mix_floats(const float *rows, size_t n, const float *p, size_t ps, size_t n_q,
	float *o, size_t os)
{
	att_mix_block(QT_F32, (const uint8_t *)rows, ATT_STRIP * sizeof *rows, ATT_STRIP, n, p, ps, n_q,
		o, os);
}

FORCE void att_mix_type(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t dim, size_t n,
	const float *p, size_t ps, size_t n_q, float *o, size_t os)
{
	int many = type != QT_F32 && n_q >= ATT_MANY && dim % ATT_STRIP == 0;
	size_t block = many ? ATT_ROWS : ATT_BLOCK;

	for (size_t b = 0; b < n; b += block, rows += block * row_bytes, p += block) {
		float f[ATT_ROWS * ATT_STRIP] __attribute__((aligned(64)));
		size_t len = n - b < block ? n - b : block;

		att_ahead(rows, len * row_bytes);
		if (!many)
			att_mix_block(type, rows, row_bytes, dim, len, p, ps, n_q, o, os);
		for (size_t d = 0; many && d < dim; d += ATT_STRIP) {
			att_floats(type, rows, row_bytes, len, d, f);
			att_mix_floats(f, len, p, ps, n_q, o + d, os);
		}
	}
}

static void body_att_mix(uint32_t type, const void *rows, size_t row_bytes, size_t dim, size_t n,
	const float *p, size_t ps, size_t n_q, float *o, size_t os)
{
	if (type == QT_F16)
		att_mix_type(QT_F16, rows, row_bytes, dim, n, p, ps, n_q, o, os);
	else if (type == QT_Q8_0)
		att_mix_type(QT_Q8_0, rows, row_bytes, dim, n, p, ps, n_q, o, os);
	else
		att_mix_type(QT_F32, rows, row_bytes, dim, n, p, ps, n_q, o, os);
}

/* ---- softmax ---- */

/* lane[l] = the largest of least and elements l, l + 16, ... of n, a multiple of 16. */
static inline void max_lanes(const float *x, size_t n, float least, float lane[16])
{
#ifdef HAVE_VMAX
	V v = vset(least);

	for (size_t i = 0; i < n; i += 16)
		v = vmax(vload(x + i), v);
	vstore(lane, v);
#else
	for (int l = 0; l < 16; l++)
		lane[l] = least;
	for (size_t i = 0; i < n; i += 16)
		for (size_t l = 0; l < 16; l++)
			lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
#endif
}

static float body_max(const float *x, size_t n, float least)
{
	size_t i = n & ~(size_t)15;
	float lane[16];

	max_lanes(x, i, least, lane);
	for (; i < n; i++)
		lane[0] = x[i] > lane[0] ? x[i] : lane[0];
	for (int l = 0; l < 16; l++)
		least = lane[l] > least ? lane[l] : least;
	return least;
}

/* ---- rounding ---- */

/* To half precision, to nearest, ties to even. A sum with 0.5 rounds what becomes subnormal in units of
 * 2^-24; elsewhere 13 bits are dropped, and the carry runs into the exponent. */
static inline uint16_t nearest_half(float x)
{
	uint32_t b, sign, low, normal, h;
	float f = fabsf(x) + 0.5f;

	memcpy(&b, &x, 4);
	memcpy(&low, &f, 4);
	sign = b >> 16 & 0x8000;
	b &= 0x7fffffff;
	low -= 0x3f000000;
	normal = (b - 0x38000000 + 0xfff + (b >> 13 & 1)) >> 13;
	h = b < 0x38800000 ? low : normal;
	h = b >= 0x47800000 ? 0x7c00 : h; /* 65536 and above; from 65520 on by the carry */
	h = b > 0x7f800000 ? 0x7e00 : h;
	return (uint16_t)(h | sign);
}

static void body_to_f16(const float *x, void *out_, size_t n)
{
	uint8_t *out = out_;

	for (size_t i = 0; i < n; i++) {
		uint16_t h = nearest_half(x[i]);

		memcpy(out + 2 * i, &h, 2);
	}
}

/* Blocks of 32: d = max |x| / 127 as a half, q = x / d to nearest, halves away from zero. */
static void body_to_q8_0(const float *x, void *out_, size_t n)
{
	uint8_t *out = out_;

	for (size_t i = 0; i < n; i += 32, out += 34) {
		float mag[32], max, d, inv;

		for (int j = 0; j < 32; j++)
			mag[j] = fabsf(x[i + (size_t)j]);
		max = body_max(mag, 32, 0);
		d = max / 127.0f;
		inv = d > 0 ? 1.0f / d : 0;
		body_to_f16(&d, out, 1);
		for (int j = 0; j < 32; j++) {
			float v = x[i + (size_t)j] * inv;

			v = v + (v < 0 ? -0x1.fffffep-2f : 0x1.fffffep-2f); /* the float below a half: then cut off */
			v = v > 127.0f ? 127.0f : v > -127.0f ? v : -127.0f;
			out[2 + j] = (uint8_t)(int8_t)(int)v;
		}
	}
}
