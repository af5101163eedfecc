/*
 * load.c - from an open GGUF to a struct model: its tensors, by table. Its numbers: hparams.c.
 *
 * Every tensor's shape is compared with the hyperparameters, so the forward pass can trust what it
 * gets; a tensor that nothing asks for is refused.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/arch.h"
#include "model/lora.h"

/* ---- tensors ---- */

/* Sizes by symbol; a tensor row's shape is written in these. */
enum dim { D_NONE, D_EMBD, D_VOCAB, D_Q, D_KV, D_QKV, D_HEAD, D_HEADS, D_O, D_FF, D_FF2, D_EXP, D_FFE,
	D_FFE2, D_FFS, D_Q_RANK, D_KV_RANK, D_KV_A, D_KV_B, D_NOPE, D_HEAD_V, D_PAIRS };

static uint64_t dim_size(const struct model *m, const struct layer *l, enum dim d)
{
	const struct hparams *h = &m->hp;
	uint64_t q = (uint64_t)l->n_head * h->head_dim, kv = (uint64_t)l->n_head_kv * h->head_dim;

	switch (d) {
	case D_NONE: return 1;
	case D_EMBD: return h->n_embd;
	case D_VOCAB: return m->n_vocab;
	case D_Q: return q;
	case D_KV: return kv;
	case D_QKV: return q + 2 * kv;
	case D_HEAD: return h->head_dim;
	case D_HEADS: return l->n_head;
	case D_O: return (uint64_t)l->n_head * h->head_dim_v;
	case D_FF: return l->n_ff;
	case D_FF2: return 2 * (uint64_t)l->n_ff;
	case D_EXP: return h->n_expert;
	case D_FFE: return h->n_ff_expert;
	case D_FFE2: return 2 * (uint64_t)h->n_ff_expert;
	case D_FFS: return h->n_ff_shared;
	case D_Q_RANK: return h->q_rank;
	case D_KV_RANK: return h->kv_rank;
	case D_KV_A: return (uint64_t)h->kv_rank + h->n_rot;
	case D_KV_B: return (uint64_t)l->n_head * (h->head_dim - h->n_rot + h->head_dim_v);
	case D_NOPE: return h->head_dim - h->n_rot;
	case D_HEAD_V: return h->head_dim_v;
	case D_PAIRS: return h->n_rot / 2;
	}
	return 0;
}

enum kind { MATRIX, VECTOR }; /* struct weight, or const float * that must be F32 */

/* Forms of a layer that its tensors decide: if the named one is there (after "blk.N."), `then` is
 * added to the layer's features, else `other`. Asked in this order, where all of `when` are set. */
static const struct form_row {
	const char *name;
	uint64_t when, then, other;
} form_rows[] = {
	{ "attn_kv_b.weight", F_MLA, F_KV_B_WHOLE, F_KV_B_SPLIT },
	{ "attn_q_a.weight", F_MLA, F_Q_RANK, F_Q_PLAIN },
	{ "attn_q_norm.weight", F_QK_NORM_MAYBE, F_QK_NORM_HEAD, 0 },
	{ "layer_output_norm.weight", F_POST_NORMS_OUT, F_POST_LAYER, F_POST_FFW },
	{ "ffn_up.weight", F_DENSE_MAYBE | F_MOE, F_DENSE, 0 },
	{ "ffn_gate_up_exps.weight", F_GATE_UP_MAYBE | F_MOE, F_GATE_UP, F_GATE_AND_UP },
};

/* A tensor of a layer: name after "blk.N.", what it is, the features that ask for it, whether it may
 * be missing, shape (fastest first), place in struct layer. To add a tensor: a row. */
