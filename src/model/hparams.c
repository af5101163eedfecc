/*
 * hparams.c - the numbers of a model: metadata keys by table, then what follows from them.
 *
 * Every number of the file is range-checked here before it sizes anything. Keys that an architecture
 * does not obey are not read (enum arch_key).
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/arch.h"

/* ---- keys with one value ---- */

#define REQUIRED (-1e300)

enum kind { UINT, REAL, BOOL };

/* Key after "ARCH.", who obeys it (0 = all), place, default (REQUIRED = must be there), range. Who
 * does not obey a key has 0, unless an earlier row gave its default. */
static const struct hp_row {
	const char *key;
	uint32_t who;
	size_t at;
	enum kind kind;
	double dflt, min, max;
} hp_rows[] = {
#define AT(f) offsetof(struct hparams, f)
	{ "block_count", 0, AT(n_block), UINT, REQUIRED, 1, MOE_MAX_LAYER },
	{ "nextn_predict_layers", 0, AT(n_nextn), UINT, 0, 0, MOE_MAX_LAYER },
	{ "context_length", 0, AT(n_ctx_train), UINT, REQUIRED, 1, 1 << 24 },
	{ "embedding_length", 0, AT(n_embd), UINT, REQUIRED, 16, 1 << 17 },
	{ "attention.key_length", 0, AT(head_dim), UINT, 0, 0, 4096 },
	{ "attention.value_length", 0, AT(head_dim_v), UINT, 0, 0, 4096 },
	{ "attention.layer_norm_rms_epsilon", K_RMS_EPS, AT(eps), REAL, REQUIRED, 0, 1 },
	{ "attention.layer_norm_epsilon", K_LAYER_EPS, AT(eps), REAL, REQUIRED, 0, 1 },
	{ "attention.clamp_kqv", K_CLAMP, AT(clamp), REAL, REQUIRED, 0, 1e30 },
	{ "attention.sliding_window", K_WINDOW, AT(window), UINT, 0, 0, 1 << 30 },
	{ "attention.q_lora_rank", K_MLA, AT(q_rank), UINT, 0, 0, 1 << 16 },
	{ "attention.kv_lora_rank", K_MLA, AT(kv_rank), UINT, REQUIRED, 1, 1 << 16 },
	{ "attention.key_length_mla", K_MLA, AT(head_dim_mla), UINT, 0, 0, 4096 },
	{ "attention.value_length_mla", K_MLA, AT(head_dim_v_mla), UINT, 0, 0, 4096 },
	{ "attention.temperature_scale", K_TEMP, AT(temp_scale), REAL, 0, 0, 1e3 },
	{ "attention.temperature_length", K_TEMP_LENGTH, AT(temp_floor), UINT, 0, 0, 1 << 30 },
	{ "rope.dimension_count", 0, AT(n_rot), UINT, 0, 0, 4096 },
	{ "rope.freq_base", 0, AT(rope_base), REAL, 10000, 1, 1e12 },
	{ "rope.freq_base_swa", K_WINDOW, AT(rope_base_local), REAL, 0, 1, 1e12 },
	{ "rope.scaling.factor", 0, AT(rope_factor), REAL, 0, 0, 1e6 },
	{ "rope.scale_linear", 0, AT(rope_factor_old), REAL, 0, 0, 1e6 },
	{ "rope.scaling.attn_factor", 0, AT(rope_gain), REAL, 1, 0, 1e6 },
	{ "rope.scaling.original_context_length", 0, AT(ctx_orig), UINT, 0, 0, 1 << 30 },
	{ "rope.scaling.yarn_ext_factor", K_GROK, AT(yarn_ext), REAL, -1, -1, 10 },
	{ "rope.scaling.yarn_attn_factor", K_GROK, AT(yarn_gain), REAL, 1, 0, 1e6 },
	{ "rope.scaling.yarn_beta_fast", K_YARN_BETA, AT(yarn_fast), REAL, 0, 1e-3, 1e6 },
	{ "rope.scaling.yarn_beta_slow", K_YARN_BETA, AT(yarn_slow), REAL, 1, 1e-3, 1e6 },
	{ "rope.scaling.yarn_log_multiplier", K_YARN_LOG, AT(yarn_log), REAL, 0, 0, 1e3 },
	{ "rope.scaling.finetuned", K_FINETUNED, AT(finetuned), BOOL, 1, 0, 1 },
	{ "expert_count", 0, AT(n_expert), UINT, 0, 0, MOE_MAX_EXPERT },
	{ "expert_group_count", 0, AT(n_group), UINT, 0, 0, MOE_MAX_EXPERT },
	{ "expert_group_used_count", 0, AT(n_group_used), UINT, 0, 0, MOE_MAX_EXPERT },
	{ "expert_shared_count", K_SHARED_COUNT, AT(n_shared), UINT, 0, 0, 1024 },
	{ "expert_shared_feed_forward_length", K_SHARED_FF, AT(n_ff_shared), UINT, 0, 0, 1 << 20 },
	{ "expert_weights_scale", K_WEIGHTS_SCALE, AT(weights_scale), REAL, 0, 0, 1e6 },
	{ "expert_weights_norm", K_WEIGHTS_NORM, AT(weights_norm), BOOL, 0, 0, 1 },
	{ "expert_gating_func", K_GATING, AT(gating), UINT, 0, 0, 4 },
	{ "leading_dense_block_count", K_LEAD, AT(n_lead), UINT, 0, 0, MOE_MAX_LAYER },
	{ "interleave_moe_layer_step", K_STEP, AT(step), UINT, REQUIRED, 1, MOE_MAX_LAYER },
	{ "embedding_scale", K_GRANITE, AT(embd_scale), REAL, 0, -1e6, 1e6 },
	{ "residual_scale", K_GRANITE, AT(branch_scale), REAL, 0, -1e6, 1e6 },
	{ "attention.scale", K_GRANITE, AT(attn_scale), REAL, 0, -1e6, 1e6 },
	{ "logit_scale", K_GRANITE, AT(logit_div), REAL, REQUIRED, 1e-9, 1e9 },
	/* defaults for files of Grok 1 that have none of these */
	{ "embedding_scale", K_GROK, AT(embd_scale), REAL, 78.38367176906169, -1e6, 1e6 },
	{ "attention.output_scale", K_GROK, AT(attn_scale), REAL, 0.08838834764831845, -1e6, 1e6 },
	{ "logit_scale", K_GROK, AT(logit_scale), REAL, 0.5773502691896257, -1e9, 1e9 },
	{ "attn_logit_softcapping", K_GROK, AT(attn_cap), REAL, 30, 1e-6, 1e6 },
	{ "attn_logit_softcapping", K_CAPS, AT(attn_cap), REAL, 50, 1e-6, 1e6 },
	{ "final_logit_softcapping", K_CAPS, AT(logit_cap), REAL, 30, 1e-6, 1e6 },
	{ "final_logit_softcapping", K_FINAL_CAP, AT(logit_cap), REAL, 0, 0, 1e6 },
#undef AT
};

