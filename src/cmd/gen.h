/*
 * gen.h - feeding a session and sampling from it, token by token: what `run` and its conversation share.
 */
#ifndef CMD_GEN_H
#define CMD_GEN_H

#include "cmd/energy.h"
#include "cmd/load.h"
#include "cmd/record.h"
#include "model/sampler.h"
#include "tok/chat.h"

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
	/* With a strict log: tokens that wait until the decisions before them are committed. */
	struct { int32_t id; uint64_t fed; } *held; /* fed: tokens that the engine had seen */
	size_t n_held, n_shown;
	uint64_t n_fed;
	int skip_blank;        /* the next text's first blank is the tokenizer's, not the model's */
};

/* Feed ids at the next positions; the token to follow is in g->next then. They must fit. */
int gen_feed(struct gen *g, const int32_t *ids, size_t n, enum moe_phase phase, struct moe_err *e);

/* Print from g->next on: until an end token (unless ignore_end), `most` tokens, a full context, an
 * error of stdout, or stop() says so; *full tells of the context. The token that ends it is not fed. */
int gen_reply(struct gen *g, long long most, int ignore_end, int (*stop)(void), int *full,
	struct moe_err *e);

/* Before a pause: wait until what was held back may be shown, and show it. */
int gen_settle(struct gen *g, struct moe_err *e);

/* Print what was held back; the trace is closed, and nothing of it was lost. */
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
