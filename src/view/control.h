/*
 * control.h - is it the domain, or only its words? The token-matched control of a specialisation
 * claim; for spec.c.
 *
 * A domain may favour an expert merely because its token ids do: "mitosis" goes where it goes in
 * any text. So for a cell (layer, domain d) with strongest expert e, look only at d's tokens whose
 * id x also occurs in other domains, and compare how often they pick e with how often the other
 * domains' tokens of the same ids do:
 *
 *	observed = picks of e by those tokens of d / their number
 *	control  = sum over x of n(d,x) * [share of the others' tokens x that pick e] / their number
 *
 * both as relative loads (times E/k). Equal: the ids explain it. Two passes over the decisions; the
 * second adds the weight n(d,x) / n(others,x) for each pick of e elsewhere, so memory is one count
 * per (token id, domain).
 */
#ifndef VIEW_CONTROL_H
#define VIEW_CONTROL_H

#include "trace/scan.h"
#include "view/view.h"

struct view_control {
	size_t n_vocab, n_domain;
	uint32_t *count; /* [n_vocab][n_domain] tokens; NULL: too large, no control */
};

/* Sized by the run's vocabulary; without one by a guess, and ids beyond it count as unmatched. */
int view_control_init(struct view_control *c, const struct run_info *u, size_t n_domain,
	struct moe_err *e);
void view_control_free(struct view_control *c);

/* First pass: the tokens of a chunk of domain `domain` (index). */
void view_control_add(struct view_control *c, const struct scan_chunk *k, size_t domain);

/* Domains that were dropped since: column d is now what was column kept[d]. */
void view_control_keep(struct view_control *c, const size_t *kept, size_t n);

/* Second pass: fills in token_* of every cell of v; NAN where it cannot be told. */
int view_control_scan(const struct view_control *c, struct reader *r, const struct load_filter *f,
	struct view_spec *v, struct moe_err *e);

#endif
