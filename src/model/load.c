/*
 * load.c - from an open GGUF to a struct model: hyperparameters and tensors by table.
 *
 * Every number of the file is range-checked before it sizes anything, and every tensor's shape is
 * compared with the hyperparameters, so the forward pass can trust what it gets.
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/arch.h"
#include "model/lora.h"

/* ---- hyperparameters ---- */

#define REQUIRED (-1.0)

/* Key after "ARCH.", place, default (REQUIRED = must be there), allowed range. */
static const struct hp_row {
	const char *key;
	size_t at;
	int real;
	double dflt, min, max;
} hp_rows[] = {
	{ "block_count", offsetof(struct hparams, n_layer), 0, REQUIRED, 1, MOE_MAX_LAYER },
	{ "context_length", offsetof(struct hparams, n_ctx_train), 0, REQUIRED, 1, 1 << 24 },
	{ "embedding_length", offsetof(struct hparams, n_embd), 0, REQUIRED, 16, 1 << 17 },
	{ "feed_forward_length", offsetof(struct hparams, n_ff), 0, 0, 0, 1 << 20 },
	{ "attention.head_count", offsetof(struct hparams, n_head), 0, REQUIRED, 1, 1024 },
	{ "attention.head_count_kv", offsetof(struct hparams, n_head_kv), 0, 0, 0, 1024 },
	{ "attention.key_length", offsetof(struct hparams, head_dim), 0, 0, 0, 4096 },
	{ "attention.value_length", offsetof(struct hparams, head_dim_v), 0, 0, 0, 4096 },
	{ "attention.layer_norm_rms_epsilon", offsetof(struct hparams, eps), 1, REQUIRED, 0, 1 },
	{ "rope.freq_base", offsetof(struct hparams, rope_base), 1, 10000, 1, 1e12 },
	{ "rope.dimension_count", offsetof(struct hparams, n_rot), 0, 0, 0, 4096 },
	{ "expert_count", offsetof(struct hparams, n_expert), 0, 0, 0, MOE_MAX_EXPERT },
	{ "expert_used_count", offsetof(struct hparams, k), 0, 0, 0, MOE_MAX_EXPERT },
	{ "expert_feed_forward_length", offsetof(struct hparams, n_ff_expert), 0, 0, 0, 1 << 20 },
	{ "expert_shared_feed_forward_length", offsetof(struct hparams, n_ff_shared), 0, 0, 0, 1 << 20 },
};

static int read_hp(const struct model *m, const struct hp_row *r, struct hparams *hp,
	struct moe_err *e)
{
	char key[128];
	uint64_t u = 0;
	double x;
	int found;

	snprintf(key, sizeof key, "%s.%s", m->arch->name, r->key);
	found = r->real ? gguf_get_f64(m->g, key, &x, e) : gguf_get_u64(m->g, key, &u, e);
	if (found < 0)
		return -1;
	if (!found && r->dflt == REQUIRED)
		return err_set(e, MOE_ERR_INPUT, "key %s is missing", key);
	if (!r->real)
		x = (double)u;
	if (!found)
		x = r->dflt;
	else if (!(x >= r->min && x <= r->max))
		return err_set(e, MOE_ERR_INPUT, "%s = %.17g: allowed are %g to %g", key, x, r->min, r->max);
	if (r->real)
		*(double *)((char *)hp + r->at) = x;
	else
		*(uint32_t *)((char *)hp + r->at) = (uint32_t)x;
	return 0;
}

