/*
 * request.h - one sequence (a request, a document) of a run: which it is, who its neighbours are,
 * and the load of its tokens alone, summed from its single decisions.
 */
#ifndef VIEW_REQUEST_H
#define VIEW_REQUEST_H

#include "view/view.h"

#define VIEW_REQUEST_MOST UINT64_C(65536) /* tokens that its load is summed from */

struct view_request {
	int64_t id, before, after;  /* sequence.id; its neighbours in the selection, 0 = none */
	uint64_t seq, n_seq;        /* the engine's number; sequences of the selection */
	uint64_t tokens;            /* that its load was summed from */
	uint64_t n_all;             /* logged; filled in with the load */
	int64_t domain_id;          /* 0 = none */
	char name[128], domain[64];
	int open;                   /* not ended yet */
};

/* id 0 = the newest of the filter's run and domain: 1, 0 = there is none, -1. */
int view_request_find(struct reader *r, const struct load_filter *f, int64_t id,
	struct view_request *out, struct moe_err *e);
/* The id of the request with the engine's number seq: 1, 0 = there is none, -1. */
int view_request_number(struct reader *r, int64_t run, uint64_t seq, int64_t *id,
	struct moe_err *e);

/* As reader_load() for the sequence q->id and the filter's phase, from its first VIEW_REQUEST_MOST
 * tokens; sets q->tokens and q->n_all. Sums of scores stay 0: load keeps them, single decisions
 * need detail full. The caller frees. */
int view_request_load(struct reader *r, const struct run_info *u, const struct load_filter *f,
	struct view_request *q, struct load_set *out, struct moe_err *e);

#endif
