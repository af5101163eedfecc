/*
 * deep.h - do the tables that people query agree with what was logged? Part of the verifier.
 *
 * Leaves are the record; run, sequence, event and load are made from the same facts and could be
 * edited alone. Picks and tokens in load are counted again from the decisions, by domain and phase;
 * the sums of weights and entropies in it are not.
 */
#ifndef AUDIT_DEEP_H
#define AUDIT_DEEP_H

#include "audit/leaf.h"
#include "trace/reader.h"

struct deep;

/* tell is called for each difference with one line of text. */
struct deep *deep_open(struct reader *r, void (*tell)(void *ctx, const char *text), void *ctx,
	struct moe_err *e);
void deep_close(struct deep *d);

/* A record whose commitment has been opened. -1 only when the database cannot be read. */
int deep_record(struct deep *d, const struct leaf *l, const char *rec, size_t n, struct moe_err *e);

/* A batch without decisions of its own: they were redacted, pruned or sealed. */
void deep_without(struct deep *d, uint64_t run);

/* After the last leaf: the sums of every logged run. */
int deep_sums(struct deep *d, struct moe_err *e);

#endif
