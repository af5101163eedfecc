/*
 * verify.h - is the log what it was? Streaming: memory does not grow with the log.
 *
 * The database is hostile: it is opened read-only by trace/reader.h, and nothing in it is believed
 * but what the caller's public key signed or what hashes to that. Findings are told one by one
 * through a callback; the result sums them up.
 *
 *	always   every header hashes into the tree; columns repeat the header; every checkpoint is
 *	         signed by the key that was valid then, names the origin and has the root of that size;
 *	         records open their commitments; clocks and heartbeats leave no hole; sessions are
 *	         whole; nothing that was not redacted or pruned is missing; runs without a session
 *	anchor   each checkpoint that was kept elsewhere is one of this very log
 *	deep     every batch is encoded anew from the rows and opens its commitment; load sums,
 *	         sequences and runs agree with what was logged
 */
#ifndef AUDIT_VERIFY_H
#define AUDIT_VERIFY_H

#include "audit/log.h"
#include "trace/reader.h"

enum finding {
	FIND_TAMPERED,   /* something was changed, added or taken away */
	FIND_MISSING,    /* a payload is gone without a leaf that says why */
	FIND_INCOMPLETE, /* an honest log that broke off, or that cannot be checked to its end */
	FIND_REMARK
};
const char *finding_name(enum finding f);

struct verify_opt {
	const struct note_key *keys; /* pinned by the caller */
	size_t n_key;
	const char *anchor;          /* text of notes that were kept elsewhere, or NULL */
	size_t n_anchor;
	int deep;
	int headers_only;            /* no payload of any kind: how fast is the rest? */
	int map; /* map the file: faster, but one that is cut meanwhile raises SIGBUS */
	void (*found)(void *ctx, enum finding f, const char *text);
	void *ctx;
};

struct verify_result {
	char origin[NOTE_NAME_MAX + 1];
	uint64_t leaves, batches, tokens, sessions, checkpoints, redacted, pruned, sealed, gaps,
		imported;                /* runs of other programs' files */
	uint64_t signed_size;        /* leaves under the newest good checkpoint */
	uint64_t anchored_size;      /* and under the newest good anchor, 0 = none */
	uint64_t n[4];               /* findings by kind */
	unsigned char root[SHA_BYTES];
	int anchored, deep;
	char *fork; /* the proof (proof.h) that the key signed two logs, or NULL; malloced */
};

/* 0 when it could be checked (whatever came of it), -1 when it could not be read at all. */
int verify_log(struct reader *r, const struct verify_opt *o, struct verify_result *out,
	struct moe_err *e);

/* "VALID", "TAMPERED" or "INCOMPLETE", and the exit status: 0 valid and every leaf is anchored, 1
 * tampered, 2 incomplete, or leaves are under no anchor. */
const char *verify_verdict(const struct verify_result *v);
int verify_status(const struct verify_result *v);

/* What no check of this log can show; one line each, NULL after the last. */
const char *verify_blind(size_t i, int anchored);

/* Print a result. Findings were printed as they came (text) or are given (JSON: a list's
 * inside). */
void verify_print(const struct verify_result *v, void *file);
void verify_print_json(const struct verify_result *v, const char *findings, void *file);

#endif
