/*
 * logprobs.h - how likely the model itself held a token: natural logarithms of probabilities by its
 * logits, before temperature and the other stages of sampling. Pure.
 */
#ifndef SERVE_LOGPROBS_H
#define SERVE_LOGPROBS_H

#include <stddef.h>
#include <stdint.h>

#define LOGPROBS_MOST 20    /* alternatives */
#define LOGPROBS_NONE -9999 /* instead of what is no number, as OpenAI does */

struct logprob { int32_t id; float v; };
struct logprobs {
	struct logprob chosen, top[LOGPROBS_MOST]; /* [n] the likeliest first, ties to the lowest id */
	unsigned n;
};

/* ln softmax(logits [n_vocab]) of token id, and of the `top` likeliest (at most LOGPROBS_MOST). A
 * NaN among the logits has no part in it. */
void logprobs_of(
	const float *logits, size_t n_vocab, int32_t id, unsigned top, struct logprobs *out);

#endif
