/*
 * reader.h - reading a moescope database: identities, load counts, decisions.
 *
 * A reader is read-only, never checkpoints, and holds a read transaction only inside one call (a
 * cursor: only inside one step over a chunk), so a live writer is never kept waiting and the WAL
 * stays bounded. Everything handed out is copied, except what a cursor says otherwise.
 * A database is untrusted: every blob's length is checked against the layer table.
 */
#ifndef TRACE_READER_H
#define TRACE_READER_H

#include <sqlite3.h>

#include <moescope/trace.h>

struct reader;

struct reader *reader_open(const char *path, struct moe_err *e);
void reader_close(struct reader *r);
sqlite3 *reader_db(struct reader *r); /* for `sql`; read-only, `routing` is registered */
/* Of its schema, as it was when it was opened: older ones lack columns and tables. */
int reader_version(const struct reader *r);

/* For those who ask with SQL of their own; `what` is what an error says it was reading. A statement
 * is the caller's to finalize, NULL after an error; reader_fail says what SQLite says and gives
 * -1. */
sqlite3_stmt *reader_prepare(struct reader *r, const char *what, const char *sql,
	struct moe_err *e);
int reader_fail(struct reader *r, const char *what, struct moe_err *e);
/* One integer: the first column of the first row, ?1 being arg. -1 also where there is no row. */
int reader_int(struct reader *r, const char *what, const char *sql, int64_t arg, int64_t *out,
	struct moe_err *e);

/* ---- identities ---- */

struct run_info {
	int64_t id, model;
	char state[16], detail[16], command[32];
	char model_name[128], model_path[512], arch[64], quant[64], router[160], score[16];
	char hash[65], engine[128], isa[32], tokenizer[64];
	char weights[16];  /* how single decisions keep weights and margins: exact, 16bit, 8bit, none */
	char source[256];  /* of an imported run: format and file; "" = none */
	uint64_t model_bytes, n_params, n_params_active;
	uint32_t n_layer, n_vocab, n_ctx, n_threads, n_batch;
	int64_t started, ended, heartbeat, bucket_ns, lag_ns; /* ns; ended 0 while live */
	int alive; /* state is live and the heartbeat is younger than 5 s */
	uint32_t n_moe_layer;
	struct moe_layer_desc layers[MOE_MAX_LAYER]; /* ascending */
	uint64_t n_seq, n_seq_open, n_prompt, n_generated, n_gap; /* sequences; tokens */
	double nll;
	uint64_t n_scored, n_bytes;
};

/* run 0 = the newest. -1 if there is none. */
int reader_run(struct reader *r, int64_t run, struct run_info *out, struct moe_err *e);

/* All run ids, ascending; *ids is malloced, the caller frees. */
int reader_runs(struct reader *r, int64_t **ids, size_t *n, struct moe_err *e);

struct domain_info {
	int64_t id; /* 0 = sequences without a domain */
	char name[64];
	uint64_t n_seq, n_tokens; /* in the run; tokens = prompt + generated */
	double nll;
	uint64_t n_scored, n_bytes;
};
/* Domains of a run, ordered by name; malloced. */
int reader_domains(struct reader *r, int64_t run, struct domain_info **out, size_t *n,
	struct moe_err *e);

/* Text of a token as stored, or -1 in *len if unknown; buf gets at most size bytes. */
int reader_token(struct reader *r, int64_t model, int32_t token, char *buf, size_t size,
	int *len, struct moe_err *e);

/* ---- load: sums over a selection of the load table ---- */

struct load_filter {
	int64_t run;     /* required */
	int64_t domain;  /* -1 = all, 0 = none given, else domain.id */
	int phase;       /* -1 = both, else enum moe_phase */
	int64_t bucket0, bucket1; /* buckets bucket0 <= b < bucket1; 0,0 = all */
	/* A sample of the single decisions; sums of load know nothing of it. */
	uint64_t every;  /* whole sequences: the first and then every n-th; 0 and 1 = all */
	int half;        /* of these every second, 1 = from the first, 2 = from the
	                    second; 0 = both halves */
	uint64_t most;   /* stop with the chunk that reaches so many tokens; 0 = never */
};

