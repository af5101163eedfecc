/*
 * queue.h - requests on their way from the threads of HTTP to the engine's, in order of arrival,
 * and what comes back.
 *
 * A job has two owners: the thread of its connection, which made it, and the queue or the engine;
 * each lets go of it with job_release(). What the request says is only read once it is in the
 * queue; what comes back is behind the job's lock. The engine never waits for a client: text that
 * nobody reads yet piles up, bounded by the context.
 *
 *	HTTP:    j = job_new(&e); fill in; queue_put(q, j); job_wait(j, ...); ...; job_release(j);
 *	engine:  j = queue_take(q, ms); job_start(j, ...); job_text(j, ...); job_done(j, ...);
 *	         job_release(j);
 */
#ifndef SERVE_QUEUE_H
#define SERVE_QUEUE_H

#include "serve/logprobs.h"
#include "serve/request.h"

enum job_state { JOB_WAITS, JOB_RUNS, JOB_DONE, JOB_FAILED };

struct job {
	/* the request; not changed once it is in the queue */
	struct request req;
	int32_t *ids;         /* [n_ids] the prompt */
	size_t n_ids;
	int64_t most;         /* tokens to generate, within the context */
	size_t domain;        /* domains.h */
	const char *domain_name;
	int domain_full;      /* the one asked for did not fit any more */
	int64_t arrived;      /* clock_mono */
	/* what comes back; behind the lock */
	struct job_sync *sync;
	enum job_state state;
	struct buf text;      /* of the reply, as far as it may be shown */
	uint64_t seq, seed;
	/* If the request asks for log probabilities: of the tokens, by where their text begins. */
	struct job_token { struct logprobs p; size_t at; } *token; /* [n_token] */
	size_t n_token, cap_token;
	uint32_t n_generated;
	const char *finish;   /* "stop", "length": when done */
	struct refusal why;   /* when failed */
};

struct job *job_new(struct moe_err *e);
void job_release(struct job *j);

/* ---- for the connection's thread ---- */

/* Lock, and wait until there is more than `seen` bytes of text, or the state has changed from
 * `state`, or `ms` have passed. The caller reads and then calls job_unlock(). */
void job_wait(struct job *j, enum job_state state, size_t seen, int ms);
void job_lock(struct job *j);
void job_unlock(struct job *j);
/* The client left: the engine may stop. */
void job_leave(struct job *j);

/* ---- for the engine's ---- */

int job_left(struct job *j);
void job_start(struct job *j, uint64_t seq, uint64_t seed);
int job_text(struct job *j, const char *s, size_t n, struct moe_err *e);
/* A token whose text begins at byte `at` of the reply; before that text. */
int job_token(struct job *j, const struct logprobs *p, size_t at, struct moe_err *e);
void job_done(struct job *j, const char *finish, uint32_t n_generated);
/* why is copied. */
void job_fail(struct job *j, const struct refusal *why);

/* ---- the queue ---- */

struct queue;
struct queue *queue_new(size_t most, struct moe_err *e);
void queue_free(struct queue *q); /* closed and empty */
/* 0, and the queue owns a share of the job; or why: 429 = full, 503 = closed. */
int queue_put(struct queue *q, struct job *j, struct refusal *why);
/* The oldest whose client is still there, after at most ms; NULL = none. The caller releases it. */
struct job *queue_take(struct queue *q, int ms);
/* A waiting job whose client left gives its place free. */
void queue_drop(struct queue *q, struct job *j);
/* Nothing more comes in; what waits fails with 503. */
void queue_close(struct queue *q);
size_t queue_length(struct queue *q);
size_t queue_most(const struct queue *q);

#endif