/* Keys that change the arithmetic in ways that no block has: refused by name where they are there. */
static const char *const refused[] = { "attention.key_length_swa", "attention.value_length_swa",
	"rope.dimension_count_swa", "attention.max_alibi_bias", "rope.scaling.alpha" };

static int in_range(const char *key, double x, double min, double max, struct moe_err *e)
{
	if (x >= min && x <= max)
		return 0;
	return err_set(e, MOE_ERR_INPUT, "%s = %.17g: allowed are %g to %g", key, x, min, max);
}

static int read_hp(struct model *m, const struct hp_row *r, struct moe_err *e)
{
	char key[128];
	uint64_t u = 0;
	double x = 0;
	int found, b = 0;

	snprintf(key, sizeof key, "%s.%s", m->arch->name, r->key);
	found = r->kind == REAL ? gguf_get_f64(m->g, key, &x, e) :
		r->kind == BOOL ? gguf_get_bool(m->g, key, &b, e) : gguf_get_u64(m->g, key, &u, e);
	if (found < 0)
		return -1;
	if (!found && r->dflt == REQUIRED)
		return err_set(e, MOE_ERR_INPUT, "key %s is missing", key);
	if (!found)
		x = r->dflt;
	else if (r->kind != REAL)
		x = r->kind == BOOL ? (double)!!b : (double)u;
	if (found && in_range(key, x, r->min, r->max, e))
		return -1;
	if (r->kind == REAL)
		*(double *)((char *)&m->hp + r->at) = x;
	else
		*(uint32_t *)((char *)&m->hp + r->at) = (uint32_t)x;
	return 0;
}

