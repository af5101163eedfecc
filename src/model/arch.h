/*
 * arch.h - the architecture table and what loading a model fills in. Private to src/model.
 *
 * An architecture is a row: which blocks of a short menu its layers have (features), which keys of
 * its metadata are obeyed (keys), and a few choices. What is fused in a file (q k v in one matrix,
 * gate and up in one) is taken apart by loading, so that the forward pass has one form of each.
 */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "model/model.h"

/* The menu of blocks. A feature says that a layer has a part; tensor rows are chosen by it. */
#define BIT(n) ((uint64_t)1 << (n))
#define F_MLA BIT(0)            /* latent attention: keys and values of all heads from one vector */
#define F_QK_NORM_HEAD BIT(1)   /* norm of q and k per head, [head_dim] */
#define F_QK_NORM_MAYBE BIT(2)  /* the same if the file has its tensors */
#define F_QK_NORM_FULL BIT(3)   /* norm over the whole q and k vectors, before the head split */
#define F_QK_NORM_LATE BIT(4)   /* norms come after the rotation */
#define F_QK_NORM_PLAIN BIT(5)  /* RMS without weights, after the rotation, where there is one */
#define F_O_BIAS BIT(6)         /* bias of the attention's output */
#define F_O_BIAS_MAYBE BIT(7)
#define F_SINKS BIT(8)          /* a learned score per head that takes its share of the softmax */
#define F_NORM_BIAS BIT(9)      /* norms add a bias */
#define F_OUT_BIAS BIT(10)      /* the output head adds a bias */
#define F_OUT_BIAS_MAYBE BIT(11)
#define F_FFN_BIAS_MAYBE BIT(12) /* biases of the dense FFN */
#define F_FFN_NORM BIT(13)      /* the norm before the FFN is called ffn_norm, */
#define F_FFN_NORM_POST BIT(14) /* post_attention_norm, */
#define F_FFN_NORM_OUT BIT(15)  /* attn_output_norm */
#define F_POST_NORMS BIT(16)    /* norms of both branches' outputs: post_attention_norm, post_ffw_norm */
#define F_POST_NORMS_OUT BIT(17) /* likewise: attn_output_norm, layer_output_norm or post_ffw_norm */
#define F_UP_FUSED BIT(18)      /* the dense FFN's gate and up are one matrix, gate first */
#define F_ROUTER_BIAS BIT(19)   /* router logits have a bias */
#define F_SEL_BIAS BIT(20)      /* selection scores have a bias, gate weights do not */
#define F_SEL_BIAS_MAYBE BIT(21)
#define F_EXPERT_BIAS BIT(22)   /* every expert has biases */
#define F_WEIGHT_FIRST BIT(23)  /* the gate weight multiplies an expert's input, not its output */
#define F_SHARED BIT(24)        /* a shared expert, */
#define F_SHARED_GATED BIT(25)  /* times sigmoid(gate . x) */
#define F_GATE_UP_MAYBE BIT(26) /* the experts' gate and up may be one tensor, gate first */
#define F_BESIDE BIT(27)        /* a dense FFN; experts beside it read the layer's input */
#define F_DENSE_MAYBE BIT(28)   /* a dense FFN beside the experts if the file has it; both x sqrt(1/2) */
#define F_ROPE_FACTORS BIT(29)  /* rope_freqs, or LongRoPE's factors */
#define F_LONGROPE BIT(30)      /* LongRoPE's factors whatever rope.scaling.type says */
/* set by loading, layer by layer */
#define F_MOE BIT(40)
#define F_DENSE BIT(41)
#define F_QKV_SPLIT BIT(42)
#define F_QKV_FUSED BIT(43)
#define F_Q_RANK BIT(44)        /* q through a matrix of lower rank */
#define F_Q_PLAIN BIT(45)
#define F_KV_B_SPLIT BIT(46)    /* attn_k_b, attn_v_b */
#define F_KV_B_WHOLE BIT(47)    /* attn_kv_b of older files */
#define F_GATE_UP BIT(48)       /* ffn_gate_up_exps */
#define F_GATE_AND_UP BIT(49)
#define F_POST_LAYER BIT(50)    /* layer_output_norm */
#define F_POST_FFW BIT(51)      /* post_ffw_norm */
#define F_UP_SPLIT BIT(52)      /* the dense FFN's gate and up are two matrices */