static const struct tensor_row {
	const char *name;
	enum kind kind;
	enum model_class cls;
	uint64_t when; /* all of these features; 0 = always */
	int maybe;
	enum dim ne[3];
	size_t at;
} tensor_rows[] = {
#define AT(f) offsetof(struct layer, f)
#define ATT MODEL_ATTENTION
	{ "attn_norm.weight", VECTOR, MODEL_NORM, 0, 0, { D_EMBD }, AT(attn_norm.w) },
	{ "attn_norm.bias", VECTOR, MODEL_NORM, F_NORM_BIAS, 0, { D_EMBD }, AT(attn_norm.b) },
	{ "attn_qkv.weight", MATRIX, ATT, F_QKV_FUSED, 0, { D_EMBD, D_QKV }, AT(wqkv) },
	{ "attn_qkv.bias", VECTOR, ATT, F_QKV_FUSED, 1, { D_QKV }, AT(bqkv) },
	{ "attn_q.weight", MATRIX, ATT, F_QKV_SPLIT, 0, { D_EMBD, D_Q }, AT(wq) },
	{ "attn_k.weight", MATRIX, ATT, F_QKV_SPLIT, 0, { D_EMBD, D_KV }, AT(wk) },
	{ "attn_v.weight", MATRIX, ATT, F_QKV_SPLIT, 0, { D_EMBD, D_KV }, AT(wv) },
	{ "attn_q.bias", VECTOR, ATT, F_QKV_SPLIT, 1, { D_Q }, AT(bq) },
	{ "attn_k.bias", VECTOR, ATT, F_QKV_SPLIT, 1, { D_KV }, AT(bk) },
	{ "attn_v.bias", VECTOR, ATT, F_QKV_SPLIT, 1, { D_KV }, AT(bv) },
	{ "attn_q.weight", MATRIX, ATT, F_Q_PLAIN, 0, { D_EMBD, D_Q }, AT(wq) },
	{ "attn_q_a.weight", MATRIX, ATT, F_Q_RANK, 0, { D_EMBD, D_Q_RANK }, AT(wq_a) },
	{ "attn_q_a_norm.weight", VECTOR, MODEL_NORM, F_Q_RANK, 0, { D_Q_RANK }, AT(q_a_norm.w) },
	{ "attn_q_b.weight", MATRIX, ATT, F_Q_RANK, 0, { D_Q_RANK, D_Q }, AT(wq_b) },
	{ "attn_kv_a_mqa.weight", MATRIX, ATT, F_MLA, 0, { D_EMBD, D_KV_A }, AT(wkv_a) },
	{ "attn_kv_a_norm.weight", VECTOR, MODEL_NORM, F_MLA, 0, { D_KV_RANK }, AT(kv_a_norm.w) },
	{ "attn_kv_b.weight", MATRIX, ATT, F_KV_B_WHOLE, 0, { D_KV_RANK, D_KV_B }, AT(wkv_b) },
	{ "attn_k_b.weight", MATRIX, ATT, F_KV_B_SPLIT, 0, { D_NOPE, D_KV_RANK, D_HEADS }, AT(wk_b) },
	{ "attn_v_b.weight", MATRIX, ATT, F_KV_B_SPLIT, 0, { D_KV_RANK, D_HEAD_V, D_HEADS }, AT(wv_b) },
	{ "attn_output.weight", MATRIX, ATT, 0, 0, { D_O, D_EMBD }, AT(wo) },
	{ "attn_output.bias", VECTOR, ATT, F_O_BIAS, 0, { D_EMBD }, AT(bo) },
	{ "attn_output.bias", VECTOR, ATT, F_O_BIAS_MAYBE, 1, { D_EMBD }, AT(bo) },
	{ "attn_sinks.weight", VECTOR, ATT, F_SINKS, 0, { D_HEADS }, AT(sinks) },
	{ "attn_q_norm.weight", VECTOR, MODEL_NORM, F_QK_NORM_HEAD, 0, { D_HEAD }, AT(q_norm.w) },
	{ "attn_k_norm.weight", VECTOR, MODEL_NORM, F_QK_NORM_HEAD, 0, { D_HEAD }, AT(k_norm.w) },
	{ "attn_q_norm.weight", VECTOR, MODEL_NORM, F_QK_NORM_FULL, 0, { D_Q }, AT(q_norm.w) },
	{ "attn_k_norm.weight", VECTOR, MODEL_NORM, F_QK_NORM_FULL, 0, { D_KV }, AT(k_norm.w) },
	{ "post_attention_norm.weight", VECTOR, MODEL_NORM, F_POST_NORMS, 0, { D_EMBD }, AT(post_attn.w) },
	{ "attn_output_norm.weight", VECTOR, MODEL_NORM, F_POST_NORMS_OUT, 0, { D_EMBD }, AT(post_attn.w) },
	{ "ffn_norm.weight", VECTOR, MODEL_NORM, F_FFN_NORM, 0, { D_EMBD }, AT(ffn_norm.w) },
	{ "ffn_norm.bias", VECTOR, MODEL_NORM, F_FFN_NORM | F_NORM_BIAS, 0, { D_EMBD }, AT(ffn_norm.b) },
	{ "post_attention_norm.weight", VECTOR, MODEL_NORM, F_FFN_NORM_POST, 0, { D_EMBD }, AT(ffn_norm.w) },
	{ "attn_output_norm.weight", VECTOR, MODEL_NORM, F_FFN_NORM_OUT, 0, { D_EMBD }, AT(ffn_norm.w) },
	{ "ffn_norm_exps.weight", VECTOR, MODEL_NORM, F_BESIDE, 0, { D_EMBD }, AT(exps_norm.w) },
	{ "post_ffw_norm.weight", VECTOR, MODEL_NORM, F_POST_NORMS, 0, { D_EMBD }, AT(post_ffn.w) },
	{ "post_ffw_norm.weight", VECTOR, MODEL_NORM, F_POST_FFW, 0, { D_EMBD }, AT(post_ffn.w) },
	{ "layer_output_norm.weight", VECTOR, MODEL_NORM, F_POST_LAYER, 0, { D_EMBD }, AT(post_ffn.w) },
	{ "ffn_up.weight", MATRIX, MODEL_DENSE_FFN, F_DENSE | F_UP_FUSED, 0, { D_EMBD, D_FF2 }, AT(up) },
	{ "ffn_gate.weight", MATRIX, MODEL_DENSE_FFN, F_DENSE | F_UP_SPLIT, 0, { D_EMBD, D_FF }, AT(gate) },
	{ "ffn_up.weight", MATRIX, MODEL_DENSE_FFN, F_DENSE | F_UP_SPLIT, 0, { D_EMBD, D_FF }, AT(up) },
	{ "ffn_down.weight", MATRIX, MODEL_DENSE_FFN, F_DENSE, 0, { D_FF, D_EMBD }, AT(down) },
	{ "ffn_gate.bias", VECTOR, MODEL_DENSE_FFN, F_DENSE | F_FFN_BIAS_MAYBE, 1, { D_FF }, AT(gate_b) },
	{ "ffn_up.bias", VECTOR, MODEL_DENSE_FFN, F_DENSE | F_FFN_BIAS_MAYBE, 1, { D_FF }, AT(up_b) },
	{ "ffn_down.bias", VECTOR, MODEL_DENSE_FFN, F_DENSE | F_FFN_BIAS_MAYBE, 1, { D_EMBD }, AT(down_b) },
	{ "ffn_gate_inp.weight", MATRIX, MODEL_ROUTER, F_MOE, 0, { D_EMBD, D_EXP }, AT(router) },
	{ "ffn_gate_inp.bias", VECTOR, MODEL_ROUTER, F_MOE | F_ROUTER_BIAS, 0, { D_EXP }, AT(router_b) },
	{ "exp_probs_b.bias", VECTOR, MODEL_ROUTER, F_MOE | F_SEL_BIAS, 0, { D_EXP }, AT(sel_b) },
	{ "exp_probs_b.bias", VECTOR, MODEL_ROUTER, F_MOE | F_SEL_BIAS_MAYBE, 1, { D_EXP }, AT(sel_b) },
#define EXPS MODEL_EXPERTS
	{ "ffn_gate_up_exps.weight", MATRIX, EXPS, F_GATE_UP, 0, { D_EMBD, D_FFE2, D_EXP }, AT(gate_up_exps) },
	{ "ffn_gate_exps.weight", MATRIX, EXPS, F_GATE_AND_UP, 0, { D_EMBD, D_FFE, D_EXP }, AT(gate_exps) },
	{ "ffn_up_exps.weight", MATRIX, EXPS, F_GATE_AND_UP, 0, { D_EMBD, D_FFE, D_EXP }, AT(up_exps) },
	{ "ffn_down_exps.weight", MATRIX, EXPS, F_MOE, 0, { D_FFE, D_EMBD, D_EXP }, AT(down_exps) },
	{ "ffn_gate_exps.bias", VECTOR, EXPS, F_MOE | F_EXPERT_BIAS, 0, { D_FFE, D_EXP }, AT(gate_exps_b) },
	{ "ffn_up_exps.bias", VECTOR, EXPS, F_MOE | F_EXPERT_BIAS, 0, { D_FFE, D_EXP }, AT(up_exps_b) },
	{ "ffn_down_exps.bias", VECTOR, EXPS, F_MOE | F_EXPERT_BIAS, 0, { D_EMBD, D_EXP }, AT(down_exps_b) },
	{ "ffn_gate_inp_shexp.weight", MATRIX, MODEL_SHARED, F_SHARED_GATED, 0, { D_EMBD }, AT(router_sh) },
	{ "ffn_gate_shexp.weight", MATRIX, MODEL_SHARED, F_SHARED, 0, { D_EMBD, D_FFS }, AT(gate_sh) },
	{ "ffn_up_shexp.weight", MATRIX, MODEL_SHARED, F_SHARED, 0, { D_EMBD, D_FFS }, AT(up_sh) },
	{ "ffn_down_shexp.weight", MATRIX, MODEL_SHARED, F_SHARED, 0, { D_FFS, D_EMBD }, AT(down_sh) },
#undef AT
#undef ATT
#undef EXPS
};

