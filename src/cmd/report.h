/* report.h - writing the report of a run, for `report` and `demo`. */
#ifndef CMD_REPORT_H
#define CMD_REPORT_H

#include <stdint.h>

#include <moescope/err.h>

/* To `path` ("-" = stdout); run 0 = the newest. Says on stderr what it wrote. */
int report_write(const char *db, int64_t run, const char *path, struct moe_err *e);

/* What the audit log of a database says; verified with the caller's public key (NULL = not) and a
 * checkpoint kept elsewhere (NULL = none). */
struct report_audit;
struct reader;
int report_ask_audit(struct reader *r, const char *pubkey, const char *anchor,
	struct report_audit *a, struct moe_err *e);

#endif
