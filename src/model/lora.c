/* lora.c - see lora.h: reading and checking adapters, and their products. */
#include "model/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/forward.h"

#define TOKENS 16  /* of a unit of the pool */
#define ROWS 64    /* of lora_b that are multiplied together */
#define SLICE 4096 /* rows of lora_b of a unit */

/* ---- reading ---- */

/* The weights that can be adapted: those whose products product_run does. To add one: a row. */
static const size_t places[] = {
#define AT(f) offsetof(struct layer, f)
	AT(wq), AT(wk), AT(wv), AT(wo), AT(wq_a), AT(wq_b), AT(wkv_a), AT(gate), AT(up), AT(down), AT(router), AT(gate_exps), AT(up_exps),
	AT(down_exps), AT(gate_sh), AT(up_sh), AT(down_sh), AT(router_sh),
#undef AT
};

struct pair { const struct gguf_tensor *a, *b, *of; };

static int check_keys(const struct model *m, const struct gguf *g, double *alpha, struct moe_err *e)
{
	static const struct { const char *key, *want; } keys[] = {
		{ "general.type", "adapter" }, { "adapter.type", "lora" }, { "general.architecture", NULL },
	};
	struct gguf_str s;
	enum gguf_kind kind;
	uint64_t n;

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		const char *want = keys[i].want ? keys[i].want : m->arch->name;
		int got = gguf_get_str(g, keys[i].key, &s, e);

		if (got < 0)
			return -1;
		if (!got)
			return err_set(e, MOE_ERR_INPUT, "key %s is missing: not an adapter", keys[i].key);
		if (s.n != strlen(want) || memcmp(s.s, want, s.n))
			return err_set(e, MOE_ERR_INPUT, "%s is '%.*s', expected '%s'", keys[i].key,
				(int)(s.n < 64 ? s.n : 64), s.s, want);
	}
	if (gguf_get_arr(g, "adapter.alora.invocation_tokens", &kind, &n, NULL))
		return err_set(e, MOE_ERR_INPUT, "an adapter that starts at invocation tokens (aLoRA) is not "
			"supported");
	*alpha = 0;
	if (gguf_get_f64(g, "adapter.lora.alpha", alpha, e) < 0)
		return -1;
	return isfinite(*alpha) ? 0 : err_set(e, MOE_ERR_INPUT, "adapter.lora.alpha = %g", *alpha);
}

/* The pair that t, a lora_a, begins. */
static int find_pair(const struct model *m, const struct gguf *g, const struct gguf_tensor *t,
	struct pair *p, struct moe_err *e)
{
	char name[GGUF_MAX_NAME + 1];
	size_t n = strlen(t->name) - 7;

	snprintf(name, sizeof name, "%.*s.lora_b", (int)n, t->name);
	p->a = t;
	p->b = gguf_tensor_find(g, name);
	if (!p->b)
		return err_set(e, MOE_ERR_INPUT, "tensor %s has no lora_b", t->name);
	name[n] = 0;
	p->of = gguf_tensor_find(m->g, name);
	if (!p->of)
		return err_set(e, MOE_ERR_INPUT, "tensor %s: the model has no tensor %s", t->name, name);
	return 0;
}

/* Every tensor is half of a pair. */
static int check_name(const struct gguf *g, const struct gguf_tensor *t, struct moe_err *e)
{
	char name[GGUF_MAX_NAME + 1];
	size_t n = strlen(t->name);

	if (n > 7 && !strcmp(t->name + n - 7, ".lora_a"))
		return 0;
	if (n <= 7 || strcmp(t->name + n - 7, ".lora_b"))
		return err_set(e, MOE_ERR_INPUT, "tensor %s is neither a lora_a nor a lora_b", t->name);
	snprintf(name, sizeof name, "%.*s.lora_a", (int)(n - 7), t->name);
	return gguf_tensor_find(g, name) ? 0
		: err_set(e, MOE_ERR_INPUT, "tensor %s has no lora_a", t->name);
}

static int check_dim(const struct gguf_tensor *t, int i, uint64_t want, const char *why, struct moe_err *e)
{
	return t->ne[i] == want ? 0 : err_set(e, MOE_ERR_INPUT, "tensor %s: dimension %d is %llu, %s %llu",
		t->name, i, (unsigned long long)t->ne[i], why, (unsigned long long)want);
}

