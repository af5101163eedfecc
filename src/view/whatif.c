/*
 * whatif.c - what the what-if questions share, and their options' defaults; see whatif.h.
 */
#include "view/whatif.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/decisions.h"

/*
 * Constants of the interconnect, all of them options: NVLink 4 gives a GPU 450 GB/s each way, a
 * 400 Gb/s adapter 50 GB/s. 1.3 pJ a bit is what NVIDIA states for NVLink-C2C; a copper or optical
 * network with adapter and switch takes some 20 to 40, so 30.
 */
void whatif_opt_init(struct whatif_opt *o)
{
	static const double factor[] = { 1, 1.25, 1.5, 2 };

	memset(o, 0, sizeof *o);
	o->batch = 512;
	memcpy(o->factor, factor, sizeof factor);
	o->n_factor = sizeof factor / sizeof *factor;
	o->ranks = 8;
	o->nodes = 1;
	o->groups = 1;
	o->act_bytes = 2;
	o->link = 450, o->net = 50;
	o->link_pj = 1.3, o->net_pj = 30;
	o->seed = 1;
}

static void describe(struct whatif_case *c)
{
	c->n_layer = c->u->n_moe_layer;
	for (size_t l = 0; l < c->n_layer; l++) {
		c->k = c->u->layers[l].k > c->k ? c->u->layers[l].k : c->k;
		c->n_expert = c->u->layers[l].n_expert > c->n_expert ? c->u->layers[l].n_expert :
			c->n_expert;
	}
	c->full = !strcmp(c->u->detail, "full");
	c->weights = strcmp(c->u->weights, "none") != 0;
	c->workers = scan_threads(c->o->threads);
}

int whatif_answer(const struct whatif_kind *kind, void *s, struct reader *r,
	const struct load_filter *f, const struct whatif_opt *o, char *why, size_t size,
	struct moe_err *e)
{
	struct whatif_case c = { .r = r, .f = f, .o = o, .why = why, .why_size = size };
	struct walk_opt w = { .batch = o->batch, .want = kind->want, .threads = o->threads };
	int status = view_decisions_begin(r, f, kind->scores, &c.u, why, size, e);

	if (status < 0 || (!status && !(kind->counts && c.u->n_moe_layer)))
		goto out;
	c.singles = status;
	describe(&c);
	if (!c.full)
		w.want &= ~(unsigned)SCAN_LOGITS;
	status = -1;
	if (kind->open && kind->open(s, &c, e))
		goto out;
	if (kind->layer && c.singles && walk_each(r, f, c.u, &w, kind->layer, s, e))
		goto out;
	if (kind->finish)
		kind->finish(s, &c);
	status = 0;
out:
	if (kind->close)
		kind->close(s);
	free(c.u);
	return status;
}

/* Of all parameters, what one token leaves untouched are the experts that it did not pick: with L
 * layers alike, total - active = L (E - k) * parameters of an expert. */
double whatif_expert_bytes(const struct run_info *u, const struct whatif_opt *o)
{
	double idle = 0, params;

	if (o->expert_bytes > 0)
		return o->expert_bytes;
	for (uint32_t l = 0; l < u->n_moe_layer; l++)
		idle += u->layers[l].n_expert - u->layers[l].k;
	if (!(idle > 0) || !u->model_bytes || u->n_params_active >= u->n_params)
		return NAN;
	params = ((double)u->n_params - (double)u->n_params_active) / idle;
	return params * (double)u->model_bytes / (double)u->n_params;
}

void whatif_softmax(const float *logits, unsigned n, double *p)
{
	double max = -INFINITY, sum = 0;

	for (unsigned i = 0; i < n; i++)
		max = logits[i] > max ? logits[i] : max;
	for (unsigned i = 0; i < n; i++) {
		p[i] = exp((double)logits[i] - max);
		sum += p[i];
	}
	for (unsigned i = 0; i < n; i++)
		p[i] /= sum;
}

void whatif_ranking(const uint16_t *set, unsigned k, const float *logits, unsigned n_expert,
	unsigned most, uint16_t *rank)
{
	uint8_t own[MOE_MAX_EXPERT] = { 0 };
	unsigned n = 0, rest = k;

	for (unsigned i = 0; i < k; i++) {
		own[set[i]] = 1;
		rank[n++] = set[i];
	}
	for (unsigned e = 0; e < n_expert; e++)
		if (!own[e])
			rank[n++] = (uint16_t)e;
	for (; rest < n && rest < most; rest++) { /* selection: `most` is small beside n_expert */
		unsigned best = rest;
		uint16_t x;

		for (unsigned i = rest + 1; i < n; i++)
			if (logits[rank[i]] > logits[rank[best]] ||
			    (logits[rank[i]] == logits[rank[best]] && rank[i] < rank[best]))
				best = i;
		x = rank[rest], rank[rest] = rank[best], rank[best] = x;
	}
}