static int note_used(struct model *m, enum model_class cls, const struct gguf_tensor *t,
	struct moe_err *e)
{
	if (m->n_used == m->cap_used) {
		size_t cap = m->cap_used ? m->cap_used * 2 : 256;
		void *p = realloc(m->used, cap * sizeof *m->used);

		if (!p)
			return err_nomem(e, cap * sizeof *m->used, "tensor list");
		m->used = p;
		m->cap_used = cap;
	}
	m->used[m->n_used].cls = cls;
	m->used[m->n_used++].t = t;
	return 0;
}

static int check_shape(const struct model *m, const struct layer *l, const struct gguf_tensor *t,
	const enum dim ne[3], struct moe_err *e)
{
	for (int i = 0; i < 4; i++) {
		uint64_t want = i < 3 ? dim_size(m, l, ne[i]) : 1;

		if (t->ne[i] != want)
			return err_set(e, MOE_ERR_INPUT, "tensor %s: dimension %d is %llu, the hyperparameters "
				"say %llu", t->name, i, (unsigned long long)t->ne[i], (unsigned long long)want);
	}
	return 0;
}

/* Fill in *dst (struct weight or const float *) from the named tensor. */
static int take(struct model *m, const struct layer *l, const char *name, enum kind kind,
	enum model_class cls, const enum dim ne[3], void *dst, struct moe_err *e)
{
	const struct gguf_tensor *t = gguf_tensor_find(m->g, name);
	const struct qtype_info *q;
	struct weight *w = dst;

