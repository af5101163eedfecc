/*
 * sampler.h - from logits to the next token. Pure but for its random state and the history it is
 * told; the same seed and the same logits give the same tokens on every machine.
 *
 * Order of stages: repetition penalty, temperature 0 = greedy (ties to the lowest id), else top-k,
 * temperature, top-p, min-p, draw.
 * A NaN among the logits is never chosen while there is anything else; where the best logit is
 * infinite, or none is finite, the best with the lowest id is taken.
 */
#ifndef MODEL_SAMPLER_H
#define MODEL_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

struct sampler_opt {
	double temperature;    /* 0 = greedy */
	uint32_t top_k;        /* 0 = off */
	double top_p;          /* 1 = off: smallest set whose probability reaches top_p */
	double min_p;          /* 0 = off: drop tokens below min_p times the best probability */
	double repeat_penalty; /* 1 = off: logits of recent tokens are divided (or multiplied, when
	                          negative) by it */
	uint32_t repeat_last;  /* how many recent tokens; at most 4096 */
	uint64_t seed;
};

struct sampler;

/* Defaults: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, no repetition penalty over 64. */
void sampler_defaults(struct sampler_opt *o);
struct sampler *sampler_new(const struct sampler_opt *o, uint32_t n_vocab, struct moe_err *e);
void sampler_free(struct sampler *s);
void sampler_seen(struct sampler *s, int32_t token); /* a token of the prompt or of the reply */
/* logits [n_vocab]; does not call sampler_seen. */
int32_t sampler_next(struct sampler *s, const float *logits);

#endif