struct layer_load {
	uint16_t layer, n_expert, k;
	uint64_t tokens;
	uint64_t *counts;  /* [n_expert] */
	double *weights;   /* [n_expert] */
	double *probs;     /* [n_expert] */
	double lse2, entropy, confidence, margin;
	uint64_t n_margin, n_nan, n_edited;
};

struct load_set {
	size_t n; /* one per MoE layer of the run's model, ascending, zeros where nothing was seen */
	struct layer_load *layer;
};
int reader_load(struct reader *r, const struct load_filter *f, struct load_set *out,
	struct moe_err *e);
/* The same without the experts' weights and probs, which stay 0: a third of the reading. */
int reader_load_counts(struct reader *r, const struct load_filter *f, struct load_set *out,
	struct moe_err *e);
/* All zeros. After an error, too, load_set_free frees what there is. */
int load_set_init(struct load_set *s, const struct moe_layer_desc *layer, size_t n,
	struct moe_err *e);
void load_set_free(struct load_set *s);

struct pace_info { uint64_t tokens, busy_ns, batches; };
/* Speed over the filter's run, phase and buckets. */
int reader_pace(struct reader *r, const struct load_filter *f, struct pace_info *out,
	struct moe_err *e);
/* What the expert cache did over the filter's run, phase and buckets; zeros without one. */
int reader_cache(struct reader *r, const struct load_filter *f, struct moe_cache_use *out,
	struct moe_err *e);

struct setting { char key[32], value[512]; };
/* What else a run was made with, by key; malloced. */
int reader_settings(struct reader *r, int64_t run, struct setting **out, size_t *n,
	struct moe_err *e);
/* Highest bucket with data + 1, 0 if none. */
int reader_n_buckets(struct reader *r, int64_t run, int64_t *out, struct moe_err *e);

struct note { int64_t id, time, sequence, layer; uint32_t pos; double value; char kind[24],
	text[256]; };
/* Rows of the event table of a run with id > after, oldest first; malloced. */
int reader_notes(struct reader *r, int64_t run, int64_t after, struct note **out, size_t *n,
	struct moe_err *e);

/* ---- cursor: decisions in order of sequence and position ---- */

struct cursor_chunk {        /* borrowed until the next step */
	int64_t id, sequence, domain; /* sequence = sequence.id; domain 0 = none */
	int64_t document;          /* sequence.id of the first of neighbouring sequences of one domain
	                              and equal name: the parts of a long document */
	uint64_t seq;
	uint32_t pos, n;
	uint8_t phase;
	size_t n_layer;            /* MoE layers */
	const struct moe_layer_desc *layers;
	const size_t *k_at;        /* [n_layer]: where a layer's picks start in a token's row */
	const size_t *e_at;        /* [n_layer]: where a layer's logits start in a token's row */
	size_t k_row, e_row;       /* picks, logits of one token over all layers */
	const int32_t *tokens;     /* [n] */
	const uint16_t *experts;   /* [n][k_row] */
	const float *weights;      /* [n][k_row]; NAN where the run keeps none */
	const float *margins;      /* [n][n_layer]; NAN where the run keeps none */
	const uint8_t *flags;      /* [n][n_layer] or NULL = all zero */
	const uint16_t *before;    /* [n][k_row] or NULL */
	const float *logits;       /* [n][e_row] or NULL */
};
struct cursor;
/* All chunks of a run that the filter's domain and phase select (buckets are ignored), ordered by
 * sequence and position. A run at detail `counts` has none. */
struct cursor *cursor_open(struct reader *r, const struct load_filter *f, struct moe_err *e);
int cursor_next(struct cursor *c, struct cursor_chunk *out, struct moe_err *e); /* 1, 0 = end, -1 */
void cursor_close(struct cursor *c);
/* The next step gives the chunk with this id, if it is one of the run: 1, 0 = it is not, -1. */
int cursor_seek(struct cursor *c, int64_t chunk, struct moe_err *e);

/* Register the `routing` table function on any connection (also used by the loadable extension):
 * routing(run, sequence, seq, pos, token, phase, domain, layer, rank, expert, weight, margin). */
int routing_register(sqlite3 *db, struct moe_err *e);

#endif
