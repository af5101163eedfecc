/* plan.c - see plan.h. Formulas stand beside the rows that they make;
 * docs/METRICS.md has them too. */
#include "view/plan.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"
#include "base/qtype.h"
#include "view/table.h"
#include "view/whatif.h"

#define N_OF(a) (sizeof(a) / sizeof *(a))
#define HEADROOM .9 /* of a device's memory: the rest is for activations and the runtime */

/* Formats whose memory is listed. To add one: a row. type QT_MAX: bits of its own. */
static const struct { const char *name; uint32_t type; double bits; } quants[] = {
	{ "BF16", QT_BF16, 0 }, { "FP8", QT_MAX, 8 }, { "Q8_0", QT_Q8_0, 0 }, { "Q6_K", QT_Q6_K, 0 },
	{ "Q5_K", QT_Q5_K, 0 }, { "Q4_K", QT_Q4_K, 0 }, { "MXFP4", QT_MXFP4, 0 },
	{ "Q3_K", QT_Q3_K, 0 },
	{ "Q2_K", QT_Q2_K, 0 },
};

static double quant_bytes(size_t i) /* of one parameter */
{
	const struct qtype_info *q;

	if (quants[i].type == QT_MAX)
		return quants[i].bits / 8;
	q = qtype_info(quants[i].type);
	return (double)q->bytes / q->block;
}

const char *plan_quant_name(size_t i)
{
	return i < N_OF(quants) ? quants[i].name : NULL;
}

void plan_opt_init(struct plan_opt *o)
{
	*o = (struct plan_opt){ .bandwidth = 3350, .gpu_mem = 80, .cache_mem = 24, .slow = 25,
		.act_bytes = 2, .kv_bytes = 2, .ctx = 4096, .users = 1 };
}

/* ---- rows ---- */

struct page {
	const struct plan_in *in;
	const struct plan_opt *o;
	struct plan *out;
	double expert, rest;   /* bytes of an expert, of everything that is not a routed expert */
	const char *quant;
	struct load_set load;  /* of the trace; n 0 = none */
	int failed;
	struct moe_err *e;
};

static void row(struct page *p, enum plan_section s, const char *item, double value,
	const char *unit, const char *basis, const char *fmt, ...)
	__attribute__((format(printf, 7, 8)));
static void row(struct page *p, enum plan_section s, const char *item, double value,
	const char *unit, const char *basis, const char *fmt, ...)
{
	struct plan *t = p->out;
	struct plan_row *q;
	va_list ap;

	if (p->failed || !isfinite(value))
		return;
	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 64;

		q = realloc(t->row, cap * sizeof *q);
		if (!q) {
			p->failed = err_nomem(p->e, cap * sizeof *q, "a plan");
			return;
		}
		t->row = q, t->cap = cap;
	}
	q = t->row + t->n++;
	*q = (struct plan_row){ .section = s, .item = item, .unit = unit, .basis = basis,
		.value = value };
	va_start(ap, fmt);
	vsnprintf(q->what, sizeof q->what, fmt, ap);
	va_end(ap);
}

static void sizes(struct page *p)
{
	const struct sim_size *z = &p->in->size;
	const struct sim_model *m = p->in->preset;

	row(p, PLAN_SIZE, "parameters_total", z->total, "", m && m->rumour ? "rumour" : "computed",
		"%s", "");
	if (m && m->published_total > 0)
		row(p, PLAN_SIZE, "parameters_total", m->published_total, "",
			m->rumour ? "rumour" : "published", "%s", "");
	row(p, PLAN_SIZE, "parameters_active", z->active, "", m && m->rumour ? "rumour" : "computed",
		"%s", "");
	if (m && m->published_active > 0)
		row(p, PLAN_SIZE, "parameters_active", m->published_active, "",
			m->rumour ? "rumour" : "published", "%s", m->active_skips_embedding ?
			"without the input embedding" : "");
	row(p, PLAN_SIZE, "active_share", z->active / z->total, "of all", "computed", "%s", "");
	if (z->n_expert) {
		row(p, PLAN_SIZE, "parameters_experts", z->experts, "", "computed",
			"%u layers of %u, top-%u", z->n_moe, z->n_expert, z->k);
		row(p, PLAN_SIZE, "parameters_expert", z->expert, "", "computed", "one expert of a layer");
	}
	row(p, PLAN_SIZE, "dense_equal_cost", z->matmul, "", "computed", "a dense model with as many "
		"FLOPs");
	if (z->n_expert)
		row(p, PLAN_SIZE, "dense_equal_quality", sqrt(z->total * z->active), "", "rule of thumb",
			"root of total x active");
}

