/*
 * forward.h - the state that one forward pass works on. Private to src/model.
 *
 * All buffers are allocated once by session_new; T = n_batch, shapes [slowest]...[fastest].
 */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "base/pool.h"
#include "model/arch.h"

#define MAX_HOOK 8
#define HEAD_ROWS 16 /* logits rows computed together */

/* One product to do: rows of a matrix against some activation rows. */
struct job {
	const struct weight *w;
	const uint8_t *data; /* its first row */
	const float *x;   /* [n_tok], xs floats apart */
	size_t xs, n_tok;
	float *y;         /* [n_tok], ys floats apart */
	size_t ys;
	size_t unit0;     /* first pool unit of this job, filled in by run_jobs */
	size_t rows;      /* rows of a unit, likewise */
};

struct session {
	const struct model *m;
	const struct kern *kern;
	struct pool *pool;
	uint32_t n_ctx, n_batch;
	int counting;     /* while buffers are made: only add their sizes up in bytes */
	uint64_t bytes;   /* of all buffers */

	struct { struct moe_hook *h; unsigned char wants[MOE_MAX_LAYER]; } hook[MAX_HOOK];
	size_t n_hook;
	int editing;      /* a hook has edit() */

	/* the sequence */
	uint64_t seq;
	uint32_t pos;     /* next position */
	int open;         /* between begin and end */
	int broken;       /* an error stopped an evaluation: begin again */

	float *kcache, *vcache; /* [n_layer][n_ctx][n_head_kv * head_dim] */
	float *rope;            /* [n_ctx][n_rot / 2][2]: cos, sin */

	/* activations of a batch */
	float *x;         /* [T][n_embd] residual stream */
	float *h;         /* [T][n_embd] normalised input of a block */
	float *q;         /* [T][n_head * head_dim] */
	float *att;       /* [T][n_head * head_dim] attention output */
	float *out;       /* [T][n_embd] output of a block */
	float *g, *u;     /* [T][widest dense or shared FFN] */
	float *score;     /* [worker][n_ctx] attention scores */
	float *scratch;   /* [worker][kern_scratch(longest row)] */
	size_t scratch_n;
	float *logits;    /* [HEAD_ROWS][n_vocab] */

	/* routing of a batch at one layer */
	float *rlogits;   /* [T][n_expert] */
	uint16_t *experts, *before; /* [T][k] */
	float *weights;   /* [T][k] */
	float *margin;    /* [T] */
	uint8_t *flags;   /* [T] */
	float *rscratch;  /* [3 * n_expert] */
	uint64_t *vseq;   /* [T] */
	uint32_t *vpos;   /* [T] */
	int32_t *vtok;    /* [T] */
	uint32_t *slot;   /* [T][k]: row of (token, rank) in the gathered order */
	uint32_t *first;  /* [n_expert + 1]: rows of an expert, gathered order */
	float *xg;        /* [T * k][n_embd] inputs gathered by expert */
	float *gg, *ug;   /* [T * k][n_ff_expert] */
	float *yg;        /* [T * k][n_embd] */
	float *shgate;    /* [T] gate of the shared expert */
	struct job *jobs; /* [2 * n_expert + 4] */

	struct { uint64_t ns, tokens; } speed[2];
};

#define INLINE_COST 32768 /* multiply-adds below which waking the pool costs more than it gains */

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* product.c: y = W x for n_tok rows of x, n_in floats each. product_run does all jobs in one run of
 * the pool; their outputs must not overlap. */
struct job product_job(const struct weight *w, const float *x, size_t n_tok, float *y, size_t ys);
void product_run(struct session *s, struct job *jobs, size_t n);
void product(struct session *s, const struct weight *w, const float *x, size_t n_tok, float *y);

/* forward.c: small blocks over rows of n floats. norm_rows: RMS norm, y may be x. */
void norm_rows(const struct session *s, const float *x, const float *w, float *y, size_t n, size_t rows);
void add_rows(float *x, const float *y, size_t n);                    /* x += y */
void add_bias(float *x, const float *b, size_t n, size_t rows);       /* b [n] or NULL */
void activate(struct session *s, float *g, const float *u, size_t n); /* g = silu(g) * u */
void swiglu(struct session *s, const struct weight *gate, const struct weight *up,
	const struct weight *down, size_t n, float *out);                 /* of s->h */

/* attention.c: s->h -> s->out, writing the cache of layer il at s->pos. */
void attention(struct session *s, size_t il, size_t n);

/* moe.c: s->h -> s->out; -1 if a hook refused. */
int moe(struct session *s, size_t il, size_t n, enum moe_phase phase, struct moe_err *e);

/* forward.c: run the model over n tokens at s->pos, writing the cache; s->x holds the last hidden states. */
int forward_batch(struct session *s, const int32_t *ids, size_t n, enum moe_phase phase,
	struct moe_err *e);

/* Logits of rows t0..t0+n-1 (n <= HEAD_ROWS) of the batch, into s->logits. */
void forward_head(struct session *s, size_t t0, size_t n);

#endif