/* ---- keys with one value, or one for each layer ---- */

/* Value of layer il of `key` (after "ARCH."): 1 found, 0 absent, -1 refused. */
static int layer_value(const struct model *m, const char *key, uint32_t il, double max, uint32_t *out,
	struct moe_err *e)
{
	enum gguf_kind kind;
	char name[128];
	uint64_t n;
	double x;
	int found;

	snprintf(name, sizeof name, "%s.%s", m->arch->name, key);
	if (gguf_get_arr(m->g, name, &kind, &n, NULL) == 1) {
		if (n != m->hp.n_block)
			return err_set(e, MOE_ERR_INPUT, "%s has %llu values for %u layers", name,
				(unsigned long long)n, m->hp.n_block);
		if (gguf_arr_f64(m->g, name, il, &x) != 1 || x != floor(x))
			return err_set(e, MOE_ERR_INPUT, "%s is not an array of integers", name);
	} else {
		found = gguf_get_u64(m->g, name, &n, e);
		if (found != 1)
			return found;
		x = (double)n;
	}
	if (in_range(name, x, 0, max, e))
		return -1;
	*out = (uint32_t)x;
	return 1;
}

static void raise_to(uint32_t *max, uint32_t x)
{
	*max = x > *max ? x : *max;
}

static int read_layer(struct model *m, uint32_t il, struct moe_err *e)
{
	struct hparams *hp = &m->hp;
	struct layer *l = &m->layer[il];
	int found = layer_value(m, "attention.head_count", il, 1024, &l->n_head, e);

	if (!found)
		return err_set(e, MOE_ERR_INPUT, "key %s.attention.head_count is missing", m->arch->name);
	if (found < 0 || layer_value(m, "attention.head_count_kv", il, 1024, &l->n_head_kv, e) < 0 ||
	    layer_value(m, "feed_forward_length", il, 1 << 20, &l->n_ff, e) < 0)
		return -1;
	if (!l->n_head)
		return err_set(e, MOE_ERR_INPUT, "%s.attention.head_count = 0 in layer %u: allowed are 1 to 1024",
			m->arch->name, il);
	if (!l->n_head_kv)
		l->n_head_kv = l->n_head;
	if (l->n_head % l->n_head_kv)
		return err_set(e, MOE_ERR_INPUT, "%u heads cannot share %u key/value heads", l->n_head,
			l->n_head_kv);
	raise_to(&hp->n_head, l->n_head);
	raise_to(&hp->n_head_kv, l->n_head_kv);
	raise_to(&hp->n_ff, l->n_ff);
	return 0;
}

/* Layer il's experts: after the leading dense layers, every `step`th. */
static int is_moe(const struct hparams *hp, uint32_t il)
{
	return hp->n_expert && il >= hp->n_lead && (!hp->step || (il + 1) % hp->step == 0);
}

/* A number that all MoE layers must share. */
static int same_value(struct model *m, const char *key, double max, uint32_t *out, struct moe_err *e)
{
	uint32_t x = 0, first = UINT32_MAX;

	*out = 0;
	for (uint32_t il = 0; il < m->hp.n_layer; il++) {
		int found = layer_value(m, key, il, max, &x, e);

		if (found < 0)
			return -1;
		if (!found || !is_moe(&m->hp, il))
			continue;
		if (first != UINT32_MAX && x != *out)
			return err_set(e, MOE_ERR_INPUT, "%s.%s is %u in layer %u and %u in layer %u: not supported",
				m->arch->name, key, *out, first, x, il);
		first = first == UINT32_MAX ? il : first;
		*out = x;
	}
	return 0;
}

/* ---- what follows ---- */

