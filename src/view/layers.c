/*
 * layers.c - the balance of every MoE layer, and the head line of a screen.
 *
 * Both read the aggregated load only, so their cost does not grow with the trace.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "metrics/balance.h"
#include "metrics/capacity.h"
#include "metrics/router.h"
#include "view/view.h"

/* Copy the figures of one layer; takes over counts and weights from l. */
static int fill(struct view_layer *v, struct layer_load *l, uint64_t *sorted, struct moe_err *e)
{
	struct metrics_router_sums sums = { .n_expert = l->n_expert, .counts = l->counts,
		.probs = l->probs, .lse2 = l->lse2, .entropy = l->entropy,
		.confidence = l->confidence, .margin = l->margin, .n_margin = l->n_margin };
	struct metrics_balance b;
	struct metrics_router m;

	v->rel = malloc(l->n_expert * sizeof *v->rel);
	if (!v->rel)
		return err_nomem(e, l->n_expert * sizeof *v->rel, "relative loads");
	metrics_balance(l->counts, l->n_expert, sorted, &b);
	metrics_router(&sums, &m);
	metrics_rel_load(l->counts, l->n_expert, v->rel);
	v->layer = l->layer, v->n_expert = l->n_expert, v->k = l->k, v->tokens = l->tokens;
	v->max_mean = b.max_mean, v->max_vio = b.max_vio, v->cv = b.cv, v->gini = b.gini;
	v->entropy_norm = b.entropy_norm, v->n_eff = b.n_eff, v->n2 = b.n2;
	v->dead = b.dead, v->cold = b.cold, v->n_dead = b.n_dead, v->n_cold = b.n_cold;
	v->coverage90 = b.coverage90, v->top_expert = b.top_expert;
	v->top_rate = l->tokens ? (double)l->counts[b.top_expert] / (double)l->tokens : NAN;
	v->p_dead_chance = metrics_dead_chance(l->tokens, l->n_expert, l->k);
	v->aux_loss = m.aux_loss, v->z_loss = m.z_loss, v->token_entropy = m.token_entropy;
	v->mi_token = m.mi_token, v->confidence = m.confidence, v->margin = m.margin;
	v->counts = l->counts, v->weights = l->weights;
	l->counts = NULL, l->weights = NULL;
	return 0;
}

int view_layers_of(struct load_set *s, struct view_layers *out, struct moe_err *e)
{
	static const size_t most = MOE_MAX_EXPERT;
	uint64_t *sorted = NULL;
	int status = -1;

	memset(out, 0, sizeof *out);
	sorted = malloc(most * sizeof *sorted);
	out->layer = calloc(s->n + 1, sizeof *out->layer);
	if (!sorted || !out->layer) {
		err_nomem(e, s->n * sizeof *out->layer, "the layers' figures");
		goto out;
	}
	for (size_t i = 0; i < s->n; i++) {
		out->n++;
		if (fill(out->layer + i, s->layer + i, sorted, e))
			goto out;
	}
	status = 0;
out:
	free(sorted);
	load_set_free(s);
	if (status)
		view_layers_free(out);
	return status;
}

int view_layers(struct reader *r, const struct load_filter *f, struct view_layers *out,
	struct moe_err *e)
{
	struct load_set s = { 0 };

	memset(out, 0, sizeof *out);
	return reader_load(r, f, &s, e) ? -1 : view_layers_of(&s, out, e);
}

void view_layers_free(struct view_layers *v)
{
	for (size_t i = 0; i < v->n; i++) {
		free(v->layer[i].rel);
		free(v->layer[i].counts);
		free(v->layer[i].weights);
	}
	free(v->layer);
	memset(v, 0, sizeof *v);
}

/* ---- summary ---- */

static int speed(struct reader *r, const struct load_filter *f, int phase, double *tps,
	struct moe_err *e)
{
	struct load_filter one = *f;
	struct pace_info p = { 0 };

	one.phase = phase;
	if (reader_pace(r, &one, &p, e))
		return -1;
	*tps = p.tokens && p.busy_ns ? (double)p.tokens * 1e9 / (double)p.busy_ns : NAN;
	return 0;
}

static double bits_per_byte(double nll, uint64_t n_scored, uint64_t n_bytes)
{
	return n_scored && n_bytes ? nll / log(2) / (double)n_bytes : NAN;
}

/* Number of named domains, and bits per byte of the domain that the filter selects. */
static int domains(struct reader *r, const struct load_filter *f, struct view_summary *out,
	struct moe_err *e)
{
	struct domain_info *d = NULL;
	size_t n = 0;

	if (reader_domains(r, f->run, &d, &n, e))
		return -1;
	out->bpb = f->domain < 0 ? bits_per_byte(out->run.nll, out->run.n_scored, out->run.n_bytes) :
		NAN;
	for (size_t i = 0; i < n; i++) {
		out->n_domain += d[i].id != 0;
		if (d[i].id == f->domain)
			out->bpb = bits_per_byte(d[i].nll, d[i].n_scored, d[i].n_bytes);
	}
	free(d);
	return 0;
}

void view_summary_load(const struct load_set *s, struct view_summary *out)
{
	int64_t end;

	out->tokens = out->decisions = out->edited = 0;
	out->dropped_at_cf125 = NAN;
	for (size_t i = 0; i < s->n; i++) {
		const struct layer_load *l = s->layer + i;

		out->tokens = l->tokens > out->tokens ? l->tokens : out->tokens;
		out->decisions += l->tokens;
		out->edited += l->n_edited;
		out->dropped_at_cf125 = fmax(out->dropped_at_cf125, /* fmax skips NAN */
			metrics_dropped(l->counts, l->n_expert, l->tokens, l->k, 1.25));
	}
	out->lag_ms = (double)out->run.lag_ns / 1e6;
	end = out->run.ended ? out->run.ended : out->run.alive ? clock_wall() : out->run.heartbeat;
	out->elapsed_s = fmax(0, ((double)end - (double)out->run.started) / 1e9);
}

int view_summary(struct reader *r, const struct load_filter *f, struct view_summary *out,
	struct moe_err *e)
{
	struct load_set s = { 0 };

	memset(out, 0, sizeof *out);
	if (reader_run(r, f->run, &out->run, e) || domains(r, f, out, e) ||
	    speed(r, f, MOE_PREFILL, &out->prefill_tps, e) ||
	    speed(r, f, MOE_DECODE, &out->decode_tps, e) || reader_cache(r, f, &out->cache, e) ||
	    reader_load(r, f, &s, e))
		return -1;
	view_summary_load(&s, out);
	load_set_free(&s);
	return 0;
}