/* Devices for weights and the KV cache of all users. */
static double devices(const struct page *p, double weights)
{
	double kv = p->in->size.kv_per_token * p->o->kv_bytes * p->o->ctx * p->o->users;

	return ceil((weights + (isfinite(kv) ? kv : 0)) / (p->o->gpu_mem * 1e9 * HEADROOM));
}

static void memory(struct page *p)
{
	const struct sim_size *z = &p->in->size;
	double stored = p->in->stored_rest + p->in->stored_expert * z->n_expert * z->n_moe;

	if (isfinite(stored)) {
		row(p, PLAN_MEMORY, "weights", stored, "B", "stored", "%.40s", p->in->quant);
		row(p, PLAN_MEMORY, "gpus", devices(p, stored), "", "stored", "of %g GB", p->o->gpu_mem);
	}
	for (size_t i = 0; i < N_OF(quants); i++) {
		double bytes = z->total * quant_bytes(i);

		row(p, PLAN_MEMORY, "weights", bytes, "B", "computed", "%s", quants[i].name);
		row(p, PLAN_MEMORY, "gpus", devices(p, bytes), "", "computed", "%s, of %g GB",
			quants[i].name, p->o->gpu_mem);
	}
	row(p, PLAN_MEMORY, "kv_per_token", z->kv_per_token * p->o->kv_bytes, "B", "computed",
		"%g B a number", p->o->kv_bytes);
	row(p, PLAN_MEMORY, "kv", z->kv_per_token * p->o->kv_bytes * p->o->ctx * p->o->users, "B",
		"computed", "%u tokens, %u user%s", p->o->ctx, p->o->users, p->o->users == 1 ? "" : "s");
}

/* Selection rates of layer l of the trace. */
static const double *rates(const struct page *p, size_t l, double *out)
{
	const struct layer_load *y = p->load.layer + l;

	for (unsigned e = 0; e < y->n_expert; e++)
		out[e] = y->tokens ? (double)y->counts[e] / (double)y->tokens : 0;
	return out;
}

/* Distinct experts that a batch touches, summed over the layers. */
static double touched(const struct page *p, double batch, int trace)
{
	const struct sim_size *z = &p->in->size;
	double rate[MOE_MAX_EXPERT], sum = 0;

	if (!trace)
		return z->n_moe * (z->n_expert ? sim_distinct(NULL, z->n_expert, z->k, batch) : 0);
	for (size_t l = 0; l < p->load.n; l++)
		sum += sim_distinct(rates(p, l, rate), z->n_expert, z->k, batch);
	return sum;
}

/* Bytes read to make one token of each of `batch` sequences. A row of the input embedding is
 * nothing beside it. */
static double step_bytes(const struct page *p, double batch, int trace)
{
	double kv = p->in->size.kv_per_token * p->o->kv_bytes * p->o->ctx;
	double embedding = (p->in->size.active - p->in->size.matmul) * p->rest /
		(p->in->size.total - p->in->size.experts);

	return p->rest - embedding + touched(p, batch, trace) * p->expert +
		batch * (isfinite(kv) ? kv : 0);
}

static void cost(struct page *p)
{
	const struct sim_size *z = &p->in->size;
	double flops = 2 * z->matmul;

	row(p, PLAN_COST, "flops_per_token", flops, "FLOP", "computed", "%s", "matrices: 2 x active");
	row(p, PLAN_COST, "flops_attention", z->attention_flops * p->o->ctx, "FLOP", "computed",
		"over %u tokens of context", p->o->ctx);
	row(p, PLAN_COST, "bytes_per_token", step_bytes(p, 1, 0), "B", "computed",
		"%.30s, one sequence", p->quant);
}

static void speed(struct page *p)
{
	static const int batch[] = { 1, 8, 32, 128 };

	for (size_t i = 0; i < N_OF(batch); i++)
		for (int trace = 0; trace <= (p->load.n > 0); trace++) {
			double bytes = step_bytes(p, batch[i], trace);

			if (p->in->size.n_expert)
				row(p, PLAN_SPEED, "experts_touched",
					touched(p, batch[i], trace) / p->in->size.n_moe, "of a layer",
					trace ? "trace" : "uniform", "batch %d", batch[i]);
			row(p, PLAN_SPEED, "tokens_per_s", batch[i] * p->o->bandwidth * 1e9 / bytes, "tokens/s",
				trace ? "trace" : p->in->size.n_expert ? "uniform" : "computed",
				"batch %d, at most, %g GB/s", batch[i], p->o->bandwidth);
		}
}

