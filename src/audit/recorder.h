/*
 * recorder.h - the log's side of a run: a sink of the trace writer that appends a leaf for every
 * chunk, sequence and event, in the transaction of their rows.
 *
 *	r = recorder_new(&policy, &what, &err);
 *	opt.sink = recorder_sink(r);  t = moe_trace_open(path, &opt, ...);
 *	... recorder_logits(r, seq, row, n) on the engine's thread ...
 *	moe_trace_close(t, ...);  recorder_free(r);
 *
 * Leaves need no key; checkpoints do. A recorder of a strict log refuses to start without it.
 */
#ifndef AUDIT_RECORDER_H
#define AUDIT_RECORDER_H

#include <moescope/trace.h>

#include <sys/stat.h>

#include "audit/log.h"
#include "trace/sink.h"

struct recorder;

/* Borrowed only during the call, but the buffers' bytes are copied. */
struct recorder_what {
	const struct buf *descriptor;  /* a record "session-start": all that a replay must know */
	const struct buf *model;       /* a record "model", or NULL */
	/* What the run is made from: looked at again when it ends. Paths and stats are copied. */
	const struct recorder_file { const char *path; struct stat st; } *file;
	size_t n_file;
	unsigned char files_sha[SHA_BYTES]; /* over their bytes, one after the other */
	const struct log_clock *clock; /* NULL = the system's */
	void (*warn)(const char *text); /* best effort: what is not as it should be; may be NULL */
};

struct recorder *recorder_new(const struct log_policy *policy, const char *vkey,
	const struct recorder_what *what, struct moe_err *e);
void recorder_free(struct recorder *r);
const struct moe_trace_sink *recorder_sink(struct recorder *r);

/* The engine's thread: a row of logits that the command looked at, in the order of positions.
 * Before the sequence ends. The digest of them all is part of the sequence's last leaf. */
int recorder_logits(struct recorder *r, uint64_t seq, uint32_t pos, const float *row, size_t n,
	struct moe_err *e);

/*
 * The same digest for whoever compares: SHA-256 over, row after row, u32 position (big-endian) and
 * Poly1305(key, the row's bytes as they are: little-endian floats). The key is drawn at random for
 * each sequence when it is recorded and stands beside the digest. A row of a large vocabulary is
 * hashed for every token, so this must be fast on any machine: a changed row is missed with a
 * probability below 2^-80. Against somebody who knows the key and chooses the logits it is the
 * model's SHA-256 that counts.
 */
#define LOGIT_KEY 32
struct logit_digest { struct sha sha; unsigned char key[LOGIT_KEY]; uint64_t rows; };
void logit_digest_init(struct logit_digest *d, const unsigned char key[LOGIT_KEY]);
void logit_digest_add(struct logit_digest *d, uint32_t pos, const float *row, size_t n);
void logit_digest_end(struct logit_digest *d, unsigned char out[SHA_BYTES]);

#endif
