/* queue.c - see queue.h. */
#include "serve/queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"

#define TEXT_BYTES ((size_t)1 << 30) /* the context bounds it before */

struct job_sync {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int shares, left;
};

/* A condition whose timed waits are not disturbed by somebody who sets the clock. */
static void cond_init(pthread_cond_t *c)
{
	pthread_condattr_t a;

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(c, &a);
	pthread_condattr_destroy(&a);
}

static struct timespec in_ms(int ms)
{
	int64_t t = clock_mono() + ms * INT64_C(1000000);

	return (struct timespec){ (time_t)(t / 1000000000), (long)(t % 1000000000) };
}

/* ---- jobs ---- */

struct job *job_new(struct moe_err *e)
{
	struct job *j = calloc(1, sizeof *j);

	if (j)
		j->sync = calloc(1, sizeof *j->sync);
	if (!j || !j->sync) {
		free(j);
		err_nomem(e, sizeof *j, "a request");
		return NULL;
	}
	pthread_mutex_init(&j->sync->lock, NULL);
	cond_init(&j->sync->changed);
	j->sync->shares = 1;
	buf_init(&j->text, TEXT_BYTES);
	j->arrived = clock_mono();
	return j;
}

void job_release(struct job *j)
{
	int shares;

	if (!j)
		return;
	job_lock(j);
	shares = --j->sync->shares;
	job_unlock(j);
	if (shares)
		return;
	pthread_cond_destroy(&j->sync->changed);
	pthread_mutex_destroy(&j->sync->lock);
	free(j->sync);
	request_free(&j->req);
	free(j->ids);
	free(j->token);
	buf_free(&j->text);
	free(j);
}

void job_lock(struct job *j)
{
	pthread_mutex_lock(&j->sync->lock);
}

void job_unlock(struct job *j)
{
	pthread_mutex_unlock(&j->sync->lock);
}

void job_wait(struct job *j, enum job_state state, size_t seen, int ms)
{
	struct timespec until = in_ms(ms);

	job_lock(j);
	while (j->state == state && j->text.len <= seen)
		if (pthread_cond_timedwait(&j->sync->changed, &j->sync->lock, &until))
			break;
}

void job_leave(struct job *j)
{
	job_lock(j);
	j->sync->left = 1;
	job_unlock(j);
}

int job_left(struct job *j)
{
	int left;

	job_lock(j);
	left = j->sync->left;
	job_unlock(j);
	return left;
}

static void told(struct job *j)
{
	pthread_cond_broadcast(&j->sync->changed);
	job_unlock(j);
}

void job_start(struct job *j, uint64_t seq, uint64_t seed)
{
	job_lock(j);
	j->state = JOB_RUNS;
	j->seq = seq;
	j->seed = seed;
	told(j);
}

int job_text(struct job *j, const char *s, size_t n, struct moe_err *e)
{
	int failed;

	job_lock(j);
	buf_add(&j->text, s, n);
	failed = j->text.failed;
	told(j);
	return failed ? err_nomem(e, n, "a reply") : 0;
}

int job_token(struct job *j, const struct logprobs *p, size_t at, struct moe_err *e)
{
	int rc = 0;

	job_lock(j);
	if (j->n_token == j->cap_token) {
		size_t cap = j->cap_token ? 2 * j->cap_token : 64;
		void *q = realloc(j->token, cap * sizeof *j->token);

		if (q) {
			j->token = q;
			j->cap_token = cap;
		} else {
			rc = err_nomem(e, cap * sizeof *j->token, "log probabilities");
		}
	}
	if (!rc)
		j->token[j->n_token++] = (struct job_token){ *p, at };
	job_unlock(j);
	return rc;
}

void job_done(struct job *j, const char *finish, uint32_t n_generated)
{
	job_lock(j);
	j->state = JOB_DONE;
	j->finish = finish;
	j->n_generated = n_generated;
	told(j);
}

void job_fail(struct job *j, const struct refusal *why)
{
	job_lock(j);
	j->state = JOB_FAILED;
	j->why = *why;
	told(j);
}

/* ---- the queue ---- */

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct job **job; /* [n], the oldest first */
	size_t n, most;
	int closed;
};

struct queue *queue_new(size_t most, struct moe_err *e)
{
	struct queue *q = calloc(1, sizeof *q);

	if (q)
		q->job = calloc(most, sizeof *q->job);
	if (!q || !q->job) {
		free(q);
		err_nomem(e, most * sizeof *q->job, "the queue");
		return NULL;
	}
	q->most = most;
	pthread_mutex_init(&q->lock, NULL);
	cond_init(&q->changed);
	return q;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	pthread_cond_destroy(&q->changed);
	pthread_mutex_destroy(&q->lock);
	free(q->job);
	free(q);
}

static struct refusal closing(void)
{
	struct refusal why = { 0 };

	refuse(&why, 503, "shutting_down", NULL, "the server is shutting down");
	return why;
}

int queue_put(struct queue *q, struct job *j, struct refusal *why)
{
	int rc = 0;

	pthread_mutex_lock(&q->lock);
	if (q->closed) {
		*why = closing();
		rc = -1;
	} else if (q->n == q->most) {
		rc = refuse(
			why, 429, "queue_full", NULL, "%zu requests wait already, no more are taken", q->n);
	} else {
		job_lock(j);
		j->sync->shares++;
		job_unlock(j);
		q->job[q->n++] = j;
		pthread_cond_signal(&q->changed);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

static struct job *remove_at(struct queue *q, size_t i)
{
	struct job *j = q->job[i];

	q->n--;
	memmove(q->job + i, q->job + i + 1, (q->n - i) * sizeof *q->job);
	return j;
}

struct job *queue_take(struct queue *q, int ms)
{
	struct timespec until = in_ms(ms);
	struct job *j = NULL;

	pthread_mutex_lock(&q->lock);
	while (!q->n && !pthread_cond_timedwait(&q->changed, &q->lock, &until))
		;
	while (!j && q->n) {
		j = remove_at(q, 0);
		if (job_left(j)) {
			job_release(j);
			j = NULL;
		}
	}
	pthread_mutex_unlock(&q->lock);
	return j;
}

void queue_drop(struct queue *q, struct job *j)
{
	size_t i = 0;

	pthread_mutex_lock(&q->lock);
	while (i < q->n && q->job[i] != j)
		i++;
	j = i < q->n ? remove_at(q, i) : NULL;
	pthread_mutex_unlock(&q->lock);
	job_release(j);
}

void queue_close(struct queue *q)
{
	struct refusal why = closing();

	pthread_mutex_lock(&q->lock);
	q->closed = 1;
	while (q->n) {
		struct job *j = remove_at(q, 0);

		job_fail(j, &why);
		job_release(j);
	}
	pthread_mutex_unlock(&q->lock);
}

size_t queue_length(struct queue *q)
{
	size_t n;

	pthread_mutex_lock(&q->lock);
	n = q->n;
	pthread_mutex_unlock(&q->lock);
	return n;
}

size_t queue_most(const struct queue *q)
{
	return q->most;
}