/* Measured reach and balance of contiguous placement on R ranks. */
static int network_trace(struct page *p, struct reader *r, const struct load_filter *f,
	unsigned ranks, double *reach, double *uneven)
{
	struct whatif_opt w;
	struct whatif_places v;

	*reach = *uneven = NAN;
	whatif_opt_init(&w);
	w.ranks = ranks;
	if (whatif_placement(r, f, &w, &v, p->e))
		return -1;
	for (size_t i = 0; i < v.n; i++)
		if (v.row[i].policy == SIM_CONTIGUOUS && v.row[i].layer < 0) {
			*reach = v.row[i].ranks_per_token;
			*uneven = v.row[i].max_mean;
		}
	whatif_places_free(&v);
	return 0;
}

static int network(struct page *p, struct reader *r, const struct load_filter *f)
{
	const struct sim_size *z = &p->in->size;

	if (!z->n_expert) {
		text_remark(p->out->why, sizeof p->out->why, "a dense model has no experts to spread and "
			"none to cache");
		return 0;
	}
	if (!z->d)
		text_remark(p->out->why, sizeof p->out->why, "the width is unknown: no traffic");
	for (unsigned n = 2; n <= 64 && n <= z->n_expert; n *= 2) {
		double both = 2.0 * z->d * p->o->act_bytes * (n - 1) / n * z->n_moe, reach, uneven;

		if (z->n_expert % n)
			continue;
		for (int trace = 0; trace <= (p->load.n > 0); trace++) {
			const char *basis = trace ? "trace" : "uniform";

			reach = sim_ranks_uniform(z->n_expert, z->k, n);
			uneven = NAN;
			if (trace && network_trace(p, r, f, n, &reach, &uneven))
				return -1;
			if (z->d) {
				row(p, PLAN_NETWORK, "a2a_bytes_per_token", both * reach, "B", basis, "%u ranks",
					n);
				row(p, PLAN_NETWORK, "a2a_gbps", both * reach * 1e3 / 1e9, "GB/s", basis,
					"%u ranks, at 1000 tokens/s", n);
			}
			row(p, PLAN_NETWORK, "ranks_per_token", reach, "of a layer", basis, "%u ranks", n);
			row(p, PLAN_NETWORK, "rank_max_mean", uneven, "", basis, "%u ranks, contiguous", n);
		}
	}
	return 0;
}

/* Tokens/s of one sequence when misses come from the slow memory. */
static double cached_speed(const struct page *p, double hit)
{
	const struct sim_size *z = &p->in->size;
	double miss = z->n_moe * z->k * (1 - hit) * p->expert;

	return 1 / (step_bytes(p, 1, 0) / (p->o->bandwidth * 1e9) + miss / (p->o->slow * 1e9));
}

static int cache(struct page *p, struct reader *r, const struct load_filter *f)
{
	static const enum sim_cache_policy some[] = { SIM_LRU, SIM_LFU_AGED, SIM_STATIC, SIM_BELADY };
	const struct sim_size *z = &p->in->size;
	double left = p->o->cache_mem * 1e9 - p->rest, slots;
	struct whatif_hits v;
	struct whatif_opt w;

	if (!z->n_expert)
		return 0;
	slots = floor(left / (p->expert * z->n_moe));
	if (slots < z->k) {
		char a[32], b[32];

		text_remark(p->out->why, sizeof p->out->why, "%g GB of fast memory cannot hold the rest of "
			"the model (%sB) and one token's experts (%sB)", p->o->cache_mem,
			plan_human(p->rest, a), plan_human(p->expert * z->n_moe * z->k, b));
		return 0;
	}
	slots = fmin(slots, z->n_expert);
	row(p, PLAN_CACHE, "slots", slots, "a layer", "computed", "in %g GB of fast memory, %.20s",
		p->o->cache_mem, p->quant);
	row(p, PLAN_CACHE, "hit_rate", slots / z->n_expert, "", "uniform", "any policy");
	row(p, PLAN_CACHE, "tokens_per_s", cached_speed(p, slots / z->n_expert), "tokens/s", "uniform",
		"at most; misses at %g GB/s", p->o->slow);
	if (!p->load.n)
		return 0;
	whatif_opt_init(&w);
	w.slots[0] = (unsigned)slots, w.n_slots = 1;
	w.expert_bytes = p->expert;
	if (whatif_cache(r, f, &w, &v, p->e))
		return -1;
	for (size_t i = 0; i < v.n; i++)
		for (size_t s = 0; s < N_OF(some) && v.row[i].layer < 0; s++)
			if (v.row[i].policy == some[s] && v.row[i].accesses) {
				double hit = (double)v.row[i].hits / (double)v.row[i].accesses;

				row(p, PLAN_CACHE, "hit_rate", hit, "", "trace", "%s", sim_cache_name(some[s]));
				row(p, PLAN_CACHE, "tokens_per_s", cached_speed(p, hit), "tokens/s", "trace",
					"at most; %s, misses at %g GB/s", sim_cache_name(some[s]), p->o->slow);
			}
	if (!v.n)
		text_remark(p->out->why, sizeof p->out->why, "no cache from the trace: %.150s", v.why);
	whatif_hits_free(&v);
	return 0;
}

