/*
 * forward.h - the state that one forward pass works on. Private to src/model.
 *
 * All buffers are allocated once by session_new; T = n_batch, shapes [slowest]...[fastest].
 */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "base/clock.h"
#include "base/pool.h"
#include "kern/int8.h"
#include "model/arch.h"
#include "model/expert_cache.h"
#include "model/kv.h"
#include "model/model.h"
#include "model/rope.h"

#define MAX_HOOK 8
#define SESSION_BUFFERS 64
#define ATT_TILE 256    /* positions that have a softmax of their own before it is put together */
#define ATT_QUERIES 128 /* that share a key/value head and are attended together, at most */
#define ATT_KEPT 64     /* tiles of a token whose results are kept until they are put together */
#define HEAD_ROWS 16 /* logits rows computed together */

/* How activations enter a product: as they are, rounded to 8 bits, or to BF16. */
enum input_kind { INPUT_EXACT, INPUT_INT8, INPUT_BF16 };

/* One product to do: rows of a matrix against some activation rows. */
struct job {
	const struct weight *w;
	const uint8_t *data; /* its first row */
	const float *x;   /* [n_tok], xs floats apart */
	const uint32_t *from; /* [n_tok] or NULL: which rows of x, for a job whose inputs are rounded */
	size_t xs, n_tok;
	size_t mat;       /* which matrix of the stack, for adapters */
	float *y;         /* [n_tok], ys floats apart */
	size_t ys;
	size_t unit0;     /* first pool unit of this job, filled in by product_run */
	size_t rows;      /* of a unit; likewise */
	enum input_kind inputs; /* likewise; rounded ones lie at `laid`, of 8 bits as a8 says */
	unsigned char *laid;
	struct act8 a8;
};

struct session {
	const struct model *m;
	const struct kern *kern;
	const struct int8_kern *int8; /* NULL = activations stay single precision */
	const struct kern_bf16 *bf16; /* of kern */
	char arithmetic[32]; /* in words */
	struct pool *pool;
	uint32_t n_ctx, n_batch;
	enum kv_type kv_type;
	void *own[SESSION_BUFFERS]; /* all buffers, as they were allocated */
	size_t n_own;
	int counting;     /* while buffers are made: only add their sizes up in bytes */
	uint64_t bytes;   /* of all buffers */

	struct { struct moe_hook *h; unsigned char wants[MOE_MAX_LAYER]; } hook[MAX_HOOK];
	size_t n_hook;
	int editing;      /* a hook has edit() */

	/* the sequence */
	uint64_t seq;
	uint32_t pos;     /* next position */
	uint32_t reach;   /* behind the last that was evaluated since position 0 was */
	int open;         /* between begin and end */
	int broken;       /* an error stopped an evaluation: begin again */

	struct kv *kv;
	float *rope[2];   /* [n_ctx][n_rot / 2][2]: cos, sin; the second of layers with a window, or NULL */
	uint32_t n_turned; /* rows of them that are filled in: as many as were needed so far */

	/* activations of a batch */
	float *x;         /* [T][n_embd] residual stream */
	float *h;         /* [T][n_embd] normalised input of a block */
	float *h2;        /* [T][n_embd] the experts' where they stand beside a dense FFN */
	float *q;         /* [T][n_head * head_dim] */
	float *k, *v;     /* [T][n_head_kv * head_dim], on their way into the cache; latent: kv.h */
	float *qa;        /* [T][q_rank] latent attention: q on its way */
	float *ql;        /* [T][n_head * (kv_rank + n_rot)] q as the cache's keys are */
	float *lat;       /* [T][n_head * kv_rank] its output before the heads' values */
	float *att;       /* [T][n_head * head_dim_v] attention output */
	float *out;       /* [T][n_embd] output of a block */
	float *g, *u;     /* [T][widest dense or shared FFN] */
	float *att_buf;   /* [worker][att_n] queries, scores and results of a unit of attention */
	size_t att_q, att_n; /* att_q: queries of a unit */
	float *att_parts; /* [att_parts_n] results of tiles, see attention.c */
	size_t att_parts_n, att_parts_size; /* how many, floats of all of them */
	float *scratch;   /* [worker][kern_scratch(longest row)] */
	size_t scratch_n;
	unsigned char *scratch8; /* [worker][INT8_SCRATCH] */
	unsigned char *rounded;  /* [rounded_n] activations of one product_run */
	size_t rounded_n;
	float *lora;      /* [worker][lora_n], see lora.c */
	size_t lora_n;
	float *logits;    /* [HEAD_ROWS][n_vocab] */

	/* routing of a batch at one layer */
	float *rlogits;   /* [T][n_expert] */
	uint16_t *experts, *before; /* [T][k] */
	float *weights;   /* [T][k] */
	float *margin;    /* [T] */
	uint8_t *flags;   /* [T] */
	float *rscratch;  /* [4 * n_expert] */
	uint64_t *vseq;   /* [T] */
	uint32_t *vpos;   /* [T] */
	int32_t *vtok;    /* [T] */
	uint32_t *slot;   /* [T][k]: row of (token, rank) in the gathered order */
	uint32_t *taken;  /* [T k]: token of a row in the gathered order */
	uint32_t *first;  /* [n_expert + 1]: rows of an expert, gathered order */
	float *xg;        /* [T * k][n_embd] inputs gathered by expert */
	float *gg, *ug;   /* [T * k][n_ff_expert] */
	float *yg;        /* [T * k][n_embd] */
	float *shgate;    /* [T] gate of the shared expert */
	uint32_t *group;  /* [n_expert] experts that are computed together */
	struct xcache *xcache; /* or NULL */
	struct session_cache_stat used; /* up to the last batch */
	struct job *jobs; /* [at least 3 * n_expert, n_head] */

