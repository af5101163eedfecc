/*
 * trace.h - writing routing decisions to a moescope database.
 *
 * The writer is just a hook (moe_trace_hook): any engine that fills in struct moe_route_view can
 * log. Decisions go through a ring of fixed blocks to one writer thread, which owns the only
 * writing connection and commits rows and load counts together. When the ring is full the
 * engine waits; with `drop` set it drops whole chunks instead and the gap is itself recorded.
 *
 *	struct moe_trace *t = moe_trace_open("run.db", &opt, &desc, &err);
 *	engine_add_hook(engine, moe_trace_hook(t));
 *	...                                   // seq_begin / route / batch_end / seq_end
 *	moe_trace_close(t, MOE_RUN_DONE, &err);
 *
 * A struct moe_trace belongs to the thread that calls its hook. Schema and bytes: docs/TRACE.md.
 */
#ifndef MOESCOPE_TRACE_H
#define MOESCOPE_TRACE_H

#include <moescope/hook.h>

/* What a decision leaves on disk. Each level holds all of the one before. */
enum moe_detail {
	MOE_DETAIL_COUNTS, /* load counts only: constant size however long the run */
	MOE_DETAIL_ROUTES, /* and token ids, experts, gate weights, margins per decision */
	MOE_DETAIL_FULL    /* and all router logits */
};

struct moe_trace_sink; /* src/trace/sink.h: who must know what is committed */

/* How the gate weights and margins of single decisions are kept. Experts and their rank order, token
 * ids, logits and all load counts and sums are exact in any case. */
enum moe_weights {
	MOE_WEIGHTS_EXACT, /* single precision, bit for bit: 4 bytes a pick */
	MOE_WEIGHTS_16BIT, /* half precision: relative error at most 2^-11 */
	MOE_WEIGHTS_8BIT,  /* weights in 255 steps up to a power of two, one scale a layer and chunk, error
	                      at most half a step; margins with a relative error of at most 1/8 */
	MOE_WEIGHTS_NONE   /* no weights; margins as with 8 bits */
};

enum moe_run_state { MOE_RUN_LIVE, MOE_RUN_DONE, MOE_RUN_FAILED, MOE_RUN_IMPORTED };

/* What else a run was made with, where it changes figures: adapters, the type of keys and values, ... */
struct moe_setting { const char *key, *value; };

/* Who made this run from what. Strings are copied; NULL = unknown. Numbers: 0 = unknown. */
struct moe_run_desc {
	const char *command;   /* "run", "profile", ... */
	const char *model_name, *model_path, *arch, *quant, *tokenizer;
	const char *model_hash; /* hex SHA-256 of the file */
	uint64_t model_bytes, n_params, n_params_active;
	uint32_t n_layer, n_vocab, n_ctx;
	const struct moe_layer_desc *layers; /* [n_moe_layer], ascending layer index */
	uint32_t n_moe_layer;
	const char *router;    /* moe_route_describe() of the specification */
	const char *score;     /* "softmax", "sigmoid", "sqrt_softplus", "none" */
	const char *engine;    /* name, version and commit of the engine */
	const char *isa;       /* kernel path, e.g. "avx512" */
	uint32_t n_threads, n_batch;
	const struct moe_setting *settings; /* [n_setting], distinct keys */
	uint32_t n_setting;
	const char *source;    /* of an imported run: format and file; NULL = this process ran it */
};

struct moe_trace_opt {
	enum moe_detail detail;
	int drop;            /* 1: drop chunks rather than wait when the ring is full */
	size_t ring_bytes;   /* 0 = 32 MiB */
	uint32_t bucket_ms;  /* width of a load time bucket, 0 = 10000 */
	uint32_t commit_ms;  /* longest time a decision waits before its commit, 0 = 250 */
	const struct moe_trace_sink *sink; /* NULL = none; must outlive the trace */
	enum moe_weights weights; /* below detail `counts` it says nothing */
};

struct moe_trace;

/* Create the database or add a run to an existing one. A file that is not a moescope database is
 * refused and left untouched; so is one that another writer holds. NULL on error. */
struct moe_trace *moe_trace_open(const char *path, const struct moe_trace_opt *opt,
	const struct moe_run_desc *desc, struct moe_err *e);

/* The hook to add to an engine; lives as long as t. */
struct moe_hook *moe_trace_hook(struct moe_trace *t);

/* The id of this run in the database. */
int64_t moe_trace_run(const struct moe_trace *t);

/* Tokens whose decisions are committed by now, of all sequences. */
uint64_t moe_trace_committed(const struct moe_trace *t);

/* Tokens whose decisions were dropped so far, because the ring was full and `drop` is set. */
uint64_t moe_trace_lost(const struct moe_trace *t);

/* Hand over what is whole and still waits in chunks that could grow: it is committed within
 * commit_ms then. For an engine that is about to be idle. */
int moe_trace_flush(struct moe_trace *t, struct moe_err *e);

/* Record something that is not a decision: an alarm, an operator's action. `kind` is one short
 * word; `text` may be NULL. */
int moe_trace_note(struct moe_trace *t, const char *kind, const char *text, struct moe_err *e);

/* Text of the vocabulary, so that readers can name tokens: piece id `token` decodes to `len`
 * bytes. Stored only when this is called. */
int moe_trace_token_text(struct moe_trace *t, int32_t token, const void *bytes, size_t len,
	struct moe_err *e);

/* Flush, commit, mark the run and close. Frees t whatever happens; -1 if anything was lost. */
int moe_trace_close(struct moe_trace *t, enum moe_run_state state, struct moe_err *e);

#endif
