/*
 * whatif_route.c - the recorded scores through other routers: who would be chosen, dropped,
 * changed.
 *
 * Batches of the log, layer by layer; a router's state (the bias of loss-free balancing) goes on
 * from batch to batch. The logits were trained with the model's own router, so this says how
 * another rule would share out the same preferences, not how a model trained with it would.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <moescope/route.h>

#include "base/err.h"
#include "metrics/balance.h"
#include "view/walk.h"
#include "view/whatif.h"

/* One router at one layer. */
struct one {
	struct moe_batch_spec spec;
	float bias[MOE_MAX_EXPERT];
	uint64_t count[MOE_MAX_EXPERT]; /* computed picks */
	uint64_t same, sent, batches, want, shared; /* shared: of the recorded picks, those chosen
	                                               again */
	double weight, lost, mass;
};

struct routes {
	struct whatif_routes *out;
	struct whatif_route *row;    /* [n_preset][n_layer + 1] */
	struct one *one;             /* [n_preset][n_layer] */
	size_t n_preset, n_layer;
	struct moe_batch_out *picks; /* [workers] scratch */
	int workers;
};

static void count_token(struct one *s, struct whatif_route *d, const struct moe_batch_out *out,
	size_t slots, const struct walk_layer *l, uint32_t t, const double *p)
{
	const uint16_t *e = out->experts + t * slots, *was = l->experts + (size_t)t * l->k;
	uint8_t own[MOE_MAX_EXPERT];
	unsigned sent = 0, shared = 0;

	for (unsigned i = 0; i < out->n_pick[t]; i++)
		own[e[i]] = 0;
	for (unsigned i = 0; i < l->k; i++)
		own[was[i]] = 1;
	for (unsigned i = 0; i < out->n_pick[t]; i++) {
		int fate = out->fate[t * slots + i];
		float w = out->weights[t * slots + i];

		if (fate == MOE_UNSENT)
			continue;
		d->picks++;
		s->weight += w;
		shared += own[e[i]];
		if (fate == MOE_DROPPED) {
			d->dropped++;
			s->lost += w;
			continue;
		}
		sent++;
		s->count[e[i]]++;
		s->mass += p[e[i]];
	}
	s->sent += sent;
	s->shared += shared;
	s->same += shared == l->k && out->n_pick[t] == l->k;
	d->tokens_lost += !sent;
	d->tokens++;
}

static int route_layer(void *ctx, size_t layer, int worker, const struct walk_layer *l,
	struct moe_err *e)
{
	struct routes *s = ctx;
	struct moe_batch_out *out = &s->picks[worker];
	struct moe_batch_in in = { .n = l->n, .logits = l->logits, .token = l->token };
	double p[MOE_MAX_EXPERT];

	if (!l->logits)
		return 0;
	for (size_t i = 0; i < s->n_preset; i++) {
		struct one *o = s->one + i * s->n_layer + layer;
		struct whatif_route *d = s->row + i * (s->n_layer + 1) + layer;

		in.number = o->batches++;
		if (moe_route_batch(&o->spec, &in, o->bias, out, e))
			return -1;
		for (uint32_t t = 0; t < l->n; t++) {
			whatif_softmax(l->logits + (size_t)t * l->n_expert, l->n_expert, p);
			count_token(o, d, out, moe_batch_slots(&o->spec), l, t, p);
		}
		o->want += (uint64_t)l->n * l->k;
	}
	return 0;
}

static const char *preset_at(const struct whatif_opt *o, size_t i)
{
	return o->n_reroute ? (i < o->n_reroute ? o->reroute[i] : NULL) : moe_batch_preset_name(i);
}

/* Without a list of presets: all that suit the model's shape. A preset that was asked for and does
 * not suit is an error. */
