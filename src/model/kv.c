/*
 * kv.c - see kv.h. Keys are multiplied by the kernels of weights: a cached head is a matrix of
 * positions whose rows lie one key row apart. Rounding is plain C, the same on every machine.
 */
#include "model/kv.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/arch.h"

struct kv_layer {
	struct kv_shape sh;
	size_t k_head, v_head; /* bytes of a head */
	size_t k_row, v_row;   /* bytes of a position */
	uint8_t *k, *v;        /* [keep] rows */
};

struct kv {
	const struct kern *kern;
	uint32_t type;  /* enum qtype */
	void (*round)(const float *x, uint8_t *out, size_t n);
	size_t n_layer;
	struct kv_layer *layer;
};

/* ---- rounding ---- */

/* To half precision, to nearest, ties to even. */
static uint16_t to_half(float f)
{
	uint32_t b, sign, exp, man, shift, half, rest;

	memcpy(&b, &f, 4);
	sign = b >> 16 & 0x8000;
	b &= 0x7fffffff;
	if (b > 0x7f800000)
		return (uint16_t)(sign | 0x7e00);
	if (b >= 0x477ff000) /* 65520 and above round to infinity */
		return (uint16_t)(sign | 0x7c00);
	if (b < 0x33000000) /* below 2^-25; 2^-25 itself ties to the even 0 below */
		return (uint16_t)sign;
	exp = b >> 23;
	man = (b & 0x7fffff) | 0x800000;
	if (exp >= 113) { /* a normal half: drop 13 bits, the carry runs into the exponent */
		half = (exp - 112) << 10 | (man >> 13 & 0x3ff);
		shift = 13;
	} else {
		shift = 126 - exp; /* 14..24: units of 2^-24 */
		half = man >> shift;
	}
	rest = man & ((1u << shift) - 1);
	if (rest > 1u << (shift - 1) || (rest == 1u << (shift - 1) && half & 1))
		half++;
	return (uint16_t)(sign | half);
}

static void put16(uint8_t *p, uint16_t x)
{
	p[0] = (uint8_t)x;
	p[1] = (uint8_t)(x >> 8);
}

static void round_f32(const float *x, uint8_t *out, size_t n)
{
	memcpy(out, x, n * sizeof *x);
}

static void round_f16(const float *x, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		put16(out + 2 * i, to_half(x[i]));
}

/* Blocks of 32: d = max |x| / 127 as a half, q = x / d to nearest, halves away from zero. */
static void round_q8_0(const float *x, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i += 32, out += 34) {
		float max = 0, d, inv;

		for (size_t j = i; j < i + 32; j++)
			max = fabsf(x[j]) > max ? fabsf(x[j]) : max;
		d = max / 127.0f;
		inv = d > 0 ? 1.0f / d : 0;
		put16(out, to_half(d));
		for (size_t j = 0; j < 32; j++) {
			float q = roundf(x[i + j] * inv);

			out[2 + j] = (uint8_t)(int8_t)(q >= 127 ? 127 : q > -127 ? (int)q : -127);
		}
	}
}

/* To add a type: its function above, its row here, its name in enum kv_type. */
static const struct {
	const char *name;
	uint32_t type; /* enum qtype */
	void (*round)(const float *x, uint8_t *out, size_t n);
} types[KV_N_TYPE] = {
	[KV_F16] = { "f16", QT_F16, round_f16 },
	[KV_F32] = { "f32", QT_F32, round_f32 },
	[KV_Q8_0] = { "q8_0", QT_Q8_0, round_q8_0 },
};

const char *kv_type_name(enum kv_type t)
{
	return types[t].name;
}

/* ---- shape ---- */

struct kv_shape kv_shape_of(const struct model *m, size_t il, uint32_t n_batch)
{
	const struct hparams *hp = &m->hp;
	const struct layer *l = &m->layer[il];
	uint32_t keep = l->window ? l->window + n_batch : 0;

	if (l->features & F_MLA)
		return (struct kv_shape){ 1, hp->kv_rank + hp->n_rot, hp->kv_rank, 1, keep };
	return (struct kv_shape){ l->n_head_kv, hp->head_dim, hp->head_dim, 0, keep };
}

/* Sizes were range-checked by the loader, so their products fit in 64 bits. */
static void lay_out(const struct model *m, size_t il, enum kv_type type, uint32_t n_ctx, uint32_t n_batch,
	struct kv_layer *l)
{
	l->sh = kv_shape_of(m, il, n_batch);
	if (!l->sh.keep || l->sh.keep > n_ctx)
		l->sh.keep = n_ctx;
	l->k_head = qtype_row_bytes(types[type].type, l->sh.k_dim);
	l->v_head = qtype_row_bytes(types[type].type, l->sh.v_dim);
	l->k_row = l->k_head * l->sh.n_head;
	l->v_row = l->sh.v_in_k ? 0 : l->v_head * l->sh.n_head;
}

int kv_check(const struct model *m, enum kv_type type, struct moe_err *e)
{
	uint32_t block = qtype_info(types[type].type)->block;

	for (uint32_t i = 0; i < m->hp.n_layer; i++) {
		struct kv_shape s = kv_shape_of(m, i, 1);
		uint32_t bad = s.k_dim % block ? s.k_dim : s.v_dim % block ? s.v_dim : 0;

		if (bad)
			return err_set(e, MOE_ERR_USAGE, "a cache of type %s has blocks of %u elements, the heads of "
				"layer %u have %u: take f16 or f32", types[type].name, block, i, bad);
	}
	return 0;
}

