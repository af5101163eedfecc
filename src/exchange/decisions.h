/*
 * decisions.h - one decision a line: what the CSV and the JSONL form share.
 *
 * A form only turns a line into a struct decision and back. Order in a file: all layers of a token
 * on neighbouring lines, layers ascending, positions of a sequence ascending; sequences may take
 * turns. Every token has the layers and numbers of picks of the first one.
 */
#ifndef EXCHANGE_DECISIONS_H
#define EXCHANGE_DECISIONS_H

#include "exchange/exchange.h"
#include "exchange/lines.h"

struct decision {
	int64_t run, sequence, position, token, layer;
	size_t k, n_weight;     /* n_weight 0 = none given */
	int64_t phase;          /* enum moe_phase */
	char domain[256];       /* "" = none */
	int64_t expert[MOE_MAX_EXPERT];
	double weight[MOE_MAX_EXPERT];
};

/* The line that l stands on; state is the form's own, zero at the start of a file. 1 = a decision,
 * 0 = a line that is none (a head line), -1. */
typedef int decision_parse(struct lines *l, void *state, struct decision *out, struct moe_err *e);

int decisions_import(const struct exchange_in *in, const char *form, decision_parse *parse,
	size_t state_bytes, struct exchange_done *done, struct moe_err *e);

/* Prints one decision; weights may be NAN = not kept; domain NULL = none. */
struct decision_out {
	int64_t run;
	const char *domain;
	const struct cursor_chunk *c;
	uint32_t t;             /* token of the chunk */
	size_t li;              /* layer */
};
typedef void decision_print(FILE *f, const struct decision_out *d);

int decisions_export(const struct exchange_out *out, decision_print *print, struct moe_err *e);

#endif