static int relate_heads(struct model *m, struct moe_err *e)
{
	struct hparams *hp = &m->hp;

	if (!hp->head_dim) {
		if (hp->n_embd % m->layer[0].n_head)
			return err_set(e, MOE_ERR_INPUT, "embedding length %u is not a multiple of %u heads",
				hp->n_embd, m->layer[0].n_head);
		hp->head_dim = hp->n_embd / m->layer[0].n_head;
	}
	if (!hp->head_dim_v)
		hp->head_dim_v = hp->head_dim;
	if (!hp->n_rot)
		hp->n_rot = hp->head_dim;
	if (!hp->head_dim_mla != !hp->head_dim_v_mla)
		return err_set(e, MOE_ERR_INPUT, "one of attention.key_length_mla (%u) and value_length_mla (%u) "
			"is missing", hp->head_dim_mla, hp->head_dim_v_mla);
	if (hp->head_dim_mla) {
		hp->head_dim = hp->head_dim_mla;
		hp->head_dim_v = hp->head_dim_v_mla;
	}
	if (m->arch->features & F_MLA) {
		if (hp->n_rot >= hp->head_dim)
			return err_set(e, MOE_ERR_INPUT, "rope.dimension_count %u: must be below the head's %u",
				hp->n_rot, hp->head_dim);
	} else if (hp->head_dim_v != hp->head_dim) {
		return err_set(e, MOE_ERR_INPUT, "key length %u and value length %u differ: not supported",
			hp->head_dim, hp->head_dim_v);
	}
	if (hp->n_rot % 2 || hp->n_rot > hp->head_dim)
		return err_set(e, MOE_ERR_INPUT, "rope.dimension_count %u: must be even and at most the head's %u",
			hp->n_rot, hp->head_dim);
	return 0;
}

static int relate_shared(struct model *m, struct moe_err *e)
{
	struct hparams *hp = &m->hp;
	uint64_t w = 0;

	switch (m->arch->shared_ff) {
	case SHARED_NONE: w = 0; break;
	case SHARED_KEY: w = hp->n_ff_shared; break;
	case SHARED_KEY_OR_FF: w = hp->n_ff_shared ? hp->n_ff_shared : hp->n_ff; break;
	case SHARED_COUNT: w = (uint64_t)hp->n_shared * hp->n_ff_expert; break;
	case SHARED_KEY_COUNT:
		w = (uint64_t)hp->n_shared * (hp->n_ff_shared ? hp->n_ff_shared : hp->n_ff_expert);
		break;
	case SHARED_ONE: w = hp->n_ff_expert; break;
	}
	if (w > 1 << 20)
		return err_set(e, MOE_ERR_INPUT, "the shared expert's feed-forward length %llu: allowed are 0 to "
			"%d", (unsigned long long)w, 1 << 20);
	hp->n_ff_shared = (uint32_t)w;
	return 0;
}

static int relate_experts(struct model *m, struct moe_err *e)
{
	struct hparams *hp = &m->hp;
	enum expert_ff rule = m->arch->expert_ff;
	uint32_t il;

	if (m->arch->experts == EXPERTS_NEVER && hp->n_expert)
		return err_set(e, MOE_ERR_INPUT, "%s.expert_count = %u: the architecture has no experts",
			m->arch->name, hp->n_expert);
	if (!hp->n_expert && m->arch->experts == EXPERTS_ALWAYS)
		return err_set(e, MOE_ERR_INPUT, "%s.expert_count is missing or 0", m->arch->name);
	if (!hp->n_expert) {
		hp->n_ff_shared = 0; /* a width without tensors must not size anything */
		return 0;
	}
	for (il = 0; il < hp->n_layer && !is_moe(hp, il); il++)
		;
	if (il == hp->n_layer)
		return err_set(e, MOE_ERR_INPUT, "none of %u layers has experts: the first %u are dense, then "
			"every %u. of all has some", hp->n_layer, hp->n_lead, hp->step ? hp->step : 1);
	if (same_value(m, "expert_used_count", MOE_MAX_EXPERT, &hp->k, e) ||
	    (rule != FF_COMMON && same_value(m, "expert_feed_forward_length", 1 << 20, &hp->n_ff_expert, e)))
		return -1;
	if (hp->k < 1 || hp->k > hp->n_expert)
		return err_set(e, MOE_ERR_INPUT, "expert_used_count %u of expert_count %u is not possible",
			hp->k, hp->n_expert);
	if (rule == FF_COMMON || (rule == FF_OWN_OR_COMMON && !hp->n_ff_expert))
		hp->n_ff_expert = hp->n_ff;
	else if (rule == FF_OWN && !hp->n_ff_expert)
		hp->n_ff_expert = hp->n_ff / hp->k;
	if (!hp->n_ff_expert)
		return err_set(e, MOE_ERR_INPUT, "the experts' feed-forward length is missing or 0");
	return relate_shared(m, e);
}