	if (!t)
		return err_set(e, MOE_ERR_INPUT, "tensor %s is missing", name);
	if (check_shape(m, l, t, ne, e))
		return -1;
	q = qtype_info(t->type);
	if (kind == VECTOR) {
		if (t->type != QT_F32)
			return err_set(e, MOE_ERR_INPUT, "tensor %s is %s: expected F32", name, q->name);
		*(const float **)dst = t->data;
		return note_used(m, cls, t, e);
	}
	if (!kern_type_ok(t->type, t->ne[0]))
		return err_set(e, MOE_ERR_INPUT, "tensor %s: rows of %llu elements in %s have no kernel", name,
			(unsigned long long)t->ne[0], q->name);
	w->data = t->data;
	w->type = t->type;
	m->has_bf16 |= t->type == QT_BF16;
	w->n_in = (uint32_t)t->ne[0];
	w->n_out = (uint32_t)t->ne[1];
	w->n_mat = (uint32_t)t->ne[2];
	w->row_bytes = qtype_row_bytes(t->type, t->ne[0]);
	w->mat_bytes = w->n_out * w->row_bytes;
	return note_used(m, cls, t, e);
}

/* Rows row0.. of every matrix of w. */
static struct weight rows_of(const struct weight *w, uint32_t row0, uint32_t n)
{
	struct weight part = *w;

	part.data += row0 * w->row_bytes;
	part.n_out = n;
	return part;
}

