/*
 * plan.c - see plan.h. The rules are those of llama-quantize (llama.cpp v0.5.0, llama-quant.cpp)
 * for these mixes without an importance matrix, and compared with it
 * (tests/ref/compare_quantise.sh). Not taken over: its special cases for Falcon and for dense
 * models of 80 layers.
 */
#include "quant/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/qtype.h"

/* Roles that rules speak of, by a part of the name; the first match counts. */
enum role { R_OTHER, R_EMBED, R_OUTPUT, R_ATTN_V, R_ATTN_K, R_ATTN_OUT, R_FFN_DOWN };

static const struct { const char *part; enum role role; } roles[] = {
	{ "attn_qkv.weight", R_ATTN_V }, { "attn_kv_b.weight", R_ATTN_V },
	{ "attn_v.weight", R_ATTN_V },
	{ "attn_k.weight", R_ATTN_K }, { "attn_output.weight", R_ATTN_OUT }, { "ffn_down", R_FFN_DOWN },
};

/* Not quantised: small, or of a kind that suffers. */
static const char *const kept[] = {
	"_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel",
	"per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight",
	"indexer.q_proj.weight", "attn_rel_b.weight", ".position_embd",
};

/* A type for a role; in the layers that get more bits, or with eight experts, another. 0 (F32): no
 * rule, the base. To add a mix: a row; to add a rule: a column. */
static const struct row {
	struct quant_mix mix;
	uint32_t output;       /* the head, and the embedding where it is the head too */
	uint32_t more;         /* attn_v and ffn_down in some layers: more_bits() */
	uint32_t attn_out_8;   /* attn_output with eight experts */
	uint32_t experts;      /* tensors that hold a matrix per expert */
} table[] = {
	{ { "Q8_0", 7, QT_Q8_0 }, QT_Q8_0, 0, 0, 0 },
	{ { "Q6_K", 18, QT_Q6_K }, QT_Q6_K, 0, 0, 0 },
	{ { "Q5_K_M", 17, QT_Q5_K }, QT_Q6_K, QT_Q6_K, 0, 0 },
	{ { "Q5_0", 8, QT_Q5_0 }, QT_Q6_K, 0, 0, 0 },
	{ { "Q4_K_M", 15, QT_Q4_K }, QT_Q6_K, QT_Q6_K, QT_Q5_K, 0 },
	{ { "Q4_0", 2, QT_Q4_0 }, QT_Q6_K, 0, 0, 0 },
	{ { "MXFP4_MOE", 38, QT_Q8_0 }, QT_Q8_0, 0, 0, QT_MXFP4 },
	{ { "BF16", 32, QT_BF16 }, 0, 0, 0, 0 },
	{ { "F16", 1, QT_F16 }, 0, 0, 0, 0 },
	{ { "F32", 0, QT_F32 }, 0, 0, 0, 0 },
};

const struct quant_mix *quant_mix_at(size_t i)
{
	return i < sizeof table / sizeof table[0] ? &table[i].mix : NULL;
}

static enum role role_of(const char *name)
{
	if (!strcmp(name, "token_embd.weight"))
		return R_EMBED;
	if (!strcmp(name, "output.weight"))
		return R_OUTPUT;
	for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
		if (strstr(name, roles[i].part))
			return roles[i].role;
	return R_OTHER;
}

static int is_kept(const struct gguf_tensor *t)
{
	size_t n = strlen(t->name);

	if (t->ne[1] * t->ne[2] * t->ne[3] == 1 || t->type == QT_F64 ||
	    (t->type >= QT_I8 && t->type <= QT_I64))
		return 1;
	if (n < 6 || strcmp(t->name + n - 6, "weight"))
		return 1;
	for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
		if (strstr(t->name, kept[i]))
			return 1;
	return 0;
}

/* "blk.12.": 12; -1 if the name has no layer. */
static long layer_of(const char *name)
{
	char *end;
	long v;

	if (strncmp(name, "blk.", 4) || name[4] < '0' || name[4] > '9')
		return -1;
	v = strtol(name + 4, &end, 10);
	return *end == '.' && v < 1 << 20 ? v : -1;
}