/* Keys that only some architectures obey; elsewhere they are not read, as in llama.cpp. */
enum arch_key {
	K_WEIGHTS_SCALE = 1,  /* expert_weights_scale */
	K_WEIGHTS_NORM = 2,   /* expert_weights_norm */
	K_GATING = 4,         /* expert_gating_func */
	K_LEAD = 8,           /* leading_dense_block_count */
	K_STEP = 16,          /* interleave_moe_layer_step */
	K_SHARED_FF = 32,     /* expert_shared_feed_forward_length */
	K_SHARED_COUNT = 64,  /* expert_shared_count */
	K_GRANITE = 128,      /* multipliers of the embedding, the branches, q . k, and the logits */
	K_GROK = 256,         /* likewise; soft caps; YaRN */
	K_CAPS = 512,         /* soft caps of Gemma 2 */
	K_FINAL_CAP = 1024,   /* soft cap of the logits only */
	K_CLAMP = 2048,       /* attention.clamp_kqv */
	K_WINDOW = 4096,      /* attention.sliding_window */
	K_YARN_BETA = 8192,   /* rope.scaling.yarn_beta_fast, _slow */
	K_YARN_LOG = 16384,   /* rope.scaling.yarn_log_multiplier */
	K_TEMP = 32768,       /* attention.temperature_scale */
	K_TEMP_LENGTH = 65536, /* attention.temperature_length */
	K_FINETUNED = 131072, /* rope.scaling.finetuned = false: no rotation */
	K_MLA = 262144,       /* ranks and head sizes of latent attention */
	K_SECTIONS = 524288,  /* rope.dimension_sections, in thirds of a head */
	K_SECTIONS_MIXED = 1048576, /* the same, interleaved */
	K_YARN_EVEN = 2097152, /* yarn_log_multiplier holds for the rotation too, unless it is 1 */
	/* set by loading */
	K_RMS_EPS = 1 << 29, K_LAYER_EPS = 1 << 30
};

enum rope { ROPE_NORM, ROPE_NEOX }; /* pairs (2i, 2i+1), or (i, i + n/2) */
enum norm { NORM_RMS, NORM_LAYER };
enum act { ACT_SILU, ACT_GELU, ACT_OAI }; /* gated by: silu(g) u, gelu(g) u, OpenAI's clamped form */
enum experts { EXPERTS_NEVER, EXPERTS_IF_COUNTED, EXPERTS_ALWAYS };

/* Width of an expert: feed_forward_length; expert_feed_forward_length or else a k-th of the former,
 * or else the former; the key alone. */
enum expert_ff { FF_COMMON, FF_OWN, FF_OWN_OR_COMMON, FF_KEY };

/* Width of the shared expert: expert_shared_feed_forward_length (0 = there is none), or else
 * feed_forward_length; expert_shared_count times the expert's, or times the key's; the expert's. */
enum shared_ff { SHARED_NONE, SHARED_KEY, SHARED_KEY_OR_FF, SHARED_COUNT, SHARED_KEY_COUNT, SHARED_ONE };

/* Which layers see only a window: of `period` layers all but the last. */
enum window { WINDOW_NONE, WINDOW_SLIDING, WINDOW_CHUNK };

struct arch {
	const char *name;       /* general.architecture */
	uint64_t features;
	uint32_t keys;          /* enum arch_key */
	enum rope rope;
	enum norm norm;
	enum act act;
	enum experts experts;
	enum expert_ff expert_ff;
	enum shared_ff shared_ff;
	enum window window;
	uint32_t period;
	int local_rope;         /* layers with a window rotate by a base of their own, without scaling */
	int root_embd;          /* the embedding is multiplied by sqrt(n_embd) */
	uint32_t wide_layers;   /* a model of so many layers scales q . k by sqrt(n_head / n_embd) */
	const char *router;     /* preset of moe_route_preset */
};

const struct arch *arch_find(struct gguf_str name);
const struct arch *arch_at(size_t i);

/* A matrix (or a stack of n_mat of them) as stored: n_out rows of n_in elements. It may be some rows
 * of a larger one. */
struct weight {
	const uint8_t *data; /* NULL = the model has none */
	uint32_t type;
	uint32_t n_in, n_out, n_mat;
	size_t row_bytes, mat_bytes; /* from a row to the next, from a matrix to the next */
	const struct lora *lora; /* what adapters add to its products, or NULL */
};

struct norm_weight { const float *w, *b; }; /* b may be NULL, w in norms without weights */

