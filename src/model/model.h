/*
 * model.h - the inference engine: a model (weights, immutable) and sessions that run it.
 *
 * struct model borrows its weights from an open GGUF, which must outlive it. A struct session has
 * the KV cache and scratch of one sequence at a time and belongs to one thread; the forward pass
 * allocates nothing. Results do not depend on batch size, thread count or kernel row (kern.h).
 *
 *	m = model_open(gguf, &e);  s = session_new(m, &opt, &e);  session_add_hook(s, hook, &e);
 *	session_begin(s, &info, &e);
 *	session_eval(s, ids, n, MOE_PREFILL, &want, &e);      // logits come through want
 *	session_end(s, &result, &e);
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdint.h>

#include <moescope/hook.h>
#include <moescope/route.h>

#include "gguf/gguf.h"
#include "kern/kern.h"

struct model;

/* Everything that people want to know of a model without running it. Lives as long as the model. */
struct model_info {
	const char *arch;    /* name of the architecture row */
	char name[128];      /* general.name or the file's name */
	uint32_t n_layer, n_vocab, n_embd, n_head, n_head_kv, head_dim, n_ctx_train;
	uint32_t n_ff;            /* width of a dense layer's FFN (of the last), 0 if there is none */
	uint32_t n_ff_expert, n_ff_shared; /* width of a routed expert, of the shared expert */
	int shared_gated;         /* the shared expert has a gate */
	uint32_t n_dense_layer;   /* layers with a dense FFN */
	uint32_t window, n_window_layer; /* positions that so many layers see, 0 = all see all */
	uint32_t kv_rank;         /* width of the latent key and value, 0 = there is none */
	uint32_t n_nextn;         /* layers of the file that predict further tokens: not run */
	uint64_t n_unused, unused_bytes; /* their tensors */
	uint32_t n_moe_layer;
	struct moe_layer_desc layers[MOE_MAX_LAYER]; /* [n_moe_layer] */
	struct moe_route_spec route;       /* n_expert = 0 in a dense model */
	uint64_t n_params;        /* all elements of all tensors used */
	uint64_t n_params_active; /* those that one token touches: k of n_expert experts */
	uint64_t weight_bytes;    /* of the tensors used, as stored */
	uint64_t bytes_per_token; /* weights read to decode one token; one row of the embedding */
	char rope_scaling[64];    /* "YaRN, factor 4, from 4096 tokens"; "none" */
	char quant[64];           /* "Q8_0" or "Q4_K+Q6_K": matrix types by share of bytes */
};

/* Refuses by name: unknown architectures, missing or misshapen tensors, types without kernels. */
struct model *model_open(const struct gguf *g, struct moe_err *e);
void model_close(struct model *m);
/* A low-rank adapter for this model, times scale; before the first session. Its file must outlive the
 * model. Several add up in the order given. Refuses by name what does not fit the model. After an
 * error the model may only be closed. */
int model_add_adapter(struct model *m, const struct gguf *g, double scale, struct moe_err *e);
const struct model_info *model_info(const struct model *m);

/* The names of the supported architectures; NULL after the last. */
const char *model_arch_name(size_t i);

/* Where a tensor belongs, for tables by class. */
enum model_class { MODEL_EMBED, MODEL_ATTENTION, MODEL_ROUTER, MODEL_EXPERTS, MODEL_SHARED,
	MODEL_DENSE_FFN, MODEL_NORM, MODEL_OUTPUT, MODEL_N_CLASS };
const char *model_class_name(enum model_class c);
/* Calls fn for every tensor that the model uses. */
void model_each_tensor(const struct model *m,
	void (*fn)(void *ctx, enum model_class c, const struct gguf_tensor *t), void *ctx);

struct session;

struct session_opt {
	uint32_t n_ctx;    /* positions of the KV cache; 0 = the trained context, at most 4096 */
	uint32_t n_batch;  /* tokens evaluated together; 0 = 512 */
	uint32_t n_threads; /* 0 = one per processor */
	const char *isa;   /* kernel row by name; NULL = best */
	int kv_type;       /* enum session_kv: what keys and values are kept in */
	int activations;   /* enum session_act: what quantised and BF16 weights are multiplied with */
	const struct session_cache *cache; /* NULL = experts are used where they are mapped */
};

/* Experts stay in the file; a bounded cache holds those in use. Same bits as without it. */
enum session_policy { SESSION_LRU, SESSION_LFU, SESSION_STATIC };
struct session_cache {
	uint64_t bytes;        /* of memory for experts, or */
	double percent;        /* > 0: of the bytes of all experts */
	enum session_policy policy;
	const uint64_t *heat;  /* STATIC: [n_layer][n_expert] earlier uses; read by session_new only */
};