/* The forward pass knows q, k, v, gate and up only by themselves. */
static void take_apart(struct model *m, struct layer *l)
{
	const struct hparams *hp = &m->hp;
	uint32_t q = l->n_head * hp->head_dim, kv = l->n_head_kv * hp->head_dim, ff = hp->n_ff_expert;
	uint32_t nope = hp->head_dim - hp->n_rot;

	if (l->features & F_QKV_FUSED) {
		l->wq = rows_of(&l->wqkv, 0, q);
		l->wk = rows_of(&l->wqkv, q, kv);
		l->wv = rows_of(&l->wqkv, q + kv, kv);
		if (l->bqkv) {
			l->bq = l->bqkv;
			l->bk = l->bqkv + q;
			l->bv = l->bqkv + q + kv;
		}
	}
	if (l->features & F_KV_B_WHOLE) { /* for each head: nope rows of keys, then its rows of values */
		l->wkv_b.n_mat = l->n_head;
		l->wkv_b.mat_bytes = (size_t)(nope + hp->head_dim_v) * l->wkv_b.row_bytes;
		l->wv_b = rows_of(&l->wkv_b, nope, hp->head_dim_v);
		l->wkv_b = rows_of(&l->wkv_b, 0, nope);
	}
	if ((l->features & F_UP_FUSED) && (l->features & F_DENSE)) {
		l->gate = rows_of(&l->up, 0, l->n_ff);
		l->up = rows_of(&l->up, l->n_ff, l->n_ff);
	}
	if (l->features & F_GATE_UP) {
		l->gate_exps = rows_of(&l->gate_up_exps, 0, ff);
		l->up_exps = rows_of(&l->gate_up_exps, ff, ff);
	}
}

static int has_tensor(const struct model *m, uint32_t il, const char *name)
{
	char full[64];

	snprintf(full, sizeof full, "blk.%u.%s", il, name);
	return gguf_tensor_find(m->g, full) != NULL;
}

/* The features of layer il: the architecture's, and the forms that its tensors have. */
static void find_forms(struct model *m, uint32_t il)
{
	struct layer *l = &m->layer[il];

	l->features |= m->arch->features;
	if (!(l->features & F_MLA))
		l->features |= has_tensor(m, il, "attn_qkv.weight") ? F_QKV_FUSED : F_QKV_SPLIT;
	if ((l->features & F_MOE) && !(l->features & F_GATE_UP_MAYBE))
		l->features |= F_GATE_AND_UP;
	if (!(l->features & F_MOE) || !m->hp.n_ff_shared)
		l->features &= ~(F_SHARED | F_SHARED_GATED);
	if (l->features & F_SHARED_GATED)
		l->features |= F_SHARED;
	if (!(l->features & F_UP_FUSED))
		l->features |= F_UP_SPLIT;
	for (size_t i = 0; i < sizeof form_rows / sizeof form_rows[0]; i++) {
		const struct form_row *r = &form_rows[i];

		if ((r->when & l->features) == r->when)
			l->features |= has_tensor(m, il, r->name) ? r->then : r->other;
	}
}

static int take_layer(struct model *m, uint32_t il, struct moe_err *e)
{
	struct layer *l = &m->layer[il];
	char name[64];

	find_forms(m, il);
	for (size_t i = 0; i < sizeof tensor_rows / sizeof tensor_rows[0]; i++) {
		const struct tensor_row *r = &tensor_rows[i];

		if ((r->when & l->features) != r->when || (r->maybe && !has_tensor(m, il, r->name)))
			continue;
		snprintf(name, sizeof name, "blk.%u.%s", il, r->name);
		if (take(m, l, name, r->kind, r->cls, r->ne, (char *)l + r->at, e))
			return -1;
	}
	take_apart(m, l);
	return 0;
}

/* RoPE's factors, which belong to all layers: freqs, or LongRoPE's two. */
static int take_factors(struct model *m, struct moe_err *e)
{
	static const enum dim pairs[3] = { D_PAIRS };
	static const char *const names[] = { "rope_freqs.weight", "rope_factors_long.weight",
		"rope_factors_short.weight" };
	const float **at[] = { &m->rope[0].freqs, &m->rope[0].longer, &m->rope[0].shorter };
	int freqs = (m->arch->features & F_ROPE_FACTORS) && !m->rope[0].stretched_long;
	int longer = (m->arch->features & F_LONGROPE) ||
		((m->arch->features & F_ROPE_FACTORS) && m->rope[0].stretched_long);

	for (int i = 0; i < 3; i++)
		if ((i ? longer : freqs) && gguf_tensor_find(m->g, names[i]) &&
		    take(m, m->layer, names[i], VECTOR, MODEL_ATTENTION, pairs, at[i], e))
			return -1;
	m->rope[1].freqs = m->rope[0].freqs;
	m->rope[1].longer = m->rope[0].longer;
	m->rope[1].shorter = m->rope[0].shorter;
	return 0;
}