/* Which layers have experts, a dense FFN, or both; how wide the dense ones are. */
static int relate_ffn(struct model *m, struct moe_err *e)
{
	struct hparams *hp = &m->hp;

	hp->n_ff = 0;
	for (uint32_t il = 0; il < hp->n_layer; il++) {
		struct layer *l = &m->layer[il];

		l->features |= is_moe(hp, il) ? F_MOE : F_DENSE;
		if (m->arch->features & F_BESIDE) {
			l->features |= F_DENSE;
			l->n_ff = hp->n_embd;
		}
		if ((l->features & F_DENSE) && !l->n_ff)
			return err_set(e, MOE_ERR_INPUT, "%s.feed_forward_length is missing or 0", m->arch->name);
		if (l->features & F_DENSE || m->arch->features & F_DENSE_MAYBE)
			raise_to(&hp->n_ff, l->n_ff);
	}
	return 0;
}

/* attention.sliding_window_pattern: one bool for each layer, or a period; else the row's period. */
static int has_window(const struct model *m, uint32_t il, int *yes, struct moe_err *e)
{
	uint32_t period = m->arch->period;
	enum gguf_kind kind;
	char key[128];
	uint64_t n;
	double x;
	int found;

	snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", m->arch->name);
	if (gguf_get_arr(m->g, key, &kind, &n, NULL) == 1) {
		if (n < m->hp.n_layer || gguf_arr_f64(m->g, key, il, &x) != 1)
			return err_set(e, MOE_ERR_INPUT, "%s is not an array of %u values", key, m->hp.n_layer);
		*yes = x != 0;
		return 0;
	}
	found = gguf_get_u64(m->g, key, &n, e);
	if (found < 0 || (found && in_range(key, (double)n, 0, MOE_MAX_LAYER, e)))
		return -1;
	if (found)
		period = (uint32_t)n;
	*yes = !period || il % period < period - 1;
	return 0;
}

#define CHUNK 8192 /* positions that Llama 4's chunks and its temperature count in */

static int relate_windows(struct model *m, struct moe_err *e)
{
	struct hparams *hp = &m->hp;
	const struct arch *a = m->arch;
	char key[128];
	uint64_t u;
	int yes = 0;

	snprintf(key, sizeof key, "%s.attention.sliding_window", a->name);
	if (a->window == WINDOW_CHUNK) {
		if (gguf_get_u64(m->g, key, &u, NULL) == 1 && !hp->window)
			return err_set(e, MOE_ERR_INPUT, "%s = 0 (no chunks) is not supported", key);
		hp->window = CHUNK;
	} else if (a->window && !hp->window && (a->keys & K_CAPS)) {
		hp->window = 4096; /* Gemma 2, where the file does not say */
	} else if (a->window && !hp->window && !a->local_rope) {
		return err_set(e, MOE_ERR_INPUT, "key %s is missing or 0", key);
	}
	for (uint32_t il = 0; il < hp->n_layer; il++) {
		struct layer *l = &m->layer[il];

		if (a->window && hp->window) {
			if (has_window(m, il, &yes, e))
				return -1;
			l->window = yes ? hp->window : 0;
		}
		l->rope = l->window && m->rope[1].base != 0;
		if (a->window == WINDOW_CHUNK && (il + 1) % 4 == 0)
			l->rope = -1;
		if ((a->keys & K_FINETUNED) && !hp->finetuned)
			l->rope = -1;
	}
	return 0;
}

/* ---- rotation ---- */

enum stretch { STRETCH_NONE, STRETCH_LINEAR, STRETCH_YARN, STRETCH_LONG };