/* Since session_new. A hit or a miss is an expert that a batch needs at a layer. */
struct session_cache_stat {
	uint64_t slots, experts; /* held at most, of how many */
	uint64_t slot_bytes, hits, misses, read_bytes, stall_ns; /* stall: nothing to compute meanwhile */
};

/* INT8: activations are rounded to 8 bits, a scale for every 256, before they meet quantised weights,
 * which then is integer arithmetic (kern/int8.h), and to BF16 before they meet BF16 weights (kern/kern.h); F32:
 * they stay as they are. Weights of F32 and F16 and attention are not concerned. */
enum session_act { SESSION_ACT_INT8, SESSION_ACT_F32 };

/* F16 and Q8_0 round each key and value once; F32 keeps them as they are. */
enum session_kv { SESSION_KV_F16, SESSION_KV_F32, SESSION_KV_Q8_0 };

struct session *session_new(const struct model *m, const struct session_opt *opt, struct moe_err *e);
void session_free(struct session *s);
/* At most 8. The hook must outlive the session. */
int session_add_hook(struct session *s, struct moe_hook *h, struct moe_err *e);
/* It is told nothing from now on; nothing happens if it was never added. Not from within a hook. */
void session_remove_hook(struct session *s, const struct moe_hook *h);
uint32_t session_ctx(const struct session *s);
uint32_t session_batch(const struct session *s);
int session_threads(const struct session *s);
const struct kern *session_kern(const struct session *s);
/* 1 and *out, or 0: there is no expert cache. */
int session_cache_stat(const struct session *s, struct session_cache_stat *out);
/* Is an expert of a layer in memory? 1 without a cache. The engine's thread only. */
int session_holds(const struct session *s, int layer, int expert);
const char *session_act_name(const struct session *s); /* "int8", "f32" */
/* All that decides the bits of a result besides model and input: "avx512 int8 kv:f16". */
const char *session_arithmetic(const struct session *s);
const char *session_kv_name(const struct session *s); /* "f16", "f32", "q8_0" */

/* Start a sequence at position 0: the cache is empty. */
int session_begin(struct session *s, const struct moe_seq_info *info, struct moe_err *e);

/* Go on at position pos of a sequence whose tokens before it are those that the cache holds from
 * earlier evaluations, since the last one at position 0. Hooks are told nothing: they know seq, or
 * a session_begin() just told them. -1 where the cache holds less: behind what was evaluated, and
 * in models with windows also more than a batch before its end. */
int session_seek(struct session *s, uint64_t seq, uint32_t pos, struct moe_err *e);

/* Who wants logits: called in position order with row [n_vocab], valid during the call. Returns
 * 0 or -1 with e filled in, which stops the evaluation. */
struct session_want {
	int all; /* 1: every position, 0: the last one of the call only */
	int (*logits)(void *ctx, uint32_t pos, const float *row, struct moe_err *e);
	void *ctx;
};

/* Feed n tokens at the next positions. `phase` is what the events will say. want may be NULL. An
 * error from a hook or from want leaves the session usable after the next session_begin. */
int session_eval(struct session *s, const int32_t *ids, size_t n, enum moe_phase phase,
	const struct session_want *want, struct moe_err *e);
uint32_t session_pos(const struct session *s); /* next position */

/* End the sequence; nll and n_scored of r come from the caller. */
int session_end(struct session *s, const struct moe_seq_result *r, struct moe_err *e);

/* Bytes of keys and values that decoding a token behind n others reads. */
uint64_t session_kv_bytes(const struct session *s, uint32_t n);

/* Where the time goes: nanoseconds by part since it was turned on. It costs a look at the clock some
 * eight times a layer. */
enum session_part { SESSION_ATTENTION, SESSION_ROUTER, SESSION_EXPERTS, SESSION_DENSE, SESSION_HEAD,
	SESSION_HOOKS, SESSION_N_PART };
void session_time_parts(struct session *s, int on); /* starts at zero */
const uint64_t *session_parts(const struct session *s); /* [SESSION_N_PART] */
const char *session_part_name(enum session_part p);

/* Nanoseconds spent in session_eval and tokens fed, by phase, since session_new. */
void session_speed(const struct session *s, enum moe_phase phase, uint64_t *ns, uint64_t *tokens);

#endif