/* Shapes and types; embd: the pair of the embedding, which is turned. */
static int check_pair(const struct pair *p, int embd, struct moe_err *e)
{
	const struct gguf_tensor *a = p->a, *b = p->b, *w = p->of, *t[2] = { a, b };
	uint64_t rank = b->ne[0];

	if (rank < 1 || rank > 65536)
		return err_set(e, MOE_ERR_INPUT, "tensor %s: rank %llu, allowed are 1 to 65536", b->name,
			(unsigned long long)rank);
	if (check_dim(a, embd ? 0 : 1, rank, "lora_b says rank", e) ||
	    check_dim(a, embd ? 1 : 0, w->ne[embd ? 1 : 0], "the model's tensor has", e) ||
	    check_dim(b, 1, w->ne[embd ? 0 : 1], "the model's tensor has", e))
		return -1;
	for (int i = 0; i < 2; i++) {
		if (check_dim(t[i], 2, w->ne[2], "the model's tensor has", e) || check_dim(t[i], 3, 1, "expected", e))
			return -1;
		if (!kern_type_ok(t[i]->type, t[i]->ne[0]))
			return err_set(e, MOE_ERR_INPUT, "tensor %s: rows of %llu elements in %s have no kernel",
				t[i]->name, (unsigned long long)t[i]->ne[0], qtype_info(t[i]->type)->name);
	}
	return 0;
}

/* Behind the adapters that w has already. `row`: the first of the tensor's rows that w has. */
static int append(const struct pair *p, double scale, double alpha, struct weight *w, size_t row,
	struct moe_err *e)
{
	struct lora *l = calloc(1, sizeof *l);
	const struct lora **end = &w->lora;

	if (!l)
		return err_nomem(e, sizeof *l, "an adapter");
	l->a = p->a->data;
	l->a_type = p->a->type;
	l->a_row = qtype_row_bytes(p->a->type, p->a->ne[0]);
	l->a_mat = l->a_row * p->a->ne[1];
	l->b_type = p->b->type;
	l->b_row = qtype_row_bytes(p->b->type, p->b->ne[0]);
	l->b_mat = l->b_row * p->b->ne[1];
	l->b = (const uint8_t *)p->b->data + row * l->b_row;
	l->rank = (uint32_t)p->b->ne[0];
	l->scale = (float)(alpha != 0 ? scale * alpha / l->rank : scale);
	while (*end)
		end = (const struct lora **)&(*end)->next;
	*end = l;
	return 0;
}

/* Is w made of rows of the tensor? Then the first of them. */
static int is_of(const struct weight *w, const struct gguf_tensor *t, size_t *row)
{
	const uint8_t *from = t->data;

	if (!w->data || w->data < from || w->data >= from + t->n_bytes)
		return 0;
	*row = (size_t)(w->data - from) / w->row_bytes;
	return 1;
}

static int add_pair(struct model *m, const struct pair *p, double scale, double alpha, struct moe_err *e)
{
	int embd = p->of->data == m->tok_embd.data, found = 0;
	size_t row;

	if (embd && m->output.data == m->tok_embd.data)
		return err_set(e, MOE_ERR_INPUT, "tensor %s: the model uses this tensor as its output too, and "
			"the adapter does not say which of the two it changes", p->a->name);
	if (check_pair(p, embd, e))
		return -1;
	if (embd)
		return append(p, scale, alpha, &m->tok_embd, 0, e);
	if (is_of(&m->output, p->of, &row))
		return append(p, scale, alpha, &m->output, row, e);
	for (uint32_t il = 0; il < m->hp.n_layer; il++)
		for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
			struct weight *w = (struct weight *)((char *)&m->layer[il] + places[i]);

			if (!is_of(w, p->of, &row))
				continue;
			if (append(p, scale, alpha, w, row, e))
				return -1;
			found = 1;
		}
	return found ? 0 : err_set(e, MOE_ERR_INPUT, "tensor %s: the model's tensor is not one that an adapter "
		"can change", p->a->name);
}

int model_add_adapter(struct model *m, const struct gguf *g, double scale, struct moe_err *e)
{
	double alpha;

	if (!isfinite(scale)) {
		err_set(e, MOE_ERR_USAGE, "scale %g", scale);
		goto fail;
	}
	if (check_keys(m, g, &alpha, e))
		goto fail;
	if (!gguf_n_tensors(g)) {
		err_set(e, MOE_ERR_INPUT, "it has no tensors");
		goto fail;
	}
	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);
		struct pair p;

		if (check_name(g, t, e))
			goto fail;
		if (t->name[strlen(t->name) - 1] == 'b')
			continue;
		if (find_pair(m, g, t, &p, e) || add_pair(m, &p, scale, alpha, e))
			goto fail;
		m->lora_rank = p.b->ne[0] > m->lora_rank ? (uint32_t)p.b->ne[0] : m->lora_rank;
	}
	return 0;