static int stretch_of(const struct model *m, enum stretch *out, struct moe_err *e)
{
	static const char *const names[] = { "none", "linear", "yarn", "longrope" };
	struct gguf_str s;
	char key[128];
	int found;

	snprintf(key, sizeof key, "%s.rope.scaling.type", m->arch->name);
	found = gguf_get_str(m->g, key, &s, e);
	if (found < 0)
		return -1;
	*out = STRETCH_LINEAR;
	if (!found)
		return 0;
	for (int i = 0; i < 4; i++)
		if (s.n == strlen(names[i]) && !memcmp(s.s, names[i], s.n)) {
			*out = (enum stretch)i;
			return 0;
		}
	return err_set(e, MOE_ERR_INPUT, "%s = '%.*s' is not supported; supported are none, linear, yarn, "
		"longrope", key, (int)(s.n < 40 ? s.n : 40), s.s);
}

static int read_sections(struct model *m, struct moe_err *e)
{
	struct rope_par *r = &m->rope[0];
	enum gguf_kind kind;
	uint64_t n, sum = 0;
	char key[128];
	double x;

	r->mixed = (m->arch->keys & K_SECTIONS_MIXED) != 0;
	if (!r->mixed && !(m->arch->keys & K_SECTIONS))
		return 0;
	snprintf(key, sizeof key, "%s.rope.dimension_sections", m->arch->name);
	if (gguf_get_arr(m->g, key, &kind, &n, NULL) != 1)
		return r->mixed ? err_set(e, MOE_ERR_INPUT, "key %s is missing or no array", key) : 0;
	if (n != 4)
		return err_set(e, MOE_ERR_INPUT, "%s has %llu values, not 4", key, (unsigned long long)n);
	for (uint32_t i = 0; i < 4; i++) {
		if (gguf_arr_f64(m->g, key, i, &x) != 1 || in_range(key, x, 0, 4096, e))
			return -1;
		r->section[i] = (uint32_t)x;
		sum += r->section[i];
	}
	if (sum > m->hp.n_rot / 2 || (r->mixed && !sum))
		return err_set(e, MOE_ERR_INPUT, "%s: %llu pairs of %u", key, (unsigned long long)sum,
			m->hp.n_rot / 2);
	if (!r->mixed && (!r->section[0] || !r->section[1]))
		memset(r->section, 0, sizeof r->section);
	return 0;
}

/* 1 + 0.1 x ln(factor): YaRN's gain of attention for a stretched context. */
static double yarn_gain(double factor, double x)
{
	return factor <= 1 ? 1 : 1 + 0.1 * x * log(factor);
}

/*
 * YaRN (arXiv 2309.00071): ext is the share of the blend, gain multiplies q and k. The multiplier of
 * the logarithm moves the gain to the scores: DeepSeek's files hold a tenth of it, and its scores
 * get the square of what the rotation lacks.
 */