/* The first and last eighth of the layers and every third between. */
static int more_bits(long i, long n)
{
	return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

struct facts { uint64_t n_expert, n_layer; long n_v; int tied; };

static int read_facts(const struct gguf *g, struct facts *f, struct moe_err *e)
{
	struct gguf_str arch;
	char key[96];
	int found = gguf_get_str(g, "general.architecture", &arch, e);

	memset(f, 0, sizeof *f);
	if (found < 0)
		return -1;
	if (!found || arch.n > 40)
		return err_set(e, MOE_ERR_INPUT, "key general.architecture is missing or too long: is this "
			"a model?");
	snprintf(key, sizeof key, "%.*s.expert_count", (int)arch.n, arch.s);
	if (gguf_get_u64(g, key, &f->n_expert, e) < 0)
		return -1;
	snprintf(key, sizeof key, "%.*s.block_count", (int)arch.n, arch.s);
	if (gguf_get_u64(g, key, &f->n_layer, e) < 0)
		return -1;
	if (f->n_layer > 1 << 20)
		return err_set(e, MOE_ERR_INPUT, "%s is %llu", key, (unsigned long long)f->n_layer);
	f->tied = !gguf_tensor_find(g, "output.weight");
	for (size_t i = 0; i < gguf_n_tensors(g); i++)
		f->n_v += role_of(gguf_tensor_at(g, i)->name) == R_ATTN_V;
	return 0;
}

/* The how manieth of its kind by layer: attn_v of layer 3 of a model with attention in odd layers
 * only is number 1. */
static long rank_of(const struct gguf *g, const struct gguf_tensor *t)
{
	long at = layer_of(t->name), rank = 0;

	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *u = gguf_tensor_at(g, i);

		rank += role_of(u->name) == R_ATTN_V && layer_of(u->name) < at;
	}
	return rank;
}

/* What the mix wants, before the shape is looked at. */
static uint32_t wanted(const struct gguf *g, const struct row *r, const struct facts *f,
	const struct gguf_tensor *t)
{
	enum role role = role_of(t->name);
	long layer = layer_of(t->name);

	if (!r->output) /* floats: no rules */
		return r->mix.base;
	if (role == R_OUTPUT || (role == R_EMBED && f->tied))
		return t->ne[0] % qtype_info(r->mix.base)->block ? QT_Q8_0 : r->output;
	if (r->experts)
		return t->ne[2] > 1 ? r->experts : r->mix.base;
	if (f->n_expert == 8 && (role == R_ATTN_V || role == R_ATTN_K))
		return QT_Q8_0;
	if (f->n_expert == 8 && role == R_ATTN_OUT && r->attn_out_8)
		return r->attn_out_8;
	if (r->more && role == R_ATTN_V && more_bits(rank_of(g, t), f->n_v))
		return r->more;
	if (r->more && role == R_FFN_DOWN && layer >= 0 && more_bits(layer, (long)f->n_layer))
		return r->more;
	return r->mix.base;
}

/* Rows that are no whole blocks of the type: a type of smaller blocks and about as many bits. */
static uint32_t fitting(uint32_t type, uint64_t ne0)
{
	if (ne0 % qtype_info(type)->block == 0)
		return type;
	type = type == QT_Q4_K ? QT_Q5_0 : type == QT_Q5_K ? QT_Q5_1 : type == QT_Q6_K ? QT_Q8_0 : type;
	return ne0 % qtype_info(type)->block ? QT_F16 : type;
}

int quant_plan(const struct gguf *g, const struct quant_mix *mix, uint32_t *type, struct moe_err *e)
{
	const struct row *r = NULL;
	struct facts f;

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (&table[i].mix == mix)
			r = &table[i];
	if (!r || read_facts(g, &f, e))
		return -1;
	for (size_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);

		type[i] = is_kept(t) ? t->type : fitting(wanted(g, r, &f, t), t->ne[0]);
	}
	return 0;
}
