/*
 * event.h - the one thing that the engine and the trace side share: a routing decision.
 *
 * A router looks at one token at one MoE layer and picks k of n_expert routed experts. That is
 * one event. Engines produce decisions a layer and a batch of tokens at a time, so what travels
 * through the hooks is a struct moe_route_view (arrays, struct of columns); moe_event_at() reads
 * single events out of it. Shared experts take every token and are never part of an event.
 *
 * Canonical bytes (event_encode/event_decode in src/event/): docs/TRACE.md.
 */
#ifndef MOESCOPE_EVENT_H
#define MOESCOPE_EVENT_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

#define MOE_MAX_EXPERT 1024 /* routed experts of a layer, and so also the largest k */
#define MOE_MAX_LAYER 512

enum moe_phase { MOE_PREFILL = 0, MOE_DECODE = 1 };

enum moe_event_flag {
	MOE_EV_NAN = 1,   /* the router's logits held a NaN: the choice is the lowest ids, weights 0 */
	MOE_EV_EDITED = 2 /* a hook changed the choice; `before` has the router's own */
};

/* One MoE layer of the model. */
struct moe_layer_desc {
	uint16_t layer; /* index in the model */
	uint16_t n_expert;
	uint16_t k;
};

/* One decision. The pointers are borrowed and live as long as their source says. */
struct moe_event {
	uint64_t seq;   /* sequence (request), unique in a run */
	uint32_t pos;   /* position in the sequence, from 0 */
	int32_t token;  /* id of the token at pos (the router's input token) */
	uint16_t layer; /* index of the layer in the model, dense layers counted */
	uint16_t n_expert;
	uint16_t k;
	uint8_t phase;            /* enum moe_phase */
	uint8_t flags;            /* enum moe_event_flag, or-ed */
	float margin;             /* selection score of rank k minus that of rank k+1, >= 0;
	                             +inf if k = n_expert */
	const uint16_t *experts;  /* [k], rank order: best selection score first */
	const float *weights;     /* [k], gate weights as applied to the experts' outputs */
	const float *logits;      /* [n_expert], the router's raw outputs, or NULL if not kept */
	const uint16_t *before;   /* [k], the choice before a hook edited it, or NULL */
};

/* The decisions of one layer for one batch of tokens, in token order. All pointers borrowed from
 * the engine for the duration of the call. */
struct moe_route_view {
	uint16_t layer;
	uint16_t n_expert;
	uint16_t k;
	uint8_t phase;
	uint32_t n_tok;
	const uint64_t *seq;     /* [n_tok] */
	const uint32_t *pos;     /* [n_tok] */
	const int32_t *token;    /* [n_tok] */
	const uint16_t *experts; /* [n_tok][k] */
	const float *weights;    /* [n_tok][k] */
	const float *margin;     /* [n_tok], NULL or NAN = not known */
	const float *logits;     /* [n_tok][n_expert] */
	const uint8_t *flags;    /* [n_tok] */
	const uint16_t *before;  /* [n_tok][k], or NULL where no hook edits */
	const char *editor;      /* name of the editing hook, or NULL */
};

/* Event i (0 <= i < v->n_tok) of a view; its pointers live as long as the view's. */
void moe_event_at(const struct moe_route_view *v, uint32_t i, struct moe_event *out);

#endif
