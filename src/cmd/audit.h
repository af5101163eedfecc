/*
 * audit.h - what the parts of `moescope audit` share: options, verbs, small helpers.
 *
 * To add a verb: a function here, a row in the table of audit.c, a paragraph in docs/moescope.1.
 */
#ifndef CMD_AUDIT_H
#define CMD_AUDIT_H

#include "audit/admin.h"
#include "cmd/cmd.h"
#include "cmd/load.h"
#include "trace/reader.h"

struct audit_opts {
	const char *key, *pubkey, *new_key, *origin, *seal, *operator_name, *out, *anchor, *model,
		*basis, *html, *stamp, *stamp_ca, *request;
	long long run, sequence, layer, retain, heartbeat, checkpoint, days, from, to;
	int detail, loss, deep, json, release, sealed, unlogged, headers, anyway;
	double epsilon;
	struct load_opts load;
};
extern struct audit_opts audit_o;

int audit_verify(int argc, char **argv, struct moe_err *e);
int audit_checkpoint(int argc, char **argv, struct moe_err *e);
int audit_anchor(int argc, char **argv, struct moe_err *e);
int audit_prove(int argc, char **argv, struct moe_err *e);
int audit_explain(int argc, char **argv, struct moe_err *e);
int audit_replay(int argc, char **argv, struct moe_err *e);
int audit_redact(int argc, char **argv, struct moe_err *e);
int audit_retain(int argc, char **argv, struct moe_err *e);
int audit_hold(int argc, char **argv, struct moe_err *e);
int audit_unseal(int argc, char **argv, struct moe_err *e);
int audit_export(int argc, char **argv, struct moe_err *e);

/* Who acts, from --operator and the system. */
const char *audit_who(void);

/* A whole number that an operand holds. */
int audit_number(const char *what, const char *text, uint64_t *out, struct moe_err *e);

/* The operands DB RUN [SEQ] of a verb, but DB; r->seq -1 = none given. */
int audit_range(const char *verb, int argc, char **argv, struct admin_range *r, struct moe_err *e);

/* Log that somebody read or took away part of the log, before it is shown. With --unlogged, or when
 * the database cannot be written and the log is best effort, it says so on stderr instead. */
int audit_access(const char *db, enum leaf_kind kind, const char *what, int64_t run, int64_t seq,
	int64_t token, struct moe_err *e);

/* An action of somebody on a log that is open, in its transaction. */
int audit_action(struct admin *a, const char *what, struct moe_err *e);

/* A small file as text; malloced. */
char *audit_read_file(const char *path, size_t *n, struct moe_err *e);
/* Write a file anew, whole or not at all; "-" is standard output. */
int audit_write_file(const char *path, const void *p, size_t n, struct moe_err *e);

#endif
