/* bench_limit.h - what this machine could do at most with a model, for `moescope bench`. */
#ifndef CMD_BENCH_LIMIT_H
#define CMD_BENCH_LIMIT_H

#include <stdint.h>

#include "kern/peak.h"
#include "model/model.h"

struct limits {
	double read;          /* bytes a second that all threads read together */
	double macs[PEAK_N];  /* multiply-adds a second of all threads, out of registers */
	double need[PEAK_N];  /* multiply-adds of a token in prefill by the arithmetic that its weights meet;
	                         without the output head, which one token of a prefill needs */
};

void bench_limits(const struct model *m, const struct session *s, struct limits *out);
/* Seconds of a token: prefill, and decoding behind n others. */
double limit_prefill(const struct limits *l);
double limit_decode(const struct limits *l, const struct model *m, const struct session *s, uint32_t n);

#endif
