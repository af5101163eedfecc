/*
 * arch.h - the architecture table and what loading a model fills in. Private to src/model.
 */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "model/model.h"

/* The menu of blocks. A feature says that a layer has a part; tensor rows are chosen by it. */
enum feature {
	F_QKV_BIAS = 1,      /* biases on q, k, v */
	F_QK_NORM_HEAD = 2,  /* RMS norm of q and k per head, [head_dim] */
	F_QK_NORM_FULL = 4,  /* RMS norm over the whole q and k vectors, before the head split */
	F_SHARED_GATED = 8,  /* a shared expert times sigmoid(gate . x) */
	F_MOE = 16,          /* set by loading: experts are there */
	F_DENSE = 32         /* set by loading: a dense FFN is there */
};

enum rope { ROPE_NORM, ROPE_NEOX }; /* pairs (2i, 2i+1), or (i, i + n/2) */
enum experts { EXPERTS_NEVER, EXPERTS_IF_COUNTED, EXPERTS_ALWAYS };
enum expert_ff { FF_COMMON, FF_OWN }; /* width from feed_forward_length, or a key of its own */

struct arch {
	const char *name;       /* general.architecture */
	enum rope rope;
	unsigned features;
	enum experts experts;
	enum expert_ff expert_ff;
	const char *router;     /* preset of moe_route_preset */
};

const struct arch *arch_find(struct gguf_str name);
const struct arch *arch_at(size_t i);

/* A matrix (or a stack of n_mat of them) as stored: n_out rows of n_in elements. */
struct weight {
	const uint8_t *data; /* NULL = the model has none */
	uint32_t type;
	uint32_t n_in, n_out, n_mat;
	size_t row_bytes;
	const struct lora *lora; /* what adapters add to its products, or NULL */
};

struct layer {
	unsigned features;
	const float *attn_norm, *ffn_norm;       /* [n_embd] */
	const float *q_norm, *k_norm;            /* [head_dim] or [q width], [k width]; or NULL */
	const float *bq, *bk, *bv;               /* [q width], [kv width] x 2, or NULL */
	struct weight wq, wk, wv, wo;
	struct weight gate, up, down;            /* dense FFN */
	struct weight router;                    /* [n_expert][n_embd] F32 */
	struct weight gate_exps, up_exps, down_exps; /* n_mat = n_expert */
	struct weight gate_sh, up_sh, down_sh;   /* shared expert */
	struct weight router_sh;                 /* one row: the shared expert's gate */
};

struct hparams {
	uint32_t n_layer, n_ctx_train, n_embd, n_ff, n_head, n_head_kv, head_dim, head_dim_v, n_rot;
	uint32_t n_expert, k, n_ff_expert, n_ff_shared;
	double eps, rope_base;
};

struct model {
	const struct gguf *g;
	const struct arch *arch;
	struct hparams hp;
	uint32_t n_vocab;
	struct weight tok_embd, output;          /* output = tok_embd where tied */
	const float *output_norm;                /* [n_embd] */
	struct layer *layer;                     /* [n_layer] */
	uint32_t lora_rank;                      /* largest of all adapters, 0 = there are none */
	struct model_info info;
	struct { enum model_class cls; const struct gguf_tensor *t; } *used;
	size_t n_used, cap_used;
};

#endif
