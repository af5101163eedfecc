/*
 * energy.h - the energy of prefill and decode, where the machine has counters for it (base/rapl.h).
 *
 * A hook that looks at the counters when a first sequence begins and after every batch, and counts
 * what they moved by to the batch's phase. So loading, and pauses between sequences, are left out;
 * what is between the batches of a sequence (sampling, logging) is not. At the end it leaves a note
 * `energy` a phase in the run, or one that says why there is none; view/energy.c reads them.
 *
 *	energy_init(&x);
 *	session_add_hook(s, &x.hook, e);      after the trace's own hook
 *	energy_note(&x, t, e);                before moe_trace_close
 */
#ifndef CMD_ENERGY_H
#define CMD_ENERGY_H

#include <moescope/trace.h>

#include "base/rapl.h"

#define ENERGY_ENV "MOESCOPE_POWERCAP" /* another place than RAPL_TREE */

struct energy {
	struct moe_hook hook;
	struct rapl rapl;
	char why[160];     /* it cannot be measured; "" = it can */
	unsigned active;   /* sequences that have begun and not ended */
	int64_t at;        /* of the last look */
	struct { uint64_t uj, tokens; int64_t ns; } phase[2];
};

void energy_init(struct energy *x);
/* A look that counts for nothing: what comes next is to be measured. */
void energy_skip(struct energy *x);
/* Count what the counters moved by since the last look. */
void energy_take(struct energy *x, int phase, uint64_t tokens);
int energy_note(struct energy *x, struct moe_trace *t, struct moe_err *e);

#endif
