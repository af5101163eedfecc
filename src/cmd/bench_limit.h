/* bench_limit.h - what this machine could do at most with a model, for `moescope bench`. */
#ifndef CMD_BENCH_LIMIT_H
#define CMD_BENCH_LIMIT_H

#include <stdint.h>

#include "kern/peak.h"
#include "model/model.h"

struct limiter;

struct limits {
	double read;          /* bytes a second that all threads read together */
	double macs[PEAK_N];  /* multiply-adds a second of all threads, out of registers */
	/* Multiply-adds of a token in prefill by the arithmetic that its weights meet: in the last
	 * layer's FFN or experts and the output head of the last token alone. */
	double need[PEAK_N];
};

/* Measures them, for prefills of n_prefill tokens: threads of its own, as many as the session's,
 * and memory beyond any cache. NULL on failure, e says why. */
struct limiter *limiter_new(const struct model *m, const struct session *s, size_t n_prefill,
	struct moe_err *e);
void limiter_free(struct limiter *l); /* NULL is fine */
/* What bounds a phase, as it is now: on a shared machine the rate of reading is another one
 * minutes later, and the clock of the processors too. For prefill the multiply-adds that weights
 * need, those of other kinds once; for decoding the rate of reading. The rest is as it was last
 * measured, 0 before. Some 50 ms at most. */
struct limits limiter_take(struct limiter *l, enum moe_phase phase);
/* Seconds of a token: prefill, and decoding behind n others. */
double limit_prefill(const struct limits *l);
double limit_decode(const struct limits *l, const struct model *m, const struct session *s, uint32_t n);

#endif