fail:
	return err_wrap(e, "adapter %s", gguf_path(g));
}

static void free_list(const struct lora *l)
{
	while (l) {
		const struct lora *next = l->next;

		free((void *)l);
		l = next;
	}
}

void lora_free(struct model *m)
{
	free_list(m->tok_embd.lora);
	if (m->output.lora != m->tok_embd.lora)
		free_list(m->output.lora);
	for (uint32_t il = 0; m->layer && il < m->hp.n_layer; il++)
		for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
			free_list(((struct weight *)((char *)&m->layer[il] + places[i]))->lora);
}

/* ---- products ---- */

size_t lora_scratch(const struct model *m)
{
	return m->lora_rank ? TOKENS * ((size_t)m->lora_rank + ROWS) + kern_scratch(m->lora_rank) : 0;
}

struct lora_run { struct session *s; struct job *jobs; size_t n; };

static size_t slices(const struct job *j)
{
	return (j->w->n_out + SLICE - 1) / SLICE;
}

/* Tokens t0..t0+nt-1 and rows r0..r1-1 of a job, one adapter. */
static void add(struct session *s, const struct job *j, const struct lora *l, size_t t0, size_t nt,
	size_t r0, size_t r1, int worker)
{
	float *low = s->lora + (size_t)worker * s->lora_n;   /* [nt][rank] */
	float *part = low + TOKENS * (size_t)s->m->lora_rank; /* [nt][ROWS] */
	float *tmp = part + TOKENS * ROWS, *y = j->y + t0 * j->ys;

	s->kern->gemm(l->a_type, l->a + j->mat * l->a_mat, l->a_row, j->w->n_in, 0, l->rank,
		j->x + t0 * j->xs, j->xs, nt, low, l->rank, s->scratch + (size_t)worker * s->scratch_n);
	for (size_t r = r0; r < r1; r += ROWS) {
		size_t n = min_size(ROWS, r1 - r);

		s->kern->gemm(l->b_type, l->b + j->mat * l->b_mat + r * l->b_row, l->b_row, l->rank, 0, n, low,
			l->rank, nt, part, ROWS, tmp);
		for (size_t t = 0; t < nt; t++)
			s->kern->axpy(l->scale, part + t * ROWS, y + t * j->ys + r, n);
	}
}

static void lora_unit(void *ctx, size_t unit, int worker)
{
	struct lora_run *run = ctx;
	size_t i = run->n - 1, t0, r0;
	struct job *j;

	while (run->jobs[i].unit0 > unit || !run->jobs[i].w->lora)
		i--;
	j = &run->jobs[i];
	unit -= j->unit0;
	t0 = unit / slices(j) * TOKENS;
	r0 = unit % slices(j) * SLICE;
	for (const struct lora *l = j->w->lora; l; l = l->next)
		add(run->s, j, l, t0, min_size(TOKENS, j->n_tok - t0), r0, min_size(r0 + SLICE, j->w->n_out), worker);
}

void lora_run(struct session *s, struct job *jobs, size_t n)
{
	struct lora_run run = { s, jobs, n };
	size_t units = 0;

	for (size_t i = 0; i < n; i++) {
		jobs[i].unit0 = units;
		if (jobs[i].w->lora)
			units += (jobs[i].n_tok + TOKENS - 1) / TOKENS * slices(&jobs[i]);
	}
	if (units)
		pool_run(s->pool, lora_unit, &run, units);
}

void lora_embed(struct session *s, int32_t id, float *x, float *tmp)
{
	uint32_t d = s->m->hp.n_embd;

	for (const struct lora *l = s->m->tok_embd.lora; l; l = l->next) {
		s->kern->to_float(l->a_type, l->a + (size_t)id * l->a_row, s->lora, l->rank);
		s->kern->gemm(l->b_type, l->b, l->b_row, l->rank, 0, d, s->lora, l->rank, 1, tmp, d, NULL);
		s->kern->axpy(l->scale, tmp, x, d);
	}
}
