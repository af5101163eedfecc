/*
 * stat.c - the tables of `moescope stat` that come from load counts: runs, layers, experts and
 * domains. Tables that need every decision are in decisions.c and spec.c.
 *
 * Keys are those of docs/METRICS.md and do not change.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "view/table.h"

#define N_COLS(a) (sizeof(a) / sizeof *(a))

/* ---- runs ---- */

static const struct view_col runs_cols[] = {
	{ "run", "run", VIEW_INT, 0 }, { "state", "state", VIEW_TEXT, 0 },
	{ "command", "command", VIEW_TEXT, 0 }, { "model", "model", VIEW_TEXT, 0 },
	{ "quant", "quant", VIEW_TEXT, 0 }, { "router", "router", VIEW_TEXT, 0 },
	{ "moe_layers", "MoE layers", VIEW_INT, 0 }, { "detail", "detail", VIEW_TEXT, 0 },
	{ "started", "started (UTC)", VIEW_TEXT, 0 }, { "seconds", "seconds", VIEW_REAL, 1 },
	{ "sequences", "sequences", VIEW_INT, 0 }, { "prompt_tokens", "prompt", VIEW_INT, 0 },
	{ "generated_tokens", "generated", VIEW_INT, 0 }, { "gaps", "gaps", VIEW_INT, 0 },
	{ "bpb", "bits/byte", VIEW_REAL, 3 },
};

