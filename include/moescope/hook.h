/*
 * hook.h - how code attaches to the routers of an engine.
 *
 * The engine asks wants(layer) once, when the hook is added, and then calls, in the engine's
 * thread and in this order for every batch: edit() and route() for each wanted MoE layer, in
 * layer order, then batch_end(). A sequence is announced with seq_begin() and closed with
 * seq_end(). Every callback but route() may be NULL. A callback that returns -1 with its error
 * filled in stops the engine at that token; the engine returns that error to its caller.
 *
 * Observers get const views. A hook that wants to change routing sets `edit` or `prefer`, which
 * declares it: the engine then runs the router twice (before and after), marks changed decisions
 * with MOE_EV_EDITED and hands both choices to every observer.
 */
#ifndef MOESCOPE_HOOK_H
#define MOESCOPE_HOOK_H

#include <moescope/event.h>

/* What is known of a sequence when it starts. Strings are copied by who keeps them. */
struct moe_seq_info {
	uint64_t seq;
	const char *domain; /* e.g. "medical"; NULL = none given */
	const char *name;   /* document or request name, for people; may be NULL */
	uint32_t n_prompt;  /* tokens of the prompt, 0 if unknown */
};

/* What is known when it ends. */
struct moe_seq_result {
	uint64_t seq;
	uint32_t n_prompt;    /* tokens read in */
	uint32_t n_generated; /* tokens produced */
	double nll;           /* sum over the scored tokens of -ln p(token), nats */
	uint32_t n_scored;    /* tokens that nll sums over (0 where it was not asked for) */
	uint64_t n_bytes;     /* bytes of text behind the scored tokens, 0 if unknown */
};

/* What an engine that keeps only some experts in memory did for a batch; zeros without such a
 * cache. A hit or a miss is an expert that the batch needed at a layer. */
struct moe_cache_use { uint64_t hits, misses, bytes,
	stall_ns; /* stall: reading, nothing to compute */ };

/* A batch is done: all layers of these tokens have been routed. */
struct moe_batch_info {
	uint64_t seq;
	uint32_t pos0; /* position of the first token */
	uint32_t n_tok;
	uint8_t phase;    /* enum moe_phase */
	uint64_t busy_ns; /* time the forward pass took, hooks included */
	struct moe_cache_use cache;
};

struct moe_hook {
	const char *name;
	void *ctx; /* handed to every callback */
	int (*wants)(void *ctx, int layer); /* 0 = never call for this layer; NULL = all layers */
	int (*seq_begin)(void *ctx, const struct moe_seq_info *s, struct moe_err *e);
	/* Change a token's router logits [n_expert] in place: -inf masks an expert. Returns 1 if
	 * anything changed, 0 if not, -1 on error. */
	int (*edit)(void *ctx, int layer, uint64_t seq, uint32_t pos, int32_t token, float *logits,
		int n_expert, struct moe_err *e);
	/* Change a token's selection bias [n_expert] in place; it comes as zeros, and -inf bars an
	 * expert. The weights of those chosen are what the logits (after all edit()s) say. Returns as
	 * edit(). */
	int (*prefer)(void *ctx, int layer, uint64_t seq, uint32_t pos, int32_t token,
		const float *logits, float *bias, int n_expert, struct moe_err *e);
	int (*route)(void *ctx, const struct moe_route_view *v, struct moe_err *e);
	int (*batch_end)(void *ctx, const struct moe_batch_info *b, struct moe_err *e);
	int (*seq_end)(void *ctx, const struct moe_seq_result *r, struct moe_err *e);
};

#endif