/* The format that costs are computed in. */
static int choose_quant(struct page *p)
{
	const struct plan_in *in = p->in;
	double each = 0;

	p->quant = p->o->quant ? p->o->quant : isfinite(in->stored_expert) ? "as stored" : "BF16";
	if (!p->o->quant && isfinite(in->stored_rest)) {
		p->expert = isfinite(in->stored_expert) ? in->stored_expert : 0;
		p->rest = in->stored_rest;
		return 0;
	}
	for (size_t i = 0; i < N_OF(quants); i++)
		each = !strcmp(quants[i].name, p->quant) ? quant_bytes(i) : each;
	if (!(each > 0))
		return err_set(p->e, MOE_ERR_USAGE, "no format '%.40s'; there are BF16, FP8, Q8_0, Q6_K, "
			"Q5_K, Q4_K, MXFP4, Q3_K, Q2_K", p->quant);
	p->expert = in->size.expert * each;
	p->rest = (in->size.total - in->size.experts) * each;
	return 0;
}

/* The trace must be of this shape. */
static int same_shape(struct page *p, struct reader *r, const struct load_filter *f)
{
	const struct sim_size *z = &p->in->size;

	if (!z->n_expert)
		return err_set(p->e, MOE_ERR_USAGE, "a dense model has no routing: it does not go with a "
			"trace");
	if (reader_load(r, f, &p->load, p->e))
		return -1;
	if (p->load.n != z->n_moe)
		return err_set(p->e, MOE_ERR_INPUT, "the trace has %zu MoE layers, the model %u", p->load.n,
			z->n_moe);
	for (size_t l = 0; l < p->load.n; l++)
		if (p->load.layer[l].n_expert != z->n_expert || p->load.layer[l].k != z->k)
			return err_set(p->e, MOE_ERR_INPUT, "layer %u of the trace is top-%u of %u, the "
				"model's are top-%u of %u", p->load.layer[l].layer, p->load.layer[l].k,
				p->load.layer[l].n_expert, z->k, z->n_expert);
	for (size_t l = 0; l < p->load.n; l++)
		if (!p->load.layer[l].tokens) {
			text_remark(p->out->why, sizeof p->out->why, "the trace's selection has no tokens at "
				"layer %u: only uniform routing is planned", p->load.layer[l].layer);
			load_set_free(&p->load);
		}
	return 0;
}

int plan_make(const struct plan_in *in, const struct plan_opt *o, struct reader *r,
	const struct load_filter *f, struct plan *out, struct moe_err *e)
{
	struct page p = { .in = in, .o = o, .out = out, .e = e };
	int status = -1;

	memset(out, 0, sizeof *out);
	if (choose_quant(&p) || (r && same_shape(&p, r, f)))
		goto out;
	if (in->preset && in->preset->note)
		text_remark(out->why, sizeof out->why, "%s", in->preset->note);
	sizes(&p);
	memory(&p);
	cost(&p);
	speed(&p);
	if (network(&p, r, f) || cache(&p, r, f) || p.failed)
		goto out;
	status = 0;
out:
	load_set_free(&p.load);
	if (status)
		plan_free(out);
	return status;
}

void plan_free(struct plan *p)
{
	free(p->row);
	memset(p, 0, sizeof *p);
}

const char *plan_human(double x, char out[32])
{
	static const char *const unit[] = { "", " k", " M", " G", " T", " P" };
	int u = 0;

	while (fabs(x) >= 999.5 && u < 5)
		x /= 1000, u++;
	snprintf(out, 32, "%.*f%s", u && x < 9.995 ? 2 : u && x < 99.95 ? 1 : 0, x, unit[u]);
	return out;
}

