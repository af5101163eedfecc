/* int8_plain.c - the definition of int8.h in portable C; every other row must give these bits. */
#include <math.h>

#include "kern/half.h"
#include "kern/int8.h"
#include "kern/table.h"

static inline float half(uint16_t h)
{
	return half_to_float(h);
}

#include "kern/int8_codes.h"

static void round_group(const float *x, size_t n, int8_t *q, float *d)
{
	uint32_t bits, top = 0;
	float amax, inv;

	for (size_t i = 0; i < n; i++) {
		memcpy(&bits, x + i, 4);
		bits &= 0x7fffffff;
		top = bits > top ? bits : top; /* a NaN is above every number */
	}
	memcpy(&amax, &top, 4);
	*d = top >= 0x7f800000 ? NAN : 0;
	if (top >= 0x7f800000 || amax < 0x1p-100f)
		return;
	*d = amax / 127.0f;
	inv = 127.0f / amax;
	for (size_t i = 0; i < n; i++)
		q[i] = (int8_t)nearbyintf(x[i] * inv);
}

static void round_rows(const float *x, size_t xs, size_t n, size_t r0, size_t r1, struct act8 a)
{
	size_t np = act8_pad(n);

	for (size_t r = r0; r < r1; r++) {
		struct act8 o = act8_at(a, n, r);

		memset(o.q, 0, np);
		memset(o.d, 0, np / 256 * sizeof *o.d);
		for (size_t i = 0; i < n; i += 256)
			round_group(x + r * xs + i, n - i < 256 ? n - i : 256, o.q + i, o.d + i / 256);
		for (size_t b = 0; b < np / 16; b++) {
			int sum = 0;

			for (size_t j = 0; j < 16; j++)
				sum += o.q[16 * b + j];
			o.sum16[b] = (int16_t)sum;
		}
		for (size_t b = 0; b < np / 32; b++)
			o.sum32[b] = (int16_t)(o.sum16[2 * b] + o.sum16[2 * b + 1]);
	}
}

/* d and dmin of the 256 elements at p, of a type with integer scales. */
struct super { float d, dmin; };

static struct super super_of(const struct codes *c, const uint8_t *p)
{
	uint16_t d = c->d_at == SPREAD ? spread_half(p) : rd16(p + c->d_at);
	struct super s = { half(d) * c->d_unit, 0 };

	if (c->has_min)
		s.dmin = half(rd16(p + c->d_at + 2));
	return s;
}

/* A part of a row, taken apart. */
struct row { uint8_t code[2048]; float sc[128], mn[128]; struct super super[8]; };

/* Product of n <= 256 elements, group g of row w, with those of q. */
static float group(const struct codes *c, const struct row *w, size_t g, size_t n, const int8_t *q,
	const int16_t *xsum, float dx)
{
	float t = 0, v = 0, p;
	int32_t s = 0, m = 0;

	for (size_t b = 0, k = g * 256 / c->blk; b < n / c->blk; b++, k++) {
		int32_t sum = 0;

		for (size_t j = 0; j < c->blk; j++)
			sum += w->code[k * c->blk + j] * q[b * c->blk + j];
		if (c->off_log2)
			sum -= xsum[b] * (1 << c->off_log2);
		if (exact(c)) {
			s += (int32_t)w->sc[k] * sum;
			m += c->has_min ? (int32_t)w->mn[k] * xsum[b] : 0;
		} else {
			t = fmaf((float)sum, w->sc[k], t);
			v = c->has_min ? fmaf(w->mn[k], (float)xsum[b], v) : 0;
		}
	}
	if (!exact(c))
		return (c->has_min ? t - v : t) * dx;
	p = (float)s * (w->super[g].d * dx);
	return c->has_min ? fmaf(-(float)m, w->super[g].dmin * dx, p) : p;
}

static void gemm(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
	struct act8 a, size_t n_tok, float *y, size_t ys, const void *next,
	void *scratch)
{
	const struct codes *c = &codes[type];
	struct row *w = scratch;

	(void)next;
	for (size_t r = r0; r < r1; r++)
		for (size_t i = 0; i < n; i += sizeof w->code) {
			size_t len = n - i < sizeof w->code ? n - i : sizeof w->code;
			const uint8_t *p = (const uint8_t *)rows + r * row_bytes + qtype_row_bytes(type, i);

			c->fn(p, len, w->code, w->sc, w->mn);
			for (size_t g = 0; exact(c) && g < len / 256; g++)
				w->super[g] = super_of(c, p + qtype_row_bytes(type, 256 * g));
			for (size_t t = 0; t < n_tok; t++) {
				struct act8 x = act8_at(a, n, t);
				const int16_t *xsum = c->blk == 32 ? x.sum32 + i / 32 : x.sum16 + i / 16;
				float sum = i ? y[t * ys + r] : 0;

				for (size_t j = 0; j < len; j += 256)
					sum = sum + group(c, w, j / 256, len - j < 256 ? len - j : 256, x.q + i + j,
						xsum + j / c->blk, x.d[(i + j) / 256]);
				y[t * ys + r] = sum;
			}
		}
}

static int always(void)
{
	return 1;
}

const struct int8_kern int8_plain = { "plain", always, round_rows, gemm };
