/*
 * kv.c - see kv.h. The rows of a head lie one behind another, so that a long context is read as a few
 * straight streams.
 */
#include "model/kv.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/arch.h"

struct kv_layer {
	struct kv_shape sh;
	size_t k_head, v_head; /* bytes of a head's row */
	uint8_t *k, *v;        /* [n_head][keep] rows */
};

struct kv {
	const struct kern *kern;
	uint32_t type;  /* enum qtype */
	size_t n_layer;
	struct kv_layer *layer;
};

/* To add a type: a row here, its name in enum kv_type, how it is rounded in round_row, how its rows are
 * read in kern/attn.h. */
static const struct {
	const char *name;
	uint32_t type; /* enum qtype */
} types[KV_N_TYPE] = {
	[KV_F16] = { "f16", QT_F16 },
	[KV_F32] = { "f32", QT_F32 },
	[KV_Q8_0] = { "q8_0", QT_Q8_0 },
};

static void round_row(const struct kv *c, const float *x, uint8_t *out, size_t n)
{
	if (c->type == QT_F16)
		c->kern->to_f16(x, out, n);
	else if (c->type == QT_Q8_0)
		c->kern->to_q8_0(x, out, n);
	else
		memcpy(out, x, n * sizeof *x);
}

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
	l->v_head = l->sh.v_in_k ? 0 : qtype_row_bytes(types[type].type, l->sh.v_dim);
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
		sum += (uint64_t)l.sh.keep * l.sh.n_head * (l.k_head + l.v_head);
	}
	return sum;
}

static int get_layer(struct kv_layer *l, struct moe_err *e)
{
	size_t rows = (size_t)l->sh.keep * l->sh.n_head, k = rows * l->k_head, v = rows * l->v_head;
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
	size_t kd = l->sh.k_dim, vd = l->sh.v_dim, heads = l->sh.n_head;

	for (size_t h = 0; h < heads; h++)
		for (size_t i = 0; i < n; i++) {
			size_t at = h * l->sh.keep + (pos + i) % l->sh.keep;

			round_row(c, k + (i * heads + h) * kd, l->k + at * l->k_head, kd);
			if (!l->sh.v_in_k)
				round_row(c, v + (i * heads + h) * vd, l->v + at * l->v_head, vd);
		}
}

/* Positions from `pos` on that lie one behind another: at most n, up to the end of the ring. */
static size_t straight(const struct kv_layer *l, uint32_t pos, size_t n, size_t *at)
{
	*at = pos % l->sh.keep;
	return l->sh.keep - *at < n ? l->sh.keep - *at : n;
}

void kv_dot(const struct kv *c, size_t il, size_t head, uint32_t pos, size_t n, const float *q, size_t n_q,
	float *p, size_t ps)
{
	const struct kv_layer *l = &c->layer[il];
	const uint8_t *rows = l->k + head * l->sh.keep * l->k_head;

	while (n) {
		size_t at, len = straight(l, pos, n, &at);

		c->kern->att_dot(c->type, rows + at * l->k_head, l->k_head, l->sh.k_dim, len, q, n_q, p, ps);
		pos += (uint32_t)len;
		p += len;
		n -= len;
	}
}

/* Rows lo .. hi - 1 of the values from pos on, of n_q queries that all see them. */
static void mix_rows(const struct kv *c, const struct kv_layer *l, size_t head, uint32_t pos, size_t lo,
	size_t hi, size_t n_q, const float *p, size_t ps, float *o, size_t os)
{
	size_t row = l->sh.v_in_k ? l->k_head : l->v_head;
	const uint8_t *rows = (l->sh.v_in_k ? l->k : l->v) + head * l->sh.keep * row;

	while (lo < hi) {
		size_t at, len = straight(l, pos + (uint32_t)lo, hi - lo, &at);

		c->kern->att_mix(c->type, rows + at * row, row, l->sh.v_dim, len, p + lo, ps, n_q, o, os);
		lo += len;
	}
}

void kv_mix(const struct kv *c, size_t il, size_t head, uint32_t pos, const struct kv_query *q, size_t n_q,
	size_t os, const float *p, size_t ps)
{
	const struct kv_layer *l = &c->layer[il];
	size_t lo = SIZE_MAX, hi = 0;

	for (size_t j = 0; j < n_q; j++) {
		lo = q[j].lo < lo ? q[j].lo : lo;
		hi = q[j].hi > hi ? q[j].hi : hi;
	}
	for (size_t b = lo, end; b < hi; b = end) {
		end = b + KV_VALUES < hi ? b + KV_VALUES : hi;
		for (size_t j = 0, k; j < n_q; j = k) {
			size_t from = q[j].lo > b ? q[j].lo : b, to = q[j].hi < end ? q[j].hi : end;

			for (k = j + 1; k < n_q; k++) /* those that see the same rows of the block go together */
				if ((q[k].lo > b ? q[k].lo : b) != from || (q[k].hi < end ? q[k].hi : end) != to)
					break;
			mix_rows(c, l, head, pos, from, to, k - j, p + j * ps, ps, q[j].o, os);
		}
	}
}