	struct { uint64_t ns, tokens; } speed[2];
	int timing;       /* parts are timed: what went by since `mark` belongs to the part that ends */
	int64_t mark;
	uint64_t part[SESSION_N_PART];
};

static inline void part_ends(struct session *s, enum session_part p)
{
	int64_t now;

	if (!s->timing)
		return;
	now = clock_mono();
	s->part[p] += (uint64_t)(now - s->mark);
	s->mark = now;
}

#define INLINE_COST 32768 /* multiply-adds below which waking the pool costs more than it gains */

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* product.c: bytes for the rounded activations of one round of products. */
uint64_t product_rounded_bytes(const struct session *s, uint32_t n_batch);
/* y = W x for n_tok rows of x, n_in floats each. product_run does all jobs in one run of
 * the pool; their outputs must not overlap. */
/* 1 if products with w take rounded inputs: then a job may say `from`. */
int product_rounds(const struct session *s, const struct weight *w);
/* These jobs, or none, will be the next to be run: threads that wait meanwhile ask memory for their weights.
 * Of one token; more have work enough for what they read. */
void product_ahead(struct session *s, struct job *jobs, size_t n);
struct job product_job(const struct weight *w, const float *x, size_t n_tok, float *y, size_t ys);
void product_run(struct session *s, struct job *jobs, size_t n);
void product(struct session *s, const struct weight *w, const float *x, size_t n_tok, float *y);

/* forward.c: fn for all of n rows, cut between threads where they cost enough (multiply-adds of a row). */
typedef void rows_fn(void *ctx, size_t first, size_t end);
void over_rows(const struct session *s, rows_fn *fn, void *ctx, size_t n, size_t cost);

/* forward.c: small blocks over rows of n floats. norm_rows: y may be x. */
void norm_rows(const struct session *s, const float *x, struct norm_weight w, float *y, size_t n,
	size_t rows);
void add_rows(float *x, const float *y, size_t n);                    /* x += y */
void scale_rows(float *x, float by, size_t n);                        /* x *= by */
void add_bias(float *x, const float *b, size_t n, size_t rows);       /* b [n] or NULL */
void activate(struct session *s, float *g, const float *u, size_t n); /* g = act(g, u) */
/* Of s->h; bias of gate, up, down: each may be NULL. */
void gated_ffn(struct session *s, const struct weight *gate, const struct weight *up,
	const struct weight *down, const float *const bias[3], size_t n, float *out);

/* What the heads of a batch attend with: q [T][n_head][k_dim], o [T][n_head][v_dim] of a cached value. */
struct attend {
	const float *q;
	float *o;
	size_t n_head, n_head_kv, k_dim, v_dim;
};

/* attention.c: s->h -> s->out, writing the cache of layer il at s->pos. */
void attention(struct session *s, size_t il, size_t n);
void attention_ahead(struct session *s, size_t il, size_t n); /* its first products are next */
void attend_sizes(struct session *s); /* fills in att_q, att_n, att_parts_n, att_parts_size */
void attend_all(struct session *s, size_t il, size_t n, struct attend a);
/* Of n rows from position pos on. */
void turn(const struct session *s, int table, float *x, uint32_t pos, size_t n, size_t row, size_t n_head,
	size_t stride);
void warm_queries(const struct session *s, float *q, uint32_t pos, size_t n, size_t row);

/* mla.c: the same through a latent key and value. */
void latent_attention(struct session *s, size_t il, size_t n);
void latent_ahead(struct session *s, size_t il, size_t n);

/* moe.c: the experts of n tokens whose router reads h, into s->experts and s->weights, told to the
 * hooks; -1 if a hook refused. Then what the experts make of s->h, into s->out; -1 if they cannot
 * be read. Between the two all but the last `kept` tokens may be dropped. */
int moe_choose(struct session *s, size_t il, const float *h, size_t n, enum moe_phase phase,
	struct moe_err *e);
void moe_keep_last(struct session *s, size_t n, size_t kept);
int moe_run(struct session *s, size_t il, size_t n, struct moe_err *e);

/* forward.c: run the model over n tokens at s->pos, writing the cache, telling the hooks; s->x has
 * the final hidden states of the last `kept` of them (0 to n), the only ones that the last layer's
 * experts see. */
int forward_batch(struct session *s, const int32_t *ids, size_t n, size_t kept,
	enum moe_phase phase, struct moe_err *e);

/* The first products of layer il are next, or those of the output head. */
void layer_ahead(struct session *s, size_t il, size_t n);

/* Logits of rows t0..t0+n-1 (n <= HEAD_ROWS) of s->x, into s->logits. */
void forward_head(struct session *s, size_t t0, size_t n);

#endif
