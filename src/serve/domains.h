/*
 * domains.h - the domains of a serving run: a bounded table, so that clients cannot fill the
 * database or /metrics with names.
 *
 * The default domain is number 0 and does not count against the bound. A name that is new when the
 * table is full is counted under the default. Any thread may call any function.
 */
#ifndef SERVE_DOMAINS_H
#define SERVE_DOMAINS_H

#include <stddef.h>

#include <moescope/err.h>

#define DOMAIN_BYTES 63 /* of a name, as readers show it whole */

struct domains;

/* first: the default, NULL or "" = sequences without a domain. most: further names, 0..65536. */
struct domains *domains_new(const char *first, size_t most, struct moe_err *e);
void domains_free(struct domains *d);

/* 1 to DOMAIN_BYTES bytes of valid UTF-8 that can be seen: nothing that acts on a terminal, hides
 * or reorders text, no blank at either end. -1 + e. */
int domains_check(const char *name, struct moe_err *e);

/* The number of a checked name, NULL = the default; a new one gets the next. *full = 1: there was
 * no more room, and it is the default. */
size_t domains_find(struct domains *d, const char *name, int *full);

size_t domains_n(struct domains *d);
/* "" = none; lives as long as d. */
const char *domains_name(struct domains *d, size_t i);

#endif