static int relate_rope(struct model *m, struct moe_err *e)
{
	struct hparams *hp = &m->hp;
	struct rope_par *r = &m->rope[0];
	double log_mul = m->arch->features & F_MLA ? hp->yarn_log / 0.1f : hp->yarn_log, ratio, m2 = 1;
	enum stretch how;

	if (stretch_of(m, &how, e))
		return -1;
	if (!hp->ctx_orig)
		hp->ctx_orig = hp->n_ctx_train;
	r->n_rot = hp->n_rot;
	r->ctx = hp->ctx_orig;
	r->base = hp->rope_base;
	r->factor = hp->rope_factor != 0 ? hp->rope_factor : hp->rope_factor_old;
	if (r->factor == 0 || how == STRETCH_NONE)
		r->factor = 1;
	r->stretched_long = how == STRETCH_LONG;
	r->ext = how == STRETCH_YARN;
	if ((m->arch->keys & K_GROK) && hp->yarn_ext >= 0)
		r->ext = hp->yarn_ext;
	r->fast = hp->yarn_fast != 0 ? hp->yarn_fast : m->arch->keys & K_GROK ? 8 : 32;
	r->slow = hp->yarn_slow != 0 ? hp->yarn_slow : 1;
	ratio = yarn_gain(r->factor, 1);
	if (log_mul != 0)
		ratio = m->arch->keys & K_YARN_EVEN && fabs(log_mul - 1) > 1e-6 ? 1 :
			ratio / yarn_gain(r->factor, log_mul);
	r->gain = hp->rope_gain * (r->ext != 0 ? ratio : m->arch->keys & K_GROK ? hp->yarn_gain : 1);
	if (m->arch->features & F_MLA) {
		m2 = (r->ext != 0 ? r->gain : r->gain * (1 + 0.1 * log(r->factor))) *
			(1 + 0.1 * log_mul * log(r->factor));
		m2 *= m2;
	}
	m->attn_scale = (float)(m2 / sqrt(hp->head_dim));
	if (hp->attn_scale != 0)
		m->attn_scale = (float)hp->attn_scale;
	if (m->arch->wide_layers && hp->n_layer == m->arch->wide_layers)
		m->attn_scale = (float)(1 / sqrt(hp->n_embd / m->layer[0].n_head));
	if (read_sections(m, e))
		return -1;
	m->rope[1] = *r;
	if (m->arch->local_rope)
		m->rope[1].factor = 1;
	if (hp->rope_base_local != 0 || m->arch->local_rope)
		m->rope[1].base = hp->rope_base_local != 0 ? hp->rope_base_local : 10000;
	if (m->rope[1].base == r->base && m->rope[1].factor == r->factor)
		m->rope[1].base = 0; /* the same table */
	return 0;
}

/* Llama 4's temperature of queries, also in later Mistral models: 1 + scale ln(1 + floor((p + offset)
 * / floor)) at position p. */
static int relate_temperature(struct model *m, struct moe_err *e)
{
	struct hparams *hp = &m->hp;

	if (m->arch->window == WINDOW_CHUNK) {
		hp->temp_scale = 0.1f;
		hp->temp_floor = CHUNK;
		hp->temp_offset = 1;
	} else if (hp->temp_scale != 0) {
		if (!(m->arch->keys & K_TEMP_LENGTH))
			hp->temp_floor = hp->ctx_orig;
		if (!hp->temp_floor)
			return err_set(e, MOE_ERR_INPUT, "%s.attention.temperature_length is missing or 0",
				m->arch->name);
	}
	return 0;
}

static int refuse_keys(const struct model *m, struct moe_err *e)
{
	char key[128];

	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		snprintf(key, sizeof key, "%s.%s", m->arch->name, refused[i]);
		for (size_t k = 0; k < gguf_n_kv(m->g); k++)
			if (!strcmp(gguf_kv_name(m->g, k), key))
				return err_set(e, MOE_ERR_INPUT, "key %s is not supported", key);
	}
	return 0;
}

int hparams_read(struct model *m, struct moe_err *e)
{
	struct hparams *hp = &m->hp;
	uint32_t keys = m->arch->keys | (m->arch->norm == NORM_LAYER ? K_LAYER_EPS : K_RMS_EPS);

	for (size_t i = 0; i < sizeof hp_rows / sizeof hp_rows[0]; i++)
		if ((!hp_rows[i].who || (hp_rows[i].who & keys)) && read_hp(m, &hp_rows[i], e))
			return -1;
	if (hp->n_nextn >= hp->n_block)
		return err_set(e, MOE_ERR_INPUT, "%u of %u layers predict further tokens: none is left",
			hp->n_nextn, hp->n_block);
	hp->n_layer = hp->n_block - hp->n_nextn;
	m->layer = calloc(hp->n_layer, sizeof *m->layer);
	if (!m->layer)
		return err_nomem(e, hp->n_layer * sizeof *m->layer, "layers");
	for (uint32_t il = 0; il < hp->n_layer; il++)
		if (read_layer(m, il, e))
			return -1;
	if (m->arch->root_embd)
		hp->embd_scale = sqrtf((float)hp->n_embd);
	return refuse_keys(m, e) || relate_heads(m, e) || relate_experts(m, e) || relate_ffn(m, e) ||
		relate_rope(m, e) || relate_windows(m, e) || relate_temperature(m, e) ? -1 : 0;
}