static int take_output(struct model *m, struct moe_err *e)
{
	static const enum dim embd[3] = { D_EMBD, D_VOCAB }, norm[3] = { D_EMBD }, vocab[3] = { D_VOCAB };
	uint64_t f = m->arch->features;
	const struct layer *l = m->layer;

	if (take(m, l, "output_norm.weight", VECTOR, MODEL_NORM, norm, &m->output_norm.w, e) ||
	    ((f & F_NORM_BIAS) &&
	     take(m, l, "output_norm.bias", VECTOR, MODEL_NORM, norm, &m->output_norm.b, e)))
		return -1;
	m->output = m->tok_embd;
	if (gguf_tensor_find(m->g, "output.weight") &&
	    take(m, l, "output.weight", MATRIX, MODEL_OUTPUT, embd, &m->output, e))
		return -1;
	if ((f & F_OUT_BIAS) || ((f & F_OUT_BIAS_MAYBE) && gguf_tensor_find(m->g, "output.bias")))
		return take(m, l, "output.bias", VECTOR, MODEL_OUTPUT, vocab, &m->output_b, e);
	return 0;
}

static int take_tensors(struct model *m, struct moe_err *e)
{
	static const enum dim embd[3] = { D_EMBD, D_VOCAB };
	const struct gguf_tensor *t = gguf_tensor_find(m->g, "token_embd.weight");

	if (!t)
		return err_set(e, MOE_ERR_INPUT, "tensor token_embd.weight is missing");
	if (t->ne[1] < 1 || t->ne[1] > 1u << 24)
		return err_set(e, MOE_ERR_INPUT, "token_embd.weight has %llu rows: allowed are 1 to %u",
			(unsigned long long)t->ne[1], 1u << 24);
	m->n_vocab = (uint32_t)t->ne[1];
	if (take(m, m->layer, "token_embd.weight", MATRIX, MODEL_EMBED, embd, &m->tok_embd, e) ||
	    take_output(m, e) || take_factors(m, e))
		return -1;
	for (uint32_t i = 0; i < m->hp.n_layer; i++)
		if (take_layer(m, i, e))
			return -1;
	return 0;
}

/* Layers behind the last one that predict further tokens: not run, not an error. */
static int is_nextn(const struct model *m, const char *name)
{
	char *end;
	unsigned long il;

	if (strncmp(name, "blk.", 4) || name[4] < '0' || name[4] > '9')
		return 0;
	il = strtoul(name + 4, &end, 10);
	return *end == '.' && il >= m->hp.n_layer && il < m->hp.n_block;
}

/* A tensor that no row asked for would be left out of the arithmetic without a word: refuse it. */
static int refuse_unused(struct model *m, struct moe_err *e)
{
	size_t n = gguf_n_tensors(m->g), extra = 0, first = 0;
	unsigned char *used = calloc(n + 1, 1);

	if (!used)
		return err_nomem(e, n, "tensor list");
	for (size_t i = 0; i < m->n_used; i++)
		used[m->used[i].t - gguf_tensor_at(m->g, 0)] = 1;
	for (size_t i = n; i-- > 0;) {
		const struct gguf_tensor *t = gguf_tensor_at(m->g, i);

		if (used[i])
			continue;
		if (is_nextn(m, t->name)) {
			m->info.n_unused++;
			m->info.unused_bytes += t->n_bytes;
			continue;
		}
		extra++;
		first = i;
	}
	free(used);
	if (!extra)
		return 0;
	return err_set(e, MOE_ERR_INPUT, "tensor %s is not part of architecture %s (%zu of %zu tensors "
		"are not)", gguf_tensor_at(m->g, first)->name, m->arch->name, extra, n);
}

/* ---- what people want to know ---- */