static int routes_open(void *ctx, const struct whatif_case *c, struct moe_err *e)
{
	struct routes *s = ctx;
	const struct run_info *u = c->u;
	const struct whatif_opt *o = c->o;
	size_t slots = 1, most = 0;

	while (preset_at(o, most))
		most++;
	s->n_layer = u->n_moe_layer;
	s->out->row = s->row = calloc(most * (s->n_layer + 1) + 1, sizeof *s->row);
	s->one = calloc(most * s->n_layer + 1, sizeof *s->one);
	if (!s->row || !s->one)
		return err_nomem(e, most * s->n_layer * sizeof *s->one, "routers");
	for (size_t i = 0; i < most; i++) {
		int suits = 1;

		for (size_t l = 0; l < s->n_layer && suits; l++) {
			struct one *x = s->one + s->n_preset * s->n_layer + l;
			struct whatif_route *d = s->row + s->n_preset * (s->n_layer + 1) + l;

			suits = !moe_batch_preset(preset_at(o, i), u->layers[l].n_expert, u->layers[l].k,
				&x->spec, e);
			if (!suits && o->n_reroute)
				return -1;
			x->spec.seed = o->seed;
			if (o->capacity > 0)
				x->spec.factor = o->capacity;
			slots = suits && moe_batch_slots(&x->spec) > slots ? moe_batch_slots(&x->spec) : slots;
			*d = (struct whatif_route){ .layer = u->layers[l].layer, .preset = preset_at(o, i),
				.k = x->spec.route.k };
		}
		if (!suits)
			continue;
		s->row[s->n_preset * (s->n_layer + 1) + s->n_layer] = (struct whatif_route){ .layer = -1,
			.preset = preset_at(o, i), .k = s->one[s->n_preset * s->n_layer].spec.route.k };
		s->n_preset++;
	}
	s->out->n = s->n_preset * (s->n_layer + 1);
	s->workers = c->workers;
	s->picks = calloc((size_t)s->workers, sizeof *s->picks);
	for (int i = 0; s->picks && i < s->workers; i++) {
		struct moe_batch_out *p = &s->picks[i];

		p->n_pick = malloc(o->batch * sizeof *p->n_pick);
		p->experts = malloc(o->batch * slots * sizeof *p->experts);
		p->weights = malloc(o->batch * slots * sizeof *p->weights);
		p->fate = malloc(o->batch * slots);
		if (!p->n_pick || !p->experts || !p->weights || !p->fate)
			return err_nomem(e, o->batch * slots * 7, "a batch's picks");
	}
	return s->picks ? 0 : err_nomem(e, (size_t)s->workers * sizeof *s->picks, "batches of picks");
}

static void figures(struct whatif_route *d, const struct one *o, uint64_t decisions)
{
	double n = decisions ? (double)decisions : NAN;

	d->per_token = (double)o->sent / n;
	d->changed = o->want ? 1 - (double)o->shared / (double)o->want : NAN;
	d->same = (double)o->same / n;
	d->lost_weight = o->weight > 0 ? o->lost / o->weight : NAN;
	d->mass = o->mass / n;
}

static void routes_pool(struct routes *s)
{
	uint64_t sorted[MOE_MAX_EXPERT];
	struct metrics_balance bal;

	for (size_t i = 0; i < s->n_preset; i++) {
		struct whatif_route *all = s->row + i * (s->n_layer + 1) + s->n_layer;
		struct one sum = { .same = 0 };
		uint64_t decisions = 0;

		for (size_t l = 0; l < s->n_layer; l++) {
			struct whatif_route *d = s->row + i * (s->n_layer + 1) + l;
			const struct one *o = s->one + i * s->n_layer + l;

			figures(d, o, d->tokens);
			metrics_balance(o->count, o->spec.route.n_expert, sorted, &bal);
			d->max_mean = bal.max_mean, d->entropy_norm = bal.entropy_norm;
			decisions += d->tokens;
			all->tokens = d->tokens > all->tokens ? d->tokens : all->tokens;
			all->picks += d->picks, all->dropped += d->dropped, all->tokens_lost += d->tokens_lost;
			sum.same += o->same, sum.sent += o->sent, sum.want += o->want, sum.shared += o->shared;
			sum.weight += o->weight, sum.lost += o->lost, sum.mass += o->mass;
			all->max_mean = l && all->max_mean > d->max_mean ? all->max_mean : d->max_mean;
		}
		figures(all, &sum, decisions);
		all->entropy_norm = NAN;
	}
}

static void routes_finish(void *ctx, const struct whatif_case *c)
{
	struct routes *s = ctx;

	routes_pool(s);
	if (!s->n_preset) {
		snprintf(c->why, c->why_size, "no router suits this model's shape");
		whatif_routes_free(s->out);
	} else if (!s->row[s->n_layer].tokens) {
		snprintf(c->why, c->why_size, "no decisions with scores in this selection");
		whatif_routes_free(s->out);
	} else {
		snprintf(c->why, c->why_size, "the scores come from a model trained with its own router "
			"(%.100s); another rule on them is no model trained with that rule", c->u->router);
	}
}

static void routes_close(void *ctx)
{
	struct routes *s = ctx;

	for (int i = 0; s->picks && i < s->workers; i++) {
		free(s->picks[i].n_pick);
		free(s->picks[i].experts);
		free(s->picks[i].weights);
		free(s->picks[i].fate);
	}
	free(s->picks);
	free(s->one);
}

int whatif_reroute(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_routes *out, struct moe_err *e)
{
	static const struct whatif_kind kind = { .scores = 1, .want = SCAN_LOGITS, .open = routes_open,
		.layer = route_layer, .finish = routes_finish, .close = routes_close };
	struct routes s = { .out = out };

	memset(out, 0, sizeof *out);
	if (!whatif_answer(&kind, &s, r, f, o, out->why, sizeof out->why, e))
		return 0;
	whatif_routes_free(out);
	return -1;
}

void whatif_routes_free(struct whatif_routes *v)
{
	free(v->row);
	v->row = NULL;
	v->n = 0;
}