static const char *when(int64_t ns, char buf[32])
{
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;

	if (!gmtime_r(&s, &tm) || !strftime(buf, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		return NULL;
	return buf;
}

static const char *known(const char *s)
{
	return *s ? s : NULL;
}

static int run_row(const struct run_info *u, struct view_table *t, struct moe_err *e)
{
	struct view_cell *c = view_table_row(t, e);
	int64_t end = u->ended ? u->ended : u->heartbeat;
	const char *state = u->state;
	char buf[32];

	if (!c)
		return -1;
	if (!strcmp(state, "live") && !u->alive)
		state = "stopped"; /* never closed, and nobody writes to it any more */
	view_set_int(c, u->id);
	view_set_int(c + 6, u->n_moe_layer);
	view_set_real(c + 9, fmax(0, ((double)end - (double)u->started) / 1e9));
	view_set_int(c + 10, (int64_t)u->n_seq);
	view_set_int(c + 11, (int64_t)u->n_prompt);
	view_set_int(c + 12, (int64_t)u->n_generated);
	view_set_int(c + 13, (int64_t)u->n_gap);
	view_set_real(c + 14, u->n_bytes && u->n_scored ? u->nll / log(2) / (double)u->n_bytes : NAN);
	return view_set_text(c + 1, state, e) || view_set_text(c + 2, known(u->command), e) ||
		view_set_text(c + 3, known(u->model_name), e) ||
		view_set_text(c + 4, known(u->quant), e) || view_set_text(c + 5, known(u->router), e) ||
		view_set_text(c + 7, known(u->detail), e) ||
		view_set_text(c + 8, when(u->started, buf), e) ? -1 : 0;
}

int view_runs(struct reader *r, struct view_table *out, struct moe_err *e)
{
	struct run_info *u = malloc(sizeof *u);
	int64_t *ids = NULL;
	size_t n = 0;
	int status = -1;

	view_table_init(out, runs_cols, N_COLS(runs_cols));
	if (!u) {
		err_nomem(e, sizeof *u, "a run");
		goto out;
	}
	if (reader_runs(r, &ids, &n, e))
		goto out;
	for (size_t i = 0; i < n; i++)
		if (reader_run(r, ids[i], u, e) || run_row(u, out, e))
			goto out;
	status = 0;
out:
	free(ids);
	free(u);
	if (status)
		view_table_free(out);
	return status;
}

/* ---- a row per layer ---- */

#define LAYER_COLS \
	{ "layer", "layer", VIEW_INT, 0 }, { "tokens", "tokens", VIEW_INT, 0 }, \
	{ "experts", "experts", VIEW_INT, 0 }, { "k", "k", VIEW_INT, 0 }, \
	{ "max_mean", "max/mean", VIEW_REAL, 3 }, { "max_vio", "MaxVio", VIEW_REAL, 3 }, \
	{ "cv", "CV", VIEW_REAL, 3 }, { "gini", "Gini", VIEW_REAL, 3 }, \
	{ "entropy_norm", "H norm", VIEW_REAL, 4 }, { "n_eff", "N eff", VIEW_REAL, 2 }, \
	{ "n2", "N2", VIEW_REAL, 2 }, { "dead", "dead", VIEW_REAL, 3 }, \
	{ "cold", "cold", VIEW_REAL, 3 }, { "dead_chance", "P(0)", VIEW_REAL, 4 }, \
	{ "coverage90", "90 % by", VIEW_INT, 0 }, { "top_expert", "top", VIEW_INT, 0 }, \
	{ "top_rate", "rate", VIEW_REAL, 4 }, { "aux_loss", "aux", VIEW_REAL, 3 }, \
	{ "z_loss", "z", VIEW_REAL, 2 }, { "token_entropy", "H token", VIEW_REAL, 3 }, \
	{ "mi_token", "MI bits", VIEW_REAL, 3 }, { "confidence", "conf", VIEW_REAL, 3 }, \
	{ "margin", "margin", VIEW_REAL, 4 }
static const struct view_col layer_cols[] = { VIEW_HEAD, LAYER_COLS };
/* The same with the domain shown to people. */
static const struct view_col domain_cols[] = { { "run", NULL, VIEW_INT, 0 },
	{ "domain", "domain", VIEW_TEXT, 0 }, { "phase", NULL, VIEW_TEXT, 0 }, LAYER_COLS };

static void layer_cells(struct view_cell *c, const struct view_layer *v)
{
	int seen = v->tokens > 0;
	const double real[] = { v->max_mean, v->max_vio, v->cv, v->gini, v->entropy_norm, v->n_eff,
		v->n2, v->dead, v->cold, seen ? v->p_dead_chance : NAN };
	const double more[] = { v->top_rate, v->aux_loss, v->z_loss, v->token_entropy, v->mi_token,
		v->confidence, v->margin };

	view_set_int(c++, v->layer);
	view_set_int(c++, (int64_t)v->tokens);
	view_set_int(c++, v->n_expert);
	view_set_int(c++, v->k);
	for (size_t i = 0; i < N_COLS(real); i++)
		view_set_real(c++, real[i]);
	if (seen) {
		view_set_int(c, v->coverage90);
		view_set_int(c + 1, v->top_expert);
	}
	c += 2;
	for (size_t i = 0; i < N_COLS(more); i++)
		view_set_real(c++, more[i]);
}

/* Say once what the whole table lacks. */
static void layers_why(const struct view_layers *v, struct view_table *out)
{
	uint64_t tokens = 0;
	int scores = 0;

	for (size_t i = 0; i < v->n; i++) {
		tokens += v->layer[i].tokens;
		scores |= !isnan(v->layer[i].z_loss);
	}
	if (!v->n)
		snprintf(out->why, sizeof out->why, "the run's model has no MoE layer");
	else if (!tokens)
		snprintf(out->why, sizeof out->why, "no tokens in this selection");
	else if (!scores)
		snprintf(out->why, sizeof out->why, "no router scores in this selection: aux_loss, "
			"z_loss, token_entropy, mi_token and confidence need them");
}

static int add_layers(struct reader *r, const struct load_filter *f, const char *domain,
	struct view_table *out, struct moe_err *e)
{
	struct view_layers v;
	struct view_cell *c;
	int status = -1;

	if (view_layers(r, f, &v, e))
		return -1;
	for (size_t i = 0; i < v.n; i++) {
		c = view_table_row(out, e);
		if (!c || view_table_head(c, f->run, domain, f->phase, e))
			goto out;
		layer_cells(c + VIEW_N_HEAD, v.layer + i);
	}
	if (!*out->why)
		layers_why(&v, out);
	status = 0;
out:
	view_layers_free(&v);
	return status;
}

int view_stat(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	char name[64];

	view_table_init(out, layer_cols, N_COLS(layer_cols));
	if (add_layers(r, f, view_domain_name(r, f, name, sizeof name), out, e)) {
		view_table_free(out);
		return -1;
	}
	return 0;
}

int view_stat_domain(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct load_filter one = *f;
	struct domain_info *d = NULL;
	size_t n = 0;
	int status = -1;

	view_table_init(out, domain_cols, N_COLS(domain_cols));
	if (reader_domains(r, f->run, &d, &n, e))
		goto out;
	for (size_t i = 0; i < n; i++) {
		if (f->domain >= 0 && d[i].id != f->domain)
			continue;
		one.domain = d[i].id;
		if (add_layers(r, &one, d[i].id ? d[i].name : "(none)", out, e))
			goto out;
	}
	if (!out->n_row)
		snprintf(out->why, sizeof out->why, "the run has no sequences of any domain");
	status = 0;
out:
	free(d);
	if (status)
		view_table_free(out);
	return status;
}

/* ---- a row per expert ---- */

static const struct view_col expert_cols[] = {
	VIEW_HEAD,
	{ "layer", "layer", VIEW_INT, 0 }, { "expert", "expert", VIEW_INT, 0 },
	{ "count", "picks", VIEW_INT, 0 }, { "rate", "rate", VIEW_REAL, 4 },
	{ "rel_load", "x fair share", VIEW_REAL, 3 }, { "weight_sum", "sum of weights", VIEW_REAL, 2 },
};

/* An imported run may have no weights: then they sum to 0, which picks never do. */
static int weights_known(const struct view_layer *v)
{
	double sum = 0;

	for (unsigned x = 0; x < v->n_expert; x++)
		sum += fabs(v->weights[x]);
	return sum > 0;
}

static int expert_row(const struct load_filter *f, const char *domain, const struct view_layer *v,
	unsigned expert, int known, struct view_table *out, struct moe_err *e)
{
	struct view_cell *c = view_table_row(out, e);

	if (!c || view_table_head(c, f->run, domain, f->phase, e))
		return -1;
	c += VIEW_N_HEAD;
	view_set_int(c, v->layer);
	view_set_int(c + 1, expert);
	view_set_int(c + 2, (int64_t)v->counts[expert]);
	view_set_real(c + 3, v->tokens ? (double)v->counts[expert] / (double)v->tokens : NAN);
	view_set_real(c + 4, v->rel[expert]);
	view_set_real(c + 5, known ? v->weights[expert] : NAN);
	return 0;
}

int view_stat_expert(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct view_layers v;
	const char *domain;
	char name[64];
	int status = -1;

	view_table_init(out, expert_cols, N_COLS(expert_cols));
	if (view_layers(r, f, &v, e))
		return -1;
	domain = view_domain_name(r, f, name, sizeof name);
	for (size_t i = 0; i < v.n; i++) {
		int known = weights_known(v.layer + i);

		for (unsigned x = 0; x < v.layer[i].n_expert; x++)
			if (expert_row(f, domain, v.layer + i, x, known, out, e))
				goto out;
	}
	layers_why(&v, out);
	if (strstr(out->why, "scores"))
		*out->why = 0; /* nothing here needs them */
	status = 0;
out:
	view_layers_free(&v);
	if (status)
		view_table_free(out);
	return status;
}
