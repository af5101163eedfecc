/*
 * respond.h - one request of `moescope serve` through the engine: a sequence of the run.
 */
#ifndef CMD_RESPOND_H
#define CMD_RESPOND_H

#include "cmd/gen.h"
#include "serve/meter.h"
#include "serve/queue.h"

struct respond {
	struct gen g;          /* with a session and an open log */
	struct meter *meter;
	int log_user;          /* the request's `user` names its sequence */
	uint64_t seed;         /* of request n, if it says none: seed + n */
	uint64_t n;            /* requests so far; the number of a sequence */
	struct job *job;       /* the one at work */
	struct logprobs last;  /* of the token that was chosen last, if its job asks for that */
	size_t said;           /* bytes of the tokens of its answer so far */
	int domain_noted;
};

/* Answers the job, whatever happens. -1 + e: the engine or the log failed, there can be no further
 * answers. */
int respond_to(struct respond *r, struct job *j, struct moe_err *e);

/* Nothing to do: tell the meter how far the log is. -1 + e: the log failed. */
int respond_idle(struct respond *r, struct moe_err *e);

/* What the audit log's descriptor says of sampling; ctx is a struct respond. */
void respond_describe(struct buf *b, void *ctx);

#endif
