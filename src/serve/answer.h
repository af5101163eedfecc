/*
 * answer.h - what a client gets, as bytes: answers whole or as events of a stream, errors, lists.
 *
 * Pure functions that append to a buffer. JSON is written here; every text is escaped
 * (base/text.h), and bytes of a reply that are no UTF-8 become U+FFFD. Shapes are those of OpenAI's
 * API, with one field more: "moescope": {"run", "seq", "domain", "seed"}, by which the record of
 * the request is found.
 */
#ifndef SERVE_ANSWER_H
#define SERVE_ANSWER_H

#include "serve/queue.h"

struct answer_model {
	const char *id;
	int64_t created, run;  /* created: seconds since 1970 */
	const struct tok *tok; /* names tokens where log probabilities were asked for */
};

/* All of these: the caller has the job's lock, or the job is over. */

/* The answer of a job that is done. */
void answer_whole(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now);

/* Events of a stream: how it begins; the text from byte `from` on; how it ends, "[DONE]" included;
 * an error instead. */
void answer_first(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now);
void answer_piece(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now,
	size_t from);
void answer_last(struct buf *b, const struct answer_model *m, const struct job *j, int64_t now);
void answer_broken(struct buf *b, const struct refusal *why);

/* {"error": {"message", "type", "param", "code"}} */
void answer_error(struct buf *b, const struct refusal *why);

void answer_models(struct buf *b, const struct answer_model *m);
void answer_model(struct buf *b, const struct answer_model *m);

#endif