static void count_tensor(struct model *m, enum model_class cls, const struct gguf_tensor *t)
{
	struct model_info *in = &m->info;
	uint64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3], active = n, read = t->n_bytes;

	if (cls == MODEL_EXPERTS) {
		active = n / m->hp.n_expert * m->hp.k;
		read = t->n_bytes / m->hp.n_expert * m->hp.k;
	}
	if (cls == MODEL_EMBED && m->output.data != m->tok_embd.data)
		read = m->tok_embd.row_bytes; /* a look-up reads one row; tied, it is also the head */
	in->n_params += n;
	in->n_params_active += active;
	in->weight_bytes += t->n_bytes;
	in->bytes_per_token += read;
}

/* "Q4_K+Q6_K": the types that hold at least 10 % of the matrices' bytes, largest first. */
static void name_quant(struct model *m)
{
	uint64_t bytes[QT_MAX] = { 0 }, all = 0;
	size_t len = 0;

	for (size_t i = 0; i < m->n_used; i++) {
		const struct gguf_tensor *t = m->used[i].t;

		if (t->n_dims < 2 || m->used[i].cls == MODEL_ROUTER)
			continue;
		bytes[t->type] += t->n_bytes;
		all += t->n_bytes;
	}
	for (;;) {
		uint32_t best = 0;

		for (uint32_t q = 1; q < QT_MAX; q++)
			if (bytes[q] > bytes[best])
				best = q;
		if (bytes[best] == 0 || bytes[best] * 10 < all || len + 16 > sizeof m->info.quant)
			break;
		len += (size_t)snprintf(m->info.quant + len, sizeof m->info.quant - len, "%s%s",
			len ? "+" : "", qtype_info(best)->name);
		bytes[best] = 0;
	}
}

/* The preset of the family, and what the file's keys say instead. */
static int fill_router(struct model *m, struct moe_route_spec *r, struct moe_err *e)
{
	static const int score_of[] = { -1, MOE_SCORE_SOFTMAX, MOE_SCORE_SIGMOID, -1,
		MOE_SCORE_SQRT_SOFTPLUS };
	const struct hparams *h = &m->hp;
	uint32_t keys = m->arch->keys;

	if (moe_route_preset(m->arch->router, r, e))
		return -1;
	r->n_expert = (uint16_t)h->n_expert;
	r->k = (uint16_t)h->k;
	r->scale = (float)h->weights_scale;
	if (h->n_group > 1) {
		r->n_group = (uint16_t)h->n_group;
		r->n_group_used = (uint16_t)h->n_group_used;
	}
	if (keys & K_WEIGHTS_NORM)
		r->weight = h->weights_norm ? MOE_WEIGHT_NORM : MOE_WEIGHT_RAW;
	if ((keys & K_GATING) && h->gating) {
		if (score_of[h->gating] < 0)
			return err_set(e, MOE_ERR_INPUT, "%s.expert_gating_func = %u is not supported; supported are "
				"1 (softmax), 2 (sigmoid), 4 (sqrt(softplus))", m->arch->name, h->gating);
		r->score = (enum moe_score)score_of[h->gating];
	}
	/* GLM-4.7-Flash in files that do not say: as llama.cpp knows it */
	if ((keys & K_MLA) && !h->gating && (h->n_layer == 47 || h->n_layer == 48) && m->n_vocab == 154880)
		r->score = MOE_SCORE_SIGMOID;
	return moe_route_check(r, e);
}

static void fill_layers(struct model *m)
{
	struct model_info *in = &m->info;
	const struct hparams *h = &m->hp;

	for (uint32_t i = 0; i < h->n_layer; i++) {
		uint64_t f = m->layer[i].features;

		if (f & F_MOE)
			in->layers[in->n_moe_layer++] = (struct moe_layer_desc){ (uint16_t)i,
				(uint16_t)h->n_expert, (uint16_t)h->k };
		if (f & F_DENSE)
			in->n_ff = m->layer[i].n_ff;
		in->n_dense_layer += (f & F_DENSE) != 0;
		in->shared_gated |= (f & F_SHARED_GATED) != 0;
		in->n_window_layer += m->layer[i].window != 0;
	}
}

