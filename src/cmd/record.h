/*
 * record.h - a run's part in the audit log of its database, if that has one.
 *
 *	record_start(&rec, db, &about, &trace_opt, &desc, e);   before moe_trace_open
 *	record_logits(&rec, seq, pos, row, n, e);               whenever the command looks at logits
 *	record_free(&rec);                                      after moe_trace_close
 */
#ifndef CMD_RECORD_H
#define CMD_RECORD_H

#include "audit/recorder.h"
#include "cmd/load.h"
#include "exchange/exchange.h"

struct record {
	struct recorder *r; /* NULL: the database has no log */
	int strict;
	char hash[65];
};

struct record_about {
	const struct loaded *l;
	const struct session *s;
	const char *logits;          /* which rows are digested: "last", "all", "none" */
	void (*more)(struct buf *descriptor, void *ctx); /* the sampler, the corpus; may be NULL */
	void *ctx;
};

/* Changes trace_opt and desc as the log's policy asks. 0 also where there is no log. */
int record_start(struct record *rec, const char *db, const struct record_about *about,
	struct moe_trace_opt *o, struct moe_run_desc *d, struct moe_err *e);
/* The same for a file of another program: sets in->sink and in->sums. who NULL = the login. */
int record_import(struct record *rec, const char *who, struct exchange_in *in, const char *format,
	struct moe_err *e);
int record_logits(struct record *rec, uint64_t seq, uint32_t pos, const float *row, size_t n,
	struct moe_err *e);
void record_free(struct record *rec);

/* SHA-256 of a model file, and the root of the tree (audit/tree.h) over its pieces of 1 MiB. */
void record_model_hashes(const struct gguf *g, unsigned char sha[SHA_BYTES],
	unsigned char root[SHA_BYTES]);

#endif