/* What the rows cannot say: relations between numbers, and defaults made of other numbers. */
static int relate_hp(struct model *m, struct moe_err *e)
{
	struct hparams *hp = &m->hp;

	if (!hp->n_head_kv)
		hp->n_head_kv = hp->n_head;
	if (hp->n_head % hp->n_head_kv)
		return err_set(e, MOE_ERR_INPUT, "%u heads cannot share %u key/value heads", hp->n_head,
			hp->n_head_kv);
	if (!hp->head_dim) {
		if (hp->n_embd % hp->n_head)
			return err_set(e, MOE_ERR_INPUT, "embedding length %u is not a multiple of %u heads",
				hp->n_embd, hp->n_head);
		hp->head_dim = hp->n_embd / hp->n_head;
	}
	if (hp->head_dim_v && hp->head_dim_v != hp->head_dim)
		return err_set(e, MOE_ERR_INPUT, "key length %u and value length %u differ: not supported",
			hp->head_dim, hp->head_dim_v);
	if (!hp->n_rot)
		hp->n_rot = hp->head_dim;
	if (hp->n_rot % 2 || hp->n_rot > hp->head_dim)
		return err_set(e, MOE_ERR_INPUT, "rope.dimension_count %u: must be even and at most the head's %u",
			hp->n_rot, hp->head_dim);
	if (!(m->arch->features & F_SHARED_GATED))
		hp->n_ff_shared = 0; /* a width without tensors must not size anything */
	if (!hp->n_expert && m->arch->experts == EXPERTS_ALWAYS)
		return err_set(e, MOE_ERR_INPUT, "%s.expert_count is missing or 0", m->arch->name);
	if (!hp->n_expert) {
		if (!hp->n_ff)
			return err_set(e, MOE_ERR_INPUT, "%s.feed_forward_length is missing or 0", m->arch->name);
		return 0;
	}
	if (hp->k < 1 || hp->k > hp->n_expert)
		return err_set(e, MOE_ERR_INPUT, "expert_used_count %u of expert_count %u is not possible",
			hp->k, hp->n_expert);
	if (m->arch->expert_ff == FF_COMMON || !hp->n_ff_expert)
		hp->n_ff_expert = m->arch->expert_ff == FF_COMMON ? hp->n_ff : hp->n_ff / hp->k;
	if (!hp->n_ff_expert)
		return err_set(e, MOE_ERR_INPUT, "the experts' feed-forward length is missing or 0");
	return 0;
}

/* Keys that change the arithmetic in ways that forward.c does not have: refused by name. */
static int refuse_unsupported(const struct model *m, struct moe_err *e)
{
	struct gguf_str s;
	char key[128];

	snprintf(key, sizeof key, "%s.rope.scaling.type", m->arch->name);
	if (gguf_get_str(m->g, key, &s, NULL) == 1 && !(s.n == 4 && !memcmp(s.s, "none", 4)))
		return err_set(e, MOE_ERR_INPUT, "%s = '%.*s' is not supported", key, (int)(s.n < 40 ? s.n : 40),
			s.s);
	if (gguf_tensor_find(m->g, "rope_freqs.weight"))
		return err_set(e, MOE_ERR_INPUT, "RoPE frequency factors (tensor rope_freqs.weight) are not "
			"supported");
	return 0;
}

/* ---- tensors ---- */

/* Sizes by symbol; a tensor row's shape is written in these. */
enum dim { D_NONE, D_EMBD, D_VOCAB, D_Q, D_KV, D_HEAD, D_FF, D_EXP, D_FFE, D_FFS };

static uint64_t dim_size(const struct model *m, enum dim d)
{
	const struct hparams *h = &m->hp;

	switch (d) {
	case D_NONE: return 1;
	case D_EMBD: return h->n_embd;
	case D_VOCAB: return m->n_vocab;
	case D_Q: return (uint64_t)h->n_head * h->head_dim;
	case D_KV: return (uint64_t)h->n_head_kv * h->head_dim;
	case D_HEAD: return h->head_dim;
	case D_FF: return h->n_ff;
	case D_EXP: return h->n_expert;
	case D_FFE: return h->n_ff_expert;
	case D_FFS: return h->n_ff_shared;
	}
	return 0;
}

enum kind { MATRIX, VECTOR }; /* struct weight, or const float * that must be F32 */

/* A tensor of a layer: name after "blk.N.", what it is, the feature that asks for it, shape
 * (fastest first), place in struct layer. To add a tensor: a row. */
