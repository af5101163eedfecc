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

static void round_block(const float *x, size_t n, int8_t *q, float *d)
{
	uint32_t bits, top = 0;
	float amax, inv;

	for (size_t i = 0; i < n; i++) {
		memcpy(&bits, x + i, 4);
		bits &= 0x7fffffff;
		top = bits > top ? bits : top; /* a NaN is above every number */
	}
	memcpy(&amax, &top, 4);
	memset(q, 0, 32);
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
		memset(o.d, 0, np / 32 * 4);
		for (size_t i = 0; i < n; i += 32)
			round_block(x + r * xs + i, n - i < 32 ? n - i : 32, o.q + i, o.d + i / 32);
		for (size_t b = 0; b < np / 16; b++) {
			o.sum16[b] = 0;
			for (size_t j = 0; j < 16; j++)
				o.sum16[b] += o.q[16 * b + j];
		}
		for (size_t b = 0; b < np / 32; b++) {
			o.sum32[b] = o.sum16[2 * b] + o.sum16[2 * b + 1];
			o.s32[b] = (float)o.sum32[b] * o.d[b];
		}
	}
}

static float dot(const struct codes *c, size_t n, const uint8_t *code, const float *sc,
	const float *mn, struct act8 a, float y)
{
	size_t blk = c->blk;

	for (size_t b = 0; b < n / blk; b++) {
		int32_t sum = 0, xsum = blk == 16 ? a.sum16[b] : a.sum32[b];
		float dx = a.d[b * blk / 32], p;

		for (size_t j = 0; j < blk; j++)
			sum += code[b * blk + j] * a.q[b * blk + j];
		if (c->off_log2)
			sum -= xsum * (1 << c->off_log2);
		p = (float)sum * (sc[b] * dx);
		if (c->has_min)
			p = fmaf(-mn[b], (float)xsum * dx, p);
		y = y + p;
	}
	return y;
}

#define PART 2048 /* elements unpacked at a time: whole blocks of every type */

static void gemm(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
	struct act8 a, size_t n_tok, float *y, size_t ys, void *scratch)
{
	const struct codes *c = &codes[type];
	uint8_t *code = scratch;
	float *sc = (float *)(void *)(code + PART), *mn = sc + PART / 16;

	for (size_t r = r0; r < r1; r++)
		for (size_t i = 0; i < n; i += PART) {
			size_t len = n - i < PART ? n - i : PART;

			c->fn((const uint8_t *)rows + r * row_bytes + qtype_row_bytes(type, i), len, code, sc, mn);
			for (size_t t = 0; t < n_tok; t++) {
				struct act8 x = act8_at(a, n, t);

				x.q += i;
				x.d += i / 32;
				x.sum16 += i / 16;
				x.sum32 += i / 32;
				y[t * ys + r] = dot(c, len, code, sc, mn, x, i ? y[t * ys + r] : 0);
			}
		}
}

static int always(void)
{
	return 1;
}

const struct int8_kern int8_plain = { "plain", always, round_rows, gemm };
