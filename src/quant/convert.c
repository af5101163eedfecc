/*
 * convert.c - see convert.h. A tensor is a line of blocks: rows are whole blocks of both types, so
 * units of UNIT elements, a multiple of every block, can be converted one by one, whatever the
 * rows.
 */
#include "quant/convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/qtype.h"
#include "quant/encode.h"

#define UNIT 65536 /* elements; 256 KiB as floats */
#define SLAB 64    /* units between two writes */

static int is_float(uint32_t type)
{
	return type == QT_F32 || type == QT_F16 || type == QT_BF16;
}

int quant_check(const struct gguf *g, const uint32_t *type, struct moe_err *e)
{
	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);

		if (t->type != type[i] && (!kern_type_ok(t->type, t->ne[0]) || !quant_can(type[i])))
			return err_set(e, MOE_ERR_INPUT, "tensor %s: cannot convert %s to %s", t->name,
				qtype_info(t->type)->name, qtype_info(type[i])->name);
	}
	return 0;
}

const struct gguf_tensor *quant_again(const struct gguf *g, const uint32_t *type)
{
	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);

		if (t->type != type[i] && !is_float(t->type) && type[i] != QT_F32)
			return t;
	}
	return NULL;
}

/* Keys that are written anew, or that a file of one part must not have. */
static int is_replaced(const char *key)
{
	return !strncmp(key, "split.", 6) || !strcmp(key, "general.file_type") ||
		!strcmp(key, "general.quantization_version");
}

int quant_header(const struct gguf *g, const struct quant_mix *mix, const uint32_t *type,
	struct gguf_out *o, struct moe_err *e)
{
	for (size_t i = 0; i < gguf_n_kv(g); i++) {
		size_t n;
		const void *raw = gguf_kv_raw(g, i, &n);

		if (!is_replaced(gguf_kv_name(g, i)) && gguf_out_kv(o, gguf_kv_name(g, i), raw, n, e))
			return -1;
	}
	if (gguf_out_u32(o, "general.file_type", mix->file_type, e) ||
	    gguf_out_u32(o, "general.quantization_version", 2, e))
		return -1;
	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);

		if (gguf_out_tensor(o, t->name, type[i], t->n_dims, t->ne, e))
			return -1;
	}
	return 0;
}

struct slab {
	const struct quant_job *job;
	const struct gguf_tensor *t;
	uint32_t type;
	uint64_t first, n;    /* elements of the tensor in this slab */
	float *x;             /* [threads][UNIT] */
	uint8_t *out;         /* the slab's bytes in the new type */
	uint64_t bad[SLAB];   /* per unit: the element that cannot be stored, or UINT64_MAX */
};

static void convert_unit(void *ctx, size_t unit, int worker)
{
	struct slab *s = ctx;
	uint64_t at = s->first + unit * UNIT;
	size_t n = (size_t)(s->n - unit * UNIT < UNIT ? s->n - unit * UNIT : UNIT), ok;
	const uint8_t *from = (const uint8_t *)s->t->data + qtype_row_bytes(s->t->type, at);
	float *x = s->x + (size_t)worker * UNIT;

	s->job->kern->to_float(s->t->type, from, x, n);
	ok = quant_encode(s->type, x, n, s->out + qtype_row_bytes(s->type, unit * UNIT));
	s->bad[unit] = ok < n ? at + ok : UINT64_MAX;
}

static int report_bad(const struct slab *s, size_t units, struct moe_err *e)
{
	for (size_t u = 0; u < units; u++) {
		const struct qtype_info *q = qtype_info(s->t->type);
		uint64_t at = s->bad[u], block = at - at % q->block;
		float v[256];

		if (at == UINT64_MAX)
			continue;
		s->job->kern->to_float(s->t->type, (const uint8_t *)s->t->data +
			qtype_row_bytes(s->t->type, block), v, q->block);
		return err_set(e, MOE_ERR_INPUT, "tensor %s: element %llu is %g, which %s cannot hold",
			s->t->name, (unsigned long long)at, (double)v[at - block], qtype_info(s->type)->name);
	}
	return 0;
}

static int told(const struct quant_job *j, uint64_t n, struct moe_err *e)
{
	return j->on_bytes && j->on_bytes(j->ctx, n) ? err_set(e, MOE_ERR_USAGE, "interrupted") : 0;
}

/* A tensor that keeps its type: its bytes. */
static int copy(const struct quant_job *j, const struct gguf_tensor *t, struct moe_err *e)
{
	for (uint64_t at = 0; at < t->n_bytes;) {
		uint64_t n = t->n_bytes - at < 16u << 20 ? t->n_bytes - at : 16u << 20;

		if (gguf_out_data(j->out, (const char *)t->data + at, (size_t)n, e) || told(j, n, e))
			return -1;
		at += n;
	}
	return 0;
}

int quant_tensor(const struct quant_job *j, size_t i, uint32_t type, struct moe_err *e)
{
	const struct gguf_tensor *t = gguf_tensor_at(j->g, i);
	uint64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
	uint64_t most = n < (uint64_t)UNIT * SLAB ? n : (uint64_t)UNIT * SLAB;
	struct slab s = { .job = j, .t = t, .type = type };
	int rc = -1;

	if (t->type == type)
		return copy(j, t, e);
	s.x = malloc((size_t)pool_threads(j->pool) * UNIT * sizeof *s.x);
	s.out = malloc(qtype_row_bytes(type, most));
	if (!s.x || !s.out) {
		err_nomem(e, most, "tensor data");
		goto out;
	}
	for (; s.first < n; s.first += s.n) {
		size_t units;

		s.n = n - s.first < most ? n - s.first : most;
		units = (size_t)((s.n + UNIT - 1) / UNIT);
		pool_run(j->pool, convert_unit, &s, units);
		if (report_bad(&s, units, e) ||
		    gguf_out_data(j->out, s.out, qtype_row_bytes(type, s.n), e) ||
		    told(j, qtype_row_bytes(t->type, s.n), e))
			goto out;
	}
	rc = 0;
out:
	free(s.x);
	free(s.out);
	return rc;
}