uint64_t kv_bytes(const struct model *m, enum kv_type type, uint32_t n_ctx, uint32_t n_batch)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < m->hp.n_layer; i++) {
		struct kv_layer l;

		lay_out(m, i, type, n_ctx, n_batch, &l);
		sum += (uint64_t)l.sh.keep * (l.k_row + l.v_row);
	}
	return sum;
}

static int get_layer(struct kv_layer *l, struct moe_err *e)
{
	size_t k = l->sh.keep * l->k_row, v = l->sh.keep * l->v_row;
	void *p;

	if (posix_memalign(&p, 64, k ? k : 1))
		return err_nomem(e, k, "key cache");
	l->k = p;
	if (!v)
		return 0;
	if (posix_memalign(&p, 64, v))
		return err_nomem(e, v, "value cache");
	l->v = p;
	return 0;
}

struct kv *kv_new(const struct model *m, const struct kern *kern, enum kv_type type, uint32_t n_ctx,
	uint32_t n_batch, struct moe_err *e)
{
	struct kv *c;

	if (kv_check(m, type, e))
		return NULL;
	c = calloc(1, sizeof *c);
	if (!c) {
		err_nomem(e, sizeof *c, "cache");
		return NULL;
	}
	c->kern = kern;
	c->type = types[type].type;
	c->n_layer = m->hp.n_layer;
	c->round = types[type].round;
	c->layer = calloc(c->n_layer, sizeof *c->layer);
	if (!c->layer) {
		err_nomem(e, c->n_layer * sizeof *c->layer, "cache");
		goto fail;
	}
	for (size_t i = 0; i < c->n_layer; i++) {
		lay_out(m, i, type, n_ctx, n_batch, &c->layer[i]);
		if (get_layer(&c->layer[i], e))
			goto fail;
	}
	return c;
fail:
	kv_free(c);
	return NULL;
}

void kv_free(struct kv *c)
{
	if (!c)
		return;
	for (size_t i = 0; c->layer && i < c->n_layer; i++) {
		free(c->layer[i].k);
		free(c->layer[i].v);
	}
	free(c->layer);
	free(c);
}

/* ---- rows ---- */

void kv_write(struct kv *c, size_t il, uint32_t pos, size_t n, const float *k, const float *v)
{
	struct kv_layer *l = &c->layer[il];
	size_t kw = (size_t)l->sh.n_head * l->sh.k_dim, vw = (size_t)l->sh.n_head * l->sh.v_dim;

	for (size_t i = 0; i < n; i++) {
		size_t at = (pos + i) % l->sh.keep;

		c->round(k + i * kw, l->k + at * l->k_row, kw);
		if (!l->sh.v_in_k)
			c->round(v + i * vw, l->v + at * l->v_row, vw);
	}
}

/* Positions from `pos` on that lie one behind another: at most n, up to the end of the ring. */
static size_t straight(const struct kv_layer *l, uint32_t pos, size_t n, size_t *at)
{
	*at = pos % l->sh.keep;
	return l->sh.keep - *at < n ? l->sh.keep - *at : n;
}

void kv_dot(const struct kv *c, size_t il, size_t head, uint32_t pos, size_t n, const float *q, size_t n_q,
	float *p, size_t ps, float *scratch)
{
	const struct kv_layer *l = &c->layer[il];

	while (n) {
		size_t at, len = straight(l, pos, n, &at);

		c->kern->gemm(c->type, l->k + at * l->k_row + head * l->k_head, l->k_row, l->sh.k_dim, 0, len, q,
			l->sh.k_dim, n_q, p, ps, scratch);
		pos += (uint32_t)len;
		p += len;
		n -= len;
	}
}

/* Values of positions pos .. pos + n - 1 as floats. */
static void read_values(const struct kv *c, const struct kv_layer *l, size_t head, uint32_t pos, size_t n,
	float *out)
{
	const uint8_t *rows = l->sh.v_in_k ? l->k : l->v;
	size_t row = l->sh.v_in_k ? l->k_row : l->v_row, off = head * (l->sh.v_in_k ? l->k_head : l->v_head);

	for (size_t i = 0; i < n; i++)
		c->kern->to_float(c->type, rows + (pos + i) % l->sh.keep * row + off, out + i * l->sh.v_dim,
			l->sh.v_dim);
}

void kv_mix(const struct kv *c, size_t il, size_t head, uint32_t pos, const struct kv_query *q, size_t n_q,
	size_t os, const float *p, size_t ps, float *scratch)
{
	const struct kv_layer *l = &c->layer[il];
	size_t dim = l->sh.v_dim, lo = SIZE_MAX, hi = 0;

	for (size_t j = 0; j < n_q; j++) {
		lo = q[j].lo < lo ? q[j].lo : lo;
		hi = q[j].hi > hi ? q[j].hi : hi;
	}
	for (size_t b = lo; b < hi; b += KV_VALUES) {
		size_t end = b + KV_VALUES < hi ? b + KV_VALUES : hi;

		read_values(c, l, head, pos + (uint32_t)b, end - b, scratch);
		for (size_t j = 0, k; j < n_q; j = k) {
			size_t from = q[j].lo > b ? q[j].lo : b, to = q[j].hi < end ? q[j].hi : end;

			k = j + 1;
			if (from >= to)
				continue;
			while (from == b && to == end && k < n_q && q[k].lo <= b && q[k].hi >= end)
				k++; /* those that see the whole block go together */
			c->kern->mix(p + j * ps + from, ps, k - j, scratch + (from - b) * dim, dim, to - from, q[j].o, os,
				dim);
		}
	}
}