/* ---- tables ---- */

static const struct view_col cols[] = {
	{ "section", "section", VIEW_TEXT, 0 }, { "item", "item", VIEW_TEXT, 0 },
	{ "text", "value", VIEW_TEXT, 0 }, { "value", NULL, VIEW_REAL, 6 },
	{ "unit", NULL, VIEW_TEXT, 0 },
	{ "basis", "basis", VIEW_TEXT, 0 }, { "case", "case", VIEW_TEXT, 0 },
};

/* Large numbers with a prefix of 1000, shares and small ones with digits: "46.7 GB", "0.237". */
static void shown(const struct plan_row *q, char *out, size_t size)
{
	int close = !strcmp(q->unit, "B") || !strcmp(q->unit, "FLOP");
	char n[32];

	if (fabs(q->value) < 1000 && q->value != floor(q->value))
		snprintf(n, sizeof n, "%.*f", fabs(q->value) < 10 ? 3 : 1, q->value);
	else
		plan_human(q->value, n);
	snprintf(out, size, "%s%s%s", n, !*q->unit || (close && strpbrk(n, "kMGTP")) ? "" : " ",
		q->unit);
}

int plan_table(const struct plan *p, struct view_table *out, struct moe_err *e)
{
	static const char *const section[] = { "size", "memory", "cost", "speed", "network", "cache" };
	char text[64];

	view_table_init(out, cols, N_OF(cols));
	snprintf(out->why, sizeof out->why, "%.255s", p->why);
	for (size_t i = 0; i < p->n; i++) {
		const struct plan_row *q = p->row + i;
		struct view_cell *c = view_table_row(out, e);

		shown(q, text, sizeof text);
		if (!c || view_set_text(c, section[q->section], e) || view_set_text(c + 1, q->item, e) ||
		    view_set_text(c + 2, text, e) || view_set_text(c + 4, *q->unit ? q->unit : NULL, e) ||
		    view_set_text(c + 5, q->basis, e) ||
		    view_set_text(c + 6, *q->what ? q->what : NULL, e)) {
			view_table_free(out);
			return -1;
		}
		view_set_real(c + 3, q->value);
	}
	return 0;
}

static const struct view_col preset_cols[] = {
	{ "name", "name", VIEW_TEXT, 0 }, { "title", NULL, VIEW_TEXT, 0 },
	{ "total", NULL, VIEW_REAL, 0 }, { "total_text", "total", VIEW_TEXT, 0 },
	{ "total_published", NULL, VIEW_REAL, 0 }, { "published_text", "published", VIEW_TEXT, 0 },
	{ "active", NULL, VIEW_REAL, 0 }, { "active_text", "active", VIEW_TEXT, 0 },
	{ "active_published", NULL, VIEW_REAL, 0 }, { "experts", "experts", VIEW_INT, 0 },
	{ "k", "k", VIEW_INT, 0 }, { "moe_layers", "MoE layers", VIEW_INT, 0 },
	{ "source", "source", VIEW_TEXT, 0 }, { "note", NULL, VIEW_TEXT, 0 },
};

int plan_presets(struct view_table *out, struct moe_err *e)
{
	const struct sim_model *m;
	struct sim_size z;
	char a[32], b[32], d[32];

	view_table_init(out, preset_cols, N_OF(preset_cols));
	for (size_t i = 0; (m = sim_model_at(i)); i++) {
		struct view_cell *c = view_table_row(out, e);

		sim_model_size(m, &z);
		if (!c || view_set_text(c, m->name, e) || view_set_text(c + 1, m->title, e) ||
		    view_set_text(c + 3, plan_human(z.total, a), e) ||
		    view_set_text(c + 5, plan_human(m->published_total, b), e) ||
		    view_set_text(c + 7, plan_human(z.active, d), e) ||
		    view_set_text(c + 12, m->source, e) || view_set_text(c + 13, m->note, e)) {
			view_table_free(out);
			return -1;
		}
		view_set_real(c + 2, z.total);
		view_set_real(c + 4, m->published_total);
		view_set_real(c + 6, z.active);
		if (m->published_active > 0)
			view_set_real(c + 8, m->published_active);
		view_set_int(c + 9, z.n_expert);
		if (z.n_expert) {
			view_set_int(c + 10, z.k);
			view_set_int(c + 11, z.n_moe);
		}
	}
	return 0;
}
