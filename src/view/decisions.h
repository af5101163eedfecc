/* decisions.h - what the views that read single decisions share. Views only. Expert ids are used as
 * indices without a further look: cursor and scan refuse chunks with ids that do not exist. */
#ifndef VIEW_DECISIONS_H
#define VIEW_DECISIONS_H

#include "trace/reader.h"

/* What to remark where a filter selects buckets. */
#define DECISIONS_NO_TIME "single decisions carry no time: this covers the whole run"

/* 1 and a reason in why if the run keeps no single decisions. */
int view_decisions_missing(const struct run_info *u, char *why, size_t size);

/* The run, and whether its single decisions can answer: 1 yes, 0 no (why), -1. *u is malloced.
 * logits: router scores are needed, too. */
int view_decisions_begin(struct reader *r, const struct load_filter *f, int logits,
	struct run_info **u, char *why, size_t size, struct moe_err *e);

/* Index of a domain in d [n], n if it is not there. */
static inline size_t view_decisions_domain(const struct domain_info *d, size_t n, int64_t id)
{
	size_t i = 0;

	while (i < n && d[i].id != id)
		i++;
	return i;
}

#endif
