/*
 * spread.c - how margins and the entropy of the router's probabilities are distributed over tokens.
 *
 * Quantiles come from counts in bins, so memory does not grow with the run: margins by the upper
 * bits of the float (a bin is at most 1/128 of its value wide), entropies in BINS equal steps of
 * [0, 1]. A quantile is the middle of its bin, the smallest for which at least that share of the
 * tokens lies at or below.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/decisions.h"
#include "view/table.h"
#include "view/walk.h"
#include "view/whatif.h"

#define N_COLS(a) (sizeof(a) / sizeof *(a))
enum { MARGIN_BINS = 1 << 15, BINS = 1000, BATCH = 256, N_Q = 5 };

static const double quantile[N_Q] = { .05, .25, .5, .75, .95 };

static const struct view_col cols[] = {
	VIEW_HEAD, { "layer", "layer", VIEW_INT, 0 }, { "tokens", "tokens", VIEW_INT, 0 },
	{ "margin_p5", "margin 5 %", VIEW_REAL, 5 }, { "margin_p25", "25 %", VIEW_REAL, 5 },
	{ "margin_p50", "median", VIEW_REAL, 5 }, { "margin_p75", "75 %", VIEW_REAL, 5 },
	{ "margin_p95", "95 %", VIEW_REAL, 5 }, { "margin_below_001", "below 0.01", VIEW_REAL, 4 },
	{ "entropy_p5", "entropy 5 %", VIEW_REAL, 3 }, { "entropy_p25", "25 %", VIEW_REAL, 3 },
	{ "entropy_p50", "median", VIEW_REAL, 3 }, { "entropy_p75", "75 %", VIEW_REAL, 3 },
	{ "entropy_p95", "95 %", VIEW_REAL, 3 },
};

struct spread {
	uint64_t *margin;  /* [n_layer][MARGIN_BINS] */
	uint64_t *entropy; /* [n_layer][BINS + 1] */
	uint64_t *small;   /* [n_layer] margins below 0.01 */
	uint64_t *n, *n_entropy; /* [n_layer] */
};

static size_t margin_bin(float m)
{
	uint32_t bits;

	m = m > 0 ? m : 0;
	memcpy(&bits, &m, sizeof bits);
	return bits >> 16;
}

static double margin_middle(size_t bin)
{
	uint32_t bits = (uint32_t)bin << 16 | 0x8000u;
	float m;

	memcpy(&m, &bits, sizeof m);
	return bin ? (double)m : 0;
}

static double entropy_norm(const float *logits, unsigned n)
{
	double p[MOE_MAX_EXPERT], h = 0;

	whatif_softmax(logits, n, p);
	for (unsigned i = 0; i < n; i++)
		h -= p[i] > 0 ? p[i] * log(p[i]) : 0;
	return n > 1 ? h / log(n) : NAN;
}

static int add(void *ctx, size_t layer, int worker, const struct walk_layer *l, struct moe_err *e)
{
	struct spread *s = ctx;

	(void)worker;
	(void)e;
	for (uint32_t i = 0; i < l->n; i++) {
		float m = l->margins[i];
		double h = l->logits ? entropy_norm(l->logits + (size_t)i * l->n_expert, l->n_expert) : NAN;

		if (isfinite(m)) {
			s->margin[layer * MARGIN_BINS + margin_bin(m)]++;
			s->small[layer] += m < 0.01f;
			s->n[layer]++;
		}
		if (isfinite(h)) {
			h = h < 0 ? 0 : h > 1 ? 1 : h;
			s->entropy[layer * (BINS + 1) + (size_t)(h * BINS)]++;
			s->n_entropy[layer]++;
		}
	}
	return 0;
}

/* The bin in which the q-quantile lies. */
static size_t find(const uint64_t *bins, size_t n_bin, uint64_t n, double q)
{
	uint64_t sum = 0;
	size_t i = 0;

	for (; i + 1 < n_bin; i++) {
		sum += bins[i];
		if ((double)sum >= q * (double)n)
			break;
	}
	return i;
}

static int row(const struct load_filter *f, const char *domain, const struct run_info *u,
	const struct spread *s, size_t l, struct view_table *out, struct moe_err *e)
{
	struct view_cell *c = view_table_row(out, e);

	if (!c || view_table_head(c, u->id, domain, f->phase, e))
		return -1;
	c += VIEW_N_HEAD;
	view_set_int(c, u->layers[l].layer);
	view_set_int(c + 1, (int64_t)(s->n[l] > s->n_entropy[l] ? s->n[l] : s->n_entropy[l]));
	for (int q = 0; q < N_Q; q++) {
		if (s->n[l])
			view_set_real(c + 2 + q, margin_middle(find(s->margin + l * MARGIN_BINS, MARGIN_BINS,
				s->n[l], quantile[q])));
		if (s->n_entropy[l])
			view_set_real(c + 8 + q, fmin(1, ((double)find(s->entropy + l * (BINS + 1), BINS + 1,
				s->n_entropy[l], quantile[q]) + 0.5) / BINS));
	}
	view_set_real(c + 7, s->n[l] ? (double)s->small[l] / (double)s->n[l] : NAN);
	return 0;
}

int view_spread(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct run_info *u = NULL;
	struct spread s = { 0 };
	struct walk_opt w = { .batch = BATCH };
	const char *domain;
	char name[64];
	int can, status = -1, full;
	uint64_t any = 0;

	view_table_init(out, cols, N_COLS(cols));
	can = view_decisions_begin(r, f, 0, &u, out->why, sizeof out->why, e);
	if (can <= 0) {
		status = can;
		goto out;
	}
	s.margin = calloc((size_t)u->n_moe_layer * MARGIN_BINS, sizeof *s.margin);
	s.entropy = calloc((size_t)u->n_moe_layer * (BINS + 1), sizeof *s.entropy);
	s.small = calloc(u->n_moe_layer, sizeof *s.small);
	s.n = calloc(u->n_moe_layer, sizeof *s.n);
	s.n_entropy = calloc(u->n_moe_layer, sizeof *s.n_entropy);
	if (!s.margin || !s.entropy || !s.small || !s.n || !s.n_entropy) {
		err_nomem(e, (size_t)u->n_moe_layer * MARGIN_BINS * 8, "a distribution of margins");
		goto out;
	}
	full = !strcmp(u->detail, "full");
	w.want = SCAN_MARGINS | (full ? SCAN_LOGITS : 0);
	if (walk_each(r, f, u, &w, add, &s, e))
		goto out;
	for (uint32_t l = 0; l < u->n_moe_layer; l++)
		any += s.n[l] + s.n_entropy[l];
	domain = view_domain_name(r, f, name, sizeof name);
	for (uint32_t l = 0; l < u->n_moe_layer && any; l++)
		if (row(f, domain, u, &s, l, out, e))
			goto out;
	if (!any)
		snprintf(out->why, sizeof out->why, "no margins and no scores in this selection");
	else if (!full)
		snprintf(out->why, sizeof out->why, "no entropies: the run keeps no scores (detail `%s`)",
			u->detail);
	status = 0;
out:
	free(s.margin);
	free(s.entropy);
	free(s.small);
	free(s.n);
	free(s.n_entropy);
	free(u);
	if (status)
		view_table_free(out);
	return status;
}
