/*
 * gen.h - feeding a session and sampling from it, token by token: what `run`, its conversation and
 * `serve` share, the log of what is done included.
 *
 * With a strict audit log a reply's text is held back until the decisions that led to it are
 * committed.
 */
#ifndef CMD_GEN_H
#define CMD_GEN_H

#include "cmd/energy.h"
#include "cmd/load.h"
#include "cmd/record.h"
#include "cmd/words.h"
#include "model/sampler.h"
#include "serve/stop.h"
#include "tok/chat.h"

/* Where a reply goes. */
struct gen_out {
	void *ctx;
	/* Whole characters, or bytes that are none. */
	int (*text)(void *ctx, const char *s, size_t n, struct moe_err *e);
	int (*stop)(void *ctx); /* asked before every token: 1 = enough */
	/* NULL, or: the logits that the next token was chosen from; a token is put out, before its
	 * text. */
	void (*row)(void *ctx, const float *row, int32_t next);
	int (*token)(void *ctx, int32_t id, struct moe_err *e);
};
/* Standard output, until it fails or stop() says so; NULL = never. */
struct gen_out gen_stdout(int (*stop)(void));

struct gen {
	struct loaded l;
	struct session *s;
	struct moe_trace *t;   /* NULL = nothing is logged */
	struct sampler *sampler;
	int32_t next;          /* chosen from the last logits */
	struct moe_seq_result result; /* of the sequence so far */
	struct tok_stream stream;     /* text that waits for the rest of a character */
	int32_t unfed;         /* printed last and not fed, because nothing was to follow; -1 = none */
	uint64_t seed;
	struct record rec;     /* of the database's audit log */
	struct energy energy;  /* of prefill and decode, without pauses before a prompt */
	struct words words;    /* with --log-text */
	struct gen_out out;
	struct stop *stop;     /* texts that end a reply; NULL = none */
	/* With a strict log: text that waits until the decisions before it are committed. */
	struct buf held;
	struct gen_mark { size_t end; uint64_t fed; } *mark; /* [n_mark] fed: by the engine, then */
	size_t n_mark, cap_mark, shown; /* bytes of held that were shown */
	uint64_t n_fed;
	int skip_blank;        /* the next text's first blank is the tokenizer's, not the model's */
};

/* What is logged, and where to. */
struct gen_log {
	const char *db, *command;
	const struct load_opts *lo;
	struct moe_trace_opt trace;
	int log_text;
	void (*more)(struct buf *descriptor, void *ctx); /* for the audit log: how tokens are sampled */
	void *ctx;
};
/* g has a model and a session; the trace is g->t then. On error gen_log_close() is still to be
 * called. */
int gen_log_open(struct gen *g, const struct gen_log *o, struct moe_err *e);
/* Close the run, as failed or done: its id, 0 = there was no trace, -1 = something was lost. */
int64_t gen_log_close(struct gen *g, int failed, struct moe_err *e);
/* A line on stderr: where run id is, and how to look at it. */
void gen_print_logged(const char *db, int64_t id);
/* All that g has; the log is closed. */
void gen_free(struct gen *g);

/* Feed ids at the next positions; the token to follow is in g->next then. They must fit. */
int gen_feed(struct gen *g, const int32_t *ids, size_t n, enum moe_phase phase, struct moe_err *e);

/* Read a prompt in, batch by batch, until g->out.stop() says so: *fed < n then, and there is no
 * g->next. */
int gen_read(struct gen *g, const int32_t *ids, size_t n, size_t *fed, struct moe_err *e);

/* Put out from g->next on: until an end token (unless ignore_end), a text of g->stop, `most`
 * tokens, a full context, or g->out.stop() says so. The token that ends it is not fed. */
enum gen_end { GEN_END, GEN_MOST, GEN_FULL, GEN_STOPPED };
int gen_reply(struct gen *g, long long most, int ignore_end, enum gen_end *end, struct moe_err *e);

/* Before a pause: wait until what was held back may be shown, and show it. */
int gen_settle(struct gen *g, struct moe_err *e);

/* Show what was held back; the trace is closed, and nothing of it was lost. */
int gen_show_held(struct gen *g, struct moe_err *e);

/* A conversation; its settings are options of `run`. */
struct chat_opts {
	const struct chat_row *row;
	const char *system, *first; /* instructions and the first turn, or NULL */
	const char *domain, *name;
	long long most;             /* tokens of a reply */
	int ignore_end;
};
/* The template of that name, or with NULL the model's own. */
int chat_template(const struct loaded *l, const char *name, const struct chat_row **row,
	struct moe_err *e);
void chat_list(void); /* their names, on stdout */
/* On stdin and stdout; g has a session, a sampler and perhaps a trace. */
int chat_run(struct gen *g, const struct chat_opts *o, struct moe_err *e);

#endif
