/*
 * select.h - which run and domain a command looks at, lists of numbers, remarks: what the commands
 * that print tables share.
 */
#ifndef CMD_SELECT_H
#define CMD_SELECT_H

#include "view/view.h"

/* Does the run exist? 0 = the newest. An unknown one is answered with those that there are. */
int select_run(struct reader *r, int64_t *run, struct moe_err *e);
/* The id of a domain of the run by name; NULL = -1, all. */
int select_domain(struct reader *r, int64_t run, const char *name, int64_t *id, struct moe_err *e);

/* What a table cannot say, on stderr. */
void select_remark(const struct view_table *t);

/* "1,1.25,2" -> out [*n], each from min to max; text NULL = none. `what` names the option. */
int select_list(const char *text, const char *what, double min, double max, double *out,
	size_t most, size_t *n, struct moe_err *e);
/* The same for whole numbers from 1 to max. */
int select_counts(const char *text, const char *what, unsigned max, unsigned *out, size_t most,
	size_t *n, struct moe_err *e);

#endif