struct layer {
	uint64_t features;
	uint32_t n_head, n_head_kv, n_ff;
	uint32_t window;  /* positions seen, the own one included; 0 = all. Chunks: their length */
	int rope;         /* index of the table, -1 = no rotation */
	struct norm_weight attn_norm, ffn_norm, exps_norm; /* [n_embd] */
	struct norm_weight post_attn, post_ffn;  /* [n_embd], of a branch's output */
	struct norm_weight q_norm, k_norm;       /* [head_dim] or [q width], [k width] */
	struct norm_weight q_a_norm, kv_a_norm;  /* latent: [q_rank], [kv_rank] */
	const float *bqkv, *bq, *bk, *bv, *bo;   /* [q width], [kv width] x 2, [n_embd], or NULL */
	const float *sinks;                      /* [n_head] */
	struct weight wqkv, wq, wk, wv, wo;
	struct weight wq_a, wq_b, wkv_a;         /* latent */
	struct weight wkv_b, wk_b, wv_b;         /* n_mat = n_head; wk_b is absent where wkv_b is there */
	struct weight gate, up, down;            /* dense FFN */
	const float *gate_b, *up_b, *down_b;     /* [n_ff] x 2, [n_embd], or NULL */
	struct weight router;                    /* [n_expert][n_embd] F32 */
	const float *router_b, *sel_b;           /* [n_expert], or NULL */
	struct weight gate_up_exps, gate_exps, up_exps, down_exps; /* n_mat = n_expert */
	const float *gate_exps_b, *up_exps_b, *down_exps_b; /* [n_expert][n_ff_expert] x 2, [n_embd] */
	struct weight gate_sh, up_sh, down_sh;   /* shared expert */
	struct weight router_sh;                 /* one row: the shared expert's gate */
};

/* How a table of angles is made: rope.c. */
struct rope_par {
	uint32_t n_rot, ctx;      /* elements rotated; the context before it was stretched */
	double base, factor;      /* context is stretched by factor */
	double ext, fast, slow;   /* YaRN's share (0 = none) and turns between which it blends */
	double gain;              /* of what is rotated */
	const float *freqs, *longer, *shorter; /* [n_rot / 2] divisors, or NULL; by the context's length */
	uint32_t section[4];      /* pairs by kind of position; all 0 = one kind */
	int mixed;                /* kinds interleave */
	int stretched_long;       /* rope.scaling.type is longrope */
};

struct hparams {
	uint32_t n_block, n_nextn;               /* in the file; of which prediction layers, at the end */
	uint32_t n_layer, n_ctx_train, n_embd, head_dim, head_dim_v, n_rot;
	uint32_t n_head, n_head_kv, n_ff;        /* largest of all layers */
	uint32_t n_expert, k, n_ff_expert, n_ff_shared;
	uint32_t n_shared, n_lead, step, n_group, n_group_used, gating, weights_norm;
	uint32_t q_rank, kv_rank, head_dim_mla, head_dim_v_mla;
	uint32_t window, ctx_orig, temp_floor, finetuned;
	double eps, rope_base, rope_base_local, rope_factor, rope_factor_old, rope_gain;
	double yarn_ext, yarn_gain, yarn_fast, yarn_slow, yarn_log;
	double weights_scale, clamp;             /* 0 = none, as below */
	double embd_scale, branch_scale, attn_scale, logit_scale, logit_div, attn_cap, logit_cap;
	double temp_scale, temp_offset;
};

struct model {
	const struct gguf *g;
	const struct arch *arch;
	struct hparams hp;
	struct rope_par rope[2];                 /* all layers'; that of layers with a window */
	float attn_scale;                        /* of q . k */
	uint32_t n_vocab;
	struct weight tok_embd, output;          /* output = tok_embd where tied */
	struct norm_weight output_norm;          /* [n_embd] */
	const float *output_b;                   /* [n_vocab] or NULL */
	struct layer *layer;                     /* [n_layer] */
	int has_bf16;                            /* some matrix is of BF16 */
	uint32_t lora_rank;                      /* largest of all adapters, 0 = there are none */
	struct model_info info;
	struct { enum model_class cls; const struct gguf_tensor *t; } *used;
	size_t n_used, cap_used;
};

/* hparams.c: read everything but tensors; allocates m->layer. */
int hparams_read(struct model *m, struct moe_err *e);

#endif