static const struct tensor_row {
	const char *name;
	enum kind kind;
	enum model_class cls;
	unsigned when; /* all of these features; 0 = always */
	enum dim ne[3];
	size_t at;
} tensor_rows[] = {
#define AT(f) offsetof(struct layer, f)
	{ "attn_norm.weight", VECTOR, MODEL_NORM, 0, { D_EMBD }, AT(attn_norm) },
	{ "attn_q.weight", MATRIX, MODEL_ATTENTION, 0, { D_EMBD, D_Q }, AT(wq) },
	{ "attn_k.weight", MATRIX, MODEL_ATTENTION, 0, { D_EMBD, D_KV }, AT(wk) },
	{ "attn_v.weight", MATRIX, MODEL_ATTENTION, 0, { D_EMBD, D_KV }, AT(wv) },
	{ "attn_output.weight", MATRIX, MODEL_ATTENTION, 0, { D_Q, D_EMBD }, AT(wo) },
	{ "attn_q.bias", VECTOR, MODEL_ATTENTION, F_QKV_BIAS, { D_Q }, AT(bq) },
	{ "attn_k.bias", VECTOR, MODEL_ATTENTION, F_QKV_BIAS, { D_KV }, AT(bk) },
	{ "attn_v.bias", VECTOR, MODEL_ATTENTION, F_QKV_BIAS, { D_KV }, AT(bv) },
	{ "attn_q_norm.weight", VECTOR, MODEL_NORM, F_QK_NORM_HEAD, { D_HEAD }, AT(q_norm) },
	{ "attn_k_norm.weight", VECTOR, MODEL_NORM, F_QK_NORM_HEAD, { D_HEAD }, AT(k_norm) },
	{ "attn_q_norm.weight", VECTOR, MODEL_NORM, F_QK_NORM_FULL, { D_Q }, AT(q_norm) },
	{ "attn_k_norm.weight", VECTOR, MODEL_NORM, F_QK_NORM_FULL, { D_KV }, AT(k_norm) },
	{ "ffn_norm.weight", VECTOR, MODEL_NORM, 0, { D_EMBD }, AT(ffn_norm) },
	{ "ffn_gate.weight", MATRIX, MODEL_DENSE_FFN, F_DENSE, { D_EMBD, D_FF }, AT(gate) },
	{ "ffn_up.weight", MATRIX, MODEL_DENSE_FFN, F_DENSE, { D_EMBD, D_FF }, AT(up) },
	{ "ffn_down.weight", MATRIX, MODEL_DENSE_FFN, F_DENSE, { D_FF, D_EMBD }, AT(down) },
	{ "ffn_gate_inp.weight", MATRIX, MODEL_ROUTER, F_MOE, { D_EMBD, D_EXP }, AT(router) },
	{ "ffn_gate_exps.weight", MATRIX, MODEL_EXPERTS, F_MOE, { D_EMBD, D_FFE, D_EXP }, AT(gate_exps) },
	{ "ffn_up_exps.weight", MATRIX, MODEL_EXPERTS, F_MOE, { D_EMBD, D_FFE, D_EXP }, AT(up_exps) },
	{ "ffn_down_exps.weight", MATRIX, MODEL_EXPERTS, F_MOE, { D_FFE, D_EMBD, D_EXP }, AT(down_exps) },
	{ "ffn_gate_inp_shexp.weight", MATRIX, MODEL_SHARED, F_SHARED_GATED, { D_EMBD }, AT(router_sh) },
	{ "ffn_gate_shexp.weight", MATRIX, MODEL_SHARED, F_SHARED_GATED, { D_EMBD, D_FFS }, AT(gate_sh) },
	{ "ffn_up_shexp.weight", MATRIX, MODEL_SHARED, F_SHARED_GATED, { D_EMBD, D_FFS }, AT(up_sh) },
	{ "ffn_down_shexp.weight", MATRIX, MODEL_SHARED, F_SHARED_GATED, { D_FFS, D_EMBD }, AT(down_sh) },
#undef AT
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

static int check_shape(const struct model *m, const struct gguf_tensor *t, const enum dim ne[3],
	struct moe_err *e)
{
	for (int i = 0; i < 4; i++) {
		uint64_t want = i < 3 ? dim_size(m, ne[i]) : 1;

		if (t->ne[i] != want)
			return err_set(e, MOE_ERR_INPUT, "tensor %s: dimension %d is %llu, the hyperparameters "
				"say %llu", t->name, i, (unsigned long long)t->ne[i], (unsigned long long)want);
	}
	return 0;
}

/* Fill in *dst (struct weight or const float *) from the named tensor. */
static int take(struct model *m, const char *name, enum kind kind, enum model_class cls,
	const enum dim ne[3], void *dst, struct moe_err *e)
{
	const struct gguf_tensor *t = gguf_tensor_find(m->g, name);
	const struct qtype_info *q;
	struct weight *w = dst;

	if (!t)
		return err_set(e, MOE_ERR_INPUT, "tensor %s is missing", name);
	if (check_shape(m, t, ne, e))
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
	w->n_in = (uint32_t)t->ne[0];
	w->n_out = (uint32_t)t->ne[1];
	w->n_mat = (uint32_t)t->ne[2];
	w->row_bytes = qtype_row_bytes(t->type, t->ne[0]);
	return note_used(m, cls, t, e);
}

static int take_layer(struct model *m, uint32_t il, struct moe_err *e)
{
	struct layer *l = &m->layer[il];
	char name[64];

	l->features = m->arch->features | (m->hp.n_expert ? F_MOE : F_DENSE);
	for (size_t i = 0; i < sizeof tensor_rows / sizeof tensor_rows[0]; i++) {
		const struct tensor_row *r = &tensor_rows[i];

		if ((r->when & l->features) != r->when)
			continue;
		snprintf(name, sizeof name, "blk.%u.%s", il, r->name);
		if (take(m, name, r->kind, r->cls, r->ne, (char *)l + r->at, e))
			return -1;
	}
	return 0;
}

static int take_tensors(struct model *m, struct moe_err *e)
{
	static const enum dim embd[3] = { D_EMBD, D_VOCAB }, norm[3] = { D_EMBD };
	const struct gguf_tensor *t = gguf_tensor_find(m->g, "token_embd.weight");

	if (!t)
		return err_set(e, MOE_ERR_INPUT, "tensor token_embd.weight is missing");
	if (t->ne[1] < 1 || t->ne[1] > 1u << 24)
		return err_set(e, MOE_ERR_INPUT, "token_embd.weight has %llu rows: allowed are 1 to %u",
			(unsigned long long)t->ne[1], 1u << 24);
	m->n_vocab = (uint32_t)t->ne[1];
	m->layer = calloc(m->hp.n_layer, sizeof *m->layer);
	if (!m->layer)
		return err_nomem(e, m->hp.n_layer * sizeof *m->layer, "layers");
	if (take(m, "token_embd.weight", MATRIX, MODEL_EMBED, embd, &m->tok_embd, e) ||
	    take(m, "output_norm.weight", VECTOR, MODEL_NORM, norm, &m->output_norm, e))
		return -1;
	m->output = m->tok_embd;
	if (gguf_tensor_find(m->g, "output.weight") &&
	    take(m, "output.weight", MATRIX, MODEL_OUTPUT, embd, &m->output, e))
		return -1;
	for (uint32_t i = 0; i < m->hp.n_layer; i++)
		if (take_layer(m, i, e))
			return -1;
	return 0;
}

/* A tensor that no row asked for would be left out of the arithmetic without a word: refuse it. */
static int refuse_unused(const struct model *m, struct moe_err *e)
{
	size_t n = gguf_n_tensors(m->g), extra = n - m->n_used, first = 0;
	unsigned char *used = calloc(n + 1, 1);

	if (!used)
		return err_nomem(e, n, "tensor list");
	for (size_t i = 0; i < m->n_used; i++)
		used[m->used[i].t - gguf_tensor_at(m->g, 0)] = 1;
	while (first < n && used[first])
		first++;
	free(used);
	if (first == n)
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
	in->n_ff = h->n_expert ? 0 : h->n_ff;
	if (h->n_expert) {
		in->n_ff_expert = h->n_ff_expert;
		in->n_ff_shared = h->n_ff_shared;
		in->route.n_expert = (uint16_t)h->n_expert;
		in->route.k = (uint16_t)h->k;
		if (moe_route_preset(m->arch->router, &in->route, e) || moe_route_check(&in->route, e))
			return -1;
		for (uint32_t i = 0; i < h->n_layer; i++)
			in->layers[in->n_moe_layer++] = (struct moe_layer_desc){ (uint16_t)i,
				(uint16_t)h->n_expert, (uint16_t)h->k };
	}
	for (size_t i = 0; i < m->n_used; i++)
		count_tensor(m, m->used[i].cls, m->used[i].t);
	name_quant(m);
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
	char list[256];
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
	for (size_t i = 0; i < sizeof hp_rows / sizeof hp_rows[0]; i++)
		if (read_hp(m, &hp_rows[i], &m->hp, e))
			goto fail;
	if (relate_hp(m, e) || refuse_unsupported(m, e) || take_tensors(m, e) || refuse_unused(m, e) ||
	    fill_info(m, e))
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