/* How RoPE reaches further than its base does, in words. */
static void name_scaling(const struct rope_par *r, char *out, size_t size)
{
	if (r->longer || r->shorter)
		snprintf(out, size, "LongRoPE, from %u tokens", r->ctx);
	else if (r->ext != 0)
		snprintf(out, size, "YaRN, factor %g, from %u tokens", r->factor, r->ctx);
	else if (r->factor != 1)
		snprintf(out, size, "linear, factor %g", r->factor);
	else
		snprintf(out, size, "%s", r->freqs ? "a factor for each pair" : "none");
}

static int fill_info(struct model *m, struct moe_err *e)
{
	struct model_info *in = &m->info;
	const struct hparams *h = &m->hp;
	const char *base = strrchr(gguf_path(m->g), '/');
	struct gguf_str s;

	in->arch = m->arch->name;
	if (gguf_get_str(m->g, "general.name", &s, NULL) == 1 && s.n)
		snprintf(in->name, sizeof in->name, "%.*s", (int)(s.n < 127 ? s.n : 127), s.s);
	else
		snprintf(in->name, sizeof in->name, "%s", base ? base + 1 : gguf_path(m->g));
	in->n_layer = h->n_layer;
	in->n_vocab = m->n_vocab;
	in->n_embd = h->n_embd;
	in->n_head = h->n_head;
	in->n_head_kv = h->n_head_kv;
	in->head_dim = h->head_dim;
	in->n_ctx_train = h->n_ctx_train;
	in->window = h->window;
	in->n_nextn = h->n_nextn;
	in->kv_rank = m->arch->features & F_MLA ? h->kv_rank : 0;
	if (h->n_expert) {
		in->n_ff_expert = h->n_ff_expert;
		in->n_ff_shared = h->n_ff_shared;
		if (fill_router(m, &in->route, e))
			return -1;
	}
	fill_layers(m);
	if (!in->n_window_layer)
		in->window = 0;
	for (size_t i = 0; i < m->n_used; i++)
		count_tensor(m, m->used[i].cls, m->used[i].t);
	name_quant(m);
	name_scaling(&m->rope[0], in->rope_scaling, sizeof in->rope_scaling);
	return 0;
}

/* "llama, olmoe, ..." for the refusal of others. */
static void list_archs(char *out, size_t size)
{
	size_t len = 0;

	out[0] = 0;
	for (size_t i = 0; arch_at(i) && len < size; i++)
		len += (size_t)snprintf(out + len, size - len, "%s%s", i ? ", " : "", arch_at(i)->name);
}

struct model *model_open(const struct gguf *g, struct moe_err *e)
{
	struct model *m = calloc(1, sizeof *m);
	struct gguf_str s;
	char list[512];
	int found;

	if (!m) {
		err_nomem(e, sizeof *m, "model");
		return NULL;
	}
	m->g = g;
	found = gguf_get_str(g, "general.architecture", &s, e);
	if (!found)
		err_set(e, MOE_ERR_INPUT, "key general.architecture is missing: not a model file");
	if (found != 1)
		goto fail;
	m->arch = arch_find(s);
	if (!m->arch) {
		list_archs(list, sizeof list);
		err_set(e, MOE_ERR_INPUT, "architecture '%.*s' is not supported; supported are %s",
			(int)(s.n < 64 ? s.n : 64), s.s, list);
		goto fail;
	}
	if (hparams_read(m, e) || take_tensors(m, e) || refuse_unused(m, e) || fill_info(m, e))
		goto fail;
	return m;
fail:
	err_wrap(e, "loading %s", gguf_path(g));
	model_close(m);
	return NULL;
}

void model_close(struct model *m)
{
	if (!m)
		return;
	lora_free(m);
	free(m->layer);
	free(m->used);
	free(m);
}

const struct model_info *model_info(const struct model *m)
{
	return &m->info;
}

const char *model_arch_name(size_t i)
{
	return arch_at(i) ? arch_at(i)->name : NULL;
}

const char *model_class_name(enum model_class c)
{
	static const char *const names[MODEL_N_CLASS] = { "token embedding", "attention", "router",
		"experts", "shared expert", "dense FFN", "norms", "output head" };

	return names[c];
}

void model_each_tensor(const struct model *m,
	void (*fn)(void *ctx, enum model_class c, const struct gguf_tensor *t), void *ctx)
{
	for (size_t i = 0; i < m->n_used; i++)
		fn(ctx, m->used[i].cls, m->used[i].t);
}
