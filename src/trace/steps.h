/*
 * steps.h - one chunk row after another, in order of sequence and position; for cursors and scans.
 *
 * Each step looks the next chunk up by key and resets its statement, so that no read transaction
 * outlives the step. Sequences go by the engine's number; chunks by position, then by id for an
 * engine that rewound.
 */
#ifndef TRACE_STEPS_H
#define TRACE_STEPS_H

#include "trace/layout.h"
#include "trace/reader.h"

struct steps {
	sqlite3 *db;
	sqlite3_stmt *next_seq, *st; /* st: the chunk */
	struct layout lay;
	struct load_filter f;
	uint64_t nth, handed;  /* sequences entered; tokens handed out: for samples */
	int started;           /* a sequence was looked for */
	int in_seq;            /* sequence, seq and domain are of a sequence */
	int64_t sequence, seq, domain;
	int64_t document;      /* first of the neighbouring sequences of this name and domain */
	char name[512];        /* of the sequence; a longer name counts as no name */
	int64_t pos, id, n, codec; /* the last chunk */
	uint8_t phase;
};

enum { STEPS_COLUMN = 5 }; /* where the columns begin that were asked for */

/* `columns` of chunk are what a step's row has. -1 on error; close it in any case. */
int steps_open(struct steps *s, struct reader *r, const struct load_filter *f, const char *columns,
	struct moe_err *e);
void steps_close(struct steps *s);

/* Take the next chunk: `take` is called with s->st on its row, which is reset afterwards. Its
 * number of tokens, codec, phase and position are checked. 1, 0 = there is none, -1 also if take
 * failed. */
int steps_next(struct steps *s, int (*take)(void *ctx, struct moe_err *e), void *ctx,
	struct moe_err *e);

#endif
