/*
 * model.h - how large a model is, from its configuration; published configurations. Pure functions.
 *
 * Sizes are numbers of parameters. Everything is counted per layer from the shapes of its matrices;
 * norms count 2 d a layer. `stated` configurations (rumours) give sums instead of shapes.
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

struct sim_model {
	const char *name, *title;
	const char *source;          /* where the shapes are published */
	const char *note;            /* assumptions, NULL = none */
	int rumour;
	unsigned d, n_layer, n_encoder;          /* width; layers (decoder), encoder layers */
	unsigned n_head, n_head_kv, head_dim;
	struct { unsigned q, kv, nope, rope, v; } mla; /* latent attention; kv 0 = grouped heads */
	unsigned ff_dense, ff_expert, ff_shared; /* widths */
	unsigned mats_dense, mats_expert;        /* 3 = gated, 2 = up and down */
	unsigned n_expert, k, moe_first, moe_every; /* MoE in layers first, first + every, ... */
	unsigned vocab, n_embed;                 /* embedding matrices: 1 tied, 2 in and out, 3 */
	unsigned bias;                           /* 1 = biases in attention, experts and router */
	double stated_total, stated_active;      /* rumours; else 0 */
	double published_total, published_active; /* 0 = not published */
	double total_digit, active_digit;        /* unit of the last published digit */
	int active_skips_embedding;              /* the published active number leaves the input
	                                            embedding out */
};

struct sim_size {
	double total, active;        /* active: of one token, all embeddings counted */
	double matmul;               /* active without the input embedding: multiplied with a token */
	double embedding, attention, dense, experts, shared, router, norm;
	double expert;               /* one routed expert of one layer; 0 in a dense model */
	unsigned n_moe, n_expert, k, d, n_layer;
	double kv_per_token;         /* numbers that one token adds to the KV cache, all layers */
	double attention_flops;      /* FLOPs of one token per token of context */
};

void sim_model_size(const struct sim_model *m, struct sim_size *out);

/* By name; NULL with the list's beginning in e. */
const struct sim_model *sim_model_find(const char *name, struct moe_err *e);
const struct sim_model *sim_model_at(size_t i); /* NULL after the last */

/* How far the computed size may be from the published: 1 %, or the rounding of the published number
 * (half of its last digit), but never more than 5 %. 1 = within. */
int sim_model_agrees(double computed, double published, double digit);

/* Expected number of distinct experts that n tokens with independent picks touch: uniform, E (1 -
 * (1 - k/E)^n), or with rates [n_expert] (picks / tokens): sum 1 - (1 - rate)^n. */
double sim_distinct(const double *rate, unsigned n_expert, unsigned k, double n);

/* Expected distinct ranks of R that hold one of k experts when sets are uniform and every rank
 * holds E/R: R (1 - C(E - E/R, k) / C(E, k)). */
double sim_ranks_uniform(unsigned n_expert, unsigned k, unsigned ranks);

#endif
