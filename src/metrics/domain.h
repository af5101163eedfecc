/*
 * domain.h - do texts of different domains go to different experts, and is it real? Pure functions.
 *
 * A table holds picks n(d,e): [n_domain][n_expert], doubles so that resampled tables can carry
 * weights.
 * MI, JSD, nPMI and biases are in bits. A figure without a value is NAN.
 *
 * Tokens of one document are alike, so evidence is counted in documents: confidence intervals draw
 * whole documents, nulls permute the labels of whole documents.
 */
#ifndef METRICS_DOMAIN_H
#define METRICS_DOMAIN_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

/* Mutual information of domain and expert, bits:
 * sum p(d,e) log2[p(d,e) / (p(d) p(e))]. NAN for an empty table. */
double metrics_mi(const double *table, size_t n_domain, size_t n_expert);

/* Entropy of the domains' shares, bits; MI / this = NMI, NAN if there is only one domain. */
double metrics_domain_entropy(const double *table, size_t n_domain, size_t n_expert);

/* Jensen-Shannon divergence of two rows of picks, bits, both domains weighing the same:
 * H(m) - (H(p) + H(q))/2, m = (p + q)/2; 0..1. NAN if a row is empty. */
double metrics_jsd(const double *a, const double *b, size_t n_expert);

/* JSD (nats) / (ln E - (H(p) + H(q))/2): the share of the divergence that rows this concentrated
 * could have. NAN where that is 0. */
double metrics_jsd_norm(const double *a, const double *b, size_t n_expert);

/* First-order bias of MI estimated from n independent observations (Miller and Madow):
 * (D-1)(E-1) / (2 n ln 2) bits. Picks of one document are not independent, so the true bias is
 * larger; the shuffled-label null shows it. NAN for n = 0. */
double metrics_mi_bias(size_t n_domain, size_t n_expert, double n);

/* Normalised pointwise MI of (d, e): PMI / -log2 p(d,e), -1..1; -1 where they never meet (the
 * limit), NAN if the domain or the expert never occurs, or nothing else does. */
double metrics_npmi(const double *table, size_t n_domain, size_t n_expert, size_t d, size_t e);

/* Difference of two rates, a of n against b of m, with its normal 95 % interval for independent
 * observations. NAN if n or m is 0. */
struct metrics_interval { double value, lo, hi; };
struct metrics_interval metrics_risk_difference(uint64_t a, uint64_t n, uint64_t b, uint64_t m);

/* Quantile q of x [n], ascending, linear between neighbours (position q (n-1)); NAN for n = 0. */
double metrics_quantile(const double *x, size_t n, double q);

/* ---- resampling documents; label [n_doc] < n_domain; only the rng's state decides ---- */

/* Bootstrap: weight [n_doc] = how often each document is drawn when every domain draws as many of
 * its own documents, with replacement, as it has. start [n_domain] and order [n_doc] are the
 * documents grouped by domain, made by metrics_group. */
void metrics_group(const uint32_t *label, size_t n_doc, size_t n_domain, size_t *start,
	size_t *order); /* start [n_domain + 1] */
void metrics_draw(struct rng *r, const size_t *start, const size_t *order, size_t n_domain,
	uint32_t *weight, size_t n_doc);

/* Null: a random permutation of the labels, in place. */
void metrics_shuffle(struct rng *r, uint32_t *label, size_t n_doc);

/* table [n_domain][width] = sum over documents of weight * doc counts; docs [n_doc][width];
 * weight NULL = all 1. */
void metrics_tabulate(const uint32_t *docs, size_t n_doc, size_t width, const uint32_t *label,
	const uint32_t *weight, size_t n_domain, double *table);

#endif
